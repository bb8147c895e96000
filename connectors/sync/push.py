"""How is a plan carried out?  Marks a batch as being sent and commits, writes it, records every outcome in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from django.db.models import Exists, OuterRef

from connectors.contract import (
    Batch,
    ConnectorError,
    Lock,
    Operation,
    Outcome,
    PermanentError,
    Record,
    Ref,
    Result,
    RetryableError,
    Safe,
    Unanswered,
    Value,
    Verb,
)
from connectors.models import Integration, RecordChange, RecordLink, Run, Scope
from connectors.sync import store
from connectors.sync.context import Context, FenceLost
from connectors.sync.mapping import Unfit, Unlinked, references
from connectors.sync.outcomes import Item, fingerprint, leave, park, record_outcomes, spared_by
from connectors.sync.plan import Pending
from connectors.sync.pull import fetch_and_stage
from connectors.sync.rules import LEFT, OTHER, RIGHT, Pair, Side
from connectors.sync.values import CanonicalValues, decode, encode, wire_text

COLUMNS = (
    "id", "link", "verb", "key", "record_id", "after", "expect", "left_out",
    "link__key", "link__revision", "link__left_id", "link__right_id", "link_revision",
)  # fmt: skip

PLANNED = store.Prepared(
    lambda run, pair, side, last, *, size: (
        RecordChange.objects.filter(run=run, open=1, entity_sync=pair, side=side, id__gt=last)
        .order_by("id")
        .values_list(*COLUMNS)[:size]
    )
)
SETTINGS = store.Prepared(
    lambda integration: Integration.objects.select_for_update().filter(pk=integration).values_list("pk")
)
ALLOWED = store.Prepared(
    lambda ids, integration, revision, scope, fence: RecordChange.objects.filter(
        Exists(RecordLink.objects.filter(pk=OuterRef("link"), revision=OuterRef("link_revision"))),
        Exists(Integration.objects.filter(pk=integration, revision=revision, enabled=True)),
        Exists(Scope.objects.filter(pk=scope, fence=fence, enabled=True)),
        pk__in=ids,
        open=1,
    ).values_list("id")
)


@dataclass
class Ready:
    """Operations of one batch, ready to be sent."""

    items: list[Item] = field(default_factory=list)
    deferred: int = 0  # wait for a record that is still to be written


def push(ctx: Context) -> int:
    """Write everything that is planned in this run, in dependency order.  Returns how many writes were sent."""
    sent = 0
    # An undo goes backwards: what refers to a record goes before the record.  What it makes again waits for its turn.
    pairs = ctx.acting[::-1] if ctx.run.purpose == Run.Purpose.UNDO else ctx.acting
    for pair in pairs:
        for side in (RIGHT, LEFT):
            while True:
                more, deferred = _sweep(ctx, pair, side)
                sent += more
                if not more or not deferred:
                    break
    return sent + _left_over(ctx)


def _sweep(ctx: Context, pair: Pair, side: Side) -> tuple[int, int]:
    """Send the planned changes of one pair and side once, in order; returns (sent, deferred)."""
    sent = deferred = last = 0
    size = pair.entity(side).batch
    while True:
        rows = PLANNED.read(ctx.run.pk, pair.id, side, last, size=size)
        if not rows:
            return sent, deferred
        last = rows[-1][0]
        ready = prepare(ctx, pair, side, rows)
        deferred += ready.deferred
        # Room that deferred or refused rows left is filled, so that batches stay full.
        while ready.items and len(ready.items) < size:
            rows = PLANNED.read(ctx.run.pk, pair.id, side, last, size=size - len(ready.items))
            if not rows:
                break
            last = rows[-1][0]
            more = prepare(ctx, pair, side, rows)
            ready.items += more.items
            deferred += more.deferred
        if ready.items:
            sent += send(ctx, pair, side, ready.items)
        ctx.check_slice()


def _left_over(ctx: Context) -> int:
    """What still waits for a record that could not be written: optional references are left out, others wait."""
    sent = 0
    for pair in ctx.acting:
        for side in (RIGHT, LEFT):
            rows = store.read(
                RecordChange.objects.filter(run=ctx.run, open=1, entity_sync=pair.id, side=side)
                .order_by("id")
                .values_list(*COLUMNS)[: pair.entity(side).batch]
            )
            while rows:
                ready = prepare(ctx, pair, side, rows, last_chance=True)
                if ready.items:
                    sent += send(ctx, pair, side, ready.items)
                rows = store.read(
                    RecordChange.objects.filter(run=ctx.run, open=1, entity_sync=pair.id, side=side, id__gt=rows[-1][0])
                    .order_by("id")
                    .values_list(*COLUMNS)[: pair.entity(side).batch]
                )
    return sent


def prepare(ctx: Context, pair: Pair, side: Side, rows: Sequence[store.Row], *, last_chance: bool = False) -> Ready:
    """Turn planned changes into operations.  What the side can't take is parked, what waits is deferred."""
    afters = [decode(row[5]) for row in rows]
    keys = {ref[1:] for after in afters for _, ref in references(after, pair.referring) if ref.startswith("@")}
    partners = ctx.partners(sorted(keys)) if keys else {}

    def id_of(key: str, of: Side) -> Ref | None:
        there = partners.get(key)
        return there[of][0] if there and there[of][1] in (1, 2) else None

    ready, parked, stale, waiting = Ready(), [], [], []
    mapper = ctx.mappers[pair.id]
    for row, after in zip(rows, afters, strict=True):
        (
            change_id,
            link_id,
            verb,
            key,
            record_id,
            _,
            expect,
            spared,
            link_key,
            revision,
            left_id,
            right_id,
            planned_on,
        ) = row
        if revision != planned_on:
            stale.append((change_id, link_id))
            continue
        left_out: frozenset[str] = frozenset()
        try:
            while True:
                try:
                    values = mapper.to_side(side, after, id_of, creating=verb == "create", leave_out=left_out)
                    break
                except Unlinked as unlinked:
                    if not last_chance:
                        raise
                    rule = pair.by_name[unlinked.name]
                    if rule.required or rule.rows:
                        raise
                    left_out |= {unlinked.name}
        except Unlinked as unlinked:
            if last_chance:
                waiting.append((change_id, link_id, unlinked))
            else:
                ready.deferred += 1
            continue
        except Unfit as unfit:
            parked.append((change_id, link_id, _by_label(ctx, pair, side, unfit)))
            continue
        own = left_id if side == LEFT else right_id
        ready.items.append(
            _item(
                ctx,
                pair,
                side,
                change_id,
                link_id,
                verb,
                key,
                own or record_id,
                expect,
                link_key,
                values,
                after,
                left_out,
                spared_by(spared),
            )
        )
    _store_refused(ctx, pair, side, parked, stale, waiting)
    return ready


def _by_label(ctx: Context, pair: Pair, side: Side, unfit: Unfit) -> Unfit:
    """Name an option without partner by the label that people know, where its own system can tell: most keys are ids."""
    source = OTHER[side]
    rules = (rule for rule in pair.rules if (target := rule.of(side)) is not None and target.name == unfit.field)
    own = next((field for rule in rules if (field := rule.of(source)) is not None), None)
    if not unfit.option or unfit.named or own is None:
        return unfit
    try:
        options = ctx.connectors[source].options(pair.entity(source).name, own.name)
    except ConnectorError:
        return unfit  # the record is parked all the same, only its reason says less
    label = next((option.label for option in options if option.key == unfit.option), unfit.option)
    message = unfit.message.replace(repr(unfit.option), repr(label), 1)
    return Unfit(unfit.code, unfit.field, message, option=unfit.option)


def _item(
    ctx: Context, pair: Pair, side: Side, change_id: int, link_id: int, verb: str, key: str, record_id: str | None,
    expect: str, link_key: str, values: dict[str, Value], after: CanonicalValues, left_out: frozenset[str], spared: frozenset[str],
) -> Item:  # fmt: skip
    entity = pair.entity(side)
    if verb == "create":
        record_id = key if entity.safe is Safe.CLIENT_ID else ""
        if entity.marker:
            values[entity.marker] = link_key
    operation = Operation(key, Verb(verb), entity.name, record_id or "", values, expect)
    kept = {name: value for name, value in after.items() if name not in left_out}
    return Item(change_id, link_id, str(link_key), operation, kept, left_out, spared)


def _store_refused(
    ctx: Context,
    pair: Pair,
    side: Side,
    parked: Sequence[tuple[int, int, Unfit]],
    stale: Sequence[tuple[int, int]],
    waiting: Sequence[tuple[int, int, Unlinked]],
) -> None:
    if not parked and not stale and not waiting:
        return
    with ctx.transaction("store refused"):
        for change_id, link_id, unfit in parked:
            print_ = fingerprint(pair, side, unfit.code, unfit.field, unfit.option)
            RecordChange.objects.filter(pk=change_id).update(
                status="rejected",
                open=None,
                code=unfit.code,
                field=unfit.field,
                message=unfit.message[:1000],
                fingerprint=print_,
            )
            if ctx.run.purpose == Run.Purpose.UNDO:
                leave(ctx, [link_id])
            else:
                park(ctx, link_id, unfit.code, unfit.field, unfit.message, side, print_, option=unfit.option)
        for change_id, link_id in stale:
            RecordChange.objects.filter(pk=change_id).update(status="superseded", open=None)
            RecordLink.objects.filter(pk=link_id, pending=Pending.PLANNED).update(
                pending=int(Pending.DIRTY), reason="changed"
            )
        for change_id, link_id, unlinked in waiting:
            RecordChange.objects.filter(pk=change_id).update(status="superseded", open=None)
            if ctx.run.purpose == Run.Purpose.UNDO:
                leave(ctx, [link_id])
                continue
            RecordLink.objects.filter(pk=link_id).update(
                pending=int(Pending.WAITING),
                reason="waits for link",
                args=encode({"field": unlinked.name}),
                waits_on=unlinked.target.lstrip("@"),
                touched_run=ctx.run.pk,
            )


def send(ctx: Context, pair: Pair, side: Side, items: Sequence[Item]) -> int:
    """Mark, commit, write, record.  Returns how many operations were sent."""
    entity = pair.entity(side)
    if entity.lock is Lock.REREAD or entity.wants_current:
        items = _with_current(ctx, pair, side, items)
        if not items:
            return 0
    batch_key = ctx.world.key()
    marked = _mark(ctx, items, batch_key)
    if not marked:
        return 0
    batch = Batch(batch_key, [item.operation for item in marked])
    deliver(ctx, pair, side, batch, marked)
    return len(marked)


def deliver(ctx: Context, pair: Pair, side: Side, batch: Batch, items: Sequence[Item], *, repeat: bool = False) -> None:
    """Write one batch whose rows are marked, and record what became of it."""
    ctx.world.point("before write")
    try:
        outcomes = ctx.connectors[side].write(batch)
    except Unanswered:
        raise
    except RetryableError:
        if not repeat:  # this call did nothing; but of a repeat, the first one may have
            _give_back(ctx, items)
        raise
    except PermanentError as refusal:
        if repeat:
            raise
        if len(items) == 1:
            outcomes = [_refused_alone(items[0], refusal)]
        else:
            _give_back(ctx, items)
            _one_by_one(ctx, pair, side, items)
            return
    ctx.world.point("after write")
    record_outcomes(ctx, pair, side, items, outcomes, repeat=repeat)


def _give_back(ctx: Context, items: Sequence[Item]) -> None:
    """The system said that nothing was done: the rows are planned again, with nothing to settle."""
    with ctx.transaction("give back"):
        RecordChange.objects.filter(pk__in=[item.change_id for item in items], open=2).update(status="planned", open=1)


def _refused_alone(item: Item, refusal: PermanentError) -> Outcome:
    return Outcome(item.operation.key, Result.REJECTED, code=refusal.code, message=str(refusal))


def _one_by_one(ctx: Context, pair: Pair, side: Side, items: Sequence[Item]) -> None:
    """A batch that is refused as a whole may hold one item that is to blame: it alone is parked, the others are written."""
    for item in items:
        batch_key = ctx.world.key()
        if _mark(ctx, [item], batch_key):
            deliver(ctx, pair, side, Batch(batch_key, [item.operation]), [item])


def _mark(ctx: Context, items: Sequence[Item], batch_key: str) -> list[Item]:
    """Mark the rows as being sent where link, settings and fence are still as planned.  No row, no write."""
    with ctx.transaction("mark sending"):
        # Under this lock no settings change can slip in between the look and the mark.
        SETTINGS.read(ctx.integration.pk)
        places = [
            ("sending", 2, batch_key, place, wire_text(item.operation.values), item.operation.expect, item.change_id, 1)
            for place, item in enumerate(items)
        ]
        allowed = _allowed(ctx, [item.change_id for item in items])
        if not allowed and not _may_write(ctx):
            raise FenceLost("The settings changed, or another run has taken over: this run writes nothing more.")
        store.update_many(
            RecordChange,
            ("status", "open", "batch_key", "batch_pos", "sent", "expect"),
            ("id", "open"),
            [place for place in places if place[6] in allowed],
        )
        for item in items:
            if item.left_out:  # whoever settles this must not take for agreed what is not sent
                RecordChange.objects.filter(pk=item.change_id, open=2).update(after=encode(item.after))
        lost = [item.change_id for item in items if item.change_id not in allowed]
        if lost:
            RecordChange.objects.filter(pk__in=lost).update(status="superseded", open=None)
            RecordLink.objects.filter(changes__in=lost, pending=Pending.PLANNED).update(
                pending=int(Pending.DIRTY), reason="changed"
            )
    return [item for item in items if item.change_id in allowed]


def _allowed(ctx: Context, ids: Sequence[int]) -> set[int]:
    """Return those changes whose link, settings and fence are as they were when they were planned (one query)."""
    rows = ALLOWED.read(list(ids), ctx.integration.pk, ctx.run.settings_revision, ctx.scope.pk, ctx.run.fence)
    return {row[0] for row in rows}


def _may_write(ctx: Context) -> bool:
    return (
        Integration.objects.filter(pk=ctx.integration.pk, revision=ctx.run.settings_revision, enabled=True).exists()
        and Scope.objects.filter(pk=ctx.scope.pk, fence=ctx.run.fence, enabled=True).exists()
    )


def _with_current(ctx: Context, pair: Pair, side: Side, items: Sequence[Item]) -> list[Item]:
    """Read the records just before they are written; what changed meanwhile is planned again."""
    entity = pair.entity(side)
    ids = [item.operation.id for item in items if item.operation.verb is not Verb.CREATE]
    if not ids:
        return list(items)
    fetched = ctx.connectors[side].fetch(entity.name, ids, ctx.wanted(side, entity.name))
    ctx.reads[side] += len(fetched.records)
    current = {record.id: record for record in fetched.records}
    kept: list[Item] = []
    moved: list[Item] = []
    for item in items:
        record = current.get(item.operation.id)
        if item.operation.verb is Verb.CREATE:
            kept.append(item)
        elif (
            record is None
            or (item.operation.expect and record.version != item.operation.expect)
            or (not item.operation.expect and not _still(ctx, pair, side, item, record))
        ):
            moved.append(item)
        else:
            kept.append(item.with_current(record))
    if moved:
        with ctx.transaction("store moved"):
            RecordChange.objects.filter(pk__in=[item.change_id for item in moved]).update(
                status="superseded", open=None
            )
            RecordLink.objects.filter(pk__in=[item.link_id for item in moved], pending=Pending.PLANNED).update(
                pending=int(Pending.DIRTY), reason="changed"
            )
        fetch_and_stage(ctx, side, entity.name, [item.operation.id for item in moved])
    return kept


def _still(ctx: Context, pair: Pair, side: Side, item: Item, record: Record) -> bool:
    """Without versions: whether the fields to be written still hold what the plan was made on."""
    before = decode(RecordChange.objects.values_list("before", flat=True).get(pk=item.change_id))
    keys = ctx.keys_of(side, set(ctx.mappers[pair.id].refs(side, record.values)))
    now = ctx.mappers[pair.id].canonical(side, record, lambda entity, record_id: keys.get((entity, record_id)))
    return all(now.get(name) == value for name, value in before.items())
