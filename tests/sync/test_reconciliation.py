"""The reconciliation run reads everything, reports what has come apart, and changes nothing without approval."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from connectors.models import Event, RecordChange, RecordLink, Run
from connectors.sync import decisions
from connectors.sync.proposals import decide_all
from connectors.sync.run import advance, approve, start_run
from tests.sync.test_groups import world_with_aging
from tests.sync.test_reports import owed
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
    decide_all(run, tick=True, kind="delete", confirmed=2)
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


def test_an_edit_of_a_record_that_waits_for_approval_waits_with_it() -> None:
    world = world_of("Ada")
    drift(world, "Ada", city="Rome")
    run = check(world)
    record = next(iter(world.left.tables["person"]))
    world.left.put("person", record, {"email": "ada@example.com"})
    before = journals(world)
    world.run()
    assert journals(world) == before, "the drift would go with the edit"
    assert approve(run, world.clock.now()) == (0, 1), "the proposal is of an older state"
    link = RecordLink.objects.get()
    assert decisions.choices(link)[0] == "approve"
    decisions.approve(link, now=world.clock.now(), by="ada")
    world.run()
    assert not RecordLink.objects.filter(pending__isnull=False).exists()
    assert Event.objects.get(code="approved").message == "Approved what the reconciliation found."


def test_an_edit_while_everything_is_read_is_an_ordinary_edit() -> None:
    world = world_of("Ada", "Grace")
    record = next(iter(world.left.tables["person"]))
    reads = []

    def point(name: str) -> None:
        if name == "page read":
            reads.append(name)
            if len(reads) == 3:  # between the changes and the listing
                world.left.put("person", record, {"city": "Oslo"})

    world.at_point = point
    run = check(world)
    world.at_point = None
    assert (run.phase, proposals(run)) == (Run.Phase.DONE, [])
    before = journals(world)
    world.run()
    assert journals(world) == before + 1


@pytest.mark.parametrize("at", ["after stage page", "before store plan"])
def test_a_reconciliation_that_dies_leaves_nothing_that_an_ordinary_run_would_write(at: str) -> None:
    world = world_of("Ada", "Grace")
    drift(world, "Ada", city="Rome")
    before = journals(world)

    class Die(BaseException):
        pass

    def point(name: str) -> None:
        if name == at and RecordLink.objects.filter(pending__isnull=False).exists():
            raise Die

    world.at_point = point
    run = start_run(world.scope, world.world, mode="comprehensive", purpose="check")
    world.scope.refresh_from_db()
    with pytest.raises(Die):
        advance(run, world.world)
    world.at_point = None
    world.run()
    world.run()
    assert journals(world) == before
    assert proposals(check(world)) == [("left", "update")]


def test_a_reconciliation_that_a_guard_stops_leaves_nothing_to_write() -> None:
    world = world_of(*[f"P{number}" for number in range(30)])
    drift(world, "P0", city="Rome")
    people = world.right.tables["person"]
    hidden = {key: people.pop(key) for key in list(people)[1:]}
    before = journals(world)
    assert check(world).phase == Run.Phase.GUARDED
    people.update(hidden)
    world.run()
    assert journals(world) == before


def test_new_figures_do_not_take_unapproved_drift_along() -> None:
    world = world_with_aging()
    for number in range(3):
        world.left.create("person", {"name": f"P{number}", "email": "a@example.org", "overdue": Decimal(number)})
    world.settle()
    drift(world, "P0", email="b@example.org")
    assert check(world).phase == Run.Phase.PROPOSED
    owed(world, 7)
    world.run("reports")
    assert next(iter(world.left.tables["person"].values())).values["email"] == "a@example.org"


def test_a_reconciliation_may_be_approved_for_a_week() -> None:
    world = world_of("Ada")
    drift(world, "Ada", city="Rome")
    run = check(world)
    assert run.finished_at is not None
    with pytest.raises(ValueError, match="older than a week"):
        approve(run, run.finished_at + timedelta(days=7, minutes=1))
    assert approve(run, run.finished_at + timedelta(days=6)) == (1, 0)
