"""All background work: the list with its tabs, and the pages that look over many jobs."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin
from unfold.views import ChangeList

from connectors.admin.base import Exact, ReadOnly, ago, took
from connectors.admin.lists import MOST_COUNTED, IndexedList
from connectors.models import ProblemGroup
from jobs import bulk, clock, figures, standing
from jobs.admin import show
from jobs.admin.bulk import BulkPages, tried_at_once
from jobs.admin.filters import FILTERS, HiddenFilter, StatusFilter
from jobs.admin.page import JobPage
from jobs.admin.pauses import banners
from jobs.models import Job
from jobs.states import StatusReason

S = StatusReason
STATUS = StatusFilter.parameter_name
TABS = (S.WAITING, S.DISPATCHED, S.IN_PROGRESS, S.RETRY, S.FAILED, S.SUCCEEDED, S.NOT_APPLICABLE, S.CANCELLED)
# Of these there are many: under another filter, counting them would read most of the table.
MANY = (S.SUCCEEDED, S.NOT_APPLICABLE, S.CANCELLED)


class JobList(IndexedList):
    """One page of jobs, each with its note."""

    def get_results(self, request: HttpRequest) -> None:
        """Look up what the jobs of the page wait for: the same few queries for one as for all."""
        super().get_results(request)
        self.result_list: Any = list(self.result_list)
        notes = standing.notes(self.result_list, clock.now())
        for job in self.result_list:
            job.note = notes.get(job.pk)


@admin.register(Job)
class JobAdmin(Exact, ReadOnly, BulkPages, JobPage, ModelAdmin):
    """All background work.  Search finds an exact id, a lock key, a related object or an error's fingerprint."""

    list_display = [
        "id", "type", "status_shown", "about", "tries", "next_try", "scheduled", "started", "length", "asked_by", "outcome",
    ]  # fmt: skip
    list_filter = FILTERS
    list_select_related = ["created_by", "run", "scope__integration"]
    sortable_by = ["id"]  # what an index gives in order
    search_fields = ["=id", "=lock_key", "=object_ref", "=fingerprint"]
    search_help_text = "Exact id, lock key, related object or error fingerprint"
    actions: Any = ["retry_ticked", "cancel_ticked", "run_now_ticked", "reschedule_ticked"]
    list_before_template = "jobs/_list_head.html"

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return JobList

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """The list below its tabs."""
        answer = super().changelist_view(request, extra_context)
        if isinstance(answer, TemplateResponse) and answer.context_data is not None and "cl" in answer.context_data:
            answer.context_data |= self.head(request, answer.context_data["cl"])
        return answer

    def get_urls(self) -> list[URLPattern]:
        """Before the catch-all of Django's own."""
        view = self.admin_site.admin_view
        return [
            path("head/", view(self.head_view), name="jobs_job_head"),
            path("errors/", view(self.errors_view), name="jobs_job_errors"),
            path("figures/", view(self.figures_view), name="jobs_job_figures"),
            *super().get_urls(),
        ]

    # Above the list

    def head_view(self, request: HttpRequest) -> HttpResponse:
        """The part above the list, which keeps itself fresh."""
        self._may_see(request)
        try:
            context = self.head(request, self.get_changelist_instance(request))
        except IncorrectLookupParameters:  # as the list does
            return redirect("admin:jobs_job_head")
        return TemplateResponse(request, "jobs/_head.html", context)

    def head(self, request: HttpRequest, cl: Any) -> dict[str, Any]:
        """Tabs with counts, what holds jobs back, how the queue is, which filters are on."""
        now = clock.now()
        kept = request.GET.copy()
        for name in ("p", "e", "all", "_changelist_filters"):
            kept.pop(name, None)
        base = kept.copy()
        chosen = base.pop(STATUS, [""])[-1]
        oldest = figures.oldest_due_job(now)
        narrowed = bool(base)
        return {
            "jb_tabs": self._tabs(request, cl, base, chosen, narrowed=narrowed),
            "jb_pauses": banners(request, now),
            "jb_oldest": ago(oldest) if oldest else "",
            "jb_stuck": figures.stuck(Job.objects.all(), now).count(),
            "jb_chips": self._chips(cl, kept),
            "jb_bulk": self._bulk_links(request, kept, chosen, narrowed=narrowed),
            "jb_head_url": f"{reverse('admin:jobs_job_head')}?{kept.urlencode()}",
            "jb_list": reverse("admin:jobs_job_changelist"),
        }

    def _tabs(
        self, request: HttpRequest, cl: Any, base: QueryDict, chosen: str, *, narrowed: bool
    ) -> list[dict[str, object]]:
        rows: Any = Job.objects.all()
        if narrowed:
            rows = cl.get_queryset(request, exclude_parameters=[STATUS])
        tabs: list[dict[str, object]] = [{"label": "All", "url": f"?{base.urlencode()}", "on": not chosen, "count": ""}]
        for status in TABS:
            link = base.copy()
            link[STATUS] = status.value
            counted = not (narrowed and status in MANY)
            number = rows.filter(status_reason=status).order_by()[: MOST_COUNTED + 1].count() if counted else -1
            tabs.append(
                {
                    "label": status.label, "url": f"?{link.urlencode()}", "on": chosen == status, "count": _told(number),
                    "hot": status is S.FAILED and number > 0,
                }
            )  # fmt: skip
        return tabs

    def _chips(self, cl: Any, kept: QueryDict) -> list[dict[str, str]]:
        """Filters that have no place at the side, each with a link that takes it off."""
        chips: list[dict[str, str]] = []
        for spec in cl.filter_specs:
            if isinstance(spec, HiddenFilter) and not isinstance(spec, StatusFilter):
                chips.append(_chip(f"{spec.title}: {spec.shown()}", kept, str(spec.parameter_name)))
        if ids := kept.get("id__in"):
            count = len(ids.split(","))
            chips.append(_chip(f"{count} job{'s'[: count != 1]} of an earlier choice", kept, "id__in"))
        return chips

    def _bulk_links(
        self, request: HttpRequest, kept: QueryDict, chosen: str, *, narrowed: bool
    ) -> list[dict[str, str]]:
        """What can be done to all that match: with no filter at all, nothing is offered."""
        if not (chosen or narrowed):
            return []
        return [
            {"label": f"{verb.label} all of these", "url": f"{reverse(tried_at_once(verb))}?{kept.urlencode()}"}
            for verb in bulk.VERBS.values()
            if (not chosen or chosen in verb.statuses) and request.user.has_perm(verb.permission)
        ]

    # Pages over many jobs

    def errors_view(self, request: HttpRequest) -> HttpResponse:
        """Failed jobs grouped by what went wrong."""
        self._may_see(request)
        groups = figures.by_error()
        problems = {
            (row.fingerprint, row.job_type): row.pk
            for row in ProblemGroup.objects.filter(fingerprint__in=[group.fingerprint for group in groups])
        }
        return self._page(
            request, "jobs/errors.html", "Failed jobs by error",
            groups=[{"group": g, "problem": problems.get((g.fingerprint, g.type))} for g in groups],
            may_retry=request.user.has_perm(bulk.RETRY.permission),
            may_see_problems=request.user.has_perm("connectors.view_problemgroup"),
        )  # fmt: skip

    def figures_view(self, request: HttpRequest) -> HttpResponse:
        """How jobs fared within a day."""
        self._may_see(request)
        found = figures.figures(clock.now())
        longest = max((one.run_p95 or 0 for one in found.types), default=0) or 1
        return self._page(request, "jobs/figures.html", "Figures of jobs", figures=found, longest=longest)

    def _page(self, request: HttpRequest, template: str, title: str, **context: object) -> HttpResponse:
        frame = {**self.admin_site.each_context(request), "title": title, "opts": self.opts, "original": title}
        request.current_app = self.admin_site.name
        return TemplateResponse(request, template, {**frame, **context})

    def _may_see(self, request: HttpRequest) -> None:
        if not self.has_view_permission(request):
            raise PermissionDenied

    # Columns

    @admin.display(description="Status", ordering="status_reason")
    def status_shown(self, job: Job) -> SafeString:
        return show.status(job, getattr(job, "note", None))

    @admin.display(description="About")
    def about(self, job: Job) -> SafeString:
        return show.about(job)

    @admin.display(description="Try")
    def tries(self, job: Job) -> str:
        return show.tries(job)

    @admin.display(description="Next try")
    def next_try(self, job: Job) -> SafeString | str:
        return show.next_try(job)

    @admin.display(description="Scheduled for", ordering="run_at")
    def scheduled(self, job: Job) -> SafeString | str:
        return show.scheduled(job)

    @admin.display(description="Started")
    def started(self, job: Job) -> SafeString | str:
        return ago(job.started_at) if job.started_at else "–"

    @admin.display(description="Took")
    def length(self, job: Job) -> SafeString | str:
        if job.started_at is None or job.finished_at is None:
            return "–"
        told = f"{job.ran_ms / 1000:.1f} s in the hands of workers"
        return format_html('<span title="{}">{}</span>', told, took(job.started_at, job.finished_at))

    @admin.display(description="Asked by")
    def asked_by(self, job: Job) -> str:
        return show.person(job)

    @admin.display(description="Result")
    def outcome(self, job: Job) -> SafeString:
        return show.result(job)


def _told(number: int) -> str:
    if number < 0:
        return ""
    return f"{MOST_COUNTED:,}+" if number > MOST_COUNTED else f"{number:,}"


def _chip(text: str, kept: QueryDict, name: str) -> dict[str, str]:
    without = kept.copy()
    without.pop(name, None)
    return {"text": text, "url": f"?{without.urlencode()}"}
