"""What do operators see of jobs, and what may they do with them?"""

from __future__ import annotations

from django.contrib import admin
from django_q.models import Failure, OrmQ, Schedule, Success

from jobs import admin_alerts
from jobs.admin import jobs, logs, pauses

__all__ = ["admin_alerts", "jobs", "logs", "pauses"]

# A Schedule's function is any dotted path and a queued task is a pickle: who may edit them owns the host (RELIABILITY
# section 4).  The job table shows all that an operator needs.
for model in (Schedule, OrmQ, Success, Failure):
    if admin.site.is_registered(model):
        admin.site.unregister(model)
