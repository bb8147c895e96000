"""What time is it for jobs?  The database's time in production; in tests one file that all processes read.

Hosts disagree about the time and leases are compared between hosts, so the database's clock decides (JOBS section 4).
It is not asked each time: its distance to this host's monotonic clock is measured once a minute.  SQLite lives on this
host and has no clock of its own.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from django.conf import settings
from django.db import connection

MEASURE_EVERY = 60.0  # seconds
_measured: tuple[float, datetime] | None = None  # (this host's monotonic clock, the database's clock)


def now() -> datetime:
    """Return the present moment in UTC."""
    if settings.SYNCLINE_TEST_CLOCK:
        return _from_file(Path(settings.SYNCLINE_TEST_CLOCK))
    if connection.vendor != "postgresql":
        return datetime.now(UTC)
    return _from_database()


def _from_database() -> datetime:
    global _measured
    ticks = time.monotonic()
    # A broken transaction can't be asked; an older measurement is still right to within the clocks' drift.
    if _measured is None or (ticks - _measured[0] > MEASURE_EVERY and not connection.needs_rollback):
        with connection.cursor() as cursor:
            cursor.execute("SELECT clock_timestamp()")
            moment = cursor.fetchone()[0]
        ticks = time.monotonic()
        _measured = (ticks, moment.astimezone(UTC))
    return _measured[1] + timedelta(seconds=ticks - _measured[0])


def _from_file(path: Path) -> datetime:
    """Read `+3600` (real time shifted by seconds) or an ISO moment (time stands still)."""
    text = path.read_text(encoding="ascii").strip()
    if text[:1] in "+-":
        return datetime.now(UTC) + timedelta(seconds=float(text))
    return datetime.fromisoformat(text).astimezone(UTC)


def set_test_clock(value: str) -> None:
    """Write the test clock, at once and as a whole, so that no process reads half a value."""
    path = Path(settings.SYNCLINE_TEST_CLOCK)
    draft = path.with_name(path.name + ".new")
    draft.write_text(value, encoding="ascii")
    draft.replace(path)
