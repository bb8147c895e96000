"""What is old enough to go?  `manage.py purge` counts it; `manage.py purge --yes` deletes it, here and now."""

from __future__ import annotations

from argparse import ArgumentParser
from collections import Counter

from django.conf import settings
from django.core.management.base import BaseCommand

from jobs import clock
from jobs.housekeeping import purge


class Command(BaseCommand):
    help = "Say what is older than KEEP_DAYS_...; with --yes delete it. A job does the same once a day."

    def add_arguments(self, parser: ArgumentParser) -> None:
        which = parser.add_mutually_exclusive_group()
        which.add_argument("--dry-run", action="store_true", help="only count; that is the default")
        which.add_argument("--yes", action="store_true", help="delete")

    def handle(self, *args: object, **options: object) -> None:
        now, removed = clock.now(), Counter[str]()
        if options["yes"]:
            for name, rows in purge.blocks(now):
                removed[name] += rows
        else:
            removed.update(purge.count(now))
        for table in purge.TABLES:
            age = f"older than {settings.KEEP_DAYS[table.keep]} days" if table.keep else "expired"
            self.stdout.write(f"{removed[table.name]:>10}  {table.name}, {age}")
        self.stdout.write(
            "Deleted."
            if options["yes"]
            else "Nothing was deleted; `manage.py purge --yes` does it, a job does it each day."
        )
