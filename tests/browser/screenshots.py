"""How do the admin's screens look?  `python -m tests.browser.screenshots` runs the demo and takes the pictures in docs/pictures.

With `--look FOLDER` it also takes every page at 390 px and in the dark, there, for the eyes of who changes a template; with
`--database URL` it uses a demo's database that is there already.
"""

from __future__ import annotations

import argparse
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from tests.browser.chromium import ARGUMENTS, executable

ROOT = Path(__file__).resolve().parent.parent.parent
PICTURES = ROOT / "docs" / "pictures"
MAKE_USER = """
import os
from django.contrib.auth.models import User
User.objects.filter(username="pictures").delete()
User.objects.create_superuser("pictures", password=os.environ["PICTURES_PASSWORD"])
"""
# The demo's systems are gone by now: what a start looks at first can't be looked at, so the services are switched on here.
SCHEDULES = """
from datetime import date
from django.contrib.auth.models import User
from connectors.models import Integration
from jobs.models import Job
from scheduling import blackouts, provisioning, services
from scheduling.models import Blackout, Service
integration, ada = Integration.objects.first(), User.objects.get(username="pictures")
if provisioning.status(integration) is None:
    changes, aging = integration.services.all()[:2]
    window = {"days": ["Mon", "Tue", "Wed", "Thu", "Fri"], "start": "08:00", "end": "18:00", "every": 30}
    services.change(changes, by=ada, zone="Europe/Paris", windows_told=[window, {"days": ["Sat"], "start": "09:00", "end": "12:00"}])
    provisioning.approve(integration.provisionings.get(), by=ada)
    blackouts.save(Blackout(name="Year end", kind="yearly", first=date(2026, 12, 24), last=date(2027, 1, 1)), by=ada)
    Service.objects.filter(pk__in=[changes.pk, aging.pk]).update(enabled=True)
    Job.objects.filter(pk=Job.objects.filter(type="sync").latest("id").pk).update(object_ref=f"service:{changes.pk}")
services.reschedule(Service.objects.all())
"""
FIND = """
from connectors.models import Integration, RecordChange, RecordLink, Run
run = Run.objects.order_by("id").first()
link = RecordChange.objects.filter(verb="update").order_by("-id").values_list("link_id", flat=True).first()
link = link or RecordLink.objects.values_list("id", flat=True).first()
print(Integration.objects.values_list("id", flat=True).first(), run.pk, link)
"""


def main() -> None:
    """Take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--look", type=Path, help="folder for narrow and dark variants")
    parser.add_argument("--database", default="", help="database of a demo; without it one is made")
    parser.add_argument("--records", default="200")
    asked = parser.parse_args()
    chromium = executable()
    if chromium is None:
        raise SystemExit("There is no Chromium on this machine; install the package chromium.")
    with tempfile.TemporaryDirectory() as folder:
        environment = _environment(folder, asked.database)
        if not asked.database:
            _manage(environment, "demo", "--once", "--records", asked.records)
        environment |= _demo_keys()
        _manage(environment, "shell", "--no-imports", "-c", MAKE_USER)
        _manage(environment, "shell", "--no-imports", "-c", SCHEDULES)
        integration, run, link = _manage(environment, "shell", "--no-imports", "-c", FIND).split()[-3:]
        pages = {
            "overview": "/admin/",
            "integrations": "/admin/connectors/integration/",
            "integration": f"/admin/connectors/integration/{integration}/change/",
            "services": "/admin/scheduling/service/",
            "schedules": f"/admin/scheduling/service/schedules/{integration}/",
            "runs": "/admin/connectors/run/",
            "run": f"/admin/connectors/run/{run}/change/",
            "records": "/admin/connectors/recordlink/",
            "record": f"/admin/connectors/recordlink/{link}/change/",
            "changes": "/admin/connectors/recordchange/",
            "jobs": "/admin/jobs/job/",
        }
        with _worker(environment), _server(environment) as address, sync_playwright() as play:
            browser = play.chromium.launch(executable_path=chromium, args=ARGUMENTS)
            password = environment["PICTURES_PASSWORD"]
            PICTURES.mkdir(parents=True, exist_ok=True)
            _take(browser, address, password, pages, PICTURES, 1440, "light", whole=False)
            if asked.look:
                asked.look.mkdir(parents=True, exist_ok=True)
                more = {
                    "connections": "/admin/connectors/connection/", "connection": "/admin/connectors/connection/1/change/",
                    "calls": "/admin/connectors/apicall/", "problems": "/admin/connectors/recordlink/?pending=hands",
                    "preset": "/admin/connectors/integration/preset/", "entitysync": "/admin/connectors/entitysync/1/change/",
                    "waiting": "/admin/connectors/recordlink/?pending=2", "events": "/admin/connectors/event/",
                    "job": "/admin/jobs/job/1/change/", "people": "/admin/auth/user/",
                    "blackouts": "/admin/scheduling/blackout/", "blackout": "/admin/scheduling/blackout/add/",
                    "provisioning": "/admin/scheduling/provisioning/",
                }  # fmt: skip
                _take(browser, address, password, pages | more, asked.look, 1440, "dark")
                _take(browser, address, password, pages | more, asked.look, 390, "light")
            browser.close()


def _environment(folder: str, database: str) -> dict[str, str]:
    return {
        **os.environ,
        "DEMO_DATABASE_URL": database or f"sqlite:///{folder}/demo.sqlite3",
        "WORKER_RUN_FILE": f"{folder}/worker.json",
        "PICTURES_PASSWORD": secrets.token_urlsafe(16),
    }


def _demo_keys() -> dict[str, str]:
    """Return the demo's own settings, as its processes have them."""
    from config import demo

    kept = dict(os.environ)
    demo.prepare_environment()
    found = {name: value for name, value in os.environ.items() if kept.get(name) != value}
    os.environ.clear()
    os.environ.update(kept)
    found.pop("DATABASE_URL", None)
    found.pop("DEMO_DATABASE_URL", None)
    return found


def _manage(environment: dict[str, str], *arguments: str) -> str:
    env = {**environment, "DATABASE_URL": environment["DEMO_DATABASE_URL"]}
    done = subprocess.run(
        [sys.executable, "manage.py", *arguments], cwd=ROOT, env=env, check=True, capture_output=True, text=True
    )
    return done.stdout


@contextmanager
def _worker(environment: dict[str, str]) -> Iterator[None]:
    """The overview says so when no worker lives: let one live."""
    env = {**environment, "DATABASE_URL": environment["DEMO_DATABASE_URL"]}
    process = subprocess.Popen([sys.executable, "manage.py", "worker", "--workers", "1"], cwd=ROOT, env=env)
    try:
        time.sleep(4)
        yield
    finally:
        process.terminate()
        process.wait(60)


@contextmanager
def _server(environment: dict[str, str]) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "config.wsgi", "--bind", f"127.0.0.1:{port}", "--threads", "4", "--log-level", "warning"],
        cwd=ROOT, env={**environment, "DATABASE_URL": environment["DEMO_DATABASE_URL"]},
    )  # fmt: skip
    try:
        for _ in range(100):
            with socket.socket() as trial:
                if trial.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def _take(
    browser: Browser, address: str, password: str, pages: dict[str, str], folder: Path, width: int, theme: str,
    *, whole: bool = True,
) -> None:  # fmt: skip
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme)  # type: ignore[arg-type]
    page = context.new_page()
    foreign: list[str] = []
    page.on(
        "request", lambda request: None if request.url.startswith((address, "data:")) else foreign.append(request.url)
    )
    page.goto(f"{address}/admin/login/")
    page.fill("[name=username]", "pictures")
    page.fill("[name=password]", password)
    page.click("[type=submit]")
    suffix = "" if whole is False else f"-{width}-{theme}"
    for name, path in pages.items():
        answer = page.goto(address + path)
        if answer is None or answer.status != 200:
            raise SystemExit(f"{path} answered {answer.status if answer else 'nothing'}")
        page.wait_for_load_state("networkidle")
        wide = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        if wide > 0:
            print(f"{name}{suffix}: {wide} px wider than the window")
        page.screenshot(path=folder / f"{name}{suffix}.png", full_page=whole)
    context.close()
    if foreign:
        raise SystemExit(f"Pages asked other hosts: {sorted(set(foreign))[:5]}")


if __name__ == "__main__":
    main()
