"""How does a person make an integration from a preset in the browser?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.text import capfirst
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from connectors.contract import ConnectorError
from connectors.models import Connection, Integration
from connectors.registry import UnknownSystem, connector_class
from connectors.sync.compile import SettingsError
from connectors.sync.presets import Applied, Preset, apply_preset, presets
from connectors.sync.rules import LEFT, RIGHT
from connectors.transport import connected, redaction
from scheduling.services import make_services

if TYPE_CHECKING:
    from connectors.admin.integrations import IntegrationAdmin

OPTION = "option_"


def _title(system: str) -> str:
    try:
        return connector_class(system).title
    except UnknownSystem:
        return system


class PresetForm(forms.Form):
    """Name, the two connections, and what the preset asks."""

    def __init__(self, preset: Preset, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["name"] = forms.CharField(
            label="Name of the integration", max_length=100, initial=preset.title, widget=UnfoldAdminTextInputWidget()
        )
        for side, system in ((LEFT, preset.left), (RIGHT, preset.right)):
            there = Connection.objects.filter(system=system).order_by("name")
            self.fields[side] = forms.ModelChoiceField(
                there, label=f"{_title(system)} ({side})", widget=UnfoldAdminSelectWidget(), empty_label="Choose",
                initial=there[0] if there.count() == 1 else None, help_text="" if there.exists()
                else f"There is no connection to {_title(system)} yet. Add one under Connections.",
            )  # fmt: skip
        self.fields["first_run"] = forms.ChoiceField(
            label="First run", choices=[("preview", "Preview first"), ("apply", "Apply at once")],
            initial=preset.first_run, widget=UnfoldAdminSelectWidget(),
        )  # fmt: skip
        for name, what in preset.options.items():
            self.fields[OPTION + name] = _option_field(name, what)

    def clean_name(self) -> str:
        """Names are unique."""
        name = str(self.cleaned_data["name"]).strip()
        if Integration.objects.filter(name=name).exists():
            raise forms.ValidationError(f"There is an integration {name!r} already. Choose another name.")
        return name


def _option_field(name: str, what: Mapping[str, Any]) -> forms.Field:
    told: dict[str, Any] = {
        "label": _words(name),
        "initial": what.get("default", ""),
        "help_text": what.get("help", ""),
    }
    if what.get("choices"):
        choices = [(choice, _words(str(choice))) for choice in what["choices"]]
        return forms.ChoiceField(choices=choices, widget=UnfoldAdminSelectWidget(), **told)
    widget = UnfoldAdminTextInputWidget(attrs={"type": "date"} if what.get("kind") == "date" else {})
    return forms.CharField(required=False, widget=widget, **told)


def _words(name: str) -> str:
    return capfirst(name.replace("_", " "))


def apply_view(model_admin: IntegrationAdmin, request: HttpRequest) -> HttpResponse:
    """Choose a preset, fill in the form, see what has no partner."""
    if not request.user.has_perm("connectors.add_integration"):
        raise PermissionDenied
    known = presets()
    preset = known.get(request.GET.get("preset", "")) or (next(iter(known.values())) if len(known) == 1 else None)
    form = PresetForm(preset, request.POST or None) if preset else None
    problems: list[str] = []
    applied: Applied | None = None
    if request.method == "POST" and preset and form and form.is_valid():
        try:
            applied = apply_with(preset, form.cleaned_data)
        except SettingsError as error:
            problems = list(error.problems)
        except ConnectorError as error:
            problems = [redaction.text(str(error))]
        else:
            model_admin.log_addition(request, applied.integration, f"Made from the preset {preset.name}.")
            model_admin.message_user(request, f"{applied.integration} is made.", messages.SUCCESS)
    context = {
        **model_admin.admin_site.each_context(request), "title": "New integration from a preset", "opts": model_admin.opts,
        "presets": list(known.values()), "preset": preset, "form": form, "problems": problems, "applied": applied,
    }  # fmt: skip
    request.current_app = model_admin.admin_site.name
    return TemplateResponse(request, "syncline/preset.html", context)


def apply_with(preset: Preset, given: dict[str, Any]) -> Applied:
    """Apply a preset with a form's answers.  Raises SettingsError and ConnectorError."""
    ends = {LEFT: given["left"], RIGHT: given["right"]}
    options = {name: str(given.get(OPTION + name, "")) for name in preset.options if OPTION + name in given}
    with connected(ends[LEFT]) as left, connected(ends[RIGHT]) as right:
        applied = apply_preset(
            preset, given["name"], ends, {LEFT: left, RIGHT: right}, options, first_run=given.get("first_run", "")
        )
    make_services(applied.integration)
    return applied
