"""How is a change of settings shown with its effect, and saved only as it was shown?  All pages that change settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from django.http import HttpRequest

from config import audit
from connectors.contract import ConnectorError
from connectors.models import Integration
from connectors.sync import amending
from connectors.sync.amending import NotShown, Proposal, StaleSettings
from connectors.sync.compile import SettingsError
from connectors.sync.effect import EXCLUDED, INCLUDED, OTHERWISE, UNTOLD, Effect, sentences
from connectors.sync.schema import Schema, stored
from connectors.transport import connected, redaction
from jobs import clock

GROUPS = {EXCLUDED: "Newly excluded", INCLUDED: "Newly included", OTHERWISE: "Treated otherwise", UNTOLD: "Not known"}


@dataclass
class Shown:
    """What a page says of a change that is not saved yet."""

    lines: list[str] = field(default_factory=list)
    effect: Effect | None = None
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    mark: str = ""
    saved: list[str] | None = None  # not None: it was saved, and these are the lines

    @property
    def sentences(self) -> list[str]:
        """What the effect is, in words."""
        return sentences(self.effect) if self.effect is not None else []

    @property
    def numbers(self) -> list[tuple[int, str]]:
        """The counts, the most important ones first."""
        return [(self.effect.counts[name], words) for name, words in GROUPS.items()] if self.effect is not None else []

    @property
    def examples(self) -> list[tuple[str, list[Any]]]:
        """The first records of each group."""
        return (
            [(GROUPS[name], found) for name, found in self.effect.examples.items()] if self.effect is not None else []
        )


def schema_of(integration: Integration) -> tuple[Schema, str]:
    """Return what both systems have, and why that is not known where it is not."""
    try:
        return amending.described(integration, connected, clock.now()), ""
    except ConnectorError as error:
        return stored(integration), redaction.text(str(error))


def consider(request: HttpRequest, proposal: Proposal, known: Schema, obj: Any, revision: int) -> Shown:
    """Show the effect of a proposal, or save it where its effect was shown.  Bad settings are told, never saved."""
    shown = Shown(list(proposal.said), mark=proposal.mark)
    integration = proposal.integration
    if integration.revision != revision:
        shown.warnings.append(str(StaleSettings(integration, amending.settings_history.since(integration, revision))))
    elif request.POST.get("act") == "save":
        try:
            with audit.acting(request.user, obj, f"{proposal.why}."):
                shown.saved = amending.commit(
                    proposal, known.described, now=clock.now(), by=request.user, revision=revision,
                    shown=request.POST.get("shown", ""),
                )  # fmt: skip
            return shown
        except (StaleSettings, NotShown) as refusal:
            shown.warnings.append(str(refusal))
            integration.refresh_from_db()
        except SettingsError as error:
            shown.problems = error.problems
            return shown
    _weigh(shown, proposal, known)
    return shown


def _weigh(shown: Shown, proposal: Proposal, known: Schema) -> None:
    try:
        shown.effect = amending.effect_of(proposal, known.described, clock.now())
    except SettingsError:
        # What is kept of the systems may be older than a field that somebody has just made there: they are asked once.
        try:
            amending.read_again(proposal.integration, connected, clock.now())
            shown.effect = amending.effect_of(proposal, stored(proposal.integration).described, clock.now())
        except SettingsError as error:
            shown.problems = error.problems
        except ConnectorError as error:
            shown.problems = [redaction.text(str(error))]
