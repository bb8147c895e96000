"""What does a handler see of its job?  Parameters, time, safe points, progress: never the row itself."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import Q

from jobs import clock, shutdown
from jobs.models import Job
from jobs.states import StatusReason

LOOK_EVERY = 1.0  # seconds between two looks at the row: a checkpoint is cheap
PROGRESS_EVERY = 2.0

logger = logging.getLogger("jobs.handlers")


class JobCancelled(Exception):
    """A person asked to cancel; raised at a checkpoint, before the next external write."""


class LeaseLost(Exception):
    """Somebody else may have this job by now: write nothing more, neither outside nor here."""


class JobContext:
    """One slice of one attempt at a job."""

    def __init__(self, job: Job) -> None:
        self.job_id: int = job.pk
        self.type = job.type
        self.params: Mapping[str, Any] = job.params
        self.scope_id: int | None = job.scope_id
        self.run_id: int | None = job.run_id
        self.attempt = job.attempt
        self.last_try = job.attempt > settings.JOB_RETRIES  # the first try is 1
        self.round = job.round
        self.reconcile = job.reconcile  # the effect of an earlier try is unknown: read before the first write
        self.created_by_id: int | None = job.created_by_id
        self.log = logging.LoggerAdapter(logger, {"job": job.pk})
        self.lost = threading.Event()  # set by the heartbeat
        self._lease = Q(pk=job.pk, lease_token=job.lease_token, status_reason=StatusReason.IN_PROGRESS)
        self._progress_stored = False
        self._looked = self._told = 0.0
        self.begin_slice()

    def begin_slice(self) -> None:
        """Start the time of a slice."""
        # Measured by this process's own clock: a test clock that stands still must not make a slice endless.
        self._slice_end = time.monotonic() + settings.JOB_SLICE_SECONDS
        self.deadline = clock.now() + timedelta(seconds=settings.JOB_SLICE_SECONDS)

    def now(self) -> datetime:
        """Return the present moment."""
        return clock.now()

    def slice_over(self) -> bool:
        """Say whether to stop at the next safe point: the slice's time is over or the worker is about to stop."""
        return time.monotonic() >= self._slice_end or shutdown.stopping.is_set()

    def checkpoint(self) -> None:
        """Call before each external write and each commit.  Raises LeaseLost or JobCancelled."""
        if self.lost.is_set():
            raise LeaseLost(f"the lease of job {self.job_id} is lost")
        if time.monotonic() - self._looked < LOOK_EVERY:
            return
        self._looked = time.monotonic()
        wanted = Job.objects.filter(self._lease).values_list("cancel_requested", flat=True).first()
        if wanted is None:
            self.lost.set()
            raise LeaseLost(f"the lease of job {self.job_id} is lost")
        if wanted:
            raise JobCancelled(f"job {self.job_id} is to be cancelled")

    def progress(self, done: int, total: int | None, text: str = "") -> None:
        """Show how far the work is.  Written every few seconds at most; the first and the last always."""
        if self._told and done != total and time.monotonic() - self._told < PROGRESS_EVERY:
            return
        self._told = time.monotonic()
        self._update(progress={"done": done, "total": total, "text": text})

    def stored_progress(self) -> None:
        """Tell that work was stored durably, so that a lost worker does not count as poison (DESIGN 9.1)."""
        if not self._progress_stored:
            self._update(progress_stored=True)
            self._progress_stored = True

    def set_run(self, run_id: int) -> None:
        """Tie the job to its run."""
        if run_id != self.run_id:
            self._update(run_id=run_id)
            self.run_id = run_id

    def _update(self, **columns: object) -> None:
        if not Job.objects.filter(self._lease).update(**columns):
            self.lost.set()
            raise LeaseLost(f"the lease of job {self.job_id} is lost")
