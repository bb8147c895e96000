"""Is an integration ready for its services?  `manage.py preflight INTEGRATION`; ends with 1 while something blocks them."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from dataclasses import asdict

from django.core.management.base import BaseCommand

from connectors.management.commands._common import integration_named
from scheduling import preflight
from scheduling.findings import BLOCKING, OK, WARNING

WORDS = {OK: "ready", WARNING: "to know", BLOCKING: "BLOCKS"}


class Command(BaseCommand):
    help = "Look at both systems and the settings, and say what must be mended before services can be started."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("integration", help="name or number")
        parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")

    def handle(self, *args: object, **options: object) -> None:
        report = preflight.run(integration_named(str(options["integration"])), by="preflight")
        if options["json"]:
            told = {
                "integration": report.integration.name, "at": report.at.isoformat(), "ready": not report.blocking,
                "summary": report.summary, "lines": [asdict(line) for line in report.lines],
            }  # fmt: skip
            self.stdout.write(json.dumps(told, ensure_ascii=False))
        else:
            self._print(report)
        if report.blocking:
            raise SystemExit(1)

    def _print(self, report: preflight.Report) -> None:
        styles = {OK: self.style.SUCCESS, WARNING: self.style.WARNING, BLOCKING: self.style.ERROR}
        for check, lines in report.groups.items():
            self.stdout.write(check[:1].upper() + check[1:])
            for line in lines:
                self.stdout.write(f"  {styles[line.level](f'{WORDS[line.level]:8}')} {line.message}")
        self.stdout.write(report.summary)
