"""Whose records are these, where several companies of one side share a system of the other?  One column says it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from connectors.contract import Connector, Entity, Kind, Option, Write
from connectors.models import Connection, Integration, RecordLink
from connectors.sync.plan import Pending
from connectors.sync.rules import COMPANY, LEFT, RIGHT, Condition, FieldRule, Pair, Side
from connectors.sync.values import decode

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
        told = integration.route
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
        return []
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
    twin = next((other for other in neighbours(integration, route.side) if Route.of(other) == route), None)
    if twin is not None:
        found.append(
            f"{name} has the same value {route.value!r} as {twin}: both would take the same records. Choose another."
        )
    return found


def neighbours(integration: Integration, side: Side) -> list[Integration]:
    """Other integrations that are on at the same connection of this side."""
    rows = Integration.objects.filter(enabled=True, **{side: getattr(integration, f"{side}_id")})
    return [other for other in rows.exclude(pk=integration.pk).order_by("pk") if other.route.get("side") == side]


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
        choices = list(connector.options(entity, column))
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


def unrouted(connection: Connection) -> list[Unrouted]:
    """List the records of a connection that belong to no integration's company, from what the runs have met."""
    found: dict[tuple[str, str], Unrouted] = {}
    for side in (LEFT, RIGHT):
        routes = {
            integration.pk: route
            for integration in Integration.objects.filter(enabled=True, **{side: connection}).order_by("pk")
            if (route := Route.of(integration)) is not None and route.side == side
        }
        values = {route.value for route in routes.values()}
        rows = RecordLink.objects.filter(
            integration__in=list(routes), entity_sync__enabled=True, pending=Pending.SKIPPED, reason="outside", ended=0,
            args__contains=f'"why":"{COMPANY}"',
        ).order_by("id")  # fmt: skip
        for link_id, entity, record_id, args in rows.values_list("pk", f"{side}_entity", f"{side}_id", "args"):
            told = decode(args)
            value = str(told.get("value") or "")
            if record_id and value not in values:
                found.setdefault(
                    (entity, record_id), Unrouted(entity, record_id, str(told.get("field") or ""), value, link_id)
                )
            if len(found) == MOST:
                break
    return list(found.values())
