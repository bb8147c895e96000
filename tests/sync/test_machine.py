"""RELIABILITY section 2: random histories against the real engine, on SQLite in memory.

`python -m tests.sync.long_run --seeds 10000` plays the same for hours.
"""

from __future__ import annotations

import random

import pytest
from django.db import transaction
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from tests.sync.machine import SETTINGS, History, play
from tests.sync.mutants import MUTANTS

STORED_SEEDS = (10, 11, 27, 59, 80, 122, 132, 150, 288, 330, 354, 1427, 1579)  # failed once: they run first for ever


@pytest.mark.django_db
@pytest.mark.parametrize("seed", STORED_SEEDS)
def test_a_history_that_failed_once_holds_every_invariant(seed: int) -> None:
    history = play(seed)
    assert history.trace


@pytest.mark.django_db
def test_the_same_seed_plays_the_same_history() -> None:
    with transaction.atomic():
        first = play(17).trace
        transaction.set_rollback(True)
    assert play(17).trace == first


class TwoWaySync(RuleBasedStateMachine):
    """People and runs in any order; hypothesis shrinks what fails."""

    def __init__(self) -> None:
        super().__init__()
        self.savepoint = transaction.savepoint()

    @initialize(
        seed=st.integers(0, 2**32),
        direction=st.sampled_from(["both", "both", "to_right", "to_left"]),
        policy=st.sampled_from(["last_updated", "left", "right", "ask"]),
        on_delete=st.sampled_from(["delete", "ask", "archive", "ignore"]),
        edit_v_delete=st.sampled_from(["ask", "edit", "delete"]),
        prevents=st.sampled_from([[], ["right.create"], ["left.update"], ["right.delete"]]),
    )
    def begin(self, seed: int, **sync: object) -> None:
        self.history = History(random.Random(seed), **sync)

    @rule(times=st.integers(1, 3))
    def people_act(self, times: int) -> None:
        for _ in range(times):
            self.history.user_acts()

    @rule()
    def both_sides_get_the_same_value(self) -> None:
        for left, right in self.history.partners():
            value = self.history.value(self.history.left, left, "city")
            self.history.shared.add(value)
            self.history.left.put("person", left, {"city": value})
            self.history.right.put("person", right, {"city": value})

    @rule(seconds=st.sampled_from([0, 1, 60, 7200]))
    def time_passes(self, seconds: int) -> None:
        self.history.clock.sleep(seconds)

    @rule(mode=st.sampled_from(["delta", "delta", "comprehensive"]))
    def sync(self, mode: str) -> None:
        self.history.sync_once(mode)
        self.history.judge()

    @rule(rate=st.sampled_from([0.02, 0.1, 0.3]), edits=st.sampled_from([0.0, 0.2]))
    def sync_while_calls_fail(self, rate: float, edits: float) -> None:
        self.history.faults, self.history.edits_in_mid_run = rate, edits
        self.history.sync_once()
        self.history.faults = self.history.edits_in_mid_run = 0.0
        self.history.judge()

    @rule(rate=st.sampled_from([0.02, 0.1]), edits=st.sampled_from([0.0, 0.2]))
    def sync_and_die(self, rate: float, edits: float) -> None:
        self.history.crashes, self.history.edits_in_mid_run = rate, edits
        self.history.sync_once()
        self.history.crashes = self.history.edits_in_mid_run = 0.0
        self.history.judge()

    @rule(change=st.sampled_from(SETTINGS))
    def settings_change(self, change: dict[str, object]) -> None:
        self.history.change_settings(**change)

    @rule()
    def the_cursor_expires(self) -> None:
        self.history.left.expire_cursors = True

    def teardown(self) -> None:
        try:
            if hasattr(self, "history"):
                self.history.settle_and_judge()
        finally:
            transaction.savepoint_rollback(self.savepoint)


@pytest.mark.django_db
def test_two_systems_agree_after_any_history() -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        TwoWaySync,
        settings=settings(
            max_examples=200, stateful_step_count=40, deadline=None, database=None, derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )  # fmt: skip


CAUGHT_BY = {
    "no key to settle by": 17,
    "no own base": 1,
    "unconditional writes": 6,
    "no tombstones": 7,
    "no base by field": 7,
    "cursor before its page": 23,
}


@pytest.mark.django_db
@pytest.mark.parametrize("mutant", MUTANTS)
def test_taking_a_design_rule_away_is_noticed(mutant: str) -> None:
    """`python -m tests.sync.long_run --mutant NAME` looks for such a seed among the first thousand."""
    with MUTANTS[mutant](), pytest.raises(AssertionError):
        play(CAUGHT_BY[mutant])


@pytest.mark.django_db
@pytest.mark.parametrize("seed", sorted(set(CAUGHT_BY.values())))
def test_the_seeds_that_notice_are_clean_without_a_mutant(seed: int) -> None:
    assert play(seed).trace
