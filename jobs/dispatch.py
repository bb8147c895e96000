"""How does a job come into being, and which job goes to a worker next?

Any process may call `hand_out`: the supervisor's loop does each second, a web process once after a person's request, a
worker after each job.
The conditional UPDATE in `Job.move_to` keeps two of them from handing out the same job.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser, User
from django.db import IntegrityError, transaction
from django.db.models import Count, Q, QuerySet
from django_q.tasks import async_task

from connectors.models import Connection, Run, Scope
from jobs import clock, quota
from jobs.handlers import handler_class
from jobs.models import Job, JobQuerySet, JobTransition, Pause, WorkerHeartbeat, name_of, new_token
from jobs.states import Actor, IllegalTransition, Priority, StatusReason

if TYPE_CHECKING:
    from jobs.models import Person

S = StatusReason
TASK = "jobs.tasks.run"
# Connections in these states can't be used: jobs wait until a person has put it right.
UNUSABLE = (Connection.State.NEEDS_RECONNECT, Connection.State.WRONG_INSTANCE, Connection.State.PAUSED)
# More candidates than workers are read, since some share a lock key.
CANDIDATES = 50

logger = logging.getLogger(__name__)


def request(
    type: str,
    *,
    params: Mapping[str, object] | None = None,
    lock_key: str = "",
    dedupe_key: str = "",
    priority: Priority = Priority.SCHEDULED,
    run_at: datetime | None = None,
    by: Person = None,
    scope: Scope | None = None,
    run: Run | None = None,
    parent: Job | None = None,
    object_ref: str = "",
    repeat_of: Job | None = None,
    here: bool = False,
) -> Job:
    """Ask for a job in the caller's transaction; it is handed out after the commit, but for one to be run `here`.

    Where an open job has the dedupe key already, that one is returned, and marked to run once more if it has begun.
    """
    wanted = build(
        type, params=params, lock_key=lock_key, dedupe_key=dedupe_key, priority=priority, run_at=run_at, by=by, scope=scope,
        run=run, parent=parent, object_ref=object_ref, repeat_of=repeat_of,
    )  # fmt: skip
    return place(wanted, by=name_of(by), here=here)


def place(wanted: Job, *, by: str = "", here: bool = False) -> Job:
    """Place a built job in the caller's transaction, as `request` does."""
    job = _insert_or_join(wanted, by)
    if wanted.priority == Priority.PERSON and not here:
        # robust: a queue that is away must not turn the person's committed request into an error page.
        transaction.on_commit(attempt, robust=True)
    return job


def build(
    type: str, *, params: Mapping[str, object] | None = None, priority: Priority = Priority.SCHEDULED,
    run_at: datetime | None = None, by: Person = None, **columns: Any,
) -> Job:  # fmt: skip
    """Return a job that is not placed yet.  Raises UnknownType."""
    handler = handler_class(type)  # an unknown type stops here, not in the worker
    now = clock.now()
    return Job(
        type=type,
        params=dict(params or {}),
        priority=priority,
        run_at=run_at or now,
        ready_at=run_at or now,
        max_age_at=now + handler.max_age if handler.max_age else None,
        created_by=cast(User, by) if isinstance(by, AbstractBaseUser) else None,
        created_at=now,
        **columns,
    )


def request_many(wanted: Sequence[Job], *, by: str = "") -> None:
    """Place many built jobs, each with a dedupe key, by a constant number of statements, in the caller's transaction.

    As with `request`, an open job of the same key serves the request, too.  Raises UnknownType.
    """
    there = {
        job.dedupe_key: job for job in Job.objects.open().filter(dedupe_key__in=[job.dedupe_key for job in wanted])
    }
    new = list({job.dedupe_key: job for job in wanted if job.dedupe_key not in there}.values())
    try:
        with transaction.atomic():
            Job.objects.bulk_create(new)
            JobTransition.objects.bulk_create([JobTransition.made(job, by) for job in new])
    except IntegrityError:
        for job in new:  # somebody placed one of them at this moment: rare, so one by one
            job.pk = None
            _insert_or_join(job, by)
    begun = [job for job in there.values() if _has_begun(job) and not job.again]
    if begun and Job.objects.open().filter(pk__in=[job.pk for job in begun]).update(again=True):
        JobTransition.objects.bulk_create([JobTransition.asked_again(job, by) for job in begun])


def attempt() -> None:
    """Hand out what is due, once; for `transaction.on_commit`."""
    hand_out()


def _insert_or_join(wanted: Job, by: str) -> Job:
    # Between a look and the next statement the open job may end or appear: look again, the index decides.
    for _ in range(10):
        if wanted.dedupe_key:
            there = Job.objects.open().filter(dedupe_key=wanted.dedupe_key).first()
            if there is not None:
                if _join(there, wanted, by):
                    there.refresh_from_db()
                    return there
                continue
        try:
            with transaction.atomic():
                wanted.save(force_insert=True)
                JobTransition.made(wanted, by).save()
            return wanted
        except IntegrityError:
            if not wanted.dedupe_key:
                raise
            wanted.pk = None
    raise IllegalTransition(f"could not place a job for {wanted.dedupe_key}: it begins and ends all the time")


def _join(there: Job, wanted: Job, by: str) -> bool:
    """Let the open job serve this request, too.  False when it is no longer as it was read."""
    changes: dict[str, object] = {}
    if _has_begun(there):
        changes["again"] = True
    elif there.status is S.WAITING and wanted.run_at < there.run_at:
        run_at = max(wanted.run_at, there.not_before or wanted.run_at)
        changes |= {"run_at": run_at, "ready_at": run_at}
    if wanted.priority < there.priority:
        changes["priority"] = wanted.priority
    if not changes:
        return True
    rows = Job.objects.filter(pk=there.pk, status_reason=there.status_reason, slices=there.slices)
    if not rows.update(**changes):
        return False
    if changes.get("again"):
        there.refresh_from_db()
        JobTransition.asked_again(there, by).save()
    return True


def _has_begun(job: Job) -> bool:
    """It has read a part of the feeds already: what triggers a request now may lie in that part."""
    return job.status in (S.IN_PROGRESS, S.RETRY) or bool(job.slices)


def hand_out() -> list[Job]:
    """Give due jobs to free workers and return them.  How many jobs wait does not change the number of queries."""
    now = clock.now()
    if not Job.objects.ready(now).exists():
        return []
    # One transaction, and in it the lock on the workers' rows (on SQLite the one writer's): two dispatchers at the same
    # moment must not both count the same worker as free.
    with transaction.atomic():
        free, free_for_schedules = _free_workers(now)
        due = _not_paused(Job.objects.ready(now), now) if free > 0 else None
        if due is None:
            return []
        if free_for_schedules <= 0:
            due = due.filter(priority=Priority.PERSON)
        held = Job.objects.running().exclude(lock_key="").values("lock_key")
        given: list[Job] = []
        candidates = list(due.exclude(lock_key__in=held)[: free + CANDIDATES])
        late = quota.put_off(candidates, now)
        for job in candidates:
            by_person = job.priority == Priority.PERSON
            if job.pk in late or len(given) >= free or not (by_person or free_for_schedules > 0):
                continue
            if not _too_old(job, now) and give(job):
                given.append(job)
                free_for_schedules -= not by_person
    return given


def give(job: Job) -> bool:
    """Mark one job Dispatched and put it into the queue.  False where somebody else was faster or the lock is held."""
    try:
        take(job)
    except IllegalTransition as refusal:
        logger.debug("job %s was not handed out: %s", job.pk, refusal)
        return False
    # The ORM broker's row would be safe inside the transaction, Redis is not: the task comes after the commit.  If this
    # process dies in between, the reaper puts the job back.
    transaction.on_commit(partial(async_task, TASK, job.pk, job.dispatch_token))
    return True


def take(job: Job, **changes: Any) -> None:
    """Move a due job to Dispatched under a new token.  Raises IllegalTransition (LockHeld)."""
    claim_by = clock.now() + timedelta(seconds=settings.JOB_UNCLAIMED_SECONDS)
    job.move_to(S.DISPATCHED, actor=Actor.DISPATCHER, dispatch_token=new_token(), lease_until=claim_by, **changes)


def _too_old(job: Job, now: datetime) -> bool:
    """Fail a job in Retry whose max age has passed."""
    if job.status is not S.RETRY or job.max_age_at is None or job.max_age_at > now:
        return False
    try:
        job.move_to(S.FAILED, actor=Actor.DISPATCHER, reason="older than its max age")
    except IllegalTransition as refusal:
        logger.debug("job %s was not failed for its age: %s", job.pk, refusal)
    return True


def _free_workers(now: datetime) -> tuple[int, int]:
    """Return how many workers are free, and how many of them for schedules: one is kept for people's clicks."""
    alive = now - timedelta(seconds=3 * settings.WORKER_BEAT_SECONDS)
    supervisors = WorkerHeartbeat.objects.filter(kind=WorkerHeartbeat.Kind.SUPERVISOR, seen_at__gte=alive)
    workers = sum(supervisors.select_for_update().order_by("id").values_list("workers", flat=True))
    if not workers:
        return 0, 0
    busy = (
        Job.objects.running()
        .filter(in_process=False)
        .aggregate(all=Count("id"), scheduled=Count("id", filter=Q(priority__gt=Priority.PERSON)))
    )
    free = workers - busy["all"]
    kept = 1 if workers > 1 else 0  # at one worker nothing is kept (DESIGN 9.3)
    return free, min(free, workers - kept - busy["scheduled"])


def _not_paused(jobs: JobQuerySet, now: datetime) -> JobQuerySet | None:
    """Leave out what a pause or an unusable connection holds back; None when everything is paused."""
    pauses = list(Pause.objects.active(now).values_list("kind", "job_type", "connection_id"))
    if any(kind == Pause.Kind.HUB for kind, _, _ in pauses):
        return None
    types = [job_type for kind, job_type, _ in pauses if kind == Pause.Kind.TYPE]
    if types:
        jobs = jobs.exclude(type__in=types)
    blocked = {pk for kind, _, pk in pauses if kind == Pause.Kind.CONNECTION}
    blocked.update(Connection.objects.filter(state__in=UNUSABLE).values_list("pk", flat=True))
    return jobs.exclude(scope__in=scopes_of(blocked)) if blocked else jobs


def scopes_of(connections: Iterable[int | None]) -> QuerySet[Scope, Any]:
    """Return the scopes whose integrations use one of these connections."""
    ids = list(connections)
    scopes = Scope.objects.filter(Q(integration__left__in=ids) | Q(integration__right__in=ids))
    return scopes.values("pk")


def blocking_connection(job: Job) -> Connection | None:
    """Return the connection of the job's scope that can't be used at present, if there is one."""
    if job.scope_id is None:
        return None
    used = Q(pk__in=Scope.objects.filter(pk=job.scope_id).values("integration__left"))
    used |= Q(pk__in=Scope.objects.filter(pk=job.scope_id).values("integration__right"))
    return Connection.objects.filter(used, state__in=UNUSABLE).first()
