"""Do amounts keep their currency and rate, and is a currency that one side lacks said before anything is sent?"""

from __future__ import annotations

from decimal import Decimal

import pytest

from connectors.contract import Field, Kind
from connectors.memory.store import entity
from connectors.models import FieldMapping, Promotion, RecordLink
from connectors.quickbooks.simulator import QuickBooksSimulator
from connectors.sync.values import decode
from tests.acceptance.test_promotions import document, promote
from tests.sync.worlds import TwoSystems

pytestmark = pytest.mark.django_db(transaction=True)


def company(hub, name: str, currency: str) -> str:
    return hub.left.user_creates(
        "Customer", {"DisplayName": name, "CompanyName": name, "CurrencyRef": {"value": currency}}
    )


def currency_id(hub, code: str) -> str:
    rows = hub.right.store.table("transactioncurrency")
    return next(key for key, record in rows.items() if record.body["isocurrencycode"] == code)


def add_currency(hub, code: str, name: str, rate: float) -> str:
    """What an administrator of Dynamics 365 does: `rate` is units of it for one of the base currency."""
    body = {
        "currencyname": name, "isocurrencycode": code, "currencysymbol": code, "exchangerate": rate,
        "currencyprecision": 2, "statecode": 0, "statuscode": 1,
    }  # fmt: skip
    return hub.right.user_creates("transactioncurrency", body)


def in_currency(hub, code: str) -> dict[str, str]:
    return {"transactioncurrencyid@odata.bind": f"/transactioncurrencies({currency_id(hub, code)})"}


def product(hub) -> str:
    return RecordLink.objects.filter(entity_sync__name="item", pending__isnull=True, left_life=1).first().right_id


def parked(link: RecordLink) -> dict:
    assert link.reason == "parked", (link.reason, link.args)
    return decode(link.args)


def batches(simulator, since: int) -> list[str]:
    return [call.path for call in simulator.journal[since:] if call.method == "POST" and "batch" in call.path]


def test_a_quote_in_a_foreign_currency_arrives_with_the_rate_turned_round(hub):
    """0.92 euro for a dollar there are 1.0869565 dollars for a euro here."""
    customer = company(hub, "Ort GmbH", "EUR")
    hub.settle()
    link = hub.links("customer").get(left_id=customer)
    account = hub.right.store.get("account", link.right_id).body
    assert account["_transactioncurrencyid_value"] == currency_id(hub, "EUR")
    quote = document(hub, "quote", link.right_id, product(hub), **in_currency(hub, "EUR"))
    assert hub.right.store.get("quote", quote).body["exchangerate"] == 0.92
    hub.settle()
    promote(hub, "quote", quote)
    [created] = hub.creates("left", "Estimate")
    body = hub.left.store.get("Estimate", created.id).body
    assert body["CurrencyRef"]["value"] == "EUR"
    assert Decimal(str(body["ExchangeRate"])) == Decimal("1.0869565")
    assert (body["TotalAmt"], body["HomeTotalAmt"]) == (148.5, 161.41)
    hub.settle(
        hub.sync(mode="comprehensive")
    )  # the estimate comes back as history, and the customer's figures are told
    writes = hub.writes("left") + hub.writes("right")
    hub.settle(hub.sync(mode="comprehensive"))
    assert hub.writes("left") + hub.writes("right") == writes


def test_an_invoice_in_a_foreign_currency_keeps_amount_and_currency_in_the_history(hub):
    """Its rate stays with QuickBooks: Dynamics 365 computes with the rate of its own currency table, which can't be written."""
    customer = company(hub, "Ort GmbH", "EUR")
    line = {"DetailType": "SalesItemLineDetail", "Amount": 1000, "SalesItemLineDetail": {}}
    invoice = hub.left.user_creates("Invoice", {"CustomerRef.value": customer, "Line": [line]})
    assert hub.left.store.get("Invoice", invoice).body["HomeTotalAmt"] == 1080
    hub.settle()
    link = hub.links("invoice history").get(left_id=invoice)
    body = hub.right.store.get("syn_salestransaction", link.right_id).body
    assert (body["syn_amount"], body["exchangerate"]) == (1000, 0.92)
    assert body["_transactioncurrencyid_value"] == currency_id(hub, "EUR")


def test_a_document_in_the_home_currency_has_the_rate_1(hub):
    link = RecordLink.objects.filter(entity_sync__name="customer", pending__isnull=True, left_life=1)
    usd = next(
        each for each in link if hub.left.store.get("Customer", each.left_id).body["CurrencyRef"]["value"] == "USD"
    )
    quote = document(hub, "quote", usd.right_id, product(hub), **in_currency(hub, "USD"))
    hub.settle()
    promote(hub, "quote", quote)
    [created] = hub.creates("left", "Estimate")
    assert hub.left.store.get("Estimate", created.id).body.get("ExchangeRate", 1) == 1


def test_a_customer_in_a_currency_that_dynamics_lacks_is_parked_before_anything_is_sent(hub):
    customer = company(hub, "Albion Ltd", "GBP")
    since = len(hub.right.journal)
    hub.settle()
    assert batches(hub.right, since) == [], "nothing else had to be written"
    link = hub.links("customer").get(left_id=customer)
    told = parked(link)
    assert (told["code"], told["field"], told["side"]) == ("no option", "transactioncurrencyid", "right")
    assert "'GBP'" in told["message"] and "right" in told["message"] and "add an option" in told["message"]
    assert link.right_id is None


def test_the_parked_customer_flows_once_the_currency_has_been_added(hub):
    customer = company(hub, "Albion Ltd", "GBP")
    line = {"DetailType": "SalesItemLineDetail", "Amount": 10, "SalesItemLineDetail": {}}
    invoice = hub.left.user_creates("Invoice", {"CustomerRef.value": customer, "Line": [line]})
    hub.settle()
    history = hub.links("invoice history").get(left_id=invoice)
    assert "'GBP'" in parked(history)["message"]
    pounds = add_currency(hub, "GBP", "Pound Sterling", 0.79)
    hub.settle(hub.sync(mode="comprehensive"))
    hub.settle()
    link = hub.links("customer").get(left_id=customer)
    assert (link.reason, link.args) == ("", "")
    assert hub.right.store.get("account", link.right_id).body["_transactioncurrencyid_value"] == pounds
    history.refresh_from_db()
    assert history.reason == "", (history.reason, history.args)


@pytest.mark.parametrize("entity_sync", ["quote", "invoice"])
def test_a_promoted_document_in_a_currency_that_quickbooks_lacks_is_parked_before_anything_is_sent(hub, entity_sync):
    hub.settle()
    add_currency(hub, "GBP", "Pound Sterling", 0.79)
    customer = RecordLink.objects.filter(entity_sync__name="customer", pending__isnull=True, left_life=1).first()
    made = document(hub, entity_sync, customer.right_id, product(hub), **in_currency(hub, "GBP"))
    hub.settle()
    since = len(hub.left.journal)
    promote(hub, entity_sync, made)
    assert batches(hub.left, since) == []
    told = parked(RecordLink.objects.get(right_id=made))
    assert (told["code"], told["field"], told["side"]) == ("no option", "CurrencyRef", "left")
    promotion = Promotion.objects.get(external_id=made)
    assert promotion.status == Promotion.Status.ERROR
    for sentence in (told["message"], promotion.reason):
        assert "'GBP'" in sentence and "left" in sentence and "add an option" in sentence


@pytest.fixture
def one_currency(monkeypatch):
    """A QuickBooks company without multi-currency."""
    own = QuickBooksSimulator.default_switches
    monkeypatch.setattr(QuickBooksSimulator, "default_switches", lambda self: {**own(self), "multi_currency": False})


def test_without_multi_currency_only_the_home_currency_flows(one_currency, hub):
    dollars, euros = (
        hub.right.user_creates("account", {"name": f"Won in {code}", **in_currency(hub, code)})
        for code in ("USD", "EUR")
    )
    hub.settle()
    since = len(hub.left.store.log)
    promote(hub, "customer", dollars, euros)
    made = [change for change in hub.left.store.log[since:] if change.by == "api" and change.verb == "create"]
    assert [hub.left.store.get("Customer", change.id).body["CompanyName"] for change in made] == ["Won in USD"]
    told = parked(RecordLink.objects.get(right_id=euros))
    assert "'EUR'" in told["message"] and "left" in told["message"]


def test_a_rate_that_flows_both_ways_is_turned_round_each_way():
    """Units of home for one foreign on the left, foreign for one of home on the right."""
    rates = (Field("rate", Kind.DECIMAL, scale=7), Field("rate", Kind.DECIMAL, scale=10))
    left, right = (entity("person", *entity().fields, rate) for rate in rates)
    world = TwoSystems(left_entity=left, right_entity=right)
    FieldMapping.objects.create(entity_sync=world.sync, left="rate", right="rate", transform="invert")
    here = world.left.create("person", {"name": "Euro", "rate": Decimal("1.25")})
    world.settle()
    [there] = world.right.tables["person"]
    assert world.right.tables["person"][there].values["rate"] == Decimal("0.8")
    world.right.put("person", there, {"rate": Decimal("0.92")})
    world.settle()
    assert abs(world.left.tables["person"][here].values["rate"] - Decimal("1.0869565")) < Decimal("0.0000001")
    writes = len(world.left.journal) + len(world.right.journal)
    world.run("comprehensive")
    assert len(world.left.journal) + len(world.right.journal) == writes
