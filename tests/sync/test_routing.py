"""Does each record belong to one company where several share a system, and is nothing doubled or lost between them?"""

from __future__ import annotations

import pytest

from connectors.contract import Option, PermanentError, Ref
from connectors.memory.connector import Memory
from connectors.models import Connection, Integration, RecordLink
from connectors.sync.compile import SettingsError
from connectors.sync.explain import sentence_of
from connectors.sync.routing import chosen, unrouted
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
    found, more = unrouted(north.integration.right)
    assert not more
    assert [(record.entity, record.id, record.value) for record in found] == [
        ("account", empty, ""),
        ("account", strange, "9"),
    ]
    assert "belongs to no company (company is empty)" in sentence_of(north.link("company", right=empty))
    assert [len(world.left.ids("customer")) for world in companies] == [0, 1]
    north.right.put("account", empty, {"company": NORTH})
    settle(north, south)
    assert [record.id for record in unrouted(north.integration.right)[0]] == [strange]
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
    assert unrouted(Connection.objects.get(name="right")) == ([], False)


def test_the_list_of_records_without_a_company_ends_and_says_so(companies: tuple[Families, Families]) -> None:
    north, _ = companies
    for number in range(5):
        north.right.create("account", {"name": f"Lost {number}"})
        north.right.create("account", {"name": f"Looms {number}", "company": SOUTH})
    for world in companies:
        world.run()
        world.run()
    assert RecordLink.objects.filter(reason="outside").count() == 15, "each lost one is met by both"
    found, more = unrouted(north.integration.right, 3)
    assert ([record.entity for record in found], len({record.id for record in found}), more) == (
        ["account"] * 3,
        3,
        True,
    )
    found, more = unrouted(north.integration.right, 5)
    assert (len(found), more) == (5, False)


# Integrations beside each other


def unroute(world: Families, **route: object) -> None:
    Integration.objects.filter(pk=world.integration.pk).update(route=route)
    mark_settings_changed(world.integration)
    world.integration.refresh_from_db()


def test_an_integration_without_a_route_beside_one_that_has_is_a_problem_of_both(
    companies: tuple[Families, Families],
) -> None:
    north, south = companies
    unroute(south)
    with pytest.raises(SettingsError, match="south has no route for account, contact, so it would take those of north"):
        north.run()
    with pytest.raises(SettingsError, match="south would take every account, contact, also those that are north's"):
        south.run()
    unroute(south, side="right", fields={"account": "company"}, value=SOUTH)
    with pytest.raises(SettingsError, match="south has no route for contact"):
        north.run()
    Integration.objects.filter(pk=south.integration.pk).update(enabled=False)
    north.customer(company="Engines")
    settle(north)
    assert accounts(north) == [("Engines", NORTH)]


def test_integrations_without_any_route_are_nobodys_problem(companies: tuple[Families, Families]) -> None:
    for world in companies:
        unroute(world)
    settle(*companies)
    assert {world.run().phase for world in companies} == {"done"}


def test_a_system_of_another_kind_may_take_the_records_of_all_companies(companies: tuple[Families, Families]) -> None:
    north, south = companies
    unroute(south)
    Connection.objects.filter(pk=south.integration.left_id).update(system="quickbooks")
    settle(north)
    assert north.run().phase == "done"


def test_choices_that_can_not_be_read_are_refused_with_a_sentence(companies: tuple[Families, Families]) -> None:
    class Closed(Memory):
        def options(self, entity: str, field: str, of: str = "") -> list[Option]:
            raise PermanentError("prvReadBusinessUnit is missing")

    connector = Closed(None, {"store": "right"}, companies[0].clock.now)
    assert chosen(connector, {"account": "owningbusinessunit"}, "North") == (
        "",
        [
            "The choices of owningbusinessunit of account can't be read (prvReadBusinessUnit is missing). Give the connection's "
            "user the right to read them, or choose another column."
        ],
    )


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
