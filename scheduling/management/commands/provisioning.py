"""Who asked for services, and what is decided?  `manage.py provisioning list|ask|approve|decline [INTEGRATION]`"""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError

from connectors.management.commands._common import integration_named
from connectors.models import Integration
from scheduling import provisioning
from scheduling.models import Provisioning
from scheduling.refusals import Refused

BY = "command line"


class Command(BaseCommand):
    help = "List requests to provision services, ask, approve or decline."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        listing = actions.add_parser("list", help="all requests, newest first: who and when")
        listing.add_argument("integration", nargs="?")
        listing.add_argument("--json", action="store_true")
        for name, told in (("ask", "place a request"), ("approve", "provision"), ("decline", "refuse, with a reason")):
            command = actions.add_parser(name, help=told)
            command.add_argument("integration", help="name or number")
            command.add_argument("--by", metavar="USER", help="act as this user of the hub; who asks is told by e-mail")
            if name == "decline":
                command.add_argument("--reason", required=True)

    def handle(self, *args: object, **options: Any) -> None:
        if options["action"] == "list":
            self._list(options)
            return
        integration, by = integration_named(options["integration"]), _person(options["by"])
        try:
            if options["action"] == "ask":
                self.stdout.write(provisioning.placed(provisioning.ask(integration, by=by)))
                return
            row = _open(integration)
            if options["action"] == "approve":
                provisioning.approve(row, by=by)
            else:
                provisioning.decline(row, options["reason"], by=by)
        except Refused as refused:
            raise CommandError("\n".join(refused.problems)) from refused
        self.stdout.write(f"{row}. {row.requested_name or 'Nobody'} is told by e-mail.")

    def _list(self, options: dict[str, Any]) -> None:
        rows = Provisioning.objects.select_related("integration")
        if options["integration"]:
            rows = rows.filter(integration=integration_named(options["integration"]))
        names = (
            "id",
            "integration__name",
            "status",
            "requested_name",
            "requested_at",
            "decided_name",
            "decided_at",
            "reason",
        )
        found = list(rows.values(*names)[:500])
        if options["json"]:
            self.stdout.write(json.dumps(found, default=str))
            return
        for row in found:
            asked = f"asked for by {row['requested_name'] or 'somebody'} {row['requested_at']:%Y-%m-%d %H:%M} UTC"
            decided = (
                f", decided by {row['decided_name']} {row['decided_at']:%Y-%m-%d %H:%M} UTC"
                if row["decided_at"]
                else ""
            )
            self.stdout.write(
                f"{row['id']}  {row['integration__name']}  {row['status']}  {asked}{decided}  {row['reason']}".rstrip()
            )
        if not found:
            self.stdout.write("Nobody has asked yet; the first save of a service does.")


def _person(name: str | None) -> User | str:
    if name is None:
        return BY
    found = User.objects.filter(username=name, is_active=True).first()
    if found is None:
        raise CommandError(f"There is no active user {name!r}.")
    return found


def _open(integration: Integration) -> Provisioning:
    row = integration.provisionings.filter(status=Provisioning.Status.REQUESTED).first()
    if row is None:
        raise CommandError(f"No request for {integration} waits. `provisioning list` shows all.")
    return row
