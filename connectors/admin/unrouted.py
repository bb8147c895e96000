"""Which records of a system that several companies share are nobody's?  A page of each connection."""

from __future__ import annotations

from collections.abc import Sequence

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from connectors.models import Connection, RecordLink, Run
from connectors.sync.explain import short_title
from connectors.sync.routing import Unrouted, unrouted

MOST = 200  # records of the page
MAY = "connectors.view_integration"
PAGE = "admin:connectors_connection_unrouted"


class UnroutedPage(admin.ModelAdmin):
    """One address more of a connection."""

    def get_urls(self) -> list[URLPattern]:
        """Before the catch-all of Django's own."""
        view = self.admin_site.admin_view(self.unrouted)
        return [path("<int:pk>/unrouted/", view, name="connectors_connection_unrouted"), *super().get_urls()]

    @admin.display(description="Of no company")
    def unrouted_link(self, connection: Connection) -> SafeString:
        return format_html(
            '<a class="sl-link" href="{}">Records of no company</a>', reverse(PAGE, args=[connection.pk])
        )

    def unrouted(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Show them, each with what its column holds and since when that is known."""
        if not request.user.has_perm(MAY):
            raise PermissionDenied
        connection = get_object_or_404(Connection, pk=pk)
        found, more = unrouted(connection, MOST)
        context = {
            **self.admin_site.each_context(request), "title": f"Records of {connection} that are of no company",
            "opts": self.opts, "original": connection, "rows": _rows(found, request.user.has_perm("connectors.view_recordlink")),
            "more": more, "most": MOST,
        }  # fmt: skip
        request.current_app = self.admin_site.name
        return TemplateResponse(request, "syncline/unrouted.html", context)


def _rows(records: Sequence[Unrouted], may_open: bool) -> list[dict[str, object]]:
    links = RecordLink.objects.select_related("integration").in_bulk([record.link for record in records])
    runs = Run.objects.filter(pk__in={link.touched_run for link in links.values()})
    met = dict(runs.values_list("pk", "started_at"))
    return [
        {
            "record": record,
            # Who may not see records sees no name of one.
            "title": short_title(link) if may_open else f"{record.entity} {record.id}",
            "url": reverse("admin:connectors_recordlink_change", args=[link.pk]) if may_open else "",
            "since": met.get(link.touched_run or 0),
        }
        for record in records
        if (link := links.get(record.link)) is not None
    ]
