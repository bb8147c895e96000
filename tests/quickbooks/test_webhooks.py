"""Which notifications of QuickBooks are believed, and what do they say?"""

from __future__ import annotations

import json

import pytest

from connectors.contract import Forged, Listens, PermanentError
from connectors.quickbooks.connector import QuickBooks
from connectors.quickbooks.simulator import QuickBooksSimulator
from connectors.quickbooks.simulator_webhooks import signature
from connectors.quickbooks.webhooks import receive

KEY = "the-verifier-token"


def event(realm="1", kind="customer.updated", number=1):
    return {
        "specversion": "1.0",
        "id": f"event-{realm}-{number}",
        "source": "intuit.abc",
        "type": f"qbo.{kind}.v1",
        "datacontenttype": "application/json",
        "time": "2026-03-01T12:00:00.000Z",
        "intuitentityid": "58",
        "intuitaccountid": realm,
        "data": {},
    }


def old(realm="1", name="Customer", record="58", operation="Update"):
    told = {"name": name, "id": record, "operation": operation, "lastUpdated": "2026-03-01T12:00:00.000Z"}
    return {"realmId": realm, "dataChangeEvent": {"entities": [told]}}


def sent(told, key=KEY):
    body = told if isinstance(told, bytes) else json.dumps(told).encode()
    return {"Intuit-Signature": signature(key, body)}, body


def test_one_delivery_in_the_new_shape_concerns_several_companies():
    heard = receive(
        *sent([event("1"), event("2", "invoice.void"), event("3", "payment.voided"), event("1", number=2)]), [KEY]
    )
    assert heard.status == 200
    assert heard.marks == [("1", ""), ("2", ""), ("3", ""), ("1", "")]
    assert heard.ids == ["event-1-1", "event-2-1", "event-3-1", "event-1-2"]


def test_the_old_shape_says_the_same():
    body = {"eventNotifications": [old("1"), old("2", "Invoice", operation="Void"), old("3", "Item")]}
    heard = receive(*sent(body), [KEY])
    assert heard.marks == [("1", ""), ("2", ""), ("3", "")]
    assert len(set(heard.ids)) == 3
    assert receive(*sent(body), [KEY]).ids == heard.ids  # a repeat has the same ids
    other = {"eventNotifications": [old("1", operation="Delete")]}
    assert receive(*sent(other), [KEY]).ids[0] != heard.ids[0]


def test_what_nobody_keeps_in_agreement_marks_nothing():
    heard = receive(*sent([event("1", "journalcode.created"), event("2", "customer.merged")]), [KEY])
    assert heard.marks == [("2", "")]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"intuit-signature": ""},
        {"intuit-signature": signature("another token", b"[]")},
        {"intuit-signature": signature(KEY, b"[ ]")},
        {"intuit-signature": "é"},
    ],
)
def test_a_signature_that_does_not_fit_is_forged(headers):
    with pytest.raises(Forged):
        receive(headers, b"[]", [KEY])


def test_without_a_verifier_token_nothing_is_believed():
    for key in ("", KEY):
        with pytest.raises(Forged):
            receive(*sent([event()], key), [])


def test_while_one_token_replaces_another_both_are_good():
    for key in ("before", "after"):
        assert receive(*sent([event()], key), ["before", "after"]).marks == [("1", "")]


@pytest.mark.parametrize(
    "told",
    [b"", b"<xml/>", b"\xff\xfe", b"12", b"null", {}, {"eventNotifications": None}, [{}], [1], [{**event(), "type": "qbo"}],
     {"eventNotifications": [{"realmId": "1"}]}],
)  # fmt: skip
def test_a_shape_that_is_not_known_is_refused_but_not_called_forged(told):
    with pytest.raises(PermanentError, match="neither of the shapes"):
        receive(*sent(told), [KEY])


@pytest.mark.parametrize("shape", ["cloudevents", "legacy"])
def test_what_the_simulator_sends_is_understood(shape):
    assert isinstance(QuickBooks, Listens)
    simulator = QuickBooksSimulator(records=1, webhook_shape=shape)
    body = simulator.webhooks._body("Customer", "58", "update", simulator.clock.now())
    verifier = str(simulator.switches["webhook_verifier"])
    heard = QuickBooks.receive("POST", {"intuit-signature": signature(verifier, body)}, {}, body, [verifier])
    with simulator:
        realm = simulator.credentials()["settings"]["realm"]
    assert heard.marks == [(realm, "")] and heard.ids[0]
