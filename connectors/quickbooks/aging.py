"""What does each customer owe, by age?  One AgedReceivables report for all customers (quickbooks sheet, section 13)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, cast

from connectors.contract import Page, Record, Unanswered, Value
from connectors.quickbooks.bodies import Body
from connectors.quickbooks.entities import AGING, PAGE

if TYPE_CHECKING:
    from connectors.quickbooks.connector import QuickBooks


def read(connector: QuickBooks) -> Iterator[Page]:
    """Yield the aging of all customers.

    The report names only customers with open amounts.  The others are told as 0, else what they have paid would stand
    for ever: their ids come by query, a thousand at a time.
    """
    report = connector.get(
        "reports/AgedReceivables", charge=("request", "report"), report_date=connector.now().date().isoformat()
    )
    header = cast("Body", report.get("Header") or {})
    as_of = date.fromisoformat(str(header.get("EndPeriod") or connector.now().date())[:10])
    amounts = parse_report(report)
    position, last = 1, False
    while not last:
        rows = connector.query(
            "Customer", f"WHERE Active IN (true,false) ORDERBY Id STARTPOSITION {position} MAXRESULTS {PAGE}"
        )
        position, last = position + PAGE, len(rows) < PAGE
        records = [_record(str(row["Id"]), amounts.get(str(row["Id"]), {}), as_of) for row in rows]
        yield Page("", records, last=last)


def _record(customer: str, amounts: dict[str, Decimal], as_of: date) -> Record:
    values: dict[str, Value] = {name: amounts.get(name, Decimal(0)) for name in AGING}
    return Record("Customer", customer, {**values, "AgingAsOf": as_of})


def parse_report(report: Body) -> dict[str, dict[str, Decimal]]:
    """Return customer id -> field -> amount.  Columns are found by their title, never by place."""
    columns = cast("Body", report.get("Columns") or {}).get("Column")
    if not isinstance(columns, list):
        raise Unanswered("the aging report has no columns")
    titles = [str(column.get("ColTitle", "")) for column in columns]
    places = {name: titles.index(title) for name, title in AGING.items() if title in titles}
    if len(places) < len(AGING):
        missing = ", ".join(sorted(set(AGING.values()) - set(titles)))
        raise Unanswered(f"the aging report has no column {missing}")
    found: dict[str, dict[str, Decimal]] = {}
    for cells in _cells(cast("Body", report.get("Rows") or {})):
        customer = str(cells[0].get("id") or "")
        if customer:
            found[customer] = {name: _amount(cells[place]) for name, place in places.items() if place < len(cells)}
    return found


def _cells(rows: Body) -> Iterator[Sequence[Body]]:
    """Yield the cells of each row that names a customer; a parent's own amounts are in its section's header."""
    for row in cast("Sequence[Body]", rows.get("Row") or []):
        head = cast("Body", row.get("Header") or row)
        cells = cast("Sequence[Body]", head.get("ColData") or [])
        if cells:
            yield cells
        yield from _cells(cast("Body", row.get("Rows") or {}))


def _amount(cell: Body) -> Decimal:
    text = str(cell.get("value") or "0").replace(",", "")  # section 13: plain so far, but they are texts
    return Decimal(text)
