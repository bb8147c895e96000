"""How are jobs held back and let go again, and who did that why?  Admin, API and commands call these."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from connectors.models import Connection
from jobs import clock, dispatch, handlers
from jobs.models import Pause, name_of
from jobs.states import IllegalTransition

if TYPE_CHECKING:
    from jobs.models import Person

Kind = Pause.Kind
LONGEST = timedelta(days=366)
OVER = "The pause was ended meanwhile, so it can't be changed any more. Make a new one."


def active(now: datetime) -> list[Pause]:
    """Return what is held back now, the whole hub first."""
    found = Pause.objects.active(now).select_related("connection", "by").order_by("at", "id")
    return sorted(found, key=lambda pause: pause.kind != Kind.HUB)


def begin(
    kind: str, *, reason: str, connection: Connection | None = None, job_type: str = "", until: datetime | None = None,
    by: Person = None,
) -> Pause:  # fmt: skip
    """Hold jobs back.  Raises ValidationError, with a sentence for each field; also where such a pause is there already."""
    check_new(kind, connection, job_type, reason, until)
    now = clock.now()
    expire(now)  # one that is over must not be in the way of a new one
    made = Pause(
        kind=kind, connection=connection, job_type=job_type, reason=reason.strip(), until=until, at=now,
        by=by if isinstance(by, User) else None, by_name=name_of(by),
    )  # fmt: skip
    try:
        with transaction.atomic():
            made.save(force_insert=True)
    except IntegrityError as error:
        there = _there(kind, connection, job_type, now)
        raise ValidationError({_FIELDS[Kind(kind)]: _already(there)}) from error
    return made


def check(reason: str, until: datetime | None) -> None:
    """Raise ValidationError, with a sentence for each field that is wrong."""
    if errors := _wrong(reason, until, clock.now()):
        raise ValidationError(errors)


def check_new(kind: str, connection: Connection | None, job_type: str, reason: str, until: datetime | None) -> None:
    """Raise ValidationError where no such pause can be made; that it is there already is among the reasons."""
    now = clock.now()
    errors = _wrong_target(kind, connection, job_type)
    there = None if errors else _there(kind, connection, job_type, now)
    if there is not None:
        errors[_FIELDS[Kind(kind)]] = _already(there)
    if errors := errors | _wrong(reason, until, now):
        raise ValidationError(errors)


def check_there(pause: Pause) -> None:
    """Raise ValidationError where a pause holds nothing back any more: changing it would hold nothing back either."""
    if Pause.objects.active(clock.now()).filter(pk=pause.pk).select_for_update().first() is None:
        raise ValidationError(OVER)


def change(pause: Pause, *, reason: str, until: datetime | None) -> None:
    """Change why and how long.  Raises ValidationError, IllegalTransition where it was ended meanwhile."""
    check(reason, until)
    pause.reason, pause.until = reason.strip(), until
    if not Pause.objects.active(clock.now()).filter(pk=pause.pk).update(reason=pause.reason, until=until):
        raise IllegalTransition(OVER)


def end(pause: Pause) -> None:
    """Let the jobs go on.  Raises IllegalTransition where somebody else has ended it."""
    with transaction.atomic():
        if not Pause.objects.filter(pk=pause.pk).delete()[0]:
            raise IllegalTransition("The pause was ended already.")
        transaction.on_commit(dispatch.attempt, robust=True)


def expire(now: datetime) -> int:
    """Forget the pauses whose end has come.  Returns how many."""
    return Pause.objects.over(now).delete()[0]


_FIELDS = {Kind.CONNECTION: "connection", Kind.TYPE: "job_type", Kind.HUB: "kind"}


def _wrong_target(kind: str, connection: Connection | None, job_type: str) -> dict[str, str]:
    if kind not in Kind.values:
        return {"kind": f"Choose one of: {', '.join(Kind.values)}."}
    errors: dict[str, str] = {}
    if kind == Kind.CONNECTION and connection is None:
        errors["connection"] = "Choose the connection whose jobs shall wait."
    if kind != Kind.CONNECTION and connection is not None:
        errors["connection"] = "Only a pause of a connection names one. Leave it empty."
    if kind == Kind.TYPE and job_type not in handlers.registered():
        errors["job_type"] = f"Choose one of: {', '.join(sorted(handlers.registered()))}."
    if kind != Kind.TYPE and job_type:
        errors["job_type"] = "Only a pause of a job type names one. Leave it empty."
    return errors


def _wrong(reason: str, until: datetime | None, now: datetime) -> dict[str, str]:
    errors: dict[str, str] = {}
    if not reason.strip():
        errors["reason"] = "Say why: others will ask."
    elif len(reason.strip()) > 500:
        errors["reason"] = "At most 500 characters."
    if until is not None and until <= now:
        errors["until"] = "That moment is past. Leave it empty for a pause that a person ends."
    elif until is not None and until > now + LONGEST:
        errors["until"] = "A pause ends within a year, or when a person ends it."
    return errors


def _there(kind: str, connection: Connection | None, job_type: str, now: datetime) -> Pause | None:
    return Pause.objects.active(now).filter(kind=kind, connection=connection, job_type=job_type).first()


def _already(there: Pause | None) -> str:
    if there is None:
        return "Such a pause was there a moment ago. Try again."
    by = f" by {there.who}" if there.who else ""
    return f"There is such a pause already{by}: {there.reason}"
