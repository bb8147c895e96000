"""Which retries wait because a system's quota runs short?  New changes go first: a retry would spend what they need."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from django.db import transaction

from connectors.contract import Limit
from connectors.models import Budget, Connection, Scope
from connectors.registry import UnknownSystem, connector_class
from connectors.transport.budget import amounts, used_share
from jobs.models import Job, JobTransition
from jobs.states import Actor, Priority, StatusReason

STOP_AT = 0.75  # of the quota (SCREENS section 2)
LONG = timedelta(days=1)  # shorter limits recover by themselves before the next retry
LOOK_AGAIN = timedelta(hours=1)


def put_off(jobs: Sequence[Job], now: datetime) -> set[int]:
    """Put off the retries among these due sync jobs whose systems are short of quota; return their ids.

    What a person has brought forward goes on.  Where no retry is due, this asks nothing of the database.
    """
    retries = {
        job.pk: job
        for job in jobs
        if job.status is StatusReason.RETRY and job.type == "sync" and job.scope_id and job.priority != Priority.PERSON
    }
    if not retries:
        return set()
    scopes = Scope.objects.filter(pk__in=[job.scope_id for job in retries.values()]).values_list(
        "pk", "integration__left", "integration__right"
    )
    ends = {pk: (left, right) for pk, left, right in scopes}
    short = _short({end for pair in ends.values() for end in pair}, now)
    late: set[int] = set()
    for job in retries.values():
        why = [short[end] for end in ends.get(job.scope_id or 0, ()) if end in short]
        if why:
            _put_off(job, why[0], now)
            late.add(job.pk)
    return late


def _put_off(job: Job, why: str, now: datetime) -> None:
    run_at = now + LOOK_AGAIN
    with transaction.atomic():
        if Job.objects.filter(pk=job.pk, status_reason=StatusReason.RETRY).update(run_at=run_at, ready_at=run_at):
            JobTransition.write(job, StatusReason.RETRY, Actor.DISPATCHER, "", f"put off: {why}", now)


def _short(connections: Iterable[int], now: datetime) -> dict[int, str]:
    """Return the connections of which a daily or longer quota is used beyond the stop, with the sentence that says so."""
    rows = Connection.objects.in_bulk(list(connections))
    limits = {pk: _long_limits(connection) for pk, connection in rows.items()}
    if not any(limits.values()):
        return {}
    found: dict[int, str] = {}
    for budget in Budget.objects.filter(connection__in=[pk for pk, long in limits.items() if long]):
        limit = limits[budget.connection_id].get(budget.limit)
        share = used_share(limit, budget, now) if limit else 0.0
        if limit and share > STOP_AT:
            found[budget.connection_id] = (
                f"{rows[budget.connection_id]} has used {share:.0%} of its quota {limit.name!r}; above {STOP_AT:.0%} new "
                "changes go first. It is looked at again each hour; Run now does not wait."
            )
    return found


def _long_limits(connection: Connection) -> Mapping[str, Limit]:
    try:
        declared = connector_class(connection.system).limits
    except UnknownSystem:
        return {}
    kept = amounts(declared, connection.settings or {})
    return {limit.name: limit for limit in kept if limit.per is not None and limit.per >= LONG}
