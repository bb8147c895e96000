"""What did a run leave behind that died or got no answer?  Settles each write by its key before anything new is planned."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from connectors.contract import Batch, Operation, Outcome, PermanentError, Record, Result, Safe, Verb
from connectors.models import RecordChange, RecordLink
from connectors.sync.context import Context
from connectors.sync.matching import HELD
from connectors.sync.outcomes import Item, fingerprint, park, record_outcomes, spared_by
from connectors.sync.plan import Pending
from connectors.sync.push import deliver
from connectors.sync.rules import LEFT, RIGHT, Pair, Side
from connectors.sync.values import decode, wire_values

KEY_KEPT = timedelta(
    hours=23
)  # a request key is safe to repeat for so long (quickbooks sheet, section 6: at least 24 h)


def settle(ctx: Context) -> int:
    """Settle the open writes of the scope.  Returns how many batches were repeated or looked up."""
    _supersede_planned(ctx)
    batches = (
        RecordChange.objects.filter(open__in=[2, 3], run__scope=ctx.scope)
        .order_by("id")
        .values_list("batch_key", "entity_sync", "side")
    )
    done = 0
    for batch_key, entity_sync, side in dict.fromkeys(batches):
        pair = ctx.by_id.get(entity_sync)
        if pair is not None:
            _settle_batch(ctx, pair, LEFT if side == LEFT else RIGHT, batch_key)
            done += 1
    return done


def _supersede_planned(ctx: Context) -> None:
    """What an earlier run planned and never sent is planned anew.

    But not of a run that only gave others their turn, nor of one that a person approved and that will go on.
    """
    rows = RecordChange.objects.filter(open=1, run__scope=ctx.scope).exclude(run__in=[ctx.run.pk, *ctx.aside])
    rows = rows.exclude(run__approved_at__isnull=False, run__finished_at__isnull=True)
    ids = list(rows.values_list("id", flat=True))
    for start in range(0, len(ids), 500):
        block = ids[start : start + 500]
        with ctx.transaction("supersede"):
            RecordLink.objects.filter(changes__in=block, pending=Pending.PLANNED).update(
                pending=int(Pending.DIRTY), reason="changed"
            )
            RecordChange.objects.filter(pk__in=block).update(status="superseded", open=None)


def _settle_batch(ctx: Context, pair: Pair, side: Side, batch_key: str) -> None:
    rows = list(RecordChange.objects.filter(batch_key=batch_key).select_related("link").order_by("batch_pos"))
    changes = [change for change in rows if change.open in (2, 3)]
    entity = pair.entity(side)
    items = [_item(change, side, entity.name, entity.safe) for change in changes]
    operations = [item.operation for item in items]
    if entity.safe is Safe.REQUEST_KEY:
        # A repeat must be the same batch: also the items that were answered the first time are in it again.
        operations = [_item(change, side, entity.name, entity.safe).operation for change in rows]
    whole = all(change.sent for change in rows)
    old = any(ctx.world.now() - change.at > KEY_KEPT for change in changes)
    undo = {change.pk for change in changes if change.undoes_id is not None}
    forbidden = {item.change_id for item in items if _forbidden(pair, side, item, undo=item.change_id in undo)}
    if forbidden or entity.safe is Safe.FIND or (entity.safe is Safe.REQUEST_KEY and (old or not whole)):
        items = _look_up(ctx, pair, side, items)
        _drop(ctx, [item for item in items if item.change_id in forbidden])
        items = [item for item in items if item.change_id not in forbidden]
        if not items:
            return
        # A new batch under a new key: it must not be taken for a repeat of the first, which had other items.
        batch_key, operations = ctx.world.key(), [item.operation for item in items]
        RecordChange.objects.filter(pk__in=[item.change_id for item in items]).update(
            batch_key=batch_key, at=ctx.world.now(), status="sending", open=2
        )
    try:
        deliver(ctx, pair, side, Batch(batch_key, operations), items, repeat=True)
    except PermanentError:
        # Refused as a whole, now and ever: what an earlier try has done is looked up, the rest is planned anew.
        missing = _look_up(ctx, pair, side, items)
        _drop(ctx, missing)
    RecordChange.objects.filter(batch_key=batch_key, open__isnull=True).exclude(sent="").update(sent="")


def _forbidden(pair: Pair, side: Side, item: Item, *, undo: bool) -> bool:
    """Whether a person has switched off meanwhile what would be sent again: then it is only looked for."""
    verb = item.operation.verb
    if verb is Verb.ARCHIVE and not item.after and not undo:  # an undo makes inactive where deletes are switched off
        verb = Verb.DELETE
    return not pair.flows(side) or pair.prevented(side, verb)


def _drop(ctx: Context, items: list[Item]) -> None:
    if items:
        with ctx.transaction("drop"):
            RecordChange.objects.filter(pk__in=[item.change_id for item in items]).update(
                status="superseded", open=None, message="Switched off before it was written."
            )
            RecordLink.objects.filter(pk__in=[item.link_id for item in items]).exclude(state=HELD).update(
                pending=int(Pending.DIRTY), reason="changed"
            )


def _item(change: RecordChange, side: Side, entity: str, safe: Safe) -> Item:
    values = wire_values(change.sent) if change.sent else {}
    record_id = getattr(change.link, f"{side}_id") or change.record_id
    if change.verb == "create":
        record_id = change.key if safe is Safe.CLIENT_ID else ""
    operation = Operation(change.key, Verb(change.verb), entity, record_id, values, change.expect)
    after = decode(change.after)
    return Item(change.pk, change.link_id, change.link.key, operation, after, spared=spared_by(change.left_out))


def _look_up(ctx: Context, pair: Pair, side: Side, items: list[Item]) -> list[Item]:
    """Without a key that the system keeps: find what was created, and send again only what is not there."""
    entity, connector = pair.entity(side), ctx.connectors[side]
    wanted = ctx.wanted(side, entity.name)
    missing: list[Item] = []
    for item in items:
        found = None
        if item.operation.verb is Verb.CREATE:
            name, value = _unique_value(pair, side, item)
            if entity.safe is Safe.CLIENT_ID:
                found = next(iter(connector.fetch(entity.name, [item.operation.id], wanted).records), None)
            elif name:
                found = next(
                    (r for r in connector.find(entity.name, name, [value]) if _ours(pair, side, name, r, item)), None
                )
            else:
                _park_unknown(ctx, pair, side, item)
                continue
        else:
            fetched = connector.fetch(entity.name, [item.operation.id], wanted)
            found = next(iter(fetched.records), None)
        expect = item.operation.expect
        if found is not None and item.operation.verb is not Verb.CREATE and expect:
            if found.version == expect:
                missing.append(item)  # nobody has written since, so the first try was not carried out
                continue
            if not _done(found, item):
                moved = Outcome(item.operation.key, Result.CONFLICT, found.id, message="it has changed meanwhile")
                record_outcomes(ctx, pair, side, [item], [moved])
                continue
        if found is None or (item.operation.verb is not Verb.CREATE and not _done(found, item)):
            missing.append(
                replace(
                    item, operation=replace(item.operation, expect=found.version if found else item.operation.expect)
                )
            )
            continue
        settled = Outcome(item.operation.key, Result.WRITTEN, found.id, message="settled: an earlier try had done it")
        record_outcomes(ctx, pair, side, [item], [settled], found=[found])
    return missing


def _unique_value(pair: Pair, side: Side, item: Item) -> tuple[str, str]:
    """Return the field and value by which a created record can be found: the marker, else what it was matched by."""
    entity = pair.entity(side)
    if entity.marker:
        return entity.marker, item.link_key
    for names in pair.match:
        for name in names:
            own = pair.by_name[name].of(side) if name in pair.by_name else None
            value = item.operation.values.get(own.name) if own else None
            if own is not None and own.findable and isinstance(value, str) and value:
                return own.name, value
    for name, value in item.operation.values.items():
        own = entity.field(name)
        if own is not None and own.findable and isinstance(value, str) and value:
            return name, value
    return "", ""


def _ours(pair: Pair, side: Side, name: str, found: Record, item: Item) -> bool:
    """A record found by what it was matched by is ours; by any other field only when all that was sent stands in it."""
    matched = {own.name for names in pair.match for n in names if (r := pair.by_name.get(n)) and (own := r.of(side))}
    return name in matched or name == pair.entity(side).marker or _same(found.values, item)


def _park_unknown(ctx: Context, pair: Pair, side: Side, item: Item) -> None:
    """Nothing tells whether the record was made, and nothing finds it: a person looks, rather than making it twice."""
    message = (
        "Nobody answered when this record was made, and it can't be looked for. See whether it is there; then retry."
    )
    with ctx.transaction("park unknown"):
        print_ = fingerprint(pair, side, "outcome unknown", "")
        RecordChange.objects.filter(pk=item.change_id).update(
            status="rejected", open=None, code="outcome unknown", message=message, fingerprint=print_
        )
        park(ctx, item.link_id, "outcome unknown", "", message, side, print_)


def _done(found: Record, item: Item) -> bool:
    """Whether a record that is there shows what an earlier try may have done to it."""
    verb = item.operation.verb
    if verb in (Verb.ARCHIVE, Verb.RESTORE):
        return found.archived == (verb is Verb.ARCHIVE)
    return verb is not Verb.DELETE and _same(found.values, item)


def _same(values: object, item: Item) -> bool:
    told = dict(values) if isinstance(values, dict) else {}
    return all(
        str(told.get(name)) == str(value) for name, value in item.operation.values.items() if isinstance(value, str)
    )
