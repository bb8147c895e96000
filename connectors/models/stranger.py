"""Which records of the two sides look alike and are not the same?  What a person has said once is not asked again."""

from __future__ import annotations

from django.db import models

from connectors.models.integration import EntitySync


class Stranger(models.Model):
    """Two records of one entity sync that a person has called not the same."""

    entity_sync = models.ForeignKey(EntitySync, on_delete=models.CASCADE, related_name="strangers", db_index=False)
    left_id = models.CharField(max_length=100)
    right_id = models.CharField(max_length=100)
    by = models.CharField(max_length=150, blank=True)
    at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["entity_sync", "left_id", "right_id"], name="strangers_once"),
        ]
        indexes = [models.Index(fields=["entity_sync", "right_id"], name="stranger_right")]

    def __str__(self) -> str:
        return f"{self.left_id} is not {self.right_id}"
