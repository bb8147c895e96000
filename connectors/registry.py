"""Which code speaks which system?  Every installed Django app whose AppConfig has `connector` adds one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import ClassVar, Protocol, cast

from django.apps import apps
from django.utils.module_loading import import_string

from connectors.contract import Connector, Limit
from connectors.transport.types import Http, OAuth2, Setting


class ConnectorClass(Protocol):
    """What the hub needs of a connector's class, besides the eight verbs of its instances."""

    system: ClassVar[str]
    title: ClassVar[str]
    limits: ClassVar[Sequence[Limit]]
    settings: ClassVar[Sequence[Setting]]
    secrets: ClassVar[Sequence[str]]  # keys that a person must give
    simulator: ClassVar[str]  # dotted path of its Simulator class, or ""

    def auth(self, settings: Mapping[str, str]) -> OAuth2 | None:
        """Class method: how to log in."""

    def __call__(self, http: Http, settings: Mapping[str, str], now: Callable[[], datetime]) -> Connector: ...


class UnknownSystem(LookupError):
    """No installed app speaks this system."""


@cache
def systems() -> dict[str, str]:
    """Return system -> dotted path of its connector class, in the order of INSTALLED_APPS."""
    found: dict[str, str] = {}
    for config in apps.get_app_configs():
        path = getattr(config, "connector", "")
        if path:
            found[config.label] = path
    return found


def connector_class(system: str) -> ConnectorClass:
    """Return the class that speaks `system`.  Raises UnknownSystem with the list of those that are installed."""
    try:
        return cast(ConnectorClass, import_string(systems()[system]))
    except KeyError as error:
        known = ", ".join(sorted(systems()))
        raise UnknownSystem(
            f"No installed app speaks the system {system!r}. Installed: {known}. "
            "Add the connector's app to INSTALLED_APPS."
        ) from error
