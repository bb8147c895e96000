"""What becomes of an integration that keeps failing?  A warning, then a pause by rule with one try a day; never silently."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import transaction
from django.db.models import F

from connectors.models import Event, Scope
from jobs import clock, dispatch
from jobs.models import Failing, Job, name_of
from jobs.syncing import NotNow, first_is_preview, lock_key

if TYPE_CHECKING:
    from jobs.models import Person

RULE = "paused by rule"
PROBE_EVERY = timedelta(days=1)
logger = logging.getLogger(__name__)


class Step(StrEnum):
    """What the next failure in a row leads to."""

    NOTHING = "nothing"
    WARN = "warn"
    PAUSE = "pause"


def step(failures: int, since: datetime, now: datetime, *, warned: bool) -> Step:
    """Decide by the number of failures in a row and the moment of the first."""
    too_long = now - since >= timedelta(days=settings.FAILING_PAUSE_DAYS)
    if failures >= settings.FAILING_PAUSE_AT or (failures >= settings.FAILING_WARN_AT and too_long):
        return Step.PAUSE
    return Step.WARN if failures >= settings.FAILING_WARN_AT and not warned else Step.NOTHING


def failed(scope: Scope, error: str, *, now: datetime) -> None:
    """Count one more run in a row that failed for good, and warn or pause where that is due."""
    with transaction.atomic():
        Scope.objects.filter(pk=scope.pk).update(failures=F("failures") + 1, last_error=error[:500])
        failures = Scope.objects.values_list("failures", flat=True).get(pk=scope.pk)
        row, _ = Failing.objects.select_for_update().get_or_create(scope=scope, defaults={"since": now, "last_at": now})
        if row.paused_at is not None:
            _tell(scope, "warning", "probe failed", f"The daily try failed, it stays paused: {error}", now)
            return
        if failures == 1:  # a success in between that `recover` has not seen yet
            _tell_recovered(row, now)
            row.since, row.warned_at = now, None
        row.last_at = now
        match step(failures, row.since, now, warned=row.warned_at is not None):
            case Step.WARN:
                row.warned_at = now
                _tell(scope, "warning", "failing", f"{failures} runs in a row failed: {error}", now)
            case Step.PAUSE:
                _pause(row, failures, error, now)
        row.save()


def _pause(row: Failing, failures: int, error: str, now: datetime) -> None:
    scope = row.scope
    row.paused_at, row.paused_by, row.probe_at = now, RULE, now + PROBE_EVERY
    row.reason = f"{failures} failures in a row since {row.since:%Y-%m-%d %H:%M} UTC, the last: {error}"[:500]
    told = (
        f"Paused by rule on {now:%Y-%m-%d %H:%M} UTC after {failures} failures in a row. It is tried once a day and goes on "
        "by itself when that succeeds; to go on at once, mend the cause and press Resume."
    )
    Scope.objects.filter(pk=scope.pk).update(enabled=False, disabled_reason=f"{told} The last: {error}"[:500])
    _tell(scope, "error", RULE, f"{told} The last: {error}", now)
    logger.error("scope %s: paused by rule after %s failures in a row", scope.pk, failures)


def is_paused(scope: Scope) -> bool:
    """Say whether the rule has paused this scope."""
    return Failing.objects.filter(scope=scope, paused_at__isnull=False).exists()


def resume(scope: Scope, *, by: Person) -> None:
    """End the pause, and count failures from nothing.  Raises NotNow where the rule has not paused it."""
    with transaction.atomic():
        rows = Failing.objects.filter(scope=scope, paused_at__isnull=False)
        if not rows.delete()[0]:
            raise NotNow(f"{scope} is not paused by the rule for failing integrations.")
        Scope.objects.filter(pk=scope.pk).update(enabled=True, disabled_reason="", failures=0, last_error="")
        how = "the daily try succeeded" if by == RULE else f"{name_of(by) or 'somebody'} resumed it"
        _tell(scope, "info", "resumed", f"It goes on: {how}.", clock.now(), by=name_of(by))


def recover(now: datetime) -> int:
    """Forget rows whose scope has succeeded since.  Returns how many."""
    rows = Failing.objects.filter(paused_at__isnull=True, scope__failures=0).select_related("scope")
    recovered = list(rows)
    with transaction.atomic():
        for row in recovered:
            _tell_recovered(row, now)
        Failing.objects.filter(pk__in=[row.pk for row in recovered], scope__failures=0).delete()
    return len(recovered)


def probe(now: datetime) -> list[Job]:
    """Ask for the daily try of each scope that the rule has paused, where it is due."""
    jobs: list[Job] = []
    due = Failing.objects.filter(probe_at__isnull=False, probe_at__lte=now, scope__integration__enabled=True)
    for row in due.select_related("scope__integration"):
        # Several hosts may be here at this moment: the one that moves the date asks.
        if Failing.objects.filter(pk=row.pk, probe_at=row.probe_at).update(probe_at=now + PROBE_EVERY):
            jobs.append(_probe(row.scope))
    return jobs


def _probe(scope: Scope) -> Job:
    purpose = "preview" if first_is_preview(scope.integration, scope) else "sync"
    with transaction.atomic():
        return dispatch.request(
            "sync", params={"mode": "delta", "purpose": purpose, "entities": [], "probe": True}, lock_key=lock_key(scope),
            dedupe_key=f"probe:{scope.pk}", scope=scope, by=RULE,
        )  # fmt: skip


def _tell_recovered(row: Failing, now: datetime) -> None:
    if row.warned_at is not None:
        since = f"{row.since:%Y-%m-%d %H:%M} UTC"
        _tell(row.scope, "info", "recovered", f"It works again; it had been failing since {since}.", now)


def _tell(scope: Scope, level: str, code: str, message: str, now: datetime, by: str = RULE) -> None:
    Event.objects.create(
        integration_id=scope.integration_id,
        scope=scope,
        level=level,
        code=code,
        message=message[:1000],
        actor=by,
        at=now,
    )
