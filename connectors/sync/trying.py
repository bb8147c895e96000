"""What would the mappings make of one record, in both directions?  Reads that record from both systems, writes nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import partial

from django.db.models import Max, Q

from connectors.contract import Connector, Record, Ref, Row, Value, Write
from connectors.models import EntitySync, RecordLink
from connectors.sync import drafts
from connectors.sync.compile import SettingsError, pair_of
from connectors.sync.explain import name_of
from connectors.sync.mapping import Mapper, Unfit, Unlinked
from connectors.sync.rules import ARCHIVED, LEFT, OTHER, RIGHT, FieldRule, Pair, Side
from connectors.sync.schema import Schema
from connectors.sync.values import CanonicalValues, decode

LAST = 5
RECENT = 20_000  # links, by number, among which the last records of an entity sync are looked for
FOUND = 20
Records = Mapping[Side, Record | None]


@dataclass(frozen=True)
class Way:
    """One direction of one mapping."""

    to: Side
    given: str  # what the source holds
    out: str = ""  # what would be written
    there: str = ""  # what the target holds
    error: str = ""
    note: str = ""  # why nothing flows

    @property
    def same(self) -> bool:
        """Whether both sides agree already."""
        return not self.error and not self.note and self.out == self.there


@dataclass(frozen=True)
class Line:
    """One mapping tried on one record."""

    title: str
    place: int
    ways: Sequence[Way] = ()
    error: str = ""  # the mapping itself can't run


# Records to try


def last_records(sync: EntitySync, count: int = LAST) -> list[RecordLink]:
    """Return the youngest links of an entity sync: by the end of the table, else by the index of its records."""
    newest = RecordLink.objects.aggregate(at=Max("id"))["at"] or 0
    rows = RecordLink.objects.filter(entity_sync=sync, ended=0, integration=sync.integration_id)
    found = list(rows.filter(pk__gt=newest - RECENT).order_by("-id")[:count])
    if found:
        return found
    for side in (LEFT, RIGHT):
        entity = sync.left_entity if side == LEFT else sync.right_entity
        known = RecordLink.objects.filter(
            **{"integration": sync.integration_id, "family": sync.family, f"{side}_entity": entity}
        ).order_by(f"-{side}_id")[:200]
        found = [link for link in known if link.entity_sync_id == sync.pk and not link.ended][:count]
        if found:
            return found
    return []


def find_records(sync: EntitySync, text: str) -> list[RecordLink]:
    """Return links by a record's exact id or number of the link, and among the last ones by name."""
    text = text.strip()
    if not text:
        return last_records(sync)
    rows = RecordLink.objects.filter(integration=sync.integration_id, family=sync.family, ended=0)
    left = rows.filter(left_entity=sync.left_entity, left_id=text)
    right = rows.filter(right_entity=sync.right_entity, right_id=text)
    found = [link for link in [*left[:FOUND], *right[:FOUND]] if link.entity_sync_id == sync.pk]
    if text.isdecimal() and len(text) < 19:
        found += list(RecordLink.objects.filter(pk=int(text), entity_sync=sync))
    if not found:
        newest = RecordLink.objects.aggregate(at=Max("id"))["at"] or 0
        lately = RecordLink.objects.filter(entity_sync=sync, ended=0, pk__gt=newest - RECENT)
        held = Q(base__icontains=text) | Q(left_staged__icontains=text) | Q(right_staged__icontains=text)
        found = list(lately.filter(held).order_by("-id")[:FOUND])
    return list({link.pk: link for link in found}.values())[:FOUND]


def title_of(link: RecordLink) -> str:
    """Return what people call the record."""
    name = name_of(link.base, link.left_staged, link.right_staged)
    ids = " = ".join(i for i in (link.left_id, link.right_id) if i)
    return f"{name} ({ids})" if name else ids or f"record {link.pk}"


def samples(links: Sequence[RecordLink]) -> dict[str, list[tuple[object, object]]]:
    """Return mapping name -> (left, right) values of these records as the hub keeps them.  No call is made."""
    found: dict[str, list[tuple[object, object]]] = {}
    for link in links:
        base = decode(link.base)
        now: dict[Side, CanonicalValues] = {
            LEFT: {**base, **decode(link.left_quirk), **decode(link.left_staged)},
            RIGHT: {**base, **decode(link.right_quirk), **decode(link.right_staged)},
        }
        for name in {**now[LEFT], **now[RIGHT]}:
            pair = (now[LEFT].get(name) if link.left_id else None, now[RIGHT].get(name) if link.right_id else None)
            found.setdefault(name, []).append(pair)
    return found


def read(link: RecordLink, schema: Schema, sync: EntitySync, connect: Callable[[Side], Connector]) -> Records:
    """Read both sides of a record, all fields that are described: edits that follow need no further call."""
    found: dict[Side, Record | None] = {}
    for side in (LEFT, RIGHT):
        record_id = link.left_id if side == LEFT else link.right_id
        entity = schema.of(side, sync)
        found[side] = None
        if record_id and entity is not None:
            names = frozenset(own.name for own in entity.fields if not own.group)
            fetched = connect(side).fetch(entity.name, [record_id], names)
            found[side] = next(iter(fetched.records), None)
    return found


# Trying


def attempt(sync: EntitySync, rows: Sequence[drafts.Row], schema: Schema, records: Records) -> list[Line]:
    """Try each mapping of a draft on one record.  What can't run says why, and does not keep the others from it."""
    return [_line(sync, place, row, schema, records) for place, row in enumerate(rows)]


def _line(sync: EntitySync, place: int, row: drafts.Row, schema: Schema, records: Records) -> Line:
    try:
        drafts.check_row(sync, row, schema)
        pair = pair_of(drafts.draft(_alone(sync), [row]), schema.described)
    except SettingsError as error:
        return Line(row.title, place, error=" ".join(error.problems))
    if not pair.rules:
        return Line(row.title, place, error="This mapping can't run.")
    rule = pair.rules[0]
    return Line(row.title, place, [_way(sync.integration_id, pair, rule, to, records) for to in (RIGHT, LEFT)])


def _alone(sync: EntitySync) -> EntitySync:
    """The same entity sync without what one mapping alone need not meet."""
    alone = copy(sync)
    alone.match, alone.filters, alone.push = [], [], {}
    return alone


def _way(integration: int, pair: Pair, rule: FieldRule, to: Side, records: Records) -> Way:
    source, target = rule.of(OTHER[to]), rule.of(to)
    there = _held(rule, to, records[to])
    given = _held(rule, OTHER[to], records[OTHER[to]])
    if target is None:
        return Way(to, given, note="No field on this side.")
    if not rule.flows(to):
        return Way(to, given, there=there, note="Nothing flows this way.")
    record = records[OTHER[to]]
    if record is None and rule.constant is None:
        return Way(to, given, there=there, note="There is no record to read on the other side.")
    if source is not None and source.name == ARCHIVED:
        return Way(to, given, out=given, there=there)
    creating = rule.when == "create" or rule.constant is not None or target.write is Write.CREATE
    mapper = Mapper(replace(pair, rules=(rule,)))
    try:
        values = {} if record is None else mapper.canonical(OTHER[to], record, partial(_key_in, integration, OTHER[to]))
        out = mapper.to_side(to, values, _id_of, creating=creating)
    except Unfit as error:
        return Way(to, given, there=there, error=error.message)
    except Unlinked as error:
        return Way(to, given, there=there, error=f"{error}. It waits for it.")
    except (ValueError, TypeError, ArithmeticError, KeyError) as error:
        return Way(to, given, there=there, error=f"The value can't be changed so ({type(error).__name__}).")
    if target.name not in out:
        return Way(to, given, there=there, note="Nothing would be written.")
    return Way(to, given, _text(rule, to, out[target.name]), there)


def _held(rule: FieldRule, side: Side, record: Record | None) -> str:
    own = rule.of(side)
    if own is None:
        return "" if rule.constant is None else f"constant {rule.constant}"
    if record is None:
        return ""
    if own.name == ARCHIVED:
        return "yes" if record.archived else "no"
    return _text(rule, side, record.values.get(own.name))


def _text(rule: FieldRule, side: Side, value: Value) -> str:
    """Return a system's value as a person reads it."""
    if value is None or value == "":
        return "empty"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Ref):
        return value.label or f"{value.entity} {value.id}"
    if isinstance(value, tuple):
        return f"{len(value)} line{'' if len(value) == 1 else 's'}: {'; '.join(_row(row) for row in value[:5])}"
    if isinstance(value, frozenset):
        return ", ".join(sorted(_label(rule, side, key) for key in value)) or "empty"
    return _label(rule, side, str(value))


def _label(rule: FieldRule, side: Side, key: str) -> str:
    label = rule.options.labels.get(side, {}).get(key) if rule.options else None
    return f"{label} ({key})" if label and label != key else key


def _row(row: Row) -> str:
    values = {name: value.label or value.id if isinstance(value, Ref) else value for name, value in row.values.items()}
    return ", ".join(f"{name} {value}" for name, value in values.items() if value not in (None, ""))


def _key_in(integration: int, side: Side, place: str, record_id: str) -> str | None:
    """Return the key of the link that holds a record, in the family that the place names or in any."""
    family, _, entity = place.rpartition("/")
    known = EntitySync.objects.filter(**{"integration": integration, f"{side}_entity": entity})
    families = [family] if family else sorted(set(known.values_list("family", flat=True)))
    rows = RecordLink.objects.filter(
        **{
            "integration": integration,
            "family__in": families,
            f"{side}_entity": entity,
            f"{side}_id": record_id,
            "ended": 0,
        }
    )
    return rows.values_list("key", flat=True).first()


def _id_of(key: str, side: Side) -> Ref | None:
    link = RecordLink.objects.filter(key=key).first()
    record_id = getattr(link, f"{side}_id", None)
    return Ref(getattr(link, f"{side}_entity"), record_id) if link is not None and record_id else None
