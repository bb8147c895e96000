"""What does a statement of QuickBooks' query language select?  Parser and evaluation (quickbooks sheet, section 4)."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeAlias

from connectors.quickbooks.simulator_faults import VendorFault
from connectors.quickbooks.simulator_rules import PROPERTIES, REFERENCE_PARTS
from connectors.simulation.store import StoredRecord

Literal: TypeAlias = "str | bool"
Test: TypeAlias = "Callable[[StoredRecord], bool]"

DEFAULT_ROWS, MOST_ROWS = 100, 1000
_TOKEN = re.compile(
    r"\s*(?:(?P<text>'(?:\\.|[^'\\])*')|(?P<op><=|>=|!=|=|<|>)|(?P<mark>[(),*])|(?P<word>[A-Za-z0-9_.:+\-%/]+))"
)
_CLAUSES = {"where", "order", "orderby", "startposition", "maxresults", "and", "asc", "desc"}
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {  # of two values of one type, which only a run can know
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
    "<=": operator.le,
    ">=": operator.ge,
}


@dataclass(frozen=True, slots=True)
class Condition:
    """One comparison; `values` are as written, quoted or not."""

    name: str
    op: str
    values: tuple[str, ...]


@dataclass(slots=True)
class Statement:
    """A parsed query."""

    entity: str
    count: bool = False
    where: list[Condition] = field(default_factory=list)
    order: list[tuple[str, bool]] = field(default_factory=list)  # name, descending
    start: int = 1
    rows: int = DEFAULT_ROWS


class _Tokens:
    def __init__(self, text: str) -> None:
        self.items: list[tuple[str, str]] = []
        place = 0
        text = text.strip().rstrip(";")
        while place < len(text):
            found = _TOKEN.match(text, place)
            if found is None:
                raise VendorFault(
                    "4000", f"QueryParserError: Encountered {text[place : place + 20]!r} at column {place}"
                )
            kind = str(found.lastgroup)
            self.items.append((kind, found.group(kind)))
            place = found.end()
        self.place = 0

    def peek(self) -> str:
        return self.items[self.place][1].lower() if self.place < len(self.items) else ""

    def take(self, *expected: str) -> str:
        if self.place >= len(self.items) or (expected and self.peek() not in expected):
            told = self.items[self.place][1] if self.place < len(self.items) else "<EOF>"
            wanted = " or ".join(expected) or "more"
            raise VendorFault("4000", f"QueryParserError: Encountered {told!r}, was expecting {wanted}")
        self.place += 1
        return self.items[self.place - 1][1]

    def literal(self) -> str:
        kind = self.items[self.place][0] if self.place < len(self.items) else ""
        text = self.take()
        if kind == "text":
            return re.sub(r"\\(.)", r"\1", text[1:-1])
        if kind != "word":
            raise VendorFault("4000", f"QueryParserError: Encountered {text!r}, was expecting a value")
        return text


def parse(text: str) -> Statement:
    """Parse a statement, or raise the fault of code 4000."""
    tokens = _Tokens(text)
    tokens.take("select")
    count = _projection(tokens)
    tokens.take("from")
    statement = Statement(_entity(tokens.take()), count)
    while tokens.peek():
        clause = tokens.take("where", "order", "orderby", "startposition", "maxresults").lower()
        if clause == "where":
            _where(tokens, statement)
        elif clause == "startposition":
            statement.start = max(1, _whole(tokens.literal()))
        elif clause == "maxresults":
            statement.rows = min(MOST_ROWS, _whole(tokens.literal()))
        else:
            if clause == "order":
                tokens.take("by")
            _order(tokens, statement)
    return statement


def _projection(tokens: _Tokens) -> bool:
    # Projections come back whole (section 4), so the names are only read over.
    count = tokens.peek() == "count"
    while tokens.peek() != "from":
        tokens.take()
    return count


def _entity(word: str) -> str:
    for name in PROPERTIES:
        if name.lower() == word.lower():
            return name
    raise VendorFault("4001", f"QueryValidationError: Invalid context declaration: {word}")


def _where(tokens: _Tokens, statement: Statement) -> None:
    while True:
        name = _property(statement.entity, tokens.take())
        op = tokens.take("=", "!=", "<", ">", "<=", ">=", "in", "like").lower()
        if op == "in":
            tokens.take("(")
            values = [tokens.literal()]
            while tokens.take(",", ")") == ",":
                values.append(tokens.literal())
            statement.where.append(Condition(name, op, tuple(values)))
        else:
            statement.where.append(Condition(name, op, (tokens.literal(),)))
        if tokens.peek() != "and":
            return
        tokens.take("and")


def _order(tokens: _Tokens, statement: Statement) -> None:
    while True:
        name = _property(statement.entity, tokens.take())
        down = tokens.peek() == "desc"
        if tokens.peek() in {"asc", "desc"}:
            tokens.take()
        statement.order.append((name, down))
        if tokens.peek() != ",":
            return
        tokens.take(",")


def _property(entity: str, word: str) -> str:
    first, _, rest = word.partition(".")
    known = PROPERTIES[entity].get(first.lower())
    if known is None or word.lower() in _CLAUSES:
        raise VendorFault("4001", f"QueryValidationError: Property {word} not found for Entity {entity}")
    return f"{known}.{rest}" if rest else known


def _whole(text: str) -> int:
    if not text.isdigit():
        raise VendorFault("4000", f"QueryParserError: Encountered {text!r}, was expecting a number")
    return int(text)


# Evaluation


def tests_of(statement: Statement) -> list[Test]:
    """Return one test for each condition that leaves something out."""
    return [_test(condition) for condition in statement.where if not _is_all(condition)]


def _is_all(condition: Condition) -> bool:
    told = {value.lower() for value in condition.values}
    return condition.name == "Active" and condition.op == "in" and {"true", "false"} <= told


def ids_in(statement: Statement) -> Sequence[str] | None:
    """Return the ids that the statement names, where it does: they are looked up, not searched for."""
    for condition in statement.where:
        if condition.name == "Id" and condition.op in {"=", "in"}:
            return condition.values
    return None


def sort(records: list[StoredRecord], order: Sequence[tuple[str, bool]]) -> list[StoredRecord]:
    """Order records; they come in the order of their ids, and equal ones stay so."""
    for name, down in reversed(order):
        if name == "Id" and len(order) == 1 and not down:
            continue  # already so
        read = _value_of(name)
        records = sorted(records, key=lambda record: _sort_key(read(record)), reverse=down)
    return records


def _sort_key(value: object) -> tuple[int, object]:
    if value is None:
        return (0, 0)
    if isinstance(value, bool | int | float):
        return (1, value)
    if isinstance(value, datetime):
        return (2, value)
    return (3, str(value).casefold())


def _value_of(name: str) -> Callable[[StoredRecord], object]:
    if name == "Id":
        return lambda record: int(record.id) if record.id.isdigit() else record.id
    if name == "MetaData.LastUpdatedTime":
        return lambda record: record.modified.replace(microsecond=0)
    if name == "MetaData.CreateTime":
        return lambda record: record.created.replace(microsecond=0)
    if name == "Active":
        return lambda record: record.body.get("Active", True)
    parts = name.split(".")

    def read(record: StoredRecord) -> object:
        value: object = record.body
        for part in parts:
            value = _part(value, part)
        if isinstance(value, dict):
            return next((value[part] for part in REFERENCE_PARTS if part in value), None)
        return value

    return read


def _part(value: object, name: str) -> object:
    if not isinstance(value, Mapping):
        return None
    if name in value:
        return value[name]
    return next((found for key, found in value.items() if key.lower() == name.lower()), None)


def _test(condition: Condition) -> Test:
    read, op = _value_of(condition.name), condition.op
    if op == "like":
        pattern = ".*".join(re.escape(part) for part in condition.values[0].split("%"))
        like = re.compile(pattern, re.IGNORECASE | re.DOTALL)
        return lambda record: (value := read(record)) is not None and like.fullmatch(str(value)) is not None
    if condition.name.startswith("MetaData."):
        times = [_moment(value) for value in condition.values]
        if op == "in":
            return lambda record: read(record) in times
        compare = _COMPARE[op]
        return lambda record: compare(read(record), times[0])
    if op == "in":
        words = frozenset(condition.values)
        lowered = frozenset(value.lower() for value in condition.values)
        return lambda record: _among(read(record), words, lowered)
    return _compared(read, op, condition.values[0])


def _among(value: object, words: frozenset[str], lowered: frozenset[str]) -> bool:
    if isinstance(value, bool):
        return str(value).lower() in lowered
    if isinstance(value, int | float):
        return any(_number(word) == value for word in words)
    return value in words


def _compared(read: Callable[[StoredRecord], object], op: str, told: str) -> Test:
    compare, number = _COMPARE[op], _number(told)

    def test(record: StoredRecord) -> bool:
        value = read(record)
        if value is None:
            return op == "!="
        if isinstance(value, bool):
            return compare(str(value).lower(), told.lower())
        if isinstance(value, int | float):
            return number is not None and compare(value, number)
        return compare(str(value), told)

    return test


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _moment(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text.replace(" ", "+"))  # an unescaped + in an address arrives as a blank
    except ValueError as error:
        raise VendorFault("4001", f"QueryValidationError: value {text} is not a date") from error
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return at.astimezone(UTC)
