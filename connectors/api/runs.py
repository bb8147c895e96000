"""What does the API say about runs, and how are a preview approved and a guard accepted?"""

from __future__ import annotations

from rest_framework import mixins, serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from connectors.api.base import Acts, accepted
from connectors.models import Run
from connectors.sync.run import describe
from jobs.syncing import accept_guard, approve_preview


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
            return accepted(job, approved=approved, bounced=bounced)

        return self.refused(act)

    @action(detail=True, methods=["post"])
    def accept(self, request: Request, pk: str) -> Response:
        """Go on with a run that a guard stopped."""
        run = self.get_object()
        return self.refused(lambda: accepted(accept_guard(run, by=request.user)))
