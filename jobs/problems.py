"""Which problems does the hub have, of records and of jobs, and how is a whole group tried again or resolved?"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet, Value
from django.db.models.functions import Coalesce

from connectors.contract import ConnectorError, Option
from connectors.models import ProblemGroup, RecordLink, Scope
from connectors.sync import problems
from connectors.sync.problems import MOST_COUNTED, CountedRows, Missing, NotMended
from connectors.sync.retrying import How
from connectors.sync.rules import Side
from connectors.transport import connected, redaction
from jobs import clock, dispatch, operate
from jobs.models import Job, name_of
from jobs.states import IllegalTransition, Priority, StatusReason
from jobs.syncing import NotNow, lock_key, switched_off

if TYPE_CHECKING:
    from jobs.models import Person

MOST_JOBS = 500  # of one group that are retried at once
NEW_FOR = timedelta(hours=24)


def groups() -> QuerySet[ProblemGroup]:
    """Return all problems with `count`, how many records or jobs stand still for each: capped, by index."""
    rows = problems.counted(
        ProblemGroup.objects.select_related("integration__left", "integration__right", "entity_sync")
    )
    rows = rows.annotate(jobs=CountedRows(_of_group().values("pk")[: MOST_COUNTED + 1]))
    return rows.annotate(count=F("records") + F("jobs")).order_by("-last_seen", "-id")


def still_open(rows: QuerySet[ProblemGroup]) -> QuerySet[ProblemGroup]:
    """Narrow `groups` to those that still hold something up: asked by existence, since counting takes longer."""
    links = RecordLink.objects.filter(problem=OuterRef("key"), pending__in=problems.HANDS)
    return rows.filter(Exists(links) | Exists(_of_group()), resolved_at=None)


def _of_group() -> QuerySet[Job]:
    failed = _failed().filter(fingerprint=OuterRef("fingerprint")).alias(scope_no=Coalesce("scope_id", 0))
    return failed.filter(scope_no=Coalesce(OuterRef("scope_id"), Value(0)))


def resolved(rows: QuerySet[ProblemGroup]) -> QuerySet[ProblemGroup]:
    """Narrow `groups` to those that were put aside, or of which nothing is left."""
    return rows.filter(resolved_at__isnull=False)


def _failed() -> QuerySet[Job]:
    """Failed jobs that nobody has set aside, and whose work no later job of the same kind and scope has done."""
    later = Job.objects.filter(
        type=OuterRef("type"), scope=OuterRef("scope"), pk__gt=OuterRef("pk"), status_reason=StatusReason.SUCCEEDED
    )
    failed = Job.objects.filter(status_reason=StatusReason.FAILED, aside_at=None).exclude(fingerprint="")
    return failed.filter(Q(scope=None) | ~Exists(later))


def jobs_of(group: ProblemGroup) -> QuerySet[Job]:
    """Return the failed jobs of a group."""
    return _failed().filter(fingerprint=group.fingerprint, scope=group.scope_id).order_by("-id")


def note_failed(job: Job, now: datetime) -> None:
    """Remember why a job failed, in the transaction in which it does."""
    if not job.fingerprint:
        return
    told = {"code": job.error_code, "message": job.error_message, "last_seen": now}
    first = {
        "kind": ProblemGroup.Kind.JOBS, "job_type": job.type, "fingerprint": job.fingerprint, "scope_id": job.scope_id,
        "integration_id": job.scope.integration_id if job.scope else None, "first_seen": now,
    }  # fmt: skip
    row, made = ProblemGroup.objects.get_or_create(
        key=f"job.{job.scope_id or 0}.{job.fingerprint}", defaults={**told, **first}
    )
    if not made:
        again = {"resolved_at": None, "resolved_by": "", "reopened_at": now} if row.resolved_at else {}
        ProblemGroup.objects.filter(pk=row.pk).update(**told, **again)


@dataclass(frozen=True)
class State:
    """How a group stands, in a word, and why."""

    word: str
    why: str
    tone: str


def state_of(group: ProblemGroup, now: datetime) -> State:
    """Say whether a problem is new, goes on, came back or is resolved."""
    if group.resolved_at is not None:
        return State("Resolved", f"By {group.resolved_by}." if group.resolved_by else "Nothing of it is left.", "good")
    if group.reopened_at is not None:
        return State("Came back", "It had been resolved, and was met again.", "bad")
    if now - group.first_seen < NEW_FOR:
        return State("New", "First seen within the last day.", "warn")
    return State("Ongoing", "It has been there for more than a day.", "warn")


# Deciding


@dataclass(frozen=True)
class Retried:
    """What became of a retry."""

    jobs: list[Job]
    refused: list[str]


def retry(group: ProblemGroup, how: How, *, by: Person = None, here: bool = False) -> Retried:
    """Try a whole group again, its records in one job for each scope.  Raises NotNow."""
    if group.kind == ProblemGroup.Kind.JOBS:
        return _retry_jobs(group, by)
    return _retry_records(group, how, by, here)


def retryable(group: ProblemGroup) -> bool:
    """Whether trying again can help: conflicts need a decision about each record."""
    return group.kind == ProblemGroup.Kind.JOBS or group.reason in ("parked", "lossy")


def _retry_records(group: ProblemGroup, how: How, by: Person, here: bool) -> Retried:
    parked = problems.links_of(group).filter(reason__in=["parked", "lossy"])
    ids = list(parked.order_by().values_list("scope", flat=True).distinct())
    if not ids:
        raise NotNow("No record of this group is left that could be tried again.")
    scopes = list(Scope.objects.filter(pk__in=ids).select_related("integration").order_by("pk"))
    for scope in scopes:
        if why := switched_off(scope.integration, scope):
            raise NotNow(why)
    with transaction.atomic():
        asked = {"problem": group.key, "how": str(how)}
        jobs = [
            dispatch.request(
                "sync", params={"mode": "delta", "purpose": "sync", "entities": [], "retry": asked},
                lock_key=lock_key(scope), dedupe_key=f"retry:{scope.pk}:{group.pk}:{how}", priority=Priority.PERSON, by=by,
                scope=scope, here=here,
            )
            for scope in scopes
        ]  # fmt: skip
        problems.tell(group, clock.now(), name_of(by), "problem retried", f"Tried again: {problems.title_of(group)}")
    return Retried(jobs, [])


def _retry_jobs(group: ProblemGroup, by: Person) -> Retried:
    done: list[Job] = []
    refused: list[str] = []
    for job in jobs_of(group)[:MOST_JOBS]:
        try:
            operate.retry(job, by=by)
        except IllegalTransition as refusal:
            refused.append(f"Job {job.pk}: {refusal}")
        else:
            done.append(job)
    if not done:
        raise NotNow(refused[0] if refused else "No failed job of this group is left.")
    told = f"{len(done)} jobs retried: {problems.title_of(group)}"
    problems.tell(group, clock.now(), name_of(by), "problem retried", told)
    return Retried(done, refused)


def missing(group: ProblemGroup) -> Missing | None:
    """Say which option has no partner and what it may become: both systems are asked.  Raises NotMended."""
    mapping = problems.mapping_of(group)
    if mapping is None:
        return None
    integration = mapping.entity_sync.integration

    def ask(side: Side) -> list[Option]:
        with connected(getattr(integration, side)) as connector:
            return problems.options_of(mapping, side, connector)

    try:
        return problems.missing(group, ask)
    except ConnectorError as error:
        raise NotMended(f"The options could not be read: {redaction.text(str(error))}") from error


def map_option(group: ProblemGroup, chosen: str, *, by: Person = None, here: bool = False) -> Retried:
    """Let the option that has no partner mean another one, and try the whole group again in one job.

    Raises NotMended, NotNow.
    """
    found = missing(group)
    if found is None:
        raise NotMended("This problem is not about an option of a picklist that can be mapped here.")
    problems.map_option(found, chosen, now=clock.now(), by=name_of(by))
    # What lay staged was read by the old mapping.
    return _retry_records(group, How.REREAD, by, here)


def resolve(group: ProblemGroup, *, by: Person = None) -> None:
    """Put a group aside until its cause is met again.  Raises Stale."""
    problems.resolve(group, now=clock.now(), by=name_of(by))


def reopen(group: ProblemGroup, *, by: Person = None) -> None:
    """Take back a resolve.  Raises Stale."""
    problems.reopen(group, now=clock.now(), by=name_of(by))
