"""Which rows make up the configuration of services and blackouts?  For export and import, beside jobs.housekeeping.config."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from django.db.models import F

from jobs.housekeeping.bundle import ConfigRefused, Difference, Kind
from jobs.housekeeping.config import ALERT_RULES, KINDS, raise_revisions, refuse_twins
from scheduling import blackouts, provisioning, windows
from scheduling.models import Blackout, Service, ServiceWindow
from scheduling.refusals import Refused
from scheduling.services import reschedule, schedule_of, window_columns, window_told

BY = "import_config"


class _Windows:
    """Days and times as people write them."""

    words: Sequence[str] = ("windows",)

    def told(self, row: Service, *, env_names: bool) -> dict[str, object]:
        lines = [window_told(window) for window in row.windows.all()]
        return {"windows": lines} if lines else {}

    def store(self, row: Service, told: Mapping[str, Any]) -> list[str]:
        lines = told.get("windows") or []
        known = set(window_told(ServiceWindow(**window_columns({}))))
        for line in lines:
            if not isinstance(line, dict) or set(line) - known:
                raise ConfigRefused([f"window {line}: known words are {', '.join(sorted(known))}."])
        try:
            rows = [ServiceWindow(service=row, **window_columns(line)) for line in lines]
        except Refused as refusal:
            raise ConfigRefused(refusal.problems) from refusal
        before, after = [window_told(w) for w in row.windows.all()], [window_told(w) for w in rows]
        if before == after:
            return []
        errors, _ = windows.problems(windows.Schedule(row.zone, tuple(window.pure() for window in rows)))
        if rows and errors:
            raise ConfigRefused(errors)
        row.windows.all().delete()
        ServiceWindow.objects.bulk_create(rows)
        return [f"windows: {before} -> {after}"]


def _service_of(columns: Mapping[str, Any], name: object) -> Service | None:
    return Service.objects.filter(integration=columns["integration"], name=name).first()


def _service_problems(service: Service) -> list[str]:
    if not service.enabled and not service.windows.exists():
        return []  # nobody has said yet when it runs
    errors, _ = windows.problems(schedule_of(Service.objects.get(pk=service.pk)), service.recommended_minutes)
    return errors


def _blackout_problems(blackout: Blackout) -> list[str]:
    return [message for messages in blackouts.problems(blackout).values() for message in messages]


SERVICES = Kind(
    "services", "service", Service, ("integration", "name"),
    ("about", "position", "work", "entities", "enabled", "zone", "recommended_minutes"), extras=(_Windows(),),
    check=_service_problems,
)  # fmt: skip
BLACKOUTS = Kind(
    "blackouts", "blackout", Blackout, ("name", "integration", "service"),
    ("kind", "first", "last", "days_before", "days_after"), refer={"service": _service_of}, check=_blackout_problems,
)  # fmt: skip
ALL_KINDS = (*KINDS, SERVICES, BLACKOUTS, ALERT_RULES)


def plan_anew(difference: Difference) -> None:
    """Compute the next starts; a service of an integration that was never provisioned asks for it, as saving it does."""
    services = [row for row in difference.rows if isinstance(row, Service)]
    Service.objects.filter(pk__in=[service.pk for service in services]).update(revision=F("revision") + 1)
    if any(isinstance(row, Blackout) for row in difference.rows):
        services = list(Service.objects.all())
    reschedule(services)
    for integration in {row.integration for row in difference.rows if isinstance(row, Service)}:
        provisioning.ask_at_first_save(integration, by=BY)


FINISH: tuple[Callable[[Difference], None], ...] = (refuse_twins, raise_revisions, plan_anew)
