"""Which option is which?  Matched once by label, stored by key; what has no partner is told, not guessed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from django.db.models import F
from simple_history.utils import bulk_create_with_history

from connectors.contract import Connector, Kind, Option
from connectors.models import EntitySync, FieldMapping, Integration, PicklistMapping, changing
from connectors.sync.rules import LEFT, RIGHT, Side


@dataclass(frozen=True)
class Unmapped:
    """Options that have no partner."""

    sync: str
    mapping: str
    side: Side
    labels: list[str]

    def __str__(self) -> str:
        return f"{self.sync}: {self.mapping}: on the {self.side} without partner: {', '.join(self.labels)}"


def same_label(label: str) -> str:
    """Return what two labels have in common that people take for the same: case, spaces and punctuation do not count."""
    return re.sub(r"[^0-9a-z%]+", " ", label.casefold()).strip()


def match_picklists(integration: Integration, connectors: Mapping[Side, Connector]) -> list[Unmapped]:
    """Match the options of every mapped picklist that is not matched yet.  Returns what stays without partner."""
    unmapped: list[Unmapped] = []
    cache: dict[tuple[Side, str, str], Sequence[Option]] = {}
    kinds = {
        (side, entity.name, field.name): field.kind
        for side, connector in connectors.items()
        for entity in connector.describe()
        for field in entity.fields
    }
    for sync in integration.entity_syncs.filter(enabled=True):
        for mapping in sync.mappings.exclude(left="").exclude(right="").prefetch_related("options"):
            names = {LEFT: (sync.left_entity, mapping.left), RIGHT: (sync.right_entity, mapping.right)}
            if not any(kinds.get((side, *names[side])) in (Kind.OPTION, Kind.OPTIONS) for side in (LEFT, RIGHT)):
                continue
            choices: dict[Side, Sequence[Option]] = {}
            for side in (LEFT, RIGHT):
                if (side, *names[side]) not in cache:
                    is_list = kinds.get((side, *names[side])) in (Kind.OPTION, Kind.OPTIONS)
                    cache[side, *names[side]] = connectors[side].options(*names[side]) if is_list else ()
                choices[side] = cache[side, *names[side]]
            unmapped += match_options(sync, mapping, choices)
    return unmapped


def match_options(sync: EntitySync, mapping: FieldMapping, choices: Mapping[Side, Sequence[Option]]) -> list[Unmapped]:
    """Match one picklist by label; pairs that exist (explicit ones, too) stay as they are."""
    known = {LEFT: {o.left_key for o in mapping.options.all()}, RIGHT: {o.right_key for o in mapping.options.all()}}
    by_label = {same_label(o.label): o for o in choices[RIGHT] if o.active and o.key not in known[RIGHT]}
    made: list[PicklistMapping] = []
    for left in choices[LEFT]:
        right = by_label.get(same_label(left.label))
        if not left.active or left.key in known[LEFT] or right is None:
            continue
        by_label.pop(same_label(left.label))
        known[LEFT].add(left.key)
        known[RIGHT].add(right.key)
        made.append(
            PicklistMapping(
                field_mapping=mapping,
                left_key=left.key,
                left_label=left.label,
                right_key=right.key,
                right_label=right.label,
                token=right.key,
            )  # fmt: skip
        )
    if made:
        with changing("Options matched by label"):
            bulk_create_with_history(made, PicklistMapping, default_change_reason="Options matched by label")
        # What was parked for want of these options is read again by the comprehensive run that has just found them.
        EntitySync.objects.filter(pk=sync.pk).update(revision=F("revision") + 1)
    return [
        Unmapped(sync.name, mapping.name, side, labels)
        for side in (LEFT, RIGHT)
        if (labels := [o.label for o in choices[side] if o.active and o.key not in known[side]])
    ]
