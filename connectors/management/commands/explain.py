"""Why is this record as it is?  `manage.py explain INTEGRATION ENTITY ID`"""

from __future__ import annotations

import json
from argparse import ArgumentParser

from django.core.management.base import BaseCommand, CommandError

from connectors.management.commands._common import integration_named
from connectors.sync.explain import (
    VERBS,
    Explanation,
    NotKnown,
    Teller,
    explain,
    find_link,
    reason_word,
    title_of,
)
from connectors.sync.gates import Passed
from connectors.sync.plan import Life
from connectors.sync.rules import LEFT, RIGHT, field_title
from jobs import records

MARKS = {Passed.YES: "[x]", Passed.NO: "[!]", Passed.WAITS: "[~]", Passed.LATER: "[ ]"}


class Command(BaseCommand):
    help = "Explain one record: both sides, the base, each field's rule, and why it is not in agreement."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("integration", help="name or number")
        parser.add_argument("entity", help="entity of either side, or an entity sync's name")
        parser.add_argument(
            "id", help="the record's id in its system, or link:N with the number that `links list` shows"
        )
        parser.add_argument("--json", action="store_true")

    def handle(self, *args: object, **options: object) -> None:
        try:
            link = find_link(integration_named(str(options["integration"])), str(options["entity"]), str(options["id"]))
        except NotKnown as error:
            raise CommandError(str(error)) from error
        found = explain(link)
        if options["json"]:
            gates = [{"gate": g.title, "passed": str(g.passed), "why": g.why} for g in records.gates(link)]
            self.stdout.write(json.dumps({**found.as_dict(), "gates": gates}, indent=2))
        else:
            self._tell(found)

    def _tell(self, found: Explanation) -> None:
        link = found.link
        self.stdout.write(f"{link.entity_sync}: {title_of(link)}")
        self.stdout.write(f"{reason_word(link)}: {found.sentence}\n")
        for gate in records.gates(link):
            self.stdout.write(f"{MARKS[gate.passed]} {gate.title}" + (f": {gate.why}" if gate.why else ""))
        self.stdout.write("")
        teller = Teller.of(found)
        for line in found.fields:
            mark, name = " " if line["agreed"] else "*", str(line["field"])
            left, right = (teller.held(link, side, name, line[side]) for side in (LEFT, RIGHT))
            base = teller.text(name, line["base"])
            left = "deleted" if link.left_life == Life.GONE else left
            right = "deleted" if link.right_life == Life.GONE else right
            rule = f"  ({line['rule']})" if line["rule"] else ""
            self.stdout.write(f"{mark} {field_title(name)}: left {left} | base {base} | right {right}{rule}")
        if any(not line["agreed"] for line in found.fields):
            self.stdout.write("* both sides do not agree on this field (base: what they last agreed on).")
        for change in found.changes:
            self.stdout.write(
                f"{change['at']} run {change['run']}: {VERBS.get(str(change['verb']), change['verb'])} on the "
                f"{change['side']}, {change['status']} {change['message']}".rstrip()
            )
        for event in found.events:
            self.stdout.write(event)
