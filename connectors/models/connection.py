"""With whom do we talk, with which credentials, and how often may we?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from django.db import models, transaction
from django.db.models import F, Q

from connectors.registry import connector_class
from connectors.transport import vault


class Connection(models.Model):
    """One set of credentials and hosts for one system."""

    class State(models.TextChoices):
        NEW = "new", "Not checked yet"
        CONNECTED = "connected", "Connected"
        NEEDS_RECONNECT = "needs reconnect", "Needs reconnect"
        WRONG_INSTANCE = "wrong instance", "Another company"
        PAUSED = "paused", "Paused by a person"

    system = models.CharField(max_length=40)
    name = models.CharField(max_length=100, unique=True)
    settings = models.JSONField(default=dict, blank=True)  # hosts, realm, zone, defaults; nothing secret
    secret = models.BinaryField(default=b"", blank=True, editable=False)  # cipher text, bound to this row
    instance = models.CharField(max_length=200, blank=True)  # what check() said first; another one stops the connection
    account = models.CharField(max_length=200, blank=True)
    state = models.CharField(max_length=20, choices=State.choices, default=State.NEW)
    reason = models.CharField(max_length=500, blank=True)
    auth_expires_at = models.DateTimeField(null=True, blank=True)
    schema = models.CharField(max_length=64, blank=True)  # hash; changes when the system's fields or options did
    refresh_lease = models.CharField(max_length=36, blank=True, editable=False)
    # With a lease: when it ends.  Without one: no request for a token before (back-off after a failed refresh).
    refresh_until = models.DateTimeField(null=True, blank=True, editable=False)
    refresh_failures = models.PositiveSmallIntegerField(default=0, editable=False)  # in a row
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        permissions = [("operate_connection", "Can check, pause and resume connections")]

    def __str__(self) -> str:
        return self.name

    def get_secret(self) -> vault.Secret:
        """Return the credentials in the clear, as this object was read.  Raises CredentialsUnreadable."""
        return vault.decrypt(bytes(self.secret), self._id())

    def set_secret(self, secret: Mapping[str, str]) -> None:
        """Store what a person entered, in place of everything before; the connection is to be checked again."""
        self.secret = vault.encrypt(secret, self._id())
        if self.state != self.State.PAUSED:
            self.state, self.reason = self.State.NEW, ""
        self.refresh_lease, self.refresh_until, self.refresh_failures = "", None, 0
        self.save(update_fields=["secret", "state", "reason", "refresh_lease", "refresh_until", "refresh_failures"])

    def update_secret(self, where: Mapping[str, str] | None = None, /, **changes: str) -> None:
        """Change some keys; with `where` only while the stored keys hold these values."""

        def changed() -> Mapping[str, str] | None:
            stored = self.get_secret()
            fits = all(stored.get(key) == value for key, value in (where or {}).items())
            return {**stored, **changes} if fits else None

        self._swap_secret(changed)

    def change(self, columns: Mapping[str, Any], entered: Mapping[str, str]) -> None:
        """Store what a person changed, and only that: this object may be older than its row.

        A login obtained with other credentials or for another address is dropped: an access token that is good at one
        host never goes to another one.
        """
        with transaction.atomic():
            row = Connection.objects.select_for_update().get(pk=self._id())
            changed = {name: value for name, value in columns.items() if getattr(row, name) != value}
            moved = "settings" in changed and bool(row.moved(changed["settings"]))
            for name, value in changed.items():
                setattr(row, name, value)
            if changed:
                row.save(update_fields=list(changed))
            if entered or (moved and row.secret):
                row._enter(entered, keep=not moved)
        self.refresh_from_db()

    def moved(self, settings: Mapping[str, object]) -> list[str]:
        """Return the names of the settings that would send the stored credentials to another address."""
        declared = connector_class(self.system).settings
        urls = {setting.name for setting in declared if setting.is_url}
        old, new = (
            {s.name: s.default for s in declared} | {k: str(v) for k, v in given.items() if v not in (None, "")}
            for given in (self.settings or {}, settings)
        )
        # The transport calls the host of any setting that looks like an address, also of one that nobody declared.
        named = {n for s in (old, new) for n, v in s.items() if n in urls or v.startswith(("https://", "http://"))}
        return sorted(name for name in named if old.get(name, "") != new.get(name, ""))

    def _enter(self, entered: Mapping[str, str], *, keep: bool) -> None:
        """Put what was entered over the kept credentials; what a login gave (access token, its end) is not kept."""

        def mixed() -> Mapping[str, str]:
            try:
                stored = self.get_secret() if keep else vault.Secret()
            except vault.CredentialsUnreadable:
                stored = vault.Secret()  # the keys were lost: what is entered now replaces all
            return {**vault.only(stored, connector_class(self.system).secrets), **entered}

        self._swap_secret(mixed)
        if self.state != self.State.PAUSED:
            self.state, self.reason = self.State.NEW, ""
        self.refresh_lease, self.refresh_until, self.refresh_failures = "", None, 0
        self.save(update_fields=["state", "reason", "refresh_lease", "refresh_until", "refresh_failures"])

    def _swap_secret(self, change: Callable[[], Mapping[str, str] | None]) -> None:
        """Compare and swap, so that two writers never lose each other's keys.  None from `change` leaves all as it is."""
        while (secret := change()) is not None:
            after = vault.encrypt(secret, self._id())
            if Connection.objects.filter(pk=self.pk, secret=self.secret).update(secret=after):
                self.secret = after
                return
            self.refresh_from_db(fields=["secret"])

    def needs_reconnect(self, reason: str) -> None:
        """Stop all calls until a person has renewed the credentials.  A pause by a person stays a pause."""
        changed = Connection.objects.filter(pk=self.pk).exclude(state=self.State.PAUSED)
        if changed.update(state=self.State.NEEDS_RECONNECT, reason=reason[:500]):
            self.state, self.reason = self.State.NEEDS_RECONNECT, reason[:500]

    def _id(self) -> int:
        if self.pk is None:
            raise ValueError("Save the connection first: its credentials are bound to its row.")
        return self.pk


class LastCheck(models.Model):
    """What the system said when it was last asked who we are."""

    connection = models.OneToOneField(Connection, on_delete=models.CASCADE, related_name="last_check")
    at = models.DateTimeField()
    skew_seconds = models.FloatField(null=True, blank=True)  # how far its clock is ahead of ours
    remaining = models.JSONField(default=dict, blank=True)  # calls left, by limit, where it says
    may = models.JSONField(default=dict, blank=True)  # entity -> verbs

    def __str__(self) -> str:
        return f"{self.connection}: {self.at}"


class Budget(models.Model):
    """How much of one limit is used in the present window.  One conditional UPDATE takes from it."""

    connection = models.ForeignKey(Connection, on_delete=models.CASCADE, related_name="budgets")
    limit = models.CharField(max_length=40)
    window_start = models.DateTimeField()  # a whole multiple of the limit's length, so that all workers agree on it
    used = models.PositiveIntegerField(default=0)
    previous = models.PositiveIntegerField(default=0)  # used in the window just before
    hold_until = models.DateTimeField(null=True, blank=True)  # the system said "come back later"

    class Meta:
        constraints = [models.UniqueConstraint(fields=["connection", "limit"], name="budget_once")]

    def __str__(self) -> str:
        return f"{self.connection}: {self.limit}"


class ConcurrencySlot(models.Model):
    """One of the calls that a system allows at the same time.  Free when its lease is over (DESIGN 9.10)."""

    connection = models.ForeignKey(Connection, on_delete=models.CASCADE, related_name="slots")
    limit = models.CharField(max_length=40)
    number = models.PositiveSmallIntegerField()
    holder = models.CharField(max_length=36)
    until = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["connection", "limit", "number"], name="slot_once")]

    def __str__(self) -> str:
        return f"{self.connection}: {self.limit} {self.number}"


class ApiCall(models.Model):
    """One request that was sent.  No foreign keys upward, so that a purge by date is one cheap delete."""

    connection = models.ForeignKey(Connection, on_delete=models.CASCADE, related_name="+", db_index=False)
    at = models.DateTimeField()
    run_id = models.BigIntegerField(null=True, blank=True)
    job_id = models.BigIntegerField(null=True, blank=True)
    method = models.CharField(max_length=10)
    path = models.CharField(max_length=500)  # with query, values redacted
    status = models.PositiveSmallIntegerField(default=0)  # 0: no answer
    ms = models.PositiveIntegerField(default=0)
    vendor_id = models.CharField(max_length=100, blank=True)  # the system's correlation id
    code = models.CharField(max_length=100, blank=True)
    body = models.TextField(blank=True)  # debug mode only, redacted

    class Meta:
        verbose_name = "API call"
        permissions = [("reveal_apicall", "Can reveal the kept bodies of API calls")]
        indexes = [
            models.Index(F("connection"), F("at").desc(), name="apicall_newest"),
            models.Index(fields=["run_id"], name="apicall_run", condition=Q(run_id__isnull=False)),
            models.Index(fields=["job_id"], name="apicall_job", condition=Q(job_id__isnull=False)),
        ]

    def __str__(self) -> str:
        return f"{self.method} {self.path} {self.status}"
