"""Which programs may use the API, as whom, and for how long?  Which forms were sent already?"""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q

from config.access import OPERATE, READ, scope_allows
from jobs import clock

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser, AnonymousUser

START = "syn_"  # so that scanners for leaked secrets, and people, know one when they see it
SHOWN = len(START) + 6
DEFAULT_DAYS, MOST_DAYS = 90, 366
USE_NOTED_EVERY = timedelta(minutes=1)


def digest(text: str) -> str:
    """Return what is stored of a token.

    One round of SHA-256 is enough: a token has 256 random bits, so there is nothing to guess that a slow hash would
    protect, and every request computes it.
    """
    return hashlib.sha256(text.encode()).hexdigest()


class ApiTokenQuerySet(models.QuerySet["ApiToken"]):
    def usable(self, now: datetime) -> ApiTokenQuerySet:
        """Neither revoked nor expired, and of a person who may log in."""
        return self.filter(revoked_at=None, expires_at__gt=now, user__is_active=True)

    def issue(
        self,
        user: AbstractBaseUser | AnonymousUser,
        name: str,
        *,
        scope: str = READ,
        days: int = DEFAULT_DAYS,
        by: AbstractBaseUser | AnonymousUser | None = None,
    ) -> tuple[ApiToken, str]:
        """Make a token and return it with its text, which is stored nowhere."""
        if not 1 <= days <= MOST_DAYS:
            raise ValidationError(f"A token lasts from 1 to {MOST_DAYS} days.")
        text = START + secrets.token_urlsafe(32)
        now = clock.now()
        token = self.create(
            name=name, user_id=user.pk, scope=scope, digest=digest(text), prefix=text[:SHOWN], created_at=now,
            created_by_id=by.pk if by else None, expires_at=now + timedelta(days=days),
        )  # fmt: skip
        return token, text


class ApiToken(models.Model):
    """One program's key to the API: as one person, within one scope, until it expires or is revoked."""

    class Scope(models.TextChoices):
        READ = READ, "Read"
        OPERATE = OPERATE, "Operate"
        ADMINISTER = "administer", "Administer"

    name = models.CharField(max_length=100)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="api_tokens")
    digest = models.CharField(max_length=64, unique=True, editable=False)
    prefix = models.CharField(max_length=12, editable=False)  # the part that is shown, to tell tokens apart
    scope = models.CharField(max_length=12, choices=Scope.choices, default=Scope.READ)
    created_at = models.DateTimeField(editable=False)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, editable=False, on_delete=models.SET_NULL, related_name="+"
    )
    expires_at = models.DateTimeField(editable=False)
    last_used_at = models.DateTimeField(null=True, editable=False)  # written at most once a minute
    revoked_at = models.DateTimeField(null=True, editable=False)

    objects = ApiTokenQuerySet.as_manager()

    class Meta:
        verbose_name = "API token"

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"

    @property
    def state(self) -> str:
        """Active, expired or revoked."""
        if self.revoked_at:
            return "Revoked"
        return "Expired" if self.expires_at <= clock.now() else "Active"

    def revoke(self) -> bool:
        """End it now.  False: that was done already."""
        now = clock.now()
        done = ApiToken.objects.filter(pk=self.pk, revoked_at=None).update(revoked_at=now)
        if done:
            self.revoked_at = now
        return bool(done)

    def note_use(self) -> None:
        """Remember when it was last used: one write a minute, not one for each request."""
        now = clock.now()
        if self.last_used_at is None or now - self.last_used_at >= USE_NOTED_EVERY:
            long_ago = Q(last_used_at=None) | Q(last_used_at__lte=now - USE_NOTED_EVERY)
            ApiToken.objects.filter(long_ago, pk=self.pk).update(last_used_at=now)


class TokenBearer(User):
    """A person as whom a token acts: with the person's rights, as far as the token's scope reaches."""

    token_scope: str = READ

    class Meta:
        proxy = True
        default_permissions = ()

    def has_perm(self, perm: str, obj: Any = None) -> bool:
        """Both must allow it, also for a superuser."""
        return scope_allows(self.token_scope, perm) and super().has_perm(perm, obj)


class SentForm(models.Model):
    """One form of the admin that was sent: the same one is not carried out a second time (config.once)."""

    digest = models.CharField(max_length=64, unique=True)
    at = models.DateTimeField(db_index=True)
    answer = models.CharField(max_length=500, null=True)  # where it led; null: it is being carried out

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return self.digest
