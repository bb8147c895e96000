"""When do services run, and what is done with them?  `manage.py services [INTEGRATION] [list|show|start|stop|...] [SERVICE]`"""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Callable
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from django.core.management.base import BaseCommand, CommandError
from django.utils.dateparse import parse_datetime

from connectors.management.commands._common import integration_named
from connectors.models import Integration
from jobs import clock
from scheduling import provisioning, services
from scheduling.models import DAYS, Service
from scheduling.refusals import Refused
from scheduling.standing import Standing, outlook, paused_from, shown, standings

BY = "command line"
ACTIONS = ("list", "show", "start", "stop", "pause", "resume", "run", "set")


class Command(BaseCommand):
    help = "List services, look ahead, start, stop, pause, resume and run them, and set their times."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("integration", nargs="?", help="name or number; without it the services of all are listed")
        parser.add_argument("action", nargs="?", choices=ACTIONS, default="list")
        parser.add_argument("service", nargs="?", help="name or number, or all", default="all")
        parser.add_argument("--json", action="store_true", help="with list and show")
        parser.add_argument("--until", help="with pause: 2026-01-31 08:00, on the clocks of the service's zone")
        parser.add_argument("--days", help="with set: mon-sat, mon,wed,fri or all")
        parser.add_argument("--from", dest="start", metavar="HH:MM")
        parser.add_argument("--to", dest="end", metavar="HH:MM", help="before the start: on the next day")
        parser.add_argument("--every", type=int, metavar="MINUTES")
        parser.add_argument("--count-from", choices=["start", "midnight"], help="where the interval is counted from")
        parser.add_argument("--zone", default="", help="with set: an IANA name, such as Europe/Paris")
        parser.add_argument(
            "--add", action="store_true", help="with set: one more window; without it the windows are replaced"
        )

    def handle(self, *args: object, **options: Any) -> None:
        if options["integration"] in (None, "list"):
            self._list(list(shown(Service.objects.order_by("integration__name", "position"))), options)
            return
        integration = integration_named(options["integration"])
        chosen = _named(integration, options["service"])
        match options["action"]:
            case "list":
                self._list(chosen, options)
            case "show":
                self._show(chosen, options)
            case action:
                if options["service"] == "all" and action not in ("start", "stop", "pause", "resume"):
                    raise CommandError(f"Name the service: services {integration.pk} {action} SERVICE.")
                self._act(chosen, options)

    def _list(self, chosen: list[Service], options: dict[str, Any]) -> None:
        found = standings(chosen, clock.now())
        if options["json"]:
            self.stdout.write(json.dumps([_as_dict(standing, 0) for standing in found]))
            return
        for standing in found:
            told, service = _as_dict(standing, 0), standing.service
            self.stdout.write(
                f"{service.pk}  {service.integration}: {service}  {told['state']}  next: {told['next_run_at'] or 'none planned'}"
            )
            self.stdout.write(f"    {told['sentence'] or told['errors']}")
        if not found:
            self.stdout.write("There are no services; `preset apply` makes them with an integration.")

    def _show(self, chosen: list[Service], options: dict[str, Any]) -> None:
        found = [_as_dict(standing, 10) for standing in standings(chosen, clock.now())]
        if options["json"]:
            self.stdout.write(json.dumps(found))
            return
        for told in found:
            self.stdout.write(f"{told['id']}  {told['name']}: {told['state']}. {told['reason']}")
            self.stdout.write(f"    {told['sentence']}")
            for line in (*told["errors"], *told["warnings"]):
                self.stdout.write(self.style.WARNING(f"    {line}"))
            for run in told["runs"]:
                self.stdout.write(f"    {run['local']}  {run['note']}".rstrip())

    def _act(self, chosen: list[Service], options: dict[str, Any]) -> None:
        refused: list[str] = []
        for service in chosen:
            try:
                for line in _DO[options["action"]](service, options):
                    self.stdout.write(line)
            except Refused as error:
                refused += error.problems
        if refused:
            raise CommandError("\n".join(dict.fromkeys(refused)))


def _named(integration: Integration, name: str) -> list[Service]:
    rows = list(shown(integration.services.order_by("position", "id")))
    if name == "all":
        return rows
    found = [row for row in rows if row.name == name or str(row.pk) == name]
    if not found:
        known = ", ".join(f"{row.name} ({row.pk})" for row in rows) or "none"
        raise CommandError(f"{integration} has no service {name!r}. It has: {known}.")
    return found


def _as_dict(standing: Standing, runs: int) -> dict[str, Any]:
    service = standing.service
    looked = outlook(standing.schedule, service.recommended_minutes, paused_from(service, clock.now()), runs)
    return {
        "id": service.pk, "integration": service.integration.name, "name": service.name, "state": standing.state.word,
        "reason": standing.state.reason, "zone": service.zone, "sentence": looked.sentence, "errors": looked.errors,
        "warnings": looked.warnings, "next_run_at": service.next_run_at.isoformat() if service.next_run_at else None,
        "last_job": standing.job.pk if standing.job else None,
        "runs": [{"at": run.at.isoformat(), "local": f"{run.local:%a %Y-%m-%d %H:%M}", "note": run.note} for run in looked.runs],
    }  # fmt: skip


def days_told(text: str) -> list[str] | str:
    """Turn `mon-sat`, `fri-mon`, `mon,wed` or `all` into days as windows are written.  Raises Refused."""
    if text.strip().lower() == "all":
        return "all"
    days: list[str] = []
    for part in text.split(","):
        first, dash, last = (name.strip() for name in part.partition("-"))
        begin, end = _day(first), _day(last if dash else first)
        days += [DAYS[(begin + step) % 7] for step in range((end - begin) % 7 + 1)]
    return days


def _day(name: str) -> int:
    for number, day in enumerate(DAYS):
        if name.lower() in (day.lower(), day[:3].lower()):
            return number
    raise Refused([f"{name!r} is no day of the week; write mon-sat, mon,wed,fri or all."])


def _set(service: Service, options: dict[str, Any]) -> list[str]:
    there = [services.window_told(window) for window in service.windows.all()]
    given = {
        name: value
        for name, value in (
            ("days", days_told(options["days"]) if options["days"] else None), ("start", options["start"]),
            ("end", options["end"]), ("every", options["every"]), ("from", options["count_from"]),
        )
        if value is not None
    }  # fmt: skip
    if not given and not options["zone"]:
        raise Refused(["Say what shall be set: --days, --from, --to, --every, --count-from or --zone."])
    lines = None
    if options["add"]:
        lines = [*there, given]
    elif given:
        # What is not given stays as the only window has it.
        lines = [{**(there[0] if len(there) == 1 else {}), **given}]
    warnings, asked = services.change(service, by=BY, zone=options["zone"], windows_told=lines)
    schedule = services.planned(services.Times(service))
    told = [f"{service}: {outlook(schedule, 0, clock.now(), 0).sentence}.", *warnings]
    row = provisioning.status(Integration.objects.get(pk=service.integration_id))
    return [*told, provisioning.placed(row)] if asked and row is not None else told


def _start(service: Service, options: dict[str, Any]) -> list[str]:
    return [f"{service} is started.", *services.start(service, by=BY)]


def _stop(service: Service, options: dict[str, Any]) -> list[str]:
    services.stop(service, by=BY)
    return [f"{service} is stopped."]


def _pause(service: Service, options: dict[str, Any]) -> list[str]:
    until = _moment(options["until"], service)
    services.pause(service, until, by=BY)
    return [f"{service} is paused until {until:%Y-%m-%d %H:%M}."]


def _moment(text: str | None, service: Service) -> datetime:
    try:
        found = parse_datetime(text or "")
    except ValueError:
        found = None
    if found is None:
        raise Refused(["Say until when: --until '2026-01-31 08:00'."])
    return found if found.tzinfo else found.replace(tzinfo=ZoneInfo(service.zone))


def _resume(service: Service, options: dict[str, Any]) -> list[str]:
    services.resume(service, by=BY)
    return [f"{service} goes on."]


def _run(service: Service, options: dict[str, Any]) -> list[str]:
    job = services.run_now(service, by=BY)
    return [f"{service}: job {job.pk} is {job.status.label.lower()}."]


_DO: dict[str, Callable[[Service, dict[str, Any]], list[str]]] = {
    "set": _set, "start": _start, "stop": _stop, "pause": _pause, "resume": _resume, "run": _run,
}  # fmt: skip
