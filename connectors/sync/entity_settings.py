"""Which settings has one entity sync, which values can they take, and what is proposed by somebody who changes them?"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Any

from django.utils.text import capfirst

from connectors.contract import Entity, Field, Kind, Verb
from connectors.models import EntitySync
from connectors.sync import sentences
from connectors.sync.amending import Proposal
from connectors.sync.compile import LEAST_TOLERANCE, MOST_TOLERANCE
from connectors.sync.flags import FLAG
from connectors.sync.naming import names_of
from connectors.sync.rules import ARCHIVED, LEFT, OTHER, RIGHT, Side
from connectors.sync.run import mark_settings_changed
from connectors.sync.schema import Schema

SIDES: tuple[Side, Side] = (LEFT, RIGHT)
PUSHES = ("always", "on_request")
FIELDS = (
    "enabled", "direction", "policy", "on_delete", "edit_v_delete", "prevents", "window", "filters", "match", "match_tolerance",
    "push",
)  # fmt: skip
CHOICES: Mapping[str, Mapping[str, str]] = {
    "direction": dict(EntitySync.Direction.choices), "policy": dict(EntitySync.Policy.choices),
    "on_delete": dict(EntitySync.OnDelete.choices), "edit_v_delete": dict(EntitySync.EditVDelete.choices),
}  # fmt: skip
PREVENTS = tuple(f"{side}.{verb}" for side in SIDES for verb in sentences.VERBS)
FLOWS = {"both": SIDES, "to_right": (RIGHT,), "to_left": (LEFT,)}
DATED = (Kind.DATE, Kind.DATETIME)
NUMBERS = (Kind.INTEGER, Kind.DECIMAL, Kind.MONEY)
UNFILTERED = (Kind.ROWS,)
LISTS = ("in", "not_in")
MOST_DAYS = 36_500
YES_NO = {"true": "True", "yes": "True", "1": "True", "false": "False", "no": "False", "0": "False"}
Problems = dict[str, str]  # "filters.2.value" -> sentence


def read(sync: EntitySync) -> dict[str, Any]:
    """Return the settings as they are stored."""
    return {name: getattr(sync, name) for name in FIELDS}


def limits(sync: EntitySync, known: Schema) -> dict[str, str]:
    """Return the directions that a system can't do, each with the reason."""
    found: dict[str, str] = {}
    names = names_of(sync.integration)
    for direction, targets in FLOWS.items():
        for side in targets:
            entity = known.of(side, sync)
            if entity is not None and not entity.verbs & {Verb.CREATE, Verb.UPDATE}:
                found[direction] = (
                    f"One way only: {names.of(side)} takes no {entity.label or entity.name} from outside."
                )
    return found


def filterable(entity: Entity | None) -> list[Field]:
    """Return the fields that a filter may look at, by what people call them."""
    fields = [own for own in (entity.fields if entity else ()) if own.kind not in UNFILTERED and not own.group]
    return sorted(fields, key=lambda own: (own.label or own.name).casefold())


def matchable(sync: EntitySync) -> list[str]:
    """Return the mappings by which records may be recognised."""
    return [m.name for m in sync.mappings.all() if m.left and m.right and m.name != ARCHIVED]


def propose(sync: EntitySync, values: Mapping[str, Any]) -> Proposal:
    """Propose other settings; `values` were checked."""
    before = read(sync)
    after = {**before, **values}
    names = names_of(sync.integration)

    def act() -> None:
        row = EntitySync.objects.get(pk=sync.pk)
        for name in FIELDS:
            setattr(row, name, after[name])
        row.save(update_fields=list(FIELDS))
        mark_settings_changed(row.integration, row)

    lines = [f"{capfirst(sync.name)}: {line}" for line in sentences.differences(before, after, names)]
    return Proposal(sync.integration, tuple(lines), {str(sync.pk): after}, act, f"Settings of {sync.name}")


# Checking what somebody entered


def check(sync: EntitySync, known: Schema, asked: Mapping[str, Any]) -> tuple[dict[str, Any], Problems]:
    """Return what was asked for as it is stored, and a sentence for each field that can't be."""
    values: dict[str, Any] = {}
    problems: Problems = {name: f"There is no setting {name!r}." for name in asked if name not in FIELDS}
    for name in FIELDS:
        if name in asked:
            values[name] = _CHECKS.get(name, _chosen)(sync, known, name, asked[name], problems)
    direction = str(values.get("direction", sync.direction))
    if direction != sync.direction and (why := limits(sync, known).get(direction)):
        problems["direction"] = why
    return values, problems


def _chosen(sync: EntitySync, known: Schema, name: str, value: Any, problems: Problems) -> Any:
    if value not in CHOICES[name]:
        problems[name] = f"Choose one of {', '.join(CHOICES[name])}."
    return value


def _enabled(sync: EntitySync, known: Schema, name: str, value: Any, problems: Problems) -> Any:
    if not isinstance(value, bool):
        problems[name] = "Say true or false."
    return value


def _prevents(sync: EntitySync, known: Schema, name: str, value: Any, problems: Problems) -> Any:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        problems[name] = f"Give a list of {', '.join(PREVENTS)}."
        return value
    if unknown := [one for one in value if one not in PREVENTS]:
        problems[name] = f"{', '.join(unknown)} can't be prevented. Choose of {', '.join(PREVENTS)}."
    return [one for one in PREVENTS if one in value]


def _window(sync: EntitySync, known: Schema, name: str, value: Any, problems: Problems) -> Any:
    if not value:
        return {}
    if not isinstance(value, dict) or set(value) - {"field", "past", "future"}:
        problems[name] = "Give field, past and future."
        return value
    field, days = str(value.get("field") or ""), {way: value.get(way) for way in ("past", "future")}
    if not field:
        if any(each is not None for each in days.values()):
            problems["window.field"] = "Choose the date that the days are counted from."
        return {}
    own = _field(sync, known, LEFT, field)
    if own is None or own.kind not in DATED:
        problems["window.field"] = f"{field} is no date of the left side."
    for way, each in days.items():
        if each is not None and (not isinstance(each, int) or isinstance(each, bool) or not 0 <= each <= MOST_DAYS):
            problems[f"window.{way}"] = f"Give whole days from 0 to {MOST_DAYS:,}, or nothing."
    return {"field": field, **{way: each for way, each in days.items() if each is not None}}


def _filters(sync: EntitySync, known: Schema, name: str, value: Any, problems: Problems) -> Any:
    if not isinstance(value, list) or not all(isinstance(line, dict) for line in value):
        problems[name] = "Give a list of filters, each with side, field, op and value."
        return value
    return [_filter(sync, known, f"{name}.{number}", line, problems) for number, line in enumerate(value)]


def _filter(sync: EntitySync, known: Schema, place: str, line: Mapping[str, Any], problems: Problems) -> dict[str, Any]:
    side, field, op, value = (line.get(word) for word in ("side", "field", "op", "value"))
    if line in sync.filters:
        return dict(line)  # as it is stored: what nobody touched is not doubted
    if side not in SIDES:
        problems[f"{place}.side"] = "Choose a side."
        return dict(line)
    own = _field(sync, known, side, str(field or ""))
    if own is None:
        problems[f"{place}.field"] = f"There is no field {field!r} there." if field else "Choose a field."
    if not isinstance(op, str) or op not in sentences.OPERATORS:
        problems[f"{place}.op"] = f"Choose one of {', '.join(sentences.OPERATORS)}."
        return dict(line)
    told: dict[str, Any] = {"side": side, "field": str(field or ""), "op": op}
    if op in sentences.WITHOUT_VALUE:
        return told
    wanted, problem = _value(sync, known, side, own, op, value)
    if problem:
        problems[f"{place}.value"] = problem
    return {**told, "value": wanted}


def _value(sync: EntitySync, known: Schema, side: Side, own: Field | None, op: str, value: Any) -> tuple[Any, str]:
    """Return (value as it is compared, problem)."""
    if op in LISTS:
        parts = value if isinstance(value, list) else str(value or "").split(",")
        words = [str(part).strip() for part in parts if str(part).strip()]
        if not words:
            return words, "Give at least one value; several are separated by commas."
        found = [_one(sync, known, side, own, word) for word in words]
        return [each for each, _ in found], next((problem for _, problem in found if problem), "")
    text = "" if value is None else str(value).strip()
    if not text:
        return text, "Give the value to compare with."
    if op == "since":
        return _day(own, text)
    return _one(sync, known, side, own, text)


def _day(own: Field | None, text: str) -> tuple[str, str]:
    if own is not None and own.kind not in DATED:
        return text, f"{own.label or own.name} is no date."
    try:
        return date.fromisoformat(text).isoformat(), ""
    except ValueError:
        return text, f"Give a day like 2026-01-31, not {text!r}."


def _one(sync: EntitySync, known: Schema, side: Side, own: Field | None, text: str) -> tuple[str, str]:
    if own is None:
        return text, ""
    if own.kind is Kind.BOOLEAN:
        word = YES_NO.get(text.casefold())
        return word or text, "" if word else "Give yes or no."
    if own.kind in NUMBERS:
        try:
            Decimal(text)
        except InvalidOperation:
            return text, f"{own.label or own.name} is a number; {text!r} is none."
    if own.kind in (Kind.OPTION, Kind.OPTIONS):
        return _option(sync, known, side, own, text)
    return text, ""


def _option(sync: EntitySync, known: Schema, side: Side, own: Field, text: str) -> tuple[str, str]:
    choices = known.choices(side, sync, own.name)
    if not choices:
        return text, ""  # its choices were never read: nobody can tell
    for option in choices:
        if option.key == text or option.label.casefold() == text.casefold():
            return option.key, ""
    there = ", ".join(option.label for option in choices[:12])
    return text, f"{own.label or own.name} has no choice {text!r}. It has: {there}{', …' if len(choices) > 12 else ''}."


def _match(sync: EntitySync, known: Schema, name: str, value: Any, problems: Problems) -> Any:
    if not isinstance(value, list) or not all(isinstance(each, list) for each in value):
        problems[name] = "Give a list of alternatives, each a list of mappings."
        return value
    names = matchable(sync)
    for number, each in enumerate(value):
        if not each:
            problems[f"{name}.{number}"] = "Choose at least one mapping, or take the line out."
        elif unknown := [str(one) for one in each if one not in names]:
            problems[f"{name}.{number}"] = f"{', '.join(unknown)} is not mapped."
    return value


def _tolerance(sync: EntitySync, known: Schema, name: str, value: Any, problems: Problems) -> Any:
    if (
        not isinstance(value, int)
        or isinstance(value, bool)
        or not (value == 0 or LEAST_TOLERANCE <= value <= MOST_TOLERANCE)
    ):
        problems[name] = (
            f"Give 0 (only what is the same), or {LEAST_TOLERANCE} to {MOST_TOLERANCE} percent of similarity."
        )
    return value


def _push(sync: EntitySync, known: Schema, name: str, value: Any, problems: Problems) -> Any:
    if not isinstance(value, dict) or set(value) - {LEFT, RIGHT, FLAG}:
        problems[name] = f"Give left, right or {FLAG}."
        return value
    for side in SIDES:
        if value.get(side) not in (None, *PUSHES):
            problems[f"{name}.{side}"] = "Choose always or on_request."
    told = {side: "on_request" for side in SIDES if value.get(side) == "on_request"}
    return {**told, **({FLAG: value[FLAG]} if value.get(FLAG) else {})}


def _field(sync: EntitySync, known: Schema, side: Side, name: str) -> Field | None:
    entity = known.of(side, sync)
    return entity.field(name) if entity else None


def told_by(sync: EntitySync, side: Side, name: str) -> bool:
    """Whether links keep this field's value, so that the effect of a filter on it can be told before anything is read."""
    return any(getattr(m, side) == name and not m.transform and getattr(m, OTHER[side]) for m in sync.mappings.all())


_CHECKS: Mapping[str, Any] = {
    "enabled": _enabled, "prevents": _prevents, "window": _window, "filters": _filters, "match": _match,
    "match_tolerance": _tolerance, "push": _push,
}  # fmt: skip
