"""Which records are not in agreement, and what is decided about them?  `manage.py links list|retry|resolve|join|unlink|...`"""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Callable
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from connectors.management.commands._common import integration_named
from connectors.models import Connection, RecordLink
from connectors.sync import decisions, joining, routing
from connectors.sync.explain import REASONS, linked_by, reason_word, sentence_of, title_of
from jobs import clock

MOST = 1000  # lines of one list
DONE = {
    "retry": "to be tried again", "resolve": "resolved", "approve": "approved", "promote": "promoted", "hold": "held",
    "release": "released", "join": "joined", "accept": "accepted", "not-same": "told apart", "unlink": "unlinked", "relink": "linked again",
}  # fmt: skip


class Command(BaseCommand):
    help = "List the records that are not in agreement, and decide about them."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        listing = actions.add_parser("list", help="show what is not in agreement, and why")
        listing.add_argument("--reason", choices=sorted(REASONS)[1:])
        listing.add_argument("--entity", help="name of an entity sync")
        listing.add_argument("--integration", help="name or number")
        listing.add_argument("--json", action="store_true")
        lonely = actions.add_parser("unrouted", help="show the records that belong to no integration's company")
        lonely.add_argument("connection", help="name of the connection that several companies share")
        for name, told in (
            ("retry", "plan parked records again"),
            ("resolve", "settle conflicts"),
            ("approve", "allow deletes that wait"),
            ("promote", "let records flow that flow only on request"),
            ("hold", "leave records alone"),
            ("release", "end a hold"),
            ("accept", "leave records as an undo made them"),
            ("join", "make a record of each side partners"),
            ("not-same", "say that a record is not the same as another, or as any that it could be"),
            ("unlink", "take partners apart; both records stay"),
            ("relink", "make them partners again"),
        ):
            command = actions.add_parser(name, help=told)
            command.add_argument("links", nargs="+", metavar="LINK", help="number or key of a link, as `list` shows it")
            if name in ("join", "not-same"):
                command.add_argument("--with", dest="other", required=name == "join", help="the other link")
            if name == "resolve":
                command.add_argument("--winner", choices=["left", "right"], required=True)
            if name in ("hold", "unlink"):
                command.add_argument("--why", default="")

    def handle(self, *args: object, **options: Any) -> None:
        if options["action"] == "list":
            self._list(options)
            return
        if options["action"] == "unrouted":
            self._unrouted(options["connection"])
            return
        decided, refused = decisions.many(_named(options["links"]), _decision(options))
        later = (
            ""
            if not decided or options["action"] in ("hold", "release", "accept", "unlink")
            else " The next sync carries it out."
        )
        self.stdout.write(f"{len(decided)} {DONE[options['action']]}.{later}")
        if refused:
            raise CommandError("\n".join(refused))

    def _unrouted(self, name: str) -> None:
        connection = Connection.objects.filter(name=name).first()
        if connection is None:
            known = ", ".join(Connection.objects.order_by("name").values_list("name", flat=True)) or "none"
            raise CommandError(f"There is no connection {name!r}. There are: {known}.")
        found, more = routing.unrouted(connection)
        for record in found:
            why = (
                f"{record.column} is {record.value}, which no integration has"
                if record.value
                else f"{record.column} is empty"
            )
            self.stdout.write(f"{record.link}  {record.entity} {record.id}: {why}")
        self.stdout.write(f"The first {len(found)} records; there are more." if more else f"{len(found)} records.")

    def _list(self, options: dict[str, Any]) -> None:
        rows = RecordLink.objects.filter(pending__isnull=False).select_related(
            "entity_sync", "integration__left", "integration__right"
        )
        if options["integration"]:
            rows = rows.filter(integration=integration_named(options["integration"]))
        if options["entity"]:
            rows = rows.filter(entity_sync__name=options["entity"])
        if options["reason"]:
            rows = rows.filter(reason=options["reason"])
        found = list(rows.order_by("id")[:MOST])
        if options["json"]:
            self.stdout.write(json.dumps([_as_dict(link) for link in found]))
            return
        waited = linked_by(link.waits_on for link in found if link.waits_on)
        for link in found:
            why = sentence_of(link, waited)
            self.stdout.write(f"{link.pk}  {link.entity_sync.name}  {title_of(link)}  {reason_word(link)}: {why}")
        self.stdout.write(f"{len(found)} records." if len(found) < MOST else f"The first {MOST}.")


def _as_dict(link: RecordLink) -> dict[str, object]:
    return {
        "id": link.pk, "key": link.key, "integration": link.integration.name, "entity_sync": link.entity_sync.name,
        "left_id": link.left_id, "right_id": link.right_id, "pending": link.get_pending_display(), "reason": link.reason,
    }  # fmt: skip


def _named(names: list[str]) -> list[RecordLink]:
    found: list[RecordLink] = []
    for name in names:
        wanted = {"pk": int(name)} if name.isdigit() else {"key": name}
        link = RecordLink.objects.select_related("entity_sync").filter(**wanted).first()
        if link is None:
            raise CommandError(f"There is no link {name}. `links list` shows those that are not in agreement.")
        found.append(link)
    return found


def _decision(options: dict[str, Any]) -> Callable[[RecordLink], object]:
    how: dict[str, Any] = {"now": clock.now(), "by": "manage.py links"}
    name = options["action"]
    if name == "resolve":
        return lambda link: decisions.resolve(link, options["winner"], **how)
    if name in ("hold", "unlink"):
        part = decisions.hold if name == "hold" else joining.unlink
        return lambda link: part(link, why=options["why"], **how)
    if name in ("join", "not-same"):
        other = _named([options["other"]])[0] if options["other"] else None
        if name == "join" and other is not None:
            return lambda link: joining.join(link, other, **how)
        return lambda link: joining.not_same(link, other, **how)
    plain: dict[str, Callable[..., object]] = {
        "retry": decisions.retry, "approve": decisions.approve, "promote": decisions.promote, "release": decisions.release,
        "accept": decisions.accept, "relink": joining.relink,
    }  # fmt: skip
    return lambda link: plain[name](link, **how)
