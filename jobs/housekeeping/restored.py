"""What must be done after the database was restored from a backup?  The systems have moved on, and the hub forgot it.

What the hub created since the backup is found by marker or look-up before anything is created: the next run reads everything.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from django.db import transaction
from django.db.models import F

from connectors.models import ConcurrencySlot, Connection, Cursor, Event, Integration, RecordChange, Run, Scope
from jobs.models import Job, WorkerHeartbeat

WANTED = "the database was restored"
ENDED = "The database was restored from a backup; the next run reads everything."
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# A worker that still lives by the lost rows has a fence that is higher than the restored one.
FENCE_STEP = 1_000


@dataclass(frozen=True)
class Done:
    """What was marked."""

    cursors: int
    scopes: int
    runs: int
    jobs: int


def living_workers(now: datetime) -> list[WorkerHeartbeat]:
    """Return the workers that may be alive: seen within three beats."""
    return list(WorkerHeartbeat.objects.alive(now))


def mark(now: datetime, *, by: str) -> Done:
    """Let the next run of every scope read everything, and end what was under way when the backup was made."""
    with transaction.atomic():
        cursors = Cursor.objects.update(
            value="", phase=Cursor.Phase.LISTING, seen=b"", run_id=None, complete_at=None, gap=""
        )
        scopes = Scope.objects.update(full_wanted=WANTED, fence=F("fence") + FENCE_STEP)
        runs = _end_runs(now)
        # The reaper takes over what has no lease: a job that is not safe to repeat first looks at what became of it.
        jobs = Job.objects.running().update(lease_until=EPOCH)
        Connection.objects.update(refresh_lease="", refresh_until=None)
        ConcurrencySlot.objects.update(until=EPOCH)
        Event.objects.bulk_create(
            Event(
                integration=integration, level=Event.Level.WARNING, code="restored", actor=by, at=now,
                message=f"{ENDED} What was created since then is found, not created again.",
            )
            for integration in Integration.objects.all()
        )  # fmt: skip
    return Done(cursors, scopes, runs, jobs)


def _end_runs(now: datetime) -> int:
    """A run or a preview that goes on would write what may have been written since the backup."""
    previews = Run.objects.filter(phase=Run.Phase.PROPOSED)
    RecordChange.objects.filter(run__in=previews, status="proposed").update(status="superseded", message=ENDED)
    ended = previews.update(phase=Run.Phase.FAILED, error=ENDED)
    unfinished = Run.objects.filter(finished_at__isnull=True)
    return ended + unfinished.update(phase=Run.Phase.FAILED, finished_at=now, error=ENDED)
