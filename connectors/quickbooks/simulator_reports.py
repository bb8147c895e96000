"""What do simulated QuickBooks' reports say?  Aging and customer balances, computed from the stored transactions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, TypeAlias, cast

from connectors.quickbooks.simulator_documents import OPEN_AMOUNT, decimal, owed
from connectors.quickbooks.simulator_faults import VendorFault

if TYPE_CHECKING:
    from connectors.quickbooks.simulator_books import Books

Json: TypeAlias = "dict[str, object]"


def answer(books: Books, name: str, asked: Mapping[str, str], now: datetime, time: str) -> Json:
    """Return a report, not wrapped (section 13)."""
    if name == "AgedReceivables":
        return _aged(books, asked, now, time)
    if name == "CustomerBalance":
        return _balances(books, asked, now, time)
    raise VendorFault("500", f"Report {name} is not supported")


def _aged(books: Books, asked: Mapping[str, str], now: datetime, time: str) -> Json:
    day = _day(asked, now)
    width, periods = int(asked.get("aging_period", 30)), int(asked.get("num_periods", 4))
    titles = ["Current"]
    titles += [f"{width * n + 1} - {width * (n + 1)}" for n in range(periods - 1)]
    titles.append(f"{width * (periods - 1) + 1} and over")

    def bucket(due: date) -> int:
        late = (day - due).days
        return 0 if late <= 0 else min((late - 1) // width + 1, periods)

    sums = _sums(books, len(titles), bucket, day)
    return _report(books, "AgedReceivables", [*titles, "Total"], sums, asked, day, time, total_of=len(titles))


def _balances(books: Books, asked: Mapping[str, str], now: datetime, time: str) -> Json:
    day = _day(asked, now)
    sums = _sums(books, 1, lambda due: 0, day)
    return _report(books, "CustomerBalance", ["Total"], sums, asked, day, time, total_of=0)


def _day(asked: Mapping[str, str], now: datetime) -> date:
    try:
        return date.fromisoformat(asked["report_date"][:10]) if asked.get("report_date") else now.date()
    except ValueError as error:
        raise VendorFault("2090", f"Invalid date : {asked['report_date']}", element="report_date") from error


def _sums(books: Books, columns: int, bucket: Callable[[date], int], day: date) -> dict[str, list[Decimal]]:
    """Add up the open amounts in home currency by customer; credits reduce the bucket of their own date."""
    sums: dict[str, list[Decimal]] = {}
    for entity, (open_name, _) in OPEN_AMOUNT.items():
        for record in list(books.store.table(entity).values()):
            body = record.body
            if not body.get(open_name) or str(body.get("TxnDate", "")) > day.isoformat():
                continue
            due = date.fromisoformat(str(body.get("DueDate") or body["TxnDate"])[:10])
            customer = str(cast("Json", body["CustomerRef"])["value"])
            amount = owed(entity, body) * (decimal(body.get("ExchangeRate")) or Decimal(1))
            sums.setdefault(customer, [Decimal(0)] * columns)[bucket(due)] += amount
    return sums


def _report(
    books: Books,
    name: str,
    titles: list[str],
    sums: dict[str, list[Decimal]],
    asked: Mapping[str, str],
    day: date,
    time: str,
    *,
    total_of: int,
) -> Json:
    only = set(asked["customer"].split(",")) if asked.get("customer") else None
    shown = {key: row for key, row in sums.items() if only is None or key in only}
    if total_of:
        shown = {key: [*row, sum(row, Decimal(0))] for key, row in shown.items()}
    columns = [{"ColTitle": "", "ColType": "Customer"}, *({"ColTitle": each, "ColType": "Money"} for each in titles)]
    header: Json = {
        "Time": time,
        "ReportName": name,
        "DateMacro": asked.get("date_macro", "today"),
        "StartPeriod": day.isoformat(),
        "EndPeriod": day.isoformat(),
        "SummarizeColumnsBy": "Total",
        "Currency": books.home,
        "Option": [
            {"Name": "report_date", "Value": day.isoformat()},
            {"Name": "NoReportData", "Value": "false" if shown else "true"},
        ],
    }
    if only is not None:
        header["Customer"] = asked["customer"]
    rows = _rows(books, shown, len(titles), descending=asked.get("sort_order") == "descend")
    return {"Header": header, "Columns": {"Column": columns}, "Rows": {"Row": rows} if rows else {}}


def _rows(books: Books, shown: dict[str, list[Decimal]], columns: int, *, descending: bool) -> list[Json]:
    """Return one row for each customer; one with sub-customers is a section, its own amounts in the header."""
    if not shown:
        return []
    tree: dict[str, list[str]] = {}
    for key in shown:
        child, parent = key, _parent(books, key)
        while child not in tree.setdefault(parent, []):
            tree[parent].append(child)
            if not parent:
                break
            child, parent = parent, _parent(books, parent)

    def build(key: str) -> tuple[Json, list[Decimal]]:
        own = shown.get(key, [Decimal(0)] * columns)
        label = str((books.body("Customer", key) or {}).get("DisplayName", ""))
        cells: list[Json] = [{"value": label, "id": key}, *_cells(own)]
        if key not in tree:
            return {"ColData": cells}, own
        total, rows = list(own), []
        for child in tree[key]:
            row, below = build(child)
            rows.append(row)
            total = [a + b for a, b in zip(total, below, strict=True)]
        summary: Json = {"ColData": [{"value": f"Total {label}"}, *_cells(total)]}
        return {"Header": {"ColData": cells}, "Rows": {"Row": rows}, "Summary": summary, "type": "Section"}, total

    built = [build(key) for key in tree[""]]
    if descending:
        built.reverse()
    grand = [sum((total[n] for _, total in built), Decimal(0)) for n in range(columns)]
    end: Json = {
        "type": "Section",
        "group": "GrandTotal",
        "Summary": {"ColData": [{"value": "TOTAL"}, *({"value": f"{each:.2f}"} for each in grand)]},
    }
    return [*(row for row, _ in built), end]


def _cells(amounts: list[Decimal]) -> list[Json]:
    return [{"value": f"{each:.2f}" if each else ""} for each in amounts]


def _parent(books: Books, customer: str) -> str:
    reference = (books.body("Customer", customer) or {}).get("ParentRef")
    return str(reference["value"]) if isinstance(reference, dict) else ""
