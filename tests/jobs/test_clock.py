"""What time is it for jobs?"""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection

from jobs import clock


def test_a_held_clock_stands_still(at):
    assert clock.now() == clock.now() == datetime(2026, 3, 1, 12, tzinfo=UTC)
    at(timedelta(hours=1))
    assert clock.now() == datetime(2026, 3, 1, 13, tzinfo=UTC)


def test_a_shifted_clock_runs(at):
    clock.set_test_clock("+3600")
    ahead = clock.now() - datetime.now(UTC)
    assert timedelta(seconds=3595) < ahead < timedelta(seconds=3601)


def test_without_a_test_clock_it_is_now(db):
    assert abs(clock.now() - datetime.now(UTC)) < timedelta(seconds=5)


@pytest.mark.postgres
@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="needs PostgreSQL")
def test_the_databases_clock_is_asked_once_a_minute(db, django_assert_num_queries, monkeypatch):
    assert connection.vendor == "postgresql"
    monkeypatch.setattr(clock, "_measured", None)
    with django_assert_num_queries(1):
        first, second = clock.now(), clock.now()
    assert timedelta(0) <= second - first < timedelta(seconds=1)
