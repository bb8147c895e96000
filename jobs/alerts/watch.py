"""Does anybody have to be told of something?  A chore of `manage.py worker`: looks, keeps the alerts, fills the outbox."""

from __future__ import annotations

from datetime import datetime, time
from zoneinfo import ZoneInfo

from django.conf import settings
from django.db import transaction
from django.db.models import Q

from jobs import clock
from jobs.alerts import outbox
from jobs.alerts.facts import concerning, facts
from jobs.alerts.rules import Fact, Kind, Known, Letter, Told, last_digest, next_letter
from jobs.models import Alert, AlertMessage, AlertRule


def tick() -> int:
    """Look once.  Returns how many messages went into the outbox."""
    now = clock.now()
    outbox.give_up()
    rules = list(AlertRule.objects.filter(enabled=True))
    found = {what: facts(what, now) for what in {rule.what for rule in rules}}
    written = 0
    for rule in rules:
        with transaction.atomic():
            # Several hosts may look at the same moment: one of them at a time keeps a rule's alerts.
            locked = AlertRule.objects.select_for_update().filter(pk=rule.pk, enabled=True).first()
            if locked is not None:
                written += _keep(locked, concerning(locked, found[rule.what]), now)
    return written


def _keep(rule: AlertRule, found: list[Fact], now: datetime) -> int:
    there = list(rule.alerts.filter(Q(resolved_at__isnull=True) | Q(told_resolved=False)).order_by("opened_at", "id"))
    if not found and not there:
        return 0
    alerts = _compare(rule, there, found, now)
    letter = next_letter(
        rule.name, [_known(alert) for alert in alerts], Told(rule.told_at, rule.cleared_at, rule.digest_on), now,
        digest_at=last_digest(now, time.fromisoformat(settings.ALERT_DIGEST_AT), ZoneInfo(settings.ALERT_ZONE)),
    )  # fmt: skip
    return _tell(rule, letter, alerts, now) if letter is not None else 0


def _compare(rule: AlertRule, there: list[Alert], found: list[Fact], now: datetime) -> list[Alert]:
    """Bring the alerts up to date with what is wrong; return those that are open or not told to be over."""
    wrong = {fact.cause: fact for fact in found}
    for alert in there:
        if alert.resolved_at is not None:
            continue
        fact = wrong.pop(alert.cause, None)
        if fact is None:
            alert.resolved_at = now
        else:
            if fact.stage != alert.stage:  # it got worse, or is another matter: whoever knew does not know that
                alert.acknowledged_at, alert.acknowledged_by = None, ""
            alert.text, alert.stage, alert.count, alert.last_seen = fact.text[:1000], fact.stage, fact.count, now
        alert.save()
    new = [
        Alert(
            rule=rule, cause=fact.cause, integration_id=rule.integration_id or fact.integration, text=fact.text[:1000],
            stage=fact.stage, count=fact.count, opened_at=now, last_seen=now,
        )
        for fact in wrong.values()
    ]  # fmt: skip
    return [*there, *Alert.objects.bulk_create(new)]


def _known(alert: Alert) -> Known:
    return Known(
        alert.cause, alert.text, alert.count, alert.stage, alert.opened_at, alert.resolved_at is not None, alert.told_count,
        alert.told_stage, alert.acknowledged_at is not None,
    )  # fmt: skip


def _tell(rule: AlertRule, letter: Letter, alerts: list[Alert], now: datetime) -> int:
    """Put the message into the outbox and remember what was told, in the caller's transaction."""
    about = {(known.cause, known.opened_at) for known in letter.about}
    told = [alert for alert in alerts if (alert.cause, alert.opened_at) in about]
    for alert in told:
        alert.told_count, alert.told_stage = alert.count, alert.stage
        alert.told_resolved = alert.resolved_at is not None
    Alert.objects.bulk_update(told, ["told_count", "told_stage", "told_resolved"], batch_size=500)
    match letter.kind:
        case Kind.NEWS | Kind.ROLLUP:
            rule.told_at = now
        case Kind.RESOLVED:
            rule.cleared_at = now
        case Kind.DIGEST:
            at = time.fromisoformat(settings.ALERT_DIGEST_AT)
            rule.digest_on = last_digest(now, at, ZoneInfo(settings.ALERT_ZONE)).date()
    rule.save(update_fields=["told_at", "cleared_at", "digest_on"])
    return len(outbox.put(rule, AlertMessage.Kind(letter.kind), letter.subject, letter.body, told, now))
