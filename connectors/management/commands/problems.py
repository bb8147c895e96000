"""Which problems are there, and what is done about a whole group?  `manage.py problems list|retry|map|resolve|reopen`"""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from connectors.management.commands._common import integration_named
from connectors.models import ProblemGroup
from connectors.sync.problems import MOST_COUNTED, NotMended, hint_of, title_of
from connectors.sync.retrying import How
from jobs import clock, problems
from jobs.syncing import NotNow

MOST = 500  # lines of one list
BY = "manage.py problems"


class Command(BaseCommand):
    help = "List what keeps records from agreement or lets jobs fail, by cause, and do something about a whole group."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        listing = actions.add_parser("list", help="show problems, the last seen first")
        listing.add_argument("--integration", help="name or number")
        listing.add_argument("--resolved", action="store_true", help="the resolved ones instead")
        listing.add_argument("--json", action="store_true")
        for name, told in (
            ("retry", "try all records or jobs of a problem again"),
            ("release", "the same as retry"),
            ("map", "say which option of the other side a missing one is, and try again"),
            ("resolve", "put a problem aside until its cause is met again"),
            ("reopen", "take back a resolve"),
        ):
            command = actions.add_parser(name, help=told)
            command.add_argument("problem", type=int, help="number, as `list` shows it")
            if name in ("retry", "release"):
                command.add_argument("--how", choices=[str(how) for how in How], default=str(How.REREAD))
            if name == "map":
                command.add_argument("--option", help="key or label; without it the choices are listed")

    def handle(self, *args: object, **options: Any) -> None:
        if options["action"] == "list":
            self._list(options)
            return
        group = problems.groups().filter(pk=options["problem"]).first()
        if group is None:
            raise CommandError(f"There is no problem {options['problem']}. `problems list` shows them.")
        try:
            self._decide(group, options)
        except (NotMended, NotNow) as refusal:
            raise CommandError(str(refusal)) from refusal

    def _decide(self, group: ProblemGroup, options: dict[str, Any]) -> None:
        match options["action"]:
            case "retry" | "release":
                self._told(problems.retry(group, How(options["how"]), by=BY))
            case "map":
                self._map(group, options["option"])
            case "resolve":
                problems.resolve(group, by=BY)
                self.stdout.write("Resolved: it is listed again when its cause is met again.")
            case _:
                problems.reopen(group, by=BY)
                self.stdout.write("Open again.")

    def _map(self, group: ProblemGroup, wanted: str | None) -> None:
        found = problems.missing(group)
        if found is None:
            raise NotMended("This problem is not about an option of a picklist that can be mapped here.")
        if wanted is None:
            self.stdout.write(f"{found.label} on the {found.side} has no partner. --option takes one of:")
            for option in found.choices:
                self.stdout.write(f"  {option.key}  {option.label}")
            return
        key = next((option.key for option in found.choices if wanted in (option.key, option.label)), wanted)
        self._told(problems.map_option(group, key, by=BY))

    def _told(self, answer: problems.Retried) -> None:
        self.stdout.write(f"Requested: {', '.join(f'job {job.pk}' for job in answer.jobs)}.")
        for sentence in answer.refused:
            self.stderr.write(sentence)

    def _list(self, options: dict[str, Any]) -> None:
        rows = problems.groups()
        rows = problems.resolved(rows) if options["resolved"] else problems.still_open(rows)
        if options["integration"]:
            rows = rows.filter(integration=integration_named(options["integration"]))
        found = list(rows[:MOST])
        if options["json"]:
            self.stdout.write(json.dumps([_as_dict(group) for group in found]))
            return
        for group in found:
            state = problems.state_of(group, clock.now())
            count = getattr(group, "count", 0)
            shown = f"{MOST_COUNTED}+" if count > MOST_COUNTED else str(count)
            self.stdout.write(f"{group.pk}  {state.word}  {shown} {group.kind}  {title_of(group)}")
            self.stdout.write(f"    {hint_of(group)}")
        self.stdout.write(f"{len(found)} problems." if len(found) < MOST else f"The first {MOST}.")


def _as_dict(group: ProblemGroup) -> dict[str, object]:
    return {
        "id": group.pk, "key": group.key, "kind": group.kind, "title": title_of(group), "hint": hint_of(group),
        "count": getattr(group, "count", 0), "integration": group.integration.name if group.integration else None,
        "code": group.code, "state": problems.state_of(group, clock.now()).word,
        "first_seen": group.first_seen.isoformat(), "last_seen": group.last_seen.isoformat(),
    }  # fmt: skip
