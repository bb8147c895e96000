"""What do browser tests share that need the real thing: a web server, a worker, and both systems over HTTP?"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from django.conf import settings

from connectors.simulation import Simulator
from tests.acceptance.test_processes import Site

PASSWORD = "a long enough secret"
PATIENCE = 120  # seconds until something that was asked for has been done
ADMINISTRATOR, VIEWER = "ada", "joan"
PEOPLE = f"""
import django; django.setup()
from django.contrib.auth.models import Group, User
User.objects.create_superuser("{ADMINISTRATOR}", password="{PASSWORD}")
joan = User.objects.create_user("{VIEWER}", password="{PASSWORD}", is_staff=True)
joan.groups.add(Group.objects.get(name="Viewer"))
"""


class WebSite(Site):
    """An installation with a web server, in which people can log in.  Nobody kills its worker."""

    def __init__(self, folder: Path, records: int) -> None:
        super().__init__(folder, f"sqlite:///{folder / 'hub.sqlite3'}", records)
        # On a busy machine a worker may take its time.
        patient = {"JOB_UNCLAIMED_SECONDS": "60", "JOB_LEASE_SECONDS": "30", "WORKER_STALL_SECONDS": "90"}
        self.environment |= patient
        self.address = ""
        self.job = 0

    def __exit__(self, *about: object) -> None:
        """Let the processes end by themselves first, so that their children end with them."""
        for process in self.workers:
            process.terminate()
        for process in self.workers:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
        super().__exit__(*about)

    def serve(self) -> None:
        """Make the people, and put up the web server."""
        self.run("-c", PEOPLE)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"http://127.0.0.1:{probe.getsockname()[1]}"
        command = [sys.executable, "-m", "gunicorn", "config.wsgi", "--bind", self.address[7:], "--threads", "4"]
        self.workers.append(
            subprocess.Popen(
                command, env=self.environment, cwd=settings.BASE_DIR, stdout=self.output, stderr=self.output
            )
        )
        self.until(self._answers, "the web server does not answer", PATIENCE)

    def _answers(self) -> bool:
        try:
            return bool(urllib.request.urlopen(f"{self.address}/healthz", timeout=5).status == 200)  # noqa: S310
        except (urllib.error.URLError, OSError):
            return False

    def status(self) -> str:
        """How the job stands that this test looks at."""
        found = self.rows(f"select status_reason from jobs_job where id = {self.job}")  # noqa: S608
        return str(found[0][0]) if found else "none"

    def number(self, sql: str) -> int:
        """Return the one number that a query gives."""
        [(found,)] = self.rows(sql)
        return int(found or 0)

    def enter(self, page: Any, name: str = ADMINISTRATOR) -> None:
        """Log in, in this page."""
        page.goto(f"{self.address}/admin/")
        page.fill("[name=username]", name)
        page.fill("[name=password]", PASSWORD)
        page.click("[type=submit]")
        page.wait_for_selector("#sl-overview")


def records(simulator: Simulator, entity: str) -> dict[str, dict[str, Any]]:
    """Return what a system holds, by id, as its own door tells it."""
    with urllib.request.urlopen(f"{simulator.url}/_simulator/records?entity={entity}", timeout=20) as answer:  # noqa: S310
        found: dict[str, dict[str, Any]] = json.loads(answer.read())
    return found
