"""What is wrong now?  Read off rows that are there anyway, by a number of queries that does not grow with them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from math import ceil

from django.conf import settings
from django.db.models import Count, F, Max, OuterRef, Q, Subquery

from connectors.models import Connection, Event, Integration, RecordLink, Run, Scope
from connectors.sync.health import BROKEN
from connectors.sync.plan import Pending
from connectors.sync.run import CHECK_KEPT, PREVIEW_KEPT
from jobs.alerts.rules import Fact
from jobs.models import AlertRule, Failing, Job, WorkerHeartbeat
from jobs.states import OPEN, StatusReason

S = StatusReason
LOOK_BACK = timedelta(days=30)  # failures and missed runs before that are history
CREDENTIAL_DAYS = (1, 7, 14, 30)  # SCREENS section 2
OVERDUE = timedelta(minutes=5)  # a due job that nobody took for so long


def facts(what: str, now: datetime) -> list[Fact]:
    """Return all that is wrong of one kind, whatever rules there are."""
    return _KINDS[what](now)


def concerning(rule: AlertRule, found: Iterable[Fact]) -> list[Fact]:
    """Return what a rule is about: its integration's, and beyond its threshold."""
    mine = [fact for fact in found if rule.integration_id in (None, fact.integration)]
    if rule.what == AlertRule.What.PARKED:
        mine = [fact for fact in mine if fact.count > rule.more_than]
    return list({fact.cause: fact for fact in mine}.values())


def _failed(now: datetime) -> list[Fact]:
    """Syncs that failed after their last retry and have not succeeded since, and other jobs alike."""
    succeeded = Job.objects.filter(scope=OuterRef("scope"), status_reason=S.SUCCEEDED).order_by("-id")
    jobs = Job.objects.filter(scope__isnull=False).annotate(good=Subquery(succeeded.values("finished_at")[:1]))
    # What a person has set aside is known.
    wrong = Q(status_reason=S.FAILED, finished_at__gt=now - LOOK_BACK, aside_at=None) & _after_good("finished_at")
    # What a person has just pressed Retry for is not mended by that.
    wrong |= Q(round__gt=0, status_reason__in=OPEN) & _after_good("created_at")
    by_scope = jobs.filter(wrong).values("scope").annotate(n=Count("id"), last=Max("id"))
    counts = {row["scope"]: (row["n"], row["last"]) for row in by_scope.order_by()}
    rows = {row.scope_id: row for row in Failing.objects.filter(warned_at__isnull=False)}
    errors = dict(
        Job.objects.filter(pk__in=[last for _, last in counts.values()]).values_list("scope", "error_message")
    )
    found: list[Fact] = []
    for scope in Scope.objects.filter(pk__in={*counts, *rows}).select_related("integration"):
        number, row = counts.get(scope.pk, (0, 0))[0], rows.get(scope.pk)
        error = errors.get(scope.pk) or scope.last_error
        text = (
            f"{scope}: {number} failed job{'s'[: number != 1]}" if number else f"{scope}: {scope.failures} failed runs"
        )
        stage = ""
        if row is not None and row.paused_at is not None:
            text, stage = f"{scope}: {scope.disabled_reason}", "paused by rule"
        elif error:
            text = f"{text}, the last: {error}"
        found.append(Fact(f"failed:scope:{scope.pk}", text, max(1, number), stage, scope.integration_id))
    return [*found, *_failed_others(now)]


def _after_good(moment: str) -> Q:
    return Q(good__isnull=True) | Q(**{f"{moment}__gt": F("good")})


def _failed_others(now: datetime) -> list[Fact]:
    # Not the alerts' own messages: one that can't be delivered must not make the next.
    others = Job.objects.filter(
        scope__isnull=True, status_reason=S.FAILED, finished_at__gt=now - LOOK_BACK, aside_at=None
    )
    failed = (
        others.exclude(type="alert message").values("type").annotate(n=Count("id"), last=Max("finished_at")).order_by()
    )
    found: list[Fact] = []
    for row in failed:
        if Job.objects.filter(type=row["type"], status_reason=S.SUCCEEDED, finished_at__gt=row["last"]).exists():
            continue
        text = f"{row['n']} job{'s'[: row['n'] != 1]} of the type {row['type']} failed"
        found.append(Fact(f"failed:type:{row['type']}", text, row["n"]))
    return found


def _parked(now: datetime) -> list[Fact]:
    rows = RecordLink.objects.filter(pending=int(Pending.PARKED)).values_list(
        "entity_sync__integration", "entity_sync__integration__name"
    )
    return [
        Fact(f"parked:{pk}", f"{name}: {total} records are parked", total, integration=pk)
        for pk, name, total in rows.annotate(total=Count("id")).order_by()
    ]


def _missed(now: datetime) -> list[Fact]:
    integrations = dict(Integration.objects.values_list("pk", "name"))
    done = dict(
        Scope.objects.filter(last_done_at__isnull=False)
        .values_list("integration")
        .annotate(at=Max("last_done_at"))
        .order_by()
    )
    events = Event.objects.filter(integration__in=integrations, at__gt=now - LOOK_BACK, code="missed run")
    found: dict[int, Fact] = {}
    for pk, at, message in events.order_by("at").values_list("integration", "at", "message"):
        if pk in done and done[pk] > at:
            continue
        before = found[pk].count if pk in found else 0
        found[pk] = Fact(f"missed:{pk}", f"{integrations[pk]}: {message}", before + 1, integration=pk)
    return list(found.values())


def _credentials(now: datetime) -> list[Fact]:
    expiring = Q(auth_expires_at__lte=now + timedelta(days=max(CREDENTIAL_DAYS)))
    found: list[Fact] = []
    for connection in Connection.objects.filter(expiring | Q(state__in=BROKEN)):
        if connection.state in BROKEN:
            why = connection.reason or connection.get_state_display()
            fact = Fact(f"credential:{connection.pk}", f"{connection}: {why}", stage=connection.state)
        elif connection.auth_expires_at is not None:
            left = max(0, ceil((connection.auth_expires_at - now) / timedelta(days=1)))
            stage = next(str(days) for days in CREDENTIAL_DAYS if left <= days)
            when = f"{connection.auth_expires_at:%Y-%m-%d %H:%M} UTC"
            text = f"{connection}: its credentials expire on {when}; renew them on its page"
            fact = Fact(f"credential:{connection.pk}", text, stage=stage)
        # Once for each integration that uses it, since a rule may be for one of them; the cause stays the same.
        users = Integration.objects.filter(Q(left=connection) | Q(right=connection)).values_list("pk", flat=True)
        found += [replace(fact, integration=pk) for pk in users] or [fact]
    return found


def _approvals(now: datetime) -> list[Fact]:
    purpose = Q(purpose=Run.Purpose.CHECK, finished_at__gte=now - CHECK_KEPT)
    purpose |= Q(finished_at__gte=now - PREVIEW_KEPT) & ~Q(purpose=Run.Purpose.CHECK)
    runs = Run.objects.filter(purpose, phase=Run.Phase.PROPOSED).values_list("integration").annotate(n=Count("id"))
    deletes = RecordLink.objects.filter(pending=int(Pending.WAITING), reason="waits for approval")
    waiting = dict(runs.order_by())
    links = dict(deletes.values_list("entity_sync__integration").annotate(n=Count("id")).order_by())
    found: list[Fact] = []
    for pk, name in Integration.objects.filter(pk__in={*waiting, *links}).values_list("pk", "name"):
        parts = [(waiting.get(pk, 0), "preview"), (links.get(pk, 0), "delete")]
        told = " and ".join(f"{n} {word}{'s'[: n != 1]}" for n, word in parts if n)
        count = sum(n for n, _ in parts)
        found.append(Fact(f"approvals:{pk}", f"{name}: {told} to approve", count, integration=pk))
    return found


def _workers(now: datetime) -> list[Fact]:
    """Hosts whose worker went away without signing off, and a hub whose due jobs nobody takes."""
    alive = now - timedelta(seconds=max(60.0, 3 * settings.WORKER_BEAT_SECONDS))
    rows = WorkerHeartbeat.objects.filter(kind=WorkerHeartbeat.Kind.SUPERVISOR).values_list("host", "seen_at")
    seen: dict[str, datetime] = {}
    for host, at in rows:
        seen[host] = max(at, seen.get(host, at))
    found = [
        Fact(f"worker:{host}", f"The worker on {host} was last seen at {at:%Y-%m-%d %H:%M} UTC; start it again")
        for host, at in seen.items()
        if at < alive
    ]
    overdue = Job.objects.ready(now - OVERDUE)
    if not any(at >= alive for at in seen.values()) and overdue.exists():
        found.append(Fact("worker:none", "No worker is running and jobs are due: start `manage.py worker`"))
    return found


_KINDS: dict[str, Callable[[datetime], list[Fact]]] = {
    AlertRule.What.FAILED: _failed,
    AlertRule.What.PARKED: _parked,
    AlertRule.What.MISSED: _missed,
    AlertRule.What.CREDENTIAL: _credentials,
    AlertRule.What.APPROVALS: _approvals,
    AlertRule.What.WORKER: _workers,
}
