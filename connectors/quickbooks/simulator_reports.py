"""What do simulated QuickBooks' reports say?  Aging, balances, sales and transactions by customer, from the stored ones."""

from __future__ import annotations

from calendar import month_name
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, TypeAlias, cast

from connectors.quickbooks.simulator_documents import OPEN_AMOUNT, decimal, owed
from connectors.quickbooks.simulator_faults import VendorFault
from connectors.quickbooks.simulator_rules import TRANSACTIONS

if TYPE_CHECKING:
    from connectors.quickbooks.simulator_books import Books

Json: TypeAlias = "dict[str, object]"

# What a sale adds to the sales of its customer, without tax (decision: credits and refunds count against them).
SOLD = {"Invoice": 1, "SalesReceipt": 1, "CreditMemo": -1, "RefundReceipt": -1}
# A report that has too many cells is answered all the same (status 200), cut, with this sentence in place of the rest.
CUT = "Unable to display more data. Please reduce the date range."
LIST_COLUMNS: dict[str, tuple[str, Callable[[str, Json], object]]] = {  # of the list of transactions: title, value
    "tx_date": ("Date", lambda entity, body: body["TxnDate"]),
    "txn_type": ("Transaction Type", lambda entity, body: entity),
    "doc_num": ("Num", lambda entity, body: body.get("DocNumber") or body.get("PaymentRefNum")),
    "is_no_post": ("Posting", lambda entity, body: "No" if entity == "Estimate" else "Yes"),
    "memo": ("Memo/Description", lambda entity, body: body.get("PrivateNote")),
    "subt_nat_home_amount": ("Amount", lambda entity, body: f"{_in_home(body, decimal(body.get('TotalAmt'))):.2f}"),
}


def answer(books: Books, name: str, asked: Mapping[str, str], time: str) -> Json:
    """Return a report, not wrapped (section 13)."""
    report = {
        "AgedReceivables": _aged,
        "CustomerBalance": _balances,
        "CustomerSales": _sales,
        "TransactionListByCustomer": _transactions,
    }.get(name)
    if report is None:
        raise VendorFault("500", f"Report {name} is not supported")
    told = report(books, asked, time)
    columns = cast("list[Json]", cast("Json", told["Columns"])["Column"])
    rows = cast("Json", told["Rows"])
    room = int(str(books.switches["report_cells"])) // len(columns)
    if "Row" in rows and sum(1 for _ in _leaves(cast("list[Json]", rows["Row"]))) > room:
        rows["Row"] = [*_cut(cast("list[Json]", rows["Row"]), room)[0], {"ColData": [{"value": CUT}], "type": "Data"}]
    return told


def _aged(books: Books, asked: Mapping[str, str], time: str) -> Json:
    day = _day(books, asked)
    width, periods = int(asked.get("aging_period", 30)), int(asked.get("num_periods", 4))
    titles = ["Current"]
    titles += [f"{width * n + 1} - {width * (n + 1)}" for n in range(periods - 1)]
    titles.append(f"{width * (periods - 1) + 1} and over")

    def bucket(due: date) -> int:
        late = (day - due).days
        return 0 if late <= 0 else min((late - 1) // width + 1, periods)

    sums = {key: [*row, sum(row, Decimal(0))] for key, row in _sums(books, len(titles), bucket, day).items()}
    return _report(books, "AgedReceivables", [*titles, "Total"], sums, asked, (day, day), time)


def _balances(books: Books, asked: Mapping[str, str], time: str) -> Json:
    day = _day(books, asked)
    sums = _sums(books, 1, lambda due: 0, day)
    return _report(books, "CustomerBalance", ["Total"], sums, asked, (day, day), time)


def _sales(books: Books, asked: Mapping[str, str], time: str) -> Json:
    """Return what was sold to each customer in a period, without tax, in home currency, by accrual."""
    period = _period(books, asked)
    sums: dict[str, list[Decimal]] = {}
    for entity, customer, body in _dated(books, tuple(SOLD), period):
        tax = decimal(cast("Json", body.get("TxnTaxDetail") or {}).get("TotalTax"))
        amount = SOLD[entity] * (decimal(body.get("TotalAmt")) - tax)
        sums.setdefault(customer, [Decimal(0)])[0] += _in_home(body, amount)
    return _report(books, "CustomerSales", ["Total"], sums, asked, period, time)


def _transactions(books: Books, asked: Mapping[str, str], time: str) -> Json:
    """Return the transactions of a period, a section for each customer, that of a sub-customer in its parent's."""
    period = _period(books, asked)
    names = [name for name in asked.get("columns", "").split(",") if name in LIST_COLUMNS] or list(LIST_COLUMNS)
    lines: dict[str, list[Json]] = {}
    for entity, customer, body in _dated(books, TRANSACTIONS, period):
        values = [LIST_COLUMNS[name][1](entity, body) for name in names]
        cells: list[Json] = [{"value": str(value or "")} for value in values]
        lines.setdefault(customer, []).append({"ColData": cells, "type": "Data"})
    blank: list[Json] = [{"value": ""}] * (len(names) - 1)
    tree = _tree(books, lines)

    def build(key: str) -> Json:
        label = str((books.body("Customer", key) or {}).get("DisplayName", ""))
        rows = [*lines.get(key, []), *(build(child) for child in tree.get(key, []))]
        return {
            "Header": {"ColData": [{"value": label, "id": key}, *blank]},
            "Rows": {"Row": rows},
            "Summary": {"ColData": [{"value": f"Total for {label}"}, *blank]},
            "type": "Section",
        }

    columns = [{"ColTitle": LIST_COLUMNS[n][0], "MetaData": [{"Name": "ColKey", "Value": n}]} for n in names]
    return {
        "Header": _header(books, "TransactionListByCustomer", asked, period, time, empty=not lines),
        "Columns": {"Column": columns},
        "Rows": {"Row": [build(key) for key in tree.get("", [])]} if lines else {},
    }


def _day(books: Books, asked: Mapping[str, str]) -> date:
    return _date(asked, "report_date") if asked.get("report_date") else books.today()


def _date(asked: Mapping[str, str], name: str) -> date:
    try:
        return date.fromisoformat(asked[name][:10])
    except ValueError as error:
        raise VendorFault("2090", f"Invalid date : {asked[name]}", element=name) from error


def _period(books: Books, asked: Mapping[str, str]) -> tuple[date, date]:
    """Return the first and last day that are asked for: two dates, or the one macro that is known here."""
    if asked.get("start_date") and asked.get("end_date"):
        first, last = _date(asked, "start_date"), _date(asked, "end_date")
        if first >= last:  # so the vendor's pages of these reports
            raise VendorFault("2090", "start_date must be less than end_date", element="start_date")
        return first, last
    if asked.get("date_macro", "This Fiscal Year-to-date") != "This Fiscal Year-to-date":
        raise VendorFault("2170", f"Invalid Enumeration : {asked['date_macro']}", element="date_macro")
    today = books.today()
    month = list(month_name).index(str((books.body("CompanyInfo", "1") or {})["FiscalYearStartMonth"]))
    return date(today.year - (today.month < month), month, 1), today


def _dated(books: Books, entities: Sequence[str], period: tuple[date, date]) -> Iterator[tuple[str, str, Json]]:
    """Yield (entity, customer, body) of the transactions of a period that have a customer."""
    first, last = (day.isoformat() for day in period)
    for entity in entities:
        for record in list(books.store.table(entity).values()):
            reference = record.body.get("CustomerRef")
            if isinstance(reference, dict) and first <= str(record.body.get("TxnDate", ""))[:10] <= last:
                yield entity, str(reference["value"]), record.body


def _in_home(body: Json, amount: Decimal) -> Decimal:
    return amount * (decimal(body.get("ExchangeRate")) or Decimal(1))


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
            sums.setdefault(customer, [Decimal(0)] * columns)[bucket(due)] += _in_home(body, owed(entity, body))
    return sums


def _report(
    books: Books,
    name: str,
    titles: list[str],
    sums: dict[str, list[Decimal]],
    asked: Mapping[str, str],
    period: tuple[date, date],
    time: str,
) -> Json:
    only = set(asked["customer"].split(",")) if asked.get("customer") else None
    shown = {key: row for key, row in sums.items() if only is None or key in only}
    columns = [{"ColTitle": "", "ColType": "Customer"}, *({"ColTitle": each, "ColType": "Money"} for each in titles)]
    header = _header(books, name, asked, period, time, empty=not shown)
    rows = _rows(books, shown, len(titles), descending=asked.get("sort_order") == "descend")
    return {"Header": header, "Columns": {"Column": columns}, "Rows": {"Row": rows} if rows else {}}


def _header(
    books: Books, name: str, asked: Mapping[str, str], period: tuple[date, date], time: str, *, empty: bool
) -> Json:
    options = [{"Name": "NoReportData", "Value": "true" if empty else "false"}]
    header: Json = {
        "Time": time,
        "ReportName": name,
        "StartPeriod": period[0].isoformat(),
        "EndPeriod": period[1].isoformat(),
        "SummarizeColumnsBy": "Total",
        "Currency": books.home,
        "Option": options,
    }
    if name in {"AgedReceivables", "CustomerBalance"}:
        header["DateMacro"] = asked.get("date_macro", "today")
        options.insert(0, {"Name": "report_date", "Value": period[1].isoformat()})
    else:
        header["ReportBasis"] = asked.get("accounting_method", "Accrual")
    if asked.get("customer"):
        header["Customer"] = asked["customer"]
    return header


def _tree(books: Books, keys: Mapping[str, object]) -> dict[str, list[str]]:
    """Return the customers below each parent, "" for the top: those of `keys` and all that stand above them."""
    tree: dict[str, list[str]] = {}
    for key in keys:
        child, parent = key, _parent(books, key)
        while child not in tree.setdefault(parent, []):
            tree[parent].append(child)
            if not parent:
                break
            child, parent = parent, _parent(books, parent)
    return tree


def _leaves(rows: Sequence[Json]) -> Iterator[Json]:
    for row in rows:
        yield row
        yield from _leaves(cast("list[Json]", cast("Json", row.get("Rows") or {}).get("Row") or []))


def _cut(rows: Sequence[Json], room: int) -> tuple[list[Json], int]:
    """Return the rows that there is room for, in order, and the room that is left."""
    kept: list[Json] = []
    for row in rows:
        if room <= 0:
            break
        room -= 1
        if "Rows" in row:
            below, room = _cut(cast("list[Json]", cast("Json", row["Rows"])["Row"]), room)
            row = {**row, "Rows": {"Row": below}}
        kept.append(row)
    return kept, room


def _rows(books: Books, shown: dict[str, list[Decimal]], columns: int, *, descending: bool) -> list[Json]:
    """Return one row for each customer; one with sub-customers is a section, its own amounts in the header."""
    if not shown:
        return []
    tree = _tree(books, shown)

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
