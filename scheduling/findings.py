"""How does a check say what it found, and on which page is it mended?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from django.urls import NoReverseMatch, reverse

from scheduling.seen import SIDES, End, Map, Seen, Sync

Level = Literal["ok", "warning", "blocking"]
OK: Level = "ok"
WARNING: Level = "warning"
BLOCKING: Level = "blocking"
MOST_NAMED = 12  # labels in one sentence


@dataclass(frozen=True)
class Line:
    """One finding: which check, how bad, a sentence, and where to mend it."""

    check: str
    level: Level
    message: str
    fix: str = ""  # path of the page where it is mended
    fix_label: str = ""


Found = Iterator[Line]
Check = Callable[[Seen], Found]


# Pages where things are mended


def page(name: str, *args: int) -> str:
    """Return the path of an admin page; empty where this hub does not serve it."""
    try:
        return reverse(f"admin:{name}", args=args)
    except NoReverseMatch:
        return ""


def at_connection(end: End) -> dict[str, str]:
    """The page of a connection."""
    return {"fix": page("connectors_connection_change", end.id), "fix_label": "Open the connection"}


def at_sync(sync: Sync) -> dict[str, str]:
    """The page of an entity sync."""
    return {"fix": page("connectors_entitysync_change", sync.id), "fix_label": "Open the entity sync"}


def at_mapping(mapping: Map) -> dict[str, str]:
    """The page of a field mapping."""
    return {"fix": page("connectors_fieldmapping_change", mapping.id), "fix_label": "Open the mapping"}


def at_integration(seen: Seen) -> dict[str, str]:
    """The page of the integration."""
    return {"fix": page("connectors_integration_change", seen.integration), "fix_label": "Open the integration"}


def at_services(seen: Seen) -> dict[str, str]:
    """The page of the integration's schedules."""
    return {"fix": page("scheduling_integration", seen.integration), "fix_label": "Open the schedules"}


def named(labels: Sequence[str]) -> str:
    """Return labels as a list in a sentence, cut where it is long."""
    more = len(labels) - MOST_NAMED
    return ", ".join(labels[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def either(words: Sequence[str]) -> str:
    """Return words as alternatives in a sentence."""
    return " or ".join(part for part in (", ".join(words[:-1]), words[-1]) if part)


def count(number: int, one: str, many: str = "") -> str:
    """Return a number with its word."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def reached(seen: Seen) -> list[End]:
    """Return the sides that could be looked at."""
    return [seen.ends[side] for side in SIDES if seen.ends[side].reached]
