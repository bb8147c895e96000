"""What does a simulated system hold?  Records by entity, each with a version, and a log of what changed."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(slots=True)
class StoredRecord:
    """One record as the system stores it; `body` is in the vendor's own shape."""

    entity: str
    id: str
    body: dict[str, object]
    version: int
    created: datetime
    modified: datetime


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of the change log, in commit order."""

    sequence: int
    at: datetime
    entity: str
    id: str
    verb: str  # create, update, delete
    by: str  # "api" for a call over HTTP, "user" for the test's own door
    fields: frozenset[str] = frozenset()
    before: dict[str, object] | None = field(default=None, compare=False)


class Store:
    """All records of one simulated system.  Hold `lock` around anything that reads and then writes."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self.lock = threading.RLock()
        self.now = now
        self.tables: dict[str, dict[str, StoredRecord]] = {}
        self.log: list[Change] = []
        self.latest: dict[str, dict[str, Change]] = {}  # entity -> id -> its newest change
        self.sequence = 0

    def table(self, entity: str) -> dict[str, StoredRecord]:
        """Return the live records of one entity, by id, oldest first."""
        return self.tables.setdefault(entity, {})

    def get(self, entity: str, record_id: str) -> StoredRecord | None:
        """Return a live record, or None."""
        return self.table(entity).get(record_id)

    def put(
        self, entity: str, record_id: str, body: dict[str, object], *, by: str = "user", silent: bool = False
    ) -> StoredRecord:
        """Create or replace a record.  `silent` keeps it out of the change log and leaves version and time as they were
        (what vendors do to computed values)."""
        with self.lock:
            table, now = self.table(entity), self.now()
            old = table.get(record_id)
            if old is not None and silent:
                old.body = body
                return old
            self.sequence += 1
            record = StoredRecord(entity, record_id, body, self.sequence, old.created if old else now, now)
            table[record_id] = record
            before = copy.deepcopy(old.body) if old else None
            names = frozenset(k for k in {*body, *(before or {})} if body.get(k) != (before or {}).get(k))
            self._note(Change(self.sequence, now, entity, record_id, "update" if old else "create", by, names, before))
            return record

    def delete(self, entity: str, record_id: str, *, by: str = "user") -> bool:
        """Remove a record and leave a tombstone in the change log; False when it was not there."""
        with self.lock:
            old = self.table(entity).pop(record_id, None)
            if old is None:
                return False
            self.sequence += 1
            self._note(
                Change(self.sequence, self.now(), entity, record_id, "delete", by, frozenset(old.body), old.body)
            )
            return True

    def changed_since(self, entity: str, sequence: int) -> Iterator[Change]:
        """Yield the newest change of each record changed after `sequence`, in commit order."""
        with self.lock:
            newer = [c for c in self.latest.get(entity, {}).values() if c.sequence > sequence]
        yield from sorted(newer, key=lambda change: change.sequence)

    def _note(self, change: Change) -> None:
        self.log.append(change)
        self.latest.setdefault(change.entity, {})[change.id] = change
