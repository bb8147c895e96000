"""What do settings say, in words that an operations person reads?  Pure: no clock, no database, no system."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

SIDES = ("left", "right")
VERBS = ("create", "update", "delete")
OPERATORS = {
    "filled": "is filled", "empty": "is empty", "eq": "is", "ne": "is not", "zero": "is zero or empty", "in": "is one of",
    "not_in": "is none of", "since": "is on or after",
}  # fmt: skip
WITHOUT_VALUE = frozenset({"filled", "empty", "zero"})
DIRECTIONS = {"both": "both ways", "to_right": "left to right", "to_left": "right to left", "none": "nowhere"}
POLICIES = {
    "last_updated": "the last edit wins",
    "left": "{left} wins",
    "right": "{right} wins",
    "ask": "a person is asked",
}
DELETES = {
    "ask": "deletes wait for approval", "delete": "what is deleted here is deleted there",
    "archive": "what is deleted here is made inactive there", "ignore": "deletes change nothing on the other side",
}  # fmt: skip
EDITS = {
    "ask": "a person is asked", "edit": "the edit wins: the record is made again", "delete": "the delete wins",
}  # fmt: skip
LABELS = {
    "enabled": "Kept in agreement", "direction": "Direction", "policy": "Who wins", "on_delete": "When one side deletes",
    "edit_v_delete": "Deleted here, edited there", "prevents": "Never done", "window": "Window", "filters": "Filters",
    "match": "Matched by", "match_tolerance": "Name match", "push": "On request", "route": "Whose records",
    "first_run": "First run", "position": "Position", "name": "Name", "family": "Family", "left": "Left field",
    "right": "Right field", "transform": "Transform", "args": "Details", "constant": "Fixed value", "when": "When",
    "guard": "Guard", "required": "Required", "unmapped": "Option without partner", "default": "Default",
    "left_label": "Left option", "right_label": "Right option", "left_key": "Left key", "right_key": "Right key",
    "token": "Agreed as", "writes_left": "Written left", "writes_right": "Written right", "preset": "Preset",
    "left_entity": "Left entity", "right_entity": "Right entity",
}  # fmt: skip
MOST_NAMED = 4
LONGEST = 160


@dataclass(frozen=True)
class Names:
    """What both systems are called, and what their fields are called, by (side, field)."""

    left: str = "the left"
    right: str = "the right"
    fields: Mapping[tuple[str, str], str] = field(default_factory=dict)

    def of(self, side: str) -> str:
        """Return a system's name."""
        return self.left if side == "left" else self.right


class Synced(Protocol):
    """What a sentence must know of an entity sync."""

    name: str
    enabled: bool
    direction: str
    policy: str
    on_delete: str
    push: Any


def integration_sentence(
    names: Names, syncs: Sequence[Synced], schedules: Sequence[str], *, enabled: bool = True
) -> str:
    """Say what an integration does."""
    on = [sync for sync in syncs if sync.enabled]
    if not on:
        return f"Keeps nothing of {names.left} and {names.right} in agreement: every entity sync is switched off."
    parts = [part for part in (_both(names, on), *_one_way(names, on)) if part]
    parts.append("; ".join(_lower(schedule) for schedule in schedules) or "only when somebody presses Sync now")
    parts += _policies(names, on)
    parts.append(_most(on, "on_delete", DELETES, names))
    text = "; ".join(part for part in parts if part)
    return ("" if enabled else "Switched off at present. When on: ") + text[0].upper() + text[1:] + "."


def _both(names: Names, on: Sequence[Synced]) -> str:
    both = [sync for sync in on if sync.direction == "both"]
    return f"keeps {_named(both)} of {names.left} and {names.right} in agreement" if both else ""


def _one_way(names: Names, on: Sequence[Synced]) -> list[str]:
    found: list[str] = []
    for direction, source, target in (("to_right", names.left, names.right), ("to_left", names.right, names.left)):
        flows = [sync for sync in on if sync.direction == direction]
        free = [sync for sync in flows if "on_request" not in sync.push.values()]
        asked = [sync for sync in flows if sync not in free]
        for group, how in ((free, ""), (asked, " on request")):
            if group:
                one = len(group) == 1 and plural(group[0].name) == group[0].name
                found.append(f"{_named(group)} {'flows' if one else 'flow'} from {source} to {target}{how}")
    return found


def _policies(names: Names, on: Sequence[Synced]) -> list[str]:
    both = [sync for sync in on if sync.direction == "both"]
    return [f"where both sides changed the same field {_most(both, 'policy', POLICIES, names)}"] if both else []


def _most(syncs: Sequence[Synced], what: str, words: Mapping[str, str], names: Names) -> str:
    """Say what holds for all, or for most and then for the others."""
    by_value: dict[str, list[Synced]] = {}
    for sync in syncs:
        by_value.setdefault(str(getattr(sync, what)), []).append(sync)
    groups = sorted(by_value.items(), key=lambda item: -len(item[1]))
    said = [_fill(words.get(value, value), names) for value, _ in groups]
    others = [f"for {_named(group)} {text}" for (_, group), text in zip(groups[1:], said[1:], strict=True)]
    return ", ".join([said[0], *others])


def _named(syncs: Sequence[Synced]) -> str:
    words = [plural(sync.name) for sync in syncs]
    if len(words) > MOST_NAMED:
        words = [*words[: MOST_NAMED - 1], f"{len(words) - MOST_NAMED + 1} more"]
    return listed(words)


def plural(word: str) -> str:
    """Return the plural of an entity sync's name."""
    if word.endswith(("s", "history", "data", "stock")):
        return word
    if word.endswith("y") and word[-2:-1] not in "aeiou":
        return f"{word[:-1]}ies"
    return "people" if word == "person" else f"{word}s"


def listed(words: Sequence[str]) -> str:
    """Return "a, b and c"."""
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1] if words else ""]))


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _fill(text: str, names: Names) -> str:
    return text.format(left=names.left, right=names.right)


# One setting


def setting_words(name: str, value: Any, names: Names) -> str:
    """Return one setting of an entity sync, an integration or a mapping in words."""
    if name in _WORDS:
        return _WORDS[name](value, names)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value in (None, "", [], {}):
        return "none"
    text = str(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def differences(before: Mapping[str, Any], after: Mapping[str, Any], names: Names) -> list[str]:
    """Return a line for each setting that differs: "Filters: none → QuickBooks City is Paris"."""
    return [
        f"{LABELS.get(name, name)}: {_difference(name, before.get(name), value, names)}"
        for name, value in after.items()
        if before.get(name) != value
    ]


def _difference(name: str, before: Any, after: Any, names: Names) -> str:
    if name == "filters" and before and after:  # of several lines it is told which ones come and go
        gone, come = ([line for line in one if line not in other] for one, other in ((before, after), (after, before)))
        parts = [
            f"{word} {filter_words(line, names)}"
            for word, lines in (("no longer", gone), ("now also", come))
            for line in lines
        ]
        return "; ".join(parts) or "in another order"
    return f"{setting_words(name, before, names)} → {setting_words(name, after, names)}"


def filter_words(line: Mapping[str, Any], names: Names) -> str:
    """Return one filter line in words."""
    side, op, value = str(line.get("side", "")), str(line.get("op", "")), line.get("value")
    told = "" if op in WITHOUT_VALUE else f" {', '.join(map(str, value)) if isinstance(value, list) else value}"
    return f"{names.of(side)} {field_words(side, str(line.get('field', '')), names)} {OPERATORS.get(op, op)}{told}"


def field_words(side: str, name: str, names: Names) -> str:
    """Return a field's label."""
    return names.fields.get((side, name)) or name


def window_words(window: Mapping[str, Any], names: Names) -> str:
    """Return the window of dates in words."""
    if not window or not window.get("field"):
        return "none"
    past, future = window.get("past"), window.get("future")
    parts = [f"{days} days {way}" for days, way in ((past, "back"), (future, "ahead")) if days is not None]
    return f"{field_words('left', str(window['field']), names)}: {listed(parts) or 'any day'}"


def prevents_words(prevents: Iterable[str], names: Names) -> str:
    """Return which operations are never done."""
    told = set(prevents)
    parts = [
        f"{listed(verbs)} in {names.of(side)}"
        for side in SIDES
        if (verbs := [verb for verb in VERBS if f"{side}.{verb}" in told])
    ]
    return "; ".join(parts) or "none"


def match_words(match: Iterable[Sequence[str]]) -> str:
    """Return by which mapped fields records are recognised, in order."""
    return ", else ".join(listed([part.replace(">", " = ") for part in each]) for each in match) or "nothing"


def push_words(push: Mapping[str, Any], names: Names) -> str:
    """Return to which side records flow only on request."""
    asked = [f"only promoted records go to {names.of(side)}" for side in SIDES if push.get(side) == "on_request"]
    if isinstance(push.get("flag"), dict):
        asked.append(f"asked for by the column {push['flag'].get('field', '')}")
    return ", ".join(asked) or "no"


def route_words(route: Mapping[str, Any], names: Names) -> str:
    """Return whose records are taken."""
    if not route:
        return "all"
    columns = listed(sorted(set((route.get("fields") or {}).values())))
    return f"those of {names.of(str(route.get('side', '')))} with {columns} = {route.get('value', '')}"


_WORDS: Mapping[str, Any] = {
    "direction": lambda value, names: DIRECTIONS.get(value, str(value)),
    "policy": lambda value, names: _fill(POLICIES.get(value, str(value)), names) if value else "the entity sync's",
    "on_delete": lambda value, names: DELETES.get(value, str(value)),
    "edit_v_delete": lambda value, names: EDITS.get(value, str(value)),
    "prevents": lambda value, names: prevents_words(value or [], names),
    "window": lambda value, names: window_words(value or {}, names),
    "filters": lambda value, names: "; ".join(filter_words(line, names) for line in value or []) or "none",
    "match": lambda value, names: match_words(value or []),
    "match_tolerance": lambda value, names: f"asked from {value} % of similarity" if value else "only what is the same",
    "push": lambda value, names: push_words(value or {}, names),
    "route": lambda value, names: route_words(value or {}, names),
}
