"""What does one link need?  A pure function of both sides, the base, the settings and the moment."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import IntEnum

from connectors.contract import Kind, Removal, Verb
from connectors.sync.mapping import references
from connectors.sync.merge import Merge, Moments, merge
from connectors.sync.rules import ARCHIVED, LEFT, OTHER, RIGHT, Pair, Side
from connectors.sync.values import CanonicalValues, parse_datetime

APPROVAL = "waits for approval"  # the reason of a link whose writes a person must allow first
DRIFT = "reconciliation"  # why: the reconciliation found it, and no feed has told of it
DELETED = "~deleted"  # in a base: the delete of the other side has been carried out here by making the record inactive

# In a base: an undo made one side's record inactive, and nothing else would make it active again.
UNDONE_HERE = "~undone"
# In a base: the side on which a person did not tick the removal of its record.  It stands there since nothing that happens to
# the link rewrites a base: whatever the settings say by then, that removal waits for a person.
UNTICKED = "~unticked"
# In a side's quirk: [field, key] of each option that it holds where several of its options share one partner.
SHOWN = "~shown"
MARKS = frozenset({DELETED, UNDONE_HERE, UNTICKED, SHOWN})  # what stands in a base or a quirk and is no field


def unmarked(quirk: CanonicalValues, written: Collection[str]) -> CanonicalValues:
    """Return a side's quirks without which option it held in fields that are written: it holds the written one by now."""
    shown = quirk.get(SHOWN)
    if not isinstance(shown, list):
        return quirk
    kept: list[object] = [each for each in shown if isinstance(each, list) and each[0] not in written]
    rest: CanonicalValues = {name: value for name, value in quirk.items() if name != SHOWN}
    return {**rest, SHOWN: kept} if kept else rest


class Life(IntEnum):
    """Where a record of one side is in its life."""

    NONE = 0  # never seen there
    LIVE = 1
    ARCHIVED = 2
    GONE = 3  # proved


class Pending(IntEnum):
    """Why a link is not agreed, coarsely."""

    DIRTY = 1
    WAITING = 2
    SKIPPED = 3
    CONFLICT = 4
    PARKED = 5
    PLANNED = 6


@dataclass(slots=True)
class SideState:
    """One side of a link."""

    entity: str
    id: str | None
    version: str
    modified: str
    life: Life
    staged: CanonicalValues | None  # None: equals its own base
    quirk: CanonicalValues


@dataclass(slots=True)
class LinkState:
    """One link as the planner sees it."""

    id: int
    key: str
    sides: dict[Side, SideState]
    base: CanonicalValues | None  # None: never agreed
    revision: int = 0
    promoted: bool = False
    approved: str = ""  # a delete that a person has approved: side
    unticked: str = ""  # a removal that a person has left unticked: side
    resolution: str | Mapping[str, str] = ""  # a person's decision of a conflict: a side, or one for each field

    def base_of(self, side: Side) -> CanonicalValues:
        """What this side held when both agreed."""
        return {**(self.base or {}), **self.sides[side].quirk}

    def now(self, side: Side) -> CanonicalValues:
        """What this side holds."""
        staged = self.sides[side].staged
        return self.base_of(side) if staged is None else staged


@dataclass(frozen=True, slots=True)
class PlannedWrite:
    """One write to one side."""

    side: Side
    verb: Verb
    before: CanonicalValues
    after: CanonicalValues
    lost: Mapping[str, object] = field(default_factory=dict)
    rule: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Decision:
    """What becomes of the link.  No writes and no reason: agreed."""

    writes: list[PlannedWrite] = field(default_factory=list)
    pending: Pending | None = None
    reason: str = ""
    args: dict[str, object] = field(default_factory=dict)
    waits_on: str | None = None
    agreed: CanonicalValues | None = None  # fields to take into the base now
    kept: dict[Side, CanonicalValues] = field(default_factory=dict)  # values a side may keep beside the agreed ones
    adopt: bool = False  # both records are partners from now on
    end: bool = False  # the link is over
    respawn: Side | None = None  # end the link and make a new one for the record of this side
    propose: bool = False  # the writes wait for a person's approval

    @property
    def creates(self) -> bool:
        """Whether a record is made on a side that has none."""
        return any(write.verb is Verb.CREATE for write in self.writes)


@dataclass(frozen=True, slots=True)
class Context:
    """What the planner must know besides the link."""

    pair: Pair
    complete: Mapping[Side, bool]  # a listing of this side was read to its end
    tolerance: timedelta = timedelta(0)
    linkable: Mapping[str, Mapping[Side, str]] = field(default_factory=dict)
    # link key -> side -> "id" (there), "coming" (will be planned or written), "" (not)


def decide(link: LinkState, ctx: Context) -> Decision:
    """Decide what one link needs.  Reads nothing, writes nothing."""
    left, right = link.sides[LEFT].life, link.sides[RIGHT].life
    there = (Life.LIVE, Life.ARCHIVED)
    if left in there and right in there:
        return _both_there(link, ctx)
    if left in there or right in there:
        source = LEFT if left in there else RIGHT
        if link.sides[OTHER[source]].life is Life.GONE:
            return _gone(link, ctx, source)
        return _create(link, ctx, source)
    return Decision(end=True)


def _create(link: LinkState, ctx: Context, source: Side) -> Decision:
    pair, target = ctx.pair, OTHER[source]
    entity = pair.entity(target)
    if not pair.flows(target):
        return _skipped("outside", {"why": "direction", "side": source})
    if target in pair.on_request and not link.promoted:
        return Decision(pending=Pending.WAITING, reason="waits for promotion", args={"side": source})
    if link.sides[source].life is Life.ARCHIVED and not link.promoted:
        return _skipped("outside", {"why": "inactive", "side": source})
    if pair.prevented(target, Verb.CREATE) or Verb.CREATE not in entity.verbs:
        return _skipped("prevented", {"verb": "create", "side": target})
    if not ctx.complete[target] and not link.promoted:
        return Decision(pending=Pending.WAITING, reason="waits for listing", args={"side": target})
    values = {
        name: value
        for name, value in link.now(source).items()
        if (rule := pair.by_name.get(name)) is not None and name != ARCHIVED and rule.writable(target, creating=True)
        and not rule.leaves(value)
    }  # fmt: skip
    waits = _missing_reference(values, ctx, target, required=True)
    if waits:
        return _waiting(waits)
    write = PlannedWrite(target, Verb.CREATE, {}, values, rule={"*": f"only on the {source}"})
    return Decision([write], Pending.PLANNED, "planned")


def _both_there(link: LinkState, ctx: Context) -> Decision:
    pair = ctx.pair
    if UNDONE_HERE in (link.base or {}) and (again := _active_again(link, pair)) is not None:
        return again
    first = link.base is None
    moments = Moments(_moment(link, LEFT), _moment(link, RIGHT), ctx.tolerance)
    cut = {side: _cut(link, pair, side) for side in (LEFT, RIGHT)}
    result = merge(
        pair.merged, {s: link.base_of(s) for s in (LEFT, RIGHT)}, {s: link.now(s) for s in (LEFT, RIGHT)}, cut, moments
    )
    asked = list(result.conflicts)
    if link.resolution:
        _resolve(result, link, pair)
    if result.conflicts:  # also what was decided is asked again with the rest, since a decision is about all of them
        return Decision(
            pending=Pending.CONFLICT,
            reason="conflict",
            args={"fields": asked},
            adopt=first,
            agreed=result.agreed,
            kept=result.kept,
        )
    decision = Decision(adopt=first, agreed=result.agreed, kept=result.kept)
    for side in (RIGHT, LEFT):
        decision = _update(link, ctx, side, result, decision)
    if not decision.writes and not decision.reason:
        _explain_rest(result, decision)
    elif decision.writes:
        decision.pending, decision.reason = Pending.PLANNED, "planned"
    return decision


def _active_again(link: LinkState, pair: Pair) -> Decision | None:
    """A record that an undo made inactive, since it could not be deleted, was released: it becomes active before all else."""
    lives = {side: link.sides[side].life for side in (LEFT, RIGHT)}
    side = next((s for s in (RIGHT, LEFT) if lives[s] is Life.ARCHIVED and lives[OTHER[s]] is Life.LIVE), None)
    if side is None or pair.prevented(side, Verb.RESTORE) or Verb.RESTORE not in pair.entity(side).verbs:
        return None
    rule = {"*": "an undo had made it inactive, and a person released it"}
    return Decision(
        [PlannedWrite(side, Verb.RESTORE, {ARCHIVED: True}, {ARCHIVED: False}, rule=rule)], Pending.PLANNED, "planned"
    )


def _update(link: LinkState, ctx: Context, side: Side, result: Merge, decision: Decision) -> Decision:
    pair, values = ctx.pair, dict(result.to[side])
    if not values:
        return decision
    source = OTHER[side]
    for name in _unready(values, ctx, side):
        rule = pair.by_name[name]
        values.pop(name)
        decision.waits_on = _reference_of(result.to[side], name, pair)
        if rule.required:
            return _waiting((name, decision.waits_on or ""))
        decision.pending, decision.reason = Pending.WAITING, "waits for link"
        decision.args = {"field": name}
    archive = values.pop(ARCHIVED, None)
    before = {name: link.now(side).get(name) for name in values}
    lost = {name: result.lost[name] for name in (*values, ARCHIVED) if name in result.lost and name in result.to[side]}
    verbs: list[tuple[Verb, CanonicalValues, CanonicalValues]] = []
    if values:
        verbs.append((Verb.UPDATE, before, values))
    elif archive is not None:
        verbs.append((Verb.ARCHIVE if archive else Verb.RESTORE, {ARCHIVED: not archive}, {ARCHIVED: archive}))
    for verb, old, new in verbs:
        if pair.prevented(side, verb) or verb not in pair.entity(side).verbs:
            decision.pending, decision.reason = Pending.SKIPPED, "prevented"
            decision.args = {"verb": str(verb), "side": side, "fields": sorted(new)}
            continue
        rules = {name: result.rule.get(name, f"changed on the {source}") for name in new}
        decision.writes.append(PlannedWrite(side, verb, old, new, lost, rules))
    return decision


def _explain_rest(result: Merge, decision: Decision) -> None:
    if result.lossy:
        decision.pending, decision.reason, decision.args = Pending.PARKED, "lossy", {"fields": result.lossy}
    elif result.drift:
        decision.pending, decision.reason, decision.args = (
            Pending.SKIPPED,
            "prevented",
            {"fields": result.drift, "why": "drift"},
        )


def _gone(link: LinkState, ctx: Context, alive: Side) -> Decision:
    """One side's record is proved to be deleted."""
    pair, deleted = ctx.pair, OTHER[alive]
    if link.base is None:
        return Decision(respawn=alive)
    edited = any(
        link.now(alive).get(rule.name) != link.base_of(alive).get(rule.name)
        for rule in pair.merged
        if rule.name in link.now(alive) and rule.flows(deleted)
    )
    how = pair.edit_v_delete if edited else "delete"
    if edited and link.resolution == alive:
        how = "edit"  # a person chose the side where the record lives
    if how == "ask" and link.approved != alive:
        return Decision(
            pending=Pending.CONFLICT, reason="conflict", args={"why": "deleted and edited", "side": deleted}
        )
    if edited and how == "edit":
        return Decision(respawn=alive)
    # The link stays while a record lives: else the next listing would take that record for a new one and make its partner
    # again, which a person has deleted.
    if not pair.flows(alive) or pair.on_delete == "ignore" or DELETED in (link.base or {}):
        return _skipped("deleted", {"side": deleted})
    verb = _removal(pair, alive)
    if verb is None or pair.prevented(alive, Verb.DELETE):
        return _skipped("prevented", {"verb": "delete", "side": alive})
    if verb is Verb.ARCHIVE and link.sides[alive].life is Life.ARCHIVED:
        return _skipped("deleted", {"side": deleted})
    write = PlannedWrite(alive, verb, link.now(alive), {}, rule={"*": f"deleted on the {deleted}"})
    if (pair.on_delete == "ask" or link.unticked == alive) and link.approved != alive:
        return Decision(
            [write], Pending.WAITING, "waits for approval", {"verb": str(verb), "side": alive}, propose=True
        )
    return Decision([write], Pending.PLANNED, "planned")


def _removal(pair: Pair, side: Side) -> Verb | None:
    entity = pair.entity(side)
    if pair.on_delete != "archive" and entity.removal is Removal.DELETE and Verb.DELETE in entity.verbs:
        return Verb.DELETE
    return Verb.ARCHIVE if Verb.ARCHIVE in entity.verbs else None


def _resolve(result: Merge, link: LinkState, pair: Pair) -> None:
    """Carry out a person's decision: the chosen side's values are written to the other where they can be."""
    for name in list(result.conflicts):
        # A field that nobody was asked about stays in conflict, and with it the record: nothing is decided by half.
        winner = link.resolution if isinstance(link.resolution, str) else link.resolution.get(name)
        if winner not in (LEFT, RIGHT):
            continue
        loser = OTHER[winner]
        if pair.by_name[name].writable(loser, creating=False):
            result.conflicts.remove(name)
            result.to[loser][name] = link.now(winner).get(name)
            result.lost[name] = {loser: link.now(loser).get(name)}
            result.rule[name] = f"a person chose the {winner}"


def _moment(link: LinkState, side: Side) -> datetime | None:
    text = link.sides[side].modified
    return parse_datetime(text) if text else None


def _cut(link: LinkState, pair: Pair, side: Side) -> frozenset[str]:
    """Fields in which this side holds the beginning of what was agreed."""
    base = link.base or {}
    return frozenset(
        name
        for name, held in link.sides[side].quirk.items()
        if isinstance(held, str)
        and isinstance(agreed := base.get(name), str)
        and len(held) < len(agreed)
        and (rule := pair.by_name.get(name)) is not None
        and rule.kind in (Kind.TEXT, Kind.HTML)
    )


def _unready(values: CanonicalValues, ctx: Context, side: Side) -> list[str]:
    return sorted({name for name, ref in references(values, ctx.pair.by_name) if not _state_of(ref, ctx, side)})


def _state_of(reference: str, ctx: Context, side: Side) -> str:
    return ctx.linkable.get(reference[1:], {}).get(side, "") if reference.startswith("@") else ""


def _reference_of(values: CanonicalValues, name: str, pair: Pair) -> str | None:
    return next((ref.lstrip("@") for field_name, ref in references(values, pair.by_name) if field_name == name), None)


def _missing_reference(values: CanonicalValues, ctx: Context, side: Side, *, required: bool) -> tuple[str, str] | None:
    for name, ref in references(values, ctx.pair.by_name):
        rule = ctx.pair.by_name[name]
        target = rule.of(side)
        needed = rule.required or (target is not None and target.required) or rule.kind is Kind.ROWS
        if needed == required and not _state_of(ref, ctx, side):
            return name, ref.lstrip("@")
    return None


def _waiting(waits: tuple[str, str]) -> Decision:
    name, target = waits
    return Decision(pending=Pending.WAITING, reason="waits for link", args={"field": name}, waits_on=target)


def _skipped(reason: str, args: dict[str, object]) -> Decision:
    return Decision(pending=Pending.SKIPPED, reason=reason, args=args)
