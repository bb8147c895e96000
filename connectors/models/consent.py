"""Which sign-ins at a system's own page are under way?  Each is good once, for ten minutes, for who began it."""

from __future__ import annotations

from django.db import models

from connectors.models.connection import Connection


class PendingConsent(models.Model):
    """A person was sent to the system's consent page and has not come back yet.

    The state itself is in the address alone: who reads this table can neither finish a sign-in nor prove one.
    """

    connection = models.ForeignKey(Connection, on_delete=models.CASCADE, related_name="+")
    state_digest = models.CharField(max_length=64, unique=True)
    holder = models.CharField(max_length=64)  # digest of the browser session and person, or of the command
    back = models.CharField(max_length=500)  # the redirect address; the exchange must name the same one
    verifier = models.BinaryField(default=b"", editable=False)  # of PKCE, as cipher text
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"sign-in for {self.connection_id}"
