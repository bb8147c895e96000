"""On which days does nothing start?  Saving one computes the next runs anew."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin

from connectors.admin.base import badge
from connectors.admin.fresh import Fresh
from scheduling import blackouts, windows
from scheduling.forms import BlackoutForm
from scheduling.models import Blackout


@admin.register(Blackout)
class BlackoutAdmin(Fresh, ModelAdmin):
    """Holidays and month ends."""

    form = BlackoutForm
    list_display = ["name", "kind_badge", "days", "concerned"]
    list_select_related = ["integration", "service"]
    list_filter = ["kind", "integration"]
    search_fields = ["name"]
    fieldsets = [
        (None, {"fields": ["name", "kind"]}),
        ("Days", {"fields": ["first", "last"], "description": "For “From day to day” and “The same days each year”."}),
        ("End of each month", {"fields": ["days_before", "days_after"]}),
        ("What it concerns", {"fields": ["integration", "service"]}),
    ]

    @admin.display(description="Kind", ordering="kind")
    def kind_badge(self, blackout: Blackout) -> SafeString:
        return badge(blackout.get_kind_display())

    @admin.display(description="Days", ordering="first")
    def days(self, blackout: Blackout) -> str:
        return days_told(blackout)

    @admin.display(description="Concerns")
    def concerned(self, blackout: Blackout) -> str:
        return str(blackout.service or blackout.integration or "All integrations")

    def save_model(self, request: HttpRequest, obj: Blackout, form: Any, change: bool) -> None:
        """Through the function that API and commands call, too."""
        blackouts.save(obj, by=request.user)

    def delete_model(self, request: HttpRequest, obj: Blackout) -> None:
        """What it concerned may run on its days again."""
        blackouts.remove(obj, by=request.user)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Blackout]) -> None:
        """One by one, as each concerns others."""
        for blackout in queryset.select_related("integration", "service"):
            blackouts.remove(blackout, by=request.user)


def days_told(blackout: Blackout) -> str:
    """Return the days in words, as the sentence of a schedule has them."""
    told = windows.sentence(windows.Schedule("UTC", (), (blackout.pure(),)))
    return told.partition("; not ")[2]
