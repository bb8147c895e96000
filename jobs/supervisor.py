"""What keeps the queue's workers alive?  One process that starts the qcluster, watches it, hands out jobs and reaps.

A bare qcluster can hang for ever after a killed worker or a SIGTERM, and leaves orphans behind (PERFORMANCE.md,
"django-q2").  So it runs in a process group of its own; a small task goes through the queue every few seconds, and when
none arrives for too long, or the cluster ends, the whole group is killed and started anew.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from django.conf import settings
from django.db import close_old_connections
from django.utils.module_loading import import_string
from django_q.tasks import async_task

from jobs import clock, dispatch, reaper, shutdown
from jobs.models import Job, WorkerHeartbeat, new_token

BEAT_TASK = "jobs.tasks.beat"
RESTART_PAUSE = 1.0  # seconds, doubled with each start that did not live long
LONGEST_PAUSE = 30.0
PROC = Path("/proc")
Kind = WorkerHeartbeat.Kind

logger = logging.getLogger(__name__)


class AlreadyRunning(Exception):
    """Another supervisor of this installation runs on this host."""


def pids_of(name: str) -> list[int]:
    """Return the processes that carry a supervisor's name in their environment: exactly its cluster, whoever lives."""
    found, mark = [], f"{shutdown.NAME}={name}".encode()
    for entry in PROC.glob("[0-9]*"):
        try:
            if mark in (entry / "environ").read_bytes().split(b"\0") and _state(entry) != "Z":
                found.append(int(entry.name))
        except (OSError, IndexError):
            continue  # it ended meanwhile, or belongs to another user
    return found


def _state(entry: Path) -> str:
    return (entry / "stat").read_text().rpartition(")")[2].split()[0]


class RunFile:
    """The file that says which supervisor runs here.  Its lock goes with the process, also with a killed one."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: IO[str] = path.open("a+", encoding="utf-8")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.seek(0)
            holder = _parse(self._file.read()).get("pid", "unknown")
            self._file.close()
            raise AlreadyRunning(
                f"A worker of this installation runs on this host already (process {holder}). "
                "Stop it first, or set WORKER_RUN_FILE to another path for a second one."
            ) from error

    def take(self, name: str) -> None:
        """Kill what is left of an earlier supervisor's cluster, then write down who we are."""
        self._file.seek(0)
        old = str(_parse(self._file.read()).get("name", ""))
        for pid in pids_of(old) if old else []:
            logger.warning("killing process %s, left by the supervisor %s", pid, old)
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                logger.debug("process %s ended by itself", pid)
        self._file.seek(0)
        self._file.truncate()
        self._file.write(json.dumps({"pid": os.getpid(), "name": name}))
        self._file.flush()

    def close(self) -> None:
        """Give up the lock."""
        self._file.close()


def _parse(text: str) -> dict[str, object]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


class Cluster:
    """One `manage.py qcluster` in a process group of its own."""

    def __init__(self, name: str, workers: int) -> None:
        reading, self._writing = os.pipe()
        environment = {
            **os.environ,
            "WORKERS": str(workers),
            shutdown.NAME: name,
            shutdown.PIPE: str(reading),
        }
        command = [sys.executable, str(settings.BASE_DIR / "manage.py"), "qcluster"]
        self._process = subprocess.Popen(  # noqa: S603 - our own command line
            command, env=environment, pass_fds=(reading,), start_new_session=True, stdin=subprocess.DEVNULL
        )
        os.close(reading)
        self.started = time.monotonic()

    @property
    def pid(self) -> int:
        """The leader of the group."""
        return self._process.pid

    def exited(self) -> bool:
        """Say whether the cluster's main process has ended; others of its group may still live."""
        return self._process.poll() is not None

    def stop(self, grace: float) -> None:
        """Ask to stop: jobs end at their next safe point.  What still runs after the grace time is killed."""
        self._close_pipe()
        end = time.monotonic() + grace
        if not self.exited():
            # Only the leader: django-q2's workers die of SIGTERM at once, in the middle of a job.
            self._process.terminate()
        while time.monotonic() < end and (not self.exited() or self._group_lives()):
            time.sleep(0.05)
        self.kill()

    def kill(self) -> None:
        """Kill the whole group, now."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            logger.debug("nothing is left of the group %s", self.pid)
        self._process.wait()
        self._close_pipe()

    def _close_pipe(self) -> None:
        if self._writing >= 0:
            os.close(self._writing)
            self._writing = -1

    def _group_lives(self) -> bool:
        try:
            os.killpg(self.pid, 0)
        except ProcessLookupError:
            return False
        return True


@dataclass
class Chore:
    """Something to do every so many seconds."""

    name: str
    every: float
    do: Callable[[], object]
    due: float = 0.0  # by the monotonic clock


class Supervisor:
    """The loop of `manage.py worker`."""

    def __init__(self, workers: int, *, cluster: bool = True) -> None:
        self.workers = workers if cluster else 0
        self.name = f"{socket.gethostname()}:{os.getpid()}:{new_token()[:8]}"
        self._stop = threading.Event()
        self._cluster: Cluster | None = None
        self._pause = RESTART_PAUSE
        self._start_at = 0.0
        self._beats: int | None = None
        self._risen = 0.0  # when the queue's count of beats rose last
        self._chores = [
            Chore("heartbeat", settings.WORKER_BEAT_SECONDS, self._beat),
            Chore("dispatcher", settings.JOB_DISPATCH_SECONDS, dispatch.hand_out),
            Chore("reaper", settings.JOB_REAPER_SECONDS, reaper.reap),
        ]
        # What other apps have done in this loop: "scheduling.dispatch.tick=1" (imports go one way, so by name).
        for chore in settings.WORKER_CHORES:
            path, _, seconds = chore.partition("=")
            self._chores.append(Chore(path, float(seconds or 1), import_string(path)))

    def request_stop(self, *_: object) -> None:
        """Stop the loop; for signal handlers."""
        self._stop.set()

    def run(self) -> None:
        """Run until asked to stop, then stop the cluster within the grace time."""
        run_file = RunFile(Path(settings.WORKER_RUN_FILE)) if self.workers else None
        try:
            if run_file is not None:
                run_file.take(self.name)
            logger.info("supervisor %s: %s workers", self.name, self.workers)
            while not self._stop.is_set():
                self._attempt("watch over the cluster", self._watch)
                self._do_chores()
                self._stop.wait(min(0.2, settings.JOB_DISPATCH_SECONDS))
        finally:
            self._shut_down()
            if run_file is not None:
                run_file.close()

    def _shut_down(self) -> None:
        # First the row: nobody hands out jobs for our workers any more.
        self._attempt("sign off", lambda: WorkerHeartbeat.objects.filter(name=self.name).delete())
        if self._cluster is not None:
            logger.info("supervisor %s: stopping the cluster", self.name)
            self._cluster.stop(settings.WORKER_GRACE_SECONDS)
            self._cluster = None

    def _do_chores(self) -> None:
        for chore in self._chores:
            if self._stop.is_set():
                return
            if time.monotonic() >= chore.due:
                chore.due = time.monotonic() + chore.every
                self._attempt(chore.name, chore.do)

    def _attempt(self, what: str, do: Callable[[], object]) -> None:
        # The loop outlives everything: a database that is away for a minute must not end the supervision.
        try:
            do()
        except Exception:
            logger.exception("supervisor: %s failed", what)
            close_old_connections()

    def _watch(self) -> None:
        """Start the cluster, or start it anew when it ended or no task gets through."""
        if not self.workers:
            return
        cluster = self._cluster
        if cluster is None:
            if time.monotonic() >= self._start_at:
                self._start()
            return
        if cluster.exited():
            logger.error("the cluster ended by itself: killing what is left of its group and starting anew")
        elif self._stalled():
            logger.error("no task got through the queue for %g s: restarting", settings.WORKER_STALL_SECONDS)
        else:
            return
        cluster.kill()
        self._cluster = None
        lived = time.monotonic() - cluster.started
        self._pause = RESTART_PAUSE if lived > LONGEST_PAUSE else min(self._pause * 2, LONGEST_PAUSE)
        self._start_at = time.monotonic() + self._pause
        self._write_row(Kind.SUPERVISOR, workers=0)

    def _start(self) -> None:
        self._write_row(Kind.QUEUE)
        self._risen = time.monotonic()  # the time until it counts as stalled begins now
        self._cluster = Cluster(self.name, self.workers)
        self._write_row(Kind.SUPERVISOR, workers=self.workers)

    def _stalled(self) -> bool:
        """Say whether the queue's count has not risen for too long.

        By this process's own clock: the database's time may jump, a test's may stand still.
        """
        rows = WorkerHeartbeat.objects.filter(name=self.name, kind=Kind.QUEUE)
        beats = rows.values_list("beats", flat=True).first()
        if beats != self._beats:
            self._beats, self._risen = beats, time.monotonic()
        return time.monotonic() - self._risen > settings.WORKER_STALL_SECONDS

    def _beat(self) -> None:
        """Say that the supervisor lives, and send a task through the queue that says the same of the workers."""
        self._write_row(Kind.SUPERVISOR, workers=self.workers if self._cluster else 0)
        if self._cluster:
            async_task(BEAT_TASK)

    def _write_row(self, kind: WorkerHeartbeat.Kind, workers: int = 0) -> None:
        busy = Job.objects.running().filter(in_process=False).count() if kind == Kind.SUPERVISOR else 0
        WorkerHeartbeat.objects.update_or_create(
            name=self.name,
            kind=kind,
            defaults={
                "host": socket.gethostname(),
                "pid": self._cluster.pid if kind == Kind.QUEUE and self._cluster else os.getpid(),
                "workers": workers,
                "busy": busy,
                "seen_at": clock.now(),
            },
        )
