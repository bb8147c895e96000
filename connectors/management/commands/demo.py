"""How does a stranger see it work?  Two simulated systems, a real worker, the main sync, and the admin to look at it."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from argparse import ArgumentParser
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from django.conf import settings
from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import connections
from django.db.models import Count

from connectors.dynamics365.simulator import DynamicsSimulator
from connectors.models import ApiCall, Connection, Integration, RecordLink, Run
from connectors.quickbooks.simulator import QuickBooksSimulator
from connectors.simulation import Simulator
from connectors.sync.plan import Pending
from connectors.sync.presets import apply_preset, presets
from connectors.sync.rules import LEFT, RIGHT, Side
from connectors.sync.run import describe
from connectors.transport import check, connected
from jobs.states import FINISHED, StatusReason
from jobs.supervisor import AlreadyRunning, RunFile
from jobs.syncing import request_sync
from scheduling.services import make_services

NAMES: dict[Side, str] = {LEFT: "QuickBooks (simulated)", RIGHT: "Dynamics 365 (simulated)"}
PATIENCE = 1500  # seconds for one run


class Command(BaseCommand):
    help = "Set up, start two simulated systems and a worker, run the main sync, and serve the admin."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--once", action="store_true", help="stop after the syncs instead of serving the admin")
        parser.add_argument(
            "--records",
            type=int,
            default=200,
            help="customers; there are a fifth as many items, twice as many transactions",
        )
        parser.add_argument("--seed", type=int, default=1)
        parser.add_argument("--json", action="store_true", help="print one line of JSON at the end")
        parser.add_argument("--port", type=int, default=8000)

    def handle(self, *args: object, **options: object) -> None:
        self.quiet = bool(options["json"])
        records = int(str(options["records"]))
        if records < 1:
            raise CommandError("--records must be at least 1.")
        port = 0 if options["once"] else int(str(options["port"]))
        if port and not _free(port):
            raise CommandError(
                f"Port {port} is taken, perhaps by another demo. Stop that, or choose one: --port {port + 1}"
            )
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.default_int_handler)  # ends like Ctrl-C, so that nothing is left running
        try:
            result = self._play(records, int(str(options["seed"])), port)
        except KeyboardInterrupt:
            self.say("Stopped.")
            sys.exit(130)
        if options["json"]:
            self.stdout.write(json.dumps(result))
        if not result["ok"]:
            raise CommandError("The demo did not end as it should; see above.")

    def _play(self, records: int, seed: int, port: int) -> dict[str, object]:
        """Set up, sync, and serve at `port` (0: not at all)."""
        _check_no_worker()
        self._fresh_database()
        with ExitStack() as running:
            self.left = QuickBooksSimulator(records=records, seed=seed, limits=records <= 500)
            self.right = DynamicsSimulator(seed=seed)
            for simulator in (self.left, self.right):
                running.enter_context(simulator)
            integration = self._integration()
            self.worker = self._worker()
            running.callback(stop_group, self.worker)
            result = self._story(integration)
            if port and result["ok"]:
                self._serve(port)
        return result

    def say(self, text: str) -> None:
        """Tell a person how far it is; with --json this goes to the error output."""
        (self.stderr if self.quiet else self.stdout).write(text)

    def _fresh_database(self) -> None:
        database = settings.DATABASES["default"]
        if database["ENGINE"].endswith("sqlite3"):
            connections.close_all()
            for suffix in ("", "-wal", "-shm"):
                Path(f"{database['NAME']}{suffix}").unlink(missing_ok=True)
        call_command("migrate", verbosity=0)
        if not database["ENGINE"].endswith("sqlite3"):
            call_command("flush", verbosity=0, interactive=False)

    def _integration(self) -> Integration:
        ends = {LEFT: self._connection(LEFT, self.left), RIGHT: self._connection(RIGHT, self.right)}
        with connected(ends[LEFT]) as left, connected(ends[RIGHT]) as right:
            applied = apply_preset(
                presets()["inolink"],
                "QuickBooks with Dynamics 365",
                ends,
                {LEFT: left, RIGHT: right},
                first_run="apply",
            )
        services = make_services(applied.integration)
        self.say(f"Made the integration {applied.integration} from the preset inolink, with {len(services)} services.")
        for unmapped in applied.unmapped:
            self.say(f"  {unmapped}")
        return applied.integration

    def _connection(self, side: Side, simulator: Simulator) -> Connection:
        told = simulator.credentials()
        # The simulated company takes any pace when it is large: 40 batches a minute would make the demo wait.
        lifted = {} if simulator.switches.get("limits") else {"limit.batch": "0", "limit.request": "0"}
        connection = Connection.objects.create(
            system=simulator.system,
            name=NAMES[side],
            settings={**told["settings"], **lifted},
        )
        connection.set_secret({name: str(value) for name, value in told["secret"].items()})
        identity = check(connection)
        self.say(f"Connected to {identity.account} at {simulator.url}.")
        return connection

    def _worker(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, str(settings.BASE_DIR / "manage.py"), "worker", "--workers", "2"]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)  # noqa: S603 - our own command

    def _story(self, integration: Integration) -> dict[str, object]:
        runs: list[dict[str, object]] = []
        self.say("First sync: everything flows from QuickBooks into Dynamics 365.")
        runs.append(self._sync(integration, "comprehensive"))
        self.say("Next sync: it reads its own writes once and writes nothing.")
        runs.append(self._sync(integration, "delta"))
        changed = self._people_work()
        self.say(f"People change {changed[0]} records in QuickBooks and {changed[1]} in Dynamics 365.")
        runs.append(self._sync(integration, "delta"))
        runs.append(self._sync(integration, "delta"))
        ok = all(run.pop("ok") for run in runs)
        quiet = all(_written(run) == 0 for run in (runs[1], runs[3]))
        self.say(standing(integration))
        return {"runs": runs, "ok": bool(ok and quiet)}

    def _sync(self, integration: Integration, mode: str) -> dict[str, object]:
        started, newest = time.monotonic(), ApiCall.objects.order_by("-id").values_list("id", flat=True).first() or 0
        job = request_sync(integration, mode=mode)
        while job.status not in FINISHED:
            if time.monotonic() - started > PATIENCE:
                raise CommandError(
                    f"Job {job.pk} is {job.status.label.lower()} after {PATIENCE} s: {job.error_message}"
                )
            if self.worker.poll() is not None:
                raise CommandError(f"The worker has stopped (code {self.worker.returncode}); see above.")
            time.sleep(0.2)
            job.refresh_from_db()
        seconds = round(time.monotonic() - started, 1)
        if job.status is not StatusReason.SUCCEEDED or job.run is None:
            raise CommandError(f"Job {job.pk} is {job.status.label.lower()}: {job.error_message}")
        run = job.run
        self.say(f"  {describe(run)} ({seconds} s)")
        self._tell(run)
        calls = Counter(
            ApiCall.objects.filter(id__gt=newest, run_id=run.pk).values_list("connection__system", flat=True)
        )
        return {
            "mode": run.mode, "seconds": seconds, "entities": run.counts.get("entities", {}), "requests": dict(calls),
            "adds_up": bool(run.counts.get("adds_up")), "ok": bool(run.counts.get("adds_up")) and run.phase == Run.Phase.DONE,
        }  # fmt: skip

    def _tell(self, run: Run) -> None:
        for name, counts in run.counts.get("entities", {}).items():
            written = sum(sum(verbs.values()) for verbs in counts["written"].values())
            rest = ", ".join(
                f"{counts[k]} {k}" for k in ("agreed", "waiting", "skipped", "conflict", "parked") if counts[k]
            )
            self.say(f"    {name}: {counts['touched']} touched, {written} written{', ' + rest if rest else ''}")

    def _people_work(self) -> tuple[int, int]:
        """Edit about 1 % on each side, as people would in the systems' own screens."""
        customers = [
            r for r in self.left.store.table("Customer").values() if r.body.get("CompanyName") and r.body.get("Active")
        ]
        accounts = list(self.right.store.table("account"))
        lefts, rights = customers[::100][:50], accounts[50::100][:50]
        for number, record in enumerate(lefts):
            self.left.user_edits("Customer", record.id, {"PrimaryPhone.FreeFormNumber": f"+1 555 01{number:02d}"})
        for number, account in enumerate(rights):
            self.right.user_edits("account", account, {"websiteurl": f"https://example.com/{number}"})
        return len(lefts), len(rights)

    def _serve(self, port: int) -> None:
        password = secrets.token_urlsafe(9)
        User.objects.filter(username="demo").delete()
        User.objects.create_superuser("demo", password=password)
        self.stdout.write(
            self.style.SUCCESS(f"\nThe admin: http://127.0.0.1:{port}/admin/   user demo, password {password}")
        )
        self.stdout.write("Ctrl-C stops everything.")
        server = subprocess.Popen(  # noqa: S603 - our own command
            [
                sys.executable,
                "-m",
                "gunicorn",
                "config.wsgi",
                "--bind",
                f"127.0.0.1:{port}",
                "--threads",
                "4",
                "--log-level",
                "warning",
            ],
            cwd=settings.BASE_DIR,
        )
        try:
            server.wait()
        finally:
            server.terminate()
            server.wait(10)


def standing(integration: Integration) -> str:
    """Say how many records stand where: the numbers add up to all of them."""
    links = RecordLink.objects.filter(integration=integration, ended=0)
    numbers = {row["pending"]: row["total"] for row in links.values("pending").annotate(total=Count("id")).order_by()}
    total, agreed = sum(numbers.values()), numbers.pop(None, 0)
    words = {
        Pending.WAITING: "{:,} waiting for a customer that is inactive in QuickBooks",
        Pending.SKIPPED: "{:,} left out on purpose",
        Pending.CONFLICT: "{:,} in conflict",
        Pending.PARKED: "{:,} parked",
    }
    parts = [text.format(count) for pending, text in words.items() if (count := numbers.pop(int(pending), 0))]
    if rest := sum(numbers.values()):
        parts.append(f"{rest:,} still to be written")
    return "; ".join([f"{agreed:,} of {total:,} records are in agreement", *parts]) + "."


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _check_no_worker() -> None:
    """Another demo's worker would lose its database under its feet."""
    try:
        RunFile(Path(settings.WORKER_RUN_FILE)).close()
    except AlreadyRunning as error:
        raise CommandError(f"Another demo seems to run. {error}") from error


def stop_group(process: subprocess.Popen[bytes]) -> None:
    """Stop the worker and everything that it started."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(settings.WORKER_GRACE_SECONDS + 15)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(5)


def _written(run: dict[str, object]) -> int:
    entities = run["entities"]
    return (
        sum(sum(sum(v.values()) for v in c["written"].values()) for c in entities.values())
        if isinstance(entities, dict)
        else 0
    )
