"""How is a value written so that two systems can be compared?  Canonical JSON text, and exact wire values for a repeat."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import TypeAlias

from connectors.contract import Ref, Row, Value

# What both sides can hold, in JSON's types.  A reference is "@<link key>", or "?<entity>:<id>" while its link is not known;
# an option without partner is "!<key>".
Canonical: TypeAlias = "None | bool | int | str | list[object]"
CanonicalValues: TypeAlias = "dict[str, Canonical]"

_encoder = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)
encode = _encoder.encode


def decode(text: str | None) -> CanonicalValues:
    """Parse canonical text; empty text is no values."""
    return json.loads(text) if text else {}


def canonical_text(value: object) -> str | None:
    """Trim, use one kind of line end; empty is None."""
    if value is None:
        return None
    text = str(value).strip()
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text or None


def canonical_decimal(value: object, scale: int | None) -> str | None:
    """Return a decimal as text at `scale` digits after the point (half up, as ledgers round)."""
    if value is None:
        return None
    number = value if isinstance(value, Decimal) else Decimal(str(value))
    if scale is None:
        text = format(number.normalize(), "f")
        return "0" if text == "-0" else text
    rounded = number.quantize(Decimal(1).scaleb(-scale), rounding=ROUND_HALF_UP)
    return format(rounded if rounded else abs(rounded), "f")


def canonical_datetime(value: datetime | None, resolution: timedelta) -> str | None:
    """Return a moment in UTC, cut to `resolution`."""
    if value is None:
        return None
    moment = value.astimezone(UTC)
    if resolution:
        step = resolution.total_seconds()
        moment = datetime.fromtimestamp(moment.timestamp() // step * step, UTC)
    return moment.isoformat().replace("+00:00", "Z")


def parse_datetime(text: str) -> datetime:
    """Read what `canonical_datetime` or a stored `modified` wrote."""
    return datetime.fromisoformat(text)


def wire_text(values: Mapping[str, Value]) -> str:
    """Write the exact values of an operation, so that a repeat after a crash sends the same."""
    return _encoder.encode({name: _to_wire(value) for name, value in values.items()})


def wire_values(text: str) -> dict[str, Value]:
    """Read what `wire_text` wrote."""
    return {name: _from_wire(value) for name, value in json.loads(text).items()}


def _to_wire(value: Value) -> object:
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, Decimal):
        return {"decimal": str(value)}
    if isinstance(value, datetime):
        return {"datetime": value.isoformat()}
    if isinstance(value, date):
        return {"date": value.isoformat()}
    if isinstance(value, Ref):
        return {"ref": [value.entity, value.id, value.label]}
    if isinstance(value, frozenset):
        return {"options": sorted(value)}
    return {"rows": [{"id": row.id, "values": {k: _to_wire(v) for k, v in row.values.items()}} for row in value]}


def _from_wire(value: object) -> Value:
    if not isinstance(value, dict):
        return value  # type: ignore[return-value]
    ((kind, content),) = value.items()
    if kind == "decimal":
        return Decimal(content)
    if kind == "datetime":
        return datetime.fromisoformat(content)
    if kind == "date":
        return date.fromisoformat(content)
    if kind == "ref":
        return Ref(*content)
    if kind == "options":
        return frozenset(content)
    return tuple(Row({k: _from_wire(v) for k, v in row["values"].items()}, row["id"]) for row in content)
