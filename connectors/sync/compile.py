"""Do the settings fit what both systems describe?  Turns rows of settings into the engine's pure rules, or says what is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from connectors.contract import Connector, Entity, Field, Kind, Write
from connectors.models import EntitySync, FieldMapping, Integration, PicklistMapping
from connectors.sync import routing
from connectors.sync.flags import flag_problems
from connectors.sync.rules import (
    ARCHIVED,
    CONDITIONS,
    LEFT,
    RIGHT,
    Condition,
    FieldRule,
    OptionTable,
    Pair,
    Side,
    Window,
)
from connectors.sync.transforms import TRANSFORMS

LEAST_TOLERANCE, MOST_TOLERANCE = 60, 100  # percent; below that every name is like some other
_ARCHIVED_FIELD = Field(ARCHIVED, Kind.BOOLEAN, "Inactive")


class SettingsError(Exception):
    """Settings that can't work; each problem is a sentence that names the thing and what to do."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__(" ".join(problems))
        self.problems = list(problems)


@dataclass(frozen=True)
class Described:
    """What both systems say they have."""

    entities: Mapping[Side, Mapping[str, Entity]]
    names: Mapping[Side, str]  # of the connections, for sentences

    @classmethod
    def read(cls, integration: Integration, connectors: Mapping[Side, Connector]) -> Described:
        """Ask both systems."""
        return cls(
            {side: {entity.name: entity for entity in connector.describe()} for side, connector in connectors.items()},
            {LEFT: integration.left.name, RIGHT: integration.right.name},
        )


def compile_pairs(integration: Integration, described: Described) -> list[Pair]:
    """Return the enabled entity syncs in the order in which they are written.  Raises SettingsError."""
    return compile_all(integration, described)[0]


def compile_all(integration: Integration, described: Described) -> tuple[list[Pair], list[Pair]]:
    """Return the enabled entity syncs as `compile_pairs` does, and those that are switched off.  Raises SettingsError.

    A pair that is switched off has no rules: it only tells which records would be its own, and it is left out where even
    that can't be told.
    """
    problems: list[str] = []
    pairs: list[Pair] = []
    off: list[Pair] = []
    for sync in integration.entity_syncs.prefetch_related("mappings__options").order_by("position", "id"):
        pair = _pair(sync, described, problems) if sync.enabled else _claim(sync, described)
        if pair is not None:
            (pairs if sync.enabled else off).append(pair)
    pairs = [_with_known_families(pair, [*pairs, *off], problems) for pair in pairs]
    problems += routing.problems(integration, described.entities)
    if problems:
        raise SettingsError(problems)
    route = routing.Route.of(integration)
    if route is not None:
        pairs, off = [route.apply(pair) for pair in pairs], [route.apply(pair) for pair in off]
    return in_dependency_order(pairs), off


def _with_known_families(pair: Pair, pairs: Sequence[Pair], problems: list[str]) -> Pair:
    """References may name the family whose links they mean; where it is not kept here there is nothing to refer to.

    Such a mapping is left out; one that is required is a problem.
    """
    kept: list[FieldRule] = []
    for rule in pair.rules:
        homeless = [own for part in (rule, *rule.rows) for own in _homeless(part, pairs)]
        if not homeless:
            kept.append(rule)
        elif rule.required:
            problems.append(
                f"{pair.name}: {rule.name} refers to records of the family {rule.family!r}, which has no "
                f"{' or '.join(homeless)}. Name a family that has, or none."
            )
    return pair if len(kept) == len(pair.rules) else replace(pair, rules=tuple(kept))


def _homeless(rule: FieldRule, pairs: Sequence[Pair]) -> list[str]:
    """Return what a rule refers to, by side, that its family does not have."""
    found: list[str] = []
    for side in (LEFT, RIGHT):
        own = rule.of(side)
        if not rule.family or own is None or own.kind is not Kind.REF:
            continue
        if not any(p.family == rule.family and p.entity(side).name in own.refers_to for p in pairs):
            found.append(f"{' or '.join(own.refers_to)} on the {side}")
    return found


def pair_of(sync: EntitySync, described: Described) -> Pair:
    """Compile one entity sync alone, switched on or not, as its rows are in memory: also a draft.  Raises SettingsError."""
    problems: list[str] = []
    pair = _pair(sync, described, problems)
    if problems or pair is None:
        raise SettingsError(problems)
    return pair


def _claim(sync: EntitySync, described: Described) -> Pair | None:
    """Return what tells which records belong to an entity sync that is switched off, or None where it can't be told."""
    left = described.entities[LEFT].get(sync.left_entity)
    right = described.entities[RIGHT].get(sync.right_entity)
    some = left or right
    if some is None:
        return None
    # A table that does not exist yet is a reason to switch a pair off, and none to forget whose the other side's records are.
    entities: dict[Side, Entity] = {
        LEFT: left or replace(some, name=sync.left_entity, fields=()),
        RIGHT: right or replace(some, name=sync.right_entity, fields=()),
    }
    conditions: list[Condition] = []
    for line in sync.filters:
        side, name, op = line.get("side"), line.get("field"), line.get("op")
        if side not in entities or op not in CONDITIONS or entities[side].field(str(name)) is None:
            return None
        conditions.append(Condition(side, str(name), str(op), line.get("value")))
    return Pair(
        id=sync.pk,
        name=sync.name,
        family=sync.family,
        position=sync.position,
        left=entities[LEFT],
        right=entities[RIGHT],
        rules=(),
        direction=sync.direction,
        filters=tuple(conditions),
        match=tuple(tuple(alternative) for alternative in sync.match),
        revision=sync.revision,
    )


def in_dependency_order(pairs: Sequence[Pair]) -> list[Pair]:
    """Order pairs so that what is referred to comes first; a cycle keeps its position order."""
    left = list(pairs)
    done: list[Pair] = []
    while left:
        for pair in left:
            others = [p for p in left if p is not pair]
            if not any(_refers(pair, other) and not _refers(other, pair) for other in others):
                break
        else:
            pair = left[0]
        left.remove(pair)
        done.append(pair)
    return done


def _refers(pair: Pair, other: Pair) -> bool:
    if pair.family == other.family:
        return False
    for rule in pair.rules:
        for side in (LEFT, RIGHT):
            own = rule.of(side)
            targets: set[str] = set(own.refers_to) if own else set()
            for child in own.rows if own else ():
                targets.update(child.refers_to)
            if other.entity(side).name in targets:
                return True
    return False


def _pair(sync: EntitySync, described: Described, problems: list[str]) -> Pair | None:
    found: dict[Side, Entity] = {}
    for side, name in ((LEFT, sync.left_entity), (RIGHT, sync.right_entity)):
        entity = described.entities[side].get(name)
        if entity is None:
            known = ", ".join(sorted(described.entities[side])) or "none"
            problems.append(
                f"{sync.name}: {described.names[side]} has no entity {name!r}. It has: {known}. Correct the entity sync, or give "
                "the connection's user the right to see it."
            )
        else:
            found[side] = entity
    if len(found) < 2:
        return None
    rules = [rule for mapping in sync.mappings.all() if (rule := _rule(sync, mapping, found, described, problems))]
    names = {rule.name for rule in rules}
    for alternative in sync.match:
        problems += [
            f"{sync.name}: the match field {name!r} is not mapped." for name in alternative if name not in names
        ]
    if sync.match_tolerance and not LEAST_TOLERANCE <= sync.match_tolerance <= MOST_TOLERANCE:
        problems.append(
            f"{sync.name}: names match exactly (0), or at {LEAST_TOLERANCE} to {MOST_TOLERANCE} percent of similarity, not at "
            f"{sync.match_tolerance}."
        )
    for line in sync.filters:
        if line.get("op") not in CONDITIONS:
            problems.append(f"{sync.name}: the filter {line} has no operator that is known ({', '.join(CONDITIONS)}).")
    problems += flag_problems(sync.name, sync.push, {LEFT: found[LEFT], RIGHT: found[RIGHT]})
    return Pair(
        id=sync.pk,
        name=sync.name,
        family=sync.family,
        position=sync.position,
        left=found[LEFT],
        right=found[RIGHT],
        rules=tuple(rules),
        direction=sync.direction,
        policy=sync.policy,
        on_delete=sync.on_delete,
        edit_v_delete=sync.edit_v_delete,
        prevents=frozenset(sync.prevents),
        window=Window(**sync.window) if sync.window else None,
        filters=tuple(Condition(f["side"], f["field"], f["op"], f.get("value")) for f in sync.filters if "op" in f),
        match=tuple(tuple(alternative) for alternative in sync.match),
        match_tolerance=sync.match_tolerance,
        on_request=frozenset(side for side, how in sync.push.items() if how == "on_request"),
        revision=sync.revision,
    )


def _rule(
    sync: EntitySync, mapping: FieldMapping, entities: Mapping[Side, Entity], described: Described, problems: list[str]
) -> FieldRule | None:
    fields: dict[Side, Field | None] = {}
    for side, name in ((LEFT, mapping.left), (RIGHT, mapping.right)):
        if name == ARCHIVED:
            fields[side] = _ARCHIVED_FIELD
            continue
        fields[side] = entities[side].field(name) if name else None
        if name and fields[side] is None:
            problems.append(
                f"{sync.name}: {described.names[side]} has no field {name!r} on {entities[side].name}. Create it there, or remove "
                "the mapping."
            )
            return None
    direction = _direction(sync, mapping)
    _check_writable(sync, mapping, direction, fields, problems)
    if mapping.transform and mapping.transform not in TRANSFORMS:
        problems.append(
            f"{sync.name}: {mapping.name} uses the transform {mapping.transform!r}; known: {', '.join(TRANSFORMS)}."
        )
        return None
    if mapping.transform and TRANSFORMS[mapping.transform][1] is None and direction == "both":
        problems.append(
            f"{sync.name}: {mapping.name}: the transform {mapping.transform!r} works in one direction only."
        )
    left, right = fields[LEFT], fields[RIGHT]
    return FieldRule(
        name=mapping.name,
        left=left,
        right=right,
        direction=direction,
        policy=mapping.policy or sync.policy,
        transform=mapping.transform,
        args=mapping.args,
        constant=mapping.constant,
        when=mapping.when,
        guard=mapping.guard,
        required=mapping.required,
        options=option_table(mapping.options.all()) if _is_option(left, right) and mapping.constant is None else None,
        unmapped=mapping.unmapped,
        default=mapping.default,
        rows=_row_rules(sync, mapping, left, right, problems) if left and right and left.kind is Kind.ROWS else (),
    )


def _direction(sync: EntitySync, mapping: FieldMapping) -> str:
    if sync.direction == "both" or mapping.direction == sync.direction:
        return mapping.direction
    return sync.direction if mapping.direction == "both" else "none"


def _check_writable(
    sync: EntitySync, mapping: FieldMapping, direction: str, fields: Mapping[Side, Field | None], problems: list[str]
) -> None:
    for side in (LEFT, RIGHT):
        target = fields[side]
        if target is None or target.write is not Write.NEVER or direction not in ("both", f"to_{side}"):
            continue
        problems.append(
            f"{sync.name}: {mapping.name} would write {target.label or target.name} on the {side}, which that system computes "
            f"itself. Let it flow from the {side} only (direction: to_{RIGHT if side == LEFT else LEFT})."
        )


def _is_option(left: Field | None, right: Field | None) -> bool:
    return any(f is not None and f.kind in (Kind.OPTION, Kind.OPTIONS) for f in (left, right)) and bool(left and right)


def option_table(options: Iterable[PicklistMapping]) -> OptionTable:
    """Build the look-ups of a picklist mapping."""
    read: dict[Side, dict[str, str]] = {LEFT: {}, RIGHT: {}}
    write: dict[Side, dict[str, str]] = {LEFT: {}, RIGHT: {}}
    labels: dict[Side, dict[str, str]] = {LEFT: {}, RIGHT: {}}
    for option in options:
        for side, key, label, writes in (
            (LEFT, option.left_key, option.left_label, option.writes_left),
            (RIGHT, option.right_key, option.right_label, option.writes_right),
        ):
            if key:
                read[side][key] = option.token
                labels[side][key] = label
                if writes:
                    write[side][option.token] = key
    return OptionTable(read, write, labels)


def _row_rules(
    sync: EntitySync, mapping: FieldMapping, left: Field, right: Field, problems: list[str]
) -> tuple[FieldRule, ...]:
    """Compile the rules of a document's lines from the mapping's args: {"rows": [{"left", "right", ...}]}."""
    rules: list[FieldRule] = []
    children: dict[Side, dict[str, Field]] = {
        LEFT: {f.name: f for f in left.rows},
        RIGHT: {f.name: f for f in right.rows},
    }
    for line in mapping.args.get("rows", []):
        own: dict[Side, Field | None] = {}
        for side in (LEFT, RIGHT):
            name = line.get(side, "")
            own[side] = children[side].get(name) if name else None
            if name and own[side] is None:
                problems.append(f"{sync.name}: {mapping.name}: a line has no field {name!r} on the {side}.")
        rules.append(
            FieldRule(
                name=f"{line.get(LEFT, '')}>{line.get(RIGHT, '')}",
                left=own[LEFT],
                right=own[RIGHT],
                direction=_direction(sync, mapping),
                transform=line.get("transform", ""),
                args=line.get("args", {}),
                constant=line.get("constant"),
                required=bool(line.get("required", False)),
                default=str(line.get("default", "")),
            )
        )
    return tuple(rules)


def tolerance(pair: Pair, skew: timedelta) -> timedelta:
    """How far apart two modification times may be and still count as a tie: the coarser resolution plus the skew."""
    return max(pair.left.resolution, pair.right.resolution) + skew
