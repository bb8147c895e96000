"""What does the API say about services, provisioning and blackouts, and what can it do with them?

Every action calls the function that the admin's button and the management command call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db.models import QuerySet
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import mixins, serializers, status, viewsets
from rest_framework.decorators import action
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from config.rest import ModelPermissions, Recorded
from connectors.models import Integration
from jobs import clock
from jobs.api import AcceptedSerializer, JobSerializer
from scheduling import blackouts, provisioning, services, windows
from scheduling.models import Blackout, Provisioning, Service
from scheduling.refusals import Refused
from scheduling.services import Times, planned, window_told
from scheduling.standing import SHOWN, Outlook, outlook, paused_from, shown, standings


class MayAct(BasePermission):
    """An action needs the right to see what it acts on, and one of its own rights."""

    def __init__(self, view: str, *any_of: str) -> None:
        self.view, self.any_of = view, any_of

    def has_permission(self, request: Request, view: APIView) -> bool:
        user = request.user
        if not user or not user.has_perm(f"scheduling.{self.view}"):
            return False
        return any(user.has_perm(f"scheduling.{name}") for name in self.any_of)


class Acts(Recorded, viewsets.GenericViewSet[Any]):
    """Gives actions their permission, and turns a refusal into an answer with sentences."""

    rights: dict[str, MayAct] = {}

    def get_permissions(self) -> list[Any]:
        own = self.rights.get(self.action or "")
        return [own] if own else [ModelPermissions()]

    def answer(self, act: Callable[[], Response], code: int = status.HTTP_409_CONFLICT) -> Response:
        """Refused: 409, or `code`."""
        try:
            return act()
        except Refused as refused:
            return Response({"detail": str(refused), "problems": refused.problems}, status=code)


# Services


class WindowSerializer(serializers.Serializer[Any]):
    """One window of a service."""

    days = serializers.JSONField()  # "all", or names of days
    start = serializers.CharField()
    end = serializers.CharField()
    every = serializers.IntegerField(allow_null=True)

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        """`from` is a word of Python's."""
        return {**super().get_fields(), "from": serializers.CharField()}


class StandingSerializer(serializers.Serializer[Any]):
    """How a service stands."""

    state = serializers.CharField()
    reason = serializers.CharField(allow_blank=True)
    sentence = serializers.CharField(allow_blank=True)
    errors = serializers.ListField(child=serializers.CharField())  # type: ignore[assignment]  # a field, not DRF's own
    warnings = serializers.ListField(child=serializers.CharField())
    blackouts = serializers.ListField(child=serializers.IntegerField())
    last_job = serializers.IntegerField(allow_null=True)
    last_job_status = serializers.CharField(allow_null=True)


class ServiceSerializer(serializers.ModelSerializer[Service]):
    """A service: its times, how it stands, and what they mean."""

    windows = serializers.SerializerMethodField()
    standing = serializers.SerializerMethodField()

    class Meta:
        model = Service
        fields = [
            "id", "integration", "name", "about", "work", "entities", "enabled", "zone", "windows", "recommended_minutes",
            "paused_until", "next_run_at", "last_run_at", "revision", "standing",
        ]  # fmt: skip

    @extend_schema_field(WindowSerializer(many=True))
    def get_windows(self, service: Service) -> list[dict[str, object]]:
        """As they are written in PATCH."""
        return [window_told(window) for window in service.windows.all()]

    @extend_schema_field(StandingSerializer)
    def get_standing(self, service: Service) -> dict[str, object]:
        """State, reason, sentence and last job, looked up once for the whole answer."""
        found = self.context["standings"][service.pk]
        looked = outlook(found.schedule, service.recommended_minutes, clock.now(), 0)
        return {
            "state": found.state.word, "reason": found.state.reason, "sentence": looked.sentence, "errors": looked.errors,
            "warnings": looked.warnings, "blackouts": [row.pk for row in found.blackouts],
            "last_job": found.job.pk if found.job else None,
            "last_job_status": found.job.status_reason if found.job else None,
        }  # fmt: skip


class TimesSerializer(serializers.Serializer[Any]):
    """When a service shall run.  `revision` is the one that was read: another one is refused."""

    zone = serializers.CharField(max_length=60, required=False, default="")
    windows = serializers.ListField(
        child=serializers.DictField(), required=False, default=None, allow_null=True, max_length=12
    )
    revision = serializers.IntegerField(required=False, default=None, allow_null=True)


class PauseSerializer(serializers.Serializer[Any]):
    """Until when."""

    until = serializers.DateTimeField()


class CountSerializer(serializers.Serializer[Any]):
    """How many runs ahead."""

    count = serializers.IntegerField(min_value=1, max_value=100, default=SHOWN)


class StartedSerializer(ServiceSerializer):
    """A service, and what the pre-flight warns of."""

    warnings = serializers.ListField(child=serializers.CharField(), read_only=True)

    class Meta(ServiceSerializer.Meta):
        fields = [*ServiceSerializer.Meta.fields, "warnings"]


class SavedSerializer(StartedSerializer):
    """A service with new times: what is unwise about them, and whether they wait to be provisioned."""

    detail = serializers.CharField(read_only=True)

    class Meta(StartedSerializer.Meta):
        fields = [*StartedSerializer.Meta.fields, "detail"]


class OccurrenceSerializer(serializers.Serializer[Any]):
    """One run ahead."""

    at = serializers.DateTimeField()
    local = serializers.CharField()
    note = serializers.CharField(allow_blank=True)


class OutlookSerializer(serializers.Serializer[Any]):
    """What times mean: in words, in runs, and over an ordinary week (starts by day and hour)."""

    sentence = serializers.CharField(allow_blank=True)
    errors = serializers.ListField(child=serializers.CharField())  # type: ignore[assignment]  # a field, not DRF's own
    warnings = serializers.ListField(child=serializers.CharField())
    runs = OccurrenceSerializer(many=True)
    heat = serializers.ListField(child=serializers.ListField(child=serializers.IntegerField()))


class CopySerializer(serializers.Serializer[Any]):
    """To which services."""

    services = serializers.PrimaryKeyRelatedField(
        many=True, allow_empty=False, queryset=Service.objects.select_related("integration")
    )


class ServiceViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, Acts):
    """Services: read, change their times, start, stop, pause, resume, run, look ahead."""

    queryset = shown(Service.objects.all())
    serializer_class = ServiceSerializer
    filterset_fields = ["integration", "enabled", "work", "name"]
    unrecorded = frozenset(["preview"])
    rights = {
        **dict.fromkeys(("partial_update", "copy"), MayAct("view_service", "change_service")),
        **dict.fromkeys(("start", "stop", "pause", "resume", "run"), MayAct("view_service", "run_service", "change_service")),
        **dict.fromkeys(("preview", "upcoming"), MayAct("view_service", "view_service")),
    }  # fmt: skip

    def get_serializer(self, *args: Any, **kwargs: Any) -> Any:
        rows = args[0] if args else []
        rows = list(rows) if kwargs.get("many") else [rows] if rows else []
        # No rows: the description of the API is being made, perhaps without a database.
        looked = {standing.service.pk: standing for standing in standings(rows, clock.now())} if rows else {}
        context = {**self.get_serializer_context(), "standings": looked}
        return self.get_serializer_class()(*args, **{**kwargs, "context": context})

    @extend_schema(request=TimesSerializer, responses=SavedSerializer)
    def partial_update(self, request: Request, pk: str) -> Response:
        """Change zone and windows.  Times that can't be: 400; not now, or changed meanwhile: 409."""
        service, times = self._times(request)
        wrong = self.answer(lambda: _judged(times), status.HTTP_400_BAD_REQUEST)
        if wrong.status_code != status.HTTP_200_OK:
            return wrong

        def act() -> Response:
            warnings, asked = services.change_all([times], by=request.user)
            row = provisioning.status(Integration.objects.get(pk=service.integration_id))
            told = provisioning.placed(row) if asked and row else "Saved."
            return Response({**self._told(service), "detail": told, "warnings": warnings[service.pk]})

        return self.answer(act)

    @extend_schema(request=TimesSerializer, responses=OutlookSerializer)
    @action(detail=True, methods=["post"])
    def preview(self, request: Request, pk: str) -> Response:
        """Say what times would mean; nothing is stored."""
        service, times = self._times(request)
        now = clock.now()

        def act() -> Response:
            looked = outlook(planned(times), service.recommended_minutes, paused_from(service, now))
            return Response(_outlook_told(looked))

        return self.answer(act, status.HTTP_400_BAD_REQUEST)

    @extend_schema(parameters=[CountSerializer], responses={200: OutlookSerializer, 400: OpenApiTypes.OBJECT})
    @action(detail=True, methods=["get"])
    def upcoming(self, request: Request, pk: str) -> Response:
        """The next runs: `?count=`; of a service that is off those that it would have."""
        asked = CountSerializer(data=request.query_params)
        asked.is_valid(raise_exception=True)
        service = self.get_object()
        after = paused_from(service, clock.now())
        schedule = services.schedule_of(service)
        return Response(
            _outlook_told(outlook(schedule, service.recommended_minutes, after, asked.validated_data["count"]))
        )

    @extend_schema(request=None, responses=StartedSerializer)
    @action(detail=True, methods=["post"])
    def start(self, request: Request, pk: str) -> Response:
        """Switch it on, after a look at the pre-flight."""
        service = self.get_object()

        def act() -> Response:
            warnings = services.start(service, by=request.user)
            return Response({**self._told(service), "warnings": warnings})

        return self.answer(act)

    @extend_schema(request=None, responses=ServiceSerializer)
    @action(detail=True, methods=["post"])
    def stop(self, request: Request, pk: str) -> Response:
        """Switch it off."""
        return self._act(lambda service: services.stop(service, by=request.user))

    @extend_schema(request=PauseSerializer, responses=ServiceSerializer)
    @action(detail=True, methods=["post"])
    def pause(self, request: Request, pk: str) -> Response:
        """Start nothing until then: {"until": moment}."""
        asked = PauseSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        until = asked.validated_data["until"]
        return self._act(lambda service: services.pause(service, until, by=request.user))

    @extend_schema(request=None, responses=ServiceSerializer)
    @action(detail=True, methods=["post"])
    def resume(self, request: Request, pk: str) -> Response:
        """End a pause."""
        return self._act(lambda service: services.resume(service, by=request.user))

    @extend_schema(request=None, responses={202: AcceptedSerializer})
    @action(detail=True, methods=["post"])
    def run(self, request: Request, pk: str) -> Response:
        """Start it once, now; a request that waits already answers with the same job."""
        service = self.get_object()

        def act() -> Response:
            job = services.run_now(service, by=request.user)
            return Response({"job": JobSerializer(job).data}, status=status.HTTP_202_ACCEPTED)

        return self.answer(act)

    @extend_schema(request=CopySerializer, responses=ServiceSerializer)
    @action(detail=True, methods=["post"])
    def copy(self, request: Request, pk: str) -> Response:
        """Copy days, windows and zone to others: {"services": [id]}."""
        asked = CopySerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        others = asked.validated_data["services"]
        return self._act(lambda service: services.apply_to_others(service, others, by=request.user))

    def _times(self, request: Request) -> tuple[Service, Times]:
        asked = TimesSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        given, service = asked.validated_data, self.get_object()
        return service, Times(service, given["zone"], given["windows"], given["revision"])

    def _act(self, act: Callable[[Service], object]) -> Response:
        service = self.get_object()

        def acted() -> Response:
            act(service)
            return Response(self._told(service))

        return self.answer(acted)

    def _told(self, service: Service) -> dict[str, Any]:
        told: dict[str, Any] = self.get_serializer(self.get_queryset().get(pk=service.pk)).data
        return told


def _judged(times: Times) -> Response:
    errors, _ = windows.problems(planned(times))
    if errors:
        raise Refused(errors)
    return Response()


def _outlook_told(looked: Outlook) -> dict[str, object]:
    runs = [{"at": run.at, "local": run.local.isoformat(), "note": run.note} for run in looked.runs]
    return {
        "sentence": looked.sentence,
        "errors": looked.errors,
        "warnings": looked.warnings,
        "runs": runs,
        "heat": looked.heat,
    }


# Provisioning


class ProvisioningSerializer(serializers.ModelSerializer[Provisioning]):
    """One request, and what was decided."""

    class Meta:
        model = Provisioning
        fields = [
            "id", "integration", "status", "requested_name", "requested_at", "decided_name", "decided_at", "reason", "told_at",
        ]  # fmt: skip


class AskedSerializer(ProvisioningSerializer):
    """A new request, and how long it may take."""

    detail = serializers.CharField(read_only=True)

    class Meta(ProvisioningSerializer.Meta):
        fields = [*ProvisioningSerializer.Meta.fields, "detail"]


class AskSerializer(serializers.Serializer[Any]):
    """For which integration."""

    integration = serializers.PrimaryKeyRelatedField(queryset=Integration.objects.all())


class DeclineSerializer(serializers.Serializer[Any]):
    """Why."""

    reason = serializers.CharField(max_length=500)


class ProvisioningViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, Acts):
    """Requests to provision services: read, ask, approve, decline."""

    queryset: QuerySet[Provisioning] = Provisioning.objects.select_related("integration", "requested_by")
    serializer_class = ProvisioningSerializer
    filterset_fields = ["integration", "status"]
    rights = {
        "create": MayAct("view_provisioning", "change_service"),
        **dict.fromkeys(("approve", "decline"), MayAct("view_provisioning", "decide_provisioning")),
    }

    @extend_schema(request=AskSerializer, responses={201: AskedSerializer})
    def create(self, request: Request) -> Response:
        """Ask: {"integration": id}."""
        asked = AskSerializer(data=request.data)
        asked.is_valid(raise_exception=True)

        def act() -> Response:
            row = provisioning.ask(asked.validated_data["integration"], by=request.user)
            self.made(row)
            told = {**self.get_serializer(row).data, "detail": provisioning.placed(row)}
            return Response(told, status=status.HTTP_201_CREATED)

        return self.answer(act)

    @extend_schema(request=None, responses=ProvisioningSerializer)
    @action(detail=True, methods=["post"])
    def approve(self, request: Request, pk: str) -> Response:
        """Provision; the requester is told by e-mail."""
        return self._decide(lambda row: provisioning.approve(row, by=request.user))

    @extend_schema(request=DeclineSerializer, responses=ProvisioningSerializer)
    @action(detail=True, methods=["post"])
    def decline(self, request: Request, pk: str) -> Response:
        """Decline with a reason: {"reason": text}; the requester reads it."""
        asked = DeclineSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        return self._decide(lambda row: provisioning.decline(row, asked.validated_data["reason"], by=request.user))

    def _decide(self, decide: Callable[[Provisioning], None]) -> Response:
        row = self.get_object()

        def act() -> Response:
            decide(row)
            return Response(self.get_serializer(row).data)

        return self.answer(act)


# Blackouts


class BlackoutSerializer(serializers.ModelSerializer[Blackout]):
    """Days on which nothing is started."""

    class Meta:
        model = Blackout
        fields = ["id", "name", "integration", "service", "kind", "first", "last", "days_before", "days_after"]
        validators: list[Any] = []

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """The same judgement as in the admin, field by field."""
        found = blackouts.problems(Blackout(**{**_columns(self.instance), **attrs}))
        if found:
            raise serializers.ValidationError({name or "detail": told for name, told in found.items()})
        return attrs

    def create(self, validated_data: dict[str, Any]) -> Blackout:
        return self._save(Blackout(**validated_data))

    def update(self, instance: Blackout, validated_data: dict[str, Any]) -> Blackout:
        for name, value in validated_data.items():
            setattr(instance, name, value)
        return self._save(instance)

    def _save(self, blackout: Blackout) -> Blackout:
        blackouts.save(blackout, by=self.context["request"].user)
        return blackout


def _columns(blackout: Blackout | None) -> dict[str, Any]:
    names = ("name", "kind", "first", "last", "days_before", "days_after", "integration", "service")
    return {name: getattr(blackout, name) for name in names} if blackout else {}


class BlackoutViewSet(Recorded, viewsets.ModelViewSet[Blackout]):
    """Blackouts: read, make, change, delete; the next runs of what they concern are computed anew."""

    queryset = Blackout.objects.select_related("integration", "service__integration")
    serializer_class = BlackoutSerializer
    filterset_fields = ["integration", "service", "kind"]

    def perform_destroy(self, instance: Blackout) -> None:
        blackouts.remove(instance, by=self.request.user)
