"""How can a person try things without an account anywhere?  Simulated systems on loopback, until stopped."""

from __future__ import annotations

import json
import signal
import threading
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from contextlib import ExitStack
from types import FrameType
from typing import Any, cast

from django.core.management.base import BaseCommand, CommandError
from django.utils.module_loading import import_string

from connectors.registry import UnknownSystem, connector_class, systems
from connectors.simulation import Simulator

DOOR = """Each simulator has a door for people and scripts, beside the system's own API; docs/simulators.md has examples:
  /_simulator/records    see, edit and delete records as a person in the system's screens would
  /_simulator/faults     let requests fail, be slow or be throttled
  /_simulator/clock      move the simulated clock
  /_simulator/journal    every request as the system saw it
  /_simulator/switches   the vendor's limits and habits
  /_simulator/credentials"""


class Command(BaseCommand):
    help = "Start simulated systems on 127.0.0.1 and print their addresses and (invented) credentials."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.formatter_class = RawDescriptionHelpFormatter
        parser.epilog = DOOR
        parser.add_argument("systems", nargs="*", metavar="SYSTEM", help="all that can be simulated when none is named")
        parser.add_argument("--records", type=int, default=20, help="customers in each invented company")
        parser.add_argument("--seed", type=int, default=1, help="the same seed invents the same company")
        parser.add_argument("--port", type=int, default=0, help="port of the first; the next ones follow (0: any)")
        parser.add_argument("--seconds", type=float, default=0, help="stop after so long (0: at Ctrl-C)")
        parser.add_argument("--json", "--once-json", action="store_true", help="print one line of JSON for a script")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["records"] < 0:
            raise CommandError("--records must be 0 or more.")
        if not 0 <= options["port"] < 65536:
            raise CommandError("--port must lie between 0 and 65535.")
        if options["seconds"] < 0:
            raise CommandError("--seconds must be 0 or more.")
        stop = threading.Event()

        def stopped(number: int, frame: FrameType | None) -> None:
            stop.set()

        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, stopped)
            signal.signal(signal.SIGINT, stopped)
        with ExitStack() as running:
            started: dict[str, Simulator] = {}
            for place, system in enumerate(_chosen(options["systems"])):
                port = options["port"] + place if options["port"] else 0
                simulator = _simulator(system, records=options["records"], seed=options["seed"], port=port)
                started[system] = running.enter_context(simulator)
            self._tell(started, options["json"])
            stop.wait(options["seconds"] or None)

    def _tell(self, started: dict[str, Simulator], as_json: bool) -> None:
        told = {name: {"url": simulator.url, **simulator.credentials()} for name, simulator in started.items()}
        if as_json:
            self.stdout.write(json.dumps(told, default=str))
            self.stdout.flush()
            return
        for name, what in told.items():
            self.stdout.write(self.style.MIGRATE_HEADING(f"{name}: {what['url']}"))
            for part in ("settings", "secret"):
                for key, value in cast(dict[str, object], what.get(part, {})).items():
                    self.stdout.write(f"  {part}.{key} = {value}")
            self.stdout.write(
                f"  records, faults, clock, journal, switches: {what['url']}/_simulator/ (docs/simulators.md)"
            )
        self.stdout.write("Add 127.0.0.0/8 to ALLOWED_PRIVATE_NETWORKS to connect to them. Stop with Ctrl-C.")
        self.stdout.flush()


def _chosen(names: list[str]) -> list[str]:
    chosen = names or [name for name in systems() if getattr(connector_class(name), "simulator", "")]
    if not chosen:
        raise CommandError("No installed system can be simulated.")
    return chosen


def _simulator(system: str, *, records: int, seed: int, port: int) -> Simulator:
    try:
        path = connector_class(system).simulator
    except UnknownSystem as error:
        raise CommandError(str(error)) from error
    if not path:
        raise CommandError(f"The system {system} has no simulator.")
    simulator = import_string(path)(records=records, seed=seed, port=port)
    if not isinstance(simulator, Simulator):
        raise CommandError(f"{path} is not a simulator.")
    return simulator
