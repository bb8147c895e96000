"""How does a person ask for one record to flow where records flow only on request?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from django.contrib.auth.models import User
from django.db import transaction

from connectors.models import EntitySync, Promotion, RecordLink
from connectors.sync.explain import REASONS
from connectors.sync.plan import Pending
from connectors.sync.rules import OTHER, Side
from connectors.sync.values import decode


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
        RecordLink.objects.filter(pk=link.pk).exclude(pending=Pending.PLANNED).update(
            pending=int(Pending.DIRTY), reason="changed", args=""
        )


def withdraw(promotions: Iterable[int]) -> int:
    """Take queued requests back.  Returns how many."""
    return Promotion.objects.filter(pk__in=list(promotions), status=Promotion.Status.QUEUED).update(
        status=Promotion.Status.WITHDRAWN, reason="Taken back by a person."
    )
