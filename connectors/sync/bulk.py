"""Which records were promoted in bulk, here or by a flag on the record, and what became of them?

A flag stays as its person set it until the answer is written over it, so a crash anywhere loses nothing; what is queued, or
answered but not shown yet, is not queued again, so it doubles nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Max, QuerySet

from connectors.contract import (
    AuthError,
    Batch,
    Connector,
    ConnectorError,
    Entity,
    Operation,
    Outcome,
    Record,
    Result,
    Verb,
)
from connectors.models import EntitySync, Event, Promotion, Run
from connectors.sync import companies, store
from connectors.sync.context import HELD, FenceLost
from connectors.sync.flags import Flag, flag_of
from connectors.sync.promotions import LOOK_UP, Status, promote, release, target_of, withdraw
from connectors.sync.routing import Route
from connectors.sync.rules import LEFT, OTHER, Side
from connectors.sync.world import World
from connectors.transport import redaction


@dataclass(frozen=True)
class Flagged:
    """One entity sync whose records ask by a flag."""

    sync: EntitySync
    side: Side
    flag: Flag
    route: Route | None = None
    beside: tuple[Flagged, ...] = ()  # the same of other companies, where records may be of all of them

    @property
    def entity(self) -> str:
        """What its records are called where the flag is."""
        return self.sync.left_entity if self.side == LEFT else self.sync.right_entity

    @property
    def whose(self) -> str:
        """Name of the integration that answers."""
        return str(self.sync.integration)


@dataclass(frozen=True)
class Answer:
    """What became of a request: for a record of all companies, of all their requests."""

    success: bool
    reason: str
    at: datetime
    whose: str = ""  # the integration that answered; "": several did, and the reason names them

    @classmethod
    def of(cls, row: Promotion, whose: str) -> Answer:
        """Return a request's own answer."""
        return cls(row.status == Status.SUCCESS, row.reason, row.at, whose)

    def joined(self, other: Answer) -> Answer:
        """Return both as one: a success where both are, else what failed and where."""
        failed = [
            f"{answer.whose}: {answer.reason}" if answer.whose else answer.reason
            for answer in (self, other)
            if not answer.success
        ]
        return Answer(not failed, " ".join(failed), max(self.at, other.at))


def take(run: Run, world: World) -> None:
    """Read the flags, then let everything that was promoted in bulk go with this run."""
    connectors: dict[Side, Connector] = {}
    for flagged in _flagged(run):
        connector = _connector(run, world, flagged.side, connectors)
        records = connector.find(flagged.entity, flagged.flag.field, [flagged.flag.queued])
        for block in store.blocks(records, LOOK_UP):
            _count(run, flagged.side, len(block))
            _queue(run, world, flagged, connector, block)  # type: ignore[arg-type]
        _forget(run, world, flagged)
    run.progress = {**run.progress, "taken": True}
    with _held(run, world, "take promotions"):
        release(_syncs(run))
        Run.objects.filter(pk=run.pk).update(progress=run.progress, counts=run.counts)


def tell(run: Run, world: World) -> None:
    """Show on each flagged record what became of its promotion; what is not shown now is shown by the next run."""
    connectors: dict[Side, Connector] = {}
    for flagged in _flagged(run):
        ids = _untold(flagged)
        if not ids:
            continue
        try:
            connector = _connector(run, world, flagged.side, connectors)
            entity = next((e for e in connector.describe() if e.name == flagged.entity), None)
            for block in store.blocks(ids, entity.batch) if entity else ():
                _show(run, world, flagged, connector, entity, block)  # type: ignore[arg-type]
        except AuthError:
            raise
        except ConnectorError as error:
            # The run itself is done.  Whatever was lost here, the flags tell the next one.
            _complain(run, world, flagged, len(_untold(flagged)), redaction.text(str(error)))


def _syncs(run: Run) -> list[EntitySync]:
    syncs = run.integration.entity_syncs.filter(enabled=True).order_by("position", "id")
    return [sync for sync in syncs if not run.entities or sync.name in run.entities]


def _flagged(run: Run) -> list[Flagged]:
    found: list[Flagged] = []
    for sync in _syncs(run):
        flag = flag_of(sync.push)
        if flag is not None:
            side = OTHER[target_of(sync)]
            beside = tuple(Flagged(s, side, flag, companies.route_of(s, side)) for s in companies.beside(sync, side))
            found.append(Flagged(sync, side, flag, companies.route_of(sync, side), beside))
    return found


def _connector(run: Run, world: World, side: Side, open_ones: dict[Side, Connector]) -> Connector:
    if side not in open_ones:
        open_ones[side] = world.connect(run.integration.left if side == LEFT else run.integration.right)
    return open_ones[side]


@contextmanager
def _held(run: Run, world: World, name: str) -> Iterator[None]:
    """A transaction that only the holder of the scope may commit, and none once the integration is switched off."""
    with world.transaction(name):
        held = HELD.read(run.scope_id, run.fence)
        if not held or not type(run.integration).objects.filter(pk=run.integration_id, enabled=True).exists():
            raise FenceLost("Another run has taken over, or the integration was switched off.")
        yield


def _count(run: Run, side: Side, records: int) -> None:
    reads = dict(run.counts.get("reads", {}))
    reads[side] = reads.get(side, 0) + records
    run.counts = {**run.counts, "reads": reads}


# Reading the flags


def _queue(run: Run, world: World, flagged: Flagged, connector: Connector, records: Sequence[Record]) -> None:
    """Queue what asks; what is of no company in particular (a product) is queued for all of them."""
    now, route = world.now(), flagged.route
    owners: dict[str, str | None] = {}
    if route is not None:
        owners, read = companies.owners(flagged.sync, route, connector, records)
        _count(run, flagged.side, read)
    with _held(run, world, "queue flagged"):
        for taker in (flagged, *flagged.beside):
            value = taker.route.value if taker.route else None
            _leave(taker, [record_id for record_id, owner in owners.items() if owner not in (None, value)])
            theirs = [
                record
                for record in records
                if (owner := owners.get(record.id)) is None or (taker is flagged and owner == value)
            ]
            answers = _answers(taker, [record.id for record in theirs])
            fresh = {record.id: record.modified or now for record in theirs if _asks(record, answers.get(record.id))}
            promote(taker.sync, fresh, now=now, waits=True, flagged=fresh)


def _leave(taker: Flagged, ids: Sequence[str]) -> None:
    """What is another company's by now is answered there, and not here, too."""
    _withdraw(_rows(taker).filter(external_id__in=ids), "It is another company's, or nobody's.")


def _forget(run: Run, world: World, flagged: Flagged) -> None:
    """End requests of documents that another company has written meanwhile."""
    if flagged.route is None:
        return
    queued = _rows(flagged).filter(status=Status.QUEUED)
    for block in store.blocks(list(queued.values_list("external_id", flat=True)), LOOK_UP):
        why = companies.refused(flagged.sync, flagged.side, [str(record_id) for record_id in block])
        if why:
            with _held(run, world, "forget flagged"):
                for record_id, sentence in why.items():
                    _withdraw(queued.filter(external_id=record_id), sentence)


def _withdraw(rows: QuerySet[Promotion], why: str) -> None:
    """Take back what flags asked for, but not what is being written; a person's own request stays.  No flag shows it."""
    ids = list(rows.filter(status=Status.QUEUED).values_list("pk", flat=True))
    asked = Promotion.objects.filter(pk__in=ids)
    withdraw(asked.filter(source=Promotion.Source.FLAG).values_list("pk", flat=True))
    asked.filter(status=Status.WITHDRAWN).update(reason=why[:500], untold=False)
    asked.exclude(source=Promotion.Source.FLAG).update(untold=False)


def _answers(flagged: Flagged, ids: Sequence[str]) -> dict[str, Answer]:
    """Return the newest answer of each record that its flag does not show yet."""
    rows = _rows(flagged).exclude(status=Status.QUEUED).filter(external_id__in=ids).order_by("id")
    return {row.external_id: Answer.of(row, flagged.whose) for row in rows}


def _asks(record: Record, answer: Answer | None) -> bool:
    """Does a flag that says "queued" ask for something that is not answered yet?

    After a failure that the record does not show: only where somebody has changed the record since it was taken.
    """
    if answer is None:
        return True
    return not answer.success and record.modified is not None and record.modified > answer.at


# Answering


def _rows(flagged: Flagged) -> QuerySet[Promotion]:
    return Promotion.objects.filter(entity_sync=flagged.sync, side=flagged.side, untold=True)


def _untold(flagged: Flagged) -> list[int]:
    """Return the newest request of each record, where it is answered and the record does not show it yet."""
    newest = _rows(flagged).order_by().values("external_id").annotate(newest=Max("id")).values("newest")
    ended = Promotion.objects.filter(pk__in=newest).exclude(status=Status.QUEUED)
    return list(ended.order_by("id").values_list("id", flat=True))


def _show(run: Run, world: World, flagged: Flagged, connector: Connector, entity: Entity, ids: Sequence[int]) -> None:
    answers = {row.external_id: Answer.of(row, flagged.whose) for row in Promotion.objects.filter(pk__in=ids)}
    newest = {flagged.sync.pk: max(ids)}
    for other in flagged.beside:
        newest[other.sync.pk] = _hear(other, answers)
    if not answers:
        return
    # An update that must send more than what changes needs the whole record.
    wanted = frozenset(f.name for f in entity.fields) if entity.wants_current else flagged.flag.columns
    fetched = connector.fetch(entity.name, list(answers), wanted)
    _count(run, flagged.side, len(fetched.records))
    told = [item.id for item in fetched.gone]  # nobody looks at them any more
    operations: list[Operation] = []
    for record in fetched.records:
        answer = answers[record.id]
        values = _shown(flagged.flag, entity, answer)
        now = {name: str(record.values.get(name) or "") for name in values}
        asks_again = now[flagged.flag.field] == flagged.flag.queued and _asks(record, answer)
        if asks_again or now == {name: value or "" for name, value in values.items()}:
            told.append(record.id)
            continue
        operations.append(
            Operation(
                world.key(), Verb.UPDATE, entity.name, record.id, values, record.version,
                current=record if entity.wants_current else None,
            )
        )  # fmt: skip
    outcomes = _write(run, world, connector, operations)
    refused = [outcome for outcome in outcomes.values() if outcome.result in (Result.REJECTED, Result.EXISTS)]
    done = [
        op.id for op in operations if op.key in outcomes and outcomes[op.key].result in (Result.WRITTEN, Result.GONE)
    ]
    with _held(run, world, "flags told"):
        for one in (flagged, *flagged.beside):
            rows = _rows(one).filter(external_id__in=[*told, *done], id__lte=newest[one.sync.pk])
            rows.exclude(status=Status.QUEUED).update(untold=False)
        Run.objects.filter(pk=run.pk).update(counts=run.counts)
    if refused:
        _complain(run, world, flagged, len(refused), redaction.text(refused[0].message))


def _hear(other: Flagged, answers: dict[str, Answer]) -> int:
    """Join what another company answered to the same flags; where it has not answered yet, the flag waits for it.

    Returns the newest request that was looked at.
    """
    rows = list(_rows(other).filter(external_id__in=list(answers)).order_by("id"))
    for record_id, row in {row.external_id: row for row in rows}.items():
        if row.status == Status.QUEUED:
            del answers[record_id]
        else:
            answers[record_id] = answers[record_id].joined(Answer.of(row, other.whose))
    return rows[-1].pk if rows else 0


def _shown(flag: Flag, entity: Entity, answer: Answer) -> dict[str, str | None]:
    values: dict[str, str | None] = {flag.field: flag.success if answer.success else flag.error}
    if flag.message:
        column = entity.field(flag.message)
        values[flag.message] = answer.reason[: column.max_length if column else None] or None
    return values


def _write(run: Run, world: World, connector: Connector, operations: list[Operation]) -> dict[str, Outcome]:
    if not operations:
        return {}
    with _held(run, world, "mark sending"):
        pass  # a cancelled job, a lost scope or a switched-off integration writes nothing more
    outcomes = connector.write(Batch(world.key(), operations))
    world.point("after write")
    return {outcome.key: outcome for outcome in outcomes}


def _complain(run: Run, world: World, flagged: Flagged, count: int, why: str) -> None:
    message = (
        f"{count} record{'s'[: count != 1]} of {flagged.sync} do{'es'[: 2 * (count == 1)]} not show yet what became of "
        f"{'its' if count == 1 else 'their'} promotion: {why} The next run of the service tries again."
    )
    Event.objects.create(
        integration=run.integration, scope=run.scope, run=run, level=Event.Level.WARNING, code="flags not told",
        message=message[:1000], at=world.now(),
    )  # fmt: skip
