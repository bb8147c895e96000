"""Which presets are there, and how is an integration made from one?  `manage.py preset list|apply`"""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Mapping

from django.core.management.base import BaseCommand, CommandError

from connectors.contract import ConnectorError
from connectors.models import Connection, Integration
from connectors.sync.compile import SettingsError
from connectors.sync.presets import Applied, Preset, apply_preset, presets
from connectors.sync.rules import LEFT, RIGHT
from connectors.transport import connected
from scheduling.services import make_services


class Command(BaseCommand):
    help = "List presets, or make an integration from one."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        listing = actions.add_parser("list", help="show the presets and what they ask for")
        listing.add_argument("--json", action="store_true")
        applying = actions.add_parser("apply", help="make an integration")
        applying.add_argument("preset")
        applying.add_argument("name", help="name of the new integration")
        applying.add_argument("--left", required=True, help="name of the left connection")
        applying.add_argument("--right", required=True, help="name of the right connection")
        applying.add_argument("--set", action="append", default=[], metavar="OPTION=VALUE")
        applying.add_argument("--first-run", choices=["preview", "apply"], default="")

    def handle(self, *args: object, **options: object) -> None:
        try:
            known = presets()
        except SettingsError as error:
            raise CommandError("\n".join(error.problems)) from error
        if options["action"] == "list":
            self._list(list(known.values()), as_json=bool(options["json"]))
            return
        preset = known.get(str(options["preset"]))
        if preset is None:
            raise CommandError(f"There is no preset {options['preset']!r}. There are: {', '.join(known)}.")
        applied = self._apply(preset, options)
        self.stdout.write(
            self.style.SUCCESS(
                f"{applied.integration} is made. Preview it: manage.py sync '{applied.integration}' --preview"
            )
        )
        for unmapped in applied.unmapped:
            self.stdout.write(self.style.WARNING(str(unmapped)))

    def _list(self, found: list[Preset], *, as_json: bool) -> None:
        if as_json:
            self.stdout.write(
                json.dumps(
                    [
                        {"name": p.name, "title": p.title, "left": p.left, "right": p.right, "options": p.options}
                        for p in found
                    ]
                )
            )
            return
        for preset in found:
            self.stdout.write(f"{preset.name}: {preset.title} ({preset.left} left, {preset.right} right)")
            for name, what in preset.options.items():
                self.stdout.write(f"  --set {name}={what.get('default', '')!r}: {what.get('help', '')}{_choices(what)}")

    def _apply(self, preset: Preset, options: dict[str, object]) -> Applied:
        ends = {LEFT: _connection(str(options["left"])), RIGHT: _connection(str(options["right"]))}
        if Integration.objects.filter(name=options["name"]).exists():
            raise CommandError(f"There is an integration {options['name']!r} already. Choose another name.")
        given = {}
        for pair in options["set"]:  # type: ignore[attr-defined]
            name, found, value = pair.partition("=")
            if not found:
                raise CommandError(f"--set wants OPTION=VALUE, not {pair!r}.")
            given[name] = value
        try:
            with connected(ends[LEFT]) as left, connected(ends[RIGHT]) as right:
                applied = apply_preset(
                    preset,
                    str(options["name"]),
                    ends,
                    {LEFT: left, RIGHT: right},
                    given,
                    first_run=str(options["first_run"]),
                )
            make_services(applied.integration)
            return applied
        except SettingsError as error:
            raise CommandError("\n".join(error.problems)) from error
        except ConnectorError as error:
            raise CommandError(str(error)) from error


def _connection(name: str) -> Connection:
    found = Connection.objects.filter(name=name).first()
    if found is None:
        known = ", ".join(Connection.objects.values_list("name", flat=True)) or "none yet"
        raise CommandError(f"There is no connection {name!r}. There are: {known}.")
    return found


def _choices(what: Mapping[str, object]) -> str:
    choices = what.get("choices")
    return f" ({' or '.join(str(c) for c in choices)})" if isinstance(choices, list) else ""
