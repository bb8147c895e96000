"""What does the API say about what stands between an integration and its services?"""

from __future__ import annotations

from dataclasses import asdict

from django.shortcuts import get_object_or_404
from rest_framework import viewsets
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from connectors.models import Integration
from scheduling import preflight


class MayLook(BasePermission):
    """To read needs the right to see services; to look anew, which calls both systems, the right to run or change them."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        user = request.user
        if user is None or not user.has_perm("scheduling.view_service"):
            return False
        return request.method != "POST" or any(user.has_perm(f"scheduling.{may}_service") for may in ("run", "change"))


class PreflightViewSet(viewsets.ViewSet):
    """GET: what the last look found.  POST: look now."""

    permission_classes = [MayLook]

    def list(self, request: Request, integration_id: str) -> Response:
        """Answer with the last report; 404 where nobody has looked yet."""
        report = preflight.last(_integration(integration_id))
        if report is None:
            return Response({"detail": "Nobody has looked yet. POST to look now."}, status=404)
        return Response(_told(report))

    def create(self, request: Request, integration_id: str) -> Response:
        """Look at both systems now.  What blocks is part of the answer, not an error."""
        return Response(_told(preflight.run(_integration(integration_id), by=request.user)))


def _integration(integration_id: str) -> Integration:
    return get_object_or_404(Integration.objects.select_related("left", "right"), pk=integration_id)


def _told(report: preflight.Report) -> dict[str, object]:
    return {
        "integration": report.integration.pk,
        "at": report.at,
        "by": report.by,
        "ready": not report.blocking,
        "stale": report.stale,
        "summary": report.summary,
        "lines": [asdict(line) for line in report.lines],
    }
