"""Does the hub survive what kills real processes?  Real workers on a database file, with leases of seconds."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import pytest
from django.conf import settings

from jobs import shutdown
from jobs.supervisor import AlreadyRunning, RunFile, pids_of

pytestmark = pytest.mark.processes
PYTHON = sys.executable
GRACE = 5
TIMES = {
    "JOB_LEASE_SECONDS": "3",
    "JOB_HEARTBEAT_SECONDS": "0.5",
    "JOB_REAPER_SECONDS": "0.5",
    "JOB_SLICE_SECONDS": "1",
    "JOB_UNCLAIMED_SECONDS": "6",
    "JOB_DISPATCH_SECONDS": "0.2",
    "WORKER_BEAT_SECONDS": "1",
    "WORKER_STALL_SECONDS": "7",
    "WORKER_GRACE_SECONDS": str(GRACE),
    "QUEUE_POLL_SECONDS": "0.1",
}


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    """A migrated database file, to be copied."""
    path = tmp_path_factory.mktemp("empty") / "hub.sqlite3"
    environment = {**os.environ, "DATABASE_URL": f"sqlite:///{path}"}
    subprocess.run(
        [PYTHON, "manage.py", "migrate", "-v0"], check=True, env=environment, cwd=settings.BASE_DIR, timeout=60
    )
    return path


class Hub:
    """One installation: a database, a worker, and a file in which the handlers write what they did."""

    def __init__(self, folder, empty):
        self.log = folder / "log"
        self.log.touch()
        self.database = folder / "hub.sqlite3"
        shutil.copy(empty, self.database)
        self.output = (folder / "output").open("w+")
        self.environment = {
            **os.environ,
            **TIMES,
            "DATABASE_URL": f"sqlite:///{self.database}",
            "JOB_HANDLERS_EXTRA": "tests.jobs.handlers",
            "WORKER_RUN_FILE": str(folder / "worker.json"),
            "DJANGO_SETTINGS_MODULE": "config.settings",
        }
        self.worker = None

    def start(self):
        self.worker = subprocess.Popen(
            [PYTHON, "manage.py", "worker", "--workers", "2"],
            env=self.environment, cwd=settings.BASE_DIR, stdout=self.output, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self.until(self.pids, "the worker started nothing", 15)
        return self

    def rows(self, sql, *arguments):
        with closing(sqlite3.connect(self.database, timeout=20)) as database:
            return database.execute(sql, arguments).fetchall()

    def ask(self, *wanted, copies=1):
        """Make jobs in a process of their own; return their ids."""
        code = (
            "import django, json, sys; django.setup(); from jobs import dispatch\n"
            "print(json.dumps([dispatch.request('probe', params=p).pk for p in json.loads(sys.argv[1])]))"
        )
        params = [{"file": str(self.log), **one} for one in wanted for _ in range(copies)]
        command = [PYTHON, "-c", code, json.dumps(params)]
        out = subprocess.run(
            command, env=self.environment, cwd=settings.BASE_DIR, check=True, capture_output=True, text=True
        ).stdout
        return json.loads(out)

    def status(self, job):
        return self.rows("select status_reason from jobs_job where id = ?", job)[0][0]

    def done(self, job, text="done"):
        """How often did the handler write this line for the job?"""
        return sum(line.split()[:2] == [text, str(job)] for line in self.log.read_text().splitlines())

    def until(self, true, what, seconds=20.0):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = true()
            if found:
                return found
            time.sleep(0.1)
        self.output.seek(0)
        pytest.fail(f"{what}\n{self.output.read()[-6000:]}")

    def until_status(self, job, status, seconds=20.0):
        self.until(lambda: self.status(job) == status, f"job {job} is not {status}", seconds)

    def name(self):
        found = self.rows("select name from jobs_workerheartbeat where kind = 'queue' order by seen_at desc limit 1")
        return found[0][0] if found else ""

    def pids(self):
        """Every process of the cluster."""
        return pids_of(self.name()) if self.name() else []

    def busy_worker(self, job):
        return int(self.rows("select worker from jobs_job where id = ?", job)[0][0].rpartition(":")[2])

    def leader(self):
        return os.getpgid(self.until(self.pids, "no cluster")[0])

    def close(self):
        leftover = self.pids()
        if self.worker and self.worker.poll() is None:
            self.worker.kill()
            self.worker.wait()
        for pid in leftover:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.output.close()


@pytest.fixture
def hub(tmp_path, empty):
    hub = Hub(tmp_path, empty)
    yield hub
    hub.close()


def test_threads_that_race_for_a_claim_a_key_or_a_lock_have_one_winner(hub):
    out = subprocess.run(
        [PYTHON, "tests/jobs/race.py"],
        env=hub.environment, cwd=settings.BASE_DIR, check=True, capture_output=True, text=True, timeout=60,
    ).stdout  # fmt: skip
    assert json.loads(out) == {"claims": [1, 1], "requests": 1, "locks": 1, "dispatchers": [8, 8]}


def test_jobs_are_done_once_and_a_killed_worker_loses_none(hub):
    """One worker, several cases in turn: starting one costs seconds."""
    hub.start()
    many = hub.ask({"do": "finish_noted"}, copies=12)
    for job in many:
        hub.until_status(job, "succeeded")
    assert [hub.done(job) for job in many] == [1] * 12
    assert [hub.done(job, "claim") for job in many] == [1] * 12

    # kill -9 of a busy worker: taken up again after the lease, done once for each claim
    [job] = hub.ask({"do": "sleep_once", "seconds": 60})
    hub.until_status(job, "in progress")
    os.kill(hub.busy_worker(job), signal.SIGKILL)
    hub.until_status(job, "succeeded")
    assert (hub.done(job, "claim"), hub.done(job)) == (2, 1)
    moves = hub.rows("select to_status from jobs_jobtransition where job_id = ? order by id", job)
    assert [move for (move,) in moves] == [
        "waiting", "dispatched", "in progress", "retry", "dispatched", "in progress", "succeeded",
    ]  # fmt: skip

    # a job that kills its worker each time is parked after three
    [poison] = hub.ask({"do": "kill_worker"})
    hub.until_status(poison, "failed", 40)
    assert hub.done(poison, "claim") == 3
    [(code, reason)] = hub.rows(
        "select error_code, (select reason from jobs_jobtransition t where t.job_id = j.id order by id desc limit 1)"
        " from jobs_job j where id = ?",
        poison,
    )
    assert code == "worker lost"
    assert reason.startswith("worker lost")

    # kill -9 of idle workers: one of them holds the lock of django-q2's queue, which then hangs for ever; the
    # supervisor sees that nothing gets through and starts anew
    for job in hub.ask({"do": "finish_noted"}, copies=6):
        hub.until_status(job, "succeeded")
    used = {int(worker.rpartition(":")[2]) for (worker,) in hub.rows("select distinct worker from jobs_job") if worker}
    idle = used & set(hub.pids())
    assert idle
    for pid in idle:
        os.kill(pid, signal.SIGKILL)
    [after] = hub.ask({"do": "finish_noted"})
    hub.until_status(after, "succeeded", 40)
    assert hub.done(after) == 1


def test_sigterm_stops_everything_at_a_safe_point(hub):
    hub.environment["JOB_SLICE_SECONDS"] = "6"  # it has to stop before the end of its slice
    hub.start()
    [job] = hub.ask({"do": "slices"})
    hub.until_status(job, "in progress")
    name = hub.name()
    hub.worker.send_signal(signal.SIGTERM)
    assert hub.worker.wait(timeout=60) == 0
    assert pids_of(name) == []
    assert hub.status(job) == "waiting"  # put down by itself: of a job that is killed a lease is left
    assert hub.done(job, "slice") == 1


def test_a_job_that_does_not_listen_is_killed_at_the_end_of_the_grace_time_and_no_process_is_left(hub):
    hub.environment["WORKER_GRACE_SECONDS"] = "2"
    hub.start()
    [job] = hub.ask({"do": "sleep", "seconds": 60})
    hub.until_status(job, "in progress")
    name = hub.name()
    hub.worker.send_signal(signal.SIGTERM)
    assert hub.worker.wait(timeout=60) == 0
    assert pids_of(name) == []


def test_a_cluster_whose_parts_are_killed_is_replaced_as_a_whole(hub):
    hub.start()
    [first] = hub.ask({"do": "finish_noted"})
    hub.until_status(first, "succeeded")
    old = hub.pids()
    os.kill(hub.leader(), signal.SIGKILL)
    hub.until(lambda: hub.pids() and not set(old) & set(hub.pids()), "the old cluster was not replaced")
    [second] = hub.ask({"do": "finish_noted"})
    hub.until_status(second, "succeeded")


def test_a_killed_supervisor_leaves_no_orphans_and_its_job_goes_on_elsewhere(hub):
    hub.environment["WORKER_GRACE_SECONDS"] = "1"
    hub.start()
    [job] = hub.ask({"do": "sleep_once", "seconds": 60})
    hub.until_status(job, "in progress")
    name = hub.name()
    hub.worker.kill()
    hub.worker.wait()
    hub.until(lambda: not pids_of(name), "orphans", 1 + shutdown.EXTRA_GRACE + 3)
    hub.start()
    hub.until_status(job, "succeeded")
    assert (hub.done(job, "claim"), hub.done(job)) == (2, 1)


def test_a_cluster_that_is_frozen_is_replaced(hub):
    """Stopped processes neither end nor work: only the missing heartbeat tells."""
    hub.start()
    [first] = hub.ask({"do": "finish_noted"})
    hub.until_status(first, "succeeded")
    old = hub.pids()
    os.killpg(hub.leader(), signal.SIGSTOP)
    hub.until(lambda: hub.pids() and not set(old) & set(hub.pids()), "the frozen cluster was not replaced", 25)


# The run file


def sleeper(name):
    return subprocess.Popen(["sleep", "60"], env={**os.environ, shutdown.NAME: name})


def test_a_new_supervisor_kills_what_its_predecessor_left_and_nothing_else(tmp_path):
    path = tmp_path / "worker.json"
    path.write_text(json.dumps({"pid": 1, "name": "here:1:abc"}))
    left, other = sleeper("here:1:abc"), sleeper("here:1:abcd")
    try:
        file = RunFile(path)
        file.take("here:2:def")
        assert left.wait(timeout=5) == -signal.SIGKILL
        assert other.poll() is None
        assert json.loads(path.read_text())["name"] == "here:2:def"
        with pytest.raises(AlreadyRunning, match=f"process {os.getpid()}"):
            RunFile(path)
        file.close()
        RunFile(path).close()
    finally:
        for process in (left, other):
            process.kill()
            process.wait()
