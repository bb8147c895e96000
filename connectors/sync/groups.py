"""What do reports tell?  Stages field groups that no feed carries (aging, stock) on the records' own links."""

from __future__ import annotations

from collections.abc import Sequence

from connectors.contract import Record
from connectors.models import RecordLink
from connectors.sync import store
from connectors.sync.context import Context
from connectors.sync.plan import Life, Pending
from connectors.sync.rules import Pair, Side
from connectors.sync.stage import LINKED, NEW
from connectors.sync.values import decode, encode

LOOK_UP = 500
# Links in these states of waiting take new values; what a person or a filter holds back keeps its reason.
OPEN_TO_NEWS = (None, Pending.DIRTY, Pending.WAITING, Pending.PARKED, Pending.PLANNED)


def pull_groups(ctx: Context, side: Side) -> None:
    """Read the reports that mappings of one side need: one call for all records, never one for each."""
    for pair in ctx.pairs:
        for group in groups_of(pair, side):
            for page in ctx.connectors[side].snapshot(pair.entity(side).name, group, ctx.scope_key(side)):
                ctx.world.point("page read")
                ctx.reads[side] += len(page.records)
                with ctx.transaction("stage group"):
                    _stage(ctx, pair, side, group, page.records)


def groups_of(pair: Pair, side: Side) -> list[str]:
    """Return the names of the field groups that a pair's mappings take from one side."""
    return sorted({own.group for rule in pair.merged if (own := rule.of(side)) is not None and own.group})


def _stage(ctx: Context, pair: Pair, side: Side, group: str, records: Sequence[Record]) -> None:
    names = {rule.name for rule in pair.merged if (own := rule.of(side)) is not None and own.group == group}
    told = {record.id: record for record in records}
    updates: list[store.Row] = []
    for block in store.blocks(list(told), LOOK_UP):
        rows = RecordLink.objects.filter(
            **{
                "entity_sync": pair.id,
                f"{side}_id__in": block,
                f"{side}_life__in": [Life.LIVE, Life.ARCHIVED],
                "state__in": [NEW, LINKED],
                "ended": 0,
            }
        ).values_list("id", f"{side}_id", f"{side}_staged", f"{side}_quirk", "base", "pending")
        for link_id, record_id, staged, quirk, base, pending in store.read(rows):
            if pending not in OPEN_TO_NEWS:
                continue
            values = ctx.mappers[pair.id].canonical(side, told[record_id], lambda entity, wanted: None)
            values = {name: value for name, value in values.items() if name in names}
            held = {**decode(base), **decode(quirk)}
            now = {**(held if staged is None else decode(staged)), **values}
            if base and staged is None and all(name in held and held[name] == value for name, value in values.items()):
                continue
            text = encode(now)
            if text != staged:
                updates.append((text, int(Pending.DIRTY), "changed", "", ctx.run.pk, link_id))
    columns = (f"{side}_staged", "pending", "reason", "args", "touched_run")
    store.update_many(RecordLink, columns, ("id",), updates, bump="revision")
