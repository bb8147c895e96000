"""What does the API say about jobs, and what can it do with them?"""

from __future__ import annotations

from typing import Any

import django_filters
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers, status, viewsets
from rest_framework.decorators import action
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from config.rest import ModelPermissions, Recorded
from jobs import operate
from jobs.models import Job, JobTransition
from jobs.states import IllegalTransition


class TransitionSerializer(serializers.ModelSerializer[JobTransition]):
    """One line of the timeline."""

    class Meta:
        model = JobTransition
        fields = ["at", "from_status", "to_status", "actor", "by", "reason", "attempt"]


class JobSerializer(serializers.ModelSerializer[Job]):
    """A job in a list."""

    class Meta:
        model = Job
        fields = [
            "id", "type", "status_reason", "priority", "object_ref", "scope", "run", "parent", "repeat_of",
            "lock_key", "dedupe_key", "attempt", "round", "slices", "run_at", "created_at", "started_at", "finished_at",
            "progress", "cancel_requested", "error_class", "error_code", "error_message", "fingerprint",
        ]  # fmt: skip
        read_only_fields = fields


class JobDetailSerializer(JobSerializer):
    """A job with its parameters, results and timeline."""

    timeline = TransitionSerializer(source="transitions", many=True, read_only=True)

    class Meta(JobSerializer.Meta):
        fields = [*JobSerializer.Meta.fields, "params", "results", "timeline"]
        read_only_fields = fields


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


class JobFilter(django_filters.FilterSet):
    """Filters on listed fields only."""

    created_after = django_filters.IsoDateTimeFilter(field_name="created_at", lookup_expr="gte")
    created_before = django_filters.IsoDateTimeFilter(field_name="created_at", lookup_expr="lt")

    class Meta:
        model = Job
        fields = ["type", "status_reason", "priority", "scope", "run", "object_ref", "lock_key", "error_class",
                  "error_code", "fingerprint"]  # fmt: skip


class MayAct(BasePermission):
    """Acting on a job has permissions of its own: neither add nor change."""

    needed = {"retry": "jobs.retry_job", "run_now": "jobs.retry_job", "cancel": "jobs.cancel_job"}

    def has_permission(self, request: Request, view: APIView) -> bool:
        needed = self.needed.get(getattr(view, "action", "") or "")
        user = request.user
        return needed is not None and user is not None and user.has_perms(["jobs.view_job", needed])


class JobViewSet(Recorded, mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet[Job]):
    """Background jobs: read, retry, cancel, run now."""

    queryset = Job.objects.all()
    filterset_class = JobFilter

    def get_permissions(self) -> list[Any]:
        return [MayAct()] if self.action in MayAct.needed else [ModelPermissions()]

    def get_serializer_class(self) -> type[serializers.BaseSerializer[Any]]:
        if self.action == "list":
            return JobSerializer
        return ReasonSerializer if self.action in MayAct.needed else JobDetailSerializer

    @extend_schema(request=ReasonSerializer, responses=JobDetailSerializer)
    @action(detail=True, methods=["post"])
    def retry(self, request: Request, pk: str) -> Response:
        """Begin anew with a failed or cancelled job."""
        return self._act(lambda job, reason: operate.retry(job, by=request.user, reason=reason))

    @extend_schema(request=ReasonSerializer, responses=JobDetailSerializer)
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, pk: str) -> Response:
        """Cancel; a running job stops at its next safe point."""
        return self._act(
            lambda job, reason: operate.cancel(job, by=request.user, reason=reason or "cancelled through the API")
        )

    @extend_schema(request=ReasonSerializer, responses=JobDetailSerializer)
    @action(detail=True, methods=["post"], url_path="run-now")
    def run_now(self, request: Request, pk: str) -> Response:
        """Bring a waiting job or a retry forward, but never before Retry-After."""
        return self._act(lambda job, reason: operate.run_now(job, by=request.user, reason=reason))

    def _act(self, act: Any) -> Response:
        asked = ReasonSerializer(data=self.request.data)
        asked.is_valid(raise_exception=True)
        job = self.get_object()
        try:
            act(job, asked.validated_data["reason"])
        except IllegalTransition as refusal:
            return Response({"detail": str(refusal)}, status=status.HTTP_409_CONFLICT)
        job.refresh_from_db()
        return Response(JobDetailSerializer(job).data)


class LoggedTransitionSerializer(TransitionSerializer):
    """One line of a timeline among those of all jobs."""

    class Meta(TransitionSerializer.Meta):
        fields = ["id", "job", *TransitionSerializer.Meta.fields]


class TransitionViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet[JobTransition]):
    """The timelines of all jobs: read."""

    queryset = JobTransition.objects.all()
    serializer_class = LoggedTransitionSerializer
    filterset_class = TransitionFilter
