"""`manage.py worker`: run the queue's workers under supervision, hand out jobs and take over lost ones."""

from __future__ import annotations

import signal
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from jobs.supervisor import AlreadyRunning, Supervisor


class Command(BaseCommand):
    help = "Run the background workers under supervision.  SIGTERM or Ctrl-C stops them within WORKER_GRACE_SECONDS."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--workers", type=int, default=settings.WORKERS, help="how many jobs at the same time")
        parser.add_argument(
            "--no-cluster", action="store_true", help="only hand out and reap: the workers run on other machines"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["workers"] < 1:
            raise CommandError("--workers must be at least 1; use --no-cluster to run none here.")
        supervisor = Supervisor(options["workers"], cluster=not options["no_cluster"])
        signal.signal(signal.SIGTERM, supervisor.request_stop)
        signal.signal(signal.SIGINT, supervisor.request_stop)
        try:
            supervisor.run()
        except AlreadyRunning as error:
            raise CommandError(str(error)) from error
