"""What becomes of jobs whose worker is lost?"""

from datetime import timedelta

import pytest

from jobs import clock, dispatch, operate, reaper, worker
from jobs.models import Job
from jobs.states import StatusReason

pytestmark = pytest.mark.django_db
S = StatusReason


def claimed(type="probe"):
    """A job whose worker has just died: claimed, and never heard of again."""
    job = dispatch.request(type)
    dispatch.take(job)
    worker.claim(job, job.dispatch_token)
    return job


def test_a_living_lease_is_left_alone(at, settings):
    job = claimed()
    at(timedelta(seconds=settings.JOB_LEASE_SECONDS))
    assert reaper.reap() == 0
    at(timedelta(seconds=1))
    assert reaper.reap() == 1
    job.refresh_from_db()
    assert job.status is S.RETRY


def test_the_attempt_of_a_lost_worker_counts(at):
    job = claimed()
    at(timedelta(hours=1))
    reaper.reap()
    job.refresh_from_db()
    assert (job.attempt, job.lost_leases) == (1, 1)
    assert job.transitions.last().reason.startswith("worker lost")


def test_the_third_lost_worker_in_a_row_parks_the_job(at):
    job = claimed()
    for _ in range(2):
        at(timedelta(hours=1))
        reaper.reap()
        job.refresh_from_db()
        at(timedelta(hours=4))
        dispatch.take(job)
        worker.claim(job, job.dispatch_token)
    at(timedelta(hours=1))
    reaper.reap()
    job.refresh_from_db()
    assert (job.status, job.attempt, job.lost_leases) == (S.FAILED, 3, 3)
    assert job.error_code == "worker lost"


def test_a_lost_worker_that_had_stored_progress_is_no_poison(at):
    job = claimed()
    for _ in range(5):
        Job.objects.filter(pk=job.pk).update(progress_stored=True)
        at(timedelta(hours=1))
        reaper.reap()
        job.refresh_from_db()
        assert (job.status, job.lost_leases, job.run_at) == (S.RETRY, 0, clock.now())
        dispatch.take(job)
        worker.claim(job, job.dispatch_token)
        assert not job.progress_stored


@pytest.mark.parametrize(("type", "reconcile"), [("probe", False), ("charge", True)])
def test_an_unsafe_job_is_told_to_reconcile(at, type, reconcile):
    job = claimed(type)
    at(timedelta(minutes=10))
    reaper.reap()
    job.refresh_from_db()
    assert job.reconcile is reconcile


def test_a_job_that_no_worker_took_goes_back_without_a_counted_try(at, settings):
    job = dispatch.request("probe")
    dispatch.take(job)
    token = job.dispatch_token
    at(timedelta(seconds=settings.JOB_UNCLAIMED_SECONDS + 1))
    reaper.reap()
    job.refresh_from_db()
    assert (job.status, job.attempt) == (S.WAITING, 0)
    worker.execute(job.pk, token)  # the broker found it after all
    job.refresh_from_db()
    assert job.status is S.WAITING


def test_a_wish_to_cancel_is_fulfilled_when_the_worker_is_lost(at):
    job = claimed()
    assert operate.cancel(job, by="ada", reason="stop it") is False
    at(timedelta(hours=1))
    reaper.reap()
    job.refresh_from_db()
    assert job.status is S.CANCELLED
    assert job.transitions.last().by == "ada"


def test_a_second_reaper_changes_nothing(at):
    job = claimed()
    at(timedelta(hours=1))
    stale = Job.objects.get(pk=job.pk)
    reaper.reap()
    with pytest.raises(reaper.IllegalTransition):
        reaper._take_over(stale)
    job.refresh_from_db()
    assert job.lost_leases == 1


def test_a_heartbeat_between_look_and_update_wins(at):
    job = claimed()
    at(timedelta(hours=1))
    Job.objects.filter(pk=job.pk).update(lease_until=clock.now() + timedelta(minutes=1))
    with pytest.raises(reaper.IllegalTransition):
        reaper._take_over(job)
