"""A system's records in memory, with the oddities that real systems have, each behind a switch."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from connectors.contract import Entity, Field, Kind, Lock, Option, Removal, Returns, Safe, Value, Verb


def _as_it_is(value: Value) -> Value:
    return value


ALL_VERBS = frozenset({Verb.CREATE, Verb.UPDATE, Verb.ARCHIVE, Verb.RESTORE, Verb.DELETE})


def entity(name: str = "person", *fields: Field, **options: object) -> Entity:
    """Return an entity with usual defaults, for tests and examples."""
    defaults: dict[str, object] = {
        "feed": name, "tells_deletes": True, "lock": Lock.NATIVE, "safe": Safe.REQUEST_KEY, "removal": Removal.DELETE,
        "returns": Returns.VALUES, "verbs": ALL_VERBS, "page": 5, "batch": 3, "marker": "",
    }  # fmt: skip
    default_fields = (
        Field("name", Kind.TEXT, required=True, max_length=60, findable=True),
        Field("email", Kind.TEXT, max_length=100),
        Field("city", Kind.TEXT, max_length=40),
        Field("credit", Kind.MONEY, scale=2),
        Field("parent", Kind.REF, refers_to=(name,)),
    )
    return Entity(name, fields or default_fields, **{**defaults, **options})  # type: ignore[arg-type]


@dataclass
class Kept:
    """One record as the system keeps it."""

    id: str
    values: dict[str, Value]
    version: int
    modified: datetime
    archived: bool = False
    origin: str = ""  # the operation's key, or "user": for judges in tests only
    history: list[tuple[int, dict[str, Value], str]] = field(default_factory=list)  # (version, values, by)


@dataclass
class Written:
    """One entry of the journal: what was committed, on which version."""

    verb: str
    entity: str
    id: str
    values: dict[str, Value]
    replaced: int  # the version that it replaced
    key: str
    batch_key: str


class MemoryStore:
    """The "server": two connectors with the same name share it."""

    stores: dict[str, MemoryStore] = {}

    def __init__(
        self, name: str, entities: Mapping[str, Entity] | None = None, *, clock: Callable[[], datetime] | None = None,
        skew: timedelta = timedelta(0), first_id: int = 1, options: Mapping[tuple[str, str], list[Option]] | None = None,
    ) -> None:  # fmt: skip
        self.name = name
        self.entities = dict(entities or {"person": entity()})
        self.clock = clock or (lambda: datetime.now(UTC))
        self.skew = skew
        self.options = dict(options or {})
        self.tables: dict[str, dict[str, Kept]] = {name: {} for name in self.entities}
        self.log: list[tuple[int, str, str]] = []  # (sequence, entity, id), newest last
        self.touched: list[tuple[int, str, str]] = []  # (sequence, entity, id) whose child has changed
        self.graves: dict[tuple[str, str], int] = {}
        self.answers: dict[str, list[object]] = {}  # request key -> what the first try answered
        self.journal: list[Written] = []
        self.requests: list[str] = []
        self.empty = False  # a listing shows nothing, as if rights were lost
        self.expire_cursors = False
        self.stores_as: dict[tuple[str, str], Callable[[Value], Value]] = {}  # (entity, field) -> how a value is kept
        self.unique: set[tuple[str, str]] = set()  # (entity, field) that no two records may share
        self.merged: dict[tuple[str, str], str] = {}  # a record that is no more -> the one that it was merged into
        self.hidden: set[tuple[str, str]] = set()  # there, but the user may not see it
        self.elsewhere: set[tuple[str, str]] = set()  # left the scope: a listing lacks it, a look at its id finds it
        self.gap = ""  # why the next answer of a delta may lack something
        self._sequence = itertools.count(1)
        self._ids = itertools.count(first_id)
        MemoryStore.stores[name] = self

    def now(self) -> datetime:
        """This system's own clock."""
        return self.clock() + self.skew

    def new_id(self) -> str:
        """Return the next id."""
        return str(next(self._ids))

    def put(self, entity_name: str, record_id: str, values: Mapping[str, Value], *, by: str = "user") -> Kept:
        """Create or change a record as a person (or an operation) does."""
        table = self.tables[entity_name]
        old = table.get(record_id)
        version = next(self._sequence)
        kept_values = {n: self.stores_as.get((entity_name, n), _as_it_is)(v) for n, v in values.items()}
        merged = {**(old.values if old else {}), **kept_values}
        kept = Kept(record_id, merged, version, self.now(), old.archived if old else False, old.origin if old else by)
        kept.history = [*(old.history if old else []), (version, dict(merged), by)]
        table[record_id] = kept
        self.log.append((version, entity_name, record_id))
        self.graves.pop((entity_name, record_id), None)
        return kept

    def create(self, entity_name: str, values: Mapping[str, Value], *, by: str = "user", record_id: str = "") -> str:
        """Create a record; fields that are not given are empty."""
        record_id = record_id or self.new_id()
        empty: dict[str, Value] = {f.name: None for f in self.entities[entity_name].fields}
        self.put(entity_name, record_id, {**empty, **values}, by=by)
        return record_id

    def archive(self, entity_name: str, record_id: str, archived: bool, *, by: str = "user") -> Kept:
        """Make a record inactive, or active again."""
        kept = self.put(entity_name, record_id, {}, by=by)
        kept.archived = archived
        return kept

    def compute(self, entity_name: str, record_id: str, values: Mapping[str, Value]) -> None:
        """Change values without a new version and without a word in the feed, as balances do."""
        self.tables[entity_name][record_id].values.update(values)

    def touch_child(self, entity_name: str, record_id: str) -> None:
        """Say in the feed that a child of this record has changed; the record's own version stays."""
        self.touched.append((next(self._sequence), entity_name, record_id))

    def merge(self, entity_name: str, record_id: str, into: str) -> None:
        """Merge a record into another: the first is no more, and the feed says which one goes on."""
        self.merged[entity_name, record_id] = into
        self.delete(entity_name, record_id)

    def taken(self, entity_name: str, record_id: str, values: Mapping[str, Value]) -> tuple[str, str]:
        """Return (field, id of the record in the way) where a unique value is given twice, else ('', '')."""
        for name, value in values.items():
            if (entity_name, name) in self.unique and value is not None:
                for other in self.tables[entity_name].values():
                    if other.id != record_id and other.values.get(name) == value:
                        return name, other.id
        return "", ""

    def delete(self, entity_name: str, record_id: str) -> bool:
        """Delete a record; its grave stays in the feed."""
        if self.tables[entity_name].pop(record_id, None) is None:
            return False
        sequence = next(self._sequence)
        self.graves[entity_name, record_id] = sequence
        self.log.append((sequence, entity_name, record_id))
        return True

    def ids(self, entity_name: str) -> list[str]:
        """Return the ids of living records, in order of creation."""
        return list(self.tables[entity_name])
