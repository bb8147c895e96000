"""The reconciliation run reads everything, reports what has come apart, and changes nothing without approval."""

from __future__ import annotations

from datetime import timedelta

import pytest

from connectors.models import Event, RecordChange, RecordLink, Run
from connectors.sync.run import advance, approve
from tests.sync.worlds import TwoSystems

pytestmark = pytest.mark.django_db


def world_of(*names: str, **sync: object) -> TwoSystems:
    world = TwoSystems(**sync)
    for name in names:
        world.left.create("person", {"name": name, "city": "Paris"})
    world.settle()
    return world


def check(world: TwoSystems) -> Run:
    return world.run("comprehensive", "check")


def drift(world: TwoSystems, name: str, **values: object) -> None:
    """Change a record without a new version, and without a word in the feed."""
    for kept in world.right.tables["person"].values():
        if kept.values["name"] == name:
            kept.values.update(values)
            kept.version += 1  # a listing tells, the feed has not


def journals(world: TwoSystems) -> int:
    return len(world.left.journal) + len(world.right.journal)


def proposals(run: Run) -> list[tuple[str, str]]:
    return sorted(RecordChange.objects.filter(run=run, status="proposed").values_list("side", "verb"))


def test_two_systems_in_agreement_give_no_proposal_and_it_is_said() -> None:
    world = world_of("Ada", "Grace")
    run = check(world)
    assert run.phase == Run.Phase.DONE
    assert Event.objects.filter(code="no drift").exists()


def test_drift_is_proposed_and_no_later_run_writes_it() -> None:
    world = world_of("Ada", "Grace")
    drift(world, "Ada", city="Rome")
    before = journals(world)
    run = check(world)
    assert run.phase == Run.Phase.PROPOSED
    assert proposals(run) == [("left", "update")]
    assert "1 to update in left" in Event.objects.get(code="drift").message
    world.run()
    world.run()
    assert journals(world) == before
    assert RecordLink.objects.get(reason="waits for approval").pending == RecordLink.Pending.WAITING
    assert run.counts["adds_up"]


def test_what_was_approved_is_written() -> None:
    world = world_of("Ada", "Grace")
    drift(world, "Ada", city="Rome")
    run = check(world)
    assert approve(run, world.clock.now()) == (1, 0)
    while not advance(run, world.world):
        pass
    assert [kept.values["city"] for kept in world.left.tables["person"].values()] == ["Rome", "Paris"]
    assert not RecordLink.objects.filter(pending__isnull=False).exists()


def test_ordinary_edits_stay_the_next_ordinary_runs() -> None:
    world = world_of("Ada", "Grace")
    first = next(iter(world.left.tables["person"]))
    world.left.put("person", first, {"city": "Oslo"})
    before = journals(world)
    run = check(world)
    assert (run.phase, journals(world)) == (Run.Phase.DONE, before)
    world.run()
    assert journals(world) == before + 1


def test_deletions_on_both_sides_are_proposed() -> None:
    world = world_of("Ada", "Grace", "Joan", on_delete="delete")
    left, right = list(world.left.tables["person"]), list(world.right.tables["person"])
    del world.left.tables["person"][left[0]]  # without a tombstone
    del world.right.tables["person"][right[1]]
    before = journals(world)
    run = check(world)
    assert proposals(run) == [("left", "delete"), ("right", "delete")]
    world.run()
    assert journals(world) == before
    approve(run, world.clock.now())
    while not advance(run, world.world):
        pass
    assert world.names(world.left) == world.names(world.right) == ["Joan"]


def test_a_new_reconciliation_looks_again_at_what_nobody_approved() -> None:
    world = world_of("Ada", "Grace")
    drift(world, "Ada", city="Rome")
    first = check(world)
    drift(world, "Ada", city="Paris")  # somebody has mended it
    drift(world, "Grace", city="Bonn")
    second = check(world)
    assert proposals(first) == []
    assert proposals(second) == [("left", "update")]
    assert RecordLink.objects.filter(reason="waits for approval").count() == 1


def test_an_edit_after_the_proposal_is_an_ordinary_edit() -> None:
    world = world_of("Ada")
    drift(world, "Ada", city="Rome")
    run = check(world)
    record = next(iter(world.left.tables["person"]))
    world.left.put("person", record, {"email": "ada@example.com"})
    world.run()
    assert approve(run, world.clock.now()) == (0, 1), "it was planned anew with the edit"
    assert not RecordLink.objects.filter(pending__isnull=False).exists()


def test_a_reconciliation_may_be_approved_for_a_week() -> None:
    world = world_of("Ada")
    drift(world, "Ada", city="Rome")
    run = check(world)
    assert run.finished_at is not None
    with pytest.raises(ValueError, match="older than a week"):
        approve(run, run.finished_at + timedelta(days=7, minutes=1))
    assert approve(run, run.finished_at + timedelta(days=6)) == (1, 0)
