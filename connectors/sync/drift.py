"""What of the systems' schemas has gone or changed from under a mapping, since when, and is it back?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from django.db import transaction
from django.db.models import Max, QuerySet

from connectors.contract import Connector, Entity, Field, Kind, Write
from connectors.models import EntitySync, Event, FieldMapping, Integration, SchemaDrift
from connectors.sync.fitting import WORDS
from connectors.sync.rules import ARCHIVED, OTHER, Side
from connectors.sync.schema import SIDES, Schema, due, read, stored

Kinds = SchemaDrift.Kind


@dataclass(frozen=True)
class Change:
    """One thing that a mapping needs and that is not as it was."""

    side: Side
    kind: str
    field: str
    message: str
    option: str = ""
    was: str = ""
    mapping: int | None = None

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What makes it the same change at the next look."""
        return (self.side, self.kind, self.field, self.option)


def changes(sync: EntitySync, before: Schema, now: Schema) -> Iterator[Change]:
    """Compare what the mappings need with what there is; types and required fields also with what was.  Pure."""
    for side in SIDES:
        if now.errors.get(side) or not now.read_at.get(side):
            continue  # what was not read has not vanished
        name = sync.left_entity if side == "left" else sync.right_entity
        system, entity = now.described.names[side], now.of(side, sync)
        if entity is None:
            yield Change(side, Kinds.ENTITY, "", f"{system} no longer has {name}, or these credentials can't see it.")
            continue
        earlier = before.of(side, sync) if before.read_at.get(side) else None
        for mapping in sync.mappings.all():
            yield from _of_mapping(sync, mapping, side, entity, earlier, now)
        if earlier is not None:
            yield from _required(sync, side, entity, earlier, system)


def _of_mapping(
    sync: EntitySync, mapping: FieldMapping, side: Side, entity: Entity, earlier: Entity | None, now: Schema
) -> Iterator[Change]:
    name = mapping.left if side == "left" else mapping.right
    system = now.described.names[side]
    if not name or name == ARCHIVED:
        return
    own, was = entity.field(name), earlier.field(name) if earlier else None
    if own is None:
        label = f" ({was.label})" if was and was.label and was.label != name else ""
        yield Change(
            side,
            Kinds.FIELD,
            name,
            f"{system} no longer has the field {name}{label} on {entity.name}.",
            mapping=mapping.pk,
        )
        return
    if was is not None and was.kind is not own.kind:
        told = f"{own.label or name} in {system} was {WORDS[was.kind]} and is {WORDS[own.kind]} now."
        yield Change(side, Kinds.TYPE, name, told, was=was.kind.value, mapping=mapping.pk)
    written = mapping.direction in ("both", f"to_{side}") and sync.direction in ("both", f"to_{side}")
    if own.write is Write.NEVER and written:
        told = f"{own.label or name} in {system} can't be written any more, and the mapping {mapping.name} writes it."
        yield Change(side, Kinds.READ_ONLY, name, told, mapping=mapping.pk)
    choices = now.choices(side, sync, name)
    if own.kind in (Kind.OPTION, Kind.OPTIONS) and choices:
        there = {option.key for option in choices}
        for line in mapping.options.all():
            key, label = (line.left_key, line.left_label) if side == "left" else (line.right_key, line.right_label)
            if key and key not in there:
                told = f"{system} no longer has the choice {label or key} of {own.label or name}."
                yield Change(side, Kinds.OPTION, name, told, option=key, was=label, mapping=mapping.pk)


def _required(sync: EntitySync, side: Side, entity: Entity, earlier: Entity, system: str) -> Iterator[Change]:
    """Yield fields that must be filled by now and that no mapping fills: creating a record would be refused."""
    if sync.direction == f"to_{OTHER[side]}" or f"{side}.create" in sync.prevents:
        return
    for own in entity.fields:
        was = earlier.field(own.name)
        needed = own.required and own.write is not Write.NEVER and own.kind is not Kind.BOOLEAN
        if needed and (was is None or not was.required) and not _filled(sync, side, own):
            told = f"{own.label or own.name} ({own.name}) is required in {system} now, and no mapping fills it."
            yield Change(side, Kinds.REQUIRED, own.name, told)


def _filled(sync: EntitySync, side: Side, own: Field) -> bool:
    return any((m.left if side == "left" else m.right) == own.name for m in sync.mappings.all())


# Keeping


def look(integration: Integration, connectors: Mapping[Side, Connector], now: datetime) -> list[SchemaDrift]:
    """Read both schemas and keep what has drifted; what is back as it was is resolved.  Returns what is open."""
    before = stored(integration)
    read(integration, connectors, now)
    after = stored(integration)
    syncs = integration.entity_syncs.filter(enabled=True).prefetch_related("mappings__options")
    with transaction.atomic():
        for sync in syncs:
            _keep(sync, before, after, now)
    return list(open_drifts(integration))


def look_if_due(integration: Integration, connectors: Mapping[Side, Connector], now: datetime) -> bool:
    """Look unless somebody looked within the hour."""
    if not due(integration, now):
        return False
    look(integration, connectors, now)
    return True


def _keep(sync: EntitySync, before: Schema, after: Schema, now: datetime) -> None:
    seen = {change.key: change for change in changes(sync, before, after)}
    there = {(row.side, row.kind, row.field, row.option): row for row in SchemaDrift.objects.filter(entity_sync=sync)}
    for key, change in seen.items():
        told = {"message": change.message[:500], "last_seen": now, "field_mapping_id": change.mapping}
        row = there.get(key)
        if row is None:
            SchemaDrift.objects.create(
                entity_sync=sync, side=change.side, kind=change.kind, field=change.field[:100], option=change.option[:200],
                was=change.was[:200], first_seen=now, **told,
            )  # fmt: skip
            _tell(sync, "schema drift", change.message, now, "warning")
        elif row.resolved_at is not None and row.resolved_by and change.kind not in (Kinds.TYPE, Kinds.REQUIRED):
            SchemaDrift.objects.filter(pk=row.pk).update(last_seen=now)  # a person has seen it and said so
        else:
            again = {"resolved_at": None, "resolved_by": "", "first_seen": now} if row.resolved_at else {}
            SchemaDrift.objects.filter(pk=row.pk).update(**told, **again)
    for key, row in there.items():
        if key in seen or _lasts(sync, row, after):
            continue
        if row.resolved_by:  # what a person put aside has ended: should it come again, it is told again
            SchemaDrift.objects.filter(pk=row.pk).update(resolved_by="")
        elif row.resolved_at is None:
            SchemaDrift.objects.filter(pk=row.pk).update(resolved_at=now, resolved_by="")
            _tell(sync, "schema drift resolved", f"It is as it was, or no mapping needs it: {row.message}", now, "info")


def _lasts(sync: EntitySync, row: SchemaDrift, after: Schema) -> bool:
    """Whether a change that only the comparison with an earlier look shows still holds."""
    side: Side = "left" if row.side == "left" else "right"
    if after.errors.get(side):
        return True  # not read: nothing is known to be back
    entity = after.of(side, sync)
    own = entity.field(row.field) if entity else None
    if own is None:
        return False
    if row.kind == Kinds.TYPE:
        return own.kind.value != row.was and _filled(sync, side, own)
    if row.kind == Kinds.REQUIRED:
        return own.required and not _filled(sync, side, own)
    return False


def recheck(sync: EntitySync, now: datetime) -> None:
    """After a change of mappings: what no mapping needs any more has not drifted.  No call is made."""
    schema = stored(sync.integration)
    fresh = EntitySync.objects.prefetch_related("mappings__options").get(pk=sync.pk)
    with transaction.atomic():
        _keep(fresh, schema, schema, now)


def dismiss(drift: SchemaDrift, *, now: datetime, by: str) -> bool:
    """A person has seen it and leaves it so.  Returns whether it was open."""
    rows = SchemaDrift.objects.filter(pk=drift.pk, resolved_at=None)
    if not rows.update(resolved_at=now, resolved_by=by[:150]):
        return False
    _tell(drift.entity_sync, "schema drift seen", f"Put aside by {by}: {drift.message}", now, "info")
    return True


def _tell(sync: EntitySync, code: str, message: str, now: datetime, level: str) -> None:
    Event.objects.create(
        integration_id=sync.integration_id, code=code, message=f"{sync.name}: {message}"[:1000], at=now, level=level
    )


# Looking


def open_drifts(integration: Integration | None = None, sync: EntitySync | None = None) -> QuerySet[SchemaDrift]:
    """Return what has drifted and is not back, the oldest first."""
    rows = SchemaDrift.objects.filter(resolved_at=None).select_related("entity_sync__integration")
    if integration is not None:
        rows = rows.filter(entity_sync__integration=integration)
    if sync is not None:
        rows = rows.filter(entity_sync=sync)
    return rows.order_by("first_seen", "id")


def last_drift(integrations: Iterable[Integration]) -> dict[int, datetime]:
    """Return entity sync -> when something was last found changed."""
    rows = SchemaDrift.objects.filter(entity_sync__integration__in=integrations)
    return dict(rows.values_list("entity_sync").annotate(at=Max("first_seen")).order_by())
