"""Does a first sync end right although its processes are killed?  Real workers, real HTTP.  ("What it must show", 6)"""

# ruff: noqa: S608 - the statements hold a number of our own

import json
import os
import random
import secrets
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from urllib.parse import urlsplit

import pytest
from django.conf import settings

from connectors.dynamics365.simulator import DynamicsSimulator
from connectors.quickbooks.simulator import QuickBooksSimulator
from jobs import shutdown
from jobs.supervisor import pids_of
from tests.acceptance.conftest import Judge

pytestmark = pytest.mark.processes
GRACE = 5
KILLS = 10
MANY, SOME = 4200, 1500  # customers; a fifth as many items come on top: more than 5,000 records
PATIENCE = 240
TIMES = {
    "JOB_SLICE_SECONDS": "3",
    "JOB_LEASE_SECONDS": "5",
    "JOB_HEARTBEAT_SECONDS": "0.5",
    "JOB_REAPER_SECONDS": "0.5",
    "JOB_UNCLAIMED_SECONDS": "6",
    "JOB_DISPATCH_SECONDS": "0.2",
    "WORKER_BEAT_SECONDS": "1",
    "WORKER_STALL_SECONDS": "7",
    "WORKER_GRACE_SECONDS": str(GRACE),
    "QUEUE_POLL_SECONDS": "0.1",
    "LOG_LEVEL": "WARNING",
}
POSTGRES = os.environ.get("TEST_POSTGRES_URL") or os.environ.get("DATABASE_URL", "")


class Site:
    """One installation with its two systems: a database, a worker, and simulators in this process."""

    def __init__(self, folder, url, records):
        self.url = url
        self.output = (folder / "output").open("w+")
        self.environment = {
            **os.environ,
            **TIMES,
            "DATABASE_URL": url,
            "WORKER_RUN_FILE": str(folder / "worker.json"),
            "DJANGO_SETTINGS_MODULE": "config.settings",
            "PYTHONPATH": str(settings.BASE_DIR),
        }
        self.left = QuickBooksSimulator(records=records, seed=5, limits=False, transactions=False)
        self.right = DynamicsSimulator(seed=5, limits=False)
        self.workers = []
        self.names = set()

    def __enter__(self):
        self.left.start()
        self.right.start()
        self.run("manage.py", "migrate", "-v0")
        self.set_up()
        return self

    def set_up(self):
        """Connections, the preset, and the first sync as a job."""
        told = {side: getattr(self, side).credentials() for side in ("left", "right")}
        told["left"]["settings"] |= {"limit.batch": "0", "limit.request": "0"}
        told["right"]["settings"] |= {"limit.request": "0"}
        self.job = int(self.run("-m", "tests.acceptance.site_setup", given=told))

    def __exit__(self, *_):
        leftover = [pid for name in self.names for pid in pids_of(name)]
        for worker in self.workers:
            if worker.poll() is None:
                worker.kill()
            worker.wait()
        for pid in leftover:
            end(pid)
        self.left.stop()
        self.right.stop()
        self.output.close()

    def run(self, *command, given=None):
        done = subprocess.run(
            [sys.executable, *command],
            env=self.environment, cwd=settings.BASE_DIR, text=True, capture_output=True, timeout=120,
            input=json.dumps(given) if given else "",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    def start(self):
        worker = subprocess.Popen(
            [sys.executable, "manage.py", "worker", "--workers", "2"],
            env=self.environment, cwd=settings.BASE_DIR, stdin=subprocess.DEVNULL, stdout=self.output,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
        self.workers.append(worker)
        return worker

    def rows(self, sql):
        if self.url.startswith("sqlite"):
            with closing(sqlite3.connect(self.url.removeprefix("sqlite:///"), timeout=20)) as database:
                found = database.execute(sql)
                rows = found.fetchall() if found.description else []
                database.commit()
                return rows
        import psycopg

        with psycopg.connect(self.url, autocommit=True) as database:
            found = database.execute(sql)
            return found.fetchall() if found.description else []

    def status(self):
        return self.rows(f"select status_reason from jobs_job where id = {self.job}")[0][0]

    def hurry(self):
        """Press "Run now": what waits a minute for its retry shall not make this test wait."""
        self.rows(
            "update jobs_job set run_at = '2020-01-01 00:00:00', ready_at = '2020-01-01 00:00:00'"
            f" where id = {self.job} and status_reason = 'retry' and not_before is null"
        )

    def until(self, true, what, seconds):
        stop = time.monotonic() + seconds
        while time.monotonic() < stop:
            found = true()
            if found:
                return found
            time.sleep(0.05)
        self.output.seek(0)
        moves = self.rows(
            f"select to_status, reason from jobs_jobtransition where job_id = {self.job} order by id desc limit 12"
        )
        return pytest.fail(f"{what}: job is {self.status()}\n{moves}\n{self.output.read()[-3000:]}")

    def pids(self):
        """Every process of the present cluster."""
        rows = self.rows("select name from jobs_workerheartbeat where kind = 'queue' order by seen_at desc limit 1")
        if not rows:
            return []
        self.names.add(rows[0][0])
        return pids_of(rows[0][0])

    def busy(self):
        """The process that carries the job out just now."""
        found = self.rows(f"select worker from jobs_job where id = {self.job} and status_reason = 'in progress'")
        return int(found[0][0].rpartition(":")[2]) if found else None

    def written(self):
        return len(self.right.store.log)

    def over(self):
        self.hurry()
        return self.status() in ("succeeded", "failed", "cancelled", "not applicable")

    def finish(self, seconds=PATIENCE):
        self.until(self.over, "the sync did not end", seconds)
        [(status, message)] = self.rows(f"select status_reason, error_message from jobs_job where id = {self.job}")
        assert status == "succeeded", message

    def ask(self, mode):
        self.job = int(self.run("-m", "tests.acceptance.site_setup", given={"ask": mode}))
        self.finish(60)

    def assert_agreed(self):
        """Both stores hold the same, and each record was made exactly once."""
        assert list(Judge(self.left, self.right).differences())[:5] == []
        made = [c for c in self.right.store.log if c.verb == "create" and c.by == "api"]
        assert len(made) == len({(c.entity, c.id) for c in made})
        held = {e: len(self.right.store.table(e)) for e in ("account", "contact", "product")}
        assert {e: sum(c.entity == e for c in made) for e in held} == held
        assert not any(c.by == "api" for c in self.left.store.log)
        # A company is an account, and its person a contact of the same customer.
        external = {
            e: [r.body["syn_externalid"] for r in self.right.store.table(e).values()] for e in ("account", "contact")
        }
        for ids in external.values():
            assert len(ids) == len(set(ids))
        customers = {*external["account"], *external["contact"]}
        wanted = sum(bool(r.body["Active"]) for r in self.left.store.table("Customer").values())
        assert wanted <= len(customers) <= len(self.left.store.table("Customer"))
        assert self.rows("select count(*) from connectors_recordchange where open is not null") == [(0,)]
        assert self.rows("select count(*) from connectors_recordlink where pending in (1, 2, 4, 5, 6)") == [(0,)]


def end(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database(request, tmp_path):
    """The URL of an empty database of one's own."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'hub.sqlite3'}"
        return
    if not POSTGRES.startswith("postgres"):
        pytest.skip("neither TEST_POSTGRES_URL nor DATABASE_URL names a PostgreSQL database")
    import psycopg

    name = f"syncline_kills_{secrets.token_hex(4)}"
    with psycopg.connect(POSTGRES, autocommit=True) as server:
        server.execute(f"create database {name}")
        yield urlsplit(POSTGRES)._replace(path=f"/{name}").geturl()
        server.execute(f"drop database {name} with (force)")


@pytest.mark.slow
def test_a_first_sync_whose_worker_is_killed_ten_times_ends_in_agreement_without_a_duplicate(tmp_path, database):
    chance = random.Random(20)
    killed = 0
    with Site(tmp_path, database, MANY) as site:
        assert len(site.left.store.table("Customer")) + len(site.left.store.table("Item")) > 5000
        # As slow as the real thing, so that ten kills fit in, and most hit a request that is under way.
        site.right.faults.add("delay", match=r"POST .*\$batch$", times=None, seconds=0.3)
        site.start()
        site.until(site.busy, "nobody took the job", 30)
        while killed < KILLS:
            time.sleep(chance.uniform(0.2, 2.2))
            pid = site.until(lambda: site.over() or site.busy(), "nobody goes on with the job", 60)
            assert pid is not True, f"the sync was over after {killed} kills; it must be larger"
            killed += end(pid)
            site.pids()
            # Nothing is gained by killing a job again that has not begun again.
            site.until(lambda dead=pid: site.busy() not in (dead, None) or site.over(), "nobody took over", 60)
        site.finish()
        lost = site.rows(
            f"select count(*) from jobs_jobtransition where job_id = {site.job} and reason like 'worker lost%'"
        )
        assert lost[0][0] >= KILLS // 2
        site.ask("delta")
        before = site.written()
        site.ask("delta")
        assert site.written() == before, "a run after the last wrote again"
        site.assert_agreed()


def test_sigterm_in_mid_sync_stops_everything_within_the_grace_and_a_new_worker_goes_on(tmp_path):
    with Site(tmp_path, f"sqlite:///{tmp_path / 'hub.sqlite3'}", SOME) as site:
        site.environment["JOB_SLICE_SECONDS"] = "60"  # it has to stop before the end of its slice
        worker = site.start()
        site.until(lambda: site.written() > 300, "nothing was written", 60)
        site.pids()
        started = time.monotonic()
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(timeout=GRACE + 5) == 0
        assert time.monotonic() - started < GRACE + 2
        assert [pid for name in site.names for pid in pids_of(name)] == []
        assert site.status() == "waiting", "it did not end at a safe point"
        assert site.written() < SOME
        stopped = site.written()
        time.sleep(0.5)
        assert site.written() == stopped
        site.start()
        site.finish()
        site.assert_agreed()


def test_a_killed_supervisor_leaves_no_orphans_and_the_next_one_finishes_without_duplicates(tmp_path):
    with Site(tmp_path, f"sqlite:///{tmp_path / 'hub.sqlite3'}", SOME) as site:
        site.environment["WORKER_GRACE_SECONDS"] = "1"
        worker = site.start()
        site.until(lambda: site.written() > 300, "nothing was written", 60)
        site.pids()
        worker.kill()
        worker.wait()
        gone = lambda: not any(pids_of(name) for name in site.names)
        site.until(gone, "orphans", 1 + shutdown.EXTRA_GRACE + 4)
        site.start()
        site.finish()
        site.assert_agreed()
