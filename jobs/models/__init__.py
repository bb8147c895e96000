"""What is kept of background work, of those who do it, and of what people are told?"""

from jobs.models.failing import Failing
from jobs.models.job import (
    Job,
    JobQuerySet,
    JobTransition,
    Pause,
    WorkerHeartbeat,
    name_of,
    new_token,
)

__all__ = [
    "Failing",
    "Job",
    "JobQuerySet",
    "JobTransition",
    "Pause",
    "WorkerHeartbeat",
    "name_of",
    "new_token",
]
