"""How does a person ask for one record to flow where records flow only on request?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import F, QuerySet

from connectors.contract import Fetched, PermanentError
from connectors.models import EntitySync, Promotion, RecordChange, RecordLink, Run
from connectors.sync import companies, store
from connectors.sync.context import Context
from connectors.sync.explain import REASONS
from connectors.sync.matching import NOTHING
from connectors.sync.plan import MARKS, Life, Pending
from connectors.sync.rules import LEFT, OTHER, RIGHT, Pair, Side, match_hashes
from connectors.sync.values import decode, encode
from connectors.transport import redaction

Status = Promotion.Status
LOOK_UP = 500
ALREADY = "It had its partner already."
# Reasons of links for which a request can do nothing.
REFUSED = ("outside", "held", "undone", "unlinked", "ambiguous", "merged")
# Reasons of links whose partner was deleted and is made again on request: whoever asks for a record wants it there, and the
# request is newer than the delete, about which nothing else is to be decided. Where a person is asked about it or the delete
# is being carried out on this side too (any other reason), the request is refused.
MADE_AGAIN = ("deleted", "prevented", "changed")


class NotPromotable(Exception):
    """The request makes no sense; the sentence says why."""


@dataclass(frozen=True)
class Requested:
    """What became of a request at once; the rest is told by the promotions' own status."""

    queued: list[str] = field(default_factory=list)
    already: list[str] = field(default_factory=list)  # partners exist
    refused: dict[str, str] = field(default_factory=dict)  # id -> why


def promote(
    sync: EntitySync,
    record_ids: Iterable[str],
    *,
    now: datetime,
    by: User | None = None,
    waits: bool = False,
    flagged: Mapping[str, datetime] | None = None,
) -> Requested:
    """Queue records of the side they are on, so that the next run writes them to the other.

    `waits`: promoted in bulk, so not the next run but the next of the service for them takes them.
    `flagged`: their own flags asked, and when each record was changed last; the answer is shown there.
    Raises NotPromotable where the entity sync has no side that takes records only on request.
    """
    source: Side = OTHER[target_of(sync)]
    asked = dict.fromkeys(text for record_id in record_ids if (text := str(record_id).strip()))
    found = Requested()
    with transaction.atomic():
        for block in store.blocks(asked, LOOK_UP):
            _promote(sync, source, [str(record_id) for record_id in block], found, now, by, waits, flagged)
    return found


def target_of(sync: EntitySync) -> Side:
    """Return the side that takes records only on request.  Raises NotPromotable."""
    for side in (LEFT, RIGHT):
        if sync.push.get(side) == "on_request":
            return side
    raise NotPromotable(f"{sync} writes records without being asked: there is nothing to promote.")


def _promote(
    sync: EntitySync, source: Side, asked: list[str], found: Requested, now: datetime, by: User | None, waits: bool,
    flagged: Mapping[str, datetime] | None,
) -> None:  # fmt: skip
    links = {str(getattr(link, f"{source}_id")): link for link in _links_of(sync, source, asked)}
    earlier = Promotion.objects.filter(entity_sync=sync, side=source, external_id__in=asked)
    open_now = set(earlier.filter(status=Status.QUEUED).values_list("external_id", flat=True))
    shown = set(earlier.filter(source=Promotion.Source.FLAG).values_list("external_id", flat=True))
    elsewhere = companies.refused(sync, source, asked, links.values() if flagged is None else ())
    rows: list[Promotion] = []
    queued: dict[str, RecordLink | None] = {}

    def row(record_id: str, status: str, reason: str = "") -> None:
        rows.append(
            Promotion(
                entity_sync=sync, side=source, external_id=record_id, status=status, reason=reason[:500], by=by,
                at=now if flagged is None else flagged.get(record_id, now), link=links.get(record_id),
                source=Promotion.Source.PERSON if flagged is None else Promotion.Source.FLAG,
                waits=waits and status == Status.QUEUED, untold=flagged is not None or record_id in shown,
            )
        )  # fmt: skip

    for record_id in asked:
        link = links.get(record_id)
        if link is not None and _has_partner(link, OTHER[source]):
            found.already.append(record_id)
            if flagged is not None:
                row(record_id, Status.SUCCESS, ALREADY)
        elif link is not None and not _promotable(link, OTHER[source]):
            found.refused[record_id] = _why(link, OTHER[source])
            row(record_id, Status.ERROR, found.refused[record_id])
        elif link is not None and link.entity_sync_id != sync.pk:
            # Two entity syncs of a family share this kind of record; a flag is read for both, and the right one takes it.
            if flagged is None:
                found.refused[record_id] = f"It belongs to {link.entity_sync}: promote it there."
        elif record_id in elsewhere:
            found.refused[record_id] = elsewhere[record_id]
            row(record_id, Status.ERROR, elsewhere[record_id])
        else:
            queued[record_id] = link
            if record_id not in open_now:
                row(record_id, Status.QUEUED)
    # Whoever asks for the same record in the same moment has made the row that is left out here.
    Promotion.objects.bulk_create(rows, ignore_conflicts=True)
    found.queued.extend(queued)
    still = earlier.filter(status=Status.QUEUED, external_id__in=list(queued))
    if flagged is not None:
        still.update(untold=True)
    if not waits:
        still.filter(waits=True).update(waits=False)  # a person asks for this one at once
        _let_go([link for link in queued.values() if link is not None], source)


def _links_of(sync: EntitySync, source: Side, ids: Sequence[str]) -> QuerySet[RecordLink]:
    return RecordLink.objects.filter(
        **{
            "integration": sync.integration_id,
            "family": sync.family,
            f"{source}_entity": getattr(sync, f"{source}_entity"),
            f"{source}_id__in": ids,
            "ended": 0,
        }
    ).select_related("entity_sync")


def _has_partner(link: RecordLink, target: Side) -> bool:
    return bool(getattr(link, f"{target}_id")) and getattr(link, f"{target}_life") in (Life.LIVE, Life.ARCHIVED)


def _promotable(link: RecordLink, target: Side) -> bool:
    """Whether a request can do anything for a record that has no living partner."""
    if getattr(link, f"{target}_id") is None:
        return link.reason not in REFUSED
    return link.reason in MADE_AGAIN


def _why(link: RecordLink, target: Side) -> str:
    args = decode(link.args)
    deleted = "Its partner was deleted." if getattr(link, f"{target}_id") else ""
    return f"{deleted} {REASONS.get(link.reason, link.reason)} {args.get('why', '')}".strip()


def _let_go(links: Iterable[RecordLink], source: Side) -> None:
    """Let the next run plan records that were asked for; about what a person must decide it tells that."""
    target = OTHER[source]
    free = [link for link in links if not _has_partner(link, target) and _promotable(link, target)]
    _wake_links([link.pk for link in free if getattr(link, f"{target}_id") is None])
    for link in free:
        if getattr(link, f"{target}_id") is not None:
            _begin_anew(link, source)


def _wake_links(ids: Sequence[int]) -> None:
    # By two: a planner that read the link just before counts one up, and must not meet the link any more.
    RecordLink.objects.filter(pk__in=ids).exclude(pending=Pending.PLANNED).update(
        pending=int(Pending.DIRTY), reason="changed", args="", revision=F("revision") + 2
    )


def _begin_anew(link: RecordLink, source: Side) -> None:
    """Forget a partner that was deleted: the record is alone again, as it was before it was first promoted."""
    target = OTHER[source]
    staged = getattr(link, f"{source}_staged")
    now = {**decode(link.base), **decode(getattr(link, f"{source}_quirk"))} if staged is None else decode(staged)
    # What a record is made of, but no merge looks at, is known by what was made of it.
    made = RecordChange.objects.filter(link=link, side=target, verb="create", status=RecordChange.Status.WRITTEN)
    first = made.order_by("-id").values_list("after", flat=True).first()
    values = {name: v for name, v in {**decode(first), **now}.items() if name not in MARKS}
    match, second = match_hashes(link.entity_sync.match, values)
    own = {"match": match, "match2": second, "staged": encode(values), "quirk": ""}
    columns: dict[str, object] = {f"{source}_{name}": value for name, value in own.items()}
    columns |= {f"{target}_{name}": empty for name, empty in NOTHING.items()}
    RecordLink.objects.filter(pk=link.pk, revision=link.revision, ended=0).exclude(pending=Pending.PLANNED).update(
        **columns, base="", state=RecordLink.State.NEW, pending=int(Pending.DIRTY), reason="changed", args="", waits_on=None,
        revision=F("revision") + 2,
    )  # fmt: skip


def release(syncs: Iterable[EntitySync]) -> int:
    """Let everything go that was promoted in bulk and waits for the service.  In the caller's transaction.  Returns how many."""
    count = 0
    for sync in syncs:
        waiting = Promotion.objects.filter(entity_sync=sync, status=Status.QUEUED, waits=True).order_by("id")
        rows = list(waiting.values_list("id", "side", "external_id"))
        for block in store.blocks(rows, LOOK_UP):
            _release(sync, block)  # type: ignore[arg-type]
        count += len(rows)
    return count


def _release(sync: EntitySync, rows: Sequence[tuple[int, str, str]]) -> None:
    Promotion.objects.filter(pk__in=[row[0] for row in rows], status=Status.QUEUED).update(waits=False)
    for source in (LEFT, RIGHT):
        # What a person must decide about stays as it is: the run ends the request with that reason.
        _let_go(_links_of(sync, source, [row[2] for row in rows if row[1] == source]), source)


def requeue(ids: Iterable[int], *, by: User | None, now: datetime, at_once: bool) -> dict[EntitySync, Requested]:
    """Ask again for records whose promotion failed or was taken back; what was is kept.

    A request that is queued for the bulk service and is wanted at once waits no longer.  Raises NotPromotable.
    """
    wanted = [Status.ERROR, Status.WITHDRAWN, *([Status.QUEUED] if at_once else [])]
    by_sync: dict[EntitySync, list[str]] = {}
    with transaction.atomic():
        for block in store.blocks(ids, LOOK_UP):
            rows = Promotion.objects.filter(pk__in=[int(str(pk)) for pk in block], status__in=wanted).order_by("id")
            for promotion in rows.select_related("entity_sync__integration"):
                by_sync.setdefault(promotion.entity_sync, []).append(promotion.external_id)
        return {
            sync: promote(sync, record_ids, now=now, by=by, waits=not at_once) for sync, record_ids in by_sync.items()
        }


def withdraw(promotions: Iterable[int], *, by: str = "") -> int:
    """Take queued requests back, but not where the write is planned already.  Returns how many."""
    done = 0
    with transaction.atomic():
        for block in store.blocks(promotions, LOOK_UP):
            chosen = [int(str(pk)) for pk in block]
            asked = Promotion.objects.filter(pk__in=chosen, status=Status.QUEUED).select_related("entity_sync")
            places: dict[tuple[EntitySync, str], dict[str, int]] = {}
            for promotion in asked:
                places.setdefault((promotion.entity_sync, promotion.side), {})[promotion.external_id] = promotion.pk
            for (sync, side), ids in places.items():
                done += _withdraw(sync, LEFT if side == LEFT else RIGHT, ids, by)
    return done


def _withdraw(sync: EntitySync, source: Side, ids: Mapping[str, int], by: str) -> int:
    """`ids`: record -> its queued request, which may be older than the record's link."""
    links = _links_of(sync, source, list(ids))
    # A planner that has seen the request a moment ago must not meet the link any more.
    links.exclude(pending=Pending.PLANNED).update(revision=F("revision") + 2)
    late = set(links.filter(pending=Pending.PLANNED).values_list(f"{source}_id", flat=True))
    free = [promotion for record_id, promotion in ids.items() if record_id not in late]
    return Promotion.objects.filter(pk__in=free, status=Status.QUEUED).update(
        status=Status.WITHDRAWN, reason=f"Taken back by {by or 'a person'}."
    )


# What a run does with requests


def wake(ctx: Context) -> None:
    """Let links be planned that wait for a promotion which has been asked for: the request may be older than the link."""
    pairs = [pair for pair in ctx.pairs if pair.on_request]
    for pair, source, ids in _queued(pairs) if pairs else ():
        for block in store.blocks(sorted(ids), 500):
            _links(ctx, pair, source, block).filter(
                entity_sync=pair.id, pending=Pending.WAITING, reason="waits for promotion"
            ).update(pending=int(Pending.DIRTY), reason="changed", args="", touched_run=ctx.run.pk)


def close_promotions(ctx: Context) -> None:
    """Tell at the end of a run what became of the requests that no write has answered; the others stay queued."""
    if ctx.run.proposes or ctx.run.mode == Run.Mode.REPORTS or ctx.run.purpose == Run.Purpose.UNDO:
        return
    queued = _queued(ctx.pairs)
    if not queued:
        return
    complete = set(ctx.scope.cursors.filter(complete_at__isnull=False).values_list("side", "feed"))
    for pair, source, ids in queued:
        links: dict[str, RecordLink] = {}
        for block in store.blocks(sorted(ids), 500):
            links |= {str(getattr(link, f"{source}_id")): link for link in _links(ctx, pair, source, block)}
        for record_id, link in links.items():
            _close(ids[record_id], link, OTHER[source])
        unknown = sorted(set(ids) - set(links))
        if unknown and (source, pair.entity(source).feed) in complete:
            _look_for(ctx, pair, source, {record_id: ids[record_id] for record_id in unknown})


def _queued(pairs: Sequence[Pair]) -> list[tuple[Pair, Side, dict[str, int]]]:
    """Return (pair, side of the record, record id -> promotion) of all requests that are open."""
    rows = Promotion.objects.filter(
        entity_sync__in=[pair.id for pair in pairs], status=Promotion.Status.QUEUED, waits=False
    ).values_list("entity_sync", "side", "external_id", "id")
    found: dict[tuple[int, Side], dict[str, int]] = {}
    for entity_sync, side, record_id, promotion in rows:
        found.setdefault((entity_sync, LEFT if side == LEFT else RIGHT), {})[record_id] = promotion
    return [(pair, side, found[pair.id, side]) for pair in pairs for side in (LEFT, RIGHT) if (pair.id, side) in found]


def _links(ctx: Context, pair: Pair, source: Side, ids: Sequence[object]) -> QuerySet[RecordLink]:
    return RecordLink.objects.filter(
        **{
            "integration": ctx.integration.pk,
            "family": pair.family,
            f"{source}_entity": pair.entity(source).name,
            f"{source}_id__in": ids,
            "ended": 0,
        }
    )


def _close(promotion: int, link: RecordLink, target: Side) -> None:
    if link.pending in (Pending.SKIPPED, Pending.PARKED, Pending.CONFLICT):
        told = decode(link.args)
        more = told.get("message") or told.get("why") or ""
        _end(promotion, f"{REASONS.get(link.reason, link.reason)} {more}".strip(), link)
        return
    if _has_partner(link, target) and link.pending != Pending.PLANNED:  # a write under way answers the request itself
        Promotion.objects.filter(pk=promotion, status=Promotion.Status.QUEUED).update(
            status=Promotion.Status.SUCCESS, reason="It found its partner.", link=link
        )


def _look_for(ctx: Context, pair: Pair, source: Side, ids: dict[str, int]) -> None:
    """No listing has shown these records: does the system know them at all?"""
    entity = pair.entity(source)
    title = entity.label or entity.name
    for block in store.blocks(ids, 500):
        asked = [str(record_id) for record_id in block]
        try:
            found = _fetch(ctx, source, entity.name, asked)
        except PermanentError:
            # One id that the system takes for nonsense spoils the whole call, so each is asked by itself.
            for record_id in asked:
                try:
                    _tell(ids, title, _fetch(ctx, source, entity.name, [record_id]))
                except PermanentError as error:
                    _end(ids[record_id], f"{title} {record_id} can't be read: {redaction.text(str(error))}")
        else:
            _tell(ids, title, found)


def _fetch(ctx: Context, source: Side, entity: str, ids: list[str]) -> Fetched:
    fetched = ctx.connectors[source].fetch(entity, ids, ctx.wanted(source, entity))
    ctx.reads[source] += len(fetched.records)
    return fetched


def _tell(ids: dict[str, int], title: str, fetched: Fetched) -> None:
    for item in fetched.gone:
        if item.id in ids:
            _end(ids[item.id], f"There is no such record: {title} {item.id}.")
    for record_id in fetched.hidden:
        if record_id in ids:
            _end(ids[record_id], f"{title} {record_id} can't be seen with this connection's rights.")


def _end(promotion: int, reason: str, link: RecordLink | None = None) -> None:
    rows = Promotion.objects.filter(pk=promotion, status=Promotion.Status.QUEUED)
    told = {"status": Promotion.Status.ERROR, "reason": reason[:500]}
    rows.update(**told, **({"link": link} if link is not None else {}))
