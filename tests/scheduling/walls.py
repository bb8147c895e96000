"""What a schedule must do, told in another way: walk the minutes, look at the clock on the wall.  And random schedules."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from itertools import pairwise
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

from scheduling.windows import (
    EVERY_DAY,
    FRIDAY,
    MONDAY,
    SUNDAY,
    THURSDAY,
    TUESDAY,
    WEDNESDAY,
    Blackout,
    Occurrence,
    Schedule,
    Window,
    next_run,
)

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
WORKDAYS = frozenset({MONDAY, TUESDAY, WEDNESDAY, THURSDAY, FRIDAY})
MONDAY_TO_SATURDAY = EVERY_DAY - {SUNDAY}
WHOLE_DAY = (time(0), time(23, 59))
CALENDAR = [((date(2024, 1, 1) + step * DAY).month, (date(2024, 1, 1) + step * DAY).day) for step in range(366)]

ZONES = (
    "UTC",
    "Europe/Paris",
    "America/New_York",
    "Australia/Lord_Howe",
    "Australia/Sydney",
    "America/Sao_Paulo",
    "Africa/Cairo",
    "Africa/Casablanca",
    "America/Santiago",
    "America/Havana",
    "America/Nuuk",
    "America/St_Johns",
    "Antarctica/Troll",
    "Asia/Beirut",
    "Asia/Kolkata",
    "Asia/Pyongyang",
    "Pacific/Apia",
    "Pacific/Chatham",
)
YEARS = (2011, 2018, 2026)  # a day left out in Apia; summer time in Brazil and a new offset in Korea; today's rules


# The reference: walk the minutes of UTC, look at the wall, ask the plain words of each window


def walls(zone: str, start: datetime, days: int) -> Iterator[tuple[datetime, datetime]]:
    """Yield (moment, what the clock shows) for each minute."""
    clock = ZoneInfo(zone)
    for minute in range(days * 1440):
        moment = start + minute * MINUTE
        yield moment, moment.astimezone(clock).replace(tzinfo=None)


@cache
def year_of_walls(zone: str, year: int) -> list[tuple[datetime, datetime]]:
    return list(walls(zone, datetime(year, 1, 1, tzinfo=UTC) - 4 * DAY, 370))


def asks(window: Window, wall: datetime, nominal: date) -> bool:
    """Whether the window that begins on `nominal` wants a run at this wall time."""
    if nominal.weekday() not in window.days:
        return False
    opens, closes = datetime.combine(nominal, window.start), datetime.combine(nominal, window.end)
    if closes < opens:
        closes += DAY
    since = opens if window.aligned_to == "start" else datetime.combine(wall.date(), time())
    return opens <= wall <= closes and (wall - since) // MINUTE % window.every == 0


def rests(schedule: Schedule, day: date) -> bool:
    """Whether a day is blacked out, by counting days up instead of comparing."""
    for blackout in schedule.blackouts:
        if blackout.first and blackout.last:
            first, last = blackout.first, blackout.last
            if blackout.yearly:  # go round the calendar of a leap year from the first day to the last
                here = CALENDAR.index((first.month, first.day))
                while CALENDAR[here] not in ((day.month, day.day), (last.month, last.day)):
                    here = (here + 1) % len(CALENDAR)
                if CALENDAR[here] == (day.month, day.day):
                    return True
            elif day in {first + step * DAY for step in range((last - first).days + 1)}:
                return True
        ahead, back = blackout.month_end_before, blackout.month_end_after
        if ahead is not None and any((day + step * DAY).month != day.month for step in range(1, ahead + 2)):
            return True
        if back is not None and any((day - step * DAY).month != day.month for step in range(1, back + 1)):
            return True
    return False


def reference(schedule: Schedule, minutes: list[tuple[datetime, datetime]], after: datetime) -> list[datetime]:
    """Return the runs later than `after` within walked minutes, which must begin some days earlier."""
    days = {wall.date() for _, wall in minutes}
    resting = {day for day in days if rests(schedule, day)}
    daily: dict[tuple[int, time], set[int]] = {}  # (weekday, minute) -> how many days before the window began
    for window in schedule.windows:
        always = replace(window, days=EVERY_DAY)
        for _, wall in walls("UTC", datetime(2026, 6, 1, tzinfo=UTC), 1):
            for lag in (0, 1):
                if asks(always, wall, wall.date() - lag * DAY):
                    for day in window.days:
                        daily.setdefault(((day + lag) % 7, wall.time()), set()).add(lag)
    runs: list[datetime] = []
    latest = minutes[0][1]
    for moment, wall in minutes[1:]:
        while latest < wall:  # more than one step: minutes that the clock skipped happen now; none: a second showing
            latest += MINUTE
            lags = daily.get((latest.weekday(), latest.time()), set())
            if latest.date() not in days or wall.date() in resting or (runs and runs[-1] == moment):
                continue
            if {latest.date() - lag * DAY for lag in lags} & days - resting:
                runs.append(moment)
    return [run for run in runs if run > after]


@cache
def changes(year: int) -> list[tuple[str, datetime]]:
    """Return all changes of clocks of a year: the zone and the moment, to the hour."""
    found: list[tuple[str, datetime]] = []
    for zone in ZONES:
        clock = ZoneInfo(zone)
        hours = [datetime(year, 1, 1, tzinfo=UTC) + timedelta(hours=hour) for hour in range(366 * 24)]
        for one, two in pairwise(hours):
            if one.astimezone(clock).utcoffset() != two.astimezone(clock).utcoffset():
                found.append((zone, two))
    return found


# Random schedules

times = st.one_of(
    st.integers(0, 1439),
    st.sampled_from([0, 30, 60, 90, 120, 150, 165, 180, 1320, 1350, 1380, 1410, 1425, 1439]),  # where clocks change
).map(lambda minute: time(minute // 60, minute % 60))
windows = st.builds(
    Window,
    days=st.one_of(st.just(EVERY_DAY), st.frozensets(st.integers(0, 6), min_size=1)),
    start=times,
    end=times,
    every=st.one_of(st.sampled_from([5, 15, 30, 60, 90, 360, 720, 1440]), st.integers(5, 1440)),
    aligned_to=st.sampled_from(["start", "midnight"]),
)


def blackouts(around: date) -> st.SearchStrategy[Blackout]:
    near = st.integers(-6, 6).map(lambda step: around + step * DAY)
    ranges = st.tuples(near, st.integers(0, 3)).map(lambda pair: (pair[0], pair[0] + pair[1] * DAY))
    return st.one_of(
        ranges.map(lambda pair: Blackout("range", *pair)),
        ranges.map(
            lambda pair: Blackout("yearly", pair[0].replace(year=2024), pair[1].replace(year=2024), yearly=True)
        ),
        st.builds(
            Blackout,
            st.just("month end"),
            month_end_before=st.one_of(st.none(), st.integers(0, 9)),
            month_end_after=st.one_of(st.none(), st.integers(0, 9)),
        ),
    )


def schedules(zone: str, around: date) -> st.SearchStrategy[Schedule]:
    return st.builds(
        Schedule,
        st.just(zone),
        st.lists(windows, min_size=1, max_size=3).map(tuple),
        st.one_of(st.just(()), st.lists(blackouts(around), max_size=2).map(tuple)),
    )


@st.composite
def moments(draw: st.DrawFn) -> tuple[Schedule, datetime]:
    """A schedule and a moment, mostly near a change of clocks of the schedule's zone."""
    zone, change = draw(
        st.one_of(
            st.sampled_from([pair for year in YEARS for pair in changes(year)]),
            st.tuples(
                st.sampled_from(ZONES),
                st.integers(0, 5000).map(lambda day: datetime(2012, 1, 3, tzinfo=UTC) + day * DAY),
            ),
        )
    )
    return draw(schedules(zone, change.date())), change + timedelta(seconds=draw(st.integers(-2 * 86_400, 86_400)))


def at(*fields: int) -> datetime:
    return datetime(*fields, tzinfo=UTC)  # type: ignore[misc,arg-type]


def iterated(schedule: Schedule, after: datetime, count: int) -> list[Occurrence]:
    runs: list[Occurrence] = []
    while len(runs) < count and (run := next_run(schedule, after)):
        runs.append(run)
        after = run.at
    return runs


# Plain schedules


def daily(zone: str, hour: int, minute: int) -> Schedule:
    return Schedule(zone, (Window(EVERY_DAY, time(hour, minute), time(hour, minute), 1440),))


def resting(*blackouts: Blackout, zone: str = "UTC") -> Schedule:
    return Schedule(zone, daily(zone, 12, 0).windows, blackouts)
