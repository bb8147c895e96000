"""Is an integration ready for its services?  Goes through both systems and the settings; each line says what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from connectors.models import Integration
from jobs import clock
from jobs.models import name_of
from scheduling.checks import CHECKS, judge
from scheduling.findings import BLOCKING, WARNING, Line
from scheduling.models import Preflight
from scheduling.seen import look

if TYPE_CHECKING:
    from jobs.models import Person


@dataclass(frozen=True)
class Report:
    """What one look found."""

    integration: Integration
    at: datetime
    lines: list[Line] = field(default_factory=list)
    by: str = ""
    revision: int = 0  # of the integration's settings that it looked at

    @property
    def blocking(self) -> list[Line]:
        """Lines that keep services from being started."""
        return [line for line in self.lines if line.level == BLOCKING]

    @property
    def warnings(self) -> list[Line]:
        """Lines that a person should know of."""
        return [line for line in self.lines if line.level == WARNING]

    @property
    def stale(self) -> bool:
        """Whether settings have changed since."""
        return self.revision != self.integration.revision

    @property
    def summary(self) -> str:
        """The whole report in one sentence."""
        things = len(self.blocking)
        if things:
            return f"{things} {'thing blocks' if things == 1 else 'things block'} the services."
        if self.warnings:
            return f"Nothing blocks the services; {len(self.warnings)} to know of."
        return "Everything is ready for the services."

    @property
    def groups(self) -> Mapping[str, list[Line]]:
        """The lines by check, in the order of the checks."""
        found = {name: [line for line in self.lines if line.check == name] for name in CHECKS}
        return {name: lines for name, lines in found.items() if lines}


def last(integration: Integration) -> Report | None:
    """Return the stored report of the last look."""
    row = Preflight.objects.filter(integration=integration).first()
    if row is None:
        return None
    return Report(integration, row.at, [Line(**line) for line in row.lines], row.by, row.revision)


def run(integration: Integration, *, by: Person = None) -> Report:
    """Look at everything now, over HTTP, and store what was found.  Not inside a transaction."""
    # Read anew: a change of settings, or of a connection, may be younger than the caller's object.
    fresh = Integration.objects.select_related("left", "right").get(pk=integration.pk)
    report = Report(fresh, clock.now(), judge(look(fresh)), name_of(by), fresh.revision)
    Preflight.objects.update_or_create(
        integration=fresh,
        defaults={
            "at": report.at, "by": report.by, "revision": report.revision, "lines": [asdict(line) for line in report.lines],
        },
    )  # fmt: skip
    return report
