"""Which rules keep two entities in agreement?  Frozen values, compiled from settings and what both systems describe."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import cached_property
from hashlib import blake2b
from typing import Literal

from connectors.contract import Entity, Field, Kind, Ref, Values, Verb, Write
from connectors.sync.values import CanonicalValues

Side = Literal["left", "right"]
LEFT: Side = "left"
RIGHT: Side = "right"
OTHER: dict[Side, Side] = {LEFT: RIGHT, RIGHT: LEFT}
ARCHIVED = "~archived"  # a mapping of this name on both sides keeps "inactive" in agreement
ALWAYS, LATER, EMPTY = "always", "later", "empty"  # of FieldRule.when, which may be "create", too
AFTER_CREATION = (ALWAYS, LATER, EMPTY)  # when a rule takes part in what comes after a record's creation
# Why a record is left out though it meets every filter: it is another company's, or has its partner by another family.
COMPANY, FAMILY = "company", "family"
RECORD_ID = "#id"  # stands for the record's own id in a transform's fields
KeyOf = Callable[[str, str], str | None]  # (place, id) -> key of its link; a place is an entity, or "family/entity"
IdOf = Callable[[str, Side], Ref | None]  # (link key, side) -> that side's record


def without_partner(value: object) -> bool:
    """Whether a canonical value is an option without partner, or several of which one has none."""
    return any(isinstance(v, str) and v.startswith("!") for v in (value if isinstance(value, list) else [value]))


@dataclass(frozen=True, slots=True)
class OptionTable:
    """Which option is which: key -> token for reading, token -> key for writing."""

    read: Mapping[Side, Mapping[str, str]]
    write: Mapping[Side, Mapping[str, str]]
    labels: Mapping[Side, Mapping[str, str]] = field(default_factory=dict)

    def shared(self, side: Side) -> bool:
        """Whether several options of a side have one partner, so that the canonical value does not tell which it is."""
        return len(set(self.read[side].values())) < len(self.read[side])


@dataclass(frozen=True)
class FieldRule:
    """One field mapping, with all that is needed to apply it."""

    name: str
    left: Field | None
    right: Field | None
    direction: str = "both"  # both, to_right, to_left
    policy: str = "last_updated"
    transform: str = ""
    args: Mapping[str, object] = field(default_factory=dict)
    constant: object = None
    when: str = "always"
    guard: str = ""
    required: bool = False
    options: OptionTable | None = None
    unmapped: str = "park"
    default: str = ""
    rows: tuple[FieldRule, ...] = ()

    def of(self, side: Side) -> Field | None:
        """Return the field of one side."""
        return self.left if side == LEFT else self.right

    def flows(self, to: Side) -> bool:
        """Whether changes of the other side may be written to this one."""
        return self.direction == "both" or self.direction == f"to_{to}"

    @property
    def family(self) -> str:
        """The family whose links its references mean; empty: the first one that has their entity."""
        return str(self.args.get("family", ""))

    def place(self, entity: str) -> str:
        """Where the links of the records that it refers to are looked for."""
        return f"{self.family}/{entity}" if self.family else entity

    @cached_property
    def kind(self) -> Kind:
        """The kind both sides are compared as."""
        known = self.left or self.right
        return known.kind if known else Kind.TEXT

    @cached_property
    def scale(self) -> int | None:
        """Digits after the point that both sides keep."""
        scales = [f.scale for f in (self.left, self.right) if f and f.scale is not None]
        return min(scales) if scales else None

    @cached_property
    def resolution(self) -> timedelta:
        """The coarser time resolution."""
        return max((f.resolution for f in (self.left, self.right) if f and f.resolution), default=timedelta(0))

    def leaves(self, value: object) -> bool:
        """Whether a side holds an option without partner that is to be left alone: its own affair, neither written nor sent."""
        return self.options is not None and self.unmapped == "skip" and without_partner(value)

    def writable(self, side: Side, *, creating: bool) -> bool:
        """Whether this side takes a value now."""
        target = self.of(side)
        if target is None or not self.flows(side) or target.write is Write.NEVER:
            return False
        if creating:
            return self.when in ("always", "create")
        return target.write is Write.ALWAYS and self.when in AFTER_CREATION and self.constant is None


@dataclass(frozen=True, slots=True)
class Condition:
    """One filter line, judged in the hub."""

    side: Side
    field: str
    op: str
    value: object = None

    def found(self, values: Values) -> str:
        """What the record holds there, as text."""
        value = _plain(values.get(self.field))
        return "" if value is None else str(value)

    def holds(self, values: Values) -> bool:
        """Judge one record's values."""
        return CONDITIONS[self.op](values.get(self.field), self.value)


def _plain(value: object) -> object:
    return value.id if isinstance(value, Ref) else value


CONDITIONS: dict[str, Callable[[object, object], bool]] = {
    "filled": lambda value, _: value not in (None, "", False),
    "empty": lambda value, _: value in (None, "", False),
    "eq": lambda value, wanted: str(_plain(value)) == str(wanted),
    "ne": lambda value, wanted: str(_plain(value)) != str(wanted),
    "zero": lambda value, _: not value,
    "in": lambda value, wanted: isinstance(wanted, list) and str(_plain(value)) in {str(w) for w in wanted},
    "not_in": lambda value, wanted: isinstance(wanted, list) and str(_plain(value)) not in {str(w) for w in wanted},
    "since": lambda value, wanted: value is not None and str(value)[:10] >= str(wanted)[:10],
}


@dataclass(frozen=True)
class Window:
    """Records dated outside of this stay as they are: nothing is written, nothing deleted."""

    field: str  # of the left record
    past: int | None = None  # days
    future: int | None = None

    def holds(self, values: Values, today: date) -> bool:
        """Judge one left record; a record without a date is inside."""
        value = values.get(self.field)
        if not isinstance(value, date):
            return True
        day = value.date() if isinstance(value, datetime) else value
        age = (today - day).days
        return (self.past is None or age <= self.past) and (self.future is None or -age <= self.future)


@dataclass(frozen=True)
class Pair:
    """One entity sync, compiled against what both systems describe."""

    id: int
    name: str
    family: str
    position: int
    left: Entity
    right: Entity
    rules: tuple[FieldRule, ...]
    direction: str = "both"
    policy: str = "last_updated"
    on_delete: str = "ask"
    edit_v_delete: str = "ask"
    prevents: frozenset[str] = frozenset()
    window: Window | None = None
    filters: tuple[Condition, ...] = ()
    match: tuple[tuple[str, ...], ...] = ()
    match_tolerance: int = 0  # least similarity in percent at which a person is asked; 0: only what is the same matches
    route: Condition | None = None  # only the records that carry this value are this integration's
    on_request: frozenset[Side] = frozenset()  # sides that take only promoted records
    revision: int = 1

    def entity(self, side: Side) -> Entity:
        """Return one side's entity."""
        return self.left if side == LEFT else self.right

    def flows(self, to: Side) -> bool:
        """Whether records may be written to this side at all."""
        return self.direction == "both" or self.direction == f"to_{to}"

    def prevented(self, side: Side, verb: str) -> bool:
        """Whether a person has switched this operation off."""
        return f"{side}.{'update' if verb in (Verb.ARCHIVE, Verb.RESTORE) else verb}" in self.prevents

    @cached_property
    def by_name(self) -> dict[str, FieldRule]:
        """Rules by mapping name."""
        return {rule.name: rule for rule in self.rules}

    @cached_property
    def referring(self) -> dict[str, FieldRule]:
        """Rules whose values may point at other records."""
        return {rule.name: rule for rule in self.rules if rule.kind is Kind.REF or rule.rows}

    @cached_property
    def merged(self) -> tuple[FieldRule, ...]:
        """Rules that take part in the merge: both sides present, not only at creation."""
        return tuple(
            r
            for r in self.rules
            if r.constant is None and r.left and r.right and r.when in AFTER_CREATION and r.direction != "none"
        )

    @cached_property
    def tracked(self) -> frozenset[str]:
        """Names of the merged rules: what "changed" is judged by."""
        return frozenset(rule.name for rule in self.merged)

    @cached_property
    def keeps_archived(self) -> bool:
        """Whether "inactive" is a value in agreement."""
        return ARCHIVED in self.by_name

    def reported(self, side: Side) -> frozenset[str]:
        """Names of the rules whose values on one side come by a report, not by its feed."""
        return frozenset(rule.name for rule in self.rules if (own := rule.of(side)) is not None and own.group)

    def wanted(self, side: Side) -> frozenset[str]:
        """Names of the fields that must be read on one side."""
        names: set[str] = set()
        for rule in self.rules:
            own = rule.of(side)
            if own is not None and own.name != ARCHIVED and rule.constant is None and not own.group:
                names.add(own.name)
                if side == source_side(rule):
                    names.update(n for n in fields_arg(rule) if n != RECORD_ID)
        names.update(c.field for c in (*self.filters, *([self.route] if self.route else [])) if c.side == side)
        if side == LEFT and self.window:
            names.add(self.window.field)
        return frozenset(names)

    def inside(self, side: Side, values: Values, today: date) -> str:
        """Return '' when filter, route and window hold, else which of them does not."""
        if not all(c.holds(values) for c in self.filters if c.side == side):
            return "filter"
        if self.route is not None and side == self.route.side and not self.route.holds(values):
            return COMPANY
        if side == LEFT and self.window and not self.window.holds(values, today):
            return "window"
        return ""

    def match_hash(self, values: CanonicalValues) -> str:
        """Return what partners have in common at first sight: a hash of the first alternative that is filled, or ''."""
        return match_hashes(self.match, values)[0]

    def match_hashes(self, values: CanonicalValues) -> tuple[str, str | None]:
        """Return hashes of the first two alternatives that are filled: ('', None) where there are none.

        The second counts only beside a record that lacks what the first is made of.
        """
        return match_hashes(self.match, values)


def match_hashes(match: Iterable[Iterable[str]], values: CanonicalValues) -> tuple[str, str | None]:
    """Return hashes of the first two alternatives that are filled: ('', None) where there are none."""
    found = _match_hashes(match, values)
    return next(found, ""), next(found, None)


def _match_hashes(match: Iterable[Iterable[str]], values: CanonicalValues) -> Iterator[str]:
    for number, names in enumerate(match):
        parts = [values.get(name) for name in names]
        if all(part not in (None, "") for part in parts):
            text = "\x1f".join(" ".join(str(part).casefold().split()) for part in parts)
            yield blake2b(f"{number}\x1e{text}".encode(), digest_size=16).hexdigest()


def field_title(name: str) -> str:
    """Return a mapping's two fields as a person reads them."""
    if name == ARCHIVED:
        return "Inactive"
    left, both, right = name.partition(">")
    return f"{left.lstrip('@')} = {right.lstrip('@')}" if both else name


def source_side(rule: FieldRule) -> Side:
    return RIGHT if rule.direction == "to_left" else LEFT


def fields_arg(rule: FieldRule) -> list[str]:
    names = rule.args.get("fields", [])
    return [str(n) for n in names] if isinstance(names, list) else []
