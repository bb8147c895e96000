"""Which rows make up the configuration of connections, integrations and alerts?  Scheduling adds its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from django.core.exceptions import ValidationError
from django.core.validators import validate_email

from connectors.contract import PermanentError
from connectors.models import Connection, EntitySync, FieldMapping, Integration, PicklistMapping
from connectors.registry import UnknownSystem, connector_class
from connectors.sync import twins
from connectors.sync.run import mark_settings_changed
from connectors.transport import entered
from connectors.transport.addresses import check_literal
from jobs.housekeeping.bundle import ConfigRefused, Difference, Kind, entered_secrets, secret_words
from jobs.models import AlertRule
from jobs.syncing import scope_of

IDENTITY = "Links hang on it: make another one and switch this one off."
WEBHOOK = ("url", "signing_key")


class _ConnectionSecrets:
    words: Sequence[str] = ("secrets",)

    def told(self, row: Connection, *, env_names: bool) -> dict[str, object]:
        return secret_words(_declared(row), row.name, env_names=env_names)

    def store(self, row: Connection, told: Mapping[str, Any]) -> list[str]:
        entered = entered_secrets(told.get("secrets"), _declared(row))
        stored = row.get_secret()
        new = {name: value for name, value in entered.items() if stored.get(name) != value}
        if new:
            row.change({}, new)
        return [f"the secret {name} changes" for name in sorted(new)]


def _declared(row: Connection) -> Sequence[str]:
    try:
        return connector_class(row.system).secrets
    except UnknownSystem:
        return ()


class _ConnectionSettings:
    """Settings by way of `Connection.change`: a login that was obtained for one address never goes to another one."""

    words: Sequence[str] = ("settings",)

    def told(self, row: Connection, *, env_names: bool) -> dict[str, object]:
        return {"settings": row.settings} if row.settings else {}

    def store(self, row: Connection, told: Mapping[str, Any]) -> list[str]:
        try:
            cls = connector_class(row.system)
        except UnknownSystem as error:
            raise ConfigRefused([str(error)]) from error
        before, after = row.settings, told.get("settings") or {}
        if not isinstance(after, dict):
            raise ConfigRefused(["settings are told by name."])
        if wrong := entered.problems(cls.settings, after, before):
            raise ConfigRefused([f"settings: {name}: {sentence}" for name, sentence in wrong.items()])
        if before == after:
            return []
        row.change({"settings": after}, {})
        names = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
        return [f"settings: {name}: {before.get(name)!r} -> {after.get(name)!r}" for name in names]


class _Webhook:
    words: Sequence[str] = ("secrets",)

    def told(self, row: AlertRule, *, env_names: bool) -> dict[str, object]:
        return {} if row.to == AlertRule.To.EMAIL else secret_words(WEBHOOK, row.name, env_names=env_names)

    def store(self, row: AlertRule, told: Mapping[str, Any]) -> list[str]:
        entered = entered_secrets(told.get("secrets"), () if row.to == AlertRule.To.EMAIL else WEBHOOK)
        stored = row.webhook()
        new = {name: value for name, value in entered.items() if stored.get(name) != value}
        if not new:
            return []
        url = new.get("url") or stored.get("url", "")
        try:
            check_literal(url)
        except PermanentError as error:
            raise ConfigRefused([f"the webhook's {error}"]) from error
        row.set_webhook(url, new.get("signing_key") or stored.get("signing_key", ""))
        return [f"the webhook's {name} changes ({urlsplit(url).hostname})" for name in sorted(new)]


def _rule_problems(rule: AlertRule) -> list[str]:
    if rule.to != AlertRule.To.EMAIL:
        return ["addresses are for e-mail only."] if rule.addresses else []
    if not isinstance(rule.addresses, list) or not rule.addresses:
        return ["addresses: give at least one e-mail address."]
    problems: list[str] = []
    for address in rule.addresses:
        try:
            validate_email(address)
        except ValidationError:
            problems.append(f"addresses: {address} is not an e-mail address.")
    return problems


OPTIONS = Kind(
    "options", "option", PicklistMapping, (),
    ("left_key", "left_label", "right_key", "right_label", "token", "writes_left", "writes_right"), parent="field_mapping",
)  # fmt: skip
MAPPINGS = Kind(
    "mappings", "mapping", FieldMapping, ("left", "right"),
    ("position", "direction", "policy", "transform", "args", "constant", "when", "guard", "required", "unmapped", "default"),
    parent="entity_sync", children=(OPTIONS,), removes=True,
)  # fmt: skip
ENTITY_SYNCS = Kind(
    "entity_syncs", "entity sync", EntitySync, ("name",),
    ("family", "left_entity", "right_entity", "position", "enabled", "direction", "policy", "on_delete", "edit_v_delete",
     "prevents", "window", "filters", "match", "match_tolerance", "push"),
    fixed=("family", "left_entity", "right_entity"), fixed_why=IDENTITY, parent="integration", children=(MAPPINGS,),
)  # fmt: skip
CONNECTIONS = Kind(
    "connections", "connection", Connection, ("name",), ("system",), fixed=("system",), fixed_why=IDENTITY,
    extras=(_ConnectionSettings(), _ConnectionSecrets()),
)  # fmt: skip
INTEGRATIONS = Kind(
    "integrations", "integration", Integration, ("name",), ("preset", "left", "right", "enabled", "first_run", "route"),
    fixed=("left", "right"), fixed_why=IDENTITY, quiet=("preset", "enabled", "first_run"), children=(ENTITY_SYNCS,),
)  # fmt: skip
ALERT_RULES = Kind(
    "alert_rules", "alert rule", AlertRule, ("name",), ("integration", "what", "more_than", "to", "addresses", "enabled"),
    extras=(_Webhook(),), check=_rule_problems,
)  # fmt: skip
KINDS = (
    CONNECTIONS,
    INTEGRATIONS,
)  # in the order in which they refer to each other; scheduling's come before the rules


def refuse_twins(difference: Difference) -> None:
    """No import makes a second integration over what another one keeps.  Raises ConfigRefused."""
    kinds: dict[Integration, set[tuple[str, str]]] = {}
    for row in difference.rows:
        if isinstance(row, EntitySync) and row.enabled:
            kinds.setdefault(row.integration, set()).add((row.left_entity, row.right_entity))
    found = [
        f"integration {one}: {problem}" for one, new in kinds.items() for problem in twins.problems(one, frozenset(new))
    ]
    if found:
        raise ConfigRefused(found)


def raise_revisions(difference: Difference) -> None:
    """Let links be read again by the new settings, of those entity syncs alone that differ."""
    syncs: dict[int, EntitySync] = {}
    integrations: dict[int, Integration] = {}
    for row in (*difference.rows, *difference.removed):
        if isinstance(row, PicklistMapping):
            row = row.field_mapping
        if isinstance(row, FieldMapping):
            row = row.entity_sync
        if isinstance(row, EntitySync):
            syncs[row.pk] = row
        elif isinstance(row, Integration):
            integrations[row.pk] = row
            scope_of(row)
    for integration in integrations.values():
        mark_settings_changed(integration)
    for sync in syncs.values():
        if sync.integration_id not in integrations:
            mark_settings_changed(sync.integration, sync)
