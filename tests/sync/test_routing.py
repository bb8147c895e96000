"""Does each record belong to one company where several share a system, and is nothing doubled or lost between them?"""

from __future__ import annotations

import pytest

from connectors.contract import Ref
from connectors.models import Connection, RecordLink
from connectors.sync.compile import SettingsError
from connectors.sync.explain import sentence_of
from connectors.sync.routing import unrouted
from connectors.sync.run import mark_settings_changed
from connectors.sync.values import decode
from tests.sync.families import Families

pytestmark = pytest.mark.django_db
NORTH, SOUTH = "1", "2"


def routed(world: Families, value: str) -> Families:
    world.integration.route = {"side": "right", "fields": {"account": "company", "contact": "company"}, "value": value}
    world.integration.save()
    mark_settings_changed(world.integration)
    return world


@pytest.fixture
def companies() -> tuple[Families, Families]:
    north = routed(Families(name="north"), NORTH)
    return north, routed(Families(name="south", beside=north), SOUTH)


def settle(*worlds: Families) -> None:
    """Let both run by turns until none of them writes."""
    for _ in range(6):
        before = sum(len(world.left.journal) for world in worlds) + len(worlds[0].right.journal)
        for world in worlds:
            world.run()
        if sum(len(world.left.journal) for world in worlds) + len(worlds[0].right.journal) == before:
            return
    raise AssertionError("the companies did not settle")


def accounts(world: Families) -> list[tuple[object, object]]:
    return sorted((k.values["name"], k.values["company"]) for k in world.right.tables["account"].values())


def test_new_records_carry_their_company_and_nothing_crosses_over(companies: tuple[Families, Families]) -> None:
    north, south = companies
    north.customer(company="Engines", first="Ada", last="Lovelace")
    south.customer(company="Looms")
    settle(north, south)
    assert accounts(north) == [("Engines", NORTH), ("Looms", SOUTH)]
    assert [k.values["company"] for k in north.right.tables["contact"].values()] == [NORTH]
    assert len(north.left.ids("customer")) == len(south.left.ids("customer")) == 1
    for world in companies:
        world.run("comprehensive")
    assert len(north.right.journal) == 4  # two accounts, a contact, and the account's primary contact


def test_customers_of_one_name_in_two_companies_are_two_accounts(companies: tuple[Families, Families]) -> None:
    north, south = companies
    one = north.customer(company="Engines")
    settle(north, south)
    two = south.customer(company="Engines")
    settle(north, south)
    assert accounts(north) == [("Engines", NORTH), ("Engines", SOUTH)]
    assert north.link("company", left=one).right_id != south.link("company", left=two).right_id
    assert not RecordLink.objects.filter(reason="ambiguous").exists()


def test_an_account_of_one_company_is_a_customer_there_and_nowhere_else(companies: tuple[Families, Families]) -> None:
    north, south = companies
    account = north.right.create("account", {"name": "Engines", "company": SOUTH})
    settle(north, south)
    assert [len(world.left.ids("customer")) for world in companies] == [0, 1]
    link = north.link("company", right=account)
    assert link.reason == "outside"
    assert "belongs to another company" in sentence_of(link)


def test_records_without_a_company_or_of_an_unknown_one_are_listed(companies: tuple[Families, Families]) -> None:
    north, south = companies
    empty = north.right.create("account", {"name": "Nobody's"})
    strange = north.right.create("account", {"name": "Strange", "company": "9"})
    north.right.create("account", {"name": "Engines", "company": SOUTH})
    settle(north, south)
    found = unrouted(north.integration.right)
    assert [(record.entity, record.id, record.value) for record in found] == [
        ("account", empty, ""),
        ("account", strange, "9"),
    ]
    assert "belongs to no company (company is empty)" in sentence_of(north.link("company", right=empty))
    assert [len(world.left.ids("customer")) for world in companies] == [0, 1]
    north.right.put("account", empty, {"company": NORTH})
    settle(north, south)
    assert [record.id for record in unrouted(north.integration.right)] == [strange]
    assert [len(world.left.ids("customer")) for world in companies] == [1, 1]


def test_a_record_that_moves_to_another_company_stays_in_the_first_and_is_new_in_the_second(
    companies: tuple[Families, Families],
) -> None:
    north, south = companies
    made = north.customer(company="Engines")
    settle(north, south)
    account = str(north.link("company", left=made).right_id)
    north.right.put("account", account, {"company": SOUTH, "email": "new@engines.example"})
    settle(north, south)
    link = north.link("company", left=made)
    assert (link.reason, decode(link.args)["value"], link.right_id) == ("outside", SOUTH, account)
    assert north.left.tables["customer"][made].values["email"] is None
    assert north.left.ids("customer") == [made]
    [there] = south.left.ids("customer")
    assert south.link("company", left=there).right_id == account
    assert len(north.right.ids("account")) == 1
    north.right.put("account", account, {"company": NORTH})
    settle(north, south)
    assert north.left.tables["customer"][made].values["email"] == "new@engines.example"


def test_what_refers_to_a_record_of_another_company_is_not_written(companies: tuple[Families, Families]) -> None:
    north, south = companies
    theirs = north.right.create("account", {"name": "Looms", "company": SOUTH})
    north.right.create("account", {"name": "Looms North", "company": NORTH, "parent": Ref("account", theirs)})
    settle(north, south)
    [made] = north.left.ids("customer")
    assert north.left.tables["customer"][made].values["parent"] is None
    assert len(south.left.ids("customer")) == 1


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"fields": {"account": "region"}}, "account has no column 'region'"),
        ({"fields": {"lead": "company"}}, "there is no entity 'lead' on the right"),
        ({"fields": {"account": "name"}}, "name of account is no choice and no lookup"),
        ({"fields": {}}, "names no column"),
        ({"value": ""}, "has no value"),
        ({"side": "middle"}, "names no side"),
        ({"value": SOUTH}, "has the same value '2' as south"),
    ],
)
def test_a_route_that_can_not_work_is_refused_with_a_sentence(
    companies: tuple[Families, Families], change: dict[str, object], sentence: str
) -> None:
    north, _ = companies
    north.integration.route |= change
    north.integration.save()
    with pytest.raises(SettingsError, match=sentence):
        north.run()


def test_a_route_is_in_nobodys_way_where_there_is_none() -> None:
    world = Families()
    world.right.create("account", {"name": "Engines", "company": SOUTH})
    world.settle()
    assert len(world.left.ids("customer")) == 1
    assert unrouted(Connection.objects.get(name="right")) == []


# Only what was changed since a day


def test_a_customer_that_is_older_than_asked_comes_in_when_it_is_changed() -> None:
    world = Families()
    old = world.customer(company="Engines")
    for sync in (world.company, world.primary, world.person):
        sync.filters = [*sync.filters, {"side": "left", "field": "changed", "op": "since", "value": "2026-03-02"}]
        sync.save()
    world.settle()
    assert world.right.ids("account") == []
    assert world.link("company", left=old).reason == "outside"
    world.clock.sleep(2 * 86400)
    world.edit(old, email="x@engines.example")
    world.customer(company="Looms")
    world.settle()
    assert sorted(str(k.values["name"]) for k in world.right.tables["account"].values()) == ["Engines", "Looms"]
