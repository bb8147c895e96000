"""Can a person settle a conflict field by field, and does exactly that become of both records?"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors.contract import Field, Kind
from connectors.models import Event, RecordChange, RecordLink
from connectors.sync import decisions
from connectors.sync.conflicts import Stale, check_seen, kind_of, lines_of, seen_of
from connectors.sync.decisions import Undecidable, WrongChoice
from connectors.sync.values import decode
from tests.sync.hard_world import Crash, Hard, person

pytestmark = pytest.mark.django_db

FIELDS = ("name", "email", "city")
BOTH = {"name": ("Ada L", "Ada R"), "email": ("l@ada.example", "r@ada.example"), "city": ("Rome", "Oslo")}


def conflict(world: Hard, *fields: str) -> tuple[str, str, RecordLink]:
    """One record that both sides changed in these fields."""
    left, right = world.pair_up(email="old@ada.example", city="Paris", credit=5)
    world.settle()
    world.left.put("person", left, {name: BOTH[name][0] for name in fields})
    world.right.put("person", right, {name: BOTH[name][1] for name in fields})
    world.run()
    link = world.link(left=left)
    assert (link.pending, link.reason) == (RecordLink.Pending.CONFLICT, "conflict")
    return left, right, link


@pytest.fixture
def world() -> Hard:
    return Hard(policy="ask")


def test_each_field_ends_with_the_chosen_sides_value_on_both_sides(world: Hard) -> None:
    left, right, link = conflict(world, *FIELDS)
    chosen = {"name>name": "left", "email>email": "right", "city>city": "right"}
    before = world.written
    decisions.resolve(link, chosen, now=world.clock.now(), by="ada")
    world.settle()
    for side, record in (("left", left), ("right", right)):
        assert [world.value(side, record, name) for name in FIELDS] == ["Ada L", "r@ada.example", "Oslo"]
        assert world.value(side, record, "credit") == 5
    after = world.link(left=left)
    assert (after.pending, after.left_staged, after.right_staged) == (None, None, None)
    base = decode(after.base)
    assert [base[f"{name}>{name}"] for name in FIELDS] == ["Ada L", "r@ada.example", "Oslo"]
    assert world.written - before == 2, "one write to each side, and no other"
    world.run("comprehensive")
    assert world.written - before == 2, "nothing comes back"


def test_only_the_fields_in_conflict_are_written_and_what_lost_is_kept(world: Hard) -> None:
    left, right, link = conflict(world, "city", "email")
    decisions.resolve(link, {"city>city": "left", "email>email": "left"}, now=world.clock.now(), by="ada")
    world.run()
    [change] = RecordChange.objects.filter(link=link, rule__contains="a person chose")
    assert (change.side, change.status) == ("right", "written")
    assert decode(change.after) == {"city>city": "Rome", "email>email": "l@ada.example"}
    assert decode(change.lost)["city>city"] == {"right": "Oslo"}
    assert world.value("right", right, "name") == world.value("left", left, "name")
    told = Event.objects.get(code="resolved")
    assert told.actor == "ada"
    assert (
        told.message == "Decided the conflict: the left wins in email = email, city = city."
    )  # in the mapping's order


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sides=st.fixed_dictionaries({name: st.sampled_from(["left", "right"]) for name in FIELDS}))
def test_whatever_is_chosen_is_what_both_hold(world: Hard, sides: dict[str, str]) -> None:
    left, right, link = conflict(world, *FIELDS)
    decisions.resolve(link, {f"{n}>{n}": side for n, side in sides.items()}, now=world.clock.now())
    world.settle()
    wanted = [BOTH[name][sides[name] == "right"] for name in FIELDS]
    assert [world.value("left", left, n) for n in FIELDS] == wanted
    assert [world.value("right", right, n) for n in FIELDS] == wanted
    assert world.link(left=left).pending is None


@pytest.mark.parametrize(
    ("chosen", "problem"),
    [
        ({"city>city": "left"}, "email>email"),
        ({"city>city": "left", "email>email": "base"}, "email>email"),
        ({"city>city": "left", "email>email": "left", "name>name": "left"}, "name>name"),
        ({}, "city>city"),
    ],
)
def test_a_choice_that_leaves_a_field_open_or_names_another_is_refused_at_that_field(
    world: Hard, chosen: dict[str, str], problem: str
) -> None:
    left, _, link = conflict(world, "city", "email")
    with pytest.raises(WrongChoice) as refused:
        decisions.resolve(link, chosen, now=world.clock.now())
    assert problem in refused.value.problems
    assert world.state(left=left)[0] == "conflict"


@pytest.mark.parametrize("point", ["after write", "record outcomes"])
def test_a_decision_outlives_a_worker_that_dies_between_its_two_writes(world: Hard, point: str) -> None:
    left, right, link = conflict(world, "city", "email")
    decisions.resolve(link, {"city>city": "left", "email>email": "right"}, now=world.clock.now())
    before = world.written

    def die(name: str) -> None:
        recorded = RecordChange.objects.filter(link=link, status="written", rule__contains="a person chose").exists()
        if world.written > before and (point == "after write" or recorded):
            world.at_point = None
            raise Crash

    world.at_point = die
    with pytest.raises(Crash):
        world.run()
    assert world.written - before == 1
    world.settle()
    for side, record in (("left", left), ("right", right)):
        assert [world.value(side, record, name) for name in ("city", "email")] == ["Rome", "r@ada.example"]
    assert world.link(left=left).pending is None


def test_a_record_edited_after_the_decision_and_before_the_run_is_asked_about_again(world: Hard) -> None:
    left, right, link = conflict(world, "city", "email")
    decisions.resolve(link, {"city>city": "left", "email>email": "right"}, now=world.clock.now())
    world.right.put("person", right, {"city": "Bergen"})
    world.run()
    assert world.state(left=left)[0] == "conflict"
    assert (world.value("left", left, "city"), world.value("right", right, "city")) == ("Rome", "Bergen")


@pytest.mark.parametrize("winner", ["left", {"city>city": "left", "email>email": "right"}])
def test_a_decision_outlives_a_change_of_settings(world: Hard, winner: str | dict[str, str]) -> None:
    left, right, link = conflict(world, "city", "email")
    world.change_mapping("credit", direction="to_right")
    decisions.resolve(link, winner, now=world.clock.now())
    world.change_mapping("parent", direction="to_right")
    assert world.run().mode == "comprehensive"
    email = "l@ada.example" if winner == "left" else "r@ada.example"
    for side, record in (("left", left), ("right", right)):
        assert [world.value(side, record, name) for name in ("city", "email")] == ["Rome", email]
    assert world.link(left=left).pending is None


@pytest.mark.parametrize("edited", ["left", "right"])
def test_after_a_change_of_settings_and_an_edit_it_is_asked_about_again(world: Hard, edited: str) -> None:
    left, right, link = conflict(world, "city")
    decisions.resolve(link, "left", now=world.clock.now())
    world.change_mapping("credit", direction="to_right")
    world.store(edited).put("person", left if edited == "left" else right, {"city": "Bergen"})
    world.run()
    assert world.state(left=left)[0] == "conflict"


def test_a_decision_says_nothing_of_a_field_that_is_mapped_later() -> None:
    note = Field("note", Kind.TEXT)
    world = Hard(policy="ask", left_entity=person(note), right_entity=person(note))
    left, right, _ = conflict(world, "city")
    for side, record in (("left", left), ("right", right)):
        world.store(side).put("person", record, {"note": side})
    world.run()
    decisions.resolve(world.link(left=left), "left", now=world.clock.now())
    world.map("note", "note")
    world.change()
    world.run()
    reason, args = world.state(left=left)
    assert (reason, args["fields"]) == ("conflict", ["city>city", "note>note"]), "all that one decision has to be about"
    assert (world.value("left", left, "note"), world.value("right", right, "note")) == ("left", "right")


def test_a_decision_stands_when_a_reconciliation_reads_by_new_settings(world: Hard) -> None:
    left, right, link = conflict(world, "city")
    decisions.resolve(link, "left", now=world.clock.now())
    world.change_mapping("credit", direction="to_right")
    world.run("comprehensive", purpose="check")
    world.run()
    assert world.value("right", right, "city") == "Rome"
    assert world.link(left=left).pending is None


def test_a_second_decision_of_the_same_conflict_is_refused(world: Hard) -> None:
    _, _, link = conflict(world, "city")
    again = RecordLink.objects.get(pk=link.pk)
    decisions.resolve(link, {"city>city": "left"}, now=world.clock.now())
    with pytest.raises(Undecidable, match="changed meanwhile"):
        decisions.resolve(again, {"city>city": "right"}, now=world.clock.now())
    assert Event.objects.filter(code="resolved").count() == 1


def test_fields_of_a_deleted_record_cannot_be_chosen(world: Hard) -> None:
    world.change(edit_v_delete="ask")
    left, right = world.pair_up(city="Paris")
    world.left.delete("person", left)
    world.right.put("person", right, {"city": "Oslo"})
    world.run()
    link = world.link(right=right)
    assert kind_of(link) == "deleted"
    with pytest.raises(Undecidable, match="was deleted"):
        decisions.resolve(link, {"city>city": "left"}, now=world.clock.now())


# What somebody has seen


def test_what_was_seen_holds_while_the_values_are_the_same(world: Hard) -> None:
    left, _, link = conflict(world, "city", "email")
    assert [(line.name, line.left, line.base, line.right) for line in lines_of(link)] == [
        ("email>email", "l@ada.example", "old@ada.example", "r@ada.example"),
        ("city>city", "Rome", "Paris", "Oslo"),
    ]
    seen = seen_of(link)
    world.left.put("person", left, {"credit": 7})  # another field, which is no conflict
    world.run()
    check_seen(world.link(left=left), seen)


def test_values_that_have_changed_since_are_named(world: Hard) -> None:
    left, right, link = conflict(world, "city", "email")
    seen = seen_of(link)
    world.right.put("person", right, {"city": "Bergen"})
    world.left.put("person", left, {"email": "r@ada.example", "name": "Ada L"})
    world.right.put("person", right, {"name": "Ada R"})
    world.run()
    with pytest.raises(Stale) as stale:
        check_seen(world.link(left=left), seen)
    text = str(stale.value)
    assert "city = city: the right now holds Bergen" in text
    assert "email = email: both sides agree by now" in text
    assert "name = name: in conflict now, too" in text


def test_a_conflict_that_somebody_has_settled_says_who(world: Hard) -> None:
    left, _, link = conflict(world, "city")
    seen = seen_of(link)
    decisions.resolve(link, "left", now=world.clock.now(), by="grace")
    with pytest.raises(Stale, match=r"the left wins.*by grace"):
        check_seen(world.link(left=left), seen)


@pytest.mark.parametrize("seen", ["{", "[]", '{"fields": 3}', '{"fields": {"city>city": 1}}', "x" * 5000])
def test_garbage_instead_of_what_was_seen_is_refused(world: Hard, seen: str) -> None:
    _, _, link = conflict(world, "city")
    with pytest.raises(Stale):
        check_seen(link, seen)
