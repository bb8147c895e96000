"""By what can the list of jobs be narrowed?  Choices come from code and small tables, never from the rows themselves."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from connectors.admin.base import is_id
from connectors.models import Connection, Integration
from jobs import clock, figures, filters, handlers
from jobs.models import Job
from jobs.retries import ErrorClass
from jobs.states import StatusReason


class TypeFilter(admin.SimpleListFilter):
    """What kind of work."""

    title = "type"
    parameter_name = "type"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, name.capitalize()) for name in sorted(handlers.registered())]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Job]) -> QuerySet[Job]:
        return queryset.filter(type=self.value()) if self.value() else queryset


class IntegrationFilter(admin.SimpleListFilter):
    """Whose work."""

    title = "integration"
    parameter_name = "integration"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(str(pk), name) for pk, name in Integration.objects.order_by("name").values_list("pk", "name")]

    def queryset(self, request: HttpRequest, queryset: Any) -> QuerySet[Job]:
        value = self.value() or ""
        return filters.of_integration(queryset, int(value)) if is_id(value) else queryset


class ConnectionFilter(admin.SimpleListFilter):
    """Over which connection."""

    title = "connection"
    parameter_name = "connection"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(str(pk), name) for pk, name in Connection.objects.order_by("name").values_list("pk", "name")]

    def queryset(self, request: HttpRequest, queryset: Any) -> QuerySet[Job]:
        value = self.value() or ""
        return filters.of_connection(queryset, int(value)) if is_id(value) else queryset


class ErrorClassFilter(admin.SimpleListFilter):
    """What is done about such errors."""

    title = "kind of error"
    parameter_name = "error"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(kind.value, kind.value.capitalize()) for kind in ErrorClass]

    def queryset(self, request: HttpRequest, queryset: Any) -> QuerySet[Job]:
        return filters.of_error_class(queryset, self.value() or "") if self.value() else queryset


class AttentionFilter(admin.SimpleListFilter):
    """What stands out."""

    title = "attention"
    parameter_name = "attention"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("stuck", "No heartbeat"), ("aside", "Set aside"), ("again", "Tried more than once")]

    def queryset(self, request: HttpRequest, queryset: Any) -> QuerySet[Job]:
        match self.value():
            case "stuck":
                return figures.stuck(queryset, clock.now())
            case "aside":
                return queryset.filter(aside_at__isnull=False)
            case "again":
                return queryset.filter(attempt__gt=1)
        return queryset


class HiddenFilter(admin.SimpleListFilter):
    """A filter to which other pages lead: it is shown above the list while it is on, not at its side."""

    template = "jobs/_no_filter.html"

    def shown(self) -> str:
        """What it narrows to, in words."""
        return self.value() or ""

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        given = request.GET.get(self.parameter_name or "", "")
        return [(given, given)] if given else []  # without choices Django leaves the filter out


class StatusFilter(HiddenFilter):
    """The tabs above the list."""

    title = "status"
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return list(StatusReason.choices)

    def queryset(self, request: HttpRequest, queryset: QuerySet[Job]) -> QuerySet[Job]:
        return queryset.filter(status_reason=self.value()) if self.value() else queryset


class FingerprintFilter(HiddenFilter):
    """Failures that look alike."""

    title = "error"
    parameter_name = "fingerprint"

    def shown(self) -> str:
        """What such a job says of itself: nobody knows an error by its fingerprint."""
        rows: Any = Job.objects.all()
        newest = (
            filters.of_fingerprint(rows, self.value() or "").order_by("-id").values_list("error_message", flat=True)
        )
        return newest.first() or self.value() or ""

    def queryset(self, request: HttpRequest, queryset: Any) -> QuerySet[Job]:
        return filters.of_fingerprint(queryset, self.value() or "") if self.value() else queryset


class CodeFilter(HiddenFilter):
    """One error code."""

    title = "error code"
    parameter_name = "code"

    def queryset(self, request: HttpRequest, queryset: Any) -> QuerySet[Job]:
        return filters.of_error_code(queryset, self.value() or "") if self.value() else queryset


FILTERS: list[Any] = [
    StatusFilter, TypeFilter, IntegrationFilter, ConnectionFilter, ErrorClassFilter, AttentionFilter, FingerprintFilter,
    CodeFilter,
]  # fmt: skip
