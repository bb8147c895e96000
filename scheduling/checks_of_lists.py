"""Do the option lists of both systems still fit each other?  Picklist labels, currencies, and what mappings point at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from connectors.contract import Option
from connectors.sync.picklists import same_label
from connectors.sync.rules import OTHER, Side
from scheduling.findings import (
    BLOCKING,
    OK,
    WARNING,
    Found,
    Level,
    Line,
    at_connection,
    at_mapping,
    count,
    named,
    reached,
)
from scheduling.seen import CHOSEN, SIDES, End, Map, Seen, Sync, stand_in_entity


def is_currency(name: str) -> bool:
    """Whether a field holds a currency: CurrencyRef, transactioncurrencyid, CurrencyIsoCode."""
    return "currency" in name.casefold()


def options_of(end: End, sync: Sync, mapping: Map) -> tuple[Option, ...] | None:
    """Return one side's option list of a mapping; None where it is no picklist or could not be read."""
    return end.options.get((sync.entities[end.side], mapping.fields[end.side]))


def picklists(seen: Seen) -> Iterator[tuple[Sync, Map]]:
    """Yield the mappings that pair the options of two lists."""
    for sync in seen.syncs:
        for mapping in sync.maps:
            kinds = [
                own.kind
                for side in SIDES
                if (own := seen.ends[side].field(sync.entities[side], mapping.fields[side])) is not None
            ]
            if all(mapping.fields.values()) and mapping.constant is None and any(kind in CHOSEN for kind in kinds):
                yield sync, mapping


@dataclass(frozen=True)
class Finding:
    """What is said of one mapping; the same of several entity syncs is said once."""

    level: Level
    fields: str
    message: str


class Findings:
    """Collects what several entity syncs have in common."""

    def __init__(self) -> None:
        self._found: dict[Finding, list[tuple[Sync, Map]]] = {}

    def add(self, level: Level, sync: Sync, mapping: Map, message: str) -> None:
        """Note one finding."""
        fields = " with ".join(name for name in mapping.fields.values() if name)
        self._found.setdefault(Finding(level, fields, message), []).append((sync, mapping))

    def lines(self, check: str) -> Found:
        """Tell each finding once, with the names of its entity syncs and the page of the first one's mapping."""
        for finding, places in self._found.items():
            syncs = ", ".join(dict.fromkeys(sync.name for sync, _ in places))
            where = {} if finding.level == OK else at_mapping(places[0][1])
            yield Line(check, finding.level, f"{syncs}: {finding.fields}: {finding.message}", **where)

    def __bool__(self) -> bool:
        return any(finding.level != OK for finding in self._found)


def labels(seen: Seen) -> Found:
    """Each option that records may carry has a partner, under the label that people know."""
    found, looked, unread = Findings(), 0, list(_unread(seen))
    for sync, mapping in picklists(seen):
        if all(is_currency(name) for name in mapping.fields.values()):
            continue  # told with the currencies
        looked += 1
        for side in SIDES:
            end = seen.ends[side]
            options = options_of(end, sync, mapping) if end.reached else None
            if options is None:
                continue
            _unmapped(found, seen, sync, mapping, side, options)
            _drift(found, seen, sync, mapping, side, options)
    yield from unread
    yield from found.lines("picklist labels")
    if looked and not found and not unread:
        yield Line(
            "picklist labels", OK, f"The labels of {count(looked, 'picklist')} are as they were when they were matched."
        )


def _unread(seen: Seen) -> Found:
    for end in reached(seen):
        for (entity, name), why in end.unread.items():
            message = f"The choices of {name} of {entity} in {end.name} could not be read: {why}"
            yield Line("picklist labels", BLOCKING, message, **at_connection(end))


def _unmapped(found: Findings, seen: Seen, sync: Sync, mapping: Map, side: Side, options: tuple[Option, ...]) -> None:
    if not sync.towards(mapping, OTHER[side]):
        return  # what this side chooses goes nowhere
    mapped = {partners.keys[side] for partners in mapping.options}
    without = [
        option.label
        for option in options
        if option.active and option.key not in mapped and not _left_out(sync, mapping, side, option.key)
    ]
    if not without:
        return
    who = f"{count(len(without), 'option')} of {seen.ends[side].name} without a partner: {named(without)}."
    if mapping.unmapped == "park":
        level, what = WARNING, "Records with one of them are parked. Give it a partner."
    elif mapping.unmapped == "default":
        level, what = OK, "The mapping's default is written instead."
    else:
        level, what = OK, "The mapping leaves them out."
    found.add(level, sync, mapping, f"{who} {what}")


def _left_out(sync: Sync, mapping: Map, side: Side, key: str) -> bool:
    """Whether a filter keeps all records with this option out."""
    name = mapping.fields[side]
    return any(not c.holds({name: key}) for c in sync.filters if c.side == side and c.field == name)


def _drift(found: Findings, seen: Seen, sync: Sync, mapping: Map, side: Side, options: tuple[Option, ...]) -> None:
    there = {option.key: option for option in options}
    name = seen.ends[side].name
    vanished: dict[Level, list[str]] = {BLOCKING: [], WARNING: []}
    for partners in mapping.options:
        key, stored = partners.keys[side], partners.labels[side]
        if not key:
            continue
        option = there.get(key)
        if option is None:
            written = side in partners.writes and sync.towards(mapping, side)
            vanished[BLOCKING if written else WARNING].append(stored or key)
        elif stored and option.label != stored and option.active:  # QuickBooks renames what is made inactive
            # Keys agree, so nothing breaks; but who reads the mapping would take it for another option.
            message = (
                f"{name} renamed {stored!r} to {option.label!r}. Records still agree; look whether it means the same."
            )
            found.add(WARNING, sync, mapping, message)
    if vanished[BLOCKING]:
        message = (
            f"{name} no longer has {named(vanished[BLOCKING])}, which records are written with. Map another option."
        )
        found.add(BLOCKING, sync, mapping, message)
    if vanished[WARNING]:
        found.add(
            WARNING, sync, mapping, f"{name} no longer has {named(vanished[WARNING])}. Remove it from the mapping."
        )


def currencies(seen: Seen) -> Found:
    """Both systems know the currencies that records carry."""
    pairs = [(s, m) for s, m in picklists(seen) if all(is_currency(name) for name in m.fields.values())]
    found, common = Findings(), set[str]()
    for sync, mapping in pairs:
        active: dict[Side, dict[str, str]] = {}
        for side in SIDES:
            options = options_of(seen.ends[side], sync, mapping) if seen.ends[side].reached else None
            if options is not None:
                active[side] = {option.key: option.label for option in options if option.active}
        if len(active) == len(SIDES):
            common |= _compare(found, seen, sync, mapping, active)
    yield from found.lines("currencies")
    if common and not found:
        yield Line("currencies", OK, f"Both systems have the currencies {named(sorted(common))}.")
    if not pairs and len(reached(seen)) == len(SIDES):
        yield Line("currencies", OK, "No currency is mapped.")


def _compare(found: Findings, seen: Seen, sync: Sync, mapping: Map, active: dict[Side, dict[str, str]]) -> set[str]:
    """Note what only one side has; returns the labels of those that both have and that are mapped."""
    mapped = [p.keys for p in mapping.options if all(p.keys[side] in active[side] for side in SIDES)]
    here = {side: {keys[side] for keys in mapped} for side in SIDES}
    if not mapped:
        have = " and ".join(
            f"{seen.ends[side].name} has {named(list(active[side].values())) or 'none'}" for side in SIDES
        )
        message = f"no active currency is mapped on both sides: {have}. Add one to the other system, or map one."
        found.add(BLOCKING, sync, mapping, message)
        return set()
    for side in SIDES:
        others = {same_label(label) for label in active[OTHER[side]].values()}
        alone = {key: label for key, label in active[side].items() if key not in here[side]}
        missing = [label for label in alone.values() if same_label(label) not in others]
        if missing:
            name, other = seen.ends[side].name, seen.ends[OTHER[side]].name
            message = f"only {name} has {named(missing)}; records in it can't be written to {other}. Add it to {other}."
            found.add(WARNING, sync, mapping, message)
        unmapped = [label for label in alone.values() if label not in missing]
        if unmapped and side == SIDES[0]:
            message = f"both systems have {named(unmapped)}, and it is not mapped. Map it."
            found.add(WARNING, sync, mapping, message)
    return {active[SIDES[0]][keys[SIDES[0]]] for keys in mapped}


def references(seen: Seen) -> Found:
    """What constants, options and stand-ins point at is there and active."""
    for end in reached(seen):
        lines: list[Line] = []
        looked = 0
        found = Findings()
        for sync in seen.syncs:
            for mapping in sync.maps:
                for message in _constants(end, sync, mapping):
                    lines.append(
                        Line("inactive references", BLOCKING, f"{sync.name}: {message}", **at_mapping(mapping))
                    )
                looked += (mapping.constant is not None and options_of(end, sync, mapping) is not None) + len(
                    mapping.options
                )
                _inactive(found, end, sync, mapping)
            lines += _stand_ins(end, sync)
        yield from lines
        yield from found.lines("inactive references")
        if not lines and not found:
            yield Line(
                "inactive references", OK, f"All {looked} choices of {end.name} that mappings point at are active."
            )


def _constants(end: End, sync: Sync, mapping: Map) -> Iterator[str]:
    entity, name = sync.entities[end.side], mapping.fields[end.side]
    places = [(name, mapping.constant)]
    places += [(f"{name}.{line.fields[end.side]}", line.constant) for line in mapping.lines]
    for place, constant in places:
        options = end.options.get((entity, place))
        if constant is None or options is None:
            continue
        own = end.field(entity, name)
        label = own.label if own and own.label and place == name else place
        option = next((o for o in options if o.key == str(constant)), None)
        if option is None:
            yield f"the constant {constant} of {label} is no longer in {end.name}. Choose another one."
        elif not option.active:
            yield f"the constant {option.label!r} of {label} is inactive in {end.name}. Activate it there, or choose another one."


def _inactive(found: Findings, end: End, sync: Sync, mapping: Map) -> None:
    options = options_of(end, sync, mapping)
    mapped = {p.keys[end.side] for p in mapping.options if end.side in p.writes}
    inactive = [o.label for o in options or () if not o.active and o.key in mapped]
    if inactive and sync.towards(mapping, end.side):
        message = (
            f"{named(inactive)} is inactive in {end.name}; {end.name} may refuse records with it. Activate or unmap it."
        )
        found.add(WARNING, sync, mapping, message)


def _stand_ins(end: End, sync: Sync) -> Iterator[Line]:
    for mapping in sync.maps:
        for line in mapping.lines:
            entity = stand_in_entity(end, sync, mapping, line) if line.default else ""
            wrong = end.stand_ins.get((entity, line.default), "")
            if wrong:
                message = (
                    f"{sync.name}: {entity} {line.default} in {end.name}, which stands for lines without one, {wrong}. Choose "
                    "another one in the mapping."
                )
                yield Line("inactive references", BLOCKING, message, **at_mapping(mapping))
