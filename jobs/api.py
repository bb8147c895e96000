"""What does the API say about jobs, and what can it do with them?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import django_filters
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from drf_spectacular.helpers import forced_singular_serializer
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import mixins, serializers, status, viewsets
from rest_framework.decorators import action
from rest_framework.exceptions import PermissionDenied
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from config.rest import ModelPermissions, Recorded, Strict
from connectors.models import ApiCall
from jobs import clock, figures, operate, standing, tries
from jobs.api_bulk import BulkActions, MayBulk
from jobs.filters import JobFilter
from jobs.handlers import UnknownType
from jobs.models import Job, JobTransition
from jobs.states import IllegalTransition


class TransitionSerializer(serializers.ModelSerializer[JobTransition]):
    """One line of the timeline."""

    class Meta:
        model = JobTransition
        fields = ["at", "from_status", "to_status", "actor", "by", "reason", "attempt", "error_class", "error_code"]


class JobSerializer(serializers.ModelSerializer[Job]):
    """A job in a list."""

    class Meta:
        model = Job
        fields = [
            "id", "type", "status_reason", "priority", "object_ref", "scope", "run", "parent", "repeat_of",
            "lock_key", "dedupe_key", "attempt", "round", "slices", "run_at", "not_before", "created_at", "started_at",
            "finished_at", "wait_ms", "ran_ms", "worker", "progress", "cancel_requested", "error_class", "error_code",
            "error_message", "fingerprint", "aside_at", "aside_by", "aside_note",
        ]  # fmt: skip
        read_only_fields = fields


class JobNoteSerializer(serializers.Serializer[Any]):
    """What a job waits for: ready, scheduled, snoozed, paused, blocked, stuck, set aside."""

    word = serializers.CharField()
    why = serializers.CharField(allow_blank=True)


class JobDetailSerializer(JobSerializer):
    """A job with its parameters, results and timeline, and what it waits for."""

    timeline = TransitionSerializer(source="transitions", many=True, read_only=True)
    note = serializers.SerializerMethodField()

    class Meta(JobSerializer.Meta):
        fields = [*JobSerializer.Meta.fields, "params", "results", "note", "timeline"]
        read_only_fields = fields

    @extend_schema_field(JobNoteSerializer(allow_null=True))
    def get_note(self, job: Job) -> dict[str, str] | None:
        """Why it stands where it does."""
        note = standing.notes([job], clock.now()).get(job.pk)
        return asdict(note) if note is not None else None


class AcceptedSerializer(serializers.Serializer[Any]):
    """The job that carries out what was asked for."""

    job = JobSerializer()


class TransitionFilter(django_filters.FilterSet):
    """By job, and by what it became."""

    class Meta:
        model = JobTransition
        fields = ["job", "to_status", "actor"]


class ReasonSerializer(serializers.Serializer[Any]):
    """Why a person acts."""

    reason = serializers.CharField(max_length=500, required=False, allow_blank=True, default="")


class JobRescheduleSerializer(ReasonSerializer):
    """To which moment."""

    run_at = serializers.DateTimeField()


class JobAsideSerializer(serializers.Serializer[Any]):
    """Why a job is set aside."""

    note = serializers.CharField(max_length=500)


class JobTrySerializer(serializers.Serializer[Any]):
    """One try of a job."""

    number = serializers.IntegerField()
    started = serializers.DateTimeField()
    ended = serializers.DateTimeField(allow_null=True)
    worker = serializers.CharField(allow_blank=True)
    outcome = serializers.CharField()
    reason = serializers.CharField(allow_blank=True)
    error_class = serializers.CharField(allow_blank=True)
    error_code = serializers.CharField(allow_blank=True)
    slices = serializers.IntegerField()


class JobCallSerializer(serializers.ModelSerializer[ApiCall]):
    """One request that a job sent."""

    class Meta:
        model = ApiCall
        fields = ["id", "connection", "at", "method", "path", "status", "ms", "vendor_id", "code"]


class JobTypeFiguresSerializer(serializers.Serializer[Any]):
    """The jobs of one type that ended within a day; times in seconds."""

    type = serializers.CharField()
    finished = serializers.IntegerField()
    failed = serializers.IntegerField()
    tried_again = serializers.IntegerField()
    wait_p50 = serializers.FloatField(allow_null=True)
    wait_p95 = serializers.FloatField(allow_null=True)
    run_p50 = serializers.FloatField(allow_null=True)
    run_p95 = serializers.FloatField(allow_null=True)


class JobFailuresSerializer(serializers.Serializer[Any]):
    """How many jobs failed within a day, by type and error."""

    type = serializers.CharField()
    error_class = serializers.CharField(allow_blank=True)
    error_code = serializers.CharField(allow_blank=True)
    count = serializers.IntegerField()


class JobFiguresSerializer(serializers.Serializer[Any]):
    """How jobs fare."""

    since = serializers.DateTimeField()
    oldest_due_seconds = serializers.FloatField(allow_null=True)
    workers = serializers.IntegerField()
    busy = serializers.IntegerField()
    stuck = serializers.IntegerField()
    capped = serializers.BooleanField()
    types = JobTypeFiguresSerializer(many=True)
    failures = JobFailuresSerializer(many=True)


class JobErrorSerializer(serializers.Serializer[Any]):
    """Failed jobs that look alike."""

    fingerprint = serializers.CharField()
    type = serializers.CharField()
    error_class = serializers.CharField(allow_blank=True)
    error_code = serializers.CharField(allow_blank=True)
    message = serializers.CharField(allow_blank=True)
    count = serializers.IntegerField()
    aside = serializers.IntegerField()
    first_seen = serializers.DateTimeField(allow_null=True)
    last_seen = serializers.DateTimeField(allow_null=True)
    newest = serializers.IntegerField()


class MayAct(BasePermission):
    """Acting on a job has permissions of its own: neither add nor change."""

    needed = {
        **dict.fromkeys(("retry", "run_now", "run_again", "reschedule", "set_aside", "take_up"), "jobs.retry_job"),
        "cancel": "jobs.cancel_job",
    }

    def has_permission(self, request: Request, view: APIView) -> bool:
        needed = self.needed.get(getattr(view, "action", "") or "")
        user = request.user
        return needed is not None and user is not None and user.has_perms(["jobs.view_job", needed])


class JobViewSet(BulkActions, Recorded, mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet[Job]):
    """Background jobs: read, retry, cancel, run now or later, run again, set aside; one or many."""

    queryset = Job.objects.all()
    serializer_class = JobDetailSerializer
    filterset_class = JobFilter

    def get_permissions(self) -> list[Any]:
        if self.action == "bulk":
            return [MayBulk()]
        return [MayAct()] if self.action in MayAct.needed else [ModelPermissions()]

    def get_serializer_class(self) -> type[serializers.BaseSerializer[Any]]:
        return JobSerializer if self.action == "list" else JobDetailSerializer

    @extend_schema(request=ReasonSerializer, responses=JobDetailSerializer)
    @action(detail=True, methods=["post"])
    def retry(self, request: Request, pk: str) -> Response:
        """Begin anew with a failed or cancelled job."""
        return self._with_reason(lambda job, reason: operate.retry(job, by=request.user, reason=reason))

    @extend_schema(request=ReasonSerializer, responses=JobDetailSerializer)
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, pk: str) -> Response:
        """Cancel; a running job stops at its next safe point."""
        return self._with_reason(
            lambda job, reason: operate.cancel(job, by=request.user, reason=reason or "cancelled through the API")
        )

    @extend_schema(request=ReasonSerializer, responses=JobDetailSerializer)
    @action(detail=True, methods=["post"], url_path="run-now")
    def run_now(self, request: Request, pk: str) -> Response:
        """Bring a waiting job or a retry forward, but never before Retry-After."""
        return self._with_reason(lambda job, reason: operate.run_now(job, by=request.user, reason=reason))

    @extend_schema(request=JobRescheduleSerializer, responses=JobDetailSerializer)
    @action(detail=True, methods=["post"])
    def reschedule(self, request: Request, pk: str) -> Response:
        """Let a waiting job or a retry become due at another moment."""
        asked = JobRescheduleSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        at, reason = asked.validated_data["run_at"], asked.validated_data["reason"]
        return self._act(lambda job: operate.reschedule(job, at, by=request.user, reason=reason))

    @extend_schema(request=None, responses={202: AcceptedSerializer})
    @action(detail=True, methods=["post"], url_path="run-again")
    def run_again(self, request: Request, pk: str) -> Response:
        """Make a new job like a finished one; one that is there already and not finished answers, too."""
        job = self.get_object()
        try:
            again = operate.run_again(job, by=request.user)
        except (IllegalTransition, UnknownType) as refusal:
            return _refused(refusal)
        return Response({"job": JobSerializer(again).data}, status=status.HTTP_202_ACCEPTED)

    @extend_schema(request=JobAsideSerializer, responses=JobDetailSerializer)
    @action(detail=True, methods=["post"], url_path="set-aside")
    def set_aside(self, request: Request, pk: str) -> Response:
        """Stop trying, but keep it: a failed job no longer counts as a problem, one in Retry is cancelled."""
        asked = JobAsideSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        return self._act(lambda job: operate.set_aside(job, by=request.user, note=asked.validated_data["note"]))

    @extend_schema(request=None, responses=JobDetailSerializer)
    @action(detail=True, methods=["post"], url_path="take-up")
    def take_up(self, request: Request, pk: str) -> Response:
        """Take back that a job was set aside."""
        return self._act(lambda job: operate.take_up(job, by=request.user))

    @extend_schema(responses=JobTrySerializer(many=True))
    @action(detail=True, methods=["get"], pagination_class=None, filter_backends=[])
    def attempts(self, request: Request, pk: str) -> Response:
        """Each try: when, where, what came of it."""
        return Response(JobTrySerializer(tries.of_job(self.get_object()), many=True).data)

    @extend_schema(responses=TransitionSerializer(many=True), filters=False)
    @action(detail=True, methods=["get"], filter_backends=[])
    def transitions(self, request: Request, pk: str) -> Response:
        """Each move, newest first."""
        return self._page(JobTransition.objects.filter(job=self.get_object()), TransitionSerializer)

    @extend_schema(responses=JobCallSerializer(many=True), filters=False)
    @action(detail=True, methods=["get"], filter_backends=[])
    def calls(self, request: Request, pk: str) -> Response:
        """Each request that it sent, newest first.  Needs the right to see API calls, too."""
        if not request.user.has_perm("connectors.view_apicall"):
            raise PermissionDenied
        return self._page(ApiCall.objects.filter(job_id=self.get_object().pk), JobCallSerializer)

    @extend_schema(responses=forced_singular_serializer(JobFiguresSerializer), filters=False)
    @action(detail=False, methods=["get"], pagination_class=None, filter_backends=[])
    def figures(self, request: Request) -> Response:
        """How long jobs of the last 24 hours waited and ran by type, what failed, and what stands still."""
        return Response(JobFiguresSerializer(figures.figures(clock.now())).data)

    @extend_schema(responses=JobErrorSerializer(many=True))
    @action(detail=False, methods=["get"], pagination_class=None)
    def errors(self, request: Request) -> Response:
        """Failed jobs grouped by what went wrong: of those that match, the newest 10,000."""
        rows: Any = self.filter_queryset(self.get_queryset())
        return Response(JobErrorSerializer(figures.by_error(rows), many=True).data)

    def _page(self, rows: QuerySet[Any], serializer: Any) -> Response:
        return self.get_paginated_response(serializer(self.paginate_queryset(rows), many=True).data)

    def _with_reason(self, act: Callable[[Job, str], object]) -> Response:
        asked = ReasonSerializer(data=self.request.data)
        asked.is_valid(raise_exception=True)
        return self._act(lambda job: act(job, asked.validated_data["reason"]))

    def _act(self, act: Callable[[Job], object]) -> Response:
        job = self.get_object()
        try:
            act(job)
        except (IllegalTransition, UnknownType) as refusal:
            return _refused(refusal)
        except ValidationError as wrong:
            raise serializers.ValidationError(wrong.message_dict) from wrong
        job.refresh_from_db()
        return Response(JobDetailSerializer(job).data)


def _refused(refusal: Exception) -> Response:
    return Response({"detail": str(refusal)}, status=status.HTTP_409_CONFLICT)


class LoggedTransitionSerializer(TransitionSerializer):
    """One line of a timeline among those of all jobs."""

    class Meta(TransitionSerializer.Meta):
        fields = ["id", "job", *TransitionSerializer.Meta.fields]


class TransitionViewSet(
    mixins.ListModelMixin, mixins.RetrieveModelMixin, Strict, viewsets.GenericViewSet[JobTransition]
):
    """The timelines of all jobs: read."""

    queryset = JobTransition.objects.all()
    serializer_class = LoggedTransitionSerializer
    filterset_class = TransitionFilter
