"""Who asked for services, who decided, and when?  The list of all requests; deciding is done on the integration's page, too."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin

from connectors.admin.base import ReadOnly, ago, badge
from scheduling.models import Provisioning

Provisioning._meta.verbose_name, Provisioning._meta.verbose_name_plural = (
    "provisioning request",
    "provisioning requests",
)
TONES = {"requested": "warn", "approved": "good", "declined": "bad"}
MAY_DECIDE = "scheduling.decide_provisioning"


def status_badge(row: Provisioning) -> SafeString:
    """Return the state of a request in its colour."""
    return badge(row.get_status_display(), row.reason, TONES[row.status])


@admin.register(Provisioning)
class ProvisioningAdmin(ReadOnly, ModelAdmin):
    """The trail of all requests, newest first."""

    list_display = ["about", "state", "asked_by", "asked", "decided_by", "decided", "reason", "told"]
    list_display_links = None
    list_select_related = ["integration"]
    list_filter = ["status", "integration"]

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        """People who decide get a button in each row that waits."""
        if not request.user.has_perm(MAY_DECIDE):
            return [*self.list_display]

        @admin.display(description="")
        def decide(row: Provisioning) -> SafeString | str:
            if row.status != Provisioning.Status.REQUESTED:
                return ""
            page = reverse("admin:scheduling_integration", args=[row.integration_id])
            return format_html('<a class="sl-button main" href="{}#provisioning">Decide</a>', page)

        return [*self.list_display, decide]

    @admin.display(description="Integration", ordering="integration__name")
    def about(self, row: Provisioning) -> SafeString:
        page = reverse("admin:scheduling_integration", args=[row.integration_id])
        return format_html('<a class="sl-link" href="{}">{}</a>', page, row.integration)

    @admin.display(description="State", ordering="status")
    def state(self, row: Provisioning) -> SafeString:
        return status_badge(row)

    @admin.display(description="Asked for by", ordering="requested_name")
    def asked_by(self, row: Provisioning) -> str:
        return row.requested_name or "somebody"

    @admin.display(description="Decided by", ordering="decided_name")
    def decided_by(self, row: Provisioning) -> str:
        return row.decided_name or "–"

    @admin.display(description="Asked", ordering="requested_at")
    def asked(self, row: Provisioning) -> SafeString:
        return ago(row.requested_at)

    @admin.display(description="Decided", ordering="decided_at")
    def decided(self, row: Provisioning) -> SafeString | str:
        return ago(row.decided_at) if row.decided_at else "–"

    @admin.display(description="Told by e-mail")
    def told(self, row: Provisioning) -> SafeString | str:
        return ago(row.told_at) if row.told_at else "–"

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """A request has no page of its own: the integration's has all of it."""
        row = self.get_object(request, object_id)
        if row is None:
            return redirect("admin:scheduling_provisioning_changelist")
        return redirect("admin:scheduling_integration", row.integration_id)
