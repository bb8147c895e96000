"""Why are jobs not handed out?"""

from __future__ import annotations

from datetime import datetime

from django.conf import settings
from django.db import models
from django.db.models import Q

from jobs import clock


class PauseQuerySet(models.QuerySet["Pause"]):
    def active(self, now: datetime) -> PauseQuerySet:
        """Pauses that hold jobs back at this moment: one whose end has come does not, whoever deletes its row."""
        return self.filter(Q(until__isnull=True) | Q(until__gt=now))

    def over(self, now: datetime) -> PauseQuerySet:
        """Pauses whose end has come."""
        return self.filter(until__lte=now)


class Pause(models.Model):
    """Holds jobs back: those of one connection, of one type, or all.  What runs already goes on to its next safe point."""

    class Kind(models.TextChoices):
        CONNECTION = "connection", "Connection"
        TYPE = "type", "Job type"
        HUB = "hub", "Everything"

    kind = models.CharField(max_length=20, choices=Kind.choices)
    connection = models.ForeignKey(
        "connectors.Connection", null=True, blank=True, on_delete=models.CASCADE, related_name="pauses"
    )
    job_type = models.CharField(max_length=60, blank=True)
    by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    by_name = models.CharField(max_length=150, blank=True)  # a command has no account, and accounts are deleted
    reason = models.CharField(max_length=500)
    at = models.DateTimeField(default=clock.now, editable=False)
    until = models.DateTimeField(null=True, blank=True)  # it ends by itself; null: when a person ends it

    objects = PauseQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(kind="connection", connection__isnull=False, job_type="")
                | (Q(kind="type", connection__isnull=True) & ~Q(job_type=""))
                | Q(kind="hub", connection__isnull=True, job_type=""),
                name="pause_names_what_it_stops",
            ),
            models.UniqueConstraint(
                fields=["connection"], condition=Q(kind="connection"), name="one_pause_a_connection"
            ),
            models.UniqueConstraint(fields=["job_type"], condition=Q(kind="type"), name="one_pause_a_type"),
            models.UniqueConstraint(fields=["kind"], condition=Q(kind="hub"), name="one_pause_of_the_hub"),
        ]

    def __str__(self) -> str:
        return f"{self.what}: {self.reason}"

    @property
    def what(self) -> str:
        """What it holds back, in words."""
        if self.kind == self.Kind.CONNECTION:
            return f"jobs of {self.connection}"
        return f"jobs of the type {self.job_type}" if self.kind == self.Kind.TYPE else "all jobs"

    @property
    def who(self) -> str:
        """Who made it."""
        return self.by_name or (str(self.by) if self.by is not None else "")
