"""`manage.py jobs`: list, show, retry, cancel and bring forward jobs from the command line."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from jobs import operate
from jobs.models import Job
from jobs.states import IllegalTransition, StatusReason

BY = "command line"
COLUMNS = ("id", "type", "status_reason", "attempt", "priority", "run_at", "lock_key", "error_message")


class Command(BaseCommand):
    help = "Look at background jobs and act on them."

    def add_arguments(self, parser: CommandParser) -> None:
        commands = parser.add_subparsers(dest="command", required=True)
        listing = commands.add_parser("list", help="newest first")
        listing.add_argument("--status", choices=StatusReason.values)
        listing.add_argument("--type")
        listing.add_argument("--limit", type=int, default=50)
        listing.add_argument("--json", action="store_true")
        show = commands.add_parser("show", help="everything about one job, with its timeline")
        show.add_argument("ids", type=int, nargs=1, metavar="ID")
        show.add_argument("--json", action="store_true")
        for name, text in (
            ("retry", "begin anew with failed or cancelled jobs"),
            ("cancel", "cancel jobs; a running one stops at its next safe point"),
            ("run", "bring waiting jobs forward, or run finished ones again"),
        ):
            command = commands.add_parser(name, help=text)
            command.add_argument("ids", type=int, nargs="+", metavar="ID")
            command.add_argument("--reason", default="")
            if name == "run":
                command.add_argument("--now", action="store_true", help="bring a waiting job or a retry forward")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["command"] == "list":
            return self._list(options)
        jobs = Job.objects.in_bulk(options["ids"])
        missing = [str(pk) for pk in options["ids"] if pk not in jobs]
        if missing:
            raise CommandError(f"There is no job {', '.join(missing)}.")
        if options["command"] == "show":
            return self._show(jobs[options["ids"][0]], as_json=options["json"])
        refused = 0
        for pk in options["ids"]:
            try:
                self.stdout.write(self._act(jobs[pk], options))
            except IllegalTransition as refusal:
                refused += 1
                self.stderr.write(f"{pk}: refused: {refusal}")
        if refused:
            raise CommandError(f"{refused} of {len(options['ids'])} refused.")
        return None

    def _act(self, job: Job, options: dict[str, Any]) -> str:
        reason = options["reason"]
        match options["command"]:
            case "retry":
                operate.retry(job, by=BY, reason=reason)
                return f"{job.pk}: waiting again"
            case "cancel":
                done = operate.cancel(job, by=BY, reason=reason or "cancelled at the command line")
                return f"{job.pk}: cancelled" if done else f"{job.pk}: will stop at its next safe point"
        if options["now"]:
            operate.run_now(job, by=BY, reason=reason)
            return f"{job.pk}: due at {job.run_at:%Y-%m-%d %H:%M:%S} UTC"
        again = operate.run_again(job, by=BY)
        return f"{job.pk}: runs again as {again.pk}"

    def _list(self, options: dict[str, Any]) -> None:
        jobs = Job.objects.order_by("-id")
        if options["status"]:
            jobs = jobs.filter(status_reason=options["status"])
        if options["type"]:
            jobs = jobs.filter(type=options["type"])
        rows = list(jobs.values(*COLUMNS)[: options["limit"]])
        if options["json"]:
            self.stdout.write(json.dumps(rows, default=str))
            return
        for row in rows:
            when = f"{row['run_at']:%Y-%m-%d %H:%M:%S}"
            text = f"{row['id']:>8}  {row['status_reason']:<14}  {row['type']:<20}  {when}  {row['lock_key']}"
            self.stdout.write(f"{text}  {row['error_message'][:80]}".rstrip())
        if not rows:
            self.stdout.write("There are no such jobs.")

    def _show(self, job: Job, *, as_json: bool) -> None:
        hidden = {"dispatch_token", "lease_token"}
        row = {f.attname: getattr(job, f.attname) for f in job._meta.concrete_fields if f.attname not in hidden}
        steps = list(job.transitions.order_by("id").values("at", "from_status", "to_status", "actor", "by", "reason"))
        if as_json:
            self.stdout.write(json.dumps({**row, "timeline": steps}, default=str))
            return
        for name, value in row.items():
            if value not in (None, "", {}, False):
                self.stdout.write(f"{name:<16} {value}")
        for step in steps:
            move = f"{step['from_status'] or 'new'} -> {step['to_status']}"
            who = f"{step['actor']} {step['by']}".strip()
            self.stdout.write(f"{step['at']:%Y-%m-%d %H:%M:%S}  {move:<28}  {who}  {step['reason']}".rstrip())
