"""What do both systems have, as last described?  Kept, so that pages, checks and proposals need no call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

from connectors.contract import (
    Connector,
    ConnectorError,
    Entity,
    Field,
    Kind,
    Lock,
    Option,
    Removal,
    Returns,
    Safe,
    Verb,
    Write,
)
from connectors.models import Connection, EntitySync, Integration, SchemaSnapshot
from connectors.sync.compile import Described
from connectors.sync.rules import LEFT, RIGHT, Side
from connectors.transport import redaction

AT_MOST_EVERY = timedelta(hours=1)
NEW_FOR = timedelta(days=30)  # so long a field that appeared is pointed out
CHOSEN = (Kind.OPTION, Kind.OPTIONS)
SIDES: tuple[Side, Side] = (LEFT, RIGHT)
Options = Mapping[tuple[str, str], Sequence[Option]]  # by (entity, field)


@dataclass(frozen=True)
class Schema:
    """Both sides of one integration, as last described."""

    described: Described
    options: Mapping[Side, Options] = field(default_factory=dict)
    read_at: Mapping[Side, datetime | None] = field(default_factory=dict)
    errors: Mapping[Side, str] = field(default_factory=dict)
    appeared: Mapping[Side, Mapping[str, Mapping[str, datetime]]] = field(default_factory=dict)

    @property
    def known(self) -> bool:
        """Whether both sides were ever read."""
        return all(self.read_at.get(side) for side in SIDES)

    def entity(self, side: Side, name: str) -> Entity | None:
        """Return an entity of one side."""
        return self.described.entities[side].get(name)

    def of(self, side: Side, sync: EntitySync) -> Entity | None:
        """Return the entity that an entity sync uses on one side."""
        return self.entity(side, sync.left_entity if side == LEFT else sync.right_entity)

    def choices(self, side: Side, sync: EntitySync, name: str) -> Sequence[Option] | None:
        """Return the options of a field, None where they were not read."""
        return self.options.get(side, {}).get((sync.left_entity if side == LEFT else sync.right_entity, name))

    def new_since(self, side: Side, entity: str, name: str, now: datetime) -> datetime | None:
        """Return when a field appeared, where that was lately."""
        at = self.appeared.get(side, {}).get(entity, {}).get(name)
        return at if at is not None and now - at <= NEW_FOR else None


def stored(integration: Integration) -> Schema:
    """Return what was last read: one query, no call."""
    return stored_all([integration])[integration.pk]


def stored_all(integrations: Sequence[Integration]) -> dict[int, Schema]:
    """Return so by integration: one query for all."""
    ends = {connection.pk for one in integrations for connection in _ends(one).values()}
    rows = {row.connection_id: row for row in SchemaSnapshot.objects.filter(connection__in=ends)}
    return {one.pk: _schema(one, {side: rows.get(c.pk) for side, c in _ends(one).items()}) for one in integrations}


def _schema(integration: Integration, found: Mapping[Side, SchemaSnapshot | None]) -> Schema:
    return Schema(
        Described(
            {side: _entities(row) for side, row in found.items()},
            {LEFT: integration.left.name, RIGHT: integration.right.name},
        ),
        {side: _options(row) for side, row in found.items()},
        {side: row.at if row else None for side, row in found.items()},
        {side: row.error for side, row in found.items() if row and row.error},
        {side: _appeared(row) for side, row in found.items()},
    )


def _ends(integration: Integration) -> dict[Side, Connection]:
    return {LEFT: integration.left, RIGHT: integration.right}


def due(integration: Integration, now: datetime) -> bool:
    """Whether some side was not looked at within the hour."""
    ids = [connection.pk for connection in _ends(integration).values()]
    lately = SchemaSnapshot.objects.filter(connection__in=ids, tried_at__gt=now - AT_MOST_EVERY)
    return lately.count() < len(ids)


def read(integration: Integration, connectors: Mapping[Side, Connector], now: datetime) -> dict[Side, str]:
    """Ask both systems and keep what they describe.  Returns why a side could not be read; the other one is kept."""
    failures: dict[Side, str] = {}
    for side, connection in _ends(integration).items():
        row, _ = SchemaSnapshot.objects.get_or_create(connection=connection)
        try:
            entities = {entity.name: entity for entity in connectors[side].describe()}
            options = _ask_options(connection, connectors[side], entities)
        except ConnectorError as error:
            failures[side] = redaction.text(str(error))[:500]
            SchemaSnapshot.objects.filter(pk=row.pk).update(tried_at=now, error=failures[side])
            continue
        told = {name: told_entity(entity) for name, entity in entities.items()}
        SchemaSnapshot.objects.filter(pk=row.pk).update(
            at=now, tried_at=now, error="", entities=told, options=options, appeared=_news(row, told, now)
        )
    return failures


def _ask_options(connection: Connection, connector: Connector, entities: Mapping[str, Entity]) -> dict[str, Any]:
    """Read the choices of the fields that mappings of this connection use; a list that can't be read is left out."""
    found: dict[str, Any] = {}
    for name, column in sorted(_used(connection)):
        own = entities[name].field(column) if name in entities else None
        if own is None or own.kind not in CHOSEN or own.options_by:
            continue
        try:
            options = connector.options(name, column)
        except ConnectorError:
            continue
        found.setdefault(name, {})[column] = [[o.key, o.label, o.active] for o in options]
    return found


def _used(connection: Connection) -> set[tuple[str, str]]:
    used: set[tuple[str, str]] = set()
    for side in SIDES:
        rows = EntitySync.objects.filter(**{f"integration__{side}": connection})
        used |= set(rows.values_list(f"{side}_entity", f"mappings__{side}"))
    return {(entity, name) for entity, name in used if name}


def _news(row: SchemaSnapshot, told: Mapping[str, Any], now: datetime) -> dict[str, dict[str, str]]:
    """Return since when fields are there that were not there at an earlier look."""
    found: dict[str, dict[str, str]] = {}
    for entity, now_told in told.items():
        before = row.entities.get(entity)
        if before is None:
            continue
        names = {f["name"] for f in before["fields"]}
        earlier = row.appeared.get(entity, {})
        own = {
            f["name"]: earlier.get(f["name"], now.isoformat())
            for f in now_told["fields"]
            if f["name"] not in names or f["name"] in earlier
        }
        if own:
            found[entity] = own
    return found


def _entities(row: SchemaSnapshot | None) -> dict[str, Entity]:
    return {name: entity_of(told) for name, told in row.entities.items()} if row else {}


def _options(row: SchemaSnapshot | None) -> dict[tuple[str, str], list[Option]]:
    return {
        (entity, name): [Option(str(key), str(label), bool(active)) for key, label, active in lines]
        for entity, by_field in (row.options if row else {}).items()
        for name, lines in by_field.items()
    }


def _appeared(row: SchemaSnapshot | None) -> dict[str, dict[str, datetime]]:
    told: Mapping[str, Mapping[str, str]] = row.appeared if row else {}
    return {entity: {name: datetime.fromisoformat(at) for name, at in own.items()} for entity, own in told.items()}


# Entities as JSON

_ENUMS: Mapping[str, type[Enum]] = {
    "kind": Kind, "write": Write, "lock": Lock, "safe": Safe, "removal": Removal, "returns": Returns,
}  # fmt: skip


def told_entity(entity: Entity) -> dict[str, Any]:
    """Return an entity in JSON's types."""
    return _told(entity)


def _told(thing: Entity | Field) -> dict[str, Any]:
    return {f.name: _plain(getattr(thing, f.name)) for f in fields(thing) if getattr(thing, f.name) != f.default}


def _plain(value: object) -> Any:
    if isinstance(value, Field):
        return _told(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple | frozenset):
        items = [_plain(item) for item in value]
        return sorted(items) if isinstance(value, frozenset) else items
    return value


def entity_of(told: Mapping[str, Any]) -> Entity:
    """Return the entity that `told_entity` wrote."""
    known = {f.name for f in fields(Entity)}
    values = {name: value for name, value in _values(told).items() if name in known}
    values["fields"] = tuple(_field_of(line) for line in told.get("fields", ()))
    values["verbs"] = frozenset(Verb(verb) for verb in told.get("verbs", ()))
    return Entity(**values)


def _field_of(told: Mapping[str, Any]) -> Field:
    known = {f.name for f in fields(Field)}
    values = {name: value for name, value in _values(told).items() if name in known}
    values["rows"] = tuple(_field_of(line) for line in told.get("rows", ()))
    return Field(**values)


def _values(told: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in told.items():
        if name in _ENUMS:
            found[name] = _ENUMS[name](value)
        elif name == "resolution":
            found[name] = timedelta(seconds=value) if value is not None else None
        else:
            found[name] = tuple(value) if isinstance(value, list) else value
    return found


def names_of(entity: Entity | None) -> Iterable[str]:
    """Return the names of an entity's fields."""
    return [own.name for own in entity.fields] if entity else []
