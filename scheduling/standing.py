"""How does each service stand: its state in a word, its times in words, its last job?  Admin, API and commands tell the same."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from django.db.models import CharField, OuterRef, QuerySet, Subquery, Value
from django.db.models.functions import Concat

from jobs.models import Job
from scheduling import provisioning, windows
from scheduling.models import Blackout, Provisioning, Service
from scheduling.services import blackouts_of

SHOWN = 10  # runs ahead


@dataclass(frozen=True)
class State:
    """One word, why, and how it is coloured."""

    word: str
    reason: str
    tone: str = "calm"


@dataclass(frozen=True)
class Outlook:
    """What a schedule means: in words, in runs, and over an ordinary week."""

    sentence: str
    errors: list[str]
    warnings: list[str]
    runs: list[windows.Occurrence]
    heat: list[list[int]]  # starts by day and hour of an ordinary week


@dataclass(frozen=True)
class Standing:
    """One service as people see it."""

    service: Service
    schedule: windows.Schedule
    blackouts: list[Blackout]
    request: Provisioning | None
    state: State
    job: Job | None  # the last one that was started for it


def standings(services: Iterable[Service], now: datetime) -> list[Standing]:
    """Look up how services stand.  How many there are does not change the number of queries; see `shown`."""
    wanted = list(services)
    blackouts, jobs = blackouts_of(wanted), last_jobs(wanted)
    found: list[Standing] = []
    for service in wanted:
        rests = blackouts[service.pk]
        schedule, request = service.schedule(rests), provisioning.status(service.integration)
        state = state_of(service, schedule, request, now)
        found.append(Standing(service, schedule, rests, request, state, jobs.get(service.pk)))
    return found


def shown(services: QuerySet[Service]) -> QuerySet[Service]:
    """Read along what `standings` looks at."""
    return services.select_related("integration").prefetch_related("windows", "integration__provisionings")


def last_jobs(services: Iterable[Service]) -> dict[int, Job]:
    """Return the newest job of each service that ever had one."""
    ids = [service.pk for service in services]
    # The first entry of an index for each service: a service that runs each minute has half a million jobs a year.
    ref = Concat(Value("service:"), OuterRef("pk"), output_field=CharField())
    # Asked as a range and sorted by both columns: for an equal value a database may look through all jobs from the newest on,
    # and a service that has started nothing for a year then costs most.
    own = (
        Job.objects.filter(object_ref__gte=ref, object_ref__lte=ref)
        .exclude(object_ref="")
        .order_by("object_ref", "-id")
    )
    newest = dict(
        Service.objects.filter(pk__in=ids)
        .annotate(newest=Subquery(own.values("id")[:1]))
        .values_list("pk", "newest")
        .order_by()
    )
    jobs = Job.objects.select_related("run").in_bulk([pk for pk in newest.values() if pk is not None])
    return {service: jobs[pk] for service, pk in newest.items() if pk in jobs}


def state_of(service: Service, schedule: windows.Schedule, request: Provisioning | None, now: datetime) -> State:
    """Say in one word how a service stands, and why."""
    if request is None or request.status != Provisioning.Status.APPROVED:
        return _not_provisioned(request)
    if not service.enabled:
        return State("Off", "It starts nothing by itself until it is switched on.")
    if not service.integration.enabled:
        return State("Held", f"{service.integration} is switched off: nothing is started until it is enabled.", "warn")
    if service.paused_until is not None and service.paused_until > now:
        return State("Paused", f"Until {service.paused_until:%Y-%m-%d %H:%M} UTC; then it goes on by itself.", "warn")
    if service.next_run_at is None:
        return State("No run ahead", f"Its times have no run in the next {windows.HORIZON} days: change them.", "warn")
    why_not = windows.allowed(schedule, now)
    if not why_not:
        return State("On", "It starts at its times.", "good")
    # Without the blackouts, the same moment would be allowed, or be refused for another reason.
    blackout = why_not != windows.allowed(replace(schedule, blackouts=()), now)
    return State("Blackout" if blackout else "Outside window", why_not, "calm" if blackout else "busy")


def _not_provisioned(request: Provisioning | None) -> State:
    if request is None:
        return State("Off", "The services are not provisioned yet. Save them once: that asks for it.")
    if request.status == Provisioning.Status.REQUESTED:
        who = request.requested_name or "somebody"
        return State("Waiting for provision", f"Asked for by {who}; an administrator of this hub decides.", "warn")
    return State("Off", f"Provisioning was declined by {request.decided_name}: {request.reason}", "bad")


def outlook(schedule: windows.Schedule, recommended: int, after: datetime, count: int = SHOWN) -> Outlook:
    """Say what a schedule means; one with errors means nothing yet."""
    errors, warnings = windows.problems(schedule, recommended)
    if errors:
        return Outlook("", errors, [], [], [])
    runs = windows.upcoming(schedule, after, count)
    return Outlook(windows.sentence(schedule), [], warnings, runs, heat(schedule))


def heat(schedule: windows.Schedule) -> list[list[int]]:
    """Count the starts in each hour of an ordinary week, Monday first; blackouts and changes of clocks are left aside."""
    week = []
    for day in range(7):
        minutes: set[int] = set()
        for window in schedule.windows:
            if day in window.days:
                minutes.update(window.runs_on_its_day())
            if (day - 1) % 7 in window.days:
                minutes.update(window.runs_on_the_next_day())
        week.append([sum(minute // 60 == hour for minute in minutes) for hour in range(24)])
    return week


def paused_from(service: Service, now: datetime) -> datetime:
    """Return the moment from which a service's runs count: now, or the end of its pause."""
    return max(now, service.paused_until) if service.paused_until else now
