"""Do the settings work as `.env.example` and the README say?"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
KEYS = {"SECRET_KEY": "x" * 50, "CREDENTIAL_KEYS": "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="}


def example() -> dict[str, str]:
    return dict(re.findall(r"^([A-Z_]+)=(.*)$", (ROOT / ".env.example").read_text(), re.M))


def manage(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
    return subprocess.run(
        [sys.executable, "manage.py", *command],
        cwd=ROOT,
        env={**kept, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_example_works_once_both_keys_are_filled_in() -> None:
    done = manage("check", **{**example(), **KEYS, "READ_DOT_ENV": "0"})
    assert done.returncode == 0, done.stderr
    show = "from django.conf import settings as s; print(s.WORKER_RUN_FILE, s.DATABASES['default']['NAME'])"
    shown = manage("shell", "-v", "0", "-c", show, **{**example(), **KEYS, "READ_DOT_ENV": "0"})
    assert "worker.json" in shown.stdout and "syncline.sqlite3" in shown.stdout


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"SECRET_KEY": ""}, "SECRET_KEY is not set"),
        ({"CREDENTIAL_KEYS": ""}, "CREDENTIAL_KEYS is not set"),
        ({"CREDENTIAL_KEYS": "nonsense"}, "CREDENTIAL_KEYS holds a key that is none"),
        ({"WORKERS": "abc"}, "abc"),
    ],
)
def test_a_wrong_setting_ends_in_one_sentence(change: dict[str, str], says: str) -> None:
    done = manage("check", **{**KEYS, "READ_DOT_ENV": "0", **change})
    assert done.returncode != 0
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_every_setting_stands_in_the_example() -> None:
    read = set(re.findall(r"(?:env\.\w+|_required)\(\s*\"([A-Z_]+)\"", (ROOT / "config" / "settings.py").read_text()))
    assert read <= set(example()), read - set(example())
