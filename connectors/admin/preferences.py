"""How does a person choose an integration's preferences in the browser?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from connectors.contract import ConnectorError
from connectors.models import Integration
from connectors.sync import preferences, routing
from connectors.sync.preferences import Preference, PreferencesError
from connectors.sync.presets import presets
from connectors.sync.rules import LEFT, RIGHT, Side
from connectors.transport import connected, redaction
from jobs import clock

if TYPE_CHECKING:
    from connectors.admin.integrations import IntegrationAdmin


class PreferencesForm(forms.Form):
    """One field for each preference, in groups; what was shown goes along, so that a stale page is refused."""

    revision = forms.IntegerField(widget=forms.HiddenInput)
    route_column = forms.CharField(
        label="Column that says whose records they are", required=False, max_length=100, widget=UnfoldAdminTextInputWidget(),
        help_text="Where several companies share the system: one lookup or choice column. Empty: all records are taken.",
    )  # fmt: skip
    route_value = forms.CharField(
        label="The choice that stands for this company",
        required=False,
        max_length=200,
        widget=UnfoldAdminTextInputWidget(),
    )

    def __init__(self, chosen: list[Preference], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.chosen = chosen
        for one in chosen:
            self.fields[one.key] = _field(one)

    @property
    def groups(self) -> list[tuple[str, list[forms.BoundField]]]:
        """Fields by entity sync."""
        found: dict[str, list[forms.BoundField]] = {}
        for one in self.chosen:
            found.setdefault(one.group, []).append(self[one.key])
        return list(found.items())

    def refuse(self, problems: dict[str, str]) -> None:
        """Show each problem at its field."""
        for key, sentence in problems.items():
            self.add_error(key if key in self.fields else None, sentence)


def _field(one: Preference) -> forms.Field:
    if one.choices:
        return forms.ChoiceField(
            label=one.label,
            choices=list(one.choices),
            initial=one.value,
            help_text=one.help,
            widget=UnfoldAdminSelectWidget(),
        )
    widget = UnfoldAdminTextInputWidget(attrs={"type": "date"} if one.kind == "day" else {})
    return forms.CharField(label=one.label, required=False, initial=one.value, help_text=one.help, widget=widget)


def view(model_admin: IntegrationAdmin, request: HttpRequest, object_id: str) -> HttpResponse:
    """Show and save the preferences of one integration."""
    integration = model_admin.get_object(request, object_id)
    if integration is None:
        raise Http404(f"There is no integration {object_id}.")
    if not model_admin.has_view_permission(request, integration):
        raise PermissionDenied
    may = model_admin.has_change_permission(request, integration)
    chosen = preferences.read(integration)
    route = routing.Route.of(integration)
    shown = {
        "revision": integration.revision,
        "route_column": next(iter(route.fields.values()), "") if route else "",
        "route_value": route.value if route else "",
    }
    form = PreferencesForm(chosen, request.POST or None, initial=shown)
    if request.method == "POST":
        if not may:
            raise PermissionDenied
        if form.is_valid() and _save(model_admin, request, integration, form, shown):
            return redirect("admin:connectors_integration_preferences", integration.pk)
    context = {
        **model_admin.admin_site.each_context(request), "title": f"Preferences of {integration}", "opts": model_admin.opts,
        "integration": integration, "form": form, "may": may, "original": integration,
    }  # fmt: skip
    request.current_app = model_admin.admin_site.name
    return TemplateResponse(request, "syncline/preferences.html", context)


def _save(
    model_admin: IntegrationAdmin, request: HttpRequest, integration: Integration, form: PreferencesForm, shown: dict[str, Any]
) -> bool:  # fmt: skip
    given = form.cleaned_data
    asked = {one.key: str(given.get(one.key, "")) for one in form.chosen}
    now, by = clock.now(), str(request.user)
    try:
        said = preferences.change(integration, asked, now=now, by=by, revision=given["revision"])
        if any(given[name] != shown[name] for name in ("route_column", "route_value")):
            change_route(integration, given["route_column"].strip(), given["route_value"].strip(), by=by)
            said.append("whose records are taken")
    except PreferencesError as error:
        form.refuse(
            {f"route_{key}" if key in ("column", "value") else key: text for key, text in error.problems.items()}
        )
        return False
    except ConnectorError as error:
        form.refuse({"route_column": redaction.text(str(error))})
        return False
    if said:
        model_admin.log_change(request, integration, "; ".join(said))
        model_admin.message_user(
            request, f"Saved: {'; '.join(said)}. The next run reads everything again.", messages.SUCCESS
        )
    else:
        model_admin.message_user(request, "Nothing was changed.", messages.INFO)
    return True


def change_route(integration: Integration, column: str, value: str, *, by: str) -> None:
    """Set the route of an integration, asking the shared system for the column's choices.

    Raises PreferencesError and ConnectorError.
    """
    preset = presets().get(integration.preset)
    told = dict(preset.route) if preset else {}
    if not told:
        raise PreferencesError({"column": f"The preset of {integration} says nothing of records of several companies."})
    side: Side = LEFT if told["side"] == LEFT else RIGHT
    with connected(getattr(integration, side)) as connector:
        preferences.set_route(
            integration, column, value, connector, side=side, entities=[str(name) for name in told["entities"]], now=clock.now(),
            by=by,
        )  # fmt: skip
