"""Which value does each field get, and who loses?  A three-way merge by field: pure, and the same answer on every run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from connectors.sync.rules import EMPTY, LEFT, OTHER, RIGHT, FieldRule, Side
from connectors.sync.values import Canonical, CanonicalValues

MISSING: Canonical = "\x00missing"
# In a side's base: it held an option without partner, which the settings left alone and by now give a partner.
UNMET: Canonical = "!"


@dataclass(frozen=True, slots=True)
class Moments:
    """When each side was last changed, in UTC, and how far two clocks may be apart."""

    left: datetime | None
    right: datetime | None
    tolerance: timedelta = timedelta(0)


def last_updated_wins(moments: Moments) -> Side:
    """A tie within the tolerance goes to the left, so that two runs reach the same answer."""
    if moments.left is None or moments.right is None:
        return LEFT if moments.right is None else RIGHT
    return RIGHT if moments.right > moments.left + moments.tolerance else LEFT


POLICIES: dict[str, Callable[[Moments], Side | None]] = {
    "last_updated": last_updated_wins,
    "left": lambda moments: LEFT,
    "right": lambda moments: RIGHT,
    "ask": lambda moments: None,
}


@dataclass(slots=True)
class Merge:
    """What follows for one linked pair of records."""

    to: dict[Side, CanonicalValues] = field(default_factory=lambda: {LEFT: {}, RIGHT: {}})  # values to write
    agreed: CanonicalValues = field(default_factory=dict)  # equal on both sides by now: becomes base without a write
    kept: dict[Side, CanonicalValues] = field(default_factory=lambda: {LEFT: {}, RIGHT: {}})  # beside the agreed value
    lost: dict[str, dict[str, Canonical]] = field(default_factory=dict)  # field -> {losing side: its value}
    conflicts: list[str] = field(default_factory=list)
    drift: list[str] = field(default_factory=list)  # changed where it can't flow from: kept, shown, not written over
    lossy: list[str] = field(default_factory=list)
    rule: dict[str, str] = field(default_factory=dict)  # field -> why


def merge(
    rules: Iterable[FieldRule],
    base: Mapping[Side, CanonicalValues],
    now: Mapping[Side, CanonicalValues],
    cut: Mapping[Side, frozenset[str]],
    moments: Moments,
) -> Merge:
    """Merge two sides of a record.  `base` is what each side held when they agreed (a missing field: never agreed);
    `now` what they hold; `cut` the fields in which a side holds less than was agreed."""
    result = Merge()
    for rule in rules:
        name = rule.name
        left, right = now[LEFT].get(name, MISSING), now[RIGHT].get(name, MISSING)
        base_left, base_right = base[LEFT].get(name, MISSING), base[RIGHT].get(name, MISSING)
        left = base_left if left is MISSING else left
        right = base_right if right is MISSING else right
        if left is MISSING and right is MISSING:
            continue
        if rule.leaves(left) or rule.leaves(right):
            _left_alone(rule, {LEFT: left, RIGHT: right}, {LEFT: base_left, RIGHT: base_right}, result)
        elif rule.when == EMPTY:
            _only_where_empty(rule, left, right, result)
        elif (base_left is MISSING and base_right is MISSING) or UNMET in (base_left, base_right):
            _first_sight(rule, left, right, moments, result)
        else:
            _changed(rule, left, right, left != base_left, right != base_right, cut, moments, result)
    return result


def _first_sight(rule: FieldRule, left: Canonical, right: Canonical, moments: Moments, result: Merge) -> None:
    name = rule.name
    if left is MISSING or right is MISSING:
        silent = LEFT if left is MISSING else RIGHT
        result.agreed[name], result.rule[name] = right if left is MISSING else left, f"the {silent} does not tell"
    elif left == right:
        result.agreed[name], result.rule[name] = left, "the same on both sides"
    elif _empty(right) and not _empty(left) and rule.writable(RIGHT, creating=False):
        result.to[RIGHT][name], result.rule[name] = left, "empty on the right"
    elif _empty(left) and not _empty(right) and rule.writable(LEFT, creating=False):
        result.to[LEFT][name], result.rule[name] = right, "empty on the left"
    elif _empty(left) != _empty(right) and rule.direction != "both":
        # The empty side is where values come from: nothing is blanked at first sight, the other side keeps what it has.
        filled: Side = LEFT if _empty(right) else RIGHT
        result.agreed[name], result.rule[name] = None, f"only the {filled} had a value when they met"
        result.kept[filled][name] = left if filled == LEFT else right
    else:
        _both(rule, left, right, moments, result)


def _only_where_empty(rule: FieldRule, left: Canonical, right: Canonical, result: Merge) -> None:
    """A side that holds nothing is filled from the other; what it holds otherwise is its own affair."""
    name, values = rule.name, {LEFT: left, RIGHT: right}
    for side in (RIGHT, LEFT):
        if _empty(values[side]) and not _empty(values[OTHER[side]]) and rule.writable(side, creating=False):
            result.to[side][name], result.rule[name] = values[OTHER[side]], f"empty on the {side}"
            return
    source: Side = RIGHT if left is MISSING or rule.direction == "to_left" else LEFT
    own = values[OTHER[source]]
    result.agreed[name], result.rule[name] = values[source], f"the {OTHER[source]} keeps its own"
    if own is not MISSING and own != values[source]:
        result.kept[OTHER[source]][name] = own


def _left_alone(rule: FieldRule, now: Mapping[Side, Canonical], base: Mapping[Side, Canonical], result: Merge) -> None:
    """A side holds an option without partner, which the settings leave alone: it keeps that while the other stays as it is."""
    name = rule.name
    silent: list[Side] = [side for side in (LEFT, RIGHT) if rule.leaves(now[side])]
    other = OTHER[silent[0]]
    if len(silent) == 1 and rule.when != EMPTY and MISSING != base[other] != now[other]:
        if rule.writable(silent[0], creating=False):
            result.to[silent[0]][name], result.rule[name] = now[other], f"changed on the {other}"
        else:
            result.drift.append(name)
            result.rule[name] = f"changed on the {other}, but this field does not flow to the {silent[0]}"
    elif now != base:
        told = len(silent) == 1 and now[other] is not MISSING
        result.agreed[name] = now[other] if told else None
        result.rule[name] = "an option without partner is left alone"
        for side in silent:
            result.kept[side][name] = now[side]


def _empty(value: Canonical) -> bool:
    return value is None or value is MISSING or value == []


def _changed(
    rule: FieldRule,
    left: Canonical,
    right: Canonical,
    left_changed: bool,
    right_changed: bool,
    cut: Mapping[Side, frozenset[str]],
    moments: Moments,
    result: Merge,
) -> None:
    name = rule.name
    if not left_changed and not right_changed:
        return
    if left == right:
        # Also where only one has changed: to what the other holds anyway, in its own way of storing the agreed value.
        result.agreed[name], result.rule[name] = left, "the same on both sides by now"
        return
    if left_changed and right_changed:
        _both(rule, left, right, moments, result)
        return
    source: Side = LEFT if left_changed else RIGHT
    value = left if left_changed else right
    if not rule.writable(OTHER[source], creating=False):
        result.drift.append(name)
        result.rule[name] = f"changed on the {source}, but this field does not flow to the {OTHER[source]}"
    elif name in cut[source] and rule.guard != "overwrite":
        result.lossy.append(name)
        result.rule[name] = f"the {source} holds a cut value: writing it back would lose text"
    else:
        result.to[OTHER[source]][name], result.rule[name] = value, f"changed on the {source}"


def _why(policy: str, moments: Moments) -> str:
    if policy == "last_updated" and moments.left and moments.right:
        if abs(moments.right - moments.left) <= moments.tolerance:
            seconds = moments.tolerance.total_seconds()
            return f"updated within {seconds:g} s of each other, which the clocks can't tell apart: the left wins"
        return "the last update wins"
    return {"last_updated": "the last update wins", "ask": "a person decides"}.get(policy, f"{policy} wins")


def _both(rule: FieldRule, left: Canonical, right: Canonical, moments: Moments, result: Merge) -> None:
    """Both sides hold something else and nothing tells that one is older, but the policy."""
    name = rule.name
    to_left, to_right = rule.writable(LEFT, creating=False), rule.writable(RIGHT, creating=False)
    if not to_left and not to_right:
        result.drift.append(name)
        result.rule[name] = "differs, but this field flows to neither side"
        return
    if to_left and to_right:
        winner = POLICIES[rule.policy](moments)
        why = _why(rule.policy, moments)
    else:
        winner, why = (LEFT if to_right else RIGHT), "flows one way"
    if winner is None:
        result.conflicts.append(name)
        result.rule[name] = why
        return
    loser = OTHER[winner]
    value = left if winner == LEFT else right
    result.to[loser][name], result.rule[name] = value, f"changed on both sides: {why}"
    result.lost[name] = {loser: right if winner == LEFT else left}
