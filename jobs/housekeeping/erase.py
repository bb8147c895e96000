"""How are one person's values taken out of logs and history?  Ids and counts stay, so that everything still adds up.

What belongs to the record's own link is emptied as a whole.  In rows that only mention the person (events, jobs, messages)
the values are replaced.  Values that the two systems keep in agreement stay on the link for as long as the record syncs.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.db.models import Model, Q, QuerySet

from connectors.models import (
    ApiCall,
    EntitySync,
    Event,
    Integration,
    ProblemGroup,
    Promotion,
    RecordChange,
    RecordLink,
    Run,
    Scope,
)
from connectors.sync.proposals import supersede
from connectors.transport import redaction
from jobs.models import Alert, AlertMessage, Job, JobTransition, name_of
from jobs.syncing import NotNow

if TYPE_CHECKING:
    from jobs.models import Person

MARK = "[erased]"
SHORTEST = 4  # characters: shorter values are no one's alone, and stand in every second sentence
BLOCK = 500
HISTORY = ("before", "after", "lost", "sent", "left_out")
ALIVE = (RecordLink.State.NEW, RecordLink.State.LINKED, RecordLink.State.HELD)


@dataclass(frozen=True)
class Erased:
    """What was taken out."""

    rows: Mapping[str, int]  # by kind of row
    kept: bool  # the record still syncs, so its present values stay on its link

    def __str__(self) -> str:
        told = ", ".join(f"{count} {kind}" for kind, count in self.rows.items() if count) or "nothing was there"
        stays = " Its present values stay on its link, because it still syncs." if self.kept else ""
        return f"Erased: {told}.{stays}"


def erase(
    sync: EntitySync, side: str, record_id: str, *, by: Person, now: datetime, values: Sequence[str] = ()
) -> Erased:
    """Take the values of one record out.  `values` are further ones that a person gives.

    Raises NotNow where nothing is known of the record, and while a write of it is under way.
    """
    links = list(_links(sync, side, record_id))
    if not links and not values:
        raise NotNow(
            f"{sync.integration} knows no record {record_id} on the {side} of {sync}. Give what to erase by --value."
        )
    changes = RecordChange.objects.filter(link__in=links)
    if changes.filter(open__isnull=False).exists():
        raise NotNow(
            f"A write of {sync} {record_id} is under way or its outcome is not known. Let a run end, then erase."
        )
    wanted = _pattern({*_personal(links, changes), *(value for value in values if value.strip())})
    removed: Counter[str] = Counter()
    # The mentions first: what tells them is emptied last, so that an erasure that was broken off can be repeated.
    for kind, rows, columns in _mentions(sync.integration):
        removed[kind] += _replace(rows, columns, wanted)
    with transaction.atomic():
        # A proposal without its values is none any more: approved, it would write something else than what was shown.
        supersede(changes.filter(status__in=[RecordChange.Status.PROPOSED, RecordChange.Status.DROPPED]), "")
        removed["changes"] += changes.update(message="", **dict.fromkeys(HISTORY, ""))
        removed["events of the record"] += Event.objects.filter(link__in=links).update(message=MARK, args={})
        kept = [link for link in links if _syncs(link)]
        removed["links"] += _empty([link for link in links if not _syncs(link)])
        done = Erased(removed, kept=bool(kept))
        Event.objects.create(
            integration=sync.integration, level=Event.Level.WARNING, code="erased", at=now, actor=name_of(by),
            message=f"The values of {sync} {record_id} ({side}) were erased from logs and history. {done}"[:1000],
            args={"entity_sync": sync.name, "side": side, "record": record_id, "rows": dict(removed)},
        )  # fmt: skip
    return done


def _links(sync: EntitySync, side: str, record_id: str) -> QuerySet[RecordLink]:
    """Return every link the record has had, also under another entity sync of its family."""
    entity = sync.left_entity if side == "left" else sync.right_entity
    return RecordLink.objects.filter(
        **{f"{side}_id": record_id, f"{side}_entity": entity}, integration=sync.integration_id, family=sync.family
    )


def _syncs(link: RecordLink) -> bool:
    lives = link.Life.LIVE in (link.left_life, link.right_life) or link.Life.ARCHIVED in (
        link.left_life,
        link.right_life,
    )
    return link.ended == 0 and link.state in ALIVE and lives


def _empty(links: Sequence[RecordLink]) -> int:
    nothing: dict[str, Any] = {"base": "", "args": ""}
    for side in ("left", "right"):
        nothing |= {f"{side}_staged": None, f"{side}_quirk": "", f"{side}_match": "", f"{side}_match2": None}
    return RecordLink.objects.filter(pk__in=[link.pk for link in links]).update(**nothing)


# The values


def _personal(links: Sequence[RecordLink], changes: QuerySet[RecordChange]) -> Iterator[str]:
    """Give the texts that tell who it is: fields by whose names the log's redaction goes, too, and e-mail addresses."""
    texts = [
        text
        for link in links
        for text in (link.base, link.left_staged, link.right_staged, link.left_quirk, link.right_quirk)
    ]
    for row in changes.values_list(*HISTORY).iterator(chunk_size=BLOCK):
        texts += row
    for text in filter(None, texts):
        for name, value in _flat("", json.loads(text)):
            if len(value) >= SHORTEST and (redaction.personal(name) or redaction.text(value) != value):
                yield value


def _flat(name: str, value: object) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield name, value.strip()
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(f"{name} {key}", inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _flat(name, inner)


def _pattern(values: set[str]) -> re.Pattern[str] | None:
    """Return what finds the values as whole words, also as JSON escapes them; the longest first."""
    forms = {form for value in values for form in (value, json.dumps(value)[1:-1])}
    if not forms:
        return None
    ordered = sorted(forms, key=len, reverse=True)
    return re.compile("|".join(rf"(?<!\w){re.escape(form)}(?!\w)" for form in ordered), re.IGNORECASE)


# The mentions


def _mentions(integration: Integration) -> list[tuple[str, QuerySet[Any], tuple[str, ...]]]:
    """Return the rows of an integration in which texts from outside may stand."""
    jobs = Q(scope__integration=integration)
    ends = (integration.left_id, integration.right_id)
    return [
        ("events", Event.objects.filter(integration=integration), ("message", "args")),
        ("API calls", ApiCall.objects.filter(connection__in=ends), ("path", "body")),
        (
            "jobs",
            Job.objects.filter(jobs),
            ("params", "results", "progress", "error_message", "cancel_reason", "aside_note"),
        ),
        ("timelines", JobTransition.objects.filter(job__scope__integration=integration), ("reason",)),
        ("runs", Run.objects.filter(integration=integration), ("error", "guard")),
        ("problems", ProblemGroup.objects.filter(integration=integration), ("message",)),
        ("scopes", Scope.objects.filter(integration=integration), ("last_error", "disabled_reason")),
        ("promotions", Promotion.objects.filter(entity_sync__integration=integration), ("reason",)),
        (
            "messages of changes",
            RecordChange.objects.filter(entity_sync__integration=integration).exclude(message=""),
            ("message",),
        ),
        ("alerts", Alert.objects.filter(integration=integration), ("text",)),
        ("messages", AlertMessage.objects.all(), ("subject", "body", "alerts")),
    ]


def _replace(rows: QuerySet[Any], columns: tuple[str, ...], wanted: re.Pattern[str] | None) -> int:
    """Replace the values in these columns, block by block; return how many rows held any."""
    if wanted is None:
        return 0
    changed, last = 0, 0
    while block := list(rows.filter(pk__gt=last).order_by("pk").only("pk", *columns)[:BLOCK]):
        held = [row for row in block if _scrub(row, columns, wanted)]
        if held:
            type(held[0])._default_manager.bulk_update(held, columns)
        changed, last = changed + len(held), block[-1].pk
    return changed


def _scrub(row: Model, columns: tuple[str, ...], wanted: re.Pattern[str]) -> bool:
    changed = False
    for name in columns:
        before = getattr(row, name)
        after = _without(before, wanted)
        if after != before:
            length = getattr(row._meta.get_field(name), "max_length", None)
            setattr(row, name, after[:length] if isinstance(after, str) else after)
            changed = True
    return changed


def _without(value: Any, wanted: re.Pattern[str]) -> Any:
    if isinstance(value, str):
        return wanted.sub(MARK, value)
    if isinstance(value, dict):
        return {key: _without(inner, wanted) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without(inner, wanted) for inner in value]
    return value
