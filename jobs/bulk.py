"""How is one thing done to many jobs?  Counted first; done only while the count that a person confirmed still holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Case, Count, Max, Q, QuerySet, Value, When

from jobs import clock, dispatch, handlers, operate
from jobs.models import Job, JobQuerySet, JobTransition, name_of
from jobs.states import FINISHED, OPEN, READY, Actor, IllegalTransition, Priority, StatusReason

if TYPE_CHECKING:
    from jobs.models import Person

S = StatusReason
MOST = 10_000  # jobs at once; what is left is for the next time
CHUNK = 500  # jobs of one transaction
SHOWN = 20  # of those that are shown before


@dataclass(frozen=True)
class Asked:
    """What a person wants."""

    by: Person
    reason: str = ""
    run_at: datetime | None = None  # of reschedule


@dataclass(frozen=True)
class Verb:
    """One thing that can be done to many jobs."""

    name: str
    label: str
    done: str
    permission: str
    statuses: Sequence[StatusReason]  # of those to which it can be done
    # Of these those that stay out, and why: of the jobs chosen, by the present moment and the one asked for.
    but: Callable[[QuerySet[Job], datetime, datetime | None], list[tuple[Q, str]]]
    one: Callable[[Job, Asked], object]
    many: Callable[[JobQuerySet, Asked], list[int]] | None = None  # the same by few statements


@dataclass(frozen=True)
class Outlook:
    """What would happen."""

    verb: Verb
    eligible: int
    others: list[tuple[str, int]]  # why not, and how many
    first: list[Job]
    capped: bool = False  # there are more than MOST: they stay for the next time
    others_capped: bool = False

    @property
    def total(self) -> int:
        """How many jobs match, as far as they are counted."""
        return self.eligible + sum(count for _, count in self.others)


@dataclass
class Outcome:
    """What happened."""

    done: list[int] = field(default_factory=list)
    refused: list[tuple[int, str]] = field(default_factory=list)


class Changed(Exception):
    """It is not what was confirmed any more; the outlook says what it would be now."""

    def __init__(self, outlook: Outlook, expected: int) -> None:
        now, verb = outlook.eligible, outlook.verb.label.lower()
        super().__init__(f"You confirmed to {verb} {expected:,} jobs; meanwhile there are {now:,}. Nothing was done.")
        self.outlook = outlook


def look(verb: Verb, rows: QuerySet[Job], *, run_at: datetime | None = None) -> Outlook:
    """Count what would happen, to 10,000, and say for the others why not."""
    now = clock.now()
    can, out = _eligible(verb, rows, now, run_at), verb.but(rows, now, run_at)
    count = can.order_by()[: MOST + 1].count()
    first = list(can.select_related("scope__integration").order_by("id")[:SHOWN])
    not_these = ~Q(status_reason__in=verb.statuses)
    for q, _ in out:
        not_these |= q
    left = rows.filter(not_these)
    newest = Job.objects.filter(pk__in=left.order_by("-id").values("pk")[: MOST + 1])
    why = Case(*(When(q, then=Value(place)) for place, (q, _) in enumerate(out)), default=Value(-1))
    counted: Counter[str] = Counter()
    for status, place, number in (
        newest.annotate(why=why).values_list("status_reason", "why").annotate(n=Count("id")).order_by()
    ):
        eligible_status = status in verb.statuses and place >= 0
        counted[out[place][1] if eligible_status else _by_status(verb, StatusReason(status))] += number
    others = counted.most_common()
    return Outlook(verb, min(count, MOST), others, first, count > MOST, sum(n for _, n in others) > MOST)


def perform(verb: Verb, rows: QuerySet[Job], expected: int, asked: Asked) -> Outcome:
    """Do it to the jobs that match now, if they are as many as expected.  Raises Changed, ValidationError."""
    if verb.name == "reschedule":
        if asked.run_at is None:
            raise ValidationError({"run_at": "Say when."})
        operate.check_moment(asked.run_at, clock.now())
    outlook = look(verb, rows, run_at=asked.run_at)
    if outlook.eligible != expected:
        raise Changed(outlook, expected)
    can = _eligible(verb, rows, clock.now(), asked.run_at)
    outcome = Outcome()
    for ids in _chunks(list(can.order_by("id").values_list("pk", flat=True)[:MOST])):
        _chunk(verb, ids, asked, outcome)
    if outcome.done and verb.name != "cancel":
        transaction.on_commit(dispatch.attempt, robust=True)
    return outcome


def _chunk(verb: Verb, ids: Sequence[int], asked: Asked, outcome: Outcome) -> None:
    # Each job is asked again whether it still can, by the statement that changes it.
    wanted = _eligible(verb, Job.objects.filter(pk__in=ids), clock.now(), asked.run_at)
    moved: set[int] = set()
    if verb.many is not None:
        try:
            moved = set(verb.many(wanted, asked))
        except IllegalTransition:
            moved = set()  # one of them stands in the way of all: one by one, so that it alone is refused
    outcome.done += sorted(moved)
    for pk in (pk for pk in ids if pk not in moved):
        job = _eligible(verb, Job.objects.filter(pk=pk), clock.now(), asked.run_at).first()
        if job is None:
            outcome.refused.append((pk, "it has changed meanwhile"))
            continue
        try:
            with transaction.atomic():
                verb.one(job, asked)
        except (IllegalTransition, handlers.UnknownType) as refusal:
            outcome.refused.append((job.pk, str(refusal)))
        except ValidationError as refusal:
            outcome.refused.append((job.pk, " ".join(refusal.messages)))
        else:
            outcome.done.append(job.pk)


def _chunks(ids: list[int]) -> Iterator[list[int]]:
    for start in range(0, len(ids), CHUNK):
        yield ids[start : start + CHUNK]


def _eligible(verb: Verb, rows: QuerySet[Job], now: datetime, run_at: datetime | None) -> JobQuerySet:
    found = rows.filter(status_reason__in=verb.statuses)
    for q, _ in verb.but(rows, now, run_at):
        found = found.exclude(q)
    return found  # type: ignore[return-value]  # rows of Job


def _by_status(verb: Verb, status: StatusReason) -> str:
    if status in FINISHED and verb.name == "retry":
        return f"{status.label}: there is nothing to repeat. Run again makes a new job."
    if status in FINISHED:
        return f"{status.label}: it is finished."
    if verb.name == "retry":
        return f"{status.label}: it has not failed."
    return f"{status.label}: a worker has it."


# What can be done


def _retry(rows: JobQuerySet, asked: Asked) -> list[int]:
    moved: list[int] = []
    with transaction.atomic():
        for job_type in sorted(set(rows.order_by().values_list("type", flat=True))):
            columns = operate.anew(job_type, clock.now())
            mine = rows.filter(type=job_type)
            ids = mine.move_many(
                S.WAITING, actor=Actor.OPERATOR, by=asked.by, reason=asked.reason or "retried", more_rounds=True, **columns
            )  # fmt: skip
            moved += ids
    return moved


def _cancel(rows: JobQuerySet, asked: Asked) -> list[int]:
    # What runs is asked to stop, one by one: there are no more of them than workers.
    reason = asked.reason or CANCELLED
    flags: dict[str, Any] = {"cancel_requested": True, "cancel_by": name_of(asked.by), "cancel_reason": reason[:500]}
    still = rows.exclude(status_reason=S.IN_PROGRESS)
    return still.move_many(S.CANCELLED, actor=Actor.OPERATOR, by=asked.by, reason=reason, **flags)


def _run_now(rows: JobQuerySet, asked: Asked) -> list[int]:
    now = clock.now()
    columns = {"run_at": now, "ready_at": now, "priority": Priority.PERSON}
    return _due(rows, columns, asked, asked.reason or "run now")


def _reschedule(rows: JobQuerySet, asked: Asked) -> list[int]:
    assert asked.run_at is not None  # noqa: S101 - `perform` has looked
    told = f"rescheduled to {asked.run_at:%Y-%m-%d %H:%M:%S} UTC"
    columns = {"run_at": asked.run_at, "ready_at": asked.run_at}
    return _due(rows, columns, asked, f"{told}: {asked.reason}" if asked.reason else told)


def _due(rows: JobQuerySet, columns: Mapping[str, object], asked: Asked, reason: str) -> list[int]:
    now = clock.now()
    with transaction.atomic():
        waiting = list(rows.select_for_update().order_by("id"))
        moved = Job.objects.filter(pk__in=[job.pk for job in waiting], ready_at__isnull=False).update(**columns)
        if moved != len(waiting):
            raise IllegalTransition("Some of the jobs changed at this very moment.")
        lines = [
            JobTransition(
                job=job, from_status=job.status_reason, to_status=job.status_reason, actor=Actor.OPERATOR,
                by=name_of(asked.by), reason=reason[:500], attempt=job.attempt, at=now,
            )
            for job in waiting
        ]  # fmt: skip
        JobTransition.objects.bulk_create(lines, batch_size=500)
    return [job.pk for job in waiting]


CANCELLED = "cancelled with others"


def _not_retried(rows: QuerySet[Job], now: datetime, run_at: datetime | None) -> list[tuple[Q, str]]:
    # One open job at most has a dedupe key: of several that would do the same, the newest is tried again.
    keyed = ~Q(dedupe_key="")
    mine = rows.order_by().filter(keyed, status_reason__in=(S.FAILED, S.CANCELLED), aside_at__isnull=True)
    newest = mine.values("dedupe_key").annotate(newest=Max("id")).values("newest")
    return [
        (Q(aside_at__isnull=False), "Set aside: somebody said that it is not to be tried again."),
        (~Q(type__in=list(handlers.registered())), "Its type is not known any more."),
        (
            keyed & Q(dedupe_key__in=Job.objects.open().order_by().filter(keyed).values("dedupe_key")),
            "A job that does the same is open already.",
        ),
        (keyed & ~Q(pk__in=newest), "A newer one of these does the same."),
    ]


def _not_now(rows: QuerySet[Job], now: datetime, run_at: datetime | None) -> list[tuple[Q, str]]:
    return [
        (Q(not_before__gt=now), "The other system asked not to be called yet."),
        (Q(run_at__lte=now, priority=Priority.PERSON), "It is due already, and goes first."),
    ]


def _not_then(rows: QuerySet[Job], now: datetime, run_at: datetime | None) -> list[tuple[Q, str]]:
    if run_at is None:
        return []
    return [
        (Q(not_before__gt=run_at), "The other system asked not to be called so early."),
        (Q(status_reason=S.RETRY, max_age_at__lt=run_at), "Then it would be too old to be tried again."),
    ]


def _set_date(job: Job, asked: Asked) -> None:
    assert asked.run_at is not None  # noqa: S101 - `perform` has looked
    operate.reschedule(job, asked.run_at, by=asked.by, reason=asked.reason)


RETRY = Verb(
    "retry", "Retry", "retried", "jobs.retry_job", (S.FAILED, S.CANCELLED), _not_retried,
    lambda job, asked: operate.retry(job, by=asked.by, reason=asked.reason), _retry,
)  # fmt: skip
CANCEL = Verb(
    "cancel", "Cancel", "cancelled", "jobs.cancel_job", OPEN,
    lambda rows, now, run_at: [(Q(cancel_requested=True), "It was asked to stop already.")],
    lambda job, asked: operate.cancel(job, by=asked.by, reason=asked.reason or CANCELLED), _cancel,
)  # fmt: skip
RUN_NOW = Verb(
    "run-now", "Run now", "brought forward", "jobs.retry_job", READY, _not_now,
    lambda job, asked: operate.run_now(job, by=asked.by, reason=asked.reason), _run_now,
)  # fmt: skip
RESCHEDULE = Verb("reschedule", "Reschedule", "rescheduled", "jobs.retry_job", READY, _not_then, _set_date, _reschedule)
VERBS = {verb.name: verb for verb in (RETRY, CANCEL, RUN_NOW, RESCHEDULE)}
