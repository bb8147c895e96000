"""How is old history deleted without anybody waiting for it?  As a job in slices, once a day."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import ClassVar

from jobs.context import JobContext
from jobs.handlers import Answer, Finished, Sliced
from jobs.housekeeping import purge
from jobs.models import Job
from jobs.retries import DEFAULT_DELAYS


class PurgeHandler:
    """Deletes what is older than KEEP_DAYS; its results say how many rows of which table."""

    type: ClassVar[str] = "purge"
    safe: ClassVar[bool] = True  # what is gone is not deleted twice
    delays: ClassVar[Sequence[timedelta]] = DEFAULT_DELAYS
    max_age: ClassVar[timedelta | None] = timedelta(days=1)  # by then there is the next day's

    def run(self, context: JobContext) -> Answer:
        """Delete until nothing old is left or the slice is over."""
        removed = Counter(Job.objects.values_list("results", flat=True).get(pk=context.job_id).get("removed", {}))
        for table, rows in purge.blocks(context.now()):
            removed[table] += rows
            context.checkpoint()
            context.progress(removed.total(), None, table)
            if context.slice_over():
                Job.objects.filter(pk=context.job_id).update(results={"removed": dict(removed)})
                context.stored_progress()
                return Sliced()
        told = ", ".join(f"{rows} {table}" for table, rows in removed.items() if rows) or "nothing was old"
        return Finished({"removed": dict(removed), "summary": f"Purged: {told}."})
