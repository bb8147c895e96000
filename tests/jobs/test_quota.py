"""Do retries wait while a system's quota runs short, and new changes not?"""

from __future__ import annotations

from datetime import timedelta

import pytest

from connectors.contract import Limit
from connectors.memory.connector import Memory
from connectors.models import Budget
from connectors.transport.budget import window
from jobs import clock, dispatch, operate, quota
from jobs.models import Job
from jobs.states import Priority, StatusReason
from tests.sync.worlds import TwoSystems

S = StatusReason
DAY = timedelta(days=1)


@pytest.fixture
def world(at, workers, monkeypatch):
    workers(4)
    monkeypatch.setattr(Memory, "limits", (Limit("request", 1000, DAY), Limit("burst", 10, timedelta(minutes=1))))
    return TwoSystems()


def job(world, status=S.RETRY, **columns):
    columns.setdefault("lock_key", f"lock {Job.objects.count()}")
    return Job.objects.create(
        type="sync", status_reason=status, scope=world.scope, run_at=clock.now(), ready_at=clock.now(),
        created_at=clock.now(), priority=columns.pop("priority", Priority.SCHEDULED), **columns,
    )  # fmt: skip


def used(world, count, limit="request", per=DAY):
    Budget.objects.update_or_create(
        connection=world.integration.left, limit=limit,
        defaults={"window_start": window(clock.now(), per), "used": count, "previous": 0},
    )  # fmt: skip


def given(job):
    dispatch.hand_out()
    job.refresh_from_db()
    return job.status is S.DISPATCHED


@pytest.mark.parametrize(("count", "waits"), [(0, False), (750, False), (751, True), (1000, True)])
def test_retries_stop_above_three_quarters_of_the_daily_quota(world, count, waits):
    used(world, count)
    assert given(job(world)) is not waits


def test_it_says_why_and_is_looked_at_again_in_an_hour(world, at):
    used(world, 900)
    waiting = job(world)
    assert not given(waiting)
    reason = waiting.transitions.latest("id").reason
    assert "left has used 90% of its quota 'request'" in reason and "new changes go first" in reason
    assert waiting.run_at == clock.now() + timedelta(hours=1)
    at(timedelta(minutes=59))
    assert not given(waiting) and waiting.transitions.count() == 1
    at(DAY)
    assert given(waiting)


def test_new_changes_go_on(world):
    used(world, 900)
    assert given(job(world, S.WAITING))


def test_a_person_who_runs_a_retry_now_does_not_wait(world):
    used(world, 900)
    waiting = job(world)
    assert not given(waiting)
    operate.run_now(waiting, by="Ada")
    assert given(waiting)


def test_a_limit_by_the_minute_stops_no_retry(world):
    used(world, 10, "burst", timedelta(minutes=1))
    assert given(job(world))


def test_the_quota_of_yesterday_counts_as_far_as_it_is_still_inside_a_day(world):
    yesterday = window(clock.now(), DAY) - DAY  # it is noon: half of it counts
    Budget.objects.create(connection=world.integration.left, limit="request", window_start=yesterday, used=1000)
    assert given(job(world))


def test_without_a_retry_nothing_more_is_asked(world, django_assert_num_queries):
    used(world, 900)
    waiting = job(world, S.WAITING)
    with django_assert_num_queries(0):
        assert quota.put_off([waiting], clock.now()) == set()
