"""What does the API say about connections, and what can it do with them?  Secrets go in and never come out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from django.db import transaction
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from connectors import hooks, transport
from connectors.admin.connect import callback_address, told_of
from connectors.api.base import Acts, MayAct
from connectors.models import Connection, Hook
from connectors.registry import connector_class, systems
from connectors.sync import decisions, routing
from connectors.transport import entered, figures, oauth, redaction, testing
from connectors.transport.connecting import SettingsMissing
from jobs import clock


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
        before = self.instance.settings if self.instance else {}
        wrong = entered.problems(cls.settings, attrs.get("settings", before), before)
        if wrong:
            raise serializers.ValidationError({"settings": {name: [sentence] for name, sentence in wrong.items()}})
        if unknown:
            known = ", ".join(cls.secrets) or "none"
            raise serializers.ValidationError({"secret": f"Unknown: {', '.join(unknown)}. {cls.title} wants: {known}."})
        if self.instance and self.instance.secret and "settings" in attrs:
            moved = self.instance.moved(attrs["settings"])
            needed = oauth.to_enter(self.instance)
            if moved and set(needed) - set(given):
                raise serializers.ValidationError(
                    {"secret": f"{', '.join(moved)} changed: give all of {', '.join(needed)} again."}
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


class CheckedSerializer(ConnectionSerializer):
    """A connection that was just checked."""

    entities = serializers.ListField(child=serializers.CharField(), read_only=True)  # that its credentials may read
    detail = serializers.CharField(read_only=True)

    class Meta(ConnectionSerializer.Meta):
        fields = [*ConnectionSerializer.Meta.fields, "entities", "detail"]


class BeginSerializer(serializers.Serializer[Any]):
    """Where the consent page shall lead back to."""

    back = serializers.CharField(required=False)  # as registered at the system; default: this hub's own address


class BegunSerializer(serializers.Serializer[Any]):
    """A sign-in that waits for a person."""

    url = serializers.CharField()  # the consent page
    back = serializers.CharField()
    seconds = serializers.IntegerField()  # until it is too late


class FinishSerializer(serializers.Serializer[Any]):
    """What the consent page led back to."""

    redirect = serializers.CharField()


class LetInSerializer(ConnectionSerializer):
    """A connection that a person has just connected."""

    detail = serializers.CharField(read_only=True)

    class Meta(ConnectionSerializer.Meta):
        fields = [*ConnectionSerializer.Meta.fields, "detail"]


class StepSerializer(serializers.Serializer[Any]):
    """One step of a test."""

    name = serializers.CharField()
    title = serializers.CharField()  # the step's word for people
    outcome = serializers.ChoiceField([testing.OK, testing.FAILED, testing.NOT_TRIED])
    words = serializers.CharField()
    ms = serializers.IntegerField()


class HookSerializer(serializers.Serializer[Any]):
    """What is to change of a system's webhooks."""

    verifiers = serializers.ListField(child=serializers.CharField(), required=False)
    rotate = serializers.BooleanField(required=False)


class HookedSerializer(serializers.Serializer[Any]):
    """Where a system calls, and what was heard."""

    url = serializers.CharField()
    verifiers = serializers.IntegerField()
    last_heard_at = serializers.DateTimeField(allow_null=True)
    heard = serializers.IntegerField()
    forged = serializers.IntegerField()
    repeated = serializers.IntegerField()
    unknown = serializers.IntegerField()


class UnroutedSerializer(serializers.Serializer[Any]):
    """A record that no integration takes, because its column is empty or names none of them."""

    entity = serializers.CharField()
    id = serializers.CharField()
    column = serializers.CharField()
    value = serializers.CharField(allow_blank=True)
    link = serializers.IntegerField()


class UnroutedListSerializer(serializers.Serializer[Any]):
    """At most a thousand of them; `more`: there are others."""

    records = UnroutedSerializer(many=True)
    more = serializers.BooleanField()


class ConnectionViewSet(
    mixins.ListModelMixin, mixins.RetrieveModelMixin, mixins.CreateModelMixin, mixins.UpdateModelMixin, Acts
):
    """Connections: read, make, change, check, pause, resume."""

    queryset = Connection.objects.all()
    serializer_class = ConnectionSerializer
    filterset_fields = ["system", "state", "name"]
    acting = frozenset(["check", "pause", "resume", "test"])
    needs = "operate"

    def get_permissions(self) -> list[Any]:
        """Who connects enters credentials, which is more than to operate."""
        if self.action in ("connect", "connected", "webhooks"):
            return [MayAct("change")]
        return super().get_permissions()

    @extend_schema(request=None, responses=CheckedSerializer)
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

    @extend_schema(request=BeginSerializer, responses=BegunSerializer)
    @action(detail=True, methods=["post"])
    def connect(self, request: Request, pk: str) -> Response:
        """Begin a sign-in: the address of the system's consent page, and where it leads back to."""

        def act() -> Response:
            asked = BeginSerializer(data=request.data)
            asked.is_valid(raise_exception=True)
            back = asked.validated_data.get("back") or callback_address(request._request)
            address = oauth.begin(self.get_object(), back=back, holder=_holder(request))
            return Response({"url": address, "back": back, "seconds": oauth.LASTS.seconds})

        return self._connecting(act)

    @extend_schema(request=FinishSerializer, responses=LetInSerializer)
    @action(detail=True, methods=["post"])
    def connected(self, request: Request, pk: str) -> Response:
        """Finish it with the address that the consent page led back to."""

        def act() -> Response:
            connection = self.get_object()
            asked = FinishSerializer(data=request.data)
            asked.is_valid(raise_exception=True)
            returned = oauth.pasted(asked.validated_data["redirect"])
            begun = oauth.connection_of(returned.get("state", ""))
            if begun is not None and begun != connection:
                raise oauth.NotLetIn(f"This sign-in was begun for {begun}.")
            done = oauth.finish(returned, holder=_holder(request))
            return Response({**self.get_serializer(done.connection).data, "detail": told_of(done)})

        return self._connecting(act)

    def _connecting(self, act: Callable[[], Response]) -> Response:
        """What a person can mend is no failure of the other system."""

        def judged() -> Response:
            try:
                return act()
            except (oauth.NotLetIn, SettingsMissing) as refusal:
                return Response({"detail": redaction.text(str(refusal))}, status=status.HTTP_409_CONFLICT)

        return self.refused(judged)

    @extend_schema(request=None, responses=ConnectionSerializer)
    @action(detail=True, methods=["post"])
    def pause(self, request: Request, pk: str) -> Response:
        """Send nothing until it is resumed."""
        return self._pausing(lambda connection: decisions.pause_connection(connection, by=str(request.user)))

    @extend_schema(request=None, responses=ConnectionSerializer)
    @action(detail=True, methods=["post"])
    def resume(self, request: Request, pk: str) -> Response:
        """End a pause."""
        return self._pausing(decisions.resume_connection)

    @extend_schema(responses=OpenApiTypes.OBJECT)
    @action(detail=True, methods=["get"])
    def health(self, request: Request, pk: str) -> Response:
        """Figures of the last 24 hours, quotas, webhooks."""
        connection = self.get_object()
        hook = Hook.objects.filter(system=connection.system).first()
        told = figures.figures(connection, clock.now()).as_data()
        return Response({**told, "webhooks": hooks.standing(hook) if hook else None})

    @extend_schema(request=None, responses=StepSerializer(many=True))
    @action(detail=True, methods=["post"], pagination_class=None, filter_backends=[])
    def test(self, request: Request, pk: str) -> Response:
        """Take all steps (name, encryption, login, read, write) and say how each ended; nothing is written there."""
        return Response([asdict(step) for step in testing.examine(self.get_object())])

    @extend_schema(request=HookSerializer, responses=HookedSerializer)
    @action(detail=True, methods=["post"])
    def webhooks(self, request: Request, pk: str) -> Response:
        """Store the tokens that sign the system's calls, make a new address; answers the address to enter there."""
        connection = self.get_object()
        asked = HookSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        hook = hooks.hook_of(connection.system)
        if hook is None:
            detail = f"{connector_class(connection.system).title} does not call; its changes are polled."
            return Response({"detail": detail}, status=status.HTTP_409_CONFLICT)
        if asked.validated_data.get("verifiers"):
            hook.set_verifiers(asked.validated_data["verifiers"])
        if asked.validated_data.get("rotate"):
            hook.rotate_key(clock.now())
        url = request.build_absolute_uri(hooks.path_of(hook))
        return Response({"url": url, **hooks.standing(hook)})

    @extend_schema(responses=UnroutedListSerializer)
    @action(detail=True, methods=["get"], pagination_class=None, filter_backends=[])
    def unrouted(self, request: Request, pk: str) -> Response:
        """Records that belong to no integration's company."""
        found, more = routing.unrouted(self.get_object())
        return Response({"records": [asdict(record) for record in found], "more": more})

    def _pausing(self, decide: Callable[[Connection], None]) -> Response:
        def act() -> Response:
            connection = self.get_object()
            decide(connection)
            connection.refresh_from_db()
            return Response(self.get_serializer(connection).data)

        return self.refused(act)


def _holder(request: Request) -> str:
    """What was begun with a token or a session of the API is finished by the same person there, not in a browser."""
    return oauth.holder_of("api", request.user.pk)
