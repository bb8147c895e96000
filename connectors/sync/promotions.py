"""How does a person ask for one record to flow where records flow only on request?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import F, QuerySet

from connectors.contract import Fetched, PermanentError
from connectors.models import EntitySync, Promotion, RecordLink, Run
from connectors.sync import store
from connectors.sync.context import Context
from connectors.sync.explain import REASONS
from connectors.sync.plan import Life, Pending
from connectors.sync.rules import LEFT, OTHER, RIGHT, Pair, Side
from connectors.sync.values import decode
from connectors.transport import redaction


class NotPromotable(Exception):
    """The request makes no sense; the sentence says why."""


@dataclass(frozen=True)
class Requested:
    """What became of a request at once; the rest is told by the promotions' own status."""

    queued: list[str]
    already: list[str]  # partners exist
    refused: dict[str, str]  # id -> why


def promote(sync: EntitySync, record_ids: Iterable[str], *, now: datetime, by: User | None = None) -> Requested:
    """Queue records of the side they are on, so that the next run writes them to the other.

    Raises NotPromotable where the entity sync has no side that takes records only on request.
    """
    target = _target(sync)
    source: Side = OTHER[target]
    asked = list(dict.fromkeys(str(record_id).strip() for record_id in record_ids if str(record_id).strip()))
    links = {
        getattr(link, f"{source}_id"): link
        for link in RecordLink.objects.filter(
            **{
                "integration": sync.integration_id,
                "family": sync.family,
                f"{source}_entity": getattr(sync, f"{source}_entity"),
                f"{source}_id__in": asked,
                "ended": 0,
            }
        )
    }
    found = Requested([], [], {})
    with transaction.atomic():
        for record_id in asked:
            link = links.get(record_id)
            if link is not None and getattr(link, f"{target}_id"):
                found.already.append(record_id)
            elif link is not None and link.reason in ("outside", "held", "ambiguous", "merged"):
                why = _why(link)
                found.refused[record_id] = why
                Promotion.objects.create(
                    entity_sync=sync, side=source, external_id=record_id, status=Promotion.Status.ERROR, by=by, at=now, link=link,
                    reason=why[:500],
                )  # fmt: skip
            else:
                _queue(sync, source, record_id, link, now, by)
                found.queued.append(record_id)
    return found


def _target(sync: EntitySync) -> Side:
    for side in ("left", "right"):
        if sync.push.get(side) == "on_request":
            return side
    raise NotPromotable(f"{sync} writes records without being asked: there is nothing to promote.")


def _why(link: RecordLink) -> str:
    args = decode(link.args)
    return f"{REASONS.get(link.reason, link.reason)} {args.get('why', '')}".strip()


def _queue(
    sync: EntitySync, source: Side, record_id: str, link: RecordLink | None, now: datetime, by: User | None
) -> None:
    Promotion.objects.get_or_create(
        entity_sync=sync, side=source, external_id=record_id, status=Promotion.Status.QUEUED,
        defaults={"by": by, "at": now, "link": link},
    )  # fmt: skip
    if link is not None:
        # By two: a planner that read the link just before counts one up, and must not meet the link any more.
        RecordLink.objects.filter(pk=link.pk).exclude(pending=Pending.PLANNED).update(
            pending=int(Pending.DIRTY), reason="changed", args="", revision=F("revision") + 2
        )


def withdraw(promotions: Iterable[int], *, by: str = "") -> int:
    """Take queued requests back, but not where the write is planned already.  Returns how many."""
    rows = Promotion.objects.filter(pk__in=list(promotions), status=Promotion.Status.QUEUED)
    return rows.exclude(link__pending=Pending.PLANNED).update(
        status=Promotion.Status.WITHDRAWN, reason=f"Taken back by {by or 'a person'}."
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
    if ctx.run.purpose == Run.Purpose.PREVIEW and ctx.run.approved_at is None:
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
        entity_sync__in=[pair.id for pair in pairs], status=Promotion.Status.QUEUED
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
    there = getattr(link, f"{target}_id") and getattr(link, f"{target}_life") in (Life.LIVE, Life.ARCHIVED)
    if there and link.pending != Pending.PLANNED:  # a write under way answers the request itself
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
