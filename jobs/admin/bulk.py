"""How does a person do one thing to many jobs?  A page says first to how many, and why not to the others."""

from __future__ import annotations

from functools import partial
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.options import IncorrectLookupParameters
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from unfold.widgets import UnfoldAdminTextInputWidget

from config import audit
from jobs import bulk
from jobs.admin import show
from jobs.models import Job

MOST_TOLD = 10  # refusals that are told one by one
MOST_LINKED = 200  # jobs that one address can name


def tried_at_once(verb: bulk.Verb) -> str:
    """Return the name of the page on which a verb is confirmed."""
    return f"admin:jobs_job_bulk_{verb.name.replace('-', '_')}"


class BulkForm(forms.Form):
    """What is confirmed, and why."""

    expected = forms.IntegerField(min_value=0, widget=forms.HiddenInput)
    reason = forms.CharField(
        label="Why", max_length=500, required=False, widget=UnfoldAdminTextInputWidget(),
        help_text="Stands in the timeline of each job.",
    )  # fmt: skip


class MomentForm(BulkForm):
    """What is confirmed, and to which moment."""

    field_order = ["expected", "run_at", "reason"]
    run_at = forms.DateTimeField(label="New moment", widget=UnfoldAdminTextInputWidget({"type": "datetime-local"}))

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["run_at"].help_text = f"In your time zone, {timezone.get_current_timezone_name()}."


class BulkPages(admin.ModelAdmin):
    """The actions of the list, and the page on which each is confirmed."""

    def get_urls(self) -> list[URLPattern]:
        """One page for each verb; the address says which jobs are meant, as that of the list does."""
        view = self.admin_site.admin_view
        pages = [
            path(
                f"bulk/{verb.name}/", view(partial(self.confirm, verb=verb)), name=tried_at_once(verb).partition(":")[2]
            )
            for verb in bulk.VERBS.values()
        ]
        return [*pages, *super().get_urls()]

    def has_retry_permission(self, request: HttpRequest) -> bool:
        """Retry, run now, reschedule."""
        return bool(request.user.has_perm(bulk.RETRY.permission))

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        """Cancel."""
        return bool(request.user.has_perm(bulk.CANCEL.permission))

    @admin.action(description="Retry…", permissions=["retry"])
    def retry_ticked(self, request: HttpRequest, queryset: QuerySet[Job]) -> HttpResponse:
        return _to_confirm(request, bulk.RETRY)

    @admin.action(description="Cancel…", permissions=["cancel"])
    def cancel_ticked(self, request: HttpRequest, queryset: QuerySet[Job]) -> HttpResponse:
        return _to_confirm(request, bulk.CANCEL)

    @admin.action(description="Run now…", permissions=["retry"])
    def run_now_ticked(self, request: HttpRequest, queryset: QuerySet[Job]) -> HttpResponse:
        return _to_confirm(request, bulk.RUN_NOW)

    @admin.action(description="Reschedule…", permissions=["retry"])
    def reschedule_ticked(self, request: HttpRequest, queryset: QuerySet[Job]) -> HttpResponse:
        return _to_confirm(request, bulk.RESCHEDULE)

    def confirm(self, request: HttpRequest, verb: bulk.Verb) -> HttpResponse:
        """Say what would happen; on POST do it, if it still holds."""
        if not (self.has_view_permission(request) and request.user.has_perm(verb.permission)):
            raise PermissionDenied
        try:
            cl = self.get_changelist_instance(request)
        except IncorrectLookupParameters:
            messages.error(request, "That filter can't be read. Choose the jobs anew.")
            return redirect("admin:jobs_job_changelist")
        rows = cl.get_queryset(request)
        kind = MomentForm if verb is bulk.RESCHEDULE else BulkForm
        if request.method != "POST":
            return self._shown(request, verb, cl, bulk.look(verb, rows), kind)
        form = kind(request.POST)
        if not form.is_valid():
            return self._shown(request, verb, cl, bulk.look(verb, rows), kind, form)
        given = form.cleaned_data
        asked = bulk.Asked(request.user, given["reason"], given.get("run_at"))
        try:
            outcome = bulk.perform(verb, rows, given["expected"], asked)
        except bulk.Changed as changed:
            return self._shown(request, verb, cl, changed.outlook, kind, form, changed=str(changed))
        except ValidationError as wrong:
            for name, sentences in wrong.message_dict.items():
                form.add_error(name if name in form.fields else None, sentences)
            return self._shown(request, verb, cl, bulk.look(verb, rows), kind, form)
        return self._done(request, verb, cl, outcome, given["reason"])

    def _shown(
        self, request: HttpRequest, verb: bulk.Verb, cl: Any, outlook: bulk.Outlook, kind: type[BulkForm],
        form: BulkForm | None = None, *, changed: str = "",
    ) -> HttpResponse:  # fmt: skip
        if form is None:
            form = kind(initial={"expected": outlook.eligible})
        else:  # what was typed stays; what is confirmed is what is shown now
            form.data = {**{name: form.data[name] for name in form.data}, "expected": str(outlook.eligible)}
        context = {
            **self.admin_site.each_context(request), "title": f"{verb.label}: which jobs", "opts": self.opts, "verb": verb,
            "original": f"{verb.label}: which jobs",
            "outlook": outlook, "form": form, "changed": changed, "most": bulk.MOST,
            "meant": words_of(cl), "back": f"{reverse('admin:jobs_job_changelist')}?{request.GET.urlencode()}",
            "rows": [{"job": job, "about": show.about(job), "status": show.status(job, None)} for job in outlook.first],
        }  # fmt: skip
        request.current_app = self.admin_site.name
        return TemplateResponse(request, "jobs/bulk.html", context)

    def _done(self, request: HttpRequest, verb: bulk.Verb, cl: Any, outcome: bulk.Outcome, reason: str) -> HttpResponse:
        if outcome.done:
            told = f"{verb.done.capitalize()} together ({words_of(cl)})"
            audit.log_together(request.user, Job, f"{told}: {reason}." if reason else f"{told}.", outcome.done)
            count = len(outcome.done)
            messages.success(request, f"{count:,} job{'s'[: count != 1]} {verb.done}.")
        for pk, why in outcome.refused[:MOST_TOLD]:
            messages.warning(request, f"Job {pk} was left as it is: {why}.")
        if len(outcome.refused) > MOST_TOLD:
            messages.warning(request, f"And {len(outcome.refused) - MOST_TOLD:,} more were left as they are.")
        page = reverse("admin:jobs_job_changelist")
        if 0 < len(outcome.done) <= MOST_LINKED:
            return redirect(f"{page}?id__in={','.join(map(str, outcome.done))}")
        return redirect(page)


def _to_confirm(request: HttpRequest, verb: bulk.Verb) -> HttpResponseRedirect:
    """Lead to the page of the ticked rows, or of all that match."""
    page = reverse(tried_at_once(verb))
    if request.POST.get("select_across") == "1":
        kept = request.GET.copy()
        kept.pop("p", None)
        return HttpResponseRedirect(f"{page}?{kept.urlencode()}")
    ticked = [pk for pk in request.POST.getlist("_selected_action") if pk.isdecimal() and len(pk) < 19]
    return HttpResponseRedirect(f"{page}?id__in={','.join(ticked)}")


def words_of(cl: Any) -> str:
    """Return in words which jobs a list shows."""
    parts: list[str] = []
    for spec in cl.filter_specs:
        chosen = [str(one["display"]) for one in list(spec.choices(cl))[1:] if one["selected"]]
        if chosen:
            parts.append(f"{spec.title}: {', '.join(chosen)}")
    params = cl.get_filters_params()
    if ids := params.get("id__in"):
        count = len(_last(ids).split(","))
        parts.append("1 chosen job" if count == 1 else f"{count:,} chosen jobs")
    if cl.query:
        parts.append(f"search: {cl.query}")
    return "; ".join(parts) or "all jobs"


def _last(value: object) -> str:
    return str(value[-1]) if isinstance(value, list) else str(value)
