"""How do the admin's screens look?  `python -m tests.browser.screenshots` takes the pictures in docs/pictures.

With `--look FOLDER` it takes every page that there is at 1440 and 390 px, light and dark, there, with the names that one fears:
for the eyes of who changes a template.  What test_every_page.py would refuse is printed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from tests.browser.chromium import ARGUMENTS, executable

ROOT = Path(__file__).resolve().parent.parent.parent
PICTURES = ROOT / "docs" / "pictures"


def main() -> None:
    """Take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--look", type=Path, help="folder for every page, in each width and theme")
    asked = parser.parse_args()
    chromium = executable()
    if chromium is None:
        raise SystemExit("There is no Chromium on this machine; install the package chromium.")
    with (
        tempfile.TemporaryDirectory() as folder,
        _gallery(_environment(folder), plain=asked.look is None) as places,
        _server(_environment(folder)) as address,
        sync_playwright() as play,
    ):
        browser = play.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        if asked.look is None:
            PICTURES.mkdir(parents=True, exist_ok=True)
            _take(browser, address, places)
        else:
            asked.look.mkdir(parents=True, exist_ok=True)
            os.environ |= _environment(folder)
            _look(browser, address, asked.look)
        browser.close()


def _environment(folder: str) -> dict[str, str]:
    """A database of its own, and keys that are gone with it."""
    key = Path(folder) / "key"
    if not key.exists():
        key.write_text(secrets.token_urlsafe(50))
    return {
        **os.environ,
        "READ_DOT_ENV": "0",
        "SECRET_KEY": key.read_text(),
        "CREDENTIAL_KEYS": "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
        "ALLOWED_PRIVATE_NETWORKS": "127.0.0.0/8",
        "HTTPS": "0",
        "LOG_LEVEL": "ERROR",
        "DATABASE_URL": f"sqlite:///{folder}/gallery.sqlite3",
        "WORKER_RUN_FILE": f"{folder}/worker.json",
    }


@contextmanager
def _gallery(environment: dict[str, str], *, plain: bool) -> Iterator[dict[str, str]]:
    """The database is filled, and the simulated systems stay up.  Yields the pages by the names of their pictures."""
    command = [sys.executable, "-m", "tests.browser.gallery", *(["--plain"] if plain else [])]
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise SystemExit("The gallery could not be filled; see above.")
        yield json.loads(line)
    finally:
        process.terminate()
        process.wait(10)


@contextmanager
def _server(environment: dict[str, str]) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "config.wsgi", "--bind", f"127.0.0.1:{port}", "--threads", "4", "--log-level", "error"],
        cwd=ROOT, env=environment,
    )  # fmt: skip
    try:
        for _ in range(300):
            with socket.socket() as trial:
                if trial.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def _entered(browser: Browser, address: str, theme: str = "light") -> Page:
    page = browser.new_context(viewport={"width": 1440, "height": 900}, color_scheme=theme).new_page()  # type: ignore[arg-type]
    page.goto(f"{address}/admin/login/")
    page.fill("[name=username]", "ada")
    page.fill("[name=password]", "a long enough secret")
    page.click("[type=submit]")
    page.wait_for_selector("#sl-overview")
    return page


def _take(browser: Browser, address: str, places: dict[str, str]) -> None:
    """Each page as it is first seen; the overview in the dark, too."""
    page = _entered(browser, address)
    for name, path in places.items():
        answer = page.goto(address + path)
        if answer is None or answer.status != 200:
            raise SystemExit(f"{path} answered {answer.status if answer else 'nothing'}")
        page.wait_for_load_state("networkidle")
        page.screenshot(path=PICTURES / f"{name}.png")
    dark = _entered(browser, address, "dark")
    dark.wait_for_load_state("networkidle")
    dark.screenshot(path=PICTURES / "overview-dark.png")


def _look(browser: Browser, address: str, folder: Path) -> None:
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"  # playwright keeps an event loop in this thread
    django.setup()
    from tests.browser.looking import Walk

    page = _entered(browser, address)

    def shoot(url: str, width: int, theme: str) -> None:
        name = re.sub(r"[^A-Za-z0-9]+", "-", url.removeprefix("/admin/")).strip("-")[:90] or "overview"
        page.screenshot(path=folder / f"{name}-{width}-{theme}.png", full_page=True)

    walk = Walk(address, page, look=shoot)
    walk.everything()
    print("\n".join(walk.wrong))
    print(f"{len(walk.visited)} pages, {len(walk.wrong)} flaws: {folder}")


if __name__ == "__main__":
    main()
