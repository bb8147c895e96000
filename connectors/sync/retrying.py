"""How are records tried again, a group of refused ones or single ones?  Block by block inside a run, in one of three ways.

`same`: the write that was refused is repeated with its values, under a new key.  `plan`: planned again from what is known, by
today's mapping.  `reread`: both records are read again, then planned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum

from django.db.models import F, Max, Q, QuerySet

from connectors.contract import Verb
from connectors.models import RecordChange, RecordLink, Run
from connectors.sync.context import Context
from connectors.sync.matching import HELD
from connectors.sync.plan import Life, Pending
from connectors.sync.pull import fetch_and_stage
from connectors.sync.rules import LEFT, RIGHT, Pair, Side
from connectors.sync.values import decode, encode

BLOCK = 200
# Reasons besides those of parked records that reading or planning again may end.
PLANNED_AGAIN = ("prevented", "waits for link", "changed meanwhile")
UNSAFE = ("outcome unknown",)  # codes after which a repeat might do the same thing twice
THERE = (Life.LIVE, Life.ARCHIVED)


class How(StrEnum):
    """The three ways, as people see them."""

    SAME = "same"
    PLAN = "plan"
    REREAD = "reread"


LABELS = {
    How.SAME: "Retry as it was",
    How.PLAN: "Retry with today's mapping",
    How.REREAD: "Read again and plan again",
}
HELP = {
    How.SAME: "Repeats the refused write with the same values, where that is safe.",
    How.PLAN: "Plans anew from what is known, by the mapping as it is now.",
    How.REREAD: "Reads both records again first: the surest way after something was mended in a system.",
}


def release(ctx: Context) -> None:
    """Let the records go on that this run was asked to try again.  Stored after each block: a later slice goes on."""
    asked: Mapping[str, object] = ctx.run.progress.get("retry") or {}
    if not asked or asked.get("done"):
        return
    how = How(str(asked["how"]))
    while True:
        asked = ctx.run.progress["retry"]
        last = int(str(asked.get("last", 0)))
        block = list(_rows(ctx, asked).filter(id__gt=last, scope=ctx.scope.pk, ended=0).order_by("id")[:BLOCK])
        asked = ctx.run.progress["retry"]
        if how is How.SAME:
            _repeat(ctx, block)
        else:
            _plan_again(ctx, block)
        if how is How.REREAD:
            _read_again(ctx, block)
        done = len(block) < BLOCK
        progress = {**asked, "last": block[-1].pk if block else last, "done": done}
        progress["count"] = int(str(asked.get("count", 0))) + len(block)
        ctx.run.progress = {**ctx.run.progress, "retry": progress}
        Run.objects.filter(pk=ctx.run.pk).update(progress=ctx.run.progress)
        if done:
            return
        ctx.check_slice()


def _rows(ctx: Context, asked: Mapping[str, object]) -> QuerySet[RecordLink]:
    """Return the records that were asked for: single ones, or those that stand still for one cause."""
    ids = asked.get("links")
    if isinstance(ids, list):
        return RecordLink.objects.filter(pk__in=ids).exclude(pending=Pending.PLANNED).exclude(state=HELD)
    problem = str(asked["problem"])
    return RecordLink.objects.filter(problem=problem, pending=Pending.PARKED, id__lte=_top(ctx, problem))


def _top(ctx: Context, problem: str) -> int:
    """Return the last record of the group when its retry began: what is parked again on the way is not tried for ever."""
    asked = ctx.run.progress["retry"]
    if "top" not in asked:
        top = RecordLink.objects.filter(problem=problem).aggregate(top=Max("id"))["top"] or 0
        ctx.run.progress = {**ctx.run.progress, "retry": {**asked, "top": top}}
    return int(ctx.run.progress["retry"]["top"])


def _plan_again(ctx: Context, block: Sequence[RecordLink]) -> None:
    with ctx.transaction("retry problem"):
        for link in block:
            # By two, as every decision of a person: a planner that read the link just before must not overwrite it.
            again = Q(pending=Pending.PARKED) | Q(reason__in=PLANNED_AGAIN)
            RecordLink.objects.filter(again, pk=link.pk, revision=link.revision).update(
                pending=int(Pending.DIRTY),
                reason="changed",
                args="",
                waits_on=None,
                revision=F("revision") + 2,
                touched_run=ctx.run.pk,
            )


def _read_again(ctx: Context, block: Sequence[RecordLink]) -> None:
    for side in (LEFT, RIGHT):
        by_entity: dict[str, list[str]] = {}
        for link in block:
            record_id = getattr(link, f"{side}_id")
            if record_id and getattr(link, f"{side}_life") in THERE:
                by_entity.setdefault(getattr(link, f"{side}_entity"), []).append(record_id)
        for entity, ids in by_entity.items():
            # By values: the same version may mean another thing by a mapping that was mended.
            fetch_and_stage(ctx, side, entity, ids, by_values=True)


# As it was


def _repeat(ctx: Context, block: Sequence[RecordLink]) -> None:
    """Plan the refused writes once more with the same values.  What cannot be repeated safely stays, and says why."""
    newest = RecordChange.objects.filter(link__in=block, status="rejected").values("link").annotate(last=Max("id"))
    changes = {c.link_id: c for c in RecordChange.objects.filter(pk__in=[row["last"] for row in newest.order_by()])}
    taken = {link.pk: _taken(ctx, link, change) for link in block if (change := changes.get(link.pk))}
    with ctx.transaction("repeat writes"):
        for link in block:
            change, pair = changes.get(link.pk), ctx.by_id.get(link.entity_sync_id)
            if pair is None:
                continue
            why = _unsafe(pair, link, change) or taken.get(link.pk, "")
            if why or change is None:
                args = encode({**decode(link.args), "message": why[:1000]})
                RecordLink.objects.filter(pk=link.pk, revision=link.revision).update(args=args, touched_run=ctx.run.pk)
                continue
            _planned(ctx, link, change)


def _unsafe(pair: Pair, link: RecordLink, change: RecordChange | None) -> str:
    """Return why a write must not simply be repeated, and what to do instead."""
    told = decode(link.args)
    if change is None or link.reason != "parked":
        return f"There is no refused write to repeat. Read again and plan again. {told.get('message') or ''}"
    if change.code in UNSAFE:
        return change.message
    side: Side = LEFT if change.side == LEFT else RIGHT
    verb = Verb(change.verb)
    if not pair.flows(side) or pair.prevented(side, verb):
        return "The settings forbid this write by now. Retry with today's mapping."
    if verb in (Verb.CREATE, Verb.UPDATE) and not decode(change.after):
        return "Its values were erased. Read again and plan again."
    if verb is Verb.CREATE and getattr(link, f"{side}_id"):
        return "The record has a partner by now. Retry with today's mapping."
    return ""


def _taken(ctx: Context, link: RecordLink, change: RecordChange) -> str:
    """Look whether what would be made is there by now: a repeat has a new key, so the system would make it twice."""
    pair = ctx.by_id.get(link.entity_sync_id)
    if pair is None or change.verb != Verb.CREATE:
        return ""
    side: Side = LEFT if change.side == LEFT else RIGHT
    after, entity = decode(change.after), pair.entity(side)
    for name in (name for names in pair.match for name in names):
        own, value = pair.by_name[name].of(side) if name in pair.by_name else None, after.get(name)
        if own is None or not own.findable or not isinstance(value, str) or not value:
            continue
        found = next(iter(ctx.connectors[side].find(entity.name, own.name, [value])), None)
        if found is not None:
            return f"{entity.name} {found.id} has the same {own.label or own.name} by now. Read again and plan again."
    return ""


def _planned(ctx: Context, link: RecordLink, old: RecordChange) -> None:
    rows = RecordLink.objects.filter(pk=link.pk, revision=link.revision, pending=Pending.PARKED)
    columns = {"pending": int(Pending.PLANNED), "reason": "planned", "args": "", "touched_run": ctx.run.pk}
    if not rows.update(revision=F("revision") + 1, **columns):
        return
    creating = old.verb == Verb.CREATE
    RecordChange.objects.create(
        run=ctx.run, link=link, entity_sync_id=link.entity_sync_id, side=old.side, verb=old.verb, status="planned",
        open=1, key=ctx.world.key(), record_id="" if creating else getattr(link, f"{old.side}_id") or "",
        before=old.before, after=old.after, lost=old.lost, expect="" if creating else getattr(link, f"{old.side}_version"),
        link_revision=link.revision + 1, settings_revision=ctx.run.settings_revision, fence=ctx.run.fence, rule=old.rule,
        left_out=old.left_out, message="Repeated as it was.", at=ctx.world.now(),
    )  # fmt: skip
