"""Is the queue set up so that no job can run twice or for ever?  System checks; JOBS section 2 measured why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import ceil
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register


def connect() -> None:
    """Register the checks; called once, when the app is ready."""
    register(check_queue, Tags.compatibility)
    register(check_leases, Tags.compatibility)
    register(check_app_order, Tags.compatibility)


def check_queue(**_: object) -> list[CheckMessage]:
    """Refuse settings of django-q2 with which tasks were seen to run twice, for ever, or not at all."""
    return [
        Error(f"Q_CLUSTER: {text}", hint=hint, id=f"jobs.{code}") for code, text, hint in _faults(settings.Q_CLUSTER)
    ]


def _faults(queue: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    if queue.get("bulk", 1) != 1:
        yield "E001", "`bulk` must be 1.", "With more, tasks wait in a worker's memory while their lock runs out."
    workers = queue.get("workers") or 0
    limit = queue.get("queue_limit") or 0
    if workers < 1 or not 1 <= limit <= workers:
        yield "E002", "`workers` must be set, and `queue_limit` be from 1 to `workers`.", "Jobs wait in the job table."
    timeout, retry = queue.get("timeout") or 0, queue.get("retry", 60)
    if timeout < 1:
        yield "E003", "`timeout` must be set.", "Without it a hung call holds its worker for ever."
    elif workers >= 1 and retry <= timeout * (2 + ceil(limit / workers)):
        hint = "The clock of `retry` starts when a task is fetched, not when it runs; shorter ones ran twice."
        yield "E004", "`retry` must exceed timeout * (2 + ceil(queue_limit / workers)).", hint
    if queue.get("ack_failures", False) is not True:
        yield "E005", "`ack_failures` must be True.", "Else a failed task runs again for ever."
    if queue.get("max_attempts", 0) != 1:
        yield "E006", "`max_attempts` must be 1.", "Retries are counted in the job table."
    if queue.get("catch_up", True) is not False:
        yield "E007", "`catch_up` must be False.", "Missed schedules are made up once, by Syncline's own dispatcher."
    if queue.get("scheduler", True) is not False:
        yield "E008", "`scheduler` must be False.", "Its table is code execution, and one bad row stops all schedules."
    if queue.get("sync", False):
        yield "E009", "`sync` must not be set.", "Jobs would run inside the transaction that asks for them."
    if 0 < timeout <= settings.JOB_SLICE_SECONDS:
        yield "E010", "`timeout` must be longer than JOB_SLICE_SECONDS.", "Slices would be killed before their end."
    if queue.get("save_limit", 250) > 0:
        yield "E011", "`save_limit` must be -1 or 0.", "Each result would first load all that are kept."


def check_leases(**_: object) -> list[CheckMessage]:
    """Refuse times that contradict each other."""
    found: list[CheckMessage] = []
    if settings.JOB_HEARTBEAT_SECONDS * 2 > settings.JOB_LEASE_SECONDS:
        found.append(Error("JOB_LEASE_SECONDS must be at least twice JOB_HEARTBEAT_SECONDS.", id="jobs.E020"))
    if settings.WORKER_STALL_SECONDS <= 2 * settings.WORKER_BEAT_SECONDS:
        found.append(Error("WORKER_STALL_SECONDS must exceed twice WORKER_BEAT_SECONDS.", id="jobs.E021"))
    if settings.WORKER_STALL_SECONDS <= settings.JOB_SLICE_SECONDS:
        hint = "With every worker in a slice, the heartbeat waits that long in a healthy queue."
        found.append(Warning("WORKER_STALL_SECONDS should exceed JOB_SLICE_SECONDS.", hint=hint, id="jobs.W022"))
    return found


def check_app_order(**_: object) -> list[CheckMessage]:
    """django-q2's admin pages are code execution; ours unregisters them, so it must come later."""
    apps = list(settings.INSTALLED_APPS)
    ours = next((n for n, app in enumerate(apps) if app in ("jobs", "jobs.apps.JobsConfig")), -1)
    if "django_q" in apps and apps.index("django_q") > ours:
        return [Error("django_q must stand before jobs in INSTALLED_APPS.", id="jobs.E030")]
    return []
