"""What does the page of one record show?  How both sides stand, the gates it passes, and what happened to it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django.http import Http404, HttpRequest
from django.utils import timezone

from connectors.admin.base import Button
from connectors.admin.conflicts import MAY_SYNC, card_of, values_in
from connectors.admin.runs import VERBS
from connectors.admin.show import Shower, change_values, name_of
from connectors.models import Promotion, RecordLink
from connectors.sync import joining
from connectors.sync.conflicts import Kind as Conflict
from connectors.sync.explain import Explanation, explain, queued_of, system_of, url_of
from connectors.sync.gates import Gate, Passed
from connectors.sync.plan import Life
from connectors.sync.rules import LEFT, RIGHT
from connectors.sync.timeline import LABELS, USUAL, BadCursor, Entry, Kind, timeline
from connectors.sync.values import decode
from jobs import records

MARKS = {Passed.YES: "✓", Passed.NO: "✕", Passed.WAITS: "…", Passed.LATER: "–"}
WORDS = {Passed.YES: "passed", Passed.NO: "stops here", Passed.WAITS: "waits here", Passed.LATER: "not reached"}
MAY_SEE_CALLS = "connectors.view_apicall"
PARTS = ("retry", "decide", "other")  # where a button stands


def context(request: HttpRequest, link: RecordLink, may: bool) -> dict[str, Any]:
    """Return what the template shows."""
    found = explain(link)
    sees = [kind for kind in LABELS if kind is not Kind.CALL or request.user.has_perm(MAY_SEE_CALLS)]
    asked = _asked(request, sees)
    try:
        entries, older = timeline(link, asked, request.GET.get("before", ""))
    except BadCursor as error:
        raise Http404(str(error)) from error
    changes = [entry.row for entry in entries if entry.kind is Kind.CHANGE]
    lines = [{str(f["field"]) + side: f[side] for f in found.fields for side in ("left", "base", "right")}]
    shower = Shower.of([link.entity_sync_id], [*values_in([link]), *lines, *change_values(changes)])  # type: ignore[list-item]
    card = card_of(link, shower)
    name = name_of(link.base, link.left_staged, link.right_staged)
    return {
        "title": name or f"Record {link.pk}",
        "name": name,
        "sentence": found.sentence,
        "lines": _lines(found, shower),
        "apart": sum(1 for line in found.fields if not line["agreed"]),
        "sides": [_side(link, side) for side in (LEFT, RIGHT)],
        "gates": [_gate(gate) for gate in records.gates(link)],
        "waits_on": RecordLink.objects.filter(key=link.waits_on).first() if link.waits_on else None,
        "card": card if card is not None and card.kind in (Conflict.FIELDS, Conflict.DELETED) else None,
        "queued": _queued(link),
        "days": _days(entries, shower),
        "older": older,
        "show": request.GET.get("show", ""),
        "kinds": [(str(kind), LABELS[kind]) for kind in sees],
        "newest": not request.GET.get("before"),
        "may": may,
        "may_sync": request.user.has_perm(MAY_SYNC),
        "here": request.path,
    }


def _asked(request: HttpRequest, sees: Sequence[Kind]) -> Sequence[Kind]:
    show = request.GET.get("show", "")
    return (Kind(show),) if show in sees else USUAL


def _lines(found: Explanation, shower: Shower) -> list[dict[str, object]]:
    in_conflict = decode(found.link.args).get("fields") if found.reason == "conflict" else []
    asked = {str(name) for name in in_conflict} if isinstance(in_conflict, list) else set()
    return [
        {
            "field": shower.field_name(str(line["field"])),
            "same": line["agreed"],
            "winner": "a person decides" if line["field"] in asked else line["winner"],
            "rule": "" if line["field"] in asked else line["rule"],
            "base": shower.value(str(line["field"]), line["base"]),
            **{side: shower.held(found.link, side, str(line["field"]), line[side]) for side in (LEFT, RIGHT)},
        }
        for line in sorted(found.fields, key=lambda line: shower.place(str(line["field"])))
    ]


def _side(link: RecordLink, side: str) -> dict[str, object]:
    of = LEFT if side == LEFT else RIGHT
    life = getattr(link, f"{side}_life")
    return {
        "word": side.capitalize(),
        "system": system_of(link, of),
        "entity": getattr(link, f"{side}_entity"),
        "id": getattr(link, f"{side}_id"),
        "url": url_of(link, of),
        "life": "" if life == Life.LIVE else getattr(link, f"get_{side}_life_display")().lower(),
    }


def _gate(gate: Gate) -> dict[str, str]:
    told = {"title": gate.title, "why": gate.why, "mark": MARKS[gate.passed], "word": WORDS[gate.passed]}
    return {**told, "tone": gate.passed.name.lower()}


def _queued(link: RecordLink) -> Promotion | None:
    return queued_of([link]).get(link.pk)


def _days(entries: Sequence[Entry], shower: Shower) -> list[tuple[str, list[dict[str, object]]]]:
    """Group a page of the timeline by the day on which it happened where the reader is."""
    today = timezone.localdate()
    near = {today: "Today", today - timedelta(days=1): "Yesterday"}
    found: list[tuple[str, list[dict[str, object]]]] = []
    for entry in entries:
        day = timezone.localtime(entry.at).date()
        word = near.get(day) or f"{day:%A}, {day.day} {day:%B %Y}"
        if not found or found[-1][0] != word:
            found.append((word, []))
        told: dict[str, object] = {"kind": str(entry.kind), "row": entry.row}
        if entry.kind is Kind.CHANGE:
            told |= {"fields": shower.differences(entry.row), "verb": VERBS.get(entry.row.verb, entry.row.verb)}
        found[-1][1].append(told)
    return found


def candidates(link: RecordLink, buttons: Sequence[tuple[Button, str]]) -> list[dict[str, Any]]:
    """Return the records that may be this one's partner, each with its buttons."""
    told = decode(link.args).get("candidates")
    likeness = (
        {c.get("link"): c.get("similarity") for c in told if isinstance(c, dict)} if isinstance(told, list) else {}
    )
    return [
        {
            "link": one,
            "name": name_of(one.base, one.left_staged, one.right_staged),
            "likeness": likeness.get(one.pk),
            "buttons": [{"button": button, "url": url} for button, url in buttons],
        }
        for one in joining.candidates(link)
    ]
