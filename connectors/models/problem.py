"""Which causes keep records from agreement or let jobs fail, since when, and what did a person say about them?"""

from __future__ import annotations

from django.db import models

from connectors.models.integration import EntitySync, Integration
from connectors.models.run import SIDES, Scope


class ProblemGroup(models.Model):
    """All records or jobs that stand still for the same cause.

    The row says what the cause is; which records and how many is read from the links and jobs themselves, by index.
    """

    class Kind(models.TextChoices):
        RECORDS = "records", "Records"
        JOBS = "jobs", "Jobs"

    key = models.CharField(max_length=80, unique=True)  # of records: RecordLink.problem
    kind = models.CharField(max_length=10, choices=Kind.choices, default=Kind.RECORDS)
    integration = models.ForeignKey(
        Integration, null=True, blank=True, on_delete=models.CASCADE, related_name="problem_groups"
    )
    entity_sync = models.ForeignKey(EntitySync, null=True, blank=True, on_delete=models.CASCADE, related_name="+")
    scope = models.ForeignKey(Scope, null=True, blank=True, on_delete=models.CASCADE, related_name="+")  # of jobs
    reason = models.CharField(max_length=40, blank=True)  # of records: the link's
    job_type = models.CharField(max_length=60, blank=True)
    fingerprint = models.CharField(max_length=40, blank=True)  # of jobs: the job's
    code = models.CharField(max_length=100, blank=True)
    field = models.CharField(max_length=100, blank=True)
    side = models.CharField(max_length=5, choices=SIDES, blank=True)
    option = models.CharField(max_length=200, blank=True)  # the key that has no partner
    message = models.CharField(max_length=1000, blank=True)  # the last one of its kind
    first_seen = models.DateTimeField()
    last_seen = models.DateTimeField()
    resolved_at = models.DateTimeField(null=True, blank=True)
    resolved_by = models.CharField(max_length=150, blank=True)  # empty: nothing of it was left
    reopened_at = models.DateTimeField(null=True, blank=True)  # it came back after it had been resolved

    class Meta:
        verbose_name = "problem"
        indexes = [models.Index(fields=["resolved_at", "-last_seen"], name="problem_newest")]
        permissions = [("operate_problemgroup", "Can retry and resolve problems")]

    def __str__(self) -> str:
        return self.message or self.reason
