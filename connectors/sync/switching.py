"""How does a person stop an integration and let it go on?  Admin, API and command call this."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db import transaction

from connectors.models import Event, Integration, Scope, changing

LONGEST = 150  # characters of a reason


def switch(integration: Integration, *, on: bool, by: Any, now: datetime, reason: str = "") -> str:
    """Switch an integration on or off, and return what was done in a sentence.  Writes that wait are not carried out while it is off."""
    reason = " ".join(reason.split())[:LONGEST]
    who = str(by or "")
    why = "" if on else f"by {who}: {reason}" if who and reason else f"by {who}" if who else reason
    with changing(f"Switched {'on' if on else 'off'}{': ' + reason if reason else ''}", by), transaction.atomic():
        row = Integration.objects.select_for_update().get(pk=integration.pk)
        if row.enabled == on:
            return f"{integration} is switched {'on' if on else 'off'} already."
        row.enabled, row.off_reason = on, why[:200]
        row.save(update_fields=["enabled", "off_reason"])
        Scope.objects.get_or_create(integration=integration, left_key="", right_key="")
        said = f"{integration} is switched {'on' if on else 'off'}{': ' + reason if reason else ''}."
        Event.objects.create(
            integration=row, code=f"switched {'on' if on else 'off'}", message=said, actor=who[:150], at=now
        )
    integration.refresh_from_db()
    return said
