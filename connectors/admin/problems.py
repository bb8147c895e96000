"""Which causes keep records from agreement or let jobs fail, what helps, and what may a person do about a whole group?"""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import redirect
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from unfold.admin import ModelAdmin

from config import audit
from connectors.admin.base import Button, Page, ReadOnly, ago, badge, link_to
from connectors.admin.show import name_of
from connectors.models import ProblemGroup
from connectors.sync.problems import MOST_COUNTED, NotMended, hint_of, is_own, links_of, mapping_of, title_of
from connectors.sync.retrying import HELP, LABELS, How
from connectors.sync.values import decode
from jobs import clock, problems
from jobs.models import Job
from jobs.syncing import NotNow

SHOWN = 25  # records or jobs of a group on its page
MAY = "connectors.operate_problemgroup"
MAY_MAP = "connectors.add_picklistmapping"  # a change of settings: not for operators
RECORDS, JOBS = ProblemGroup.Kind.RECORDS, ProblemGroup.Kind.JOBS


class StateFilter(admin.SimpleListFilter):
    """Open ones unless something else is asked for."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("resolved", "Resolved")]

    def choices(self, changelist: Any) -> Any:
        first, *others = super().choices(changelist)
        yield {**first, "display": "Open"}
        yield from others

    def queryset(self, request: HttpRequest, queryset: QuerySet[ProblemGroup]) -> QuerySet[ProblemGroup]:
        return problems.resolved(queryset) if self.value() == "resolved" else problems.still_open(queryset)


def count_of(group: ProblemGroup) -> str:
    """Return how many records or jobs there are: beyond the limit nobody counts."""
    count = int(getattr(group, "count", 0))
    what = "job" if group.kind == JOBS else "record"
    if count > MOST_COUNTED:
        return f"{MOST_COUNTED:,}+ {what}s"
    return f"{count:,} {what}{'s'[: count != 1]}"


def state_badge(group: ProblemGroup) -> SafeString:
    """Return new, ongoing, came back or resolved."""
    state = problems.state_of(group, clock.now())
    return badge(state.word, state.why, state.tone)


def _open(group: ProblemGroup) -> bool:
    return group.resolved_at is None


def _records(group: ProblemGroup) -> bool:
    return _open(group) and group.kind == RECORDS and problems.retryable(group)


@admin.register(ProblemGroup)
class ProblemGroupAdmin(ReadOnly, Page, ModelAdmin):
    """Problems by cause."""

    page_template = "syncline/problem.html"
    list_display = ["problem", "state", "how_many", "integration", "first", "last"]
    list_display_links = ["problem"]
    list_filter = [StateFilter, "kind", "integration"]
    actions = ["retry_all", "resolve_all"]
    buttons = [
        Button("retry_reread", LABELS[How.REREAD], main=True, permission=MAY, shown=_records, help=HELP[How.REREAD]),
        Button("retry_plan", LABELS[How.PLAN], permission=MAY, shown=_records, help=HELP[How.PLAN]),
        Button("retry_same", LABELS[How.SAME], permission=MAY, shown=_records, help=HELP[How.SAME]),
        Button(
            "retry_jobs", "Retry these jobs", main=True, permission=MAY, shown=lambda g: _open(g) and g.kind == JOBS,
            help="Begins anew with each failed job.",
        ),
        Button("resolve", "Resolve", permission=MAY, shown=_open, help="Put aside until the cause is met again."),
        Button("reopen", "Open again", main=True, permission=MAY, shown=lambda g: not _open(g)),
    ]  # fmt: skip

    def get_ordering(self, request: HttpRequest) -> tuple[str, ...]:
        """Last seen first."""
        return ("-last_seen", "-id")

    def get_queryset(self, request: HttpRequest) -> QuerySet[ProblemGroup]:
        """With the number of records and jobs."""
        return problems.groups()

    # Columns

    @admin.display(description="Problem")
    def problem(self, group: ProblemGroup) -> SafeString:
        return format_html('<span class="sl-wrap"><b>{}</b></span>', title_of(group))

    @admin.display(description="State")
    def state(self, group: ProblemGroup) -> SafeString:
        return state_badge(group)

    @admin.display(description="Concerns")
    def how_many(self, group: ProblemGroup) -> str:
        where = f" of {group.entity_sync.name}" if group.entity_sync is not None else ""
        return f"{count_of(group)}{where}"

    @admin.display(description="First seen")
    def first(self, group: ProblemGroup) -> SafeString:
        return ago(group.first_seen)

    @admin.display(description="Last seen")
    def last(self, group: ProblemGroup) -> SafeString:
        return ago(group.last_seen)

    # One group

    def get_urls(self) -> list[URLPattern]:
        """Mapping an option has an address of its own: what is wrong with it is said at its field."""
        view = self.admin_site.admin_view(self.map_option)
        return [path("<int:group_id>/option/", view, name="connectors_problemgroup_option"), *super().get_urls()]

    def page(self, request: HttpRequest, obj: ProblemGroup) -> dict[str, Any]:
        """What it is, what helps, and the first of its records or jobs."""
        may_map = request.user.has_perm(MAY_MAP) and request.user.has_perm(MAY)
        return {
            "title": title_of(obj),
            "group": obj,
            "state": state_badge(obj),
            "count": count_of(obj),
            "hint": hint_of(obj),
            "own": is_own(obj),
            "records": self._records(obj) if obj.kind == RECORDS else [],
            "jobs": self._jobs(obj) if obj.kind == JOBS else [],
            "all_url": f"{reverse('admin:connectors_recordlink_changelist')}?problem={obj.key}&pending=hands",
            "shown": SHOWN,
            "option": self._option(obj) if _open(obj) and may_map else None,
            "only_administrators": _open(obj) and not may_map and mapping_of(obj) is not None,
            "may": request.user.has_perm(MAY),
            "seen": obj.last_seen.isoformat(),
        }

    def _records(self, group: ProblemGroup) -> list[dict[str, object]]:
        columns = (
            "id",
            "base",
            "left_staged",
            "right_staged",
            "left_entity",
            "left_id",
            "right_entity",
            "right_id",
            "args",
        )
        return [
            {
                "link": link,
                "name": name_of(link.base, link.left_staged, link.right_staged) or f"record {link.pk}",
                "message": decode(link.args).get("message", ""),
            }
            for link in links_of(group).only(*columns).order_by("id")[:SHOWN]
        ]

    def _jobs(self, group: ProblemGroup) -> list[Job]:
        return list(problems.jobs_of(group)[:SHOWN])

    def _option(self, group: ProblemGroup) -> dict[str, object] | None:
        try:
            found = problems.missing(group)
        except NotMended as refusal:
            return {"error": str(refusal)}
        return None if found is None else {"missing": found, "choices": sorted(found.choices, key=lambda o: o.label)}

    def map_option(self, request: HttpRequest, group_id: int) -> HttpResponse:
        """Let an option mean one of the other side, and try the whole group again."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not (request.user.has_perm(MAY_MAP) and request.user.has_perm(MAY) and self.has_view_permission(request)):
            raise PermissionDenied
        group = self.get_object(request, str(group_id))
        if group is None:
            raise Http404
        chosen = request.POST.get("option", "")
        try:
            with audit.acting(request.user, group, "Option mapped."):
                answer = problems.map_option(group, chosen, by=request.user)
        except (NotMended, NotNow) as refusal:
            return self.show(request, group, {"option_error": str(refusal), "chosen": chosen})
        self.message_user(
            request, format_html("Mapped. {} tries all of them again.", link_to(answer.jobs[0])), messages.SUCCESS
        )
        return redirect(reverse("admin:connectors_problemgroup_change", args=[group_id]))

    # Buttons

    def _retry(self, request: HttpRequest, group: ProblemGroup, how: How) -> SafeString:
        answer = problems.retry(group, how, by=request.user)
        for sentence in answer.refused[:5]:
            self.message_user(request, sentence, messages.WARNING)
        first, *others = answer.jobs
        more = f" and {len(others)} more" if others else ""
        return format_html("Requested: {}{}.", link_to(first, f"job {first.pk}"), more)

    def retry_reread(self, request: HttpRequest, group: ProblemGroup) -> SafeString:
        return self._retry(request, group, How.REREAD)

    def retry_plan(self, request: HttpRequest, group: ProblemGroup) -> SafeString:
        return self._retry(request, group, How.PLAN)

    def retry_same(self, request: HttpRequest, group: ProblemGroup) -> SafeString:
        return self._retry(request, group, How.SAME)

    def retry_jobs(self, request: HttpRequest, group: ProblemGroup) -> SafeString:
        return self._retry(request, group, How.PLAN)

    def resolve(self, request: HttpRequest, group: ProblemGroup) -> str:
        seen = request.POST.get("seen", "")
        if seen and seen != group.last_seen.isoformat():
            raise NotNow(
                f"It was met again since you opened the page; now there are {count_of(group)}. Look once more."
            )
        _decided(problems.resolve, request, group)
        return "Resolved: it is shown again when its cause is met again."

    def reopen(self, request: HttpRequest, group: ProblemGroup) -> str:
        _decided(problems.reopen, request, group)
        return "Open again."

    # Bulk actions

    def has_operate_permission(self, request: HttpRequest) -> bool:
        """Retrying and resolving."""
        return bool(request.user.has_perm(MAY))

    @admin.action(description=LABELS[How.REREAD], permissions=["operate"])
    def retry_all(self, request: HttpRequest, queryset: QuerySet[ProblemGroup]) -> None:
        self._each(request, queryset, "tried again", lambda group: problems.retry(group, How.REREAD, by=request.user))

    @admin.action(description="Resolve", permissions=["operate"])
    def resolve_all(self, request: HttpRequest, queryset: QuerySet[ProblemGroup]) -> None:
        self._each(request, queryset, "resolved", lambda group: _decided(problems.resolve, request, group))

    def _each(self, request: HttpRequest, queryset: QuerySet[ProblemGroup], done: str, act: Any) -> None:
        count = 0
        for group in queryset:
            try:
                with audit.acting(request.user, group, f"{capfirst(done)}."):
                    act(group)
            except NotNow as refusal:
                self.message_user(request, f"{title_of(group)}: {refusal}", messages.WARNING)
            else:
                count += 1
        if count:
            self.message_user(request, f"{count} {done}.", messages.SUCCESS)


def _decided(decide: Any, request: HttpRequest, group: ProblemGroup) -> None:
    try:
        decide(group, by=request.user)
    except NotMended as refusal:
        raise NotNow(str(refusal)) from refusal
