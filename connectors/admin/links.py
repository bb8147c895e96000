"""Which records are linked, which are not in agreement and why, and what may a person decide?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin

from config import audit
from connectors.admin.base import Button, Page, ReadOnly, badge
from connectors.admin.runs import requested
from connectors.admin.show import Shower, change_values, name_of
from connectors.models import EntitySync, Event, RecordChange, RecordLink
from connectors.sync import decisions, joining
from connectors.sync.explain import REASONS, explain, reason_word
from connectors.sync.plan import Pending
from connectors.sync.rules import field_title
from connectors.sync.values import decode
from jobs import clock
from jobs.syncing import request_sync

MOST_AT_ONCE = 1000  # links of one bulk action: each is a transaction of its own
HANDS = "hands"


class EntitySyncFilter(admin.SimpleListFilter):
    """By kind of record, named with its integration."""

    title = "entity sync"
    parameter_name = "entity_sync"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        rows = EntitySync.objects.select_related("integration").order_by("integration__name", "position", "id")
        several = len({row.integration_id for row in rows}) > 1
        return [(str(row.pk), f"{row.integration}: {row.name}" if several else row.name) for row in rows]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(entity_sync=self.value()) if (self.value() or "").isdigit() else queryset


class StateFilter(admin.SimpleListFilter):
    """By why it is not in agreement: the partial index on `pending` answers it."""

    title = "state"
    parameter_name = "pending"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        named = [(str(value), str(label)) for value, label in RecordLink.Pending.choices]
        return [(HANDS, "Needs a person"), *named, ("none", "In agreement")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value = self.value() or ""
        if value == HANDS:
            waits = Q(pending=Pending.WAITING, reason="waits for approval")
            return queryset.filter(Q(pending__in=decisions.BY_HAND) | waits)
        if value == "none":
            return queryset.filter(pending__isnull=True, ended=0)
        return queryset.filter(pending=int(value)) if value.isdigit() else queryset


class ReasonFilter(admin.SimpleListFilter):
    """By the one reason; only within the links that are not in agreement, which an index finds."""

    title = "reason"
    parameter_name = "reason"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(reason, reason.capitalize()) for reason in REASONS if reason]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(pending__isnull=False, reason=self.value()) if self.value() else queryset


def state_of(link: RecordLink) -> SafeString:
    """Return the state's badge with the reason's sentence on hover."""
    if link.ended:
        return badge("Over", "One of the records was deleted.")
    if link.pending is None:
        return badge("In agreement")
    word = "Held" if link.state == RecordLink.State.HELD else link.get_pending_display()
    return badge(word, REASONS.get(link.reason, link.reason))


def _can(choice: str) -> Callable[[RecordLink], bool]:
    return lambda link: choice in decisions.choices(link)


@admin.register(RecordLink)
class RecordLinkAdmin(ReadOnly, Page, ModelAdmin):
    """One line for each record that a run has met."""

    page_template = "syncline/link.html"
    list_display = ["record", "entity_sync", "left", "right", "state_badge", "why", "revision"]
    list_filter = [StateFilter, EntitySyncFilter, ReasonFilter]
    list_select_related = ["entity_sync"]
    search_fields = ["key"]  # get_search_results asks the indexes
    search_help_text = "Exact id on either side, or the link's key"
    actions = [
        "retry_all", "left_wins", "right_wins", "approve_all", "not_same_all", "hold_all", "release_all", "accept_all", "unlink_all",
    ]  # fmt: skip
    may = "connectors.change_recordlink"
    buttons = [
        Button("retry", "Retry", main=True, permission=may, shown=_can("retry"), help="Planned again by the next sync."),
        Button("resolve_left", "Left wins", permission=may, shown=_can("resolve_left")),
        Button("resolve_right", "Right wins", permission=may, shown=_can("resolve_right")),
        Button(
            "approve", "Approve", main=True, permission=may, shown=_can("approve"),
            confirm="The next sync carries out what waits here: a delete (or inactive), or what the reconciliation found. Go on?",
        ),
        Button("promote", "Promote", main=True, permission=may, shown=_can("promote")),
        # These two stand beside each candidate, which the form names.
        Button("join", "The same", permission=may, shown=lambda link: False),
        Button("not_this", "Not the same", permission=may, shown=lambda link: False),
        Button(
            "not_same", "None of these", permission=may, shown=_can("not_same"),
            help="Never asked about again; the next sync makes its partner.",
        ),
        Button("hold", "Hold", permission=may, shown=_can("hold"), help="Nothing is written until it is released."),
        Button("release", "Release", main=True, permission=may, shown=_can("release"), help="Planned again by the next sync."),
        Button(
            "accept", "Accept as it is", permission=may, shown=_can("accept"),
            help="Both sides keep what they hold; later edits flow again.",
        ),
        Button(
            "unlink", "Unlink", permission=may, shown=_can("unlink"),
            confirm="Both records stay, and nothing flows between them any more. Go on?",
        ),
        Button("relink", "Link again", main=True, permission=may, shown=_can("relink")),
    ]  # fmt: skip

    @admin.display(description="Record")
    def record(self, link: RecordLink) -> SafeString:
        name = name_of(link.base, link.left_staged, link.right_staged)
        return format_html("<b>{}</b>", name or f"record {link.pk}")

    @admin.display(description="Left")
    def left(self, link: RecordLink) -> SafeString:
        return _side(link.left_entity, link.left_id)

    @admin.display(description="Right")
    def right(self, link: RecordLink) -> SafeString:
        return _side(link.right_entity, link.right_id)

    @admin.display(description="State")
    def state_badge(self, link: RecordLink) -> SafeString:
        return state_of(link)

    @admin.display(description="Reason")
    def why(self, link: RecordLink) -> SafeString | str:
        if not link.reason:
            return format_html('<span class="sl-quiet">{}</span>', "–")
        told = decode(link.args)
        word = reason_word(link)
        why = "" if word == told.get("why") else told.get("why")
        more = str(told.get("message") or why or field_title(str(told.get("field") or "")))[:90]
        return format_html('{} <span class="sl-quiet">{}</span>', word, more)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Exact id or key alone; the query repeats the columns of the unique indexes, so that they are used."""
        term = search_term.strip()
        if not term:
            return queryset, False
        places = Q()
        for sync in EntitySync.objects.values("integration", "family", "left_entity", "right_entity"):
            where = Q(integration=sync["integration"], family=sync["family"])
            places |= where & Q(left_entity=sync["left_entity"], left_id=term)
            places |= where & Q(right_entity=sync["right_entity"], right_id=term)
        ids = set(RecordLink.objects.filter(key=term).values_list("pk", flat=True))
        if places:
            ids |= set(RecordLink.objects.filter(places).values_list("pk", flat=True)[:500])
        return queryset.filter(pk__in=ids), False

    def page(self, request: HttpRequest, obj: RecordLink) -> dict[str, Any]:
        """The explanation as a table."""
        found = explain(obj)
        changes = list(RecordChange.objects.filter(link=obj).select_related("run", "decided_by").order_by("-id")[:50])
        values = [{str(f["field"]) + side: f[side] for f in found.fields for side in ("left", "base", "right")}]
        shower = Shower.of([obj.entity_sync_id], [*values, *change_values(changes)])  # type: ignore[list-item]
        lines = [
            {
                "field": shower.field_name(str(line["field"])),
                "rule": line["rule"],
                "same": line["agreed"],
                **{side: shower.value(str(line["field"]), line[side]) for side in ("left", "base", "right")},
            }
            for line in sorted(found.fields, key=lambda line: shower.place(str(line["field"])))
        ]
        return {
            "title": name_of(obj.base, obj.left_staged, obj.right_staged) or f"Record {obj.pk}",
            "sentence": found.sentence,
            "name": name_of(obj.base, obj.left_staged, obj.right_staged),
            "state": state_of(obj),
            "lines": lines,
            "apart": sum(1 for line in lines if not line["same"]),
            "changes": [{"change": c, "fields": shower.differences(c)} for c in changes],
            "events": Event.objects.filter(link=obj).order_by("-at")[:20],
            "waits_on": RecordLink.objects.filter(key=obj.waits_on).first() if obj.waits_on else None,
            "integration": obj.entity_sync.integration,
            "candidates": self._candidates(request, obj),
        }

    def _candidates(self, request: HttpRequest, link: RecordLink) -> list[dict[str, Any]]:
        """The records that may be this one's partner, each with its buttons."""
        told = decode(link.args).get("candidates")
        likeness = (
            {c.get("link"): c.get("similarity") for c in told if isinstance(c, dict)} if isinstance(told, list) else {}
        )
        name = f"admin:{self.opts.app_label}_{self.opts.model_name}_do"
        buttons = [b for b in self.buttons if b.name in ("join", "not_this") and self.may_press(request, b)]
        return [
            {
                "link": one,
                "name": name_of(one.base, one.left_staged, one.right_staged),
                "likeness": likeness.get(one.pk),
                "buttons": [{"button": b, "url": reverse(name, args=[link.pk, b.name])} for b in buttons],
            }
            for one in joining.candidates(link)
        ]

    # Buttons of one link

    def retry(self, request: HttpRequest, link: RecordLink) -> str:
        decisions.retry(link, now=clock.now(), by=str(request.user))
        return "The next sync tries it again."

    def resolve_left(self, request: HttpRequest, link: RecordLink) -> str:
        return _resolved(request, link, "left")

    def resolve_right(self, request: HttpRequest, link: RecordLink) -> str:
        return _resolved(request, link, "right")

    def approve(self, request: HttpRequest, link: RecordLink) -> str:
        side = decisions.approve(link, now=clock.now(), by=str(request.user))
        if side is None:
            return "The next sync writes what the reconciliation found."
        return f"The next sync deletes the record on the {side} or makes it inactive, as its system allows."

    def promote(self, request: HttpRequest, link: RecordLink) -> str:
        decisions.promote(link, now=clock.now(), by=str(request.user))
        return requested(request_sync(link.integration, by=request.user), "Promoted; a sync makes its partner now")

    def hold(self, request: HttpRequest, link: RecordLink) -> str:
        decisions.hold(link, now=clock.now(), by=str(request.user))
        return "Held: nothing is written until it is released."

    def release(self, request: HttpRequest, link: RecordLink) -> str:
        decisions.release(link, now=clock.now(), by=str(request.user))
        return "Released: the next sync plans it again."

    def accept(self, request: HttpRequest, link: RecordLink) -> str:
        decisions.accept(link, now=clock.now(), by=str(request.user))
        return "Accepted: both sides keep what they hold."

    def join(self, request: HttpRequest, link: RecordLink) -> str:
        joining.join(link, _other(request), now=clock.now(), by=str(request.user))
        return "One record from now on: the next sync merges them."

    def not_this(self, request: HttpRequest, link: RecordLink) -> str:
        joining.not_same(link, _other(request), now=clock.now(), by=str(request.user))
        return "Not the same: that is not asked again."

    def not_same(self, request: HttpRequest, link: RecordLink) -> str:
        joining.not_same(link, now=clock.now(), by=str(request.user))
        return "Not the same as any of them: the next sync makes its partner."

    def unlink(self, request: HttpRequest, link: RecordLink) -> str:
        joining.unlink(link, now=clock.now(), by=str(request.user))
        return "Unlinked: both records stay, and nothing flows between them."

    def relink(self, request: HttpRequest, link: RecordLink) -> str:
        joining.relink(link, now=clock.now(), by=str(request.user))
        return "Linked again: the next sync merges what has changed since."

    # Bulk actions

    def has_decide_permission(self, request: HttpRequest) -> bool:
        """Deciding needs the right to change links, although nobody edits their columns."""
        return bool(request.user.has_perm(self.may))

    def _all(self, request: HttpRequest, queryset: QuerySet[RecordLink], done: str, press: Any) -> None:
        links = list(queryset.select_related("entity_sync")[: MOST_AT_ONCE + 1])
        if len(links) > MOST_AT_ONCE:
            self.message_user(request, f"Choose at most {MOST_AT_ONCE} links at once.", messages.ERROR)
            return
        now, by = clock.now(), str(request.user)
        before = {link.pk: audit.values_of(link) for link in links}
        decided, refused = decisions.many(links, lambda link: press(link, now=now, by=by))
        if decided:
            self.message_user(request, f"{len(decided)} {done}. The next sync carries it out.", messages.SUCCESS)
            for link in decided:
                audit.log_action(request.user, link, f"{done.capitalize()}.", before[link.pk], audit.stored(link))
        for sentence in refused[:5]:
            self.message_user(request, sentence, messages.WARNING)
        if len(refused) > 5:
            self.message_user(request, f"… and {len(refused) - 5} more were refused.", messages.WARNING)

    @admin.action(description="Retry parked links", permissions=["decide"])
    def retry_all(self, request: HttpRequest, queryset: QuerySet[RecordLink]) -> None:
        self._all(request, queryset, "to be tried again", decisions.retry)

    @admin.action(description="Resolve conflict: left wins", permissions=["decide"])
    def left_wins(self, request: HttpRequest, queryset: QuerySet[RecordLink]) -> None:
        self._all(request, queryset, "resolved", lambda link, **how: decisions.resolve(link, "left", **how))

    @admin.action(description="Resolve conflict: right wins", permissions=["decide"])
    def right_wins(self, request: HttpRequest, queryset: QuerySet[RecordLink]) -> None:
        self._all(request, queryset, "resolved", lambda link, **how: decisions.resolve(link, "right", **how))

    @admin.action(description="Approve deletes", permissions=["decide"])
    def approve_all(self, request: HttpRequest, queryset: QuerySet[RecordLink]) -> None:
        self._all(request, queryset, "approved", decisions.approve)

    @admin.action(description="Not the same as any other", permissions=["decide"])
    def not_same_all(self, request: HttpRequest, queryset: QuerySet[RecordLink]) -> None:
        self._all(request, queryset, "told apart", lambda link, **how: joining.not_same(link, **how))

    @admin.action(description="Unlink", permissions=["decide"])
    def unlink_all(self, request: HttpRequest, queryset: QuerySet[RecordLink]) -> None:
        self._all(request, queryset, "unlinked", joining.unlink)

    @admin.action(description="Hold", permissions=["decide"])
    def hold_all(self, request: HttpRequest, queryset: QuerySet[RecordLink]) -> None:
        self._all(request, queryset, "held", decisions.hold)

    @admin.action(description="Release", permissions=["decide"])
    def release_all(self, request: HttpRequest, queryset: QuerySet[RecordLink]) -> None:
        self._all(request, queryset, "released", decisions.release)

    @admin.action(description="Accept what was undone as it is", permissions=["decide"])
    def accept_all(self, request: HttpRequest, queryset: QuerySet[RecordLink]) -> None:
        self._all(request, queryset, "accepted", decisions.accept)


def _other(request: HttpRequest) -> RecordLink:
    """The candidate that a button beside it names."""
    asked = request.POST.get("other", "")
    found = RecordLink.objects.select_related("entity_sync").filter(pk=int(asked)).first() if asked.isdigit() else None
    if found is None:
        raise decisions.Undecidable("That record is not there any more. Look at the page again.")
    return found


def _resolved(request: HttpRequest, link: RecordLink, winner: str) -> str:
    again = bool(decode(link.args).get("why"))
    decisions.resolve(link, winner, now=clock.now(), by=str(request.user))
    other = "right" if winner == "left" else "left"
    if again:
        return f"The next sync makes the record again on the {other}."
    return f"The next sync writes the {winner} values to the {other}."


def _side(entity: str, record_id: str | None) -> SafeString:
    if not record_id:
        return format_html('<span class="sl-quiet">{}</span>', "not there")
    short = record_id if len(record_id) <= 14 else f"{record_id[:8]}…"
    return format_html('{} <span class="sl-mono" title="{}">{}</span>', entity, record_id, short)
