"""May this call be made now?  Counters and slots in the database keep all workers together inside the limits."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Case, F, Q, QuerySet, Value, When

from connectors.contract import Limit, QuotaExhausted
from connectors.models import Budget, ConcurrencySlot, Connection

Clock: TypeAlias = Callable[[], datetime]
Sleep: TypeAlias = Callable[[float], None]

PATIENCE = 5.0  # seconds a call waits for its turn; beyond, the caller can do something else
BLOCK = 10  # calls reserved at once from an ample limit: one UPDATE for all calls of an idle run
BLOCK_SHARE = 50  # a block is at most this part of the limit
BLOCK_LIFE = timedelta(seconds=10)  # a reserve older than this is let go: its window is passing
SLOT_POLL = 0.25  # seconds
SLOT_LEASE = timedelta(seconds=300)  # outlives the longest call (session.ANSWER_SECONDS and both time-outs)
ASIDE = 0  # number of the slot that needs no row
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def amounts(limits: Sequence[Limit], given: Mapping[str, object]) -> tuple[Limit, ...]:
    """Return the limits with the amounts of this connection's settings ("limit.batch": "80"; "0": no limit).

    What is no number leaves the limit; who calls is told of it (`connecting.refuse_misfits`).
    """
    result = []
    for limit in limits:
        told = str(given.get(f"limit.{limit.name}", limit.amount)).strip()
        amount = int(told) if told.isascii() and told.isdecimal() else limit.amount
        if amount > 0:
            result.append(Limit(limit.name, amount, limit.per))
    return tuple(result)


def window(now: datetime, per: timedelta) -> datetime:
    """Return the start of the window that `now` lies in."""
    return now - (now - EPOCH) % per


def allowed_in(amount: int, used: int, previous: int, asked: int, passed: float) -> float | None:
    """Return how long (in windows) until `asked` more calls fit, 0 for now, None: not within this window or the next.

    The window slides: of the calls of the window before, the part that is still inside the last full length counts.
    A plain counter would let twice the amount through around the change of two windows.
    """
    if used + asked + previous * (1 - passed) <= amount:
        return 0.0
    if previous and used + asked <= amount:
        return 1 - (amount - used - asked) / previous - passed
    if asked <= amount:
        return 1 - passed + max(0.0, 1 - (amount - asked) / used if used else 0.0)
    return None


def used_share(limit: Limit, row: Budget, now: datetime) -> float:
    """Return which part of a limit is used in the length of time that ends now."""
    if not limit.per:
        return 0.0
    start = window(now, limit.per)
    passed = (now - start) / limit.per
    if row.window_start == start:
        used = row.used + row.previous * (1 - passed)
    else:
        used = row.used * (1 - passed) if row.window_start == start - limit.per else 0.0
    return used / limit.amount


@dataclass(slots=True)
class _Reserve:
    left: int
    until: datetime


class Counter:
    """The budget of one limit with a length of time, as one transport uses it."""

    def __init__(self, connection: Connection, limit: Limit, per: timedelta) -> None:
        self._connection = connection
        self._limit = limit
        self._per = per
        self._block = max(1, min(BLOCK, limit.amount // BLOCK_SHARE))
        self._reserve = _Reserve(0, EPOCH)
        self._lock = threading.Lock()  # threads of one transport share its reserve

    def take(self, now: datetime) -> float:
        """Take one call.  Returns 0, or after how many seconds to ask again."""
        with self._lock:
            return self._take(now)

    def _take(self, now: datetime) -> float:
        if self._reserve.left and now < self._reserve.until:
            self._reserve.left -= 1
            return 0.0
        start = window(now, self._per)
        if self._try(now, start):
            return 0.0
        row, made = self._row(now)
        return 0.0 if made and self._try(now, start) else self._wait(row, now, start)

    def _try(self, now: datetime, start: datetime) -> bool:
        for count in dict.fromkeys((self._block, 1)):
            if self._update(now, start, count):
                self._reserve = _Reserve(count - 1, min(now + BLOCK_LIFE, start + self._per))
                return True
        return False

    def hold(self, now: datetime, until: datetime) -> None:
        """Let no worker call before `until`: the system said so."""
        self._reserve.left = 0
        row, _ = self._row(now)
        Budget.objects.filter(Q(hold_until__isnull=True) | Q(hold_until__lt=until), pk=row.pk).update(hold_until=until)

    def _update(self, now: datetime, start: datetime, count: int) -> bool:
        # Whole thousandths and whole numbers only, so that SQLite and PostgreSQL agree; rounded against us.
        share = 1000 - int(1000 * ((now - start) / self._per))
        mine = Budget.objects.filter(
            Q(hold_until__isnull=True) | Q(hold_until__lte=now), connection=self._connection, limit=self._limit.name
        )
        room = self._limit.amount - count
        inside = mine.filter(window_start=start, used__lte=room - (F("previous") * share + 999) / 1000)
        if inside.update(used=F("used") + count):
            return True
        # The first call of a window rolls it over.  A clock that is behind another worker's takes nothing here.
        last = start - self._per
        older = Q(window_start__lt=last) | Q(window_start=last, used__lte=room * 1000 // share)
        return bool(
            mine.filter(older).update(
                previous=Case(When(window_start=last, then=F("used")), default=Value(0)), used=count, window_start=start
            )
        )

    def _row(self, now: datetime) -> tuple[Budget, bool]:
        # A new row starts in the window before, where nothing was used: the next update rolls it over.
        before = window(now, self._per) - self._per
        return Budget.objects.get_or_create(
            connection=self._connection, limit=self._limit.name, defaults={"window_start": before}
        )

    def _wait(self, row: Budget, now: datetime, start: datetime) -> float:
        """Return how many seconds to wait before the next try."""
        seconds = 0.0
        if row.hold_until and row.hold_until > now:
            seconds = (row.hold_until - now).total_seconds()
        elif row.window_start >= start:
            passed = (now - row.window_start) / self._per
            windows = allowed_in(self._limit.amount, row.used, row.previous, 1, passed)
            seconds = (1.0 if windows is None else windows) * self._per.total_seconds()
        elif row.window_start == start - self._per:
            windows = allowed_in(self._limit.amount, 0, row.used, 1, (now - start) / self._per)
            seconds = (1.0 if windows is None else windows) * self._per.total_seconds()
        return seconds + self._per.total_seconds() / 1000  # the rounding in _update


class Slots:
    """The calls that one transport has in the air, under a limit of so many at the same time.

    A slot is kept until the transport is closed, so a run writes it once.  Where the limit is ample, the first call of
    every worker process of two machines needs no row: so many are set aside, and only what is left is handed out.
    """

    def __init__(self, connection: Connection, limit: Limit) -> None:
        aside = 2 * settings.WORKERS
        ample = limit.amount > aside
        self._connection = connection
        self._limit = limit
        self._rows = limit.amount - aside if ample else limit.amount
        self._holder = str(uuid.uuid4())
        self._lock = threading.Lock()
        self._held: dict[int, datetime] = {}  # number -> end of its lease
        self._free: list[int] = [ASIDE] if ample else []

    def take(self, now: datetime) -> int | None:
        """Return the number of a slot, or None when all are taken."""
        with self._lock:
            number = self._free.pop() if self._free else None
        if number is not None and (number == ASIDE or self._renew(number, now)):
            return number
        return self._take_lapsed(now) or self._take_new(now)

    def give_back(self, number: int) -> None:
        """Keep the slot for this transport's next call."""
        with self._lock:
            self._free.append(number)

    def close(self) -> None:
        """Free what this transport holds."""
        with self._lock:
            held, self._held = list(self._held), {}
            self._free = [number for number in self._free if number == ASIDE]
        if held:
            self._rows_of(number__in=held, holder=self._holder).update(until=EPOCH)

    def _rows_of(self, **more: object) -> QuerySet[ConcurrencySlot]:
        return ConcurrencySlot.objects.filter(connection=self._connection, limit=self._limit.name, **more)

    def _renew(self, number: int, now: datetime) -> bool:
        """Make the lease last for one more call.  False: it had lapsed and is another's now."""
        if self._held.get(number, EPOCH) - now > SLOT_LEASE / 2:
            return True
        kept = self._rows_of(number=number, holder=self._holder).update(until=now + SLOT_LEASE)
        if kept:
            self._held[number] = now + SLOT_LEASE
        else:
            self._held.pop(number, None)
        return bool(kept)

    def _take_lapsed(self, now: datetime) -> int | None:
        free = self._rows_of(number__lte=self._rows, until__lte=now).order_by("number").values_list("number", flat=True)
        for number in list(free):
            taken = self._rows_of(number=number, until__lte=now)
            if taken.update(holder=self._holder, until=now + SLOT_LEASE):
                self._held[number] = now + SLOT_LEASE
                return number
        return None

    def _take_new(self, now: datetime) -> int | None:
        there = set(self._rows_of().values_list("number", flat=True))
        for number in range(1, self._rows + 1):
            if number in there:
                continue
            try:
                with transaction.atomic():
                    ConcurrencySlot.objects.create(
                        connection=self._connection, limit=self._limit.name, number=number, holder=self._holder,
                        until=now + SLOT_LEASE,
                    )  # fmt: skip
            except IntegrityError:
                continue  # another worker was faster: the next number
            self._held[number] = now + SLOT_LEASE
            return number
        return None


class Budgets:
    """All limits of a connection, as one transport keeps them."""

    def __init__(self, connection: Connection, limits: Sequence[Limit], now: Clock, sleep: Sleep) -> None:
        self._connection = connection
        self._now = now
        self._sleep = sleep
        self._counters = {limit.name: Counter(connection, limit, limit.per) for limit in limits if limit.per}
        self._slots = {limit.name: Slots(connection, limit) for limit in limits if not limit.per}

    def spend(self, charge: Sequence[str]) -> None:
        """Count one call against these limits, waiting a little where that is enough.  Raises QuotaExhausted."""
        for name in charge:
            counter = self._counters.get(name)
            if counter is None:
                continue  # a limit that this connection's settings have lifted
            patience = PATIENCE
            while wait := counter.take(self._now()):
                if wait > patience:
                    raise QuotaExhausted(
                        f"The budget {name!r} of connection {self._connection} is used up for {wait:.0f} more seconds.",
                        retry_after=wait,
                    )
                patience -= wait
                self._sleep(wait)

    @contextmanager
    def in_the_air(self) -> Iterator[None]:
        """Hold one slot of each concurrency limit while a call is made."""
        taken: list[tuple[Slots, int]] = []
        try:
            for name, slots in self._slots.items():
                taken.append((slots, self._slot(name, slots)))
            yield
        finally:
            for slots, number in taken:
                slots.give_back(number)

    def _slot(self, name: str, slots: Slots) -> int:
        for _ in range(int(PATIENCE / SLOT_POLL)):
            number = slots.take(self._now())
            if number is not None:
                return number
            self._sleep(SLOT_POLL)
        raise QuotaExhausted(
            f"Connection {self._connection} makes as many calls at the same time as its limit {name!r} allows.",
            retry_after=PATIENCE,
        )

    def hold(self, charge: Sequence[str], seconds: float) -> None:
        """Tell all workers to wait: the system answered 429 or 503 with Retry-After."""
        now = self._now()
        names = [name for name in charge if name in self._counters] or list(self._counters)[:1]
        for name in names:
            self._counters[name].hold(now, now + timedelta(seconds=seconds))

    def close(self) -> None:
        """Give back what is held."""
        for slots in self._slots.values():
            slots.close()
