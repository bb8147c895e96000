"""Which records wait for a person to choose, what do both sides hold, and has it changed since somebody looked?"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from django.db.models import OuterRef, Q, QuerySet

from connectors.models import EntitySync, Event, RecordLink
from connectors.sync.decisions import DELETED_AND_EDITED, Undecidable, named
from connectors.sync.explain import now_of
from connectors.sync.plan import Pending
from connectors.sync.problems import CountedRows
from connectors.sync.rules import LEFT, RIGHT, field_title
from connectors.sync.values import Canonical, decode, encode

MOST_COUNTED = 10_000
MOST_AT_ONCE = 1000  # records of one bulk decision: each is a transaction of its own
CONFLICT = int(Pending.CONFLICT)


class Kind(StrEnum):
    """What a person is asked about a record."""

    FIELDS = "fields"
    DELETED = "deleted"
    AMBIGUOUS = "ambiguous"
    MERGED = "merged"


LABELS = {
    Kind.FIELDS: "Changed on both sides",
    Kind.DELETED: "Deleted and edited",
    Kind.AMBIGUOUS: "Could be the same",
    Kind.MERGED: "Merged on one side",
}
_EDITED = Q(args__contains=f'"why":"{DELETED_AND_EDITED}"')
WHERE = {
    Kind.FIELDS: Q(reason="conflict") & ~_EDITED,
    Kind.DELETED: Q(reason="conflict") & _EDITED,
    Kind.AMBIGUOUS: Q(reason="ambiguous"),
    Kind.MERGED: Q(reason="merged"),
}


class Stale(Undecidable):
    """The record is no longer as it was shown; the sentence says what has changed."""


@dataclass(frozen=True, slots=True)
class Line:
    """One field about which both sides disagree."""

    name: str
    left: Canonical
    base: Canonical
    right: Canonical


def kind_of(link: RecordLink) -> Kind | None:
    """Return what is asked about a record; None where nothing is."""
    if link.pending != CONFLICT or link.ended:
        return None
    if link.reason == "conflict":
        return Kind.DELETED if decode(link.args).get("why") == DELETED_AND_EDITED else Kind.FIELDS
    return Kind(link.reason) if link.reason in (Kind.AMBIGUOUS, Kind.MERGED) else None


def lines_of(link: RecordLink) -> list[Line]:
    """Return the fields in conflict with what each side holds and what both last agreed on."""
    names = decode(link.args).get("fields")
    if kind_of(link) is not Kind.FIELDS or not isinstance(names, list):
        return []
    base, now = decode(link.base), {side: now_of(link, side) for side in (LEFT, RIGHT)}
    return [Line(name, now[LEFT].get(name), base.get(name), now[RIGHT].get(name)) for name in map(str, names)]


# Has it changed since somebody looked?


def seen_of(link: RecordLink) -> str:
    """Return what a page keeps of a conflict that it shows, so that a decision about another one is refused."""
    fields = {line.name: [_mark(line.left), _mark(line.right)] for line in lines_of(link)}
    return encode({"kind": kind_of(link) or "", "fields": fields, "revision": 0 if fields else link.revision})


def check_seen(link: RecordLink, seen: str) -> None:
    """Raise Stale where the record is no longer as it was shown."""
    kind = kind_of(link)
    if kind is None:
        raise Stale(f"{named(link)}: it is not in conflict any more. {last_word(link)}".strip())
    try:
        told = json.loads(seen)
        before = {str(name): (str(left), str(right)) for name, (left, right) in told["fields"].items()}
        same_kind, revision = told["kind"] == kind, told["revision"]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise Stale("This page can't be read any more. Load it again.") from error
    changed = _changed(before, lines_of(link)) if same_kind else [f"now it is: {LABELS[kind].lower()}"]
    if not changed and kind is not Kind.FIELDS and revision != link.revision:
        changed = ["one of its records has changed"]
    if changed:
        raise Stale(f"{named(link)} has changed since you opened the page: {'; '.join(changed)}. Look at it again.")


def last_word(link: RecordLink) -> str:
    """Return what was decided about a record last, and by whom."""
    event = Event.objects.filter(link=link).exclude(actor="").order_by("-id").first()
    return f"{event.message.rstrip('.')}, by {event.actor}." if event is not None else ""


def _changed(before: Mapping[str, tuple[str, str]], lines: Iterable[Line]) -> list[str]:
    now = {line.name: line for line in lines}
    found: list[str] = []
    for name, line in now.items():
        if name not in before:
            found.append(f"{field_title(name)}: in conflict now, too")
            continue
        for side, mark, value in zip((LEFT, RIGHT), before[name], (line.left, line.right), strict=True):
            if mark != _mark(value):
                found.append(f"{field_title(name)}: the {side} now holds {_short(value)}")
    return [*found, *(f"{field_title(name)}: both sides agree by now" for name in before if name not in now)]


def _mark(value: Canonical) -> str:
    return hashlib.sha256(encode(value).encode()).hexdigest()[:10]


def _short(value: Canonical) -> str:
    if value in (None, ""):
        return "nothing"
    text = str(value)
    if isinstance(value, list | dict) or text.startswith(("@", "?")):
        return "something else"
    return text if len(text) <= 60 else f"{text[:60]}…"


# Finding them


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which conflicts somebody looks at."""

    integration: int | None = None
    entity_sync: int | None = None
    kind: Kind | None = None

    def syncs(self) -> QuerySet[EntitySync]:
        """Return the entity syncs that are looked at, in the order of the list."""
        rows = EntitySync.objects.select_related("integration__left", "integration__right")
        if self.integration is not None:
            rows = rows.filter(integration=self.integration)
        if self.entity_sync is not None:
            rows = rows.filter(pk=self.entity_sync)
        return rows.order_by("integration__name", "integration", "position", "pk")

    def links(self) -> QuerySet[RecordLink]:
        """Return the conflicts; by entity sync the index on `pending` finds them."""
        rows = RecordLink.objects.filter(pending=CONFLICT, ended=0)
        return rows.filter(WHERE[self.kind]) if self.kind is not None else rows


def counted(wanted: Wanted, most: int = MOST_COUNTED) -> list[tuple[EntitySync, int]]:
    """Return the entity syncs that have such conflicts and how many, each counted to one more than `most`: one query."""
    rows = wanted.links().filter(entity_sync=OuterRef("pk")).order_by()
    syncs = wanted.syncs().annotate(conflicts=CountedRows(rows.values("pk")[: most + 1]))
    return [(sync, sync.conflicts) for sync in syncs if sync.conflicts]


def page(
    wanted: Wanted, syncs: Sequence[EntitySync], size: int, after: tuple[int, int] | None = None
) -> list[RecordLink]:
    """Return the next conflicts in the order of entity syncs, then of age: after (entity sync, link), by index."""
    order = [sync.pk for sync in syncs]
    start = order.index(after[0]) if after is not None and after[0] in order else 0
    found: list[RecordLink] = []
    for sync in syncs[start:]:
        rows = wanted.links().filter(entity_sync=sync.pk)
        if after is not None and sync.pk == after[0]:
            rows = rows.filter(pk__gt=after[1])
        block = list(rows.order_by("pk")[: size - len(found)])
        for link in block:
            link.entity_sync, link.integration = sync, sync.integration
        found += block
        if len(found) >= size:
            break
    return found


def chosen(wanted: Wanted, ids: Sequence[int] | None, most: int = MOST_AT_ONCE) -> tuple[list[RecordLink], int]:
    """Return (the conflicts that a bulk decision is about, at most so many; how many there are, counted to 10,001).

    `ids`: those that were ticked, whatever became of them since; None: all that the filter finds.
    """
    if ids is not None:
        rows = RecordLink.objects.filter(pk__in=list(ids)[:most]).select_related(
            "entity_sync", "integration__left", "integration__right"
        )
        found = list(rows.order_by("pk"))
        return found, len(found)
    there = counted(wanted)
    total = min(sum(count for _, count in there), MOST_COUNTED + 1)
    return page(wanted, [sync for sync, _ in there], most), total


def print_of(links: Iterable[RecordLink], total: int) -> str:
    """Return what identifies a selection as it was shown: other records, or changed ones, give another."""
    told = f"{total};" + ";".join(f"{link.pk}:{link.revision}" for link in links)
    return hashlib.sha256(told.encode()).hexdigest()[:24]
