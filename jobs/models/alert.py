"""Who wants to be told of what, what is wrong at present, and which messages went out?"""

from __future__ import annotations

import secrets
import uuid
from urllib.parse import urlsplit

from django.db import models
from django.db.models import F, Q

from connectors.transport import vault


class AlertRule(models.Model):
    """Tells some people of one kind of trouble, of one integration or of all."""

    class What(models.TextChoices):
        FAILED = "failed", "A sync or another job failed"
        PARKED = "parked more than", "More records are parked than"
        MISSED = "missed run", "A scheduled run was missed"
        CREDENTIAL = "credential expiring", "A credential expires, or a connection needs a person"
        APPROVALS = "approvals waiting", "Something waits for approval"
        WORKER = "worker down", "No worker is running, or one was lost"

    class To(models.TextChoices):
        EMAIL = "email", "E-mail"
        JSON = "json", "Webhook with JSON"
        SLACK = "slack", "Slack webhook"
        TEAMS = "teams", "Teams webhook"

    name = models.CharField(max_length=100, unique=True)
    integration = models.ForeignKey(  # null: all of them
        "connectors.Integration", null=True, blank=True, on_delete=models.CASCADE, related_name="alert_rules"
    )
    what = models.CharField(max_length=20, choices=What.choices)
    more_than = models.PositiveIntegerField(default=0)  # records, for "parked more than"
    to = models.CharField(max_length=10, choices=To.choices, default=To.EMAIL)
    addresses = models.JSONField(default=list, blank=True)  # of e-mail
    secret = models.BinaryField(default=b"", blank=True, editable=False)  # a webhook's URL and key, bound to this row
    host = models.CharField(max_length=253, blank=True, editable=False)  # of the webhook: all that is shown of it
    enabled = models.BooleanField(default=True)
    told_at = models.DateTimeField(null=True, blank=True, editable=False)  # the last message that something is wrong
    cleared_at = models.DateTimeField(null=True, blank=True, editable=False)  # the last message that it is resolved
    digest_on = models.DateField(null=True, blank=True, editable=False)  # the day of the last daily digest

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    @property
    def owner(self) -> str:
        """What the cipher text is bound to."""
        return f"alert rule {self.pk}"

    def set_webhook(self, url: str, signing_key: str = "") -> str:
        """Store where a webhook's messages go, encrypted.  Returns the key that signs them."""
        key = signing_key or secrets.token_urlsafe(32)
        self.secret = vault.encrypt({"url": url, "signing_key": key}, self.owner)
        self.host = (urlsplit(url).hostname or "")[:253]
        self.save(update_fields=["secret", "host"])
        return key

    def forget_webhook(self) -> None:
        """Keep nothing of a webhook."""
        if self.secret or self.host:
            self.secret, self.host = b"", ""
            self.save(update_fields=["secret", "host"])

    def webhook(self) -> vault.Secret:
        """Return "url" and "signing_key".  Raises CredentialsUnreadable."""
        return vault.decrypt(bytes(self.secret), self.owner)


class Alert(models.Model):
    """One thing that is or was wrong, as one rule has it."""

    rule = models.ForeignKey(AlertRule, on_delete=models.CASCADE, related_name="alerts")
    cause = models.CharField(max_length=200)  # the same for as long as it is the same trouble
    integration = models.ForeignKey(
        "connectors.Integration", null=True, blank=True, on_delete=models.CASCADE, related_name="+"
    )
    text = models.CharField(max_length=1000)
    stage = models.CharField(max_length=40, blank=True)  # a new one is told, though the cause is the same
    count = models.PositiveIntegerField(default=1)
    opened_at = models.DateTimeField()
    last_seen = models.DateTimeField()
    resolved_at = models.DateTimeField(null=True, blank=True)
    told_count = models.PositiveIntegerField(default=0)  # as the last message said; 0: not told yet
    told_stage = models.CharField(max_length=40, blank=True)
    told_resolved = models.BooleanField(default=False)
    acknowledged_at = models.DateTimeField(null=True, blank=True)  # somebody knows: no daily digest repeats it
    acknowledged_by = models.CharField(max_length=150, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["rule", "cause"], condition=Q(resolved_at__isnull=True), name="one_open_alert_for_a_cause"
            )
        ]
        indexes = [models.Index(F("opened_at").desc(), name="alert_newest")]
        permissions = [("operate_alert", "Can acknowledge alerts")]

    def __str__(self) -> str:
        return self.text


class AlertMessage(models.Model):
    """One message to one recipient: the outbox.  It is here before it is sent, and says whether it arrived."""

    class Kind(models.TextChoices):
        NEWS = "news", "Something is wrong"
        ROLLUP = "rollup", "What else happened within the hour"
        DIGEST = "digest", "What is still wrong, once a day"
        RESOLVED = "resolved", "Resolved"
        TEST = "test", "A test"

    class Status(models.TextChoices):
        WAITING = "waiting", "Waiting"
        SENT = "sent", "Sent"
        FAILED = "failed", "Not delivered"

    rule = models.ForeignKey(AlertRule, on_delete=models.CASCADE, related_name="messages")
    kind = models.CharField(max_length=10, choices=Kind.choices)
    recipient = models.CharField(max_length=254)  # an e-mail address, or a webhook's host
    key = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)  # the same at each try
    subject = models.CharField(max_length=200)
    body = models.TextField()
    alerts = models.JSONField(default=list, blank=True)  # what a program wants to read of it
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.WAITING)
    tries = models.PositiveSmallIntegerField(default=0)
    error = models.CharField(max_length=500, blank=True)  # of the last try
    at = models.DateTimeField()
    sent_at = models.DateTimeField(null=True, blank=True)
    job = models.ForeignKey("jobs.Job", null=True, blank=True, on_delete=models.SET_NULL, related_name="+")

    class Meta:
        indexes = [models.Index(F("at").desc(), name="alert_message_newest")]

    def __str__(self) -> str:
        return self.subject
