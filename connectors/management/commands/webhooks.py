"""Where does a system call us?  Its address, the tokens that sign its calls, and what was heard."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from connectors import hooks
from jobs import clock


class Command(BaseCommand):
    help = "Show a system's webhook address and what was heard; store its verifier tokens or make a new address."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("system", metavar="SYSTEM", help="for example quickbooks")
        parser.add_argument(
            "--verifier",
            action="store_true",
            help="read the verifier token from standard input; several, one on a line",
        )
        parser.add_argument("--rotate", action="store_true", help="make a new address; the old one lasts another day")

    def handle(self, *args: Any, **options: Any) -> None:
        hook = hooks.hook_of(options["system"])
        if hook is None:
            raise CommandError(f"{options['system']} does not call us; its changes are polled.")
        if options["verifier"]:
            verifiers = hooks.entered(sys.stdin.read())
            if not verifiers:
                raise CommandError("Standard input holds no verifier token.")
            hook.set_verifiers(verifiers)
        if options["rotate"]:
            hook.rotate_key(clock.now())
        self.stdout.write(settings.SITE_URL.rstrip("/") + hooks.path_of(hook))
        for name, value in hooks.standing(hook).items():
            self.stdout.write(f"  {name.replace('_', ' ')}: {value if value is not None else 'never'}")
