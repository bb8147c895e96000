"""How does one run go from its first read to its last write, slice by slice, across crashes?"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import datetime

from django.db.models import Count, F, Q

from connectors.contract import Unanswered
from connectors.models import EntitySync, Integration, RecordChange, RecordLink, Run, Scope, keep_state
from connectors.sync import retrying
from connectors.sync.checking import begin_check, end_listing, report_check
from connectors.sync.context import Context, EmptySide, FenceLost, Interrupted
from connectors.sync.plan import Pending
from connectors.sync.planning import check_guards, plan
from connectors.sync.problems import clear
from connectors.sync.promotions import close_promotions
from connectors.sync.proposals import (
    CHANGED,
    count_changes,
    count_proposals,
    counted,
    fixed_fields,
    result_of,
    result_words,
    withhold,
)
from connectors.sync.proposals import CHECK_KEPT as CHECK_KEPT
from connectors.sync.proposals import PREVIEW_KEPT as PREVIEW_KEPT
from connectors.sync.proposals import approve as approve
from connectors.sync.proposals import decide_proposals as decide_proposals
from connectors.sync.pull import pull
from connectors.sync.push import push
from connectors.sync.settle import settle
from connectors.sync.undo import again, count_undo, look_again, plan_undo, summary
from connectors.sync.world import World

logger = logging.getLogger(__name__)
MOST_PASSES = 12  # of plan and push: as deep as references between records may be nested
OUTCOMES = {
    Pending.WAITING: "waiting",
    Pending.SKIPPED: "skipped",
    Pending.CONFLICT: "conflict",
    Pending.PARKED: "parked",
}


def start_run(
    scope: Scope, world: World, *, mode: str = "delta", purpose: str = "sync", entities: list[str] | None = None,
    asked_by: object = None, aside: Sequence[int] = (), undoes: Run | None = None, retry: object = None,
    only: object = None,
) -> Run:  # fmt: skip
    """Begin a run: it takes the scope's fence, so that an older run writes nothing more.

    `only`: the one link whose writes an undo takes back.
    `aside` are runs over reports between two slices, which go on after this one; any other unfinished run is over.
    """
    Scope.objects.filter(pk=scope.pk).update(fence=F("fence") + 1)
    fresh = Scope.objects.select_related("integration").get(pk=scope.pk)
    scope.fence, scope.full_wanted, scope.last_full_at = fresh.fence, fresh.full_wanted, fresh.last_full_at
    others = Run.objects.filter(scope=scope, finished_at__isnull=True).exclude(phase=Run.Phase.PROPOSED)
    others.exclude(mode=Run.Mode.REPORTS, pk__in=aside).update(
        phase=Run.Phase.FAILED, finished_at=world.now(), error="Interrupted; the next run went on from where it was."
    )
    # A preview of a first run may have read everything, though nothing was written yet.
    read = scope.full_wanted and (scope.last_full_at or scope.cursors.filter(complete_at__isnull=False).exists())
    if read and mode != Run.Mode.REPORTS and purpose != Run.Purpose.UNDO:
        mode = Run.Mode.COMPREHENSIVE
    return Run.objects.create(
        integration=fresh.integration,
        scope=scope,
        mode=mode,
        purpose=purpose,
        entities=entities or [],
        settings_revision=fresh.integration.revision,
        progress={
            "wanted": fresh.full_wanted,
            **({"retry": retry} if retry else {}),
            **({"only": only} if only else {}),
        },
        fence=scope.fence,
        started_at=world.now(),
        asked_by=asked_by,  # type: ignore[misc]
        undoes=undoes,
    )


def advance(run: Run, world: World, *, slice_over: Callable[[], bool] | None = None) -> bool:
    """Carry a run on.  Returns True when it is done, False at the end of a slice: call again, here or elsewhere.

    Raises ConnectorError, SettingsError and FenceLost; whatever was done by then is stored, and a later call goes on.
    """
    _retake(run, world)
    ctx = Context.open(run, world, slice_over)
    try:
        _steps(ctx)
    except Interrupted:
        _count_requests(ctx)
        return False
    except EmptySide as guard:
        _stop_by_guard(ctx, [str(guard)])
        return True
    except BaseException:
        _count_requests(ctx)
        raise
    return True


def take(run: Run) -> None:
    """Take a run over, after a slice or a lost worker: its fence rises, so that whoever had it writes nothing more."""
    Scope.objects.filter(pk=run.scope_id).update(fence=F("fence") + 1)
    run.scope.refresh_from_db()
    run.fence = run.scope.fence
    Run.objects.filter(pk=run.pk).update(fence=run.fence)


def _retake(run: Run, world: World) -> None:
    """A resumed run works by today's settings; what it planned by older ones is planned anew."""
    fresh = Run.objects.select_related("scope", "integration__left", "integration__right").get(pk=run.pk)
    for field in Run._meta.concrete_fields:
        setattr(run, field.attname, getattr(fresh, field.attname))
    run.scope, run.integration = fresh.scope, fresh.integration
    run.scope.integration = fresh.integration
    if run.scope.fence != run.fence:
        raise FenceLost("Another run has taken over.")
    revision = run.integration.revision
    if revision != run.settings_revision:
        with world.transaction("settings changed"):
            planned = RecordChange.objects.filter(run=run, open=1)
            RecordLink.objects.filter(changes__in=planned, pending=Pending.PLANNED).update(
                pending=int(Pending.DIRTY), reason="changed"
            )
            planned.update(status="superseded", open=None, message="The settings changed before it was written.")
            # What was read by then was read by the older settings: another comprehensive run follows.
            run.progress = {**run.progress, "wanted": None}
            Run.objects.filter(pk=run.pk).update(settings_revision=revision, progress=run.progress)
        run.settings_revision = revision


def _steps(ctx: Context) -> None:
    run = ctx.run
    if run.phase in (Run.Phase.DONE, Run.Phase.FAILED, Run.Phase.PROPOSED):
        return
    if run.phase == Run.Phase.GUARDED and not run.guard.get("accepted"):
        return
    _settle(ctx)
    if run.purpose == Run.Purpose.UNDO:
        _undo(ctx)
        return
    if not run.progress.get("read"):
        _phase(ctx, Run.Phase.PULL)
        if run.purpose == Run.Purpose.CHECK:
            begin_check(ctx)
        pull(ctx)
        if run.purpose == Run.Purpose.CHECK:
            end_listing(ctx)
        run.progress = {**run.progress, "read": True}
    if run.approved_at and not run.progress.get("reread"):
        _bounce_changed(ctx)
    if run.progress.get("retry"):
        retrying.release(ctx)
    if run.proposes:
        _phase(ctx, Run.Phase.PLAN)
        plan(ctx)
        _finish_preview(ctx)
        return
    for _ in range(MOST_PASSES):
        _phase(ctx, Run.Phase.PLAN)
        ctx.released = 0
        if not run.approved_at:
            plan(ctx)
        if not RecordChange.objects.filter(run=run, open=1).exists():
            if ctx.released and not run.approved_at:
                continue  # adopting a partner has let other links go on
            break
        tripped = [] if run.approved_at else check_guards(ctx)
        if tripped:
            _stop_by_guard(ctx, tripped)
            return
        _phase(ctx, Run.Phase.PUSH)
        _push(ctx)
        if run.approved_at:
            plan(ctx)
            break
    _finish(ctx)


def _undo(ctx: Context) -> None:
    """Propose what takes a run back; once approved, write it.  Nothing else is planned."""
    run = ctx.run
    if not run.approved_at:
        _phase(ctx, Run.Phase.PLAN)
        plan_undo(ctx)
        _finish_preview(ctx)
        return
    if not run.progress.get("reread"):
        _bounce_changed(ctx)
    _phase(ctx, Run.Phase.PUSH)
    _push(ctx)
    while again(ctx):
        _push(ctx)
    _finish(ctx)


def _bounce_changed(ctx: Context) -> None:
    """A preview may be an hour old: read what has changed since, and leave those records for another look (DESIGN section 4)."""
    run = ctx.run
    if "reread" not in run.progress:
        run.progress = {**run.progress, "pulled": [], "reread": False}
    if run.purpose == Run.Purpose.UNDO:
        look_again(ctx)
    else:
        pull(ctx)
    with ctx.transaction("bounce changed"):
        changed = RecordChange.objects.filter(run=run, open=1).exclude(link_revision=F("link__revision"))
        RecordLink.objects.filter(changes__in=changed, pending=Pending.PLANNED).update(
            pending=int(Pending.DIRTY), reason="changed"
        )
        count = changed.update(status="superseded", open=None, message=CHANGED)
        if count:
            ctx.event(
                "warning",
                "changed since preview",
                f"{count} record{'s'[: count > 1]} changed since the preview and stayed out of it; the next run plans anew.",
            )
    run.progress = {**run.progress, "reread": True}


def _push(ctx: Context) -> None:
    try:
        push(ctx)
    except Unanswered:
        # One look at once: most often the system has done it and only the answer was lost.
        ctx.world.sleep(1.0)
        settle(ctx)
        push(ctx)


def _settle(ctx: Context) -> None:
    if RecordChange.objects.filter(open__isnull=False, run__scope=ctx.scope).exists():
        settle(ctx)


def _phase(ctx: Context, phase: str) -> None:
    """Remember the phase; written with the next progress, since an idle run writes one row at its end."""
    ctx.run.phase = phase


def _count_requests(ctx: Context) -> None:
    run = ctx.run
    reads = dict(run.counts.get("reads", {}))
    for side, count in ctx.reads.items():
        reads[side] = reads.get(side, 0) + count
    ctx.reads.clear()
    run.counts = {**run.counts, "reads": reads}
    Run.objects.filter(pk=run.pk, fence=run.fence).update(counts=run.counts, progress=run.progress, phase=run.phase)


def _stop_by_guard(ctx: Context, sentences: list[str]) -> None:
    run = ctx.run
    run.guard = {**run.guard, "tripped": sentences}
    run.phase = Run.Phase.GUARDED
    _count_requests(ctx)
    with ctx.transaction("guarded"):
        changes = RecordChange.objects.filter(run=run, open=1)
        RecordLink.objects.filter(changes__in=changes, pending=Pending.PLANNED).update(
            pending=int(Pending.DIRTY), reason="changed"
        )
        changes.update(status="superseded", open=None)
        Run.objects.filter(pk=run.pk).update(guard=run.guard, phase=run.phase, finished_at=ctx.world.now())
        for sentence in sentences:
            ctx.event("warning", "guard", sentence)


def accept_guard(run: Run, now: datetime) -> None:
    """A person has looked and says: go on in spite of the guard.  Raises ValueError, as for a preview, after an hour."""
    if run.phase != Run.Phase.GUARDED:
        raise ValueError(f"Run {run.pk} was not stopped by a guard; it is {run.get_phase_display().lower()}.")
    if run.finished_at is not None and now - run.finished_at > PREVIEW_KEPT:
        raise ValueError(f"Run {run.pk} was stopped more than an hour ago. Run again: the systems may have moved on.")
    run.guard = {**run.guard, "accepted": True}
    Run.objects.filter(pk=run.pk).update(guard=run.guard, finished_at=None)


def _finish_preview(ctx: Context) -> None:
    run = ctx.run
    run.counts = {**run.counts, **count_outcomes(run), "proposals": count_proposals(run)}
    run.progress = {
        **run.progress,
        "fixed": fixed_fields(ctx.acting),
    }  # asked here: it takes what both systems describe
    _count_requests(ctx)
    run.guard = {"tripped": tripped} if (tripped := check_guards(ctx)) else {}
    something = RecordChange.objects.filter(run=run, status="proposed").exists()
    if run.purpose == Run.Purpose.CHECK:
        report_check(ctx)
    if run.purpose == Run.Purpose.UNDO:
        run.counts = {**run.counts, "undo": count_undo(run)}
    Run.objects.filter(pk=run.pk).update(
        phase=Run.Phase.PROPOSED if something else Run.Phase.DONE,
        counts=run.counts,
        guard=run.guard,
        finished_at=ctx.world.now(),
    )


def _finish(ctx: Context) -> None:
    run, now = ctx.run, ctx.world.now()
    for side, count in ctx.reads.items():
        reads = run.counts.setdefault("reads", {})
        reads[side] = reads.get(side, 0) + count
    ctx.reads.clear()
    close_promotions(ctx)
    run.counts = {**run.counts, **count_outcomes(run)}
    if run.purpose == Run.Purpose.UNDO:
        run.counts["undo"] = count_undo(run)
    if run.counts["entities"]:
        run.counts["changes"] = count_changes(run)
    if run.approved_at:
        run.counts["result"] = result_of(run)
        withhold([run.pk])
    run.phase, run.finished_at = Run.Phase.DONE, now
    with ctx.transaction("finish"):
        Run.objects.filter(pk=run.pk).update(
            phase=run.phase,
            counts=run.counts,
            problems=problems_in(run.counts),
            progress=run.progress,
            finished_at=now,
            error="",
        )
        done: dict[str, object] = {"last_done_at": now, "failures": 0, "last_error": ""}
        if run.purpose == Run.Purpose.UNDO:
            Scope.objects.filter(pk=ctx.scope.pk).update(**done)
            return  # it has read only the records that it wrote
        if run.mode != Run.Mode.REPORTS:
            done["last_delta_at"] = now
        if run.mode == Run.Mode.COMPREHENSIVE or (run.mode == Run.Mode.DELTA and not ctx.scope.last_full_at):
            done["last_full_at"] = now  # the first run reads everything anyway
        if "last_full_at" in done:
            # What made it necessary is done with, unless it came up again under way.
            Scope.objects.filter(pk=ctx.scope.pk, full_wanted=run.progress.get("wanted")).update(full_wanted="")
        Scope.objects.filter(pk=ctx.scope.pk).update(**done)
        if run.counts.get("entities"):  # an idle run has mended nothing
            clear(ctx.integration.pk, now)


def count_outcomes(run: Run) -> dict[str, object]:
    """Count how each link touched in this run ended: exactly one outcome each."""
    entities: dict[str, dict[str, object]] = {}
    links = RecordLink.objects.filter(touched_run=run.pk)
    rows = links.values_list("entity_sync", "pending").annotate(total=Count("id")).order_by()
    touched = list(rows)
    if not touched:
        return {"entities": {}, "adds_up": True}
    written, inactive = _written(run)
    names = dict(EntitySync.objects.filter(integration=run.integration_id).values_list("pk", "name"))
    for sync_id, pending, total in touched:
        counts = entities.setdefault(names[sync_id], _zero())
        counts["touched"] = int(str(counts["touched"])) + total
        if pending is None:
            counts["agreed"] = int(str(counts["agreed"])) + total
        else:
            name = OUTCOMES.get(Pending(pending), "waiting")
            counts[name] = int(str(counts[name])) + total
    for sync_id, by_side in written.items():
        counts = entities.setdefault(names[sync_id], _zero())
        counts["written"] = by_side
        skipped = inactive.get(sync_id, 0)
        total_written = sum(sum(verbs.values()) for verbs in by_side.values())
        counts["agreed"] = int(str(counts["agreed"])) - total_written + skipped
        counts["skipped"] = int(str(counts["skipped"])) - skipped
    return {"entities": entities, "adds_up": all(_adds_up(counts) for counts in entities.values())}


def _zero() -> dict[str, object]:
    verbs = {"created": 0, "updated": 0, "deleted": 0}
    return {
        "touched": 0, "agreed": 0, "written": {"left": dict(verbs), "right": dict(verbs), "both": dict(verbs)},
        "waiting": 0, "skipped": 0, "conflict": 0, "parked": 0,
    }  # fmt: skip


# A record that was made inactive in place of a delete: its link stays, and says so, but this run has carried it out.
REMOVED = Q(link__pending=Pending.SKIPPED, link__reason="deleted", verb="archive", after="")


def _written(run: Run) -> tuple[dict[int, dict[str, dict[str, int]]], dict[int, int]]:
    """Count links that were written in this run: by side, or "both", and by the weightiest verb.

    Also how many of them, by entity sync, were made inactive for a delete: their links are skipped from now on.
    """
    rows = (
        RecordChange.objects.filter(
            Q(link__pending__isnull=True) | REMOVED, run=run, status="written", link__touched_run=run.pk
        )
        .values("entity_sync", "link")
        .annotate(
            lefts=Count("id", filter=Q(side="left")),
            rights=Count("id", filter=Q(side="right")),
            deletes=Count("id", filter=Q(verb="delete")),
            creates=Count("id", filter=Q(verb="create")),
            inactive=Count("id", filter=REMOVED),
        )
        .order_by()
    )
    found: dict[int, dict[str, dict[str, int]]] = {}
    inactive: dict[int, int] = {}
    for row in rows.iterator(chunk_size=2000):
        verbs = found.setdefault(row["entity_sync"], _zero()["written"])  # type: ignore[arg-type]
        side = "both" if row["lefts"] and row["rights"] else "left" if row["lefts"] else "right"
        removed = row["deletes"] or row["inactive"]
        verb = "deleted" if removed else "created" if row["creates"] else "updated"
        verbs[side][verb] += 1
        inactive[row["entity_sync"]] = inactive.get(row["entity_sync"], 0) + bool(row["inactive"])
    return found, inactive


def _adds_up(counts: dict[str, object]) -> bool:
    written = counts["written"]
    total = sum(sum(verbs.values()) for verbs in written.values()) if isinstance(written, dict) else 0
    rest = sum(int(str(counts[name])) for name in ("agreed", "waiting", "skipped", "conflict", "parked"))
    return int(str(counts["touched"])) == total + rest and int(str(counts["agreed"])) >= 0


def mark_settings_changed(integration: Integration, sync: EntitySync | None = None) -> None:
    """Raise revisions in the transaction of a settings change: queued and running writes stop, links are read again."""
    Integration.objects.filter(pk=integration.pk).update(revision=F("revision") + 1)
    syncs = EntitySync.objects.filter(integration=integration)
    (syncs.filter(pk=sync.pk) if sync else syncs).update(revision=F("revision") + 1)
    raised = Integration.objects.get(pk=integration.pk)
    keep_state(raised)
    Scope.objects.filter(integration=integration).update(full_wanted=f"settings changed (revision {raised.revision})")


def problems_in(counts: dict[str, object]) -> int:
    """Return how many records of a run's counts ended parked or in conflict."""
    entities = counts.get("entities")
    if not isinstance(entities, dict):
        return 0
    return sum(int(each.get(name, 0)) for each in entities.values() for name in ("parked", "conflict"))


def describe(run: Run) -> str:
    """Say in one line what a run did: never just green."""
    head = {"done": "Succeeded", "failed": "Failed", "guarded": "Stopped by a guard"}.get(
        run.phase, run.get_phase_display()
    )
    if run.purpose == Run.Purpose.UNDO:
        return f"{head}: {summary(run)}"
    entities = run.counts.get("entities", {}) if run.counts else {}
    totals = {
        name: sum(int(c.get(name, 0)) for c in entities.values())
        for name in ("parked", "conflict", "waiting", "skipped")
    }
    written = sum(sum(sum(v.values()) for v in c["written"].values()) for c in entities.values())
    if run.phase == Run.Phase.PROPOSED and "proposals" in run.counts:
        return f"{head}: {counted(run, 'all')} proposed, {counted(run, 'ticked')} ticked"
    if run.approved_at is not None and "approved" in run.counts and "result" not in run.counts:
        return f"{head}: {run.counts['approved']} approved"
    notes = [f"{count} {'in conflict' if name == 'conflict' else name}" for name, count in totals.items() if count]
    told = result_words(run.counts["result"]) if "result" in run.counts else f"{written} written"
    return f"{head}: {told}" + (f", with {', '.join(notes)}" if notes else "")
