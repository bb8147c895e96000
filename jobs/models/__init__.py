"""What is kept of background work, of those who do it, and of what people are told?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobs.models.alert import Alert, AlertMessage, AlertRule
from jobs.models.failing import Failing
from jobs.models.job import (
    Job,
    JobQuerySet,
    JobTransition,
    WorkerHeartbeat,
    name_of,
    new_token,
)
from jobs.models.pause import Pause

if TYPE_CHECKING:
    from jobs.models.job import Person as Person

__all__ = [
    "Alert",
    "AlertMessage",
    "AlertRule",
    "Failing",
    "Job",
    "JobQuerySet",
    "JobTransition",
    "Pause",
    "WorkerHeartbeat",
    "name_of",
    "new_token",
]
