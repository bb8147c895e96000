"""Which options of a mapped picklist agree, which have no partner, and how many records wait for that?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from django.db import transaction

from connectors.contract import Kind, Option
from connectors.models import EntitySync, Event, FieldMapping, Integration, PicklistMapping, ProblemGroup, changing
from connectors.sync import drift
from connectors.sync.drafts import NAMES, UNMAPPED, MappingsError, lock, shown
from connectors.sync.problems import NO_OPTION, counted
from connectors.sync.proposing import OptionProposal, propose_options
from connectors.sync.rules import LEFT, OTHER, RIGHT, Side
from connectors.sync.run import mark_settings_changed
from connectors.sync.schema import Schema, stored_all

CHOSEN = (Kind.OPTION, Kind.OPTIONS)
SIDES: tuple[Side, Side] = (LEFT, RIGHT)


@dataclass(frozen=True)
class Unmapped:
    """An option without partner, and the records that stand still for it."""

    option: Option
    count: int = 0
    problem: int | None = None
    vanished: bool = False  # a record holds it, and the system no longer lists it


@dataclass(frozen=True)
class Picklist:
    """One mapping of choices, with all that a person decides about it."""

    mapping: FieldMapping
    choices: Mapping[Side, Sequence[Option]]
    is_list: Mapping[Side, bool]
    pairs: Sequence[PicklistMapping]
    unmapped: Mapping[Side, Sequence[Unmapped]]
    proposals: Sequence[OptionProposal] = ()
    unread: Sequence[Side] = ()  # sides whose choices could not be read

    @property
    def open_count(self) -> int:
        """How many active options have no partner."""
        return sum(len(self.unmapped[side]) for side in SIDES)

    @property
    def waiting(self) -> int:
        """How many records stand still for want of an option."""
        return sum(each.count for side in SIDES for each in self.unmapped[side])


@dataclass(frozen=True)
class PairRow:
    """Two options as a person wants them paired."""

    left_key: str
    right_key: str
    left_label: str = ""
    right_label: str = ""
    writes_left: bool | None = None  # None: as follows from the others
    writes_right: bool | None = None
    id: int | None = None
    token: str = field(default="", compare=False)

    @property
    def title(self) -> str:
        """Both labels."""
        return f"{self.left_label or self.left_key} = {self.right_label or self.right_key}"


def is_picklist(sync: EntitySync, mapping: FieldMapping, schema: Schema) -> dict[Side, bool]:
    """Return which sides of a mapping hold choices."""
    if not (mapping.left and mapping.right) or mapping.constant is not None:
        return {LEFT: False, RIGHT: False}
    found: dict[Side, bool] = {}
    for side in SIDES:
        entity = schema.of(side, sync)
        own = entity.field(getattr(mapping, side)) if entity else None
        found[side] = own is not None and own.kind in CHOSEN
    return found


def picklists(sync: EntitySync, schema: Schema) -> list[Picklist]:
    """Return the picklists of an entity sync: three queries, whatever their number.  No call is made."""
    waiting = _waiting(sync)
    found: list[Picklist] = []
    for mapping in sync.mappings.prefetch_related("options").order_by("position", "id"):
        lists = is_picklist(sync, mapping, schema)
        pairs = sorted(mapping.options.all(), key=lambda o: (o.left_label or o.left_key, o.pk))
        if any(lists.values()) or pairs:
            found.append(_picklist(sync, mapping, lists, pairs, schema, waiting))
    return found


def _picklist(
    sync: EntitySync, mapping: FieldMapping, lists: Mapping[Side, bool], pairs: Sequence[PicklistMapping], schema: Schema,
    waiting: Mapping[tuple[str, str, str], tuple[int, int]],
) -> Picklist:  # fmt: skip
    told = {side: schema.choices(side, sync, getattr(mapping, side)) for side in SIDES}
    choices: dict[Side, Sequence[Option]] = {side: told[side] or () for side in SIDES}
    unmapped: dict[Side, list[Unmapped]] = {LEFT: [], RIGHT: []}
    for side in SIDES:
        paired = {getattr(pair, f"{side}_key") for pair in pairs}
        stuck = {
            option: counted
            for (at, name, option), counted in waiting.items()
            if at == OTHER[side] and name == getattr(mapping, OTHER[side]) and option not in paired
        }
        known = {option.key: option for option in choices[side]}
        keys = [o.key for o in choices[side] if o.active and o.key not in paired]
        for key in dict.fromkeys([*keys, *stuck]):
            count, problem = stuck.get(key, (0, 0))
            option = known.get(key) or Option(key, key, active=False)
            unmapped[side].append(Unmapped(option, count, problem or None, key not in known and lists[side]))
        unmapped[side].sort(key=lambda each: (-each.count, each.option.label.casefold()))
    keys_of = [(pair.left_key, pair.right_key) for pair in pairs]
    return Picklist(
        mapping, choices, lists, pairs, unmapped, propose_options(choices[LEFT], choices[RIGHT], keys_of),
        [side for side in SIDES if lists[side] and told[side] is None],
    )  # fmt: skip


def unmapped_counts(syncs: Sequence[EntitySync]) -> dict[int, int]:
    """Return of entity syncs how many active options have no partner; what was never read is not there.  Three queries."""
    ids = {sync.integration_id for sync in syncs}
    integrations = list(Integration.objects.filter(pk__in=ids).select_related("left", "right"))
    schemas = stored_all(integrations)
    mappings: dict[int, list[FieldMapping]] = {}
    for mapping in FieldMapping.objects.filter(entity_sync__in=syncs).prefetch_related("options"):
        mappings.setdefault(mapping.entity_sync_id, []).append(mapping)
    found: dict[int, int] = {}
    for sync in syncs:
        schema = schemas[sync.integration_id]
        if not schema.known:
            continue
        found[sync.pk] = 0
        for mapping in mappings.get(sync.pk, ()):
            for side, is_list in is_picklist(sync, mapping, schema).items():
                paired = {getattr(option, f"{side}_key") for option in mapping.options.all()}
                told = schema.choices(side, sync, getattr(mapping, side)) or () if is_list else ()
                found[sync.pk] += sum(option.active and option.key not in paired for option in told)
    return found


def _waiting(sync: EntitySync) -> dict[tuple[str, str, str], tuple[int, int]]:
    """Return (side, field, option) -> (records, problem): counted to 10,001 each, by index."""
    rows = counted(ProblemGroup.objects.filter(entity_sync=sync, code=NO_OPTION, resolved_at=None).exclude(option=""))
    return {(row.side, row.field, row.option): (int(getattr(row, "records", 0)), row.pk) for row in rows[:500]}


# Saving


def pair_rows(mapping: FieldMapping) -> list[PairRow]:
    """Return the stored pairs."""
    return [
        PairRow(o.left_key, o.right_key, o.left_label, o.right_label, o.writes_left, o.writes_right, o.pk, o.token)
        for o in mapping.options.order_by("id")
    ]


def settle(rows: Sequence[PairRow]) -> list[PairRow]:
    """Give each pair its token and say which of several that share an option is written back: the first.  Pure."""
    settled: list[PairRow] = []
    for row in rows:
        token = row.token
        if not token:
            shared = next((o for o in settled if o.right_key == row.right_key or o.left_key == row.left_key), None)
            token = shared.token if shared else row.right_key
            if shared is None and any(o.token == token for o in (*settled, *rows) if o is not row):
                token = f"{row.left_key}={row.right_key}"
        settled.append(replace(row, token=token))
    # What a person said outright comes first: a pair that says nothing only takes what nobody has.
    for name, key in (("writes_left", "right_key"), ("writes_right", "left_key")):
        writers = {getattr(row, key) for row in settled if getattr(row, name)}
        for place, row in enumerate(settled):
            if getattr(row, name) is None:
                free = getattr(row, key) not in writers
                settled[place] = (
                    replace(row, writes_left=free) if name == "writes_left" else replace(row, writes_right=free)
                )
                writers.add(getattr(row, key))
    return settled


def problems_of(rows: Sequence[PairRow], unmapped: str, default: str) -> dict[int | str, str]:
    """Return what is wrong, by place of the pair or by name of the setting."""
    found: dict[int | str, str] = {}
    seen: set[tuple[str, str]] = set()
    for place, row in enumerate(rows):
        if not row.left_key or not row.right_key:
            found[place] = "Choose an option on both sides."
        elif (row.left_key, row.right_key) in seen:
            found[place] = "These two are paired already."
        seen.add((row.left_key, row.right_key))
    for name, key, side in (("writes_left", "right_key", "left"), ("writes_right", "left_key", "right")):
        writers: set[str] = set()
        for place, row in enumerate(rows):
            if getattr(row, name) and getattr(row, key) in writers and place not in found:
                found[place] = f"Another pair is written to the {side} for this option already."
            if getattr(row, name):
                writers.add(getattr(row, key))
    if unmapped not in UNMAPPED:
        found["unmapped"] = f"One of: {', '.join(UNMAPPED)}."
    if unmapped == "default" and default not in {row.token or row.right_key for row in settle(rows)}:
        found["default"] = "Choose one of the pairs: an option without partner becomes it."
    return found


def differences(before: Sequence[PairRow], after: Sequence[PairRow]) -> list[str]:
    """Say in words which pairs were added, changed and removed."""
    old = {(row.left_key, row.right_key): row for row in before}
    new = {(row.left_key, row.right_key): row for row in after}
    said = [f"added {row.title}" for key, row in new.items() if key not in old]
    said += [f"removed {row.title}" for key, row in old.items() if key not in new]
    for key, row in new.items():
        was = old.get(key)
        if was is None:
            continue
        for name, words in (("writes_left", "written to the left"), ("writes_right", "written to the right")):
            if getattr(row, name) is not None and getattr(was, name) != getattr(row, name):
                said.append(f"{row.title}: {words}: {_yes(getattr(was, name))} → {_yes(getattr(row, name))}")
    return said


def _stored(row: PairRow) -> tuple[object, ...]:
    return (row.left_key, row.right_key, row.writes_left, row.writes_right, row.token)


def _yes(value: bool | None) -> str:
    return "yes" if value else "no"


def save(
    mapping: FieldMapping, rows: Sequence[PairRow], unmapped: str, default: str, *, revision: int, now: datetime,
    schema: Schema, by: str = "", user: object = None, why: str = "",
) -> list[str]:  # fmt: skip
    """Make the pairs of one picklist these, all or nothing.  Returns what changed.  Raises StaleMappings, MappingsError."""
    sync = mapping.entity_sync
    rows = named(sync, mapping, rows, schema)
    if found := problems_of(rows, unmapped, default):
        places = {place: {"pair": text} for place, text in found.items() if isinstance(place, int)}
        raise MappingsError(
            places, [text for place, text in found.items() if not isinstance(place, int)], [row.title for row in rows]
        )
    with changing(why or "Options changed", user), transaction.atomic():
        mapping.refresh_from_db()
        wanted, before = settle(rows), pair_rows(mapping)
        if set(map(_stored, wanted)) == set(map(_stored, before)) and (unmapped, default) == (
            mapping.unmapped,
            mapping.default,
        ):
            return []  # also where a double click sends the same once more
        lock(sync, revision)
        said = differences(before, wanted)
        for name, value in (("unmapped", unmapped), ("default", default if unmapped == "default" else "")):
            if getattr(mapping, name) != value:
                said.append(f"{NAMES[name]}: {shown(name, getattr(mapping, name))} → {shown(name, value)}")
                setattr(mapping, name, value)
        if not said:
            return []
        _write(mapping, wanted)
        mark_settings_changed(sync.integration, sync)
        drift.recheck(sync, now)
        Event.objects.create(
            integration_id=sync.integration_id, code="options changed", actor=by[:150], at=now,
            message=f"{sync.name}: {mapping.name}: {'; '.join(said)}"[:1000],
        )  # fmt: skip
    sync.refresh_from_db(fields=["revision"])
    return said


def save_all(
    sync: EntitySync, pairs: Mapping[int, Sequence[PairRow]], *, revision: int, now: datetime, schema: Schema, by: str = "",
    user: object = None, why: str = "",
) -> list[str]:  # fmt: skip
    """Save the pairs of several picklists, by mapping, all or nothing.  Raises StaleMappings, MappingsError."""
    said: list[str] = []
    mappings = {m.pk: m for m in sync.mappings.all()}
    with changing(why or "Options changed", user), transaction.atomic():
        lock(sync, revision)
        for pk, rows in pairs.items():
            mapping = mappings[pk]
            mapping.entity_sync = sync
            said += save(
                mapping, rows, mapping.unmapped or "park", mapping.default, revision=sync.revision, now=now, schema=schema, by=by,
                user=user, why=why,
            )  # fmt: skip
    return said


def named(sync: EntitySync, mapping: FieldMapping, rows: Sequence[PairRow], schema: Schema) -> list[PairRow]:
    """Take up what is stored of each pair (token, who is written), and the labels that the systems show."""
    there = {(row.left_key, row.right_key): row for row in pair_rows(mapping)}
    labels = {
        side: {o.key: o.label for o in schema.choices(side, sync, getattr(mapping, side)) or ()} for side in SIDES
    }
    found: list[PairRow] = []
    for row in rows:
        old = there.get((row.left_key, row.right_key))
        found.append(
            replace(
                row, id=old.id if old else None, token=old.token if old else "",
                left_label=labels[LEFT].get(row.left_key) or row.left_label or (old.left_label if old else ""),
                right_label=labels[RIGHT].get(row.right_key) or row.right_label or (old.right_label if old else ""),
                writes_left=old.writes_left if old and row.writes_left is None else row.writes_left,
                writes_right=old.writes_right if old and row.writes_right is None else row.writes_right,
            )
        )  # fmt: skip
    return _inherit(list(there.values()), found)


def _inherit(before: Sequence[PairRow], rows: list[PairRow]) -> list[PairRow]:
    """Where the pair that was written goes, those that share its option may follow: nobody says no for them any more."""
    kept = {(row.left_key, row.right_key) for row in rows}
    gone = [row for row in before if (row.left_key, row.right_key) not in kept]
    left = {row.right_key for row in gone if row.writes_left} - {row.right_key for row in rows if row.writes_left}
    right = {row.left_key for row in gone if row.writes_right} - {row.left_key for row in rows if row.writes_right}
    return [
        replace(
            row, writes_left=None if row.right_key in left else row.writes_left,
            writes_right=None if row.left_key in right else row.writes_right,
        )
        for row in rows
    ]  # fmt: skip


def _write(mapping: FieldMapping, rows: Sequence[PairRow]) -> None:
    mapping.save()
    there = {option.pk: option for option in mapping.options.all()}
    kept = {row.id for row in rows if row.id is not None}
    for pk, option in there.items():
        if pk not in kept:
            option.delete()
    # Only one pair of an option may be written, at any moment: all give that up first.
    PicklistMapping.objects.filter(pk__in=kept.intersection(there)).update(writes_left=False, writes_right=False)
    for row in rows:
        values = {
            "left_key": row.left_key, "left_label": row.left_label[:200], "right_key": row.right_key,
            "right_label": row.right_label[:200], "token": row.token[:200], "writes_left": bool(row.writes_left),
            "writes_right": bool(row.writes_right),
        }  # fmt: skip
        old = there.get(row.id or 0)
        if old is None:
            PicklistMapping.objects.create(field_mapping=mapping, **values)
        elif any(getattr(old, name) != value for name, value in values.items()):
            for name, value in values.items():
                setattr(old, name, value)
            old.save()
        else:
            PicklistMapping.objects.filter(pk=old.pk).update(writes_left=old.writes_left, writes_right=old.writes_right)
