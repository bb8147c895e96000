"""How are settings changed?  Shown with their effect first, then saved as shown: by admin, API and command alike."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import transaction

from connectors.contract import Connector
from connectors.models import Connection, Event, Integration, changing
from connectors.sync import schema, settings_history, twins
from connectors.sync.compile import Described, compile_all
from connectors.sync.effect import Effect, perform, trial, weigh
from connectors.sync.rules import LEFT, RIGHT, Side

Connect = Callable[[Connection], Any]  # a context manager that gives a Connector


class StaleSettings(Exception):
    """Somebody changed the settings since they were looked at; `changed` says what, in sentences."""

    def __init__(self, integration: Integration, changed: Sequence[str]) -> None:
        told = " ".join(changed) or "Look at them again."
        super().__init__(f"The settings of {integration} were changed meanwhile. {told}")
        self.changed = list(changed)


class NotShown(Exception):
    """What is to be saved is not what was shown with its effect."""


@dataclass(frozen=True)
class Proposal:
    """A change of settings that nobody has made yet."""

    integration: Integration
    said: tuple[str, ...]  # a line for each thing that changes
    asked: object  # JSON of what shall be: two proposals that ask for the same are the same
    act: Callable[[], None]  # makes it, inside a transaction, and raises the revisions
    why: str = "Settings"

    @property
    def mark(self) -> str:
        """Stand for what was shown: these settings, on top of these."""
        text = json.dumps([self.integration.pk, self.integration.revision, self.asked], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:32]


def described(integration: Integration, connect: Connect, now: datetime) -> schema.Schema:
    """Return what both systems have, as last read; they are asked only where that was never done.  Raises ConnectorError."""
    known = schema.stored(integration)
    if known.known:
        return known
    read_again(integration, connect, now)
    return schema.stored(integration)


def read_again(integration: Integration, connect: Connect, now: datetime) -> None:
    """Ask both systems what they have.  Not in a transaction."""
    with connect(integration.left) as left, connect(integration.right) as right:
        both: dict[Side, Connector] = {LEFT: left, RIGHT: right}
        schema.read(integration, both, now)


def effect_of(proposal: Proposal, known: Described, now: datetime) -> Effect:
    """Say what the change would do to the records that are here.  Raises SettingsError where it can't work."""
    return weigh(proposal.integration, trial(proposal.integration, known, proposal.act), now.date())


def commit(
    proposal: Proposal, known: Described, *, now: datetime, by: Any = None, revision: int | None = None, shown: str | None = None,
) -> list[str]:  # fmt: skip
    """Make the change: all of it or nothing.  Running and queued writes stop at the new rules.

    Raises StaleSettings where the settings are no longer those of `revision`, NotShown where `shown` is another proposal's mark,
    SettingsError where it can't work.
    """
    integration = proposal.integration
    with changing(f"{proposal.why} ({by})" if isinstance(by, str) else proposal.why, by), transaction.atomic():
        locked = Integration.objects.select_for_update().get(pk=integration.pk)
        if locked.revision != (integration.revision if revision is None else revision):
            raise StaleSettings(integration, settings_history.since(integration, revision))
        if shown is not None and shown != proposal.mark:
            raise NotShown("The settings are not those whose effect was shown. Look at this one.")
        if not proposal.said:
            return []
        before = twins.kinds_of(integration)
        perform(proposal.act)
        compile_all(Integration.objects.select_related("left", "right").get(pk=integration.pk), known)
        twins.refuse(integration, twins.kinds_of(integration) - before)
        Event.objects.create(
            integration=integration, code="settings changed", message="; ".join(proposal.said)[:1000],
            actor=str(by or "")[:150], at=now,
        )  # fmt: skip
    integration.refresh_from_db()
    return list(proposal.said)
