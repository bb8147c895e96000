"""What does a feed tell, and what do fetch, find, options and check answer?"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from connectors.contract import (
    AuthError,
    Connector,
    CursorExpired,
    Kind,
    PermanentError,
    Ref,
    RetryableError,
    Unanswered,
    Verb,
    Write,
)
from connectors.dynamics365.requirements import create_columns, missing_columns
from tests.dynamics365.conftest import START

NAME = {"name"}


def accounts(world, count):
    return [world.simulator.user_creates("account", {"name": f"Account {n}"}) for n in range(count)]


def test_it_is_a_connector(world):
    assert isinstance(world.connector, Connector)


@pytest.mark.parametrize(("rows", "pages"), [(0, 1), (3, 1), (4, 1), (5, 2), (8, 2), (9, 3)])
def test_a_listing_takes_as_many_requests_as_it_has_pages(make_world, rows, pages):
    world = make_world(settings={"page_size": "4"})
    ids = accounts(world, rows)
    world.connector.schema()
    before = len(world.http.calls)
    found = world.read("account", NAME)
    assert sorted(r.id for page in found for r in page.records) == sorted(ids)
    assert len(world.requests_since(before)) == len(found) == pages
    assert [page.last for page in found] == [False] * (pages - 1) + [True]


def test_another_process_goes_on_in_the_middle_of_a_listing(make_world):
    world = make_world(settings={"page_size": "4"})
    ids = accounts(world, 10)
    first, *_ = world.read("account", NAME)
    rest = world.read("account", NAME, first.cursor, world.new_connector())
    assert sorted(r.id for page in (first, *rest) for r in page.records) == sorted(ids)


def test_a_row_changed_while_the_listing_was_read_comes_in_the_next_round(make_world):
    world = make_world(settings={"page_size": "4"})
    ids = sorted(accounts(world, 10))
    pages = world.connector.changes("account", {"account": frozenset(NAME)}, None)
    next(pages)
    world.simulator.user_edits("account", ids[0], {"name": "Changed"})
    world.simulator.user_deletes("account", ids[1])
    last = list(pages)[-1]
    [page] = world.read("account", NAME, last.cursor)
    assert [r.values["name"] for r in page.records] == ["Changed"]
    assert [g.id for g in page.gone] == [ids[1]]


def test_a_round_without_changes_is_one_request_even_in_a_new_process(world):
    accounts(world, 3)
    cursor = world.read("account", NAME)[-1].cursor
    before = len(world.http.calls)
    [page] = world.read("account", NAME, cursor, world.new_connector())
    assert (len(page.records), len(page.gone), page.last) == (0, 0, True)
    assert len(world.requests_since(before)) == 1


def test_a_delta_tells_created_changed_archived_and_deleted(world):
    kept, changed, archived, deleted = accounts(world, 4)
    cursor = world.read("account", NAME)[-1].cursor
    world.simulator.user_edits("account", changed, {"name": "New name"})
    world.simulator.user_edits("account", archived, {"statecode": 1, "statuscode": 2})
    world.simulator.user_deletes("account", deleted)
    made = world.simulator.user_creates("account", {"name": "Made"})
    [page] = world.read("account", NAME, cursor)
    assert {r.id: (r.values["name"], r.archived) for r in page.records} == {
        changed: ("New name", False), archived: ("Account 2", True), made: ("Made", False),
    }  # fmt: skip
    assert [(g.entity, g.id) for g in page.gone] == [("account", deleted)]
    assert kept not in {r.id for r in page.records}


def test_a_delta_of_several_pages(make_world):
    world = make_world(settings={"page_size": "4"})
    cursor = world.read("account", NAME)[-1].cursor
    ids = accounts(world, 9)
    pages = world.read("account", NAME, cursor)
    assert [len(page.records) for page in pages] == [4, 4, 1]
    assert sorted(r.id for page in pages for r in page.records) == sorted(ids)
    assert world.read("account", NAME, pages[-1].cursor)[0].records == []


def test_a_delta_link_older_than_seven_days_is_expired(world):
    cursor = world.read("account", NAME)[-1].cursor
    world.simulator.clock.advance(timedelta(days=7, seconds=1))
    with pytest.raises(CursorExpired):
        world.read("account", NAME, cursor)


@pytest.mark.parametrize("cursor", ["rubbish", "{}", '{"v":1,"wanted":"name","head":null,"lines":null,"at":"head"}'])
def test_a_cursor_that_can_not_be_read_is_expired(world, cursor):
    with pytest.raises(CursorExpired):
        world.read("account", NAME, cursor)


def test_the_vendor_may_expire_a_link_at_any_time(world):
    cursor = world.read("account", NAME)[-1].cursor
    world.simulator.switches["expire_delta"] = True
    with pytest.raises(CursorExpired) as caught:
        world.read("account", NAME, cursor)
    assert caught.value.code == "0x80044352"


def test_another_choice_of_fields_needs_a_fresh_link(world):
    cursor = world.read("account", NAME)[-1].cursor
    with pytest.raises(CursorExpired):
        world.read("account", {"name", "telephone1"}, cursor)


@pytest.mark.parametrize("switch", [{"change_tracking": False}, {"settings": {"change_tracking": "off"}}])
def test_without_change_tracking_rows_come_by_their_time_and_deletes_are_not_told(make_world, switch):
    world = make_world(**switch)
    old, deleted = accounts(world, 2)
    [entity] = [e for e in world.connector.describe() if e.name == "account"]
    assert not entity.tells_deletes
    cursor = world.read("account", NAME)[-1].cursor
    world.simulator.clock.advance(timedelta(minutes=10))
    world.simulator.user_edits("account", old, {"name": "Changed"})
    world.simulator.user_deletes("account", deleted)
    [page] = world.read("account", NAME, cursor)
    assert [(r.id, r.values["name"]) for r in page.records] == [(old, "Changed")]
    assert page.gone == []
    world.simulator.clock.advance(timedelta(minutes=10))
    [page] = world.read("account", NAME, page.cursor)  # it began five minutes before the last round
    [page] = world.read("account", NAME, page.cursor)
    assert [r.id for r in page.records] == []


def test_the_rounds_by_time_overlap(make_world):
    world = make_world(change_tracking=False)
    [account] = accounts(world, 1)
    world.simulator.clock.advance(timedelta(minutes=4))
    cursor = world.read("account", NAME)[-1].cursor
    [page] = world.read("account", NAME, cursor)
    assert [r.id for r in page.records] == [account]


def test_tracking_that_metadata_promises_but_the_system_refuses_falls_back(world):
    accounts(world, 2)
    world.connector.schema()
    world.simulator.switches["change_tracking"] = False
    pages = world.read("account", NAME)
    assert [len(page.records) for page in pages] == [2]
    [entity] = [e for e in world.connector.describe() if e.name == "account"]
    assert not entity.tells_deletes


# Documents


def invoice(world, **values):
    account = world.simulator.user_creates("account", {"name": "Ada"})
    lines = [
        {
            "isproductoverridden": True,
            "productdescription": "Work",
            "quantity": 2,
            "priceperunit": 10.5,
            "lineitemnumber": 2,
        },
        {
            "isproductoverridden": True,
            "productdescription": "Travel",
            "quantity": 1,
            "priceperunit": 5,
            "lineitemnumber": 1,
        },
    ]
    payload = {"name": "I-1", "customerid_account@odata.bind": f"/accounts({account})", "invoice_details": lines}
    return account, world.simulator.user_creates("invoice", {**payload, **values})


DOCUMENT = {"name", "customerid", "details", "totalamount"}


def test_a_document_comes_with_its_lines_in_their_order_and_its_totals(world):
    account, made = invoice(world, freightamount=4)
    pages = world.read("invoice", DOCUMENT)
    [record] = pages[0].records
    assert record.id == made
    assert record.values["customerid"] == Ref("account", account)
    assert record.values["totalamount"] == Decimal("30")
    assert [row.values["productdescription"] for row in record.values["details"]] == ["Travel", "Work"]
    assert record.values["details"][1].values["extendedamount"] == Decimal("21")
    assert [touched for page in pages for touched in page.touched] == []
    assert [page.last for page in pages] == [False, True]


def test_a_line_whose_text_changes_touches_its_document(world):
    _, made = invoice(world)
    cursor = world.read("invoice", DOCUMENT)[-1].cursor
    line = next(iter(world.simulator.store.table("invoicedetail")))
    world.simulator.user_edits("invoicedetail", line, {"description": "By train"})
    pages = world.read("invoice", DOCUMENT, cursor)
    assert [record for page in pages for record in page.records] == []
    assert [touched for page in pages for touched in page.touched] == [("invoice", made)]


def test_a_line_that_is_deleted_shows_in_its_document(world):
    _, made = invoice(world)
    cursor = world.read("invoice", DOCUMENT)[-1].cursor
    line = next(iter(world.simulator.store.table("invoicedetail")))
    world.simulator.user_deletes("invoicedetail", line)
    pages = world.read("invoice", DOCUMENT, cursor)
    [record] = [record for page in pages for record in page.records]
    assert (record.id, len(record.values["details"])) == (made, 1)


def test_a_polymorphic_lookup_says_which_table_it_points_at(world):
    person = world.simulator.user_creates("contact", {"lastname": "Ng"})
    world.simulator.user_creates(
        "invoice", {"name": "I", "_customerid_value": person,
                    "_customerid_value@Microsoft.Dynamics.CRM.lookuplogicalname": "contact"},
    )  # fmt: skip
    [page] = world.read("invoice", {"customerid"})
    assert page.records[0].values["customerid"] == Ref("contact", person)


# fetch and find


def test_fetch_answers_each_id_once_and_proves_what_is_gone(world):
    here, deleted = accounts(world, 2)
    world.simulator.user_deletes("account", deleted)
    fetched = world.connector.fetch("account", [here, deleted, here], frozenset(NAME))
    assert [r.id for r in fetched.records] == [here]
    assert [g.id for g in fetched.gone] == [deleted]
    assert fetched.hidden == []


def test_an_empty_query_is_no_proof_of_absence(world):
    [here] = accounts(world, 1)
    world.connector.schema()
    world.simulator.faults.add("empty", match="GET .*/accounts")
    fetched = world.connector.fetch("account", [here], frozenset(NAME))
    assert ([r.id for r in fetched.records], fetched.gone) == ([here], [])


def test_fetch_of_many_ids_is_cut_into_blocks_that_fit_a_url(world):
    ids = accounts(world, 800)
    before = len(world.http.calls)
    fetched = world.connector.fetch("account", ids, frozenset(NAME))
    urls = world.requests_since(before)
    assert {r.id for r in fetched.records} == set(ids)
    assert max(len(url) for url in urls) < 32_000


@pytest.mark.parametrize("name", ['O\'Neil & Söhne, "best"', "50% off + more", "a/b#c?d"])
def test_find_takes_any_text(world, name):
    made = world.create(name=name)
    accounts(world, 3)
    assert [r.id for r in world.connector.find("account", "name", [name.upper(), "none"])] == [made.id]


def test_find_by_the_link_key_brings_the_marker(world):
    made = world.create(name="Ada", syn_linkkey="link-7")
    [record] = world.connector.find("account", "syn_linkkey", ["link-7"])
    assert (record.id, record.marker) == (made.id, "link-7")


def test_only_findable_fields_are_searched(world):
    with pytest.raises(PermanentError):
        list(world.connector.find("account", "telephone1", ["1"]))


# describe, options, check, requirements


def test_describe_takes_lengths_and_writability_from_metadata(world):
    entities = {e.name: e for e in world.connector.describe()}
    account = entities["account"]
    assert account.field("name").max_length == 160
    assert account.field("name").required
    assert account.field("parentaccountid").refers_to == ("account",)
    assert entities["contact"].field("fullname").write is Write.NEVER
    assert entities["invoice"].field("invoicenumber").write is Write.CREATE
    assert entities["invoice"].field("details").kind is Kind.ROWS
    assert account.field("statecode") is None
    assert {e.marker for e in entities.values()} == {"syn_linkkey"}


def test_describe_shows_a_column_that_the_customer_made(world):
    column = {
        "@odata.type": "Microsoft.Dynamics.CRM.StringAttributeMetadata",
        "SchemaName": "new_Region",
        "MaxLength": 30,
    }
    path = f"{world.connector.root}EntityDefinitions(LogicalName='account')/Attributes"
    assert world.http.request("POST", path, json=column).status == 204
    [account] = [e for e in world.new_connector().describe() if e.name == "account"]
    assert (account.field("new_region").kind, account.field("new_region").max_length) == (Kind.TEXT, 30)


def test_options_have_keys_and_labels(world):
    terms = world.connector.options("account", "paymenttermscode")
    assert [(o.key, o.label) for o in terms] == [
        ("1", "Net 30"), ("2", "2% 10, Net 30"), ("3", "Net 45"), ("4", "Net 60"),
    ]  # fmt: skip
    assert {o.label for o in world.connector.options("account", "transactioncurrencyid")} == {"USD", "EUR", "CAD"}
    assert [o.label for o in world.connector.options("product", "defaultuomid")] == ["Primary Unit"]
    assert len(world.connector.options("syn_salestransaction", "syn_type")) == 5


def test_check_says_who_where_and_when(make_world):
    world = make_world(denied=["prvDeleteAccount"])
    identity = world.connector.check()
    assert identity.instance == world.simulator.ids["organization"]
    assert identity.account == "Syncline rehearsal"
    assert identity.clock == START
    assert Verb.UPDATE in identity.may["account"]
    assert Verb.DELETE not in identity.may["account"]
    assert identity.schema.isdigit()


def test_what_the_environment_lacks_is_listed_and_can_be_added(make_world):
    world = make_world(syncline_columns=False)
    before = world.connector.check().schema
    missing = missing_columns(world.connector)
    assert "table syn_salestransaction" in missing
    assert "account.syn_linkkey (string 36)" in missing
    assert [e.name for e in world.connector.describe()] == [
        "account", "contact", "product", "quote", "salesorder", "invoice",
    ]  # fmt: skip
    assert {e.marker for e in world.connector.describe()} == {""}
    assert len(world.read("account", {"name", "syn_aging30"})) == 1
    create_columns(world.connector)
    assert missing_columns(world.connector) == []
    assert world.connector.check().schema != before
    account = world.create(name="Ada", syn_linkkey="k")
    made = world.create("syn_salestransaction", syn_name="I", syn_type="1", syn_customerid=Ref("account", account.id))
    assert made.values["syn_customerid"] == Ref("account", account.id)
    assert missing_columns(make_world().connector) == []


# Faults of reads


@pytest.mark.parametrize(
    ("kind", "options", "error"),
    [
        ("throttle", {"seconds": 5}, RetryableError),
        ("error", {"status": 503}, RetryableError),
        ("error", {"status": 403}, PermanentError),
        ("garbage", {}, Unanswered),
        ("reset", {}, Unanswered),
        ("expire_token", {"times": 2}, AuthError),
    ],
)
def test_each_fault_of_a_read_has_its_error(world, kind, options, error):
    world.connector.schema()
    world.simulator.faults.add(kind, match="GET .*/accounts", **{"times": None, **options})
    with pytest.raises(error) as caught:
        world.read("account", NAME)
    assert type(caught.value) is error


def test_lost_rights_stop_the_feed(make_world):
    world = make_world(denied=["prvReadAccount"])
    with pytest.raises(AuthError) as caught:
        world.read("account", NAME)
    assert caught.value.code == "0x80040220"


def test_a_listing_that_is_suddenly_empty_is_just_empty(world):
    accounts(world, 3)
    world.simulator.faults.add("empty", match="GET .*/accounts")
    assert [len(page.records) for page in world.read("account", NAME)] == [0]


def test_a_link_to_another_host_is_not_followed(world):
    with pytest.raises(PermanentError):
        world.connector.get("https://elsewhere.example.com/api/data/v9.2/accounts")


def test_times_are_utc_and_versions_follow_each_write(world):
    [account] = accounts(world, 1)
    [first] = world.read("account", {"createdon"})
    world.simulator.clock.advance(timedelta(seconds=90))
    world.simulator.user_edits("account", account, {"name": "B"})
    [second] = world.read("account", {"createdon"})
    assert second.records[0].values["createdon"] == START
    assert second.records[0].modified == datetime(2026, 7, 1, 12, 1, 30, tzinfo=UTC)
    assert second.records[0].version != first.records[0].version
