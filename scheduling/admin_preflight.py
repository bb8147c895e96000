"""What stands between an integration and its services?  The page with what the last look found, and a button to look again."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.safestring import SafeString

from connectors.admin.base import Titled, ago, badge
from connectors.models import Integration
from scheduling import preflight
from scheduling.findings import BLOCKING, OK, WARNING, Level, Line
from scheduling.models import Service

BADGES = {OK: ("Ready", "good"), WARNING: ("To know", "warn"), BLOCKING: ("Blocks", "bad")}
WORST: tuple[Level, ...] = (BLOCKING, WARNING, OK)


def may_look(request: HttpRequest) -> bool:
    """Whether the person may look anew: that calls both systems."""
    return any(request.user.has_perm(f"scheduling.{name}_service") for name in ("run", "change"))


def preflight_view(request: HttpRequest, integration_id: int) -> HttpResponse:
    """Show what the last look found; a POST looks again."""
    if not request.user.has_perm("scheduling.view_service"):
        raise PermissionDenied
    integration = get_object_or_404(Integration.objects.select_related("left", "right"), pk=integration_id)
    if request.method == "POST":
        if not may_look(request):
            raise PermissionDenied
        report = preflight.run(integration, by=request.user)
        level = messages.ERROR if report.blocking else messages.WARNING if report.warnings else messages.SUCCESS
        messages.add_message(request, level, f"Looked again. {report.summary}")
        return redirect(request.path)
    report_seen = preflight.last(integration)
    title = f"Pre-flight check of {integration}"
    context = {
        **admin.site.each_context(request),
        "title": title,
        "opts": Service._meta,
        "original": Titled(integration, title),
        "integration": integration,
        "report": report_seen,
        "looked": ago(report_seen.at) if report_seen else "",
        "state": _badge(_worst(report_seen.lines)) if report_seen else "",
        "groups": _groups(report_seen) if report_seen else [],
        "may_look": may_look(request),
        "schedules": reverse("admin:scheduling_integration", args=[integration.pk]),
    }
    request.current_app = admin.site.name
    return TemplateResponse(request, "scheduling/preflight.html", context)


def _groups(report: preflight.Report) -> list[dict[str, Any]]:
    """Return the checks, those with red lines first."""
    ordered = sorted(report.groups.items(), key=lambda item: WORST.index(_worst(item[1])))
    return [_group(name, lines) for name, lines in ordered]


def _group(name: str, lines: list[Line]) -> dict[str, Any]:
    """Return one check with its lines, the worst ones first."""
    ordered = sorted(lines, key=lambda line: WORST.index(line.level))
    return {
        "name": name[:1].upper() + name[1:],
        "badge": _badge(_worst(lines)),
        "lines": [{"line": line, "badge": _badge(line.level)} for line in ordered],
    }


def _worst(lines: list[Line]) -> Level:
    return next((level for level in WORST if any(line.level == level for line in lines)), OK)


def _badge(level: Level) -> SafeString:
    word, tone = BADGES[level]
    return badge(word, tone=tone)
