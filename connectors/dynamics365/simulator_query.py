"""Which rows does a $filter mean, and in which order?  Parser, compiler and sort keys of the simulated Web API."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from connectors.dynamics365.simulator_tables import Column, Table
from connectors.dynamics365.simulator_wire import Refused

Body = dict[str, object]
Test = Callable[[Body], bool]
Getter = Callable[[Body], object]

_TOKEN = re.compile(
    r"\s*(?:(?P<text>'(?:[^']|'')*')"
    r"|(?P<guid>[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12})"
    r"|(?P<time>\d{4}-\d\d-\d\d(?:T\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:\d\d))?)"
    r"|(?P<number>-?\d+(?:\.\d+)?)"
    r"|(?P<word>[A-Za-z_@$][A-Za-z0-9_.]*)"
    r"|(?P<sign>[(),:=/\[\]]))"
)
_OPERATORS = frozenset(["eq", "ne", "gt", "ge", "lt", "le"])
_FUNCTIONS = frozenset(["contains", "startswith", "endswith"])
_PREFIX = "Microsoft.Dynamics.CRM."


class Rows(Protocol):
    """What a compiled filter needs of the store, to follow lookups and collections."""

    tables: dict[str, Table]

    def body(self, table: str, record_id: str) -> Body | None:
        """Return one row's columns."""

    def children(self, table: str, lookup: str, parent_id: str) -> Iterable[Body]:
        """Return the rows of `table` whose lookup points at the parent."""


@dataclass(frozen=True, slots=True)
class Literal:
    """A value in the filter's text; `kind` says how it was written."""

    kind: str
    value: object


@dataclass(frozen=True, slots=True)
class Node:
    """One node of the filter: and, or, not, compare, call, query, any, all."""

    kind: str
    path: tuple[str, ...] = ()
    operator: str = ""
    values: tuple[Literal, ...] = ()
    parts: tuple[Node, ...] = ()


def _syntax(text: str, place: int) -> Refused:
    return Refused(400, "0x0", f"Syntax error at position {place} in '{text}'.")


class Parser:
    """Recursive descent over the filter's tokens.  Names and operators are case sensitive, as they are there."""

    def __init__(self, text: str) -> None:
        self.text, self.place = text, 0
        self.tokens: list[tuple[str, str]] = []
        at, end = 0, len(text.rstrip())
        while at < end:
            match = _TOKEN.match(text, at)
            if match is None:
                raise _syntax(text, at)
            self.tokens.append((str(match.lastgroup), str(match.group(str(match.lastgroup)))))
            at = match.end()

    def peek(self, ahead: int = 0) -> tuple[str, str]:
        """Return a coming token without taking it."""
        at = self.place + ahead
        return self.tokens[at] if at < len(self.tokens) else ("end", "")

    def take(self, wanted: str = "") -> tuple[str, str]:
        """Take the next token, which must be `wanted` if that is given."""
        token = self.peek()
        if token[0] == "end" or (wanted and token[1] != wanted):
            raise _syntax(self.text, self.place)
        self.place += 1
        return token

    def filter(self) -> Node:
        """Parse all of it."""
        node = self._or()
        if self.place < len(self.tokens):
            raise _syntax(self.text, self.place)
        return node

    def _or(self) -> Node:
        parts = [self._and()]
        while self.peek() == ("word", "or"):
            self.take()
            parts.append(self._and())
        return parts[0] if len(parts) == 1 else Node("or", parts=tuple(parts))

    def _and(self) -> Node:
        parts = [self._one()]
        while self.peek() == ("word", "and"):
            self.take()
            parts.append(self._one())
        return parts[0] if len(parts) == 1 else Node("and", parts=tuple(parts))

    def _one(self) -> Node:
        kind, text = self.peek()
        if (kind, text) == ("word", "not"):
            self.take()
            return Node("not", parts=(self._one(),))
        if text == "(" and kind == "sign":
            self.take("(")
            node = self._or()
            self.take(")")
            return node
        if kind != "word":
            raise _syntax(self.text, self.place)
        if self.peek(1) == ("sign", "("):
            return self._call()
        return self._comparison()

    def _path(self) -> tuple[str, ...]:
        names = [self.take()[1]]
        while self.peek() == ("sign", "/"):
            self.take()
            names.append(self.take()[1])
        return tuple(names)

    def _comparison(self) -> Node:
        path = self._path()
        if path[-1] in {"any", "all"} and self.peek() == ("sign", "("):
            return self._lambda(path)
        operator = self.take()[1]
        if operator not in _OPERATORS:
            # No `in`, no `has`, no arithmetic (sheet, section 3).
            raise Refused(400, "0x80060888", f"The operator '{operator}' is not supported.")
        return Node("compare", path, operator, (self._literal(),))

    def _lambda(self, path: tuple[str, ...]) -> Node:
        self.take("(")
        inner: tuple[Node, ...] = ()
        variable = ""
        if self.peek() != ("sign", ")"):
            variable = self.take()[1]
            self.take(":")
            inner = (self._or(),)
        self.take(")")
        return Node(path[-1], path[:-1], variable, parts=inner)

    def _call(self) -> Node:
        name = self.take()[1]
        self.take("(")
        if name in _FUNCTIONS:
            path = self._path()
            self.take(",")
            value = self._literal()
            self.take(")")
            return Node("call", path, name, (value,))
        if not name.startswith(_PREFIX):
            raise Refused(400, "0x0", f"An unknown function with name '{name}' was found.")
        arguments = self._arguments()
        column = str(arguments.pop("PropertyName", (Literal("text", ""),))[0].value)
        values = next(iter(arguments.values()), ())
        return Node("query", (column,), name.removeprefix(_PREFIX), values)

    def _arguments(self) -> dict[str, tuple[Literal, ...]]:
        found: dict[str, tuple[Literal, ...]] = {}
        while True:
            name = self.take()[1]
            self.take("=")
            if self.peek() == ("sign", "["):
                self.take()
                values = []
                while self.peek() != ("sign", "]"):
                    values.append(self._literal())
                    if self.peek() == ("sign", ","):
                        self.take()
                self.take("]")
                found[name] = tuple(values)
            else:
                found[name] = (self._literal(),)
            if self.take()[1] == ")":
                return found

    def _literal(self) -> Literal:
        kind, text = self.take()
        if kind == "text":
            return Literal("text", text[1:-1].replace("''", "'"))
        if kind == "guid":
            return Literal("guid", text.lower())
        if kind == "time":
            return Literal("time", text)
        if kind == "number":
            return Literal("number", float(text) if "." in text else int(text))
        if kind == "word" and text in {"true", "false"}:
            return Literal("boolean", text == "true")
        if kind == "word" and text == "null":
            return Literal("null", None)
        raise _syntax(self.text, self.place)


def find_column(table: Table, name: str) -> Column:
    """Return the column that a query names.  Names are case sensitive."""
    column = table.wires.get(name) or (table.columns.get(name) if name in table.navigations else None)
    if column is None:
        message = f"Could not find a property named '{name}' on type 'Microsoft.Dynamics.CRM.{table.logical}'."
        raise Refused(400, "0x0", message)
    return column


def comparable(column: Column, value: object) -> object:
    """Return what a stored value is compared by: text without regard to case, times without the final Z."""
    if value is None:
        return None
    if column.type in {"string", "memo", "multi"}:
        return str(value).casefold()
    # Without the Z, "..:00" stands before "..:00.5" as it should.
    return str(value)[:-1] if column.type == "datetime" else value


def _time(text: str) -> str:
    moment = datetime.fromisoformat(text)
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return moment.replace(tzinfo=None).isoformat()


def literal_for(column: Column, literal: Literal) -> object:
    """Return the literal in the form of `comparable`.  Raises where it does not fit the column."""
    value, kind = literal.value, column.type
    if value is None:
        return None
    if kind in {"string", "memo", "multi"} and literal.kind == "text":
        return str(value).casefold()
    if kind in {"lookup", "id"} and literal.kind in {"guid", "text"}:
        return str(value).lower()
    if kind == "datetime" and literal.kind in {"time", "text"}:
        return _time(str(value))
    if kind == "date" and literal.kind in {"time", "text"}:
        return str(value)[:10]
    if kind == "boolean" and literal.kind == "boolean":
        return value
    if kind in {"pick", "state", "status", "integer", "bigint", "money", "decimal"}:
        if literal.kind == "number":
            return value
        if literal.kind == "text" and re.fullmatch(r"-?\d+(\.\d+)?", str(value)):
            return float(str(value))  # PropertyValues are always texts
    message = f"A binary operator with incompatible types was detected for '{column.wire}'."
    raise Refused(400, "0x0", message)


_COMPARE: dict[str, Callable[[object, object], bool]] = {
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,  # rows without a value are included
    "gt": lambda a, b: a is not None and b is not None and a > b,  # type: ignore[operator]
    "ge": lambda a, b: a is not None and b is not None and a >= b,  # type: ignore[operator]
    "lt": lambda a, b: a is not None and b is not None and a < b,  # type: ignore[operator]
    "le": lambda a, b: a is not None and b is not None and a <= b,  # type: ignore[operator]
}


class Compiler:
    """Turns a parsed filter into a test of one row."""

    def __init__(self, rows: Rows, now: datetime) -> None:
        self.rows, self.now = rows, now

    def compile(self, table: Table, node: Node, variable: str = "") -> Test:
        """Compile one node for rows of `table`; `variable` is a lambda's name for the row."""
        if node.kind == "and":
            tests = [self.compile(table, part, variable) for part in node.parts]
            return lambda body: all(test(body) for test in tests)
        if node.kind == "or":
            tests = [self.compile(table, part, variable) for part in node.parts]
            return lambda body: any(test(body) for test in tests)
        if node.kind == "not":
            inner = self.compile(table, node.parts[0], variable)
            return lambda body: not inner(body)
        if node.kind in {"any", "all"}:
            return self._lambda(table, node)
        path = node.path[1:] if variable and node.path[0] == variable else node.path
        column, get = self._getter(table, path, by_name=node.kind == "query")
        if node.kind == "compare":
            return self._comparison(column, get, node)
        if node.kind == "call":
            return self._text_test(column, get, node)
        return self._query_function(column, get, node)

    def _getter(self, table: Table, path: tuple[str, ...], *, by_name: bool) -> tuple[Column, Getter]:
        if len(path) > 1:
            return self._through_lookup(table, path)
        name = path[0]
        # Query functions name the column, not the property.
        column = table.columns[name] if by_name and name in table.columns else find_column(table, name)
        wire = column.wire
        if column.type in {"string", "memo", "multi", "datetime"}:
            return column, lambda body: comparable(column, body.get(wire))
        return column, lambda body: body.get(wire)

    def _through_lookup(self, table: Table, path: tuple[str, ...]) -> tuple[Column, Getter]:
        if path[0] not in table.navigations:
            find_column(table, path[0])
            raise Refused(400, "0x0", f"'{path[0]}' is not a navigation property of '{table.logical}'.")
        lookup, target = table.navigations[path[0]]
        column, inner = self._getter(self.rows.tables[target], path[1:], by_name=False)

        def get(body: Body) -> object:
            other = self.rows.body(target, str(body.get(lookup.wire)))
            return None if other is None else inner(other)

        return column, get

    def _comparison(self, column: Column, get: Getter, node: Node) -> Test:
        wanted, compare = literal_for(column, node.values[0]), _COMPARE[node.operator]
        return lambda body: compare(get(body), wanted)

    def _text_test(self, column: Column, get: Getter, node: Node) -> Test:
        wanted = str(literal_for(column, node.values[0]))
        if node.operator == "contains":
            return lambda body: wanted in str(get(body) or "")
        if node.operator == "startswith":
            return lambda body: str(get(body) or "").startswith(wanted)
        return lambda body: str(get(body) or "").endswith(wanted)

    def _query_function(self, column: Column, get: Getter, node: Node) -> Test:
        if node.operator in {"LastXDays", "LastXHours"}:
            hours = int(str(node.values[0].value)) * (24 if node.operator == "LastXDays" else 1)
            first = (self.now - timedelta(hours=hours)).replace(tzinfo=None).isoformat()
            return lambda body: str(get(body) or "") >= first
        wanted = [literal_for(column, literal) for literal in node.values]
        if node.operator == "In":
            chosen = frozenset(wanted)
            return lambda body: get(body) in chosen
        if node.operator == "NotIn":
            chosen = frozenset(wanted)
            return lambda body: get(body) not in chosen
        if node.operator == "Between" and len(wanted) == 2:
            low, high = wanted
            return lambda body: _COMPARE["ge"](get(body), low) and _COMPARE["le"](get(body), high)
        if node.operator == "ContainValues":
            return lambda body: any(value in str(get(body) or "").split(",") for value in wanted)
        raise Refused(400, "0x80060888", f"The query function '{node.operator}' is not supported.")

    def _lambda(self, table: Table, node: Node) -> Test:
        child = table.collections.get(node.path[0])
        if child is None:
            find_column(table, node.path[0])
            raise Refused(400, "0x0", f"'{node.path[0]}' is not a collection of '{table.logical}'.")
        child_table, lookup = child
        if not node.parts:
            return lambda body: any(True for _ in self.rows.children(child_table, lookup, str(body[table.id])))
        test = self.compile(self.rows.tables[child_table], node.parts[0], node.operator)
        decide = any if node.kind == "any" else all
        return lambda body: decide(test(row) for row in self.rows.children(child_table, lookup, str(body[table.id])))


def hints(table: Table, node: Node) -> list[tuple[Column, frozenset[object]]]:
    """Return (column, values) that any matching row must have: what an index can answer."""
    if node.kind == "and":
        return [hint for part in node.parts for hint in hints(table, part)]
    if len(node.path) != 1:
        return []
    name = node.path[0]
    column = table.wires.get(name) or (table.columns.get(name) if node.kind == "query" else None)
    equal = (node.kind == "compare" and node.operator == "eq") or (node.kind == "query" and node.operator == "In")
    if column is None or not equal or column.type not in {"string", "id", "lookup"}:
        return []
    wanted = frozenset(literal_for(column, literal) for literal in node.values)
    return [] if None in wanted else [(column, wanted)]


class Descending:
    """Wraps a sort key so that the larger comes first."""

    __slots__ = ("key",)

    def __init__(self, key: tuple[object, ...]) -> None:
        self.key = key

    def __lt__(self, other: Descending) -> bool:
        return self.key > other.key

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Descending) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


def read_order(table: Table, text: str) -> list[tuple[Column, bool]]:
    """Return the columns of $orderby with whether each is descending."""
    found = []
    for item in text.split(","):
        name, _, direction = item.strip().partition(" ")
        if direction.strip() not in {"", "asc", "desc"}:
            raise Refused(400, "0x0", f"Syntax error in '{text}'.")
        found.append((find_column(table, name), direction.strip() == "desc"))
    return found


def sort_key(order: list[tuple[Column, bool]], values: list[object]) -> tuple[object, ...]:
    """Return what rows are sorted by: empty values first, the id last so that pages never overlap."""
    key: list[object] = []
    for (column, descending), value in zip(order, values, strict=False):
        one = (value is not None, comparable(column, value) if value is not None else 0)
        key.append(Descending(one) if descending else one)
    return (*key, values[-1])
