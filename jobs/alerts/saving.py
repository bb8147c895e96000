"""Can an alert rule be so, and who has seen an alert?  The admin, the API and the command call these."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from django.core.exceptions import ValidationError
from django.core.validators import validate_email

from connectors.contract import PermanentError
from connectors.transport.addresses import check_literal
from jobs import clock
from jobs.models import Alert, AlertRule, name_of
from jobs.states import IllegalTransition

if TYPE_CHECKING:
    from jobs.models import Person


def problems(to: str, addresses: Sequence[str], url: str, *, stored: bool) -> dict[str, list[str]]:
    """Return by field what is wrong with where messages shall go.  `stored`: a webhook's address is there already."""
    if to == AlertRule.To.EMAIL:
        if not addresses:
            return {"addresses": ["Enter at least one address."]}
        wrong = [f"{address} is not an e-mail address." for address in addresses if not _is_mail(address)]
        return {"addresses": wrong} if wrong else {}
    if not url:
        return {} if stored else {"url": ["Enter the webhook's address."]}
    try:
        check_literal(url)
    except PermanentError as error:
        return {"url": [str(error)]}
    return {}


def _is_mail(address: str) -> bool:
    try:
        validate_email(address)
    except ValidationError:
        return False
    return True


def save_webhook(rule: AlertRule, url: str, key: str, *, was: str = "") -> str:
    """Store what was entered of a webhook; what was left empty stays.  Returns a signing key that was made, to be shown once.

    `was`: what the rule sent to before.  Only JSON is signed: where it is new, so is its key, since nobody knows the stored one.
    Of a rule that sends e-mail nothing of a webhook is kept.
    """
    if rule.to == AlertRule.To.EMAIL:
        rule.forget_webhook()
        return ""
    signs_now = rule.to == AlertRule.To.JSON and was != AlertRule.To.JSON
    stored = rule.webhook()
    if not (url or key or (signs_now and stored)):
        return ""
    made = rule.set_webhook(url or stored["url"], key or ("" if signs_now else stored.get("signing_key", "")))
    return made if signs_now and not key else ""


def acknowledge(alert: Alert, *, by: Person) -> None:
    """Say that somebody knows: no daily digest repeats it, unless it gets worse.  Raises IllegalTransition."""
    rows = Alert.objects.filter(pk=alert.pk, resolved_at=None, acknowledged_at=None)
    if not rows.update(acknowledged_at=clock.now(), acknowledged_by=name_of(by)):
        alert.refresh_from_db()
        if alert.resolved_at is not None:
            raise IllegalTransition("It is resolved already.")
        raise IllegalTransition(f"{alert.acknowledged_by or 'Somebody'} has acknowledged it already.")
