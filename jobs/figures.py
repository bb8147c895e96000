"""How do jobs fare: how long do they wait and run, what fails, and what stands still?  For pages, the API and Prometheus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from math import ceil
from typing import Any

from django.conf import settings
from django.db.models import Count, Max, Min, Q

from jobs.models import Job, JobQuerySet, WorkerHeartbeat
from jobs.states import StatusReason

S = StatusReason
DAY = timedelta(hours=24)
MOST_COUNTED = 10_000
BEATS_MISSED = 3  # in a row: then nobody seems to be there any more
MOST_ERRORS = 100


@dataclass(frozen=True)
class TypeFigures:
    """How the jobs of one type fared that ended within a day; times in seconds."""

    type: str
    finished: int
    failed: int
    tried_again: int  # that needed more than one try
    wait_p50: float | None
    wait_p95: float | None
    run_p50: float | None
    run_p95: float | None


@dataclass(frozen=True)
class Failures:
    """How many jobs of a type failed within a day for one error."""

    type: str
    error_class: str
    error_code: str
    count: int


@dataclass(frozen=True)
class Figures:
    """What there is to say of all jobs."""

    since: datetime
    oldest_due_seconds: float | None  # how long the oldest due job has waited for a worker
    workers: int
    busy: int
    stuck: int
    capped: bool  # more jobs ended within the day than are looked at: these are the newest
    types: list[TypeFigures] = field(default_factory=list)
    failures: list[Failures] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """As the API and `--json` tell it."""
        return asdict(self)


def oldest_due_job(now: datetime) -> datetime | None:
    """When the job became due that has waited longest, save for those that wait for another one under the same lock."""
    held = Job.objects.running().exclude(lock_key="").values("lock_key")
    due = Job.objects.filter(ready_at__isnull=False, ready_at__lte=now).exclude(lock_key__in=held)
    return due.order_by("ready_at").values_list("ready_at", flat=True).first()


def silent(now: datetime) -> Q:
    """Say which running jobs gave no sign of life for three beats, or were handed out and taken by nobody."""
    beating = Q(status_reason=S.IN_PROGRESS, lease_until__lt=least_lease(now))
    return beating | Q(status_reason=S.DISPATCHED, lease_until__lt=now)


def least_lease(now: datetime) -> datetime:
    """Return until when the lease of a job in progress lasts at least whose worker beats."""
    return now + timedelta(seconds=settings.JOB_LEASE_SECONDS - BEATS_MISSED * settings.JOB_HEARTBEAT_SECONDS)


def stuck(rows: JobQuerySet, now: datetime) -> JobQuerySet:
    """Narrow to running jobs whose worker is silent; the reaper takes them over when their lease is over."""
    return rows.filter(lease_until__isnull=False).filter(silent(now))


def last_beat(job: Job) -> datetime | None:
    """Return when the job's worker last told that it lives."""
    if job.status is not S.IN_PROGRESS or job.lease_until is None:
        return None
    return job.lease_until - timedelta(seconds=settings.JOB_LEASE_SECONDS)


def figures(now: datetime) -> Figures:
    """Look at the jobs that ended within a day, the newest 10,000 of them: by index, by a constant number of queries."""
    since = now - DAY
    ended = Job.objects.filter(finished_at__isnull=False, finished_at__gt=since).order_by("-finished_at")
    columns = ("type", "status_reason", "attempt", "wait_ms", "ran_ms", "error_class", "error_code")
    rows = list(ended.values_list(*columns)[: MOST_COUNTED + 1])
    oldest = oldest_due_job(now)
    beats = WorkerHeartbeat.objects.alive(now).values_list("workers", "busy")
    return Figures(
        since=since,
        oldest_due_seconds=(now - oldest).total_seconds() if oldest else None,
        workers=sum(workers for workers, _ in beats),
        busy=max((busy for _, busy in beats), default=0),
        stuck=stuck(Job.objects.all(), now).count(),
        capped=len(rows) > MOST_COUNTED,
        types=[_of_type(name, rows) for name in sorted({row[0] for row in rows})],
        failures=_failures(rows),
    )


def _of_type(name: str, rows: Sequence[tuple[Any, ...]]) -> TypeFigures:
    mine = [row for row in rows if row[0] == name]
    begun = [row for row in mine if row[3] is not None]  # what was cancelled before it began has no times
    waits, runs = sorted(row[3] for row in begun), sorted(row[4] for row in begun)
    return TypeFigures(
        type=name,
        finished=len(mine),
        failed=sum(row[1] == S.FAILED for row in mine),
        tried_again=sum(row[2] > 1 for row in mine),
        wait_p50=percentile(waits, 50),
        wait_p95=percentile(waits, 95),
        run_p50=percentile(runs, 50),
        run_p95=percentile(runs, 95),
    )


def _failures(rows: Sequence[tuple[Any, ...]]) -> list[Failures]:
    counted = Counter((row[0], row[5], row[6]) for row in rows if row[1] == S.FAILED)
    return [Failures(*key, count) for key, count in counted.most_common()]


def percentile(ordered: Sequence[int], share: int) -> float | None:
    """Return in seconds the value below which `share` per cent of the milliseconds lie (nearest rank)."""
    if not ordered:
        return None
    return round(ordered[max(0, ceil(len(ordered) * share / 100) - 1)] / 1000, 3)


@dataclass(frozen=True)
class ErrorGroup:
    """Failed jobs that look alike."""

    fingerprint: str
    type: str
    error_class: str
    error_code: str
    message: str  # of the newest
    count: int
    aside: int  # of them, set aside by a person
    first_seen: datetime | None
    last_seen: datetime | None
    newest: int  # job


def by_error(rows: JobQuerySet | None = None) -> list[ErrorGroup]:
    """Group the newest 10,000 failed jobs by what went wrong, the largest group first."""
    failed = (Job.objects.all() if rows is None else rows).filter(status_reason=S.FAILED).exclude(fingerprint="")
    newest = Job.objects.filter(pk__in=failed.order_by("-id").values("pk")[:MOST_COUNTED])
    found = newest.values("fingerprint").annotate(
        count=Count("id"), aside=Count("aside_at"), first=Min("finished_at"), last=Max("finished_at"), newest=Max("id")
    )
    lines = list(found.order_by("-count", "-newest")[:MOST_ERRORS])
    columns = ("type", "error_class", "error_code", "error_message")
    last = Job.objects.only(*columns).in_bulk([line["newest"] for line in lines])
    groups: list[ErrorGroup] = []
    for line in lines:
        job = last.get(line["newest"])
        if job is None:
            continue  # it was purged at this moment
        groups.append(
            ErrorGroup(
                line["fingerprint"], job.type, job.error_class, job.error_code, job.error_message, line["count"],
                line["aside"], line["first"], line["last"], job.pk,
            )
        )  # fmt: skip
    return groups
