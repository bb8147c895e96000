"""Make, list and revoke API tokens from a shell: `manage.py api_token create ada --name grafana --scope read`."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models import Q

from config.models import DEFAULT_DAYS, ApiToken


class Command(BaseCommand):
    """One verb for each thing that can be done."""

    help = "Make, list or revoke API tokens. A new one is printed once and stored nowhere."

    def add_arguments(self, parser: CommandParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        create = verbs.add_parser("create", help="Print a new token.")
        create.add_argument("username", help="As whom it acts.")
        create.add_argument("--name", required=True, help="What it is for.")
        create.add_argument("--scope", choices=ApiToken.Scope.values, default=ApiToken.Scope.READ)
        create.add_argument("--days", type=int, default=DEFAULT_DAYS)
        verbs.add_parser("list", help="Print all tokens, without their texts.")
        revoke = verbs.add_parser("revoke", help="End a token now.")
        revoke.add_argument("token", help="Its id, or the beginning that is shown.")

    def handle(self, *args: Any, verb: str, **options: Any) -> None:
        """Call the verb."""
        getattr(self, f"_{verb}")(**options)

    def _create(self, username: str, name: str, scope: str, days: int, **_: object) -> None:
        person = User.objects.filter(username=username, is_active=True).first()
        if person is None:
            raise CommandError(f"There is nobody active named {username!r}.")
        try:
            _token, text = ApiToken.objects.issue(person, name, scope=scope, days=days)
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from error
        self.stdout.write(text)

    def _list(self, **_: object) -> None:
        for token in ApiToken.objects.select_related("user").order_by("id"):
            used = f"{token.last_used_at:%Y-%m-%d %H:%M}" if token.last_used_at else "never used"
            self.stdout.write(
                f"{token.pk}\t{token.prefix}…\t{token.name}\t{token.user}\t{token.scope}\t{token.state}"
                f"\tuntil {token.expires_at:%Y-%m-%d}\t{used}"
            )

    def _revoke(self, token: str, **_: object) -> None:
        found = ApiToken.objects.filter(Q(pk=int(token)) if token.isdecimal() else Q(prefix=token.rstrip("…")))
        if len(found) != 1:
            raise CommandError(f"{len(found)} tokens are meant by {token!r}. See `api_token list`; give the id.")
        if not found[0].revoke():
            raise CommandError(f"{found[0]} is revoked already.")
        self.stdout.write(f"{found[0]} is revoked.")
