"""A customer with company and person is an account and its primary contact, over both real simulators."""

from __future__ import annotations

import pytest

from connectors.models import Event, RecordLink

pytestmark = pytest.mark.django_db(transaction=True)
PERSON = {"GivenName": "Ada", "FamilyName": "Lovelace", "PrimaryEmailAddr.Address": "ada@engines.example"}


def customer(hub, company, **values):
    return hub.left.user_creates("Customer", {"DisplayName": company, "CompanyName": company, **values})


def account_of(hub, record_id):
    link = RecordLink.objects.get(entity_sync__name="customer", left_id=record_id, ended=0)
    return link, hub.right.store.get("account", link.right_id).body


def contact_of(hub, record_id):
    link = RecordLink.objects.get(entity_sync__name="primary contact", left_id=record_id, ended=0)
    return link, hub.right.store.get("contact", link.right_id).body


def test_a_company_with_a_person_becomes_an_account_and_its_primary_contact(hub):
    made = customer(hub, "Engines Analytical", **PERSON)
    hub.settle()
    link, account = account_of(hub, made)
    also, contact = contact_of(hub, made)
    assert (contact["firstname"], contact["lastname"]) == ("Ada", "Lovelace")
    assert contact["_parentcustomerid_value"] == link.right_id
    assert account["_primarycontactid_value"] == also.right_id
    assert (link.pending, also.pending) == (None, None)
    assert not RecordLink.objects.filter(
        entity_sync__name="person", right_id=also.right_id, reason="waits for promotion"
    )
    hub.settle(hub.sync(mode="comprehensive"))  # which reads what the customer owes, too
    before = hub.writes("left") + hub.writes("right")
    hub.settle()
    hub.settle(hub.sync(mode="comprehensive"))
    assert hub.writes("left") + hub.writes("right") == before, "the echo writes nothing"


def test_a_contact_that_the_hub_made_is_no_copy_of_itself_in_its_other_family(hub):
    assert hub.creates("right", "contact"), "each is listed both as a company's person and as a person alone"
    assert not Event.objects.filter(code="copied marker")


def test_edits_of_the_person_flow_both_ways(hub):
    made = customer(hub, "Engines Analytical", **PERSON)
    hub.settle()
    also, _ = contact_of(hub, made)
    hub.right.user_edits("contact", also.right_id, {"firstname": "Augusta"})
    hub.settle()
    assert hub.left.store.get("Customer", made).body["GivenName"] == "Augusta"
    hub.left.user_edits("Customer", made, {"FamilyName": "King"})
    hub.settle()
    assert contact_of(hub, made)[1]["lastname"] == "King"
    hub.settle()
    assert {link.pending for link in hub.links().filter(left_id=made, left_entity="Customer")} == {None}


def test_a_person_who_appears_later_becomes_the_primary_contact_then(hub):
    made = customer(hub, "Engines Analytical")
    hub.settle()
    assert account_of(hub, made)[1].get("_primarycontactid_value") is None
    hub.left.user_edits("Customer", made, PERSON)
    hub.settle()
    also, _ = contact_of(hub, made)
    assert account_of(hub, made)[1]["_primarycontactid_value"] == also.right_id
