"""Which fields and options agree, by which rules?  Every change here raises the settings' revision."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Count, QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin, TabularInline

from connectors.admin.base import CappedPaginator, link_to
from connectors.admin.show import ARROWS, arrow_of
from connectors.models import EntitySync, FieldMapping, PicklistMapping
from connectors.sync.run import mark_settings_changed


class MappingInline(TabularInline):
    """The mappings of one entity sync."""

    model = FieldMapping
    fields = ["left", "right", "direction", "policy", "when", "required", "unmapped", "default"]
    ordering = ["position", "id"]
    extra = 0
    show_change_link = True
    tab = True
    verbose_name_plural = "Field mappings"


@admin.register(EntitySync)
class EntitySyncAdmin(ModelAdmin):
    """One left entity kept in agreement with one right entity."""

    list_display = ["name", "integration", "pair", "policy", "on_delete", "enabled", "mapped"]
    list_filter = ["integration", "enabled"]
    list_select_related = ["integration"]
    ordering = ["integration", "position", "id"]
    actions: list[str] = []
    inlines = [MappingInline]
    readonly_fields = ["integration_shown", "name", "family", "pair"]
    fieldsets = [
        (None, {"fields": [("integration_shown", "name"), ("pair", "family"), "enabled"]}),
        ("Rules", {"fields": ["direction", "policy", "on_delete", "edit_v_delete"]}),
        (
            "Limits",
            {
                "fields": ["prevents", "filters", "window", "match", "push"],
                "classes": ["collapse"],
                "description": "Prevents: a list of left.create … right.delete. Filters: a list of side, field, op, value. "
                'Match: alternatives, each a list of mappings. Push: {"left": "on_request"}.',
            },
        ),
    ]

    @admin.display(description="Integration")
    def integration_shown(self, sync: EntitySync) -> SafeString | str:
        return link_to(sync.integration)

    @admin.display(description="Kept in agreement")
    def pair(self, sync: EntitySync) -> SafeString:
        arrow = ARROWS.get(sync.direction, "↔")
        return format_html(
            '{} <b title="{}">{}</b> {}', sync.left_entity, sync.get_direction_display(), arrow, sync.right_entity
        )

    @admin.display(description="Mappings")
    def mapped(self, sync: EntitySync) -> int:
        return int(getattr(sync, "mapping_count", 0))

    def get_queryset(self, request: HttpRequest) -> QuerySet[EntitySync]:
        return super().get_queryset(request).annotate(mapping_count=Count("mappings"))

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Entity syncs come from a preset."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Its links would go with it: switch it off instead."""
        return False

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        if form.changed_data or any(formset.has_changed() for formset in formsets):
            mark_settings_changed(form.instance.integration, form.instance)


class OptionInline(TabularInline):
    """The options of one mapping, by label."""

    model = PicklistMapping
    fields = ["left_label", "right_label", "left_key", "right_key", "token", "writes_left", "writes_right"]
    extra = 0
    ordering = ["left_label", "id"]
    verbose_name_plural = "Options that agree"


@admin.register(FieldMapping)
class FieldMappingAdmin(ModelAdmin):
    """Which left field agrees with which right field."""

    list_display = ["shown", "entity_sync", "integration", "transform", "when", "required", "options_count"]
    list_display_links = ["shown"]
    list_filter = ["entity_sync"]
    list_select_related = ["entity_sync__integration"]
    ordering = ["entity_sync", "position", "id"]
    actions: list[str] = []
    inlines = [OptionInline]
    paginator = CappedPaginator
    readonly_fields = ["sync_shown"]
    fieldsets = [
        (None, {"fields": ["sync_shown", ("left", "right"), ("direction", "policy"), ("when", "required")]}),
        ("Options without partner", {"fields": [("unmapped", "default")]}),
        ("Transform", {"fields": ["transform", "args", "constant", "guard"], "classes": ["collapse"]}),
    ]

    @admin.display(description="Fields")
    def shown(self, mapping: FieldMapping) -> SafeString:
        return format_html(
            "{} <b>{}</b> {}",
            mapping.left or "constant",
            arrow_of(mapping),
            mapping.right or "constant",
        )

    @admin.display(description="Integration")
    def integration(self, mapping: FieldMapping) -> SafeString | str:
        return link_to(mapping.entity_sync.integration)

    @admin.display(description="Entity sync")
    def sync_shown(self, mapping: FieldMapping) -> SafeString | str:
        return link_to(mapping.entity_sync)

    @admin.display(description="Options")
    def options_count(self, mapping: FieldMapping) -> int:
        return int(getattr(mapping, "option_count", 0))

    def get_queryset(self, request: HttpRequest) -> QuerySet[FieldMapping]:
        return super().get_queryset(request).annotate(option_count=Count("options"))

    def has_add_permission(self, request: HttpRequest) -> bool:
        """A new mapping is made on its entity sync's page."""
        return False

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        if form.changed_data or any(formset.has_changed() for formset in formsets):
            sync = form.instance.entity_sync
            mark_settings_changed(sync.integration, sync)

    def delete_model(self, request: HttpRequest, obj: FieldMapping) -> None:
        """A mapping that goes is a change of settings, too."""
        sync = obj.entity_sync
        super().delete_model(request, obj)
        mark_settings_changed(sync.integration, sync)
