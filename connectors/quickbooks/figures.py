"""What do customers owe and buy, and what is in stock?  Field groups that come for all records in a few calls.

Aging is one AgedReceivables report, sales are one CustomerSales report and one list of transactions (quickbooks sheet,
section 13, and the vendor's pages of these reports), stock is a query.  Reports name only customers with something to
report: `absent` says what the others have.  Amounts are in home currency.  A sub-customer's are its own, and a parent's
are without those of its sub-customers, because each is a record of its own on the other side, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, TypeAlias, cast

from connectors.contract import Page, PermanentError, Record, Unanswered, Values
from connectors.quickbooks.bodies import Body
from connectors.quickbooks.entities import AGING, PAGE

if TYPE_CHECKING:
    from connectors.quickbooks.connector import QuickBooks

Told: TypeAlias = "Mapping[str, Values]"  # customer id -> its figures

LONG_AGO = date(1980, 1, 1)  # before any company's first transaction (decision)
CUT = "Unable to display more data"  # begins the sentence that ends a report of too many cells, at status 200
NOTHING = Decimal(0)


def aging(connector: QuickBooks) -> Iterator[Page]:
    """Yield what each customer owes, by age."""
    # The company's own day, which is another than ours for some hours of each day.
    report = _report(connector, "AgedReceivables", date_macro="Today")
    as_of = _last_day(report)
    connector.aged_on = as_of
    columns = _columns(report)
    titles = [str(column.get("ColTitle", "")) for column in columns]
    places = {name: titles.index(title) for name, title in AGING.items() if title in titles}
    if len(places) < len(AGING):
        missing = ", ".join(sorted(set(AGING.values()) - set(titles)))
        raise Unanswered(f"the aging report has no column {missing}")
    found = _amounts(report, places)
    yield from _pages("Customer", {customer: {**amounts, "AgingAsOf": as_of} for customer, amounts in found.items()})


def sales(connector: QuickBooks) -> Iterator[Page]:
    """Yield what each customer bought in this fiscal year, and the date of its last transaction until today."""
    # The macro begins the year where the company's own settings do (CompanyInfo.FiscalYearStartMonth).  By accrual: a sale
    # counts when it is invoiced, whatever the company prefers to look at (decision).
    macro, basis = "This Fiscal Year-to-date", "Accrual"
    report = _report(connector, "CustomerSales", date_macro=macro, accounting_method=basis)
    amounts = [place for place, column in enumerate(_columns(report)) if column.get("ColType") == "Money"]
    if len(amounts) != 1:
        raise Unanswered(f"the report of sales by customer has {len(amounts)} columns of amounts instead of one")
    sold = _amounts(report, {"YearToDateSales": amounts[0]})
    dates = _last_dates(connector, LONG_AGO, _last_day(report))
    never = absent("sales", None) or {}
    told: dict[str, Values] = {}
    for customer in dict.fromkeys([*dates, *sold]):
        last: Values = {"LastTransactionDate": dates[customer]} if customer in dates else {}
        told[customer] = {**never, **sold.get(customer, {}), **last}
    yield from _pages("Customer", told)


def stock(connector: QuickBooks) -> Iterator[Page]:
    """Yield the quantity on hand of each inventory item.

    The vendor does not say whether a sale is a change of the item that its feed tells, so stock is read by itself.
    """
    position, last = 1, False
    while not last:
        rows = connector.query(
            "Item",
            f"WHERE Type = 'Inventory' AND Active IN (true,false) ORDERBY Id STARTPOSITION {position} MAXRESULTS {PAGE}",
            columns="Id, QtyOnHand",
        )
        position, last = position + PAGE, len(rows) < PAGE
        yield Page("", [Record("Item", str(row["Id"]), {"QtyOnHand": _quantity(row)}) for row in rows], last=last)


GROUPS: dict[tuple[str, str], Callable[[QuickBooks], Iterator[Page]]] = {
    ("Customer", "aging"): aging,
    ("Customer", "sales"): sales,
    ("Item", "stock"): stock,
}


def absent(group: str, aged_on: date | None) -> Values | None:
    """Return the figures of a record that a complete reading of the group did not name.

    A customer that owes nothing is not in the aging report, so what it has paid must not stand for ever.  The list of
    transactions covers all time: who is not in it never had one.
    """
    if group == "aging":
        return None if aged_on is None else {**dict.fromkeys(AGING, NOTHING), "AgingAsOf": aged_on}
    return {"YearToDateSales": NOTHING, "LastTransactionDate": None} if group == "sales" else {"QtyOnHand": None}


def _pages(entity: str, told: Told) -> Iterator[Page]:
    customers = list(told)
    for start in range(0, max(len(customers), 1), PAGE):
        records = [Record(entity, customer, told[customer]) for customer in customers[start : start + PAGE]]
        yield Page("", records, last=start + PAGE >= len(customers))


# Reading a report


def _report(connector: QuickBooks, name: str, **asked: str) -> Body:
    report = connector.get(f"reports/{name}", charge=("request", "report"), **asked)
    if _is_cut(report):
        raise PermanentError(
            f"QuickBooks has more to tell in its report {name} than it shows in one answer (400,000 cells), so these figures"
            " can't be read. Take the mappings that use them out of the entity sync."
        )
    return report


def _is_cut(report: Body) -> bool:
    cells = (cell for _, row in _leaves(_rows(report)) for cell in row)
    return any(str(cell.get("value") or "").startswith(CUT) for cell in cells)


def _last_day(report: Body) -> date:
    header = cast("Body", report.get("Header") or {})
    try:
        return date.fromisoformat(str(header.get("EndPeriod") or "")[:10])
    except ValueError as error:
        raise Unanswered(f"the report {header.get('ReportName', '')} does not say of which day it is") from error


def _columns(report: Body) -> Sequence[Body]:
    columns = cast("Body", report.get("Columns") or {}).get("Column")
    if not isinstance(columns, list):
        raise Unanswered("the report has no columns")
    return columns


def _rows(body: Body) -> Sequence[Body]:
    return cast("Sequence[Body]", cast("Body", body.get("Rows") or {}).get("Row") or [])


def _cells(row: Body) -> Sequence[Body]:
    return cast("Sequence[Body]", row.get("ColData") or [])


def _leaves(rows: Sequence[Body], section: str = "") -> Iterator[tuple[str, Sequence[Body]]]:
    """Yield (customer of the innermost section, cells) of each row and of each section's header."""
    for row in rows:
        head = _cells(cast("Body", row.get("Header") or row))
        inner = str(head[0].get("id") or "") if head else ""
        if head:
            yield inner if "Header" in row else section, head
        yield from _leaves(_rows(row), inner)


def _amounts(report: Body, places: Mapping[str, int]) -> dict[str, dict[str, Decimal]]:
    """Return customer id -> field -> amount; a parent's own amounts are in its section's header."""
    found: dict[str, dict[str, Decimal]] = {}
    for _, cells in _leaves(_rows(report)):
        customer = str(cells[0].get("id") or "")
        if customer:
            found[customer] = {name: _amount(cells[place]) for name, place in places.items() if place < len(cells)}
    return found


def _amount(cell: Body) -> Decimal:
    text = str(cell.get("value") or "0").replace(",", "")  # section 13: plain so far, but they are texts
    return Decimal(text)


def _quantity(row: Body) -> Decimal | None:
    value = row.get("QtyOnHand")
    return None if value is None else Decimal(str(value))


# The list of transactions


def _last_dates(connector: QuickBooks, first: date, last: date) -> dict[str, date]:
    """Return customer id -> date of its last transaction; a list that is cut is asked for in two halves."""
    report = connector.get(
        "reports/TransactionListByCustomer",
        charge=("request", "report"),
        start_date=first.isoformat(),
        end_date=last.isoformat(),
        columns="tx_date",  # one cell for each transaction: an answer holds 400,000 of them
        group_by="Customer",
    )
    if not _is_cut(report):
        return _dates(report)
    if (last - first).days < 2:  # a period begins before it ends
        raise PermanentError(f"QuickBooks has more transactions on {last} than it shows in one answer of a report.")
    middle = first + (last - first) // 2
    older, newer = _last_dates(connector, first, middle), _last_dates(connector, middle, last)
    return {customer: max(day, newer.get(customer, day)) for customer, day in {**newer, **older}.items()}


def _dates(report: Body) -> dict[str, date]:
    place = next((n for n, column in enumerate(_columns(report)) if _key(column) == "tx_date"), None)
    if place is None:
        raise Unanswered("the list of transactions has no dates")
    found: dict[str, date] = {}
    nameless = 0
    for customer, cells in _leaves(_rows(report)):
        day = _day(cells, place)
        if day is None:
            continue  # a section's header
        nameless += not customer
        if customer:
            found[customer] = max(day, found.get(customer, day))
    if nameless and not found:
        # Sales to nobody stand in a section without id; that all of them do would empty every customer's date.
        raise Unanswered("the list of transactions does not say whose they are")
    return found


def _key(column: Body) -> str:
    told = cast("Sequence[Body]", column.get("MetaData") or [])
    return next((str(each.get("Value")) for each in told if each.get("Name") == "ColKey"), "")


def _day(cells: Sequence[Body], place: int) -> date | None:
    try:
        return date.fromisoformat(str(cells[place].get("value") or "")[:10]) if place < len(cells) else None
    except ValueError:
        return None
