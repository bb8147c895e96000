"""What becomes of a write to QuickBooks?"""

from __future__ import annotations

from decimal import Decimal

import pytest

from connectors.contract import (
    AuthError,
    ConnectorError,
    Ref,
    Result,
    RetryableError,
    Row,
    Unanswered,
    Verb,
)
from connectors.quickbooks.connector import QuickBooks
from connectors.quickbooks.simulator import QuickBooksSimulator
from tests.quickbooks.helpers import acting, creating, fetch_one, updating, write

CUSTOMER = {"DisplayName": "Grace's Yard", "CompanyName": "Grace's Yard", "Notes": "first"}
LINE = Row({"ItemRef": Ref("Item", "1"), "Qty": Decimal("2"), "UnitPrice": Decimal("12.5"), "Amount": Decimal(25)})


def make_item(sim: QuickBooksSimulator) -> None:
    sim.user_creates("Item", {"Name": "Hinge", "Type": "Service", "IncomeAccountRef.value": "6", "UnitPrice": 12.5})


def test_a_created_customer_comes_back_whole(qb: QuickBooks) -> None:
    [made] = write(qb, creating("k1", **CUSTOMER))
    assert made.result is Result.WRITTEN
    assert (made.id, made.version) == ("1", "0")
    assert made.values is not None
    assert made.values["DisplayName"] == "Grace's Yard"
    assert made.values["CurrencyRef"] == "USD"
    assert made.values["BillAddr.Line1"] is None
    assert made.modified == qb.now()


def test_an_update_changes_only_what_is_sent(qb: QuickBooks) -> None:
    [made] = write(qb, creating("k1", **CUSTOMER))
    [changed] = write(qb, updating("k2", made, {"Notes": "second", "PrimaryEmailAddr.Address": "a@example.com"}))
    assert changed.version == "1"
    now = fetch_one(qb, "Customer", made.id)
    assert now.values["CompanyName"] == "Grace's Yard"
    assert now.values["Notes"] == "second"
    assert now.values["PrimaryEmailAddr.Address"] == "a@example.com"


def test_none_empties_a_field(qb: QuickBooks) -> None:
    [made] = write(qb, creating("k1", SalesTermRef="3", **{**CUSTOMER, "WebAddr.URI": "https://example.com"}))
    [changed] = write(qb, updating("k2", made, {"Notes": None, "WebAddr.URI": None, "SalesTermRef": None}))
    assert changed.result is Result.WRITTEN
    now = fetch_one(qb, "Customer", made.id)
    assert [now.values[name] for name in ("Notes", "WebAddr.URI", "SalesTermRef")] == [None, None, None]


def test_a_change_of_one_address_line_keeps_the_others(qb: QuickBooks) -> None:
    address = {"BillAddr.Line1": "1 Main St", "BillAddr.Line2": "Suite 2", "BillAddr.City": "Portland"}
    [made] = write(qb, creating("k1", **CUSTOMER, **address))
    current = fetch_one(qb, "Customer", made.id)
    [changed] = write(qb, updating("k2", current, {"BillAddr.Line1": "2 Oak St"}))
    assert changed.result is Result.WRITTEN
    now = fetch_one(qb, "Customer", made.id)
    assert [now.values[f"BillAddr.{part}"] for part in ("Line1", "Line2", "City")] == [
        "2 Oak St",
        "Suite 2",
        "Portland",
    ]


def test_an_address_is_kept_even_when_the_caller_did_not_read_it(qb: QuickBooks) -> None:
    [made] = write(qb, creating("k1", **CUSTOMER, **{"BillAddr.Line1": "1 Main St", "BillAddr.City": "Portland"}))
    write(qb, updating("k2", made, {"BillAddr.Line1": "2 Oak St"}))
    assert fetch_one(qb, "Customer", made.id).values["BillAddr.City"] == "Portland"


def test_a_stale_version_is_a_conflict_and_changes_nothing(qb: QuickBooks) -> None:
    [made] = write(qb, creating("k1", **CUSTOMER))
    write(qb, updating("k2", made, {"Notes": "theirs"}))
    [stale] = write(qb, updating("k3", made, {"Notes": "ours"}))
    assert (stale.result, stale.code) == (Result.CONFLICT, "5010")
    assert fetch_one(qb, "Customer", made.id).values["Notes"] == "theirs"


def test_a_repeat_with_the_same_key_answers_as_the_first_and_creates_nothing(
    sim: QuickBooksSimulator, qb: QuickBooks
) -> None:
    first = write(qb, creating("k1", **CUSTOMER), key="same")
    again = write(qb, creating("k1", **CUSTOMER), key="same")
    assert again == first
    assert len(sim.store.table("Customer")) == 1
    assert [call.creates for call in sim.journal if call.path.endswith("/batch")] == [1, 0]


def test_an_answer_that_is_lost_can_be_had_by_a_repeat(sim: QuickBooksSimulator, qb: QuickBooks) -> None:
    sim.faults.add("reset_after", match="/batch")
    with pytest.raises(Unanswered):
        write(qb, creating("k1", **CUSTOMER), key="same")
    [made] = write(qb, creating("k1", **CUSTOMER), key="same")
    assert made.result is Result.WRITTEN
    assert len(sim.store.table("Customer")) == 1


def test_a_taken_name_exists(qb: QuickBooks) -> None:
    write(qb, creating("k1", **CUSTOMER))
    [second] = write(qb, creating("k2", DisplayName="grace's yard"))
    assert (second.result, second.code) == (Result.EXISTS, "6240")
    assert "already using this name" in second.message


def test_customers_and_items_have_names_of_their_own(sim: QuickBooksSimulator, qb: QuickBooks) -> None:
    make_item(sim)
    [made] = write(qb, creating("k1", DisplayName="Hinge"))
    assert made.result is Result.WRITTEN


def test_an_archived_customer_gives_its_name_free_and_keeps_it_for_us(sim: QuickBooksSimulator, qb: QuickBooks) -> None:
    [made] = write(qb, creating("k1", **CUSTOMER))
    [archived] = write(qb, acting("k2", Verb.ARCHIVE, made))
    assert sim.books.body("Customer", made.id)["DisplayName"] == "Grace's Yard (deleted)"  # type: ignore[index]
    now = fetch_one(qb, "Customer", made.id)
    assert now.archived
    assert now.values["DisplayName"] == "Grace's Yard"
    [restored] = write(qb, acting("k3", Verb.RESTORE, archived))
    assert restored.result is Result.WRITTEN
    assert sim.books.body("Customer", made.id)["DisplayName"] == "Grace's Yard"  # type: ignore[index]
    assert not fetch_one(qb, "Customer", made.id).archived


def test_restoring_a_customer_whose_name_was_taken_meanwhile_exists(qb: QuickBooks) -> None:
    [made] = write(qb, creating("k1", **CUSTOMER))
    [archived] = write(qb, acting("k2", Verb.ARCHIVE, made))
    write(qb, creating("k3", **CUSTOMER))
    [restored] = write(qb, acting("k4", Verb.RESTORE, archived))
    assert restored.result is Result.EXISTS


@pytest.mark.parametrize(
    ("values", "code", "field"),
    [
        ({"DisplayName": "x", "Title": "y" * 17}, "2050", "Title"),
        ({"DisplayName": "x", "BillAddr.PostalCode": "9" * 31}, "2050", "BillAddr.PostalCode"),
        ({"DisplayName": "x", "PreferredDeliveryMethod": "Pigeon"}, "2170", "PreferredDeliveryMethod"),
        ({"DisplayName": "x", "SalesTermRef": "999"}, "2500", "SalesTermRef"),
        ({"DisplayName": "x", "PrimaryEmailAddr.Address": "nobody"}, "2390", "PrimaryEmailAddr.Address"),
        ({"DisplayName": "a:b"}, "6000", "DisplayName"),
        ({"Notes": "no name"}, "2020", "DisplayName"),
        ({"DisplayName": "x", "ParentRef": Ref("Customer", "77")}, "2500", "ParentRef"),
    ],
)
def test_what_the_server_refuses_is_rejected_with_code_and_field(
    qb: QuickBooks, values: dict[str, object], code: str, field: str
) -> None:
    [outcome] = write(qb, creating("k1", **values))  # type: ignore[arg-type]
    assert (outcome.result, outcome.code, outcome.field) == (Result.REJECTED, code, field)


def test_in_a_batch_each_item_stands_alone(sim: QuickBooksSimulator, qb: QuickBooks) -> None:
    outcomes = write(
        qb, creating("a", DisplayName="A"), creating("b", DisplayName="x" * 501), creating("c", DisplayName="C")
    )
    assert [(o.key, o.result) for o in outcomes] == [
        ("a", Result.WRITTEN),
        ("b", Result.REJECTED),
        ("c", Result.WRITTEN),
    ]
    assert len(sim.store.table("Customer")) == 2


def test_items_that_fail_by_themselves_come_later_or_are_rejected(sim: QuickBooksSimulator, qb: QuickBooks) -> None:
    sim.faults.add("partial", match="/batch", rate=1.0)
    assert [o.result for o in write(qb, creating("a", DisplayName="A"))] == [Result.LATER]
    sim.faults.add("partial", match="/batch", rate=1.0, status=400)
    assert [o.result for o in write(qb, creating("b", DisplayName="B"))] == [Result.REJECTED]
    assert not sim.store.table("Customer")


def test_an_invoice_round(sim: QuickBooksSimulator, qb: QuickBooks) -> None:
    make_item(sim)
    [customer] = write(qb, creating("k1", **CUSTOMER, SalesTermRef="3"))
    [invoice] = write(
        qb, creating("k2", "Invoice", CustomerRef=Ref("Customer", customer.id), Line=(LINE,), DocNumber="Q-7")
    )
    assert invoice.result is Result.WRITTEN
    assert invoice.values is not None
    assert invoice.values["TotalAmt"] == 25
    assert invoice.values["Status"] == "Open"
    assert str(invoice.values["DueDate"]) == "2026-04-01"
    [row] = invoice.values["Line"]  # type: ignore[misc, union-attr]
    assert row.values["Qty"] == 2
    assert fetch_one(qb, "Customer", customer.id).values["Balance"] == 25
    pay = Row({"Amount": Decimal(10), "TxnId": invoice.id, "TxnType": "Invoice"})
    [payment] = write(
        qb, creating("k3", "Payment", CustomerRef=Ref("Customer", customer.id), TotalAmt=Decimal(15), Line=(pay,))
    )
    assert payment.values is not None
    assert (payment.values["UnappliedAmt"], payment.values["Status"]) == (5, "Partly paid")
    now = fetch_one(qb, "Invoice", invoice.id)
    assert (now.values["Balance"], now.values["Status"]) == (15, "Partly paid")
    assert fetch_one(qb, "Customer", customer.id).values["Balance"] == 10
    [voided] = write(qb, acting("k4", Verb.ARCHIVE, payment, "Payment"))
    assert fetch_one(qb, "Payment", payment.id).archived
    assert voided.values is not None
    assert voided.values["Status"] == "Void"
    assert fetch_one(qb, "Customer", customer.id).values["Balance"] == 25


def test_a_line_whose_amount_is_not_quantity_times_price_is_rejected(sim: QuickBooksSimulator, qb: QuickBooks) -> None:
    make_item(sim)
    [customer] = write(qb, creating("k1", **CUSTOMER))
    wrong = Row({**LINE.values, "Amount": Decimal(26)})
    [invoice] = write(qb, creating("k2", "Invoice", CustomerRef=Ref("Customer", customer.id), Line=(wrong,)))
    assert (invoice.result, invoice.code) == (Result.REJECTED, "6070")


def test_a_write_to_a_deleted_transaction_is_gone(sim: QuickBooksSimulator, qb: QuickBooks) -> None:
    make_item(sim)
    [customer] = write(qb, creating("k1", **CUSTOMER))
    [invoice] = write(qb, creating("k2", "Invoice", CustomerRef=Ref("Customer", customer.id), Line=(LINE,)))
    [deleted] = write(qb, acting("k3", Verb.DELETE, invoice, "Invoice"))
    assert deleted.result is Result.WRITTEN
    assert fetch_one(qb, "Customer", customer.id).values["Balance"] == 0
    [late] = write(qb, updating("k4", invoice, {"PrivateNote": "late"}, "Invoice"))
    assert late.result is Result.GONE


def test_a_reference_to_an_inactive_record_is_not_taken_for_a_deleted_record(
    sim: QuickBooksSimulator, qb: QuickBooks
) -> None:
    term = sim.user_creates("Term", {"Name": "Old", "DueDays": 5})
    sim.user_edits("Term", term, {"Active": False})
    [made] = write(qb, creating("k1", **CUSTOMER))
    [refused] = write(qb, updating("k2", made, {"SalesTermRef": term}))
    assert (refused.result, refused.code) == (Result.REJECTED, "610")


@pytest.mark.parametrize("shape", ["lower", "capital", "xml", "html", "empty"])
def test_a_throttled_batch_says_when_to_come_again(sim: QuickBooksSimulator, qb: QuickBooks, shape: str) -> None:
    sim.switches["error_shape"] = shape
    sim.faults.add("throttle", match="/batch", seconds=7)
    with pytest.raises(RetryableError) as raised:
        write(qb, creating("k1", **CUSTOMER))
    assert not isinstance(raised.value, Unanswered)
    assert raised.value.retry_after == 7
    assert raised.value.code == ("" if shape in {"html", "empty"} else "3001")
    assert raised.value.vendor_id


@pytest.mark.parametrize(
    ("fault", "options", "error"),
    [
        ("error", {"status": 500}, Unanswered),
        ("error_after", {"status": 502}, Unanswered),
        ("garbage", {}, Unanswered),
        ("reset", {}, Unanswered),
    ],
)
def test_what_says_nothing_of_the_batch_is_unanswered(
    sim: QuickBooksSimulator, qb: QuickBooks, fault: str, options: dict[str, object], error: type[ConnectorError]
) -> None:
    sim.faults.add(fault, match="/batch", **options)  # type: ignore[arg-type]
    with pytest.raises(error):
        write(qb, creating("k1", **CUSTOMER))


def test_an_expired_token_is_refreshed_and_a_dead_connection_is_an_auth_error(
    sim: QuickBooksSimulator, qb: QuickBooks
) -> None:
    qb.check()
    sim.faults.add("expire_token", match="/v3/")
    assert write(qb, creating("k1", **CUSTOMER))[0].result is Result.WRITTEN
    sim.faults.add("expire_token", match="/v3/", times=2)
    with pytest.raises(AuthError):
        qb.check()
    sim.tokens.revoke_all()
    with pytest.raises(AuthError):
        qb.check()


def test_the_wrong_company_is_an_auth_error(sim: QuickBooksSimulator) -> None:
    from tests.quickbooks.conftest import client

    with pytest.raises(AuthError) as raised:
        client(sim, realm="123").check()
    assert raised.value.code == "3100"
