"""What does the queue call?  The only functions that go into django-q2; they take ids and never raise."""

from __future__ import annotations

import logging
import os

from django.db import DatabaseError
from django.db.models import F

from jobs import clock, dispatch, shutdown, worker
from jobs.models import WorkerHeartbeat

logger = logging.getLogger(__name__)


def run(job_id: int, token: str) -> None:
    """Try to claim a job and run one slice of it."""
    try:
        worker.execute(job_id, token)
        if not shutdown.stopping.is_set():
            # Short jobs would else wait for the dispatcher's next second, one after another.
            dispatch.attempt()
    except Exception:
        # Only the bookkeeping itself can fail here (the database is away): the lease runs out and the reaper goes on.
        logger.exception("job %s: could not be claimed, settled or followed by the next", job_id)


def beat() -> None:
    """Prove that a task gets through the queue to a worker of this supervisor."""
    name = os.environ.get(shutdown.NAME, "")
    try:
        WorkerHeartbeat.objects.filter(name=name, kind=WorkerHeartbeat.Kind.QUEUE).update(
            seen_at=clock.now(), beats=F("beats") + 1
        )
    except DatabaseError:
        logger.exception("the queue's heartbeat could not be written")
