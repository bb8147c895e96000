"""Can two fields hold each other's values, and what is lost on the way?  Pure: by what both systems describe."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from connectors.contract import Field, Kind, Write
from connectors.sync.rules import ARCHIVED, LEFT, OTHER, RIGHT, Side

COMPATIBLE, LOSSY, READ_ONLY, MISSING, UNFIT = "Compatible", "Lossy", "Read-only", "Missing in schema", "Doesn't fit"
UNKNOWN = "Not checked yet"
NEW = "New in schema"
TONES = {
    COMPATIBLE: "good",
    LOSSY: "warn",
    READ_ONLY: "bad",
    MISSING: "bad",
    UNFIT: "bad",
    UNKNOWN: "calm",
    NEW: "busy",
}
TEXTS = frozenset({Kind.TEXT, Kind.HTML})
NUMBERS = frozenset({Kind.INTEGER, Kind.DECIMAL, Kind.MONEY})
TIMES = frozenset({Kind.DATE, Kind.DATETIME})
CHOICES = frozenset({Kind.OPTION, Kind.OPTIONS})
FAMILIES = (TEXTS, NUMBERS, TIMES, CHOICES, frozenset({Kind.BOOLEAN}), frozenset({Kind.REF}), frozenset({Kind.ROWS}))
WORDS = {
    Kind.TEXT: "text", Kind.HTML: "rich text", Kind.INTEGER: "whole number", Kind.DECIMAL: "number", Kind.MONEY: "money",
    Kind.BOOLEAN: "yes or no", Kind.DATE: "date", Kind.DATETIME: "date and time", Kind.OPTION: "choice",
    Kind.OPTIONS: "choices", Kind.REF: "reference", Kind.ROWS: "lines",
}  # fmt: skip


@dataclass(frozen=True)
class Fit:
    """One word for a mapping, and why."""

    word: str
    why: str

    @property
    def tone(self) -> str:
        """Its colour."""
        return TONES[self.word]


def type_of(own: Field | None) -> str:
    """Return a field's type in words: text, at most 60 characters."""
    if own is None:
        return ""
    words = WORDS[own.kind]
    if own.max_length and own.kind in TEXTS:
        words += f", at most {own.max_length}"
    if own.scale is not None and own.kind in NUMBERS:
        words += f", {own.scale} decimals"
    if own.write is Write.NEVER:
        words += ", read-only"
    elif own.write is Write.CREATE:
        words += ", only at creation"
    return words + (", required" if own.required else "")


def pairing(left: Kind, right: Kind) -> tuple[str, str]:
    """Return (word, why) of two kinds, without a transform: the list of fields greys by it."""
    if left == right or any(left in family and right in family for family in FAMILIES):
        return COMPATIBLE, ""
    kinds = {left, right}
    if kinds & TEXTS and kinds & CHOICES:
        return LOSSY, "A choice agrees with a text only by pairs of options."
    if kinds & TEXTS and kinds & (NUMBERS | TIMES | {Kind.BOOLEAN}):
        other = next(iter(kinds - TEXTS))
        return LOSSY, f"A text that is no {WORDS[other]} parks its record."
    if kinds <= NUMBERS | {Kind.BOOLEAN}:
        return LOSSY, "A number becomes yes where it is not zero."
    return UNFIT, f"{WORDS[left].capitalize()} and {WORDS[right]} can't hold each other's values."


def fit(
    left: Field | None, right: Field | None, *, names: tuple[str, str], direction: str = "both", transform: str = "",
    guarded: bool = False, constant: object = None,
) -> Fit:  # fmt: skip
    """Judge one mapping.  `names`: the fields it names, "" where a side has none; direction: the one in effect."""
    fields: dict[Side, Field | None] = {LEFT: left, RIGHT: right}
    for side, name in ((LEFT, names[0]), (RIGHT, names[1])):
        if name and name != ARCHIVED and fields[side] is None:
            return Fit(MISSING, f"The {side} system has no field {name} any more, or these credentials can't see it.")
    if direction == "none":
        return Fit(READ_ONLY, "It flows against the direction of its entity sync, so it writes nothing.")
    for side in (LEFT, RIGHT):
        target = fields[side]
        if target is not None and target.write is Write.NEVER and _flows(direction, side):
            way = f"from the {side} only"
            return Fit(READ_ONLY, f"{target.label or target.name} is computed by the {side} system: let it flow {way}.")
    if left is None or right is None:
        return Fit(COMPATIBLE, "A fixed value is written at creation." if constant is not None else "")
    word, why = (COMPATIBLE, "") if transform else pairing(left.kind, right.kind)
    if word == UNFIT:
        return Fit(word, why)
    losses = [why] if why else []
    if transform not in ("truncate", "template") and not guarded:
        losses += [loss for side in (LEFT, RIGHT) if _flows(direction, side) for loss in _losses(fields, side)]
    return Fit(LOSSY, " ".join(losses)) if losses else Fit(COMPATIBLE, _told(direction, transform))


def _flows(direction: str, to: Side) -> bool:
    return direction in ("both", f"to_{to}")


def _told(direction: str, transform: str) -> str:
    ways = {
        "both": "Values flow both ways",
        "to_right": "Values flow to the right",
        "to_left": "Values flow to the left",
    }
    return f"{ways[direction]}{f', changed by {transform}' if transform else ', unchanged'}."


def _losses(fields: dict[Side, Field | None], to: Side) -> list[str]:
    """Return what the target can't hold of what the source can."""
    target, source = fields[to], fields[OTHER[to]]
    if target is None or source is None:
        return []
    found: list[str] = []
    if target.kind in TEXTS and source.kind in TEXTS:
        longest = source.max_length
        if target.max_length is not None and (longest is None or longest > target.max_length):
            found.append(f"The {to} takes at most {target.max_length} characters; a longer text parks its record.")
        if source.kind is Kind.HTML and target.kind is Kind.TEXT:
            found.append(f"Formatting is text on the {to}.")
    exact = source.kind is Kind.INTEGER or (source.scale is not None and source.scale <= (target.scale or 0))
    if target.scale is not None and source.kind in NUMBERS and not exact:
        found.append(f"The {to} keeps {target.scale} decimals; both are compared so.")
    if target.kind is Kind.INTEGER and source.kind in (Kind.DECIMAL, Kind.MONEY):
        found.append(f"The {to} keeps whole numbers.")
    if target.kind is Kind.DATE and source.kind is Kind.DATETIME:
        found.append(f"The {to} keeps no time of day.")
    coarse, fine = target.resolution or timedelta(0), source.resolution or timedelta(0)
    if target.kind is source.kind is Kind.DATETIME and coarse > fine:
        found.append(f"The {to} cuts times to {coarse.total_seconds():g} s.")
    if target.kind is Kind.OPTION and source.kind is Kind.OPTIONS:
        found.append(f"The {to} holds one choice only.")
    return found
