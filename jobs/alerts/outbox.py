"""How does a message reach its recipient?  It is a row before it is sent; a job sends it, again and again if need be."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable, Sequence
from datetime import datetime
from smtplib import SMTPException
from typing import TYPE_CHECKING

from django.conf import settings
from django.core.mail import EmailMessage
from django.db import transaction
from django.db.models import F
from django.urls import reverse

from connectors.contract import ConnectorError, PermanentError, RetryableError
from connectors.transport import hook
from jobs import clock, dispatch, operate
from jobs.models import Alert, AlertMessage, AlertRule
from jobs.states import IllegalTransition, StatusReason

if TYPE_CHECKING:
    from jobs.models import Person

JOB = "alert message"
TEST_SUBJECT = "{name}: a test message"
TEST_BODY = "This is a test. Alerts of the rule {name} reach you here."


def put(
    rule: AlertRule, kind: AlertMessage.Kind, subject: str, body: str, alerts: Sequence[Alert], now: datetime
) -> list[AlertMessage]:
    """Write a message for each recipient and ask for the jobs that send them, in the caller's transaction."""
    where = rule.addresses if rule.to == AlertRule.To.EMAIL else [rule.host]
    told = [_told(alert) for alert in alerts]
    messages = [
        AlertMessage(
            rule=rule, kind=kind, recipient=recipient, subject=_line(subject), body=body + _link(), alerts=told, at=now
        )
        for recipient in where
    ]
    for message in messages:
        message.save()
        message.job = dispatch.request(JOB, params={"message": message.pk}, object_ref=f"alert message:{message.pk}")
        message.save(update_fields=["job"])
    return messages


def put_test(rule: AlertRule) -> list[AlertMessage]:
    """Write a test message, so that a person sees whether it arrives."""
    name, body = TEST_SUBJECT.format(name=rule.name), TEST_BODY.format(name=rule.name)
    return put(rule, AlertMessage.Kind.TEST, name, body, [], clock.now())


def send(message: AlertMessage) -> None:
    """Send it once.  The row says what came of it; raises RetryableError, or PermanentError where trying again is no use."""
    AlertMessage.objects.filter(pk=message.pk).update(tries=F("tries") + 1)
    try:
        if message.rule.to == AlertRule.To.EMAIL:
            _mail(message)
        else:
            _post(message)
    except ConnectorError as error:
        status = AlertMessage.Status.WAITING if isinstance(error, RetryableError) else AlertMessage.Status.FAILED
        AlertMessage.objects.filter(pk=message.pk).update(status=status, error=str(error)[:500])
        raise
    AlertMessage.objects.filter(pk=message.pk).update(status=AlertMessage.Status.SENT, sent_at=clock.now(), error="")


def give_up() -> int:
    """Mark the messages whose jobs have failed for good: nothing tries them again until a person does."""
    waiting = AlertMessage.objects.filter(status=AlertMessage.Status.WAITING, job__status_reason=StatusReason.FAILED)
    return waiting.update(status=AlertMessage.Status.FAILED)


def send_again(message: AlertMessage, *, by: Person) -> None:
    """Try a message again that was not delivered.  Raises IllegalTransition where its job is still at it, or is gone."""
    if message.job is None:
        raise IllegalTransition("its job was purged")
    with transaction.atomic():
        operate.retry(message.job, by=by, reason="sent again")
        AlertMessage.objects.filter(pk=message.pk).update(status=AlertMessage.Status.WAITING)


def _mail(message: AlertMessage) -> None:
    # The same id at each try: a mail server that has it already can tell.
    headers = {"Message-ID": f"<{message.key}@syncline>", "Auto-Submitted": "auto-generated"}
    try:
        EmailMessage(message.subject, message.body, to=[message.recipient], headers=headers).send()
    except (SMTPException, OSError) as error:
        raise RetryableError(f"The mail server did not take the mail: {error}") from error


def _post(message: AlertMessage) -> None:
    secret = message.rule.webhook()
    if not secret:
        raise PermanentError("The rule has no webhook any more. Enter its address again.")
    body = json.dumps(_BODIES[message.rule.to](message), separators=(",", ":")).encode()
    headers = {"Content-Type": "application/json", "Idempotency-Key": str(message.key)}
    if message.rule.to == AlertRule.To.JSON:
        headers["X-Syncline-Signature"] = signature(secret["signing_key"], body, clock.now())
    reply = hook.post(secret["url"], body, headers)
    if reply.status in hook.PASSING:
        told = f"{message.recipient} answered {reply.status}."
        raise RetryableError(told, retry_after=reply.retry_after(clock.now()), code=str(reply.status))
    if not 200 <= reply.status < 300:
        told = f"{message.recipient} answered {reply.status}: look whether the webhook's address is still right."
        raise PermanentError(told, code=str(reply.status))


def signature(key: str, body: bytes, now: datetime) -> str:
    """Return "t=<seconds>,v1=<HMAC-SHA256 of "<seconds>.<body>", in hex>": the receiver checks both."""
    seconds = str(int(now.timestamp()))
    return f"t={seconds},v1={hmac.new(key.encode(), seconds.encode() + b'.' + body, hashlib.sha256).hexdigest()}"


def _json(message: AlertMessage) -> dict[str, object]:
    return {
        "id": str(message.key), "kind": message.kind, "rule": message.rule.name, "subject": message.subject,
        "text": message.body, "alerts": message.alerts, "at": message.at.isoformat(),
    }  # fmt: skip


def _slack(message: AlertMessage) -> dict[str, object]:
    # Slack reads & < > as markup (api.slack.com/reference/surfaces/formatting).
    text = f"*{message.subject}*\n{message.body}"
    return {"text": text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")}


def _teams(message: AlertMessage) -> dict[str, object]:
    blocks: list[dict[str, object]] = [
        {"type": "TextBlock", "text": message.subject, "weight": "Bolder", "wrap": True},
        *({"type": "TextBlock", "text": line, "wrap": True} for line in message.body.splitlines() if line),
    ]
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json", "type": "AdaptiveCard", "version": "1.4",
        "body": blocks,
    }  # fmt: skip
    attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None, "content": card}
    return {"type": "message", "attachments": [attachment]}


_BODIES: dict[str, Callable[[AlertMessage], dict[str, object]]] = {
    AlertRule.To.JSON: _json,
    AlertRule.To.SLACK: _slack,
    AlertRule.To.TEAMS: _teams,
}


def _told(alert: Alert) -> dict[str, object]:
    return {
        "cause": alert.cause, "text": alert.text, "count": alert.count, "opened_at": alert.opened_at.isoformat(),
        "resolved_at": alert.resolved_at.isoformat() if alert.resolved_at else None, "integration": alert.integration_id,
    }  # fmt: skip


def _line(subject: str) -> str:
    """Return one line, short enough for a list of mails; a header must not hold a second one."""
    text = " ".join(subject.split())
    return text if len(text) <= 150 else f"{text[:149]}…"


def _link() -> str:
    return f"\n\n{settings.SITE_URL.rstrip('/')}{reverse('admin:jobs_alert_changelist')}" if settings.SITE_URL else ""
