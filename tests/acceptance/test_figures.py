"""Do aging, sales and stock arrive as the books have them, for all customers and products, in few requests?"""

from __future__ import annotations

from collections import Counter
from datetime import date, timedelta
from decimal import Decimal
from math import ceil

import pytest

BUCKETS = ("syn_agingcurrent", "syn_aging30", "syn_aging60", "syn_aging90", "syn_aging91")
SOLD = {"Invoice": 1, "SalesReceipt": 1, "CreditMemo": -1}
DATED = ("Invoice", "Payment", "CreditMemo", "Estimate", "SalesReceipt")
CENT = Decimal("0.01")

pytestmark = pytest.mark.django_db(transaction=True)


# A reckoning of its own, from the transactions as they are stored


def money(value) -> Decimal:
    return Decimal(str(value or 0))


def transactions(hub, *entities):
    for entity in entities:
        for record in hub.left.store.table(entity).values():
            if "CustomerRef" in record.body:
                yield entity, record.body["CustomerRef"]["value"], record.body


def owed_by_age(hub, day: date) -> dict[str, list[Decimal]]:
    """Customer -> what is open, in home currency, by days past due; credits and unused payments count by their date."""
    found: dict[str, list[Decimal]] = {}
    for entity, customer, body in transactions(hub, "Invoice", "Payment", "CreditMemo"):
        name, sign = {"Invoice": ("Balance", 1), "Payment": ("UnappliedAmt", -1)}.get(entity, ("RemainingCredit", -1))
        late = (day - date.fromisoformat(body["DueDate"] if entity == "Invoice" else body["TxnDate"])).days
        place = sum(late > bound for bound in (0, 30, 60, 90))
        amount = sign * money(body.get(name)) * Decimal(str(body.get("ExchangeRate", 1)))
        found.setdefault(customer, [Decimal(0)] * 5)[place] += amount
    return found


def sold_since(hub, first: date, last: date) -> dict[str, Decimal]:
    found: dict[str, Decimal] = {}
    for entity, customer, body in transactions(hub, *SOLD):
        if first <= date.fromisoformat(body["TxnDate"]) <= last:
            net = money(body["TotalAmt"]) - money(body.get("TxnTaxDetail", {}).get("TotalTax"))
            rate = Decimal(str(body.get("ExchangeRate", 1)))
            found[customer] = found.get(customer, Decimal(0)) + SOLD[entity] * net * rate
    return found


def last_dates(hub) -> dict[str, str]:
    found: dict[str, str] = {}
    for _, customer, body in transactions(hub, *DATED):
        found[customer] = max(found.get(customer, ""), body["TxnDate"])
    return found


def partners(hub) -> dict[str, dict]:
    """Customer -> the account or contact that is its partner."""
    found = {}
    for link in hub.links().filter(family="customer", left_id__isnull=False, right_id__isnull=False):
        found[link.left_id] = hub.right.store.get(link.right_entity, link.right_id).body
    assert len(found) > 30
    return found


def today(hub) -> date:
    return hub.left.books.today()


def assert_figures(hub) -> None:
    day = today(hub)
    owed, dates = owed_by_age(hub, day), last_dates(hub)
    sold = sold_since(hub, date(day.year, 1, 1), day)
    for customer, body in partners(hub).items():
        buckets = [money(body[name]).quantize(CENT) for name in BUCKETS]
        assert buckets == [amount.quantize(CENT) for amount in owed.get(customer, [Decimal(0)] * 5)], customer
        assert body["syn_agingasof"] == day.isoformat(), customer
        assert body.get("syn_lasttransactiondate") == dates.get(customer), customer
        assert money(body["syn_ytdsales"]).quantize(CENT) == sold.get(customer, Decimal(0)).quantize(CENT), customer


def reports_since(hub, count: int) -> list[str]:
    return sorted(call.note for call in hub.left.journal[count:] if call.note.startswith("report "))


def sell(hub, customer: str, amount: int, *, days_ago: int, **values) -> str:
    line = {"DetailType": "SalesItemLineDetail", "Amount": amount, "SalesItemLineDetail": {}}
    day = (today(hub) - timedelta(days=days_ago)).isoformat()
    body = {"CustomerRef.value": customer, "Line": [line], "TxnDate": day, "DueDate": day, **values}
    return hub.left.user_creates("Invoice", body)


def pay_everything(hub, customer: str) -> None:
    open_invoices = [
        body for _, owner, body in transactions(hub, "Invoice") if owner == customer and money(body["Balance"])
    ]
    lines = [
        {"Amount": body["Balance"], "LinkedTxn": [{"TxnId": body["Id"], "TxnType": "Invoice"}]}
        for body in open_invoices
    ]
    total = float(sum(money(body["Balance"]) for body in open_invoices))
    hub.left.user_creates("Payment", {"CustomerRef.value": customer, "TotalAmt": total, "Line": lines})


def test_each_bucket_is_the_sum_of_the_open_invoices_of_its_age(hub):
    """In home currency, and each sub-customer's own."""
    parent, child = (hub.companies()[n].id for n in (0, 1))
    hub.left.user_edits("Customer", child, {"ParentRef.value": parent})
    for customer in (parent, child):
        for number, days_ago in enumerate((0, 1, 30, 31, 60, 61, 90, 91, 400)):
            sell(hub, customer, 100 + number, days_ago=days_ago)
    foreign = hub.left.user_creates(
        "Customer", {"DisplayName": "Ort GmbH", "CompanyName": "Ort GmbH", "CurrencyRef": {"value": "EUR"}}
    )
    sell(hub, foreign, 1000, days_ago=45)
    hub.settle(hub.sync(mode="comprehensive"))
    assert_figures(hub)
    owed = owed_by_age(hub, today(hub))
    assert owed[foreign][2] == Decimal(1080), "a thousand euro at 1.08"
    for place in range(5):
        assert owed[child][place] and owed[parent][place], "the test lacks an invoice of some age"
    writes = hub.writes("right")
    hub.settle(hub.sync(mode="comprehensive"))
    assert hub.writes("right") == writes, "the same figures are not written twice"


def test_all_figures_take_one_call_of_each_report_and_full_batches(hub):
    right = hub.connection("right")
    right.settings = {**right.settings, "batch_size": "7"}
    right.save()
    for record in list(hub.left.store.table("Customer").values()):
        if record.body["Active"]:
            sell(hub, record.id, 10, days_ago=3)
    calls, batches, changes = len(hub.left.journal), len(hub.right.journal), len(hub.right.store.log)
    hub.settle(hub.sync(mode="comprehensive", entities=["customer", "person"]))
    assert reports_since(hub, calls) == [
        "report AgedReceivables", "report CustomerSales", "report TransactionListByCustomer",
    ]  # fmt: skip
    updated = Counter(change.entity for change in hub.right.store.log[changes:] if change.by == "api")
    assert sum(updated.values()) > 30
    assert updated.keys() == {"account", "contact"}
    sent = [call for call in hub.right.journal[batches:] if call.path.endswith("$batch") and call.updates]
    assert len(sent) == sum(ceil(count / 7) for count in updated.values())
    assert_figures(hub)


def test_who_has_paid_everything_owes_nothing_at_the_next_run(hub):
    customer = next(body for body in hub.companies() if body.body["CurrencyRef"]["value"] == "USD").id
    sell(hub, customer, 250, days_ago=45)
    hub.settle(hub.sync(mode="comprehensive"))
    assert any(money(partners(hub)[customer][name]) for name in BUCKETS)
    pay_everything(hub, customer)
    for _, owner, body in list(transactions(hub, "CreditMemo", "Payment")):
        if owner == customer and (money(body.get("RemainingCredit")) or money(body.get("UnappliedAmt"))):
            hub.left.user_deletes("CreditMemo" if "RemainingCredit" in body else "Payment", body["Id"])
    hub.settle(hub.sync(mode="comprehensive"))
    assert [money(partners(hub)[customer][name]) for name in BUCKETS] == [0] * 5
    assert_figures(hub)


def test_who_has_lost_the_only_transaction_has_no_date_and_no_sales(hub):
    customer = hub.left.user_creates("Customer", {"DisplayName": "Once Ltd", "CompanyName": "Once Ltd"})
    invoice = sell(hub, customer, 80, days_ago=0)
    hub.settle(hub.sync(mode="comprehensive"))
    assert partners(hub)[customer]["syn_lasttransactiondate"] == today(hub).isoformat()
    assert money(partners(hub)[customer]["syn_ytdsales"]) == 80
    hub.left.user_deletes("Invoice", invoice)
    hub.settle(hub.sync(mode="comprehensive"))
    assert partners(hub)[customer].get("syn_lasttransactiondate") is None
    assert_figures(hub)


def test_a_new_day_and_a_new_year_are_written_without_asking_anybody(hub):
    """All customers get the same new day, and in a new year the same sales of 0: that is no mishap to be stopped."""
    hub.left.clock.advance(timedelta(days=1))
    assert hub.run_of(hub.settle(hub.sync(mode="comprehensive"))).guard == {}
    assert_figures(hub)
    new_year = date(today(hub).year + 1, 1, 2)
    hub.left.clock.advance(new_year - today(hub))
    assert hub.run_of(hub.settle(hub.sync(mode="comprehensive"))).guard == {}
    assert {money(body["syn_ytdsales"]) for body in partners(hub).values()} == {0}
    assert_figures(hub)


def test_what_is_sold_leaves_the_stock_of_the_product(hub):
    items = [r for r in hub.left.store.table("Item").values() if r.body["Type"] == "Inventory" and r.body["Active"]]
    item, customer = items[0], hub.companies()[0].id
    before, version = item.body["QtyOnHand"], item.body["SyncToken"]
    detail = {"ItemRef": {"value": item.id}, "Qty": 3, "UnitPrice": 5}
    line = {"DetailType": "SalesItemLineDetail", "Amount": 15, "SalesItemLineDetail": detail}
    invoice = hub.left.user_creates("Invoice", {"CustomerRef.value": customer, "Line": [line]})
    stored = hub.left.store.get("Item", item.id).body
    assert (stored["QtyOnHand"], stored["SyncToken"]) == (before - 3, version), "no change of the item tells of it"
    calls = len(hub.left.journal)
    hub.settle(hub.sync(mode="comprehensive"))
    assert on_hand(hub, item.id) == before - 3
    stock = [call for call in hub.left.journal[calls:] if "QtyOnHand" in call.query]
    assert len(stock) == 1, "one query for all items"
    hub.left.user_voids("Invoice", invoice)
    hub.settle(hub.sync(mode="comprehensive"))
    assert on_hand(hub, item.id) == before
    for link in hub.links("item").filter(left_id__isnull=False, right_id__isnull=False):
        quantity = hub.left.store.get("Item", link.left_id).body.get("QtyOnHand")
        assert hub.right.store.get("product", link.right_id).body.get("syn_quantityonhand") == quantity


def on_hand(hub, item: str):
    link = hub.links("item").get(left_id=item)
    return hub.right.store.get("product", link.right_id).body["syn_quantityonhand"]
