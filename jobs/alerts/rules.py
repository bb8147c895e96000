"""Who is told what, and when?  Pure: what is wrong and what was told, in; the next message, out.

One message when something goes wrong; whatever else happens within the hour waits for one roll-up of all of it; after a day
it is only in the daily digest.  When it is over, that is told, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
MOST_LINES = 50  # of one message; the rest is counted


@dataclass(frozen=True)
class Fact:
    """Something that is wrong now."""

    cause: str  # the same for as long as it is the same trouble
    text: str
    count: int = 1
    stage: str = ""  # another one is worth a message of its own
    integration: int | None = None


@dataclass(frozen=True)
class Known:
    """An alert, as it stands after the present look."""

    cause: str
    text: str
    count: int
    stage: str
    opened_at: datetime
    resolved: bool
    told_count: int  # 0: nobody was told yet
    told_stage: str
    acknowledged: bool = False  # somebody said that they know

    @property
    def told(self) -> bool:
        """Whether somebody knows of it."""
        return self.told_count > 0

    @property
    def news(self) -> bool:
        """Whether it is not as it was told."""
        return not self.resolved and (self.count > self.told_count or self.stage != self.told_stage)


@dataclass(frozen=True)
class Told:
    """When a rule's people were told last."""

    at: datetime | None  # that something is wrong
    cleared_at: datetime | None  # that something is over
    digest_on: date | None


class Kind(StrEnum):
    """What a message is; the values are those of AlertMessage.Kind."""

    NEWS = "news"
    ROLLUP = "rollup"
    DIGEST = "digest"
    RESOLVED = "resolved"


@dataclass(frozen=True)
class Letter:
    """A message to all recipients of a rule."""

    kind: Kind
    subject: str
    body: str
    about: tuple[Known, ...]


def next_letter(name: str, alerts: Sequence[Known], told: Told, now: datetime, *, digest_at: datetime) -> Letter | None:
    """Return what the people of a rule are told at this moment, if anything.

    `alerts` are those that are open, and those that are over and of which that was not told yet.  `digest_at` is the last
    moment at which a daily digest was due.
    """
    open_now = [alert for alert in alerts if not alert.resolved]
    over = [alert for alert in alerts if alert.resolved and alert.told]
    passed = [alert for alert in alerts if alert.resolved and not alert.told]  # came and went between two messages
    # After a day nobody needs an hourly count of it: the digest goes on.
    news = [a for a in open_now if a.news and (not a.told or a.stage != a.told_stage or now - a.opened_at < DAY)]
    if (news or passed) and (told.at is None or now - told.at >= HOUR):
        return _wrong(name, news, [*over, *passed], now)
    all_clear = not any(alert.told for alert in open_now)
    if over and (all_clear or told.cleared_at is None or now - told.cleared_at >= HOUR):
        return _over(name, over, still=len(open_now))
    standing = [alert for alert in open_now if alert.opened_at <= digest_at - HOUR and not alert.acknowledged]
    if standing and (told.digest_on is None or told.digest_on < digest_at.date()):
        return _digest(name, standing)
    return None


def last_digest(now: datetime, at: time, zone: ZoneInfo) -> datetime:
    """Return the last moment at which the daily digest was due, on the clocks of its zone."""
    local = now.astimezone(zone)
    day = local.date() if local.time() >= at else local.date() - DAY
    return datetime.combine(day, at, zone)


def _wrong(name: str, news: list[Known], over: list[Known], now: datetime) -> Letter:
    fresh = not over and all(alert.opened_at == now for alert in news)
    head = news[0].text if len(news) == 1 else f"{len(news)} alerts" if news else "came and went"
    parts = [_lines(news)] if news else []
    if over:
        parts.append(f"Over again:\n{_lines(over)}")
    return Letter(Kind.NEWS if fresh else Kind.ROLLUP, f"{name}: {head}", "\n\n".join(parts), (*news, *over))


def _over(name: str, over: list[Known], *, still: int) -> Letter:
    head = over[0].text if len(over) == 1 else f"{len(over)} alerts"
    rest = f"\n\nStill open: {still}." if still else ""
    return Letter(Kind.RESOLVED, f"Resolved: {name}: {head}", f"This is over:\n{_lines(over)}{rest}", tuple(over))


def _digest(name: str, alerts: list[Known]) -> Letter:
    count = "1 alert is" if len(alerts) == 1 else f"{len(alerts)} alerts are"
    return Letter(Kind.DIGEST, f"{name}: {count} still open", f"Still open:\n{_lines(alerts)}", tuple(alerts))


def _lines(alerts: Sequence[Known]) -> str:
    shown = [f"- {a.text} (since {a.opened_at:%Y-%m-%d %H:%M} UTC)" for a in alerts[:MOST_LINES]]
    if len(alerts) > MOST_LINES:
        shown.append(f"- and {len(alerts) - MOST_LINES} more")
    return "\n".join(shown)
