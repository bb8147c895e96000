"""Records that a person promotes flow from Dynamics 365 to QuickBooks; the others wait."""

from __future__ import annotations

from decimal import Decimal

import pytest

from connectors.models import Promotion, RecordLink
from connectors.sync.promotions import NotPromotable
from jobs.states import StatusReason
from jobs.syncing import request_promotion
from jobs.worker import run_in_process

pytestmark = pytest.mark.django_db(transaction=True)


def promote(hub, entity_sync, *ids):
    requested, job = request_promotion(hub.integration, entity_sync, list(ids))
    if job is not None:
        job = run_in_process(job)
        assert job.status is StatusReason.SUCCEEDED, job.error_message
    return requested


def test_an_account_waits_until_it_is_promoted(hub):
    [account] = hub.create_accounts(1)
    hub.settle()
    assert RecordLink.objects.get(right_id=account).reason == "waits for promotion"
    assert hub.creates("left", "Customer") == []
    assert promote(hub, "customer", account).queued == [account]
    [created] = hub.creates("left", "Customer")
    assert hub.left.store.get("Customer", created.id).body["CompanyName"] == "Newly Won 000"
    assert Promotion.objects.get().status == Promotion.Status.SUCCESS
    assert promote(hub, "customer", account).already == [account]
    for _ in range(2):
        hub.settle()
    link = RecordLink.objects.get(right_id=account)
    assert (link.reason, link.args) == ("", ""), "the promotion leaves both sides in agreement"


def test_a_name_that_is_taken_ends_in_error_with_the_reason(hub):
    hub.settle()
    taken = hub.companies()[0].body["DisplayName"]
    hub.left.user_edits("Customer", hub.companies()[0].id, {"CompanyName": "Quite Another Name"})
    account = hub.right.user_creates("account", {"name": taken})
    hub.settle()
    promote(hub, "customer", account)
    promotion = Promotion.objects.get(external_id=account)
    assert promotion.status == Promotion.Status.ERROR
    assert "name" in promotion.reason.lower()
    assert RecordLink.objects.get(right_id=account).reason == "parked"


def document(hub, entity, customer, product, **values):
    body = {
        "name": "Three chairs",
        "customerid_account@odata.bind": f"/accounts({customer})",
        "billto_city": "Bergen",
        f"{entity.removeprefix('sales')}_details": [
            {"productid@odata.bind": f"/products({product})", "uomid@odata.bind": f"/uoms({hub.right.ids['uom']})",
             "quantity": 3, "priceperunit": 49.5, "description": "Oak"},
        ],
        **values,
    }  # fmt: skip
    return hub.right.user_creates(entity, body)


@pytest.mark.parametrize(
    ("entity_sync", "entity", "made"),
    [("quote", "quote", "Estimate"), ("order", "salesorder", "Estimate"), ("invoice", "invoice", "Invoice")],
)
def test_a_promoted_document_arrives_with_its_lines(hub, entity_sync, entity, made):
    hub.settle()
    customer = RecordLink.objects.filter(entity_sync__name="customer", pending__isnull=True, left_life=1).first()
    product = RecordLink.objects.filter(entity_sync__name="item", pending__isnull=True, left_life=1).first()
    document_id = document(
        hub, {"salesorder": "order"}.get(entity, entity) if False else entity, customer.right_id, product.right_id
    )
    hub.settle()
    assert hub.creates("left", made) == []
    promote(hub, entity_sync, document_id)
    assert Promotion.objects.get().status == Promotion.Status.SUCCESS, (
        Promotion.objects.get().reason,
        RecordLink.objects.get(right_id=document_id).args,
    )
    [created] = hub.creates("left", made)
    body = hub.left.store.get(made, created.id).body
    assert body["CustomerRef"]["value"] == customer.left_id
    [line] = [line for line in body["Line"] if line["DetailType"] == "SalesItemLineDetail"]
    assert line["SalesItemLineDetail"]["ItemRef"]["value"] == product.left_id
    assert Decimal(str(line["Amount"])) == Decimal("148.50")
    assert Decimal(str(body["TotalAmt"])) == Decimal("148.50")
    assert body["BillAddr"]["City"] == "Bergen"
    writes = hub.writes("left")
    hub.settle()
    hub.settle(hub.sync(mode="comprehensive"))
    assert hub.writes("left") == writes, "the next runs write nothing"


def test_a_document_with_freight_is_refused_with_the_reason(hub):
    hub.settle()
    customer = RecordLink.objects.filter(entity_sync__name="customer", pending__isnull=True, left_life=1).first()
    product = RecordLink.objects.filter(entity_sync__name="item", pending__isnull=True, left_life=1).first()
    quote = document(hub, "quote", customer.right_id, product.right_id, freightamount=12)
    hub.settle()
    requested = promote(hub, "quote", quote)
    assert "filter" in requested.refused[quote]
    assert hub.creates("left", "Estimate") == []


def test_what_flows_by_itself_can_not_be_promoted(hub):
    with pytest.raises(NotPromotable, match="nothing to promote"):
        promote(hub, "invoice history", "1")
