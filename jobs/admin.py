"""What do operators see of jobs, and what may they do with them?"""

from __future__ import annotations

from collections.abc import Callable

from django.conf import settings
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.forms import ModelForm
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django_q.models import Failure, OrmQ, Schedule, Success
from unfold.admin import ModelAdmin, TabularInline

from config import audit
from connectors.admin.base import ReadOnly, ago, badge, link_to, took
from jobs import admin_alerts, operate
from jobs.models import Job, JobTransition, Pause, WorkerHeartbeat
from jobs.states import IllegalTransition

__all__ = ["admin_alerts"]  # registers the pages of alerts with those of jobs

# A Schedule's function is any dotted path and a queued task is a pickle: who may edit them owns the host (RELIABILITY
# section 4).  The job table shows all that an operator needs.
for model in (Schedule, OrmQ, Success, Failure):
    if admin.site.is_registered(model):
        admin.site.unregister(model)


class TimelineInline(ReadOnly, TabularInline):
    """Every move of the job: who, when, why."""

    model = JobTransition
    fields = ["at", "from_status", "to_status", "actor", "by", "reason", "attempt"]
    readonly_fields = fields
    ordering = ["id"]
    extra = 0
    verbose_name_plural = "Timeline"


@admin.register(Job)
class JobAdmin(ReadOnly, ModelAdmin):
    """All background work.  Search finds an exact id, a lock key, a related object or an error's fingerprint."""

    list_display = ["id", "type", "status_shown", "about", "tries", "due", "started", "length", "asked_by", "outcome"]
    list_filter = ["status_reason", "type", "error_class", "priority"]
    list_select_related = ["created_by", "run", "scope__integration"]
    search_fields = ["=id", "=lock_key", "=object_ref", "=fingerprint"]
    search_help_text = "Exact id, lock key, related object or error fingerprint"
    ordering = ["-id"]
    list_per_page = 50
    show_full_result_count = False  # a count of a million rows, for a number that nobody needs
    actions = ["retry", "cancel", "run_now"]
    change_form_outer_after_template = "syncline/_live_job.html"
    inlines = [TimelineInline]
    readonly_fields = ["asked_for", "outcome", "progress_shown"]
    fieldsets = [
        (
            None,
            {"fields": ["type", "status_reason", "object_ref", "scope", "run", "parent", "repeat_of", "created_by"]},
        ),
        ("Parameters", {"fields": ["asked_for", "priority", "lock_key", "dedupe_key", "again"]}),
        (
            "Results",
            {"fields": ["outcome", "progress_shown", "error_class", "error_code", "error_message", "fingerprint"]},
        ),
        (
            "Tries",
            {
                "fields": [
                    "attempt",
                    "round",
                    "slices",
                    "lost_leases",
                    "reconcile",
                    "run_at",
                    "not_before",
                    "max_age_at",
                ]
            },
        ),
        ("Worker", {"fields": ["worker", "claimed_at", "lease_until", "created_at", "started_at", "finished_at"]}),
        ("Cancel", {"fields": ["cancel_requested", "cancel_by", "cancel_reason"]}),
    ]

    @admin.display(description="Status", ordering="status_reason")
    def status_shown(self, job: Job) -> SafeString:
        return badge(job.get_status_reason_display(), job.error_message)

    @admin.display(description="About")
    def about(self, job: Job) -> str:
        return job.object_ref or (str(job.scope) if job.scope else "–")

    @admin.display(description="Try")
    def tries(self, job: Job) -> str:
        return f"{job.attempt} of {settings.JOB_RETRIES + 1}" if job.attempt else "–"

    @admin.display(description="Due", ordering="run_at")
    def due(self, job: Job) -> SafeString:
        return ago(job.run_at)

    @admin.display(description="Started", ordering="started_at")
    def started(self, job: Job) -> SafeString | str:
        return ago(job.started_at) if job.started_at else "–"

    @admin.display(description="Took")
    def length(self, job: Job) -> str:
        return took(job.started_at, job.finished_at)

    @admin.display(description="Asked by")
    def asked_by(self, job: Job) -> str:
        return str(job.created_by) if job.created_by else "the system"

    @admin.display(description="Result")
    def outcome(self, job: Job) -> SafeString:
        """The error, else what a finished job says of itself, with a link to its run."""
        summary = job.results.get("summary", "") if isinstance(job.results, dict) else ""
        text = job.error_message or str(summary)
        run = link_to(job.run, f"run #{job.run_id}") if job.run else ""
        return format_html('<span class="sl-wrap">{} {}</span>', text[:160], run)

    @admin.display(description="Asked for")
    def asked_for(self, job: Job) -> str:
        return _pairs(job.params)

    @admin.display(description="Progress")
    def progress_shown(self, job: Job) -> str:
        return _pairs(job.progress)

    def has_retry_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("jobs.retry_job")

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("jobs.cancel_job")

    @admin.action(description="Retry", permissions=["retry"])
    def retry(self, request: HttpRequest, queryset: QuerySet[Job]) -> None:
        self._each(request, queryset, "retried", lambda job: operate.retry(job, by=request.user))

    @admin.action(description="Cancel", permissions=["cancel"])
    def cancel(self, request: HttpRequest, queryset: QuerySet[Job]) -> None:
        reason = "cancelled in the list of jobs"
        self._each(request, queryset, "cancelled", lambda job: operate.cancel(job, by=request.user, reason=reason))

    @admin.action(description="Run now", permissions=["retry"])
    def run_now(self, request: HttpRequest, queryset: QuerySet[Job]) -> None:
        self._each(request, queryset, "brought forward", lambda job: operate.run_now(job, by=request.user))

    def _each(self, request: HttpRequest, queryset: QuerySet[Job], done: str, act: Callable[[Job], object]) -> None:
        """Act on each job for itself; what is refused is listed with the reason."""
        acted: list[Job] = []
        for job in queryset.order_by("id"):
            try:
                with audit.acting(request.user, job, f"{done.capitalize()} in the list of jobs."):
                    act(job)
                acted.append(job)
            except IllegalTransition as refusal:
                self.message_user(request, f"Job {job.pk}: {refusal}", messages.WARNING)
        if acted:
            self.message_user(request, f"{len(acted)} job(s) {done}.", messages.SUCCESS)


def _pairs(values: object) -> str:
    """Return JSON's pairs as a line that people read; the API has all of it."""
    if not isinstance(values, dict):
        return str(values or "–")
    told = [f"{name}: {value}" for name, value in values.items() if value not in (None, "", [], {})]
    return ", ".join(told)[:1000] or "–"


@admin.register(JobTransition)
class JobTransitionAdmin(ReadOnly, ModelAdmin):
    """The timelines of all jobs, newest first."""

    list_display = ["at", "job", "from_status", "to_status", "actor", "by", "reason"]
    list_filter = ["to_status", "actor"]
    list_select_related = ["job"]
    search_fields = ["=job__id"]
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


@admin.register(Pause)
class PauseAdmin(ModelAdmin):
    """Hold jobs back: those of one connection, of one type, or all."""

    list_display = ["__str__", "kind", "by", "at"]
    list_select_related = ["connection", "by"]
    fields = ["kind", "connection", "job_type", "reason"]

    def save_model(self, request: HttpRequest, obj: Pause, form: ModelForm, change: bool) -> None:
        if not change:
            obj.by_id = request.user.pk
        super().save_model(request, obj, form, change)
