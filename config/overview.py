"""What does the first page show: what needs somebody, and how is each integration?  A constant number of queries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from typing import Any

from django.db.models import Count, Min, Q
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.safestring import SafeString

from config import health as hub
from connectors import svg
from connectors.admin.base import ago, badge, exact, relative
from connectors.admin.integrations import OPERATE, system_title
from connectors.admin.runs import phase_badge, summary, with_retries
from connectors.models import Budget, Connection, Event, Integration, Run
from connectors.registry import UnknownSystem, connector_class
from connectors.sync import drift
from connectors.sync.health import BROKEN, Health, many, overview
from connectors.transport.budget import amounts, window
from jobs import clock, pauses
from jobs.models import Job
from jobs.states import RUNNING
from scheduling.models import Provisioning, Service

DAYS = 14
LATE = timedelta(minutes=5)  # a service that has not started by then was missed
MISSED_TOLD = timedelta(hours=24)
EXPIRY_TOLD = timedelta(days=30)
MOST_NEEDS = 8
MOST_BANNERS = 5
LITTLE = 0.2  # of a quota that is left
LAST_RUNS = 8
SEES = ("connectors.view_recordlink", "connectors.view_problemgroup")


@dataclass(frozen=True)
class Banner:
    """Something that is wrong with the hub itself, or soon will be."""

    title: str
    words: str
    tone: str = "warn"
    url: str = ""
    link: str = ""


@dataclass(frozen=True)
class Need:
    """Something that waits for a person: what, since when, and where it is done."""

    what: str
    why: str
    url: str
    do: str
    since: datetime | None = None

    @property
    def waits(self) -> SafeString | str:
        """How long it has been waiting."""
        return ago(self.since) if self.since else ""


@dataclass(frozen=True)
class Quota:
    """What is left of the limit that is nearest its end."""

    left: float
    words: str

    @property
    def percent(self) -> int:
        """In percent, rounded down: what is short is never shown as ample."""
        return int(100 * self.left)

    @property
    def shown(self) -> SafeString:
        """As a bar."""
        return svg.gauge(self.left, self.words, tone="good" if self.left > LITTLE else "bad")


@dataclass
class Row:
    """One integration."""

    health: Health
    left: str
    right: str
    next_at: datetime | None = None
    next_words: str = ""
    again: Job | None = None  # the open job that a failing integration waits for
    days: list[svg.Day] = field(default_factory=list)
    quota: Quota | None = None

    @property
    def integration(self) -> Integration:
        """The integration itself."""
        return self.health.integration

    @property
    def waiting(self) -> list[Run]:
        """Previews, undos and guarded runs that a person can let go on."""
        return self.health.waiting

    @property
    def hands(self) -> int:
        """Records that go on only when somebody acts."""
        return self.health.counts["conflict"] + self.health.counts["parked"]

    @property
    def state(self) -> SafeString:
        """One word."""
        return badge(self.health.state, self.health.reason)

    @property
    def last(self) -> SafeString:
        """When everything was last read and written to the end."""
        return ago(self.health.scope.last_done_at if self.health.scope else None)

    @property
    def next(self) -> SafeString | str:
        """When it runs next by itself."""
        return ago(self.next_at) if self.next_at else self.next_words

    @property
    def strip(self) -> SafeString:
        """The last days."""
        bad = sum(day.tone == "bad" for day in self.days)
        warn = sum(day.tone == "warn" for day in self.days)
        return svg.strip(self.days, f"Last {len(self.days)} days: {bad} with failures, {warn} with problems")

    @property
    def tried_again(self) -> str:
        """When a failing integration is tried again."""
        if self.health.state != "Failing":
            return ""
        if self.again is None:
            return "No further try is planned: press Sync now when the cause is mended."
        return f"It is tried again {relative(self.again.run_at, clock.now())} (job {self.again.pk})."

    @property
    def problems_url(self) -> str:
        """Where its problems are."""
        problems = reverse("admin:connectors_problemgroup_changelist")
        return f"{problems}?integration__id__exact={self.integration.pk}"

    @property
    def approvals(self) -> int:
        """Runs and deletes that wait for somebody's approval."""
        return len(self.waiting) + self.health.approvals

    @property
    def approve_at(self) -> str:
        """Where the approving begins: with the runs."""
        if not self.waiting:
            return self.deletes_url
        return reverse("admin:connectors_run_change", args=[max(run.pk for run in self.waiting)])

    @property
    def deletes_url(self) -> str:
        """Where its deletes are approved."""
        records = reverse("admin:connectors_recordlink_changelist")
        return f"{records}?pending=2&reason=waits+for+approval&integration={self.integration.pk}"

    @property
    def do(self) -> str:
        """Where Sync now is pressed."""
        return reverse("admin:connectors_integration_do", args=[self.integration.pk, "sync_now"])


def context(request: HttpRequest) -> dict[str, Any]:
    """Return what the template shows; what somebody may not see is not there."""
    if not request.user.has_perm("connectors.view_integration"):
        return {"sl_rows": None, "sl_banners": banners(clock.now(), request.user)}
    now = clock.now()
    shown = rows(now)
    integrations = [row.integration for row in shown]
    runs: list[dict[str, object]] = []
    if request.user.has_perm("connectors.view_run"):
        newest = with_retries(Run.objects.select_related("integration")).defer("progress").order_by("-id")[:LAST_RUNS]
        runs = [
            {"run": r, "phase": phase_badge(r), "summary": summary(r), "started": ago(r.started_at)} for r in newest
        ]
    waiting = needs(shown, now, request.user)
    return {
        "sl_rows": shown,
        "sl_banners": banners(now, request.user, integrations),
        "sl_needs": waiting[:MOST_NEEDS],
        "sl_more_needs": max(0, len(waiting) - MOST_NEEDS),
        "sl_count": len(waiting),
        "sl_runs": runs,
        "sl_may_sync": request.user.has_perm(OPERATE),
        "sl_may_add": request.user.has_perm("connectors.add_integration"),
        "sl_may_see_records": request.user.has_perms(SEES),
    }


# Rows


def rows(now: datetime) -> list[Row]:
    """Look at every integration."""
    integrations = list(Integration.objects.select_related("left", "right").order_by("name"))
    looked = overview(integrations, agreed=False, now=now)
    scopes = [h.scope.pk for h in looked if h.scope is not None]
    days, starts, jobs = strips(scopes, timezone.localdate(now)), next_starts(integrations), open_jobs(scopes)
    quotas = quotas_of([c for i in integrations for c in (i.left, i.right)], now)
    found: list[Row] = []
    for one in looked:
        ends = (one.integration.left, one.integration.right)
        row = Row(one, system_title(ends[0].system), system_title(ends[1].system))
        scope = one.scope.pk if one.scope else 0
        row.days = days.get(scope) or [_day(day, 0, 0, 0) for day in last_days(timezone.localdate(now))]
        row.again = jobs.get(scope)
        row.next_at, row.next_words = _next(one, starts.get(one.integration.pk), row.again, now)
        left = [quota for end in ends if (quota := quotas.get(end.pk))]
        row.quota = min(left, key=lambda quota: quota.left, default=None)
        found.append(row)
    return found


def _next(one: Health, start: datetime | None, job: Job | None, now: datetime) -> tuple[datetime | None, str]:
    if job is not None:
        if job.status in RUNNING:
            return None, "running now"
        return (job.run_at, "") if job.run_at > now else (None, "waits for a worker")
    if one.state == "Paused" or start is None:
        return None, "none planned"
    return start, ""


def next_starts(integrations: Iterable[Integration]) -> dict[int, datetime]:
    """Return when a service of each integration starts next."""
    ahead = Service.objects.filter(integration__in=list(integrations), next_run_at__isnull=False)
    return dict(ahead.values_list("integration").annotate(at=Min("next_run_at")).order_by())


def open_jobs(scopes: Iterable[int]) -> dict[int, Job]:
    """Return the open job of each scope that is due first."""
    found: dict[int, Job] = {}
    columns = ("id", "scope", "run_at", "status_reason")
    for job in Job.objects.open().filter(scope__in=list(scopes)).only(*columns).order_by("run_at", "id")[:1000]:
        found.setdefault(job.scope_id or 0, job)
    return found


# Days


def last_days(today: date) -> list[date]:
    """Return the days of a strip, oldest first."""
    return [today - timedelta(days=ago_) for ago_ in range(DAYS - 1, -1, -1)]


def strips(scopes: list[int], today: date) -> dict[int, list[svg.Day]]:
    """Count the runs of each scope by day, in the reader's time zone: one query, by the index of runs by start."""
    days = last_days(today)
    zone = timezone.get_current_timezone()
    starts = [datetime.combine(day, time(), zone) for day in [*days, today + timedelta(days=1)]]
    failed = Q(phase=Run.Phase.FAILED) | ~Q(error="")
    poor = ~failed & (Q(problems__gt=0) | Q(phase=Run.Phase.GUARDED))
    counted: dict[str, Count] = {}
    for place in range(DAYS):
        within = Q(started_at__gte=starts[place], started_at__lt=starts[place + 1])
        ended = Q(finished_at__isnull=False) | failed
        counted[f"all{place}"] = Count("id", filter=within & ended)
        counted[f"poor{place}"] = Count("id", filter=within & poor)
        counted[f"failed{place}"] = Count("id", filter=within & failed)
    lately = Run.objects.filter(scope__in=scopes, started_at__gte=starts[0], started_at__lt=starts[-1])
    found: dict[int, list[svg.Day]] = {}
    counts: Iterable[dict[str, Any]] = lately.values("scope").annotate(**counted).order_by()  # type: ignore[assignment]
    for line in counts:
        found[line["scope"]] = [
            _day(day, line[f"all{place}"], line[f"poor{place}"], line[f"failed{place}"])
            for place, day in enumerate(days)
        ]
    return found


def _day(day: date, runs: int, poor: int, failed: int) -> svg.Day:
    tone = "bad" if failed else "warn" if poor else "good" if runs else "none"
    parts = [f"{runs} run{'s'[: runs != 1]}" if runs else "no run"]
    parts += [f"{count} {what}" for count, what in ((poor, "with problems"), (failed, "failed")) if count]
    return svg.Day(tone, f"{day:%a %d %b}: {', '.join(parts)}")


# Quotas


def quotas_of(connections: Iterable[Connection], now: datetime) -> dict[int, Quota]:
    """Return of each connection the limit of calls of which the smallest part is left."""
    by_id = {connection.pk: connection for connection in connections}
    used: dict[tuple[int, str], Budget] = {
        (row.connection_id, row.limit): row for row in Budget.objects.filter(connection__in=by_id)
    }
    found: dict[int, Quota] = {}
    for pk, connection in by_id.items():
        try:
            declared = connector_class(connection.system).limits
        except UnknownSystem:
            continue
        each: list[Quota] = []
        for limit in amounts(declared, connection.settings or {}):
            if limit.per is None:
                continue
            row = used.get((pk, limit.name))
            spent = row.used if row is not None and row.window_start == window(now, limit.per) else 0
            left = max(0, limit.amount - spent)
            words = f"{connection.name}: {left:,} of {limit.amount:,} calls ({limit.name}) left {_per(limit.per)}"
            each.append(Quota(left / limit.amount, words))
        if each:
            found[pk] = min(each, key=lambda quota: quota.left)
    return found


def _per(length: timedelta) -> str:
    seconds = int(length.total_seconds())
    if seconds == 86_400:
        return "today"
    if seconds % 60 == 0:
        return "this minute" if seconds == 60 else f"in these {seconds // 60} minutes"
    return f"in these {seconds} seconds"


# What needs somebody


def needs(shown: Iterable[Row], now: datetime, user: Any) -> list[Need]:
    """Return what waits for a person, longest first; what has no known age comes last."""
    found: list[Need] = []
    integrations = {row.integration.pk: row for row in shown}
    if user.has_perm("scheduling.decide_provisioning"):
        found += [
            _provisioning(row) for row in Provisioning.objects.filter(status="requested").select_related("integration")
        ]
    if user.has_perm("connectors.view_run"):
        found += [_run(run) for row in integrations.values() for run in row.waiting]
    since = _first_touched(integrations)
    for row in integrations.values():
        found += _of_row(row, since.get(row.integration.pk), user)
    return sorted(found, key=lambda need: (need.since is None, need.since or now))


def _provisioning(row: Provisioning) -> Need:
    return Need(
        f"{row.integration} waits to be provisioned", f"{row.requested_name or 'Somebody'} asked for it.",
        reverse("admin:scheduling_integration", args=[row.integration_id]) + "#provisioning", "Approve or decline",
        row.requested_at,
    )  # fmt: skip


def _run(run: Run) -> Need:
    page = reverse("admin:connectors_run_change", args=[run.pk])
    if run.phase == Run.Phase.GUARDED:
        sentences = (run.guard or {}).get("tripped") or [""]
        return Need(
            f"{run.integration}: a guard stopped run {run.pk}",
            str(sentences[0]),
            page,
            "Look and accept",
            run.finished_at,
        )
    return Need(
        f"{run.integration}: {run.get_purpose_display().lower()} {run.pk} waits for approval",
        "Nothing is written until somebody has looked at it.", page, "Look and approve", run.finished_at,
    )  # fmt: skip


def _first_touched(integrations: Mapping[int, Row]) -> dict[int, datetime]:
    """Return since when the runs of an integration have been leaving problems: the last run that left none came before."""
    asking = [row.health.scope.pk for row in integrations.values() if row.health.scope and row.hands]
    left = Run.objects.filter(scope__in=asking, started_at__gte=clock.now() - timedelta(days=DAYS), problems__gt=0)
    return dict(left.values_list("integration").annotate(first=Min("started_at")).order_by())


def _of_row(row: Row, since: datetime | None, user: Any) -> list[Need]:
    found: list[Need] = []
    name, one = str(row.integration), row.health
    for connection in (row.integration.left, row.integration.right):
        if connection.state in BROKEN and user.has_perm("connectors.view_connection"):
            page = reverse("admin:connectors_connection_change", args=[connection.pk])
            why = connection.reason or connection.get_state_display()
            found.append(Need(f"{connection.name} needs to be connected again", why, page, "Reconnect"))
    if one.state == "Failing" and one.scope is not None:
        page = reverse("admin:connectors_integration_change", args=[row.integration.pk])
        found.append(Need(f"{name} fails", one.scope.last_error, page, "Look", one.scope.last_done_at))
    if not user.has_perms(SEES):
        return found
    if row.hands:
        parts = [
            f"{many(one.counts[kind])} {word}"
            for kind, word in (("parked", "parked"), ("conflict", "in conflict"))
            if one.counts[kind]
        ]
        are = "record needs" if row.hands == 1 else "records need"
        found.append(
            Need(
                f"{name}: {many(row.hands)} {are} a person",
                ", ".join(parts).capitalize() + ".",
                row.problems_url,
                "See the problems",
                since,
            )
        )
    if one.approvals:
        what = "delete waits" if one.approvals == 1 else "deletes wait"
        found.append(
            Need(
                f"{name}: {many(one.approvals)} {what} for approval",
                "Nothing is deleted until then.",
                row.deletes_url,
                "See them",
            )
        )
    return found


# Banners


def banners(now: datetime, user: Any, integrations: Iterable[Integration] = ()) -> list[Banner]:
    """Return what is wrong with the hub itself."""
    found: list[Banner] = []
    if not hub.worker_alive(now):
        words = "Syncs that you ask for wait until one is started: python manage.py worker"
        found.append(Banner("No worker is running.", words, "bad"))
    if user.has_perm("jobs.view_pause"):
        found += _paused(now)
    if user.has_perm("scheduling.view_service"):
        found += _missed(now, [integration.pk for integration in integrations])
    if user.has_perm("connectors.view_connection"):
        found += _expiring(now)
    if user.has_perm("connectors.view_fieldmapping"):
        found += _drifted(now)
    return found


def _drifted(now: datetime) -> list[Banner]:
    """Of each entity sync one: its page has the rest."""
    seen: dict[int, Banner] = {}
    for row in drift.open_drifts()[: MOST_BANNERS * 10]:
        sync = row.entity_sync
        page = reverse("admin:connectors_mapping_editor", args=[sync.pk])
        words = f"{row.message} Seen {relative(row.first_seen, now)}."
        seen.setdefault(
            sync.pk, Banner(f"{sync.integration}: mappings need what has changed.", words, "warn", page, "Mappings")
        )
    return list(seen.values())[:MOST_BANNERS]


def _paused(now: datetime) -> list[Banner]:
    found: list[Banner] = []
    for pause in pauses.active(now)[:MOST_BANNERS]:
        by = f" by {pause.who}" if pause.who else ""
        ends = f", until {exact(pause.until)}" if pause.until else ""
        page = reverse("admin:jobs_pause_change", args=[pause.pk])
        words = f"Held back{by} {relative(pause.at, now)}{ends}: {pause.reason}"
        found.append(Banner(f"Paused: {pause.what}.", words, "warn", page, "Look at the pause"))
    return found


def _missed(now: datetime, integrations: list[int]) -> list[Banner]:
    found: list[Banner] = []
    late = Service.objects.filter(next_run_at__isnull=False, next_run_at__lt=now - LATE, enabled=True)
    for service in late.select_related("integration").order_by("next_run_at")[:MOST_BANNERS]:
        page = reverse("admin:scheduling_integration", args=[service.integration_id])
        words = f"{service.name} should have started {relative(service.next_run_at, now)}. It is made up for once a worker runs."
        found.append(Banner(f"{service.integration}: a run is late.", words, "warn", page, "Schedule"))
    told = Event.objects.filter(integration__in=integrations, code="missed run", at__gte=now - MISSED_TOLD)
    for event in told.select_related("integration").order_by("-at")[: MOST_BANNERS - len(found)]:
        page = reverse("admin:scheduling_integration", args=[event.integration_id])
        found.append(Banner(f"{event.integration}: a run was missed.", event.message, "warn", page, "Schedule"))
    return found


def _expiring(now: datetime) -> list[Banner]:
    soon = Connection.objects.filter(auth_expires_at__isnull=False, auth_expires_at__lte=now + EXPIRY_TOLD)
    found: list[Banner] = []
    for connection in soon.exclude(state__in=BROKEN).order_by("auth_expires_at")[:MOST_BANNERS]:
        ends = connection.auth_expires_at
        over = ends is not None and ends <= now
        page = reverse("admin:connectors_connection_change", args=[connection.pk])
        title = f"The credentials of {connection.name} {'have ended' if over else 'end soon'}."
        words = f"They {'ended' if over else 'end'} {relative(ends, now)}. Renew them, or its syncs stop."
        found.append(
            Banner(title, words, "bad" if over or (ends and ends - now < timedelta(days=7)) else "warn", page, "Renew")
        )
    return found
