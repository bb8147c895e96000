"""What would the mappings of an entity sync be, can they run, and how do they differ from what is?  Saved whole or not at all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import asdict, dataclass, field, replace
from datetime import date, datetime
from typing import Any

from django.db import transaction

from connectors.models import EntitySync, Event, FieldMapping, Integration, changing
from connectors.sync import drift, effect
from connectors.sync.compile import SettingsError, compile_all, pair_of
from connectors.sync.fitting import MISSING, UNFIT, Fit, fit
from connectors.sync.mapping import Unfit, typed
from connectors.sync.rules import ARCHIVED, LEFT, RIGHT, Side
from connectors.sync.run import mark_settings_changed
from connectors.sync.schema import Schema, stored
from connectors.sync.transforms import TRANSFORMS

WHENS = dict(FieldMapping._meta.get_field("when").choices or [])
DIRECTIONS = {str(value): str(label) for value, label in EntitySync.Direction.choices}
POLICIES = {"": "As the entity sync says", **{str(v): str(label) for v, label in EntitySync.Policy.choices}}
UNMAPPED = {"park": "Park the record", "skip": "Leave the field as it is", "default": "Take the default"}
GUARDS = {"": "No: a cut value is never written back", "overwrite": "Yes, overwrite"}
# What a person reads about each transform, and the settings that it takes.
ABOUT = {
    "first_of": ("First filled of several fields", ("fields",)),
    "template": ("Text made of several fields", ("template", "fields")),
    "invert": ("One divided by the number", ()),
    "product": ("Product of several fields", ("fields",)),
    "lower": ("Small letters", ()),
    "multiply": ("Multiplied by a number", ("by",)),
    "while_filled": ("Only while other fields are filled", ("fields",)),
    "truncate": ("Cut to the length that the other side takes", ()),
}
NAMES = {
    "left": "Left field", "right": "Right field", "direction": "Direction", "policy": "Policy", "transform": "Transform",
    "args": "Settings", "constant": "Constant", "when": "When", "guard": "Overwrite a cut value", "required": "Required",
    "unmapped": "Option without partner", "default": "Default",
}  # fmt: skip
COLUMNS = tuple(NAMES)
SIDES: tuple[Side, Side] = (LEFT, RIGHT)


@dataclass(frozen=True)
class Row:
    """One mapping as a person wants it."""

    left: str = ""
    right: str = ""
    direction: str = "both"
    policy: str = ""
    transform: str = ""
    args: Mapping[str, Any] = field(default_factory=dict)
    constant: object = None
    when: str = "always"
    guard: str = ""
    required: bool = False
    unmapped: str = "park"
    default: str = ""
    id: int | None = None  # of the mapping that it changes; None: a new one

    @property
    def name(self) -> str:
        """The mapping's key, and what people call it."""
        return FieldMapping(left=self.left, right=self.right).name

    @property
    def title(self) -> str:
        """Both fields with the arrow between."""
        arrow = {"both": "↔", "to_right": "→", "to_left": "←"}.get(self.direction, "↔")
        return f"{self.left or 'constant'} {arrow} {self.right or 'constant'}"


class MappingsError(SettingsError):
    """Mappings that can't be saved; `rows` has by place and column what is wrong there, `problems` the rest as well."""

    def __init__(
        self, rows: Mapping[int, Mapping[str, str]], general: Sequence[str] = (), names: Sequence[str] = ()
    ) -> None:
        self.rows, self.general = {k: dict(v) for k, v in rows.items()}, list(general)
        named = [
            f"{names[place] if place < len(names) else f'Row {place + 1}'}: {text}"
            for place, own in self.rows.items()
            for text in own.values()
        ]
        super().__init__([*named, *self.general])


class StaleMappings(Exception):
    """The mappings were changed since they were looked at; `changed` says how."""

    def __init__(self, changed: Sequence[str] = ()) -> None:
        told = f" Changed meanwhile: {'; '.join(changed)}." if changed else ""
        super().__init__(
            f"The settings of this entity sync were changed since you opened them. Nothing was saved.{told}"
        )
        self.changed = list(changed)


# Reading


def row_of(mapping: FieldMapping) -> Row:
    """Return a stored mapping as a row."""
    return Row(**{name: getattr(mapping, name) for name in COLUMNS}, id=mapping.pk)


def rows_of(sync: EntitySync) -> list[Row]:
    """Return the stored mappings in their order."""
    return [row_of(mapping) for mapping in sync.mappings.order_by("position", "id")]


def told(rows: Sequence[Row]) -> str:
    """Return rows as text, for a page to send back what it showed."""
    return json.dumps([asdict(row) for row in rows], sort_keys=True, default=str)


def from_told(text: str) -> list[Row]:
    """Read what `told` wrote; what is no such text is nothing."""
    try:
        lines = json.loads(text or "[]")
        return [Row(**{k: v for k, v in line.items() if k in (*COLUMNS, "id")}) for line in lines]
    except (ValueError, TypeError, AttributeError):
        return []


def draft(sync: EntitySync, rows: Sequence[Row]) -> EntitySync:
    """Return the entity sync as it would be, with mappings in memory and the options that are stored.  Nothing is written."""
    kept = {m.pk: m for m in FieldMapping.objects.filter(entity_sync=sync).prefetch_related("options")}
    would = copy(sync)
    mappings: list[FieldMapping] = []
    for place, row in enumerate(rows):
        old = kept.get(row.id or 0)
        made = FieldMapping(
            pk=row.id or -1 - place, entity_sync_id=sync.pk, position=place, **{n: getattr(row, n) for n in COLUMNS}
        )
        same = old is not None and (old.left, old.right) == (row.left, row.right)
        options = list(old.options.all()) if old is not None and same else []
        made._prefetched_objects_cache = {"options": options}  # type: ignore[attr-defined]
        mappings.append(made)
    would._prefetched_objects_cache = {"mappings": mappings}  # type: ignore[attr-defined]
    return would


def fit_of(sync: EntitySync, row: Row, schema: Schema) -> Fit | None:
    """Judge one row, or None where a system was never read."""
    left, right = schema.of(LEFT, sync), schema.of(RIGHT, sync)
    if left is None or right is None:
        return Fit(MISSING, "The system has no such entity any more.") if schema.known else None
    return fit(
        left.field(row.left), right.field(row.right), names=(row.left, row.right), direction=in_effect(sync, row.direction),
        transform=row.transform, guarded=bool(row.guard or row.args.get("truncate")), constant=row.constant,
    )  # fmt: skip


def in_effect(sync: EntitySync, direction: str) -> str:
    """Return a mapping's direction, as far as its entity sync lets values flow; "none": nowhere."""
    if sync.direction == "both" or direction == sync.direction:
        return direction
    return sync.direction if direction == "both" else "none"


# Checking


def check(sync: EntitySync, rows: Sequence[Row], schema: Schema) -> None:
    """Raise MappingsError with everything that can't run, each thing at its field.  No call is made."""
    found: dict[int, dict[str, str]] = {}
    before = {row.id: row for row in rows_of(sync)}
    seen: dict[tuple[str, str], int] = {}
    for place, row in enumerate(rows):
        own = _of_row(sync, row, schema, changed=before.get(row.id) != row)
        if (row.left, row.right) in seen:
            own.setdefault("right", "These two fields are mapped already, above.")
        seen.setdefault((row.left, row.right), place)
        if own:
            found[place] = own
    general: list[str] = []
    if not schema.known:
        general.append("The schema of both systems has not been read yet. Press “Read the schema” first.")
    elif not found:
        general = _compiled(sync, rows, schema, found)
    if found or general:
        raise MappingsError(found, general, [row.title for row in rows])


def check_row(sync: EntitySync, row: Row, schema: Schema) -> None:
    """Raise MappingsError where one row alone can't run."""
    if found := _of_row(sync, row, schema, changed=True):
        raise MappingsError({0: found}, (), [row.title])


def _compiled(sync: EntitySync, rows: Sequence[Row], schema: Schema, found: dict[int, dict[str, str]]) -> list[str]:
    """Return what compiling says that concerns no single row; the rest goes to its row."""
    try:
        pair_of(draft(sync, rows), schema.described)
    except SettingsError as error:
        general: list[str] = []
        for problem in error.problems:
            text = problem.removeprefix(f"{sync.name}: ")
            place = next((n for n, row in enumerate(rows) if text.startswith((f"{row.name} ", f"{row.name}:"))), None)
            if place is None:
                general.append(text)
            else:
                found.setdefault(place, {}).setdefault("direction", text)
        return general
    return []


def _of_row(sync: EntitySync, row: Row, schema: Schema, *, changed: bool) -> dict[str, str]:
    found: dict[str, str] = {}
    if not row.left and not row.right:
        return {"left": "Choose a field on the left, on the right, or both."}
    for side in SIDES:
        name, entity = getattr(row, side), schema.of(side, sync)
        if name and entity is not None and entity.field(name) is None and name != ARCHIVED and changed:
            found[side] = f"{schema.described.names[side]} has no field {name!r} on {entity.name}."
    if ARCHIVED in (row.left, row.right) and row.left != row.right:
        found["right"] = "“Inactive” can only agree with “Inactive”."
    for name, known in (("direction", DIRECTIONS), ("policy", POLICIES), ("when", WHENS), ("guard", GUARDS)):
        if getattr(row, name) not in known:
            found[name] = f"One of: {', '.join(word or 'empty' for word in known)}."
    if row.unmapped not in UNMAPPED and row.unmapped:
        found["unmapped"] = f"One of: {', '.join(UNMAPPED)}."
    found |= {name: text for name, text in _transform(row).items() if name not in found}
    found |= {name: text for name, text in _constant(sync, row, schema).items() if name not in found}
    if row.unmapped == "default" and not row.default:
        found.setdefault("default", "Say which option an option without partner becomes.")
    if changed and not found:
        judged = fit_of(sync, row, schema)
        if judged is not None and judged.word == UNFIT:
            found["right"] = judged.why
    return found


def _transform(row: Row) -> dict[str, str]:
    if not isinstance(row.args, dict):
        return {"args": 'Settings are written as {"name": value}.'}
    if not row.transform:
        return {}
    if row.transform not in TRANSFORMS:
        return {"transform": f"There is no transform {row.transform!r}. There are: {', '.join(TRANSFORMS)}."}
    needed = ABOUT.get(row.transform, ("", ()))[1]
    fields = row.args.get("fields", [])
    if "fields" in needed and not (isinstance(fields, list) and all(isinstance(f, str) for f in fields)):
        return {"args": 'fields is a list of names: {"fields": ["a", "b"]}.'}
    if "by" in needed and not _is_number(row.args.get("by")):
        return {"args": 'Say by which number: {"by": 100}.'}
    if "template" in needed:
        return _template(str(row.args.get("template", "")), len(fields))
    return {}


def _is_number(value: object) -> bool:
    try:
        return float(str(value)) != 0
    except ValueError:
        return False


def _template(text: str, fields: int) -> dict[str, str]:
    words = {"value": "", "id": "", **{f"f{n}": "" for n in range(fields)}}
    try:
        text.format_map(words)
    except (KeyError, ValueError, IndexError, AttributeError):
        return {"args": f"The template may name {', '.join('{' + word + '}' for word in words)}."}
    return {} if text else {"args": 'Say what the text is made of: {"template": "{value} ({id})"}.'}


def _constant(sync: EntitySync, row: Row, schema: Schema) -> dict[str, str]:
    one_sided = bool(row.left) != bool(row.right)
    if row.constant is None:
        empty = "right" if row.left else "left"
        return {empty: "Choose a field here too, or give a constant."} if one_sided else {}
    if not one_sided:
        return {"constant": "A constant goes to one side: leave the field of the other side empty."}
    side: Side = LEFT if row.left else RIGHT
    entity = schema.of(side, sync)
    own = entity.field(getattr(row, side)) if entity else None
    try:
        if own is not None:
            typed(own, row.constant)
    except Unfit as error:
        return {"constant": error.message}
    return {}


# Differences


def differences(before: Sequence[Row], after: Sequence[Row]) -> list[str]:
    """Say in words what was added, changed, removed, moved."""
    old = {row.id: row for row in before}
    said: list[str] = []
    for row in after:
        was = old.get(row.id) if row.id is not None else None
        if was is None:
            said.append(f"added {row.title}")
            continue
        said += [f"{was.title}: {change}" for change in changes_of(was, row)]
    kept = {row.id for row in after if row.id is not None}
    said += [f"removed {row.title}" for row in before if row.id not in kept]
    order = [row.id for row in after if row.id in old]
    if order != [row.id for row in before if row.id in set(order)]:
        said.append("order of rows changed")
    return said


def changes_of(was: Row, row: Row) -> list[str]:
    """Return "Direction: Both ways → Left to right" for each column that differs."""
    return [
        f"{NAMES[name]}: {shown(name, getattr(was, name))} → {shown(name, getattr(row, name))}"
        for name in COLUMNS
        if getattr(was, name) != getattr(row, name)
    ]


def shown(name: str, value: object) -> str:
    """Return a column's value as a person reads it."""
    labels = {"direction": DIRECTIONS, "policy": POLICIES, "when": WHENS, "unmapped": UNMAPPED, "guard": GUARDS}
    if name in labels:
        return str(labels[name].get(str(value), value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False) if value else "–"
    return "–" if value in (None, "") else str(value)


def merged(seen: Sequence[Row], edited: Sequence[Row], now: Sequence[Row]) -> list[Row]:
    """Return a person's edits on top of what somebody else has saved meanwhile: what they left alone is as it is now."""
    was, there = {row.id: row for row in seen}, {row.id: row for row in now}
    found: list[Row] = []
    for row in edited:
        old, new = was.get(row.id), there.get(row.id)
        if row.id is None or old is None:
            found.append(row)
        elif new is not None:
            kept = {name: getattr(new, name) for name in COLUMNS if getattr(row, name) == getattr(old, name)}
            found.append(replace(row, **kept))
        elif row != old:
            found.append(replace(row, id=None))  # removed by somebody else, edited here: theirs to remove again
    mentioned = {row.id for row in (*edited, *seen)}
    return [*found, *(row for row in now if row.id not in mentioned)]


# Saving


def effect_of(sync: EntitySync, rows: Sequence[Row], today: date) -> list[str]:
    """Say what these rows would do to the records that are here.  Nothing is kept of it."""
    integration, schema = sync.integration, stored(sync.integration)
    try:
        change = effect.trial(integration, schema.described, lambda: _on_trial(sync, rows))
        return effect.sentences(effect.weigh(integration, change, today))
    except SettingsError as error:
        return [f"The effect can't be counted: {problem}" for problem in error.problems]


def _on_trial(sync: EntitySync, rows: Sequence[Row]) -> None:
    write(sync, rows)
    mark_settings_changed(sync.integration, sync)


def print_of(rows: Sequence[Row], revision: int) -> str:
    """Return what tells one draft from another: what was shown before a confirmation is what is saved after it."""
    text = json.dumps([told(rows), revision])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def save(
    sync: EntitySync, rows: Sequence[Row], *, revision: int, now: datetime, by: str = "", user: object = None, why: str = "",
    seen: Sequence[Row] = (),
) -> list[str]:  # fmt: skip
    """Make the mappings these rows, all or nothing; queued writes stop at the new rules.  Returns what changed, in words.

    Raises StaleMappings and MappingsError.
    """
    schema = stored(sync.integration)
    check(sync, rows, schema)
    with changing(why or "Mappings changed", user), transaction.atomic():
        before = rows_of(sync)
        if [replace(row, id=None) for row in rows] == [replace(row, id=None) for row in before]:
            return []  # nothing to do, also where a double click sends the same once more
        lock(sync, revision, seen)
        before = rows_of(sync)
        said = differences(before, rows)
        if not said:
            return []
        known = _problems(sync, schema)
        write(sync, rows)
        if new := [problem for problem in _problems(sync, schema) if problem not in known]:
            raise MappingsError({}, new)
        mark_settings_changed(sync.integration, sync)
        drift.recheck(sync, now)
        Event.objects.create(
            integration_id=sync.integration_id, code="mappings changed", actor=by[:150], at=now,
            message=f"{sync.name}: {'; '.join(said)}"[:1000],
        )  # fmt: skip
    sync.refresh_from_db(fields=["revision"])
    return said


def lock(sync: EntitySync, revision: int, seen: Sequence[Row] = ()) -> None:
    """Hold the integration's row, as every change of settings does, and refuse who has not seen the newest.  Raises StaleMappings."""
    Integration.objects.select_for_update().get(pk=sync.integration_id)
    current = EntitySync.objects.values_list("revision", flat=True).get(pk=sync.pk)
    if current != revision:
        raise StaleMappings(differences(seen, rows_of(sync)) if seen else ())


def _problems(sync: EntitySync, schema: Schema) -> list[str]:
    """Return what can't run in the whole integration: of other entity syncs only what is new matters here."""
    integration = Integration.objects.select_related("left", "right").get(pk=sync.integration_id)
    try:
        compile_all(integration, schema.described)
    except SettingsError as error:
        return list(error.problems)
    return []


def write(sync: EntitySync, rows: Sequence[Row]) -> None:
    """Store the rows, in the caller's transaction; nothing is checked here."""
    there = {mapping.pk: mapping for mapping in sync.mappings.all()}
    kept = {row.id for row in rows if row.id in there}
    for pk, mapping in there.items():
        if pk not in kept:
            _remove_options(mapping)
            mapping.delete()
    renamed = [r for r in rows if r.id in kept and (r.left, r.right) != (there[r.id].left, there[r.id].right)]
    for row in renamed:  # out of each other's way: two rows may swap their fields
        FieldMapping.objects.filter(pk=row.id or 0).update(left=f"~{row.id}", right=f"~{row.id}")
    for place, row in enumerate(rows):
        old = there.get(row.id or 0)
        values: dict[str, Any] = {name: getattr(row, name) for name in COLUMNS}
        if old is None:
            FieldMapping.objects.create(entity_sync=sync, position=place, **values)
            continue
        if row in renamed:
            _remove_options(old)  # they were of other fields
        if row != row_of(old) or old.position != place:
            for name, value in {**values, "position": place}.items():
                setattr(old, name, value)
            old.save()


def _remove_options(mapping: FieldMapping) -> None:
    for option in mapping.options.all():
        option.delete()  # one by one: each leaves its history
