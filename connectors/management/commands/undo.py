"""Take back what a run wrote.  `manage.py undo RUN [--approve] [--accept-guard] [--json]`"""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections import Counter
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from connectors.models import RecordChange, Run
from connectors.sync.run import describe
from connectors.sync.undo import NOT_UNDONE
from jobs.models import Job
from jobs.states import StatusReason
from jobs.syncing import NotNow, approve_preview, request_undo
from jobs.worker import JobBusy, run_here


class Command(BaseCommand):
    help = "Propose what takes back all that a run wrote, and say what can't be undone; with --approve carry it out."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("run", type=int, help="number of the run, as the admin shows it")
        parser.add_argument("--approve", action="store_true", help="write it at once, without another look")
        parser.add_argument("--accept-guard", action="store_true", help="with --approve: although a guard warns")
        parser.add_argument("--json", action="store_true")

    def handle(self, *args: object, **options: Any) -> None:
        run = Run.objects.select_related("integration", "scope").filter(pk=options["run"]).first()
        if run is None:
            raise CommandError(f"There is no run {options['run']}.")
        try:
            undo = _carried_out(request_undo(run, here=True))
            if not options["json"]:
                self._tell(undo)
            if options["approve"] and undo.phase == Run.Phase.PROPOSED:
                job, _, _ = approve_preview(undo, accept_guard=options["accept_guard"])
                undo = _carried_out(job)
                if not options["json"]:
                    self.stdout.write(describe(undo))
        except (NotNow, JobBusy) as error:
            raise CommandError(str(error)) from error
        if options["json"]:
            answer = {
                "run": undo.pk,
                "undoes": run.pk,
                "phase": undo.phase,
                "summary": describe(undo),
                "undo": undo.counts["undo"],
            }
            self.stdout.write(json.dumps(answer))

    def _tell(self, undo: Run) -> None:
        """First what can't be undone, then what would be written."""
        rows = RecordChange.objects.filter(run=undo)
        for message, count in Counter(rows.filter(code=NOT_UNDONE).values_list("message", flat=True)).most_common():
            self.stdout.write(f"  can't be undone: {count} record{'s'[: count > 1]}. {message}")
        proposed = rows.filter(status="proposed").values_list("side", "verb", "message")
        for (side, verb, message), count in sorted(Counter(proposed).items()):
            self.stdout.write(f"  {verb} {count} on the {side}" + (f": {message}" if message else ""))
        self.stdout.write(describe(undo))
        if undo.phase == Run.Phase.PROPOSED:
            self.stdout.write(f"Nothing was written yet. Look at run {undo.pk} in the admin and approve it there.")


def _carried_out(job: Job) -> Run:
    """Run a job here, and return its run."""
    job = run_here(job)
    if job.status is not StatusReason.SUCCEEDED or job.run is None:
        raise CommandError(f"Job {job.pk} is {job.status.label.lower()}: {job.error_message}")
    job.run.refresh_from_db()
    return job.run
