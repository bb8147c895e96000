"""Show or change the preferences of an integration.  `manage.py preferences INTEGRATION [--set KEY=VALUE ...]`"""

from __future__ import annotations

import json
from argparse import ArgumentParser
from dataclasses import asdict

from django.core.management.base import BaseCommand, CommandError

from connectors.admin.preferences import change
from connectors.contract import ConnectorError
from connectors.management.commands._common import integration_named
from connectors.models import Integration
from connectors.sync import preferences
from connectors.sync.preferences import PreferencesError


class Command(BaseCommand):
    help = "Show or change who wins, how names match, what is taken, for each entity sync of an integration."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("integration")
        parser.add_argument(
            "--set", action="append", default=[], metavar="KEY=VALUE", help="such as customer.policy=left"
        )
        parser.add_argument("--route", metavar="COLUMN=VALUE", help="whose records are taken; = alone: all")
        parser.add_argument("--json", action="store_true")

    def handle(self, *args: object, **options: object) -> None:
        integration = integration_named(str(options["integration"]))
        given: dict[str, str] = {}
        for pair in options["set"]:  # type: ignore[attr-defined]
            key, found, value = pair.partition("=")
            if not found:
                raise CommandError(f"--set wants KEY=VALUE, not {pair!r}.")
            given[key] = value
        route = None
        if options["route"] is not None:
            column, _, choice = str(options["route"]).partition("=")
            route = (column.strip(), choice.strip())
        try:
            for said in change(integration, given, route, by="command line"):
                self.stdout.write(self.style.SUCCESS(said))
        except (PreferencesError, ConnectorError) as error:
            raise CommandError(str(error)) from error
        if not given and route is None:
            self._show(integration, as_json=bool(options["json"]))

    def _show(self, integration: Integration, *, as_json: bool) -> None:
        found = preferences.read(integration)
        if as_json:
            self.stdout.write(json.dumps({"preferences": [asdict(one) for one in found], "route": integration.route}))
            return
        for one in found:
            choices = f"  ({', '.join(value for value, _ in one.choices)})" if one.choices else f"  {one.help}"
            self.stdout.write(f"{one.key} = {one.value or '-'}{choices}")
        self.stdout.write(f"route: {integration.route or 'all records'}")
