"""When does each service run, and what may a person do with it?  The list of all services, and a page for each integration."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, JsonResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin

from config import audit
from connectors.admin.base import ReadOnly, ago, badge, link_to
from connectors.models import Integration
from connectors.transport import redaction
from jobs import clock
from scheduling import provisioning, services
from scheduling.admin.page import ACTIONS, fragment, may_change, may_run, page, runs_told
from scheduling.admin.provisionings import MAY_DECIDE
from scheduling.admin_preflight import preflight_view
from scheduling.forms import PauseForm, TimesForm
from scheduling.models import Service
from scheduling.refusals import Refused
from scheduling.standing import Outlook, Standing, outlook, paused_from, shown, standings

LONGEST_REASON = 500  # as the column is, and as the API says


@admin.register(Service)
class ServiceAdmin(ReadOnly, ModelAdmin):
    """Services of all integrations; what is done with them is done on the integration's page."""

    ordering: Any = ["integration__name", "position", "id"]
    list_filter = ["integration", "enabled", "work"]
    search_fields = ["name", "integration__name"]
    list_display_links = None

    # The list.  How its services stand is looked up at once.

    def get_queryset(self, request: HttpRequest) -> QuerySet[Service]:
        """Read along what the columns show."""
        return shown(super().get_queryset(request))

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """Look up how the services of this page of the list stand."""
        found = super().get_changelist_instance(request)
        rows = list(found.result_list)
        found.result_list = rows
        request.sl_standings = {s.service.pk: s for s in standings(rows, clock.now())}  # type: ignore[attr-defined]
        return found

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        """The columns close over this request's look, so that threads share nothing."""

        def standing(service: Service) -> Standing:
            found: Standing = request.sl_standings[service.pk]  # type: ignore[attr-defined]
            return found

        @admin.display(description="Service", ordering="name")
        def name(service: Service) -> SafeString:
            where = reverse("admin:scheduling_integration", args=[service.integration_id])
            return format_html('<a class="sl-link" href="{}#service-{}">{}</a>', where, service.pk, service)

        @admin.display(description="State")
        def state(service: Service) -> SafeString:
            told = standing(service).state
            return badge(told.word, told.reason, told.tone)

        @admin.display(description="Times")
        def times(service: Service) -> SafeString:
            looked = outlook(standing(service).schedule, service.recommended_minutes, clock.now(), 0)
            return format_html('<span class="sl-wrap">{}</span>', looked.sentence or " ".join(looked.errors))

        @admin.display(description="Next run", ordering="next_run_at")
        def next_run(service: Service) -> SafeString | str:
            return ago(service.next_run_at) if service.next_run_at else "–"

        @admin.display(description="Last run", ordering="last_run_at")
        def last_run(service: Service) -> SafeString | str:
            job = standing(service).job
            if job is None:
                return "–"
            word = badge(job.get_status_reason_display(), job.error_message)
            return format_html("{} {} {}", word, ago(job.created_at), link_to(job, f"job {job.pk}"))

        return [name, "integration", state, times, next_run, last_run]

    # Addresses

    def get_urls(self) -> list[URLPattern]:
        """They come before the catch-all of Django's own."""
        view = self.admin_site.admin_view
        return [
            path("schedules/<int:integration_id>/", view(self.page), name="scheduling_integration"),
            path("schedules/<int:integration_id>/<slug:action>/", view(self.provision), name="scheduling_provision"),
            path("integrations/<int:integration_id>/preflight/", view(preflight_view), name="scheduling_preflight"),
            path("<int:service_id>/do/<slug:action>/", view(self.do), name="scheduling_do"),
            path("<int:service_id>/preview/", view(self.preview), name="scheduling_preview"),
            *super().get_urls(),
        ]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """A service is edited beside the others of its integration."""
        service = self.get_object(request, object_id)
        if service is None:
            return redirect("admin:scheduling_service_changelist")
        return _back(service.integration_id, service.pk)

    # The page of an integration

    def page(self, request: HttpRequest, integration_id: int) -> HttpResponse:
        """Show the services of an integration; a POST saves their times."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        integration = get_object_or_404(Integration, pk=integration_id)
        forms: dict[int, TimesForm] = {}
        if request.method == "POST":
            if not may_change(request):
                raise PermissionDenied
            rows = integration.services.select_related("integration").prefetch_related("windows")
            forms = {service.pk: TimesForm(service, request.POST) for service in rows}
            if self._save(request, integration, forms):
                return _back(integration.pk)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            **page(request, integration, {pk: form for pk, form in forms.items() if form.changed}),
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(request, "scheduling/services.html", context)

    def _save(self, request: HttpRequest, integration: Integration, forms: dict[int, TimesForm]) -> bool:
        """Save what was changed, all of it or nothing."""
        changed = [form for form in forms.values() if form.changed]
        problems = [f"{form.service}: {problem}" for form in changed for problem in form.problems()]
        try:
            if problems:
                raise Refused(problems)
            warnings, asked = services.change_all([form.times() for form in changed], by=request.user)
            asked = asked or provisioning.ask_at_first_save(integration, by=request.user)
        except Refused as refused:
            for problem in ["Nothing was saved.", *refused.problems]:
                self.message_user(request, problem, messages.ERROR)
            return False
        names = ", ".join(form.service.name for form in changed)
        if changed:
            self.message_user(request, f"Saved: {names}.", messages.SUCCESS)
        for form in changed:
            self.log_change(request, form.service, "Times changed.")
            for warning in warnings[form.service.pk]:
                self.message_user(request, f"{form.service}: {warning}", messages.WARNING)
        self._tell_request(request, integration, asked=asked, idle=not changed)
        return True

    def _tell_request(self, request: HttpRequest, integration: Integration, *, asked: bool, idle: bool) -> None:
        row = integration.provisionings.first()
        if asked and row is not None:
            self.message_user(request, provisioning.placed(row), messages.SUCCESS)
        elif idle:
            self.message_user(request, "There was nothing to save: no times were changed.", messages.INFO)

    def provision(self, request: HttpRequest, integration_id: int, action: str) -> HttpResponse:
        """Ask for provisioning, approve or decline it."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        allowed = {"ask": may_change(request)}
        allowed |= dict.fromkeys(("approve", "decline"), request.user.has_perm(MAY_DECIDE))
        if action not in allowed:
            raise Http404
        if not allowed[action] or not self.has_view_permission(request):
            raise PermissionDenied
        integration = get_object_or_404(Integration, pk=integration_id)
        try:
            self.message_user(request, _provision(request, integration, action), messages.SUCCESS)
        except Refused as refused:
            for problem in refused.problems:
                self.message_user(request, problem, messages.ERROR)
        return _back(integration.pk)

    # One service

    def do(self, request: HttpRequest, service_id: int, action: str) -> HttpResponse:
        """Start, stop, run, pause, resume, or copy to others."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if action not in ACTIONS:
            raise Http404
        may = may_change(request) if action == "copy" else may_run(request)
        if not may or not self.has_view_permission(request):
            raise PermissionDenied
        service = get_object_or_404(Service.objects.select_related("integration"), pk=service_id)
        try:
            with audit.acting(request.user, service, f"{action.capitalize()}."):
                told = _DO[action](request, service)
        except Refused as refused:
            for problem in refused.problems:
                self.message_user(request, redaction.text(problem), messages.ERROR)
        else:
            for number, text in enumerate(told):
                self.message_user(request, text, messages.WARNING if number else messages.SUCCESS)
        return _back(service.integration_id, service.pk)

    def preview(self, request: HttpRequest, service_id: int) -> HttpResponse:
        """Say what the times in the form would mean; nothing is stored."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not self.has_view_permission(request):
            raise PermissionDenied
        service = get_object_or_404(Service, pk=service_id)
        form, now = TimesForm(service, request.POST), clock.now()
        problems = form.problems()
        try:
            if problems:
                raise Refused(problems)
            looked = outlook(services.planned(form.times()), service.recommended_minutes, paused_from(service, now))
        except Refused as refused:
            looked = Outlook("", refused.problems, [], [], [])
        return JsonResponse(
            {
                "sentence": looked.sentence, "errors": looked.errors, "warnings": looked.warnings,
                "runs": runs_told(looked, now), "html": fragment(looked, service, now),
            }
        )  # fmt: skip


def _back(integration_id: int, service_id: int | None = None) -> HttpResponse:
    # Not to the service's own place on the page: the answer stands on top.
    return redirect("admin:scheduling_integration", integration_id)


def _provision(request: HttpRequest, integration: Integration, action: str) -> str:
    if action == "ask":
        return provisioning.placed(provisioning.ask(integration, by=request.user))
    number = request.POST.get("request", "")
    row = integration.provisionings.filter(pk=int(number)).first() if number.isdecimal() else None
    if row is None:
        raise Refused(["This request is gone. Look at the page again."])
    if action == "approve":
        provisioning.approve(row, by=request.user)
        return f"Provisioned. {row.requested_name or 'The requester'} is told by e-mail and can start the services."
    reason = request.POST.get("reason", "").strip()
    if "\x00" in reason or len(reason) > LONGEST_REASON:
        raise Refused([f"Write the reason as plain text of at most {LONGEST_REASON} characters. Nothing was decided."])
    provisioning.decline(row, reason, by=request.user)
    return f"Declined. {row.requested_name or 'The requester'} is told by e-mail, with the reason."


def _start(request: HttpRequest, service: Service) -> list[str]:
    return [f"{service} is started.", *services.start(service, by=request.user)]


def _stop(request: HttpRequest, service: Service) -> list[str]:
    services.stop(service, by=request.user)
    return [f"{service} is stopped. What runs comes to its end."]


def _run(request: HttpRequest, service: Service) -> list[str]:
    job = services.run_now(service, by=request.user)
    return [format_html("{}: run requested as {}. Its schedule goes on.", service, link_to(job, f"job {job.pk}"))]


def _pause(request: HttpRequest, service: Service) -> list[str]:
    form = PauseForm(request.POST, prefix=f"pause-{service.pk}")
    if not form.is_valid():
        raise Refused([str(error) for told in form.errors.values() for error in told])
    services.pause(service, form.moment(service), by=request.user)
    return [f"{service} is paused until {form.cleaned_data['until']:%Y-%m-%d %H:%M}, {service.zone}."]


def _resume(request: HttpRequest, service: Service) -> list[str]:
    services.resume(service, by=request.user)
    return [f"{service} goes on."]


def _copy(request: HttpRequest, service: Service) -> list[str]:
    chosen = [pk for pk in request.POST.getlist(f"copy-{service.pk}") if pk.isdecimal() and len(pk) < 19]
    others = list(
        service.integration.services.select_related("integration").filter(pk__in=chosen).exclude(pk=service.pk)
    )
    if not others:
        raise Refused(["Tick the services that shall have the same times."])
    asked = services.apply_to_others(service, others, by=request.user)
    told = [f"The saved times of {service} were copied to {', '.join(other.name for other in others)}."]
    row = service.integration.provisionings.first()
    return [*told, provisioning.placed(row)] if asked and row is not None else told


_DO: dict[str, Callable[[HttpRequest, Service], list[str]]] = {
    "start": _start, "stop": _stop, "run": _run, "pause": _pause, "resume": _resume, "copy": _copy,
}  # fmt: skip
