"""Who did what, and what was it before and after?  One function writes it, into Django's own log."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from django.contrib.admin.models import ADDITION, CHANGE, DELETION, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db import models

from connectors.transport import redaction

MOST = 120  # characters shown of a value
MOST_NAMED = 200  # rows that one line names
SECRET = ("secret", "password", "digest", "token")
Values = Mapping[str, object]


def values_of(obj: models.Model) -> dict[str, object]:
    """Return the columns that may be told.  Records' contents stay in their own log of changes, secrets nowhere."""
    told: dict[str, object] = {}
    for column in obj._meta.concrete_fields:
        if column.primary_key or any(word in column.name for word in SECRET):
            continue
        if isinstance(column, models.TextField | models.BinaryField):
            continue
        told[str(column.verbose_name)] = column.value_from_object(obj)
    return told


def differences(before: Values, after: Values) -> str:
    """Return "name: before → after" for what differs."""
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    return "; ".join(f"{name}: {_told(before.get(name))} → {_told(after.get(name))}" for name in names)


def _told(value: object) -> str:
    text = redaction.text(_words(value)) if value not in (None, "", [], {}) else "–"
    return text if len(text) <= MOST else f"{text[:MOST]}…"


def _words(value: object) -> str:
    """Say a value without the programmer's brackets and quotes."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_words(one)}" for name, one in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_words(one) for one in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S %Z}"
    return str(value)


def log_action(
    user: Any, obj: models.Model, what: str, before: Values | None = None, after: Values | None = None
) -> LogEntry:
    """Write what a person did with an object.  No `before`: it was made; no `after`: it is gone."""
    flag = ADDITION if before is None else DELETION if after is None else CHANGE
    changed = differences(before or {}, after or {}) if flag == CHANGE else ""
    return LogEntry.objects.create(
        user_id=user.pk,
        content_type=ContentType.objects.get_for_model(obj, for_concrete_model=False),
        object_id=str(obj.pk),
        object_repr=str(obj)[:200],
        action_flag=flag,
        change_message=f"{what} {changed}".strip(),
    )


def log_many(user: Any, rows: Iterable[tuple[models.Model, Values]], what: str) -> None:
    """Write what a person did with several objects of one kind: each as it is now, with what it was before."""
    done = list(rows)
    if not done:
        return
    kind = ContentType.objects.get_for_model(done[0][0], for_concrete_model=False)
    LogEntry.objects.bulk_create(
        LogEntry(
            user_id=user.pk, content_type=kind, object_id=str(obj.pk), object_repr=str(obj)[:200], action_flag=CHANGE,
            change_message=f"{what} {differences(before, values_of(obj))}".strip(),
        )
        for obj, before in done
    )  # fmt: skip


def log_together(user: Any, model: type[models.Model], what: str, ids: Sequence[int]) -> None:
    """Write what a person did with many rows at once as one line that names them."""
    named = ", ".join(str(pk) for pk in ids[:MOST_NAMED])
    more = f" and {len(ids) - MOST_NAMED} more" if len(ids) > MOST_NAMED else ""
    word = model._meta.verbose_name if len(ids) == 1 else model._meta.verbose_name_plural
    LogEntry.objects.create(
        user_id=user.pk,
        content_type=ContentType.objects.get_for_model(model, for_concrete_model=False),
        object_repr=f"{len(ids)} {word}",
        action_flag=CHANGE,
        change_message=f"{what} {named}{more}",
    )


@contextmanager
def acting(user: Any, obj: models.Model, what: str) -> Iterator[None]:
    """Log what is done inside with what it changed in the object's row; what is refused inside is not logged."""
    before = values_of(obj)
    yield
    log_action(user, obj, what, before, stored(obj) or before)


def stored(obj: models.Model) -> dict[str, object] | None:
    """Return the columns as they stand in the database now, None where the row is gone."""
    now = type(obj)._base_manager.filter(pk=obj.pk).first()
    return values_of(now) if now is not None else None
