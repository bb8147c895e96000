"""How well does a connection work?  Figures from its newest calls: a few queries, however long the request log is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import ceil

from connectors.contract import Limit
from connectors.models import ApiCall, Budget, ConcurrencySlot, Connection, HookMark, LastCheck
from connectors.registry import UnknownSystem, connector_class
from connectors.transport import oauth
from connectors.transport.budget import amounts, window
from connectors.transport.types import OAuth2

DAY = timedelta(hours=24)
NEWEST = 10_000  # calls that are looked at; of a busier day it is said since when
IN_A_ROW = 3  # calls without an answer: not reachable
WARN_DAYS = 30  # before a login ends; the alerts repeat it at 14, 7 and 1
SKEW_TOLD = 30.0  # seconds between two clocks that are worth a word


@dataclass(frozen=True, slots=True)
class Seen:
    """One call, as far as figures need it."""

    pk: int
    at: datetime
    method: str
    status: int
    ms: int

    @property
    def failed(self) -> bool:
        """No answer, or one that is an error."""
        return not self.status or self.status >= 400


@dataclass(frozen=True, slots=True)
class Quota:
    """How much of one limit is used just now."""

    name: str
    amount: int
    used: int
    per: timedelta | None
    held_until: datetime | None = None
    remaining: int | None = None  # what the system itself said at the last check

    @property
    def part(self) -> float:
        """Of the whole, 0 to 1."""
        return min(1.0, self.used / self.amount)


@dataclass(frozen=True)
class Figures:
    """A connection's last day."""

    word: str
    reason: str
    auth: str
    calls: int
    capped_since: datetime | None  # the day had more calls than were looked at; these are the ones since
    errors: int
    unanswered: int
    p50: int | None
    p95: int | None
    last_good: datetime | None
    hours: Sequence[tuple[datetime, int, int]]  # (begins, calls, errors), oldest first
    quotas: Sequence[Quota]
    skew: float | None
    checked_at: datetime | None
    heard_at: datetime | None  # of webhooks about this very connection
    newest: Sequence[Seen] = field(repr=False, default=())

    def as_data(self) -> dict[str, object]:
        """Return what API and command tell."""
        return {
            "state": self.word, "reason": self.reason, "auth": self.auth, "calls_24h": self.calls,
            "counted_since": self.capped_since, "errors_24h": self.errors, "unanswered_24h": self.unanswered,
            "p50_ms": self.p50, "p95_ms": self.p95, "last_good_call": self.last_good,
            "calls_per_hour": [{"from": at, "calls": calls, "errors": errors} for at, calls, errors in self.hours],
            "quotas": [
                {
                    "name": q.name, "amount": q.amount, "used": q.used,
                    "seconds": q.per.total_seconds() if q.per else None, "held_until": q.held_until,
                    "remaining": q.remaining,
                }
                for q in self.quotas
            ],
            "clock_skew_seconds": self.skew, "checked_at": self.checked_at, "webhook_last_heard": self.heard_at,
        }  # fmt: skip


def figures(connection: Connection, now: datetime) -> Figures:
    """Look at a connection: five queries."""
    columns = ("pk", "at", "method", "status", "ms")
    rows = ApiCall.objects.filter(connection=connection).order_by("-at").values_list(*columns)[:NEWEST]
    newest = [Seen(*row) for row in rows]
    today = [call for call in newest if call.at > now - DAY]
    check = LastCheck.objects.filter(connection=connection).first()
    mark = HookMark.objects.filter(connection=connection).first()
    quotas = _quotas(connection, check, now)
    times = sorted(call.ms for call in today if call.status)
    word, reason = judge(connection, newest, quotas, now)
    return Figures(
        word=word, reason=reason, auth=auth_kind(connection), calls=len(today),
        capped_since=today[-1].at if len(today) == NEWEST else None,
        errors=sum(call.failed for call in today), unanswered=sum(not call.status for call in today),
        p50=percentile(times, 50), p95=percentile(times, 95),
        last_good=next((call.at for call in newest if not call.failed), None),
        hours=_hours(today, now), quotas=quotas, skew=check.skew_seconds if check else None,
        checked_at=check.at if check else None, heard_at=mark.last_heard_at if mark else None, newest=newest,
    )  # fmt: skip


def judge(connection: Connection, newest: Sequence[Seen], quotas: Sequence[Quota], now: datetime) -> tuple[str, str]:
    """Return the state's word and the sentence behind it: the worst first."""
    state = Connection.State(connection.state)
    if state is not Connection.State.CONNECTED:
        return state.label, connection.reason or ("Press Check now." if state is Connection.State.NEW else "")
    silent = [call for call in newest[:IN_A_ROW] if not call.status]
    if len(silent) == IN_A_ROW:
        return "Unreachable", f"The last {IN_A_ROW} calls got no answer. Test shows which step fails."
    held = max((q.held_until for q in quotas if q.held_until), default=None)
    if held is not None:
        return "Throttled", f"The system asked to wait until {held:%H:%M:%S} UTC; calls go on by themselves then."
    if connection.auth_expires_at is not None and connection.auth_expires_at <= now + timedelta(days=WARN_DAYS):
        how = "Connect again" if oauth.consent_of(connection) else "Renew its credentials"
        return "Expiring", f"Its login ends on {connection.auth_expires_at:%Y-%m-%d}. {how} before that."
    return state.label, "Calls are answered."


def percentile(ordered: Sequence[int], which: int) -> int | None:
    """Return the value that so many of a hundred do not exceed (nearest rank)."""
    return ordered[max(0, ceil(len(ordered) * which / 100) - 1)] if ordered else None


def auth_kind(connection: Connection) -> str:
    """Say in words how the connection logs in."""
    try:
        oauth2 = login_of(connection)
    except UnknownSystem:
        return "not known"
    if oauth2 is None:
        return "No login"
    return "A person’s consent" if oauth2.grant == "refresh_token" else "The application itself"


def login_of(connection: Connection) -> OAuth2 | None:
    """Return how it logs in, also while settings are missing."""
    cls = connector_class(connection.system)
    return cls.auth({s.name: "" for s in cls.settings} | {k: str(v) for k, v in connection.settings.items()})


def _hours(today: Sequence[Seen], now: datetime) -> list[tuple[datetime, int, int]]:
    last = now.replace(minute=0, second=0, microsecond=0)
    found = {last - timedelta(hours=back): [0, 0] for back in reversed(range(24))}
    for call in today:
        counted = found.get(call.at.replace(minute=0, second=0, microsecond=0))
        if counted is not None:
            counted[0] += 1
            counted[1] += call.failed
    return [(at, calls, errors) for at, (calls, errors) in found.items()]


def _quotas(connection: Connection, check: LastCheck | None, now: datetime) -> list[Quota]:
    try:
        limits: Sequence[Limit] = amounts(connector_class(connection.system).limits, connection.settings)
    except UnknownSystem:
        return []
    budgets = {row.limit: row for row in Budget.objects.filter(connection=connection)}
    slots = list(ConcurrencySlot.objects.filter(connection=connection, until__gt=now).values_list("limit", flat=True))
    remaining = check.remaining if check else {}
    found = []
    for limit in limits:
        row = budgets.get(limit.name)
        used = slots.count(limit.name) if limit.per is None else _used(row, limit.per, now)
        held = row.hold_until if row and row.hold_until and row.hold_until > now else None
        found.append(Quota(limit.name, limit.amount, used, limit.per, held, remaining.get(limit.name)))
    return found


def _used(row: Budget | None, per: timedelta, now: datetime) -> int:
    """Return what counts in the sliding window: of the window before, the part that is still inside."""
    start = window(now, per)
    if row is None or row.window_start < start - per:
        return 0
    inside = 1 - (now - start) / per
    if row.window_start < start:
        return round(row.used * inside)
    return row.used + round(row.previous * inside)
