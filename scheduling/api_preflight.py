"""What does the API say about what stands between an integration and its services?"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from django.shortcuts import get_object_or_404
from drf_spectacular.helpers import forced_singular_serializer
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, viewsets
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from config.etags import Tagged
from config.openapi import INTEGRATION
from config.rest import Strict
from connectors.models import Integration
from scheduling import preflight


class MayLook(BasePermission):
    """To read needs the right to see services; to look anew, which calls both systems, the right to run or change them."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        user = request.user
        if user is None or not user.has_perm("scheduling.view_service"):
            return False
        return request.method != "POST" or any(user.has_perm(f"scheduling.{may}_service") for may in ("run", "change"))


class LineSerializer(serializers.Serializer[Any]):
    """One finding: which check, how bad, a sentence, and the page where it is mended."""

    check = serializers.CharField()
    level = serializers.CharField()
    message = serializers.CharField()
    fix = serializers.CharField(allow_blank=True)
    fix_label = serializers.CharField(allow_blank=True)


class ReportSerializer(serializers.Serializer[Any]):
    """What one look found."""

    integration = serializers.IntegerField()
    at = serializers.DateTimeField()
    by = serializers.CharField(allow_blank=True)
    ready = serializers.BooleanField()
    stale = serializers.BooleanField()
    summary = serializers.CharField()
    lines = LineSerializer(many=True)


class PreflightViewSet(Strict, Tagged, viewsets.ViewSet):
    """GET: what the last look found.  POST: look now."""

    permission_classes = [MayLook]

    @extend_schema(parameters=[INTEGRATION], responses=forced_singular_serializer(ReportSerializer))
    def list(self, request: Request, integration_id: str) -> Response:
        """Answer with the last report; 404 where nobody has looked yet."""
        report = preflight.last(_integration(integration_id))
        if report is None:
            return Response({"detail": "Nobody has looked yet. POST to look now."}, status=404)
        return Response(_told(report))

    @extend_schema(parameters=[INTEGRATION], request=None, responses={200: ReportSerializer})
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
