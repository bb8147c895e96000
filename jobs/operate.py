"""What may a person do with a job?  Cancel, retry, run now, run again: admin, API and commands call these."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import transaction

from jobs import clock, dispatch
from jobs.models import Job, JobTransition, name_of
from jobs.states import FINISHED, READY, Actor, IllegalTransition, Priority, StatusReason

if TYPE_CHECKING:
    from jobs.models import Person

S = StatusReason


def cancel(job: Job, *, by: Person, reason: str) -> bool:
    """Cancel a job.  True: it is cancelled.  False: it runs, and will stop at its next safe point.

    Raises IllegalTransition for a finished job, ValueError without a reason (JOBS section 3: reason required).
    """
    if not reason.strip():
        raise ValueError("Say why the job is cancelled.")
    for _ in range(10):  # its status may change between the look and the update
        job.refresh_from_db()
        if job.status in FINISHED:
            raise IllegalTransition(f"job {job.pk} is {job.status.label.lower()} already")
        asked: dict[str, Any] = {"cancel_requested": True, "cancel_by": name_of(by), "cancel_reason": reason[:500]}
        if job.status is S.IN_PROGRESS:
            if _ask_to_stop(job, asked, by, reason):
                return False
            continue
        try:
            job.move_to(S.CANCELLED, actor=Actor.OPERATOR, by=by, reason=reason, **asked)
        except IllegalTransition:
            continue
        return True
    raise IllegalTransition(f"job {job.pk} changes its status all the time; try again")


def _ask_to_stop(job: Job, asked: dict[str, Any], by: Person, reason: str) -> bool:
    rows = Job.objects.filter(pk=job.pk, status_reason=S.IN_PROGRESS, lease_token=job.lease_token)
    with transaction.atomic():
        if not rows.update(**asked):
            return False
        job.refresh_from_db()
        text = f"asked to stop: {reason}"
        JobTransition.write(job, S.IN_PROGRESS, Actor.OPERATOR, name_of(by), text, clock.now())
    return True


def retry(job: Job, *, by: Person, reason: str = "") -> None:
    """Begin anew with a failed or cancelled job: attempts at zero, one more round."""
    now = clock.now()
    handler_max_age = dispatch.handler_class(job.type).max_age
    job.move_to(
        S.WAITING,
        actor=Actor.OPERATOR,
        by=by,
        reason=reason or "retried",
        run_at=now,
        not_before=None,
        max_age_at=now + handler_max_age if handler_max_age else None,
        attempt=0,
        round=job.round + 1,
        lost_leases=0,
        slices=0,
        again=False,
        priority=Priority.PERSON,
        cancel_requested=False,
        cancel_by="",
        cancel_reason="",
        error_class="",
        error_code="",
        error_message="",
        fingerprint="",
    )
    transaction.on_commit(dispatch.attempt, robust=True)


def run_now(job: Job, *, by: Person, reason: str = "") -> None:
    """Bring a waiting job or a retry forward, but never before Retry-After.  A pause still holds it."""
    now = clock.now()
    if job.status not in READY:
        raise IllegalTransition(f"job {job.pk} is {job.status.label.lower()}: there is nothing to bring forward")
    run_at = max(now, job.not_before or now)
    rows = Job.objects.filter(pk=job.pk, status_reason=job.status, ready_at__isnull=False)
    with transaction.atomic():
        if not rows.update(run_at=run_at, ready_at=run_at, priority=Priority.PERSON):
            raise IllegalTransition(f"job {job.pk} is no longer {job.status.label.lower()}")
        job.refresh_from_db()
        JobTransition.write(job, job.status, Actor.OPERATOR, name_of(by), reason or "run now", now)
    transaction.on_commit(dispatch.attempt, robust=True)


def run_again(job: Job, *, by: Person = None, priority: Priority = Priority.PERSON) -> Job:
    """Make a new job like a finished one, linked to it."""
    if job.status not in FINISHED:
        raise IllegalTransition(f"job {job.pk} is {job.status.label.lower()}: it is not finished")
    return dispatch.request(
        job.type,
        params=job.params,
        lock_key=job.lock_key,
        dedupe_key=job.dedupe_key,
        priority=priority,
        by=by,
        scope=job.scope,
        parent=job.parent,
        object_ref=job.object_ref,
        repeat_of=job,
    )
