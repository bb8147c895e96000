"""How does a value look on the wire, and how in the hub?  Readers are prepared once for all rows of a page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal

from connectors.contract import Field, Kind, Record, Ref, Row, Value, Write
from connectors.dynamics365.entities import LISTS, wire_name
from connectors.dynamics365.schema import Json, TableInfo

LOOKUP_NAME = "Microsoft.Dynamics.CRM.lookuplogicalname"
# State of a row that is archived; of products it is Retired, of invoices and orders Canceled, of quotes Closed
# (sheet, section 14).
ARCHIVED = {"product": 1, "quote": 3, "salesorder": 2, "invoice": 3}

Reader = Callable[[Json, object], Value]


class Unfit(Exception):
    """A value that the column can't take; said before anything is sent."""

    def __init__(self, field: str, message: str, code: str = "unfit_value") -> None:
        super().__init__(message)
        self.field, self.code = field, code


def moment(text: object) -> datetime:
    """Read a time; the wire has them in UTC."""
    return datetime.fromisoformat(str(text)).astimezone(UTC)


def _ref_reader(field: Field) -> Reader:
    first = field.refers_to[0]
    if len(field.refers_to) == 1:
        return lambda row, value: Ref(first, str(value))
    key = f"{wire_name(field)}@{LOOKUP_NAME}"
    return lambda row, value: Ref(str(row.get(key) or first), str(value))


_READERS: dict[Kind, Reader] = {
    Kind.INTEGER: lambda row, value: int(str(value)),
    Kind.DECIMAL: lambda row, value: value if isinstance(value, Decimal) else Decimal(str(value)),
    Kind.MONEY: lambda row, value: value if isinstance(value, Decimal) else Decimal(str(value)),
    Kind.BOOLEAN: lambda row, value: bool(value),
    Kind.DATE: lambda row, value: date.fromisoformat(str(value)[:10]),
    Kind.DATETIME: lambda row, value: moment(value),
    Kind.OPTION: lambda row, value: str(value),
    Kind.OPTIONS: lambda row, value: frozenset(str(value).split(",")),
}


def reader_of(field: Field) -> Reader | None:
    """Return what reads a field's value; None: as it is."""
    return _ref_reader(field) if field.kind is Kind.REF else _READERS.get(field.kind)


@dataclass(frozen=True, slots=True)
class Shape:
    """How rows of one table become records, for one choice of fields."""

    entity: str
    id: str
    columns: tuple[tuple[str, str, Reader | None], ...]  # field, property, reader
    polymorphic: bool
    marker: str
    url: str  # begins every record's address

    @classmethod
    def of(cls, entity: str, id_column: str, fields: Iterable[Field], *, marker: str = "", url: str = "") -> Shape:
        """Prepare the readers."""
        plain = [f for f in fields if f.kind is not Kind.ROWS]
        columns = tuple((f.name, wire_name(f), reader_of(f)) for f in plain)
        return cls(entity, id_column, columns, any(len(f.refers_to) > 1 for f in plain), marker, url)

    def select(self) -> str:
        """Return the $select that this needs: the id and the version come along unasked."""
        names = dict.fromkeys(wire for _, wire, _ in self.columns)
        names |= dict.fromkeys(["modifiedon", "statecode", "statuscode"])
        if self.marker:
            names[self.marker] = None
        return ",".join(names)

    def values(self, row: Json) -> dict[str, Value]:
        """Read one row's values.  A property that is not there was not told."""
        found: dict[str, Value] = {}
        for name, wire, read in self.columns:
            value = row.get(wire, row)  # the row itself stands for "not there"
            if value is None or value == "":
                found[name] = None
            elif value is not row:
                found[name] = value if read is None else read(row, value)  # type: ignore[assignment]
        return found

    def record(self, row: Json) -> Record:
        """Read one row."""
        identity = str(row[self.id])
        modified = row.get("modifiedon")
        return Record(
            self.entity,
            identity,
            self.values(row),
            version=str(row.get("@odata.etag", "")),
            modified=moment(modified) if modified else None,
            archived=row.get("statecode") == ARCHIVED.get(self.entity, 1),
            marker=str(row.get(self.marker) or "") if self.marker else "",
            url=f"{self.url}{identity}",
        )

    def rows(self, children: Sequence[Json]) -> tuple[Row, ...]:
        """Read a document's lines in their order."""
        ordered = sorted(children, key=lambda r: (int(str(r.get("lineitemnumber") or 0)), str(r[self.id])))
        return tuple(Row(self.values(row), str(row[self.id])) for row in ordered)


def _number(value: Decimal) -> int | float:
    # A double holds every amount that Dataverse does, up to 15 digits.
    return int(value) if value == value.to_integral_value() else float(value)


def plain_value(field: Field, value: Value) -> object:
    """Return a value as it goes into a payload (lookups apart).  Raises Unfit."""
    if value is None:
        return None
    try:
        if field.kind is Kind.OPTION:
            return int(str(value))
        if field.kind is Kind.OPTIONS and isinstance(value, frozenset):
            return ",".join(str(key) for key in sorted(int(key) for key in value)) or None
    except ValueError as error:
        raise Unfit(field.name, f"'{value}' is not the number of an option of '{field.name}'") from error
    if field.kind in {Kind.DECIMAL, Kind.MONEY} and isinstance(value, Decimal | int) and not isinstance(value, bool):
        return _number(Decimal(value))
    if field.kind is Kind.DATETIME and isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    if field.kind is Kind.DATE and isinstance(value, date) and not isinstance(value, datetime):
        return value.isoformat()
    fits = {Kind.TEXT: str, Kind.HTML: str, Kind.INTEGER: int, Kind.BOOLEAN: bool}.get(field.kind)
    if fits is not None and isinstance(value, fits) and (fits is bool or not isinstance(value, bool)):
        return value
    raise Unfit(field.name, f"'{field.name}' ({field.kind}) can't hold a {type(value).__name__}")


def _bind(schema: dict[str, TableInfo], table: TableInfo, field: Field, value: Value) -> tuple[str, object]:
    """Return (property, value) that sets or clears a lookup (sheet, section 5)."""
    if field.name in LISTS:
        target, identity = LISTS[field.name][0], "" if value is None else str(value)
    elif isinstance(value, Ref):
        target, identity = value.entity, value.id
        if not identity:
            raise Unfit(field.name, f"'{field.name}' needs the id of the {target}")
    elif value is None:
        # Any of the navigation properties clears the one column.
        target, identity = next(t for (name, t) in table.navigations if name == field.name), ""
    else:
        raise Unfit(field.name, f"'{field.name}' needs a reference")
    navigation = table.navigations.get((field.name, target))
    if navigation is None or target not in schema:
        raise Unfit(field.name, f"'{field.name}' can't point at a {target}")
    return f"{navigation}@odata.bind", f"/{schema[target].set}({identity})" if identity else None


def payload(schema: dict[str, TableInfo], table: TableInfo, values: dict[str, Value], *, creating: bool) -> Json:
    """Return the body of a create or update.  Raises Unfit for the first value that can't be sent."""
    body: Json = {}
    for name, value in values.items():
        field = table.fields.get(name)
        if field is None:
            raise Unfit(name, f"the environment has no column '{name}' on {table.logical}", "no_such_column")
        if field.write is Write.NEVER or (field.write is Write.CREATE and not creating):
            raise Unfit(name, f"'{name}' can't be written{'' if creating else ' once the record exists'}", "read_only")
        if field.kind is Kind.REF or name in LISTS:
            navigation, target = _bind(schema, table, field, value)
            body[navigation] = target
        else:
            body[name] = plain_value(field, value)
    return body
