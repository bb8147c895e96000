"""`manage.py jobs`: list, show, act on one or many jobs, hold them back, and tell how they fare."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from connectors.models import Connection
from jobs import bulk, clock, figures, operate, pauses, tries
from jobs.filters import JobFilter
from jobs.models import Job, Pause
from jobs.states import IllegalTransition, StatusReason

BY = "command line"
COLUMNS = ("id", "type", "status_reason", "attempt", "priority", "run_at", "lock_key", "error_message")
# Options that narrow, as the API's filter has them.
NARROWED = (
    "type", "integration", "connection", "object_ref", "error_class", "error_code", "fingerprint", "created_after",
    "created_before",
)  # fmt: skip
VERBS = {
    "retry": "begin anew with failed or cancelled jobs",
    "cancel": "cancel jobs; a running one stops at its next safe point",
    "run-now": "bring waiting jobs and retries forward",
    "reschedule": "let waiting jobs become due at another moment",
}


class Command(BaseCommand):
    help = "Look at background jobs and act on them."

    def add_arguments(self, parser: CommandParser) -> None:
        commands = parser.add_subparsers(dest="command", required=True)
        listing = commands.add_parser("list", help="newest first")
        _filters(listing)
        listing.add_argument("--limit", type=int, default=50)
        listing.add_argument("--json", action="store_true")
        show = commands.add_parser("show", help="everything about one job, with its tries and its timeline")
        show.add_argument("ids", type=int, nargs=1, metavar="ID")
        show.add_argument("--json", action="store_true")
        for name, text in VERBS.items():
            command = commands.add_parser(name, help=f"{text}; by id, or --all-matching a filter")
            command.add_argument("ids", type=int, nargs="*", metavar="ID")
            command.add_argument("--all-matching", action="store_true", help="all jobs that the filters mean")
            command.add_argument("--yes", action="store_true", help="do it; without, only count")
            command.add_argument("--reason", default="")
            if name == "reschedule":
                command.add_argument("--at", required=True, type=_moment, metavar="MOMENT")
            _filters(command)
        run = commands.add_parser("run", help="run finished jobs again; --now brings waiting ones forward")
        run.add_argument("ids", type=int, nargs="+", metavar="ID")
        run.add_argument("--reason", default="")
        run.add_argument("--now", action="store_true", help="bring a waiting job or a retry forward")
        aside = commands.add_parser("set-aside", help="stop trying, but keep it")
        aside.add_argument("ids", type=int, nargs="+", metavar="ID")
        aside.add_argument("--note", required=True)
        up = commands.add_parser("take-up", help="take back that jobs were set aside")
        up.add_argument("ids", type=int, nargs="+", metavar="ID")
        _holding(commands)
        for name, text in (("stats", "how jobs of the last 24 hours fared"), ("errors", "failed jobs by error")):
            commands.add_parser(name, help=text).add_argument("--json", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        command = options["command"]
        if command in VERBS and options["all_matching"]:
            return self._many(bulk.VERBS[command], options)
        simple: dict[str, Callable[[dict[str, Any]], None]] = {
            "list": self._list, "stats": self._stats, "errors": self._errors, "pauses": self._pauses, "pause": self._pause,
            "resume": self._resume,
        }  # fmt: skip
        if command in simple:
            return simple[command](options)
        if not options["ids"]:
            raise CommandError("Name jobs by their ids, or give --all-matching and filters.")
        jobs = Job.objects.in_bulk(options["ids"])
        missing = [str(pk) for pk in options["ids"] if pk not in jobs]
        if missing:
            raise CommandError(f"There is no job {', '.join(missing)}.")
        if command == "show":
            return self._show(jobs[options["ids"][0]], as_json=options["json"])
        return self._each(jobs, options)

    def _each(self, jobs: dict[int, Job], options: dict[str, Any]) -> None:
        refused = 0
        for pk in options["ids"]:
            try:
                self.stdout.write(self._act(jobs[pk], options))
            except IllegalTransition as refusal:
                refused += 1
                self.stderr.write(f"{pk}: refused: {refusal}")
            except ValidationError as wrong:
                refused += 1
                self.stderr.write(f"{pk}: refused: {' '.join(wrong.messages)}")
        if refused:
            raise CommandError(f"{refused} of {len(options['ids'])} refused.")

    def _act(self, job: Job, options: dict[str, Any]) -> str:
        reason = options.get("reason", "")
        match options["command"]:
            case "retry":
                operate.retry(job, by=BY, reason=reason)
                return f"{job.pk}: waiting again"
            case "cancel":
                done = operate.cancel(job, by=BY, reason=reason or "cancelled at the command line")
                return f"{job.pk}: cancelled" if done else f"{job.pk}: will stop at its next safe point"
            case "reschedule":
                operate.reschedule(job, options["at"], by=BY, reason=reason)
                return f"{job.pk}: due at {job.run_at:%Y-%m-%d %H:%M:%S} UTC"
            case "set-aside":
                operate.set_aside(job, by=BY, note=options["note"])
                return f"{job.pk}: set aside"
            case "take-up":
                operate.take_up(job, by=BY)
                return f"{job.pk}: no longer set aside"
        if options["command"] == "run-now" or options["now"]:
            operate.run_now(job, by=BY, reason=reason)
            return f"{job.pk}: due at {job.run_at:%Y-%m-%d %H:%M:%S} UTC"
        again = operate.run_again(job, by=BY)
        return f"{job.pk}: runs again as {again.pk}"

    def _many(self, verb: bulk.Verb, options: dict[str, Any]) -> None:
        if options["ids"]:
            raise CommandError("Either ids or --all-matching.")
        rows = _rows(options)
        if not _narrowed(options):
            raise CommandError("--all-matching needs at least one filter.")
        outlook = bulk.look(verb, rows, run_at=options.get("at"))
        self.stdout.write(f"{verb.label}: {outlook.eligible:,} of {outlook.total:,} matching jobs.")
        for why, count in outlook.others:
            self.stdout.write(f"  {count:,} stay as they are. {why}")
        if not options["yes"]:
            self.stdout.write("Nothing was done. Add --yes to do it.")
            return
        asked = bulk.Asked(BY, options["reason"], options.get("at"))
        try:
            outcome = bulk.perform(verb, rows, outlook.eligible, asked)
        except bulk.Changed as changed:
            raise CommandError(str(changed)) from changed
        except ValidationError as wrong:
            raise CommandError(" ".join(wrong.messages)) from wrong
        for pk, why in outcome.refused:
            self.stderr.write(f"{pk}: refused: {why}")
        self.stdout.write(f"{len(outcome.done):,} {verb.done}.")

    def _list(self, options: dict[str, Any]) -> None:
        rows = list(_rows(options).order_by("-id").values(*COLUMNS)[: options["limit"]])
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
        tried = tries.of_job(job)
        if as_json:
            told = [vars(one) for one in tried]
            self.stdout.write(json.dumps({**row, "attempts": told, "timeline": steps}, default=str))
            return
        for name, value in row.items():
            if value not in (None, "", {}, False):
                self.stdout.write(f"{name:<16} {value}")
        for one in tried:
            self.stdout.write(
                f"try {one.number}: {one.started:%Y-%m-%d %H:%M:%S}  {one.outcome}  {one.worker}  {one.reason}".rstrip()
            )
        for step in steps:
            move = f"{step['from_status'] or 'new'} -> {step['to_status']}"
            who = f"{step['actor']} {step['by']}".strip()
            self.stdout.write(f"{step['at']:%Y-%m-%d %H:%M:%S}  {move:<28}  {who}  {step['reason']}".rstrip())

    def _stats(self, options: dict[str, Any]) -> None:
        found = figures.figures(clock.now())
        if options["json"]:
            self.stdout.write(json.dumps(found.as_dict(), default=str))
            return
        oldest = "none" if found.oldest_due_seconds is None else f"{found.oldest_due_seconds:.0f} s"
        self.stdout.write(
            f"oldest due job waits: {oldest}; {found.busy} of {found.workers} workers busy; {found.stuck} stuck"
        )
        for one in found.types:
            self.stdout.write(
                f"{one.type}: {one.finished} ended, {one.failed} failed, {one.tried_again} tried again; seconds waited "
                f"p50 {one.wait_p50} p95 {one.wait_p95}; ran p50 {one.run_p50} p95 {one.run_p95}"
            )
        for failed in found.failures:
            self.stdout.write(
                f"failed: {failed.count} x {failed.type} {failed.error_class} {failed.error_code}".rstrip()
            )

    def _errors(self, options: dict[str, Any]) -> None:
        groups = figures.by_error()
        if options["json"]:
            self.stdout.write(json.dumps([vars(group) for group in groups], default=str))
            return
        for group in groups:
            self.stdout.write(f"{group.count:>6}  {group.fingerprint}  {group.type}  {group.message[:100]}".rstrip())
        if not groups:
            self.stdout.write("No job has failed.")

    # Holding back

    def _pauses(self, options: dict[str, Any]) -> None:
        found = pauses.active(clock.now())
        for pause in found:
            until = f" until {pause.until:%Y-%m-%d %H:%M} UTC" if pause.until else ""
            self.stdout.write(f"{pause.pk}  {pause.what}{until}, by {pause.who or '-'}: {pause.reason}")
        if not found:
            self.stdout.write("Nothing is held back.")

    def _pause(self, options: dict[str, Any]) -> None:
        kind, target = _target(options)
        try:
            made = pauses.begin(kind, reason=options["reason"], until=options["until"], by=BY, **target)
        except ValidationError as wrong:
            raise CommandError(" ".join(wrong.messages)) from wrong
        self.stdout.write(f"Pause {made.pk}: {made.what} wait. End it with `manage.py jobs resume {made.pk}`.")

    def _resume(self, options: dict[str, Any]) -> None:
        pause = Pause.objects.filter(pk=options["pause"]).first()
        if pause is None:
            raise CommandError(f"There is no pause {options['pause']}. `manage.py jobs pauses` lists them.")
        pauses.end(pause)
        self.stdout.write(f"{pause.what.capitalize()} go on.")


def _filters(parser: CommandParser) -> None:
    parser.add_argument("--status", action="append", choices=StatusReason.values, help="may be given several times")
    for name in NARROWED:
        parser.add_argument(f"--{name.replace('_', '-')}")
    parser.add_argument("--stuck", action="store_true", help="running, without heartbeat")


def _holding(commands: Any) -> None:
    commands.add_parser("pauses", help="what is held back")
    pause = commands.add_parser("pause", help="hold jobs back: of a connection, of a type, or all")
    what = pause.add_mutually_exclusive_group(required=True)
    what.add_argument("--connection", help="name or id")
    what.add_argument("--type")
    what.add_argument("--all", action="store_true", help="the whole hub")
    pause.add_argument("--reason", required=True)
    pause.add_argument("--until", type=_moment, metavar="MOMENT", help="it ends by itself then")
    resume = commands.add_parser("resume", help="end a pause")
    resume.add_argument("pause", type=int, metavar="PAUSE")


def _target(options: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    if options["all"]:
        return Pause.Kind.HUB, {}
    if options["type"]:
        return Pause.Kind.TYPE, {"job_type": options["type"]}
    asked = options["connection"]
    named = Connection.objects.filter(name=asked).first()
    found = named or (Connection.objects.filter(pk=asked).first() if asked.isdecimal() else None)
    if found is None:
        raise CommandError(f"There is no connection {asked}.")
    return Pause.Kind.CONNECTION, {"connection": found}


def _narrowed(options: dict[str, Any]) -> dict[str, Any]:
    given = {name: options[name] for name in NARROWED if options.get(name)}
    if options.get("status"):
        given["status_reason"] = options["status"]
    if options.get("stuck"):
        given["stuck"] = "true"
    return given


def _rows(options: dict[str, Any]) -> Any:
    narrowed = JobFilter(_narrowed(options), queryset=Job.objects.all())
    if not narrowed.is_valid():
        raise CommandError("; ".join(f"{name}: {' '.join(told)}" for name, told in narrowed.errors.items()))
    return narrowed.qs


def _moment(text: str) -> datetime:
    """Return an ISO moment; without an offset it is one of the hub's own clock."""
    try:
        found = parse_datetime(text)
    except ValueError:
        found = None
    if found is None:
        raise CommandError(f"{text} is no moment. Write 2026-03-01T08:00.")
    return timezone.make_aware(found) if timezone.is_naive(found) else found
