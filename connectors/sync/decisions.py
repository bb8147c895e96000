"""What may a person decide about one link?  Retry, resolve, approve, promote, hold, release: admin, API and command call these.

Each function changes one row by one conditional UPDATE, so that a run that works on the link at the same moment either
comes before the decision or sees it; what a decision means for the records is worked out by the next run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Literal

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import F

from connectors.models import Connection, Event, RecordChange, RecordLink
from connectors.sync import promotions
from connectors.sync.matching import namesakes
from connectors.sync.plan import APPROVAL, DRIFT, UNDONE_HERE, UNTICKED, Life, Pending
from connectors.sync.problems import see
from connectors.sync.proposals import supersede
from connectors.sync.rules import LEFT, OTHER, RIGHT, Side, field_title
from connectors.sync.values import decode, encode

State = RecordLink.State
DELETED_AND_EDITED = "deleted and edited"  # why of a conflict between a delete and an edit
BY_HAND = (Pending.CONFLICT, Pending.PARKED)  # nothing goes on before a person acts


class Undecidable(Exception):
    """The decision does not fit the link as it is now; the sentence says why."""


def retry(link: RecordLink, *, now: datetime, by: str = "") -> None:
    """Plan a parked link again at the next run, because a person has mended the cause."""
    expect(link, link.pending == Pending.PARKED, "it is not parked, so there is nothing to try again")
    decide(link, now, by, "retry", "Asked to try it again.", pending=int(Pending.DIRTY), reason="changed", args="")


class WrongChoice(Undecidable):
    """The choice itself is wrong; `problems` says what at which field."""

    def __init__(self, sentence: str, problems: Mapping[str, str]) -> None:
        super().__init__(sentence)
        self.problems = problems


def resolve(link: RecordLink, winner: str | Mapping[str, str], *, now: datetime, by: str = "") -> None:
    """Settle a conflict, for one side or field by field: the next run writes the winning values to the other side.

    Of a record that was deleted and edited only the living side can win, which makes its partner again; that the delete wins
    is for `approve`.
    """
    expect(link, link.pending == Pending.CONFLICT, "it is not in conflict")
    told = decode(link.args)
    if link.reason != "conflict" or told.get("why") not in (None, "", DELETED_AND_EDITED):
        raise Undecidable(
            f"{named(link)}: this is no conflict of fields but {told.get('why') or link.reason}. "
            "Hold it, or mend the records in their systems."
        )
    if not isinstance(winner, str):
        _resolve_fields(link, dict(winner), told.get("fields"), now, by)
        return
    if winner not in (LEFT, RIGHT):
        raise Undecidable(f"{named(link)}: the winner is left or right, not {winner!r}.")
    if told.get("why") and winner != living(told):
        raise Undecidable(f"{named(link)}: the record on the {winner} was deleted. Approve the delete, or hold it.")
    message = f"Decided the conflict: the {winner} wins."
    if told.get("why"):
        message += f" Its record is made again on the {OTHER[living(told)]}."
    decide(
        link, now, by, "resolved", message, pending=int(Pending.DIRTY), reason="changed",
        args=encode({"resolution": winner}),
    )  # fmt: skip


def _resolve_fields(link: RecordLink, chosen: dict[str, str], fields: object, now: datetime, by: str) -> None:
    """Settle a conflict field by field.  Each field that is in conflict needs its side: nothing is decided by half."""
    apart = [str(name) for name in fields] if isinstance(fields, list) else []
    expect(link, bool(apart), "one of its records was deleted, so its fields can't be chosen one by one")
    problems = {name: "Choose left or right." for name in apart if chosen.get(name) not in (LEFT, RIGHT)}
    problems |= {name: "This field is not in conflict." for name in chosen if name not in apart}
    if problems:
        told = "; ".join(f"{field_title(name)}: {problem}" for name, problem in problems.items())
        raise WrongChoice(f"{named(link)}: {told}", problems)
    by_side = {side: [field_title(n) for n in apart if chosen[n] == side] for side in (LEFT, RIGHT)}
    words = [f"the {side} wins in {', '.join(names)}" for side, names in by_side.items() if names]
    decide(
        link, now, by, "resolved", f"Decided the conflict: {'; '.join(words)}."[:1000], pending=int(Pending.DIRTY),
        reason="changed", args=encode({"resolution": chosen}),
    )  # fmt: skip


def living(told: Mapping[str, object]) -> Side:
    """Return the side where a deleted and edited record lives; the arguments name the side of the deleted one."""
    return OTHER[LEFT if told.get("side") == LEFT else RIGHT]


def living_side(link: RecordLink) -> Side:
    """Return the same of a link."""
    return living(decode(link.args))


def approve(link: RecordLink, *, now: datetime, by: str = "") -> Side | None:
    """Allow what waits for a person: a delete, or what a reconciliation found.

    Returns the side on which the next run removes the record; None where it removes nothing.
    """
    told = decode(link.args)
    side: Side | None = None
    if link.pending == Pending.WAITING and link.reason == APPROVAL:
        if told.get("why") != DRIFT:
            side = LEFT if told.get("side") == LEFT else RIGHT
    elif link.pending == Pending.CONFLICT and told.get("why") == DELETED_AND_EDITED:
        side = living(told)
    else:
        raise Undecidable(f"{named(link)}: nothing waits for approval here.")
    message = f"Approved the delete on the {side}." if side else "Approved what the reconciliation found."
    with transaction.atomic():
        decide(
            link, now, by, "approved", message, pending=int(Pending.DIRTY), reason="changed",
            args=encode({"approved": side}) if side else "",
        )  # fmt: skip
        waiting = RecordChange.objects.filter(link=link, status=RecordChange.Status.PROPOSED)
        supersede(
            waiting.filter(verb__in=["delete", "archive"]) if side else waiting,
            f"Approved by {by or 'a person'}; the next run writes it.",
        )
    return side


def promote(link: RecordLink, *, now: datetime, by: str = "") -> None:
    """Ask for a record of a kind that flows only on request."""
    expect(link, link.reason == "waits for promotion", "it does not wait for a promotion")
    record_id = link.left_id if decode(link.args).get("side") == LEFT else link.right_id
    with transaction.atomic():
        decide(link, now, by, "promoted", "Promoted.", pending=int(Pending.DIRTY), reason="changed", args="")
        try:
            found = promotions.promote(
                link.entity_sync, [record_id or ""], now=now, by=User.objects.filter(username=by).first()
            )
        except promotions.NotPromotable as error:
            raise Undecidable(str(error)) from error
        if not found.queued:
            raise Undecidable(f"{named(link)}: {found.refused.get(record_id or '', 'it has a partner already')}.")


def hold(link: RecordLink, *, now: datetime, by: str = "", why: str = "") -> None:
    """Leave a record alone until it is released: nothing is written to either side."""
    expect(link, link.state in (State.NEW, State.LINKED), f"it is {link.get_state_display().lower()} already")
    sentence = f"Held: {why}" if why else "Held."
    args = encode({"by": by, "why": why})
    decide(
        link, now, by, "held", sentence, pending=int(Pending.SKIPPED), reason="held", args=args, state=State.HELD,
        waits_on=None,
    )  # fmt: skip


def release(link: RecordLink, *, now: datetime, by: str = "") -> None:
    """End a hold: the next run plans the record again."""
    expect(link, link.state == State.HELD and link.reason != "unlinked", "nobody holds it")
    state = State.LINKED if link.base else State.NEW
    if namesakes(link):
        side = LEFT if link.left_id is not None else RIGHT
        decide(
            link, now, by, "released", "Released; a record of the other side may be its partner.", state=state,
            pending=int(Pending.CONFLICT), reason="ambiguous", args=encode({"side": side}),
        )  # fmt: skip
        return
    decide(link, now, by, "released", "Released.", pending=int(Pending.DIRTY), reason="changed", args="", state=state)


def accept(link: RecordLink, *, now: datetime, by: str = "") -> None:
    """Leave an undone record as it is: what each side holds is agreed from now on, and later edits flow again.

    Where a side has no record there is nothing to agree on: then the person who accepts holds it.
    """
    expect(link, link.state == State.HELD and link.reason == "undone", "no undo holds it")
    if not {link.left_life, link.right_life} <= {Life.LIVE, Life.ARCHIVED}:
        args = encode({"by": by, "why": "left as an undo made it"})
        decide(link, now, by, "held", "Left as the undo made it.", reason="held", args=args)
        return
    base = decode(link.base)
    own = {s: {**base, **decode(getattr(link, f"{s}_quirk"))} for s in (LEFT, RIGHT)}
    held = {s: own[s] if (staged := getattr(link, f"{s}_staged")) is None else decode(staged) for s in (LEFT, RIGHT)}
    agreed = {name: held[LEFT].get(name, value) for name, value in base.items() if name not in (UNDONE_HERE, UNTICKED)}
    kept = {
        side: {name: values[name] for name, value in agreed.items() if name in values and values[name] != value}
        for side, values in held.items()
    }
    decide(
        link, now, by, "accepted", "Accepted as it is: both sides keep what they hold.", state=State.LINKED, pending=None,
        reason="", args="", base=encode(agreed), left_staged=None, right_staged=None, left_quirk="",
        right_quirk=encode(kept[RIGHT]) if kept[RIGHT] else "",
    )  # fmt: skip


def many(links: list[RecordLink], decide: Callable[[RecordLink], object]) -> tuple[list[RecordLink], list[str]]:
    """Decide each link for itself.  Returns (those done, one sentence for each that was refused)."""
    done: list[RecordLink] = []
    refused: list[str] = []
    for link in links:
        try:
            decide(link)
        except Undecidable as error:
            refused.append(str(error))
        else:
            done.append(link)
    return done, refused


Choice = Literal[
    "retry", "resolve_left", "resolve_right", "approve", "promote", "join", "not_same", "hold", "release", "accept", "unlink",
    "relink",
]  # fmt: skip


def choices(link: RecordLink) -> list[Choice]:
    """Return what may be decided about this link now."""
    told = decode(link.args)
    found: list[Choice] = []
    if link.pending == Pending.PARKED:
        found.append("retry")
    if link.pending == Pending.CONFLICT and link.reason == "conflict" and not told.get("why"):
        found += ["resolve_left", "resolve_right"]
    if link.pending == Pending.CONFLICT and told.get("why") == DELETED_AND_EDITED:
        found.append("resolve_left" if living(told) == LEFT else "resolve_right")
    if link.reason == "waits for approval" or told.get("why") == DELETED_AND_EDITED:
        found.append("approve")
    if link.reason == "waits for promotion":
        found.append("promote")
    if link.reason == "ambiguous" and link.state == State.NEW:
        found += ["join", "not_same"]
    if link.state == State.HELD:
        found.append("relink" if link.reason == "unlinked" else "release")
        if link.reason == "undone":
            found.append("accept")
    elif link.state in (State.NEW, State.LINKED) and link.pending != Pending.PLANNED:
        found.append("hold")
        if {link.left_life, link.right_life} <= {Life.LIVE, Life.ARCHIVED}:
            found.append("unlink")
    return found


def pause_connection(connection: Connection, *, by: str = "") -> None:
    """Send nothing over this connection until a person resumes it; jobs that need it wait."""
    rows = Connection.objects.filter(pk=connection.pk).exclude(state=Connection.State.PAUSED)
    if not rows.update(state=Connection.State.PAUSED, reason=f"Paused by {by}."[:500] if by else "Paused."):
        raise Undecidable(f"{connection} is paused already.")


def resume_connection(connection: Connection) -> None:
    """End a pause; the next call or check shows whether the credentials still work."""
    rows = Connection.objects.filter(pk=connection.pk, state=Connection.State.PAUSED)
    if not rows.update(state=Connection.State.NEW, reason=""):
        raise Undecidable(f"{connection} is not paused.")


def named(link: RecordLink) -> str:
    """Return a link as sentences name it."""
    return f"{link.entity_sync.name} {link.left_id or '-'} = {link.right_id or '-'}"


def expect(link: RecordLink, holds: bool, otherwise: str) -> None:
    """Raise Undecidable with the sentence where it does not hold."""
    if not holds:
        raise Undecidable(f"{named(link)}: {otherwise}.")


def decide(link: RecordLink, now: datetime, by: str, code: str, message: str, **columns: object) -> None:
    """Change one link by one conditional UPDATE, and tell it.  Raises Undecidable where it has changed meanwhile."""
    if link.ended:
        raise Undecidable(f"{named(link)}: the link is over.")
    if link.pending == Pending.PLANNED:
        raise Undecidable(f"{named(link)}: a write is planned or under way. Wait for the run to end.")
    with transaction.atomic():
        rows = RecordLink.objects.filter(pk=link.pk, revision=link.revision, pending=link.pending)
        # By two: a planner that read the link just before marks its write with revision + 1, which must not fit any more.
        if not rows.update(revision=F("revision") + 2, **columns):
            raise Undecidable(f"{named(link)}: it has changed meanwhile. Look at it again.")
        if columns.get("pending") == int(Pending.CONFLICT):
            see(RecordLink.objects.filter(pk=link.pk), now)
        Event.objects.create(
            integration_id=link.integration_id, scope_id=link.scope_id, link=link, code=code, message=message,
            actor=by[:150], at=now,
        )  # fmt: skip
    link.refresh_from_db()
