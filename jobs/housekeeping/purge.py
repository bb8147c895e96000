"""What is so old that nobody needs it?  Counted first, then deleted in small blocks, so that nothing waits for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.contrib.sessions.models import Session
from django.db import transaction
from django.db.models import Exists, Max, Model, OuterRef, Q, QuerySet

from connectors.models import ApiCall, Event, RecordChange, Run
from connectors.sync.run import CHECK_KEPT
from jobs.models import Alert, AlertMessage, Job, JobTransition
from jobs.states import FINISHED, StatusReason

BLOCK = 500  # rows of one transaction: a few milliseconds
S = StatusReason


@dataclass(frozen=True)
class Table:
    """One kind of row, and which of them may go."""

    name: str
    keep: str  # the key of KEEP_DAYS; empty: what has expired goes at once
    old: Callable[[datetime], QuerySet[Model]]  # of the moment before which rows are old
    remove: Callable[[Sequence[Any]], int]  # takes a block of primary keys; returns how many rows went

    def cut(self, now: datetime) -> datetime:
        """Return the moment before which its rows are old."""
        return now - timedelta(days=settings.KEEP_DAYS[self.keep]) if self.keep else now


def count(now: datetime) -> dict[str, int]:
    """Return how many rows of each table would go."""
    return {table.name: table.old(table.cut(now)).count() for table in TABLES}


def blocks(now: datetime) -> Iterator[tuple[str, int]]:
    """Delete block by block, each in a transaction of its own, and give (table, rows) after each.

    Stop whenever you like: what is left is taken the next time.
    """
    for table in TABLES:
        rows, last = table.old(table.cut(now)).order_by("pk"), None
        while True:
            wanted = rows if last is None else rows.filter(pk__gt=last)
            keys = list(wanted.values_list("pk", flat=True)[:BLOCK])
            if keys:
                with transaction.atomic():
                    removed = table.remove(keys)
                yield table.name, removed
            if len(keys) < BLOCK:
                break
            last = keys[-1]


# Which rows are old


def _old_bodies(cut: datetime) -> QuerySet[ApiCall]:
    return ApiCall.objects.filter(at__lt=cut).exclude(body="")


def _old_failed(cut: datetime) -> QuerySet[Job]:
    """Failed jobs whose trouble is over (DESIGN 9.15): the same was done successfully after it."""
    later = Job.objects.filter(
        status_reason=S.SUCCEEDED, type=OuterRef("type"), finished_at__gt=OuterRef("finished_at")
    )
    same = Q(scope=OuterRef("scope")) | Q(repeat_of=OuterRef("pk"))
    same |= Q(dedupe_key=OuterRef("dedupe_key")) & ~Q(dedupe_key="")
    old = Job.objects.filter(status_reason=S.FAILED, finished_at__lt=cut, aside_at=None)
    return old.filter(Exists(later.filter(same)))


def _old_jobs(cut: datetime) -> QuerySet[Job]:
    done = [status.value for status in FINISHED if status is not S.FAILED]
    return Job.objects.filter(status_reason__in=done, finished_at__lt=cut, aside_at=None)  # set aside: kept


def _old_runs(cut: datetime) -> QuerySet[Run]:
    """Finished runs, but for the last one of each scope, open previews and runs with a write whose outcome is not known."""
    last = Run.objects.values("scope").annotate(newest=Max("pk")).order_by().values("newest")
    # A preview may be approved for a week at most, whatever KEEP_DAYS_RUNS says.
    preview = Q(phase=Run.Phase.PROPOSED, finished_at__gte=cut - max(timedelta(0), CHECK_KEPT - _kept("runs")))
    unsettled = RecordChange.objects.filter(run=OuterRef("pk"), open__isnull=False)
    old = Run.objects.filter(finished_at__lt=cut).exclude(pk__in=last).exclude(preview)
    return old.filter(~Exists(unsettled))


def _old_changes(cut: datetime) -> QuerySet[RecordChange]:
    return RecordChange.objects.filter(run__in=_old_runs(cut))


def _kept(name: str) -> timedelta:
    return timedelta(days=settings.KEEP_DAYS[name])


# How a block goes


def _remove_bodies(keys: Sequence[Any]) -> int:
    return ApiCall.objects.filter(pk__in=keys).update(body="")


def _remove_changes(keys: Sequence[Any]) -> int:
    # By hand: Django would first read each row with all its values.
    RecordChange.objects.filter(undoes__in=keys).update(undoes=None)
    rows = RecordChange.objects.filter(pk__in=keys)
    return rows._raw_delete(rows.db)


def _remove_jobs(keys: Sequence[Any]) -> int:
    # Asked again: an operator may have pressed Retry since.
    done = list(
        Job.objects.select_for_update()
        .filter(pk__in=keys, status_reason__in=[s.value for s in FINISHED])
        .values_list("pk", flat=True)
    )
    JobTransition.objects.filter(job__in=done).delete()
    Job.objects.filter(pk__in=done).delete()
    return len(done)


def _deleter(model: type[Model]) -> Callable[[Sequence[Any]], int]:
    def remove(keys: Sequence[Any]) -> int:
        return model._default_manager.filter(pk__in=keys).delete()[1].get(model._meta.label, 0)

    return remove


# Changes before their runs, resolved failures before the successes that resolved them.
TABLES: tuple[Table, ...] = (
    Table("bodies of API calls", "bodies", _old_bodies, _remove_bodies),
    Table("API calls", "api calls", lambda cut: ApiCall.objects.filter(at__lt=cut), _deleter(ApiCall)),
    Table("events", "events", lambda cut: Event.objects.filter(at__lt=cut), _deleter(Event)),
    Table("changes", "runs", _old_changes, _remove_changes),
    Table("runs", "runs", _old_runs, _deleter(Run)),
    Table("failed jobs that were resolved", "jobs", _old_failed, _remove_jobs),
    Table("finished jobs", "jobs", _old_jobs, _remove_jobs),
    Table(
        "messages of alerts", "messages",
        lambda cut: AlertMessage.objects.filter(at__lt=cut).exclude(status=AlertMessage.Status.WAITING), _deleter(AlertMessage),
    ),
    Table("resolved alerts", "alerts", lambda cut: Alert.objects.filter(resolved_at__lt=cut), _deleter(Alert)),
    Table("sessions", "", lambda cut: Session.objects.filter(expire_date__lt=cut), _deleter(Session)),
)  # fmt: skip
