"""Who may move a job from which status reason to which?"""

import itertools

import pytest
from django.db import IntegrityError, transaction

from jobs import clock
from jobs.models import Job, JobTransition
from jobs.states import READY, RUNNING, Actor, IllegalTransition, StatusReason

S, A = StatusReason, Actor
# JOBS section 3, written down a second time: each line is one row of its table.
LEGAL = {
    (S.WAITING, S.DISPATCHED, A.DISPATCHER),
    (S.WAITING, S.NOT_APPLICABLE, A.DISPATCHER),
    (S.WAITING, S.CANCELLED, A.OPERATOR),
    (S.RETRY, S.CANCELLED, A.OPERATOR),
    (S.DISPATCHED, S.IN_PROGRESS, A.WORKER),
    (S.DISPATCHED, S.WAITING, A.REAPER),
    (S.DISPATCHED, S.CANCELLED, A.OPERATOR),
    (S.IN_PROGRESS, S.SUCCEEDED, A.WORKER),
    (S.IN_PROGRESS, S.NOT_APPLICABLE, A.WORKER),
    (S.IN_PROGRESS, S.FAILED, A.WORKER),
    (S.IN_PROGRESS, S.RETRY, A.WORKER),
    (S.IN_PROGRESS, S.WAITING, A.WORKER),
    (S.IN_PROGRESS, S.CANCELLED, A.WORKER),
    (S.IN_PROGRESS, S.RETRY, A.REAPER),
    (S.IN_PROGRESS, S.FAILED, A.REAPER),
    (S.RETRY, S.DISPATCHED, A.DISPATCHER),
    (S.RETRY, S.FAILED, A.DISPATCHER),
    (S.FAILED, S.WAITING, A.OPERATOR),
    (S.CANCELLED, S.WAITING, A.OPERATOR),
}


def job_in(status):
    now = clock.now()
    return Job.objects.create(
        type="probe",
        status_reason=status,
        run_at=now,
        created_at=now,
        ready_at=now if status in READY else None,
        lease_until=now if status in RUNNING else None,
    )


@pytest.mark.parametrize("actor", A)
@pytest.mark.parametrize("new", S)
@pytest.mark.parametrize("old", S)
def test_only_the_table_decides_who_makes_which_move(db, old, new, actor):
    job = job_in(old)
    if (old, new, actor) in LEGAL:
        job.move_to(new, actor=actor, reason="because", lease_until=clock.now() if new in RUNNING else None)
    else:
        with pytest.raises(IllegalTransition):
            job.move_to(new, actor=actor)
        new = old
    job.refresh_from_db()
    assert job.status is new
    assert (job.ready_at is not None) == (new in READY)
    assert (job.lease_until is not None) == (new in RUNNING)


def test_each_of_the_eight_has_its_label():
    assert [s.label for s in S] == [
        "Waiting", "Dispatched", "In progress", "Retry", "Succeeded", "Failed", "Not applicable", "Cancelled",
    ]  # fmt: skip


def test_every_legal_move_starts_and_ends_at_one_of_the_eight():
    assert {pair for a, b, _ in LEGAL for pair in (a, b)} == set(S)


def test_a_move_writes_one_row_of_the_timeline(db):
    job = job_in(S.FAILED)
    job.move_to(S.WAITING, actor=A.OPERATOR, by="ada", reason="the vendor is back")
    [row] = JobTransition.objects.all()
    assert (row.from_status, row.to_status, row.actor, row.by, row.reason) == (
        "failed", "waiting", "operator", "ada", "the vendor is back",
    )  # fmt: skip


def test_a_refused_move_writes_nothing(db):
    job = job_in(S.SUCCEEDED)
    for new, actor in itertools.product(S, A):
        with pytest.raises(IllegalTransition):
            job.move_to(new, actor=actor)
    assert not JobTransition.objects.exists()


def test_a_job_that_moved_meanwhile_is_not_moved_again(db):
    job = job_in(S.WAITING)
    Job.objects.get(pk=job.pk).move_to(S.CANCELLED, actor=A.OPERATOR)
    with pytest.raises(IllegalTransition, match="no longer Waiting"):
        job.move_to(S.DISPATCHED, actor=A.DISPATCHER)


def test_the_database_refuses_a_ninth_status(db):
    job = job_in(S.WAITING)
    with pytest.raises(IntegrityError), transaction.atomic():
        Job.objects.filter(pk=job.pk).update(status_reason="ready")
