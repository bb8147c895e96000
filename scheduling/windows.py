"""When does a schedule run next?  Pure date arithmetic: no clock, no database.

Everything is reckoned on the clock on the wall of the schedule's zone, then turned into a moment.  Four rules settle the rest:

- A wall time that a change of clocks skips runs at the first minute after the gap; several that meet there are one run.  A wall
  time that comes twice runs the first time only.  So no run is lost or doubled.
- A day that a zone left out altogether (Pacific/Apia, 2011-12-30) has no runs, and no window begins on it.
- A window that goes on past midnight belongs to the day on which it begins.  That day must be one of its days and must not be
  blacked out; a run on a day that is blacked out itself does not happen either.
- A window that begins and ends at the same minute runs once, at that minute; the whole day is 00:00 to 23:59.
"""

from __future__ import annotations

from bisect import bisect_left
from calendar import monthrange
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cache, partial
from itertools import combinations, groupby, islice, pairwise, takewhile
from zoneinfo import ZoneInfo, available_timezones

MONDAY, TUESDAY, WEDNESDAY, THURSDAY, FRIDAY, SATURDAY, SUNDAY = range(7)
EVERY_DAY = frozenset(range(7))
FLOOR = 5  # minutes; the least interval
HORIZON = 800  # days; a schedule without a run in that time never runs

_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
_DAY_MINUTES = 1440
_WEEK_MINUTES = 7 * _DAY_MINUTES
_MINUTE = timedelta(minutes=1)
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Window:
    """A part of the day in which runs start, and how often."""

    days: frozenset[int]  # 0=Monday to 6=Sunday; of the day on which the window begins
    start: time  # wall clock, whole minutes
    end: time  # inclusive: 08:00-17:00 still runs at 17:00; before the start: goes on past midnight
    every: int  # minutes
    aligned_to: str = (
        "start"  # "start": counted on from the window's start; "midnight": from 00:00 of each calendar day
    )

    @property
    def begins(self) -> int:
        """The first minute, from midnight."""
        return self.start.hour * 60 + self.start.minute

    @property
    def ends(self) -> int:
        """The last minute, from midnight of the day on which the window begins: 1440 and more lie in the next day."""
        end = self.end.hour * 60 + self.end.minute
        return end if end >= self.begins else end + _DAY_MINUTES

    def runs_on_its_day(self) -> range:
        """The minutes at which it runs on the day on which it begins."""
        first = self.begins
        if self.aligned_to == "midnight":
            first += -first % self.every
        return range(first, min(self.ends, _DAY_MINUTES - 1) + 1, self.every)

    def runs_on_the_next_day(self) -> range:
        """The minutes of the next day at which it still runs."""
        first = 0 if self.aligned_to == "midnight" else (self.begins - _DAY_MINUTES) % self.every
        return range(first, self.ends - _DAY_MINUTES + 1, self.every)


@dataclass(frozen=True, slots=True)
class Blackout:
    """Whole days of the local calendar without runs, first and last included."""

    name: str
    first: date | None = None  # a range; a holiday: first == last
    last: date | None = None
    yearly: bool = False  # the same range each year: month and day count, and it may wrap over New Year
    month_end_before: int | None = None  # so many days before the last day of each month; 0: from the last day on
    month_end_after: int | None = None  # and so many days into the next month; 0: none

    def covers(self, day: date) -> bool:
        """Whether `day` is blacked out."""
        return self._in_range(day) or self._at_month_end(day)

    def _in_range(self, day: date) -> bool:
        if self.first is None or self.last is None:
            return False
        if not self.yearly:
            return self.first <= day <= self.last
        first, last, here = ((d.month, d.day) for d in (self.first, self.last, day))
        return first <= here <= last if first <= last else here >= first or here <= last

    def _at_month_end(self, day: date) -> bool:
        if self.month_end_after is not None and day.day <= self.month_end_after:
            return True
        if self.month_end_before is None:
            return False
        return day.day >= monthrange(day.year, day.month)[1] - self.month_end_before


@dataclass(frozen=True, slots=True)
class Schedule:
    """The windows of one service and the days on which it rests."""

    zone: str  # IANA
    windows: tuple[Window, ...]
    blackouts: tuple[Blackout, ...] = ()


@dataclass(frozen=True, slots=True)
class Occurrence:
    """One run."""

    at: datetime  # aware, UTC
    local: datetime  # aware, in the schedule's zone: what the clock on the wall shows at that moment
    note: str = ""  # what the reader should know about a change of clocks


def next_run(schedule: Schedule, after: datetime) -> Occurrence | None:
    """Return the first run strictly later than the aware `after`, or None where none comes within 800 days."""
    return next(_runs(schedule, after), None)


def upcoming(schedule: Schedule, after: datetime, count: int) -> list[Occurrence]:
    """Return the next `count` runs, fewer where the schedule has no more."""
    return list(islice(_runs(schedule, after), count))


def between(schedule: Schedule, after: datetime, until: datetime, limit: int = 1000) -> list[Occurrence]:
    """Return the runs with after < at <= until, at most `limit` of them: those that were missed meanwhile."""
    return list(islice(takewhile(lambda run: run.at <= until, _runs(schedule, after)), limit))


def allowed(schedule: Schedule, moment: datetime) -> str:
    """Return '' where a run may happen in the minute of `moment`, else a sentence that says why not."""
    zone = _zone(schedule.zone)
    local = _local(moment, zone).replace(second=0, microsecond=0)
    today = local.date()
    if name := _blackout(schedule, today):
        return f"{today} is in {name}."
    # The first minute after a gap stands for all minutes that the clocks have just skipped, save those of a lost day.
    wall = local.replace(tzinfo=None)
    before = (local.astimezone(UTC) - _MINUTE).astimezone(zone).replace(tzinfo=None)
    since = min(wall, before + _MINUTE)
    if not _exists(since.date(), zone):
        since = wall
    reason = ""
    for day in (today, today - _DAY, today - 2 * _DAY):
        if not any(_inside(window, day, since, wall) for window in schedule.windows) or not _exists(day, zone):
            continue
        name = _blackout(schedule, day)
        if not name:
            return ""
        reason = reason or f"The window began on {day}, which is in {name}."
    return reason or _outside(schedule, wall)


def sentence(schedule: Schedule) -> str:
    """Return a schedule without errors in words."""
    windows = [_window_words(window) for window in schedule.windows] or ["never (no windows)"]
    text = "; ".join(windows)
    text += f", {schedule.zone}" if len(windows) == 1 else f"; all in {schedule.zone}"
    for blackout in schedule.blackouts:
        text += f"; not {_blackout_words(blackout)}"
    return text[0].upper() + text[1:]


def problems(schedule: Schedule, recommended: int = 0) -> tuple[list[str], list[str]]:
    """Return what forbids a schedule, and, once nothing does, what its author should know.

    `recommended` is the least interval, in minutes, that the service's makers advise.
    """
    errors: list[str] = []
    try:
        _zone(schedule.zone)
    except ValueError as error:
        errors.append(str(error))
    if not schedule.windows:
        errors.append("There is no window: add one, or the service never runs.")
    for window in schedule.windows:
        errors += (f"Window {_hours(window)}: {text}" for text in _window_errors(window))
    for blackout in schedule.blackouts:
        errors += (f"Blackout {_quoted(blackout)}: {text}" for text in _blackout_errors(blackout))
    return errors, [] if errors else list(_warnings(schedule.windows, recommended))


# Runs: from wall minutes to moments


def _runs(schedule: Schedule, after: datetime) -> Iterator[Occurrence]:
    # Later wall times never come earlier, as only the first showing counts: so days and minutes are walked in order,
    # and what is not later than the last run is a wall time of a gap or of a second showing.
    zone = _zone(schedule.zone)
    start = _local(after, zone).replace(tzinfo=None)
    if not any(window.days for window in schedule.windows):
        return
    day = start.date()
    last_day = day + HORIZON * _DAY
    opened_before = _opens(schedule, day - _DAY, zone)
    while day <= last_day:
        opens = _opens(schedule, day, zone)
        midnight = datetime.combine(day, time())
        minutes = _minutes(schedule.windows, day.weekday(), opens, opened_before)
        if minutes and not _exists(day, zone):
            minutes = []
        walls = (wall for minute in minutes if (wall := midnight + minute * _MINUTE) > start)
        for at, meeting in groupby(walls, key=partial(_moment, zone=zone)):
            local = at.astimezone(zone)
            if at > after and not _blackout(schedule, local.date()):
                yield Occurrence(at, local, _note(list(meeting), local, zone))
                after, last_day = at, local.date() + HORIZON * _DAY
        day, opened_before = day + _DAY, opens


def _minutes(windows: Iterable[Window], weekday: int, opens: bool, opened_before: bool) -> list[int]:
    """Return the minutes of a day at which windows run, if windows may begin on it (`opens`), or might the day before."""
    minutes: set[int] = set()
    for window in windows:
        if opens and weekday in window.days:
            minutes.update(window.runs_on_its_day())
        if opened_before and (weekday - 1) % 7 in window.days:
            minutes.update(window.runs_on_the_next_day())
    return sorted(minutes)


def _opens(schedule: Schedule, day: date, zone: ZoneInfo) -> bool:
    return not _blackout(schedule, day) and _exists(day, zone)


def _blackout(schedule: Schedule, day: date) -> str:
    """Return the blackout in which a day lies, in words, or ''."""
    for blackout in schedule.blackouts:
        if blackout.covers(day):
            return f"the blackout {_quoted(blackout)}"
    return ""


def _exists(day: date, zone: ZoneInfo) -> bool:
    midnight = datetime.combine(day, time())
    return _moment(midnight, zone).astimezone(zone).date() == day


def _moment(wall: datetime, zone: ZoneInfo) -> datetime:
    """Return the first moment at which the clock shows `wall`; where it never does, the first minute after the gap."""
    shown = _shown(wall, zone)
    if shown != wall:
        # Read with the offset before the gap, a skipped time comes out as much too late as the gap is long.
        skipped = range((shown - wall) // _MINUTE + 1)
        wall += _MINUTE * bisect_left(skipped, True, key=lambda minute: _shows(wall + minute * _MINUTE, zone))
    return wall.replace(tzinfo=zone).astimezone(UTC)


def _shown(wall: datetime, zone: ZoneInfo) -> datetime:
    return wall.replace(tzinfo=zone).astimezone(UTC).astimezone(zone).replace(tzinfo=None)


def _shows(wall: datetime, zone: ZoneInfo) -> bool:
    return _shown(wall, zone) == wall


def _note(walls: list[datetime], local: datetime, zone: ZoneInfo) -> str:
    """Return what a change of clocks does to a run that was meant for `walls`."""
    skipped = [wall for wall in walls if wall != local.replace(tzinfo=None)]
    if len(skipped) == 1:
        return f"clocks go forward: {skipped[0]:%H:%M} does not exist, runs at {local:%H:%M}"
    if skipped:
        return f"clocks go forward: {skipped[0]:%H:%M} to {skipped[-1]:%H:%M} do not exist, runs at {local:%H:%M}"
    if local.utcoffset() != local.replace(fold=1).utcoffset():
        return f"clocks go back: runs the first time that {local:%H:%M} comes"
    day = local.date()
    midnight = datetime.combine(day, time(), zone)
    if midnight.utcoffset() != (midnight + _DAY).utcoffset():
        return "clocks change today"
    if not _exists(yesterday := day - _DAY, zone):
        return f"the calendar leaves out {yesterday}: its runs are dropped"
    return ""


def _local(moment: datetime, zone: ZoneInfo) -> datetime:
    if moment.utcoffset() is None:
        raise ValueError(f"{moment} has no time zone: pass an aware datetime.")
    return moment.astimezone(zone)


@cache
def _zone(name: str) -> ZoneInfo:
    if name not in _zones():
        raise ValueError(f'There is no time zone "{name}": choose an IANA name, such as Europe/Paris or UTC.')
    return ZoneInfo(name)


@cache
def _zones() -> frozenset[str]:
    # "localtime" is whatever the machine is set to, "Factory" a placeholder.
    return frozenset(available_timezones() - {"localtime", "Factory"})


# Why a run may not happen


def _inside(window: Window, day: date, since: datetime, until: datetime) -> bool:
    """Whether the window that begins on `day` is open in one of the wall minutes from `since` to `until`."""
    if day.weekday() not in window.days:
        return False
    midnight = datetime.combine(day, time())
    return midnight + window.begins * _MINUTE <= until and since <= midnight + window.ends * _MINUTE


def _outside(schedule: Schedule, wall: datetime) -> str:
    name = _DAYS[wall.weekday()]
    hours = [_hours(window) for window in schedule.windows if wall.weekday() in window.days]
    if not hours:
        return f"{wall:%H:%M} is outside the windows: none begins on a {name}."
    return f"{wall:%H:%M} is outside the windows of a {name}: {_listed(hours)}."


# Words


def _window_words(window: Window) -> str:
    today, tomorrow = window.runs_on_its_day(), window.runs_on_the_next_day()
    if len(today) + len(tomorrow) == 1:
        minute = [*today, *tomorrow][0]
        often = f"once a day at {minute // 60:02}:{minute % 60:02}" + (" of the next day" if tomorrow else "")
        return f"{often}, {_days_words(window.days)}"
    hours = "all day" if (window.begins, window.ends) == (0, _DAY_MINUTES - 1) else _hours(window)
    return f"every {_interval(window.every)}{_counted(window)}, {hours}, {_days_words(window.days)}"


def _counted(window: Window) -> str:
    """Return how the interval is counted, where it makes a difference."""
    from_start = Window(window.days, window.start, window.end, window.every)
    runs = (window.runs_on_its_day(), window.runs_on_the_next_day())
    return "" if runs == (from_start.runs_on_its_day(), from_start.runs_on_the_next_day()) else " from midnight"


def _interval(minutes: int) -> str:
    if minutes == 60:
        return "hour"
    return f"{minutes // 60} hours" if minutes % 60 == 0 else f"{minutes} minutes"


def _hours(window: Window) -> str:
    return f"{window.start:%H:%M} to {window.end:%H:%M}" + (" of the next day" if window.ends >= _DAY_MINUTES else "")


def _days_words(days: frozenset[int]) -> str:
    """Return days in words, three and more in a row as a range; a row may go on from Sunday to Monday."""
    if days == EVERY_DAY:
        return "every day"
    if not days:
        return "on no day"
    words: list[str] = []
    for first in sorted(day for day in days if (day - 1) % 7 not in days):
        row = list(takewhile(lambda day: day in days, ((first + step) % 7 for step in range(7))))
        names = [_DAYS[day] for day in row]
        words += [f"{names[0]} to {names[-1]}"] if len(names) > 2 else names
    return _listed(words)


def _blackout_words(blackout: Blackout) -> str:
    parts: list[str] = []
    name = blackout.name
    if blackout.first and blackout.last:
        first, last = (_date_words(day, blackout.yearly) for day in (blackout.first, blackout.last))
        text = f"on {first}" if first == last else f"from {first} to {last}"
        parts.append(text + (" of each year" if blackout.yearly else "") + (f" ({name})" if name else ""))
    ends: list[str] = []
    if blackout.month_end_before is not None:
        ends.append(_so_many("last", blackout.month_end_before + 1))
    if blackout.month_end_after:
        ends.append(_so_many("first", blackout.month_end_after))
    if ends:
        parts.append(f"at month end ({name + ': ' if name else ''}{_listed(ends)} of each month)")
    return _listed(parts)


def _so_many(which: str, days: int) -> str:
    return f"the {which} day" if days == 1 else f"the {which} {days} days"


def _date_words(day: date, yearly: bool) -> str:
    return f"{day.day} {_MONTHS[day.month - 1]}" if yearly else day.isoformat()


def _listed(words: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _quoted(blackout: Blackout) -> str:
    return f'"{blackout.name}"' if blackout.name else "without a name"


# Problems


def _window_errors(window: Window) -> Iterator[str]:
    if not window.days:
        yield "no day is chosen; choose at least one."
    if not window.days <= EVERY_DAY:
        yield "days are numbered from 0 (Monday) to 6 (Sunday)."
    if any(edge != edge.replace(second=0, microsecond=0, tzinfo=None) for edge in (window.start, window.end)):
        yield "start and end are whole minutes of the schedule's own zone."
    if window.every < FLOOR:
        yield (
            f"every {window.every} minutes is too often; choose {FLOOR} or more. It would load both systems' call limits "
            f"without bringing anything that a run {FLOOR} minutes later could not bring."
        )
    if window.every > _DAY_MINUTES:
        yield f"every {window.every} minutes is longer than a day, and each day counts anew; choose at most {_DAY_MINUTES}, and fewer days."
    if window.aligned_to not in ("start", "midnight"):
        yield f'the interval cannot be counted from "{window.aligned_to}"; choose start or midnight.'
    elif window.every > 0 and not (window.runs_on_its_day() or window.runs_on_the_next_day()):
        yield f"it never runs: counted from midnight, every {window.every} minutes misses it. Count from the start, or make it longer."


def _blackout_errors(blackout: Blackout) -> Iterator[str]:
    first, last = blackout.first, blackout.last
    before, after = blackout.month_end_before, blackout.month_end_after
    if (first is None) != (last is None):
        yield "a range needs a first and a last day; for a single day they are the same."
    if first and last and blackout.yearly and last - first >= 365 * _DAY:
        yield "a range of each year must be shorter than a year."
    if first and last and not blackout.yearly and first > last:
        yield f"the first day, {first}, is later than the last, {last}; exchange them."
    if not first and not last and before is None and not after:
        yield "it names no day; give a range or days around month end."
    if (before or 0) < 0 or (after or 0) < 0:
        yield "days around month end are counted from 0."
    if (-1 if before is None else before) + 1 + (after or 0) >= 31:
        yield "no day of any month is left; choose fewer days around month end."


def _warnings(windows: tuple[Window, ...], recommended: int) -> Iterator[str]:
    for window in windows:
        label = f"Window {_hours(window)}"
        if window.every < recommended:
            yield f"{label}: every {window.every} minutes is more often than recommended, which is {recommended} minutes or more."
        if window.begins == window.ends and window.every < _DAY_MINUTES:
            yield f"{label}: it ends when it begins, so it runs once a day; for the whole day choose 00:00 to 23:59."
        if window.aligned_to == "midnight" and _DAY_MINUTES % window.every:
            yield (
                f"{label}: counted from midnight, {window.every} minutes do not divide the day evenly; the last interval "
                f"before midnight has {_DAY_MINUTES % window.every}."
            )
    for one, other in combinations(windows, 2):
        if _overlap(one, other):
            yield f"The windows {_hours(one)} and {_hours(other)} overlap: the runs of both happen, those at the same minute once."
    if (closest := _closest(windows)) < FLOOR:
        yield f"Some runs are only {closest} min apart; {FLOOR} or more spare both systems' call limits."


def _overlap(one: Window, other: Window) -> bool:
    """Whether two windows share time on any day of the week; to meet at an end is not to overlap."""
    for first in one.days:
        for second in other.days:
            shift = (second - first) * _DAY_MINUTES
            for week in (-_WEEK_MINUTES, 0, _WEEK_MINUTES):
                begins, ends = other.begins + shift + week, other.ends + shift + week
                if (begins, ends) == (one.begins, one.ends) or (begins < one.ends and one.begins < ends):
                    return True
    return False


def _closest(windows: tuple[Window, ...]) -> int:
    """Return the fewest minutes between two runs of an ordinary week."""
    week = [day * _DAY_MINUTES + minute for day in range(7) for minute in _minutes(windows, day, True, True)]
    return min(later - earlier for earlier, later in pairwise([*week, week[0] + _WEEK_MINUTES]))
