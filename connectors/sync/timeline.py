"""What happened to one record?  Changes, events, people's decisions and requests, newest first, a page at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from django.db.models import Q, QuerySet

from connectors.models import ApiCall, Event, RecordChange, RecordLink

PER_PAGE = 30
MOST_RUNS = 50  # runs whose requests are looked through
READING = ("GET", "HEAD")


class Kind(StrEnum):
    """What an entry is."""

    CHANGE = "change"
    PERSON = "person"
    EVENT = "event"
    CALL = "call"


LABELS = {Kind.CHANGE: "Changes", Kind.PERSON: "People", Kind.EVENT: "Events", Kind.CALL: "Requests"}
# Requests are many and seldom wanted: they come only when they are asked for.
USUAL = (Kind.CHANGE, Kind.PERSON, Kind.EVENT)
_RANK = {kind: place for place, kind in enumerate(Kind)}  # of two at the same moment


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that happened."""

    kind: Kind
    at: datetime
    row: Any  # the RecordChange, Event or ApiCall

    @property
    def place(self) -> tuple[datetime, int, int]:
        """Where it stands: newest first."""
        return (self.at, _RANK[self.kind], int(self.row.pk))

    @property
    def cursor(self) -> str:
        """What `before` takes to go on after this entry."""
        return f"{self.at.isoformat()}~{self.kind}~{self.row.pk}"


class BadCursor(ValueError):
    """No page of ours has sent this."""


def timeline(
    link: RecordLink, kinds: Sequence[Kind] = USUAL, before: str = "", size: int = PER_PAGE
) -> tuple[list[Entry], str]:
    """Return (a page of what happened, the cursor of the next page or "").  Raises BadCursor."""
    start = _parsed(before) if before else None
    found: list[Entry] = []
    for kind in kinds:
        rows = _SOURCES[kind](link)
        if start is not None:
            rows = rows.filter(_older(start, kind))
        found += [Entry(kind, row.at, row) for row in rows.order_by("-at", "-id")[: size + 1]]
    found.sort(key=lambda entry: entry.place, reverse=True)
    return found[:size], found[size - 1].cursor if len(found) > size else ""


def _parsed(before: str) -> tuple[datetime, int, int]:
    at, _, rest = before.partition("~")
    kind, _, number = rest.partition("~")
    try:
        moment = datetime.fromisoformat(at)
        place = (moment, _RANK[Kind(kind)], int(number))
    except ValueError as error:
        raise BadCursor("There is no such place in the timeline.") from error
    if moment.tzinfo is None or not 0 <= place[2] < 2**63:
        raise BadCursor("There is no such place in the timeline.")
    return place


def _older(start: tuple[datetime, int, int], kind: Kind) -> Q:
    at, rank, number = start
    if _RANK[kind] < rank:
        return Q(at__lte=at)
    return Q(at__lt=at) | Q(at=at, id__lt=number) if _RANK[kind] == rank else Q(at__lt=at)


def _changes(link: RecordLink) -> QuerySet[Any]:
    return RecordChange.objects.filter(link=link).select_related("run", "decided_by")


def _people(link: RecordLink) -> QuerySet[Any]:
    return Event.objects.filter(link=link).exclude(actor="")


def _events(link: RecordLink) -> QuerySet[Any]:
    return Event.objects.filter(link=link, actor="").select_related("run")


def _calls(link: RecordLink) -> QuerySet[Any]:
    """Requests that name the record, and every write of the runs that wrote it: a batch does not name what is in it."""
    runs = RecordChange.objects.filter(link=link).order_by("-id").values_list("run", flat=True)[: MOST_RUNS * 2]
    ids = list(dict.fromkeys(runs))[:MOST_RUNS]
    wanted = ~Q(method__in=READING)
    for record_id in (link.left_id, link.right_id):
        if record_id:
            wanted |= Q(path__contains=record_id)
    ends = (link.integration.left_id, link.integration.right_id)
    return ApiCall.objects.filter(wanted, run_id__in=ids, connection__in=ends).select_related("connection")


_SOURCES: dict[Kind, Callable[[RecordLink], QuerySet[Any]]] = {
    Kind.CHANGE: _changes,
    Kind.PERSON: _people,
    Kind.EVENT: _events,
    Kind.CALL: _calls,
}
