"""Which addresses are there, with samples for their parameters?  Read from the resolver, so that none can be forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from django.apps import apps
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.db.models import Model
from django.urls import NoReverseMatch, URLPattern, URLResolver, get_resolver, reverse

from scheduling.admin.services import ACTIONS

OURS = ("auth", "config", "connectors", "jobs", "scheduling", "projects", "axes")
KINDS = {
    "sync_id": "entitysync",
    "drift_id": "schemadrift",
    "link_id": "recordlink",
}  # where it is not the model's name
UNSAFE = ("post", "put", "patch", "delete")


@dataclass(frozen=True)
class Address:
    """One address: how it is named, and with samples in it."""

    name: str
    url: str
    methods: tuple[str, ...] = ()  # of the API: those that there are


def newest(model: type[Model]) -> object:
    """Return the id of a row that there is, else one that there can be."""
    row = model._default_manager.order_by("-pk").values_list("pk", flat=True).first()
    return row if row is not None else 1


def _leaves(patterns: list[URLPattern | URLResolver], spaces: tuple[str, ...] = ()) -> Iterator[tuple[str, URLPattern]]:
    for pattern in patterns:
        if isinstance(pattern, URLResolver):
            inner = (*spaces, pattern.namespace) if pattern.namespace else spaces
            yield from _leaves(pattern.url_patterns, inner)
        elif pattern.name:
            yield ":".join((*spaces, pattern.name)), pattern


def _samples(name: str, pattern: URLPattern) -> list[dict[str, object]]:
    """Return values for an address's parameters: the newest object, and each button and action that there is."""
    names = list(pattern.pattern.converters) or list(pattern.pattern.regex.groupindex)
    values: dict[str, object] = {}
    model_admin = next(
        (
            found
            for model, found in admin.site._registry.items()
            if name.startswith(f"admin:{model._meta.app_label}_{model._meta.model_name}_")
        ),
        None,
    )
    for parameter in names:
        model_name = KINDS.get(parameter, parameter.removesuffix("_id"))
        models = [m for m in apps.get_models() if m._meta.model_name == model_name and m._meta.app_label in OURS]
        if parameter in ("object_id", "id") and model_admin is not None:
            values[parameter] = newest(model_admin.model)
        elif models:
            values[parameter] = newest(models[0])
        else:
            values[parameter] = {"app_label": "connectors", "url": "nowhere", "format": ".json"}.get(parameter, 1)
    if "button" in values and model_admin is not None:
        return [{**values, "button": button.name} for button in model_admin.buttons]  # type: ignore[attr-defined]
    if "action" in values:
        return [{**values, "action": action} for action in (*ACTIONS, "ask", "approve", "decline")]
    return [values]


def admin_addresses() -> list[Address]:
    """Every address of the admin."""
    found: dict[str, Address] = {}
    for name, pattern in _leaves(get_resolver().url_patterns):
        for values in _samples(name, pattern) if name.startswith("admin:") else []:
            try:
                url = reverse(name, kwargs=values) if values else reverse(name)
            except NoReverseMatch:
                url = reverse(name, args=list(values.values()))
            found.setdefault(url, Address(name, url))
    return list(found.values())


def api_addresses() -> list[Address]:
    """Every address of the API with the methods that it has, and the other addresses that are no pages of the admin."""
    found: dict[str, Address] = {}
    for name, pattern in _leaves(get_resolver().url_patterns):
        if name.startswith("admin:") or "format" in pattern.pattern.regex.groupindex:
            continue
        view = getattr(pattern.callback, "cls", None)
        methods = tuple(getattr(pattern.callback, "actions", None) or ("get",))
        queryset = getattr(view, "queryset", None)
        values: dict[str, object] = {}
        for parameter in pattern.pattern.regex.groupindex:
            if parameter == "pk":
                preset = queryset is None or "preset" in name
                values[parameter] = "inolink" if preset else newest(queryset.model)
            elif parameter.endswith("_id"):
                values[parameter] = newest(
                    apps.get_model("connectors", KINDS.get(parameter, parameter.removesuffix("_id")))
                )
            else:
                values[parameter] = "nothing"
        url = reverse(name, kwargs=values)
        before = found.get(url)
        found[url] = Address(name, url, tuple(dict.fromkeys((*(before.methods if before else ()), *methods))))
    return list(found.values())


def bulk_actions() -> list[tuple[str, str, object]]:
    """Every bulk action of every list: (address, action, id of a row)."""
    return [
        (reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist"), str(action), newest(model))
        for model, model_admin in admin.site._registry.items()
        for action in ("delete_selected", *(model_admin.actions or ()))
    ]


def state() -> dict[str, list[dict[str, object]]]:
    """Return all rows of all tables that a person could change; a login's own marks are left out."""
    found = {}
    for model in [*apps.get_models(), LogEntry]:
        if model._meta.app_label in OURS or model is LogEntry:
            columns = [
                column.attname
                for column in model._meta.concrete_fields
                if column.name not in ("last_login", "last_used_at")
            ]
            found[model._meta.label] = list(model._base_manager.order_by("pk").values(*columns))
    return found
