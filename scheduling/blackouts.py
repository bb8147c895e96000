"""On which days does nothing start, and what must be computed anew when they change?  Admin, API and commands call these."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import time
from typing import TYPE_CHECKING

from django.db import transaction

from connectors.models import Event, Integration
from jobs import clock
from jobs.models import name_of
from scheduling import windows
from scheduling.models import Blackout, Service
from scheduling.refusals import Refused
from scheduling.services import reschedule

if TYPE_CHECKING:
    from jobs.models import Person

_DAILY = windows.Window(windows.EVERY_DAY, time(0), time(0), 1440)  # blackouts are judged as parts of a schedule


def problems(blackout: Blackout) -> dict[str, list[str]]:
    """Return what is wrong, by field ("" for the whole)."""
    found: dict[str, list[str]] = {}
    if not blackout.name.strip():
        found["name"] = ["Give it a name: it stands in the reason why nothing is started."]
    if blackout.kind not in Blackout.Kind.values:
        found["kind"] = [f"There is no kind {blackout.kind!r}; choose {', '.join(Blackout.Kind.values)}."]
    elif blackout.kind != Blackout.Kind.MONTH_END:
        found |= _dates(blackout)
    for name in ("days_before", "days_after"):
        if not 0 <= getattr(blackout, name) <= 27:
            found[name] = ["Give 0 to 27 days."]
    service = blackout.service
    if service is not None and blackout.integration_id not in (None, service.integration_id):
        found["service"] = [f"{service} belongs to {service.integration}; choose that integration, or leave it empty."]
    if not found:
        # What is left concerns the fields together; the words are those that a schedule with it would get.
        errors, _ = windows.problems(windows.Schedule("UTC", (_DAILY,), (blackout.pure(),)))
        if errors:
            found[""] = errors
    return found


def _dates(blackout: Blackout) -> dict[str, list[str]]:
    missing = {name: ["Give a day."] for name in ("first", "last") if getattr(blackout, name) is None}
    if missing or blackout.first is None or blackout.last is None:
        return missing
    if blackout.last < blackout.first:
        more = ""
        if blackout.kind == Blackout.Kind.YEARLY:
            more = " For days over New Year give the last one with the next year."
        return {"last": [f"The last day is before the first, {blackout.first}.{more}"]}
    return {}


def save(blackout: Blackout, *, by: Person) -> None:
    """Store a blackout and compute the next runs of all that it concerns, or did before.  Raises Refused."""
    found = problems(blackout)
    if found:
        raise Refused([problem for told in found.values() for problem in told])
    if blackout.service is not None:
        blackout.integration = blackout.service.integration
    if blackout.kind == Blackout.Kind.MONTH_END:
        blackout.first = blackout.last = None
    with transaction.atomic():
        before = Blackout.objects.filter(pk=blackout.pk).first() if blackout.pk else None
        blackout.save()
        concerned = _concerned([before, blackout] if before else [blackout])
        reschedule(concerned)
        _tell(blackout, concerned, by, "blackout changed" if before else "blackout added")


def remove(blackout: Blackout, *, by: Person) -> None:
    """Delete a blackout; what it concerned may run on its days again."""
    with transaction.atomic():
        concerned = _concerned([blackout])
        Blackout.objects.filter(pk=blackout.pk).delete()
        reschedule(concerned)
        _tell(blackout, concerned, by, "blackout removed")


def _concerned(blackouts: Iterable[Blackout]) -> list[Service]:
    # A service that is off has no next run to compute; it gets one when it is started.
    rows = Service.objects.filter(enabled=True).select_related("integration")
    return [service for service in rows if any(blackout.concerns(service) for blackout in blackouts)]


def _tell(blackout: Blackout, concerned: Iterable[Service], by: Person, code: str) -> None:
    """Write into the log of its integration, or of each one whose services it stops."""
    found: set[Integration] = {service.integration for service in concerned}
    if blackout.integration is not None:
        found = {blackout.integration}
    at = clock.now()
    Event.objects.bulk_create(
        Event(integration=integration, code=code, message=f"{code.capitalize()}: {blackout}.", actor=name_of(by), at=at)
        for integration in found
    )
