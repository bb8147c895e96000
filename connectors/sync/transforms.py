"""How may a value be changed on its way?  Named transforms, each with its way back; mappings name them as data."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from connectors.contract import Record, Ref, Value
from connectors.sync.rules import RECORD_ID, FieldRule, fields_arg

SKIP = "\x00skip"  # instead of a value: leave alone what was agreed

# Transforms: (value, all values of the record, rule) -> value, on the way from the rule's source side (left unless the rule is
# right to left), and the way back.


def _first_of(value: Value, record: Record, rule: FieldRule) -> Value:
    if value not in (None, ""):
        return value
    for name in fields_arg(rule):
        other: Value = record.id if name == RECORD_ID else record.values.get(name)
        if other not in (None, ""):
            return other
    return None


def _template(value: Value, record: Record, rule: FieldRule) -> Value:
    parts: dict[str, object] = {"value": _shown(value), "id": record.id}
    for number, name in enumerate(fields_arg(rule)):
        parts[f"f{number}"] = _shown(record.values.get(name))
    return " ".join(str(rule.args.get("template", "{value}")).format_map(parts).split())


def _shown(value: Value) -> str:
    if isinstance(value, Ref):
        return value.label or value.id
    return "" if value is None else str(value)


def _invert(value: Value, record: Record, rule: FieldRule) -> Value:
    return Decimal(1) / value if isinstance(value, Decimal) and value else None


def _lower(value: Value, record: Record, rule: FieldRule) -> Value:
    return value.lower() if isinstance(value, str) else value


def _multiply(value: Value, record: Record, rule: FieldRule) -> Value:
    return value * Decimal(str(rule.args.get("by", 1))) if isinstance(value, Decimal) else value


def _divide(value: Value, record: Record, rule: FieldRule) -> Value:
    return value / Decimal(str(rule.args.get("by", 1))) if isinstance(value, Decimal) else value


def _product(value: Value, record: Record, rule: FieldRule) -> Value:
    total = Decimal(1)
    for name in fields_arg(rule):
        factor = record.values.get(name)
        if not isinstance(factor, Decimal | int):
            return None
        total *= factor
    return total


def _while_filled(value: Value, record: Record, rule: FieldRule) -> Value:
    """Tell the value only of a record whose named fields are all filled; of another one it says nothing."""
    return value if all(record.values.get(name) not in (None, "", False) for name in fields_arg(rule)) else SKIP


Transform = Callable[[Value, Record, FieldRule], Value]
TRANSFORMS: dict[str, tuple[Transform, Transform | None]] = {
    "first_of": (_first_of, lambda value, record, rule: value),
    "template": (_template, None),
    "invert": (_invert, _invert),
    "product": (_product, None),
    "lower": (_lower, lambda value, record, rule: value),
    "multiply": (_multiply, _divide),
    "while_filled": (_while_filled, lambda value, record, rule: value),
    "truncate": (lambda value, record, rule: value, lambda value, record, rule: value),
}
