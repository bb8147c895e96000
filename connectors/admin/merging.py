"""What did a person change in a form whose settings somebody else has changed since it was opened?

The page carries along, signed, what it showed.  What comes back as it was shown was not touched, and follows the newer
settings; only what is another than was seen is what the person wants.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.core import signing
from django.http import QueryDict

FIELD = "settings_seen"
SALT = "syncline.settings"
Line = tuple[str, ...]


def seal(whose: str, state: Mapping[str, Any]) -> str:
    """Return what a page carries along of the settings that it shows."""
    return signing.dumps({"whose": whose, **state}, salt=SALT, compress=True)


def unseal(whose: str, text: str) -> dict[str, Any] | None:
    """Return what the page showed, None where it is another's page or was tampered with."""
    try:
        state = signing.loads(text, salt=SALT)
    except signing.BadSignature:
        return None
    return state if isinstance(state, dict) and state.get("whose") == whose else None


def sent(value: object) -> list[str]:
    """Return what a browser sends of a field that shows this value."""
    if isinstance(value, bool):
        return ["on"] if value else []
    if isinstance(value, list | tuple):
        return [str(each) for each in value]
    return ["" if value is None else str(value)]


def follow(given: QueryDict, seen: Mapping[str, Sequence[str]], now: Mapping[str, Sequence[str]]) -> None:
    """Let the fields that were not touched be as they are now."""
    for name, value in now.items():
        if _filled(given.getlist(name)) == _filled(seen.get(name, [])):
            given.setlist(name, list(value))


def _filled(values: Sequence[str]) -> list[str]:
    """An empty field and one that was not sent are the same."""
    return sorted(filter(None, values))


def merged(given: Sequence[Line], seen: Sequence[Line], now: Sequence[Line]) -> list[Line]:
    """Return the lines of a list as they are now, with what was added to and taken from those that were seen."""
    if list(now) == list(seen):
        return list(given)
    taken = [line for line in seen if line not in given]
    added = [line for line in given if line not in seen and line not in now]
    return [line for line in now if line not in taken] + added


def lines_of(given: QueryDict, prefix: str, names: Sequence[str]) -> list[Line]:
    """Return the lines of a formset that are filled in and not to be taken out."""
    told = given.get(f"{prefix}-TOTAL_FORMS", "")
    total = min(int(told), 100) if told.isdecimal() and len(told) < 5 else 0
    lines = [
        tuple(given.get(f"{prefix}-{number}-{name}", "") for name in names)
        for number in range(total)
        if not given.get(f"{prefix}-{number}-DELETE")
    ]
    return [line for line in lines if any(line)]


def put_lines(given: QueryDict, prefix: str, names: Sequence[str], lines: Sequence[Line]) -> None:
    """Make these the lines of a formset, with an empty one below."""
    for key in [key for key in given if key.startswith(f"{prefix}-") and key.split("-")[1].isdecimal()]:
        del given[key]
    for number, line in enumerate([*lines, ("",) * len(names)]):
        for name, value in zip(names, line, strict=True):
            given[f"{prefix}-{number}-{name}"] = value
    given[f"{prefix}-TOTAL_FORMS"] = str(len(lines) + 1)
    # A line beyond these that equals the stored one of its number would count as untouched, and so as empty.
    given[f"{prefix}-INITIAL_FORMS"] = str(len(lines))
