"""Is a failed job tried again, and when?  Pure, with the random source of the jitter given from outside."""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from django.db import InterfaceError, OperationalError
from django_q.exceptions import TimeoutException

from connectors.contract import AuthError, ConnectorError, QuotaExhausted, RetryableError, Unanswered

# JOBS section 4: 4 h 21 min in all, crosses a usual vendor outage within a working day.
DEFAULT_DELAYS = tuple(timedelta(minutes=m) for m in (1, 5, 15, 60, 180))
JITTER = 0.1


class ErrorClass(StrEnum):
    """Errors by what is done about them (JOBS section 4)."""

    TRANSIENT = "transient"
    THROTTLED = "throttled"
    AUTH = "auth"
    BUSINESS = "business"
    UNKNOWN_OUTCOME = "unknown outcome"
    BUG = "bug"


REPEATED = frozenset({ErrorClass.TRANSIENT, ErrorClass.THROTTLED, ErrorClass.UNKNOWN_OUTCOME})


@dataclass(frozen=True, slots=True)
class TryAgain:
    """Try again at `run_at`; not even a person may bring it before `not_before`."""

    run_at: datetime
    not_before: datetime | None


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Do not try again."""

    reason: str


def classify(error: BaseException) -> ErrorClass:
    """Return what kind of trouble an exception is."""
    match error:
        case Unanswered():
            return ErrorClass.UNKNOWN_OUTCOME
        case QuotaExhausted():
            return ErrorClass.THROTTLED
        case RetryableError():
            return ErrorClass.TRANSIENT if error.retry_after is None else ErrorClass.THROTTLED
        case AuthError():
            return ErrorClass.AUTH
        case ConnectorError():
            return ErrorClass.BUSINESS
        # The database restarted or was locked, or the queue's time-out ended a call that hung.
        case OperationalError() | InterfaceError() | TimeoutException():
            return ErrorClass.TRANSIENT
    return ErrorClass.BUG


def decide(
    *,
    attempt: int,
    retries: int,
    delays: Sequence[timedelta],
    retry_after: float | None,
    max_age_at: datetime | None,
    now: datetime,
    rng: random.Random,
) -> TryAgain | GiveUp:
    """Decide what follows the failure of attempt number `attempt` (the first try is 1)."""
    if attempt > retries:
        return GiveUp(f"attempt {attempt} of {retries + 1} failed")
    delay = delays[min(attempt, len(delays)) - 1] * rng.uniform(1 - JITTER, 1 + JITTER)
    run_at, not_before = now + delay, None
    if retry_after is not None:
        not_before = now + timedelta(seconds=retry_after)
        run_at = max(run_at, not_before)
    if max_age_at is not None and run_at > max_age_at:
        return GiveUp("the next try would be later than the job's max age")
    return TryAgain(run_at, not_before)


def fingerprint(job_type: str, kind: ErrorClass, code: str, message: str) -> str:
    """Return the same text for failures that look alike: numbers, ids and quoted values do not count."""
    shape = re.sub(r"[0-9a-fA-F]{8}-[0-9a-fA-F-]{20,}|\d+|'[^']*'|\"[^\"]*\"", "#", message)
    return hashlib.sha256("|".join((job_type, kind, code, shape)).encode()).hexdigest()[:40]
