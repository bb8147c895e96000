"""What is kept in agreement, and by which rules?"""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from connectors.models.connection import Connection
from connectors.models.history import SettingsHistory


class Integration(models.Model):
    """Two connections, left and right, kept in agreement."""

    name = models.CharField(max_length=100, unique=True)
    preset = models.CharField(max_length=60, blank=True)
    left = models.ForeignKey(Connection, on_delete=models.PROTECT, related_name="+")
    right = models.ForeignKey(Connection, on_delete=models.PROTECT, related_name="+")
    enabled = models.BooleanField(default=True)
    off_reason = models.CharField(max_length=200, blank=True, editable=False)  # why a person switched it off, and who
    first_run = models.CharField(
        max_length=10, choices=[("preview", "Preview first"), ("apply", "Apply at once")], default="preview"
    )
    # {"side", "fields": {entity: column}, "value"}: of several companies on one side, whose records these are; empty: all
    route = models.JSONField(default=dict, blank=True)
    revision = models.PositiveIntegerField(default=1, editable=False)  # rises with any change of settings below
    created_at = models.DateTimeField(auto_now_add=True)
    history = SettingsHistory("created_at")

    class Meta:
        constraints = [models.CheckConstraint(condition=~Q(left=F("right")), name="two_different_connections")]
        permissions = [("operate_integration", "Can sync, preview, switch on and off integrations")]

    def __str__(self) -> str:
        return self.name


class EntitySync(models.Model):
    """One left entity kept in agreement with one right entity."""

    class Direction(models.TextChoices):
        BOTH = "both", "Both ways"
        TO_RIGHT = "to_right", "Left to right"
        TO_LEFT = "to_left", "Right to left"

    class Policy(models.TextChoices):
        LAST = "last_updated", "Last updated record wins"
        LEFT = "left", "Left wins"
        RIGHT = "right", "Right wins"
        ASK = "ask", "Ask a person"

    class OnDelete(models.TextChoices):
        ASK = "ask", "Wait for approval"
        DELETE = "delete", "Delete there, too"
        ARCHIVE = "archive", "Make inactive there"
        IGNORE = "ignore", "Do nothing there"

    class EditVDelete(models.TextChoices):
        ASK = "ask", "Ask a person"
        EDIT = "edit", "The edit wins: make it again"
        DELETE = "delete", "The delete wins"

    integration = models.ForeignKey(Integration, on_delete=models.CASCADE, related_name="entity_syncs")
    name = models.CharField(max_length=60)
    family = models.CharField(max_length=60)
    position = models.PositiveSmallIntegerField(default=0)
    left_entity = models.CharField(max_length=60)
    right_entity = models.CharField(max_length=60)
    enabled = models.BooleanField(default=True)
    direction = models.CharField(max_length=10, choices=Direction.choices, default=Direction.BOTH)
    policy = models.CharField(max_length=20, choices=Policy.choices, default=Policy.LAST)
    on_delete = models.CharField(max_length=10, choices=OnDelete.choices, default=OnDelete.ASK)
    edit_v_delete = models.CharField(max_length=10, choices=EditVDelete.choices, default=EditVDelete.ASK)
    prevents = models.JSONField(default=list, blank=True)  # of "left.create" ... "right.delete"
    window = models.JSONField(default=dict, blank=True)  # {"field", "past", "future"}: days; a left field's name
    filters = models.JSONField(default=list, blank=True)  # of {"side", "field", "op", "value"}
    match = models.JSONField(default=list, blank=True)  # alternatives, each a list of mapping names
    # Least similarity in percent at which a person is asked whether two records are the same; 0: only equal ones are.
    match_tolerance = models.PositiveSmallIntegerField(default=0)
    push = models.JSONField(default=dict, blank=True)  # {"left": "on_request"}: only promoted records flow there
    revision = models.PositiveIntegerField(default=1, editable=False)
    history = SettingsHistory("revision")

    class Meta:
        ordering = ["integration", "position", "id"]
        constraints = [
            models.UniqueConstraint(
                fields=["integration", "family", "left_entity", "right_entity"], name="pair_once_in_a_family"
            ),
            models.UniqueConstraint(fields=["integration", "name"], name="entity_sync_name_once"),
        ]

    def __str__(self) -> str:
        return self.name


class FieldMapping(models.Model):
    """Which left field agrees with which right field (or a constant)."""

    entity_sync = models.ForeignKey(EntitySync, on_delete=models.CASCADE, related_name="mappings")
    position = models.PositiveSmallIntegerField(default=0)
    left = models.CharField(max_length=100, blank=True)
    right = models.CharField(max_length=100, blank=True)
    direction = models.CharField(max_length=10, choices=EntitySync.Direction.choices, default=EntitySync.Direction.BOTH)
    policy = models.CharField(max_length=20, blank=True)  # empty: the entity sync's
    transform = models.CharField(max_length=40, blank=True)
    args = models.JSONField(default=dict, blank=True)
    constant = models.JSONField(null=True, blank=True)
    when = models.CharField(
        max_length=10,
        choices=[
            ("always", "Always"),
            ("create", "Only at creation"),
            ("later", "Always, but not at creation"),
            ("empty", "Only where it is empty"),
        ],
        default="always",
    )
    guard = models.CharField(max_length=20, blank=True)  # "overwrite": a cut value may be written over
    required = models.BooleanField(default=False)
    unmapped = models.CharField(max_length=10, default="park", blank=True)  # park, skip, or default
    default = models.CharField(max_length=200, blank=True)  # option key or label written for an unmapped one
    history = SettingsHistory()

    class Meta:
        ordering = ["entity_sync", "position", "id"]
        constraints = [
            models.UniqueConstraint(fields=["entity_sync", "left", "right"], name="mapping_once"),
            models.CheckConstraint(condition=~Q(left="", right=""), name="mapping_has_a_side"),
        ]

    @property
    def name(self) -> str:
        """The mapping's key in canonical values: stable, and readable in an explanation."""
        if self.left == self.right == "~archived":
            return self.left
        return f"{self.left}>{self.right}" if self.left and self.right else self.left or self.right

    def __str__(self) -> str:
        return self.name


class PicklistMapping(models.Model):
    """Which left option agrees with which right option; matched once by label, stored by key."""

    field_mapping = models.ForeignKey(FieldMapping, on_delete=models.CASCADE, related_name="options")
    left_key = models.CharField(max_length=200)
    left_label = models.CharField(max_length=200, blank=True)
    right_key = models.CharField(max_length=200)
    right_label = models.CharField(max_length=200, blank=True)
    token = models.CharField(max_length=200)  # the canonical value; a rename changes nothing
    writes_left = models.BooleanField(default=True)
    writes_right = models.BooleanField(default=True)
    history = SettingsHistory()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["field_mapping", "left_key", "right_key"], name="option_pair_once"),
            models.UniqueConstraint(
                fields=["field_mapping", "left_key"], condition=Q(writes_right=True), name="one_option_written_right"
            ),
            models.UniqueConstraint(
                fields=["field_mapping", "right_key"], condition=Q(writes_left=True), name="one_option_written_left"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.left_label or self.left_key} = {self.right_label or self.right_key}"
