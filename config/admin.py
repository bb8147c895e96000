"""What does the admin's frame look like: its start page, its navigation, its colours?"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.templatetags.static import static
from django.urls import reverse
from unfold.sites import UnfoldAdminSite


class SynclineAdminSite(UnfoldAdminSite):
    """The one admin site."""

    site_title = "Syncline"
    site_header = "Syncline"
    index_title = "Overview"
    index_template = "syncline/overview.html"

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Show every integration, its problems and the last runs; a constant number of queries."""
        context: dict[str, Any] = {}
        if request.user.has_perm("connectors.view_integration"):
            context = _overview(request)
        return super().index(request, {**context, **(extra_context or {})})


def _overview(request: HttpRequest) -> dict[str, Any]:
    # Imported here: this module is read while the apps are still being loaded.
    from connectors.admin.base import ago
    from connectors.admin.integrations import system_title
    from connectors.admin.runs import phase_badge, summary
    from connectors.models import Integration, Run
    from connectors.sync.health import overview
    from jobs.models import Job
    from scheduling.models import Provisioning

    waiting: list[Provisioning] = []
    if request.user.has_perm("scheduling.decide_provisioning"):
        waiting = list(Provisioning.objects.filter(status="requested").select_related("integration").order_by("id"))
    rows = overview(list(Integration.objects.select_related("left", "right").order_by("name")))
    runs: list[dict[str, object]] = []
    if request.user.has_perm("connectors.view_run"):
        newest = Run.objects.select_related("integration").defer("progress").order_by("-id")[:8]
        runs = [
            {"run": r, "phase": phase_badge(r), "summary": summary(r), "started": ago(r.started_at)} for r in newest
        ]
    return {
        "sl_rows": [
            {
                "health": h,
                "integration": h.integration,
                "left": system_title(h.integration.left.system),
                "right": system_title(h.integration.right.system),
                "last": ago(h.scope.last_done_at if h.scope else None),
                "do": reverse("admin:connectors_integration_do", args=[h.integration.pk, "sync_now"]),
            }
            for h in rows
        ],
        "sl_runs": runs,
        "sl_requests": waiting,
        "sl_open_jobs": Job.objects.open().count(),
        "sl_no_worker": not worker_alive(),
        "sl_may_sync": request.user.has_perm("connectors.change_integration"),
        "sl_may_add": request.user.has_perm("connectors.add_integration"),
    }


def worker_alive() -> bool:
    """Was a supervisor or its queue seen within three beats?"""
    from jobs import clock
    from jobs.models import WorkerHeartbeat

    since = clock.now() - timedelta(seconds=max(60.0, 3 * settings.WORKER_BEAT_SECONDS))
    return WorkerHeartbeat.objects.filter(seen_at__gte=since, kind=WorkerHeartbeat.Kind.SUPERVISOR).exists()


def stylesheet(request: HttpRequest) -> str:
    """Return the address of our own style sheet."""
    return static("syncline/admin.css")


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """Return the side bar: by what people do, not by tables.  What somebody may not see is not there."""
    groups = [
        ("", [("Overview", "dashboard", "admin:index", "", "")]),
        (
            "Sync",
            [
                ("Integrations", "sync_alt", "admin:connectors_integration_changelist", "", "connectors.view_integration"),
                ("Schedules", "schedule", "admin:scheduling_service_changelist", "", "scheduling.view_service"),
                ("Runs", "play_circle", "admin:connectors_run_changelist", "", "connectors.view_run"),
                ("Jobs", "list_alt", "admin:jobs_job_changelist", "", "jobs.view_job"),
            ],
        ),
        (
            "Records",
            [
                ("Records", "link", "admin:connectors_recordlink_changelist", "", "connectors.view_recordlink"),
                ("Problems", "warning", "admin:connectors_recordlink_changelist", "?pending=hands",
                 "connectors.view_recordlink"),
                ("Changes", "difference", "admin:connectors_recordchange_changelist", "", "connectors.view_recordchange"),
            ],
        ),
        (
            "Setup",
            [
                ("Connections", "cable", "admin:connectors_connection_changelist", "", "connectors.view_connection"),
                ("Entity syncs", "schema", "admin:connectors_entitysync_changelist", "", "connectors.view_entitysync"),
                ("Mappings", "swap_horiz", "admin:connectors_fieldmapping_changelist", "", "connectors.view_fieldmapping"),
                ("Blackouts", "event_busy", "admin:scheduling_blackout_changelist", "", "scheduling.view_blackout"),
                ("Provisioning", "approval", "admin:scheduling_provisioning_changelist", "", "scheduling.view_provisioning"),
            ],
        ),
        (
            "Watch",
            [
                ("Events", "notifications", "admin:connectors_event_changelist", "", "connectors.view_event"),
                ("API calls", "http", "admin:connectors_apicall_changelist", "", "connectors.view_apicall"),
                ("Workers", "memory", "admin:jobs_workerheartbeat_changelist", "", "jobs.view_workerheartbeat"),
                ("Pauses", "pause_circle", "admin:jobs_pause_changelist", "", "jobs.view_pause"),
            ],
        ),
        (
            "People",
            [
                ("People", "person", "admin:auth_user_changelist", "", "auth.view_user"),
                ("Groups", "group", "admin:auth_group_changelist", "", "auth.view_group"),
            ],
        ),
    ]  # fmt: skip
    found: list[dict[str, Any]] = []
    for title, items in groups:
        shown = [
            {
                "title": label,
                "icon": icon,
                "link": reverse(name) + query,
                "active": _active(request, reverse(name), query),
            }
            for label, icon, name, query, permission in items
            if not permission or request.user.has_perm(permission)
        ]
        if shown:
            found.append({"title": title, "separator": bool(title), "items": shown})
    return found


def _active(request: HttpRequest, address: str, query: str) -> bool:
    if address == reverse("admin:index"):
        return request.path == address
    if not request.path.startswith(address):
        return False
    on_problems = request.GET.get("pending") == "hands"
    return on_problems if query else not (on_problems and "recordlink" in address)
