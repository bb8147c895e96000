"""What may a person type in about services and blackouts, and what is wrong with it, field by field?"""

from __future__ import annotations

import json
from datetime import datetime
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from django import forms
from django.http import QueryDict

from scheduling import blackouts
from scheduling.models import DAYS, Blackout, Service, ServiceWindow
from scheduling.services import Times, window_told

UNITS = [(1, "minutes"), (60, "hours")]


@cache
def zones() -> list[str]:
    """Return the names of all time zones, for people to choose from."""
    return sorted(available_timezones() - {"localtime", "Factory"})


class WindowForm(forms.Form):
    """One window of a service."""

    days = forms.MultipleChoiceField(
        choices=[(day, day[:3]) for day in DAYS],
        widget=forms.CheckboxSelectMultiple,
        error_messages={"required": "Choose at least one day."},
    )
    start = forms.TimeField(input_formats=["%H:%M", "%H:%M:%S"], widget=forms.TimeInput({"type": "time"}, "%H:%M"))
    end = forms.TimeField(input_formats=["%H:%M", "%H:%M:%S"], widget=forms.TimeInput({"type": "time"}, "%H:%M"))
    every = forms.IntegerField(min_value=1, widget=forms.NumberInput({"min": 1, "max": 1440, "inputmode": "numeric"}))
    unit = forms.TypedChoiceField(choices=UNITS, coerce=int)
    counted = forms.ChoiceField(choices=ServiceWindow.Aligned.choices)

    def told(self) -> dict[str, object]:
        """Return the window as `scheduling.services.window_columns` takes it."""
        given = self.cleaned_data
        days = given["days"]
        return {
            "days": "all" if len(days) == len(DAYS) else days, "start": f"{given['start']:%H:%M}", "end": f"{given['end']:%H:%M}",
            "every": given["every"] * given["unit"], "from": given["counted"],
        }  # fmt: skip


def initial_of(window: ServiceWindow) -> dict[str, object]:
    """Return a window as its form shows it."""
    told, hours = window_told(window), window.every_minutes % 60 == 0
    return {
        "days": list(DAYS) if told["days"] == "all" else told["days"], "start": window.start, "end": window.end,
        "every": window.every_minutes // (60 if hours else 1), "unit": 60 if hours else 1, "counted": window.aligned_to,
    }  # fmt: skip


WindowFormSet = forms.formset_factory(WindowForm, extra=0, can_delete=True, max_num=12, validate_max=True)


class TimesForm:
    """Zone and windows of one service on the page of all services of an integration."""

    def __init__(self, service: Service, posted: QueryDict | None = None) -> None:
        self.service, self.prefix = service, f"service-{service.pk}"
        self.posted = posted if posted is not None and f"{self.prefix}-TOTAL_FORMS" in posted else None
        rows = list(service.windows.all())
        self.windows = WindowFormSet(
            self.posted,
            prefix=self.prefix,
            initial=[initial_of(row) for row in rows],
            form_kwargs={"empty_permitted": False},
        )
        if self.posted is None:
            self.zone, self.revision = service.zone, str(service.revision)
            self.shown = _as_text(service.zone, [window_told(row) for row in rows])
        else:
            self.zone, self.revision, self.shown = (
                self.posted.get(f"{self.prefix}-{name}", "").strip() for name in ("zone", "revision", "shown")
            )

    @property
    def changed(self) -> bool:
        """Whether the person changed what the page showed; that the service has changed since is another matter."""
        return self.posted is not None and (bool(self.problems()) or _as_text(self.zone, self._told()) != self.shown)

    def problems(self) -> list[str]:
        """Return what can't be read at all; what it means is judged by `scheduling.windows`."""
        if self.posted is None:
            return ["The form of this service was not sent along. Load the page again."]
        found = [] if self.zone else ["Choose a time zone."]
        if not self.windows.is_valid():
            found += [str(error) for error in self.windows.non_form_errors()]
            for number, form in enumerate(self._kept(), start=1):
                found += [f"Window {number}, {name}: {error}" for name, told in form.errors.items() for error in told]
        return found

    def times(self) -> Times:
        """Return what was posted, where `problems` is empty."""
        revision = int(self.revision) if self.revision.isdecimal() else 0
        return Times(self.service, self.zone, self._told(), revision)

    def _kept(self) -> list[WindowForm]:
        return [form for form in self.windows.forms if f"{form.prefix}-DELETE" not in (self.posted or ())]

    def _told(self) -> list[dict[str, object]]:
        return [form.told() for form in self._kept()]


def _as_text(zone: str, windows: list[dict[str, object]]) -> str:
    return json.dumps([zone, windows], sort_keys=True)


class PauseForm(forms.Form):
    """Until when a service is paused, on the clocks of its own zone."""

    until = forms.DateTimeField(
        input_formats=["%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"],
        error_messages={"required": "Say until when.", "invalid": "Write the end of the pause as 2026-01-31 08:00."},
    )

    def moment(self, service: Service) -> datetime:
        """Return the moment that was meant."""
        wall: datetime = self.cleaned_data["until"]
        return wall.replace(tzinfo=ZoneInfo(service.zone))


class BlackoutForm(forms.ModelForm):
    """A blackout; errors stand at their fields."""

    class Meta:
        model = Blackout
        fields = ["name", "kind", "first", "last", "days_before", "days_after", "integration", "service"]
        help_texts = {
            "kind": "From day to day: once. The same days each year: month and day count.",
            "last": "This day is part of it. For a single day, the same as the first.",
            "days_before": "End of each month: so many days before the last day, which is always part of it.",
            "days_after": "End of each month: so many days into the next month.",
            "integration": "Empty: all integrations.",
            "service": "Empty: all services of the integration.",
        }

    def clean(self) -> dict[str, Any]:
        """Judge the fields together."""
        given = super().clean() or {}
        unread = set(self.errors)
        row = Blackout(**{name: value for name, value in given.items() if name not in ("integration", "service")})
        row.integration, row.service = given.get("integration"), given.get("service")
        if row.service is not None and row.integration is None:
            given["integration"] = row.service.integration
        for name, told in blackouts.problems(row).items() if not unread else ():
            for problem in told:
                self.add_error(name or None, problem)
        return given

    def validate_constraints(self) -> None:
        """What the database would refuse is said above, in words."""
