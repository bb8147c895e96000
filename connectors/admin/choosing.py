"""How does a person choose records to promote?  One page for each integration: filter, tick, confirm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.widgets import UnfoldAdminDateWidget, UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from connectors.admin.base import ago, badge, is_id, link_to
from connectors.admin.links import state_of
from connectors.admin.lists import CappedPaginator
from connectors.admin.show import name_of
from connectors.management.promoting import MOST_CHOSEN, MOST_NOW, promote_some, waiting_notices
from connectors.models import EntitySync, Integration, Promotion, RecordLink
from connectors.sync.choosing import SEARCHED, WAITS, Wanted, fields_of, on_request, others, source_of, waiting
from connectors.sync.explain import REASONS
from connectors.sync.promotions import NotPromotable, Requested
from connectors.sync.values import decode, parse_datetime
from jobs.models import Job
from jobs.syncing import NotNow

if TYPE_CHECKING:
    from connectors.admin.promotions import PromotionAdmin

PER_PAGE = 50
MAY = "connectors.add_promotion"
FILTERS = ("sync", "text", "since", "field", "value", "show")


class FilterForm(forms.Form):
    """Which records."""

    sync = forms.ChoiceField(label="Entity sync", widget=UnfoldAdminSelectWidget())
    text = forms.CharField(
        label="Name, number, e-mail or id", required=False, max_length=200, widget=UnfoldAdminTextInputWidget()
    )
    since = forms.DateField(
        label="Changed since", required=False, widget=UnfoldAdminDateWidget(attrs={"type": "date"}, format="%Y-%m-%d")
    )
    field = forms.ChoiceField(label="Field", required=False, widget=UnfoldAdminSelectWidget())
    value = forms.CharField(
        label="Value of that field", required=False, max_length=200, widget=UnfoldAdminTextInputWidget()
    )
    show = forms.CharField(required=False, widget=forms.HiddenInput())

    def __init__(self, syncs: list[EntitySync], sync: EntitySync, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        side = source_of(sync)
        self.fields["sync"].choices = [(str(s.pk), f"{s.name} ({getattr(s, f'{source_of(s)}_entity')})") for s in syncs]  # type: ignore[attr-defined]
        self.fields["field"].choices = [("", "–"), *((m.name, getattr(m, side)) for m in fields_of(sync))]  # type: ignore[attr-defined]

    @property
    def wanted(self) -> Wanted:
        """The filter as the engine takes it; a field that is filled in wrongly filters nothing out and is reported."""
        given = getattr(self, "cleaned_data", {})
        return Wanted(given.get("text", "").strip(), given.get("since"), given.get("field", ""), given.get("value", ""))


def choose_view(model_admin: PromotionAdmin, request: HttpRequest, integration_id: int) -> HttpResponse:
    """Show the records that can be promoted; a POST promotes the ticked ones, or after a confirmation all of the filter."""
    if not request.user.has_perms(["connectors.view_promotion", "connectors.view_recordlink"]):
        raise PermissionDenied
    integration = Integration.objects.filter(pk=integration_id).first()
    syncs = on_request(integration) if integration else []
    if integration is None or not syncs:
        raise Http404
    told = request.POST if request.method == "POST" else request.GET
    sync = next((s for s in syncs if str(s.pk) == told.get("sync")), syncs[0])
    form = FilterForm(syncs, sync, {**{name: told.get(name, "") for name in FILTERS}, "sync": str(sync.pk)})
    form.is_valid()
    confirm: dict[str, object] = {}
    if request.method == "POST":
        if not request.user.has_perm(MAY):
            raise PermissionDenied
        answer = _promote(model_admin, request, sync, form)
        if isinstance(answer, HttpResponse):
            return answer
        confirm = answer
    context = {
        **model_admin.admin_site.each_context(request),
        "title": f"Promote records of {integration}",
        "opts": model_admin.opts,
        "integration": integration,
        "sync": sync,
        "form": form,
        "confirm": confirm,
        "notices": waiting_notices([integration]),
        "may": request.user.has_perm(MAY),
        "most_now": MOST_NOW,
        "most": MOST_CHOSEN,
        **({} if confirm else _listed(request, sync, form)),
    }
    request.current_app = model_admin.admin_site.name
    return TemplateResponse(request, "syncline/promote.html", context)


def _listed(request: HttpRequest, sync: EntitySync, form: FilterForm) -> dict[str, object]:
    apart = form.data.get("show") == "others"
    rows = (others if apart else waiting)(sync, form.wanted)
    paginator = CappedPaginator(rows, PER_PAGE)
    shown = paginator.get_page(request.GET.get("p"))
    links = list(shown.object_list)
    kept = {name: form.data[name] for name in FILTERS if form.data.get(name) and name != "show"}
    return {
        "rows": [_row(sync, link, queued) for link, queued in _with_queued(sync, links)],
        "shown": shown,
        "count": paginator.count,
        "capped": paginator.capped,
        "apart": apart,
        "query": urlencode(kept),
    }


def _with_queued(sync: EntitySync, links: list[RecordLink]) -> list[tuple[RecordLink, bool]]:
    side = source_of(sync)
    ids = [getattr(link, f"{side}_id") for link in links]
    queued = set(
        Promotion.objects.filter(
            entity_sync=sync, side=side, status=Promotion.Status.QUEUED, external_id__in=ids
        ).values_list("external_id", flat=True)
    )
    return [(link, record_id in queued) for link, record_id in zip(links, ids, strict=True)]


def _row(sync: EntitySync, link: RecordLink, queued: bool) -> dict[str, object]:
    side = source_of(sync)
    values = decode(getattr(link, f"{side}_staged"))
    name = name_of(link.base, link.left_staged, link.right_staged)
    more = [
        str(values[m.name])
        for m in fields_of(sync)
        if isinstance(values.get(m.name), str)
        and values[m.name] != name
        and not str(values[m.name]).startswith(("@", "?", "!"))
        and any(word in getattr(m, side).lower() for word in SEARCHED)
    ]
    modified = getattr(link, f"{side}_modified")
    args = decode(link.args)
    why = "It is queued already." if queued else REASONS.get(link.reason, link.reason)
    if link.reason != WAITS:
        why = f"{why} {args.get('message') or ''}".strip()
    return {
        "link": link,
        "name": name or f"record {link.pk}",
        "id": getattr(link, f"{side}_id"),
        "more": list(dict.fromkeys(more))[:4],
        "changed": ago(parse_datetime(modified)) if modified else "",
        "state": badge("Queued", tone="busy") if queued else state_of(link),
        "why": why,
    }


# What a POST does


def _promote(
    model_admin: PromotionAdmin, request: HttpRequest, sync: EntitySync, form: FilterForm
) -> HttpResponse | dict[str, object]:
    """Promote, and go back; or return what is to be confirmed."""
    back = reverse("admin:connectors_promotion_choose", args=[sync.integration_id])
    kept = urlencode({name: form.data[name] for name in FILTERS if form.data.get(name) and name != "show"})
    here = redirect(f"{back}?{kept}")
    bulk = request.POST.get("how") != "now"
    if form.errors:
        model_admin.message_user(request, "Correct the filter first.", messages.ERROR)
        return here
    rows = waiting(sync, form.wanted)
    if request.POST.get("all"):
        count = rows.count()
        if count and request.POST.get("confirmed") != str(count) and count <= (MOST_CHOSEN if bulk else MOST_NOW):
            return {"count": count, "how": "bulk" if bulk else "now", "before": request.POST.get("confirmed", "")}
    else:
        ticked = [int(text) for text in request.POST.getlist("link") if is_id(text)]
        rows = waiting(sync).filter(pk__in=ticked)
        count = rows.count()
        if len(ticked) > count:
            gone = len(ticked) - count
            model_admin.message_user(request, f"{gone} of them can't be promoted any more.", messages.WARNING)
    if not count:
        model_admin.message_user(request, "Choose records first.", messages.WARNING)
    else:
        # One more than may be: then they are refused, and not cut off.
        ids = rows.values_list(f"{source_of(sync)}_id", flat=True)[: MOST_CHOSEN + 1]
        _ask(model_admin, request, sync, [str(record_id) for record_id in ids], bulk)
    return here


def _ask(model_admin: PromotionAdmin, request: HttpRequest, sync: EntitySync, ids: list[str], bulk: bool) -> None:
    try:
        asked, job = promote_some(sync, ids, by=request.user, bulk=bulk)
    except (NotNow, NotPromotable) as refusal:
        model_admin.message_user(request, str(refusal), messages.ERROR)
        return
    model_admin.log_change(request, sync, f"{len(asked.queued)} promoted{', in bulk' if bulk else ''}.")
    model_admin.message_user(request, told(asked, [job] if job else []), messages.SUCCESS)


def told(asked: Requested, jobs: list[Job]) -> SafeString:
    """Return the sentence that answers a promotion."""
    count = f"{len(asked.queued)} record{'s' if len(asked.queued) != 1 else ''}"
    if jobs:
        return format_html("{} promoted: {} writes them.", count, link_to(jobs[0], f"job {jobs[0].pk}"))
    if not asked.queued:
        return format_html("{}", "Nothing was queued.")
    return format_html("{} queued for the bulk service.", count)
