"""What has come apart without any feed having told of it?  The reconciliation run: everything is read, nothing is written."""

from __future__ import annotations

from collections import Counter

from connectors.models import RecordChange, RecordLink, Run
from connectors.sync import store
from connectors.sync.context import Context
from connectors.sync.plan import APPROVAL, Pending
from connectors.sync.proposals import supersede
from connectors.sync.pull import read_changes
from connectors.sync.sheet import UNAPPROVED


def begin_check(ctx: Context) -> None:
    """Leave ordinary edits to the next ordinary run; what the last reconciliation proposed is looked at anew."""
    if ctx.run.progress.get("apart"):
        return
    read_changes(ctx)
    earlier = Run.objects.filter(scope=ctx.scope, purpose=Run.Purpose.CHECK).exclude(pk=ctx.run.pk)
    with ctx.transaction("begin check"):
        RecordLink.objects.filter(touched_run=ctx.run.pk).update(touched_run=None)
        supersede(
            RecordChange.objects.filter(run__in=earlier, status__in=["proposed", "dropped"]),
            "A newer reconciliation looked again.",
        )
        ctx.run.progress = {**ctx.run.progress, "apart": True}
        Run.objects.filter(pk=ctx.run.pk).update(progress=ctx.run.progress)


def end_listing(ctx: Context) -> None:
    """What people edited while everything was read is an ordinary edit, too: the feeds tell of it by now."""
    for block in store.blocks(sorted(read_changes(ctx)), 500):
        RecordLink.objects.filter(
            pk__in=[int(str(pk)) for pk in block],
            touched_run=ctx.run.pk,
            pending=Pending.WAITING,
            reason=APPROVAL,
            args=UNAPPROVED,
        ).update(pending=int(Pending.DIRTY), reason="changed", args="", touched_run=None)


def report_check(ctx: Context) -> None:
    """Tell a person what was found, by side and kind."""
    rows = RecordChange.objects.filter(run=ctx.run, status="proposed").values_list("side", "verb")
    found = Counter(rows.iterator(chunk_size=2000))
    names = {"left": ctx.integration.left.name, "right": ctx.integration.right.name}
    parts = [f"{count} to {verb} in {names[side]}" for (side, verb), count in sorted(found.items())]
    if parts:
        message = f"The reconciliation found differences: {', '.join(parts)}. Nothing was written: look at {ctx.run} and approve."
        ctx.event("warning", "drift", message)
    else:
        ctx.event("info", "no drift", "The reconciliation read everything on both sides and found nothing to mend.")
