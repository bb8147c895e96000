"""What time is it in a simulated system?  Real time, shifted or held still, so that a test can move it."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta


class SimClock:
    """A settable clock.  `skew` is how far this system's clock is off from everybody else's."""

    def __init__(self, start: datetime | None = None, *, skew: timedelta = timedelta(0)) -> None:
        self._lock = threading.Lock()
        self._held = start
        self._offset = timedelta(0)
        self.skew = skew

    def now(self) -> datetime:
        """Return the present moment in UTC, as this system sees it."""
        with self._lock:
            return (self._held or datetime.now(UTC)) + self._offset + self.skew

    def advance(self, by: timedelta) -> None:
        """Move the clock on (or back)."""
        with self._lock:
            self._offset += by

    def hold(self, at: datetime | None) -> None:
        """Stand still at `at`; None runs with real time again."""
        with self._lock:
            self._held, self._offset = at, timedelta(0)
