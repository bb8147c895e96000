"""What do both systems and the settings look like at this moment?  Read once, in few calls; the checks only judge it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from math import ceil
from typing import cast

from django.conf import settings
from django.db.models import Count

from connectors.contract import (
    Connector,
    ConnectorError,
    Entity,
    Field,
    Identity,
    Kind,
    Lock,
    Option,
    Removal,
    Returns,
    Safe,
    Verb,
)
from connectors.dynamics365.connector import Dynamics365
from connectors.dynamics365.entities import declared
from connectors.dynamics365.requirements import Required, required_columns
from connectors.models import Budget, Connection, EntitySync, FieldMapping, Integration, RecordLink
from connectors.registry import UnknownSystem, connector_class
from connectors.sync import twins
from connectors.sync.compile import Described, SettingsError, compile_all
from connectors.sync.flags import flag_of
from connectors.sync.routing import Route
from connectors.sync.rules import ARCHIVED, CONDITIONS, LEFT, OTHER, RIGHT, Condition, Side, Window
from connectors.transport import check, connected, redaction
from connectors.transport.budget import amounts, window
from connectors.transport.connecting import effective_settings
from jobs import clock
from jobs.models import WorkerHeartbeat
from jobs.syncing import first_is_preview, scope_of
from scheduling.models import Service

CHOSEN = (Kind.OPTION, Kind.OPTIONS)
SIDES: tuple[Side, Side] = (LEFT, RIGHT)
PRINTED = ("console", "dummy", "locmem", "filebased")  # mail backends that send nothing


@dataclass(frozen=True)
class Spent:
    """How much is left of one limit of calls."""

    limit: str
    amount: int
    left: int
    per: timedelta
    hold_until: datetime | None = None


@dataclass(frozen=True)
class Missing:
    """What an administrator must add to one table of the system."""

    table: str
    whole: bool  # the table itself is not there
    columns: tuple[str, ...]  # with type, length and options, in words
    names: frozenset[str] = frozenset()  # of these columns


@dataclass(frozen=True)
class End:
    """One system, through its connection."""

    side: Side
    id: int  # of the connection
    name: str
    title: str
    state: str = Connection.State.CONNECTED.value
    failure: str = ""  # why it could not be looked at
    code: str = ""  # the system's own code of that failure
    identity: Identity | None = None
    expires_at: datetime | None = None  # of what a person must renew
    entities: Mapping[str, Entity] = field(default_factory=dict)
    options: Mapping[tuple[str, str], tuple[Option, ...]] = field(default_factory=dict)  # by (entity, field)
    unread: Mapping[tuple[str, str], str] = field(default_factory=dict)  # lists that could not be read: why
    stand_ins: Mapping[tuple[str, str], str] = field(default_factory=dict)  # (entity, id): "", or what is wrong with it
    missing: tuple[Missing, ...] = ()
    budgets: tuple[Spent, ...] = ()
    records: Mapping[str, int] = field(default_factory=dict)  # known ones, by entity

    @property
    def reached(self) -> bool:
        """Whether the system was read to the end of what the checks need."""
        return not self.failure

    def field(self, entity: str, name: str) -> Field | None:
        """Return a field that the system described."""
        found = self.entities.get(entity)
        return found.field(name) if found else None


@dataclass(frozen=True)
class Partners:
    """One line of a picklist mapping."""

    keys: Mapping[Side, str]
    labels: Mapping[Side, str]
    writes: frozenset[Side] = frozenset(SIDES)


@dataclass(frozen=True)
class Line:
    """One field of a document's lines in a mapping."""

    fields: Mapping[Side, str]
    constant: object = None
    default: str = ""  # id of the record that stands for an empty reference


@dataclass(frozen=True)
class Map:
    """One field mapping."""

    id: int
    name: str
    fields: Mapping[Side, str]  # "" where a side has none
    direction: str = "both"  # its own; `Sync.towards` says what comes of it
    policy: str = ""
    when: str = "always"
    constant: object = None
    unmapped: str = "park"
    options: tuple[Partners, ...] = ()
    lines: tuple[Line, ...] = ()


@dataclass(frozen=True)
class Sync:
    """One entity sync that is switched on."""

    id: int
    name: str
    entities: Mapping[Side, str]
    direction: str = "both"
    policy: str = "last_updated"
    on_delete: str = "ask"
    prevents: frozenset[str] = frozenset()
    match: tuple[tuple[str, ...], ...] = ()
    on_request: frozenset[str] = frozenset()
    maps: tuple[Map, ...] = ()
    filters: tuple[Condition, ...] = ()
    flagged: Side | None = None  # where a column asks for promotions: it is answered there, whatever the direction
    columns: Mapping[Side, frozenset[str]] = field(default_factory=dict)  # named besides the mappings: flag, route

    def flows(self, to: Side) -> bool:
        """Whether records may be written to this side."""
        return self.direction in ("both", f"to_{to}")

    def towards(self, mapping: Map, to: Side) -> bool:
        """Whether a mapping's values may be written to this side."""
        return self.flows(to) and bool(mapping.fields[to]) and mapping.direction in ("both", f"to_{to}")

    def creates(self, to: Side) -> bool:
        """Whether records may be made on this side."""
        return self.flows(to) and f"{to}.create" not in self.prevents


@dataclass(frozen=True)
class Served:
    """One service of the integration."""

    name: str
    work: str
    entities: tuple[str, ...] = ()  # empty: all


@dataclass(frozen=True)
class Seen:
    """All that the checks judge."""

    integration: int
    now: datetime
    ends: Mapping[Side, End]
    syncs: tuple[Sync, ...] = ()
    services: tuple[Served, ...] = ()
    problems: tuple[str, ...] = ()  # of the settings against what both systems describe
    switched_off: str = ""  # why nothing runs although services do
    preview_first: bool = False  # the first run is yet to come, and a person wants to see it before
    worker: bool = True
    mail_sent: bool = True
    asks: bool = True  # an administrator provisions, and the requester is told by mail


def look(integration: Integration) -> Seen:
    """Look at both systems over HTTP, and at the settings.  A system that can't be reached is told, not raised."""
    rows = list(integration.entity_syncs.prefetch_related("mappings__options").order_by("position", "id"))
    syncs, misspelt = _syncs([row for row in rows if row.enabled], Route.of(integration))
    needs_columns = integration.preset == "inolink"  # whose columns `requirements` lists
    ends = {
        LEFT: _end(integration, LEFT, integration.left, syncs, needs_columns),
        RIGHT: _end(integration, RIGHT, integration.right, syncs, needs_columns),
    }
    scope = scope_of(integration)
    off = "" if integration.enabled else f"{integration} is switched off."
    return Seen(
        integration=integration.pk,
        now=clock.now(),
        ends=ends,
        syncs=syncs,
        services=tuple(
            Served(s.name, s.work, tuple(s.entities)) for s in Service.objects.filter(integration=integration)
        ),
        problems=(*(misspelt or _problems(integration, ends, syncs)), *_twins(integration, ends)),
        switched_off=off or ("" if scope.enabled else scope.disabled_reason or "It was switched off."),
        preview_first=first_is_preview(integration, scope),
        worker=WorkerHeartbeat.objects.alive(clock.now()).exists(),
        mail_sent=not any(word in settings.EMAIL_BACKEND for word in PRINTED),
        asks=settings.PROVISIONING == "ask",
    )


# Settings


def _syncs(rows: Iterable[EntitySync], route: Route | None) -> tuple[tuple[Sync, ...], list[str]]:
    """Return the entity syncs, and what is wrong with those whose free-form settings can't be read."""
    found: list[Sync] = []
    problems: list[str] = []
    for row in rows:
        try:
            Window(**(row.window or {"field": ""}))
            found.append(_sync(row, route))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            problems.append(
                f"{row.name}: its filters, window, match fields, push or lines are not written as they should be ({error!r}). "
                "Correct them under Limits, or in the mapping."
            )
    return tuple(found), problems


def _sync(row: EntitySync, route: Route | None) -> Sync:
    entities: dict[Side, str] = {LEFT: row.left_entity, RIGHT: row.right_entity}
    columns: dict[Side, set[str]] = {LEFT: set(), RIGHT: set()}
    flagged: Side | None = None
    if (flag := flag_of(row.push)) is not None:
        flagged = RIGHT if row.push.get(LEFT) == "on_request" else LEFT
        columns[flagged] |= flag.columns
    if route is not None and entities[route.side] in route.fields:
        columns[route.side].add(route.fields[entities[route.side]])
    return Sync(
        id=row.pk,
        name=row.name,
        entities=entities,
        direction=row.direction,
        policy=row.policy,
        on_delete=row.on_delete,
        prevents=frozenset(row.prevents),
        match=tuple(tuple(alternative) for alternative in row.match),
        on_request=frozenset(side for side, how in row.push.items() if how == "on_request"),
        maps=tuple(_map(mapping) for mapping in row.mappings.all()),
        filters=tuple(
            Condition(f["side"], f["field"], f["op"], f.get("value")) for f in row.filters if f.get("op") in CONDITIONS
        ),
        flagged=flagged,
        columns={side: frozenset(names) for side, names in columns.items()},
    )


def _map(row: FieldMapping) -> Map:
    return Map(
        id=row.pk,
        name=row.name,
        fields={LEFT: row.left, RIGHT: row.right},
        direction=row.direction,
        policy=row.policy,
        when=row.when,
        constant=row.constant,
        unmapped=row.unmapped,
        options=tuple(
            Partners(
                {LEFT: o.left_key, RIGHT: o.right_key},
                {LEFT: o.left_label, RIGHT: o.right_label},
                frozenset(side for side, on in ((LEFT, o.writes_left), (RIGHT, o.writes_right)) if on),
            )
            for o in row.options.all()
        ),
        lines=tuple(
            Line(
                {LEFT: line.get(LEFT, ""), RIGHT: line.get(RIGHT, "")},
                line.get("constant"),
                str(line.get("default", "")),
            )
            for line in row.args.get("rows", [])
        ),
    )


def _problems(integration: Integration, ends: Mapping[Side, End], syncs: Sequence[Sync]) -> list[str]:
    """Return what compiling the settings says, without what is told elsewhere.

    A side that was not reached, and columns that an administrator is asked to add, count as if they were there.
    """
    if not any(end.reached for end in ends.values()):
        return []
    described = Described(
        {side: _completed(end, syncs) for side, end in ends.items()}, {side: end.name for side, end in ends.items()}
    )
    try:
        compile_all(integration, described)
    except SettingsError as error:
        return list(error.problems)
    return []


def _twins(integration: Integration, ends: Mapping[Side, End]) -> list[str]:
    """Return the older integrations over the same two companies, as a run would refuse to go beside them."""
    answered = {end.id: end.identity.instance for end in ends.values() if end.identity}
    kinds = twins.kinds_of(integration)
    return twins.problems(integration, kinds, lambda one: one.instance or answered.get(one.pk, ""), older=True)


def _completed(end: End, syncs: Iterable[Sync]) -> dict[str, Entity]:
    found = dict(end.entities)
    promised = {missing.table: missing for missing in end.missing}
    for sync in syncs:
        name = sync.entities[end.side]
        missing = promised.get(name)
        if end.reached and missing is None:
            continue
        whole = missing is None or missing.whole
        entity = found.get(name) or _blank(name)
        known = {f.name for f in entity.fields}
        for stand_in in _named(sync, end):
            if stand_in.name not in known and (whole or (missing and stand_in.name in missing.names)):
                known.add(stand_in.name)
                entity = replace(entity, fields=(*entity.fields, stand_in))
        found[name] = entity
    return found


def _blank(name: str) -> Entity:
    return Entity(
        name, (), feed=name, tells_deletes=False, lock=Lock.NATIVE, safe=Safe.FIND, removal=Removal.NONE,
        returns=Returns.ID, verbs=frozenset(Verb),
    )  # fmt: skip


def _named(sync: Sync, end: End) -> Iterator[Field]:
    """Yield a field for each name in the settings; only those that the system did not describe are taken."""
    for name in sync.columns.get(end.side, ()):
        yield Field(name, Kind.OPTION, findable=True)
    for mapping in sync.maps:
        name = mapping.fields[end.side]
        if name and name != ARCHIVED:
            rows = tuple(Field(line.fields[end.side], Kind.TEXT) for line in mapping.lines if line.fields[end.side])
            yield Field(name, Kind.ROWS if rows else Kind.TEXT, rows=rows)


# Systems


def _end(
    integration: Integration, side: Side, connection: Connection, syncs: Sequence[Sync], needs_columns: bool
) -> End:
    end = End(side, connection.pk, connection.name, connection.system, state=connection.state)
    if connection.state == Connection.State.PAUSED:
        return replace(end, failure=connection.reason or "It is paused by a person.", code=connection.state)
    try:
        end = replace(end, title=connector_class(connection.system).title)
        identity = check(connection)
        end = replace(end, identity=identity, state=connection.state, expires_at=connection.auth_expires_at)
        with connected(connection) as connector:
            end = _read(end, connector, syncs, needs_columns)
    except ConnectorError as error:
        connection.refresh_from_db(fields=["state"])
        end = replace(end, failure=redaction.text(str(error)), code=error.code, state=connection.state)
    except UnknownSystem as error:
        end = replace(end, failure=str(error))
    else:
        end = replace(end, budgets=tuple(_spent(connection, identity)), records=_records(integration, side))
    return end


def _read(end: End, connector: Connector, syncs: Sequence[Sync], needs_columns: bool) -> End:
    entities = {entity.name: entity for entity in connector.describe()}
    end = replace(end, entities=entities)
    if needs_columns and isinstance(connector, Dynamics365):
        end = replace(end, missing=tuple(_missing(connector, {sync.entities[end.side] for sync in syncs})))
    options: dict[tuple[str, str], tuple[Option, ...]] = {}
    unread: dict[tuple[str, str], str] = {}
    for entity, name in dict.fromkeys(_lists(end, syncs)):
        try:
            options[entity, name] = tuple(connector.options(entity, name))
        except ConnectorError as error:
            unread[entity, name] = redaction.text(str(error))
    return replace(end, options=options, unread=unread, stand_ins=_stand_ins(end, connector, syncs))


def _lists(end: End, syncs: Iterable[Sync]) -> Iterator[tuple[str, str]]:
    """Yield (entity, field) of each option list that a mapping uses."""
    for sync in syncs:
        entity = sync.entities[end.side]
        for mapping in sync.maps:
            own = end.field(entity, mapping.fields[end.side])
            if own is None or own.options_by:  # a list that depends on another field has no keys of its own to compare
                continue
            if own.kind in CHOSEN and (mapping.constant is not None or mapping.fields[OTHER[end.side]]):
                yield entity, own.name
            children = {child.name: child for child in own.rows}
            for line in mapping.lines:
                child = children.get(line.fields[end.side])
                if child is not None and child.kind in CHOSEN and line.constant is not None:
                    yield entity, f"{own.name}.{child.name}"


def _stand_ins(end: End, connector: Connector, syncs: Iterable[Sync]) -> dict[tuple[str, str], str]:
    """Look at the records that stand for empty references (the item for write-in lines)."""
    wanted: dict[str, list[str]] = {}
    for sync in syncs:
        for mapping, line in ((m, line) for m in sync.maps for line in m.lines if line.default):
            entity = stand_in_entity(end, sync, mapping, line)
            if entity and sync.towards(mapping, end.side):
                wanted.setdefault(entity, []).append(line.default)
    found: dict[tuple[str, str], str] = {}
    for entity, ids in wanted.items():
        try:
            fetched = connector.fetch(entity, list(dict.fromkeys(ids)), frozenset())
        except ConnectorError as error:
            found |= {(entity, record): f"could not be read: {redaction.text(str(error))}" for record in ids}
            continue
        found |= {(entity, record): "is not there" for record in ids}
        found |= {(entity, record): "can't be seen with these credentials" for record in fetched.hidden}
        found |= {(entity, record.id): "is inactive" if record.archived else "" for record in fetched.records}
    return found


def stand_in_entity(end: End, sync: Sync, mapping: Map, line: Line) -> str:
    """Return the entity of the record that stands for an empty reference of a line; empty: the field is no reference."""
    own = end.field(sync.entities[end.side], mapping.fields[end.side])
    child = next((c for c in own.rows if c.name == line.fields[end.side]), None) if own else None
    return child.refers_to[0] if child is not None and child.refers_to else ""


def _missing(connector: Dynamics365, tables: set[str]) -> Iterator[Missing]:
    """Yield what the environment lacks of the preset's own columns, for the tables that take part."""
    declared_tables = declared(connector.prefix)
    for table, columns in required_columns(connector.prefix).items():
        if table not in tables:
            continue
        info = connector.schema().get(table)
        there = info.columns if info else frozenset()
        lacking = [column for column in columns if column.name not in there]
        words = [_column(column, declared_tables.get(table, ())) for column in lacking]
        key = f"{connector.prefix}_linkkey"
        if info is None or key not in info.keys:
            words.append(f"an alternate key on {key}")
        if words:
            yield Missing(table, info is None, tuple(words), frozenset(column.name for column in lacking))


_TYPES = {
    "String": "text", "Memo": "multiline text", "Money": "currency", "Decimal": "decimal", "Date": "date only",
    "Picklist": "choice", "Customer": "customer lookup",
}  # fmt: skip


def _column(column: Required, fields: Sequence[Field]) -> str:
    size = f" {column.size}" if column.size and column.kind in ("String", "Memo") else ""
    digits = (
        next((f.scale for f in fields if f.name == column.name), None) if column.kind in ("Money", "Decimal") else None
    )
    scale = f", {digits} decimal places" if digits is not None else ""
    choices = "; ".join(f"{value} {label}" for value, label in column.options)
    return f"{column.name} ({_TYPES[column.kind]}{size}{scale}{f': {choices}' if choices else ''})"


def _spent(connection: Connection, identity: Identity) -> Iterator[Spent]:
    cls = connector_class(connection.system)
    rows = {row.limit: row for row in Budget.objects.filter(connection=connection)}
    now = clock.now()
    for limit in amounts(cls.limits, effective_settings(connection, cls)):
        if limit.per is None:
            continue
        start, row = window(now, limit.per), rows.get(limit.name)
        used, before = 0, 0
        if row is not None and row.window_start == start:
            used, before = row.used, row.previous
        elif row is not None and row.window_start == start - limit.per:
            before = row.used
        left = limit.amount - used - ceil(before * (1 - (now - start) / limit.per))
        left = min(left, identity.remaining.get(limit.name, left))
        yield Spent(limit.name, limit.amount, max(0, left), limit.per, row.hold_until if row else None)


def _records(integration: Integration, side: Side) -> dict[str, int]:
    links = RecordLink.objects.filter(integration=integration, ended=0).exclude(**{f"{side}_id": None})
    rows = links.values_list(f"{side}_entity").annotate(total=Count("id")).order_by()
    return {str(entity): cast("int", total) for entity, total in rows}
