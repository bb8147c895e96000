"""What did each run do, what does a preview propose, and what stopped a run?"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Count, OuterRef, Q, QuerySet, Subquery
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, JsonResponse, QueryDict
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin

from config import audit
from connectors.admin.base import Button, Page, ReadOnly, ago, badge, is_id, link_to, took
from connectors.admin.differences import side_names
from connectors.admin.previews import KINDS, approval_of, list_of, progress_of
from connectors.models import ApiCall, Event, RecordChange, RecordLink, Run
from connectors.sync import proposals
from connectors.sync.run import describe
from connectors.sync.undo import NOT_UNDONE, check_undoable
from connectors.sync.undone import UNDONE
from jobs import clock
from jobs.models import Job
from jobs.states import StatusReason
from jobs.syncing import NotNow, accept_guard, approve_preview, decide_preview, decide_whole_preview, request_undo

OUTCOMES = ("agreed", "waiting", "skipped", "conflict", "parked")
MOST_REASONS = 20
VERBS = KINDS


def with_retries(runs: QuerySet[Run]) -> QuerySet[Run]:
    """Read along when each run is tried again, where its last try failed and its job waits."""
    waits = Job.objects.filter(run=OuterRef("pk"), status_reason=StatusReason.RETRY).order_by("run_at")
    return runs.annotate(again_at=Subquery(waits.values("run_at")[:1]))


def phase_badge(run: Run) -> SafeString:
    """Return the phase's badge; a run that left problems is never just green, one that waits for its next try says so."""
    word = run.get_phase_display()
    again_at = getattr(run, "again_at", None)
    if again_at is not None and run.finished_at is None:
        why = f"The last try failed ({word.lower()}). What is done stays done; it goes on from there."
        return format_html("{} {}", badge("Waiting to try again", why, "warn"), ago(again_at))
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


@admin.register(Run)
class RunAdmin(ReadOnly, Page, ModelAdmin):
    """Every run, newest first."""

    page_template = "syncline/run.html"
    list_display = ["number", "integration", "kind", "phase_shown", "started", "length", "what"]
    list_display_links = ["number"]
    sortable_by = ["number"]  # by the others no index sorts the runs of years
    list_filter = ["integration", "phase", "purpose", "mode"]
    list_select_related = ["integration"]
    actions: list[str] = []
    may = "connectors.change_run"
    buttons = [
        Button(
            "accept", "Accept and go on", main=True, permission=may, shown=lambda run: run.phase == Run.Phase.GUARDED,
            confirm="The guard's reasons are set aside for this run. Go on?",
        ),
        # Its form is on the page: it carries along what the person has seen, and a tick where the guard warns.
        Button("approve", "Approve", main=True, permission=may, shown=lambda run: False),
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

    def page(self, request: HttpRequest, obj: Run) -> dict[str, Any]:
        """Counts, guard, proposals or changes, events."""
        preview = obj.purpose in (Run.Purpose.PREVIEW, Run.Purpose.CHECK) or (
            obj.purpose == Run.Purpose.UNDO and obj.proposes
        )
        is_open = obj.phase == Run.Phase.PROPOSED
        may_change = request.user.has_perm(self.may)
        jobs = list(Job.objects.filter(run=obj).order_by("-id")[:5])
        guard = obj.guard.get("tripped", []) if obj.guard else []
        asks = is_open and may_change
        going_on = obj.approved_at is not None and obj.finished_at is None  # what is counted is still the preview
        return {
            "title": f"Run #{obj.pk}",
            "summary": summary(obj),
            "phase": phase_badge(obj),
            # The summary of an undo counts what it took back.
            "rows": outcome_rows(obj) if obj.purpose != Run.Purpose.UNDO and not is_open and not going_on else [],
            "guard": [] if asks else guard,
            "guard_accepted": bool(obj.guard.get("accepted")) if obj.guard else False,
            "preview": preview,
            "open_preview": is_open,
            "may_change": may_change,
            "stays": reasons_to_stay(obj) if obj.purpose == Run.Purpose.UNDO else [],
            "undone_by": Run.objects.filter(undoes=obj).exclude(approved_at=None).order_by("id"),
            "still_held": self._still_held(obj),
            "events": Event.objects.filter(run=obj).order_by("-at")[:20],
            "jobs": jobs,
            "progress": progress_of(obj, jobs),
            "calls": list(
                ApiCall.objects.filter(run_id=obj.pk).values("connection__name").annotate(total=Count("id")).order_by()
            ),
            "sl_live": 2 if obj.finished_at is None and obj.phase != Run.Phase.FAILED else 0,
            "took": took(obj.started_at, obj.finished_at),
            "started": ago(obj.started_at),
            "kind": self.kind(obj),
            **self.approval(request, obj),
            **list_of(request, obj),
            "names": side_names(obj.integration),
        }

    def approval(self, request: HttpRequest, run: Run) -> dict[str, Any]:
        """Return what the part of the page needs that is fetched anew after each tick."""
        return {
            "original": run,
            "approval": approval_of(run, clock.now()) if run.phase == Run.Phase.PROPOSED else None,
            "approve_url": reverse("admin:connectors_run_do", args=[run.pk, "approve"]),
            "tick_url": reverse("admin:connectors_run_tick", args=[run.pk]),
            "may_change": request.user.has_perm(self.may),
        }

    def _still_held(self, run: Run) -> int:
        """How many records an undo holds: they wait for a person."""
        if run.purpose != Run.Purpose.UNDO:
            return 0
        written = RecordChange.objects.filter(run=run, status=RecordChange.Status.WRITTEN)
        return RecordLink.objects.filter(pk__in=written.values("link"), reason=UNDONE).count()

    def accept(self, request: HttpRequest, run: Run) -> SafeString:
        job = accept_guard(run, by=request.user)
        return format_html("Accepted; {} goes on.", link_to(job, f"job {job.pk}"))

    def approve(self, request: HttpRequest, run: Run) -> SafeString:
        accepted = request.POST.get("accept_guard") == "1"
        job, approved, bounced = approve_preview(
            run, by=request.user, accept_guard=accepted, seen=request.POST.get("seen") or None
        )
        more = f", {bounced} changed meanwhile" if bounced else ""
        return format_html("{} approved{}: {} writes them.", approved, more, link_to(job, f"job {job.pk}"))

    def undo(self, request: HttpRequest, run: Run) -> SafeString:
        job = request_undo(run, by=request.user)
        return format_html(
            "{} works out what would be written back and what can't be undone. Nothing is written before you approve it.",
            link_to(job, f"Job {job.pk}"),
        )

    def tick(self, request: HttpRequest, run_id: int) -> HttpResponse:
        """Tick or untick proposals, then come back to the same tab and page; a script is answered with what changed."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not request.user.has_perm(self.may) or not self.has_view_permission(request):
            raise PermissionDenied
        run = Run.objects.select_related("integration__left", "integration__right").filter(pk=run_id).first()
        if run is None:
            raise Http404
        by_script = request.headers.get("X-Requested-With") == "XMLHttpRequest"
        before = audit.values_of(run)
        try:
            changed, what = ticked(request, run)
        except (NotNow, proposals.WrongChoice) as refusal:
            if by_script:
                return JsonResponse({"message": str(refusal)}, status=409)
            self.message_user(request, str(refusal), messages.ERROR)
        else:
            if changed:
                which = ", ".join(request.POST.getlist("change")[:5]) if not request.POST.get("all") else "a whole tab"
                audit.log_action(
                    request.user, run, f"{what}: {changed} proposals ({which}).", before, audit.stored(run)
                )
            if by_script:
                return TemplateResponse(request, "syncline/_approve.html", self.approval(request, run))
            word = f"{changed} {what[0].lower()}{what[1:]}." if changed else "Nothing changed: choose rows first."
            self.message_user(request, word, messages.SUCCESS if changed else messages.WARNING)
        kept = urlencode({k: request.POST[k] for k in ("verb", "side", "p") if request.POST.get(k)})
        return redirect(reverse("admin:connectors_run_change", args=[run_id]) + (f"?{kept}" if kept else ""))

    def get_queryset(self, request: HttpRequest) -> QuerySet[Run]:
        """With when those are tried again whose last try failed; progress is the engine's own and may be long."""
        rows = with_retries(super().get_queryset(request)).select_related("integration__left", "integration__right")
        return rows.defer("progress")


def ticked(request: HttpRequest, run: Run) -> tuple[int, str]:
    """Carry out what a person ticked: a whole tab, all boxes of a page as they stand, or single ones.

    Returns (how many proposals that changed, what was done).  Raises NotNow and WrongChoice.
    """
    told = request.POST
    seen, on = told.get("seen") or None, told.get("decision") == "tick"
    word = "Ticked" if on else "Left out"
    if told.get("all"):
        confirmed = told.get("confirmed", "")
        changed = decide_whole_preview(
            run, tick=told["all"] == "tick", kind=told.get("verb", ""), side=told.get("side", ""), by=request.user, seen=seen,
            confirmed=int(confirmed) if is_id(confirmed) else None,
        )  # fmt: skip
        return changed, "Ticked" if told["all"] == "tick" else "Left out"
    if told.getlist("shown"):
        ticks, fields = _boxes(told)
        return decide_preview(run, ticks, fields, by=request.user, seen=seen), "Decided"
    ids = [int(text) for text in told.getlist("change") if is_id(text)]
    if field := told.get("field", ""):
        changed = decide_preview(run, {}, {pk: {field: on} for pk in ids}, by=request.user, seen=seen)
        return changed, f"{word} a field of"
    return decide_preview(run, dict.fromkeys(ids, on), by=request.user, seen=seen), word


def _boxes(told: QueryDict) -> tuple[dict[int, bool], dict[int, dict[str, bool]]]:
    """Return how the boxes of a page stand: by proposal, and by proposal and field where the record is ticked."""
    on = set(told.getlist("change"))
    ticks = {int(pk): pk in on for pk in told.getlist("shown") if is_id(pk)}
    chosen = set(told.getlist("field"))
    fields: dict[int, dict[str, bool]] = {}
    for text in told.getlist("shown_field"):
        pk, _, name = text.partition(" ")
        if is_id(pk) and ticks.get(int(pk)):
            fields.setdefault(int(pk), {})[name] = text in chosen
    return ticks, fields


def requested(job: Job, what: str) -> SafeString:
    """Return the sentence that answers a request, with a link to the job."""
    return format_html("{}: {}.{}", what, link_to(job, f"job {job.pk}"), _when(job))


def _when(job: Job) -> SafeString | str:
    """Say what a job that was there already does about the request, "" where it simply runs."""
    if job.status is StatusReason.RETRY:
        if job.run_at <= clock.now():
            return " It had failed and was waiting for its next try: it is tried now."
        asked = " It had failed, and the other system asked not to be called again at once: it is tried {}."
        return format_html(asked, ago(job.run_at))
    return " It runs after the present one." if job.again and job.started_at else ""
