"""Many threads want the same thing at once, each with its own connection: run by test_processes on a database file."""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path

import django

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
django.setup()

from django.db import connection  # noqa: E402

from jobs import clock, dispatch, worker  # noqa: E402
from jobs.models import Job, WorkerHeartbeat  # noqa: E402
from jobs.states import IllegalTransition  # noqa: E402

THREADS = 8


def together(work):
    """Call `work` in all threads at the same moment; return what they answered."""
    barrier, answers = threading.Barrier(THREADS), []

    def one(number):
        try:
            barrier.wait()
            answers.append(work(number))
        except IllegalTransition:
            answers.append(None)
        finally:
            connection.close()

    threads = [threading.Thread(target=one, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == THREADS
    return [answer for answer in answers if answer]


def claims():
    """How many of the threads claim one and the same dispatched job?"""
    job = dispatch.request("probe")
    dispatch.take(job)

    def claim(number):
        mine = Job.objects.get(pk=job.pk)
        worker.claim(mine, job.dispatch_token)
        return True

    winners = len(together(claim))
    job.refresh_from_db()
    return [winners, job.attempt]


def requests():
    """How many jobs do simultaneous requests with one dedupe key make?"""
    return len({job.pk for job in together(lambda number: dispatch.request("probe", dedupe_key="one"))})


def locks():
    """How many jobs with one lock key are taken at once?"""
    jobs = [dispatch.request("probe", lock_key="one", params={"n": n}) for n in range(THREADS)]

    def take(number):
        dispatch.take(jobs[number])
        return True

    return len(together(take))


def dispatchers():
    """Do several dispatchers at once hand out each job once, and no more than there are workers for schedules?"""
    Job.objects.all().delete()
    WorkerHeartbeat.objects.all().delete()
    WorkerHeartbeat.objects.create(name="race", kind="supervisor", host="here", pid=1, workers=9, seen_at=clock.now())
    for n in range(20):
        dispatch.request("probe", params={"n": n})
    given = [job.pk for jobs in together(lambda number: dispatch.hand_out()) for job in jobs]
    return [len(given), len(set(given))]


print(json.dumps({work.__name__: work() for work in (claims, requests, locks, dispatchers)}))
