"""Which systems are kept in agreement, how are they, and what may be asked of them?"""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin

from config import audit
from connectors.admin import history, integration_page, preferences
from connectors.admin.base import Button, Pressable, ago, badge
from connectors.admin.presets import apply_view
from connectors.admin.runs import requested
from connectors.models import Integration
from connectors.registry import UnknownSystem, connector_class
from connectors.sync.health import Health, many, overview
from connectors.sync.switching import switch
from jobs import clock
from jobs.housekeeping import failing
from jobs.syncing import NotNow, request_sync, scope_of

OPERATE = "connectors.operate_integration"


def system_title(system: str) -> str:
    """Return the system's name for people."""
    try:
        return connector_class(system).title
    except UnknownSystem:
        return system


@admin.register(Integration)
class IntegrationAdmin(Pressable, ModelAdmin):
    """Two connections, left and right, kept in agreement."""

    list_display = ["name", "ends"]  # get_list_display adds the columns of health
    list_display_links = ["name"]
    list_select_related = ["left", "right"]
    ordering = ["name"]
    actions = ["sync_now_all", "comprehensive_all", "preview_all", "enable_all", "disable_all"]
    readonly_fields = ["ends", "preset"]
    fields = ["name", "ends", "preset", "first_run"]
    change_form_outer_before_template = "syncline/integration.html"

    class Media:
        css = {"all": ["syncline/settings.css"]}

    buttons = [
        Button("sync_now", "Sync now", main=True, permission=OPERATE, shown=lambda i: i.enabled,
               help="Reads what changed since the last run."),
        Button("comprehensive", "Comprehensive sync", permission=OPERATE, shown=lambda i: i.enabled,
               help="Reads everything again; finds deletes and drift."),
        Button("preview", "Preview", permission=OPERATE, shown=lambda i: i.enabled,
               help="Shows what a sync would write, and waits for approval."),
        Button("disable", "Pause", permission=OPERATE, shown=lambda i: i.enabled,
               help="No run starts, and no write that waits is carried out, until somebody lets it go on."),
        Button("enable", "Go on", main=True, permission=OPERATE, shown=lambda i: not i.enabled,
               help="Runs start again at their times, or when somebody presses Sync now."),
        Button("resume", "Resume", main=True, permission=OPERATE, shown=lambda i: failing.is_paused(scope_of(i)),
               help="Ends the pause by the rule for failing integrations."),
    ]  # fmt: skip

    # Columns.  The health of all rows of a page is looked up at once.

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Look up the health of all integrations; there are few."""
        rows = list(Integration.objects.select_related("left", "right"))
        request.sl_health = {h.integration.pk: h for h in overview(rows)}  # type: ignore[attr-defined]
        return super().changelist_view(request, extra_context)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Integration]:
        """Carry the looked-up health along on each row."""
        return super().get_queryset(request).select_related("left", "right")

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        """The columns close over this request's health, so that threads share nothing."""
        found: dict[int, Health] = getattr(request, "sl_health", {})
        back = request.get_full_path()

        def health(integration: Integration) -> Health:
            return found.get(integration.pk) or overview([integration])[0]

        @admin.display(description="State")
        def state(integration: Integration) -> SafeString:
            return badge(health(integration).state, health(integration).reason)

        @admin.display(description="Last success")
        def last_success(integration: Integration) -> SafeString:
            scope = health(integration).scope
            return ago(scope.last_done_at if scope else None)

        @admin.display(description="In agreement")
        def agreed(integration: Integration) -> SafeString:
            return _number(integration, health(integration).agreed, "none")

        @admin.display(description="Waiting")
        def waiting(integration: Integration) -> SafeString:
            return _number(integration, health(integration).counts["waiting"], "2")

        @admin.display(description="Conflicts")
        def conflicts(integration: Integration) -> SafeString:
            return _number(integration, health(integration).counts["conflict"], "4")

        @admin.display(description="Parked")
        def parked(integration: Integration) -> SafeString:
            return _number(integration, health(integration).counts["parked"], "5")

        @admin.display(description="")
        def sync_button(integration: Integration) -> SafeString | str:
            if not integration.enabled or not self.has_operate_permission(request):
                return ""
            url = reverse("admin:connectors_integration_do", args=[integration.pk, "sync_now"])
            return format_html(
                '<button class="sl-button" type="submit" formmethod="post" formaction="{}" name="next" value="{}">Sync now</button>',
                url, back,
            )  # fmt: skip

        return ["name", "ends", state, last_success, agreed, waiting, conflicts, parked, sync_button]

    @admin.display(description="Left and right")
    def ends(self, integration: Integration) -> SafeString:
        return format_html(
            '{} <b class="sl-arrow">↔</b> {}',
            system_title(integration.left.system),
            system_title(integration.right.system),
        )

    # Detail

    def get_urls(self) -> list[URLPattern]:
        """The preset page is where integrations are made."""
        wrap = self.admin_site.admin_view
        return [
            path("preset/", wrap(self.apply_preset), name="connectors_integration_preset"),
            path("<path:object_id>/preferences/", wrap(self.preferences), name="connectors_integration_preferences"),
            *super().get_urls(),
        ]

    def preferences(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """What a person may choose without knowing the mappings."""
        return preferences.view(self, request, object_id)

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Integrations are made from presets."""
        return redirect("admin:connectors_integration_preset")

    def apply_preset(self, request: HttpRequest) -> HttpResponse:
        """Make an integration from a preset."""
        return apply_view(self, request)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show what it does, how it is, its entity syncs and its last runs above what can be edited here."""
        obj = self.get_object(request, object_id)
        extra: dict[str, Any] = {}
        if obj is not None and self.has_view_permission(request, obj):
            shown = self.shown_buttons(request, obj)
            extra = {
                **integration_page.context(obj),
                "sl_buttons": [item for item in shown if item["button"].name != "disable"],  # type: ignore[attr-defined]
                "pause": next((item for item in shown if item["button"].name == "disable"), None),  # type: ignore[attr-defined]
                "sl_seen": self.seal(obj),
                "may": self.has_change_permission(request, obj),
                "show_save_and_add_another": False,
                "show_save_and_continue": False,
                "may_operate": self.has_operate_permission(request),
            }
        return super().change_view(request, object_id, form_url, {**extra, **(extra_context or {})})

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Who changed which settings, what was different, and the way back."""
        return history.view(self, request, object_id)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Its links and their history would go with it: switch it off instead."""
        return False

    # Buttons

    def sync_now(self, request: HttpRequest, integration: Integration) -> SafeString:
        return requested(request_sync(integration, by=request.user), "Sync requested")

    def comprehensive(self, request: HttpRequest, integration: Integration) -> SafeString:
        return requested(
            request_sync(integration, mode="comprehensive", by=request.user), "Comprehensive sync requested"
        )

    def preview(self, request: HttpRequest, integration: Integration) -> SafeString:
        return requested(request_sync(integration, preview=True, by=request.user), "Preview requested")

    def enable(self, request: HttpRequest, integration: Integration) -> str:
        return switch(integration, on=True, by=request.user, now=clock.now())

    def disable(self, request: HttpRequest, integration: Integration) -> str:
        return switch(integration, on=False, by=request.user, now=clock.now(), reason=request.POST.get("why", ""))

    def resume(self, request: HttpRequest, integration: Integration) -> str:
        failing.resume(scope_of(integration), by=request.user)
        return f"{integration} goes on."

    # Bulk actions

    def has_operate_permission(self, request: HttpRequest) -> bool:
        """Running and stopping are no changes of settings."""
        return bool(request.user.has_perm(OPERATE))

    def _each(self, request: HttpRequest, queryset: QuerySet[Integration], act: Any, label: str) -> None:
        for integration in queryset:
            try:
                with audit.acting(request.user, integration, f"{label}."):
                    answer = act(request, integration)
            except NotNow as refusal:
                self.message_user(request, f"{integration}: {refusal}", messages.ERROR)
            else:
                self.message_user(request, answer, messages.SUCCESS)

    @admin.action(description="Sync now", permissions=["operate"])
    def sync_now_all(self, request: HttpRequest, queryset: QuerySet[Integration]) -> None:
        self._each(request, queryset, self.sync_now, "Sync now")

    @admin.action(description="Comprehensive sync", permissions=["operate"])
    def comprehensive_all(self, request: HttpRequest, queryset: QuerySet[Integration]) -> None:
        self._each(request, queryset, self.comprehensive, "Comprehensive sync")

    @admin.action(description="Preview", permissions=["operate"])
    def preview_all(self, request: HttpRequest, queryset: QuerySet[Integration]) -> None:
        self._each(request, queryset, self.preview, "Preview")

    @admin.action(description="Switch on", permissions=["operate"])
    def enable_all(self, request: HttpRequest, queryset: QuerySet[Integration]) -> None:
        self._each(request, queryset, self.enable, "Switched on")

    @admin.action(description="Switch off", permissions=["operate"])
    def disable_all(self, request: HttpRequest, queryset: QuerySet[Integration]) -> None:
        self._each(request, queryset, self.disable, "Switched off")


def _number(integration: Integration, count: int, pending: str) -> SafeString:
    if not count:
        return format_html('<span class="sl-quiet">{}</span>', 0)
    url = reverse("admin:connectors_recordlink_changelist")
    return format_html(
        '<a class="sl-link" href="{}?pending={}&amp;integration={}">{}</a>', url, pending, integration.pk, many(count)
    )
