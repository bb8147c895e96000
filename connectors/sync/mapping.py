"""How does a record of one side become what both sides can hold, and back?  Rules are data; nothing is read or written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal

from connectors.contract import Field, Kind, Record, Ref, Row, Value, Values, Write
from connectors.sync.rules import (
    ARCHIVED,
    LEFT,
    OTHER,
    RIGHT,
    FieldRule,
    IdOf,
    KeyOf,
    Pair,
    Side,
    source_side,
)
from connectors.sync.transforms import SKIP, TRANSFORMS
from connectors.sync.values import Canonical, CanonicalValues, canonical_datetime, canonical_decimal, canonical_text


class Unfit(Exception):
    """A value that the other side can't take.  The record is parked with this sentence; the rest of the run goes on."""

    def __init__(self, code: str, field_name: str, message: str, *, option: str = "", named: bool = False) -> None:
        super().__init__(message)
        self.code, self.field, self.message = code, field_name, message
        self.option = option  # the key of the option that it is about
        self.named = named  # the sentence says the option's label, not only its key


class Unlinked(Exception):
    """A reference whose record has no partner on the side that is to be written."""

    def __init__(self, name: str, target: str) -> None:
        super().__init__(f"{name} refers to a record that has no partner yet")
        self.name, self.target = name, target


def reads_of(rules: Iterable[FieldRule], side: Side) -> list[tuple[str, str, FieldRule]]:
    """Return (mapping name, field name, rule) of what a side tells."""
    return [
        (rule.name, own.name, rule)
        for rule in rules
        if (own := rule.of(side)) is not None and rule.constant is None and own.name != ARCHIVED
    ]


class Mapper:
    """Applies one pair's rules in both directions."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self._reads: dict[Side, list[tuple[str, str, Callable[..., Canonical]]]] = {
            side: [(n, f, _reader(r, side)) for n, f, r in reads_of(pair.rules, side)] for side in (LEFT, RIGHT)
        }
        self._shared: dict[Side, list[tuple[str, str]]] = {
            side: [(n, f) for n, f, r in reads_of(pair.rules, side) if r.options is not None and r.options.shared(side)]
            for side in (LEFT, RIGHT)
        }
        self._refs: dict[Side, list[tuple[str, FieldRule]]] = {
            side: [(f, r) for _, f, r in reads_of(pair.rules, side) if r.kind is Kind.REF] for side in (LEFT, RIGHT)
        }
        self._row_refs: dict[Side, list[tuple[str, list[tuple[str, FieldRule]]]]] = {
            side: [
                (f, [(own.name, c) for c in r.rows if c.kind is Kind.REF and (own := c.of(side))])
                for _, f, r in reads_of(pair.rules, side)
                if r.kind is Kind.ROWS
            ]
            for side in (LEFT, RIGHT)
        }

    def refs(self, side: Side, values: Values) -> Iterable[tuple[str, str]]:
        """Yield (place, id) of every record that this one refers to."""
        for name, rule in self._refs[side]:
            value = values.get(name)
            if isinstance(value, Ref) and value.id:
                yield rule.place(value.entity), value.id
        for name, children in self._row_refs[side]:
            rows = values.get(name)
            for row in rows if isinstance(rows, tuple) else ():
                for child, rule in children:
                    value = row.values.get(child)
                    if isinstance(value, Ref) and value.id:
                        yield rule.place(value.entity), value.id

    def shown(self, side: Side, values: Values) -> dict[str, str]:
        """Return the key of each option of which the canonical value does not tell which of several it is."""
        return {n: key for n, f in self._shared[side] if isinstance(key := values.get(f), str)}

    def canonical(self, side: Side, record: Record, key_of: KeyOf) -> CanonicalValues:
        """Return what both sides can hold.  A field that was not told is left out."""
        told, out = record.values, {}
        for name, field_name, read in self._reads[side]:
            if field_name in told:
                value = read(told[field_name], record, key_of)
                if value is not SKIP:
                    out[name] = value
        if self.pair.keeps_archived:
            out[ARCHIVED] = record.archived
        return out

    def to_side(
        self,
        side: Side,
        values: CanonicalValues,
        id_of: IdOf,
        *,
        creating: bool,
        leave_out: frozenset[str] = frozenset(),
    ) -> dict[str, Value]:
        """Return the values to write.  Raises Unfit where the side can't take one, Unlinked where a reference has no
        partner there.  At creation constants are added and required fields are checked."""
        out: dict[str, Value] = {}
        for name, value in values.items():
            rule = self.pair.by_name.get(name)
            if rule is None or name == ARCHIVED or name in leave_out or not rule.writable(side, creating=creating):
                continue
            if rule.leaves(value):
                continue
            target = rule.of(side)
            if target is not None and not (creating and value is None):
                out[target.name] = _written(rule, target, side, value, id_of)
        if creating:
            self._complete(side, out)
        return out

    def _complete(self, side: Side, out: dict[str, Value]) -> None:
        for rule in self.pair.rules:
            target = rule.of(side)
            if target is None or target.name == ARCHIVED:
                continue
            if rule.constant is not None:
                out[target.name] = typed(target, rule.constant)
            elif (rule.required or target.required) and rule.flows(side) and out.get(target.name) in (None, "", ()):
                raise Unfit(
                    "required", target.name, f"{target.label or target.name} is required on the {side} and is empty"
                )


def _reader(rule: FieldRule, side: Side) -> Callable[..., Canonical]:
    """Return the function that turns one told value into its canonical form."""
    transform = TRANSFORMS.get(rule.transform)
    forward = side == source_side(rule)
    # What both sides are compared by is the target's form: its own values are read as they are.
    change = transform[0] if transform and forward else None
    convert = _converter(rule, side)
    if change is None:
        return lambda value, record, key_of: convert(value, key_of)

    def read(value: Value, record: Record, key_of: KeyOf) -> Canonical:
        changed = change(value, record, rule)
        return SKIP if changed == SKIP else convert(changed, key_of)

    return read


def _converter(rule: FieldRule, side: Side) -> Callable[[Value, KeyOf], Canonical]:
    kind, scale, resolution = rule.kind, rule.scale, rule.resolution
    if rule.options is not None:
        return lambda value, _: _token(rule, side, value)
    if kind in (Kind.DECIMAL, Kind.MONEY):
        return lambda value, _: canonical_decimal(value, scale)
    if kind is Kind.REF:
        return lambda value, key_of: _ref(rule, value, key_of)
    if kind is Kind.ROWS:
        readers = [(n, f, _reader(r, side)) for n, f, r in reads_of(rule.rows, side)]
        return lambda value, key_of: _rows(value, readers, key_of)
    if kind is Kind.DATETIME:
        return lambda value, _: canonical_datetime(value, resolution)  # type: ignore[arg-type]
    if kind is Kind.DATE:
        return lambda value, _: value.isoformat()[:10] if isinstance(value, date) else None
    if kind is Kind.BOOLEAN:
        return lambda value, _: None if value is None else bool(value)
    if kind is Kind.INTEGER:
        return lambda value, _: None if value is None else int(value)  # type: ignore[arg-type]
    return lambda value, _: canonical_text(value)


def _token(rule: FieldRule, side: Side, value: Value) -> Canonical:
    options = rule.options
    if options is None or value is None:
        return None
    if isinstance(value, frozenset):
        return list(sorted(str(_token(rule, side, key)) for key in value))  # noqa: C413 - a list of object
    key = str(value)
    token = options.read[side].get(key)
    if token is not None:
        return token
    if rule.unmapped == "default" and rule.default:
        return rule.default
    return f"!{key}"


def _ref(rule: FieldRule, value: Value, key_of: KeyOf) -> Canonical:
    if not isinstance(value, Ref) or not value.id:
        return None
    place = rule.place(value.entity)
    key = key_of(place, value.id)
    return f"@{key}" if key else f"?{place}:{value.id}"


def _rows(value: Value, readers: Sequence[tuple[str, str, Callable[..., Canonical]]], key_of: KeyOf) -> Canonical:
    if not isinstance(value, tuple):
        return None
    lines: list[object] = []
    for row in value:
        record = Record("", row.id, row.values)
        line = {n: read(row.values[f], record, key_of) for n, f, read in readers if f in row.values}
        lines.append({name: item for name, item in line.items() if item is not SKIP})
    return lines


def _written(rule: FieldRule, target: Field, side: Side, value: Canonical, id_of: IdOf) -> Value:
    """Turn one canonical value into what `side` is sent."""
    if value is None:
        if target.required:
            raise Unfit("required", target.name, f"{target.label or target.name} can't be emptied on the {side}")
        return None
    if rule.options is not None:
        return _option(rule, target, side, value)
    kind = target.kind
    if kind is Kind.REF:
        return _partner(rule, target, str(value), side, id_of)
    if kind is Kind.ROWS:
        return _written_rows(rule, target, side, value, id_of)
    plain = typed(target, value)
    transform = TRANSFORMS.get(rule.transform)
    back = transform[1] if transform and side == source_side(rule) else None
    if back is not None:
        plain = back(plain, Record("", "", {}), rule)
    return _fitted(rule, target, side, plain)


def _fitted(rule: FieldRule, target: Field, side: Side, value: Value) -> Value:
    if isinstance(value, str) and target.max_length is not None and len(value) > target.max_length:
        if rule.transform == "truncate" or rule.args.get("truncate"):
            return value[: target.max_length].rstrip()
        raise Unfit(
            "too long",
            target.name,
            f"{target.label or target.name} takes at most {target.max_length} characters on the {side}, this value has "
            f"{len(value)}. Shorten it, or let the mapping cut it (transform: truncate).",
        )
    return value


def _option(rule: FieldRule, target: Field, side: Side, value: Canonical) -> Value:
    options = rule.options
    if options is None:
        return str(value)
    if isinstance(value, list):
        return frozenset(str(_option(rule, target, side, item)) for item in value if isinstance(item, str))
    token = str(value)
    key = options.write[side].get(token)
    if key is not None:
        return key
    if rule.default and rule.unmapped == "default":
        fallback = options.write[side].get(rule.default)
        if fallback is not None:
            return fallback
    other = OTHER[side]
    unknown = token.removeprefix("!")
    label = options.labels.get(other, {}).get(unknown, unknown)
    raise Unfit(
        "no option",
        target.name,
        f"The option {label!r} has no partner in {target.label or target.name} on the {side}. Map it in the picklist, or add an "
        "option with the same label there.",
        option=unknown,
        named=label != unknown,
    )


def _partner(rule: FieldRule, target: Field, value: str, side: Side, id_of: IdOf) -> Value:
    if not value.startswith("@"):
        raise Unlinked(rule.name, value)
    found = id_of(value[1:], side)
    if found is None:
        raise Unlinked(rule.name, value)
    if target.refers_to and found.entity not in target.refers_to:
        return None  # its partner is of a kind that this field can't point to (a person's company is a person there)
    return found


def _written_rows(rule: FieldRule, target: Field, side: Side, value: Canonical, id_of: IdOf) -> Value:
    by_name = {child.name: child for child in rule.rows}
    out: list[Row] = []
    for line in value if isinstance(value, list) else []:
        values: dict[str, Value] = {}
        for name, item in line.items() if isinstance(line, dict) else ():
            child = by_name.get(name)
            own = child.of(side) if child else None
            if child is not None and own is not None and own.write is not Write.NEVER:
                values[own.name] = _row_value(child, own, side, item, id_of)
        for child in rule.rows:
            own = child.of(side)
            if child.constant is not None and own is not None:
                values[own.name] = typed(own, child.constant)
        out.append(Row(values))
    return tuple(out)


def _row_value(child: FieldRule, own: Field, side: Side, item: Canonical, id_of: IdOf) -> Value:
    """Return one value of a line; an empty reference may have a stand-in (the item for write-in lines)."""
    if item is None and own.kind is Kind.REF:
        if not child.default:
            raise Unfit(
                "no stand-in",
                own.name,
                f"A line has no {own.label or own.name}, and none stands for such lines. Choose one in the preset's options.",
            )
        return Ref(own.refers_to[0], child.default)
    return _written(child, own, side, item, id_of)


_TYPES: dict[Kind, Callable[[object], Value]] = {
    Kind.DECIMAL: lambda v: Decimal(str(v)),
    Kind.MONEY: lambda v: Decimal(str(v)),
    Kind.INTEGER: lambda v: int(str(v)),
    Kind.BOOLEAN: bool,
    Kind.DATE: lambda v: date.fromisoformat(str(v)[:10]),
    Kind.DATETIME: lambda v: datetime.fromisoformat(str(v)),
}


def typed(target: Field, value: object) -> Value:
    """Return a plain value in the kind that a field takes.  Raises Unfit."""
    convert = _TYPES.get(target.kind)
    try:
        return convert(value) if convert else str(value)
    except (ValueError, ArithmeticError) as error:
        raise Unfit("wrong kind", target.name, f"{value!r} is not a {target.kind}") from error


def references(values: CanonicalValues, rules: Mapping[str, FieldRule]) -> Iterable[tuple[str, str]]:
    """Yield (mapping name, reference) of canonical values, also of those inside rows."""
    for name, value in values.items():
        rule = rules.get(name)
        if rule is None:
            continue
        if rule.kind is Kind.REF and isinstance(value, str):
            yield name, value
        elif rule.rows and isinstance(value, list):
            children = {child.name: child for child in rule.rows}
            for line in value:
                if isinstance(line, dict):
                    for _, reference in references(line, children):
                        yield name, reference


def resolved(values: CanonicalValues, key_of: Callable[[str], str | None], rules: Mapping[str, FieldRule]) -> bool:
    """Replace "?entity:id" by "@key" where the link is known by now; whether anything was replaced."""
    changed = False
    for name, value in values.items():
        rule = rules.get(name)
        if isinstance(value, str) and value.startswith("?") and rule is not None and rule.kind is Kind.REF:
            key = key_of(value[1:])
            if key:
                values[name], changed = f"@{key}", True
        elif isinstance(value, list) and rule is not None and rule.rows:
            children = {child.name: child for child in rule.rows}
            for line in value:
                if isinstance(line, dict):
                    changed = resolved(line, key_of, children) or changed
    return changed


def rename(values: CanonicalValues, names: Mapping[str, str], rules: Mapping[str, FieldRule]) -> None:
    """Replace references, each given as "@key"."""
    for name, value in values.items():
        rule = rules.get(name)
        if rule is None:
            continue
        if isinstance(value, str):
            values[name] = names.get(value, value)
        elif isinstance(value, list):
            for line in value:
                if isinstance(line, dict):
                    rename(line, names, {child.name: child for child in rule.rows})
