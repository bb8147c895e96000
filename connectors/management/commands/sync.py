"""Sync an integration now, in this process, or look at a preview and approve it.

`manage.py sync INTEGRATION [--entity E] [--mode M] [--preview] [--json]`
`manage.py sync INTEGRATION --show RUN`
`manage.py sync INTEGRATION --approve RUN [--leave-out ID | --leave-out ID:FIELD] ... [--tick ID] ... [--with-deletes]`
"""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from threading import Event, Thread

from django.core.management.base import BaseCommand, CommandError
from django.db import connection
from tqdm import tqdm

from connectors.management import previews
from connectors.management.commands._common import integration_named
from connectors.models import Integration, Run
from connectors.sync.proposals import WrongChoice
from connectors.sync.run import describe
from jobs.models import Job
from jobs.states import StatusReason
from jobs.syncing import NotNow, request_sync
from jobs.worker import JobBusy, run_here


class Command(BaseCommand):
    help = "Run a sync in this process, with a progress bar on a terminal."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("integration", help="name or number")
        parser.add_argument(
            "--entity", action="append", default=[], help="name of an entity sync; may be given several times"
        )
        parser.add_argument("--mode", choices=["delta", "comprehensive"], default="delta")
        parser.add_argument("--preview", action="store_true", help="plan only; approve it in the admin or by --approve")
        parser.add_argument(
            "--show", type=int, metavar="RUN", help="list what a preview proposes, with the number of each"
        )
        parser.add_argument(
            "--approve", type=int, metavar="RUN", help="write what is ticked of a preview: all but removals"
        )
        parser.add_argument(
            "--leave-out",
            action="append",
            default=[],
            metavar="ID[:FIELD]",
            help="with --approve: a proposal, or one field of it",
        )
        parser.add_argument(
            "--tick",
            action="append",
            default=[],
            type=int,
            metavar="ID",
            help="with --approve: a removal that is meant",
        )
        parser.add_argument("--with-deletes", action="store_true", help="with --approve: all removals are meant")
        parser.add_argument("--accept-guard", action="store_true", help="with --approve: although a guard warns")
        parser.add_argument("--json", action="store_true")

    def handle(self, *args: object, **options: object) -> None:
        integration = integration_named(str(options["integration"]))
        if isinstance(options["show"], int):
            self.stdout.write("\n".join(previews.lines(previews.run_of(integration, options["show"]))))
            return
        try:
            job = (
                self._approved(integration, options)
                if options["approve"]
                else request_sync(
                    integration,
                    mode=str(options["mode"]),
                    preview=bool(options["preview"]),
                    entities=list(options["entity"]),  # type: ignore[call-overload]
                    here=True,
                )
            )
            with _bar(job, show=sys.stderr.isatty() and not options["json"]):
                job = run_here(job)
        except (NotNow, JobBusy) as error:
            raise CommandError(str(error)) from error
        run = job.run
        if options["json"]:
            answer = {"job": job.pk, "status": job.status.label, "error": job.error_message, "run": run.pk if run else None,
                      "phase": run.phase if run else "", "counts": run.counts if run else {}}  # fmt: skip
            self.stdout.write(json.dumps(answer))
        else:
            self._tell(job, run)
        if job.status is not StatusReason.SUCCEEDED:
            raise CommandError(f"Job {job.pk} is {job.status.label.lower()}: {job.error_message}", returncode=1)

    def _tell(self, job: Job, run: Run | None) -> None:
        if run is None:
            return
        self.stdout.write(describe(run))
        for name, counts in run.counts.get("entities", {}).items():
            told = {k: v for k, v in counts.items() if v and k != "written"}
            written = {
                f"{side} {verb}": n for side, verbs in counts["written"].items() for verb, n in verbs.items() if n
            }
            self.stdout.write(f"  {name}: " + ", ".join(f"{k} {v}" for k, v in {**told, **written}.items()))
        if run.phase == Run.Phase.PROPOSED:
            self.stdout.write("\n".join(previews.lines(run)))
            self.stdout.write(
                f"Nothing was written yet. Look at run {run.pk} in the admin and approve it there, "
                f"or here: sync {run.integration_id} --approve {run.pk}"
            )

    def _approved(self, integration: Integration, options: dict[str, object]) -> Job:
        """Tick what was asked for, and approve."""
        run = previews.run_of(integration, int(str(options["approve"])))
        wanted = previews.wanted(list(options["leave_out"]), list(options["tick"]))  # type: ignore[call-overload]
        try:
            job, approved, bounced = previews.approve(
                run, wanted, with_deletes=bool(options["with_deletes"]), accept_guard=bool(options["accept_guard"])
            )
        except WrongChoice as wrong:
            raise CommandError(str(wrong)) from wrong
        if not options["json"]:
            more = f", {bounced} changed meanwhile" if bounced else ""
            self.stdout.write(f"{approved} approved{more}.")
        return job


class _bar:
    """A progress bar that reads the job's own row, as the admin does."""

    def __init__(self, job: Job, *, show: bool) -> None:
        self.job, self.show, self.over = job, show, Event()

    def __enter__(self) -> None:
        if self.show:
            self.thread = Thread(target=self._watch, daemon=True)
            self.thread.start()

    def __exit__(self, *_: object) -> None:
        self.over.set()
        if self.show:
            self.thread.join()

    def _watch(self) -> None:
        with tqdm(unit=" records", dynamic_ncols=True) as bar:
            while not self.over.wait(0.5):
                progress = Job.objects.values_list("progress", flat=True).get(pk=self.job.pk) or {}
                bar.set_description(str(progress.get("text", "Starting")))
                bar.total = progress.get("total")
                bar.n = progress.get("done") or 0
                bar.refresh()
        connection.close()
