"""Where do systems call us, and which of their calls have been heard already?"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta

from django.db import models, transaction
from django.db.models import Q

from connectors.models.connection import Connection
from connectors.transport import vault

KEPT = timedelta(days=3)  # ids of heard calls: systems repeat theirs for hours (quickbooks sheet, section 9)
OLD_KEY_LASTS = timedelta(days=1)  # until the new address stands at the system


def new_key() -> str:
    """Return a key that nobody guesses; it is part of the address."""
    return secrets.token_urlsafe(24)


class HookQuerySet(models.QuerySet["Hook"]):
    def answering(self, system: str, key: str, now: datetime) -> Hook | None:
        """Return the hook with this address: the present one, or the one before for a day."""
        old = Q(old_key=key, old_until__gt=now)
        return self.filter(Q(key=key) | old, system=system).exclude(key="").first() if key else None


class Hook(models.Model):
    """The address at which one system calls us; one for all its companies, since its apps have one."""

    system = models.CharField(max_length=40, unique=True)
    key = models.CharField(max_length=64, unique=True, default=new_key)
    old_key = models.CharField(max_length=64, blank=True)
    old_until = models.DateTimeField(null=True, blank=True)
    secret = models.BinaryField(default=b"", blank=True, editable=False)  # verifier tokens as cipher text
    last_heard_at = models.DateTimeField(null=True, blank=True)
    heard = models.PositiveIntegerField(default=0)  # calls with a good signature
    forged = models.PositiveIntegerField(default=0)
    repeated = models.PositiveIntegerField(default=0)  # notifications that had been heard before
    unknown = models.PositiveIntegerField(default=0)  # notifications of companies that no connection has

    objects = HookQuerySet.as_manager()

    def __str__(self) -> str:
        return f"webhooks of {self.system}"

    def verifiers(self) -> Sequence[str]:
        """Return the tokens that sign the system's calls.  Raises CredentialsUnreadable."""
        stored = vault.decrypt(bytes(self.secret), self._owner())
        return [stored[name] for name in sorted(stored) if stored[name]]

    def set_verifiers(self, verifiers: Sequence[str]) -> None:
        """Store these tokens in place of the ones before; several, while one replaces the other."""
        kept = {str(number): verifier for number, verifier in enumerate(verifiers) if verifier}
        self.secret = vault.encrypt(kept, self._owner()) if kept else b""
        self.save(update_fields=["secret"])

    def rotate_key(self, now: datetime) -> None:
        """Make a new address; the one before is answered for another day."""
        with transaction.atomic():
            row = Hook.objects.select_for_update().get(pk=self.pk)
            row.old_key, row.old_until, row.key = row.key, now + OLD_KEY_LASTS, new_key()
            row.save(update_fields=["old_key", "old_until", "key"])
        self.refresh_from_db()

    def _owner(self) -> str:
        return f"webhooks of {self.system}"


class HeardEvent(models.Model):
    """One notification that was heard, by a digest of its own id: it counts once."""

    hook = models.ForeignKey(Hook, on_delete=models.CASCADE, related_name="+", db_index=False)
    digest = models.CharField(max_length=64)
    expires_at = models.DateTimeField(db_index=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["hook", "digest"], name="heard_once")]

    def __str__(self) -> str:
        return self.digest


class HookMark(models.Model):
    """When a system last said that something of a connection changed."""

    connection = models.OneToOneField(Connection, on_delete=models.CASCADE, related_name="hook_mark")
    last_heard_at = models.DateTimeField()
    events = models.PositiveIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.connection}: {self.last_heard_at}"
