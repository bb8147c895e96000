"""What whole integrations are there, and how is one made?  Presets are YAML files; unknown words are refused with a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import yaml
from django.conf import settings
from django.utils import timezone

from connectors.contract import Connector
from connectors.models import (
    Connection,
    EntitySync,
    FieldMapping,
    Integration,
    PicklistMapping,
    Scope,
    changing,
    forget_change,
)
from connectors.sync import routing, schema, twins
from connectors.sync.compile import Described, SettingsError, compile_pairs
from connectors.sync.picklists import Unmapped, match_picklists
from connectors.sync.rules import LEFT, RIGHT, Side

FOLDER = Path(__file__).resolve().parent.parent / "presets"
SYNC_KEYS = frozenset(
    [
        "name",
        "family",
        "left",
        "right",
        "direction",
        "policy",
        "on_delete",
        "edit_v_delete",
        "prevents",
        "window",
        "filters",
        "match",
        "match_tolerance",
        "push",
        "mappings",
        "substitute",
        "enabled",
    ]
)
MAPPING_KEYS = frozenset(
    [
        "left",
        "right",
        "direction",
        "policy",
        "transform",
        "args",
        "constant",
        "constant_option",
        "when",
        "guard",
        "required",
        "unmapped",
        "default",
        "options",
    ]
)
ROUTE_KEYS = frozenset(["side", "field", "value", "entities"])
SERVICE_KEYS = frozenset(["name", "about", "work", "entities", "recommended", "windows"])
ARROWS = {"<->": "both", "->": "to_right", "<-": "to_left"}


@dataclass(frozen=True)
class Preset:
    """One preset as its file says it."""

    name: str
    title: str
    left: str  # systems
    right: str
    first_run: str
    options: Mapping[str, Mapping[str, Any]]
    entity_syncs: list[dict[str, object]]
    services: list[dict[str, object]] = field(default_factory=list)  # read by scheduling
    route: Mapping[str, Any] = field(default_factory=dict)


def presets() -> dict[str, Preset]:
    """Return all presets by name: the built-in ones, then those of the folder in PRESET_FOLDER."""
    found: dict[str, Preset] = {}
    extra = settings.PRESET_FOLDER
    for folder in (FOLDER, *([Path(extra)] if extra else [])):
        for path in sorted(folder.glob("*.yaml")):
            preset = read_preset(path)
            found[preset.name] = preset
    return found


def read_preset(path: Path) -> Preset:
    """Read one file.  Raises SettingsError that names the file and the word in it that is wrong."""
    try:
        content = yaml.safe_load(path.read_text())
        return parse_preset(content)
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise SettingsError([f"{path.name} is not a preset: {error!r}."]) from error


def parse_preset(content: dict[str, object]) -> Preset:
    """Build a preset from a file's content.  Raises SettingsError."""
    problems: list[str] = []
    syncs: list[dict[str, object]] = []
    for sync in content["entity_syncs"]:  # type: ignore[attr-defined]
        unknown = sorted(set(sync) - SYNC_KEYS)
        if unknown:
            problems.append(
                f"{sync.get('name')}: unknown word {', '.join(unknown)}; known: {', '.join(sorted(SYNC_KEYS))}."
            )
        mappings = [_mapping(line, str(sync.get("name")), problems) for line in _flat(sync.get("mappings", []))]
        syncs.append({**sync, "mappings": mappings})
    told = content.get("route", {})
    if not isinstance(told, dict) or (told and set(told) != ROUTE_KEYS):
        problems.append(f"route: {told} does not say {', '.join(sorted(ROUTE_KEYS))}, and nothing else.")
    if problems:
        raise SettingsError(problems)
    return Preset(
        str(content["name"]), str(content["title"]), str(content["left"]), str(content["right"]),
        str(content.get("first_run", "preview")), content.get("options", {}), syncs,  # type: ignore[arg-type]
        _services(content.get("services", []), syncs), content.get("route", {}),  # type: ignore[arg-type]
    )  # fmt: skip


def _services(told: object, syncs: list[dict[str, object]]) -> list[dict[str, object]]:
    names = {sync["name"] for sync in syncs}
    problems: list[str] = []
    services: list[dict[str, Any]] = []
    for service in told if isinstance(told, list) else [told]:
        if not isinstance(service, dict) or "name" not in service or set(service) - SERVICE_KEYS:
            problems.append(f"Service {service}: unknown word or no name; known: {', '.join(sorted(SERVICE_KEYS))}.")
        elif missing := sorted(set(service.get("entities", [])) - names):
            problems.append(f"Service {service['name']}: there is no entity sync {', '.join(missing)}.")
        else:
            services.append(service)
    if problems:
        raise SettingsError(problems)
    return services


def _flat(lines: list[object]) -> list[object]:
    flat: list[object] = []
    for line in lines:
        flat += line if isinstance(line, list) else [line]
    return flat


def _mapping(line: object, sync: str, problems: list[str]) -> dict[str, object]:
    if isinstance(line, str):
        for arrow, direction in ARROWS.items():
            left, found, right = line.partition(f" {arrow} ")
            if found:
                return {"left": left.strip(), "right": right.strip(), "direction": direction}
        problems.append(f"{sync}: {line!r} is no mapping; write 'left <-> right', 'left -> right' or 'left <- right'.")
        return {}
    if not isinstance(line, dict):
        problems.append(f"{sync}: {line!r} is no mapping.")
        return {}
    unknown = sorted(set(line) - MAPPING_KEYS)
    if unknown:
        problems.append(f"{sync}: {line}: unknown word {', '.join(unknown)}; known: {', '.join(sorted(MAPPING_KEYS))}.")
    return line


@dataclass(frozen=True)
class Applied:
    """What applying a preset made."""

    integration: Integration
    unmapped: list[Unmapped]


def apply_preset(
    preset: Preset,
    name: str,
    ends: Mapping[Side, Connection],
    connectors: Mapping[Side, Connector],
    given: Mapping[str, str] | None = None,
    *,
    first_run: str = "",
) -> Applied:
    """Make an integration from a preset: entity syncs, mappings, picklists by label, constants by label.

    Raises SettingsError with every problem at once; nothing is kept then.
    """
    for side, system in ((LEFT, preset.left), (RIGHT, preset.right)):
        if ends[side].system != system:
            raise SettingsError(
                [f"{preset.title} wants {system} on the {side}; {ends[side].name} is {ends[side].system}."]
            )
    unknown = sorted(set(given or {}) - set(preset.options))
    if unknown:
        raise SettingsError([f"{preset.name} has no option {', '.join(unknown)}. It has: {', '.join(preset.options)}."])
    for option, value in (given or {}).items():
        choices = preset.options[option].get("choices")
        if choices and value not in choices:
            raise SettingsError([f"{preset.name}: {option} is one of {', '.join(choices)}, not {value!r}."])
        if preset.options[option].get("kind") == "date" and value and not _is_day(value):
            raise SettingsError([f"{preset.name}: {option} is a day like 2026-01-31, not {value!r}."])
    asked = {**{option: str(what.get("default", "")) for option, what in preset.options.items()}, **(given or {})}
    words = {
        **{option: str(preset.options[option].get("means", {}).get(value, value)) for option, value in asked.items()},
        "realm": str(ends[LEFT].settings.get("realm", "")),
        "prefix": str(ends[RIGHT].settings.get("prefix", "syn")),
    }
    with changing(f"Preset {preset.name} applied"):
        return _apply(preset, name, ends, connectors, words, first_run or preset.first_run)


def _apply(
    preset: Preset, name: str, ends: Mapping[Side, Connection], connectors: Mapping[Side, Connector], words: Mapping[str, str],
    first_run: str,
) -> Applied:  # fmt: skip
    # Not one transaction: labels are asked for over HTTP.  The integration is switched off until it is whole.
    integration = Integration.objects.create(
        name=name, preset=preset.name, left=ends[LEFT], right=ends[RIGHT], first_run=first_run, enabled=False
    )
    try:
        Scope.objects.create(integration=integration)
        problems: list[str] = []
        _set_route(integration, preset, words, connectors, problems)
        for position, sync in enumerate(preset.entity_syncs):
            _make_sync(integration, position, sync, words, connectors, problems)
        twins.refuse(integration)
        if problems:
            raise SettingsError(problems)
        unmapped = match_picklists(integration, connectors)
        compile_pairs(integration, Described.read(integration, connectors))
        schema.read(integration, connectors, timezone.now())  # the mappings' editor shows it
    except BaseException:
        integration.delete()
        forget_change()
        raise
    integration.enabled = True
    integration.save(update_fields=["enabled"])
    return Applied(integration, unmapped)


def _is_day(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _make_sync(
    integration: Integration, position: int, sync: Mapping[str, object], words: Mapping[str, str],
    connectors: Mapping[Side, Connector], problems: list[str],
) -> None:  # fmt: skip
    plain = {k: _fill(sync[k], words) for k in ("direction", "policy", "on_delete", "edit_v_delete", "prevents", "window",
                                                "match", "push", "enabled") if k in sync}  # fmt: skip
    row = EntitySync.objects.create(
        integration=integration, position=position, name=str(sync["name"]), family=str(sync.get("family", sync["name"])),
        left_entity=str(_fill(sync["left"], words)), right_entity=str(_fill(sync["right"], words)),
        filters=_filters(sync.get("filters", []), words), match_tolerance=int(str(_fill(sync.get("match_tolerance", 0), words))),
        **plain,
    )  # fmt: skip
    substitute = sync.get("substitute", {})
    stands_for = {f"@{word}": name for word, name in substitute.items()} if isinstance(substitute, dict) else {}
    lines: list[dict[str, object]] = sync["mappings"]  # type: ignore[assignment]
    for number, line in enumerate(lines):
        _make_mapping(row, number, line, {**words, **stands_for}, connectors, problems)


def _filters(lines: object, words: Mapping[str, str]) -> list[object]:
    """Fill in the filter lines; an option that was left empty asks for nothing, so its line is left out."""
    filled = [_fill(line, words) for line in lines] if isinstance(lines, list) else []
    return [line for line in filled if not (isinstance(line, dict) and line.get("value") == "")]


def _set_route(
    integration: Integration, preset: Preset, words: Mapping[str, str], connectors: Mapping[Side, Connector],
    problems: list[str],
) -> None:  # fmt: skip
    """Keep whose records the integration takes, where the options ask for it."""
    column, asked = (str(_fill(preset.route.get(word, ""), words)) for word in ("field", "value"))
    if not column and not asked:
        return
    side: Side = LEFT if preset.route["side"] == LEFT else RIGHT
    entities = {entity.name: entity for entity in connectors[side].describe()}
    fields = {str(_fill(name, words)): column for name in preset.route["entities"]}
    value = asked
    if asked and all(name in entities and entities[name].field(column) for name in fields):
        value, found = routing.chosen(connectors[side], fields, asked)
        problems += found
    integration.route = {"side": side, "fields": fields, "value": value}
    integration.save(update_fields=["route"])


def _make_mapping(
    sync: EntitySync, number: int, line: Mapping[str, object], words: Mapping[str, str],
    connectors: Mapping[Side, Connector], problems: list[str],
) -> None:  # fmt: skip
    values = {k: _fill(v, words) for k, v in line.items() if k not in ("options", "constant_option", "args")}
    values["args"] = _fill(line.get("args", {}), words)
    for side in (LEFT, RIGHT):
        name = str(values.get(side, ""))
        values[side] = words.get(name, name) if name.startswith("@") else name
    label = _fill(line.get("constant_option", ""), words)
    if "constant_option" in line:
        if not label:
            return
        constant = _constant(sync, values, str(label), connectors, problems)
        if constant is None:
            return
        values |= {"constant": constant, "when": "create"}
    mapping = FieldMapping.objects.create(entity_sync=sync, position=number, **values)
    for left_key, right_key in line.get("options", []):  # type: ignore[attr-defined]
        PicklistMapping.objects.create(
            field_mapping=mapping, left_key=left_key, left_label=left_key, right_key=right_key, token=right_key
        )


def _constant(
    sync: EntitySync,
    values: Mapping[str, object],
    label: str,
    connectors: Mapping[Side, Connector],
    problems: list[str],
) -> str | None:
    side: Side = LEFT if values.get(LEFT) else RIGHT
    entity = sync.left_entity if side == LEFT else sync.right_entity
    field = str(values[side])
    options = connectors[side].options(entity, field)
    for option in options:
        if option.active and option.label.casefold() == label.casefold():
            return option.key
    there = ", ".join(option.label for option in options if option.active) or "none"
    problems.append(
        f"{sync.name}: {field} on the {side} has no choice {label!r}. It has: {there}. Give another when applying the preset."
    )
    return None


def _fill(value: object, words: Mapping[str, str]) -> object:
    """Replace {word} by what it stands for; braces of a template that are no words stay."""
    if isinstance(value, str):
        for word, text in words.items():
            value = value.replace("{" + word + "}", text)
        return value
    if isinstance(value, dict):
        return {k: _fill(v, words) for k, v in value.items()}
    if isinstance(value, list):
        return [_fill(v, words) for v in value]
    return value
