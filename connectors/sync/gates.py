"""Which gates does a record pass on its way into agreement, in order, and at which one does it stand?"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from connectors.models import Connection, RecordLink
from connectors.sync.explain import sentence_of, system_of
from connectors.sync.plan import Life, Pending
from connectors.sync.rules import LEFT, RIGHT
from connectors.sync.values import decode

WORKING = (Connection.State.NEW, Connection.State.CONNECTED)
THERE = (Life.LIVE, Life.ARCHIVED)


class Passed(StrEnum):
    """How a record stands before one gate."""

    YES = "passed"
    NO = "stops"  # until a person or a setting does something
    WAITS = "waits"  # goes on by itself
    LATER = "not reached"


@dataclass(frozen=True, slots=True)
class Gate:
    """One condition, and whether the record meets it."""

    title: str
    passed: Passed
    why: str = ""


# Reasons by which a record stands before a gate, in the order in which a run asks.  Of a record that has no partner, of a
# pair of records, and of one whose partner was deleted a run asks different things.
_HELD = ("Nobody holds it", ("held", "undone", "unlinked"))
_BOUNDS = ("Filter, dates, company and direction let it in", ("outside",))
_PROMOTED = ("Somebody asked for it, where records flow on request", ("waits for promotion",))
_SETTINGS = ("The settings allow what it needs", ("prevented", "deleted"))
_REFERENCES = ("What it refers to has its partner", ("waits for link",))
_APPROVED = ("Approved, where that is needed", ("waits for approval",))
_TAKEN = ("The other system takes it", ("parked", "lossy", "changed meanwhile"))
_CREATE = (
    _HELD, _BOUNDS, ("No other record could be its partner", ("ambiguous", "merged")), _PROMOTED, _SETTINGS,
    ("The other side has been read to its end", ("waits for listing",)), _REFERENCES, _APPROVED, _TAKEN,
)  # fmt: skip
_UPDATE = (
    _HELD, _BOUNDS, ("It is one record on each side", ("ambiguous", "merged")),
    ("Not both sides changed the same field, or somebody decided", ("conflict",)), _REFERENCES, _SETTINGS, _APPROVED, _TAKEN,
)  # fmt: skip
_DELETE = (
    _HELD, _BOUNDS, ("It is one record on each side", ("ambiguous", "merged")),
    ("Not deleted here and edited there, or somebody decided", ("conflict",)), _SETTINGS, _APPROVED, _TAKEN,
)  # fmt: skip
GOES_ON = ("waits for link", "waits for listing", "changed meanwhile")  # without a person
PLANNED = "It is planned and written"
AGREED = "Both sides agree"


def gates_of(link: RecordLink, *, paused: str = "", why: str = "") -> list[Gate]:
    """Return the gates of a record in order.

    `paused`: why no job of its integration is handed out, or "".  `why`: what is known of its reason besides itself.
    """
    found = _hub(link, paused)
    if link.ended:
        return [*found, Gate(AGREED, Passed.NO, "The link is over: one of the records was deleted.")]
    way = _way(link)
    stop = next((place for place, (_, reasons) in enumerate(way) if link.reason in reasons), None)
    if stop is None:
        found += [Gate(title, Passed.YES) for title, _ in way]
        return [*found, *_end(link)]
    passed = Passed.WAITS if link.reason in GOES_ON else Passed.NO
    found += [Gate(title, Passed.YES) for title, _ in way[:stop]]
    found.append(Gate(way[stop][0], passed, why or sentence_of(link)))
    return [*found, *(Gate(title, Passed.LATER) for title, _ in way[stop + 1 :]), Gate(PLANNED, Passed.LATER)]


def _way(link: RecordLink) -> tuple[tuple[str, tuple[str, ...]], ...]:
    lives = (link.left_life, link.right_life)
    if Life.GONE in lives:
        return _DELETE
    return _UPDATE if all(life in THERE for life in lives) else _CREATE


def _end(link: RecordLink) -> list[Gate]:
    if link.pending is None:
        return [Gate(AGREED, Passed.YES)]
    if link.pending == Pending.PLANNED:
        return [Gate(PLANNED, Passed.WAITS, "A write is planned or under way.")]
    if decode(link.args).get("resolution") or decode(link.args).get("approved"):
        return [Gate(PLANNED, Passed.WAITS, "A person decided; the next run carries it out.")]
    return [Gate(PLANNED, Passed.WAITS, "A side has changed; the next run plans it.")]


def _hub(link: RecordLink, paused: str) -> list[Gate]:
    """What has to work before a run looks at any record."""
    integration, sync = link.integration, link.entity_sync
    off = "" if integration.enabled else f"{integration} is switched off."
    found = [_gate("The integration runs", off or paused)]
    down = [
        f"{system_of(link, side)}: {end.get_state_display().lower()}"
        for side, end in ((LEFT, integration.left), (RIGHT, integration.right))
        if end.state not in WORKING
    ]
    found.append(_gate("Both connections work", ". ".join(down)))
    found.append(_gate(f"The entity sync {sync.name} is on", "" if sync.enabled else "It is switched off."))
    return found


def _gate(title: str, why: str) -> Gate:
    return Gate(title, Passed.NO if why else Passed.YES, why)
