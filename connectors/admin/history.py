"""How does a person see who changed an integration's settings, and go back to earlier ones?"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse

from connectors.admin import amending
from connectors.admin.amending import Shown
from connectors.admin.base import Titled, is_id
from connectors.sync import settings_history
from connectors.sync.restoring import NoSuchChange, propose_restore

if TYPE_CHECKING:
    from connectors.admin.integrations import IntegrationAdmin


def view(model_admin: IntegrationAdmin, request: HttpRequest, object_id: str) -> HttpResponse:
    """Show the history; a POST shows what going back would do, or goes back as it was shown."""
    integration = model_admin.get_object(request, object_id)
    if integration is None:
        raise Http404(f"There is no integration {object_id}.")
    if not model_admin.has_view_permission(request, integration):
        raise PermissionDenied
    context: dict[str, Any] = {}
    if request.method == "POST":
        if not model_admin.has_change_permission(request, integration):
            raise PermissionDenied
        shown = _considered(request, integration)
        if shown.saved is not None:
            model_admin.message_user(
                request, f"Went back. {'. '.join(shown.saved)}. The next run reads everything again.", messages.SUCCESS
            )
            return redirect("admin:connectors_integration_history", integration.pk)
        context = {"shown": shown, "change": request.POST.get("change", "")}
    entries, older = settings_history.timeline(integration, before=_moment(request.GET.get("before", "")))
    context |= {
        **model_admin.admin_site.each_context(request), "title": f"History of {integration}", "opts": model_admin.opts,
        "integration": integration, "original": Titled(integration, "History of settings"),
        "may": model_admin.has_change_permission(request, integration),
        "entries": entries, "older": older.isoformat() if older else "", "revision": integration.revision,
    }  # fmt: skip
    request.current_app = model_admin.admin_site.name
    return TemplateResponse(request, "syncline/history.html", context)


def _considered(request: HttpRequest, integration: Any) -> Shown:
    try:
        proposal = propose_restore(integration, request.POST.get("change", ""))
    except NoSuchChange as error:
        return Shown(warnings=[str(error)])
    if not proposal.said:
        return Shown(warnings=["The settings are as they were then: there is nothing to go back to."])
    given = request.POST.get("revision", "")
    known, _ = amending.schema_of(integration)
    return amending.consider(request, proposal, known, integration, int(given) if is_id(given) else -1)


def _moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else None
