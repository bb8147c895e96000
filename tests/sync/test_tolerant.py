"""Are records whose names are only alike left to a person, and only those?"""

from __future__ import annotations

import time

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from connectors.contract import Ref
from connectors.models import RecordLink, Stranger
from connectors.sync.compile import SettingsError
from connectors.sync.explain import sentence_of
from connectors.sync.joining import candidates, join, not_same
from connectors.sync.tolerant import Name, alike, plain_name
from connectors.sync.values import decode
from tests.sync.families import Families
from tests.sync.hard_world import Hard

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("InfoMedia", "Infomedia, Inc."),
        ("The Müller Group GmbH", "Muller Group"),
        ("Smith & Sons Ltd", "SMITH AND SONS LIMITED"),
        ("Lovelace, Ada", "Ada Lovelace"),
        ("A.B.C. Roofing", "ABC Roofing"),
    ],
)
def test_case_punctuation_legal_form_and_order_do_not_count(one: str, other: str) -> None:
    assert plain_name(one) == plain_name(other)


def test_a_name_of_nothing_but_a_legal_form_stays_a_name() -> None:
    assert plain_name("The Company") != plain_name("SA")


@pytest.fixture
def world() -> Hard:
    return Hard(match_tolerance=88)


def test_two_names_that_are_alike_are_a_question_on_both_sides(world: Hard) -> None:
    left = world.left.create("person", {"name": "InfoMedia"})
    right = world.right.create("person", {"name": "IfnoMedia"})
    world.run()
    assert world.written == 0
    for link, name in ((world.link(left=left), "IfnoMedia"), (world.link(right=right), "InfoMedia")):
        assert (link.reason, link.pending) == ("ambiguous", 4)
        told = decode(link.args)["candidates"]
        other = world.link(right=right) if link.left_id else world.link(left=left)
        assert told == [{"link": other.pk, "name": name, "similarity": 88}]
        assert f"It is like {name} (88 %)" in sentence_of(link)
    assert [c.pk for c in candidates(world.link(left=left))] == [world.link(right=right).pk]


def test_a_record_that_waits_for_promotion_is_asked_about_too() -> None:
    world = Hard(match_tolerance=88, push={"left": "on_request"})
    right = world.right.create("person", {"name": "IfnoMedia"})
    world.run()
    assert world.state(right=right)[0] == "waits for promotion"
    world.left.create("person", {"name": "InfoMedia"})
    world.run()
    assert world.written == 0
    assert world.state(right=right)[0] == "ambiguous"


def test_equal_names_are_joined_and_other_names_are_made(world: Hard) -> None:
    world.left.create("person", {"name": "InfoMedia"})
    world.right.create("person", {"name": "infomedia"})
    world.left.create("person", {"name": "Granite Roofing"})
    world.settle()
    assert [w.values["name"] for w in world.writes("right", "create")] == ["Granite Roofing"]


def test_numbers_tell_names_apart(world: Hard) -> None:
    world.left.create("person", {"name": "Harbor Bakery Branch 12"})
    world.right.create("person", {"name": "Harbor Bakery Branch 13"})
    world.settle()
    assert len(world.left.ids("person")) == len(world.right.ids("person")) == 2


def test_without_tolerance_nobody_is_asked() -> None:
    world = Hard()
    world.left.create("person", {"name": "InfoMedia"})
    world.right.create("person", {"name": "IfnoMedia"})
    world.settle()
    assert len(world.left.ids("person")) == 2


def test_records_that_are_not_the_same_go_on_and_are_never_asked_about_again(world: Hard) -> None:
    left = world.left.create("person", {"name": "InfoMedia"})
    right = world.right.create("person", {"name": "IfnoMedia"})
    world.run()
    assert not_same(world.link(left=left), world.link(right=right), now=world.clock.now(), by="ada") == 1
    world.settle()
    assert world.names(world.left) == world.names(world.right) == ["IfnoMedia", "InfoMedia"]
    assert Stranger.objects.get().by == "ada"
    world.left.put("person", left, {"city": "Rome"})
    world.settle()
    world.run("comprehensive")
    assert not RecordLink.objects.filter(reason="ambiguous").exists()


def test_joined_records_are_merged_like_those_that_met_at_first_sight(world: Hard) -> None:
    left = world.left.create("person", {"name": "InfoMedia", "city": "Rome"})
    right = world.right.create("person", {"name": "IfnoMedia", "email": "x@info.example"})
    world.run()
    join(world.link(left=left), world.link(right=right), now=world.clock.now())
    world.settle()
    for store, record_id in ((world.left, left), (world.right, right)):
        values = store.tables["person"][record_id].values
        assert (values["city"], values["email"]) == ("Rome", "x@info.example")
    assert len(world.left.ids("person")) == len(world.right.ids("person")) == 1
    assert world.link(left=left).pending is None


def test_one_that_is_like_two_leaves_the_other_to_go_on_when_it_is_joined(world: Hard) -> None:
    left = world.left.create("person", {"name": "Granite Roofing"})
    one, two = (world.right.create("person", {"name": name}) for name in ("Granit Roofing", "Granite Rofing"))
    world.run()
    assert len(candidates(world.link(left=left))) == 2
    join(world.link(left=left), world.link(right=one), now=world.clock.now())
    assert world.state(right=two)[0] == "changed"
    world.settle()
    assert len(world.left.ids("person")) == 2


def test_the_name_counts_and_not_the_mail_address_and_references_must_be_equal() -> None:
    world = Families()
    for sync in (world.primary, world.person):
        sync.match_tolerance = 88
        sync.save()
    looms, engines = (world.right.create("account", {"name": name}) for name in ("Looms", "Engines"))
    for account in (looms, engines):
        world.right.create("contact", {"first": "Ada", "last": "Lovelase", "parent": Ref("account", account)})
    made = world.customer(company="Engines", first="Ada", last="Lovelace")
    other = world.customer(first="Bob", last="Babbage", email="a.lovelace@engines.example")
    world.right.create("contact", {"first": "Cy", "last": "Turing", "email": "b.lovelace@engines.example"})
    world.run()
    [candidate] = candidates(world.link("primary", left=made))
    assert world.right.tables["contact"][str(candidate.right_id)].values["parent"] == Ref("account", engines)
    assert world.link("person", left=other).right_id


def test_names_are_read_by_one_query_for_a_plan_and_by_none_where_nothing_is_made(world: Hard) -> None:
    def asked(count: int) -> int:
        for n in range(count):
            world.left.create("person", {"name": f"Left {chr(97 + n % 26) * 9} {n}"})
        with CaptureQueriesContext(connection) as queries:
            world.run()
        return sum('"right_staged", "connectors_recordlink"."reason"' in q["sql"] for q in queries)

    world.run()
    assert asked(0) == 0
    assert asked(3) == asked(30)


def test_two_thousand_names_are_compared_with_two_thousand_in_no_time() -> None:
    def names(first: int) -> list[Name]:
        texts = [f"{chr(97 + n % 26)}{chr(97 + n // 26 % 26)}{chr(97 + n // 676)} trading house" for n in range(2000)]
        return [Name(first + n, str(n), text, text, ()) for n, text in enumerate(texts)]

    began = time.process_time()
    found = alike(names(0), names(5000), 88, {})
    assert len(found) == 2000
    assert time.process_time() - began < 20  # a factor of ten above what a slow machine takes


def test_a_tolerance_that_would_ask_about_everything_is_refused() -> None:
    world = Hard(match_tolerance=30)
    with pytest.raises(SettingsError, match="60 to 100 percent of similarity, not at 30"):
        world.run()
