"""What does the page of one integration show: what it does in words, its entity syncs, its runs, its latest changes?"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db.models import Count
from django.urls import reverse
from django.utils.text import capfirst

from connectors.admin.base import ago
from connectors.admin.runs import phase_badge, summary, undoable, with_retries
from connectors.admin.show import ARROWS
from connectors.models import EntitySync, Integration, Run
from connectors.sync import sentences, settings_history
from connectors.sync.drift import open_drifts
from connectors.sync.health import AGREED, NAMES, Counted, counted, many, overview
from connectors.sync.naming import names_of
from connectors.sync.schema import stored
from connectors.sync.sentences import Names
from jobs import clock
from scheduling.models import Service
from scheduling.standing import shown as with_windows
from scheduling.standing import standings
from scheduling.windows import sentence as schedule_sentence

RUNS = 5
CHANGES = 3
SHOWN = ("changed", "planned", "waiting", "skipped", "conflict", "parked")
ALSO = {"skipped": "&elsewhere=shown"}  # the number counts them, the list leaves them out where nobody asks


def context(integration: Integration) -> dict[str, Any]:
    """Return what the page shows.  As many queries with a million records as with ten."""
    runs = list(with_retries(Run.objects.filter(integration=integration)).order_by("-id").defer("progress")[:RUNS])
    syncs = list(_syncs(integration))
    names = names_of(integration, stored(integration))
    counts = counted([integration.pk])
    return {
        "health": overview([integration], counts=counts, now=clock.now())[0],
        "sentence": sentence_of(integration, syncs, names),
        "syncs": rows_of(syncs, names, counts),
        "runs": [{"run": r, "phase": phase_badge(r), "summary": summary(r), "started": ago(r.started_at)} for r in runs],
        "undo": last_written(runs),
        "drifts": open_drifts(integration),
        "changes": settings_history.timeline(integration, size=CHANGES)[0],
    }  # fmt: skip


def _syncs(integration: Integration) -> Any:
    rows = EntitySync.objects.filter(integration=integration).order_by("position", "id")
    return rows.annotate(mapping_count=Count("mappings"))


def sentence_of(integration: Integration, syncs: list[EntitySync], names: Names) -> str:
    """Say what the integration does, with its times."""
    return sentences.integration_sentence(
        names, syncs, schedules_of([integration]).get(integration.pk, []), enabled=integration.enabled
    )


def schedules_of(integrations: Iterable[Integration]) -> dict[int, list[str]]:
    """Return the times of the services that read and write changes and are on, each in words, by integration."""
    services = Service.objects.filter(integration__in=integrations, enabled=True, work=Service.Work.CHANGES)
    found: dict[int, list[str]] = {}
    on = list(with_windows(services))
    for standing in standings(on, clock.now()) if on else ():
        found.setdefault(standing.service.integration_id, []).append(schedule_sentence(standing.schedule))
    return found


def rows_of(syncs: list[EntitySync], names: Names, counts: Iterable[Counted]) -> list[dict[str, Any]]:
    """Return one row for each entity sync."""
    numbers = {one.entity_sync: one.numbers for one in counts}
    return [
        {
            "sync": sync,
            "arrow": ARROWS.get(sync.direction, "↔"),
            "way": sync.get_direction_display(),
            "policy": sentences.setting_words("policy", sync.policy, names),
            "deletes": sentences.setting_words("on_delete", sync.on_delete, names),
            "never": _never(sync),
            "bounds": _bounds(sync, names),
            "agreed": many(numbers[sync.pk][AGREED]),
            "counts": _counts(sync, numbers[sync.pk]),
            "links": _links(sync),
        }
        for sync in syncs
    ]


def _never(sync: EntitySync) -> list[dict[str, Any]]:
    return [
        {"side": side.capitalize(), "cells": [(verb, f"{side}.{verb}" in sync.prevents) for verb in sentences.VERBS]}
        for side in sentences.SIDES
    ]


def _bounds(sync: EntitySync, names: Names) -> list[str]:
    """Return what keeps records out, in words."""
    found = [sentences.filter_words(line, names) for line in sync.filters]
    if sync.window:
        found.append(f"Window: {sentences.window_words(sync.window, names)}")
    if "on_request" in sync.push.values():
        found.append(capfirst(sentences.push_words(sync.push, names)))
    return found


def _counts(sync: EntitySync, numbers: dict[str, int]) -> list[dict[str, Any]]:
    states = {name: int(state) for state, name in NAMES.items()}
    return [
        {
            "name": name,
            "count": many(numbers[name]),
            "url": f"{_links(sync)}&pending={states[name]}{ALSO.get(name, '')}",
        }
        for name in SHOWN
        if numbers[name]
    ]


def _links(sync: EntitySync) -> str:
    return f"{reverse('admin:connectors_recordlink_changelist')}?entity_sync={sync.pk}"


def last_written(runs: list[Run]) -> Run | None:
    """Return the newest of these runs that wrote something, where an undo could take it back."""
    for run in runs:
        entities = run.counts.get("entities", {}) if run.counts else {}
        if run.purpose != Run.Purpose.UNDO and any(
            sum(v.values()) for c in entities.values() for v in c["written"].values()
        ):
            return run if undoable(run) else None
    return None
