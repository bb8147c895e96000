"""How does the engine speak to the benchmarks' server?  An ordinary connector over the real transport."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import ClassVar, cast

from connectors.contract import (
    Batch,
    Entity,
    Fetched,
    Field,
    Identity,
    Kind,
    Limit,
    Lock,
    Option,
    Outcome,
    Page,
    Record,
    Removal,
    Result,
    Returns,
    Safe,
    Value,
    Verb,
)  # fmt: skip
from connectors.transport.types import Http
from tests.bench.records import KINDS, PAGE, fields_of

VERBS = frozenset({Verb.CREATE, Verb.UPDATE, Verb.DELETE})
Body = dict[str, object]


@dataclass
class Ways:
    """What a measurement changes from run to run."""

    batch: int
    by_version: bool = True


def _money(value: object) -> Value:
    return None if value is None else Decimal(str(value))


def _date(value: object) -> Value:
    return None if value is None else date.fromisoformat(str(value))


READERS: dict[str, Callable[[object], Value]] = {"money": _money, "date": _date}


class Plain:
    """Reads and writes one side's server."""

    system: ClassVar[str] = "plain"
    limits: ClassVar[Sequence[Limit]] = ()

    def __init__(self, http: Http, url: str, side: str, ways: Ways) -> None:
        self.http, self.url, self.side, self.ways = http, url, side, ways
        kinds = list(KINDS.values())
        self.readers = [(name, READERS.get(kind)) for name, kind in zip(fields_of(side), kinds, strict=True)]

    def check(self) -> Identity:
        """Always welcome."""
        return Identity(self.side, "bench", {self.side: VERBS})

    def describe(self) -> Sequence[Entity]:
        """One entity of fifteen fields."""
        fields = tuple(
            Field(name, Kind(kind), scale=2 if kind == "money" else None, max_length=200 if kind == "text" else None)
            for name, kind in zip(fields_of(self.side), KINDS.values(), strict=True)
        )
        return [
            Entity(
                self.side, fields, feed=self.side, tells_deletes=True, lock=Lock.NATIVE, safe=Safe.REQUEST_KEY,
                removal=Removal.DELETE, returns=Returns.VALUES, verbs=VERBS, page=PAGE, batch=self.ways.batch,
                version_tells_all=self.ways.by_version,
            )
        ]  # fmt: skip

    def options(self, entity: str, field: str, of: str = "") -> Sequence[Option]:
        """There are none."""
        return ()

    def changes(
        self, feed: str, wanted: Mapping[str, frozenset[str]], cursor: str | None, scope: str = ""
    ) -> Iterator[Page]:
        """A cursor is the number of the last change that was read."""
        place = cursor or "0"
        while True:
            reply = self.http.request("GET", f"{self.url}/feed?after={place}&limit={PAGE}")
            answer = cast("Body", reply.json())
            place = str(answer["next"])
            yield Page(
                place, [self._record(body) for body in cast("list[Body]", answer["records"])], last=bool(answer["last"])
            )
            if answer["last"]:
                return

    def snapshot(self, entity: str, group: str, scope: str = "") -> Iterator[Page]:
        """There are no groups."""
        yield Page("", last=True)

    def fetch(self, entity: str, ids: Sequence[str], fields: frozenset[str]) -> Fetched:
        """Nothing is ever missing here, so nothing has to be looked for."""
        return Fetched((), (), list(ids))

    def find(self, entity: str, field: str, values: Sequence[str]) -> Iterator[Record]:
        """No field can be searched."""
        yield from ()

    def write(self, batch: Batch) -> Sequence[Outcome]:
        """Send all operations in one request."""
        body = [
            {"key": o.key, "verb": o.verb, "id": o.id, "values": {n: _sent(v) for n, v in o.values.items()}}
            for o in batch.operations
        ]
        reply = self.http.request("POST", f"{self.url}/write", json=body, repeatable=False)
        outcomes = []
        for answer in cast("list[Body]", reply.json()):
            record = self._record(cast("Body", answer["record"]))
            outcomes.append(
                Outcome(
                    str(answer["key"]),
                    Result.WRITTEN,
                    record.id,
                    record.version,
                    record.values,
                    modified=record.modified,
                )
            )
        return outcomes

    def _record(self, body: Body) -> Record:
        values: dict[str, Value] = {
            name: body[name] if read is None else read(body[name])  # type: ignore[misc]
            for name, read in self.readers
            if name in body
        }
        modified = datetime.fromisoformat(str(body["modified"])).astimezone(UTC)
        return Record(self.side, str(body["id"]), values, str(body["version"]), modified)


def _sent(value: Value) -> object:
    return value if value is None or isinstance(value, bool | int | str) else str(value)
