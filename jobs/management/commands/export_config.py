"""The whole configuration as one text: `manage.py export_config > hub.yaml`.  No secret is in it, only references."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from jobs.housekeeping.bundle import export
from jobs.management.scheduled import ALL_KINDS


class Command(BaseCommand):
    help = "Print connections, integrations, mappings, services, blackouts and alert rules as YAML."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--env-names",
            action="store_true",
            help="refer to a variable of the environment for each secret, not to what is stored",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(export(ALL_KINDS, env_names=options["env_names"]), ending="")
