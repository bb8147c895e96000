"""Which records are not in agreement, and what is decided about them?  `manage.py links list|conflicts|resolve|resync|join|...`"""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Callable, Mapping
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.core.serializers.json import DjangoJSONEncoder

from connectors.management.commands._common import integration_named
from connectors.models import Connection, RecordLink
from connectors.sync import conflicts, decisions, joining, routing, support
from connectors.sync.conflicts import Kind, Wanted
from connectors.sync.explain import REASONS, VERBS, linked_by, queued_of, reason_word, sentence_of, title_of
from connectors.sync.matching import ELSEWHERE
from connectors.sync.retrying import How
from connectors.sync.timeline import USUAL, BadCursor, timeline
from connectors.sync.timeline import Kind as Happened
from jobs import clock, records
from jobs.models import Job
from jobs.records import CHOICES
from jobs.syncing import NotNow

MOST = 1000  # lines of one list
BY = "manage.py links"
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
        listing.add_argument(
            "--elsewhere", action="store_true", help="also records that have their partner by another kind"
        )
        listing.add_argument("--json", action="store_true")
        self._more(actions)
        lonely = actions.add_parser("unrouted", help="show the records that belong to no integration's company")
        lonely.add_argument("connection", help="name of the connection that several companies share")
        self._decisions(actions)

    def _decisions(self, actions: Any) -> None:
        """What a person decides about the links that are named."""
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
                how = command.add_mutually_exclusive_group(required=True)
                how.add_argument(
                    "--winner", choices=["left", "right"], help="of every field, or of a deleted record's partner"
                )
                how.add_argument(
                    "--field",
                    action="append",
                    default=[],
                    metavar="NAME=SIDE",
                    help='a side for each field, as "Name>name=left"',
                )
            if name in ("hold", "unlink"):
                command.add_argument("--why", default="")

    def _more(self, actions: Any) -> None:
        """What is not a plain decision about the links that are named."""
        waiting = actions.add_parser("conflicts", help="show what waits for a choice, or decide all of it")
        waiting.add_argument("--integration", help="name or number")
        waiting.add_argument("--entity", help="name of an entity sync; needs --integration")
        waiting.add_argument("--kind", choices=[str(kind) for kind in Kind])
        waiting.add_argument(
            "--decide", choices=sorted(CHOICES), help="decide all that the filter finds; only counts without --expect"
        )
        waiting.add_argument(
            "--expect", type=int, help="how many there are, as the count said; refused where it is another number"
        )
        waiting.add_argument("--sync", action="store_true", help="ask for a sync of each integration afterwards")
        waiting.add_argument("--json", action="store_true")
        again = actions.add_parser("resync", help="try single records again now")
        again.add_argument("links", nargs="+", metavar="LINK", help="number or key of a link")
        again.add_argument("--how", choices=[str(how) for how in How], default=str(How.REREAD))
        taking = actions.add_parser("undo-last", help="propose to take back what was written of a record last")
        taking.add_argument("links", nargs="+", metavar="LINK")
        history = actions.add_parser("timeline", help="show what happened to a record")
        history.add_argument("link", metavar="LINK")
        history.add_argument("--kind", choices=[str(kind) for kind in Happened])
        history.add_argument("--before", default="")
        helping = actions.add_parser("support", help="write a bundle for somebody who helps, without personal values")
        helping.add_argument("link", metavar="LINK")

    def handle(self, *args: object, **options: Any) -> None:
        own: Mapping[str, Callable[[dict[str, Any]], None]] = {
            "list": self._list, "unrouted": lambda told: self._unrouted(told["connection"]), "conflicts": self._conflicts,
            "resync": self._resync, "undo-last": self._undo_last, "timeline": self._timeline, "support": self._support,
        }  # fmt: skip
        if options["action"] in own:
            own[options["action"]](options)
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

    def _conflicts(self, options: dict[str, Any]) -> None:
        wanted = _wanted(options)
        links, total = conflicts.chosen(wanted, None)
        if options["decide"]:
            self._decide(options, links, total)
            return
        if options["json"]:
            self.stdout.write(json.dumps([_conflict(link) for link in links]))
            return
        for link in links:
            self.stdout.write(
                f"{link.pk}  {link.integration}, {link.entity_sync.name}  {title_of(link)}: {sentence_of(link)}"
            )
            for line in conflicts.lines_of(link):
                self.stdout.write(f"    {line.name}: left {line.left} | base {line.base} | right {line.right}")
        self.stdout.write(f"{total} conflicts." if total == len(links) else f"The first {len(links)} of {total}.")

    def _decide(self, options: dict[str, Any], links: list[RecordLink], total: int) -> None:
        if options["expect"] is None:
            self.stdout.write(f"{total} conflicts. Nothing was decided: repeat it with --expect {total}.")
            return
        if options["expect"] != total:
            raise CommandError(f"There are {total} now instead of {options['expect']}. Nothing was decided.")
        done = records.decide_conflicts(links, options["decide"], by=BY, sync=options["sync"])
        self.stdout.write(f"{len(done.done)} decided.")
        for job in done.jobs:
            self.stdout.write(f"Requested: job {job.pk}.")
        for sentence in [*done.notes, *(why for _, why in done.refused)]:
            self.stderr.write(sentence)

    def _resync(self, options: dict[str, Any]) -> None:
        self._ask(options["links"], lambda link: records.try_again(link, How(options["how"]), by=BY))

    def _undo_last(self, options: dict[str, Any]) -> None:
        self._ask(options["links"], lambda link: records.undo_last(link, by=BY))

    def _ask(self, names: list[str], ask: Callable[[RecordLink], Job]) -> None:
        refused: list[str] = []
        for link in _named(names):
            try:
                self.stdout.write(f"{title_of(link)}: job {ask(link).pk}.")
            except (decisions.Undecidable, NotNow) as refusal:
                refused.append(str(refusal))
        if refused:
            raise CommandError("\n".join(refused))

    def _timeline(self, options: dict[str, Any]) -> None:
        kinds = (Happened(options["kind"]),) if options["kind"] else USUAL
        try:
            entries, following = timeline(_named([options["link"]])[0], kinds, options["before"])
        except BadCursor as error:
            raise CommandError(str(error)) from error
        for entry in entries:
            row = entry.row
            if entry.kind is Happened.CHANGE:
                text = f"{VERBS.get(row.verb, row.verb)} on the {row.side}, {row.status} {row.message}"
            elif entry.kind is Happened.CALL:
                text = f"{row.method} {row.path} {row.status}"
            else:
                text = f"{row.message} {row.actor}"
            self.stdout.write(f"{entry.at.isoformat()} {text}".rstrip())
        if following:
            self.stdout.write(f"More: --before '{following}'")

    def _support(self, options: dict[str, Any]) -> None:
        [link] = _named([options["link"]])
        told = support.bundle(link, records.gates(link))
        self.stdout.write(json.dumps(told, indent=2, cls=DjangoJSONEncoder))

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
        if not options["elsewhere"]:
            rows = rows.exclude(args__in=ELSEWHERE)
        found = list(rows.order_by("id")[:MOST])
        if options["json"]:
            self.stdout.write(json.dumps([_as_dict(link) for link in found]))
            return
        waited, queued = linked_by(link.waits_on for link in found if link.waits_on), queued_of(found)
        for link in found:
            why = sentence_of(link, waited, queued.get(link.pk))
            self.stdout.write(f"{link.pk}  {link.entity_sync.name}  {title_of(link)}  {reason_word(link)}: {why}")
        self.stdout.write(f"{len(found)} records." if len(found) < MOST else f"The first {MOST}.")


def _as_dict(link: RecordLink) -> dict[str, object]:
    return {
        "id": link.pk, "key": link.key, "integration": link.integration.name, "entity_sync": link.entity_sync.name,
        "left_id": link.left_id, "right_id": link.right_id, "pending": link.get_pending_display(), "reason": link.reason,
    }  # fmt: skip


def _conflict(link: RecordLink) -> dict[str, object]:
    lines = [{"name": n.name, "left": n.left, "base": n.base, "right": n.right} for n in conflicts.lines_of(link)]
    return {**_as_dict(link), "kind": conflicts.kind_of(link), "fields": lines}


def _wanted(options: dict[str, Any]) -> Wanted:
    if options["integration"] is None:
        if options["entity"]:
            raise CommandError("--entity needs --integration: other integrations may have one of that name.")
        return Wanted(kind=Kind(options["kind"]) if options["kind"] else None)
    integration = integration_named(options["integration"])
    sync = integration.entity_syncs.filter(name=options["entity"]).first() if options["entity"] else None
    if options["entity"] and sync is None:
        known = ", ".join(integration.entity_syncs.values_list("name", flat=True))
        raise CommandError(f"{integration} has no entity sync {options['entity']!r}. It has: {known}.")
    return Wanted(integration.pk, sync.pk if sync else None, Kind(options["kind"]) if options["kind"] else None)


def _sides(given: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in given:
        name, equals, side = text.rpartition("=")
        if not equals or side not in ("left", "right"):
            raise CommandError(f"{text!r}: write NAME=left or NAME=right, with the name as `links conflicts` shows it.")
        found[name] = side
    return found


def _named(names: list[str]) -> list[RecordLink]:
    found: list[RecordLink] = []
    for name in names:
        wanted = {"pk": int(name)} if name.isdecimal() else {"key": name}
        rows = RecordLink.objects.select_related("entity_sync", "scope", "integration__left", "integration__right")
        link = rows.filter(**wanted).first()
        if link is None:
            raise CommandError(f"There is no link {name}. `links list` shows those that are not in agreement.")
        found.append(link)
    return found


def _decision(options: dict[str, Any]) -> Callable[[RecordLink], object]:
    how: dict[str, Any] = {"now": clock.now(), "by": BY}
    name = options["action"]
    if name == "resolve":
        winner = options["winner"] or _sides(options["field"])
        return lambda link: decisions.resolve(link, winner, **how)
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
