"""What does a job wait for, in a word and a sentence?  For a whole page of jobs by a constant number of queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from connectors.models import Connection, Scope
from jobs import figures, pauses
from jobs.dispatch import UNUSABLE
from jobs.models import Job, Pause
from jobs.states import READY, StatusReason

S = StatusReason


@dataclass(frozen=True)
class Note:
    """Why a job stands where it does: no status of its own."""

    word: str  # ready, scheduled, snoozed, paused, blocked, stuck, set aside
    why: str


@dataclass(frozen=True)
class Held:
    """All that can hold jobs back, looked up once."""

    pauses: list[Pause]
    unusable: dict[int, Connection]
    running: dict[str, int]  # lock key -> the job that holds it
    ends: dict[int, tuple[int, int]]  # scope -> its connections


def notes(jobs: Sequence[Job], now: datetime) -> dict[int, Note]:
    """Return the notes of those jobs that have one."""
    held = _held(jobs, now)
    found = {job.pk: note_of(job, held, now) for job in jobs}
    return {pk: note for pk, note in found.items() if note is not None}


def _held(jobs: Sequence[Job], now: datetime) -> Held:
    scopes = {job.scope_id for job in jobs if job.status in READY and job.scope_id}
    keys = {job.lock_key for job in jobs if job.status in READY and job.lock_key}
    ends = Scope.objects.filter(pk__in=scopes).values_list("pk", "integration__left", "integration__right")
    return Held(
        pauses=pauses.active(now),
        unusable={c.pk: c for c in Connection.objects.filter(state__in=UNUSABLE)},
        running=dict(Job.objects.running().filter(lock_key__in=keys).values_list("lock_key", "pk")),
        ends={pk: (left, right) for pk, left, right in ends},
    )


def note_of(job: Job, held: Held, now: datetime) -> Note | None:
    """Say what one job waits for.  Reads nothing."""
    if job.status in (S.FAILED, S.CANCELLED) and job.aside_at is not None:
        return Note("set aside", f"{job.aside_by or 'Somebody'}: {job.aside_note}")
    if job.status is S.IN_PROGRESS:
        return _running(job, now)
    if job.status is S.DISPATCHED and job.lease_until is not None and job.lease_until < now:
        return Note("stuck", "It was handed out, and no worker took it. It is put back within a minute.")
    if job.status not in READY:
        return None
    return _paused(job, held) or _waits(job, held, now)


def _running(job: Job, now: datetime) -> Note | None:
    if job.cancel_requested:
        return Note("stopping", f"{job.cancel_by or 'Somebody'} asked it to stop; it does at its next safe point.")
    beat = figures.last_beat(job)
    if beat is None or job.lease_until is None or job.lease_until >= figures.least_lease(now):
        return None
    seconds = int((now - beat).total_seconds())
    return Note("stuck", f"No heartbeat of its worker for {seconds} s. It is taken over when its lease is over.")


def _paused(job: Job, held: Held) -> Note | None:
    ends = held.ends.get(job.scope_id or 0, ())
    for pause in held.pauses:
        if (
            pause.kind == Pause.Kind.HUB
            or (pause.kind == Pause.Kind.TYPE and pause.job_type == job.type)
            or pause.connection_id in ends
        ):
            by = f" by {pause.who}" if pause.who else ""
            return Note("paused", f"Held back{by} ({pause.what}): {pause.reason}")
    for pk in ends:
        if pk in held.unusable:
            connection = held.unusable[pk]
            return Note(
                "blocked", f"The connection {connection} can't be used: {connection.get_state_display().lower()}."
            )
    return None


def _waits(job: Job, held: Held, now: datetime) -> Note:
    if job.run_at > now:
        if job.status is S.RETRY:
            return Note("waits for its retry", f"The last try: {job.error_message}" if job.error_message else "")
        if job.not_before is not None:
            return Note("snoozed", "It could not be done yet and comes back by itself.")
        return Note("scheduled", "Its moment has not come.")
    holder = held.running.get(job.lock_key) if job.lock_key else None
    if holder is not None and holder != job.pk:
        return Note("blocked", f"Job {holder} of the same kind runs; this one begins when that is done.")
    return Note("ready", "It is due and waits for a free worker.")
