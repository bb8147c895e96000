"""Whose records are these, where several companies of one side share a system of the other?  One column says it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from connectors.contract import Connector, Entity, Kind, Option, PermanentError, Write
from connectors.models import Connection, EntitySync, Integration, RecordLink
from connectors.sync.plan import Pending
from connectors.sync.rules import COMPANY, LEFT, OTHER, RIGHT, Condition, FieldRule, Pair, Side
from connectors.sync.values import decode, encode
from connectors.transport import redaction

MOST = 1000  # records of one listing


@dataclass(frozen=True)
class Route:
    """Records of one side belong to the integration whose value they carry."""

    side: Side
    fields: Mapping[str, str]  # entity -> column
    value: str

    @classmethod
    def of(cls, integration: Integration) -> Route | None:
        """Return the integration's route, or None where it takes all records."""
        return cls.parse(integration.route)

    @classmethod
    def parse(cls, told: Mapping[str, Any]) -> Route | None:
        """Return the route that settings tell of, or None."""
        if not told:
            return None
        return cls(LEFT if told.get("side") == LEFT else RIGHT, told.get("fields") or {}, str(told.get("value") or ""))

    def apply(self, pair: Pair) -> Pair:
        """Return the pair with its route: records of other companies are left out, new ones get this one's value."""
        column = self.fields.get(pair.entity(self.side).name, "")
        field = pair.entity(self.side).field(column)
        if field is None:
            return pair
        rules = pair.rules
        taken = any((own := rule.of(self.side)) is not None and own.name == column for rule in rules)
        if field.write is not Write.NEVER and not taken:
            ends = {LEFT: None, RIGHT: None, self.side: field}
            rules = (
                *rules,
                FieldRule(column, ends[LEFT], ends[RIGHT], f"to_{self.side}", constant=self.value, when="create"),
            )
        return replace(pair, rules=rules, route=Condition(self.side, column, "eq", self.value))


def problems(integration: Integration, entities: Mapping[Side, Mapping[str, Entity]]) -> list[str]:
    """Return what keeps the integration's route from working, each as a sentence."""
    route = Route.of(integration)
    if route is None:
        return overlaps(integration, None)
    name, found = f"The route of {integration}", []
    if integration.route.get("side") not in (LEFT, RIGHT):
        found.append(f"{name} names no side: it is left or right.")
    if not route.fields:
        found.append(f"{name} names no column. Give one for each kind of record that belongs to a company.")
    if not route.value:
        found.append(f"{name} has no value. Choose the option that stands for this integration's company.")
    for entity, column in route.fields.items():
        there = entities[route.side].get(entity)
        if there is None:
            found.append(f"{name}: there is no entity {entity!r} on the {route.side}.")
        elif (field := there.field(column)) is None:
            found.append(f"{name}: {entity} has no column {column!r}. Create it there, or choose another one.")
        elif field.kind not in (Kind.OPTION, Kind.REF):
            found.append(
                f"{name}: {column} of {entity} is no choice and no lookup ({field.kind}). Choose another column."
            )
    return found + overlaps(integration, route)


def overlaps(integration: Integration, route: Route | None) -> list[str]:
    """Return a sentence for each integration that would take the same records, if this one had this route.

    Where nobody has a route for a kind of record nothing says that it is of several companies.
    """
    found: list[str] = []
    for side in (LEFT, RIGHT):
        mine = _places(route, side)
        for other in neighbours(integration, side):
            theirs = _places(Route.of(other), side)
            kinds = sorted({*mine, *theirs} & _kept(integration, side) & _kept(other, side))
            every = [kind for kind in kinds if kind not in mine]
            if every:
                found.append(
                    f"{integration} would take every {', '.join(every)}, also those that are {other}'s by its route. Give it a "
                    f"route, or switch {other} off."
                )
            every = [kind for kind in kinds if kind not in theirs]
            if every:
                found.append(
                    f"{other} has no route for {', '.join(every)}, so it would take those of {integration}, too. Switch {other} "
                    "off, give each its own value, and switch it on again."
                )
            same = [kind for kind in kinds if mine.get(kind) == theirs.get(kind)]
            if same:
                found.append(
                    f"The route of {integration} has the same value {mine[same[0]][1]!r} as {other}: both would take the same "
                    f"{', '.join(same)}. Choose another."
                )
    return found


def _places(route: Route | None, side: Side) -> dict[str, tuple[str, str]]:
    """Return kind of record -> (column, value) of a route."""
    if route is None or route.side != side:
        return {}
    return {entity: (column, route.value) for entity, column in route.fields.items()}


def _kept(integration: Integration, side: Side) -> set[str]:
    """Return the kinds of record of one side that an integration keeps in agreement."""
    return set(integration.entity_syncs.filter(enabled=True).values_list(f"{side}_entity", flat=True))


def neighbours(integration: Integration, side: Side) -> list[Integration]:
    """Other integrations that are on and keep the same connection of this side with a system of the same kind.

    Those are companies beside each other.  One with a system of another kind (accounting here, a help desk there) is another
    matter: both may take the same records.
    """
    there = OTHER[side]
    rows = Integration.objects.filter(
        enabled=True,
        **{side: getattr(integration, f"{side}_id"), f"{there}__system": getattr(integration, there).system},
    )
    return list(rows.exclude(pk=integration.pk).order_by("pk"))


def value_of(choices: list[Option], asked: str) -> str | None:
    """Return the key of the choice that is asked for by key or by label, or None."""
    for option in choices:
        if option.active and (option.key == asked or option.label.casefold() == asked.casefold()):
            return option.key
    return None


def chosen(connector: Connector, fields: Mapping[str, str], asked: str) -> tuple[str, list[str]]:
    """Return (the value's key, problems) of a route that is asked for by label or key: every column must have it."""
    keys: dict[str, str] = {}
    found: list[str] = []
    for entity, column in fields.items():
        try:
            choices = list(connector.options(entity, column))
        except PermanentError as error:
            found.append(
                f"The choices of {column} of {entity} can't be read ({redaction.text(str(error))}). Give the connection's user "
                "the right to read them, or choose another column."
            )
            continue
        key = value_of(choices, asked)
        if key is None:
            there = ", ".join(option.label for option in choices if option.active) or "none"
            found.append(
                f"{column} of {entity} has no choice {asked!r}. It has: {there}. Give another as the route's value."
            )
        else:
            keys[entity] = key
    if len(set(keys.values())) > 1:
        named = ", ".join(f"{key} on {entity}" for entity, key in keys.items())
        found.append(f"{asked!r} is not the same choice everywhere ({named}). Both columns must have the same choices.")
    return next(iter(keys.values()), ""), found


@dataclass(frozen=True)
class Unrouted:
    """A record that no integration takes, because its column is empty or names none of them."""

    entity: str
    id: str
    column: str
    value: str
    link: int


def unrouted(connection: Connection, most: int = MOST) -> tuple[list[Unrouted], bool]:
    """List the records of a connection that belong to no integration's company, from what the runs have met.

    Returns at most so many, and whether there are more.
    """
    found: dict[tuple[str, str], Unrouted] = {}
    for side in (LEFT, RIGHT):
        for record in _lost(connection, side):
            if (record.entity, record.id) in found:
                continue
            if len(found) == most:
                return list(found.values()), True
            found[record.entity, record.id] = record
    return list(found.values()), False


def _lost(connection: Connection, side: Side) -> Iterator[Unrouted]:
    routes = {
        integration.pk: route
        for integration in Integration.objects.filter(enabled=True, **{side: connection})
        if (route := Route.of(integration)) is not None and route.side == side
    }
    syncs = EntitySync.objects.filter(integration__in=list(routes), enabled=True)
    rows = RecordLink.objects.filter(
        entity_sync__in=list(syncs.values_list("pk", flat=True)), pending=Pending.SKIPPED, reason="outside", ended=0,
        args__contains=f'"why":"{COMPANY}"', **{f"{side}_id__isnull": False},
    ).order_by("id")  # fmt: skip
    values = {route.value for route in routes.values()}
    for value in values:  # most are another integration's: the database leaves them out
        rows = rows.exclude(args__contains=f'"value":{encode(value)}')
    columns = rows.values_list("pk", f"{side}_entity", f"{side}_id", "args")
    for link_id, entity, record_id, args in columns.iterator(chunk_size=MOST):
        told = decode(args)
        value = str(told.get("value") or "")
        if told.get("why") == COMPANY and value not in values:
            yield Unrouted(entity, record_id, str(told.get("field") or ""), value, link_id)
