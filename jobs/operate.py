"""What may a person do with a job?  Cancel, retry, run now or later, run again, set aside: admin, API and commands call these."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import QuerySet

from jobs import clock, dispatch
from jobs.models import Job, JobTransition, name_of
from jobs.states import FINISHED, READY, Actor, IllegalTransition, Priority, StatusReason

if TYPE_CHECKING:
    from jobs.models import Person

S = StatusReason
LATEST = timedelta(days=366)
NOT_ASIDE: dict[str, Any] = {"aside_at": None, "aside_by": "", "aside_note": ""}


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
    columns = anew(job.type, clock.now())
    job.move_to(S.WAITING, actor=Actor.OPERATOR, by=by, reason=reason or "retried", round=job.round + 1, **columns)
    transaction.on_commit(dispatch.attempt, robust=True)


def anew(job_type: str, now: datetime) -> dict[str, Any]:
    """Return the columns of a job of this type that begins anew.  Raises UnknownType."""
    max_age = dispatch.handler_class(job_type).max_age
    return {
        "run_at": now, "not_before": None, "max_age_at": now + max_age if max_age else None, "attempt": 0, "lost_leases": 0,
        "slices": 0, "again": False, "priority": Priority.PERSON, "cancel_requested": False, "cancel_by": "",
        "cancel_reason": "", "error_class": "", "error_code": "", "error_message": "", "fingerprint": "", **NOT_ASIDE,
    }  # fmt: skip


def run_now(job: Job, *, by: Person, reason: str = "") -> None:
    """Bring a waiting job or a retry forward, but never before Retry-After.  A pause still holds it."""
    now = clock.now()
    if job.status not in READY:
        raise IllegalTransition(f"job {job.pk} is {job.status.label.lower()}: there is nothing to bring forward")
    run_at = max(now, job.not_before or now)
    _due(job, {"run_at": run_at, "ready_at": run_at, "priority": Priority.PERSON}, by, reason or "run now")
    transaction.on_commit(dispatch.attempt, robust=True)


def reschedule(job: Job, run_at: datetime, *, by: Person, reason: str = "") -> None:
    """Let a waiting job or a retry become due at another moment.

    Raises IllegalTransition where it does not wait, ValidationError with a sentence for `run_at` where that can't be.
    """
    if job.status not in READY:
        raise IllegalTransition(f"job {job.pk} is {job.status.label.lower()}: it waits for no moment")
    check_moment(run_at, clock.now())
    if job.not_before is not None and run_at < job.not_before:
        when = f"{job.not_before:%Y-%m-%d %H:%M:%S} UTC"
        raise ValidationError({"run_at": f"The other system asked not to be called again before {when}."})
    if job.status is S.RETRY and job.max_age_at is not None and run_at > job.max_age_at:
        when = f"{job.max_age_at:%Y-%m-%d %H:%M:%S} UTC"
        raise ValidationError({"run_at": f"After {when} the job is too old to be tried again."})
    told = f"rescheduled from {job.run_at:%Y-%m-%d %H:%M:%S} to {run_at:%Y-%m-%d %H:%M:%S} UTC"
    _due(job, {"run_at": run_at, "ready_at": run_at}, by, f"{told}: {reason}" if reason else told)


def check_moment(run_at: datetime, now: datetime) -> None:
    """Raise ValidationError where no job can be put off to this moment."""
    if run_at <= now:
        raise ValidationError({"run_at": "That moment is past. Choose a later one, or press Run now."})
    if run_at > now + LATEST:
        raise ValidationError({"run_at": "At most a year ahead."})


def _due(job: Job, columns: dict[str, Any], by: Person, reason: str) -> None:
    rows = Job.objects.filter(pk=job.pk, status_reason=job.status, run_at=job.run_at, ready_at__isnull=False)
    with transaction.atomic():
        if not rows.update(**columns):
            raise IllegalTransition(f"job {job.pk} is no longer {job.status.label.lower()}, or due at another moment")
        job.refresh_from_db()
        JobTransition.write(job, job.status, Actor.OPERATOR, name_of(by), reason, clock.now())


def set_aside(job: Job, *, by: Person, note: str) -> None:
    """Stop trying, but keep it: a job in Retry is cancelled, a failed one no longer counts as a problem.

    It is not purged, and no bulk retry takes it.  Raises ValidationError without a note, IllegalTransition.
    """
    if not note.strip():
        raise ValidationError({"note": "Say why, for whoever finds it later."})
    now = clock.now()
    columns: dict[str, Any] = {"aside_at": now, "aside_by": name_of(by), "aside_note": note.strip()[:500]}
    if job.status is S.RETRY:
        asked = {"cancel_requested": True, "cancel_by": name_of(by), "cancel_reason": columns["aside_note"]}
        job.move_to(S.CANCELLED, actor=Actor.OPERATOR, by=by, reason=f"set aside: {note.strip()}", **columns, **asked)
        return
    _mark_failed(job, columns, Job.objects.filter(aside_at=None), by, f"set aside: {note.strip()}", now)


def take_up(job: Job, *, by: Person) -> None:
    """Take back that a job was set aside.  Raises IllegalTransition."""
    _mark_failed(job, NOT_ASIDE, Job.objects.filter(aside_at__isnull=False), by, "no longer set aside", clock.now())


def _mark_failed(
    job: Job, columns: dict[str, Any], rows: QuerySet[Job], by: Person, reason: str, now: datetime
) -> None:
    with transaction.atomic():
        at = (S.FAILED, S.CANCELLED) if columns is NOT_ASIDE else (S.FAILED,)
        if not rows.filter(pk=job.pk, status_reason__in=at).update(**columns):
            job.refresh_from_db()
            aside = " and set aside" if job.aside_at else ""
            raise IllegalTransition(f"job {job.pk} is {job.status.label.lower()}{aside}")
        job.refresh_from_db()
        JobTransition.write(job, job.status, Actor.OPERATOR, name_of(by), reason, now)


def run_again(job: Job, *, by: Person = None, priority: Priority = Priority.PERSON) -> Job:
    """Make a new job like a finished one, linked to it; one that is there already and not finished serves, too."""
    if job.status not in FINISHED:
        raise IllegalTransition(f"job {job.pk} is {job.status.label.lower()}: it is not finished")
    with transaction.atomic():
        Job.objects.select_for_update().get(pk=job.pk)  # two clicks at the same moment make one job
        there = Job.objects.open().filter(repeat_of=job).first()
        return there or dispatch.request(
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
