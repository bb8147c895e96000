"""Make the hub what a text says: `manage.py import_config hub.yaml [--dry-run]`, all of it or nothing."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from jobs.housekeeping.bundle import ConfigRefused, take
from jobs.management.scheduled import ALL_KINDS, FINISH


class Command(BaseCommand):
    help = "Read what export_config wrote. --dry-run prints the difference and changes nothing."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", help="a file, or - for standard input")
        parser.add_argument("--dry-run", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            text = sys.stdin.read() if options["file"] == "-" else Path(options["file"]).read_text(encoding="utf-8")
            found = take(text, ALL_KINDS, FINISH, dry_run=options["dry_run"])
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(f"{options['file']} can't be read: {error}") from error
        except ConfigRefused as refusal:
            raise CommandError(f"Nothing was changed.\n{refusal}") from refusal
        for line in found.lines:
            self.stdout.write(line)
        if found.left_alone:
            self.stdout.write(f"Not in the text, and left as they are: {'; '.join(found.left_alone)}.")
        count = f"{len(found.lines)} difference{'s'[: len(found.lines) != 1]}"
        self.stdout.write(f"{count}; nothing was changed." if options["dry_run"] else f"{count} taken over.")
