"""On which days does nothing start?  `manage.py blackouts list|add|remove`"""

from __future__ import annotations

import json
from argparse import ArgumentParser, ArgumentTypeError
from datetime import date
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from connectors.management.commands._common import integration_named
from scheduling import blackouts
from scheduling.models import Blackout
from scheduling.refusals import Refused

BY = "command line"


class Command(BaseCommand):
    help = "List, add or remove days on which no service starts."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        listing = actions.add_parser("list", help="all blackouts")
        listing.add_argument("--json", action="store_true")
        adding = actions.add_parser("add", help="a holiday, a range, or the end of each month")
        adding.add_argument("name")
        adding.add_argument("--first", type=_date, metavar="YYYY-MM-DD")
        adding.add_argument("--last", type=_date, metavar="YYYY-MM-DD", help="part of it; without it, the first")
        adding.add_argument("--yearly", action="store_true", help="the same days each year")
        adding.add_argument("--month-end", action="store_true", help="the last day of each month, and days around it")
        adding.add_argument("--before", type=int, default=0, metavar="DAYS", help="with --month-end")
        adding.add_argument("--after", type=int, default=0, metavar="DAYS", help="with --month-end")
        adding.add_argument("--integration", help="name or number; without it, all")
        adding.add_argument("--service", help="name of one service of the integration; without it, all")
        removing = actions.add_parser("remove")
        removing.add_argument("id", type=int)

    def handle(self, *args: object, **options: Any) -> None:
        match options["action"]:
            case "list":
                self._list(as_json=options["json"])
            case "add":
                self._add(options)
            case _:
                row = Blackout.objects.select_related("integration").filter(pk=options["id"]).first()
                if row is None:
                    raise CommandError(f"There is no blackout {options['id']}. `blackouts list` shows them.")
                blackouts.remove(row, by=BY)
                self.stdout.write(f"{row} is removed.")

    def _list(self, *, as_json: bool) -> None:
        rows = Blackout.objects.select_related("integration", "service")
        if as_json:
            names = ("id", "name", "kind", "first", "last", "days_before", "days_after", "integration", "service")
            self.stdout.write(json.dumps(list(rows.values(*names)), default=str))
            return
        for row in rows:
            days = f"{row.first} to {row.last}" if row.first else f"{row.days_before} before, {row.days_after} after"
            concerns = row.service or row.integration or "all integrations"
            self.stdout.write(f"{row.pk}  {row.name}  {row.get_kind_display().lower()}: {days}  {concerns}")

    def _add(self, options: dict[str, Any]) -> None:
        kind = Blackout.Kind.YEARLY if options["yearly"] else Blackout.Kind.DATES
        row = Blackout(
            name=options["name"], kind=Blackout.Kind.MONTH_END if options["month_end"] else kind, first=options["first"],
            last=options["last"] or options["first"], days_before=options["before"], days_after=options["after"],
        )  # fmt: skip
        if options["integration"]:
            row.integration = integration_named(options["integration"])
        if options["service"]:
            if row.integration is None:
                raise CommandError("--service needs --integration.")
            row.service = row.integration.services.filter(name=options["service"]).first()
            if row.service is None:
                raise CommandError(f"{row.integration} has no service {options['service']!r}.")
        try:
            blackouts.save(row, by=BY)
        except Refused as refused:
            raise CommandError("\n".join(refused.problems)) from refused
        self.stdout.write(f"{row.pk}  {row} is added.")


def _date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} is no day; write it as 2026-12-24") from error
