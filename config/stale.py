"""Has a row changed since somebody looked at it, and in what?  Forms, buttons and the API's If-Match ask here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.contrib.admin.models import LogEntry
from django.contrib.contenttypes.models import ContentType
from django.core import signing
from django.db import models
from django.utils import timezone
from django.utils.crypto import salted_hmac

from config import audit
from connectors.transport import redaction

FIELD = "sl_seen"  # the hidden field of every form that changes something
SALT = "syncline.seen"
LONGEST = 60  # characters told of a value
MARK = 8  # characters of a value's digest
LOAD_AGAIN = "This page can't be read any more. Load it again."
# Which columns decide whether a person who looked would still do the same.  What moves by itself (progress, times, tokens,
# budgets) is not among them; of models that are not here, every column that a person may edit is.
DECISIVE: Mapping[str, Sequence[str]] = {
    "config.ApiToken": ("name", "scope", "user", "revoked_at"),
    "connectors.Connection": ("name", "state", "settings", "instance"),
    "connectors.Integration": ("name", "enabled", "first_run", "route", "revision"),
    "connectors.ProblemGroup": ("resolved_at", "reopened_at"),
    "connectors.Promotion": ("status", "waits", "reason"),
    "connectors.RecordLink": ("state", "pending", "reason", "args", "revision", "ended", "left_id", "right_id"),
    "connectors.Run": ("phase", "error", "approved_at"),
    "jobs.Failing": ("paused_at",),
    "jobs.Job": ("status_reason", "round", "cancel_requested"),
    "scheduling.Service": ("name", "enabled", "zone", "paused_until", "revision"),
}
Told = dict[str, list[str]]  # what it is called -> [digest, the value in short; "" where it is not to be told]


@dataclass(frozen=True)
class Changed:
    """One thing that is not as it was shown."""

    what: str
    before: str
    now: str

    def __str__(self) -> str:
        if not (self.before or self.now):
            return f"{self.what} was changed"
        return f"{self.what}: {self.before or '–'} → {self.now or '–'}"


class Stale(Exception):
    """The row changed since it was shown; the sentence says what, and who did it where that is known."""

    def __init__(self, sentence: str, changed: Sequence[Changed] = ()) -> None:
        super().__init__(sentence)
        self.changed = changed


def decisive(model: type[models.Model]) -> list[str]:
    """Return the names of the columns that decide."""
    named = DECISIVE.get(model._meta.label)
    if named is not None:
        there = {column.name for column in model._meta.concrete_fields}
        return [name for name in named if name in there]
    return [
        column.name
        for column in model._meta.concrete_fields
        if column.editable and not column.primary_key and not isinstance(column, models.DateTimeField)
    ]


def told(obj: models.Model, columns: Sequence[str]) -> Told:
    """Return of each column a digest and, unless it is secret or long, its value in short."""
    found: Told = {}
    for column in obj._meta.concrete_fields:
        if column.name in columns:
            value = column.value_from_object(obj)
            found[str(column.verbose_name).capitalize()] = [_mark(value), _short(obj, column, value)]
    return found


def told_many(obj: models.Model, columns: Iterable[str]) -> Told:
    """Return the same of relations to many rows: of a person's groups, say."""
    found: Told = {}
    for relation in obj._meta.many_to_many:
        if relation.name in columns:
            rows = list(getattr(obj, relation.name).select_related())  # the name of a right tells of what
            text = ", ".join(sorted(str(row) for row in rows))
            found[str(relation.verbose_name).capitalize()] = [_mark(sorted(row.pk for row in rows)), _cut(text or "–")]
    return found


def _mark(value: object) -> str:
    given = bytes(value) if isinstance(value, memoryview | bytes) else str(value).encode()
    # Salted with the hub's own key: from the digest of a secret nobody can guess the secret.
    return salted_hmac(SALT, given).hexdigest()[:MARK]


def _short(obj: models.Model, column: models.Field[Any, Any], value: object) -> str:
    if isinstance(column, models.BinaryField) or any(word in column.name for word in audit.SECRET):
        return ""
    if value in (None, "", [], {}):
        return "–"
    if column.choices:
        value = getattr(obj, f"get_{column.name}_display")()
    elif isinstance(column, models.ForeignKey):
        value = getattr(obj, column.name)
    text = redaction.text(str(value))
    return _cut(text)


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def seal(obj: models.Model, values: Told) -> str:
    """Return what goes into the page: nobody can change it, and it says of which row it is."""
    held = {"of": _name(obj), "at": timezone.now().timestamp(), "told": values}
    return signing.dumps(held, salt=SALT, compress=True)


def check(obj: models.Model, sealed: str, values: Told) -> None:
    """Compare what was sealed into the page with how it is now.  Raises Stale."""
    try:
        held = signing.loads(sealed, salt=SALT)
    except signing.BadSignature as error:
        raise Stale(LOAD_AGAIN) from error
    if held["of"] != _name(obj):
        raise Stale(LOAD_AGAIN)
    found = differences(held["told"], values)
    if found:
        since = datetime.fromtimestamp(held["at"], UTC)
        raise Stale(sentence(obj, found, since), found)


def differences(before: Told, now: Told) -> list[Changed]:
    """Return what is not as it was."""
    nothing = ["", ""]
    names = [name for name in {**before, **now} if before.get(name, nothing)[0] != now.get(name, nothing)[0]]
    return [Changed(name, before.get(name, nothing)[1], now.get(name, nothing)[1]) for name in names]


def sentence(obj: models.Model, changed: Sequence[Changed], since: datetime) -> str:
    """Return in words what changed since then, and who did it if that is in the log."""
    what = "; ".join(str(one) for one in changed)
    by = _who(obj, since)
    return f"This was changed since you opened the page{f' by {by}' if by else ''}. {what}."


def _who(obj: models.Model, since: datetime) -> str:
    kind = ContentType.objects.get_for_model(obj, for_concrete_model=False)
    entries = LogEntry.objects.filter(content_type=kind, object_id=str(obj.pk), action_time__gte=since)
    last = entries.select_related("user").order_by("-id").first()
    return str(last.user) if last is not None else ""


def _name(obj: models.Model) -> str:
    return f"{obj._meta.label}:{obj.pk}"


def etag(obj: models.Model) -> str:
    """Return a mark of each deciding column, one after the other: two of them tell which columns differ."""
    marks = "".join(mark for mark, _ in told(obj, decisive(type(obj))).values())
    return f'"{marks}"'


def check_etag(obj: models.Model, given: str) -> None:
    """Compare with an If-Match header.  Raises Stale with what is different now."""
    wanted = [one.strip() for one in given.split(",")]
    if "*" in wanted or etag(obj) in wanted:
        return
    now = told(obj, decisive(type(obj)))
    marks = wanted[0].strip('"')
    parts = [marks[start : start + MARK] for start in range(0, len(marks), MARK)]
    if len(parts) != len(now):
        raise Stale("If-Match is none of this object's ETags. Read it again.")
    found = [
        Changed(name, "", text) for part, (name, (mark, text)) in zip(parts, now.items(), strict=True) if part != mark
    ]
    words = "; ".join(f"{one.what} is now {one.now}" if one.now else f"{one.what} was changed" for one in found)
    raise Stale(f"This was changed since you read it. {words}.", found)
