"""Which settings were changed together, by whom and why?  Written beside each row of settings by django-simple-history."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from django.apps import apps
from django.db import connection, models, transaction
from simple_history.models import HistoricalRecords


@dataclass(frozen=True)
class _Acting:
    change: str
    why: str
    user: Any = None


_acting: ContextVar[_Acting | None] = ContextVar("changing_settings", default=None)


@contextmanager
def changing(why: str, user: Any = None) -> Iterator[None]:
    """Whatever settings change inside is one change, with this reason.  An outer one goes on: it knows more."""
    outer = _acting.get()
    if outer is not None:
        yield
        return
    person = user if getattr(user, "pk", None) else None
    token = _acting.set(_Acting(uuid4().hex, why[:100], person))
    try:
        yield
    finally:
        _acting.reset(token)


def current_change() -> str:
    """Return what rows have in common that were changed together: said so, in one request, or in one transaction."""
    acting = _acting.get()
    if acting is not None:
        return acting.change
    holder: Any = getattr(HistoricalRecords.context, "request", None) or connection
    known = getattr(holder, "sl_change", "") or uuid4().hex
    holder.sl_change = known
    if holder is connection:
        # A rolled back transaction leaves its word behind; nothing was kept under it, so the next one may use it.
        transaction.on_commit(lambda: setattr(holder, "sl_change", ""))
    return str(known)


def _user(request: Any = None, **_: object) -> Any:
    acting = _acting.get()
    if acting is not None and acting.user is not None:
        return acting.user
    user = getattr(request, "user", None)
    return user if getattr(user, "pk", None) else None


def forget_change() -> None:
    """Take what the present change has kept out of the history: nothing of it has come about."""
    for model in apps.get_app_config("connectors").get_models():
        if issubclass(model, Changed):
            model._default_manager.filter(change=current_change()).delete()


class Changed(models.Model):
    """What every row of history has besides the values."""

    change = models.CharField(max_length=32, default=current_change, editable=False, db_index=True)

    class Meta:
        abstract = True


def keep_state(row: Any) -> None:
    """Keep a row's state that was written below the ORM: a revision tells which change came after which."""
    acting = _acting.get()
    type(row).history.bulk_history_create(
        [row], update=True, default_user=_user(getattr(HistoricalRecords.context, "request", None)),
        default_change_reason=acting.why if acting is not None else None,
    )  # fmt: skip


class SettingsHistory(HistoricalRecords):
    """Keeps every state of a row of settings."""

    def __init__(self, *excluded: str) -> None:
        super().__init__(bases=(Changed,), excluded_fields=list(excluded), get_user=_user)

    def get_change_reason_for_object(self, instance: models.Model, history_type: str, using: str | None) -> str | None:
        """Return what the person or the part of Syncline said."""
        acting = _acting.get()
        return acting.why if acting is not None else super().get_change_reason_for_object(instance, history_type, using)
