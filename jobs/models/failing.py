"""Which scopes keep failing, since when, and what was done about it?"""

from __future__ import annotations

from django.db import models
from django.db.models import Q


class Failing(models.Model):
    """One scope whose runs fail in a row.  The row comes with the first failure and goes with the next success.

    While it is paused, `Scope.enabled` is off: that is what schedules, people and screens look at.
    """

    scope = models.OneToOneField("connectors.Scope", on_delete=models.CASCADE, related_name="failing")
    since = models.DateTimeField()  # of the first failure in the row
    last_at = models.DateTimeField()
    warned_at = models.DateTimeField(null=True, blank=True)
    paused_at = models.DateTimeField(null=True, blank=True)
    paused_by = models.CharField(max_length=150, blank=True)  # the rule, in words
    reason = models.CharField(max_length=500, blank=True)
    probe_at = models.DateTimeField(null=True, blank=True)  # when it is tried again; null: it is not paused

    class Meta:
        verbose_name = "failing integration"
        constraints = [
            models.CheckConstraint(
                condition=Q(paused_at__isnull=True, probe_at__isnull=True)
                | Q(paused_at__isnull=False, probe_at__isnull=False),
                name="paused_has_a_probe",
            )
        ]
        indexes = [models.Index(fields=["probe_at"], name="failing_probe", condition=Q(probe_at__isnull=False))]

    def __str__(self) -> str:
        return str(self.scope)
