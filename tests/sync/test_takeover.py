"""Workers that wake up late, switches that are thrown under way, and calls that are refused as a whole."""

from __future__ import annotations

from contextlib import suppress

import pytest

from connectors.contract import Batch, PermanentError
from connectors.memory.connector import Memory
from connectors.models import Integration, RecordChange, RecordLink, Run, Scope
from connectors.sync.context import FenceLost
from connectors.sync.run import advance, mark_settings_changed, start_run
from tests.sync.hard_world import Hard
from tests.sync.worlds import TwoSystems

pytestmark = pytest.mark.django_db


def test_a_worker_that_wakes_up_late_records_nothing() -> None:
    """Its answer is old: another worker has settled the write, and people have edited since."""
    world = TwoSystems()
    left = world.left.create("person", {"name": "Ada", "city": "Paris"})
    world.run()
    world.left.put("person", left, {"city": "Rome"})

    def another_worker_takes_over(name: str) -> None:
        if name != "after write":
            return
        world.at_point = None
        world.run()
        world.left.put("person", left, {"city": "Oslo"})
        world.run()

    world.at_point = another_worker_takes_over
    with pytest.raises(FenceLost):
        world.run()
    world.left.put("person", left, {"city": "Rome"})  # back to what the late answer was about
    world.run()
    right = world.right.ids("person")[0]
    assert world.right.tables["person"][right].values["city"] == "Rome"
    assert world.left.tables["person"][left].values["city"] == "Rome"


def test_a_page_read_by_an_overtaken_run_is_not_staged() -> None:
    world = TwoSystems()
    world.left.create("person", {"name": "Ada"})

    def taken(name: str) -> None:
        if name == "page read":
            world.at_point = None
            Scope.objects.update(fence=99)

    world.at_point = taken
    with pytest.raises(FenceLost):
        world.run()
    assert not RecordLink.objects.exists()


def test_switching_off_stops_a_run_before_its_next_write() -> None:
    world = TwoSystems()
    for number in range(6):
        world.left.create("person", {"name": f"P{number}"})

    def switched_off(name: str) -> None:
        if name == "after record outcomes":
            Integration.objects.update(enabled=False)

    world.at_point = switched_off
    with pytest.raises(FenceLost):
        world.run()
    assert len(world.right.journal) == 3, "one batch was written before the switch, nothing after it"


class Picky(Memory):
    """Refuses a whole batch because of one item in it."""

    def write(self, batch: Batch):  # type: ignore[no-untyped-def]
        if any(operation.values.get("city") == "poison" for operation in batch.operations):
            raise PermanentError("The request is not acceptable", code="413")
        return super().write(batch)


def test_a_batch_that_is_refused_as_a_whole_parks_only_the_one_to_blame() -> None:
    world = TwoSystems()
    world.world.connect = lambda connection: Picky(None, connection.settings, world.clock.now)
    for number in range(5):
        world.left.create("person", {"name": f"P{number}", "city": "poison" if number == 1 else "Paris"})
    run = world.run()
    assert world.names(world.right) == ["P0", "P2", "P3", "P4"]
    assert run.counts["entities"]["person"]["parked"] == 1
    assert "not acceptable" in RecordLink.objects.get(reason="parked").args
    assert not RecordChange.objects.filter(open__isnull=False).exists()
    world.left.create("person", {"name": "Later"})
    world.run()
    assert "Later" in world.names(world.right)


def test_settings_that_change_during_a_comprehensive_run_bring_another_one() -> None:
    world = Hard()
    world.pair_up()
    world.run("comprehensive")
    world.left.create("person", {"name": "New"})

    def changed(name: str) -> None:
        if name == "before write":
            world.at_point = None
            mark_settings_changed(world.integration, world.sync)

    world.at_point = changed
    run = start_run(world.scope, world.world, mode="comprehensive")
    with suppress(FenceLost):  # raised when another batch would follow
        advance(run, world.world)
    while not advance(run, world.world):
        pass
    assert Scope.objects.get().full_wanted.startswith("settings changed")
    assert world.run().mode == Run.Mode.COMPREHENSIVE
    assert Scope.objects.get().full_wanted == ""
