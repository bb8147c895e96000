"""How are stored credentials moved to a new key?  Put it first in CREDENTIAL_KEYS, run this, remove the old one."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from connectors.models import Connection, Hook
from connectors.transport import vault
from jobs.models import AlertRule


class Command(BaseCommand):
    help = (
        "Encrypt the credentials of all connections and alert rules with the first of CREDENTIAL_KEYS. Safe to repeat."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        counts = {"rotated": 0, "already on the first key": 0, "without credentials": 0}
        unreadable: list[str] = []
        for connection in Connection.objects.order_by("name"):
            try:
                counts[self._rotate(connection)] += 1
            except vault.CredentialsUnreadable as error:
                unreadable.append(f"{connection.name}: {error}")
        for rule in AlertRule.objects.exclude(secret=b"").order_by("name"):
            try:
                counts[self._rotate_rule(rule)] += 1
            except vault.CredentialsUnreadable as error:
                unreadable.append(f"{rule.name}: {error}")
        for hook in Hook.objects.exclude(secret=b"").order_by("system"):
            try:
                counts[self._rotate_hook(hook)] += 1
            except vault.CredentialsUnreadable as error:
                unreadable.append(f"{hook}: {error}")
        self.stdout.write(", ".join(f"{number} {what}" for what, number in counts.items()))
        if unreadable:
            raise CommandError("\n".join(unreadable))

    def _rotate_hook(self, hook: Hook) -> str:
        stored = hook.verifiers()
        if vault.is_newest(bytes(hook.secret)):
            return "already on the first key"
        hook.set_verifiers(stored)
        return "rotated"

    def _rotate_rule(self, rule: AlertRule) -> str:
        stored = rule.webhook()
        if vault.is_newest(bytes(rule.secret)):
            return "already on the first key"
        rule.set_webhook(stored["url"], stored["signing_key"])
        return "rotated"

    def _rotate(self, connection: Connection) -> str:
        if not connection.secret:
            return "without credentials"
        connection.get_secret()  # also says whether the cipher text belongs to this row
        if vault.is_newest(bytes(connection.secret)):
            return "already on the first key"
        connection.update_secret()  # no changes: the same values, encrypted anew
        return "rotated"
