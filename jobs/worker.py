"""How is one dispatched job claimed, run and settled?  Whatever happens, nothing is raised into django-q2.

The claim is one conditional UPDATE that counts the attempt and is committed before any I/O, so that a job which kills
its worker is counted (JOBS section 2).  A heartbeat thread keeps the lease; a lost lease is seen at the next
checkpoint, and every later UPDATE of this worker finds no row.
"""

from __future__ import annotations

import logging
import os
import random
import socket
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import DatabaseError, close_old_connections, connection, transaction
from django.db.models import Q

from connectors.transport import redaction
from jobs import clock, dispatch, operate, retries, shutdown
from jobs.context import JobCancelled, JobContext, LeaseLost
from jobs.handlers import Answer, Finished, HandlerClass, NotApplicable, Sliced, Snoozed, handler_class
from jobs.models import Job, new_token
from jobs.retries import ErrorClass, GiveUp
from jobs.states import READY, RUNNING, SLICE, Actor, IllegalTransition, Priority, StatusReason

S = StatusReason
FOLLOW_EVERY = 0.5  # seconds between two looks at a job that a worker has taken
TRACEBACK_KEPT = 8000  # characters
rng = random.SystemRandom()
logger = logging.getLogger(__name__)


class JobBusy(Exception):
    """The job, or another with its lock, is being run by somebody else.  The text is for a person."""


def execute(job_id: int, token: str) -> None:
    """Run the job if this delivery is the one that was dispatched; a duplicate or a late one is turned away."""
    job = Job.objects.filter(pk=job_id, status_reason=S.DISPATCHED, dispatch_token=token).first()
    if job is None:
        logger.info("job %s: this delivery was overtaken", job_id)
        return
    try:
        if shutdown.stopping.is_set():
            job.move_to(S.WAITING, actor=Actor.REAPER, reason="the worker is stopping", when=Q(dispatch_token=token))
            return
        claim(job, token)
    except IllegalTransition as refusal:
        logger.info("job %s: not claimed: %s", job_id, refusal)
        return
    context = JobContext(job)
    with heartbeat(job, context):
        _run_slice(job, context)


def run_in_process(job: Job) -> Job:
    """Claim a waiting job in this very process and run it to its end, slice after slice (`manage.py sync`).

    Raises JobBusy, with a sentence, where a worker has it or another job holds its lock (DESIGN 9.8).  The job keeps
    its lease between slices: a person waits at the terminal, and a worker must not take it over in between.
    """
    job.refresh_from_db()
    _take_in_process(job)
    claim(job, job.dispatch_token)
    context = JobContext(job)
    with heartbeat(job, context):
        try:
            while _run_slice(job, context, keep_lease=True):
                context.begin_slice()
        except KeyboardInterrupt:
            _settle(job, context, S.CANCELLED, "stopped at the keyboard", cancel_requested=True)
            raise
    job.refresh_from_db()
    return job


def run_here(job: Job) -> Job:
    """Run a job in this process, or follow it to its end where a worker was quicker to take it.

    Raises JobBusy where it can't begin, because another job holds its lock.
    """
    try:
        return run_in_process(job)
    except JobBusy:
        job.refresh_from_db()
        if job.status in READY:
            raise
    while job.status in RUNNING:
        time.sleep(FOLLOW_EVERY)
        job.refresh_from_db()
    return job


def _take_in_process(job: Job) -> None:
    if job.status not in READY:
        where = f" on {job.worker}" if job.worker else ""
        raise JobBusy(f"Job {job.pk} ({job.type}) is {job.status.label.lower()}{where} already.")
    now = clock.now()
    if job.not_before is not None and job.not_before > now:
        raise JobBusy(f"Job {job.pk} ({job.type}) must not run before {job.not_before:%Y-%m-%d %H:%M:%S} UTC.")
    try:
        dispatch.take(job, in_process=True)
    except IllegalTransition as refusal:
        holder = Job.objects.running().filter(lock_key=job.lock_key).exclude(lock_key="").first()
        if holder is None:
            raise JobBusy(f"Job {job.pk} ({job.type}) was taken by a worker just now.") from refusal
        where = f" on {holder.worker}" if holder.worker else ""
        raise JobBusy(
            f"Job {holder.pk} ({holder.type}) is {holder.status.label.lower()}{where} and holds the lock "
            f"{job.lock_key}; try again when it is done."
        ) from refusal


def claim(job: Job, token: str) -> None:
    """Take the lease and count the attempt, in one committed UPDATE.  Raises IllegalTransition."""
    now, worker = clock.now(), f"{socket.gethostname()}:{os.getpid()}"
    job.move_to(
        S.IN_PROGRESS,
        actor=Actor.WORKER,
        by=worker,
        when=Q(dispatch_token=token),
        attempt=job.attempt + 1,  # nobody else changes it under this token
        lease_token=new_token(),
        lease_until=now + timedelta(seconds=settings.JOB_LEASE_SECONDS),
        claimed_at=now,
        started_at=job.started_at or now,
        wait_ms=_ms(now - job.run_at) if job.wait_ms is None else job.wait_ms,
        worker=worker,
        progress_stored=False,
    )


def _ms(length: timedelta) -> int:
    return max(0, round(length.total_seconds() * 1000))


@contextmanager
def heartbeat(job: Job, context: JobContext) -> Iterator[None]:
    """Keep the job's lease while the block runs, from a thread with its own database connection."""
    over = threading.Event()
    thread = threading.Thread(
        target=_beat, args=(job.pk, job.lease_token, context.lost, over), name=f"heartbeat-{job.pk}", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(timeout=5)


def _beat(job_id: int, token: str, lost: threading.Event, over: threading.Event) -> None:
    kept_until = time.monotonic() + settings.JOB_LEASE_SECONDS
    mine = Job.objects.filter(pk=job_id, lease_token=token, status_reason=S.IN_PROGRESS)
    try:
        while not over.wait(settings.JOB_HEARTBEAT_SECONDS) and not lost.is_set():
            started = time.monotonic()
            try:
                lease_until = clock.now() + timedelta(seconds=settings.JOB_LEASE_SECONDS)
                if not mine.update(lease_until=lease_until):
                    lost.set()
                else:
                    kept_until = started + settings.JOB_LEASE_SECONDS
            except DatabaseError:
                logger.exception("job %s: heartbeat failed", job_id)
                close_old_connections()
                if time.monotonic() > kept_until:
                    lost.set()
    finally:
        connection.close()


def _run_slice(job: Job, context: JobContext, *, keep_lease: bool = False) -> bool:
    """Run one slice and settle the job.  True: there is more to do and the lease was kept."""
    try:
        handler = handler_class(job.type)
        answer = handler().run(context)
        if keep_lease and isinstance(answer, Sliced) and _next_slice(job):
            return True
        _settle_answer(job, context, answer)
    except LeaseLost as loss:
        logger.warning("job %s: %s", job.pk, loss)
    except JobCancelled:
        _settle(job, context, S.CANCELLED, "")
    except (Exception, SystemExit) as error:
        # Everything else is settled: an exception that reached django-q2 would leave the job to its lease.  SystemExit
        # is what django-q2's time-out raises.
        _settle_error(job, context, error)
    return False


def _next_slice(job: Job) -> bool:
    mine = Job.objects.filter(pk=job.pk, lease_token=job.lease_token, cancel_requested=False)
    if not mine.update(slices=job.slices + 1, attempt=1, lost_leases=0):
        return False
    job.slices, job.attempt, job.lost_leases = job.slices + 1, 1, 0
    return True


def _settle_answer(job: Job, context: JobContext, answer: Answer) -> None:
    now = clock.now()
    match answer:
        case Finished(results=results):
            _settle(job, context, S.SUCCEEDED, "", results=dict(results), **_NO_ERROR)
        case NotApplicable(reason=reason):
            _settle(job, context, S.NOT_APPLICABLE, reason, **_NO_ERROR)
        case Snoozed(delay=delay, reason=reason):
            if job.max_age_at is not None and now + delay > job.max_age_at:
                _settle(job, context, S.FAILED, f"older than its max age: {reason}", error_message=reason)
                return
            run_at = now + delay
            _settle(job, context, S.WAITING, reason, run_at=run_at, not_before=run_at, attempt=job.attempt - 1)
        case Sliced():
            # The attempts start anew because progress was stored (DESIGN 9.1).
            changes: dict[str, Any] = {"run_at": now, "not_before": None, "attempt": 0, "lost_leases": 0, **_NO_ERROR}
            _settle(job, context, S.WAITING, SLICE, slices=job.slices + 1, **changes)
        case _:
            raise TypeError(f"the handler of {job.type} answered {type(answer).__name__}")


_NO_ERROR: dict[str, Any] = {"error_class": "", "error_code": "", "error_message": "", "fingerprint": ""}


def _settle_error(job: Job, context: JobContext, error: BaseException) -> None:
    kind = retries.classify(error)
    code = str(getattr(error, "code", "") or "") if kind is not ErrorClass.BUG else type(error).__name__
    message = redaction.text(str(error)) or type(error).__name__
    fields: dict[str, Any] = {
        "error_class": kind.value,
        "error_code": code[:100],
        "error_message": message[:1000],
        "fingerprint": retries.fingerprint(job.type, kind, code, message),
    }
    if kind is ErrorClass.BUG:
        # Not into the log line: the text may hold values.  The job's page shows it to those who may see the job.
        fields["results"] = {**job.results, "traceback": redaction.text(traceback.format_exc()[-TRACEBACK_KEPT:])}
        logger.error("job %s (%s): unexpected %s", job.pk, job.type, type(error).__name__)
    if kind is ErrorClass.AUTH:
        _settle_auth(job, context, message, fields)
    elif kind in retries.REPEATED:
        _settle_repeated(job, context, error, kind, fields)
    else:
        _settle(job, context, S.FAILED, message, **fields)


def _settle_auth(job: Job, context: JobContext, message: str, fields: dict[str, Any]) -> None:
    """The transport has marked the connection: wait for a person there, without using an attempt (JOBS section 4).

    The dispatcher hands out nothing for an unusable connection, so the job goes on by itself after the reconnect.
    Where no connection is known to be unusable nothing would hold the job back, and it would fail for ever: it ends
    Failed.
    """
    blocked = dispatch.blocking_connection(job)
    if blocked is None:
        _settle(job, context, S.FAILED, f"needs reconnect: {message}", **fields)
        return
    reason = f"waits for the connection {blocked.name}: {blocked.get_state_display().lower()}"
    _settle(job, context, S.WAITING, reason, run_at=clock.now(), attempt=job.attempt - 1, **fields)


def _settle_repeated(
    job: Job, context: JobContext, error: BaseException, kind: ErrorClass, fields: dict[str, Any]
) -> None:
    handler = handler_class(job.type)
    decision = retries.decide(
        attempt=job.attempt,
        retries=settings.JOB_RETRIES,
        delays=handler.delays,
        retry_after=getattr(error, "retry_after", None),
        max_age_at=job.max_age_at,
        now=clock.now(),
        rng=rng,
    )
    if isinstance(decision, GiveUp):
        _settle(job, context, S.FAILED, f"{decision.reason}: {fields['error_message']}", **fields)
        return
    if kind is ErrorClass.UNKNOWN_OUTCOME and not handler.safe:
        fields["reconcile"] = True
    reason = str(fields["error_message"])
    _settle(job, context, S.RETRY, reason, run_at=decision.run_at, not_before=decision.not_before, **fields)


def _settle(job: Job, context: JobContext, new: StatusReason, reason: str, **changes: Any) -> None:
    """End this claim.  A person's wish to cancel wins over going on later; nobody's lease but ours is touched."""
    if new in READY:
        seen = Job.objects.filter(pk=job.pk).values_list("cancel_requested", flat=True).first()
        if seen:
            new, changes = S.CANCELLED, {}
    by, mine = "", Q(lease_token=job.lease_token)
    if new is S.CANCELLED:
        job.cancel_reason, job.cancel_by = Job.objects.values_list("cancel_reason", "cancel_by").get(pk=job.pk)
        by, reason = job.cancel_by, job.cancel_reason or reason
    elif new in READY:
        mine &= Q(cancel_requested=False)
    if job.claimed_at is not None:
        changes["ran_ms"] = job.ran_ms + _ms(clock.now() - job.claimed_at)
    before = job.__dict__.copy()
    try:
        with transaction.atomic():
            job.move_to(new, actor=Actor.WORKER, by=by, reason=reason, when=mine, **changes)
            # Read after the UPDATE, in its transaction: a trigger that came in meanwhile is either seen here or finds
            # the job finished and makes a new one.
            if new in (S.SUCCEEDED, S.NOT_APPLICABLE) and Job.objects.filter(pk=job.pk, again=True).exists():
                operate.run_again(job, priority=Priority(job.priority))
    except Exception as error:
        # What was rolled back must not be believed: the row is still ours, or never was.
        job.__dict__.update(before)
        if not isinstance(error, IllegalTransition):
            raise
        if new in READY and Job.objects.filter(pk=job.pk, lease_token=job.lease_token, cancel_requested=True).exists():
            _settle(job, context, S.CANCELLED, "")
            return
        context.lost.set()
        logger.warning("job %s: could not be settled as %s: %s", job.pk, new.label, error)


def handler_or_none(job_type: str) -> HandlerClass | None:
    """Return the handler's class, or None where the type is no longer known."""
    try:
        return handler_class(job_type)
    except LookupError:
        return None
