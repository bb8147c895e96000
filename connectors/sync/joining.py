"""Are these two records one?  A person says so (join), or not (not the same), or takes two that were one apart (unlink)."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from django.db import transaction
from django.db.models import F, Max, Q, Value
from django.db.models.functions import Replace

from connectors.models import EntitySync, Promotion, RecordChange, RecordLink, Run, Scope, Stranger
from connectors.sync.decisions import decide, expect, named
from connectors.sync.matching import NOTHING, bounds_of, elsewhere, leave_to, namesakes, strangers
from connectors.sync.plan import Pending
from connectors.sync.problems import see
from connectors.sync.rules import LEFT, OTHER, RIGHT, Side, match_hashes
from connectors.sync.values import decode, encode

State = RecordLink.State
CHANGE_TEXTS = ("before", "after", "lost")
TEXTS = ("base", "left_staged", "left_quirk", "right_staged", "right_quirk")
MOST = 50  # candidates of one record that are shown


def candidates(link: RecordLink) -> list[RecordLink]:
    """Return the links whose records may be this one's partner: those that were named, and those that match exactly."""
    if link.ended or link.reason != "ambiguous":
        return []
    own = _side_of(link)
    told = decode(link.args).get("candidates")
    ids = [int(c["link"]) for c in told if isinstance(c, dict)] if isinstance(told, list) else []
    ids = list(dict.fromkeys([*ids, *namesakes(link)]))
    rows = RecordLink.objects.filter(
        pk__in=ids, entity_sync=link.entity_sync_id, ended=0, **{f"{own}_id": None}
    ).select_related("entity_sync")
    apart = strangers([link.entity_sync_id], own, [getattr(link, f"{own}_id")])
    triple = (link.entity_sync_id, getattr(link, f"{own}_id"))
    found = {c.pk: c for c in rows if (*triple, getattr(c, f"{OTHER[own]}_id")) not in apart}
    return [found[pk] for pk in ids if pk in found][:MOST]


def join(link: RecordLink, other: RecordLink, *, now: datetime, by: str = "") -> RecordLink:
    """Make two records partners: one link goes on, the other is over; the next run merges them as at a first meeting.

    Returns the link that goes on.
    """
    for one in (link, other):
        expect(one, not one.ended, "its link is over")
        expect(one, not elsewhere(one.reason, one.args), "its record is left out here, or has its partner elsewhere")
    expect(
        link, link.entity_sync_id == other.entity_sync_id and link.scope_id == other.scope_id, "that is another kind"
    )
    # Looking at every link's values takes a while, in which nobody else should have to wait for this transaction.
    seen = _Referring.look(link.integration_id, _over(link, other).key)
    with transaction.atomic():
        # Runs stage under this lock: none looks up a record's link between the end of that link and what it is replaced by.
        list(Scope.objects.select_for_update().filter(pk=link.scope_id).values_list("pk"))
        for one, two in ((link, other), (other, link)):
            if one.state == State.HELD and one.reason == "unlinked" and one.left_id and one.right_id:
                _split(one, _side_of(two), now, by)
        left, right = (link, other) if link.left_id is not None else (other, link)
        alone = left.right_id is None and right.left_id is None and right.right_id is not None
        expect(link, alone, f"{named(other)} and it are not one record on each side, both without a partner")
        return _joined(left, right, seen, now, by)


def _over(link: RecordLink, other: RecordLink) -> RecordLink:
    """Return which of two links will be over: the one that the right record comes from."""
    alone = [one for one in (link, other) if one.left_id is None]
    return (alone or [one for one in (link, other) if one.right_id is not None] or [other])[0]


def _joined(left: RecordLink, right: RecordLink, seen: _Referring, now: datetime, by: str) -> RecordLink:
    freed = [c for one in (left, right) for c in candidates(one) if c.pk not in (left.pk, right.pk)]
    taken = {f"right_{name}": getattr(right, f"right_{name}") for name in NOTHING}
    bounds = bounds_of(left.reason, left.args) or bounds_of(right.reason, right.args)
    decide(
        right, now, by, "joined", f"Joined with {named(left)}: this link is over.", state=State.ENDED, ended=right.pk,
        pending=None, reason="", args="", waits_on=None,
    )  # fmt: skip
    decide(
        left, now, by, "joined", f"{named(left)} and {named(right)} are one record.", state=State.NEW,
        pending=int(Pending.SKIPPED if bounds else Pending.DIRTY), reason="outside" if bounds else "changed", args=bounds,
        waits_on=None, settings_revision=min(left.settings_revision, right.settings_revision), **taken,
    )  # fmt: skip
    Stranger.objects.filter(
        entity_sync=left.entity_sync_id, left_id=left.left_id, right_id=left.right_id or ""
    ).delete()
    Promotion.objects.filter(link=right).update(link=left)
    sync = left.entity_sync
    rivals = EntitySync.objects.filter(
        integration=sync.integration_id, left_entity=sync.left_entity, right_entity=sync.right_entity
    ).exclude(family=sync.family)
    leave_to(dict(rivals.values_list("pk", "family")), sync.integration_id, [left.pk])
    _point_to(left, right.key, seen, now)
    _free(freed, now, by)
    return left


@dataclass(frozen=True)
class _Referring:
    """The links that refer to another one, as they were at a moment."""

    key: str
    links: list[int]
    moment: tuple[int, int] | None  # newest run and newest link; None: runs were under way

    @classmethod
    def look(cls, integration: int, key: str) -> _Referring:
        """Find them by their values: no index tells."""
        moment = cls._moment(integration)
        rows = RecordLink.objects.filter(_mentions(key, TEXTS), integration=integration, ended=0)
        return cls(key, list(rows.values_list("pk", flat=True)), moment)

    def now(self, integration: int, key: str) -> list[int]:
        """Return those of now: only runs make links refer to others, so without one they are still the same."""
        if key == self.key and self.moment is not None and self.moment == self._moment(integration):
            return self.links
        return self.look(integration, key).links

    @staticmethod
    def _moment(integration: int) -> tuple[int, int] | None:
        runs = Run.objects.filter(integration=integration)
        if runs.filter(finished_at=None).exists():
            return None
        links = RecordLink.objects.filter(integration=integration)
        return runs.aggregate(n=Max("pk"))["n"] or 0, links.aggregate(n=Max("pk"))["n"] or 0


def _mentions(key: str, columns: Iterable[str]) -> Q:
    found = Q()
    for name in columns:
        found |= Q(**{f"{name}__contains": f'"@{key}"'})
    return found


def _point_to(link: RecordLink, old: str, seen: _Referring, now: datetime) -> None:
    """What referred to the link that is over refers to the one that goes on, and may find its own partner by it."""
    RecordLink.objects.filter(waits_on__in=[old, link.key]).exclude(
        Q(pending=Pending.PLANNED) | Q(state__in=[State.HELD, State.ENDED, State.DISCONNECTED])
    ).update(pending=int(Pending.DIRTY), reason="changed", waits_on=None, revision=F("revision") + 2)
    referring = seen.now(link.integration_id, old)
    renamed = {name: Replace(F(name), Value(f"@{old}"), Value(f"@{link.key}")) for name in (*TEXTS, *CHANGE_TEXTS)}
    for start in range(0, len(referring), 500):
        rows = RecordLink.objects.filter(pk__in=referring[start : start + 500])
        rows.update(**{name: renamed[name] for name in TEXTS}, revision=F("revision") + 2)
        for row in rows.filter(base="").select_related("entity_sync"):
            _match_anew(row, now)
    # What is planned of these does not fit their revision any more; of what is under way the answer is stored as agreed.
    changes = RecordChange.objects.filter(open__isnull=False, entity_sync__integration=link.integration_id)
    changes.filter(_mentions(old, CHANGE_TEXTS)).update(**{name: renamed[name] for name in CHANGE_TEXTS})


def _match_anew(row: RecordLink, now: datetime) -> None:
    """A record that matches by what it refers to may have found its namesake: then a person is asked about them, too."""
    if row.left_id is not None and row.right_id is not None:
        return
    side = _side_of(row)
    first, second = match_hashes(row.entity_sync.match, decode(getattr(row, f"{side}_staged")))
    RecordLink.objects.filter(pk=row.pk).update(**{f"{side}_match": first, f"{side}_match2": second})
    row.refresh_from_db()
    found = namesakes(row) if row.state == State.NEW and not elsewhere(row.reason, row.args) else []
    if found:
        for pk, own in ((row.pk, side), *((pk, OTHER[side]) for pk in found)):
            RecordLink.objects.filter(pk=pk, state=State.NEW).exclude(pending=Pending.PLANNED).update(
                pending=int(Pending.CONFLICT),
                reason="ambiguous",
                args=encode({"side": own}),
                revision=F("revision") + 2,
            )
        see(RecordLink.objects.filter(pk__in=[row.pk, *found]), now)


def not_same(link: RecordLink, other: RecordLink | None = None, *, now: datetime, by: str = "") -> int:
    """Say that a record is not the same as another, or as any that it could be; they are never asked about again.

    Returns how many were told apart.  A record that could be no other any more goes on: the next run makes its partner.
    """
    expect(link, link.reason == "ambiguous", "nobody asks whether it is the same as another")
    others = candidates(link) if other is None else [other]
    own = _side_of(link)
    for one in others:
        fits = one.entity_sync_id == link.entity_sync_id and getattr(one, f"{OTHER[own]}_id") is not None
        expect(link, fits, f"{named(one)} is no record of the other side")
    with transaction.atomic():
        for one in others:
            ids = {f"{own}_id": getattr(link, f"{own}_id"), f"{OTHER[own]}_id": getattr(one, f"{OTHER[own]}_id")}
            Stranger.objects.get_or_create(
                entity_sync_id=link.entity_sync_id, **ids, defaults={"by": by[:150], "at": now}
            )
        _free([link, *others], now, by, "Not the same.")
    return len(others)


def _free(links: Iterable[RecordLink], now: datetime, by: str, why: str = "Nothing else could be its partner.") -> None:
    """Plan those again about which there is nothing left to ask; the others keep the candidates that they still have."""
    for one in {link.pk: link for link in links}.values():
        one.refresh_from_db()
        if one.reason != "ambiguous" or one.ended or one.state != State.NEW:
            continue
        left = candidates(one)
        told = decode(one.args)
        if not left:
            decide(one, now, by, "not the same", why, pending=int(Pending.DIRTY), reason="changed", args="")
        elif isinstance(told.get("candidates"), list):
            kept = {link.pk for link in left}
            told["candidates"] = [c for c in told["candidates"] if isinstance(c, dict) and c.get("link") in kept]  # type: ignore[union-attr]
            RecordLink.objects.filter(pk=one.pk, revision=one.revision).update(
                args=encode(told), revision=F("revision") + 2
            )


def unlink(link: RecordLink, *, now: datetime, by: str = "", why: str = "") -> None:
    """Take two records apart: both stay as they are, nothing flows between them, and no run pairs them again."""
    expect(link, link.left_id is not None and link.right_id is not None, "it has no partner")
    expect(link, link.state in (State.NEW, State.LINKED), f"it is {link.get_state_display().lower()} already")
    decide(
        link, now, by, "unlinked", f"Unlinked: {why}" if why else "Unlinked.", pending=int(Pending.SKIPPED),
        reason="unlinked", args=encode({"by": by, "why": why}), state=State.HELD, waits_on=None,
    )  # fmt: skip


def relink(link: RecordLink, *, now: datetime, by: str = "") -> None:
    """Make two records that were taken apart partners again: the next run merges what has changed since."""
    expect(link, link.state == State.HELD and link.reason == "unlinked", "it was not unlinked")
    state = State.LINKED if link.base else State.NEW
    decide(
        link,
        now,
        by,
        "linked again",
        "Linked again.",
        pending=int(Pending.DIRTY),
        reason="changed",
        args="",
        state=state,
    )


def _split(link: RecordLink, side: Side, now: datetime, by: str) -> None:
    """Give one record of an unlinked pair a link of its own, which stays unlinked, so that the other may be joined anew."""
    gone = {f"{side}_{name}": empty for name, empty in NOTHING.items()}
    apart = {f"{name}_id": getattr(link, f"{name}_id") for name in (LEFT, RIGHT)}
    moved = {f"{side}_{name}": getattr(link, f"{side}_{name}") for name in NOTHING}
    held = {f"{s}_staged": encode({**decode(link.base), **decode(getattr(link, f"{s}_quirk"))}) for s in (LEFT, RIGHT)}
    own = OTHER[side]
    left = {f"{own}_staged": getattr(link, f"{own}_staged") or held[f"{own}_staged"], f"{own}_quirk": ""}
    moved |= {f"{side}_staged": moved[f"{side}_staged"] or held[f"{side}_staged"], f"{side}_quirk": ""}
    decide(
        link, now, by, "taken apart", "The partner that it was unlinked from has a link of its own.",
        **gone, **left, base="", state=State.NEW, pending=int(Pending.CONFLICT), reason="ambiguous", args="",
    )  # fmt: skip
    RecordLink.objects.create(
        key=str(uuid.uuid4()), integration_id=link.integration_id, entity_sync_id=link.entity_sync_id, family=link.family,
        scope_id=link.scope_id, state=State.HELD, pending=int(Pending.SKIPPED), reason="unlinked", args=link.args,
        settings_revision=link.settings_revision, **moved,
    )  # fmt: skip
    Stranger.objects.get_or_create(entity_sync_id=link.entity_sync_id, **apart, defaults={"by": by[:150], "at": now})


def _side_of(link: RecordLink) -> Side:
    return LEFT if link.left_id is not None else RIGHT
