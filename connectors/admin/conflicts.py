"""Which records wait for a person to choose, and how are they decided: one by one, field by field, or many at once?"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Min
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.safestring import SafeString

from config import audit
from connectors.admin.base import is_id, relative
from connectors.admin.show import Shower, name_of
from connectors.models import RecordLink
from connectors.sync import conflicts
from connectors.sync.conflicts import LABELS, MOST_AT_ONCE, MOST_COUNTED, Kind, Wanted, kind_of, lines_of, seen_of
from connectors.sync.decisions import Undecidable, WrongChoice, living_side
from connectors.sync.explain import now_of, sentence_of, system_of, url_of
from connectors.sync.rules import LEFT, OTHER, RIGHT, field_title
from connectors.sync.values import CanonicalValues, decode
from jobs import clock, records
from jobs.records import CHOICES, FITS, Decided, decide_conflict, decide_conflicts
from scheduling.models import Service

PER_PAGE = 20
SHOWN = 20  # records on the page that asks once more
TOLD = 10  # refusals that are told one by one
VIEW = "connectors.view_recordlink"
MAY = "connectors.change_recordlink"
MAY_SYNC = "connectors.operate_integration"
SIDE = "side:"  # before a field's name in the form


def urls(site: Any) -> list[URLPattern]:
    """The pages of conflicts."""
    return [
        path("conflicts/", site.admin_view(list_view), name="conflicts"),
        path("conflicts/bulk/", site.admin_view(bulk_view), name="conflicts_bulk"),
        path("conflicts/<int:link_id>/", site.admin_view(one_view), name="conflict"),
    ]


def badge_count() -> str:
    """Return how many conflicts there are, for the navigation: nothing where there are none."""
    total = sum(count for _, count in conflicts.counted(Wanted(), most=100))
    return "" if not total else ("99+" if total > 99 else str(total))


# One conflict as it is shown


@dataclass(frozen=True)
class Row:
    """One field with a choice."""

    name: str
    plain: str  # the name without marks, for who hears the page
    title: SafeString
    left: SafeString
    base: SafeString
    right: SafeString
    chosen: str = ""
    error: str = ""


@dataclass
class Card:
    """One record in conflict."""

    link: RecordLink
    name: str
    kind: Kind
    label: str
    sentence: str
    rows: list[Row]
    systems: dict[str, str]
    urls: dict[str, str]
    choices: list[tuple[str, str]]
    seen: str
    problem: str = ""


def values_in(links: list[RecordLink]) -> list[CanonicalValues]:
    """Return all values that cards of these links mention."""
    return [values for link in links for values in (decode(link.base), now_of(link, LEFT), now_of(link, RIGHT))]


def card_of(
    link: RecordLink, shower: Shower, chosen: dict[str, str] | None = None, problems: dict[str, str] | None = None
) -> Card | None:
    """Return a record as a card; None where it is not in conflict."""
    kind = kind_of(link)
    if kind is None:
        return None
    sides: dict[str, str] = {LEFT: system_of(link, LEFT), RIGHT: system_of(link, RIGHT)}
    return Card(
        link, name_of(link.base, link.left_staged, link.right_staged) or f"record {link.pk}", kind, LABELS[kind],
        sentence_of(link), _rows(link, kind, shower, chosen or {}, problems or {}), sides,
        {side: url_of(link, side) for side in (LEFT, RIGHT)}, _choices(link, kind), seen_of(link),
    )  # fmt: skip


def _rows(link: RecordLink, kind: Kind, shower: Shower, chosen: dict[str, str], problems: dict[str, str]) -> list[Row]:
    if kind is Kind.DELETED:
        return _edited(link, shower)
    lines = sorted(lines_of(link), key=lambda line: shower.place(line.name))
    rows: list[Row] = []
    for line in lines:
        left, right = (shower.held(link, s, line.name, v) for s, v in ((LEFT, line.left), (RIGHT, line.right)))
        base = shower.value(line.name, line.base)
        told = (field_title(line.name), shower.field_name(line.name), left, base, right)
        rows.append(Row(line.name, *told, chosen.get(line.name, ""), problems.get(line.name, "")))
    return rows


def _edited(link: RecordLink, shower: Shower) -> list[Row]:
    """What was edited on the side where the record lives."""
    alive = living_side(link)
    base, now = decode(link.base), now_of(link, alive)
    names = sorted((name for name in now if name in base and now[name] != base[name]), key=shower.place)
    gone = format_html('<span class="sl-quiet">{}</span>', "deleted")
    found: list[Row] = []
    for name in names:
        shown = {alive: shower.value(name, now[name]), OTHER[alive]: gone}
        found.append(
            Row(name, field_title(name), shower.field_name(name), shown[LEFT], shower.value(name, base[name]), shown[RIGHT])
        )  # fmt: skip
    return found


def _choices(link: RecordLink, kind: Kind) -> list[tuple[str, str]]:
    words = dict(CHOICES)
    if kind is Kind.DELETED:
        gone = OTHER[living_side(link)]
        words["again"] = f"Make it again in {system_of(link, gone)}"
        words["delete"] = f"Delete it in {system_of(link, OTHER[gone])}, too"
    return [(choice, words[choice]) for choice in FITS[kind] if choice not in (LEFT, RIGHT)]


# Who waits


def wanted_of(told: Any) -> Wanted:
    """Return the filter that a page's address or form asks for; what makes no sense is left out."""
    where, kind = str(told.get("where", "")), str(told.get("kind", ""))
    number = int(where[1:]) if where[1:].isdecimal() and len(where) < 18 else None
    return Wanted(
        integration=number if where[:1] == "i" else None,
        entity_sync=number if where[:1] == "s" else None,
        kind=Kind(kind) if kind in set(Kind) else None,
    )


def list_view(request: HttpRequest) -> HttpResponse:
    """Show conflicts, a page at a time."""
    _see(request)
    wanted = wanted_of(request.GET)
    there = conflicts.counted(wanted)
    links = conflicts.page(wanted, [sync for sync, _ in there], PER_PAGE + 1, _after(request.GET.get("after", "")))
    shown, more = links[:PER_PAGE], len(links) > PER_PAGE
    shower = Shower.of({link.entity_sync_id for link in shown}, values_in(shown))
    cards = [card for link in shown if (card := card_of(link, shower)) is not None]
    total = sum(count for _, count in there)
    kept = {name: request.GET[name] for name in ("where", "kind") if request.GET.get(name)}
    context = {
        "title": "Conflicts",
        "cards": cards,
        "total": total,
        "capped": total > MOST_COUNTED,
        "places": _places(wanted),
        "where": request.GET.get("where", ""),
        "kind": wanted.kind or "",
        "kinds": list(LABELS.items()),
        "kept": urlencode(kept),
        "where_kept": urlencode({name: value for name, value in kept.items() if name == "where"}),
        "first": not request.GET.get("after"),
        "next": f"{shown[-1].entity_sync_id}-{shown[-1].pk}" if more else "",
        "bulk": _bulk_choices(wanted),
        "here": request.get_full_path(),
        "most": MOST_AT_ONCE,
        **_rights(request),
    }
    return _page(request, "syncline/conflicts.html", context)


def _after(text: str) -> tuple[int, int] | None:
    sync, _, link = text.partition("-")
    return (int(sync), int(link)) if sync.isdecimal() and link.isdecimal() and len(text) < 38 else None


def _places(wanted: Wanted) -> list[tuple[str, str]]:
    """Return the integrations and entity syncs that have conflicts, whatever place is looked at now."""
    found: dict[str, str] = {}
    for sync, count in conflicts.counted(Wanted(kind=wanted.kind)):
        found.setdefault(f"i{sync.integration_id}", str(sync.integration))
        told = f"{count:,}" if count <= MOST_COUNTED else f"{MOST_COUNTED:,}+"
        found[f"s{sync.pk}"] = f"{sync.integration}: {sync.name} ({told})"
    return list(found.items())


def _bulk_choices(wanted: Wanted) -> list[tuple[str, str]]:
    fitting = FITS[wanted.kind] if wanted.kind is not None else tuple(CHOICES)
    return [(choice, word) for choice, word in CHOICES.items() if choice in fitting]


# One record


def one_view(request: HttpRequest, link_id: int) -> HttpResponse:
    """Show one conflict; a POST decides it."""
    _see(request)
    link = _link(link_id)
    if request.method not in ("GET", "HEAD", "POST"):
        return HttpResponseNotAllowed(["GET", "POST"])
    if request.method != "POST":
        return show_one(request, link) if kind_of(link) is not None else redirect(_record(link))
    if not request.user.has_perm(MAY):
        raise PermissionDenied
    chosen = {name.removeprefix(SIDE): str(side) for name, side in request.POST.items() if name.startswith(SIDE)}
    choice: str | dict[str, str] = str(request.POST.get("choice", ""))
    if choice == "fields":
        choice = chosen
    elif choice not in CHOICES:
        return show_one(request, link, chosen, problem="Choose what is to become of it.")
    before = audit.values_of(link)
    sync = bool(request.POST.get("sync")) and request.user.has_perm(MAY_SYNC)
    try:
        done = decide_conflict(link, choice, seen=request.POST.get("seen", "{}"), by=request.user, sync=sync)
    except WrongChoice as refusal:
        return show_one(request, _link(link_id), chosen, dict(refusal.problems), "Choose a side for each field.")
    except Undecidable as refusal:
        link = _link(link_id)
        if kind_of(link) is None:
            messages.error(request, str(refusal))
            return redirect(_back(request, link))
        return show_one(request, link, chosen, problem=str(refusal))
    audit.log_many(request.user, [(link, before)], "Conflict decided.")
    _tell(request, done, CHOICES[choice] if isinstance(choice, str) else "Decided field by field")
    return redirect(_back(request, link))


def show_one(
    request: HttpRequest, link: RecordLink, chosen: dict[str, str] | None = None, problems: dict[str, str] | None = None,
    problem: str = "",
) -> HttpResponse:  # fmt: skip
    """Show one conflict on a page of its own, with what was chosen and what is wrong with it."""
    card = card_of(link, Shower.of([link.entity_sync_id], values_in([link])), chosen, problems)
    if card is None:
        raise Http404
    card.problem = problem
    back = _back(request, link) if request.method == "POST" else reverse("admin:conflicts")
    context = {"title": f"Conflict: {card.name}", "card": card, "here": back, **_rights(request)}
    return _page(request, "syncline/conflict.html", context)


# Many


def bulk_view(request: HttpRequest) -> HttpResponse:
    """Ask once more with the first records and the count; then decide all that still are as they were shown."""
    if request.method != "POST":
        return HttpResponseNotAllowed(["POST"])
    _see(request)
    if not request.user.has_perm(MAY):
        raise PermissionDenied
    wanted, choice = wanted_of(request.POST), request.POST.get("choice", "")
    ids = None if request.POST.get("all") else [int(pk) for pk in request.POST.getlist("link") if is_id(pk)]
    back = _back(request, None)
    if choice not in CHOICES:
        messages.error(request, "Choose what is to become of them.")
        return redirect(back)
    if ids is not None and not ids:
        messages.error(request, "Tick the records first, or take all of the filter.")
        return redirect(back)
    links, total = conflicts.chosen(wanted, ids)
    if not links:
        messages.error(request, "No conflict is left there.")
        return redirect(back)
    shown = conflicts.print_of(links, total)
    if request.POST.get("print") != shown:
        return _ask(request, wanted, choice, ids, links, total, shown)
    sync = bool(request.POST.get("sync")) and request.user.has_perm(MAY_SYNC)
    before = {link.pk: audit.values_of(link) for link in links}
    done = decide_conflicts(links, choice, by=request.user, sync=sync)
    audit.log_many(request.user, [(link, before[link.pk]) for link in done.done], f"Conflict decided: {choice}.")
    _tell(request, done, CHOICES[choice])
    return redirect(back)


def _ask(
    request: HttpRequest, wanted: Wanted, choice: str, ids: list[int] | None, links: list[RecordLink], total: int, shown: str
) -> HttpResponse:  # fmt: skip
    fitting = [link for link in links if (kind := kind_of(link)) is not None and choice in FITS[kind]]
    before = request.POST.get("count", "")
    context = {
        "title": CHOICES[choice],
        "choice": choice,
        "word": CHOICES[choice],
        "ids": ids,
        "total": total,
        "capped": total > MOST_COUNTED,
        "taken": len(links),
        "fitting": len(fitting),
        "others": [(link, _why_not(link, choice)) for link in links if link not in fitting][:TOLD],
        "others_count": len(links) - len(fitting),
        "links": [(link, name_of(link.base, link.left_staged, link.right_staged)) for link in fitting[:SHOWN]],
        "rest": max(0, len(fitting) - SHOWN),
        "print": shown,
        "changed": bool(request.POST.get("print")),
        "before": int(before) if is_id(before) else None,
        "where": request.POST.get("where", ""),
        "kind": wanted.kind or "",
        "here": _back(request, None),
        **_rights(request),
    }
    return _page(request, "syncline/conflicts_bulk.html", context)


def _why_not(link: RecordLink, choice: str) -> str:
    kind = kind_of(link)
    return records.unfit(kind) if kind is not None else "It is not in conflict any more."


# What all of them share


def _see(request: HttpRequest) -> None:
    if not request.user.has_perm(VIEW):
        raise PermissionDenied


def _link(link_id: int) -> RecordLink:
    rows = RecordLink.objects.select_related("entity_sync", "integration__left", "integration__right", "scope")
    link = rows.filter(pk=link_id).first() if link_id < 2**63 else None
    if link is None:
        raise Http404
    return link


def _record(link: RecordLink) -> str:
    return reverse("admin:connectors_recordlink_change", args=[link.pk])


def _back(request: HttpRequest, link: RecordLink | None) -> str:
    asked = request.POST.get("next", "")
    if asked and url_has_allowed_host_and_scheme(asked, {request.get_host()}, require_https=request.is_secure()):
        return asked
    return _record(link) if link is not None else reverse("admin:conflicts")


def _rights(request: HttpRequest) -> dict[str, bool]:
    return {"may": request.user.has_perm(MAY), "may_sync": request.user.has_perm(MAY_SYNC)}


def _page(request: HttpRequest, template: str, context: dict[str, Any]) -> HttpResponse:
    request.current_app = admin.site.name
    return TemplateResponse(request, template, {**admin.site.each_context(request), **context})


def _tell(request: HttpRequest, found: Decided, word: str) -> None:
    """Say what was decided, when it is carried out, and what was refused."""
    if found.done:
        count = len(found.done)
        what = f"{word}: {count:,} record{'s'[: count != 1]} decided. "
        messages.success(request, format_html("{}{}", what, _when(found)))
    for note in found.notes:
        messages.warning(request, f"No sync was asked for: {note}")
    for _, sentence in found.refused[:TOLD]:
        messages.warning(request, sentence)
    if len(found.refused) > TOLD:
        messages.warning(request, f"… and {len(found.refused) - TOLD} more were refused.")


def _when(found: Decided) -> SafeString:
    if found.jobs:
        jobs = format_html_join(
            ", ", '<a class="sl-link" href="{}">job {}</a>',
            ((reverse("admin:jobs_job_change", args=[job.pk]), job.pk) for job in found.jobs),
        )  # fmt: skip
        return format_html("A sync carries it out now: {}.", jobs)
    if all(link.state == RecordLink.State.HELD for link in found.done):
        return format_html("{}", "Nothing is written until they are released.")
    return format_html("{}", next_run({link.integration_id for link in found.done}))


def next_run(integrations: Collection[int]) -> str:
    """Say when the next run carries out what was decided."""
    rows = Service.objects.filter(integration__in=list(integrations), enabled=True, next_run_at__isnull=False)
    ahead = dict(rows.values_list("integration").annotate(at=Min("next_run_at")).order_by())
    if len(ahead) < len(integrations):
        return "The next sync carries it out; none is planned, so press Sync now when it suits."
    return f"The next sync carries it out, {relative(max(ahead.values()), clock.now())}."
