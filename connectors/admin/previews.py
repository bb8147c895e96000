"""How does a person look through what a preview proposes, tick what is meant, and approve it?"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from django.db.models import Exists, OuterRef, Q, QuerySet
from django.http import HttpRequest
from django.utils.functional import cached_property

from connectors.admin.base import ago, relative
from connectors.admin.differences import difference, link_values, never_agreed, side_names
from connectors.admin.lists import CappedPaginator, LatePages
from connectors.admin.show import Shower, change_values, name_of
from connectors.models import RecordChange, RecordLink, Run
from connectors.sync import proposals
from connectors.sync.explain import REASONS, reason_word
from connectors.sync.finding import of_run
from connectors.sync.plan import Pending
from connectors.sync.rules import LEFT, RIGHT
from connectors.sync.undo import NOT_UNDONE

PER_PAGE = 50
OPENED = 6  # fields that are shown without being asked for
STAYS = "stays"  # the tab of what an undo can't take back
KINDS = {
    "create": "Create",
    "update": "Update",
    "restore": "Make active",
    "archive": "Make inactive",
    "delete": "Delete",
}
DOES = {**KINDS, "archived": "Make inactive instead of a delete"}
# Records that a run touched and wrote nothing to: tab, word, what their links say.
OUTCOMES: dict[str, tuple[str, str, tuple[int | None, ...]]] = {
    "conflict": ("Conflict", "Both sides changed, or one was deleted and the other edited: a person decides on the record's page.",
                 (Pending.CONFLICT,)),
    "skipped": ("Skipped", "Left out by the settings: a filter, a direction, a prevented operation, a hold.", (Pending.SKIPPED,)),
    "waiting": ("Waiting", "For another record, for an approval, or for the next run.",
                (Pending.WAITING, Pending.DIRTY, Pending.PLANNED)),
    "parked": ("Parked", "The other system refused the record, or would.", (Pending.PARKED,)),
    "agreed": ("Unchanged", "Read because something about them had changed, and in agreement. Records of which nothing was told since "
               "the last run are not looked at and not counted.", (None,)),
}  # fmt: skip


class Counted(LatePages):
    """A page of rows whose number is known already."""

    def __init__(self, rows: Any, per_page: int, count: int) -> None:
        super().__init__(rows, per_page)
        self.known = count

    @cached_property
    def count(self) -> int:
        return self.known


@dataclass(frozen=True)
class Tab:
    """One tab of a run's page."""

    name: str
    label: str
    count: int
    sides: list[tuple[str, str, int]]  # (side, its system, number)
    about: str = ""
    on: bool = False

    @property
    def query(self) -> str:
        """What the address says of it."""
        return f"?verb={self.name}" if self.name else "?"

    @property
    def of_records(self) -> bool:
        """Whether it lists records to which nothing is written."""
        return self.name in OUTCOMES


def kinds_of(run: Run) -> dict[str, dict[str, int]]:
    """Return how many writes a run proposes, or has planned, by kind and side; stored with the run once it rests."""
    counts = run.counts or {}
    if run.phase == Run.Phase.PROPOSED and "proposals" in counts:
        return {
            kind: {side: numbers["all"] for side, numbers in sides.items()}
            for kind, sides in counts["proposals"]["kinds"].items()
        }
    if run.phase == Run.Phase.DONE and "changes" in counts:
        found: dict[str, dict[str, int]] = counts["changes"]
        return found
    return proposals.count_changes(run)


def outcomes_of(run: Run) -> dict[str, int]:
    """Return how many records a run touched that it writes nothing to, by outcome: with the others they add up."""
    entities = (run.counts or {}).get("entities", {}).values()
    found = {name: sum(int(each.get(name, 0)) for each in entities) for name in OUTCOMES}
    if "proposals" in (run.counts or {}) and "result" not in run.counts:  # it waits, too, but stands under its own tab
        found["waiting"] = max(0, found["waiting"] - int(run.counts.get("proposals", {}).get("records", 0)))
    return found


def tabs_of(request: HttpRequest, run: Run) -> tuple[list[Tab], Tab, str]:
    """Return all tabs, the one that is open, and the side that is asked for."""
    names = side_names(run.integration)
    kinds = kinds_of(run)
    asked = request.GET.get("verb", "")
    stays = 0
    if run.purpose == Run.Purpose.UNDO:
        stays = RecordChange.objects.filter(run=run, code=NOT_UNDONE).count()
        if run.phase != Run.Phase.PROPOSED:
            kinds = _without_stays(run, kinds)
    shown = [("", "All", _by_side(kinds), "")]
    if stays:
        shown.append((STAYS, "Can't be undone", {}, ""))
    always = {"create", "update", "delete"} if run.purpose != Run.Purpose.UNDO else set()
    shown += [
        (kind, label, kinds.get(kind, {}), "") for kind, label in KINDS.items() if kind in kinds or kind in always
    ]
    counted = {STAYS: stays, "": sum(n for sides in kinds.values() for n in sides.values()) + stays}
    if run.purpose != Run.Purpose.UNDO and (run.counts or {}).get("entities"):
        outcomes = outcomes_of(run)
        counted |= outcomes
        shown += [
            (name, label, {}, about)
            for name, (label, about, _) in OUTCOMES.items()
            if outcomes[name] or name not in ("waiting", "parked")
        ]
    asked = asked if asked in {name for name, *_ in shown} else ""
    tabs = [
        Tab(
            name,
            label,
            counted.get(name, sum(sides.values())),
            [(side, names[side], sides[side]) for side in (LEFT, RIGHT) if sides.get(side)],
            about,
            name == asked,
        )
        for name, label, sides, about in shown
    ]
    side = request.GET.get("side", "")
    opened = next(tab for tab in tabs if tab.on)
    return tabs, opened, side if side in [s for s, *_ in opened.sides] else ""


def _by_side(kinds: dict[str, dict[str, int]]) -> dict[str, int]:
    return {side: sum(sides.get(side, 0) for sides in kinds.values()) for side in (LEFT, RIGHT)}


def _without_stays(run: Run, kinds: dict[str, dict[str, int]]) -> dict[str, dict[str, int]]:
    """What an undo can't take back has rows of its own, which are no writes."""
    rows = RecordChange.objects.filter(run=run, code=NOT_UNDONE)
    left = {kind: dict(sides) for kind, sides in kinds.items()}
    for row in rows.only("verb", "after", "side").iterator(chunk_size=2000):
        left[proposals.kind_of(row)][row.side] -= 1
    left = {kind: {side: n for side, n in sides.items() if n} for kind, sides in left.items()}
    return {kind: sides for kind, sides in left.items() if sides}


def touched(run: Run, outcome: str) -> QuerySet[RecordLink]:
    """Return the records that a run touched and that ended so."""
    wanted = OUTCOMES[outcome][2]
    links = RecordLink.objects.filter(touched_run=run.pk)
    links = links.filter(pending__isnull=True) if wanted == (None,) else links.filter(pending__in=wanted)
    own = RecordChange.objects.filter(run=run, link=OuterRef("pk"))
    if "proposals" in (run.counts or {}) and "result" not in run.counts:
        links = links.filter(~Exists(own))
    elif outcome in ("agreed", "skipped"):
        links = links.filter(~Exists(own.filter(status="written")))
    return links.select_related("entity_sync").order_by("id")


def rows_of(run: Run, tab: Tab, side: str) -> QuerySet[RecordChange]:
    """Return the changes of a tab."""
    rows = RecordChange.objects.filter(of_run(run.pk))
    if run.phase == Run.Phase.PROPOSED:
        rows = rows.filter(Q(status__in=["proposed", "dropped"]) | Q(code=NOT_UNDONE))
    if tab.name == STAYS:
        return rows.filter(code=NOT_UNDONE)
    if tab.name:
        rows = rows.exclude(code=NOT_UNDONE)
    return proposals.of_kind(rows, tab.name, side)


def list_of(request: HttpRequest, run: Run) -> dict[str, Any]:
    """Return the tabs, and the rows of the one that is open."""
    tabs, tab, side = tabs_of(request, run)
    about = {"tabs": tabs, "tab": tab, "verb": tab.name, "side": side, "kept": urlencode(_kept(tab.name, side))}
    if tab.of_records:
        shown = CappedPaginator(touched(run, tab.name), PER_PAGE).get_page(request.GET.get("p"))
        return {**about, "shown": shown, "records": [_record(link) for link in shown.object_list]}
    # What can't be undone is told first.
    order = ("-code", "id") if run.purpose == Run.Purpose.UNDO else ("id",)
    rows = rows_of(run, tab, side).select_related("link", "entity_sync").order_by(*order)
    count = {s: n for s, _, n in tab.sides}[side] if side else tab.count
    shown = Counted(rows, PER_PAGE, count).get_page(request.GET.get("p"))
    changes = list(shown.object_list)
    values = [*change_values(changes), *link_values(change.link for change in changes)]
    shower = Shower.of([change.entity_sync_id for change in changes], values)
    return {**about, "shown": shown, "changes": [_change(run, change, shower) for change in changes]}


def _kept(verb: str, side: str) -> dict[str, str]:
    return {key: value for key, value in (("verb", verb), ("side", side)) if value}


def _change(run: Run, change: RecordChange, shower: Shower) -> dict[str, Any]:
    link = change.link
    stays = change.code == NOT_UNDONE
    removal = proposals.is_removal(change)
    waits = run.phase == Run.Phase.PROPOSED and not stays
    fields = difference(run, change, shower) if waits else shower.differences(change)
    does = DOES["archived" if removal and change.verb == "archive" else change.verb]
    return {
        "change": change,
        "fields": fields,
        "open": len(fields) <= OPENED,
        "stays": stays,
        "verb": "Stays" if stays else does,
        "removal": removal and not stays,
        "whole": change.verb not in ("create", "update"),
        "ticked": proposals.is_ticked(run, change),
        "bounced": change.status == "superseded" and change.message == proposals.CHANGED,
        "not_ticked": change.status == "dropped" and change.message == proposals.NOT_TICKED,
        "stale": waits and change.link_revision != link.revision,
        "first": waits and never_agreed(change),
        "name": name_of(link.base, change.after, link.left_staged, link.right_staged) or f"record {change.link_id}",
        "left_out": [] if waits else shower.left_out(change),
    }


def _record(link: RecordLink) -> dict[str, Any]:
    return {
        "link": link,
        "name": name_of(link.base, link.left_staged, link.right_staged) or f"record {link.pk}",
        "why": reason_word(link),
        "told": REASONS.get(link.reason, link.reason),
    }


def approval_of(run: Run, now: datetime) -> dict[str, Any]:
    """Return what stands beside the button that approves a preview."""
    names = side_names(run.integration)
    every, seen = proposals.counted(run, "all"), proposals.seen(run)
    kinds = (run.counts or {}).get("proposals", {}).get("kinds", {})
    table = [
        {
            "word": KINDS[kind],
            "kind": kind,
            "sides": [
                (names[side], sides[side]["ticked"], sides[side]["all"]) for side in (LEFT, RIGHT) if side in sides
            ],
        }
        for kind, sides in kinds.items()
    ]
    finished = run.finished_at or now
    ends = finished + proposals.kept(run)
    return {
        "table": table,
        "ticked": proposals.counted(run, "ticked"),
        "all": every,
        "fields_left_out": int((run.counts or {}).get("proposals", {}).get("fields_left_out", 0)),
        "guard": proposals.guard_of(run),
        "age": ago(finished),
        "old": proposals.too_old(run, now),
        "expires": relative(ends, now).removeprefix("in "),
        "seen": seen,
        "stale": int(seen.partition(".")[2] or 0),
        "removals": proposals.counted(run, "all", kind="delete"),
        "removals_ticked": proposals.counted(run, "ticked", kind="delete"),
    }


def progress_of(run: Run, jobs: list[Any]) -> dict[str, Any] | None:
    """Return how far a run is while it goes on."""
    if run.finished_at is not None or run.phase == Run.Phase.FAILED:
        return None
    if run.approved_at is not None:
        done, all_ = proposals.progress_of(run)
        return {"done": done, "all": all_, "text": f"{done} of {all_} done"}
    told = (jobs[0].progress or {}) if jobs else {}
    done, all_ = int(told.get("done") or 0), int(told.get("total") or 0)
    text = str(told.get("text") or run.get_phase_display())
    return {"done": done, "all": all_, "text": f"{text}: {done} of {all_}" if all_ else text}
