"""The engine's ordinary day: first sync, edits on both sides, deletes, conflicts."""

from __future__ import annotations

from decimal import Decimal

import pytest

from connectors.contract import Ref
from connectors.models import RecordChange, RecordLink
from tests.sync.worlds import TwoSystems

pytestmark = pytest.mark.django_db


@pytest.fixture
def world() -> TwoSystems:
    return TwoSystems()


def test_a_first_sync_creates_what_is_missing_on_either_side(world: TwoSystems) -> None:
    for number in range(12):
        world.left.create("person", {"name": f"Left {number}", "credit": Decimal("10.50")})
    world.right.create("person", {"name": "Right only"})
    world.right.create("person", {"name": "left 3", "email": "three@example.com"})  # the same name but for its case
    run = world.run()
    assert len(world.left.tables["person"]) == 13
    assert len(world.right.tables["person"]) == 13
    counts = run.counts["entities"]["person"]
    assert run.counts["adds_up"], counts
    assert counts["written"]["right"]["created"] == 11
    assert counts["written"]["left"]["created"] == 1
    assert RecordLink.objects.filter(pending__isnull=True).count() == 13


def test_after_the_first_sync_nothing_is_written_again(world: TwoSystems) -> None:
    for number in range(7):
        world.left.create("person", {"name": f"P{number}"})
    world.run()
    writes = len(world.left.journal), len(world.right.journal)
    world.run()
    world.run("comprehensive")
    assert (len(world.left.journal), len(world.right.journal)) == writes


def test_edits_of_different_fields_are_both_kept(world: TwoSystems) -> None:
    left = world.left.create("person", {"name": "Ada", "city": "Paris", "email": "a@example.com"})
    world.run()
    right = world.right.ids("person")[0]
    world.left.put("person", left, {"city": "Rome"})
    world.right.put("person", right, {"email": "ada@example.com"})
    run = world.run()
    assert world.left.tables["person"][left].values["email"] == "ada@example.com"
    assert world.right.tables["person"][right].values["city"] == "Rome"
    assert run.counts["entities"]["person"]["written"]["both"]["updated"] == 1
    assert run.counts["adds_up"]
    assert [w.values for w in world.right.journal if w.verb == "update"] == [{"city": "Rome"}]


def test_the_last_update_wins_and_the_loser_is_kept(world: TwoSystems) -> None:
    left = world.left.create("person", {"name": "Ada", "city": "Paris"})
    world.run()
    right = world.right.ids("person")[0]
    world.left.put("person", left, {"city": "Rome"})
    world.clock.sleep(60)
    world.right.put("person", right, {"city": "Oslo"})
    world.run()
    assert world.left.tables["person"][left].values["city"] == "Oslo"
    change = RecordChange.objects.get(verb="update")
    assert '"left":"Rome"' in change.lost


def test_a_parent_is_written_before_its_child(world: TwoSystems) -> None:
    child = world.left.create("person", {"name": "Child"})
    parent = world.left.create("person", {"name": "Parent"})
    world.left.put("person", child, {"parent": Ref("person", parent)})
    world.run()
    by_name = {str(k.values["name"]): k for k in world.right.tables["person"].values()}
    assert by_name["Child"].values["parent"] == Ref("person", by_name["Parent"].id)
    assert RecordLink.objects.filter(pending__isnull=False).count() == 0


def test_two_that_refer_to_each_other_are_both_written(world: TwoSystems) -> None:
    one = world.left.create("person", {"name": "One"})
    two = world.left.create("person", {"name": "Two", "parent": Ref("person", one)})
    world.left.put("person", one, {"parent": Ref("person", two)})
    world.settle()
    by_name = {str(k.values["name"]): k for k in world.right.tables["person"].values()}
    assert by_name["One"].values["parent"] == Ref("person", by_name["Two"].id)
    assert by_name["Two"].values["parent"] == Ref("person", by_name["One"].id)


def test_a_delete_follows_and_does_not_come_back(world: TwoSystems) -> None:
    left = world.left.create("person", {"name": "Ada"})
    world.run()
    world.left.delete("person", left)
    world.settle()
    assert world.right.ids("person") == []
    world.run("comprehensive")
    assert world.left.ids("person") == [] and world.right.ids("person") == []


def test_two_candidates_are_a_question_for_a_person(world: TwoSystems) -> None:
    world.left.create("person", {"name": "Same"})
    world.right.create("person", {"name": "Same"})
    world.right.create("person", {"name": "Same"})
    run = world.run()
    assert len(world.left.journal) + len(world.right.journal) == 0
    assert run.counts["entities"]["person"]["conflict"] == 3
    assert run.counts["adds_up"]
