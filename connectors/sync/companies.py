"""Of which company is a record that has no column for it?  A document is its customer's, a product everybody's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from django.db.models import Q

from connectors.contract import Connector, Record, Ref, Value
from connectors.models import EntitySync, FieldMapping, RecordLink
from connectors.sync import store
from connectors.sync.plan import Life, Pending
from connectors.sync.routing import Route, neighbours
from connectors.sync.rules import COMPANY, LEFT, OTHER, Side
from connectors.sync.values import decode

LOOK_UP = 500
THEIRS = "What it belongs to is another company's, so it is not written here. Promote it there; if that has changed, sync first."


def route_of(sync: EntitySync, side: Side) -> Route | None:
    """Return the route of an entity sync's integration, where it sorts this side's records."""
    route = Route.of(sync.integration)
    return route if route is not None and route.side == side else None


def owners(
    sync: EntitySync, route: Route, connector: Connector, records: Sequence[Record]
) -> tuple[dict[str, str | None], int]:
    """Return record id -> the choice that stands for its company; "" where that is empty, None where all companies share it.

    What a record must refer to is read now: it may have moved since the last run.  So not in a transaction.  Returns also how
    many records that were.
    """
    column = route.fields.get(_entity(sync, route.side))
    if column:
        return {record.id: _choice(record.values.get(column)) for record in records}, 0
    names = [name for name in _required(sync).values_list(route.side, flat=True) if name]
    parents = {record.id: _parent(record, names, route) for record in records}
    found: dict[Ref, str] = {}
    for entity, own in route.fields.items():
        ids = sorted({ref.id for ref in parents.values() if ref is not None and ref.entity == entity})
        for block in store.blocks(ids, LOOK_UP):
            fetched = connector.fetch(entity, [str(record_id) for record_id in block], frozenset([own]))
            found |= {Ref(entity, parent.id): _choice(parent.values.get(own)) for parent in fetched.records}
    return {record_id: None if ref is None else found.get(ref, "") for record_id, ref in parents.items()}, len(found)


def beside(sync: EntitySync, side: Side) -> list[EntitySync]:
    """Return the entity syncs of other companies that are asked by the same flag on the same records."""
    if route_of(sync, side) is None:
        return []
    others = EntitySync.objects.filter(integration__in=neighbours(sync.integration, side), enabled=True)
    same = others.filter(**{f"{side}_entity": _entity(sync, side)}).select_related("integration").order_by("pk")
    return [other for other in same if other.push == sync.push and route_of(other, side) is not None]


def refused(sync: EntitySync, side: Side, ids: Sequence[str], links: Iterable[RecordLink] = ()) -> dict[str, str]:
    """Return record id -> why a document is not for this company: another one has written it, or has what it belongs to.

    `links` are what is known here of those of the records that a person asks for.
    """
    route = route_of(sync, side)
    if route is None or _entity(sync, side) in route.fields:
        return {}
    return {**_of_others(sync, side, links), **_written_by_others(sync, side, ids)}


def _of_others(sync: EntitySync, side: Side, links: Iterable[RecordLink]) -> dict[str, str]:
    asked = {getattr(link, f"{side}_id"): link for link in links}
    keys = {record_id: _reference(link, side, _names(sync)) for record_id, link in asked.items()}
    outside = RecordLink.objects.filter(
        key__in=[key[1:] for key in keys.values()],
        pending=Pending.SKIPPED,
        reason="outside",
        args__contains=f'"{COMPANY}"',
    )
    theirs = {f"@{key}" for key in outside.values_list("key", flat=True)}
    return {record_id: THEIRS for record_id, key in keys.items() if key in theirs}


def _written_by_others(sync: EntitySync, side: Side, ids: Sequence[str]) -> dict[str, str]:
    other = OTHER[side]
    there = Q(**{f"{other}_life__in": [Life.LIVE, Life.ARCHIVED]}) | Q(pending=Pending.PLANNED)
    links = RecordLink.objects.filter(
        there, integration__in=neighbours(sync.integration, side), ended=0,
        **{f"{side}_entity": _entity(sync, side), f"{side}_id__in": list(ids)},
    ).select_related("entity_sync__integration")  # fmt: skip
    found: dict[str, str] = {}
    names: dict[int, list[str]] = {}
    for link in links:
        if link.entity_sync_id not in names:
            names[link.entity_sync_id] = _names(link.entity_sync)
        if _reference(link, side, names[link.entity_sync_id]):
            what = " ".join(part for part in (getattr(link, f"{other}_entity"), getattr(link, f"{other}_id")) if part)
            found[getattr(link, f"{side}_id")] = (
                f"{link.entity_sync.integration} has written it already{f' ({what})' if what else ''}, so it is not written a "
                "second time. Delete it there first, or make a new one."
            )
    return found


def _reference(link: RecordLink, side: Side, names: Sequence[str]) -> str:
    """Return what a document must refer to, as its link holds it; "": nothing, so it is no document."""
    values = {**decode(link.base), **decode(getattr(link, f"{side}_staged"))}
    held = (str(values.get(name) or "") for name in names)
    return next((value for value in held if value.startswith(("@", "?"))), "")


def _entity(sync: EntitySync, side: Side) -> str:
    return sync.left_entity if side == LEFT else sync.right_entity


def _required(sync: EntitySync):  # type: ignore[no-untyped-def]
    return FieldMapping.objects.filter(entity_sync=sync, required=True).order_by("position", "id")


def _names(sync: EntitySync) -> list[str]:
    return [mapping.name for mapping in _required(sync)]


def _parent(record: Record, names: Sequence[str], route: Route) -> Ref | None:
    """Return the record that this one must refer to, where that has a company's column."""
    told = (record.values.get(name) for name in names)
    found = next((v for v in told if isinstance(v, Ref) and v.id and v.entity in route.fields), None)
    return None if found is None else Ref(found.entity, found.id)


def _choice(value: Value) -> str:
    told = value.id if isinstance(value, Ref) else value
    return "" if told is None else str(told)
