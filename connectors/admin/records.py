"""What was written, what happened, and which requests were sent?  Three logs, read-only."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin

from connectors.admin.base import Page, ReadOnly, ago, badge, is_id, link_to
from connectors.admin.runs import VERBS
from connectors.admin.show import Shower, change_values, name_of
from connectors.models import ApiCall, Connection, Event, RecordChange
from connectors.sync.finding import of_run
from connectors.sync.plan import DELETED
from connectors.sync.rules import ARCHIVED


class StatusOfRun(admin.SimpleListFilter):
    """By status, within one run: that is what the index (run, status) answers."""

    title = "status"
    parameter_name = "status"

    def __init__(self, request: HttpRequest, params: dict[str, Any], model: Any, model_admin: Any) -> None:
        self.within = "run__id__exact" in params or "run" in params or "run_id" in params
        super().__init__(request, params, model, model_admin)

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return list(RecordChange.Status.choices)

    def has_output(self) -> bool:
        return self.within

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(status=self.value()) if self.value() else queryset


@admin.register(RecordChange)
class RecordChangeAdmin(ReadOnly, Page, ModelAdmin):
    """Every write that was proposed, planned or done."""

    page_template = "syncline/change.html"
    list_display = ["when", "record", "entity_sync", "what", "fields_shown", "status_shown", "run_shown"]
    list_display_links = ["when"]
    sortable_by = ["when"]  # by the others no index sorts a million rows
    list_filter = [StatusOfRun]
    list_select_related = ["run", "link", "entity_sync"]
    actions: list[str] = []

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        """Other pages link to the changes of a run or of a link; both have an index."""
        return lookup in ("run", "run__id__exact", "link", "link__id__exact", "status")

    def get_queryset(self, request: HttpRequest) -> QuerySet[RecordChange]:
        """Those of a run stand together, wherever that is."""
        rows: QuerySet[RecordChange] = super().get_queryset(request)
        asked = request.GET.get("run__id__exact") or request.GET.get("run") or ""
        return rows.filter(of_run(int(asked))) if is_id(asked) else rows

    @admin.display(description="When", ordering="id")
    def when(self, change: RecordChange) -> SafeString:
        return ago(change.at)

    @admin.display(description="Record")
    def record(self, change: RecordChange) -> SafeString | str:
        name = name_of(change.link.base, change.after, change.link.left_staged, change.link.right_staged)
        return link_to(change.link, name or f"record {change.link_id}")

    @admin.display(description="Write")
    def what(self, change: RecordChange) -> SafeString:
        return format_html(
            "{} <span class='sl-quiet'>on the {}</span>", VERBS.get(change.verb, change.verb), change.side
        )

    @admin.display(description="Fields")
    def fields_shown(self, change: RecordChange) -> SafeString:
        names = sorted(field_names(change))
        text = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        return format_html('<span class="sl-wrap" title="{}">{}</span>', ", ".join(names), text or "–")

    @admin.display(description="Status")
    def status_shown(self, change: RecordChange) -> SafeString:
        return badge(change.get_status_display(), change.message)

    @admin.display(description="Run")
    def run_shown(self, change: RecordChange) -> SafeString | str:
        return link_to(change.run, f"#{change.run_id}")

    def page(self, request: HttpRequest, obj: RecordChange) -> dict[str, Any]:
        """Before and after of each field."""
        shower = Shower.of([obj.entity_sync_id], change_values([obj]))
        return {
            "title": f"{VERBS.get(obj.verb, obj.verb)} on the {obj.side}",
            "fields": shower.differences(obj),
            "status": badge(obj.get_status_display(), obj.message),
            "record": self.record(obj),
            "run": self.run_shown(obj),
            "at": ago(obj.at),
        }


def field_names(change: RecordChange) -> set[str]:
    """Return the fields that a change touches, as a person calls them."""
    values = change_values([change])
    return {
        name.partition(">")[0].lstrip("@") if name != ARCHIVED else "inactive"
        for each in values
        for name in each
        if name != DELETED
    }


@admin.register(Event)
class EventAdmin(ReadOnly, ModelAdmin):
    """What people should be told, newest first."""

    list_display = ["when", "level_shown", "text", "integration", "record", "run_shown", "actor"]
    list_display_links = ["when"]
    sortable_by = ["when"]
    list_filter = ["integration"]
    list_select_related = ["integration", "link", "run"]
    fields = ["at", "level", "code", "message", "integration", "actor", "run", "link"]
    actions: list[str] = []

    @admin.display(description="When", ordering="id")
    def when(self, event: Event) -> SafeString:
        return ago(event.at)

    @admin.display(description="Level")
    def level_shown(self, event: Event) -> SafeString:
        return badge(event.get_level_display())

    @admin.display(description="What happened")
    def text(self, event: Event) -> SafeString:
        return format_html('<span class="sl-wrap">{}</span>', event.message)

    @admin.display(description="Record")
    def record(self, event: Event) -> SafeString | str:
        return link_to(event.link, name_of(event.link.base) or f"record {event.link_id}") if event.link else "–"

    @admin.display(description="Run")
    def run_shown(self, event: Event) -> SafeString | str:
        return link_to(event.run, f"#{event.run_id}")


class ConnectionFilter(admin.SimpleListFilter):
    """By connection: the first column of the log's index."""

    title = "connection"
    parameter_name = "connection"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(str(pk), name) for pk, name in Connection.objects.order_by("name").values_list("pk", "name")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(connection=self.value()) if is_id(self.value()) else queryset


@admin.register(ApiCall)
class ApiCallAdmin(ReadOnly, ModelAdmin):
    """Every request that was sent; secrets and personal values were taken out when it was written."""

    list_display = ["when", "connection", "method", "path_shown", "status_shown", "ms", "run_id", "job_id"]
    list_display_links = ["when"]
    sortable_by: tuple[str, ...] = ()
    list_filter = [ConnectionFilter]
    list_select_related = ["connection"]
    fields = ["at", "connection", "method", "path", "status", "ms", "code", "vendor_id", "run_id", "job_id", "more"]
    readonly_fields = ["more"]
    actions: list[str] = []

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        """Runs link to their calls, by an index."""
        return lookup in ("run_id", "run_id__exact", "connection")

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Who may see the connection sees the call as its health page shows it."""
        call = self.get_object(request, object_id) if request.user.has_perm("connectors.view_connection") else None
        if call is None:
            return super().change_view(request, object_id, form_url, extra_context)
        pages = self.admin_site._registry[Connection]
        return pages.call(request, call.connection_id, call.pk)

    @admin.display(description="Bodies")
    def more(self, call: ApiCall) -> SafeString:
        """Who may see them does so there, and that is logged."""
        url = reverse("admin:connectors_connection_call", args=[call.connection_id, call.pk])
        return format_html('<a class="sl-link" href="{}">As curl, and the bodies where they are kept</a>', url)

    def get_ordering(self, request: HttpRequest) -> list[str]:
        """Newest first, by the index that serves the filter."""
        return ["-at", "-id"] if request.GET.get("connection") else ["-id"]

    @admin.display(description="When")
    def when(self, call: ApiCall) -> SafeString:
        return ago(call.at)

    @admin.display(description="Address")
    def path_shown(self, call: ApiCall) -> SafeString:
        return format_html(
            '<span class="sl-mono sl-cut" title="{}">{}</span>',
            call.path,
            call.path[:90] + ("…" if len(call.path) > 90 else ""),
        )

    @admin.display(description="Status")
    def status_shown(self, call: ApiCall) -> SafeString:
        tone = "bad" if call.status >= 400 or not call.status else "good"
        return badge(str(call.status or "no answer"), call.code, tone)
