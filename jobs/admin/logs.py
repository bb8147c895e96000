"""Which moves did jobs make, and which workers are alive?"""

from __future__ import annotations

from django.contrib import admin
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin

from connectors.admin.base import Exact, ReadOnly, ago
from jobs.models import JobTransition, WorkerHeartbeat


@admin.register(JobTransition)
class JobTransitionAdmin(Exact, ReadOnly, ModelAdmin):
    """The timelines of all jobs, newest first."""

    list_display = ["at_ago", "job", "from_status", "to_status", "actor", "by", "reason"]
    list_filter = ["to_status", "actor"]
    list_select_related = ["job"]
    search_fields = ["job"]
    sortable_by: tuple[str, ...] = ()
    search_help_text = "Exact id of the job"
    ordering = ["-id"]
    show_full_result_count = False


@admin.register(WorkerHeartbeat)
class WorkerHeartbeatAdmin(ReadOnly, ModelAdmin):
    """Which workers are alive."""

    list_display = ["name", "kind", "host", "pid", "workers", "busy", "seen"]
    ordering = ["-seen_at"]

    @admin.display(description="Last seen", ordering="seen_at")
    def seen(self, beat: WorkerHeartbeat) -> SafeString:
        return ago(beat.seen_at)
