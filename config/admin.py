"""What does the admin's frame look like: its start page, its navigation, its colours?"""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.templatetags.static import static
from django.urls import path, reverse
from unfold.sites import UnfoldAdminSite


class SynclineAdminSite(UnfoldAdminSite):
    """The one admin site."""

    site_title = "Syncline"
    site_header = "Syncline"
    index_title = "Overview"
    index_template = "syncline/overview.html"

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Show what needs somebody, and every integration; a constant number of queries."""
        from config import overview  # here: this module is read while the apps are still being loaded

        return super().index(request, {**overview.context(request), **(extra_context or {})})

    def live(self, request: HttpRequest) -> HttpResponse:
        """The part of the overview that keeps itself fresh."""
        from config import overview

        return TemplateResponse(request, "syncline/_overview.html", overview.context(request))

    def get_urls(self) -> list[Any]:
        """The frame's own pages."""
        from config import zone
        from connectors.admin import conflicts

        own = [
            path("live/", self.admin_view(self.live), name="overview_live"),
            path("time-zone/", self.admin_view(zone.view), name="time_zone"),
            *conflicts.urls(self),
        ]
        return [*own, *super().get_urls()]


def stylesheet(request: HttpRequest) -> str:
    """Return the address of our own style sheet."""
    return static("syncline/admin.css")


def favicon(request: HttpRequest) -> str:
    """Return the address of the picture in the browser's tab."""
    return static("syncline/favicon.svg")


def script(request: HttpRequest) -> str:
    """Return the address of our own script."""
    return static("syncline/admin.js")


def live_script(request: HttpRequest) -> str:
    """Return the address of the script that keeps parts of a page fresh."""
    return static("syncline/live.js")


def names_script(request: HttpRequest) -> str:
    """Return the address of the script that gives the theme's pictures words."""
    return static("syncline/names.js")


# What stands in the side bar: title, picture, address, and the right that shows it.
PLACES: list[tuple[str, list[tuple[str, str, str, str]]]] = [
    ("", [("Overview", "dashboard", "admin:index", "")]),
    (
        "Sync",
        [
            ("Integrations", "sync_alt", "admin:connectors_integration_changelist", "connectors.view_integration"),
            ("Schedules", "schedule", "admin:scheduling_service_changelist", "scheduling.view_service"),
            ("Runs", "play_circle", "admin:connectors_run_changelist", "connectors.view_run"),
            ("Jobs", "list_alt", "admin:jobs_job_changelist", "jobs.view_job"),
            ("Problems", "warning", "admin:connectors_problemgroup_changelist", "connectors.view_problemgroup"),
            ("Connections", "cable", "admin:connectors_connection_changelist", "connectors.view_connection"),
        ],
    ),
    (
        "Records",
        [
            ("Conflicts", "call_split", "admin:conflicts", "connectors.view_recordlink"),
            ("Records", "link", "admin:connectors_recordlink_changelist", "connectors.view_recordlink"),
            ("Changes", "difference", "admin:connectors_recordchange_changelist", "connectors.view_recordchange"),
        ],
    ),
    (
        "Settings",
        [
            ("Entity syncs", "schema", "admin:connectors_entitysync_changelist", "connectors.view_entitysync"),
            ("Mappings", "swap_horiz", "admin:connectors_fieldmapping_changelist", "connectors.view_fieldmapping"),
            ("Blackouts", "event_busy", "admin:scheduling_blackout_changelist", "scheduling.view_blackout"),
            ("Provisioning", "approval", "admin:scheduling_provisioning_changelist", "scheduling.view_provisioning"),
        ],
    ),
    (
        "Watch",
        [
            ("Alerts", "notification_important", "admin:jobs_alert_changelist", "jobs.view_alert"),
            ("Alert rules", "rule", "admin:jobs_alertrule_changelist", "jobs.view_alertrule"),
            ("Messages", "outbox", "admin:jobs_alertmessage_changelist", "jobs.view_alertmessage"),
            ("Failing", "running_with_errors", "admin:jobs_failing_changelist", "jobs.view_failing"),
            ("Events", "notifications", "admin:connectors_event_changelist", "connectors.view_event"),
            ("API calls", "http", "admin:connectors_apicall_changelist", "connectors.view_apicall"),
            ("Workers", "memory", "admin:jobs_workerheartbeat_changelist", "jobs.view_workerheartbeat"),
            ("Pauses", "pause_circle", "admin:jobs_pause_changelist", "jobs.view_pause"),
        ],
    ),
    (
        "People",
        [
            ("People", "person", "admin:auth_user_changelist", "auth.view_user"),
            ("Groups", "group", "admin:auth_group_changelist", "auth.view_group"),
            ("API tokens", "key", "admin:config_apitoken_changelist", "config.view_apitoken"),
            ("Audit log", "history", "admin:admin_logentry_changelist", "admin.view_logentry"),
            ("Failed logins", "lock", "admin:axes_accessattempt_changelist", "axes.view_accessattempt"),
        ],
    ),
]  # fmt: skip


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """Return the side bar: by what people do, not by tables.  What somebody may not see is not there."""
    found: list[dict[str, Any]] = []
    for title, items in PLACES:
        shown = [
            {
                "title": label,
                "icon": icon,
                "link": reverse(name),
                "active": _active(request, reverse(name)),
                **_badge(request, name),
            }
            for label, icon, name, permission in items
            if not permission or request.user.has_perm(permission)
        ]
        if shown:
            found.append({"title": title, "separator": bool(title), "items": shown})
    return found


def _badge(request: HttpRequest, name: str) -> dict[str, str]:
    """How many wait behind an entry of the side bar: one query, counted to a hundred."""
    from connectors.admin import conflicts

    count = conflicts.badge_count() if name == "admin:conflicts" else ""
    return {"badge": count, "badge_variant": "warning"} if count else {}


def _active(request: HttpRequest, address: str) -> bool:
    return request.path == address if address == reverse("admin:index") else request.path.startswith(address)
