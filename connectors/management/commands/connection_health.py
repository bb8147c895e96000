"""How well do the connections work?  The figures of the health page, and with --test where one fails."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand
from django.core.serializers.json import DjangoJSONEncoder

from connectors.management.commands._common import connection_named
from connectors.models import Connection
from connectors.transport import figures, testing
from jobs import clock


class Command(BaseCommand):
    help = "Show figures, quotas and the state of connections. Ends with 1 when a test failed."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("names", nargs="*", metavar="NAME", help="connections; all when none is named")
        parser.add_argument("--test", action="store_true", help="take the steps: name, encryption, login, read, write")
        parser.add_argument("--json", action="store_true", help="print a JSON list instead of text")

    def handle(self, *args: Any, **options: Any) -> None:
        found = [connection_named(name) for name in options["names"]] or list(Connection.objects.order_by("name"))
        told = [self._look(connection, test=options["test"]) for connection in found]
        if options["json"]:
            self.stdout.write(json.dumps(told, cls=DjangoJSONEncoder, ensure_ascii=False))
        else:
            for one in told:
                self._print(one)
            if not told:
                self.stdout.write("There is no connection yet.")
        if any(step["outcome"] == testing.FAILED for one in told for step in one.get("steps", ())):
            raise SystemExit(1)

    def _look(self, connection: Connection, *, test: bool) -> dict[str, Any]:
        steps = {"steps": [asdict(step) for step in testing.examine(connection)]} if test else {}
        connection.refresh_from_db()
        seen = figures.figures(connection, clock.now()).as_data()
        return {"name": connection.name, "system": connection.system, **seen, **steps}

    def _print(self, one: dict[str, Any]) -> None:
        self.stdout.write(f"{one['name']} ({one['system']}): {one['state']}. {one['reason']}")
        speed = (
            f"half within {one['p50_ms']} ms, 95 of 100 within {one['p95_ms']} ms" if one["p50_ms"] else "no answers"
        )
        self.stdout.write(f"  {one['calls_24h']} calls in 24 h, {one['errors_24h']} errors; {speed}")
        for quota in one["quotas"]:
            self.stdout.write(f"  {quota['name']}: {quota['used']} of {quota['amount']} used")
        for step in one.get("steps", ()):
            self.stdout.write(f"  {step['title']}: {step['outcome']}. {step['words']}".rstrip(". ") + ".")
