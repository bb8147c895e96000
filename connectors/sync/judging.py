"""What do these rules make of one record?  Pure: from what its link holds, without asking any system.

A link keeps what is mapped, not all that a filter may look at.  What can't be known is said to be unknown, never guessed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal

from connectors.contract import Field, Kind
from connectors.sync.plan import Context, Decision, Life, LinkState, Pending, decide
from connectors.sync.rules import ARCHIVED, COMPANY, LEFT, OTHER, RIGHT, Condition, FieldRule, Pair, Side, source_side
from connectors.sync.values import Canonical

THERE = (Life.LIVE, Life.ARCHIVED)
OFF, OUTSIDE, UNKNOWN, AGREED = "off", "outside", "unknown", "agreed"
OUT = (OFF, OUTSIDE)
KINDS = {
    Pending.WAITING: "waiting", Pending.SKIPPED: "prevented", Pending.CONFLICT: "conflict", Pending.PARKED: "parked",
}  # fmt: skip
_EXACT = (Kind.DECIMAL, Kind.MONEY)  # the hub's text of such a value may differ from the system's


@dataclass(frozen=True)
class Outcome:
    """What becomes of a record: one word, and what stands behind it."""

    kind: str  # off, outside, unknown, agreed, create, update, archive, restore, delete, waiting, prevented, conflict, parked
    why: str = ""
    side: str = ""


@dataclass(frozen=True)
class Present:
    """How a link stands now, by the rules of the last run that read it."""

    pair: int
    why: str = ""  # why it is left out: filter, window, ...
    side: str = ""  # by which side's record
    current: bool = True  # it was read by the settings of now
    alone: bool = False  # it never had a partner
    agreed: bool = False


@dataclass(frozen=True)
class Rules:
    """All entity syncs of an integration, compiled."""

    on: tuple[Pair, ...]
    off: tuple[Pair, ...] = ()
    modified: Mapping[Side, str] = field(default_factory=dict)  # name of the field that says when a record was changed

    def pair(self, number: int) -> Pair | None:
        """Return an entity sync that is switched on."""
        return next((pair for pair in self.on if pair.id == number), None)

    def routes(self, side: Side, entity: str, family: str) -> list[Pair]:
        """Pairs of a family that may hold an entity's record, also disabled ones that filter this side, as runs see them."""
        claims = [pair for pair in self.off if any(c.side == side for c in pair.filters)]
        every = sorted([*self.on, *claims], key=lambda p: (p.position, p.id))
        return [pair for pair in every if pair.family == family and pair.entity(side).name == entity]


class _Anything(dict[str, Mapping[Side, str]]):
    """Every referred record counts as linked: references are the same before and after."""

    def get(self, key: str, default: object = None) -> Mapping[Side, str]:
        return {LEFT: "id", RIGHT: "id"}


@dataclass(frozen=True)
class Judge:
    """Judges records by some rules, knowing the rules by which they were read."""

    rules: Rules
    read_by: Rules
    today: date
    complete: Mapping[Side, bool] = field(default_factory=lambda: {LEFT: True, RIGHT: True})

    def outcome(self, link: LinkState, present: Present) -> Outcome:
        """Return what a run that reads the record would make of it."""
        pair = self._pair(link, present)
        if isinstance(pair, Outcome):
            return pair
        for side in (LEFT, RIGHT):
            if link.sides[side].life in THERE:
                why = self._outside(link, side, pair, present)
                if why is None:
                    return Outcome(UNKNOWN, "filter", side)
                if why:
                    return Outcome(OUTSIDE, why, side)
        if present.agreed and link.base is not None and link.sides[LEFT].staged is None is link.sides[RIGHT].staged:
            return Outcome(AGREED)  # nothing differs, so no rule has anything to decide
        return _told(decide(link, Context(pair, self.complete, linkable=_Anything())))

    # Which entity sync

    def _pair(self, link: LinkState, present: Present) -> Pair | Outcome:
        pair = self.rules.pair(present.pair)
        if pair is None:
            return Outcome(OFF)
        side: Side = LEFT if link.sides[LEFT].life in THERE else RIGHT
        candidates = self._candidates(link, side, present) if present.alone else []
        if len(candidates) < 2 or (side == RIGHT and self._inside(link, side, pair, present) not in ("filter", None)):
            return pair  # records of the right change their entity sync only when they must
        chosen = self._chosen(link, side, present, candidates)
        if chosen is None:
            return Outcome(UNKNOWN, "filter", side)
        if chosen[1] == "filter":
            return pair
        return self.rules.pair(chosen[0].id) or Outcome(OUTSIDE, "route", side)

    def _candidates(self, link: LinkState, side: Side, present: Present) -> list[Pair]:
        home = next((p for p in (*self.rules.on, *self.rules.off) if p.id == present.pair), None)
        return self.rules.routes(side, link.sides[side].entity, home.family) if home else []

    def _chosen(self, link: LinkState, side: Side, present: Present, pairs: Sequence[Pair]) -> tuple[Pair, str] | None:
        """Return the first pair whose filter holds and what else keeps it out; None where that can't be known."""
        for pair in pairs:
            why = self._inside(link, side, pair, present)
            if why is None:
                return None
            if why != "filter":
                return pair, why
        own = next((p for p in pairs if p.id == present.pair), pairs[0] if pairs else None)
        return (own, "filter") if own else None

    def _outside(self, link: LinkState, side: Side, pair: Pair, present: Present) -> str | None:
        enabled = [p for p in self._candidates(link, side, present) if self.rules.pair(p.id)]
        if present.alone or len(enabled) < 2:
            return self._inside(link, side, pair, present)
        chosen = self._chosen(link, side, present, enabled)
        if chosen is None:
            return None
        if chosen[1] == "" and chosen[0].id != pair.id and side == LEFT:
            return "route"
        return self._inside(link, side, pair, present) if chosen[0].id == pair.id else chosen[1]

    # What keeps a record out

    def _inside(self, link: LinkState, side: Side, pair: Pair, present: Present) -> str | None:
        """Return '' where filter, route and window hold, else which does not; None where that can't be known."""
        held = [self._holds(link, c, pair, present) for c in pair.filters if c.side == side]
        if False in held:
            return "filter"
        if None in held:
            return None
        if pair.route is not None and side == pair.route.side:
            routed = self._holds(link, pair.route, pair, present)
            if not routed:
                return COMPANY if routed is False else None
        if side == LEFT and pair.window is not None:
            known, value = self._value(link, LEFT, pair.window.field, present)
            if not known:
                return self._as_before("window", side, present, pair.window == self._window(present))
            if not pair.window.holds({pair.window.field: _day(value)}, self.today):
                return "window"
        return ""

    def _window(self, present: Present) -> object:
        pair = self.read_by.pair(present.pair)
        return pair.window if pair else None

    def _holds(self, link: LinkState, condition: Condition, pair: Pair, present: Present) -> bool | None:
        known, value = self._value(link, condition.side, condition.field, present)
        if known:
            return _judged(condition, value)
        before = self.read_by.pair(present.pair)
        if before is None or pair.id != present.pair or not present.current:
            return None
        if condition == before.route:
            return {"": True, COMPANY: False}.get(present.why)
        if condition not in before.filters:
            return None
        if present.why != "filter" or present.side != condition.side:
            # A record that is in, or is out for another reason, was found to meet every filter of its side.
            return True if present.why in ("", "window", COMPANY) else None
        others = [c for c in before.filters if c.side == condition.side and c != condition]
        return False if all(self._holds(link, c, pair, present) for c in others) else None

    def _as_before(self, what: str, side: Side, present: Present, same: bool) -> str | None:
        """Judge what is not kept as the last run did, where that rule is the same."""
        if not same or not present.current:
            return None
        return what if (present.why, present.side) == (what, side) else ""

    def _value(self, link: LinkState, side: Side, name: str, present: Present) -> tuple[bool, object]:
        """Return (known, value) of a field of one side, as the system would tell it."""
        if name and name == self.rules.modified.get(side):
            moment = link.sides[side].modified
            return bool(moment), _Moment(moment)
        pair = self.read_by.pair(present.pair)
        now = link.now(side)
        for rule in pair.rules if pair else ():
            own = rule.of(side)
            if own is None or own.name != name or rule.constant is not None or rule.name == ARCHIVED:
                continue
            if rule.transform and side == source_side(rule):
                continue  # what is kept is what the transform made of it
            if rule.name in now:
                return _raw(rule, own, side, now[rule.name])
        return False, None


def _raw(rule: FieldRule, own: Field, side: Side, value: Canonical) -> tuple[bool, object]:
    """Return (known, value): the canonical value as filters see the system's own."""
    if rule.options is not None and isinstance(value, str):
        if value.startswith("!"):
            return True, value[1:]
        keys = [key for key, token in rule.options.read[side].items() if token == value]
        return (True, keys[0]) if len(keys) == 1 else (False, None)
    if own.kind is Kind.REF and isinstance(value, str):
        # The partner's id is known by its link alone; that it is filled is known.
        return True, value.rpartition(":")[2] if value.startswith("?") else _Some(value)
    if isinstance(value, list):
        return (True, value) if not value else (True, _Some("list"))
    if own.kind in _EXACT and isinstance(value, str):
        return True, Decimal(value)
    return True, value


class _Some(str):
    """A value of which only is known that there is one."""


class _Moment(str):
    """When the system says that the record was changed."""


def _judged(condition: Condition, value: object) -> bool | None:
    if isinstance(value, _Some) and condition.op not in ("filled", "empty", "zero"):
        return None
    if isinstance(value, Decimal) and condition.op not in ("filled", "empty", "zero"):
        return None  # the system may write 1.50 where 1.5 is kept
    if isinstance(value, _Moment) and condition.op == "since":
        day, wanted = _day(value), _day(condition.value)
        if day and wanted and abs((day - wanted).days) <= 1:
            return None  # the system may count its days in another time zone
    return condition.holds({condition.field: value})  # type: ignore[dict-item]


def _day(value: object) -> date | None:
    text = str(value or "")[:10]
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _told(decision: Decision) -> Outcome:
    if decision.end:
        return Outcome("ended")
    if decision.respawn:
        return Outcome("create", "deleted and edited", OTHER[decision.respawn])
    if decision.propose:
        return Outcome("waiting", decision.reason, str(decision.args.get("side", "")))
    if decision.writes:
        write = decision.writes[0]
        return Outcome(str(write.verb), "", write.side)
    if decision.pending is None:
        return Outcome(AGREED)
    kind = OUTSIDE if decision.reason == "outside" else KINDS.get(decision.pending, AGREED)
    return Outcome(kind, str(decision.args.get("why") or decision.reason), str(decision.args.get("side", "")))
