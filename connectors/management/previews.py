"""How is a preview listed, ticked and approved from a shell?"""

from __future__ import annotations

from dataclasses import dataclass, field

from django.core.management.base import CommandError
from django.db import transaction

from connectors.models import Integration, RecordChange, Run
from connectors.sync import proposals
from connectors.sync.explain import name_of
from connectors.sync.rules import field_title
from connectors.sync.values import decode
from jobs.models import Job
from jobs.syncing import approve_preview, decide_preview, decide_whole_preview

MOST_LISTED = 40
LONGEST = 40


@dataclass
class Wanted:
    """What a person ticks and leaves out."""

    ticks: dict[int, bool] = field(default_factory=dict)
    fields: dict[int, dict[str, bool]] = field(default_factory=dict)


def run_of(integration: Integration, number: int) -> Run:
    """Return a run of an integration.  Raises CommandError."""
    run = Run.objects.select_related("integration", "scope").filter(integration=integration, pk=number).first()
    if run is None:
        raise CommandError(f"{integration} has no run {number}.")
    return run


def wanted(leave_out: list[str], tick: list[int]) -> Wanted:
    """Read "12" and "12:name>name".  Raises CommandError."""
    found = Wanted(dict.fromkeys(tick, True))
    for text in leave_out:
        number, _, name = text.partition(":")
        if not number.isdecimal():
            raise CommandError(f"--leave-out takes the number of a proposal, or number:field, not {text!r}.")
        if name:
            found.fields.setdefault(int(number), {})[name] = False
        else:
            found.ticks[int(number)] = False
    return found


def approve(run: Run, asked: Wanted, *, with_deletes: bool, accept_guard: bool) -> tuple[Job, int, int]:
    """Tick and approve: all of it or, where something does not fit, nothing."""
    with transaction.atomic():
        if with_deletes:
            removals = proposals.counted(run, "all", kind="delete")
            decide_whole_preview(run, tick=True, kind="delete", confirmed=removals)
        if asked.ticks or asked.fields:
            decide_preview(run, asked.ticks, asked.fields)
        return approve_preview(run, accept_guard=accept_guard)


def lines(run: Run) -> list[str]:
    """Say what a run proposes: the first of each, with the number by which it is left out or ticked."""
    rows = proposals.of_run(run).select_related("link", "entity_sync").order_by("id")
    found = [_line(run, change) for change in rows[:MOST_LISTED]]
    every = proposals.counted(run, "all")
    if every > MOST_LISTED:
        found.append(
            f"  ... and {every - MOST_LISTED} more; the admin and GET /api/v1/runs/{run.pk}/proposals/ list them all."
        )
    return found or ["  Nothing is proposed."]


def _line(run: Run, change: RecordChange) -> str:
    box = "[x]" if proposals.is_ticked(run, change) else "[ ]"
    name = name_of(change.link.base, change.after, change.link.left_staged, change.link.right_staged) or change.link_id
    before, after, left_out = decode(change.before), decode(change.after), decode(change.left_out)
    told = [
        f"{field_title(key)}: {_short(before.get(key))} -> {_short(value)}" + (" (left out)" if key in left_out else "")
        for key, value in after.items()
    ]
    verb = (
        "make inactive instead of a delete"
        if proposals.is_removal(change) and change.verb == "archive"
        else change.verb
    )
    what = f": {'; '.join(told)}" if told and change.verb == "update" else ""
    return f"  {box} {change.pk} {verb} on the {change.side}, {change.entity_sync} {name}{what}"


def _short(value: object) -> str:
    text = "empty" if value in (None, "") else str(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
