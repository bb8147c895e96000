"""Does reading the feed tell everything, once started, stopped and gone on with?"""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from connectors.contract import CursorExpired, RetryableError
from connectors.quickbooks.connector import QuickBooks
from connectors.quickbooks.simulator import QuickBooksSimulator
from tests.quickbooks.conftest import Company, client, later
from tests.quickbooks.helpers import ALL, fetch_one, read_all, records


def requests_of(sim: QuickBooksSimulator, what: str) -> int:
    return sum(call.note.startswith(what) for call in sim.journal)


def test_a_listing_reads_each_record_once_in_pages_of_a_thousand(company: Company) -> None:
    sim = company(2300, transactions=False)
    pages = read_all(client(sim), None, "Customer", "Item")
    assert [page.last for page in pages] == [False] * (len(pages) - 1) + [True]
    ids = [record.id for record in records(pages) if record.entity == "Customer"]
    assert ids == list(sim.store.table("Customer"))
    assert (requests_of(sim, "query Customer"), requests_of(sim, "query Item")) == (3, 1)
    assert any(record.archived for record in records(pages)), "inactive records belong to a listing"


def test_a_listing_goes_on_in_the_middle_in_another_process(company: Company) -> None:
    sim = company(2300, transactions=False)
    first = next(iter(client(sim).changes("cdc", {"Customer": ALL["Customer"]}, None)))
    rest = read_all(client(sim), first.cursor)
    assert [r.id for r in (*first.records, *records(rest))] == list(sim.store.table("Customer"))
    assert requests_of(sim, "query Customer") == 3


def test_after_a_listing_an_idle_round_is_one_request_that_tells_nothing(company: Company) -> None:
    sim = company(30)
    qb = client(sim)
    cursor = read_all(qb, None, *ALL)[-1].cursor
    later(sim, 600)
    sim.journal.clear()
    pages = read_all(qb, cursor, *ALL)
    assert records(pages) == []
    assert len(sim.journal) == 1


def test_a_delta_tells_edits_deletes_and_deactivations(company: Company) -> None:
    sim = company(30)
    qb = client(sim)
    cursor = read_all(qb, None, *ALL)[-1].cursor
    later(sim, 600)
    sim.user_edits("Customer", "2", {"Notes": "edited", "BillAddr.Line1": "9 New St"})
    sim.user_deletes("Customer", "3")
    estimate = next(iter(sim.store.table("Estimate")))
    sim.user_deletes("Estimate", estimate)
    invoice = next(iter(sim.store.table("Invoice")))
    sim.user_voids("Invoice", invoice)
    pages = read_all(qb, cursor, *ALL)
    told = {(r.entity, r.id): r for r in records(pages)}
    assert told["Customer", "2"].values["Notes"] == "edited"
    assert told["Customer", "3"].archived
    assert told["Invoice", invoice].archived
    assert told["Invoice", invoice].values["Status"] == "Void"
    assert [(g.entity, g.id) for page in pages for g in page.gone] == [("Estimate", estimate)]
    later(sim, 600)
    again = read_all(qb, pages[-1].cursor, *ALL)
    assert {(r.entity, r.id, r.version) for r in records(again)} == {
        (r.entity, r.id, r.version) for r in records(pages)
    }
    later(sim, 600)
    assert records(read_all(qb, again[-1].cursor, *ALL)) == [], "the overlap is read once more, not for ever"


def test_what_changes_during_a_listing_is_told_by_the_next_round(company: Company) -> None:
    sim = company(1500, transactions=False)
    qb = client(sim)
    pages = iter(qb.changes("cdc", {"Customer": ALL["Customer"]}, None))
    next(pages)
    later(sim, 900)
    sim.user_edits("Customer", "7", {"Notes": "while listing"})
    cursor = list(pages)[-1].cursor
    later(sim, 900)
    assert [record.id for record in records(read_all(qb, cursor))] == ["7"]


def test_a_delete_during_a_listing_of_several_pages_is_a_gap(company: Company) -> None:
    sim = company(1600)
    qb = client(sim)
    assert len(sim.store.table("Invoice")) > 1000
    pages = iter(qb.changes("cdc", {"Invoice": ALL["Invoice"]}, None))
    next(pages)
    later(sim)
    sim.user_deletes("Invoice", next(iter(sim.store.table("Invoice"))))
    cursor = list(pages)[-1].cursor
    later(sim)
    [delta] = read_all(qb, cursor, "Invoice")
    assert "left out" in delta.gap
    later(sim)
    [after] = read_all(qb, delta.cursor, "Invoice")
    assert after.gap == ""


def test_more_changes_than_one_answer_holds_are_all_read_and_said_to_be_a_gap(company: Company) -> None:
    sim = company(1200, transactions=False)
    qb = client(sim)
    cursor = read_all(qb, None, "Customer", "Item")[-1].cursor
    later(sim, 600)
    for key in list(sim.store.table("Customer")):
        sim.user_edits("Customer", key, {"Notes": "all edited"})
    sim.user_edits("Item", "1", {"Description": "edited"})
    pages = read_all(qb, cursor, "Customer", "Item")
    told = records(pages)
    assert len({record.id for record in told if record.entity == "Customer"}) == 1200
    assert [record.id for record in told if record.entity == "Item"] == ["1"]
    assert any("deletions may be missing" in page.gap for page in pages)
    assert pages[-1].last


def test_a_capped_round_goes_on_in_the_middle(company: Company) -> None:
    sim = company(1200, transactions=False)
    cursor = read_all(client(sim))[-1].cursor
    later(sim, 600)
    for key in list(sim.store.table("Customer")):
        sim.user_edits("Customer", key, {"Notes": "all edited"})
    seen: set[str] = set()
    for _ in range(9):
        page = next(iter(client(sim).changes("cdc", {"Customer": ALL["Customer"]}, cursor)))
        cursor = page.cursor
        seen |= {record.id for record in page.records}
        if page.last:
            break
    assert page.last
    assert len(seen) == 1200


def test_a_cursor_older_than_thirty_days_is_expired(company: Company) -> None:
    sim = company(5)
    qb = client(sim)
    cursor = read_all(qb)[-1].cursor
    sim.clock.advance(timedelta(days=31))
    with pytest.raises(CursorExpired):
        read_all(qb, cursor)


def test_the_servers_word_on_an_old_cursor_counts_too(company: Company) -> None:
    sim = company(5)
    state = json.loads(read_all(client(sim))[-1].cursor)
    # Within 30 days for us, but not with the overlap that is asked for.
    state["since"] = (sim.clock.now() - timedelta(days=30) + timedelta(minutes=2)).isoformat()
    with pytest.raises(CursorExpired) as raised:
        read_all(client(sim), json.dumps(state))
    assert raised.value.code == "6000"


@pytest.mark.parametrize("cursor", ["nonsense", "{}", "[]"])
def test_what_is_no_cursor_is_expired(qb: QuickBooks, cursor: str) -> None:
    with pytest.raises(CursorExpired):
        read_all(qb, cursor)


def test_an_entity_that_was_never_listed_needs_a_listing(company: Company) -> None:
    qb = client(company(5))
    cursor = read_all(qb, None, "Customer")[-1].cursor
    with pytest.raises(CursorExpired):
        read_all(qb, cursor, "Customer", "Item")


def test_a_posted_transaction_touches_its_customer_whose_own_time_does_not_tell(company: Company) -> None:
    sim = company(10)
    qb = client(sim)
    cursor = read_all(qb, None, "Customer", "Payment")[-1].cursor
    later(sim, 600)
    before = fetch_one(qb, "Customer", "4")
    sim.user_creates("Payment", {"CustomerRef.value": "4", "TotalAmt": 40})
    [page] = read_all(qb, cursor, "Customer", "Payment")
    assert page.touched == (("Customer", "4"),)
    after = fetch_one(qb, "Customer", "4")
    assert after.values["Balance"] == before.values["Balance"] - 40  # type: ignore[operator]
    assert after.version == before.version


def test_with_the_switch_a_posted_transaction_changes_its_customer(company: Company) -> None:
    sim = company(10, balances_touch_customer=True)
    qb = client(sim)
    cursor = read_all(qb, None, "Customer", "Payment")[-1].cursor
    later(sim, 600)
    sim.user_creates("Payment", {"CustomerRef.value": "4", "TotalAmt": 40})
    [page] = read_all(qb, cursor, "Customer", "Payment")
    assert {(r.entity) for r in page.records} == {"Customer", "Payment"}
    assert page.touched == ()


def test_an_empty_answer_is_no_proof_of_deletion(company: Company) -> None:
    sim = company(10)
    sim.faults.add("empty", match="/query")
    fetched = client(sim).fetch("Customer", ["1", "2"], ALL["Customer"])
    assert [record.id for record in fetched.records] == ["1", "2"]
    assert not fetched.gone


def test_fetch_finds_inactive_records_and_proves_deletes(company: Company) -> None:
    sim = company(12)
    sim.user_deletes("Customer", "2")
    invoice = next(iter(sim.store.table("Invoice")))
    sim.user_deletes("Invoice", invoice)
    qb = client(sim)
    fetched = qb.fetch("Customer", ["1", "2", "999"], ALL["Customer"])
    assert {record.id: record.archived for record in fetched.records} == {"1": False, "2": True}
    assert [gone.id for gone in fetched.gone] == ["999"]
    assert [gone.id for gone in qb.fetch("Invoice", [invoice], ALL["Invoice"]).gone] == [invoice]


def test_find_reads_names_with_apostrophes_and_backslashes(sim: QuickBooksSimulator, qb: QuickBooks) -> None:
    for name in ("O'Neil & Sons", "back\\slash", "plain"):
        sim.user_creates("Customer", {"DisplayName": name, "PrimaryEmailAddr.Address": "both@example.com"})
    found = list(qb.find("Customer", "DisplayName", ["O'Neil & Sons", "back\\slash", "nobody"]))
    assert [record.values["DisplayName"] for record in found] == ["O'Neil & Sons", "back\\slash"]
    assert len(list(qb.find("Customer", "PrimaryEmailAddr.Address", ["both@example.com"]))) == 3


def test_a_throttled_listing_goes_on_from_its_last_page(company: Company) -> None:
    sim = company(1500, transactions=False)
    qb = client(sim)
    pages = iter(qb.changes("cdc", {"Customer": ALL["Customer"]}, None))
    first = next(pages)
    sim.faults.add("throttle", seconds=3)
    with pytest.raises(RetryableError):
        next(pages)
    assert len(records(read_all(qb, first.cursor))) == 500
