"""What may a person ask for single records: read them again, try them again, decide many conflicts, see why one stands still?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from django.db import transaction

from connectors.models import Event, Integration, RecordLink
from connectors.sync import decisions
from connectors.sync.conflicts import Kind, check_seen, kind_of
from connectors.sync.explain import linked_by, queued_of, sentence_of
from connectors.sync.gates import Gate, gates_of
from connectors.sync.plan import Pending
from connectors.sync.retrying import LABELS, How
from connectors.sync.rules import LEFT, RIGHT
from connectors.sync.undo import last_write
from jobs import clock, dispatch
from jobs.housekeeping import erase as erasing
from jobs.models import Job, Pause, name_of
from jobs.states import Priority
from jobs.syncing import NotNow, lock_key, request_sync, request_undo, switched_off

if TYPE_CHECKING:
    from jobs.models import Person

Choice = str  # left, right, again, delete, hold
CHOICES: Mapping[Choice, str] = {
    "left": "The left wins",
    "right": "The right wins",
    "again": "Make the deleted record again",
    "delete": "Delete the other one, too",
    "hold": "Hold: leave both as they are",
}
FITS = {
    Kind.FIELDS: ("left", "right", "hold"),
    Kind.DELETED: ("again", "delete", "hold"),
    Kind.AMBIGUOUS: ("hold",),
    Kind.MERGED: ("hold",),
}


# One record, tried again


def retryable(link: RecordLink, how: How) -> bool:
    """Whether a record can be tried again in this way."""
    return not _refusal(link, how)


def _refusal(link: RecordLink, how: How) -> str:
    if link.ended:
        return "the link is over"
    if link.state == RecordLink.State.HELD:
        return "somebody holds it. Let it go on first"
    if link.pending == Pending.PLANNED:
        return "a write is planned or under way. Wait for the run to end"
    if how is not How.REREAD and link.pending != Pending.PARKED:
        return "it is not parked, so there is nothing to try again. Read it again instead"
    return ""


def try_again(link: RecordLink, how: How, *, by: Person = None, here: bool = False) -> Job:
    """Ask for a run that tries one record again: as it was, by today's mapping, or after reading both sides again.

    Raises Undecidable, and NotNow where nothing runs.
    """
    if why := _refusal(link, how):
        raise decisions.Undecidable(f"{decisions.named(link)}: {why}.")
    scope = link.scope
    if off := switched_off(scope.integration, scope):
        raise NotNow(off)
    dedupe_key = f"retry:{scope.pk}:link{link.pk}:{how}"
    with transaction.atomic():
        known = Job.objects.open().filter(dedupe_key=dedupe_key).exists()
        job = dispatch.request(
            "sync", params={"mode": "delta", "purpose": "sync", "entities": [], "retry": {"links": [link.pk], "how": str(how)}},
            lock_key=lock_key(scope), dedupe_key=dedupe_key, priority=Priority.PERSON, by=by, scope=scope, here=here,
        )  # fmt: skip
        if not known:  # a second click asks for nothing new
            Event.objects.create(
                integration_id=link.integration_id, scope=scope, link=link, code="asked again", actor=name_of(by)[:150],
                at=clock.now(), message=f"Asked: {LABELS[how].lower()} (job {job.pk}).",
            )  # fmt: skip
    return job


def undo_last(link: RecordLink, *, by: Person = None, here: bool = False) -> Job:
    """Ask for a run that proposes to take back what was written of a record last; a person approves it.

    Raises Undecidable where there is nothing, NotNow where it can't be begun.
    """
    change = last_write(link)
    if change is None:
        raise decisions.Undecidable(f"{decisions.named(link)}: the log holds no write that could be undone.")
    if link.state == RecordLink.State.HELD:
        raise decisions.Undecidable(f"{decisions.named(link)}: somebody holds it. Let it go on first.")
    return request_undo(change.run, only=link, by=by, here=here)


def erase(link: RecordLink, *, by: Person = None) -> erasing.Erased:
    """Take a record's personal values out of logs and history.  Raises NotNow while a write of it is under way."""
    side = LEFT if link.left_id else RIGHT
    return erasing.erase(link.entity_sync, side, getattr(link, f"{side}_id") or "", by=by, now=clock.now())


# Conflicts


@dataclass
class Decided:
    """What became of a decision about several conflicts."""

    done: list[RecordLink] = field(default_factory=list)
    refused: list[tuple[RecordLink, str]] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # why no sync was asked for


def decision(choice: Choice, by: str) -> Callable[[RecordLink], None]:
    """Return what carries out a choice about one record; it raises Undecidable where the choice does not fit."""
    now = clock.now()

    def decide(link: RecordLink) -> None:
        kind = kind_of(link)
        if kind is None:
            raise decisions.Undecidable(f"{decisions.named(link)}: it is not in conflict any more.")
        if choice not in FITS[kind]:
            raise decisions.Undecidable(f"{decisions.named(link)}: {unfit(kind)}")
        if choice in (LEFT, RIGHT):
            decisions.resolve(link, choice, now=now, by=by)
        elif choice == "again":
            decisions.resolve(link, decisions.living_side(link), now=now, by=by)
        elif choice == "delete":
            decisions.approve(link, now=now, by=by)
        else:
            decisions.hold(link, now=now, by=by, why="left as it is in a conflict")

    return decide


def unfit(kind: Kind) -> str:
    """Say what can be decided about such a conflict instead."""
    return {
        Kind.FIELDS: "no record was deleted here; choose a side.",
        Kind.DELETED: "one record was deleted and the other edited: make it again, or delete the other, too.",
        Kind.AMBIGUOUS: "a person joins the records, or says that they are not the same.",
        Kind.MERGED: "it was merged on one side. Merge it on the other, too, or hold it.",
    }[kind]


def decide_conflicts(links: Sequence[RecordLink], choice: Choice, *, by: Person = None, sync: bool = True) -> Decided:
    """Decide each conflict for itself; then ask once for each integration's sync, which carries it out."""
    found = Decided()
    decide = decision(choice, name_of(by))
    integrations = {
        link.integration_id: link.integration for link in links
    }  # a decided row is read anew, without its relations
    for link in links:
        try:
            decide(link)
        except decisions.Undecidable as error:
            found.refused.append((link, str(error)))
        else:
            found.done.append(link)
    if found.done and sync and choice != "hold":
        touched = {link.integration_id for link in found.done}
        follow(found, {pk: one for pk, one in integrations.items() if pk in touched}, by)
    return found


def decide_conflict(
    link: RecordLink, choice: Choice | Mapping[str, str], *, seen: str = "", by: Person = None, sync: bool = True
) -> Decided:
    """Decide one conflict, as a whole or field by field, where it is still as it was seen.  Raises Undecidable, Stale."""
    if seen:
        check_seen(link, seen)
    if isinstance(choice, str):
        decision(choice, name_of(by))(link)
    else:
        decisions.resolve(link, choice, now=clock.now(), by=name_of(by))
    found = Decided(done=[link])
    if sync and choice != "hold":
        follow(found, {link.integration_id: link.integration}, by)
    return found


def follow(found: Decided, integrations: Mapping[int, Integration], by: Person, *, here: bool = False) -> None:
    """Ask for one sync of each of these integrations; one that is switched off says so."""
    for integration in integrations.values():
        try:
            found.jobs.append(request_sync(integration, by=by, here=here))
        except NotNow as refusal:
            found.notes.append(str(refusal))


# Why does it stand still?


def gates(link: RecordLink) -> list[Gate]:
    """Return the gates that a record passes, and what holds back every job of its integration."""
    off = switched_off(link.integration, link.scope)
    waited = linked_by([link.waits_on]) if link.waits_on else {}
    sentence = sentence_of(link, waited, queued_of([link]).get(link.pk))
    return gates_of(link, paused=off or _pause(link), why=sentence)


def _pause(link: RecordLink) -> str:
    ends = (link.integration.left_id, link.integration.right_id)
    for pause in Pause.objects.active(clock.now()).select_related("connection"):
        if pause.kind == Pause.Kind.HUB or (pause.kind == Pause.Kind.TYPE and pause.job_type == "sync"):
            return f"Jobs are paused: {pause.reason}"
        if pause.kind == Pause.Kind.CONNECTION and pause.connection_id in ends:
            return f"Jobs over {pause.connection} are paused: {pause.reason}"
    return ""
