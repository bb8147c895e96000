"""What is known of each unit of background work, and of the processes that do it?"""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.serializers.json import DjangoJSONEncoder
from django.db import IntegrityError, models, transaction
from django.db.models import F, Q

from jobs import clock
from jobs.states import (
    OPEN,
    READY,
    RUNNING,
    Actor,
    AlreadyOpen,
    IllegalTransition,
    LockHeld,
    Priority,
    StatusReason,
    may_move,
)

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser, AnonymousUser

    Person = AbstractBaseUser | AnonymousUser | str | None  # a user, the name of a command, or nobody

_OPEN_VALUES = [s.value for s in OPEN]
_RUNNING_VALUES = [s.value for s in RUNNING]
_ACTOR_LENGTH = 150  # as Django's user names


def name_of(person: Person) -> str:
    """Return how a person is written in the timeline: the name stays when the account is deleted."""
    return str(person)[:_ACTOR_LENGTH] if person else ""


def new_token() -> str:
    """Return a token that nobody else holds."""
    return uuid.uuid4().hex


def _note_failed(job: Job, at: datetime) -> None:
    from jobs.problems import note_failed  # here: that module needs this one

    note_failed(job, at)


class JobQuerySet(models.QuerySet["Job"]):
    def open(self) -> JobQuerySet:
        """Jobs that are not finished."""
        return self.filter(status_reason__in=_OPEN_VALUES)

    def running(self) -> JobQuerySet:
        """Jobs that a worker has or is about to take.  By the nullable column, which the partial index hangs on."""
        return self.filter(lease_until__isnull=False)

    def move_many(
        self, new: StatusReason, *, actor: Actor, by: Person = None, reason: str = "", more_rounds: bool = False,
        **changes: Any,
    ) -> list[int]:  # fmt: skip
        """Move all jobs of this queryset that the table lets go there, in one transaction; return their ids.

        As `move_to`, with one UPDATE and one row of history for each.  Raises AlreadyOpen, and then has moved none, where
        an open job has one of their dedupe keys.
        """
        at = clock.now()
        olds = [old for old in StatusReason if may_move(old, new, actor)]
        try:
            with transaction.atomic():
                rows = list(self.filter(status_reason__in=olds).select_for_update().order_by("id"))
                before = {job.pk: job.status for job in rows}
                fields = {**_columns_of(new, at, changes.get("run_at")), **changes, "status_reason": new}
                if more_rounds:
                    fields["round"] = F("round") + 1
                # Asked again: a database without row locks (SQLite) has only the transaction.
                moving = Job.objects.filter(pk__in=before, status_reason__in=olds)
                if moving.update(**fields) != len(rows):
                    raise IllegalTransition("Some of the jobs changed at this very moment. Try again.")
                lines = [
                    JobTransition(
                        job=job, from_status=before[job.pk], to_status=new, actor=actor, by=name_of(by),
                        reason=reason[:500], attempt=changes.get("attempt", job.attempt), at=at,
                    )
                    for job in rows
                ]  # fmt: skip
                JobTransition.objects.bulk_create(lines, batch_size=500)
        except IntegrityError as error:
            raise AlreadyOpen("another open job has the key of one of them") from error
        return list(before)

    def ready(self, at: datetime) -> JobQuerySet:
        """Jobs that are due, in the order in which they are handed out."""
        return self.filter(ready_at__isnull=False, ready_at__lte=at).order_by("priority", "run_at", "id")


class Job(models.Model):
    """One unit of background work.  `move_to` alone changes `status_reason`."""

    type = models.CharField(max_length=60)
    status_reason = models.CharField(max_length=20, choices=StatusReason.choices, default=StatusReason.WAITING)
    dedupe_key = models.CharField(max_length=200, blank=True)  # at most one open job has it
    lock_key = models.CharField(max_length=200, blank=True)  # at most one running job has it
    priority = models.PositiveSmallIntegerField(choices=Priority.choices, default=Priority.SCHEDULED)
    run_at = models.DateTimeField()
    ready_at = models.DateTimeField(null=True, blank=True)  # run_at while Waiting or Retry, else null
    not_before = models.DateTimeField(null=True, blank=True)  # Retry-After: Run now does not go below it
    max_age_at = models.DateTimeField(null=True, blank=True)  # a job older than this is not tried again
    attempt = models.PositiveSmallIntegerField(default=0)  # counted before any I/O
    round = models.PositiveSmallIntegerField(default=0)  # how often an operator pressed Retry
    lost_leases = models.PositiveSmallIntegerField(default=0)  # in a row, without progress
    slices = models.PositiveIntegerField(default=0)
    again = models.BooleanField(default=False)  # triggered while it ran: one more run follows
    reconcile = models.BooleanField(default=False)  # an unsafe job whose last effect is unknown: read before writing
    progress_stored = models.BooleanField(default=False)  # since the claim
    in_process = models.BooleanField(default=False)  # claimed by a command, not by a worker of the queue
    dispatch_token = models.CharField(max_length=36, blank=True, editable=False)
    lease_token = models.CharField(max_length=36, blank=True, editable=False)
    lease_until = models.DateTimeField(null=True, blank=True)  # Dispatched: to be claimed by; In progress: the lease
    claimed_at = models.DateTimeField(null=True, blank=True)
    worker = models.CharField(max_length=150, blank=True)  # host:pid that has it, or had it last
    cancel_requested = models.BooleanField(default=False)
    cancel_by = models.CharField(max_length=_ACTOR_LENGTH, blank=True)
    cancel_reason = models.CharField(max_length=500, blank=True)
    params = models.JSONField(default=dict, blank=True, encoder=DjangoJSONEncoder)
    results = models.JSONField(default=dict, blank=True, encoder=DjangoJSONEncoder)
    progress = models.JSONField(default=dict, blank=True, encoder=DjangoJSONEncoder)
    error_class = models.CharField(max_length=20, blank=True)
    error_code = models.CharField(max_length=100, blank=True)
    error_message = models.CharField(max_length=1000, blank=True)
    fingerprint = models.CharField(max_length=40, blank=True)  # groups failures that look alike
    run = models.ForeignKey("connectors.Run", null=True, blank=True, on_delete=models.SET_NULL, related_name="jobs")
    scope = models.ForeignKey(
        "connectors.Scope", null=True, blank=True, on_delete=models.SET_NULL, related_name="jobs", db_index=False
    )
    object_ref = models.CharField(max_length=200, blank=True)  # the business record it is about
    parent = models.ForeignKey("self", null=True, blank=True, on_delete=models.SET_NULL, related_name="children")
    repeat_of = models.ForeignKey("self", null=True, blank=True, on_delete=models.SET_NULL, related_name="repeats")
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    created_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    wait_ms = models.PositiveBigIntegerField(null=True, blank=True)  # due, until a worker began with it the first time
    ran_ms = models.PositiveBigIntegerField(default=0)  # in the hands of workers: without the waits between tries
    aside_at = models.DateTimeField(null=True, blank=True)  # a person has set it aside: kept, and no trouble any more
    aside_by = models.CharField(max_length=_ACTOR_LENGTH, blank=True)
    aside_note = models.CharField(max_length=500, blank=True)

    objects = JobQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(status_reason__in=[s.value for s in StatusReason]), name="job_status_reason"
            ),
            models.UniqueConstraint(
                fields=["dedupe_key"],
                condition=Q(status_reason__in=_OPEN_VALUES) & ~Q(dedupe_key=""),
                name="one_open_job_for_a_dedupe_key",
            ),
            models.UniqueConstraint(
                fields=["lock_key"],
                condition=Q(status_reason__in=_RUNNING_VALUES) & ~Q(lock_key=""),
                name="one_running_job_for_a_lock_key",
            ),
        ]
        indexes = [
            # The dispatcher, each second.
            models.Index(fields=["ready_at", "priority"], name="job_ready", condition=Q(ready_at__isnull=False)),
            # The reaper, and the count of busy workers.
            models.Index(fields=["lease_until"], name="job_lease", condition=Q(lease_until__isnull=False)),
            models.Index(fields=["status_reason", "-id"], name="job_by_status"),
            # The last jobs of one service.
            models.Index(fields=["object_ref", "-id"], name="job_by_object", condition=~Q(object_ref="")),
            models.Index(fields=["type", "-id"], name="job_by_type"),
            models.Index(fields=["scope", "-id"], name="job_by_scope"),
            models.Index(fields=["fingerprint"], name="job_fingerprint", condition=~Q(fingerprint="")),
            models.Index(fields=["error_class", "-id"], name="job_by_error", condition=~Q(error_class="")),
            # The figures of the last day.
            models.Index(fields=["-finished_at"], name="job_finished", condition=Q(finished_at__isnull=False)),
        ]
        permissions = [("retry_job", "Can retry or run jobs"), ("cancel_job", "Can cancel jobs")]

    def __str__(self) -> str:
        return f"{self.type} {self.pk}"

    @property
    def is_open(self) -> bool:
        """It is not finished."""
        return self.status in OPEN

    @property
    def is_running(self) -> bool:
        """A worker has it, or is about to take it."""
        return self.status in RUNNING

    @property
    def status(self) -> StatusReason:
        """The status reason as an enum."""
        return StatusReason(self.status_reason)

    def move_to(
        self,
        new: StatusReason,
        *,
        actor: Actor,
        by: Person = None,
        reason: str = "",
        when: Q | None = None,
        **changes: Any,  # columns with plain values
    ) -> None:
        """Move the job, or raise IllegalTransition.  The row decides, so two workers cannot both win.

        `when` narrows the rows that may be moved (a token, a flag).  The row of history is written in the same
        transaction.  The instance gets the columns that were written; others may have changed meanwhile.
        """
        old = self.status
        if not may_move(old, new, actor):
            raise IllegalTransition(f"{old.label} -> {new.label} is not for the {actor.label.lower()}")
        at = clock.now()
        fields = {**_columns_of(new, at, changes.get("run_at", self.run_at)), **changes, "status_reason": new}
        rows = Job.objects.filter(pk=self.pk, status_reason=old)
        try:
            with transaction.atomic():
                if not (rows.filter(when) if when is not None else rows).update(**fields):
                    raise IllegalTransition(f"job {self.pk} is no longer {old.label}")
                for name, value in fields.items():
                    setattr(self, name, value)
                JobTransition.write(self, old, actor, name_of(by), reason, at)
                if new is StatusReason.FAILED:
                    _note_failed(self, at)
        except IntegrityError as error:
            if new in RUNNING:
                raise LockHeld(f"another job is running under the lock {self.lock_key}") from error
            raise AlreadyOpen(f"another open job has the key {self.dedupe_key}") from error


def _columns_of(new: StatusReason, at: datetime, run_at: object) -> dict[str, object]:
    """Return the columns whose value follows from the status."""
    columns: dict[str, object] = {"ready_at": None, "finished_at": None}
    if new in READY:
        columns["ready_at"] = run_at
    if new not in RUNNING:
        columns |= {"lease_until": None, "lease_token": "", "dispatch_token": "", "in_process": False}
    if new not in OPEN:
        columns["finished_at"] = at
    return columns


class JobTransition(models.Model):
    """One move of a job.  Append only: these rows are the timeline."""

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="transitions", db_index=False)
    from_status = models.CharField(max_length=20, choices=StatusReason.choices, blank=True)  # empty: it was made
    to_status = models.CharField(max_length=20, choices=StatusReason.choices)
    actor = models.CharField(max_length=20, choices=Actor.choices)
    by = models.CharField(max_length=_ACTOR_LENGTH, blank=True)
    reason = models.CharField(max_length=500, blank=True)
    attempt = models.PositiveSmallIntegerField(default=0)
    error_class = models.CharField(max_length=20, blank=True)  # of the try that ended so
    error_code = models.CharField(max_length=100, blank=True)
    at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["job", "id"], name="transition_timeline")]

    def __str__(self) -> str:
        return f"{self.get_from_status_display() or 'New'} → {self.get_to_status_display()}"

    @classmethod
    def write(
        cls, job: Job, old: StatusReason | None, actor: Actor, by: str, reason: str, at: datetime
    ) -> JobTransition:
        """Add the row of history for the status that `job` has now."""
        ended = old is StatusReason.IN_PROGRESS and job.status is not StatusReason.IN_PROGRESS
        return cls.objects.create(
            job=job,
            from_status=old or "",
            to_status=job.status_reason,
            actor=actor,
            by=by,
            reason=reason[:500],
            attempt=job.attempt,
            error_class=job.error_class if ended else "",
            error_code=job.error_code if ended else "",
            at=at,
        )

    @classmethod
    def made(cls, job: Job, by: str) -> JobTransition:
        """Return the first row of a job's timeline, not saved yet."""
        return cls(job=job, to_status=job.status_reason, actor=Actor.PRODUCER, by=by, at=job.created_at)

    @classmethod
    def asked_again(cls, job: Job, by: str) -> JobTransition:
        """Return the row that says that one more run follows, not saved yet."""
        return cls(
            job=job, from_status=job.status_reason, to_status=job.status_reason, actor=Actor.PRODUCER, by=by,
            reason="asked for again: one more run follows", attempt=job.attempt, at=clock.now(),
        )  # fmt: skip


class WorkerHeartbeatQuerySet(models.QuerySet["WorkerHeartbeat"]):
    def alive(self, now: datetime) -> WorkerHeartbeatQuerySet:
        """Supervisors that were seen within three beats."""
        since = now - timedelta(seconds=max(60.0, 3 * settings.WORKER_BEAT_SECONDS))
        return self.filter(seen_at__gte=since, kind=WorkerHeartbeat.Kind.SUPERVISOR)


class WorkerHeartbeat(models.Model):
    """When was one supervisor, or the queue behind it, last seen alive?"""

    class Kind(models.TextChoices):
        SUPERVISOR = "supervisor", "Supervisor"
        QUEUE = "queue", "Queue"  # a task went all the way through the queue to one of its workers

    name = models.CharField(max_length=150)  # the supervisor's name, of which its workers know
    kind = models.CharField(max_length=20, choices=Kind.choices)
    host = models.CharField(max_length=100)
    pid = models.PositiveIntegerField()
    workers = models.PositiveSmallIntegerField(default=0)
    busy = models.PositiveSmallIntegerField(default=0)
    beats = models.PositiveBigIntegerField(default=0)  # rises while it lives, also when a test's clock stands still
    seen_at = models.DateTimeField()

    objects = WorkerHeartbeatQuerySet.as_manager()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["name", "kind"], name="one_heartbeat_of_a_kind")]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.name}"
