"""What was done, what is planned, how far has each feed been read?"""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import F, Q

from connectors.models.integration import EntitySync, Integration
from connectors.models.link import RecordLink

SIDES = [("left", "Left"), ("right", "Right")]


class Scope(models.Model):
    """The part of an integration that is synced as one; one row with empty keys where there are no scopes."""

    integration = models.ForeignKey(Integration, on_delete=models.CASCADE, related_name="scopes")
    left_key = models.CharField(max_length=200, blank=True)
    right_key = models.CharField(max_length=200, blank=True)
    label = models.CharField(max_length=200, blank=True)
    enabled = models.BooleanField(default=True)
    disabled_reason = models.CharField(max_length=500, blank=True)
    archived = models.BooleanField(default=False)
    disconnected_at = models.DateTimeField(null=True, blank=True)
    last_delta_at = models.DateTimeField(null=True, blank=True)
    last_full_at = models.DateTimeField(null=True, blank=True)
    last_done_at = models.DateTimeField(null=True, blank=True)
    failures = models.PositiveIntegerField(default=0)
    last_error = models.CharField(max_length=500, blank=True)
    full_wanted = models.CharField(
        max_length=300, blank=True
    )  # why the next run must be comprehensive; empty: it need not
    fence = models.PositiveIntegerField(default=0)  # rises with each run that takes the scope

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["integration", "left_key"], name="scope_left_once"),
            models.UniqueConstraint(fields=["integration", "right_key"], name="scope_right_once"),
            models.CheckConstraint(
                condition=Q(disconnected_at__isnull=True) | Q(enabled=False), name="disconnected_is_disabled"
            ),
        ]

    def __str__(self) -> str:
        return self.label or str(self.integration)


class Cursor(models.Model):
    """How far one feed of one side has been read."""

    class Phase(models.TextChoices):
        LISTING = "listing", "Reading everything"
        DELTA = "delta", "Reading changes"

    scope = models.ForeignKey(Scope, on_delete=models.CASCADE, related_name="cursors")
    side = models.CharField(max_length=5, choices=SIDES)
    feed = models.CharField(max_length=60)
    value = models.TextField(blank=True)  # the connector's own; empty: from the beginning
    phase = models.CharField(max_length=10, choices=Phase.choices, default=Phase.LISTING)
    round = models.PositiveIntegerField(default=0)  # counts completed rounds
    seen = models.BinaryField(default=b"", editable=False)  # bitmap by link id of what a listing showed
    complete_at = models.DateTimeField(null=True, blank=True)  # of the first complete listing
    run_id = models.BigIntegerField(null=True, blank=True)  # the run whose round this is
    gap = models.CharField(max_length=300, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["scope", "side", "feed"], name="cursor_once")]

    def __str__(self) -> str:
        return f"{self.side} {self.feed}"


class Run(models.Model):
    """One execution for one scope: pull, plan, push."""

    class Purpose(models.TextChoices):
        SYNC = "sync", "Sync"
        PREVIEW = "preview", "Preview"
        UNDO = "undo", "Undo"
        CHECK = "check", "Reconciliation"

    class Mode(models.TextChoices):
        DELTA = "delta", "Changes"
        COMPREHENSIVE = "comprehensive", "Comprehensive"
        REPORTS = "reports", "Reports"  # only the field groups that no feed tells of (aging, stock)

    class Phase(models.TextChoices):
        SETTLE = "settle", "Settling what an earlier run left"
        PULL = "pull", "Reading"
        PLAN = "plan", "Planning"
        GUARDED = "guarded", "Stopped by a guard"
        PROPOSED = "proposed", "Waiting for approval"
        PUSH = "push", "Writing"
        DONE = "done", "Done"
        FAILED = "failed", "Failed"

    integration = models.ForeignKey(Integration, on_delete=models.CASCADE, related_name="runs", db_index=False)
    scope = models.ForeignKey(Scope, on_delete=models.CASCADE, related_name="runs", db_index=False)
    purpose = models.CharField(max_length=10, choices=Purpose.choices, default=Purpose.SYNC)
    mode = models.CharField(max_length=15, choices=Mode.choices, default=Mode.DELTA)
    phase = models.CharField(max_length=10, choices=Phase.choices, default=Phase.SETTLE)
    entities = models.JSONField(default=list, blank=True)  # names of entity syncs; empty: all
    counts = models.JSONField(default=dict, blank=True)
    progress = models.JSONField(default=dict, blank=True)
    guard = models.JSONField(default=dict, blank=True)
    problems = models.PositiveIntegerField(default=0)  # records touched that ended parked or in conflict
    plan_revision = models.PositiveIntegerField(default=0)  # rises with each decision about what a preview proposes
    error = models.CharField(max_length=500, blank=True)
    settings_revision = models.PositiveIntegerField(default=0)
    fence = models.PositiveIntegerField(default=0)
    undoes = models.ForeignKey("self", null=True, blank=True, on_delete=models.SET_NULL)
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True, blank=True)
    asked_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    approved_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    approved_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [models.Index(F("scope"), F("started_at").desc(), name="run_newest")]

    def __str__(self) -> str:
        return f"{self.get_purpose_display()} {self.pk}"

    @property
    def proposes(self) -> bool:
        """Whether it only proposes writes: a preview, a check or an undo that nobody has approved yet."""
        return self.purpose != self.Purpose.SYNC and self.approved_at is None


class RecordChange(models.Model):
    """One proposed, planned or executed write to one side: preview row, outbox row, log row and undo source in one."""

    class Status(models.TextChoices):
        PROPOSED = "proposed", "Proposed"
        PLANNED = "planned", "Planned"
        SENDING = "sending", "Being written"
        UNKNOWN = "unknown", "Outcome unknown"
        WRITTEN = "written", "Written"
        REJECTED = "rejected", "Rejected"
        CONFLICT = "conflict", "Changed meanwhile"
        SUPERSEDED = "superseded", "Planned anew"
        DROPPED = "dropped", "Left out by a person"

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="changes", db_index=False)
    link = models.ForeignKey(RecordLink, on_delete=models.CASCADE, related_name="changes", db_index=False)
    entity_sync = models.ForeignKey(EntitySync, on_delete=models.CASCADE, related_name="+", db_index=False)
    side = models.CharField(max_length=5, choices=SIDES)
    verb = models.CharField(max_length=10)
    status = models.CharField(max_length=12, choices=Status.choices)
    open = models.PositiveSmallIntegerField(null=True, blank=True)  # 1 planned, 2 sending, 3 unknown, else null
    key = models.CharField(max_length=50, unique=True)
    batch_key = models.CharField(max_length=50, blank=True)
    batch_pos = models.PositiveSmallIntegerField(default=0)
    record_id = models.CharField(max_length=100, blank=True)  # what is written; of a create: what it became
    before = models.TextField(blank=True)  # canonical JSON, only the fields that change
    after = models.TextField(blank=True)
    sent = models.TextField(blank=True)  # the exact values, until settled: a repeat must be the same batch
    lost = models.TextField(blank=True)  # a losing side's values
    expect = models.CharField(max_length=200, blank=True)
    link_revision = models.PositiveIntegerField(default=0)
    settings_revision = models.PositiveIntegerField(default=0)
    fence = models.PositiveIntegerField(default=0)
    rule = models.TextField(blank=True)  # JSON: field -> the rule that decided
    # JSON: field -> value that a person left out of this run.  Before the approval it is in `after`, too.
    left_out = models.TextField(blank=True, default="", db_default="")
    allowed = models.BooleanField(
        default=False, db_default=False
    )  # a person ticked this removal: else it is not written
    version = models.CharField(max_length=200, blank=True)
    code = models.CharField(max_length=100, blank=True)
    field = models.CharField(max_length=100, blank=True)
    message = models.CharField(max_length=1000, blank=True)
    fingerprint = models.CharField(max_length=40, blank=True)
    decided_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    undoes = models.ForeignKey("self", null=True, blank=True, on_delete=models.SET_NULL, db_index=False)
    at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["link", "side"],
                condition=Q(status__in=["planned", "sending", "unknown"]),
                name="one_open_write_for_a_side",
            )
        ]
        indexes = [
            models.Index(fields=["run", "open", "id"], name="change_open", condition=Q(open__isnull=False)),
            models.Index(fields=["batch_key", "batch_pos"], name="change_batch"),
            models.Index(fields=["run", "status"], name="change_run_status"),
            # The page of a run, in the order of its writes: a late run's are not looked for from the first change of all.
            models.Index(fields=["run", "id"], name="change_of_run"),
            models.Index(fields=["fingerprint"], name="change_fingerprint", condition=~Q(fingerprint="")),
            models.Index(F("link"), F("id").desc(), name="change_history"),
            # The database looks for what refers to a change before it lets go of it: without this, at every row.
            models.Index(fields=["undoes"], name="change_undoes", condition=Q(undoes__isnull=False)),
        ]

    def __str__(self) -> str:
        return f"{self.verb} {self.side} {self.record_id}"


class Promotion(models.Model):
    """One request to push a record that flows only on request."""

    class Status(models.TextChoices):
        QUEUED = "queued", "Queued"
        SUCCESS = "success", "Success"
        ERROR = "error", "Error"
        WITHDRAWN = "withdrawn", "Withdrawn"

    class Source(models.TextChoices):
        PERSON = "person", "A person"
        FLAG = "flag", "A flag on the record"

    entity_sync = models.ForeignKey(EntitySync, on_delete=models.CASCADE, related_name="promotions")
    side = models.CharField(max_length=5, choices=SIDES)  # where the record is
    external_id = models.CharField(max_length=100)
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.QUEUED)
    by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    at = models.DateTimeField()
    link = models.ForeignKey(RecordLink, null=True, blank=True, on_delete=models.SET_NULL)
    reason = models.CharField(max_length=500, blank=True)
    source = models.CharField(max_length=10, choices=Source.choices, default=Source.PERSON)
    waits = models.BooleanField(default=False)  # promoted in bulk: queued until the service for it takes it
    untold = models.BooleanField(default=False)  # the record's own flag does not show yet what became of it

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["entity_sync", "side", "external_id"], condition=Q(status="queued"), name="one_queued_promotion"
            )
        ]

    def __str__(self) -> str:
        return f"{self.external_id}: {self.status}"


class Event(models.Model):
    """What a person should be told."""

    class Level(models.TextChoices):
        INFO = "info", "Info"
        WARNING = "warning", "Warning"
        ERROR = "error", "Error"

    integration = models.ForeignKey(Integration, on_delete=models.CASCADE, related_name="events", db_index=False)
    scope = models.ForeignKey(Scope, null=True, blank=True, on_delete=models.CASCADE, db_index=False)
    link = models.ForeignKey(RecordLink, null=True, blank=True, on_delete=models.SET_NULL)
    run = models.ForeignKey(Run, null=True, blank=True, on_delete=models.SET_NULL)
    level = models.CharField(max_length=10, choices=Level.choices, default=Level.INFO)
    code = models.CharField(max_length=60)
    message = models.CharField(max_length=1000)
    args = models.JSONField(default=dict, blank=True)
    actor = models.CharField(max_length=150, blank=True)
    at = models.DateTimeField()

    class Meta:
        indexes = [
            models.Index(F("integration"), F("at").desc(), name="event_newest"),
            models.Index(F("scope"), F("at").desc(), name="event_scope_newest"),
        ]

    def __str__(self) -> str:
        return self.message
