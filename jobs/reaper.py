"""Which jobs lost their worker, and what becomes of them?  Safe to run twice and on several hosts at once."""

from __future__ import annotations

import logging
import random
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db.models import Q

from jobs import clock, retries
from jobs.models import Job, WorkerHeartbeat
from jobs.states import Actor, IllegalTransition, StatusReason
from jobs.worker import handler_or_none

S = StatusReason
POISON_AFTER = 3  # lost leases in a row without progress (JOBS section 3)
AT_ONCE = 200  # the rest comes with the next pass
FORGET_WORKERS = timedelta(days=1)

rng = random.SystemRandom()
logger = logging.getLogger(__name__)


def reap() -> int:
    """Put back what was never claimed, and take over what lost its lease; return how many jobs were moved."""
    now = clock.now()
    moved = 0
    for job in Job.objects.filter(lease_until__isnull=False, lease_until__lt=now).order_by("lease_until")[:AT_ONCE]:
        try:
            if job.status is S.DISPATCHED:
                _put_back(job)
            else:
                _take_over(job)
            moved += 1
        except IllegalTransition as refusal:
            logger.debug("job %s: not reaped: %s", job.pk, refusal)
    WorkerHeartbeat.objects.filter(seen_at__lt=now - FORGET_WORKERS).delete()
    return moved


def _put_back(job: Job) -> None:
    """No worker took it (the broker lost it, or its worker died before the claim): the attempt does not count."""
    job.move_to(
        S.WAITING,
        actor=Actor.REAPER,
        reason=f"no worker took it within {settings.JOB_UNCLAIMED_SECONDS:g} s",
        when=Q(dispatch_token=job.dispatch_token, lease_until=job.lease_until),
        run_at=job.run_at,
    )


def _take_over(job: Job) -> None:
    now, handler = clock.now(), handler_or_none(job.type)
    # The lease that was read: a heartbeat in between wins.
    same = Q(lease_token=job.lease_token, lease_until=job.lease_until)
    reconcile = job.reconcile or (handler is not None and not handler.safe)
    lost = f"worker lost ({job.worker})"
    if job.progress_stored:
        reason = f"{lost}; progress was stored"
        job.move_to(
            S.RETRY, actor=Actor.REAPER, reason=reason, when=same, run_at=now, not_before=None, attempt=0,
            lost_leases=0, reconcile=reconcile,
        )  # fmt: skip
        _cancel_if_asked(job)
        return
    lost_leases = job.lost_leases + 1
    decision = retries.decide(
        attempt=job.attempt,
        retries=settings.JOB_RETRIES,
        delays=handler.delays if handler else retries.DEFAULT_DELAYS,
        retry_after=None,
        max_age_at=job.max_age_at,
        now=now,
        rng=rng,
    )
    error: dict[str, Any] = {
        "error_class": retries.ErrorClass.TRANSIENT.value,
        "error_code": "worker lost",
        "error_message": lost,
        "fingerprint": retries.fingerprint(job.type, retries.ErrorClass.TRANSIENT, "worker lost", ""),
        "lost_leases": lost_leases,
        "reconcile": reconcile,
    }
    if lost_leases >= POISON_AFTER or isinstance(decision, retries.GiveUp):
        job.move_to(S.FAILED, actor=Actor.REAPER, reason=f"{lost}, {lost_leases} times", when=same, **error)
        return
    job.move_to(S.RETRY, actor=Actor.REAPER, reason=lost, when=same, run_at=decision.run_at, not_before=None, **error)
    _cancel_if_asked(job)


def _cancel_if_asked(job: Job) -> None:
    """The worker that should have stopped at its next safe point is gone: what the operator asked for happens now."""
    if job.cancel_requested:
        job.move_to(S.CANCELLED, actor=Actor.OPERATOR, by=job.cancel_by, reason=job.cancel_reason)
