"""Is a failed job tried again, and when?"""

import random
from datetime import UTC, datetime, timedelta

import pytest
from django.db import OperationalError
from django_q.exceptions import TimeoutException

from connectors.contract import AuthError, CursorExpired, PermanentError, QuotaExhausted, RetryableError, Unanswered
from jobs.retries import DEFAULT_DELAYS, ErrorClass, GiveUp, TryAgain, classify, decide, fingerprint

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
FIXED = random.Random(1)


def decision(attempt, **changes):
    asked = {"retries": 5, "delays": DEFAULT_DELAYS, "retry_after": None, "max_age_at": None, "now": NOW, "rng": FIXED}
    return decide(attempt=attempt, **(asked | changes))


@pytest.mark.parametrize(("attempt", "minutes"), [(1, 1), (2, 5), (3, 15), (4, 60), (5, 180)])
def test_the_retries_are_spaced_as_documented_give_or_take_a_tenth(attempt, minutes):
    waits = [(decision(attempt, rng=random.Random(seed)).run_at - NOW) / timedelta(minutes=1) for seed in range(200)]
    assert all(minutes * 0.9 <= wait <= minutes * 1.1 for wait in waits)
    assert max(waits) - min(waits) > minutes * 0.1


def test_five_retries_follow_the_first_try_and_no_sixth():
    assert isinstance(decision(5), TryAgain)
    assert decision(6) == GiveUp("attempt 6 of 6 failed")


def test_retry_after_wins_when_it_is_longer():
    later = decision(1, retry_after=600)
    assert later == TryAgain(NOW + timedelta(seconds=600), NOW + timedelta(seconds=600))


def test_retry_after_loses_when_it_is_shorter_but_still_binds_people():
    later = decision(1, retry_after=1)
    assert later.run_at > NOW + timedelta(seconds=50)
    assert later.not_before == NOW + timedelta(seconds=1)


def test_the_last_delay_serves_all_later_retries():
    assert decision(4, delays=(timedelta(0),)) == TryAgain(NOW, None)


def test_no_retry_is_planned_beyond_the_max_age():
    assert isinstance(decision(1, max_age_at=NOW + timedelta(seconds=30)), GiveUp)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RetryableError("503"), ErrorClass.TRANSIENT),
        (RetryableError("429", retry_after=3), ErrorClass.THROTTLED),
        (QuotaExhausted("used up"), ErrorClass.THROTTLED),
        (Unanswered("?"), ErrorClass.UNKNOWN_OUTCOME),
        (AuthError("401"), ErrorClass.AUTH),
        (PermanentError("400"), ErrorClass.BUSINESS),
        (CursorExpired("410"), ErrorClass.BUSINESS),
        (OperationalError("database is away"), ErrorClass.TRANSIENT),
        (TimeoutException("120 s"), ErrorClass.TRANSIENT),
        (KeyError("x"), ErrorClass.BUG),
    ],
)
def test_errors_are_told_apart_by_what_is_done_about_them(error, kind):
    assert classify(error) is kind


def test_failures_that_differ_in_numbers_only_look_alike():
    one = fingerprint("sync", ErrorClass.BUSINESS, "610", "invoice 17 of 'Ada' not found")
    assert one == fingerprint("sync", ErrorClass.BUSINESS, "610", "invoice 4 of 'Bob' not found")
    assert one != fingerprint("sync", ErrorClass.BUSINESS, "611", "invoice 4 of 'Bob' not found")
