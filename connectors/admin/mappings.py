"""Which fields and options agree, by which rules?  The list of entity syncs, and the pages of the mappings editor."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import Count, Max
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from unfold.admin import ModelAdmin

from connectors.admin import mapping_editor, mapping_import, mapping_options
from connectors.admin.base import ago, badge, is_id
from connectors.admin.show import ARROWS
from connectors.models import EntitySync, FieldMapping, ProblemGroup, SchemaDrift
from connectors.sync import optioning
from connectors.sync.problems import NO_OPTION, counted

MOST_SYNCS = 1000


@admin.register(FieldMapping)
class FieldMappingAdmin(ModelAdmin):
    """Which left field agrees with which right field: one editor for each entity sync."""

    actions: list[str] = []

    def get_urls(self) -> list[URLPattern]:
        """The editor's addresses come before the catch-all of Django's own."""

        def own(route: str, view: Any, name: str) -> URLPattern:
            return path(route, self.admin_site.admin_view(view), name=f"connectors_mapping_{name}")

        return [
            own("of/<int:sync_id>/", mapping_editor.editor_view, "editor"),
            own("of/<int:sync_id>/try/", mapping_editor.try_view, "try"),
            own("of/<int:sync_id>/records/", mapping_editor.records_view, "records"),
            own("of/<int:sync_id>/schema/", mapping_editor.schema_view, "schema"),
            own("of/<int:sync_id>/options/", mapping_options.options_view, "options"),
            own("of/<int:sync_id>/import/", mapping_import.import_view, "import"),
            own("of/<int:sync_id>/<slug:what>.csv", mapping_import.export_view, "export"),
            own("drift/<int:drift_id>/seen/", mapping_editor.seen_view, "drift_seen"),
            *super().get_urls(),
        ]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Show the entity syncs by integration, with what is open at their mappings."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        context = {
            **self.admin_site.each_context(request),
            "title": "Mappings",
            "opts": self.opts,
            "groups": listed(),
            **(extra_context or {}),
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(request, "syncline/mapping_list.html", context)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """One mapping is shown among those of its entity sync."""
        found = FieldMapping.objects.filter(pk=object_id).first() if is_id(object_id) else None
        if found is None:
            raise Http404(f"There is no mapping {object_id}.")
        return mapping_editor.editor_view(request, found.entity_sync_id)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """A new mapping is made in the editor of its entity sync."""
        return False


def listed() -> list[dict[str, Any]]:
    """Return integrations with their entity syncs and counts: a constant number of queries."""
    syncs = EntitySync.objects.select_related("integration").annotate(mapped=Count("mappings"))
    rows = list(syncs.order_by("integration__name", "integration", "position", "id")[:MOST_SYNCS])
    open_drifts = dict(
        SchemaDrift.objects.filter(resolved_at=None).values_list("entity_sync").annotate(n=Count("id")).order_by()
    )
    last = dict(SchemaDrift.objects.values_list("entity_sync").annotate(at=Max("first_seen")).order_by())
    free = optioning.unmapped_counts(rows)
    waiting: dict[int, int] = {}
    stuck = counted(ProblemGroup.objects.filter(code=NO_OPTION, resolved_at=None, entity_sync__in=rows))
    for one in stuck:
        place = one.entity_sync_id or 0
        waiting[place] = waiting.get(place, 0) + int(getattr(one, "records", 0))
    groups: dict[int, dict[str, Any]] = {}
    for sync in rows:
        group = groups.setdefault(sync.integration_id, {"integration": sync.integration, "rows": []})
        drifted = open_drifts.get(sync.pk, 0)
        group["rows"].append(
            {
                "sync": sync, "arrow": ARROWS.get(sync.direction, "↔"), "mapped": getattr(sync, "mapped", 0),
                "unmapped": free.get(sync.pk), "waiting": waiting.get(sync.pk, 0),
                "drift": badge(f"{drifted} changed", "The schema is no longer as these mappings need it.", "bad") if drifted else "",
                "last": ago(last[sync.pk]) if sync.pk in last else "",
            }
        )  # fmt: skip
    return list(groups.values())
