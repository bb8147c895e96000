"""Do aging, sales and stock come for all records in a few calls, and say what absence means?"""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal

import pytest

from connectors.contract import KnowsAbsence, PermanentError, Unanswered, Values
from connectors.quickbooks import figures
from connectors.quickbooks.connector import QuickBooks
from connectors.quickbooks.simulator import QuickBooksSimulator
from tests.quickbooks.conftest import NOON, Company, client, later
from tests.quickbooks.helpers import read_all, records
from tests.quickbooks.test_simulator import Plain

BUCKETS = ("AgingCurrent", "Aging30", "Aging60", "Aging90", "Aging91")


def told(qb: QuickBooks, group: str, entity: str = "Customer") -> dict[str, Values]:
    """Read a group to its end."""
    pages = list(qb.snapshot(entity, group))
    assert [page.last for page in pages] == [False] * (len(pages) - 1) + [True]
    return {record.id: record.values for page in pages for record in page.records}


def customer(sim: QuickBooksSimulator, name: str, **values: object) -> str:
    return sim.user_creates("Customer", {"DisplayName": name, **values})


def sale(sim: QuickBooksSimulator, who: str, amount: float, day: str, entity: str = "Invoice", **values: object) -> str:
    line = {"DetailType": "SalesItemLineDetail", "Amount": amount, "SalesItemLineDetail": {}}
    return sim.user_creates(entity, {"CustomerRef.value": who, "Line": [line], "TxnDate": day, **values})


def calls(sim: QuickBooksSimulator) -> list[str]:
    return [call.note for call in sim.journal if call.note.startswith(("report", "query"))]


def test_aging_of_all_customers_comes_from_one_report(company: Company) -> None:
    sim = company(80)
    aged = told(client(sim), "aging")
    assert calls(sim) == ["report AgedReceivables"]
    assert 0 < len(aged) < 80, "a report names only those with open amounts"
    for name in BUCKETS:
        assert any(values[name] for values in aged.values()), f"nobody owes anything in {name}"
    for key, record in sim.store.table("Customer").items():
        if record.body["CurrencyRef"]["value"] == "USD":  # type: ignore[index]
            total = sum(aged[key][name] for name in BUCKETS) if key in aged else 0  # type: ignore[misc]
            assert total == Decimal(str(record.body["Balance"])), key


def test_who_is_not_in_the_aging_report_owes_nothing_as_of_its_day(qb: QuickBooks) -> None:
    assert isinstance(qb, KnowsAbsence)
    assert qb.absent("Customer", "aging") is None, "no report has been read that anybody could be absent from"
    assert told(qb, "aging") == {}
    assert qb.absent("Customer", "aging") == {**dict.fromkeys(BUCKETS, 0), "AgingAsOf": date(2026, 3, 2)}
    assert qb.absent("Customer", "sales") == {"YearToDateSales": 0, "LastTransactionDate": None}
    assert qb.absent("Item", "stock") == {"QtyOnHand": None}
    assert qb.absent("Invoice", "aging") is None


def test_a_sub_customers_debt_is_its_own_and_its_parents_total(sim: QuickBooksSimulator, qb: QuickBooks) -> None:
    parent = customer(sim, "Parent")
    child = customer(sim, "Child", **{"ParentRef.value": parent})
    sale(sim, child, 50, "2026-01-05")
    sale(sim, parent, 50, "2026-02-20")
    read = {record.id: record.values for record in records(read_all(qb))}
    assert read[child]["FullyQualifiedName"] == "Parent:Child"
    assert (read[child]["Balance"], read[parent]["Balance"], read[parent]["BalanceWithJobs"]) == (50, 50, 100)
    aged = told(qb, "aging")
    assert (aged[parent]["Aging30"], aged[parent]["Aging60"]) == (50, 0)
    assert (aged[child]["Aging30"], aged[child]["Aging60"]) == (0, 50)
    assert str(aged[child]["AgingAsOf"]) == "2026-03-02"


def test_the_day_of_the_figures_is_the_companys_own(sim: QuickBooksSimulator, qb: QuickBooks) -> None:
    """Five in the morning in UTC is the evening before where the company is."""
    sim.clock.advance(timedelta(hours=17))
    who = customer(sim, "Ada")
    sale(sim, who, 10, "2026-03-01", DueDate="2026-03-02")
    sale(sim, who, 5, "2026-03-03")
    assert told(qb, "aging")[who] == {**dict.fromkeys(BUCKETS, 0), "AgingCurrent": 10, "AgingAsOf": date(2026, 3, 2)}
    assert told(qb, "sales")[who] == {"YearToDateSales": 10, "LastTransactionDate": date(2026, 3, 1)}


def test_sales_count_from_the_first_day_of_the_fiscal_year_less_credits_and_tax(
    sim: QuickBooksSimulator, qb: QuickBooks
) -> None:
    with sim.store.lock:
        sim.books.silently("CompanyInfo", "1", {"FiscalYearStartMonth": "July"})
    who = customer(sim, "Ada")
    foreign = customer(sim, "Ort GmbH", CurrencyRef={"value": "EUR"})
    only_estimate = customer(sim, "Asked Once")
    sale(sim, who, 7000, "2025-06-30")
    sale(sim, who, 100, "2025-07-01", TxnTaxDetail={"TotalTax": 8})
    sale(sim, who, 30, "2026-01-10", "SalesReceipt")
    sale(sim, who, 25, "2026-02-10", "CreditMemo")
    sim.user_creates("Payment", {"CustomerRef.value": who, "TotalAmt": 20, "TxnDate": "2026-03-01"})
    sale(sim, foreign, 1000, "2026-02-01")
    sale(sim, only_estimate, 400, "2024-05-06", "Estimate")
    assert told(qb, "sales") == {
        who: {"YearToDateSales": 105, "LastTransactionDate": date(2026, 3, 1)},
        foreign: {"YearToDateSales": 1080, "LastTransactionDate": date(2026, 2, 1)},
        only_estimate: {"YearToDateSales": 0, "LastTransactionDate": date(2024, 5, 6)},
    }
    assert calls(sim) == ["report CustomerSales", "report TransactionListByCustomer"]


def test_sub_customers_have_their_own_sales_and_dates(sim: QuickBooksSimulator, qb: QuickBooks) -> None:
    top = customer(sim, "Top")
    middle = customer(sim, "Middle", **{"ParentRef.value": top})
    low = customer(sim, "Low", **{"ParentRef.value": middle})
    sale(sim, top, 1, "2026-01-01")
    sale(sim, low, 4, "2026-02-02")
    assert told(qb, "sales") == {
        top: {"YearToDateSales": 1, "LastTransactionDate": date(2026, 1, 1)},
        # A parent is named in a report because of what is below it.
        middle: {"YearToDateSales": 0, "LastTransactionDate": None},
        low: {"YearToDateSales": 4, "LastTransactionDate": date(2026, 2, 2)},
    }


def test_a_list_of_too_many_transactions_is_read_in_parts(company: Company) -> None:
    sim = company(60, report_cells=130)
    dates = {key: str(values["LastTransactionDate"]) for key, values in told(client(sim), "sales").items()}
    expected: dict[str, str] = {}
    for entity in ("Invoice", "Payment", "CreditMemo", "Estimate", "SalesReceipt"):
        for record in sim.store.table(entity).values():
            who = record.body["CustomerRef"]["value"]  # type: ignore[index]
            expected[who] = max(expected.get(who, ""), str(record.body["TxnDate"]))
    assert expected
    assert {key: day for key, day in dates.items() if day != "None"} == expected
    assert calls(sim).count("report TransactionListByCustomer") > 2


def test_a_report_that_is_cut_is_never_taken_for_whole(company: Company) -> None:
    sim = company(60, report_cells=21)
    qb = client(sim)
    for group in ("aging", "sales"):
        with pytest.raises(PermanentError, match="than it shows in one answer"):
            told(qb, group)
    assert qb.absent("Customer", "aging") is None
    busy = company(report_cells=4)
    who = customer(busy, "Ada")
    for _ in range(5):
        sale(busy, who, 1, "2026-02-01")
    with pytest.raises(PermanentError, match="more transactions on"):
        told(client(busy), "sales")


def test_a_list_that_does_not_say_whose_the_transactions_are_empties_no_dates() -> None:
    columns = {"Column": [{"ColTitle": "Date", "MetaData": [{"Name": "ColKey", "Value": "tx_date"}]}]}
    line = {"ColData": [{"value": "2026-01-05"}], "type": "Data"}
    nobody = {"Header": {"ColData": [{"value": "Not Specified"}]}, "Rows": {"Row": [line]}, "type": "Section"}
    known = {"Header": {"ColData": [{"value": "Ada", "id": "7"}]}, "Rows": {"Row": [line]}, "type": "Section"}
    assert figures._dates({"Columns": columns, "Rows": {"Row": [nobody, known]}}) == {"7": date(2026, 1, 5)}
    with pytest.raises(Unanswered, match="whose"):
        figures._dates({"Columns": columns, "Rows": {"Row": [nobody]}})


def test_stock_of_all_items_comes_by_queries_of_a_thousand(company: Company) -> None:
    sim = company(10_000, transactions=False)
    inventory = {key: r.body for key, r in sim.store.table("Item").items() if r.body["Type"] == "Inventory"}
    stock = told(client(sim), "stock", "Item")
    assert {key: values["QtyOnHand"] for key, values in stock.items()} == {
        key: Decimal(str(body["QtyOnHand"])) for key, body in inventory.items()
    }
    assert calls(sim) == ["query Item"] * (len(inventory) // 1000 + 1)


@pytest.mark.parametrize("entity", ["Invoice", "SalesReceipt"])
def test_a_sale_takes_from_stock_what_it_sells_and_a_credit_gives_it_back(company: Company, entity: str) -> None:
    sim = company(20)
    item, record = next((k, r) for k, r in sim.store.table("Item").items() if r.body["Type"] == "Inventory")
    before = Decimal(str(record.body["QtyOnHand"]))

    def on_hand() -> Decimal:
        return Decimal(str(sim.store.table("Item")[item].body["QtyOnHand"])) - before

    def lines(quantity: float) -> list[dict[str, object]]:
        detail = {"ItemRef": {"value": item}, "Qty": quantity}
        return [{"DetailType": "SalesItemLineDetail", "Amount": 12, "SalesItemLineDetail": detail}]

    sold = sim.user_creates(entity, {"CustomerRef.value": "1", "Line": lines(4)})
    assert on_hand() == -4
    sim.user_edits(entity, sold, {"Line": lines(2.5)})
    assert on_hand() == Decimal("-2.5")
    credit = sim.user_creates("CreditMemo", {"CustomerRef.value": "1", "Line": lines(1)})
    assert on_hand() == Decimal("-1.5")
    sim.user_voids(entity, sold)
    assert on_hand() == 1
    sim.user_deletes("CreditMemo", credit)
    assert on_hand() == 0
    estimate = sim.user_creates("Estimate", {"CustomerRef.value": "1", "Line": lines(9)})
    assert (on_hand(), estimate != "") == (0, True)


def test_whether_a_sale_shows_as_a_change_of_the_item_is_a_switch(company: Company) -> None:
    sim = company(20)
    item = next(k for k, r in sim.store.table("Item").items() if r.body["Type"] == "Inventory")
    detail = {"ItemRef": {"value": item}, "Qty": 1}
    line = {"DetailType": "SalesItemLineDetail", "Amount": 12, "SalesItemLineDetail": detail}
    tokens = []
    for touches in (False, True):
        sim.switches["stock_touches_item"] = touches
        later(sim)
        sim.user_creates("Invoice", {"CustomerRef.value": "1", "Line": [line]})
        tokens.append(sim.store.table("Item")[item].body["SyncToken"])
    assert tokens == ["0", "1"]


def test_a_report_of_a_period_refuses_one_that_does_not_begin_before_it_ends(sim: QuickBooksSimulator) -> None:
    plain = Plain(sim)
    path = "reports/CustomerSales"
    assert plain.code(plain.get(path, start_date="2026-02-01", end_date="2026-02-01")) == "2090"
    assert plain.code(plain.get(path, start_date="soon", end_date="2026-02-01")) == "2090"
    assert plain.code(plain.get(path, date_macro="Since Always")) == "2170"
    header = plain.get(path)[1]["Header"]
    assert (header["StartPeriod"], header["EndPeriod"], header["ReportBasis"]) == (
        "2026-01-01",
        "2026-03-02",
        "Accrual",
    )
    assert header["Option"] == [{"Name": "NoReportData", "Value": "true"}]


def test_the_list_of_transactions_has_the_columns_that_are_asked_for(sim: QuickBooksSimulator) -> None:
    who = customer(sim, "Ada")
    sale(sim, who, 1000, (NOON.date() - timedelta(days=3)).isoformat(), DocNumber="77", PrivateNote="Oak")
    report = Plain(sim).get("reports/TransactionListByCustomer", columns="doc_num,tx_date,subt_nat_home_amount")[1]
    assert [column["MetaData"][0]["Value"] for column in report["Columns"]["Column"]] == [
        "doc_num", "tx_date", "subt_nat_home_amount",
    ]  # fmt: skip
    [section] = report["Rows"]["Row"]
    assert section["Header"]["ColData"] == [{"value": "Ada", "id": who}, {"value": ""}, {"value": ""}]
    [line] = section["Rows"]["Row"]
    assert [cell["value"] for cell in line["ColData"]] == ["77", "2026-02-27", "1000.00"]
