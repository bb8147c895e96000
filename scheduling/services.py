"""What may a person do with a service?  Start, stop, pause, run now, change its times: admin, API and commands call these."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import transaction
from django.db.models import F, Q

from connectors.models import Event, Integration
from connectors.sync.presets import presets
from jobs import clock, dispatch
from jobs.models import Job, name_of
from jobs.states import Priority
from jobs.syncing import scope_of, service_job, switched_off
from scheduling import preflight, provisioning, windows
from scheduling.models import DAYS, EVERY_DAY, Blackout, Service, ServiceWindow
from scheduling.refusals import Refused

if TYPE_CHECKING:
    from jobs.models import Person

INSTANT = timedelta(microseconds=1)


def make_services(integration: Integration) -> list[Service]:
    """Give an integration the services of its preset that it does not have yet, switched off, on their default times."""
    preset = presets().get(integration.preset)
    there = set(integration.services.values_list("name", flat=True))
    made: list[Service] = []
    with transaction.atomic():
        for position, told in enumerate(preset.services if preset else ()):
            if told["name"] not in there:
                made.append(_make(integration, position, told))
    return made


def _make(integration: Integration, position: int, told: Mapping[str, object]) -> Service:
    service = Service.objects.create(
        integration=integration,
        name=str(told["name"]),
        about=str(told.get("about", "")),
        position=position,
        work=str(told.get("work", Service.Work.CHANGES)),
        entities=told.get("entities", []),
        zone=settings.TIME_ZONE,
        recommended_minutes=int(str(told.get("recommended", 0))),
    )
    lines = told.get("windows", [])
    for line in lines if isinstance(lines, list) else []:
        ServiceWindow.objects.create(service=service, **window_columns(line))
    return service


def window_columns(line: Mapping[str, object]) -> dict[str, object]:
    """Turn a window as presets, the API and commands write it into columns.

    `{"days": ["Monday", ...] or "all", "start": "08:00", "end": "17:00", "every": minutes, "from": "start" or "midnight"}`.
    Raises Refused with what is wrong.
    """
    problems: list[str] = []
    days = _days(line.get("days", "all"), problems)
    times = {}
    for name, default in (("start", "00:00"), ("end", "23:59")):
        text = str(line.get(name, default))
        try:
            times[name] = datetime.strptime(text, "%H:%M").time()  # noqa: DTZ007 - a time on the wall has no zone
        except ValueError:
            problems.append(f"The {name} {text!r} is no time; write it as 08:00.")
    every = line.get("every", 60)
    if not isinstance(every, int) or isinstance(every, bool):
        problems.append(f"The interval {every!r} is no number of minutes.")
    aligned = str(line.get("from", "start"))
    if aligned not in ServiceWindow.Aligned.values:
        problems.append(f"An interval is counted from start or midnight, not from {aligned!r}.")
    if problems:
        raise Refused(problems)
    return {"days": days, **times, "every_minutes": every, "aligned_to": aligned}


def _days(told: object, problems: list[str]) -> int:
    if told == "all":
        return EVERY_DAY
    bits = 0
    for day in told if isinstance(told, list) else [told]:
        number = next((n for n, name in enumerate(DAYS) if str(day).lower() in (name.lower(), name[:3].lower())), None)
        if number is None:
            problems.append(f"{day!r} is no day of the week; write {', '.join(DAYS)} or all.")
        else:
            bits |= 1 << number
    if not bits and not problems:
        problems.append("Choose at least one day.")
    return bits


def blackouts_of(services: Iterable[Service]) -> dict[int, list[Blackout]]:
    """Return the blackouts that concern each service, by its id; one query."""
    wanted = list(services)
    rows = list(
        Blackout.objects.filter(
            Q(integration__isnull=True) | Q(integration__in={service.integration_id for service in wanted})
        )
    )
    return {service.pk: [row for row in rows if row.concerns(service)] for service in wanted}


def schedule_of(service: Service) -> windows.Schedule:
    """Return a service's schedule with the blackouts that concern it."""
    return service.schedule(blackouts_of([service])[service.pk])


def next_run_at(service: Service, schedule: windows.Schedule, now: datetime) -> datetime | None:
    """When a service starts next, by the rules alone; None while it is off.  A pause ends at the moment it was set to."""
    if not service.enabled:
        return None
    after = now
    if service.paused_until is not None and service.paused_until > now:
        after = service.paused_until - INSTANT
    found = windows.next_run(schedule, after)
    return found.at if found else None


def reschedule(services: Iterable[Service]) -> None:
    """Compute the next run anew, after a change of times, pauses or blackouts.

    A start that is due by now stays: the dispatcher settles it, and tells of it when it is late.
    """
    with transaction.atomic():
        # Locked, in one order: the dispatcher moves the same column on.
        rows = Service.objects.select_for_update().filter(pk__in=[service.pk for service in services]).order_by("pk")
        wanted = list(rows.prefetch_related("windows"))
        blackouts, now = blackouts_of(wanted), clock.now()
        for service in wanted:
            paused = service.paused_until is not None and service.paused_until > now
            if service.enabled and not paused and service.next_run_at is not None and service.next_run_at <= now:
                continue
            service.next_run_at = next_run_at(service, service.schedule(blackouts[service.pk]), now)
        Service.objects.bulk_update(wanted, ["next_run_at"], batch_size=500)


@dataclass(frozen=True)
class Times:
    """When a service shall run."""

    service: Service
    zone: str = ""  # empty: as it is
    windows: Sequence[Mapping[str, object]] | None = None  # as `window_columns` takes them; None: as they are
    revision: int | None = None  # the one that the person looked at; None: whatever it is


def planned(times: Times) -> windows.Schedule:
    """Return the schedule that a service would have; nothing is stored.  Raises Refused for windows that can't be read."""
    service = times.service
    rows = ServiceWindow.objects.filter(service=service) if times.windows is None else _rows(times)
    blackouts = blackouts_of([service])[service.pk]
    return windows.Schedule(
        times.zone or service.zone,
        tuple(window.pure() for window in rows),
        tuple(blackout.pure() for blackout in blackouts),
    )


def _rows(times: Times) -> list[ServiceWindow]:
    return [ServiceWindow(service=times.service, **window_columns(line)) for line in times.windows or ()]


def change(
    service: Service, *, by: Person, revision: int | None = None, zone: str = "",
    windows_told: Sequence[Mapping[str, object]] | None = None,
) -> tuple[list[str], bool]:  # fmt: skip
    """Change when a service runs.  Returns (warnings, whether this asked for the services to be provisioned).

    Raises Refused: for times that can't be, while provisioning is in progress, and where the service has changed since
    `revision`.
    """
    warnings, asked = change_all([Times(service, zone, windows_told, revision)], by=by)
    return warnings[service.pk], asked


def change_all(changes: Sequence[Times], *, by: Person) -> tuple[dict[int, list[str]], bool]:
    """Change when several services run, all of them or none.  Returns (warnings by service, whether this asked).

    Raises Refused as `change` does.
    """
    integrations = {times.service.integration for times in changes}
    for integration in integrations:
        provisioning.expect_none_open(integration)
    with transaction.atomic():
        warnings = {times.service.pk: _change(times, by) for times in changes}
        reschedule(times.service for times in changes)
        asked = [provisioning.ask_at_first_save(integration, by=by) for integration in integrations]
    for times in changes:
        times.service.refresh_from_db()
    return warnings, any(asked)


def _change(times: Times, by: Person) -> list[str]:
    service = times.service
    locked = Service.objects.select_for_update().get(pk=service.pk)
    if times.revision is not None and locked.revision != times.revision:
        raise Refused([f"{service} was changed meanwhile. {_last_told(locked)}Look at it again, then change it."])
    schedule = planned(times)
    errors, warnings = windows.problems(schedule, service.recommended_minutes)
    if errors:
        raise Refused([f"{service}: {error}" for error in errors])
    if times.windows is not None:
        service.windows.all().delete()
        ServiceWindow.objects.bulk_create(_rows(times))
    Service.objects.filter(pk=service.pk).update(zone=schedule.zone, revision=F("revision") + 1)
    _event(service, by, "service changed", f"{service}: {windows.sentence(schedule)}.")
    return warnings


def _last_told(service: Service) -> str:
    """Say what the last change was, and whose."""
    told = Event.objects.filter(integration=service.integration_id, args__service=service.pk).order_by("-at", "-id")
    event = told.first()
    return f"{event.actor or 'The hub'}, {event.at:%Y-%m-%d %H:%M} UTC: {event.message} " if event else ""


def start(service: Service, *, by: Person) -> list[str]:
    """Switch a service on.  Returns the warnings of pre-flight.

    Raises Refused while the services are not provisioned, while its times can't be, and while a check of pre-flight blocks.
    """
    provisioning.expect_provisioned(service.integration)
    errors, warnings = windows.problems(planned(Times(service)), service.recommended_minutes)
    if errors:
        raise Refused(errors)
    report = preflight.run(service.integration, by=by)
    if report.blocking:
        raise Refused(
            [
                f"{service} can't be started: {len(report.blocking)} checks of the pre-flight are red.",
                *(line.message for line in report.blocking),
            ]
        )
    with transaction.atomic():
        Service.objects.filter(pk=service.pk).update(enabled=True, revision=F("revision") + 1)
        reschedule([service])
        _event(service, by, "service started", f"{service} was started.")
    service.refresh_from_db()
    return warnings + [line.message for line in report.warnings]


def stop(service: Service, *, by: Person) -> None:
    """Switch a service off; what runs comes to its end, what is queued for it stays queued."""
    with transaction.atomic():
        Service.objects.filter(pk=service.pk).update(
            enabled=False, paused_until=None, next_run_at=None, revision=F("revision") + 1
        )
        _event(service, by, "service stopped", f"{service} was stopped.")
    service.refresh_from_db()


def pause(service: Service, until: datetime, *, by: Person) -> None:
    """Start nothing before the moment `until`; then it goes on by itself."""
    if until <= clock.now():
        raise Refused(["A pause must end in the future."])
    if not service.enabled:
        raise Refused([f"{service} is off; there is nothing to pause."])
    _set_pause(service, until, by, "service paused", f"{service} is paused until {until:%Y-%m-%d %H:%M} UTC.")


def resume(service: Service, *, by: Person) -> None:
    """End a pause."""
    if service.paused_until is None:
        raise Refused([f"{service} is not paused."])
    _set_pause(service, None, by, "service resumed", f"{service} goes on.")


def _set_pause(service: Service, until: datetime | None, by: Person, code: str, message: str) -> None:
    with transaction.atomic():
        Service.objects.filter(pk=service.pk).update(paused_until=until, revision=F("revision") + 1)
        reschedule([service])
        _event(service, by, code, message)
    service.refresh_from_db()


def run_now(service: Service, *, by: Person) -> Job:
    """Start a service once, now; its schedule goes on as if nothing had happened.  Raises Refused."""
    provisioning.expect_provisioned(service.integration)
    scope = scope_of(service.integration)
    if why := switched_off(service.integration, scope):
        raise Refused([why])
    with transaction.atomic():
        job = service_job(
            scope, service.work, entities=service.entities, service=str(service.pk), by=by, priority=Priority.PERSON
        )
        return dispatch.place(job, by=name_of(by))


def apply_to_others(service: Service, others: Iterable[Service], *, by: Person) -> bool:
    """Copy days, windows and zone of a service to others, to all of them or none.  Raises Refused.

    Returns whether this asked for the services to be provisioned.
    """
    lines = [window_told(window) for window in service.windows.all()]
    _, asked = change_all([Times(other, service.zone, lines) for other in others], by=by)
    return asked


def window_told(window: ServiceWindow) -> dict[str, object]:
    """Return a window as `window_columns` takes it."""
    days = [name for number, name in enumerate(DAYS) if window.days >> number & 1]
    return {
        "days": "all" if len(days) == len(DAYS) else days, "start": f"{window.start:%H:%M}", "end": f"{window.end:%H:%M}",
        "every": window.every_minutes, "from": window.aligned_to,
    }  # fmt: skip


def _event(service: Service, by: Person, code: str, message: str) -> None:
    Event.objects.create(
        integration=service.integration, code=code, message=message, actor=name_of(by), at=clock.now(),
        args={"service": service.pk},
    )  # fmt: skip
