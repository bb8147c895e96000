"""How are links and changes read and written in bulk?  Three functions below the ORM, for these two tables only.

Why: one ORM upsert costs six times an executemany (docs/performance.md).  The same SQL text runs on SQLite and PostgreSQL.
Values must be plain (text, int, None); signals, auto_now and `default=` do not apply here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from typing import Any

from django.db import connection, models
from django.db.models import QuerySet

Row = tuple[Any, ...]  # as the database driver gives and takes it


def read(rows: QuerySet[models.Model, tuple[object, ...]]) -> list[Row]:
    """Run a values_list query and return plain tuples as the database driver gives them."""
    sql, params = rows.query.sql_with_params()
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return cursor.fetchall()


class Prepared:
    """A query that is compiled once for each number of values, and then only bound anew.

    For the few rows of one write Django's compiler costs ten times what the database takes to answer.  `build` makes the
    queryset of its values; keyword options (a limit) are part of the text.
    """

    def __init__(self, build: Callable[..., QuerySet[models.Model, tuple[object, ...]]]) -> None:
        self._build = build
        self._compiled: dict[tuple[object, ...], tuple[str, list[tuple[int, object]]]] = {}

    def read(self, *values: object, **options: object) -> list[Row]:
        """Run it; a list of values stands for an IN, and is empty only where nothing is wanted."""
        lengths = tuple(len(value) if isinstance(value, list) else -1 for value in values)
        if 0 in lengths:
            return []
        shape = (connection.vendor, lengths, *options.items())
        if shape not in self._compiled:
            self._compiled[shape] = self._compile(lengths, options)
        sql, places = self._compiled[shape]
        flat = [item for value in values for item in (value if isinstance(value, list) else [value])]
        bound: list[Any] = [flat[place] if place >= 0 else constant for place, constant in places]
        with connection.cursor() as cursor:
            cursor.execute(sql, bound)
            return cursor.fetchall()

    def _compile(self, lengths: tuple[int, ...], options: dict[str, object]) -> tuple[str, list[tuple[int, object]]]:
        # Numbers that no constant of a query has, and that every column takes; a text column makes text of them.
        marks = iter(range(2_000_000_000, 2_000_100_000))
        given = [[next(marks) for _ in range(length)] if length >= 0 else next(marks) for length in lengths]
        sql, params = self._build(*given, **options).query.sql_with_params()
        places = []
        for param in params:
            number = int(param) - 2_000_000_000 if str(param).isdecimal() else -1
            places.append((number if number >= 0 else -1, param))
        return sql, places


def insert_many(model: type[models.Model], columns: Sequence[str], rows: Sequence[Row]) -> None:
    """Insert rows; `columns` are field names in the order of the values."""
    if rows:
        with connection.cursor() as cursor:
            cursor.executemany(_insert_sql(model, tuple(columns), connection.vendor), rows)


def update_many(
    model: type[models.Model], columns: Sequence[str], where: Sequence[str], rows: Sequence[Row], *, bump: str = ""
) -> int:
    """Update one row for each tuple (values of `columns`, then of `where`) and return how many were met.

    `bump` names an integer column that rises by one.
    """
    if not rows:
        return 0
    with connection.cursor() as cursor:
        cursor.executemany(_update_sql(model, tuple(columns), tuple(where), bump, connection.vendor), rows)
        return cursor.rowcount


@cache
def _insert_sql(model: type[models.Model], columns: tuple[str, ...], vendor: str) -> str:
    quote = connection.ops.quote_name
    names = ", ".join(quote(_column(model, name)) for name in columns)
    marks = ", ".join(["%s"] * len(columns))
    return f"INSERT INTO {quote(model._meta.db_table)} ({names}) VALUES ({marks})"  # noqa: S608 - names from _meta


@cache
def _update_sql(
    model: type[models.Model], columns: tuple[str, ...], where: tuple[str, ...], bump: str, vendor: str
) -> str:
    quote = connection.ops.quote_name
    parts = [f"{quote(_column(model, name))} = %s" for name in columns]
    if bump:
        parts.append(f"{quote(_column(model, bump))} = {quote(_column(model, bump))} + 1")
    conditions = " AND ".join(f"{quote(_column(model, name))} = %s" for name in where)
    return f"UPDATE {quote(model._meta.db_table)} SET {', '.join(parts)} WHERE {conditions}"  # noqa: S608 - names from _meta


def _column(model: type[models.Model], name: str) -> str:
    column = getattr(model._meta.get_field(name), "column", None)
    if column is None:
        raise ValueError(f"{model.__name__}.{name} has no column")
    return str(column)


def blocks(items: Iterable[object], size: int) -> Iterator[list[object]]:
    """Yield lists of at most `size` items."""
    block: list[object] = []
    for item in items:
        block.append(item)
        if len(block) == size:
            yield block
            block = []
    if block:
        yield block


def moment(value: object) -> object:
    """Turn an aware datetime into what the database driver takes for a datetime column."""
    return connection.ops.adapt_datetimefield_value(value)  # type: ignore[arg-type]
