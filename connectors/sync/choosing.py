"""Which records wait for a promotion, which of them does a person mean, and why can't others be promoted?"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from django.db.models import Exists, JSONField, OuterRef, Q, QuerySet, TextField
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Cast

from connectors.models import EntitySync, FieldMapping, Integration, PicklistMapping, Promotion, RecordLink
from connectors.sync.plan import Life, Pending
from connectors.sync.promotions import NotPromotable, target_of
from connectors.sync.rules import ARCHIVED, OTHER, Side

SEARCHED = ("name", "mail", "number", "subject", "title")  # words in the names of fields that a text is looked for in
WAITS = "waits for promotion"


@dataclass(frozen=True)
class Wanted:
    """What a person filters by; empty: everything."""

    text: str = ""  # in a name, number or e-mail address
    since: date | None = None  # changed on this day or later
    field: str = ""  # name of a mapping
    value: str = ""  # of that field: the whole value, or an option's label


def on_request(integration: Integration) -> list[EntitySync]:
    """Return the entity syncs of which some side takes records only on request."""
    syncs = sorted(
        integration.entity_syncs.all(), key=lambda sync: (sync.position, sync.pk)
    )  # may have been prefetched
    return [sync for sync in syncs if sync.enabled and "on_request" in sync.push.values()]


def source_of(sync: EntitySync) -> Side:
    """Return the side whose records are promoted.  Raises NotPromotable."""
    return OTHER[target_of(sync)]


def waiting(sync: EntitySync, wanted: Wanted = Wanted()) -> QuerySet[RecordLink]:
    """Return the records that can be promoted and are not queued yet, oldest link first.  Raises NotPromotable."""
    source = source_of(sync)
    queued = Promotion.objects.filter(
        entity_sync=sync, side=source, status=Promotion.Status.QUEUED, external_id=OuterRef(f"{source}_id")
    )
    rows = RecordLink.objects.filter(entity_sync=sync, pending=Pending.WAITING, reason=WAITS)
    return _chosen(sync, source, rows.exclude(Exists(queued)), wanted)


def others(sync: EntitySync, wanted: Wanted = Wanted()) -> QuerySet[RecordLink]:
    """Return the records without a partner that can't be chosen; the link's reason says why.  Raises NotPromotable."""
    source = source_of(sync)
    alone = {f"{source}_life__in": [Life.LIVE, Life.ARCHIVED], f"{OTHER[source]}_id": None, "ended": 0}
    rows = RecordLink.objects.filter(entity_sync=sync, pending__isnull=False, **alone)
    ready = waiting(sync).values("pk")
    return _chosen(sync, source, rows.exclude(pk__in=ready), wanted)


def fields_of(sync: EntitySync) -> list[FieldMapping]:
    """Return the mappings whose values a person can filter by: plain ones that the records have themselves."""
    side = source_of(sync)
    found = sync.mappings.prefetch_related("options").order_by("position", "id")
    return [
        m for m in found if getattr(m, side) and m.name != ARCHIVED and m.constant is None and not m.args.get("rows")
    ]


def _chosen(sync: EntitySync, source: Side, rows: QuerySet[RecordLink], wanted: Wanted) -> QuerySet[RecordLink]:
    if wanted.since is not None:
        rows = rows.filter(**{f"{source}_modified__gte": wanted.since.isoformat()})
    if not wanted.text and not wanted.field:
        return rows.order_by("id")
    mappings = fields_of(sync)
    rows = rows.alias(told=Cast(f"{source}_staged", JSONField()))
    if wanted.text:
        places = Q(**{f"{source}_id__iexact": wanted.text})
        searched = [m for m in mappings if any(word in getattr(m, source).lower() for word in SEARCHED)]
        for number, mapping in enumerate(searched):
            rows = rows.alias(**{f"searched{number}": _told(mapping)})
            places |= Q(**{f"searched{number}__icontains": wanted.text})
        rows = rows.filter(places)
    if wanted.field:
        named = next((m for m in mappings if m.name == wanted.field), None)
        if named is None:
            raise NotPromotable(f"{sync} has no field {wanted.field!r} to filter by.")
        rows = rows.alias(asked=_told(named)).filter(_is(named, wanted.value))
    return rows.order_by("id")


def _told(mapping: FieldMapping) -> Cast:
    # As text: otherwise what it is compared with would have to be JSON.
    return Cast(KeyTextTransform(mapping.name, "told"), TextField())


def _is(mapping: FieldMapping, value: str) -> Q:
    if not value:
        return Q(asked__isnull=True) | Q(asked__in=["", "null"])  # SQLite gives a JSON null as that word
    tokens = [option.token for option in mapping.options.all() if value.casefold() in _labels(option)]
    return Q(asked__in=tokens) | Q(asked__iexact=value)


def _labels(option: PicklistMapping) -> set[str]:
    return {text.casefold() for text in (option.left_label, option.right_label) if text}
