"""What do reports tell?  Stages field groups that no feed carries (aging, stock) on the records' own links."""

from __future__ import annotations

from collections.abc import Sequence

from connectors.contract import Kind, KnowsAbsence, Record, Values
from connectors.models import RecordLink, Run
from connectors.sync import guards, store
from connectors.sync.context import Context, EmptySide
from connectors.sync.matching import LINKED, NEW
from connectors.sync.plan import Life, Pending
from connectors.sync.rules import Pair, Side
from connectors.sync.values import decode, encode

LOOK_UP = 500
ABSENT = 2000  # records staged at once that a report does not mention
# Links in these states of waiting take new values; what a person or a filter holds back keeps its reason.
OPEN_TO_NEWS = (None, Pending.DIRTY, Pending.WAITING, Pending.PARKED, Pending.PLANNED)


def pull_groups(ctx: Context, side: Side) -> None:
    """Read the reports that mappings of one side need: one call for all records, never one for each."""
    wanted: dict[tuple[str, str], list[Pair]] = {}
    for pair in ctx.pairs if ctx.run.mode != Run.Mode.REPORTS else ctx.acting:
        for group in groups_of(pair, side):
            wanted.setdefault((pair.entity(side).name, group), []).append(pair)
    for (entity, group), pairs in wanted.items():
        _pull_group(ctx, side, entity, group, pairs)


def _pull_group(ctx: Context, side: Side, entity: str, group: str, pairs: Sequence[Pair]) -> None:
    told: set[str] = set()
    for page in ctx.connectors[side].snapshot(entity, group, ctx.scope_key(side)):
        ctx.world.point("page read")
        ctx.reads[side] += len(page.records)
        told.update(record.id for record in page.records)
        with ctx.transaction("stage group"):
            for pair in pairs:
                _stage(ctx, pair, side, group, page.records)
    connector = ctx.connectors[side]
    values = connector.absent(entity, group) if isinstance(connector, KnowsAbsence) else None
    if values is not None:
        if not told and not ctx.run.guard.get("accepted"):
            _expect_nothing(ctx, side, entity, group, pairs)
        for pair in pairs:
            _stage_absent(ctx, pair, side, group, told, values)


def _expect_nothing(ctx: Context, side: Side, entity: str, group: str, pairs: Sequence[Pair]) -> None:
    """A report without a single row would set everything to nothing: that is believed of a few records only."""
    filled, links = 0, 0
    for pair in pairs:
        names = _names(pair, side, group)
        kinds = {name for name in names if pair.by_name[name].kind in (Kind.MONEY, Kind.DECIMAL, Kind.INTEGER)}
        rows = RecordLink.objects.filter(entity_sync=pair.id, ended=0).exclude(base="").values_list("base")
        for (base,) in store.read(rows):
            links += 1
            told = decode(base)
            filled += any(str(told.get(name) or "0").strip("0.") for name in kinds)
    if guards.too_many(filled, links):
        raise EmptySide(
            f"The {group} report on the {side} mentions no {entity} at all, though {filled} of {links} had figures. Nothing was "
            "written. Look at the report there; then run again, or accept it on the run's page."
        )


def _names(pair: Pair, side: Side, group: str) -> set[str]:
    return {rule.name for rule in pair.merged if (own := rule.of(side)) is not None and own.group == group}


def _stage_absent(ctx: Context, pair: Pair, side: Side, group: str, told: set[str], values: Values) -> None:
    """A record that a complete report does not mention (it owes nothing) has the values that absence means."""
    rows = RecordLink.objects.filter(
        **{"entity_sync": pair.id, f"{side}_life__in": [Life.LIVE, Life.ARCHIVED], "ended": 0}
    ).values_list(f"{side}_id")
    missing = [str(record_id) for (record_id,) in store.read(rows) if record_id not in told]
    for block in store.blocks(missing, ABSENT):
        with ctx.transaction("stage group"):
            _stage(ctx, pair, side, group, [Record(pair.entity(side).name, str(name), values) for name in block])


def groups_of(pair: Pair, side: Side) -> list[str]:
    """Return the names of the field groups that a pair's mappings take from one side."""
    return sorted({own.group for rule in pair.merged if (own := rule.of(side)) is not None and own.group})


def _stage(ctx: Context, pair: Pair, side: Side, group: str, records: Sequence[Record]) -> None:
    names = _names(pair, side, group)
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
