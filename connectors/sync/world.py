"""What does the engine take from outside?  Clock, chance, connectors and a place where a test may interrupt it."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from django.db import transaction

from connectors.contract import Connector
from connectors.models import Connection


def _now() -> datetime:
    return datetime.now(UTC)


def _nowhere(name: str) -> None:
    return None


@dataclass
class World:
    """The seams.  A whole history of two systems, crashes and faults replays from one seed."""

    connect: Callable[[Connection], Connector]
    now: Callable[[], datetime] = _now
    sleep: Callable[[float], None] = time.sleep
    random: random.Random = field(default_factory=random.SystemRandom)
    point: Callable[[str], None] = _nowhere  # called between any two side effects

    def key(self) -> str:
        """Return a new key: of a link, or of a change (then also its idempotency key and client-chosen id)."""
        return str(uuid.UUID(int=self.random.getrandbits(128), version=4))

    @contextmanager
    def transaction(self, name: str) -> Iterator[None]:
        """A transaction with a crash point before and after its commit."""
        self.point(f"before {name}")
        with transaction.atomic():
            yield
            self.point(f"in {name}")
        self.point(f"after {name}")
