"""One job: how it stands, what it was given, what came of it, its tries, its calls, its timeline, and what it belongs to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import redirect
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.widgets import UnfoldAdminTextInputWidget

from config import audit
from config.stale import Stale
from connectors.admin.base import Button, Page, badge, took
from connectors.admin.lists import CappedPaginator
from connectors.models import ApiCall, ProblemGroup
from jobs import clock, operate, standing, tries
from jobs.admin import show
from jobs.handlers import UnknownType
from jobs.models import Job
from jobs.states import FINISHED, OPEN, READY, IllegalTransition, StatusReason

S = StatusReason
RETRY, CANCEL = "jobs.retry_job", "jobs.cancel_job"
PER_PAGE = 50
TABS = {
    "parameters": "Parameters", "results": "Results", "attempts": "Attempts", "calls": "API calls", "timeline": "Timeline",
}  # fmt: skip


class MomentForm(forms.Form):
    """When a job is due instead."""

    run_at = forms.DateTimeField(label="New moment", widget=UnfoldAdminTextInputWidget({"type": "datetime-local"}))
    reason = forms.CharField(label="Why", max_length=500, required=False, widget=UnfoldAdminTextInputWidget())

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"auto_id": "id_moment_%s", **kwargs})
        self.fields["run_at"].help_text = f"In your time zone, {timezone.get_current_timezone_name()}."


class NoteForm(forms.Form):
    """Why a job is set aside."""

    note = forms.CharField(
        label="Note", max_length=500, widget=UnfoldAdminTextInputWidget(),
        help_text="For whoever finds it later: what it was, and who looks after it.",
    )  # fmt: skip

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"auto_id": "id_note_%s", **kwargs})


def movable(job: Job) -> bool:
    """Whether it waits for a moment."""
    return job.status in READY


def can_be_set_aside(job: Job) -> bool:
    """Whether it failed, or is about to be tried again."""
    return job.status is S.RETRY or (job.status is S.FAILED and job.aside_at is None)


class JobPage(Page):
    """The page of one job."""

    page_template = "jobs/job.html"
    buttons = [
        Button(
            "retry", "Retry", main=True, permission=RETRY, shown=lambda job: job.status in (S.FAILED, S.CANCELLED),
            help="Begins anew: attempts from nothing.",
        ),
        Button(
            "run_now", "Run now", main=True, permission=RETRY, shown=movable,
            help="Brings it forward, but not before the moment for which the other system asked.",
        ),
        Button(
            "cancel", "Cancel", permission=CANCEL, shown=lambda job: job.status in OPEN and not job.cancel_requested,
            help="What waits is cancelled at once, what runs stops at its next safe point.",
        ),
        Button(
            "run_again", "Run again", permission=RETRY, shown=lambda job: job.status in FINISHED,
            help="Makes a new job with the same parameters.",
        ),
        Button(
            "take_up", "Take up again", permission=RETRY, shown=lambda job: job.aside_at is not None,
            help="It counts as a problem again, and may be retried with others.",
        ),
    ]  # fmt: skip

    def get_urls(self) -> list[URLPattern]:
        """What has a field has an address of its own: what is wrong is said there."""
        view = self.admin_site.admin_view
        return [
            path("<int:object_id>/reschedule/", view(self.reschedule), name="jobs_job_reschedule"),
            path("<int:object_id>/aside/", view(self.set_aside), name="jobs_job_aside"),
            *super().get_urls(),
        ]

    # What is shown

    def page(self, request: HttpRequest, obj: Job) -> dict[str, Any]:
        """Everything of the chosen tab."""
        job = (
            Job.objects.select_related("created_by", "run", "scope__integration", "parent", "repeat_of")
            .filter(pk=obj.pk)
            .first()
        ) or obj
        now = clock.now()
        asked = request.GET.get("tab", "")
        tab = asked if asked in TABS else "results" if job.error_message else "parameters"
        note = standing.notes([job], now).get(job.pk)
        made = job.transitions.order_by("id").first()
        return {
            "title": f"Job {job.pk}: {job.type}",
            "job": job,
            "status": badge(job.get_status_reason_display(), (note.why if note else "") or job.error_message),
            "note": note,
            "bar": show.bar(job),
            "about": show.about(job),
            "asked_by": (made.by if made else "") or show.person(job),
            "tries": show.tries(job),
            "took": took(job.started_at, job.finished_at),
            "ran": f"{job.ran_ms / 1000:.1f} s" if job.ran_ms else "",
            "waited": f"{job.wait_ms / 1000:.1f} s" if job.wait_ms is not None else "–",
            "problem": self._problem(request, job),
            "tab": tab,
            "tabs": [{"name": name, "label": label, "on": name == tab} for name, label in TABS.items()],
            "chain": chain_lines(job),
            "reschedule": self._moment(request, job),
            "aside": NoteForm() if can_be_set_aside(job) and request.user.has_perm(RETRY) else None,
            "sl_live": 2 if job.is_running else 10 if job.is_open else 0,
            **getattr(self, f"_{tab}")(request, job),
        }

    def _moment(self, request: HttpRequest, job: Job) -> MomentForm | None:
        if not (movable(job) and request.user.has_perm(RETRY)):
            return None
        return MomentForm(initial={"run_at": f"{timezone.localtime(job.run_at):%Y-%m-%dT%H:%M}"})

    def _problem(self, request: HttpRequest, job: Job) -> str:
        """Where the cause is dealt with."""
        if (
            job.status is not S.FAILED
            or not job.fingerprint
            or not request.user.has_perm("connectors.view_problemgroup")
        ):
            return ""
        group = ProblemGroup.objects.filter(key=f"job.{job.scope_id or 0}.{job.fingerprint}").first()
        return reverse("admin:connectors_problemgroup_change", args=[group.pk]) if group is not None else ""

    def _parameters(self, request: HttpRequest, job: Job) -> dict[str, Any]:
        return {"pairs": show.pairs(job.params)}

    def _results(self, request: HttpRequest, job: Job) -> dict[str, Any]:
        results = dict(job.results) if isinstance(job.results, dict) else {}
        trace = str(results.pop("traceback", ""))
        return {"pairs": show.pairs(results), "trace": trace}

    def _attempts(self, request: HttpRequest, job: Job) -> dict[str, Any]:
        found = tries.of_job(job)
        rows = [{"try": one, "took": took(one.started, one.ended), "badge": _outcome(one)} for one in found]
        return {"attempts": list(reversed(rows))[:PER_PAGE], "more_attempts": max(0, len(rows) - PER_PAGE)}

    def _calls(self, request: HttpRequest, job: Job) -> dict[str, Any]:
        if not request.user.has_perm("connectors.view_apicall"):
            return {"calls_hidden": True}
        calls = ApiCall.objects.filter(job_id=job.pk).select_related("connection").order_by("-id")
        shown = CappedPaginator(calls, PER_PAGE).get_page(request.GET.get("p"))
        return {"shown": shown, "calls": [{"call": call, "badge": _answer(call)} for call in shown.object_list]}

    def _timeline(self, request: HttpRequest, job: Job) -> dict[str, Any]:
        shown = Paginator(job.transitions.order_by("-id"), PER_PAGE).get_page(request.GET.get("p"))
        return {"shown": shown, "steps": list(shown.object_list)}

    # Buttons

    def retry(self, request: HttpRequest, job: Job) -> str:
        with _known_type():
            operate.retry(job, by=request.user)
        return "It begins anew."

    def run_now(self, request: HttpRequest, job: Job) -> str:
        operate.run_now(job, by=request.user)
        if job.not_before is not None and job.run_at == job.not_before:
            return "It runs as soon as the other system lets it."
        return "It is due now."

    def cancel(self, request: HttpRequest, job: Job) -> str:
        done = operate.cancel(job, by=request.user, reason="cancelled on its page")
        return "Cancelled." if done else "It stops at its next safe point."

    def run_again(self, request: HttpRequest, job: Job) -> SafeString:
        with _known_type():
            again = operate.run_again(job, by=request.user)
        page = reverse("admin:jobs_job_change", args=[again.pk])
        return format_html('It runs again as <a class="sl-link" href="{}">job {}</a>.', page, again.pk)

    def take_up(self, request: HttpRequest, job: Job) -> str:
        operate.take_up(job, by=request.user)
        return "No longer set aside."

    # Forms

    def reschedule(self, request: HttpRequest, object_id: int) -> HttpResponse:
        """Choose another moment."""

        def act(job: Job, given: dict[str, Any]) -> str:
            at: datetime = given["run_at"]
            operate.reschedule(job, at, by=request.user, reason=given["reason"])
            return f"It is due at {timezone.localtime(at):%Y-%m-%d %H:%M %Z}."

        return self._posted(request, object_id, "reschedule", MomentForm, act)

    def set_aside(self, request: HttpRequest, object_id: int) -> HttpResponse:
        """Stop trying, but keep it."""

        def act(job: Job, given: dict[str, Any]) -> str:
            operate.set_aside(job, by=request.user, note=given["note"])
            return "Set aside: it is kept, and no longer counts as a problem."

        return self._posted(request, object_id, "aside", NoteForm, act)

    def _posted(
        self, request: HttpRequest, object_id: int, name: str, kind: type[forms.Form], act: Any
    ) -> HttpResponse:
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not (self.has_view_permission(request) and request.user.has_perm(RETRY)):
            raise PermissionDenied
        job = self.get_object(request, str(object_id))
        if job is None:
            raise Http404
        form = kind(request.POST)
        if form.is_valid():
            try:
                self.refuse_stale(request, job)
                with audit.acting(request.user, job, f"{name.capitalize()}."):
                    answer = act(job, form.cleaned_data)
            except ValidationError as wrong:
                for field, sentences in wrong.message_dict.items():
                    form.add_error(field, sentences)
            except (Stale, IllegalTransition) as refusal:
                self.message_user(request, str(refusal), messages.ERROR)
                return self.show(request, job, {name: form, f"{name}_open": True})
            else:
                self.message_user(request, answer, messages.SUCCESS)
                return redirect("admin:jobs_job_change", object_id)
        return self.show(request, job, {name: form, f"{name}_open": True})


@contextmanager
def _known_type() -> Iterator[None]:
    """A job of a type that there is no more (of a connector that was taken out, say) is refused, as the API does."""
    try:
        yield
    except UnknownType as refusal:
        raise IllegalTransition(str(refusal)) from refusal


def chain_lines(job: Job) -> list[dict[str, object]]:
    """Return the tree of jobs that belong together, a line for each, with how deep it stands."""
    top = tries.chain(job)
    if top is None:
        return []
    lines: list[dict[str, object]] = []

    def put(node: tries.Node, depth: int) -> None:
        status = badge(node.job.get_status_reason_display(), node.job.error_message)
        lines.append({"job": node.job, "how": node.how, "here": node.here, "depth": min(depth, 6), "status": status})
        for below in node.below:
            put(below, depth + 1)

    put(top, 0)
    return lines


def _outcome(one: tries.Try) -> SafeString:
    tone = {"succeeded": "good", "failed": "bad", "running": "busy", "failed, tried again": "warn"}.get(
        one.outcome, "calm"
    )
    return badge(one.outcome.capitalize(), one.reason, tone)


def _answer(call: ApiCall) -> SafeString:
    if not call.status:
        return badge("No answer", call.code, "bad")
    return badge(str(call.status), call.code, "good" if call.status < 400 else "bad")
