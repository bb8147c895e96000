"""Does the engine meet its goals?  Measures floor and product in turn, each in a fresh process, and prints the ratios."""

from __future__ import annotations

import tests.environment  # noqa: F401  isort: skip

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path

import psycopg

from tests.bench.goals import Measured, judge, table

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 1800  # seconds for one measuring process


def main() -> int:
    """Measure, print, and exit with 0: a missed goal is said, it is not an error."""
    if sys.argv[1:2] == ["lists"]:
        return _lists(os.environ.get("DATABASE_URL", ""), sys.argv[2:])
    asked = _asked()
    started = time.monotonic()
    measured = Measured(asked.records, asked.singles, asked.small)
    with ExitStack() as running:
        database = running.enter_context(_database(asked.database))
        urls = [running.enter_context(_server(side)) for side in ("left", "right")]
        if asked.profile:
            _profile(
                asked.profile, database, *urls, str(asked.singles if asked.profile == "singles" else asked.records)
            )
            return 0
        for number in range(asked.pairs):
            _say(f"pair {number + 1} of {asked.pairs} ...")
            measured.floor.append(_child("floor", database, *urls, str(asked.records), str(asked.singles)))
            for part, records in (("batches", asked.records), ("singles", asked.singles), ("pairing", asked.records)):
                measured.product.setdefault(part, []).append(_child("product", database, part, *urls, str(records)))
            small = _child("product", database, "pairing", *urls, str(asked.small))
            measured.product.setdefault("small", []).append(small)
        vendor = database.vendor
    results = judge(measured)
    about = {
        "database": vendor, "records": asked.records, "single_writes": asked.singles, "small": asked.small,
        "pairs": asked.pairs, "python": platform.python_version(), "cores": os.cpu_count(),
        "seconds": round(time.monotonic() - started),
    }  # fmt: skip
    if asked.json:
        print(json.dumps({"about": about, "goals": [result.told() for result in results]}))
    else:
        print(", ".join(f"{name} {value}" for name, value in about.items()))
        print(table(results))
        print()
        _lists(asked.database, [])
    return 0


def _lists(url: str, arguments: list[str]) -> int:
    """Open every list of a hub with a million links; only in PostgreSQL, where such a hub belongs."""
    parser = ArgumentParser(prog="python -m tests.bench lists", add_help=False)
    parser.add_argument("--keep", default="", metavar="NAME")  # the database bench_NAME is kept, and not filled again
    asked, others = parser.parse_known_args(arguments)
    if not url.startswith("postgres"):
        print("The lists of a million links are measured in PostgreSQL: set DATABASE_URL.")
        return 0
    with _database(url, asked.keep) as database:
        command = [sys.executable, "-m", "tests.bench.lists", *others]
        return subprocess.run(command, env=database.environment, cwd=ROOT, timeout=2 * PATIENCE, check=False).returncode


def _asked() -> Namespace:
    parser = ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--records", type=int, default=10000, help="records on a side (at least 400)")
    parser.add_argument("--singles", type=int, default=2000, help="records of the first sync with single writes")
    parser.add_argument("--small", type=int, default=1000, help="records that memory and idle runs are compared with")
    parser.add_argument("--pairs", type=int, default=3, help="how often floor and product are measured in turn")
    parser.add_argument(
        "--database", default=os.environ.get("DATABASE_URL", ""), help="URL; default: SQLite in a temporary folder"
    )
    parser.add_argument(
        "--profile", choices=("batches", "singles", "pairing"), help="show where the engine's time goes instead"
    )
    parser.add_argument("--json", action="store_true", help="print one line of JSON instead of the table")
    asked = parser.parse_args()
    if asked.records < 400:
        parser.error("--records must be at least 400, so that 1 % of them are some.")
    return asked


class _Database:
    """An empty, migrated database for each measuring process."""

    def __init__(self, url: str, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "bench.sqlite3"
        self.vendor = "PostgreSQL" if url.startswith("postgres") else "SQLite"
        self.url = url if self.vendor == "PostgreSQL" else f"sqlite:///{self.file}"

    @property
    def environment(self) -> dict[str, str]:
        """What a measuring process is started with."""
        return {
            **os.environ, "DATABASE_URL": self.url, "DJANGO_SETTINGS_MODULE": "config.settings",
            "PYTHONPATH": str(ROOT), "LOG_LEVEL": "ERROR",
        }  # fmt: skip

    def fresh(self) -> None:
        """Bring it to the state after migrations."""
        template = self.folder / "template.sqlite3"
        if self.vendor == "PostgreSQL":
            self.manage("flush", "--no-input")
        else:
            for suffix in ("", "-wal", "-shm"):
                Path(f"{self.file}{suffix}").unlink(missing_ok=True)
            shutil.copy(template, self.file)

    def prepare(self) -> None:
        """Migrate once."""
        self.manage("migrate")
        if self.vendor == "SQLite":
            shutil.copy(self.file, self.folder / "template.sqlite3")

    def manage(self, *command: str) -> None:
        """Run a command of Django's."""
        arguments = [sys.executable, str(ROOT / "manage.py"), *command, "-v", "0"]
        subprocess.run(arguments, env=self.environment, check=True, cwd=ROOT)


@contextmanager
def _database(url: str, keep: str = "") -> Iterator[_Database]:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        made = _own_postgres(url, keep) if url.startswith("postgres") else ""
        database = _Database(made or url, Path(folder))
        try:
            database.prepare()
            yield database
        finally:
            if made and not keep:
                _sql(url, f'DROP DATABASE IF EXISTS "{made.rsplit("/", 1)[1]}"')


def _own_postgres(url: str, keep: str = "") -> str:
    """Make a database beside the named one, so that nothing of anybody's is emptied; one that is kept may be there."""
    name = f"bench_{keep or os.getpid()}"
    with suppress(psycopg.errors.DuplicateDatabase) if keep else nullcontext():
        _sql(url, f'CREATE DATABASE "{name}"')
    return f"{url.rsplit('/', 1)[0]}/{name}"


def _sql(url: str, statement: str) -> None:
    with psycopg.connect(url.replace("postgres://", "postgresql://", 1), autocommit=True) as connection:
        connection.execute(statement)  # type: ignore[call-overload]


@contextmanager
def _server(side: str) -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.server", side], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["url"]
    finally:
        process.terminate()
        process.wait(10)


def _child(module: str, database: _Database, *arguments: str) -> dict[str, object]:
    database.fresh()
    command = [sys.executable, "-m", f"tests.bench.{module}", *arguments]
    done = subprocess.run(
        command, env=database.environment, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=PATIENCE, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command[2:])} ended with {done.returncode}; its error is above.")
    told: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return told


def _profile(part: str, database: _Database, *arguments: str) -> None:
    database.fresh()
    command = [
        sys.executable,
        "-m",
        "cProfile",
        "-s",
        os.environ.get("PROFILE_SORT", "tottime"),
        "-m",
        "tests.bench.product",
        part,
        *arguments,
    ]
    told = subprocess.run(command, env=database.environment, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    print("\n".join(told.stdout.splitlines()[: int(os.environ.get("PROFILE_LINES", "70"))]))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
