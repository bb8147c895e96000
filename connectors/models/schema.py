"""What did a system describe when it was last asked, and what of that has gone from under a mapping?"""

from __future__ import annotations

from django.db import models

from connectors.models.connection import Connection
from connectors.models.integration import EntitySync, FieldMapping
from connectors.models.run import SIDES


class SchemaSnapshot(models.Model):
    """Entities, fields and choices of one connection, as last described: pages and checks read it without a call."""

    connection = models.OneToOneField(Connection, on_delete=models.CASCADE, related_name="schema_snapshot")
    at = models.DateTimeField(null=True, blank=True)  # null: nothing was ever read
    tried_at = models.DateTimeField(null=True, blank=True)
    error = models.CharField(max_length=500, blank=True)  # why the last try failed
    entities = models.JSONField(default=dict, blank=True)
    options = models.JSONField(default=dict, blank=True)  # entity -> field -> [[key, label, active]]
    appeared = models.JSONField(default=dict, blank=True)  # entity -> field -> moment: what came after the first look

    def __str__(self) -> str:
        return f"Schema of {self.connection_id}"


class SchemaDrift(models.Model):
    """Something that a mapping stands on is no longer as it was in a system's schema."""

    class Kind(models.TextChoices):
        ENTITY = "entity", "Entity vanished"
        FIELD = "field", "Field vanished"
        OPTION = "option", "Option vanished"
        TYPE = "type", "Type changed"
        READ_ONLY = "read_only", "Became read-only"
        REQUIRED = "required", "New required field"

    entity_sync = models.ForeignKey(EntitySync, on_delete=models.CASCADE, related_name="drifts")
    field_mapping = models.ForeignKey(FieldMapping, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    side = models.CharField(max_length=5, choices=SIDES)
    kind = models.CharField(max_length=10, choices=Kind.choices)
    field = models.CharField(max_length=100, blank=True)
    option = models.CharField(max_length=200, blank=True)  # its key
    was = models.CharField(max_length=200, blank=True)  # type or label before
    message = models.CharField(max_length=500)
    first_seen = models.DateTimeField()
    last_seen = models.DateTimeField()
    resolved_at = models.DateTimeField(null=True, blank=True)
    resolved_by = models.CharField(max_length=150, blank=True)  # empty: it is back as it was, or no mapping needs it

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["entity_sync", "side", "kind", "field", "option"], name="schema_drift_once"
            ),
        ]

    def __str__(self) -> str:
        return self.message
