"""When is a record deleted, inactive, out of sight or out of bounds?  Nothing is deleted without proof (CORE section 3)."""

from __future__ import annotations

from datetime import date

import pytest

from connectors.contract import Field, Kind
from connectors.memory.store import ALL_VERBS
from connectors.models import RecordChange, RecordLink
from connectors.sync import decisions
from connectors.sync.rules import ARCHIVED
from tests.sync.hard_world import Hard, person

pytestmark = pytest.mark.django_db
PUBLIC = [{"side": "left", "field": "city", "op": "ne", "value": "private"}]
BOTH = ("left", "right")


def other(side: str) -> str:
    return "right" if side == "left" else "left"


def paired(world: Hard, **values: object) -> dict[str, str]:
    return dict(zip(BOTH, world.pair_up(**values), strict=True))


# Filters and windows


def test_a_record_outside_of_the_filter_is_not_made_on_the_other_side() -> None:
    world = Hard(filters=PUBLIC)
    left = world.left.create("person", {"name": "Ada", "city": "private"})
    run = world.run()
    assert world.state(left=left) == ("outside", {"why": "filter", "side": "left"})
    assert world.written == 0
    assert run.counts["entities"]["person"]["skipped"] == 1


@pytest.mark.parametrize("mode", ["delta", "comprehensive"])
def test_leaving_the_filter_is_never_a_delete(mode: str) -> None:
    world = Hard(filters=PUBLIC)
    left, right = world.pair_up(city="Rome")
    before = world.written
    world.left.put("person", left, {"city": "private", "email": "secret@example.com"})
    world.run(mode)
    world.run("comprehensive")
    link = world.link(left=left)
    assert (link.reason, link.left_id, link.right_id) == ("outside", left, right)
    assert world.written == before
    assert world.value("right", right, "city") == "Rome"


def test_coming_back_into_the_filter_merges_from_the_base() -> None:
    world = Hard(filters=PUBLIC)
    left, right = world.pair_up(city="Rome")
    world.left.put("person", left, {"city": "private"})
    world.run()
    world.right.put("person", right, {"email": "right@example.com"})
    world.run()
    world.left.put("person", left, {"city": "Oslo"})
    world.settle()
    assert world.link(left=left).pending is None
    assert world.value("left", left, "email") == "right@example.com"
    assert world.value("right", right, "city") == "Oslo"
    assert len(world.left.ids("person")) == len(world.right.ids("person")) == 1


@pytest.mark.parametrize("mode", ["delta", "comprehensive"])
def test_while_a_record_is_outside_an_edit_of_its_partner_is_not_written_to_it(mode: str) -> None:
    world = Hard(filters=PUBLIC)
    left, right = world.pair_up(city="Rome")
    world.left.put("person", left, {"city": "private"})
    world.run()
    before = world.written
    world.right.put("person", right, {"email": "right@example.com"})
    world.run(mode)
    world.run("comprehensive")
    assert world.state(left=left)[0] == "outside"
    assert world.written == before


@pytest.mark.parametrize("first", BOTH)
def test_a_record_that_left_the_filters_of_both_sides_comes_back_when_both_have_returned(first: str) -> None:
    world = Hard(filters=[{**PUBLIC[0], "side": side} for side in BOTH])
    ids = paired(world, city="Rome")
    for side in BOTH:
        world.store(side).put("person", ids[side], {"city": "private"})
        world.run()
    before = world.written
    world.store(first).put("person", ids[first], {"city": "Oslo"})
    world.run()
    world.run("comprehensive")
    assert (world.written, world.link(left=ids["left"]).reason) == (before, "outside")
    world.clock.sleep(60)
    world.store(other(first)).put("person", ids[other(first)], {"city": "Bern"})
    world.settle()
    assert {world.value(side, ids[side], "city") for side in BOTH} == {"Bern"}


@pytest.mark.parametrize("also", [{}, {"city": "private"}])
def test_a_record_outside_of_the_filter_is_not_written_when_its_twin_appears(also: dict[str, str]) -> None:
    world = Hard(filters=PUBLIC)
    left = world.left.create("person", {"name": "Ada", "city": "private"})
    world.run()
    world.right.create("person", {"name": "Ada", "email": "right@example.com", **also})
    world.run()
    world.run("comprehensive")
    assert world.value("left", left, "email") is None
    assert world.names(world.left) == ["Ada"]
    assert world.value("right", "1001", "city") == also.get("city")


def test_a_filter_of_the_right_keeps_right_records_out() -> None:
    world = Hard(filters=[{"side": "right", "field": "city", "op": "eq", "value": "Rome"}])
    world.right.create("person", {"name": "In", "city": "Rome"})
    out = world.right.create("person", {"name": "Out", "city": "Oslo"})
    world.run()
    assert world.names(world.left) == ["In"]
    assert world.state(right=out) == ("outside", {"why": "filter", "side": "right"})


def test_a_filter_that_a_person_widens_lets_the_record_in() -> None:
    world = Hard(filters=PUBLIC)
    world.left.create("person", {"name": "Ada", "city": "private"})
    world.run()
    world.change(filters=[])
    world.run()
    assert world.names(world.right) == ["Ada"]


DUE = Field("due", Kind.DATE)


def windowed() -> Hard:
    """Thirty days back and ten ahead; the clock begins on the first of March 2026."""
    world = Hard(left_entity=person(DUE), right_entity=person(DUE), window={"field": "due", "past": 30, "future": 10})
    world.map("due", "due")
    return world


@pytest.mark.parametrize(
    ("due", "there"),
    [(date(2026, 1, 29), False), (date(2026, 1, 30), True), (date(2026, 3, 11), True), (date(2026, 3, 12), False), (None, True)],
)  # fmt: skip
def test_only_records_dated_inside_of_the_window_are_made(due: date | None, there: bool) -> None:
    world = windowed()
    left = world.left.create("person", {"name": "Ada", "due": due})
    world.run()
    assert (world.names(world.right) == ["Ada"]) is there
    if not there:
        assert world.state(left=left) == ("outside", {"why": "window", "side": "left"})


def test_leaving_the_window_deletes_nothing_and_coming_back_merges() -> None:
    world = windowed()
    left, right = world.pair_up(due=date(2026, 3, 1))
    before = world.written
    world.left.put("person", left, {"due": date(2025, 1, 1), "city": "Rome"})
    world.run()
    world.run("comprehensive")
    assert world.state(left=left) == ("outside", {"why": "window", "side": "left"})
    assert (world.written, world.value("right", right, "due")) == (before, date(2026, 3, 1))
    world.left.put("person", left, {"due": date(2026, 3, 5)})
    world.settle()
    assert world.value("right", right, "due") == date(2026, 3, 5)
    assert world.value("right", right, "city") == "Rome"
    assert world.link(left=left).pending is None


def test_a_record_that_time_brings_into_the_window_is_made_by_a_comprehensive_run() -> None:
    world = windowed()
    world.left.create("person", {"name": "Ada", "due": date(2026, 3, 20)})
    world.run()
    assert world.right.ids("person") == []
    world.clock.sleep(10 * 86400)
    world.run("comprehensive")
    assert world.names(world.right) == ["Ada"]


# Absence is no proof


@pytest.mark.parametrize("side", BOTH)
@pytest.mark.parametrize("how", ["hidden", "elsewhere"])
def test_a_record_that_a_listing_lacks_is_not_deleted_when_a_look_at_it_does_not_say_so(side: str, how: str) -> None:
    world = Hard()
    ids = paired(world)
    paired(world)
    before = world.written
    getattr(world.store(side), how).add(("person", ids[side]))
    world.run("comprehensive")
    world.run("comprehensive")
    link = world.link(left=ids["left"])
    assert (link.left_life, link.right_life, world.written) == (1, 1, before)


def test_absence_that_a_look_at_the_very_record_confirms_is_a_delete() -> None:
    world = Hard(left_entity=person(tells_deletes=False))
    left, right = world.pair_up()
    world.pair_up()
    world.left.delete("person", left)
    world.run()
    assert right in world.right.ids("person")  # a delta tells nothing here
    world.run("comprehensive")
    assert right not in world.right.ids("person")
    assert "fetch person" in world.left.requests


# Deletes


@pytest.mark.parametrize("deleted", BOTH)
def test_deleted_here_and_edited_there_asks_by_default(deleted: str) -> None:
    world = Hard()
    ids = paired(world)
    edited = other(deleted)
    world.store(deleted).delete("person", ids[deleted])
    world.store(edited).put("person", ids[edited], {"city": "Rome"})
    run = world.run()
    world.run("comprehensive")
    assert world.state(**{edited: ids[edited]}) == ("conflict", {"why": "deleted and edited", "side": deleted})
    assert run.counts["entities"]["person"]["conflict"] == 1
    assert world.store(edited).ids("person") == [ids[edited]]
    assert world.store(deleted).ids("person") == []


def test_a_person_who_approves_lets_the_delete_win() -> None:
    world = Hard()
    ids = paired(world)
    world.left.delete("person", ids["left"])
    world.right.put("person", ids["right"], {"city": "Rome"})
    world.run()
    decisions.approve(world.link(right=ids["right"]), now=world.clock.now())
    world.settle()
    assert world.right.ids("person") == [] and world.left.ids("person") == []
    assert '"city>city":"Rome"' in RecordChange.objects.get(verb="delete").before


@pytest.mark.parametrize("deleted", BOTH)
def test_where_the_edit_wins_the_record_is_made_again_under_a_new_link(deleted: str) -> None:
    world = Hard(edit_v_delete="edit")
    ids = paired(world, email="ada@example.com")
    edited = other(deleted)
    old = world.link(left=ids["left"])
    world.store(deleted).delete("person", ids[deleted])
    world.store(edited).put("person", ids[edited], {"city": "Rome"})
    world.settle()
    new = world.link(**{edited: ids[edited]})
    old.refresh_from_db()
    assert (old.state, new.pending, new.pk != old.pk) == (RecordLink.State.ENDED, None, True)
    (made,) = world.store(deleted).ids("person")
    assert made != ids[deleted]
    assert world.value(deleted, made, "city") == "Rome"
    assert world.value(deleted, made, "email") == "ada@example.com"


@pytest.mark.parametrize("deleted", BOTH)
def test_where_the_delete_wins_the_edited_record_goes_and_its_values_are_kept(deleted: str) -> None:
    world = Hard(edit_v_delete="delete")
    ids = paired(world)
    edited = other(deleted)
    world.store(deleted).delete("person", ids[deleted])
    world.store(edited).put("person", ids[edited], {"city": "Rome"})
    world.settle()
    assert world.left.ids("person") == world.right.ids("person") == []
    assert '"city>city":"Rome"' in RecordChange.objects.get(verb="delete").before


def test_deletes_wait_for_approval_by_default_and_are_proposed_once() -> None:
    world = Hard(on_delete="ask")
    left, right = world.pair_up()
    world.left.delete("person", left)
    run = world.run()
    world.run()
    world.run("comprehensive")
    assert world.link(right=right).reason == "waits for approval"
    assert run.counts["entities"]["person"]["waiting"] == 1
    assert RecordChange.objects.filter(verb="delete", status="proposed").count() == 1
    assert world.right.ids("person") == [right]
    decisions.approve(world.link(right=right), now=world.clock.now())
    world.settle()
    assert world.right.ids("person") == []


def test_a_system_that_can_only_archive_gets_its_record_archived_and_it_is_not_made_again() -> None:
    world = Hard(right_entity=person(verbs=ALL_VERBS - {"delete"}, removal="archive"))
    left, right = world.pair_up()
    world.left.delete("person", left)
    world.settle()
    world.run("comprehensive")
    assert world.right.tables["person"][right].archived
    assert world.left.ids("person") == []
    assert len(world.writes("right", "archive")) == 1


def test_both_deleted_is_the_end_of_the_link_and_no_write() -> None:
    world = Hard()
    left, right = world.pair_up()
    before = world.written
    world.left.delete("person", left)
    world.right.delete("person", right)
    world.run()
    assert world.written == before
    assert RecordLink.objects.get().state == RecordLink.State.ENDED


# Inactive is a value of its own


@pytest.mark.parametrize("side", BOTH)
def test_inactive_is_a_value_in_agreement_and_restore_brings_it_back_under_the_same_link(side: str) -> None:
    world = Hard()
    world.map(ARCHIVED, ARCHIVED)
    ids = paired(world)
    link, target = world.link(left=ids["left"]), other(side)
    world.store(side).archive("person", ids[side], True)
    world.settle()
    assert world.store(target).tables["person"][ids[target]].archived
    world.store(side).archive("person", ids[side], False)
    world.settle()
    assert not world.store(target).tables["person"][ids[target]].archived
    assert [w.verb for w in world.writes(target)][-2:] == ["archive", "restore"]
    assert world.link(left=ids["left"]).pk == link.pk
    assert world.link(left=ids["left"]).pending is None


def test_inactive_is_ignored_where_it_is_not_mapped() -> None:
    world = Hard()
    left, right = world.pair_up()
    before = world.written
    world.left.archive("person", left, True)
    world.run()
    world.run("comprehensive")
    assert (world.written, world.link(left=left).pending) == (before, None)
    assert not world.right.tables["person"][right].archived


def test_an_inactive_record_takes_edits_and_its_own_state_in_one_history() -> None:
    world = Hard()
    world.map(ARCHIVED, ARCHIVED)
    left, right = world.pair_up()
    world.left.put("person", left, {"city": "Rome"})
    world.left.archive("person", left, True)
    world.settle()
    assert world.value("right", right, "city") == "Rome"
    assert world.right.tables["person"][right].archived
    assert world.link(left=left).pending is None


# What a feed can't tell


def test_an_expired_cursor_lists_again_and_writes_nothing() -> None:
    world = Hard()
    for _ in range(7):
        world.pair_up()
    before = world.written
    world.left.expire_cursors = True
    world.left.requests.clear()
    world.run()
    assert world.written == before
    assert "list person" in world.left.requests
    assert "cursor expired" in world.events()
    world.left.requests.clear()
    world.run()
    assert world.left.requests == ["delta person"]


def test_a_change_made_while_the_cursor_was_expired_is_found_by_the_listing() -> None:
    world = Hard()
    left, right = world.pair_up()
    world.left.put("person", left, {"city": "Rome"})
    world.left.expire_cursors = True
    world.run()
    assert world.value("right", right, "city") == "Rome"


def test_a_gap_makes_the_next_run_comprehensive_once() -> None:
    world = Hard()
    left, right = world.pair_up()
    world.left.gap = "more than 1,000 changes"
    world.run()
    world.scope.refresh_from_db()
    assert world.scope.full_wanted == "more than 1,000 changes"
    assert "feed gap" in world.events()
    before = world.written
    assert world.run().mode == "comprehensive"
    assert world.run().mode == "delta"
    assert world.written == before
    assert world.link(left=left).right_id == right


def test_a_record_whose_child_has_changed_is_fetched_and_compared_by_values() -> None:
    world = Hard()
    left, right = world.pair_up(city="Rome")
    world.left.compute("person", left, {"city": "Oslo"})  # the version stays as it was
    world.left.touch_child("person", left)
    world.left.requests.clear()
    world.run()
    assert "fetch person" in world.left.requests
    assert world.value("right", right, "city") == "Oslo"


def test_a_touched_record_that_is_as_it_was_is_not_written() -> None:
    world = Hard()
    left, _ = world.pair_up(city="Rome")
    before = world.written
    world.left.touch_child("person", left)
    run = world.run()
    assert (world.written, run.counts["entities"]) == (before, {})


@pytest.mark.parametrize(("tells_all", "seen"), [(True, None), (False, "Oslo")])
def test_a_listing_compares_by_values_only_where_versions_do_not_tell_all(tells_all: bool, seen: str | None) -> None:
    world = Hard(left_entity=person(version_tells_all=tells_all))
    left, right = world.pair_up()
    world.left.compute("person", left, {"city": "Oslo"})
    world.run()
    assert world.value("right", right, "city") is None
    world.run("comprehensive")
    assert world.value("right", right, "city") == seen
