"""Which records are linked, which are not in agreement and why, and what may a person decide?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from unfold.admin import ModelAdmin

from config import audit
from connectors.admin import record_page
from connectors.admin.base import Button, Page, ReadOnly, badge, is_id, link_to
from connectors.admin.runs import requested
from connectors.admin.show import name_of
from connectors.models import EntitySync, RecordLink
from connectors.sync import decisions, joining, support
from connectors.sync.conflicts import kind_of
from connectors.sync.explain import REASONS, reason_word
from connectors.sync.finding import held_by
from connectors.sync.matching import ELSEWHERE
from connectors.sync.plan import Pending
from connectors.sync.retrying import HELP, LABELS, How
from connectors.sync.rules import field_title
from connectors.sync.undo import last_write
from connectors.sync.values import decode
from jobs import clock, records
from jobs.syncing import request_sync

MOST_AT_ONCE = 1000  # links of one bulk action: each is a transaction of its own
HANDS = "hands"
MAY = "connectors.change_recordlink"
MAY_ERASE = "connectors.delete_recordlink"  # for administrators alone


class EntitySyncFilter(admin.SimpleListFilter):
    """By kind of record, named with its integration."""

    title = "entity sync"
    parameter_name = "entity_sync"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        rows = EntitySync.objects.select_related("integration").order_by("integration__name", "position", "id")
        several = len({row.integration_id for row in rows}) > 1
        return [(str(row.pk), f"{row.integration}: {row.name}" if several else row.name) for row in rows]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(entity_sync=self.value()) if is_id(self.value()) else queryset


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
        return queryset.filter(pending=int(value)) if is_id(value) else queryset


class ReasonFilter(admin.SimpleListFilter):
    """By the one reason; only within the links that are not in agreement, which an index finds."""

    title = "reason"
    parameter_name = "reason"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(reason, reason.capitalize()) for reason in REASONS if reason]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(pending__isnull=False, reason=self.value()) if self.value() else queryset


class ElsewhereFilter(admin.SimpleListFilter):
    """A record that has its partner by another kind of record stands in the list with that one, not twice."""

    title = "partner elsewhere"
    parameter_name = "elsewhere"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("shown", "Shown, too")]

    def choices(self, changelist: Any) -> Any:
        first, *others = super().choices(changelist)
        yield {**first, "display": "Left out"}
        yield from others

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        # Who searches for an id wants all that there is of it.
        if self.value() or request.GET.get("q") or not _may_be_elsewhere(request):
            return queryset
        return queryset.exclude(args__in=ELSEWHERE)


def _may_be_elsewhere(request: HttpRequest) -> bool:
    """Such records are skipped, being out of bounds: among others nobody looks for them, which would take the rows themselves."""
    states = {HANDS, "none", *(str(int(state)) for state in Pending)} - {str(int(Pending.SKIPPED))}
    reasons = set(REASONS) - {"", "outside"}
    return request.GET.get("pending") not in states and request.GET.get("reason") not in reasons


def state_of(link: RecordLink, why: str = "") -> SafeString:
    """Return the state's badge with the reason's sentence on hover."""
    if link.ended:
        return badge("Over", "One of the records was deleted.")
    if link.pending is None:
        return badge("In agreement")
    word = "Held" if link.state == RecordLink.State.HELD else link.get_pending_display()
    return badge(word, why or REASONS.get(link.reason, link.reason))


def _why(request: HttpRequest) -> str:
    return request.POST.get("why", "").replace("\x00", "").strip()[:300]


def _tried(request: HttpRequest, link: RecordLink, how: How) -> SafeString:
    job = records.try_again(link, how, by=request.user)
    return format_html("Requested: {}.", link_to(job, f"job {job.pk}"))


def _parked(how: How) -> Callable[[RecordLink], bool]:
    return lambda link: link.pending == Pending.PARKED and records.retryable(link, how)


def _again(how: How, *, main: bool = False) -> Button:
    return Button(f"again_{how}", LABELS[how], main=main, permission=MAY, shown=_parked(how), help=HELP[how])


def _resyncable(link: RecordLink) -> bool:
    return link.pending != Pending.PARKED and records.retryable(link, How.REREAD)


def _undoable(link: RecordLink) -> bool:
    return link.state != RecordLink.State.HELD and link.pending != Pending.PLANNED and last_write(link) is not None


def _can(choice: str) -> Callable[[RecordLink], bool]:
    return lambda link: choice in decisions.choices(link)


@admin.register(RecordLink)
class RecordLinkAdmin(ReadOnly, Page, ModelAdmin):
    """One line for each record that a run has met."""

    page_template = "syncline/link.html"
    list_display = ["record", "entity_sync", "left", "right", "state_badge", "why", "revision"]
    list_filter = [StateFilter, EntitySyncFilter, ReasonFilter, ElsewhereFilter]
    list_select_related = ["entity_sync"]
    sortable_by: ClassVar[Any] = ()  # newest first: by these columns no index sorts a million rows
    search_fields = ["key"]  # get_search_results asks the indexes
    search_help_text = "Exact id on either side, or the link's key; not the name, which no index holds"
    actions = [
        "retry_all", "left_wins", "right_wins", "approve_all", "not_same_all", "hold_all", "release_all", "accept_all", "unlink_all",
    ]  # fmt: skip
    may = MAY
    buttons = [
        _again(How.REREAD, main=True),
        _again(How.PLAN),
        _again(How.SAME),
        Button("retry", "Retry", permission=may, shown=lambda link: False),  # by the next sync: who knows its address
        # Conflicts are decided by a form of their own, candidates by buttons beside them.
        Button("resolve_left", "Left wins", permission=may, shown=lambda link: False),
        Button("resolve_right", "Right wins", permission=may, shown=lambda link: False),
        Button("join", "The same", permission=may, shown=lambda link: False),
        Button("not_this", "Not the same", permission=may, shown=lambda link: False),
        Button(
            "approve", "Approve", main=True, permission=may, shown=lambda link: _can("approve")(link) and kind_of(link) is None,
            confirm="The next sync carries out what waits here: a delete (or inactive), or what the reconciliation found. Go on?",
        ),
        Button(
            "promote", "Promote now", main=True, permission=may, shown=_can("promote"), help="A sync makes its partner at once."
        ),
        Button(
            "not_same", "None of these", permission=may, shown=_can("not_same"),
            help="Never asked about again; the next sync makes its partner.",
        ),
        Button(
            "resync", "Resync", permission=may, shown=lambda link: _resyncable(link),
            help="Reads both records again and plans them again.",
        ),
        Button("release", "Go on", main=True, permission=may, shown=_can("release"), help="Planned again by the next sync."),
        Button(
            "accept", "Accept as it is", permission=may, shown=_can("accept"),
            help="Both sides keep what they hold; later edits flow again.",
        ),
        Button("relink", "Link again", main=True, permission=may, shown=_can("relink")),
        Button("undo_last", "Undo last change", permission=may, shown=_undoable, help="Shows first what would be taken back."),
        Button("hold", "Pause this record", permission=may, shown=_can("hold"), help="Nothing is written until it goes on."),
        Button("unlink", "Unlink", permission=may, shown=_can("unlink"), help="Both stay, and nothing flows between them."),
        Button(
            "erase", "Erase personal values", permission=MAY_ERASE, shown=lambda link: bool(link.left_id or link.right_id),
            confirm="The record's values are taken out of changes, events, requests, jobs and messages, for ever. Delete the person "
            "in both systems first, else the next run reads the values again. Go on?",
        ),
    ]  # fmt: skip
    WITH_WHY = ("hold", "unlink")  # these stand in a form of their own, where a reason is asked

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
        ids = set(RecordLink.objects.filter(key=term).values_list("pk", flat=True))
        ids |= set(RecordLink.objects.filter(held_by(term)).values_list("pk", flat=True)[:500])
        return queryset.filter(pk__in=ids), False

    def get_urls(self) -> list[URLPattern]:
        """The support bundle is a file."""
        view = self.admin_site.admin_view(self.support)
        return [path("<int:link_id>/support/", view, name="connectors_recordlink_support"), *super().get_urls()]

    def get_queryset(self, request: HttpRequest) -> QuerySet[RecordLink]:
        """With what a record's page says of both ends."""
        rows: QuerySet[RecordLink] = super().get_queryset(request)
        return rows.select_related("entity_sync", "scope", "integration__left", "integration__right")

    def page(self, request: HttpRequest, obj: RecordLink) -> dict[str, Any]:
        """The explanation, the gates, the timeline, and what may be done."""
        shown = self.shown_buttons(request, obj)
        context = record_page.context(request, obj, self.has_decide_permission(request))
        name = f"admin:{self.opts.app_label}_{self.opts.model_name}_do"
        beside = [
            (b, reverse(name, args=[obj.pk, b.name]))
            for b in self.buttons
            if b.name in ("join", "not_this") and self.may_press(request, b)
        ]
        return {
            **context,
            "state": state_of(obj, context["sentence"]),
            "integration": obj.integration,
            "candidates": record_page.candidates(obj, beside),
            "sl_buttons": [item for item in shown if item["button"].name not in (*self.WITH_WHY, "erase")],  # type: ignore[attr-defined]
            "with_why": [item for item in shown if item["button"].name in self.WITH_WHY],  # type: ignore[attr-defined]
            "erase": next((item for item in shown if item["button"].name == "erase"), None),  # type: ignore[attr-defined]
        }

    def support(self, request: HttpRequest, link_id: int) -> HttpResponse:
        """A file for somebody who helps."""
        link = self.get_object(request, str(link_id))
        if not self.has_view_permission(request, link):
            raise PermissionDenied
        if link is None:
            raise Http404
        answer = JsonResponse(support.bundle(link, records.gates(link)), json_dumps_params={"indent": 2})
        answer["Content-Disposition"] = f'attachment; filename="record-{link.pk}.json"'
        return answer

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

    def again_reread(self, request: HttpRequest, link: RecordLink) -> SafeString:
        return _tried(request, link, How.REREAD)

    def again_plan(self, request: HttpRequest, link: RecordLink) -> SafeString:
        return _tried(request, link, How.PLAN)

    def again_same(self, request: HttpRequest, link: RecordLink) -> SafeString:
        return _tried(request, link, How.SAME)

    def resync(self, request: HttpRequest, link: RecordLink) -> SafeString:
        return _tried(request, link, How.REREAD)

    def undo_last(self, request: HttpRequest, link: RecordLink) -> SafeString:
        job = records.undo_last(link, by=request.user)
        return format_html(
            "{} looks what can be taken back. Nothing is written before you approve it.", link_to(job, f"Job {job.pk}")
        )

    def erase(self, request: HttpRequest, link: RecordLink) -> str:
        return str(records.erase(link, by=request.user))

    def hold(self, request: HttpRequest, link: RecordLink) -> str:
        decisions.hold(link, now=clock.now(), by=str(request.user), why=_why(request))
        return "Held: nothing is written until it goes on."

    def release(self, request: HttpRequest, link: RecordLink) -> str:
        decisions.release(link, now=clock.now(), by=str(request.user))
        return "It goes on: the next sync plans it again."

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
        joining.unlink(link, now=clock.now(), by=str(request.user), why=_why(request))
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
                audit.log_action(request.user, link, f"{capfirst(done)}.", before[link.pk], audit.stored(link))
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
    found = RecordLink.objects.select_related("entity_sync").filter(pk=int(asked)).first() if is_id(asked) else None
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
