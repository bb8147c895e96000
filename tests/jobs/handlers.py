"""Handlers that only tests register (JOB_HANDLERS_EXTRA=tests.jobs.handlers): they do what their parameters say."""

from __future__ import annotations

import os
import signal
import time
from datetime import timedelta
from pathlib import Path

from connectors.contract import AuthError, PermanentError, RetryableError, Unanswered
from jobs.handlers import Finished, NotApplicable, Sliced, Snoozed

HANDLERS = {
    "probe": "tests.jobs.handlers.Probe",
    "charge": "tests.jobs.handlers.Charge",
}


def note(params, text):
    """Append one line to the job's file: what really happened, outside of the database."""
    if params.get("file"):
        with Path(params["file"]).open("a") as file:
            file.write(f"{text} {os.getpid()}\n")


class Probe:
    type = "probe"
    safe = True
    delays = (timedelta(seconds=0.2),)
    max_age = None

    def run(self, context):
        note(context.params, f"claim {context.job_id} {context.attempt}")
        return getattr(self, context.params.get("do", "finish"))(context)

    def finish(self, context):
        return Finished({"answer": 42})

    def sleep(self, context):
        end = time.monotonic() + context.params["seconds"]
        while time.monotonic() < end:
            context.checkpoint()
            time.sleep(0.05)
        note(context.params, f"done {context.job_id}")
        return Finished()

    def sleep_once(self, context):
        """Sleep at the first try only."""
        return self.sleep(context) if context.attempt == 1 else self.finish_noted(context)

    def finish_noted(self, context):
        note(context.params, f"done {context.job_id}")
        return Finished()

    def slices(self, context):
        """Work until the slice is over, for ever."""
        while not context.slice_over():
            context.checkpoint()
            time.sleep(0.02)
        context.stored_progress()
        note(context.params, f"slice {context.job_id}")
        return Sliced()

    def one_more_slice(self, context):
        return Sliced()

    def kill_worker(self, context):
        os.kill(os.getpid(), signal.SIGKILL)

    def kill_worker_after_progress(self, context):
        context.stored_progress()
        os.kill(os.getpid(), signal.SIGKILL)

    def not_applicable(self, context):
        return NotApplicable("nothing to do")

    def snooze(self, context):
        return Snoozed(timedelta(minutes=10), "not signed yet")

    def retryable(self, context):
        raise RetryableError("503 from 10.0.0.1", retry_after=context.params.get("retry_after"), code="503")

    def unanswered(self, context):
        raise Unanswered("no answer")

    def auth(self, context):
        raise AuthError("token revoked")

    def permanent(self, context):
        raise PermanentError("no such invoice 17", code="610")

    def bug(self, context):
        raise ZeroDivisionError("oops")

    def leave(self, context):
        raise SystemExit(3)

    def nonsense(self, context):
        return None

    def progress(self, context):
        context.progress(1, 3, "one")
        context.progress(2, 3, "two")
        context.progress(3, 3, "three")
        return Finished()


class Charge(Probe):
    """Not safe to repeat blindly."""

    type = "charge"
    safe = False
    delays = (timedelta(minutes=1), timedelta(minutes=5))
    max_age = timedelta(hours=2)
