"""Who is told what, and when?  Over the pure rules."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest

from jobs.alerts.rules import Kind, Known, Told, last_digest, next_letter

START = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
NOBODY = Told(None, None, None)


def known(cause="a", *, opened=START, count=1, told=0, stage="", told_stage="", resolved=False):
    return Known(cause, f"trouble {cause}", count, stage, opened, resolved, told, told_stage)


def letter(alerts, told=NOBODY, now=START):
    return next_letter("Ops", alerts, told, now, digest_at=last_digest(now, time(8), ZoneInfo("UTC")))


class People:
    """Apply letters as the shell does, over hours."""

    def __init__(self):
        self.alerts: dict[str, Known] = {}
        self.told = NOBODY
        self.inbox: list[tuple[datetime, Kind, str]] = []

    def look(self, now, wrong):
        for cause, count in wrong.items():
            there = self.alerts.get(cause)
            self.alerts[cause] = replace(there, count=count) if there else known(cause, opened=now, count=count)
        for cause, alert in list(self.alerts.items()):
            if cause not in wrong:
                self.alerts[cause] = replace(alert, resolved=True)
        sent = letter(list(self.alerts.values()), self.told, now)
        if sent is None:
            return
        self.inbox.append((now, sent.kind, sent.body))
        for alert in sent.about:
            if alert.resolved:
                del self.alerts[alert.cause]
            else:
                self.alerts[alert.cause] = replace(alert, told_count=alert.count, told_stage=alert.stage)
        match sent.kind:
            case Kind.NEWS | Kind.ROLLUP:
                self.told = replace(self.told, at=now)
            case Kind.RESOLVED:
                self.told = replace(self.told, cleared_at=now)
            case Kind.DIGEST:
                self.told = replace(self.told, digest_on=last_digest(now, time(8), ZoneInfo("UTC")).date())

    @property
    def kinds(self):
        return [kind.value for _, kind, _ in self.inbox]


def test_the_first_is_told_at_once():
    sent = letter([known()])
    assert (sent.kind, sent.subject) == (Kind.NEWS, "Ops: trouble a")


def test_within_the_hour_everything_else_waits_for_one_roll_up():
    people = People()
    for second in range(0, 3 * 3600, 30):
        wrong = {f"c{n}": 1 for n in range(min(500, 1 + second // 7))}
        people.look(START + timedelta(seconds=second), wrong)
    assert people.kinds == ["news", "rollup"]
    assert "and 449 more" in people.inbox[1][2]


def test_five_hundred_failures_of_one_are_one_message_and_roll_ups():
    people = People()
    for minute in range(5 * 60):
        people.look(START + timedelta(minutes=minute), {"a": min(500, 1 + minute * 4)})
    assert people.kinds == ["news", "rollup", "rollup", "rollup"]


def test_after_a_day_only_the_daily_digest_goes_on():
    people = People()
    for hour in range(24 * 4):
        people.look(START + hour * HOUR, {"a": 1 + hour})
    days = [at.date() for at, kind, _ in people.inbox if kind is Kind.DIGEST]
    assert len(days) == len(set(days)) == 4
    last_roll_up = max(at for at, kind, _ in people.inbox if kind is Kind.ROLLUP)
    assert last_roll_up - START < DAY


def test_the_digest_leaves_out_what_was_told_within_the_hour():
    morning = datetime(2026, 3, 3, 7, 30, tzinfo=UTC)
    fresh = known(opened=morning, told=1)
    assert letter([fresh], Told(morning, None, None), morning + HOUR / 2) is None


def test_the_end_is_told_once_and_only_to_those_who_knew():
    people = People()
    people.look(START, {"a": 1})
    for minute in range(1, 90):
        people.look(START + timedelta(minutes=minute), {})
    assert people.kinds == ["news", "resolved"]


def test_what_comes_and_goes_every_minute_is_no_storm():
    people = People()
    for minute in range(180):
        people.look(START + timedelta(minutes=minute), {"a": 1} if minute % 2 == 0 else {})
    assert len(people.inbox) <= 3 * 3


def test_what_came_and_went_unseen_is_in_the_roll_up():
    people = People()
    people.look(START, {"a": 1})
    people.look(START + HOUR / 4, {"a": 1, "b": 1})
    people.look(START + HOUR / 2, {"a": 1})
    people.look(START + HOUR, {"a": 1})
    assert people.kinds == ["news", "rollup"]
    assert "Over again" in people.inbox[1][2] and "trouble b" in people.inbox[1][2]


def test_a_new_stage_is_told_even_after_days():
    alert = known(opened=START - 20 * DAY, told=1, told_stage="30", stage="14")
    sent = letter([alert], Told(START - 16 * DAY, None, START.date()))
    assert sent.kind is Kind.ROLLUP


def test_nothing_wrong_is_no_message():
    assert letter([]) is None
    assert letter([known(told=1)], Told(START, None, None), START + DAY / 3) is None


@pytest.mark.parametrize(
    ("now", "day"),
    [
        (datetime(2026, 3, 29, 5, 59, tzinfo=UTC), 28),  # 07:59 on the day on which summer time begins
        (datetime(2026, 3, 29, 6, 0, tzinfo=UTC), 29),
        (datetime(2026, 3, 28, 6, 59, tzinfo=UTC), 27),
        (datetime(2026, 3, 28, 7, 0, tzinfo=UTC), 28),
    ],
)
def test_the_digest_is_due_by_the_clocks_of_its_zone(now, day):
    assert last_digest(now, time(8), ZoneInfo("Europe/Paris")).day == day
