"""What did each run do, what does a preview propose, and what stopped a run?"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db.models import Case, Count, Q, QuerySet, Value, When
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import redirect
from django.template import engines
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin

from connectors.admin.base import Button, Page, ReadOnly, ago, badge, link_to, took
from connectors.admin.show import Shower, change_values, name_of
from connectors.models import ApiCall, Event, RecordChange, RecordLink, Run
from connectors.sync.run import decide_proposals, describe
from connectors.sync.undo import NOT_UNDONE, check_undoable
from connectors.sync.undone import UNDONE
from jobs.models import Job
from jobs.syncing import accept_guard, approve_preview, request_undo

OUTCOMES = ("agreed", "waiting", "skipped", "conflict", "parked")
PER_PAGE = 50
STAYS = "stays"  # the tab of what an undo can't take back
MOST_REASONS = 20
VERBS = {
    "create": "Create",
    "update": "Update",
    "delete": "Delete",
    "archive": "Make inactive",
    "restore": "Make active",
}


def phase_badge(run: Run) -> SafeString:
    """Return the phase's badge; a run that left problems is never just green."""
    word = run.get_phase_display()
    if run.phase == Run.Phase.DONE:
        hands = sum(int(c.get(n, 0)) for c in run.counts.get("entities", {}).values() for n in ("conflict", "parked"))
        stays = run.counts.get("undo", {}).get("not")
        return badge("Succeeded", describe(run), "warn" if hands or stays else "good")
    return badge(word, run.error or word)


def summary(run: Run) -> str:
    """Return the one line that says what a run did."""
    if run.error:
        return f"{run.get_phase_display()}: {run.error}"
    return describe(run)


def outcome_rows(run: Run) -> list[dict[str, object]]:
    """Return the table of outcomes: one row for each entity sync, whose parts sum to the records touched."""
    rows: list[dict[str, object]] = []
    for name, counts in run.counts.get("entities", {}).items():
        written: dict[str, dict[str, int]] = counts["written"]
        by_verb = {
            verb: sum(side.get(verb, 0) for side in written.values()) for verb in ("created", "updated", "deleted")
        }
        parts = {**by_verb, **{outcome: int(counts.get(outcome, 0)) for outcome in OUTCOMES}}
        where = " · ".join(f"{sum(verbs.values())} {side}" for side, verbs in written.items() if sum(verbs.values()))
        total = sum(parts.values())
        rows.append(
            {"name": name, "touched": counts["touched"], "parts": list(parts.values()), "where": where,
             "adds_up": total == counts["touched"]}
        )  # fmt: skip
    return rows


def undoable(run: Run) -> bool:
    """Whether there is anything that an undo could take back."""
    try:
        check_undoable(run)
    except ValueError:
        return False
    return True


def reasons_to_stay(run: Run) -> list[dict[str, object]]:
    """Return what an undo can't take back, or not wholly, and why: what stays comes first, then by number."""
    told = RecordChange.objects.filter(run=run).exclude(message="")
    told = told.filter(Q(code=NOT_UNDONE) | Q(status__in=["proposed", "dropped"]))
    rows = (
        told.values_list("code", "verb", "message").annotate(total=Count("id")).order_by("-code", "-total", "message")
    )
    return [
        {
            "total": total,
            "word": "Stay as they are" if code == NOT_UNDONE else VERBS.get(verb, verb),
            "message": message,
        }
        for code, verb, message, total in rows[:MOST_REASONS]
    ]


def warned(run: Run) -> bool:
    """Whether the guard warns of what a preview proposes."""
    return run.phase == Run.Phase.PROPOSED and bool(run.guard.get("tripped"))


# A preview that the guard warns of: the page of every run, below the warning and the tick.
WARNED_PAGE = """{% extends "syncline/run.html" %}
{% block page %}
    {% if stays %}{% include "syncline/_stays.html" %}{% endif %}
    <section class="sl-card">
        <div class="sl-head"><h2>What the guard says</h2></div>
        <div class="sl-body">
            {% for sentence in warnings %}<p>{{ sentence }}</p>{% endfor %}
            <form method="post" action="{{ approve_url }}">
                {% csrf_token %}
                <p><label><input type="checkbox" name="accept_guard" value="1" required> I have looked, and this is meant.</label></p>
                <button type="submit" class="sl-button main">Approve</button>
            </form>
        </div>
    </section>
    {{ block.super }}
{% endblock %}"""


@admin.register(Run)
class RunAdmin(ReadOnly, Page, ModelAdmin):
    """Every run, newest first."""

    page_template = "syncline/run.html"
    list_display = ["number", "integration", "kind", "phase_shown", "started", "length", "what"]
    list_display_links = ["number"]
    list_filter = ["integration", "phase", "purpose", "mode"]
    list_select_related = ["integration"]
    actions: list[str] = []
    may = "connectors.change_run"
    buttons = [
        Button(
            "accept", "Accept and go on", main=True, permission=may, shown=lambda run: run.phase == Run.Phase.GUARDED,
            confirm="The guard's reasons are set aside for this run. Go on?",
        ),
        Button(
            "approve", "Approve", main=True, permission=may,
            # Where the guard warns, the button is beside the tick that accepts the warning.
            shown=lambda run: run.phase == Run.Phase.PROPOSED and not warned(run),
        ),
        Button(
            "undo", "Undo this run", permission=may, shown=undoable,
            help="Shows first what would be written back, and what can't be undone.",
        ),
    ]  # fmt: skip

    @admin.display(description="Run", ordering="id")
    def number(self, run: Run) -> str:
        return f"#{run.pk}"

    @admin.display(description="Kind")
    def kind(self, run: Run) -> str:
        if run.undoes_id is not None:
            return f"Undo of run #{run.undoes_id}"
        return f"{run.get_purpose_display()}, {run.get_mode_display().lower()}"

    @admin.display(description="State", ordering="phase")
    def phase_shown(self, run: Run) -> SafeString:
        return phase_badge(run)

    @admin.display(description="Started", ordering="started_at")
    def started(self, run: Run) -> SafeString:
        return ago(run.started_at)

    @admin.display(description="Took")
    def length(self, run: Run) -> str:
        return took(run.started_at, run.finished_at)

    @admin.display(description="Summary")
    def what(self, run: Run) -> SafeString:
        return format_html('<span class="sl-wrap">{}</span>', summary(run))

    def get_urls(self) -> list[URLPattern]:
        """Ticking has an address of its own: it concerns rows, not the run."""
        view = self.admin_site.admin_view(self.tick)
        return [path("<int:run_id>/tick/", view, name="connectors_run_tick"), *super().get_urls()]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Ask whoever may approve a preview to accept the guard's warning first."""
        answer = super().change_view(request, object_id, form_url, extra_context)
        if isinstance(answer, TemplateResponse) and (answer.context_data or {}).get("warnings"):
            answer.template_name = engines["django"].from_string(WARNED_PAGE)
        return answer

    def page(self, request: HttpRequest, obj: Run) -> dict[str, Any]:
        """Counts, guard, proposals or changes, events."""
        preview = obj.purpose == Run.Purpose.PREVIEW or (obj.purpose == Run.Purpose.UNDO and obj.proposes)
        tabs, verb = self._tabs(request, obj)
        rows = RecordChange.objects.filter(run=obj)
        if verb == STAYS:
            rows = rows.filter(code=NOT_UNDONE)
        elif verb:
            rows = rows.filter(verb=verb).exclude(code=NOT_UNDONE)
        first = Case(When(code=NOT_UNDONE, then=Value(0)), default=Value(1))  # what can't be undone is told first
        ordered = (first, "id") if obj.purpose == Run.Purpose.UNDO else ("id",)
        rows = rows.select_related("link", "entity_sync").order_by(*ordered)
        shown = Paginator(rows, PER_PAGE).get_page(request.GET.get("p"))
        changes = list(shown.object_list)
        shower = Shower.of([c.entity_sync_id for c in changes], change_values(changes))
        guard = obj.guard.get("tripped", []) if obj.guard else []
        asks = warned(obj) and request.user.has_perm(self.may)
        return {
            "title": f"Run #{obj.pk}",
            "summary": summary(obj),
            "phase": phase_badge(obj),
            "rows": outcome_rows(obj)
            if obj.purpose != Run.Purpose.UNDO
            else [],  # its summary counts what it took back
            "reads": obj.counts.get("reads", {}) if obj.counts else {},
            "guard": [] if asks else guard,
            "warnings": guard if asks else [],
            "approve_url": reverse("admin:connectors_run_do", args=[obj.pk, "approve"]),
            "guard_accepted": bool(obj.guard.get("accepted")) if obj.guard else False,
            "preview": preview,
            "open_preview": obj.phase == Run.Phase.PROPOSED,
            "may_change": request.user.has_perm(self.may),
            "tabs": tabs,
            "verb": verb,
            "stays": reasons_to_stay(obj) if obj.purpose == Run.Purpose.UNDO else [],
            "undone_by": Run.objects.filter(undoes=obj).exclude(approved_at=None).order_by("id"),
            "still_held": self._still_held(obj),
            "shown": shown,
            "changes": [
                {
                    "change": c,
                    "fields": shower.differences(c),
                    "stays": c.code == NOT_UNDONE,
                    "verb": "Stays" if c.code == NOT_UNDONE else VERBS.get(c.verb, c.verb),
                    "name": name_of(c.link.base, c.after, c.link.left_staged, c.link.right_staged)
                    or f"record {c.link_id}",
                }
                for c in changes
            ],
            "events": Event.objects.filter(run=obj).order_by("-at")[:20],
            "jobs": Job.objects.filter(run=obj).order_by("-id")[:5],
            "calls": list(
                ApiCall.objects.filter(run_id=obj.pk).values("connection__name").annotate(total=Count("id")).order_by()
            ),
            "sl_live": 2 if obj.finished_at is None and obj.phase != Run.Phase.FAILED else 0,
            "took": took(obj.started_at, obj.finished_at),
            "started": ago(obj.started_at),
            "kind": self.kind(obj),
        }

    def _still_held(self, run: Run) -> int:
        """How many records an undo holds: they wait for a person."""
        if run.purpose != Run.Purpose.UNDO:
            return 0
        written = RecordChange.objects.filter(run=run, status=RecordChange.Status.WRITTEN)
        return RecordLink.objects.filter(pk__in=written.values("link"), reason=UNDONE).count()

    def _tabs(self, request: HttpRequest, run: Run) -> tuple[list[dict[str, object]], str]:
        rows = RecordChange.objects.filter(run=run).exclude(code=NOT_UNDONE)
        counted = dict(rows.values_list("verb").annotate(total=Count("id")).order_by())
        if run.purpose == Run.Purpose.UNDO and (stays := RecordChange.objects.filter(run=run, code=NOT_UNDONE).count()):
            counted = {STAYS: stays, **counted}
        asked = request.GET.get("verb", "")
        verb = asked if asked in counted else ""
        tabs = [{"verb": "", "label": "All", "count": sum(counted.values()), "on": not verb}]
        tabs += [
            {"verb": v, "label": label, "count": counted[v], "on": v == verb}
            for v, label in {STAYS: "Can't be undone", **VERBS}.items()
            if v in counted
        ]
        return tabs, verb

    def accept(self, request: HttpRequest, run: Run) -> SafeString:
        job = accept_guard(run, by=request.user)
        return format_html("Accepted; {} goes on.", link_to(job, f"job {job.pk}"))

    def approve(self, request: HttpRequest, run: Run) -> SafeString:
        accepted = request.POST.get("accept_guard") == "1"
        job, approved, bounced = approve_preview(run, by=request.user, accept_guard=accepted)
        more = f", {bounced} changed meanwhile" if bounced else ""
        return format_html("{} approved{}: {} writes them.", approved, more, link_to(job, f"job {job.pk}"))

    def undo(self, request: HttpRequest, run: Run) -> SafeString:
        job = request_undo(run, by=request.user)
        return format_html(
            "{} works out what would be written back and what can't be undone. Nothing is written before you approve it.",
            link_to(job, f"Job {job.pk}"),
        )

    def tick(self, request: HttpRequest, run_id: int) -> HttpResponse:
        """Untick or tick rows of a preview, then come back to the same tab and page."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not request.user.has_perm(self.may) or not self.has_view_permission(request):
            raise PermissionDenied
        run = Run.objects.filter(pk=run_id).first()
        if run is None:
            raise Http404
        ids = [int(text) for text in request.POST.getlist("change") if text.isdigit()]
        drop = request.POST.get("decision") != "tick"
        if run.phase != Run.Phase.PROPOSED:
            self.message_user(request, "This preview does not wait for approval any more.", messages.ERROR)
        elif not ids:
            self.message_user(request, "Choose rows first.", messages.WARNING)
        else:
            count = decide_proposals(run, ids, drop=drop, by=request.user)
            self.log_change(request, run, f"{'Left out' if drop else 'Taken in again'}: {count} proposals.")
            self.message_user(request, f"{count} {'left out' if drop else 'taken in again'}.", messages.SUCCESS)
        kept = urlencode({k: request.POST[k] for k in ("verb", "p") if request.POST.get(k)})
        return redirect(reverse("admin:connectors_run_change", args=[run_id]) + (f"?{kept}" if kept else ""))

    def get_queryset(self, request: HttpRequest) -> QuerySet[Run]:
        """Progress is the engine's own and may be long."""
        return super().get_queryset(request).defer("progress")


def requested(job: Job, what: str) -> SafeString:
    """Return the sentence that answers a request, with a link to the job."""
    later = " It runs after the present one." if job.again and job.started_at else ""
    return format_html("{}: {}.{}", what, link_to(job, f"job {job.pk}"), later)
