"""What is due of the housekeeping?  A chore of `manage.py worker`; what takes long becomes a job."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import transaction

from jobs import clock, dispatch, pauses
from jobs.housekeeping import failing
from jobs.models import Job
from jobs.states import Priority

PURGE_EVERY = timedelta(days=1)


def tick() -> None:
    """Look after integrations that keep failing and pauses that are over, and ask for the daily purge."""
    now = clock.now()
    pauses.expire(now)
    failing.recover(now)
    failing.probe(now)
    ask_for_purge(now)


def ask_for_purge(now: datetime) -> Job | None:
    """Ask for a purge unless one was asked for within a day."""
    if Job.objects.filter(type="purge", created_at__gt=now - PURGE_EVERY).exists():
        return None
    with transaction.atomic():
        return dispatch.request("purge", dedupe_key="purge", priority=Priority.LONG)
