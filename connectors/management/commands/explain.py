"""Why is this record as it is?  `manage.py explain INTEGRATION ENTITY ID`"""

from __future__ import annotations

import json
from argparse import ArgumentParser

from django.core.management.base import BaseCommand, CommandError

from connectors.management.commands._common import integration_named
from connectors.sync.explain import Explanation, NotKnown, explain, find_link


class Command(BaseCommand):
    help = "Explain one record: both sides, the base, each field's rule, and why it is not in agreement."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("integration", help="name or number")
        parser.add_argument("entity", help="entity of either side, or an entity sync's name")
        parser.add_argument("id", help="the record's id in its system")
        parser.add_argument("--json", action="store_true")

    def handle(self, *args: object, **options: object) -> None:
        try:
            link = find_link(integration_named(str(options["integration"])), str(options["entity"]), str(options["id"]))
        except NotKnown as error:
            raise CommandError(str(error)) from error
        found = explain(link)
        if options["json"]:
            self.stdout.write(json.dumps(found.as_dict(), indent=2))
        else:
            self._tell(found)

    def _tell(self, found: Explanation) -> None:
        link = found.link
        self.stdout.write(
            f"{link.entity_sync}: {link.left_entity} {link.left_id or '-'} = {link.right_entity} {link.right_id or '-'}"
        )
        self.stdout.write(f"{found.reason or 'agreed'}: {found.sentence}\n")
        for line in found.fields:
            mark = " " if line["agreed"] else "*"
            self.stdout.write(
                f"{mark} {line['field']}: left {line['left']!r}, base {line['base']!r}, right {line['right']!r} {line['rule']}"
            )
        for change in found.changes:
            self.stdout.write(
                f"{change['at']} run {change['run']}: {change['verb']} {change['side']} {change['status']} {change['message']}"
            )
        for event in found.events:
            self.stdout.write(event)
