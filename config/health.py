"""Is this hub alive, and is it ready to work?  Open to everybody: the answers name no record, host or person."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from django.conf import settings
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from jobs import clock
from jobs.figures import oldest_due_job
from jobs.models import Pause, WorkerHeartbeat
from scheduling.models import Service

LATE = timedelta(minutes=5)  # a due job or service that nobody has taken for so long waits for something that is broken
_migrated = False  # once true it stays true for this process: migrations are not taken back under a running server


@never_cache
@require_safe
def healthz(request: HttpRequest) -> JsonResponse:
    """The process answers.  No look at the database: a restart would not mend that."""
    return JsonResponse({"status": "ok"})


@never_cache
@require_safe
def readyz(request: HttpRequest) -> JsonResponse:
    """Everything that syncs need is there; else 503 with a sentence for each thing that is not."""
    reasons: list[str] = []
    told: dict[str, object] = {}
    try:
        now = clock.now()
        reasons += _unapplied()
        if not reasons:
            for check in CHECKS:
                reasons += check(now)
            told["oldest_due_job_seconds"] = _age(oldest_due_job(now), now)
            told["worker_seen_seconds"] = _age(worker_seen(), now)
    except DatabaseError:
        reasons = ["The database does not answer."]
    status = {"status": "not ready" if reasons else "ready", "reasons": reasons, **told}
    return JsonResponse(status, status=503 if reasons else 200)


def _unapplied() -> list[str]:
    global _migrated
    if not _migrated:
        executor = MigrationExecutor(connection)
        _migrated = not executor.migration_plan(executor.loader.graph.leaf_nodes())
    return [] if _migrated else ["Migrations are not applied. Run `python manage.py migrate`."]


def worker_seen(kind: str = WorkerHeartbeat.Kind.SUPERVISOR) -> datetime | None:
    """When a worker last gave a sign of life."""
    newest = WorkerHeartbeat.objects.filter(kind=kind).order_by("-seen_at").values_list("seen_at", flat=True)
    return newest.first()


def worker_alive(now: datetime) -> bool:
    """Was a supervisor seen within three beats?"""
    return WorkerHeartbeat.objects.alive(now).exists()


def _worker(now: datetime) -> list[str]:
    return [] if worker_alive(now) else ["No worker is running. Start one: `python manage.py worker`."]


def _queue(now: datetime) -> list[str]:
    """The queue's own beat goes all the way through the broker to a worker process."""
    seen = worker_seen(WorkerHeartbeat.Kind.QUEUE)
    if seen is None or now - seen <= timedelta(seconds=settings.WORKER_STALL_SECONDS):
        return []  # none yet: the supervisor has just started, or runs without a queue
    return [f"No task came through the queue for {_age(seen, now)} seconds."]


def _jobs(now: datetime) -> list[str]:
    oldest = oldest_due_job(now)
    if oldest is None or now - oldest <= LATE or Pause.objects.active(now).exists():
        return []
    return [f"A job has been due for {_age(oldest, now)} seconds."]


def _services(now: datetime) -> list[str]:
    due = Service.objects.due(now - LATE).order_by("next_run_at")
    oldest = due.values_list("next_run_at", flat=True).first()
    if oldest is None:
        return []
    return [f"A service has been due for {_age(oldest, now)} seconds: the scheduler does not tick."]


CHECKS: tuple[Callable[[datetime], list[str]], ...] = (_worker, _queue, _jobs, _services)


def _age(moment: datetime | None, now: datetime) -> int | None:
    return None if moment is None else max(0, int((now - moment).total_seconds()))
