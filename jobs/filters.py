"""Which jobs are meant?  The one filter of the API, the commands and bulk actions; the admin's list uses parts of it."""

from __future__ import annotations

from typing import Any

import django_filters
from django.db.models import QuerySet

from connectors.models import Connection, Integration, Scope
from jobs import clock, dispatch, figures
from jobs.models import Job, JobQuerySet
from jobs.retries import ErrorClass
from jobs.states import StatusReason


def of_connection(rows: JobQuerySet, connection: int) -> JobQuerySet:
    """Narrow to jobs whose integration uses a connection."""
    return rows.filter(scope__in=list(dispatch.scopes_of([connection]).values_list("pk", flat=True)))


def of_integration(rows: JobQuerySet, integration: int) -> JobQuerySet:
    """Narrow to jobs of one integration; its scopes are few and looked up first, so that an index serves."""
    return rows.filter(scope__in=list(Scope.objects.filter(integration=integration).values_list("pk", flat=True)))


def of_error_class(rows: JobQuerySet, kind: str) -> JobQuerySet:
    """Narrow to one class of error; its index holds jobs with an error alone, and SQLite must be told so."""
    return rows.filter(error_class=kind).exclude(error_class="")


def of_error_code(rows: JobQuerySet, code: str) -> JobQuerySet:
    """Narrow to one error code of a system, among jobs with an error."""
    return rows.filter(error_code=code).exclude(error_class="")


def of_fingerprint(rows: JobQuerySet, fingerprint: str) -> JobQuerySet:
    """Narrow to failures that look alike."""
    return rows.filter(fingerprint=fingerprint).exclude(fingerprint="")


class NumbersFilter(django_filters.BaseInFilter, django_filters.NumberFilter):
    """Ids with commas between them."""


class JobFilter(django_filters.FilterSet):
    """Filters on what an index serves, or what narrows it further."""

    ids = NumbersFilter(field_name="id", lookup_expr="in")
    # A job has one status: without DISTINCT, which would sort all that it finds with all columns.
    status_reason = django_filters.MultipleChoiceFilter(choices=StatusReason.choices, distinct=False)
    connection = django_filters.ModelChoiceFilter(queryset=Connection.objects.all(), method="by_connection")
    integration = django_filters.ModelChoiceFilter(queryset=Integration.objects.all(), method="by_integration")
    error_class = django_filters.ChoiceFilter(
        choices=[(kind.value, kind.value) for kind in ErrorClass], method="by_error_class"
    )
    error_code = django_filters.CharFilter(method="by_error_code")
    fingerprint = django_filters.CharFilter(method="by_fingerprint")
    created_after = django_filters.IsoDateTimeFilter(field_name="created_at", lookup_expr="gte")
    created_before = django_filters.IsoDateTimeFilter(field_name="created_at", lookup_expr="lt")
    finished_after = django_filters.IsoDateTimeFilter(field_name="finished_at", lookup_expr="gte")
    finished_before = django_filters.IsoDateTimeFilter(field_name="finished_at", lookup_expr="lt")
    stuck = django_filters.BooleanFilter(method="by_heartbeat")
    aside = django_filters.BooleanFilter(field_name="aside_at", lookup_expr="isnull", exclude=True)

    class Meta:
        model = Job
        fields = ["type", "priority", "scope", "run", "parent", "repeat_of", "object_ref", "lock_key"]

    def by_connection(self, rows: Any, name: str, value: Connection) -> QuerySet[Job]:
        """Whose integration uses it."""
        return of_connection(rows, value.pk)

    def by_integration(self, rows: Any, name: str, value: Integration) -> QuerySet[Job]:
        """Of one of its scopes."""
        return of_integration(rows, value.pk)

    def by_error_class(self, rows: Any, name: str, value: str) -> QuerySet[Job]:
        """What is done about such errors."""
        return of_error_class(rows, value)

    def by_error_code(self, rows: Any, name: str, value: str) -> QuerySet[Job]:
        """As the system names it."""
        return of_error_code(rows, value)

    def by_fingerprint(self, rows: Any, name: str, value: str) -> QuerySet[Job]:
        """What looks alike."""
        return of_fingerprint(rows, value)

    def by_heartbeat(self, rows: Any, name: str, value: bool) -> QuerySet[Job]:
        """Whether its worker is silent."""
        now = clock.now()
        return figures.stuck(rows, now) if value else rows.exclude(figures.silent(now))
