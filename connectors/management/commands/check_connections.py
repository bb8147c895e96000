"""Do the connections work?  Address, login and rights of each, one sentence for a person or JSON for a script."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from connectors import transport
from connectors.contract import ConnectorError
from connectors.models import Connection
from connectors.registry import UnknownSystem, connector_class
from connectors.transport import redaction
from connectors.transport.addresses import AddressBook, place
from connectors.transport.connecting import effective_settings


class Command(BaseCommand):
    help = "Check address, login and rights of each connection. Ends with 1 when one of them is not connected."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("names", nargs="*", metavar="NAME", help="connections to check; all when none is named")
        parser.add_argument("--json", action="store_true", help="print a JSON list instead of text")

    def handle(self, *args: Any, **options: Any) -> None:
        results = [_examine(connection) for connection in _chosen(options["names"])]
        if options["json"]:
            self.stdout.write(json.dumps(results, ensure_ascii=False))
        else:
            for result in results:
                steps = ", ".join(f"{step} {outcome}" for step, outcome in result["steps"].items())
                self.stdout.write(f"{result['name']} ({result['system']}): {result['state']}; {steps}")
                self.stdout.write(f"  {result['message']}")
            if not results:
                self.stdout.write("There is no connection yet.")
        if any(not result["ok"] for result in results):
            raise SystemExit(1)


def _chosen(names: list[str]) -> list[Connection]:
    rows = Connection.objects.order_by("name")
    if not names:
        return list(rows)
    found = {row.name: row for row in rows.filter(name__in=names)}
    unknown = [name for name in names if name not in found]
    if unknown:
        raise CommandError(f"There is no connection called {', '.join(unknown)}.")
    return [found[name] for name in names]


def _examine(connection: Connection) -> dict[str, Any]:
    """Take the steps one after another; what comes after a failed one is not tried."""
    steps = {"address": "not tried", "login": "not tried", "rights": "not tried"}
    step = "address"
    try:
        _addresses(connection)
        steps["address"], step = "ok", "login"
        identity = transport.check(connection)
        steps["login"], step = "ok", "rights"
        if not identity.may:
            raise ConnectorError("The login works, but this account may not read a single entity.")
        steps["rights"] = "ok"
        message = f"Connected to {identity.account or identity.instance}; {len(identity.may)} entities can be read."
    except (ConnectorError, UnknownSystem) as error:
        steps[step], message = "failed", redaction.text(str(error))
    ok = all(outcome == "ok" for outcome in steps.values())
    return {
        "name": connection.name, "system": connection.system, "ok": ok, "state": connection.state,
        "instance": connection.instance, "account": connection.account, "steps": steps, "message": message,
    }  # fmt: skip


def _addresses(connection: Connection) -> None:
    """Resolve and check every host of the settings, without a connection yet."""
    cls, book = connector_class(connection.system), AddressBook()
    settings = effective_settings(connection, cls)
    for name in [s.name for s in cls.settings if s.is_url and settings.get(s.name)]:
        where = place(settings[name])
        book.addresses(where.host, where.port, plain=where.scheme == "http")
