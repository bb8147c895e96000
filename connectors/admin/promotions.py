"""Which records were promoted, by whom, and what became of them?"""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib import admin, messages
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin

from connectors.admin.base import Button, Exact, Pressable, ReadOnly, ago, badge, link_to
from connectors.admin.choosing import choose_view, told
from connectors.admin.links import MOST_AT_ONCE, EntitySyncFilter
from connectors.admin.show import name_of
from connectors.management.promoting import MOST_NOW, ask_again, waiting_notices
from connectors.models import Integration, Promotion
from connectors.sync import decisions, promotions
from connectors.sync.choosing import on_request
from connectors.sync.promotions import ALREADY, NotPromotable
from jobs.syncing import NotNow

Status = Promotion.Status
ENDED = (Status.ERROR, Status.WITHDRAWN)  # of these a person may ask again


@admin.register(Promotion)
class PromotionAdmin(Exact, ReadOnly, Pressable, ModelAdmin):
    """Requests for records that flow only on request, and what became of them."""

    list_display = ["record", "entity_sync", "source", "status_badge", "why", "by", "asked"]
    list_display_links = ["record"]
    list_filter = ["status", "source", "waits", EntitySyncFilter, "entity_sync__integration"]
    list_select_related = ["entity_sync", "by", "link"]
    list_before_template = "syncline/promotions.html"
    search_fields = ["external_id"]
    sortable_by: ClassVar[Any] = ()  # newest first; by the others no index sorts
    search_help_text = "Exact id of the record"
    fields = ["linked", "external_id", "entity_sync", "side", "source", "status_badge", "why", "by", "at"]
    readonly_fields = ["linked", "status_badge", "why"]
    actions = ["requeue_all", "promote_now_all", "withdraw_all"]
    may = "connectors.change_promotion"
    buttons = [
        Button(
            "requeue", "Re-queue", main=True, permission=may, shown=lambda p: p.status in ENDED,
            help="Asks again, at once. This request stays as it is.",
        ),
        Button(
            "promote_now", "Promote now", main=True, permission=may, shown=lambda p: p.status == Status.QUEUED and p.waits,
            help="Does not wait for the bulk service.",
        ),
        Button(
            "withdraw", "Take back", permission=may, shown=lambda p: p.status == Status.QUEUED,
            help="The record stays where it is, until somebody asks again.",
        ),
    ]  # fmt: skip

    # Columns

    @admin.display(description="Record", ordering="external_id")
    def record(self, promotion: Promotion) -> SafeString:
        link = promotion.link
        name = name_of(link.base, link.left_staged, link.right_staged) if link else ""
        short = promotion.external_id if len(promotion.external_id) <= 14 else f"{promotion.external_id[:8]}…"
        return format_html(
            '<b>{}</b> <span class="sl-mono sl-quiet" title="{}">{}</span>', name, promotion.external_id, short
        )

    @admin.display(description="State", ordering="status")
    def status_badge(self, promotion: Promotion) -> SafeString:
        waits = promotion.status == Status.QUEUED and promotion.waits
        why = "Waits for the bulk service." if waits else promotion.reason
        tones = {Status.QUEUED: "busy", Status.SUCCESS: "good"}
        return badge(promotion.get_status_display(), why, tones.get(Status(promotion.status), ""))

    @admin.display(description="Reason")
    def why(self, promotion: Promotion) -> SafeString:
        waits = promotion.status == Status.QUEUED and promotion.waits
        text = "Waits for the bulk service." if waits else promotion.reason or "–"
        return format_html('<span class="sl-wrap">{}</span>', text)

    @admin.display(description="Asked", ordering="at")
    def asked(self, promotion: Promotion) -> SafeString:
        return ago(promotion.at)

    @admin.display(description="Record")
    def linked(self, promotion: Promotion) -> SafeString | str:
        return link_to(promotion.link)

    # Pages

    def get_urls(self) -> list[URLPattern]:
        """Choosing records has a page of its own for each integration."""
        view = self.admin_site.admin_view(self.choose)
        return [path("choose/<int:integration_id>/", view, name="connectors_promotion_choose"), *super().get_urls()]

    def choose(self, request: HttpRequest, integration_id: int) -> HttpResponse:
        """Choose records to promote."""
        return choose_view(self, request, integration_id)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Say what waits for a service that is off, and where records are chosen."""
        integrations = list(Integration.objects.order_by("name").prefetch_related("entity_syncs", "services"))
        promoting = [integration for integration in integrations if on_request(integration)]
        extra = {"notices": waiting_notices(promoting), "promoting": promoting, **(extra_context or {})}
        return super().changelist_view(request, extra)

    def has_decide_permission(self, request: HttpRequest) -> bool:
        """Asking again and taking back need the right to change promotions, although nobody edits their columns."""
        return bool(request.user.has_perm(self.may))

    # Buttons of one promotion

    def requeue(self, request: HttpRequest, promotion: Promotion) -> SafeString:
        return self._again(request, promotion)

    def promote_now(self, request: HttpRequest, promotion: Promotion) -> SafeString:
        return self._again(request, promotion)

    def _again(self, request: HttpRequest, promotion: Promotion) -> SafeString:
        try:
            asked, jobs = ask_again([promotion.pk], by=request.user, at_once=True)
        except NotPromotable as refusal:
            raise decisions.Undecidable(str(refusal)) from refusal
        if not asked.queued:
            why = asked.refused.get(promotion.external_id) or ALREADY
            raise decisions.Undecidable(f"{promotion.external_id}: {why}")
        return told(asked, jobs)

    def withdraw(self, request: HttpRequest, promotion: Promotion) -> str:
        if not promotions.withdraw([promotion.pk], by=str(request.user)):
            raise decisions.Undecidable(
                f"{promotion.external_id}: it is too late, the request is answered or under way."
            )
        return "Taken back: the record waits until somebody asks for it again."

    # Bulk actions

    @admin.action(description="Re-queue for the bulk service", permissions=["decide"])
    def requeue_all(self, request: HttpRequest, queryset: QuerySet[Promotion]) -> None:
        self._ask_all(request, queryset.filter(status__in=ENDED), at_once=False, most=MOST_AT_ONCE)

    @admin.action(description="Promote now", permissions=["decide"])
    def promote_now_all(self, request: HttpRequest, queryset: QuerySet[Promotion]) -> None:
        waiting = Q(status=Status.QUEUED, waits=True)
        self._ask_all(request, queryset.filter(Q(status__in=ENDED) | waiting), at_once=True, most=MOST_NOW)

    def _ask_all(self, request: HttpRequest, rows: QuerySet[Promotion], *, at_once: bool, most: int) -> None:
        chosen = list(rows[: most + 1])
        if len(chosen) > most:
            self.message_user(request, f"Choose at most {most} records at once.", messages.ERROR)
            return
        try:
            asked, jobs = ask_again([promotion.pk for promotion in chosen], by=request.user, at_once=at_once)
        except (NotPromotable, NotNow) as refusal:
            self.message_user(request, str(refusal), messages.ERROR)
            return
        for promotion in chosen:
            self.log_change(request, promotion, "Promoted now." if at_once else "Re-queued.")
        self.message_user(request, told(asked, jobs), messages.SUCCESS if asked.queued else messages.WARNING)
        for record_id, why in list(asked.refused.items())[:5]:
            self.message_user(request, f"{record_id}: {why}", messages.WARNING)

    @admin.action(description="Take back", permissions=["decide"])
    def withdraw_all(self, request: HttpRequest, queryset: QuerySet[Promotion]) -> None:
        chosen = list(queryset.filter(status=Status.QUEUED)[:MOST_AT_ONCE])
        count = promotions.withdraw([promotion.pk for promotion in chosen], by=str(request.user))
        taken = set(
            Promotion.objects.filter(
                pk__in=[promotion.pk for promotion in chosen], status=Status.WITHDRAWN
            ).values_list("pk", flat=True)
        )  # fmt: skip
        for promotion in chosen:
            if promotion.pk in taken:
                self.log_change(request, promotion, "Taken back.")
        self.message_user(request, f"{count} taken back.", messages.SUCCESS if count else messages.WARNING)
