"""How does a person choose an integration's preferences in the browser?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from connectors.admin import amending, merging
from connectors.admin.amending import Shown
from connectors.contract import ConnectorError
from connectors.models import Integration
from connectors.sync import preferences, routing
from connectors.sync.amending import Proposal
from connectors.sync.preferences import Preference, PreferencesError, RouteAsked
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
    """Show the preferences of one integration; a POST shows the effect of other ones, or saves what was shown."""
    integration = model_admin.get_object(request, object_id)
    if integration is None:
        raise Http404(f"There is no integration {object_id}.")
    if not model_admin.has_view_permission(request, integration):
        raise PermissionDenied
    may = model_admin.has_change_permission(request, integration)
    # As loaded: where somebody saves at this very moment, the page is one of older preferences, and says so.
    state, revision = _state(integration), integration.revision
    form = _form(integration, _caught_up(integration, request.POST, state) if request.POST else None)
    shown: Shown | None = None
    if request.method == "POST":
        if not may:
            raise PermissionDenied
        shown = _considered(request, integration, form) if form.is_valid() else None
        if shown is not None and shown.saved is not None:
            model_admin.message_user(
                request, f"Saved: {'; '.join(shown.saved)}. The next run reads everything again.", messages.SUCCESS
            )
            return redirect("admin:connectors_integration_preferences", integration.pk)
    side = shared_side(integration)
    seen = merging.seal(f"preferences {integration.pk}", {"fields": state})
    context = {
        **model_admin.admin_site.each_context(request), "title": f"Preferences of {integration}", "opts": model_admin.opts,
        "integration": integration, "form": form, "may": may, "original": integration, "shown": shown,
        "revision": revision, "settings_seen": seen, "shared": getattr(integration, side) if side else None,
    }  # fmt: skip
    request.current_app = model_admin.admin_site.name
    return TemplateResponse(request, "syncline/preferences.html", context)


def _form(integration: Integration, given: Any) -> PreferencesForm:
    shown = {"revision": integration.revision, **_route(integration)}
    return PreferencesForm(preferences.read(integration), given, initial=shown)


def _route(integration: Integration) -> dict[str, str]:
    route = routing.Route.of(integration)
    return {
        "route_column": next(iter(route.fields.values()), "") if route else "",
        "route_value": route.value if route else "",
    }


def _state(integration: Integration) -> dict[str, list[str]]:
    """Return what the page shows, as a browser sends it back where nobody touches it."""
    values: dict[str, object] = {one.key: one.value for one in preferences.read(integration)}
    return {name: merging.sent(value) for name, value in (values | _route(integration)).items()}


def _caught_up(integration: Integration, given: QueryDict, now: Mapping[str, list[str]]) -> QueryDict:
    """Return what was entered on a page of older preferences: what was not touched there follows those of now."""
    seen = merging.unseal(f"preferences {integration.pk}", given.get(merging.FIELD, ""))
    if seen is None or given.get("revision", "") == str(integration.revision):
        return given
    told = given.copy()
    merging.follow(told, seen["fields"], now)
    return told


def _considered(request: HttpRequest, integration: Integration, form: PreferencesForm) -> Shown | None:
    """Return what the page says of what was entered, None where it can't be and the form says why."""
    given = form.cleaned_data
    asked = {one.key: str(given.get(one.key, "")) for one in form.chosen}
    # What nobody touched is not asked for anew: the system need not be there to change who wins.
    route = None
    if {"route_column", "route_value"} & set(form.changed_data):
        route = (given["route_column"].strip(), given["route_value"].strip())
    try:
        proposal = propose(integration, asked, route)
    except PreferencesError as error:
        form.refuse(error.problems)
        return None
    except ConnectorError as error:
        form.refuse({"route_column": redaction.text(str(error))})
        return None
    if not proposal.said and given["revision"] == integration.revision:
        return Shown(warnings=["Nothing was changed: these are the preferences that are there."])
    known, _ = amending.schema_of(integration)
    return amending.consider(request, proposal, known, integration, given["revision"])


def change(
    integration: Integration, asked: Mapping[str, str], route: tuple[str, str] | None, *, by: str, revision: int | None = None
) -> list[str]:  # fmt: skip
    """Set preferences and, where (column, value) of a route are given, whose records are taken: all of it or nothing.

    Returns a sentence for each change.  Raises PreferencesError and ConnectorError.
    """
    how: dict[str, Any] = {"now": clock.now(), "by": by, "revision": revision}
    if route is None:
        return preferences.change(integration, asked, **how)
    side = shared_side(integration)
    if side is None:
        told = f"The preset of {integration} says nothing of records of several companies."
        return preferences.change(integration, asked, unfit={"route_column": told}, **how)
    entities = [str(name) for name in presets()[integration.preset].route["entities"]]
    with connected(getattr(integration, side)) as connector:
        return preferences.change(integration, asked, route=RouteAsked(*route, side, entities, connector), **how)


def propose(integration: Integration, asked: Mapping[str, str], route: tuple[str, str] | None) -> Proposal:
    """Propose preferences, and where (column, value) of a route are given, whose records are taken.

    Raises PreferencesError and ConnectorError.
    """
    if route is None:
        return preferences.propose(integration, asked)
    side = shared_side(integration)
    if side is None:
        told = f"The preset of {integration} says nothing of records of several companies."
        return preferences.propose(integration, asked, unfit={"route_column": told})
    entities = [str(name) for name in presets()[integration.preset].route["entities"]]
    with connected(getattr(integration, side)) as connector:
        return preferences.propose(integration, asked, route=RouteAsked(*route, side, entities, connector))


def shared_side(integration: Integration) -> Side | None:
    """Return the side whose records may be of several companies, as the preset says, or None."""
    preset = presets().get(integration.preset)
    if preset is None or not preset.route:
        return None
    return LEFT if preset.route["side"] == LEFT else RIGHT
