"""Does an undo hold after any history, and wherever it is killed?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors.memory.store import MemoryStore
from connectors.models import RecordChange, RecordLink, Run
from connectors.sync import decisions
from connectors.sync.run import approve, describe, start_run, take
from tests.sync.hard_world import Crash, Hard
from tests.sync.test_undo import carry_on, contents, propose, undo

pytestmark = pytest.mark.django_db(transaction=True)


@contextmanager
def another_world() -> Iterator[Hard]:
    """A world that leaves nothing behind."""
    with transaction.atomic():
        yield Hard()
        transaction.set_rollback(True)


# Crashes


def history(world: Hard) -> Run:
    """A run with every kind of write: create, update on both sides, delete, inactive."""
    world.map("~archived", "~archived")
    ids = [world.left.create("person", {"name": f"N{n}", "city": "Bern", "email": f"{n}@b.example"}) for n in range(6)]
    world.settle()
    partner = {link.left_id: str(link.right_id) for link in RecordLink.objects.all()}
    world.left.put("person", ids[0], {"city": "Rome"})
    world.right.put("person", partner[ids[0]], {"email": "0@new.example"})
    world.left.put("person", ids[1], {"city": "Kyiv"})
    world.left.delete("person", ids[2])
    world.left.archive("person", ids[3], True)
    for name in ("Ada", "Grace", "Joan", "Mary"):
        world.left.create("person", {"name": name})
    return world.run()


def values(store: MemoryStore) -> list[object]:
    """What people see of a system, whatever the ids."""
    return sorted(map(str, contents(store).values()))


def points(world: Hard) -> list[str]:
    """Every point between two side effects that an approved undo comes to."""
    seen: list[str] = []
    proposed = propose(world, history(world))
    approve(proposed, world.clock.now())
    world.at_point = seen.append  # type: ignore[assignment]
    carry_on(world, proposed)
    world.at_point = None
    return seen


@pytest.mark.parametrize("then", ["the same run", "another run"])
def test_killed_anywhere_an_undo_goes_on_and_nothing_is_doubled(then: str) -> None:
    with another_world() as world:
        count = len(points(world))
        finished = values(world.left), values(world.right)
    assert count > 20
    for number in range(count):
        with another_world() as world:
            proposed = propose(world, history(world))
            approve(proposed, world.clock.now())
            kill(world, proposed, number)
            if then == "the same run":
                take(proposed)
                carry_on(world, proposed)
                assert (values(world.left), values(world.right)) == finished, f"killed at point {number}"
            else:
                world.run()  # what was not written is over; what was stays undone
            written = world.written
            world.settle()
            keys = [w.key for w in world.right.journal + world.left.journal]
            assert len(keys) == len(set(keys)), f"killed at point {number}: a write was doubled"
            assert world.written == written, f"killed at point {number}: the next run did it again"
            undone = RecordChange.objects.filter(run=proposed, status="written").values_list("link", flat=True)
            reasons = set(RecordLink.objects.filter(pk__in=undone).values_list("reason", flat=True))
            assert reasons <= {"undone"}, f"killed at point {number}: {reasons}"
            assert not RecordChange.objects.filter(open__isnull=False).exists()


def kill(world: Hard, run: Run, number: int) -> None:
    """Let a run die at its n-th point."""
    left = iter(range(number + 1))

    def die(name: str) -> None:
        if next(left) == number:
            raise Crash(name)

    world.at_point = die  # type: ignore[assignment]
    with pytest.raises(Crash):
        carry_on(world, run)
    world.at_point = None


@pytest.mark.parametrize("then", range(3))
def test_a_proposal_killed_anywhere_is_made_once(then: int) -> None:
    with another_world() as world:
        seen: list[str] = []
        run = history(world)
        world.at_point = seen.append  # type: ignore[assignment]
        proposals = set(RecordChange.objects.filter(run=propose(world, run)).values_list("link", "side", "verb"))
    for number in range(then, len(seen), 3):
        with another_world() as world:
            undo = start_run(world.scope, world.world, purpose="undo", undoes=history(world))
            kill(world, undo, number)
            take(undo)
            carry_on(world, undo)
            rows = list(RecordChange.objects.filter(run=undo).values_list("link", "side", "verb"))
            assert (len(rows), len(set(rows))) == (len(proposals), len(proposals)), f"killed at point {number}"


# Any history

ACTS = st.lists(
    st.tuples(
        st.sampled_from(["create", "edit", "edit", "edit", "delete", "archive"]),
        st.sampled_from(["left", "right"]),
        st.integers(0, 9),
        st.sampled_from(["city", "email", "name"]),
    ),
    max_size=14,
)


def play(world: Hard, acts: list[tuple[str, str, int, str]], mark: str) -> set[tuple[str, str]]:
    """Let people act.  Returns (side, id) of the records that they touched."""
    touched: set[tuple[str, str]] = set()
    for number, (act, side, which, name) in enumerate(acts):
        store = world.store(side)
        ids = store.ids("person")
        if act == "create" or not ids:
            touched.add((side, store.create("person", {"name": f"N{mark}{number}"})))
            continue
        record_id = ids[which % len(ids)]
        touched.add((side, record_id))
        if act == "edit":
            store.put("person", record_id, {name: f"{name[0]}{mark}{number}"})
        elif act == "delete":
            store.delete("person", record_id)
        else:
            store.archive("person", record_id, not store.tables["person"][record_id].archived)
    return touched


@settings(max_examples=60, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(first=ACTS, second=ACTS)
def test_any_run_undone_leaves_both_systems_as_before_it_and_stays_so_until_released(first, second) -> None:  # type: ignore[no-untyped-def]
    with another_world() as world:
        undo_of_any(world, first, second)


def undo_of_any(
    world: Hard, first: list[tuple[str, str, int, str]], second: list[tuple[str, str, int, str]]
) -> None:  # fmt: skip
    world.map("~archived", "~archived")
    play(world, first, "a")
    world.settle()
    play(world, second, "b")
    before = (values(world.left), values(world.right))
    run = world.run()
    if not RecordChange.objects.filter(run=run, status="written").exists():
        return
    done = undo(world, run)
    assert describe(done).endswith("undone"), describe(done)
    assert (values(world.left), values(world.right)) == before
    written = world.written
    world.run()
    world.run("comprehensive")
    assert world.written == written, "the next run did what was undone"
    for link in RecordLink.objects.filter(reason="undone"):
        decisions.release(link, now=world.clock.now())
    world.settle()
    assert not RecordLink.objects.filter(reason="undone").exists()


@settings(max_examples=40, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(first=ACTS, second=ACTS, third=ACTS)
def test_what_nobody_has_touched_since_is_as_before_and_what_somebody_has_touched_keeps_it(
    first, second, third
) -> None:  # type: ignore[no-untyped-def]
    with another_world() as world:
        world.map("~archived", "~archived")
        play(world, first, "a")
        world.settle()
        play(world, second, "b")
        before = {side: contents(world.store(side)) for side in ("left", "right")}
        run = world.run()
        if not RecordChange.objects.filter(run=run, status="written").exists():
            return
        after = {side: contents(world.store(side)) for side in ("left", "right")}
        touched = play(world, third, "c")
        there = {side: contents(world.store(side)) for side in ("left", "right")}
        proposed = propose(world, run)
        if proposed.phase == Run.Phase.PROPOSED:
            approve(proposed, world.clock.now(), accept_guard=True)
            carry_on(world, proposed)
        for side, records in there.items():
            now = contents(world.store(side))
            for record_id in records:
                if (side, record_id) not in touched:
                    assert now.get(record_id) == before[side].get(record_id), (side, record_id)
                elif records[record_id] != after[side].get(record_id):  # made inactive and active again is as it was
                    assert typed_by(world.store(side), record_id, "c"), (side, record_id)


def typed_by(store: MemoryStore, record_id: str, mark: str) -> bool:
    """Whether a record still holds every value that people typed into it at that time."""
    kept = store.tables["person"].get(record_id)
    if kept is None:
        return False
    typed: dict[str, object] = {}
    for _, held, by in kept.history:
        typed |= {n: v for n, v in held.items() if by == "user" and isinstance(v, str) and v[1:].startswith(mark)}
    return all(kept.values[name] == value for name, value in typed.items())
