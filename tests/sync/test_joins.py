"""May a person say that two records are one, or not, or take them apart, and does that hold?"""

from __future__ import annotations

import pytest

from connectors.contract import Ref
from connectors.models import Event, RecordLink, Stranger
from connectors.sync import decisions
from connectors.sync.decisions import Undecidable
from connectors.sync.explain import sentence_of
from connectors.sync.joining import candidates, join, not_same, relink, unlink
from tests.sync.families import Families
from tests.sync.hard_world import Hard

pytestmark = pytest.mark.django_db


@pytest.fixture
def world() -> Hard:
    return Hard()


def twins(world: Hard) -> tuple[str, str, str]:
    """One record on the left, two of its name on the right."""
    left = world.left.create("person", {"name": "Ada"})
    one, two = (world.right.create("person", {"name": "Ada", "city": city}) for city in ("Rome", "Bern"))
    world.run()
    assert {world.state(left=left)[0], world.state(right=one)[0], world.state(right=two)[0]} == {"ambiguous"}
    return left, one, two


def test_of_two_that_match_exactly_a_person_joins_one_and_the_other_goes_on(world: Hard) -> None:
    left, one, two = twins(world)
    assert {c.right_id for c in candidates(world.link(left=left))} == {one, two}
    assert decisions.choices(world.link(left=left)) == ["join", "not_same", "hold"]
    kept = join(world.link(right=two), world.link(left=left), now=world.clock.now(), by="ada")
    assert (kept.left_id, kept.right_id) == (left, two)
    world.settle()
    assert world.value("left", left, "city") == "Bern"
    assert world.link(right=one).left_id not in (None, left), "the other one is a record of its own"
    assert list(Event.objects.filter(code="joined").values_list("actor", flat=True)) == ["ada", "ada"]


def test_none_of_them_is_the_same(world: Hard) -> None:
    left, one, two = twins(world)
    assert not_same(world.link(left=left), now=world.clock.now()) == 2
    world.settle()
    assert len(world.left.ids("person")) == len(world.right.ids("person")) == 3
    assert world.link(left=left).right_id not in (None, one, two)
    world.left.put("person", left, {"city": "Oslo"})
    world.settle()
    assert not RecordLink.objects.filter(reason="ambiguous").exists()


def test_records_told_apart_are_not_asked_about_again_when_one_that_still_waits_is_edited(world: Hard) -> None:
    left, one, two = twins(world)
    world.change(push={"left": "on_request", "right": "on_request"})
    not_same(world.link(left=left), now=world.clock.now())
    world.settle()
    world.left.put("person", left, {"city": "Oslo"})
    world.right.put("person", one, {"city": "Kyiv"})
    world.settle()
    assert {world.state(left=left)[0], world.state(right=one)[0], world.state(right=two)[0]} == {"waits for promotion"}


def test_one_of_two_is_not_the_same_and_the_question_about_the_other_stays(world: Hard) -> None:
    left, one, two = twins(world)
    not_same(world.link(left=left), world.link(right=one), now=world.clock.now())
    assert [c.right_id for c in candidates(world.link(left=left))] == [two]
    assert world.state(right=one)[0] == "changed"
    world.settle()
    assert world.state(left=left)[0] == world.state(right=two)[0] == "ambiguous"


@pytest.mark.parametrize("same_side", [True, False])
def test_only_two_lonely_records_of_both_sides_can_be_joined(world: Hard, same_side: bool) -> None:
    _, one, two = twins(world)
    pair = world.pair_up() if not same_side else None
    other = world.link(right=two) if pair is None else world.link(right=pair[1])
    with pytest.raises(Undecidable, match="are not one record on each side"):
        join(world.link(right=one), other, now=world.clock.now())


def test_two_records_that_nobody_asked_about_can_be_joined(world: Hard) -> None:
    world.change(push={"left": "on_request", "right": "on_request"})
    left = world.left.create("person", {"name": "Ada"})
    right = world.right.create("person", {"name": "Lady Lovelace", "city": "Rome"})
    world.run()
    join(world.link(left=left), world.link(right=right), now=world.clock.now())
    world.settle()
    assert world.link(left=left).pending is None
    assert world.value("left", left, "city") == "Rome"


def test_a_decision_about_a_link_that_has_changed_meanwhile_is_refused(world: Hard) -> None:
    left, one, _ = twins(world)
    old = world.link(right=one)
    world.right.put("person", one, {"city": "Oslo"})
    world.run()
    with pytest.raises(Undecidable, match="changed meanwhile"):
        join(world.link(left=left), old, now=world.clock.now())
    assert RecordLink.objects.filter(ended=0).count() == 3, "nothing was done by half"


def test_what_referred_to_the_joined_record_refers_to_the_link_that_goes_on(world: Hard) -> None:
    left = world.left.create("person", {"name": "Head"})
    child = world.left.create("person", {"name": "Branch", "parent": Ref("person", left)})
    one, two = (world.right.create("person", {"name": "Head"}) for _ in range(2))
    branch = world.right.create("person", {"name": "Branch", "parent": Ref("person", two)})
    world.run()
    join(world.link(left=left), world.link(right=two), now=world.clock.now())
    world.settle()
    world.run("comprehensive")
    assert world.value("right", branch, "parent") == Ref("person", two)
    assert world.value("left", child, "parent") == Ref("person", left)
    assert world.link(left=child).pending is None
    assert one in world.right.ids("person")


def test_contacts_that_match_by_their_account_are_asked_about_when_the_accounts_are_joined() -> None:
    world = Families()
    account, _ = (world.right.create("account", {"name": "Engines"}) for _ in range(2))
    contact = world.right.create("contact", {"first": "Ada", "last": "Lovelace", "parent": Ref("account", account)})
    made = world.customer(company="Engines", first="Ada", last="Lovelace")
    world.run()
    assert world.link("primary", left=made).reason == "waits for link"
    join(world.link("company", left=made), world.link("company", right=account), now=world.clock.now())
    world.settle()
    assert [c.right_id for c in candidates(world.link("primary", left=made))] == [contact]
    assert world.right.ids("contact") == [contact]


# Taking apart


def test_unlinked_records_stay_and_nothing_flows_between_them(world: Hard) -> None:
    left, right = world.pair_up(city="Bern")
    unlink(world.link(left=left), now=world.clock.now(), by="ada", why="two people")
    link = world.link(left=left)
    assert (link.reason, link.state) == ("unlinked", RecordLink.State.HELD)
    assert sentence_of(link).endswith("By ada. Why: two people")
    assert decisions.choices(link) == ["relink"]
    world.left.put("person", left, {"city": "Rome"})
    world.settle()
    world.run("comprehensive")
    assert world.value("right", right, "city") == "Bern"
    assert (len(world.left.ids("person")), len(world.right.ids("person"))) == (1, 1)
    assert world.state(left=left)[0] == "unlinked"


def test_a_delete_does_not_reach_an_unlinked_record(world: Hard) -> None:
    left, right = world.pair_up()
    unlink(world.link(left=left), now=world.clock.now())
    world.left.delete("person", left)
    world.settle()
    assert world.right.ids("person") == [right]


def test_linking_again_merges_what_has_changed_since(world: Hard) -> None:
    left, right = world.pair_up(city="Bern")
    unlink(world.link(left=left), now=world.clock.now())
    world.left.put("person", left, {"city": "Rome"})
    world.settle()
    relink(world.link(left=left), now=world.clock.now(), by="ada")
    world.settle()
    assert world.value("right", right, "city") == "Rome"
    assert world.link(left=left).pending is None


def test_an_unlinked_record_can_be_joined_with_the_right_one(world: Hard) -> None:
    left, wrong = world.pair_up(city="Bern")
    world.change(push={"left": "on_request", "right": "on_request"})
    right = world.right.create("person", {"name": "Somebody", "email": "s@some.example"})
    world.settle()
    unlink(world.link(left=left), now=world.clock.now())
    join(world.link(left=left), world.link(right=right), now=world.clock.now())
    world.settle()
    world.run("comprehensive")
    assert world.link(left=left).right_id == right
    assert world.value("left", left, "email") == "s@some.example"
    apart = world.link(right=wrong)
    assert (apart.left_id, apart.reason) == (None, "unlinked")
    assert (Stranger.objects.get().left_id, Stranger.objects.get().right_id) == (left, wrong)


@pytest.mark.parametrize("act", [unlink, relink])
def test_what_does_not_fit_is_refused_with_a_sentence(world: Hard, act: object) -> None:
    world.change(push={"right": "on_request"})
    left = world.left.create("person", {"name": "Ada"})
    world.run()
    with pytest.raises(Undecidable, match=r"it has no partner|it was not unlinked"):
        act(world.link(left=left), now=world.clock.now())  # type: ignore[operator]
