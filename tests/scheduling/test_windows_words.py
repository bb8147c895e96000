"""What a schedule says of itself: may it run now, in words, and what is wrong with it."""

from __future__ import annotations

from datetime import UTC, date, datetime, time

import pytest

from scheduling.windows import (
    EVERY_DAY,
    FRIDAY,
    MONDAY,
    SATURDAY,
    SUNDAY,
    THURSDAY,
    Blackout,
    Schedule,
    Window,
    allowed,
    problems,
    sentence,
)
from tests.scheduling.walls import MONDAY_TO_SATURDAY, WHOLE_DAY, WORKDAYS, at, resting

# Whether a run may happen now

OFFICE = Schedule(
    "Europe/Paris",
    (
        Window(WORKDAYS, time(8), time(12), 30),
        Window(WORKDAYS, time(14), time(17), 30),
        Window(frozenset({FRIDAY}), time(22), time(2), 60),
    ),
    (Blackout("Christmas", date(2026, 12, 25), date(2026, 12, 25)),),
)


@pytest.mark.parametrize(
    ("moment", "answer"),
    [
        (at(2026, 6, 1, 6, 0), ""),
        (at(2026, 6, 1, 5, 59), "07:59 is outside the windows of a Monday: 08:00 to 12:00 and 14:00 to 17:00."),
        (at(2026, 6, 1, 15, 0, 59), ""),  # the whole last minute
        (at(2026, 6, 1, 15, 1), "17:01 is outside the windows of a Monday: 08:00 to 12:00 and 14:00 to 17:00."),
        (at(2026, 6, 6, 0, 0, 59), ""),  # Saturday 02:00, of Friday's window
        (at(2026, 6, 6, 0, 1), "02:01 is outside the windows: none begins on a Saturday."),
        (at(2026, 12, 25, 9), '2026-12-25 is in the blackout "Christmas".'),
        (at(2026, 12, 26, 0), 'The window began on 2026-12-25, which is in the blackout "Christmas".'),
    ],
)
def test_whether_a_run_may_happen_now_is_said_with_the_reason(moment: datetime, answer: str) -> None:
    assert allowed(OFFICE, moment) == answer


def test_both_showings_of_an_hour_are_inside_its_window() -> None:
    schedule = Schedule("America/New_York", (Window(EVERY_DAY, time(1), time(1, 30), 30),))
    assert [allowed(schedule, at(2026, 11, 1, hour, 30)) for hour in (5, 6)] == ["", ""]


# Words


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        (
            Schedule("Europe/Paris", (Window(EVERY_DAY, time(8), time(17), 30),)),
            "Every 30 minutes, 08:00 to 17:00, every day, Europe/Paris",
        ),
        (
            Schedule("UTC", (Window(MONDAY_TO_SATURDAY, *WHOLE_DAY, 1440, "midnight"),)),
            "Once a day at 00:00, Monday to Saturday, UTC",
        ),
        (
            Schedule("UTC", (Window(MONDAY_TO_SATURDAY, *WHOLE_DAY, 360, "midnight"),)),
            "Every 6 hours, all day, Monday to Saturday, UTC",
        ),
        (
            Schedule("UTC", (Window(frozenset({FRIDAY}), time(22, 5), time(2), 60),)),
            "Every hour, 22:05 to 02:00 of the next day, Friday, UTC",
        ),
        (
            Schedule("UTC", (Window(frozenset({FRIDAY}), time(22), time(0), 60),)),
            "Every hour, 22:00 to 00:00 of the next day, Friday, UTC",
        ),
        (
            Schedule("UTC", (Window(frozenset({FRIDAY}), time(22, 5), time(2), 60, "midnight"),)),
            "Every hour from midnight, 22:05 to 02:00 of the next day, Friday, UTC",
        ),
        (
            Schedule("UTC", (Window(frozenset({FRIDAY}), time(22, 5), time(2), 1440, "midnight"),)),
            "Once a day at 00:00 of the next day, Friday, UTC",
        ),
        (
            Schedule("UTC", (Window(WORKDAYS, time(8), time(18), 5), Window(frozenset({5, 6}), *WHOLE_DAY, 120))),
            "Every 5 minutes, 08:00 to 18:00, Monday to Friday; every 2 hours, all day, Saturday and Sunday; all in UTC",
        ),
        (Schedule("UTC", ()), "Never (no windows), UTC"),
        (
            resting(Blackout("Christmas", date(2026, 12, 25), date(2026, 12, 25))),
            "Once a day at 12:00, every day, UTC; not on 2026-12-25 (Christmas)",
        ),
        (
            resting(Blackout("", date(2026, 12, 24), date(2027, 1, 2))),
            "Once a day at 12:00, every day, UTC; not from 2026-12-24 to 2027-01-02",
        ),
        (
            resting(Blackout("Rest", date(2026, 12, 24), date(2027, 1, 2), yearly=True)),
            "Once a day at 12:00, every day, UTC; not from 24 December to 2 January of each year (Rest)",
        ),
        (
            resting(Blackout("Closing", month_end_before=2, month_end_after=1)),
            "Once a day at 12:00, every day, UTC; not at month end (Closing: the last 3 days and the first day of each month)",
        ),
        (
            resting(Blackout("", month_end_before=0, month_end_after=0)),
            "Once a day at 12:00, every day, UTC; not at month end (the last day of each month)",
        ),
    ],
)
def test_a_schedule_in_words(schedule: Schedule, words: str) -> None:
    assert sentence(schedule) == words


@pytest.mark.parametrize(
    ("days", "words"),
    [
        ({0, 1}, "Monday and Tuesday"),
        ({0, 2, 4}, "Monday, Wednesday and Friday"),
        ({0, 1, 2, 4}, "Monday to Wednesday and Friday"),
        ({6, 0, 1, 2, 3}, "Sunday to Thursday"),
        ({2, 5, 6, 0}, "Wednesday and Saturday to Monday"),
    ],
)
def test_days_in_words(days: set[int], words: str) -> None:
    schedule = Schedule("UTC", (Window(frozenset(days), time(9), time(9), 1440),))
    assert sentence(schedule) == f"Once a day at 09:00, {words}, UTC"


# Problems

GOOD = Window(EVERY_DAY, time(8), time(17), 30)


def test_a_sound_schedule_has_no_problems() -> None:
    assert problems(Schedule("Europe/Paris", (GOOD,), (Blackout("Closing", month_end_before=2),)), 30) == ([], [])
    assert problems(Schedule("UTC", (Window(EVERY_DAY, time(8), time(17), 5),))) == ([], [])
    meeting = (Window(EVERY_DAY, time(8), time(12), 30), Window(EVERY_DAY, time(12), time(17), 60))
    assert problems(Schedule("UTC", meeting)) == ([], [])


@pytest.mark.parametrize(
    ("window", "error"),
    [
        (Window(EVERY_DAY, time(8), time(17), 4), "every 4 minutes is too often; choose 5 or more. It would load both"),
        (Window(EVERY_DAY, time(8), time(17), 0), "every 0 minutes is too often"),
        (Window(EVERY_DAY, time(8), time(17), 0, "midnight"), "every 0 minutes is too often"),
        (Window(EVERY_DAY, time(8), time(17), 1441), "longer than a day"),
        (Window(frozenset(), time(8), time(17), 30), "no day is chosen"),
        (Window(frozenset({7}), time(8), time(17), 30), "days are numbered from 0 (Monday) to 6 (Sunday)"),
        (Window(EVERY_DAY, time(8), time(17), 30, "noon"), 'cannot be counted from "noon"; choose start or midnight'),
        (Window(EVERY_DAY, time(8, 0, 1), time(17), 30), "start and end are whole minutes"),
        (Window(EVERY_DAY, time(8), time(17, tzinfo=UTC), 30), "start and end are whole minutes"),
        (Window(EVERY_DAY, time(8, 10), time(8, 50), 60, "midnight"), "it never runs: counted from midnight"),
    ],
)
def test_a_window_that_cannot_be_is_refused_with_the_reason(window: Window, error: str) -> None:
    errors, warnings = problems(Schedule("UTC", (GOOD, window)), recommended=30)
    [found] = errors
    assert found.startswith("Window 08:") and error in found
    assert warnings == []


@pytest.mark.parametrize(
    ("blackout", "error"),
    [
        (Blackout("X", date(2026, 2, 1), date(2026, 1, 31)), "2026-02-01, is later than the last, 2026-01-31"),
        (Blackout("X", date(2026, 2, 1)), "a range needs a first and a last day"),
        (Blackout("X", last=date(2026, 2, 1)), "a range needs a first and a last day"),
        (Blackout("X", date(2025, 2, 1), date(2026, 2, 1), yearly=True), "must be shorter than a year"),
        (Blackout("X"), "it names no day"),
        (Blackout("X", month_end_after=0), "it names no day"),
        (Blackout("X", month_end_before=-1), "counted from 0"),
        (Blackout("X", month_end_after=-1, month_end_before=1), "counted from 0"),
        (Blackout("X", month_end_before=20, month_end_after=10), "no day of any month is left"),
        (Blackout("X", month_end_after=31), "no day of any month is left"),
    ],
)
def test_a_blackout_that_cannot_be_is_refused_with_the_reason(blackout: Blackout, error: str) -> None:
    [found], _ = problems(Schedule("UTC", (GOOD,), (blackout,)))
    assert found.startswith('Blackout "X": ') and error in found


@pytest.mark.parametrize(
    "blackout",
    [
        Blackout("X", date(2026, 12, 24), date(2026, 1, 2), yearly=True),
        Blackout("X", month_end_before=19, month_end_after=10),
        Blackout("X", month_end_after=30),
        Blackout("X", date(2026, 12, 25), date(2026, 12, 25)),
        Blackout("", month_end_before=0),
    ],
)
def test_a_blackout_that_leaves_days_is_taken(blackout: Blackout) -> None:
    assert problems(Schedule("UTC", (GOOD,), (blackout,))) == ([], [])


@pytest.mark.parametrize("zone", ["", "Europe", "Europe/Pari", "europe/paris", "../UTC", "localtime", "right/UTC"])
def test_a_schedule_needs_a_zone_of_the_iana_list(zone: str) -> None:
    [error], _ = problems(Schedule(zone, (GOOD,)))
    assert error == f'There is no time zone "{zone}": choose an IANA name, such as Europe/Paris or UTC.'


def test_a_schedule_needs_a_window() -> None:
    assert problems(Schedule("UTC", ())) == (["There is no window: add one, or the service never runs."], [])


@pytest.mark.parametrize(
    ("windows", "recommended", "warning"),
    [
        ((GOOD,), 31, "every 30 minutes is more often than recommended, which is 31 minutes or more"),
        ((Window(EVERY_DAY, time(0), time(0), 30),), 0, "it ends when it begins, so it runs once a day"),
        ((Window(EVERY_DAY, *WHOLE_DAY, 50, "midnight"),), 0, "the last interval before midnight has 40"),
        ((GOOD, Window(frozenset({FRIDAY}), time(16), time(20), 30)), 0, "overlap: the runs of both happen"),
        ((GOOD, GOOD), 0, "08:00 to 17:00 and 08:00 to 17:00 overlap"),
        ((GOOD, Window(frozenset({FRIDAY}), time(12), time(12), 1440)), 0, "overlap"),
        (
            (Window(frozenset({SUNDAY}), time(22), time(2), 60), Window(frozenset({MONDAY}), time(1), time(5), 60)),
            0,
            "22:00 to 02:00 of the next day and 01:00 to 05:00 overlap",
        ),
        (
            (Window(frozenset({MONDAY}), time(1), time(5), 60), Window(frozenset({SUNDAY}), time(22), time(2), 60)),
            0,
            "01:00 to 05:00 and 22:00 to 02:00 of the next day overlap",
        ),
        (
            (Window(EVERY_DAY, time(8), time(11), 30), Window(EVERY_DAY, time(11, 2), time(12), 30)),
            0,
            "only 2 min apart",
        ),
        ((Window(EVERY_DAY, *WHOLE_DAY, 1439),), 0, "only 1 min apart"),
    ],
)
def test_what_is_odd_but_possible_is_a_warning(windows: tuple[Window, ...], recommended: int, warning: str) -> None:
    errors, [found] = problems(Schedule("UTC", windows), recommended)
    assert errors == []
    assert warning in found
    assert found.endswith(".")


def test_windows_of_different_days_do_not_overlap() -> None:
    nights = Window(frozenset({FRIDAY}), time(22), time(2), 60)
    days = Window(frozenset({THURSDAY, SATURDAY}), time(2), time(22), 60)
    assert problems(Schedule("UTC", (nights, days))) == ([], [])
