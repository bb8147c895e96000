"""What does the API say about runs, and how are a preview approved, a guard accepted and a run undone?"""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from connectors.api.base import Acts, accepted
from connectors.models import Run
from connectors.sync.run import describe
from jobs.api import AcceptedSerializer
from jobs.syncing import accept_guard, approve_preview, request_undo


class RunSerializer(serializers.ModelSerializer[Run]):
    """One run."""

    summary = serializers.SerializerMethodField()

    class Meta:
        model = Run
        fields = [
            "id", "integration", "scope", "purpose", "mode", "phase", "entities", "counts", "guard", "error", "summary",
            "started_at", "finished_at", "approved_at", "undoes",
        ]  # fmt: skip

    def get_summary(self, run: Run) -> str:
        """The line that people read."""
        return describe(run)


class ApproveSerializer(serializers.Serializer[Any]):
    """Whether what the guard warns of is meant."""

    accept_guard = serializers.BooleanField(default=False)


class ApprovedSerializer(AcceptedSerializer):
    """How many proposals are written, and how many are not because their record has changed since."""

    approved = serializers.IntegerField()
    bounced = serializers.IntegerField()


class RunViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, Acts):
    """Runs: read, approve a preview, accept a guard, undo."""

    queryset = Run.objects.select_related("scope", "integration")
    serializer_class = RunSerializer
    filterset_fields = ["integration", "scope", "phase", "purpose", "mode"]
    acting = frozenset(["approve", "accept", "undo"])

    @extend_schema(request=ApproveSerializer, responses={202: ApprovedSerializer})
    @action(detail=True, methods=["post"])
    def approve(self, request: Request, pk: str) -> Response:
        """Approve a preview: exactly its proposals are written."""
        asked = ApproveSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        run = self.get_object()

        def act() -> Response:
            job, approved, bounced = approve_preview(
                run, by=request.user, accept_guard=asked.validated_data["accept_guard"]
            )
            return accepted(job, approved=approved, bounced=bounced)

        return self.refused(act)

    @extend_schema(request=None, responses={202: AcceptedSerializer})
    @action(detail=True, methods=["post"])
    def accept(self, request: Request, pk: str) -> Response:
        """Go on with a run that a guard stopped."""
        run = self.get_object()
        return self.refused(lambda: accepted(accept_guard(run, by=request.user)))

    @action(detail=True, methods=["post"])
    def undo(self, request: Request, pk: str) -> Response:
        """Propose what takes back all that a run wrote; approve it like any preview."""
        run = self.get_object()
        return self.refused(lambda: accepted(request_undo(run, by=request.user)))
