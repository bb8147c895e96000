"""How does one speak to a system in memory?  The smallest complete connector, to read and to copy."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar

from connectors.contract import (
    Batch,
    CursorExpired,
    Entity,
    Fetched,
    Gone,
    Identity,
    Limit,
    Operation,
    Option,
    Outcome,
    Page,
    Record,
    Result,
    Returns,
    Safe,
    Value,
    Verb,
    Write,
)
from connectors.memory.store import Kept, MemoryStore, Written
from connectors.transport.types import Http, OAuth2, Setting


class Memory:
    """Reads and writes a MemoryStore of this process."""

    system: ClassVar[str] = "memory"
    title: ClassVar[str] = "In memory"
    limits: ClassVar[Sequence[Limit]] = ()
    settings: ClassVar[Sequence[Setting]] = (Setting("store", "Name of the store", required=True),)
    secrets: ClassVar[Sequence[str]] = ()
    simulator: ClassVar[str] = ""

    @classmethod
    def auth(cls, settings: Mapping[str, str]) -> OAuth2 | None:
        """There is nothing to log in to."""
        return None

    def __init__(self, http: Http | None, settings: Mapping[str, str], now: Callable[[], datetime]) -> None:
        self.store = MemoryStore.stores[settings["store"]]

    def check(self) -> Identity:
        """Always welcome."""
        may = {name: entity.verbs for name, entity in self.store.entities.items()}
        return Identity(self.store.name, "nobody", may, clock=self.store.now())

    def describe(self) -> Sequence[Entity]:
        """Whatever the store was made with."""
        return list(self.store.entities.values())

    def options(self, entity: str, field: str, of: str = "") -> Sequence[Option]:
        """Choices that the store was made with."""
        return self.store.options.get((entity, field), [])

    def changes(
        self, feed: str, wanted: Mapping[str, frozenset[str]], cursor: str | None, scope: str = ""
    ) -> Iterator[Page]:
        """A cursor is {"delta": sequence} or, in the middle of a listing, {"after": [entity, id], "since": sequence}."""
        place: dict[str, Any] = json.loads(cursor) if cursor else {"after": None, "since": self._newest()}
        if self.store.expire_cursors and "delta" in place:
            self.store.expire_cursors = False
            raise CursorExpired("the cursor is too old")
        if "delta" in place:
            yield from self._delta(feed, wanted, int(place["delta"]))
        else:
            yield from self._listing(feed, wanted, place)

    def _newest(self) -> int:
        return max([item[0] for log in (self.store.log, self.store.touched) for item in log[-1:]], default=0)

    def _away(self, entity: str, record_id: str) -> bool:
        return (entity, record_id) in self.store.hidden or (entity, record_id) in self.store.elsewhere

    def _listing(self, feed: str, wanted: Mapping[str, frozenset[str]], place: dict[str, Any]) -> Iterator[Page]:
        entities = [e for e in self.store.entities.values() if e.feed == feed and e.name in wanted]
        size = entities[0].page if entities else 1
        after = place["after"]
        while True:
            self.store.requests.append(f"list {feed}")
            everything = [
                (e.name, kept)
                for e in entities
                for kept in list(self.store.tables[e.name].values())
                if not self.store.empty and not self._away(e.name, kept.id)
            ]
            order = {e.name: number for number, e in enumerate(entities)}
            start: tuple[int, int] = (-1, 0)
            if isinstance(after, list):
                start = (order.get(str(after[0]), -1), int(str(after[1])))
            # Ordered by entity and an ever rising number, so that a delete in between shifts nothing.
            rest = [(n, k) for n, k in everything if (order[n], _number(k.id)) > start]
            rest.sort(key=lambda item: (order[item[0]], _number(item[1].id)))
            block = rest[:size]
            last = len(rest) <= size
            if block:
                after = [block[-1][0], _number(block[-1][1].id)]
            following = {"delta": place["since"]} if last else {"after": after, "since": place["since"]}
            yield Page(json.dumps(following), [self._record(n, k, wanted[n]) for n, k in block], last=last)
            if last:
                return

    def _delta(self, feed: str, wanted: Mapping[str, frozenset[str]], since: int) -> Iterator[Page]:
        entities = {e.name: e for e in self.store.entities.values() if e.feed == feed and e.name in wanted}
        size = next(iter(entities.values())).page if entities else 1
        begin = since
        while True:
            self.store.requests.append(f"delta {feed}")
            changed = [item for item in self.store.log if item[0] > since and item[1] in entities]
            block, last = changed[:size], len(changed) <= size
            touched = [item for item in self.store.touched if item[0] > begin and item[1] in entities] if last else []
            since = max([since, *(item[0] for item in [*block, *touched])])
            if self.store.empty:
                block = []
            block = [item for item in block if not self._away(item[1], item[2])]
            records, gone = [], []
            for _, name, record_id in dict.fromkeys(block):
                kept = self.store.tables[name].get(record_id)
                if kept is not None:
                    records.append(self._record(name, kept, wanted[name]))
                elif entities[name].tells_deletes:
                    gone.append(self._grave(name, record_id))
            gap, self.store.gap = self.store.gap, ""
            names = [(name, record_id) for _, name, record_id in touched]
            yield Page(json.dumps({"delta": since}), records, gone, touched=names, last=last, gap=gap)
            if last:
                return

    def snapshot(self, entity: str, group: str, scope: str = "") -> Iterator[Page]:
        """Values of a group for all records."""
        names = frozenset(f.name for f in self.store.entities[entity].fields if f.group == group)
        records = [self._record(entity, kept, names) for kept in self.store.tables[entity].values()]
        yield Page("", records, last=True)

    def fetch(self, entity: str, ids: Sequence[str], fields: frozenset[str]) -> Fetched:
        """Present state of these records."""
        self.store.requests.append(f"fetch {entity}")
        table = self.store.tables[entity]
        hidden = [i for i in ids if (entity, i) in self.store.hidden]
        return Fetched(
            [self._record(entity, table[i], fields) for i in ids if i in table and i not in hidden],
            [self._grave(entity, i) for i in ids if i not in table and i not in hidden],
            hidden,
        )

    def _grave(self, entity: str, record_id: str) -> Gone:
        return Gone(entity, record_id, into=self.store.merged.get((entity, record_id), ""))

    def find(self, entity: str, field: str, values: Sequence[str]) -> Iterator[Record]:
        """Records whose field has one of the values."""
        self.store.requests.append(f"find {entity}")
        every = frozenset(f.name for f in self.store.entities[entity].fields)
        for kept in list(self.store.tables[entity].values()):
            if str(kept.values.get(field)) in values:
                yield self._record(entity, kept, every)

    def write(self, batch: Batch) -> Sequence[Outcome]:
        """Carry out one batch; a repeat with the same key answers as the first one did."""
        self.store.requests.append(f"write {len(batch.operations)}")
        safe = self.store.entities[batch.operations[0].entity].safe
        if safe is Safe.REQUEST_KEY and batch.key in self.store.answers:
            return self.store.answers[batch.key]  # type: ignore[return-value]
        outcomes = [self._operate(operation, batch.key) for operation in batch.operations]
        self.store.answers[batch.key] = list(outcomes)
        return outcomes

    def _operate(self, operation: Operation, batch_key: str) -> Outcome:
        entity = self.store.entities[operation.entity]
        table = self.store.tables[operation.entity]
        if operation.verb is Verb.CREATE:
            return self._create(entity, operation, batch_key)
        kept = table.get(operation.id)
        if kept is None:
            return Outcome(operation.key, Result.GONE, operation.id, message="there is no such record")
        if operation.expect and operation.expect != str(kept.version):
            return Outcome(operation.key, Result.CONFLICT, operation.id, code="stale", message="it has changed")
        refusal = _refusal(entity, operation) or self._in_the_way(operation)
        if refusal is not None:
            return refusal
        self._note(operation, operation.id, kept.version, batch_key)
        if operation.verb is Verb.DELETE:
            self.store.delete(operation.entity, operation.id)
            return Outcome(operation.key, Result.WRITTEN, operation.id)
        if operation.verb is Verb.UPDATE:
            kept = self.store.put(operation.entity, operation.id, _stored(entity, operation.values), by=operation.key)
        else:
            kept = self.store.archive(operation.entity, operation.id, operation.verb is Verb.ARCHIVE, by=operation.key)
        return self._written(entity, operation, kept)

    def _create(self, entity: Entity, operation: Operation, batch_key: str) -> Outcome:
        if entity.safe is Safe.CLIENT_ID and operation.id in self.store.tables[entity.name]:
            return Outcome(operation.key, Result.EXISTS, operation.id, code="duplicate", message="this id is taken")
        refusal = _refusal(entity, operation) or self._in_the_way(operation)
        if refusal is not None:
            return refusal
        if entity.safe is Safe.UPSERT:
            for kept in self.store.tables[entity.name].values():
                if kept.origin == operation.key:  # the first try has made it
                    return self._written(entity, operation, kept)
        record_id = operation.id if entity.safe is Safe.CLIENT_ID else ""
        record_id = self.store.create(
            entity.name, _stored(entity, operation.values), by=operation.key, record_id=record_id
        )
        self._note(operation, record_id, 0, batch_key)
        return self._written(entity, operation, self.store.tables[entity.name][record_id])

    def _in_the_way(self, operation: Operation) -> Outcome | None:
        name, other = self.store.taken(operation.entity, operation.id, operation.values)
        if not other:
            return None
        return Outcome(
            operation.key, Result.EXISTS, other, field=name, code="duplicate", message=f"another record has this {name}"
        )

    def _note(self, operation: Operation, record_id: str, replaced: int, batch_key: str) -> None:
        self.store.journal.append(
            Written(
                str(operation.verb),
                operation.entity,
                record_id,
                dict(operation.values),
                replaced,
                operation.key,
                batch_key,
            )
        )

    def _written(self, entity: Entity, operation: Operation, kept: Kept) -> Outcome:
        told = entity.returns is Returns.VALUES
        version = "" if entity.returns is Returns.ID else str(kept.version)
        return Outcome(
            operation.key, Result.WRITTEN, kept.id, version, dict(kept.values) if told else None,
            kept.modified if told else None,
        )  # fmt: skip

    def _record(self, entity: str, kept: Kept, wanted: frozenset[str]) -> Record:
        marker = self.store.entities[entity].marker
        return Record(
            entity, kept.id, {n: v for n, v in kept.values.items() if n in wanted}, str(kept.version), kept.modified,
            kept.archived, marker=str(kept.values.get(marker) or "") if marker else "",
        )  # fmt: skip


def _number(record_id: str) -> int:
    return int(record_id) if record_id.isdecimal() else int(record_id.replace("-", ""), 16)


def _stored(entity: Entity, values: Mapping[str, Value]) -> dict[str, Value]:
    return {
        name: value for name, value in values.items() if (f := entity.field(name)) is None or f.write is not Write.NEVER
    }


def _refusal(entity: Entity, operation: Operation) -> Outcome | None:
    """Refuse what a real system would refuse: a text too long, a required field left empty."""
    for name, value in operation.values.items():
        declared = entity.field(name)
        if declared is not None and declared.max_length and isinstance(value, str) and len(value) > declared.max_length:
            return Outcome(
                operation.key, Result.REJECTED, operation.id, field=name, code="too long",
                message=f"{name} takes at most {declared.max_length} characters",
            )  # fmt: skip
    if operation.verb is Verb.CREATE:
        for declared in entity.fields:
            if declared.required and operation.values.get(declared.name) in (None, ""):
                return Outcome(
                    operation.key,
                    Result.REJECTED,
                    field=declared.name,
                    code="required",
                    message=f"{declared.name} is missing",
                )
    return None
