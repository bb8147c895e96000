"""What does the API say about connections, integrations, runs and records, and what can it do with them?

Every action calls the function that the admin's button and the management command call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import django_filters
from django.db import transaction
from django.db.models import QuerySet
from rest_framework import mixins, serializers, status, viewsets
from rest_framework.decorators import action
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from config.rest import ModelPermissions
from connectors import transport
from connectors.contract import ConnectorError
from connectors.models import ApiCall, Connection, EntitySync, Event, Integration, RecordChange, RecordLink, Run
from connectors.registry import connector_class, systems
from connectors.sync import decisions
from connectors.sync.compile import SettingsError
from connectors.sync.explain import explain
from connectors.sync.health import overview
from connectors.sync.presets import apply_preset, presets
from connectors.sync.rules import LEFT, RIGHT
from connectors.sync.run import describe
from connectors.transport import connected, redaction
from jobs import clock
from jobs.api import JobSerializer
from jobs.states import IllegalTransition
from jobs.syncing import NotNow, accept_guard, approve_preview, request_sync


class MayChange(BasePermission):
    """An action needs the right to see and to change what it acts on, whatever the HTTP method's own permission is."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        meta = view.queryset.model._meta  # type: ignore[attr-defined]
        needed = [f"{meta.app_label}.{verb}_{meta.model_name}" for verb in ("view", "change")]
        return bool(request.user and request.user.has_perms(needed))


class Acts(viewsets.GenericViewSet[Any]):
    """Gives actions their permission, and turns a refusal into an answer with a sentence."""

    acting: frozenset[str] = frozenset()

    def get_permissions(self) -> list[Any]:
        return [MayChange()] if self.action in self.acting else [ModelPermissions()]

    def refused(self, act: Callable[[], Response]) -> Response:
        """Not now: 409.  Wrong input: 400.  The other system: 502."""
        try:
            return act()
        except (NotNow, decisions.Undecidable, IllegalTransition) as refusal:
            return Response({"detail": str(refusal)}, status=status.HTTP_409_CONFLICT)
        except SettingsError as error:
            problems = list(error.problems)
            return Response({"detail": " ".join(problems), "problems": problems}, status=status.HTTP_400_BAD_REQUEST)
        except ConnectorError as error:
            return Response({"detail": redaction.text(str(error))}, status=status.HTTP_502_BAD_GATEWAY)


# Connections


class ConnectionSerializer(serializers.ModelSerializer[Connection]):
    """A connection; its secret goes in and never comes out."""

    secret = serializers.DictField(child=serializers.CharField(), write_only=True, required=False)

    class Meta:
        model = Connection
        fields = [
            "id",
            "system",
            "name",
            "settings",
            "secret",
            "state",
            "reason",
            "account",
            "instance",
            "auth_expires_at",
        ]
        read_only_fields = ["state", "reason", "account", "instance", "auth_expires_at"]

    def validate_system(self, system: str) -> str:
        """Only installed systems; an existing connection keeps its own."""
        if self.instance is not None and system != self.instance.system:
            raise serializers.ValidationError("The system of a connection does not change. Make a new connection.")
        if system not in systems():
            raise serializers.ValidationError(f"No installed app speaks {system!r}. Installed: {', '.join(systems())}.")
        return system

    def validate_settings(self, value: object) -> object:
        """Plain text values by name."""
        if not isinstance(value, dict) or not all(isinstance(v, str | int | float | bool) for v in value.values()):
            raise serializers.ValidationError("Settings are names with plain values.")
        return value

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Known secrets only; stored ones are never sent to an address that was entered after them."""
        system = attrs.get("system") or (self.instance.system if self.instance else "")
        cls, given = connector_class(system), attrs.get("secret", {})
        unknown = sorted(set(given) - set(cls.secrets))
        if unknown:
            known = ", ".join(cls.secrets) or "none"
            raise serializers.ValidationError({"secret": f"Unknown: {', '.join(unknown)}. {cls.title} wants: {known}."})
        if self.instance and self.instance.secret and "settings" in attrs:
            moved = self.instance.moved(attrs["settings"])
            if moved and set(cls.secrets) - set(given):
                raise serializers.ValidationError(
                    {"secret": f"{', '.join(moved)} changed: give all of {', '.join(cls.secrets)} again."}
                )
        return attrs

    def create(self, validated_data: dict[str, Any]) -> Connection:
        secret = validated_data.pop("secret", {})
        with transaction.atomic():
            connection = Connection.objects.create(**validated_data)
            if secret:
                connection.set_secret(secret)
        return connection

    def update(self, instance: Connection, validated_data: dict[str, Any]) -> Connection:
        secret = validated_data.pop("secret", {})
        instance.change(validated_data, secret)
        return instance


class ConnectionViewSet(
    mixins.ListModelMixin, mixins.RetrieveModelMixin, mixins.CreateModelMixin, mixins.UpdateModelMixin, Acts
):
    """Connections: read, make, change, check, pause, resume."""

    queryset = Connection.objects.all()
    serializer_class = ConnectionSerializer
    filterset_fields = ["system", "state", "name"]
    acting = frozenset(["check", "pause", "resume"])

    @action(detail=True, methods=["post"])
    def check(self, request: Request, pk: str) -> Response:
        """Log in and say as whom."""

        def act() -> Response:
            connection = self.get_object()
            identity = transport.check(connection)
            return Response(
                {**self.get_serializer(connection).data, "entities": sorted(identity.may), "detail": "Connected."}
            )

        return self.refused(act)

    @action(detail=True, methods=["post"])
    def pause(self, request: Request, pk: str) -> Response:
        """Send nothing until it is resumed."""
        return self._pausing(lambda connection: decisions.pause_connection(connection, by=str(request.user)))

    @action(detail=True, methods=["post"])
    def resume(self, request: Request, pk: str) -> Response:
        """End a pause."""
        return self._pausing(decisions.resume_connection)

    def _pausing(self, decide: Callable[[Connection], None]) -> Response:
        def act() -> Response:
            connection = self.get_object()
            decide(connection)
            connection.refresh_from_db()
            return Response(self.get_serializer(connection).data)

        return self.refused(act)


# Integrations


class EntitySyncSerializer(serializers.ModelSerializer[EntitySync]):
    """One pair of entities."""

    class Meta:
        model = EntitySync
        fields = ["id", "name", "family", "left_entity", "right_entity", "enabled", "direction", "policy", "on_delete"]


class IntegrationSerializer(serializers.ModelSerializer[Integration]):
    """An integration with its health."""

    entity_syncs = EntitySyncSerializer(many=True, read_only=True)
    health = serializers.SerializerMethodField()

    class Meta:
        model = Integration
        fields = ["id", "name", "preset", "left", "right", "enabled", "first_run", "revision", "entity_syncs", "health"]

    def get_health(self, integration: Integration) -> dict[str, object]:
        """State, reason and counts, looked up once for the whole answer."""
        found = self.context["health"][integration.pk]
        done = found.scope.last_done_at if found.scope else None
        return {
            "state": found.state, "reason": found.reason, "agreed": found.agreed, **found.counts, "last_success": done,
        }  # fmt: skip


class SyncSerializer(serializers.Serializer[Any]):
    """What to sync."""

    mode = serializers.ChoiceField(choices=Run.Mode.choices, default="delta")
    preview = serializers.BooleanField(default=False)
    entities = serializers.ListField(child=serializers.CharField(max_length=60), default=list)


class IntegrationViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, Acts):
    """Integrations: read, sync."""

    queryset = Integration.objects.select_related("left", "right").prefetch_related("entity_syncs")
    serializer_class = IntegrationSerializer
    filterset_fields = ["name", "preset", "enabled"]
    acting = frozenset(["sync"])

    def get_serializer(self, *args: Any, **kwargs: Any) -> Any:
        rows = args[0] if args else []
        rows = list(rows) if kwargs.get("many") else [rows] if rows else []
        context = {**self.get_serializer_context(), "health": {h.integration.pk: h for h in overview(rows)}}
        return self.get_serializer_class()(*args, **{**kwargs, "context": context})

    @action(detail=True, methods=["post"])
    def sync(self, request: Request, pk: str) -> Response:
        """Ask for a run; a request that is there already answers with the same job."""
        asked = SyncSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        given = asked.validated_data
        integration = self.get_object()
        return self.refused(
            lambda: _accepted(
                request_sync(
                    integration,
                    mode=given["mode"],
                    preview=given["preview"],
                    entities=given["entities"],
                    by=request.user,
                )
            )
        )


def _accepted(job: Any, **more: object) -> Response:
    return Response({"job": JobSerializer(job).data, **more}, status=status.HTTP_202_ACCEPTED)


# Runs


class RunSerializer(serializers.ModelSerializer[Run]):
    """One run."""

    summary = serializers.SerializerMethodField()

    class Meta:
        model = Run
        fields = [
            "id", "integration", "scope", "purpose", "mode", "phase", "entities", "counts", "guard", "error", "summary",
            "started_at", "finished_at", "approved_at",
        ]  # fmt: skip

    def get_summary(self, run: Run) -> str:
        """The line that people read."""
        return describe(run)


class RunViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, Acts):
    """Runs: read, approve a preview, accept a guard."""

    queryset = Run.objects.select_related("scope", "integration")
    serializer_class = RunSerializer
    filterset_fields = ["integration", "scope", "phase", "purpose", "mode"]
    acting = frozenset(["approve", "accept"])

    @action(detail=True, methods=["post"])
    def approve(self, request: Request, pk: str) -> Response:
        """Approve a preview: exactly its proposals are written."""
        run = self.get_object()

        def act() -> Response:
            job, approved, bounced = approve_preview(
                run,
                by=request.user,
                accept_guard=isinstance(request.data, dict) and request.data.get("accept_guard") is True,
            )
            return _accepted(job, approved=approved, bounced=bounced)

        return self.refused(act)

    @action(detail=True, methods=["post"])
    def accept(self, request: Request, pk: str) -> Response:
        """Go on with a run that a guard stopped."""
        run = self.get_object()
        return self.refused(lambda: _accepted(accept_guard(run, by=request.user)))


# Links


class LinkSerializer(serializers.ModelSerializer[RecordLink]):
    """One record link without its values; `explain` has them."""

    pending_label = serializers.SerializerMethodField()

    class Meta:
        model = RecordLink
        fields = [
            "id", "key", "integration", "entity_sync", "left_entity", "left_id", "left_version", "left_life", "right_entity",
            "right_id", "right_version", "right_life", "state", "pending", "pending_label", "reason", "revision",
        ]  # fmt: skip

    def get_pending_label(self, link: RecordLink) -> str:
        """The word for people."""
        return link.get_pending_display() if link.pending is not None else "In agreement"


class LinkFilter(django_filters.FilterSet):
    """Filters on columns that an index serves, together with `entity_sync` or `integration`."""

    agreed = django_filters.BooleanFilter(field_name="pending", lookup_expr="isnull")

    class Meta:
        model = RecordLink
        fields = ["integration", "entity_sync", "pending", "reason", "left_id", "right_id", "key"]


class WinnerSerializer(serializers.Serializer[Any]):
    """Who wins a conflict."""

    winner = serializers.ChoiceField(choices=[LEFT, RIGHT])


class WhySerializer(serializers.Serializer[Any]):
    """Why a person acts."""

    why = serializers.CharField(max_length=300, required=False, allow_blank=True, default="")


class LinkViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, Acts):
    """Record links: read, explain, decide."""

    queryset = RecordLink.objects.select_related("entity_sync")
    serializer_class = LinkSerializer
    filterset_class = LinkFilter
    acting = frozenset(["retry", "resolve", "approve", "promote", "hold", "release"])

    @action(detail=True, methods=["get"])
    def explain(self, request: Request, pk: str) -> Response:
        """Why it is as it is."""
        return Response(explain(self.get_object()).as_dict())

    @action(detail=True, methods=["post"])
    def retry(self, request: Request, pk: str) -> Response:
        """Plan a parked link again."""
        return self._decide(decisions.retry)

    @action(detail=True, methods=["post"])
    def resolve(self, request: Request, pk: str) -> Response:
        """Settle a conflict: {"winner": "left" | "right"}."""
        asked = WinnerSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        winner = asked.validated_data["winner"]
        return self._decide(lambda link, **how: decisions.resolve(link, winner, **how))

    @action(detail=True, methods=["post"])
    def approve(self, request: Request, pk: str) -> Response:
        """Allow a delete that waits."""
        return self._decide(decisions.approve)

    @action(detail=True, methods=["post"])
    def promote(self, request: Request, pk: str) -> Response:
        """Let a record flow that flows only on request."""
        return self._decide(decisions.promote)

    @action(detail=True, methods=["post"])
    def hold(self, request: Request, pk: str) -> Response:
        """Leave it alone."""
        asked = WhySerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        return self._decide(lambda link, **how: decisions.hold(link, why=asked.validated_data["why"], **how))

    @action(detail=True, methods=["post"])
    def release(self, request: Request, pk: str) -> Response:
        """End a hold."""
        return self._decide(decisions.release)

    def _decide(self, decide: Callable[..., object]) -> Response:
        link = self.get_object()

        def act() -> Response:
            decide(link, now=clock.now(), by=str(self.request.user))
            link.refresh_from_db()
            return Response(self.get_serializer(link).data)

        return self.refused(act)


# Logs


class ChangeSerializer(serializers.ModelSerializer[RecordChange]):
    """One write."""

    class Meta:
        model = RecordChange
        fields = [
            "id", "run", "link", "entity_sync", "side", "verb", "status", "record_id", "before", "after", "lost", "rule",
            "code", "field", "message", "at",
        ]  # fmt: skip


class ChangeViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, Acts):
    """Record changes: read."""

    queryset = RecordChange.objects.all()
    serializer_class = ChangeSerializer
    filterset_fields = ["run", "link", "status", "side", "verb"]


class EventSerializer(serializers.ModelSerializer[Event]):
    """What a person should be told."""

    class Meta:
        model = Event
        fields = ["id", "integration", "scope", "link", "run", "level", "code", "message", "actor", "at"]


class EventViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, Acts):
    """Events: read."""

    queryset = Event.objects.all()
    serializer_class = EventSerializer
    filterset_fields = ["integration", "scope", "link", "run", "level", "code"]


class ApiCallSerializer(serializers.ModelSerializer[ApiCall]):
    """One request that was sent."""

    class Meta:
        model = ApiCall
        fields = ["id", "connection", "at", "run_id", "job_id", "method", "path", "status", "ms", "vendor_id", "code"]


class ApiCallViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, Acts):
    """API calls: read."""

    queryset = ApiCall.objects.all()
    serializer_class = ApiCallSerializer
    filterset_fields = ["connection", "run_id", "job_id", "status"]


# Presets


class ApplySerializer(serializers.Serializer[Any]):
    """What applying a preset needs."""

    name = serializers.CharField(max_length=100)
    left = serializers.PrimaryKeyRelatedField(queryset=Connection.objects.all())
    right = serializers.PrimaryKeyRelatedField(queryset=Connection.objects.all())
    options = serializers.DictField(child=serializers.CharField(allow_blank=True), default=dict)
    first_run = serializers.ChoiceField(choices=["", "preview", "apply"], default="")

    def validate_name(self, name: str) -> str:
        """Names are unique."""
        if Integration.objects.filter(name=name).exists():
            raise serializers.ValidationError(f"There is an integration {name!r} already. Choose another name.")
        return name


class PresetPermission(BasePermission):
    """Reading presets needs the view permission of integrations, applying one the add permission."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        verb = "add" if request.method == "POST" else "view"
        return bool(request.user and request.user.has_perm(f"connectors.{verb}_integration"))


class PresetViewSet(Acts):
    """Presets: list, apply."""

    queryset: QuerySet[Integration] = Integration.objects.none()
    lookup_value_regex = "[a-z0-9_-]+"

    def get_permissions(self) -> list[Any]:
        return [PresetPermission()]

    def list(self, request: Request) -> Response:
        """Every preset with the options it asks for."""
        return Response(
            [
                {"name": p.name, "title": p.title, "left": p.left, "right": p.right, "options": p.options}
                for p in presets().values()
            ]
        )

    @action(detail=True, methods=["post"])
    def apply(self, request: Request, pk: str) -> Response:
        """Make an integration from a preset."""
        preset = presets().get(pk)
        if preset is None:
            known = ", ".join(presets())
            return Response(
                {"detail": f"There is no preset {pk!r}. There are: {known}."}, status=status.HTTP_404_NOT_FOUND
            )
        asked = ApplySerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        given = asked.validated_data
        ends = {LEFT: given["left"], RIGHT: given["right"]}

        def act() -> Response:
            with connected(ends[LEFT]) as left, connected(ends[RIGHT]) as right:
                applied = apply_preset(
                    preset,
                    given["name"],
                    ends,
                    {LEFT: left, RIGHT: right},
                    given["options"],
                    first_run=given["first_run"],
                )
            answer = {"integration": applied.integration.pk, "unmapped": [str(u) for u in applied.unmapped]}
            return Response(answer, status=status.HTTP_201_CREATED)

        return self.refused(act)
