"""Take one person's values out of logs and history: `manage.py erase --integration X --entity-sync customer --left-id 5`"""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from connectors.management.commands._common import integration_named
from jobs import clock
from jobs.housekeeping import erase
from jobs.syncing import NotNow


class Command(BaseCommand):
    help = (
        "Erase the values of one record from changes, events, API calls, jobs and messages; ids and counts stay. The two systems "
        "themselves are not touched: delete the person there first, else the next run reads the values again."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--integration", required=True, help="name or number")
        parser.add_argument("--entity-sync", required=True, help="its name")
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("--left-id", help="the record's id on the left")
        which.add_argument("--right-id", help="the record's id on the right")
        parser.add_argument(
            "--value", action="append", default=[], help="a further value to erase; may be given several times"
        )
        parser.add_argument("--by", default="command line", help="who asked for it, for the event that tells it")

    def handle(self, *args: Any, **options: Any) -> None:
        integration = integration_named(options["integration"])
        sync = integration.entity_syncs.filter(name=options["entity_sync"]).first()
        if sync is None:
            known = ", ".join(integration.entity_syncs.values_list("name", flat=True))
            raise CommandError(f"{integration} has no entity sync {options['entity_sync']!r}. It has: {known}.")
        side = "left" if options["left_id"] is not None else "right"
        try:
            done = erase.erase(
                sync, side, options[f"{side}_id"], by=options["by"], now=clock.now(), values=options["value"]
            )
        except NotNow as refusal:
            raise CommandError(str(refusal)) from refusal
        self.stdout.write(str(done))
