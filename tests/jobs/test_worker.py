"""How is a job claimed, run and settled?"""

import threading
from datetime import timedelta

import pytest
from django.db import OperationalError

from connectors.models import Connection
from jobs import clock, context, dispatch, operate, shutdown, tasks, worker
from jobs.models import Job
from jobs.states import StatusReason
from tests.jobs import handlers as probes
from tests.jobs.conftest import deliveries
from tests.jobs.test_dispatch import scope

pytestmark = pytest.mark.django_db
S = StatusReason


def asked(do, type="probe", **changes):
    params = changes.pop("params", {})
    return dispatch.request(type, params={"do": do, **params}, **changes)


def settled(job):
    job.refresh_from_db()
    return job.status


def test_a_job_goes_from_waiting_to_succeeded_and_its_timeline_says_so(work):
    job = asked("finish")
    assert work() == 1
    assert settled(job) is S.SUCCEEDED
    assert job.results == {"answer": 42}
    assert job.attempt == 1
    assert [t.to_status for t in job.transitions.order_by("id")] == [
        "waiting", "dispatched", "in progress", "succeeded",
    ]  # fmt: skip
    assert job.started_at and job.finished_at and not job.lease_token


def test_a_worker_that_finished_a_job_hands_out_the_next(workers, django_capture_on_commit_callbacks):
    workers(1)
    first, second = asked("finish"), asked("finish")
    with django_capture_on_commit_callbacks(execute=True):
        dispatch.hand_out()
    [(function, arguments)] = deliveries()
    assert function == dispatch.TASK
    with django_capture_on_commit_callbacks(execute=True):
        tasks.run(*arguments)
    assert [settled(first), settled(second)] == [S.SUCCEEDED, S.DISPATCHED]
    assert len(deliveries()) == 1


def test_nothing_is_raised_into_the_queue(caplog, monkeypatch):
    def away(*arguments):
        raise OperationalError("the database is away")

    monkeypatch.setattr(worker, "execute", away)
    tasks.run(1, "token")
    assert "could not be claimed" in caplog.text


def test_a_second_delivery_is_turned_away(workers, tmp_path, django_capture_on_commit_callbacks):
    workers(2)
    file = tmp_path / "log"
    job = asked("finish", params={"file": str(file)})
    with django_capture_on_commit_callbacks(execute=True):
        dispatch.hand_out()
    [(_, arguments)] = deliveries()
    worker.execute(*arguments)
    worker.execute(*arguments)
    assert len(file.read_text().splitlines()) == 1
    assert settled(job) is S.SUCCEEDED


def test_a_delivery_with_an_old_token_is_turned_away():
    job = asked("finish")
    dispatch.take(job)
    worker.execute(job.pk, "an older token")
    assert settled(job) is S.DISPATCHED


def test_a_delivery_of_a_cancelled_job_does_nothing():
    job = asked("finish")
    dispatch.take(job)
    token = job.dispatch_token
    operate.cancel(job, by="ada", reason="no")
    worker.execute(job.pk, token)
    assert settled(job) is S.CANCELLED


def test_the_attempt_is_counted_before_the_handler_runs(monkeypatch, work):
    seen = []
    monkeypatch.setattr(
        probes.Probe, "finish", lambda self, c: seen.append(Job.objects.get(pk=c.job_id).attempt) or probes.Finished()
    )
    asked("finish")
    work()
    assert seen == [1]


def test_not_applicable_keeps_its_reason(work):
    job = asked("not_applicable")
    work()
    assert settled(job) is S.NOT_APPLICABLE
    assert job.transitions.last().reason == "nothing to do"


def test_a_snoozed_job_waits_and_its_try_does_not_count(work, at):
    job = asked("snooze")
    work()
    assert settled(job) is S.WAITING
    assert (job.attempt, job.run_at) == (0, clock.now() + timedelta(minutes=10))
    assert work() == 0


def test_a_snoozed_job_fails_at_its_max_age(work, at):
    job = asked("snooze", type="charge")
    for _ in range(13):
        work()
        at(timedelta(minutes=10))
    assert settled(job) is S.FAILED
    assert "max age" in job.transitions.last().reason


# Failures


def test_five_retries_then_failed(work, at):
    job = asked("retryable")
    for attempt in range(1, 6):
        work()
        assert settled(job) is S.RETRY
        assert job.attempt == attempt
        at(timedelta(hours=4))
    work()
    assert settled(job) is S.FAILED
    assert job.attempt == 6
    assert (job.error_class, job.error_code) == ("transient", "503")
    assert job.fingerprint


def test_retry_after_is_kept(work, at):
    job = asked("retryable", params={"retry_after": 3600})
    work()
    assert settled(job) is S.RETRY
    assert job.run_at == job.not_before == clock.now() + timedelta(hours=1)


def test_a_retry_older_than_its_max_age_is_failed_by_the_dispatcher(work, at):
    job = asked("retryable", type="charge")
    work()
    assert settled(job) is S.RETRY
    at(timedelta(hours=3))
    assert work() == 0
    assert settled(job) is S.FAILED
    assert job.transitions.last().actor == "dispatcher"


@pytest.mark.parametrize(("type", "reconcile"), [("probe", False), ("charge", True)])
def test_an_unknown_outcome_of_an_unsafe_job_is_reconciled_first(work, type, reconcile):
    job = asked("unanswered", type=type)
    work()
    assert settled(job) is S.RETRY
    assert job.reconcile is reconcile


def test_a_business_error_is_final(work):
    job = asked("permanent")
    work()
    assert settled(job) is S.FAILED
    assert (job.error_class, job.error_code, job.attempt) == ("business", "610", 1)


@pytest.mark.parametrize(
    ("do", "code"), [("bug", "ZeroDivisionError"), ("leave", "SystemExit"), ("nonsense", "TypeError")]
)
def test_a_bug_fails_the_job_with_its_traceback_and_never_leaves_the_task(work, do, code):
    job = asked(do)
    work()
    assert settled(job) is S.FAILED
    assert (job.error_class, job.error_code) == ("bug", code)
    assert code in job.results["traceback"]


def test_an_auth_error_waits_for_the_reconnect_without_using_an_attempt(work):
    of = scope()
    job = asked("auth", scope=of)
    dispatch.take(job)
    Connection.objects.filter(pk=of.integration.left_id).update(state=Connection.State.NEEDS_RECONNECT)
    worker.execute(job.pk, job.dispatch_token)
    assert settled(job) is S.WAITING
    assert job.attempt == 0
    assert "needs reconnect" in job.transitions.last().reason
    assert work() == 0
    Connection.objects.filter(pk=of.integration.left_id).update(state=Connection.State.CONNECTED)
    assert work() == 1


def test_an_auth_error_without_a_marked_connection_fails(work):
    job = asked("auth")
    work()
    assert settled(job) is S.FAILED
    assert job.transitions.last().reason.startswith("needs reconnect: ")


# Slices, again, cancel


def test_a_slice_ends_in_waiting_with_its_attempts_reset(work, at):
    job = asked("one_more_slice", lock_key="l")
    Job.objects.filter(pk=job.pk).update(lost_leases=2)
    work()
    assert settled(job) is S.WAITING
    assert (job.slices, job.attempt, job.lost_leases, job.run_at) == (1, 0, 0, clock.now())


def test_after_a_slice_others_on_the_lock_get_their_turn(work, at):
    long, other = asked("one_more_slice", lock_key="l"), asked("finish", lock_key="l")
    at(timedelta(seconds=1))
    assert work() == 1
    assert work() == 1
    assert settled(other) is S.SUCCEEDED
    assert settled(long) is S.WAITING
    assert long.slices == 1


def test_a_slice_ends_when_its_time_is_over(work, settings):
    settings.JOB_SLICE_SECONDS = 0.2
    job = asked("slices")
    work()
    assert settled(job) is S.WAITING
    assert job.slices == 1


def test_a_slice_ends_when_the_worker_is_about_to_stop(work, monkeypatch):
    monkeypatch.setattr(shutdown, "stopping", threading.Event())
    timer = threading.Timer(1.0, shutdown.stopping.set)
    timer.start()
    job = asked("slices")
    work()
    assert settled(job) is S.WAITING
    assert work() == 1  # a worker that stops claims nothing: the job goes back
    assert settled(job) is S.WAITING
    assert job.slices == 1
    assert job.transitions.last().reason == "the worker is stopping"


def test_again_makes_exactly_one_more_job(work):
    job = asked("finish", dedupe_key="k", lock_key="l")
    Job.objects.filter(pk=job.pk).update(again=True)
    work()
    [new] = Job.objects.filter(repeat_of=job)
    assert (new.status, new.again, new.dedupe_key, new.lock_key) == (S.WAITING, False, "k", "l")
    work()
    assert settled(new) is S.SUCCEEDED
    assert Job.objects.count() == 2


def test_a_failed_job_leaves_its_again_to_the_next_schedule(work):
    job = asked("permanent", dedupe_key="k")
    Job.objects.filter(pk=job.pk).update(again=True)
    work()
    assert Job.objects.count() == 1


def cancel_when_it_runs(monkeypatch):
    """Let the operator's wish arrive in the middle of the handler."""
    inner = probes.Probe.run

    def run(self, c):
        operate.cancel(Job.objects.get(pk=c.job_id), by="ada", reason="wrong year")
        return inner(self, c)

    monkeypatch.setattr(probes.Probe, "run", run)


@pytest.mark.parametrize("do", ["sleep", "one_more_slice", "snooze", "retryable"])
def test_a_running_job_is_cancelled_at_its_next_safe_point(work, monkeypatch, do):
    cancel_when_it_runs(monkeypatch)
    job = asked(do, params={"seconds": 5})
    work()
    assert settled(job) is S.CANCELLED
    last = job.transitions.last()
    assert (last.actor, last.by, last.reason) == ("worker", "ada", "wrong year")


@pytest.mark.parametrize(("do", "end"), [("finish", S.SUCCEEDED), ("permanent", S.FAILED)])
def test_a_wish_to_cancel_that_comes_too_late_changes_nothing(work, monkeypatch, do, end):
    cancel_when_it_runs(monkeypatch)
    job = asked(do)
    work()
    assert settled(job) is end


# Lease


def test_a_worker_that_lost_its_lease_writes_nothing(work, monkeypatch):
    def steal(self, c):
        Job.objects.filter(pk=c.job_id).update(lease_token="somebody else's")
        return probes.Finished({"stale": True})

    monkeypatch.setattr(probes.Probe, "finish", steal)
    job = asked("finish")
    work()
    assert settled(job) is S.IN_PROGRESS
    assert job.results == {}


def test_a_lost_lease_is_seen_at_the_next_checkpoint(work, monkeypatch):
    reached = []

    def steal(self, c):
        Job.objects.filter(pk=c.job_id).update(lease_token="somebody else's")
        c.checkpoint()
        reached.append(True)

    monkeypatch.setattr(probes.Probe, "finish", steal)
    job = asked("finish")
    work()
    assert reached == []
    assert settled(job) is S.IN_PROGRESS


def test_a_checkpoint_looks_at_the_row_at_most_once_a_second(work, monkeypatch, django_assert_num_queries):
    def check(self, c):
        with django_assert_num_queries(1):
            for _ in range(1000):
                c.checkpoint()
        return probes.Finished()

    monkeypatch.setattr(probes.Probe, "finish", check)
    job = asked("finish")
    work()
    assert settled(job) is S.SUCCEEDED


def test_progress_is_written_seldom_but_its_first_and_last_always(work):
    job = asked("progress")
    work()
    settled(job)
    assert job.progress == {"done": 3, "total": 3, "text": "three"}
    assert context.PROGRESS_EVERY > 1


# In this process


def test_run_in_process_runs_all_slices_to_the_end(monkeypatch):
    def twice(self, c):
        return probes.Finished() if Job.objects.get(pk=c.job_id).slices == 2 else probes.Sliced()

    monkeypatch.setattr(probes.Probe, "finish", twice)
    job = worker.run_in_process(asked("finish"))
    assert (job.status, job.slices) == (S.SUCCEEDED, 2)
    assert [t.to_status for t in job.transitions.order_by("id")] == [
        "waiting", "dispatched", "in progress", "succeeded",
    ]  # fmt: skip


def test_run_in_process_is_refused_while_another_job_holds_the_lock():
    first, second = asked("finish", lock_key="l"), asked("finish", lock_key="l")
    dispatch.take(first)
    with pytest.raises(worker.JobBusy, match=f"Job {first.pk} .* holds the lock l; try again"):
        worker.run_in_process(second)
    assert settled(second) is S.WAITING


def test_run_in_process_is_refused_while_a_worker_has_the_job():
    job = asked("finish")
    dispatch.take(job)
    with pytest.raises(worker.JobBusy, match="is dispatched already"):
        worker.run_in_process(job)


def test_run_in_process_respects_retry_after(at):
    job = asked("finish")
    Job.objects.filter(pk=job.pk).update(not_before=clock.now() + timedelta(minutes=1))
    with pytest.raises(worker.JobBusy, match="must not run before"):
        worker.run_in_process(job)


def test_a_job_in_process_takes_no_worker_of_the_queue(workers):
    workers(1)
    job = asked("finish")
    dispatch.take(job, in_process=True)
    assert dispatch._free_workers(clock.now()) == (1, 1)


def test_the_keyboard_cancels_a_job_in_process(monkeypatch):
    def interrupted(self, c):
        raise KeyboardInterrupt

    monkeypatch.setattr(probes.Probe, "finish", interrupted)
    job = asked("finish")
    with pytest.raises(KeyboardInterrupt):
        worker.run_in_process(job)
    assert settled(job) is S.CANCELLED
    assert job.transitions.last().reason == "stopped at the keyboard"


def test_a_job_whose_end_could_not_be_written_is_tried_again(work, monkeypatch):
    def away(*arguments, **more):
        raise OperationalError("the database is away")

    monkeypatch.setattr(operate, "run_again", away)
    job = asked("finish", dedupe_key="k")
    Job.objects.filter(pk=job.pk).update(again=True)
    work()
    assert settled(job) is S.RETRY
    assert (job.error_class, job.again, job.results) == ("transient", True, {})
