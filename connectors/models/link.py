"""Which record here is which record there, and what did both sides last agree on?"""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from connectors.models.integration import EntitySync, Integration


class RecordLink(models.Model):
    """One record's identity on both sides, the agreed base, and the one reason why it is not in agreement.

    Written by `connectors.sync.store` below the ORM: no signals, no auto_now, no history here.  JSON columns hold canonical
    text and are compared as text.  `left_staged` is null while the left side equals its own base (base + left_quirk).
    """

    class State(models.IntegerChoices):
        NEW = 0, "New"
        LINKED = 1, "Linked"
        HELD = 2, "Held"
        ENDED = 3, "Ended"
        DISCONNECTED = 4, "Disconnected"

    class Life(models.IntegerChoices):
        NONE = 0, "Not there"
        LIVE = 1, "Live"
        ARCHIVED = 2, "Inactive"
        GONE = 3, "Deleted"

    class Pending(models.IntegerChoices):
        """Why it is not agreed, coarsely: the index that finds work and problems.  Null: agreed."""

        DIRTY = 1, "To be planned"
        WAITING = 2, "Waiting"
        SKIPPED = 3, "Skipped"
        CONFLICT = 4, "Conflict"
        PARKED = 5, "Parked"
        PLANNED = 6, "Planned"

    key = models.CharField(max_length=36, unique=True)  # the marker
    integration = models.ForeignKey(Integration, on_delete=models.CASCADE, related_name="links", db_index=False)
    entity_sync = models.ForeignKey(EntitySync, on_delete=models.CASCADE, related_name="links", db_index=False)
    family = models.CharField(max_length=60)
    scope = models.ForeignKey("connectors.Scope", on_delete=models.CASCADE, related_name="+", db_index=False)

    left_entity = models.CharField(max_length=60, blank=True)
    left_id = models.CharField(max_length=100, null=True, blank=True)  # null: no record there
    left_version = models.CharField(max_length=200, blank=True)
    left_modified = models.CharField(max_length=32, blank=True)  # ISO 8601 UTC, as text
    left_life = models.PositiveSmallIntegerField(choices=Life.choices, default=Life.NONE)
    left_match = models.CharField(max_length=32, blank=True)
    # By the second alternative, where the first is filled, too: kept only until the record has a partner.
    left_match2 = models.CharField(max_length=32, null=True, blank=True)
    left_staged = models.TextField(null=True, blank=True)
    left_quirk = models.TextField(blank=True)

    right_entity = models.CharField(max_length=60, blank=True)
    right_id = models.CharField(max_length=100, null=True, blank=True)
    right_version = models.CharField(max_length=200, blank=True)
    right_modified = models.CharField(max_length=32, blank=True)
    right_life = models.PositiveSmallIntegerField(choices=Life.choices, default=Life.NONE)
    right_match = models.CharField(max_length=32, blank=True)
    right_match2 = models.CharField(max_length=32, null=True, blank=True)
    right_staged = models.TextField(null=True, blank=True)
    right_quirk = models.TextField(blank=True)

    base = models.TextField(blank=True)
    state = models.PositiveSmallIntegerField(choices=State.choices, default=State.NEW)
    ended = models.BigIntegerField(default=0)  # 0 while it lives, its own id afterwards: frees both ids for a new link
    pending = models.PositiveSmallIntegerField(choices=Pending.choices, null=True, blank=True)
    reason = models.CharField(max_length=40, blank=True)
    args = models.TextField(blank=True)  # JSON: what the reason's sentence needs
    # The cause's ProblemGroup.key.  Counts only while `pending` says conflict or parked: it is not cleared when the link goes on.
    problem = models.CharField(max_length=40, null=True, blank=True)
    waits_on = models.CharField(max_length=200, null=True, blank=True)  # a link's key, or "?place:id" of a record
    revision = models.PositiveIntegerField(default=1)
    settings_revision = models.PositiveIntegerField(default=0)
    touched_run = models.BigIntegerField(null=True, blank=True)  # the last run that looked at it beyond its version

    class Meta:
        constraints = [
            # Plain, not partial: SQLite does not use a partial index for bound parameters, and every page is looked up here.
            models.UniqueConstraint(
                fields=["integration", "family", "left_entity", "left_id", "ended"], name="left_record_once_in_a_family"
            ),
            models.UniqueConstraint(
                fields=["integration", "family", "right_entity", "right_id", "ended"],
                name="right_record_once_in_a_family",
            ),
        ]
        indexes = [
            models.Index(fields=["integration", "family", "left_match"], name="link_left_match"),
            models.Index(fields=["integration", "family", "right_match"], name="link_right_match"),
            # Null where there is no second alternative: such links cost nothing here.
            models.Index(
                fields=["integration", "family", "left_match2"],
                name="link_left_match2",
                condition=Q(left_match2__isnull=False),
            ),
            models.Index(
                fields=["integration", "family", "right_match2"],
                name="link_right_match2",
                condition=Q(right_match2__isnull=False),
            ),
            models.Index(
                fields=["entity_sync", "pending", "id"], name="link_pending", condition=Q(pending__isnull=False)
            ),
            # The list of one entity sync and the count of what is in agreement: without it they read a million rows to find a few.
            # Neither column ever changes, so that only a new link costs an entry.
            models.Index(F("entity_sync"), F("id").desc(), name="link_by_sync"),
            # How many are in agreement, and which: where few of a million are, as in a first preview, nothing else finds them.
            models.Index(
                F("entity_sync"), F("ended"), F("id").desc(), name="link_agreed", condition=Q(pending__isnull=True)
            ),
            # The list by state, newest first: a few old ones are not looked for in a million.
            models.Index(F("pending"), F("id").desc(), name="link_by_state", condition=Q(pending__isnull=False)),
            # The list by reason, and how many records of an entity sync wait for approval.
            models.Index(
                F("reason"), F("entity_sync"), F("id").desc(), name="link_by_reason", condition=Q(pending__isnull=False)
            ),
            models.Index(fields=["touched_run"], name="link_touched", condition=Q(touched_run__isnull=False)),
            models.Index(fields=["problem", "pending", "id"], name="link_problem", condition=Q(problem__isnull=False)),
            models.Index(fields=["waits_on"], name="link_waits_on", condition=Q(waits_on__isnull=False)),
        ]

    def __str__(self) -> str:
        there = [f"{entity} {record_id}" for entity, record_id in self._records() if record_id]
        return " = ".join(there) if len(there) == 2 else f"{''.join(there)}, no partner yet"

    def _records(self) -> tuple[tuple[str, str | None], tuple[str, str | None]]:
        return (self.left_entity, self.left_id), (self.right_entity, self.right_id)
