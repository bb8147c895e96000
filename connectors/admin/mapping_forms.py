"""How are the rows of the mappings editor sent and read?  Bad input is told at its field; nothing that was entered is lost."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from django import forms

from connectors.contract import Kind
from connectors.models import EntitySync
from connectors.sync.drafts import ABOUT, COLUMNS, DIRECTIONS, GUARDS, POLICIES, UNMAPPED, WHENS, Row
from connectors.sync.rules import LEFT, RIGHT, Side
from connectors.sync.schema import Schema
from connectors.sync.transforms import TRANSFORMS

MOST_ROWS = 500
YES, NO = ("yes", "true", "1"), ("no", "false", "0")
ARROWED = {"both": "↔ Both ways", "to_right": "→ To the right", "to_left": "← To the left"}
_HIDDEN = forms.HiddenInput


class RowForm(forms.Form):
    """One mapping."""

    id = forms.IntegerField(required=False, widget=_HIDDEN)
    position = forms.IntegerField(required=False, widget=_HIDDEN)
    removed = forms.BooleanField(required=False, widget=_HIDDEN)
    left = forms.CharField(required=False, max_length=100)
    right = forms.CharField(required=False, max_length=100)
    direction = forms.ChoiceField(choices=[(value, ARROWED[value]) for value in DIRECTIONS])
    policy = forms.ChoiceField(choices=list(POLICIES.items()), required=False)
    transform = forms.ChoiceField(
        choices=[("", "Unchanged"), *((name, ABOUT.get(name, (name,))[0]) for name in TRANSFORMS)], required=False
    )
    args = forms.CharField(required=False, max_length=4000)
    constant = forms.CharField(required=False, max_length=1000)
    when = forms.ChoiceField(choices=[(value, str(label)) for value, label in WHENS.items()])
    guard = forms.ChoiceField(choices=list(GUARDS.items()), required=False)
    required = forms.BooleanField(required=False)
    unmapped = forms.ChoiceField(choices=[("", "–"), *UNMAPPED.items()], required=False)
    default = forms.CharField(required=False, max_length=200)

    def clean_args(self) -> dict[str, Any]:
        """Read the transform's settings; a sentence where they are no JSON."""
        text = self.cleaned_data["args"].strip()
        if not text:
            return {}
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise forms.ValidationError('Written as {"name": value}; this is no JSON.') from error
        if not isinstance(found, dict):
            raise forms.ValidationError('Written as {"name": value}.')
        return found

    def row(self, sync: EntitySync, schema: Schema, stored: Mapping[int | None, Row]) -> Row:
        """Return what was entered; of a field with an error what is stored, so that the rest can be judged."""
        given = getattr(self, "cleaned_data", {})
        old = stored.get(given.get("id")) or Row()
        values = {name: given.get(name, getattr(old, name)) for name in COLUMNS}
        values["constant"] = constant_of(str(values["constant"] or ""), old.constant, kind_of(sync, schema, values))
        return Row(**values, id=given.get("id") if given.get("id") in stored else None)


def kind_of(sync: EntitySync, schema: Schema, values: Mapping[str, Any]) -> Kind | None:
    """Return what the one field of a constant holds."""
    side: Side = LEFT if values.get(LEFT) else RIGHT
    entity = schema.of(side, sync)
    own = entity.field(str(values.get(side))) if entity else None
    return own.kind if own else None


def constant_of(text: str, old: object, kind: Kind | None) -> object:
    """Return a constant from the text that a person sees; what they left as it was keeps its type."""
    if not text:
        return None
    if text == shown_constant(old):
        return old
    if kind is Kind.BOOLEAN and text.strip().casefold() in (*YES, *NO):
        return text.strip().casefold() in YES
    return text


def shown_constant(value: object) -> str:
    """Return a constant as text."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def initial(row: Row) -> dict[str, Any]:
    """Return what the form of a row shows."""
    values = {name: getattr(row, name) for name in COLUMNS}
    values["args"] = json.dumps(row.args, ensure_ascii=False) if row.args else ""
    values["constant"] = shown_constant(row.constant)
    return {**values, "id": row.id}


def sent_forms(told: Mapping[str, Any], most: int | None = None) -> Iterator[tuple[int, RowForm]]:
    """Yield (number, form) of the rows that were sent, in the order of their positions; removed ones are left out.

    `most`: only so many, for what is not to be saved; a saved row that is not among them would be removed.
    """
    numbers = {
        int(parts[1])
        for key in told
        if key.startswith("rows-") and len(parts := key.split("-", 2)) == 3 and _is_number(parts[1])
    }
    found: list[tuple[int, int, RowForm]] = []
    for number in sorted(numbers)[:most]:
        form = RowForm(told, prefix=f"rows-{number}")
        form.is_valid()
        given = form.cleaned_data
        if not given.get("removed"):
            place = given.get("position")
            found.append((number if place is None else place, number, form))
    for _, number, form in sorted(found, key=lambda one: one[:2]):
        yield number, form


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 10


def shown_forms(rows: Sequence[Row], errors: Mapping[int, Mapping[str, str]] | None = None) -> list[RowForm]:
    """Return forms that show these rows, with what is wrong at each field."""
    found: list[RowForm] = []
    for place, row in enumerate(rows):
        data = {f"rows-{place}-{name}": value for name, value in initial(row).items() if value not in (None, False)}
        form = RowForm({**data, f"rows-{place}-position": place}, prefix=f"rows-{place}")
        form.is_valid()
        form.errors.clear()
        for name, text in (errors or {}).get(place, {}).items():
            form.add_error(name if name in form.fields else None, text)
        found.append(form)
    return found
