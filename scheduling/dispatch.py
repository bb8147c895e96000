"""Which services are due?  A chore of `manage.py worker`: claims them by the index on the next run, and asks for their jobs."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import connection, transaction

from connectors.models import Event, Scope
from jobs import clock, dispatch
from jobs.models import Job
from jobs.syncing import service_job
from scheduling import windows
from scheduling.models import Provisioning, Service
from scheduling.services import blackouts_of, next_run_at

BATCH = 500
LATE = timedelta(minutes=5)  # a start that is later than this was missed
MOST_COUNTED = 1000  # missed runs: beyond that the number says nothing more
logger = logging.getLogger(__name__)


def tick() -> int:
    """Start every due service once.  Returns how many; the queries of a batch do not depend on how many are due."""
    started = 0
    while True:
        found = _batch(clock.now())
        started += found
        if found < BATCH:
            return started


def _batch(now: datetime) -> int:
    due = Service.objects.due(now)
    if not due.exists():  # the usual second: one look at the index, no lock
        return 0
    with transaction.atomic():
        # Several hosts may run this at the same moment: each takes rows that no other has (SQLite has one writer anyway).
        skip = connection.features.has_select_for_update_skip_locked
        rows = due.select_for_update(skip_locked=skip, of=("self",) if skip else ())
        services = list(rows.select_related("integration").prefetch_related("windows")[:BATCH])
        if services:
            _start(services, now)
    return len(services)


def _start(services: Sequence[Service], now: datetime) -> None:
    integrations = {service.integration_id for service in services}
    scopes = {
        scope.integration_id: scope
        for scope in Scope.objects.filter(integration__in=integrations, left_key="", right_key="")
    }
    provisioned = set(
        Provisioning.objects.filter(
            integration__in=integrations, status=Provisioning.Status.APPROVED
        ).values_list("integration", flat=True)
    )  # fmt: skip
    blackouts = blackouts_of(services)
    jobs: list[Job] = []
    events: list[Event] = []
    for service in services:
        schedule = service.schedule(blackouts[service.pk])
        scope = scopes.get(service.integration_id)
        ready = scope is not None and scope.enabled and service.integration.enabled
        try:
            missed = _missed(service, schedule, now)
            following = next_run_at(service, schedule, now)
        except ValueError as error:
            # One service with times that no longer can be must not keep all others from starting.
            service.next_run_at = None
            events.append(_unplannable(service, error, now))
            continue
        if scope is not None and ready and service.integration_id in provisioned and missed.run_now:
            jobs.append(service_job(scope, service.work, entities=service.entities, service=str(service.pk)))
            service.last_run_at = now
        if missed.count and ready:
            events.append(_report(service, missed, now))
        service.next_run_at = following
    dispatch.request_many(jobs, by="schedule")
    Event.objects.bulk_create(events)
    Service.objects.bulk_update(services, ["next_run_at", "last_run_at"])


def _unplannable(service: Service, error: ValueError, now: datetime) -> Event:
    message = f"{service} has no next run: {error} Mend its times and save them."
    return Event(
        integration=service.integration, level=Event.Level.ERROR, code="no next run", message=message[:1000], at=now,
        args={"service": service.pk},
    )  # fmt: skip


@dataclass(frozen=True)
class Missed:
    """Starts whose time passed without anybody starting them."""

    count: int
    first: datetime
    last: datetime
    run_now: bool  # a start is due now: the regular one, or one that makes up for all that were missed
    why_not: str = ""


def _missed(service: Service, schedule: windows.Schedule, now: datetime) -> Missed:
    due = service.next_run_at or now
    if service.paused_until is not None and service.paused_until > now:
        return Missed(0, due, due, run_now=False)
    if now - due <= LATE:
        # The times may have been changed since this start was planned.
        return Missed(0, due, due, run_now=not windows.allowed(schedule, due))
    starts = [due, *(found.at for found in windows.between(schedule, due, now, MOST_COUNTED))]
    late = [at for at in starts if now - at > LATE]
    why_not = windows.allowed(schedule, now)
    return Missed(len(late), late[0], late[-1], run_now=not why_not or len(late) < len(starts), why_not=why_not)


def _report(service: Service, missed: Missed, now: datetime) -> Event:
    what = (
        f"{missed.count if missed.count < MOST_COUNTED else f'{MOST_COUNTED} or more'} runs"
        if missed.count > 1
        else "One run"
    )
    when = f"between {missed.first:%Y-%m-%d %H:%M} and {missed.last:%Y-%m-%d %H:%M} UTC"
    if missed.count == 1:
        when = f"at {missed.first:%Y-%m-%d %H:%M} UTC"
    done = (
        "One run now makes up for it." if missed.run_now else f"The next regular run makes up for it. {missed.why_not}"
    )
    message = f"{service}: {what} {when} did not happen: no worker was running, or it was busy. {done}"
    logger.warning("service %s: %s missed runs", service.pk, missed.count)
    return Event(
        integration=service.integration, level=Event.Level.WARNING, code="missed run", message=message[:1000], at=now,
        args={"service": service.pk, "count": missed.count},
    )  # fmt: skip
