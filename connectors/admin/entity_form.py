"""Which fields has the page of an entity sync's settings, and how are they turned into settings and back?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from django import forms
from django.http import QueryDict
from unfold.widgets import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from connectors.admin import merging
from connectors.contract import Field
from connectors.models import EntitySync
from connectors.sync import entity_settings, sentences
from connectors.sync.compile import LEAST_TOLERANCE, MOST_TOLERANCE
from connectors.sync.entity_settings import DATED, FLOWS, LISTS, MOST_DAYS, PREVENTS, SIDES
from connectors.sync.fitting import type_of
from connectors.sync.rules import LEFT, Side
from connectors.sync.schema import Schema
from connectors.sync.sentences import Names

ARROWS = {"both": "↔", "to_right": "→", "to_left": "←"}
BESIDE = 3  # mappings of one match rule that a page offers
FILTER_PARTS = ("where", "op", "value")
MATCH_PARTS = tuple(f"by{number}" for number in range(BESIDE))
Groups = list[tuple[str, list[tuple[str, str]]]]


class FilterForm(forms.Form):
    """One filter line: a field of a side, an operator, a value."""

    where = forms.ChoiceField(label="Field", required=False, widget=UnfoldAdminSelectWidget())
    op = forms.ChoiceField(label="Condition", required=False, widget=UnfoldAdminSelectWidget())
    value = forms.CharField(label="Value", required=False, max_length=1000, widget=UnfoldAdminTextInputWidget())

    def __init__(self, *args: Any, where: Groups, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["where"].choices = [("", "Choose a field"), *where]  # type: ignore[attr-defined]
        self.fields["op"].choices = [("", "…"), *sentences.OPERATORS.items()]  # type: ignore[attr-defined]

    def line(self) -> dict[str, Any] | None:
        """Return the filter, None where the line is empty or to be taken out."""
        given = self.cleaned_data
        if given.get("DELETE") or not any(given.get(name) for name in ("where", "op", "value")):
            return None
        side, _, field = given.get("where", "").partition(":")
        line = {"side": side or LEFT, "field": field, "op": given.get("op", "")}
        return line if line["op"] in sentences.WITHOUT_VALUE else {**line, "value": given.get("value", "")}


class MatchForm(forms.Form):
    """One way to recognise a record: by one to three mapped fields together."""

    def __init__(self, *args: Any, mappings: Iterable[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choices = [("", "–"), *((name, name.replace(">", " = ")) for name in mappings)]
        for number in range(BESIDE):
            label = "Field" if number == 0 else "and"
            self.fields[f"by{number}"] = forms.ChoiceField(
                label=label, required=False, choices=choices, widget=UnfoldAdminSelectWidget()
            )

    def line(self) -> list[str] | None:
        """Return the alternative, None where it is empty or to be taken out."""
        names = [name for number in range(BESIDE) if (name := self.cleaned_data.get(f"by{number}"))]
        return None if self.cleaned_data.get("DELETE") or not names else list(dict.fromkeys(names))


class SettingsForm(forms.Form):
    """The settings of one entity sync that are no lists."""

    revision = forms.IntegerField(widget=forms.HiddenInput)
    enabled = forms.BooleanField(label="Kept in agreement", required=False, widget=UnfoldBooleanSwitchWidget())
    direction = forms.ChoiceField(label="Direction", choices=EntitySync.Direction.choices, widget=forms.RadioSelect)
    policy = forms.ChoiceField(label="Where both sides changed a field", widget=UnfoldAdminSelectWidget())
    on_delete = forms.ChoiceField(label="When one side deletes", widget=UnfoldAdminSelectWidget())
    edit_v_delete = forms.ChoiceField(label="Deleted here, edited there", widget=UnfoldAdminSelectWidget())
    prevents = forms.MultipleChoiceField(
        label="Never done",
        required=False,
        choices=[(one, one) for one in PREVENTS],
        widget=forms.CheckboxSelectMultiple,
    )
    window_field = forms.ChoiceField(label="Date", required=False, widget=UnfoldAdminSelectWidget())
    window_past = forms.IntegerField(
        label="Days back", required=False, min_value=0, max_value=MOST_DAYS, widget=UnfoldAdminIntegerFieldWidget()
    )
    window_future = forms.IntegerField(
        label="Days ahead", required=False, min_value=0, max_value=MOST_DAYS, widget=UnfoldAdminIntegerFieldWidget()
    )
    match_tolerance = forms.IntegerField(
        label="Ask a person from this similarity on (percent)", min_value=0, max_value=MOST_TOLERANCE,
        widget=UnfoldAdminIntegerFieldWidget(),
        help_text="0: only records whose match fields are the same are partners. "
        f"{LEAST_TOLERANCE} to {MOST_TOLERANCE}: similar ones are asked about.",
    )  # fmt: skip
    push_left = forms.BooleanField(required=False, widget=UnfoldBooleanSwitchWidget())
    push_right = forms.BooleanField(required=False, widget=UnfoldBooleanSwitchWidget())

    def __init__(self, sync: EntitySync, known: Schema, names: Names, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sync, self.known, self.names = sync, known, names
        for name in ("policy", "on_delete", "edit_v_delete"):
            self.fields[name].choices = _words(name, names)  # type: ignore[attr-defined]
        self.fields["window_field"].choices = [("", "No window"), *_dates(sync, known)]  # type: ignore[attr-defined]
        for side in SIDES:
            self.fields[f"push_{side}"].label = f"Only promoted records go to {names.of(side)}"
        self.limits = entity_settings.limits(sync, known)

    def directions(self) -> list[dict[str, Any]]:
        """The three directions with their arrows, and why one of them can't be."""
        chosen = str(self["direction"].value())
        return [
            {
                "value": value, "arrow": ARROWS[value], "label": label, "on": value == chosen,
                "limit": self.limits.get(value, "") if value != self.sync.direction else "",
            }
            for value, label in EntitySync.Direction.choices
        ]  # fmt: skip

    def matrix(self) -> list[dict[str, Any]]:
        """Both sides with the three operations that may be prevented."""
        ticked = self["prevents"].value() or []
        return [
            {
                "name": self.names.of(side),
                "flows": side in FLOWS[str(self["direction"].value() or "both")] if self["direction"].value() in FLOWS else True,
                "cells": [
                    {"value": f"{side}.{verb}", "verb": verb, "on": f"{side}.{verb}" in ticked} for verb in sentences.VERBS
                ],
            }
            for side in SIDES
        ]  # fmt: skip

    def asked(self, filters: list[dict[str, Any]], match: list[list[str]]) -> dict[str, Any]:
        """Return what was entered as settings."""
        given = self.cleaned_data
        window = {"field": given["window_field"], "past": given["window_past"], "future": given["window_future"]}
        push = {side: "on_request" for side in SIDES if given[f"push_{side}"]}
        return {
            **{name: given[name] for name in ("enabled", "direction", "policy", "on_delete", "edit_v_delete", "prevents")},
            "window": window, "filters": filters, "match": match, "match_tolerance": given["match_tolerance"],
            "push": {**push, **{word: value for word, value in self.sync.push.items() if word not in SIDES}},
        }  # fmt: skip


def _words(name: str, names: Names) -> list[tuple[str, str]]:
    sides = {"left": f"{names.left} wins", "right": f"{names.right} wins"} if name == "policy" else {}
    return [(value, sides.get(value, label)) for value, label in entity_settings.CHOICES[name].items()]


def _dates(sync: EntitySync, known: Schema) -> list[tuple[str, str]]:
    fields = [own for own in entity_settings.filterable(known.of(LEFT, sync)) if own.kind in DATED]
    there = [(own.name, _label(own)) for own in fields]
    held = str((sync.window or {}).get("field", ""))
    return there if not held or held in dict(there) else [*there, (held, held)]


def _label(own: Field) -> str:
    return f"{own.label} ({own.name})" if own.label and own.label != own.name else own.name


def places(sync: EntitySync, known: Schema, names: Names) -> Groups:
    """Return the fields that a filter may look at, by side; what is set stays choosable though no system tells of it."""
    found: Groups = []
    for side in SIDES:
        fields = [
            (f"{side}:{own.name}", f"{_label(own)} · {type_of(own)}")
            for own in entity_settings.filterable(known.of(side, sync))
        ]
        there = {value for value, _ in fields}
        held = [f"{side}:{line.get('field')}" for line in sync.filters if line.get("side") == side]
        fields += [(value, value.partition(":")[2]) for value in dict.fromkeys(held) if value not in there]
        found.append((names.of(side), fields))
    return found


def initial(sync: EntitySync) -> dict[str, Any]:
    """Return what the form shows of the settings that are there."""
    window = sync.window or {}
    return {
        "revision": sync.integration.revision, "enabled": sync.enabled, "direction": sync.direction, "policy": sync.policy,
        "on_delete": sync.on_delete, "edit_v_delete": sync.edit_v_delete, "prevents": sync.prevents,
        "window_field": window.get("field", ""), "window_past": window.get("past"), "window_future": window.get("future"),
        "match_tolerance": sync.match_tolerance,
        **{f"push_{side}": sync.push.get(side) == "on_request" for side in SIDES},
    }  # fmt: skip


def filter_lines(sync: EntitySync, known: Schema) -> list[dict[str, str]]:
    """Return the filters that are there as lines of the form, options by label."""
    return [
        {
            "where": f"{line.get('side')}:{line.get('field')}",
            "op": str(line.get("op")),
            "value": shown(sync, known, line),
        }
        for line in sync.filters
    ]


def shown(sync: EntitySync, known: Schema, line: Mapping[str, Any]) -> str:
    """Return a filter's value as it is typed."""
    value = line.get("value")
    side: Side = "left" if line.get("side") == "left" else "right"
    choices = {o.key: o.label for o in known.choices(side, sync, str(line.get("field"))) or ()}
    if line.get("op") in LISTS and isinstance(value, list):
        return ", ".join(choices.get(str(each), str(each)) for each in value)
    return "" if value is None else choices.get(str(value), str(value))


def match_lines(sync: EntitySync) -> list[dict[str, str]]:
    """Return the match rules that are there as lines of the form."""
    return [{f"by{number}": name for number, name in enumerate(each[:BESIDE])} for each in sync.match]


def state(sync: EntitySync, known: Schema) -> dict[str, Any]:
    """Return what the page shows of the settings, as a browser sends it back where nobody touches it."""
    fields = {name: merging.sent(value) for name, value in initial(sync).items() if name != "revision"}
    filters = [[line[name] for name in FILTER_PARTS] for line in filter_lines(sync, known)]
    match = [[line.get(name, "") for name in MATCH_PARTS] for line in match_lines(sync)]
    return {"fields": fields, "filters": filters, "match": match}


def caught_up(sync: EntitySync, known: Schema, given: QueryDict) -> QueryDict:
    """Return what was entered on a page of older settings: what was not touched there follows those of now."""
    seen = merging.unseal(f"entity sync {sync.pk}", given.get(merging.FIELD, ""))
    if seen is None or given.get("revision", "") == str(sync.integration.revision):
        return given
    told, now = given.copy(), state(sync, known)
    merging.follow(told, seen["fields"], now["fields"])
    for prefix, names in (("filters", FILTER_PARTS), ("match", MATCH_PARTS)):
        then, there = ([tuple(line) for line in each[prefix]] for each in (seen, now))
        merging.put_lines(told, prefix, names, merging.merged(merging.lines_of(told, prefix, names), then, there))
    return told


FilterLines = forms.formset_factory(FilterForm, extra=1, can_delete=True, max_num=50, absolute_max=60)
MatchLines = forms.formset_factory(MatchForm, extra=1, can_delete=True, max_num=20, absolute_max=30)
