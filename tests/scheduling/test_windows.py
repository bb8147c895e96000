"""When a schedule runs, against a walk through each minute, and by plain examples."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from scheduling.windows import (
    EVERY_DAY,
    FRIDAY,
    HORIZON,
    SATURDAY,
    SUNDAY,
    Blackout,
    Occurrence,
    Schedule,
    Window,
    allowed,
    between,
    next_run,
    upcoming,
)
from tests.scheduling.walls import (
    DAY,
    MINUTE,
    MONDAY_TO_SATURDAY,
    WHOLE_DAY,
    WORKDAYS,
    asks,
    at,
    daily,
    iterated,
    moments,
    reference,
    resting,
    rests,
    walls,
    year_of_walls,
)

APIA = Schedule("Pacific/Apia", (Window(EVERY_DAY, time(22), time(3), 60),))


@settings(deadline=None, max_examples=200)
@given(moments())
@example((APIA, at(2011, 12, 29, 12)))
@example((Schedule("Pacific/Apia", (Window(EVERY_DAY, *WHOLE_DAY, 60),)), at(2011, 12, 29, 12)))
@example((Schedule("Asia/Pyongyang", (Window(EVERY_DAY, time(23, 40), time(23, 40), 60),)), at(2018, 5, 4, 12)))
@example((Schedule("Pacific/Kwajalein", (Window(EVERY_DAY, *WHOLE_DAY, 90),)), at(1969, 9, 29, 12)))  # a day twice
def test_the_runs_around_a_change_of_clocks_are_those_that_the_wall_shows(case: tuple[Schedule, datetime]) -> None:
    schedule, after = case
    start = after.replace(second=0, microsecond=0) - 3 * DAY
    minutes = list(walls(schedule.zone, start, 6))
    expected = reference(schedule, minutes, after)
    assert [run.at for run in between(schedule, after, minutes[-1][0], limit=10_000)] == expected
    run = next_run(schedule, after)
    if expected:
        assert run is not None and run.at == expected[0]
    else:
        assert run is None or run.at > minutes[-1][0]


YEARLY = (
    ("Europe/Paris", 2026, (Window(EVERY_DAY, time(8), time(17), 30),), ()),
    ("UTC", 2026, (Window(MONDAY_TO_SATURDAY, *WHOLE_DAY, 360, "midnight"),), (Blackout("m", month_end_before=2),)),
    ("America/New_York", 2026, (Window(frozenset({FRIDAY, SATURDAY}), time(21, 5), time(4), 7),), ()),
    (
        "Australia/Lord_Howe",
        2026,
        (Window(EVERY_DAY, time(1, 5), time(3), 10), Window(WORKDAYS, time(0), time(12), 25, "midnight")),
        (Blackout("new year", date(2024, 12, 24), date(2024, 1, 2), yearly=True),),
    ),
    (
        "America/Sao_Paulo",
        2018,
        (Window(EVERY_DAY, time(23), time(1), 20), Window(frozenset({SUNDAY}), time(0), time(0), 5)),
        (
            Blackout("closing", month_end_before=0, month_end_after=2),
            Blackout("x", date(2018, 2, 18), date(2018, 2, 19)),
        ),
    ),
    (
        "Africa/Cairo",
        2026,
        (Window(EVERY_DAY, time(0, 0), time(0, 45), 15), Window(WORKDAYS, time(9), time(8), 35)),
        (),
    ),
    ("Pacific/Apia", 2011, (Window(EVERY_DAY, time(22, 30), time(3), 50, "midnight"),), ()),
    (
        "America/Nuuk",
        2026,
        (Window(frozenset({SATURDAY}), time(22), time(2), 25),),
        (Blackout("f", month_end_after=7),),
    ),
)


@pytest.mark.parametrize(("zone", "year", "rules", "rest"), YEARLY, ids=[row[0] for row in YEARLY])
def test_a_year_of_next_runs_is_what_a_walk_through_each_minute_finds(
    zone: str, year: int, rules: tuple[Window, ...], rest: tuple[Blackout, ...]
) -> None:
    schedule = Schedule(zone, rules, rest)
    after, until = at(year, 1, 1), at(year, 12, 31)
    expected = [run for run in reference(schedule, year_of_walls(zone, year), after) if run <= until]
    assert len(expected) > 50
    runs = iterated(schedule, after, len(expected) + 1)
    assert [run.at for run in runs[:-1]] == expected
    assert runs[-1].at > until


@settings(deadline=None, max_examples=200)
@given(moments())
def test_the_next_run_is_later_on_a_day_of_its_window_inside_it_and_aligned(case: tuple[Schedule, datetime]) -> None:
    schedule, after = case
    run = next_run(schedule, after)
    assume(run is not None)
    assert run is not None
    assert run.at > after
    assert run.at.tzinfo is UTC
    assert run.local.tzinfo == ZoneInfo(schedule.zone) and run.local.fold == 0
    assert run.local.astimezone(UTC) == run.at
    assert not rests(schedule, run.local.date())
    assert allowed(schedule, run.at) == ""
    wall = run.local.replace(tzinfo=None)
    earlier = (run.at - MINUTE).astimezone(ZoneInfo(schedule.zone)).replace(tzinfo=None)
    meant = [wall]
    while meant[-1] - MINUTE > earlier:  # the minutes that the clock skipped just now
        meant.append(meant[-1] - MINUTE)
    assert any(
        asks(window, minute, day) and not rests(schedule, day)
        for window in schedule.windows
        for minute in meant
        for day in (minute.date(), minute.date() - DAY)
    )


@settings(deadline=None, max_examples=150)
@given(moments(), st.integers(0, 40))
def test_upcoming_is_next_run_again_and_again(case: tuple[Schedule, datetime], count: int) -> None:
    schedule, after = case
    assert upcoming(schedule, after, count) == iterated(schedule, after, count)


@settings(deadline=None, max_examples=150)
@given(moments(), st.integers(0, 3 * 86_400), st.integers(0, 3 * 86_400), st.integers(0, 30))
def test_runs_between_two_moments_are_those_before_and_after_a_third(
    case: tuple[Schedule, datetime], first: int, second: int, limit: int
) -> None:
    schedule, after = case
    middle = after + timedelta(seconds=first)
    until = middle + timedelta(seconds=second)
    runs = between(schedule, after, until, limit=10_000)
    assert between(schedule, after, middle, 10_000) + between(schedule, middle, until, 10_000) == runs
    assert upcoming(schedule, after, len(runs)) == runs
    assert between(schedule, after, until, limit) == runs[:limit]


@settings(deadline=None, max_examples=200)
@given(moments())
def test_a_run_is_allowed_where_the_wall_lies_in_an_open_window(case: tuple[Schedule, datetime]) -> None:
    schedule, moment = case
    wall = moment.astimezone(ZoneInfo(schedule.zone)).replace(second=0, tzinfo=None)
    previous = (moment - MINUTE).astimezone(ZoneInfo(schedule.zone)).replace(second=0, tzinfo=None)
    assume(wall - previous <= MINUTE)  # the first minute after a gap has its own tests
    assume(schedule.zone != "Pacific/Apia")
    inside = any(
        asks(Window(window.days, window.start, window.end, 1), wall, day) and not rests(schedule, day)
        for window in schedule.windows
        for day in (wall.date(), wall.date() - DAY)
    )
    assert (allowed(schedule, moment) == "") is (inside and not rests(schedule, wall.date()))


# Examples


def shown(runs: list[Occurrence]) -> list[str]:
    return [f"{run.local:%m-%d %H:%M}" for run in runs]


def test_half_past_two_runs_at_three_when_paris_skips_it() -> None:
    day_before, change, day_after = upcoming(daily("Europe/Paris", 2, 30), at(2026, 3, 28), 3)
    assert (day_before.at, day_before.note) == (at(2026, 3, 28, 1, 30), "")
    assert change.at == at(2026, 3, 29, 1, 0)
    assert change.local.isoformat() == "2026-03-29T03:00:00+02:00"
    assert change.note == "clocks go forward: 02:30 does not exist, runs at 03:00"
    assert (day_after.at, day_after.note) == (at(2026, 3, 30, 0, 30), "")


def test_half_past_one_runs_the_first_time_it_comes_in_new_york() -> None:
    _, change, day_after = upcoming(daily("America/New_York", 1, 30), at(2026, 10, 31), 3)
    assert change.at == at(2026, 11, 1, 5, 30)
    assert change.note == "clocks go back: runs the first time that 01:30 comes"
    assert (day_after.at, day_after.note) == (at(2026, 11, 2, 6, 30), "")


def test_a_moment_in_the_second_showing_of_an_hour_waits_for_the_end_of_that_hour() -> None:
    schedule = Schedule("America/New_York", (Window(EVERY_DAY, *WHOLE_DAY, 15),))
    runs = upcoming(schedule, at(2026, 11, 1, 5, 40), 2)  # 01:40, first showing
    assert [run.at for run in runs] == [at(2026, 11, 1, 5, 45), at(2026, 11, 1, 7, 0)]
    assert next_run(schedule, at(2026, 11, 1, 6, 10)) == runs[1]  # 01:10, second showing
    assert runs[1].note == "clocks change today"


def test_lord_howe_moves_its_clocks_by_half_an_hour() -> None:
    schedule = Schedule("Australia/Lord_Howe", (Window(EVERY_DAY, time(1, 30), time(2, 45), 15),))
    spring = upcoming(schedule, at(2026, 10, 3, 12), 4)
    assert shown(spring) == ["10-04 01:30", "10-04 01:45", "10-04 02:30", "10-04 02:45"]
    assert [run.note for run in spring] == [
        "clocks change today",
        "clocks change today",
        "clocks go forward: 02:00 to 02:15 do not exist, runs at 02:30",
        "clocks change today",
    ]
    assert spring[2].at - spring[1].at == 15 * MINUTE
    autumn = upcoming(schedule, at(2026, 4, 4, 12), 4)
    assert shown(autumn) == ["04-05 01:30", "04-05 01:45", "04-05 02:00", "04-05 02:15"]
    assert autumn[2].at - autumn[1].at == 45 * MINUTE
    assert autumn[0].note == "clocks go back: runs the first time that 01:30 comes"


@pytest.mark.parametrize(
    ("zone", "day"),
    [("Africa/Cairo", date(2026, 4, 24)), ("Asia/Beirut", date(2026, 3, 29)), ("America/Santiago", date(2026, 9, 6))],
)
def test_midnight_runs_at_one_on_the_day_whose_midnight_is_skipped(zone: str, day: date) -> None:
    schedule = Schedule(zone, (Window(frozenset({day.weekday()}), time(0), time(0), 1440),))
    run = next_run(schedule, datetime.combine(day, time(0), UTC) - DAY)
    assert run is not None
    assert run.local.replace(tzinfo=None) == datetime.combine(day, time(1))
    assert run.note == "clocks go forward: 00:00 does not exist, runs at 01:00"
    assert allowed(schedule, run.at) == ""
    assert allowed(schedule, run.at + MINUTE) != ""


def test_a_gap_that_ends_a_day_moves_its_runs_to_the_next_midnight_once() -> None:
    schedule = Schedule("America/Nuuk", (Window(EVERY_DAY, time(22, 45), time(0, 15), 15),))
    runs = upcoming(schedule, at(2026, 3, 28, 12), 3)
    assert shown(runs) == ["03-28 22:45", "03-29 00:00", "03-29 00:15"]
    assert runs[1].note == "clocks go forward: 23:00 to 23:45 do not exist, runs at 00:00"
    assert allowed(schedule, runs[1].at) == ""
    until_sunday_eve = Schedule("America/Nuuk", (Window(frozenset({FRIDAY}), time(23, 30), time(23, 15), 15),))
    assert shown(upcoming(until_sunday_eve, at(2026, 3, 29, 0, 50), 1)) == ["03-29 00:00"]
    assert allowed(until_sunday_eve, at(2026, 3, 29, 1)) == ""


def test_a_run_that_moves_into_a_blacked_out_day_does_not_happen() -> None:
    late = daily("America/Nuuk", 23, 30)
    sunday = Blackout("Palm Sunday", date(2026, 3, 29), date(2026, 3, 29))
    [run] = upcoming(Schedule(late.zone, late.windows, (sunday,)), at(2026, 3, 28, 12), 1)
    assert f"{run.local:%m-%d %H:%M}" == "03-30 23:30"


def test_a_day_that_a_zone_left_out_has_no_runs() -> None:
    runs = upcoming(daily("Pacific/Apia", 12, 0), at(2011, 12, 29), 2)
    assert shown(runs) == ["12-29 12:00", "12-31 12:00"]
    assert [run.note for run in runs] == ["", "the calendar leaves out 2011-12-30: its runs are dropped"]
    assert shown(upcoming(APIA, at(2011, 12, 30, 8, 30), 2)) == ["12-29 23:00", "12-31 22:00"]
    assert (
        allowed(APIA, at(2011, 12, 30, 10))
        == "00:00 is outside the windows of a Saturday: 22:00 to 03:00 of the next day."
    )


def test_the_seconds_of_an_old_gap_are_rounded_up_to_the_minute() -> None:
    run = next_run(daily("Africa/Monrovia", 0, 10), at(1972, 1, 6, 12))
    assert run is not None
    assert f"{run.local:%m-%d %H:%M:%S}" == "01-07 00:45:00"


def test_the_end_of_a_window_is_inside_and_its_runs_start_again_the_next_day() -> None:
    schedule = Schedule("Europe/Paris", (Window(EVERY_DAY, time(8), time(17), 30),))
    runs = upcoming(schedule, at(2026, 6, 1, 14, 20), 3)
    assert shown(runs) == ["06-01 16:30", "06-01 17:00", "06-02 08:00"]
    assert next_run(schedule, runs[1].at) == runs[2]
    assert next_run(schedule, runs[1].at - timedelta(microseconds=1)) == runs[1]


def test_a_window_of_friday_night_runs_on_saturday_morning() -> None:
    schedule = Schedule("Europe/Paris", (Window(frozenset({FRIDAY}), time(22), time(2), 60),))
    runs = upcoming(schedule, at(2026, 6, 1), 6)
    assert shown(runs) == ["06-05 22:00", "06-05 23:00", "06-06 00:00", "06-06 01:00", "06-06 02:00", "06-12 22:00"]
    assert shown(upcoming(schedule, at(2026, 6, 5, 22, 30), 1)) == ["06-06 01:00"]


def test_an_interval_from_the_start_goes_on_across_midnight_and_one_from_midnight_begins_anew() -> None:
    window = (frozenset({FRIDAY}), time(22, 15), time(2), 50)
    friday = at(2026, 6, 5)
    assert shown(upcoming(Schedule("UTC", (Window(*window),)), friday, 5)) == [
        "06-05 22:15",
        "06-05 23:05",
        "06-05 23:55",
        "06-06 00:45",
        "06-06 01:35",
    ]
    assert shown(upcoming(Schedule("UTC", (Window(*window, "midnight"),)), friday, 5)) == [
        "06-05 22:30",
        "06-05 23:20",
        "06-06 00:00",
        "06-06 00:50",
        "06-06 01:40",
    ]


def test_once_a_day_from_midnight_skips_sunday() -> None:
    schedule = Schedule("Europe/Paris", (Window(MONDAY_TO_SATURDAY, *WHOLE_DAY, 1440, "midnight"),))
    runs = upcoming(schedule, at(2026, 6, 5, 12), 3)
    assert shown(runs) == ["06-06 00:00", "06-08 00:00", "06-09 00:00"]


def test_twice_a_day_from_midnight() -> None:
    schedule = Schedule("Asia/Kolkata", (Window(EVERY_DAY, *WHOLE_DAY, 720, "midnight"),))
    assert [run.at for run in upcoming(schedule, at(2026, 6, 1), 2)] == [at(2026, 6, 1, 6, 30), at(2026, 6, 1, 18, 30)]


def test_each_window_keeps_its_own_interval_and_an_equal_minute_runs_once() -> None:
    schedule = Schedule("UTC", (Window(EVERY_DAY, time(8), time(9), 30), Window(EVERY_DAY, time(8, 30), time(12), 90)))
    runs = upcoming(schedule, at(2026, 6, 1), 6)
    assert shown(runs) == ["06-01 08:00", "06-01 08:30", "06-01 09:00", "06-01 10:00", "06-01 11:30", "06-02 08:00"]


def test_a_window_that_ends_as_it_begins_runs_once() -> None:
    schedule = Schedule("UTC", (Window(EVERY_DAY, time(0), time(0), 30),))
    assert shown(upcoming(schedule, at(2026, 6, 1), 2)) == ["06-02 00:00", "06-03 00:00"]


# Blackouts


def test_a_holiday_and_a_range_leave_out_their_first_and_last_day() -> None:
    holiday = Blackout("Christmas", date(2026, 12, 25), date(2026, 12, 25))
    holidays = Blackout("Holidays", date(2026, 12, 28), date(2026, 12, 30))
    assert shown(upcoming(resting(holiday, holidays), at(2026, 12, 24), 4)) == [
        "12-24 12:00",
        "12-26 12:00",
        "12-27 12:00",
        "12-31 12:00",
    ]
    assert next_run(resting(holiday), at(2027, 12, 25)) == next_run(resting(), at(2027, 12, 25))


@pytest.mark.parametrize("years", [(2019, 2020), (2020, 2020)])
def test_a_yearly_range_may_wrap_over_new_year(years: tuple[int, int]) -> None:
    rest = Blackout("Year end", date(years[0], 12, 30), date(years[1], 1, 2), yearly=True)
    assert shown(upcoming(resting(rest), at(2026, 12, 29), 2)) == ["12-29 12:00", "01-03 12:00"]


def test_a_yearly_range_within_a_year_comes_back() -> None:
    rest = Blackout("Stock-taking", date(2020, 7, 1), date(2020, 7, 2), yearly=True)
    for year in (2026, 2027):
        assert shown(upcoming(resting(rest), at(year, 6, 30), 2)) == ["06-30 12:00", "07-03 12:00"]


def test_month_end_is_counted_from_the_last_day_of_each_month() -> None:
    rest = Blackout("Closing", month_end_before=2, month_end_after=1)
    assert shown(upcoming(resting(rest), at(2027, 2, 25), 2)) == ["02-25 12:00", "03-02 12:00"]
    assert shown(upcoming(resting(rest), at(2028, 2, 26), 2)) == ["02-26 12:00", "03-02 12:00"]
    last_day = Blackout("Closing", month_end_before=0, month_end_after=0)
    assert shown(upcoming(resting(last_day), at(2026, 4, 29), 2)) == ["04-29 12:00", "05-01 12:00"]


def test_blackouts_are_days_of_the_schedules_own_zone() -> None:
    rest = Blackout("Holiday", date(2026, 6, 2), date(2026, 6, 2))
    runs = upcoming(resting(rest, zone="Pacific/Chatham"), at(2026, 6, 1), 2)
    assert [run.at for run in runs] == [at(2026, 6, 2, 23, 15), at(2026, 6, 3, 23, 15)]


def test_a_night_window_rests_when_its_first_day_or_the_day_of_the_run_is_blacked_out() -> None:
    nights = (Window(EVERY_DAY, time(22), time(2), 120),)
    rest = Blackout("Holiday", date(2026, 6, 3), date(2026, 6, 3))
    runs = upcoming(Schedule("UTC", nights, (rest,)), at(2026, 6, 2, 20), 3)
    assert shown(runs) == ["06-02 22:00", "06-04 22:00", "06-05 00:00"]


def test_a_schedule_that_never_runs_says_so() -> None:
    assert next_run(Schedule("UTC", ()), at(2026, 1, 1)) is None
    assert next_run(Schedule("UTC", (Window(frozenset(), *WHOLE_DAY, 30),)), at(2026, 1, 1)) is None
    rest = Blackout("For long", date(2026, 1, 1), date(2026, 1, 1) + HORIZON * DAY)
    assert next_run(resting(rest), at(2026, 1, 1)) is None
    assert upcoming(resting(rest), at(2026, 1, 1), 5) == []
    assert between(resting(rest), at(2026, 1, 1), at(2027, 1, 1)) == []
    a_day_less = Blackout("For long", date(2026, 1, 1), date(2025, 12, 31) + HORIZON * DAY)
    assert shown(upcoming(resting(a_day_less), at(2026, 1, 1), 1)) == ["03-11 12:00"]


def test_no_more_than_a_thousand_missed_runs_are_counted_unless_asked() -> None:
    schedule = Schedule("UTC", (Window(EVERY_DAY, *WHOLE_DAY, 5),))
    assert len(between(schedule, at(2026, 1, 1), at(2026, 6, 1))) == 1000
    assert len(between(schedule, at(2026, 1, 1), at(2026, 6, 1), limit=2000)) == 2000


def test_a_moment_without_a_zone_is_refused() -> None:
    for call in (next_run, allowed):
        with pytest.raises(ValueError, match="has no time zone: pass an aware datetime"):
            call(resting(), datetime(2026, 1, 1))  # noqa: DTZ001


def test_a_zone_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match='There is no time zone "Europe/Pari": choose an IANA name'):
        next_run(Schedule("Europe/Pari", ()), at(2026, 1, 1))


def test_the_next_run_does_not_depend_on_the_zone_in_which_the_moment_is_given() -> None:
    schedule = Schedule("America/New_York", (Window(EVERY_DAY, *WHOLE_DAY, 20),))
    for minute in range(0, 240, 7):
        moment = at(2026, 11, 1, 4) + minute * MINUTE
        for zone in ("America/New_York", "Europe/Paris", "Asia/Kolkata"):
            assert next_run(schedule, moment.astimezone(ZoneInfo(zone))) == next_run(schedule, moment)
