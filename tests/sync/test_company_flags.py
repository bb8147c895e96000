"""Several companies read the same flags: whose are documents and products, which have no column that says so?"""

from __future__ import annotations

import pytest

from connectors.contract import Ref
from connectors.models import Integration, Promotion, RecordLink
from connectors.sync import bulk
from connectors.sync.explain import sentence_of
from connectors.sync.promotions import promote
from connectors.sync.run import advance, mark_settings_changed, start_run
from tests.sync.families import Families

pytestmark = pytest.mark.django_db
NORTH, SOUTH = "1", "2"
FLAG = {"field": "first", "queued": "Q", "success": "S", "error": "E", "message": "email"}


def company(name: str, value: str, beside: Families | None = None, *, refers: bool) -> Families:
    """One company: its accounts carry a column, and contacts, which have none, flow on request."""
    world = Families(name=name, beside=beside)
    route = {"side": "right", "fields": {"account": "company"}, "value": value}
    Integration.objects.filter(pk=world.integration.pk).update(route=route)
    world.integration.refresh_from_db()
    world.primary.enabled = False
    world.primary.save()
    if refers:
        world._map(world.person, ("parent", "parent", {"required": True}))
    world.person.mappings.filter(left__in=["first", "email"]).delete()
    world.person.push, world.person.match = {"left": "on_request", "flag": FLAG}, [["last>last"]]
    world.person.save()
    mark_settings_changed(world.integration)
    return world


@pytest.fixture
def documents() -> tuple[Families, Families]:
    """A contact stands for a document: it must have an account."""
    north = company("north", NORTH, refers=True)
    return north, company("south", SOUTH, north, refers=True)


@pytest.fixture
def products() -> tuple[Families, Families]:
    """A contact stands for a product: it refers to nothing."""
    north = company("north", NORTH, refers=False)
    return north, company("south", SOUTH, north, refers=False)


def service(*worlds: Families) -> None:
    """Let the service for promoted records run in each, as its job does."""
    for world in worlds:
        run = start_run(world.scope, world.world)
        world.scope.refresh_from_db()
        bulk.take(run, world.world)
        while not advance(run, world.world):
            pass
        bulk.tell(run, world.world)
        run.refresh_from_db()
        assert run.counts["adds_up"], run.counts


def account(world: Families, value: str, name: str = "Acme") -> str:
    return world.right.create("account", {"name": name, "company": value})


def ask(world: Families, last: str, parent: str | None = None) -> str:
    return world.right.create(
        "contact", {"first": "Q", "last": last, "parent": Ref("account", parent) if parent else None}
    )


def flag(world: Families, record: str) -> tuple[object, object]:
    values = world.right.tables["contact"][record].values
    return values["first"], values["email"]


def names(world: Families) -> list[str]:
    return sorted(str(kept.values["last"]) for kept in world.left.tables["customer"].values() if kept.values["last"])


def requests(world: Families, record: str) -> list[str]:
    rows = Promotion.objects.filter(entity_sync=world.person, external_id=record).order_by("id")
    return list(rows.values_list("status", flat=True))


def test_a_document_is_asked_of_its_customers_company_alone(documents: tuple[Families, Families]) -> None:
    north, south = documents
    acme = account(north, NORTH)
    quote = ask(north, "Quote 1", acme)
    for _ in range(3):
        service(south, north)
    assert (names(north), names(south)) == (["Quote 1"], [])
    assert flag(north, quote) == ("S", None)
    assert (requests(north, quote), requests(south, quote)) == (["success"], [])


def test_a_document_of_a_customer_that_has_moved_is_not_made_twice(documents: tuple[Families, Families]) -> None:
    north, south = documents
    acme = account(north, NORTH)
    quote = ask(north, "Quote 1", acme)
    for _ in range(2):
        service(south, north)
    north.right.put("account", acme, {"company": SOUTH})
    for _ in range(3):
        service(south, north)
    assert (names(north), names(south), flag(north, quote)) == (["Quote 1"], [], ("S", None))
    north.right.put("contact", quote, {"first": "Q"})
    for _ in range(2):
        service(north, south)
    assert (names(north), names(south)) == (["Quote 1"], [])
    state, why = flag(north, quote)
    assert (state, str(why).startswith("north has written it already (customer ")) == ("E", True)
    assert requests(south, quote) == ["error"]


def test_whose_a_customer_is_is_read_when_the_flag_is(documents: tuple[Families, Families]) -> None:
    north, south = documents
    acme = account(north, NORTH)
    for world in documents:
        world.run()
        world.run()
    north.right.put("account", acme, {"company": SOUTH})
    quote = ask(north, "Quote 1", acme)
    for _ in range(2):
        service(north, south)
    assert (names(north), names(south), flag(north, quote)) == ([], ["Quote 1"], ("S", None))


def test_accounts_are_asked_for_once_and_only_where_a_document_has_a_flag(documents: tuple[Families, Families]) -> None:
    north, south = documents
    ids = [account(north, NORTH, f"Acme {number}") for number in range(3)]
    service(south, north)
    service(north)
    assert "fetch account" not in north.right.requests
    for number in range(9):
        ask(north, f"Quote {number}", ids[number % 3])
    run = start_run(north.scope, north.world)
    north.scope.refresh_from_db()
    bulk.take(run, north.world)
    assert run.counts["reads"] == {"right": 9 + 3}
    assert north.right.requests.count("fetch account") == 1


def test_a_document_of_nobodys_customer_stays_queued_at_the_record(documents: tuple[Families, Families]) -> None:
    north, south = documents
    lost = account(north, "9")
    quote = ask(north, "Quote 1", lost)
    service(north, south)
    assert (names(north), names(south), flag(north, quote)) == ([], [], ("Q", None))
    north.right.put("account", lost, {"company": SOUTH})
    for _ in range(2):
        service(north, south)
    assert (names(north), names(south), flag(north, quote)) == ([], ["Quote 1"], ("S", None))


def test_a_request_for_what_another_company_answers_is_taken_back(documents: tuple[Families, Families]) -> None:
    north, south = documents
    acme = account(north, NORTH)
    quote = ask(north, "Quote 1", acme)
    now = north.clock.now()
    for world in documents:  # one of them by mistake, before anybody knew whose the customer is
        promote(world.person, [quote], now=now, waits=True, flagged={quote: now})
    service(south, north)
    assert (requests(south, quote), requests(north, quote)) == (["withdrawn"], ["success"])
    assert flag(north, quote) == ("S", None)
    north.right.put("account", acme, {"company": SOUTH})
    for _ in range(2):
        service(south, north)
    assert (names(north), names(south)) == (["Quote 1"], [])


def test_a_request_that_another_company_has_written_meanwhile_ends(documents: tuple[Families, Families]) -> None:
    north, south = documents
    acme = account(north, NORTH)
    quote = ask(north, "Quote 1", acme)
    for _ in range(2):
        service(north)
    now = north.clock.now()
    row = Promotion.objects.create(
        entity_sync=south.person, side="right", external_id=quote, at=now, source="flag", waits=True, untold=True
    )
    service(south)
    row.refresh_from_db()
    assert row.status == "withdrawn"
    assert "north has written it already" in row.reason
    assert flag(north, quote) == ("S", None), "it was answered"


def test_a_person_is_told_that_a_document_is_another_companys(documents: tuple[Families, Families]) -> None:
    north, south = documents
    acme = account(north, NORTH)
    quote = ask(north, "Quote 1", acme)
    for world in documents:
        world.run()
        world.run()
    refused = promote(south.person, [quote], now=south.clock.now()).refused[quote]
    assert "another company's" in refused
    assert requests(south, quote) == ["error"]
    assert promote(north.person, [quote], now=south.clock.now()).queued == [quote]
    north.run()
    assert names(north) == ["Quote 1"]
    assert "North" not in names(south)
    refused = promote(south.person, [quote], now=south.clock.now()).refused[quote]
    assert "north has written it already" in refused


def test_a_product_is_made_in_every_company_and_the_flag_waits_for_all_of_them(
    products: tuple[Families, Families],
) -> None:
    north, south = products
    pump = ask(north, "Pump")
    service(north)
    assert (names(north), names(south), flag(north, pump)) == (["Pump"], [], ("Q", None)), "south has not answered yet"
    service(north)
    assert requests(north, pump) == ["success"], "what is answered is not asked again"
    service(south)
    assert (names(north), names(south), flag(north, pump)) == (["Pump"], ["Pump"], ("S", None))
    assert not Promotion.objects.filter(untold=True).exists()
    writes = len(north.right.journal)
    service(north, south)
    assert (len(north.right.journal), requests(north, pump), requests(south, pump)) == (
        writes,
        ["success"],
        ["success"],
    )


def test_one_company_that_can_not_take_a_product_makes_the_answer_an_error_that_names_it(
    products: tuple[Families, Families],
) -> None:
    north, south = products
    south.left.unique.add(("customer", "last"))
    south.left.create("customer", {"company": "Pumps", "last": "Pump"})
    pump = ask(north, "Pump")
    service(north, south)
    state, why = flag(north, pump)
    assert (state, names(north), str(why).startswith("south: ")) == ("E", ["Pump"], True)
    north.right.put("contact", pump, {"last": "Pump 2", "first": "Q"})
    service(south, north)
    assert (flag(north, pump), names(south)) == (("S", None), ["Pump", "Pump 2"])


def test_a_product_does_not_wait_for_a_company_that_is_switched_off(products: tuple[Families, Families]) -> None:
    north, south = products
    Integration.objects.filter(pk=south.integration.pk).update(enabled=False)
    pump = ask(north, "Pump")
    service(north)
    assert (flag(north, pump), requests(south, pump)) == (("S", None), [])


def test_what_is_left_out_says_that_it_is_another_companys(documents: tuple[Families, Families]) -> None:
    north, south = documents
    acme = account(north, NORTH)
    south.run()
    link = RecordLink.objects.get(integration=south.integration, right_entity="account", right_id=acme)
    assert "belongs to another company" in sentence_of(link)
