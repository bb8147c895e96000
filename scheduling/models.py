"""Which parts of an integration does a schedule start, when, and who allowed it?"""

from __future__ import annotations

from datetime import datetime

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import F, Q

from connectors.models import Integration
from scheduling import windows as rules

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
EVERY_DAY = 0b111_1111


class ServiceQuerySet(models.QuerySet["Service"]):
    def due(self, now: datetime) -> ServiceQuerySet:
        """Services whose time has come.  By the partial index: a service that is off has no next run."""
        return self.filter(next_run_at__isnull=False, next_run_at__lte=now, enabled=True).order_by("next_run_at", "id")


class Service(models.Model):
    """A named part of an integration that a schedule starts."""

    class Work(models.TextChoices):
        CHANGES = "changes", "Changes on both sides"
        REPORTS = "reports", "Figures from reports"
        PROMOTED = "promoted", "Records promoted in bulk"
        RECONCILE = "reconcile", "Reconciliation"

    integration = models.ForeignKey(Integration, on_delete=models.CASCADE, related_name="services")
    name = models.CharField(max_length=100)
    about = models.CharField(max_length=300, blank=True)
    position = models.PositiveSmallIntegerField(default=0)
    work = models.CharField(max_length=10, choices=Work.choices, default=Work.CHANGES)
    entities = models.JSONField(default=list, blank=True)  # names of entity syncs; empty: all
    enabled = models.BooleanField(default=False)
    zone = models.CharField(max_length=60, default="UTC")
    recommended_minutes = models.PositiveSmallIntegerField(default=0)  # a shorter interval is warned of; 0: none
    paused_until = models.DateTimeField(null=True, blank=True)
    next_run_at = models.DateTimeField(null=True, blank=True, editable=False)  # null: off, or no run ahead
    last_run_at = models.DateTimeField(null=True, blank=True, editable=False)
    revision = models.PositiveIntegerField(default=1, editable=False)  # a stale page is refused

    objects = ServiceQuerySet.as_manager()

    class Meta:
        ordering = ["integration", "position", "id"]
        constraints = [models.UniqueConstraint(fields=["integration", "name"], name="service_name_once")]
        indexes = [
            # The dispatcher, each second.
            models.Index(fields=["next_run_at"], name="service_due", condition=Q(next_run_at__isnull=False)),
        ]
        permissions = [("run_service", "Can start, stop, pause and run services")]

    def __str__(self) -> str:
        return self.name

    def schedule(self, blackouts: list[Blackout]) -> rules.Schedule:
        """Return the pure schedule; `blackouts` are those that concern it."""
        return rules.Schedule(
            self.zone,
            tuple(window.pure() for window in self.windows.all()),
            tuple(blackout.pure() for blackout in blackouts),
        )


class ServiceWindow(models.Model):
    """On which days, between which times, and how often a service runs."""

    class Aligned(models.TextChoices):
        START = "start", "From the start of the window"
        MIDNIGHT = "midnight", "From midnight"

    service = models.ForeignKey(Service, on_delete=models.CASCADE, related_name="windows")
    days = models.PositiveSmallIntegerField(  # bits, Monday is the lowest
        default=EVERY_DAY, validators=[MinValueValidator(1), MaxValueValidator(EVERY_DAY)]
    )
    start = models.TimeField()
    end = models.TimeField()  # inclusive; before the start: on the next day
    every_minutes = models.PositiveSmallIntegerField(default=30)
    aligned_to = models.CharField(max_length=10, choices=Aligned.choices, default=Aligned.START)

    class Meta:
        ordering = ["service", "id"]
        constraints = [
            models.CheckConstraint(condition=Q(every_minutes__gte=rules.FLOOR), name="window_interval_floor"),
            models.CheckConstraint(condition=Q(days__gte=1, days__lte=EVERY_DAY), name="window_has_days"),
        ]

    def __str__(self) -> str:
        return f"{self.start:%H:%M} to {self.end:%H:%M}, every {self.every_minutes} minutes"

    def pure(self) -> rules.Window:
        """Return the window as `scheduling.windows` takes it."""
        days = frozenset(day for day in range(7) if self.days >> day & 1)
        return rules.Window(days, self.start, self.end, self.every_minutes, self.aligned_to)


class Blackout(models.Model):
    """Days on which nothing is started: a holiday, the end of the month."""

    class Kind(models.TextChoices):
        DATES = "dates", "From day to day"
        YEARLY = "yearly", "The same days each year"
        MONTH_END = "month end", "The end of each month"

    name = models.CharField(max_length=100)
    integration = models.ForeignKey(  # null: all integrations
        Integration, null=True, blank=True, on_delete=models.CASCADE, related_name="blackouts"
    )
    service = models.ForeignKey(  # null: all its services
        Service, null=True, blank=True, on_delete=models.CASCADE, related_name="blackouts"
    )
    kind = models.CharField(max_length=10, choices=Kind.choices, default=Kind.DATES)
    first = models.DateField(null=True, blank=True)
    last = models.DateField(null=True, blank=True)  # inclusive
    days_before = models.PositiveSmallIntegerField(default=0, validators=[MaxValueValidator(27)])
    days_after = models.PositiveSmallIntegerField(default=0, validators=[MaxValueValidator(27)])

    class Meta:
        ordering = ["first", "name", "id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(kind="month end") | Q(first__isnull=False, last__gte=F("first")), name="blackout_has_days"
            ),
            models.CheckConstraint(
                condition=Q(service__isnull=True) | Q(integration__isnull=False), name="blackout_service_of_integration"
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def concerns(self, service: Service) -> bool:
        """Whether the service does not start on these days."""
        if self.service_id is not None:
            return self.service_id == service.pk
        return self.integration_id in (None, service.integration_id)

    def pure(self) -> rules.Blackout:
        """Return the blackout as `scheduling.windows` takes it."""
        if self.kind == self.Kind.MONTH_END:
            return rules.Blackout(self.name, month_end_before=self.days_before, month_end_after=self.days_after)
        return rules.Blackout(self.name, self.first, self.last, yearly=self.kind == self.Kind.YEARLY)


class Provisioning(models.Model):
    """One request to provision an integration's services; these rows are the trail of who and when."""

    class Status(models.TextChoices):
        REQUESTED = "requested", "Requested"
        APPROVED = "approved", "Provisioned"
        DECLINED = "declined", "Declined"

    integration = models.ForeignKey(Integration, on_delete=models.CASCADE, related_name="provisionings")
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.REQUESTED)
    requested_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    requested_name = models.CharField(max_length=150, blank=True)  # stays when the account is deleted
    requested_at = models.DateTimeField()
    decided_name = models.CharField(max_length=150, blank=True)
    decided_at = models.DateTimeField(null=True, blank=True)
    reason = models.CharField(max_length=500, blank=True)  # of a decline
    told_at = models.DateTimeField(null=True, blank=True)  # when the requester was told by e-mail

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["integration"], condition=Q(status="requested"), name="one_open_provisioning"
            ),
            models.UniqueConstraint(
                fields=["integration"], condition=Q(status="approved"), name="one_approved_provisioning"
            ),
        ]
        permissions = [("decide_provisioning", "Can approve or decline the provisioning of services")]

    def __str__(self) -> str:
        return f"{self.integration}: {self.get_status_display().lower()}"


class Preflight(models.Model):
    """What the last look at an integration's preparation found."""

    integration = models.OneToOneField(Integration, on_delete=models.CASCADE, related_name="preflight")
    at = models.DateTimeField()
    by = models.CharField(max_length=150, blank=True)
    revision = models.PositiveIntegerField(default=0)  # of the integration's settings it looked at
    lines = models.JSONField(default=list)  # of {"check", "level", "message", "fix"}

    def __str__(self) -> str:
        return f"{self.integration}: {len(self.lines)} checks"
