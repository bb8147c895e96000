"""Who changed which settings when, and what was different before?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db.models import Max, OuterRef, QuerySet, Subquery
from django.utils.text import capfirst

from connectors.models import EntitySync, FieldMapping, Integration, PicklistMapping
from connectors.sync import sentences
from connectors.sync.naming import names_of
from connectors.sync.sentences import Names

PAGE = 20
MOST_LINES = 12  # of one change that a page shows
MODELS: tuple[Any, ...] = (Integration, EntitySync, FieldMapping, PicklistMapping)
ONE = {Integration: "integration", EntitySync: "entity sync", FieldMapping: "mapping", PicklistMapping: "option"}
# What is told and restored of each; the rest is what links hang on, or the engine's.
TOLD: Mapping[Any, tuple[str, ...]] = {
    Integration: ("name", "enabled", "first_run", "route"),
    EntitySync: (
        "position", "enabled", "direction", "policy", "on_delete", "edit_v_delete", "prevents", "window", "filters", "match",
        "match_tolerance", "push",
    ),
    FieldMapping: (
        "left", "right", "position", "direction", "policy", "transform", "args", "constant", "when", "guard", "required",
        "unmapped", "default",
    ),
    PicklistMapping: ("left_label", "left_key", "right_label", "right_key", "token", "writes_left", "writes_right"),
}  # fmt: skip


@dataclass
class Entry:
    """What was changed together."""

    change: str
    at: datetime
    by: str = ""
    why: str = ""
    lines: list[str] = field(default_factory=list)
    more: int = 0  # lines that are left out
    began: datetime | None = None  # its first row: older pages go on before it
    present: bool = False  # nothing was changed since: there is nothing to go back to

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "change": self.change, "at": self.at, "by": self.by, "why": self.why, "lines": self.lines, "more": self.more,
            "present": self.present,
        }  # fmt: skip


def timeline(
    integration: Integration, *, before: datetime | None = None, size: int = PAGE
) -> tuple[list[Entry], datetime | None]:
    """Return the newest changes of an integration's settings, and from where on to ask for older ones."""
    moments = _moments(integration, before)
    newest = sorted(moments.items(), key=lambda item: (item[1], item[0]), reverse=True)
    page = dict(newest[:size])
    entries = _entries(integration, page)
    if before is None and entries:
        entries[0].present = True
    return entries, (entries[-1].began if len(newest) > size else None)


def since(integration: Integration, revision: int | None) -> list[str]:
    """Say what was changed since a revision, newest first."""
    if revision is None:
        return []
    history: Any = Integration.history
    later = history.filter(id=integration.pk, revision__gt=revision).values("change").annotate(at=Max("history_date"))
    moments = {row["change"]: row["at"] for row in later.order_by("-at")[:PAGE]}
    return [f"{e.by or 'Somebody'}: {'; '.join(e.lines) or e.why}." for e in _entries(integration, moments)]


def rows_of(model: Any, integration: Integration) -> QuerySet[Any]:
    """Return the history of an integration's rows of one kind, also of those that are gone."""
    kept: QuerySet[Any] = model.history.all()
    if model is Integration:
        return kept.filter(id=integration.pk)
    if model is EntitySync:
        return kept.filter(integration_id=integration.pk)
    syncs = EntitySync.objects.filter(integration=integration).values("pk")
    if model is FieldMapping:
        return kept.filter(entity_sync_id__in=syncs)
    mappings = FieldMapping.history.filter(entity_sync_id__in=syncs).values("id")
    return kept.filter(field_mapping_id__in=mappings)


def _moments(integration: Integration, before: datetime | None) -> dict[str, datetime]:
    """Return when the newest changes ended: one query for each kind of row."""
    found: dict[str, datetime] = {}
    for model in MODELS:
        rows = rows_of(model, integration).values("change").annotate(at=Max("history_date"))
        if before is not None:
            rows = rows.filter(at__lt=before)
        for row in rows.order_by("-at")[: PAGE + 1]:
            found[row["change"]] = max(row["at"], found.get(row["change"], row["at"]))
    return {change: at for change, at in found.items() if before is None or at < before}


def _entries(integration: Integration, moments: Mapping[str, datetime]) -> list[Entry]:
    if not moments:
        return []
    entries = {change: Entry(change, at) for change, at in moments.items()}
    naming = Naming(integration)
    made: dict[str, Counter[str]] = {}
    for model in MODELS:
        rows = (
            rows_of(model, integration).filter(change__in=entries).select_related("history_user").order_by("history_id")
        )
        for (change, _), (first, last, began) in _ends(rows).items():
            entry = entries[change]
            entry.began = min(entry.began or began, began)
            entry.by = entry.by or (str(last.history_user) if last.history_user else "")
            entry.why = entry.why or (last.history_change_reason or "")
            lines = naming.lines(model, first, last)
            if first is None and model in (FieldMapping, PicklistMapping):
                made.setdefault(change, Counter())[ONE[model]] += 1
            entry.lines += lines
    for change, entry in entries.items():
        _shorten(entry, made.get(change, Counter()))
    return sorted(entries.values(), key=lambda e: (e.at, e.change), reverse=True)


def _ends(rows: QuerySet[Any]) -> dict[tuple[str, int], tuple[Any, Any, datetime]]:
    """Return for each change and row its state before (None: it was made), its last state in the change, and when that began."""
    model = rows.model
    earlier = model._default_manager.filter(id=OuterRef("id"), history_id__lt=OuterRef("history_id"))
    read = list(rows.annotate(earlier=Subquery(earlier.order_by("-history_id").values("history_id")[:1])))
    befores = model._default_manager.in_bulk([row.earlier for row in read if row.earlier])
    found: dict[tuple[str, int], tuple[Any, Any, datetime]] = {}
    for row in read:
        key = (row.change, row.id)
        before = befores.get(row.earlier)
        first = found[key][0] if key in found else (before if before and before.history_type != "-" else None)
        found[key] = (first, row, found[key][2] if key in found else row.history_date)
    return found


def _shorten(entry: Entry, made: Counter[str]) -> None:
    """A preset makes hundreds of rows: they are counted, and what changed is told first."""
    if sum(made.values()) > MOST_LINES // 2:
        counted = [f"{n} {sentences.plural(one) if n > 1 else one} made" for one, n in made.items()]
        entry.lines = [line for line in entry.lines if not line.endswith(": made")] + counted
    entry.more = max(0, len(entry.lines) - MOST_LINES)
    entry.lines = entry.lines[:MOST_LINES]


class Naming:
    """Knows what the rows of an integration are called."""

    def __init__(self, integration: Integration) -> None:
        self.names: Names = names_of(integration)
        self.syncs: dict[int, str] = dict(EntitySync.objects.filter(integration=integration).values_list("pk", "name"))
        rows = (
            rows_of(FieldMapping, integration)
            .order_by("history_id")
            .values_list("id", "entity_sync_id", "left", "right")
        )
        self.mappings: dict[int, str] = {}
        for number, sync, left, right in rows:
            self.mappings[number] = f"{self.syncs.get(sync, 'entity sync')}: {mapping_name(left, right)}"

    def lines(self, model: Any, first: Any, last: Any) -> list[str]:
        """Say what a change did to one row."""
        if last.history_type == "-":
            return [f"{self.title(model, values_of(model, last), last)}: removed"]
        if first is None:
            return [f"{self.title(model, values_of(model, last), last)}: made"]
        return self.differences(model, values_of(model, first), values_of(model, last), last)

    def differences(self, model: Any, before: Mapping[str, Any], after: Mapping[str, Any], row: Any) -> list[str]:
        """Return a line for each setting of a row that differs."""
        title = self.title(model, after, row)
        return [f"{title}: {line}" for line in sentences.differences(before, after, self.names)]

    def title(self, model: Any, values: Mapping[str, Any], row: Any) -> str:
        """Return what a row is called; `row` has its parent's number."""
        if model is Integration:
            return "Integration"
        if model is EntitySync:
            return capfirst(self.syncs.get(row.id, "entity sync"))
        if model is FieldMapping:
            sync = capfirst(self.syncs.get(row.entity_sync_id, "entity sync"))
            return f"{sync}: {mapping_name(values['left'], values['right'])}"
        where = self.mappings.get(row.field_mapping_id, "a mapping")
        left, right = (values[f"{side}_label"] or values[f"{side}_key"] for side in sentences.SIDES)
        return f"{where[:1].upper()}{where[1:]}: {left} = {right}"


def mapping_name(left: str, right: str) -> str:
    """Return a mapping's two fields as a person reads them."""
    if left == right == "~archived":
        return "Inactive"
    return f"{left.lstrip('@') or 'fixed value'} ↔ {right.lstrip('@') or 'fixed value'}"


def values_of(model: Any, row: Any) -> dict[str, Any]:
    """Return what is told of a row, or of a row of history."""
    return {name: getattr(row, name) for name in TOLD[model]}
