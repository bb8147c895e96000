"""What may a person choose about an integration without knowing its mappings?  Admin, API and command call this."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

from django.db import transaction

from connectors.contract import Connector
from connectors.models import EntitySync, Event, Integration, changing
from connectors.registry import connector_class
from connectors.sync import routing, twins
from connectors.sync.amending import Proposal
from connectors.sync.compile import LEAST_TOLERANCE, MOST_TOLERANCE
from connectors.sync.rules import EMPTY, LATER, LEFT, Side
from connectors.sync.run import mark_settings_changed

TOLERANT = 88  # percent: "InfoMedia" and "IfnoMedia" are asked about, "Smith" and "Smythe Ltd" are not
SWITCH = (("yes", "Yes"), ("no", "No"))


class PreferencesError(Exception):
    """Preferences that can't be; `problems` has a sentence for each key."""

    def __init__(self, problems: Mapping[str, str]) -> None:
        super().__init__(" ".join(problems.values()))
        self.problems = dict(problems)


class StalePreferences(PreferencesError):
    """Somebody else has changed the settings since they were read."""


@dataclass(frozen=True)
class Preference:
    """One thing to choose."""

    key: str  # "customer.policy"
    group: str  # the entity sync's name
    label: str
    value: str
    choices: tuple[tuple[str, str], ...] = ()  # none: a text
    help: str = ""
    kind: str = "choice"  # choice, match, day


def read(integration: Integration) -> list[Preference]:
    """Return everything that can be chosen, with its present value, by entity sync."""
    found: list[Preference] = []
    modified = getattr(connector_class(integration.left.system), "modified_field", "")
    for sync in integration.entity_syncs.prefetch_related("mappings").order_by("position", "id"):
        found += _of(sync, modified)
    return found


def _of(sync: EntitySync, modified: str) -> Iterator[Preference]:
    def one(name: str, label: str, value: str, **more: object) -> Preference:
        return Preference(f"{sync.name}.{name}", sync.name, label, value, **more)  # type: ignore[arg-type]

    yield one("enabled", "Kept in agreement", _yes(sync.enabled), choices=SWITCH)
    if sync.direction == EntitySync.Direction.BOTH:
        policies = tuple((str(value), str(label)) for value, label in EntitySync.Policy.choices)
        yield one("policy", "Who wins", sync.policy, choices=policies, help="Where both sides changed the same field.")
    if sync.match:
        value = str(sync.match_tolerance) if sync.match_tolerance else "exact"
        about = (
            f"exact, or the least similarity in percent ({LEAST_TOLERANCE} to {MOST_TOLERANCE}; {TOLERANT} suits most) at which "
            "a person is asked."
        )
        yield one("name_match", "Name match", value, kind="match", help=about)
    deletes = tuple((str(value), str(label)) for value, label in EntitySync.OnDelete.choices)
    yield one("on_delete", "When one side deletes", sync.on_delete, choices=deletes)
    if modified and sync.direction != EntitySync.Direction.TO_LEFT:
        about = "Only records that were made or changed on this day or later come over; empty: all."
        yield one("since", "Last modified from", _since(sync, modified), kind="day", help=about)
    for mapping in sync.mappings.all():
        if mapping.when in (LATER, EMPTY):
            about = f"Whether a value that is there already in {mapping.right} is replaced."
            yield one(
                f"overwrite.{mapping.right}", f"Overwrite {mapping.right}", _yes(mapping.when == LATER), choices=SWITCH, help=about
            )  # fmt: skip


@dataclass(frozen=True)
class RouteAsked:
    """Which records of a shared system shall be this integration's; an empty column: all.  `value` is a label or a key."""

    column: str
    value: str
    side: Side
    entities: Sequence[str]
    connector: Connector  # the shared side's


def change(
    integration: Integration, asked: Mapping[str, str], *, now: datetime, by: str = "", revision: int | None = None,
    route: RouteAsked | None = None, unfit: Mapping[str, str] | None = None,
) -> list[str]:  # fmt: skip
    """Set what differs from what is.  Returns a sentence for each change; running and queued writes stop at the new rules.

    Raises PreferencesError with everything that can't be, and where the settings have changed since `revision`; nothing is
    changed then.  `unfit` is what the caller has found already, to be told with the rest.  With a route the system is asked for
    the column's choices, so not in a transaction (raises ConnectorError).
    """
    proposal = propose(integration, asked, route=route, unfit=unfit)
    with changing(proposal.why), transaction.atomic():
        locked = Integration.objects.select_for_update().get(pk=integration.pk)
        if revision is not None and locked.revision != revision:
            raise StalePreferences({"": f"The settings of {integration} were changed meanwhile. Look at them again."})
        proposal.act()
        if proposal.said:
            Event.objects.create(
                integration=integration,
                code="preferences changed",
                message="; ".join(proposal.said)[:1000],
                actor=by[:150],
                at=now,
            )
    return list(proposal.said)


def propose(
    integration: Integration, asked: Mapping[str, str], *, route: RouteAsked | None = None, unfit: Mapping[str, str] | None = None
) -> Proposal:  # fmt: skip
    """Propose what differs from what is.  Raises PreferencesError with everything that can't be, as `change` does."""
    known = {preference.key: preference for preference in read(integration)}
    wanted, problems = _wanted(known, asked)
    columns, unroutable = _route(integration, route) if route is not None else (integration.route, {})
    problems |= {**(unfit or {}), **unroutable}
    problems |= _doubled(integration, wanted)
    if problems:
        raise PreferencesError(problems)
    said = [
        f"{known[key].group}: {known[key].label}: {_shown(known[key])} → {_shown(known[key], value)}"
        for key, value in wanted.items()
    ]
    routed = route is not None and columns != integration.route
    if route is not None and routed:
        said.append(f"Takes the records with {route.column} = {route.value}." if columns else "Takes all records.")

    def act() -> None:
        for key, value in wanted.items():
            _set(integration, key, value)
        if routed:
            row = Integration.objects.get(pk=integration.pk)
            row.route = columns
            row.save(update_fields=["route"])
            mark_settings_changed(integration)

    return Proposal(integration, tuple(said), {"preferences": wanted, "route": columns}, act, "Preferences")


def _wanted(known: Mapping[str, Preference], asked: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Return what shall change, and a sentence for each key that can't be."""
    problems = {
        key: f"There is no preference {key!r}. There are: {', '.join(known)}." for key in asked if key not in known
    }
    wanted: dict[str, str] = {}
    for key, text in asked.items():
        if key in known:
            value, problem = _checked(known[key], text.strip())
            if problem:
                problems[key] = problem
            elif value != known[key].value:
                wanted[key] = value
    return wanted, problems


def _route(integration: Integration, asked: RouteAsked) -> tuple[dict[str, object], dict[str, str]]:
    """Return the route as it is stored, and a sentence for each of its two settings that can't be."""
    if not asked.column:
        return {}, _crowded(integration, None, "route_column")
    described = {entity.name: entity for entity in asked.connector.describe()}
    missing = [name for name in asked.entities if name not in described or described[name].field(asked.column) is None]
    if missing:
        sentence = f"There is no column {asked.column!r} on {', '.join(missing)}. Create it there first."
        return {}, {"route_column": sentence}
    fields = dict.fromkeys(asked.entities, asked.column)
    key, found = routing.chosen(asked.connector, fields, asked.value)
    if found:
        return {}, {"route_value": " ".join(found)}
    route = routing.Route(asked.side, fields, key)
    return {"side": asked.side, "fields": fields, "value": key}, _crowded(integration, route, "route_value")


def _doubled(integration: Integration, wanted: Mapping[str, str]) -> dict[str, str]:
    """Return a sentence for each entity sync that would be switched on although another integration keeps the same records."""
    found: dict[str, str] = {}
    for sync in integration.entity_syncs.all():
        if wanted.get(key := f"{sync.name}.enabled") == "yes":
            there = twins.problems(integration, frozenset([(sync.left_entity, sync.right_entity)]))
            found |= {key: " ".join(there)} if there else {}
    return found


def _crowded(integration: Integration, route: routing.Route | None, setting: str) -> dict[str, str]:
    found = routing.overlaps(integration, route)
    return {setting: " ".join(found)} if found else {}


def _checked(preference: Preference, text: str) -> tuple[str, str]:
    """Return (value, problem)."""
    if preference.kind == "day":
        return _day(preference, text)
    if preference.kind == "match":
        return _match(preference, text)
    if text not in dict(preference.choices):
        there = ", ".join(value for value, _ in preference.choices)
        return "", f"{preference.label} is one of {there}, not {text!r}."
    return text, ""


def _day(preference: Preference, text: str) -> tuple[str, str]:
    try:
        return (date.fromisoformat(text).isoformat() if text else ""), ""
    except ValueError:
        return "", f"{preference.label} is a day like 2026-01-31, or empty, not {text!r}."


def _match(preference: Preference, text: str) -> tuple[str, str]:
    if text in ("exact", "tolerant"):
        return ("exact" if text == "exact" else str(TOLERANT)), ""
    if text.isdecimal() and LEAST_TOLERANCE <= int(text) <= MOST_TOLERANCE:
        return str(int(text)), ""
    number = f"a number from {LEAST_TOLERANCE} to {MOST_TOLERANCE} (percent)"
    return "", f"{preference.label} is exact, tolerant, or {number}, not {text!r}."


def _set(integration: Integration, key: str, value: str) -> None:
    group, name = next(
        (sync_name, key.removeprefix(f"{sync_name}."))
        for sync_name in integration.entity_syncs.values_list("name", flat=True)
        if key.startswith(f"{sync_name}.")
    )
    sync = integration.entity_syncs.get(name=group)
    if name.startswith("overwrite."):
        mapping = sync.mappings.get(right=name.removeprefix("overwrite."), when__in=[LATER, EMPTY])
        mapping.when = LATER if value == "yes" else EMPTY
        mapping.save(update_fields=["when"])
    elif name == "enabled":
        sync.enabled = value == "yes"
    elif name == "name_match":
        sync.match_tolerance = 0 if value == "exact" else int(value)
    elif name == "since":
        modified = connector_class(integration.left.system).modified_field  # type: ignore[attr-defined]
        others = [line for line in sync.filters if not _is_since(line, modified)]
        sync.filters = [*others, {"side": LEFT, "field": modified, "op": "since", "value": value}] if value else others
    else:
        setattr(sync, name, value)
    sync.save()
    mark_settings_changed(integration, sync)


def _since(sync: EntitySync, modified: str) -> str:
    return next((str(line.get("value", "")) for line in sync.filters if _is_since(line, modified)), "")


def _is_since(line: Mapping[str, object], modified: str) -> bool:
    return line.get("side") == LEFT and line.get("field") == modified and line.get("op") == "since"


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _shown(preference: Preference, value: str | None = None) -> str:
    text = preference.value if value is None else value
    return dict(preference.choices).get(text, text) or "none"
