"""How does a QuickBooks body become a record, and a record's values a body?  Pure functions."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import lru_cache
from typing import TypeAlias, cast

from connectors.contract import Entity, Field, Kind, Record, Ref, Row, Unanswered, Value, Values, Write
from connectors.quickbooks.entities import ENTITIES, LISTS, NAME_FIELDS, OPTION_LISTS
from connectors.transport.types import Reply

Body: TypeAlias = "Mapping[str, object]"
Reader: TypeAlias = "Callable[[Body, date], Value]"

DELETED_SUFFIX = " (deleted)"  # what the server appends to the name of an inactive list record (section 5)
VOIDED = "Voided"  # how the private note of a void transaction begins (section 5)
WHOLE = frozenset(
    {"BillAddr", "ShipAddr"}
)  # nested objects of several fields, which a sparse update replaces as a whole
CENT = Decimal("0.01")
SUBTOTAL = "SubTotalLineDetail"  # appended by the server (section 12), no line of ours


def parse(reply: Reply) -> dict[str, object]:
    """Parse an answer with exact decimals.  Raises Unanswered where it is no JSON object."""
    try:
        body = json.loads(reply.body, parse_float=Decimal)
    except ValueError as error:
        raise Unanswered(f"the answer (status {reply.status}) is not JSON") from error
    if not isinstance(body, dict):
        raise Unanswered(f"the answer (status {reply.status}) is no JSON object")
    return body


def dump(body: object) -> bytes:
    """Write a body.  A float prints the shortest digits that mean it, so amounts of up to 15 digits stay exact."""
    return json.dumps(body, default=_number, ensure_ascii=False).encode()


def _number(value: object) -> object:
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    raise TypeError(f"{type(value).__name__} has no place in a QuickBooks body")


def when(value: object) -> datetime | None:
    """Return a time of theirs in UTC."""
    return datetime.fromisoformat(value).astimezone(UTC) if isinstance(value, str) and value else None


# Reading


def _decimal(value: object) -> Decimal | None:
    if isinstance(value, Decimal):
        return value
    return None if value is None or value == "" else Decimal(str(value))


def _date(value: object) -> date | None:
    return date.fromisoformat(value[:10]) if isinstance(value, str) and value else None


def _text(value: object) -> str | None:
    return str(value) if value not in (None, "") else None


def _option(value: object) -> str | None:
    return _text(value.get("value")) if isinstance(value, Mapping) else _text(value)


def _boolean(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


CONVERT: dict[Kind, Callable[[object], Value]] = {
    Kind.TEXT: _text,
    Kind.DECIMAL: _decimal,
    Kind.MONEY: _decimal,
    Kind.BOOLEAN: _boolean,
    Kind.DATE: _date,
    Kind.DATETIME: when,
    Kind.OPTION: _option,
}


def is_void(body: Body) -> bool:
    """Tell a voided transaction: nothing left to pay and a note that says so; there is no flag for it."""
    return not body.get("TotalAmt") and str(body.get("PrivateNote", "")).startswith(VOIDED)


def status_of(entity: str, body: Body, today: date) -> str:
    """Say in one word where a transaction stands."""
    if entity == "Estimate":
        return str(body.get("TxnStatus") or "Pending")
    if is_void(body):
        return "Void"
    open_amount = {"Payment": "UnappliedAmt", "CreditMemo": "RemainingCredit"}.get(entity, "Balance")
    left, total = _decimal(body.get(open_amount)) or Decimal(0), _decimal(body.get("TotalAmt")) or Decimal(0)
    if left == 0:
        return "Paid"
    due = _date(body.get("DueDate")) if entity == "Invoice" else None
    if due is not None and due < today:
        return "Overdue"
    return "Partly paid" if left < total else "Open"


def _rows(entity: str, lines: object) -> tuple[Row, ...] | None:
    if not isinstance(lines, list):
        return None
    read = _payment_row if entity == "Payment" else _sales_row
    rows = tuple(read(line) for line in lines if line.get("DetailType") != SUBTOTAL)
    return rows or None


def _sales_row(line: Body) -> Row:
    kind = str(line.get("DetailType") or "")
    detail = cast("Body", line.get(kind) or {})
    item = _option(detail.get("ItemRef"))
    values: dict[str, Value] = {
        "DetailType": kind or None,
        "ItemRef": Ref("Item", item) if item else None,
        "Qty": _decimal(detail.get("Qty")),
        "UnitPrice": _decimal(detail.get("UnitPrice")),
        "Amount": _decimal(line.get("Amount")),
        "Description": _text(line.get("Description")),
        "TaxCodeRef": _option(detail.get("TaxCodeRef")),
    }
    return Row(values, _text(line.get("Id")) or "")


def _payment_row(line: Body) -> Row:
    linked = cast("Sequence[Body]", line.get("LinkedTxn") or [{}])[0]
    values: dict[str, Value] = {
        "Amount": _decimal(line.get("Amount")),
        "TxnId": _text(linked.get("TxnId")),
        "TxnType": _text(linked.get("TxnType")),
    }
    return Row(values, _text(line.get("Id")) or "")


def _reader(entity: str, field: Field) -> Reader:
    if field.name == "Status":
        return lambda body, today: status_of(entity, body, today)
    if field.kind is Kind.ROWS:
        return lambda body, today: _rows(entity, body.get("Line"))
    if field.name == "Active":
        return lambda body, today: body.get("Active") is not False
    if field.name in {NAME_FIELDS.get(entity), "FullyQualifiedName"} and entity in LISTS:
        return lambda body, today: _name(body, field.name)
    if field.kind is Kind.REF:
        return _ref_reader(field.name, field.refers_to[0])
    convert = CONVERT[field.kind]
    first, _, second = field.name.partition(".")
    if second:
        return lambda body, today: convert(inner.get(second)) if (inner := cast("Body", body.get(first))) else None
    return lambda body, today: convert(body.get(first))


def _name(body: Body, field: str) -> str | None:
    # The suffix is the server's mark of "inactive", not an edit of the name.
    name = _text(body.get(field))
    return name.removesuffix(DELETED_SUFFIX) if name and body.get("Active") is False else name


def _ref_reader(name: str, target: str) -> Reader:
    def read(body: Body, today: date) -> Value:
        key = _option(body.get(name))
        return Ref(target, key) if key else None

    return read


@lru_cache(maxsize=64)
def _readers(entity: str, names: frozenset[str]) -> tuple[tuple[str, Reader], ...]:
    # Declared order, so that equal wishes give equal records; a group comes by snapshot and is not told here.
    return tuple((f.name, _reader(entity, f)) for f in ENTITIES[entity].fields if f.name in names and not f.group)


def all_fields(entity: str) -> frozenset[str]:
    """Return the names of all fields that a full object tells."""
    return frozenset(field.name for field in ENTITIES[entity].fields if not field.group)


def record_of(entity: str, body: Body, names: frozenset[str], today: date, url: str = "") -> Record:
    """Read a full object.  QuickBooks omits what is empty, so each wanted field that is absent is None."""
    meta = cast("Body", body.get("MetaData") or {})
    return Record(
        entity,
        str(body["Id"]),
        {name: read(body, today) for name, read in _readers(entity, names)},
        version=str(body.get("SyncToken", "")),
        modified=when(meta.get("LastUpdatedTime")),
        archived=body.get("Active") is False or (entity not in LISTS and is_void(body)),
        url=url,
    )


# Writing


def body_of(entity: Entity, values: Values, current: Values | None = None) -> dict[str, object]:
    """Return the body that sets `values`: all of a new record, or (with `current`) what a sparse update changes.

    Computed fields are left out.  An update says "" for what is to be empty, a create says nothing.
    """
    updating = current is not None
    body: dict[str, object] = {}
    nested: dict[str, dict[str, object]] = {}
    for field in entity.fields:
        if field.write is Write.NEVER or field.name not in values or (updating and field.write is Write.CREATE):
            continue
        first, _, second = field.name.partition(".")
        written = _written(entity.name, field, values[field.name])
        if second:
            nested.setdefault(first, {})[second] = written
        elif written is not None or updating:
            body[first] = written if written is not None else _emptied(field)
    for first, inner in nested.items():
        merged = {**_siblings(entity, first, current or {}), **inner} if first in WHOLE else inner
        filled = {key: value for key, value in merged.items() if value is not None}
        if filled:
            body[first] = filled
        elif updating:
            body[first] = dict.fromkeys(inner, "")
    if "ParentRef" in body:
        # A customer with a parent is a "job", an item a "sub-item"; QuickBooks wants both said.
        body["Job" if entity.name == "Customer" else "SubItem"] = values["ParentRef"] is not None
    return body


def whole_fields(entity: Entity, values: Values) -> frozenset[str]:
    """Return the fields that must be sent again because a field of the same nested object is written."""
    touched = {name.partition(".")[0] for name in values} & WHOLE
    return frozenset(field.name for field in entity.fields if field.name.partition(".")[0] in touched)


def _siblings(entity: Entity, first: str, current: Values) -> dict[str, object]:
    prefix = f"{first}."
    return {
        field.name.removeprefix(prefix): current[field.name]
        for field in entity.fields
        if field.name.startswith(prefix) and current.get(field.name) is not None
    }


def _emptied(field: Field) -> object:
    if field.kind is Kind.REF or field.name in OPTION_LISTS:
        return {"value": ""}
    return [] if field.kind is Kind.ROWS else ""


def _written(entity: str, field: Field, value: Value) -> object:
    if value is None:
        return None
    if field.kind is Kind.ROWS:
        write = _payment_line if entity == "Payment" else _sales_line
        return [write(row.values) for row in cast("Iterable[Row]", value)]
    if isinstance(value, Ref):
        return {"value": value.id}
    if isinstance(value, datetime | date):
        return value.isoformat()
    return {"value": value} if field.name in OPTION_LISTS else value


def _sales_line(values: Values) -> dict[str, object]:
    kind = str(values.get("DetailType") or "SalesItemLineDetail")
    detail: dict[str, object] = {}
    if kind == "SalesItemLineDetail":
        item = values.get("ItemRef")
        detail = {
            "ItemRef": {"value": item.id} if isinstance(item, Ref) else None,
            "Qty": values.get("Qty"),
            "UnitPrice": values.get("UnitPrice"),
            "TaxCodeRef": {"value": values["TaxCodeRef"]} if values.get("TaxCodeRef") else None,
        }
    line: dict[str, object] = {
        "DetailType": kind,
        # The object of a description line has another name than its type (section 12).
        ("DescriptionLineDetail" if kind == "DescriptionOnly" else kind): _filled(detail),
        "Amount": _amount(values),
        "Description": values.get("Description"),
    }
    return _filled(line)


def _amount(values: Values) -> Value:
    amount, quantity, price = values.get("Amount"), values.get("Qty"), values.get("UnitPrice")
    if amount is None and isinstance(quantity, Decimal | int) and isinstance(price, Decimal | int):
        return Decimal(quantity * price).quantize(CENT)
    return amount


def _payment_line(values: Values) -> dict[str, object]:
    linked = {"TxnId": values.get("TxnId"), "TxnType": values.get("TxnType") or "Invoice"}
    return _filled({"Amount": values.get("Amount"), "LinkedTxn": [linked] if linked["TxnId"] else None})


def _filled(body: Mapping[str, object]) -> dict[str, object]:
    return {key: value for key, value in body.items() if value is not None}
