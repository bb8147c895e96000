"""What do reports tell?  Stages field groups that no feed carries (aging, stock) on the records' own links."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from connectors.contract import KnowsAbsence, Record, Values
from connectors.models import RecordLink, Run
from connectors.sync import guards, store
from connectors.sync.context import Context, EmptySide
from connectors.sync.matching import LINKED, NEW
from connectors.sync.plan import APPROVAL, Life, Pending
from connectors.sync.rules import Pair, Side
from connectors.sync.sheet import UNAPPROVED
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
    connector = ctx.connectors[side]
    # Where absence means something the whole report is judged before any of it is staged.  Whoever reads it holds it, too.
    knows = isinstance(connector, KnowsAbsence)
    held: list[Sequence[Record]] = []
    for page in connector.snapshot(entity, group, ctx.scope_key(side)):
        ctx.world.point("page read")
        ctx.reads[side] += len(page.records)
        if knows:
            held.append(page.records)
        else:
            _stage_page(ctx, side, group, pairs, page.records)
    values = connector.absent(entity, group) if isinstance(connector, KnowsAbsence) else None
    missing: dict[int, list[str]] = {}
    if values is not None:
        told = {record.id for records in held for record in records}
        missing = {pair.id: _missing(pair, side, told) for pair in pairs}
        if not ctx.run.guard.get("accepted"):
            _expect_nothing(ctx, side, group, pairs, missing, values, silent=not told)
    for records in held:
        _stage_page(ctx, side, group, pairs, records)
    for pair in pairs:
        # A record that a complete report does not mention (it owes nothing) has the values that absence means.
        for block in store.blocks(missing.get(pair.id, ()), ABSENT):
            _stage_page(ctx, side, group, [pair], _absentees(pair, side, block, values or {}))


def _stage_page(ctx: Context, side: Side, group: str, pairs: Sequence[Pair], records: Sequence[Record]) -> None:
    with ctx.transaction("stage group"):
        for pair in pairs:
            _stage(ctx, pair, side, group, records)


def _missing(pair: Pair, side: Side, told: set[str]) -> list[str]:
    """Return the ids of a pair's records that a report did not tell of."""
    rows = RecordLink.objects.filter(
        **{"entity_sync": pair.id, f"{side}_life__in": [Life.LIVE, Life.ARCHIVED], "ended": 0}
    ).values_list(f"{side}_id")
    return [str(record_id) for (record_id,) in store.read(rows) if record_id not in told]


def _absentees(pair: Pair, side: Side, ids: Sequence[object], values: Values) -> list[Record]:
    return [Record(pair.entity(side).name, str(record_id), values) for record_id in ids]


def _expect_nothing(
    ctx: Context, side: Side, group: str, pairs: Sequence[Pair], missing: Mapping[int, Sequence[str]], values: Values, *,
    silent: bool,
) -> None:  # fmt: skip
    """A report that leaves records out would set their figures to nothing: that is believed of a few at a time.

    Most records may well have no figure and be left out by every report; only those that lose one are counted.
    """
    counts = {
        pair.id: RecordLink.objects.filter(entity_sync=pair.id, ended=0).exclude(base="").count() for pair in pairs
    }
    links = sum(counts.values())
    if not guards.too_many(sum(map(len, missing.values())), links):
        return
    falling = sum(_falling(ctx, pair, side, group, missing[pair.id], values) for pair in pairs)
    if guards.too_many(falling, links):
        name = pairs[0].entity(side).name
        told = (
            f"mentions no {name} at all, though {falling} of {links} had figures"
            if silent
            else f"no longer mentions {falling} {name} records of {links} that had figures, which would become nothing"
        )
        raise EmptySide(
            f"The {group} report on the {side} {told}. Nothing was written. Look at the report there; then run again, or "
            "accept it on the run's page."
        )


def _falling(ctx: Context, pair: Pair, side: Side, group: str, ids: Sequence[str], values: Values) -> int:
    """Count the records that hold something where absence means nothing."""
    absent = ctx.mappers[pair.id].canonical(
        side, Record(pair.entity(side).name, "", values), lambda entity, wanted: None
    )
    emptied = [name for name in _names(pair, side, group) if name in absent and _is_nothing(absent[name])]
    count = 0
    for block in store.blocks(ids, LOOK_UP):
        for _, _, staged, quirk, base, pending, _ in _rows(pair, side, block):
            if pending in OPEN_TO_NEWS:
                now = {**decode(base), **decode(quirk)} if staged is None else decode(staged)
                count += any(not _is_nothing(now.get(name)) for name in emptied)
    return count


def _is_nothing(value: object) -> bool:
    """Whether a canonical value is empty or zero."""
    return value in (None, "", False) or not str(value).strip("-0.")


def _names(pair: Pair, side: Side, group: str) -> set[str]:
    return {rule.name for rule in pair.merged if (own := rule.of(side)) is not None and own.group == group}


def groups_of(pair: Pair, side: Side) -> list[str]:
    """Return the names of the field groups that a pair's mappings take from one side."""
    return sorted({own.group for rule in pair.merged if (own := rule.of(side)) is not None and own.group})


def _rows(pair: Pair, side: Side, ids: Sequence[object]) -> list[store.Row]:
    rows = RecordLink.objects.filter(
        **{
            "entity_sync": pair.id,
            f"{side}_id__in": ids,
            f"{side}_life__in": [Life.LIVE, Life.ARCHIVED],
            "state__in": [NEW, LINKED],
            "ended": 0,
        }
    ).values_list("id", f"{side}_id", f"{side}_staged", f"{side}_quirk", "base", "pending", "args")
    return store.read(rows)


def _stage(ctx: Context, pair: Pair, side: Side, group: str, records: Sequence[Record]) -> None:
    names = _names(pair, side, group)
    told = {record.id: record for record in records}
    updates: list[store.Row] = []
    for block in store.blocks(list(told), LOOK_UP):
        for link_id, record_id, staged, quirk, base, pending, args in _rows(pair, side, block):
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
                unapproved = pending == Pending.WAITING and args == UNAPPROVED
                why = (int(Pending.WAITING), APPROVAL, args) if unapproved else (int(Pending.DIRTY), "changed", "")
                updates.append((text, *why, ctx.run.pk, link_id))
    columns = (f"{side}_staged", "pending", "reason", "args", "touched_run")
    store.update_many(RecordLink, columns, ("id",), updates, bump="revision")
