"""The database was restored from a backup: `manage.py restored`, once, before the worker is started again."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from jobs import clock
from jobs.housekeeping import restored


class Command(BaseCommand):
    help = (
        "After a restore from a backup: lets the next run of every integration read everything, so that what was created since "
        "the backup is found and not created again. Start the worker after it."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--force", action="store_true", help="also while a worker seems to be alive")

    def handle(self, *args: Any, **options: Any) -> None:
        now = clock.now()
        alive = restored.living_workers(now)
        if alive and not options["force"]:
            names = ", ".join(
                f"{worker.host} ({int((now - worker.seen_at).total_seconds())} s ago)" for worker in alive
            )
            raise CommandError(
                f"A worker seems to be alive: {names}. Stop it first. If the backup is only this old, wait a minute, or say --force."
            )
        done = restored.mark(now, by="command line")
        self.stdout.write(
            f"{done.cursors} cursors of {done.scopes} scopes read everything next time; {done.runs} runs and previews were ended, "
            f"{done.jobs} jobs lost their lease. Now check the connections (`manage.py check_connections`: a login that was "
            "renewed since the backup may need a reconnect), then start the worker."
        )
