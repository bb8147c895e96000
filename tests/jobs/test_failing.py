"""What becomes of an integration that keeps failing?"""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.conf import settings

from connectors.contract import AuthError, QuotaExhausted, RetryableError
from connectors.memory.connector import Memory
from connectors.models import Connection, Event, Scope
from connectors.sync.health import overview
from jobs import clock
from jobs.housekeeping import failing
from jobs.housekeeping.failing import Step, step
from jobs.housekeeping.tick import tick
from jobs.models import Failing, Job
from jobs.states import StatusReason
from jobs.syncing import NotNow, request_sync
from jobs.worker import run_in_process
from scheduling import services
from scheduling.models import Provisioning, Service
from scheduling.refusals import Refused
from tests.sync.worlds import TwoSystems

pytestmark = pytest.mark.django_db(transaction=True)
S = StatusReason
DAY = timedelta(days=1)


@pytest.fixture
def at(settings, tmp_path):
    settings.SYNCLINE_TEST_CLOCK = str(tmp_path / "clock")
    clock.set_test_clock("2026-03-01T12:00:00+00:00")

    def move(by):
        clock.set_test_clock((clock.now() + by).isoformat())

    return move


@pytest.fixture
def world(at, monkeypatch):
    """An integration over memory; `world.trouble` is raised at each read."""
    world = TwoSystems()
    world.trouble = None
    own = Memory.changes

    def changes(self, *args, **options):
        if world.trouble is not None:
            raise world.trouble
        return own(self, *args, **options)

    monkeypatch.setattr(Memory, "changes", changes)
    return world


def fail(world, times, error=None):
    """Let so many runs fail for good: each time the last of a job's tries."""
    world.trouble = error or RetryableError("no answer")
    for _ in range(times):
        job = request_sync(world.integration)
        Job.objects.filter(pk=job.pk).update(attempt=settings.JOB_RETRIES)
        run_in_process(job)


def syncs():
    """Return the jobs that sync; the housekeeping asks for others, too."""
    return Job.objects.filter(type="sync")


def codes():
    return list(Event.objects.filter(actor=failing.RULE).order_by("id").values_list("code", flat=True))


@pytest.mark.parametrize(
    ("failures", "days", "warned", "expected"),
    [
        (1, 0, False, Step.NOTHING),
        (4, 9, False, Step.NOTHING),  # two tries by hand a week apart are no row of failures
        (5, 0, False, Step.WARN),
        (6, 0, True, Step.NOTHING),
        (19, 3, True, Step.NOTHING),
        (20, 0, True, Step.PAUSE),
        (5, 4, True, Step.PAUSE),
    ],
)
def test_warned_at_five_and_paused_at_twenty_or_four_days(failures, days, warned, expected, at):
    now = clock.now()
    assert step(failures, now - days * DAY, now, warned=warned) is expected


def test_the_fifth_failure_in_a_row_is_told_once(world):
    fail(world, 4)
    assert codes() == []
    fail(world, 3)
    assert codes() == ["failing"]
    assert Scope.objects.get().enabled


def test_the_twentieth_pauses_it_with_a_reason_that_everybody_reads(world):
    fail(world, 20)
    scope, row = Scope.objects.get(), Failing.objects.get()
    assert codes() == ["failing", "paused by rule"]
    assert (
        not scope.enabled and "20 failures in a row" in scope.disabled_reason and "no answer" in scope.disabled_reason
    )
    assert (row.paused_by, row.probe_at - row.paused_at) == ("paused by rule", DAY)


def test_a_failure_that_a_later_try_may_get_over_is_told_but_not_counted(world):
    world.trouble = RetryableError("no answer")
    job = run_in_process(request_sync(world.integration))
    assert job.status is S.RETRY
    assert (Scope.objects.get().failures, Scope.objects.get().last_error) == (0, "no answer")
    assert overview([world.integration])[0].state == "Attention"
    for _ in range(settings.JOB_RETRIES):
        Job.objects.filter(pk=job.pk).update(not_before=None)
        job = run_in_process(job)
    assert job.status is S.FAILED
    assert Scope.objects.get().failures == 1
    assert overview([world.integration])[0].state == "Failing"


def test_what_waits_for_its_retry_is_not_tried_again_while_it_is_paused(world):
    fail(world, 19)
    waiting = run_in_process(request_sync(world.integration))
    assert waiting.status is S.RETRY
    failing.failed(Scope.objects.get(), "no answer", now=clock.now())
    job = run_in_process(waiting)
    assert job.status is S.NOT_APPLICABLE
    assert "Paused by rule" in job.transitions.order_by("id").last().reason


def test_syncs_and_services_are_refused_with_the_reason(world):
    fail(world, 20)
    with pytest.raises(NotNow, match="Paused by rule on 2026-03-01 12:00 UTC after 20 failures"):
        request_sync(world.integration)
    service = Service.objects.create(integration=world.integration, name="People", enabled=True)
    Provisioning.objects.create(integration=world.integration, status="approved", requested_at=clock.now())
    with pytest.raises(Refused, match="Paused by rule"):
        services.run_now(service, by="Ada")


def test_one_probe_a_day_and_its_failure_is_told(world, at):
    fail(world, 20)
    Job.objects.all().delete()
    tick()
    assert not syncs().exists()
    at(DAY)
    for _ in range(3):
        tick()
    job = run_in_process(syncs().get())
    assert job.status is S.FAILED  # no retries: the next try is tomorrow's
    assert codes()[-1] == "probe failed"
    tick()
    assert syncs().count() == 1
    at(DAY)
    tick()
    assert syncs().count() == 2


def test_a_probe_that_succeeds_resumes_it(world, at):
    fail(world, 20)
    Job.objects.all().delete()
    world.trouble = None
    at(DAY)
    tick()
    assert run_in_process(syncs().get()).status is S.SUCCEEDED
    scope = Scope.objects.get()
    assert (scope.enabled, scope.disabled_reason, scope.failures) == (True, "", 0)
    assert codes()[-1] == "resumed" and not Failing.objects.exists()
    assert run_in_process(request_sync(world.integration)).status is S.SUCCEEDED


def test_a_probe_waits_while_the_integration_is_switched_off(world, at):
    fail(world, 20)
    Job.objects.all().delete()
    type(world.integration).objects.update(enabled=False)
    at(2 * DAY)
    tick()
    assert not syncs().exists()


def test_a_person_resumes_it_and_the_count_begins_anew(world):
    fail(world, 20)
    failing.resume(Scope.objects.get(), by="Ada")
    assert Event.objects.get(code="resumed").actor == "Ada"
    Job.objects.all().delete()
    fail(world, 4)
    assert Scope.objects.get().enabled and Scope.objects.get().failures == 4
    with pytest.raises(NotNow, match="is not paused"):
        failing.resume(Scope.objects.get(), by="Ada")


def test_a_success_in_between_begins_a_new_row(world, at):
    fail(world, 5)
    world.trouble = None
    Job.objects.all().delete()
    run_in_process(request_sync(world.integration))
    at(5 * DAY)
    fail(world, 5)  # the first of these is no more than a moment ago
    assert codes() == ["failing", "recovered", "failing"]
    assert Scope.objects.get().enabled


def test_recovery_is_told_by_the_next_tick(world):
    fail(world, 5)
    world.trouble = None
    Job.objects.all().delete()
    run_in_process(request_sync(world.integration))
    tick()
    tick()
    assert codes() == ["failing", "recovered"] and not Failing.objects.exists()


def test_a_refused_login_is_the_connections_trouble_and_not_counted_too(world):
    Connection.objects.filter(name="left").update(state=Connection.State.NEEDS_RECONNECT)
    fail(world, 1, AuthError("token revoked"))
    scope = Scope.objects.get()
    assert (scope.failures, scope.last_error) == (0, "token revoked")
    assert not Failing.objects.exists()


def test_a_used_up_quota_is_not_counted(world):
    fail(world, 3, QuotaExhausted("the budget is used up", retry_after=60))
    assert Scope.objects.get().failures == 0


def test_a_bug_counts_as_a_failure(world):
    fail(world, 5, ZeroDivisionError("secret value"))
    assert codes() == ["failing"]
    assert "secret value" not in Event.objects.get(code="failing").message
