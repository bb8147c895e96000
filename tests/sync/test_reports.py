"""A run over reports is long: it reads no feeds, and others may come between two of its slices."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal

import pytest

from connectors.contract import Page
from connectors.memory.connector import Memory
from connectors.models import EntitySync, RecordChange, RecordLink, Run
from connectors.sync.run import accept_guard, advance, approve, start_run
from tests.sync.test_groups import credits, world_with_aging
from tests.sync.worlds import TwoSystems

pytestmark = pytest.mark.django_db


def owed(world: TwoSystems, amount: int) -> None:
    """Let everybody owe `amount` hundred and a bit, which no feed tells of."""
    for number, kept in enumerate(world.left.tables["person"].values()):
        kept.values["overdue"] = Decimal(100 * amount + number)


def owing(amount: int, count: int) -> list[object]:
    return [Decimal(100 * amount + number) for number in range(count)]


def people(count: int, amount: int = 1) -> TwoSystems:
    world = world_with_aging()
    for number in range(count):
        world.left.create("person", {"name": f"P{number}", "overdue": Decimal(amount)})
    world.settle()
    return world


def begin(world: TwoSystems, aside: tuple[int, ...] = (), **params: str) -> Run:
    run = start_run(world.scope, world.world, aside=aside, **params)
    world.scope.refresh_from_db()
    return run


def test_a_run_over_reports_writes_the_figures_and_reads_no_feed() -> None:
    world = people(3)
    owed(world, 7)
    world.left.create("person", {"name": "New", "overdue": Decimal(1)})
    run = world.run("reports")
    assert credits(world) == owing(7, 3), "a record that only the feed tells of is none of its business"
    assert run.counts["adds_up"]
    assert run.counts["reads"] == {"left": 4}
    writes = len(world.right.journal)
    world.run("reports")
    assert len(world.right.journal) == writes


def test_a_run_over_reports_leaves_the_time_of_the_last_delta_as_it_was() -> None:
    world = people(1)
    world.scope.refresh_from_db()
    before = world.scope.last_delta_at
    owed(world, 2)
    world.run("reports")
    world.scope.refresh_from_db()
    assert world.scope.last_delta_at == before


def test_others_come_between_two_slices_and_do_none_of_its_work() -> None:
    world = people(250)
    owed(world, 9)
    reports = begin(world, mode="reports")
    written = len(world.right.journal)
    assert not advance(reports, world.world, slice_over=lambda: len(world.right.journal) > written)
    first = len(world.right.journal) - written
    assert 0 < first < 250
    left = next(iter(world.left.tables["person"]))
    world.left.put("person", left, {"city": "Paris"})
    delta = begin(world, aside=(reports.pk,))
    while not advance(delta, world.world):
        pass
    assert len(world.right.journal) - written - first == 1, "only the edit, not the figures"
    assert RecordChange.objects.filter(run=delta, status="written").count() == 1
    while not advance(take_again(reports), world.world):
        pass
    assert credits(world) == owing(9, 250)
    assert len(world.right.journal) - written <= 251
    assert not RecordLink.objects.filter(pending__isnull=False).exists()
    reports.refresh_from_db()
    assert reports.phase == Run.Phase.DONE
    assert reports.counts["adds_up"]


def take_again(run: Run) -> Run:
    from connectors.sync.run import take

    fresh = Run.objects.select_related("scope", "integration__left", "integration__right").get(pk=run.pk)
    take(fresh)
    return fresh


def test_an_edit_between_two_slices_of_the_very_record_is_written_with_its_figure_once() -> None:
    world = people(120)
    owed(world, 5)
    reports = begin(world, mode="reports")
    # Everything is planned, nothing is written yet.
    assert not advance(reports, world.world, slice_over=lambda: RecordChange.objects.filter(run=reports).exists())
    planned = RecordChange.objects.filter(run=reports, open=1).values_list("link__left_id", flat=True)
    assert planned.count() >= 1
    last = str(planned.order_by("-id").first())
    world.left.put("person", last, {"city": "Rome"})
    delta = begin(world, aside=(reports.pk,))
    while not advance(delta, world.world):
        pass
    while not advance(take_again(reports), world.world):
        pass
    partner = RecordLink.objects.get(left_id=last).right_id
    [write] = [entry for entry in world.right.journal if entry.id == partner and entry.verb == "update"]
    assert write.values == {"city": "Rome", "credit": Decimal(619)}
    assert credits(world) == owing(5, 120)


def test_a_run_over_reports_that_nobody_goes_on_with_does_not_keep_its_figures_for_ever() -> None:
    world = people(30)
    owed(world, 4)
    lost = begin(world, mode="reports")
    advance(lost, world.world, slice_over=lambda: RecordChange.objects.filter(run=lost).exists())
    world.run()  # nobody has a job for it any more, so it is not aside
    lost.refresh_from_db()
    assert lost.phase == Run.Phase.FAILED
    assert credits(world) == owing(4, 30)


def test_only_the_entity_syncs_that_were_named_are_read_from_reports() -> None:
    world = people(2)
    EntitySync.objects.filter(pk=world.sync.pk).update(name="customer")
    owed(world, 3)
    run = start_run(world.scope, world.world, mode="reports", entities=["somebody else"])
    world.scope.refresh_from_db()
    while not advance(run, world.world):
        pass
    assert credits(world) == [Decimal(1)] * 2


def test_a_report_without_a_single_row_is_not_believed_of_many(monkeypatch: pytest.MonkeyPatch) -> None:
    world = people(30)
    owed(world, 4)
    world.run("reports")
    empty = {"overdue": Decimal(0)}
    monkeypatch.setattr(Memory, "absent", lambda self, entity, group: empty, raising=False)
    monkeypatch.setattr(Memory, "snapshot", lambda self, entity, group, scope="": iter(()))
    run = world.run("reports")
    assert run.phase == Run.Phase.GUARDED
    assert "mentions no person at all, though 30 of 30 had figures" in run.guard["tripped"][0]
    assert credits(world) == owing(4, 30)


def test_a_record_that_a_report_does_not_mention_has_the_values_that_absence_means(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = people(30)
    owed(world, 4)
    world.run("reports")
    monkeypatch.setattr(Memory, "absent", lambda self, entity, group: {"overdue": Decimal(0)}, raising=False)
    whole = Memory.snapshot
    monkeypatch.setattr(Memory, "snapshot", lambda self, *args: _without_the_first(whole(self, *args)))
    world.run("reports")
    assert credits(world) == [Decimal(0), *owing(4, 30)[1:]]
    assert len(world.right.journal[-1].values) == 1


def _without_the_first(pages: Iterator[Page]) -> Iterator[Page]:
    for number, page in enumerate(pages):
        yield replace(page, records=page.records[1:]) if number == 0 else page


def test_a_run_over_reports_that_goes_on_leaves_an_approved_preview_alone() -> None:
    world = people(120)
    owed(world, 5)
    reports = begin(world, mode="reports")
    assert not advance(reports, world.world, slice_over=lambda: RecordChange.objects.filter(run=reports).exists())
    world.left.put("person", list(world.left.tables["person"])[3], {"city": "Paris"})
    preview = begin(world, aside=(reports.pk,), purpose="preview")
    while not advance(preview, world.world):
        pass
    preview.refresh_from_db()
    assert approve(preview, world.clock.now()) == (1, 0)
    while not advance(take_again(reports), world.world):  # while the preview's job waits for its retry
        pass
    assert RecordChange.objects.get(run=preview).status == "planned"
    while not advance(take_again(preview), world.world):
        pass
    assert RecordChange.objects.get(run=preview).status == "written"


def tells_only(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Let the report name the first `count` people, and let absence mean that nothing is owed."""
    whole = Memory.snapshot

    def short(self: Memory, *args: str) -> Iterator[Page]:
        page = next(iter(whole(self, *args)))
        yield replace(page, records=page.records[:count], last=True)

    monkeypatch.setattr(Memory, "absent", lambda self, entity, group: {"overdue": Decimal(0)}, raising=False)
    monkeypatch.setattr(Memory, "snapshot", short)


def test_a_report_that_leaves_out_many_who_had_figures_stages_and_writes_nothing_until_it_is_accepted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = people(60)
    owed(world, 4)
    world.run("reports")
    writes = len(world.right.journal)
    owed(world, 9)
    tells_only(monkeypatch, 1)
    run = world.run("reports")
    assert run.phase == Run.Phase.GUARDED
    assert "no longer mentions 59 person records of 60 that had figures" in run.guard["tripped"][0]
    assert (credits(world), len(world.right.journal)) == (owing(4, 60), writes)
    assert not RecordLink.objects.filter(pending__isnull=False).exists(), "nor is what it did tell staged"
    accept_guard(run, world.clock.now())
    while not advance(take_again(run), world.world):
        pass
    assert credits(world) == [Decimal(900), *[Decimal(0)] * 59]


def test_people_who_owe_nothing_and_stay_so_trip_no_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    world = people(60, amount=0)
    for kept in list(world.left.tables["person"].values())[:21]:
        kept.values["overdue"] = Decimal(7)
    tells_only(monkeypatch, 21)
    assert world.run("reports").phase == Run.Phase.DONE
    tells_only(monkeypatch, 1)
    assert world.run("reports").phase == Run.Phase.DONE, "twenty have paid, and 39 never owed anything"
    assert credits(world) == [Decimal(7), *[Decimal(0)] * 59]
