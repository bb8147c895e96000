"""How is a run taken back?  Looks at what it wrote, proposes the inverse, says what can't be taken back; a person approves it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from django.db.models import Exists, Min, OuterRef, QuerySet

from connectors.contract import Ref, Verb
from connectors.models import RecordChange, RecordLink, Run
from connectors.sync import inverse, store
from connectors.sync.context import Context
from connectors.sync.inverse import Done, Inverse, Place, invert, removal
from connectors.sync.mapping import Unfit, Unlinked, references
from connectors.sync.matching import DISCONNECTED, ENDED, HELD
from connectors.sync.plan import Life, LinkState, Pending
from connectors.sync.planning import COLUMNS, link_state
from connectors.sync.proposals import supersede
from connectors.sync.pull import LOOK_UP, read_changes
from connectors.sync.rules import LEFT, RIGHT, Pair, Side
from connectors.sync.stage import Staging
from connectors.sync.undone import UNDONE
from connectors.sync.values import CanonicalValues, decode, encode

BLOCK = 500
NOT_UNDONE = "not undone"  # code of a row that says why a write can't be taken back
KEYS = re.compile(r'"@([0-9a-f-]{36})"')
S = RecordChange.Status
Target = tuple[int, Side]  # (link, side)


def check_undoable(run: Run) -> None:
    """Raise ValueError with a sentence where there is nothing to take back, or not yet."""
    if run.purpose == Run.Purpose.UNDO:
        raise ValueError(
            f"{run} is an undo itself. To do again what it took back, release its records: the next run plans them."
        )
    if run.finished_at is None or run.phase == Run.Phase.PROPOSED:
        raise ValueError(f"{run} has not ended yet: it is {run.get_phase_display().lower()}.")
    if RecordChange.objects.filter(run=run, open__isnull=False).exists():
        raise ValueError(f"{run} left writes whose outcome is not known yet. Sync once; then undo it.")
    written = RecordChange.objects.filter(run=run, status=S.WRITTEN)
    if not written.exists():
        purged = any(sum(v.values()) for c in run.counts.get("entities", {}).values() for v in c["written"].values())
        raise ValueError(
            f"What {run} wrote is no longer in the log, so nobody knows what to undo."
            if purged
            else f"{run} wrote nothing, so there is nothing to undo."
        )
    if not written.exclude(_taken_back(run)).exists():
        raise ValueError(f"{run} has been undone already.")


def _taken_back(run: Run) -> Exists:
    """A condition on changes of a run: an undo of it has taken back what it wrote there."""
    return Exists(
        RecordChange.objects.filter(run__undoes=run, status=S.WRITTEN, link=OuterRef("link"), side=OuterRef("side"))
    )


# Planning


def plan_undo(ctx: Context) -> None:
    """Propose the inverse of each write of the run that is to be undone, newest first.  Resumes where it stopped."""
    run = ctx.run
    if run.undoes is None:
        return
    if not run.progress.get("read"):
        read_changes(ctx)
        with ctx.transaction("begin undo"):
            earlier = RecordChange.objects.filter(
                run__purpose=Run.Purpose.UNDO, run__undoes=run.undoes_id, status__in=[S.PROPOSED, S.DROPPED]
            )
            supersede(_wanted(run, earlier.exclude(run=run)), "A newer undo looked again.")
        run.progress = {**run.progress, "read": True}
    written = _wanted(run, RecordChange.objects.filter(run=run.undoes, status=S.WRITTEN))
    written = written.exclude(_taken_back(run.undoes))
    # What is proposed says how far an earlier slice or worker came: all of a block, or nothing.
    last = RecordChange.objects.filter(run=run).aggregate(last=Min("undoes"))["last"]
    while True:
        rows = written if last is None else written.filter(id__lt=last)
        block = list(rows.order_by("-id").values_list("id", "link", "side")[:BLOCK])
        if not block:
            break
        _propose(ctx, {(link, _side(side)): pk for pk, link, side in reversed(block)})
        last = block[-1][0]
        ctx.check_slice()
    _keep_referred(ctx)


def _wanted(run: Run, rows: QuerySet[RecordChange]) -> QuerySet[RecordChange]:
    """Narrow changes to the one record that an undo was asked for, where it was."""
    only = run.progress.get("only")
    return rows if only is None else rows.filter(link=only)


def last_write(link: RecordLink) -> RecordChange | None:
    """Return the newest write of a record that an undo could take back: not one of an undo, nor one taken back already."""
    written = RecordChange.objects.filter(link=link, status=S.WRITTEN).exclude(run__purpose=Run.Purpose.UNDO)
    back = RecordChange.objects.filter(
        run__undoes=OuterRef("run"), status=S.WRITTEN, link=OuterRef("link"), side=OuterRef("side")
    )
    return written.exclude(Exists(back)).select_related("run__integration", "run__scope").order_by("-id").first()


def _propose(ctx: Context, newest: Mapping[Target, int]) -> None:
    """Judge a block of records and store what follows.  `newest`: the last write of each within the block."""
    judged = _judge(ctx, newest, frozenset())
    rows = [
        _row(ctx, one, S.PROPOSED if one.inverse.verb else S.REJECTED)
        for one in judged
        if one.done[-1].id == newest[one.target]  # else an earlier block has had this record's newest write
    ]
    with ctx.transaction("store undo"):
        RecordChange.objects.bulk_create(rows)


def again(ctx: Context) -> bool:
    """Plan what follows another write of the same record, and once more what had changed when it was written.

    Returns whether there is anything to write.
    """
    return _follow(ctx) + _retry(ctx) > 0


def _follow(ctx: Context) -> int:
    """A second write of a record was approved with its first, and comes after it; without that it stays undone."""
    rows = RecordChange.objects.filter(run=ctx.run, status=S.PROPOSED)
    first = RecordChange.objects.filter(
        run=ctx.run, link=OuterRef("link"), side=OuterRef("side"), id__lt=OuterRef("id")
    )
    waiting = list(rows.filter(Exists(first.filter(status=S.WRITTEN))).select_related("link"))
    with ctx.transaction("follow up"):
        for change in waiting:
            RecordChange.objects.filter(pk=change.pk).update(
                status=S.PLANNED, open=1, fence=ctx.run.fence, link_revision=change.link.revision,
                expect=getattr(change.link, f"{change.side}_version"),
            )  # fmt: skip
        rows.filter(status=S.PROPOSED).update(
            status=S.SUPERSEDED, message="The write that comes before it was not carried out."
        )
    return len(waiting)


def _retry(ctx: Context) -> int:
    """A record may have changed by its system's own doing, not in what the run wrote: then it is written after all, once."""
    met = RecordChange.objects.filter(run=ctx.run, undoes__isnull=False)
    stuck = Exists(met.filter(status=S.CONFLICT, link=OuterRef("link"), side=OuterRef("side")))
    told = met.filter(stuck).exclude(status=S.REJECTED).values_list("link", "side", "undoes", "status")
    tries: dict[Target, list[tuple[int, str]]] = {}
    for link, side, undone, status in told.iterator(chunk_size=2000):
        tries.setdefault((link, _side(side)), []).append((undone or 0, status))
    newest = {target: rows[0][0] for target, rows in tries.items() if [row[1] for row in rows] == [S.CONFLICT]}
    if not newest or ctx.run.undoes is None:
        return 0
    gone = met.filter(status=S.WRITTEN, verb=Verb.DELETE).values_list("link__key", flat=True)
    keys = frozenset(f"@{key}" for key in gone)
    planned = 0
    for block in store.blocks(newest.items(), BLOCK):
        part: dict[Target, int] = dict(block)  # type: ignore[arg-type]
        first = {one.target: one for one in reversed(_judge(ctx, part, keys)) if one.inverse.verb}
        rows = [_row(ctx, one, S.PLANNED) for one in first.values()]
        with ctx.transaction("plan undo again"):
            RecordChange.objects.bulk_create(rows)
            RecordLink.objects.filter(pk__in=[row.link_id for row in rows]).exclude(state=HELD).update(
                pending=int(Pending.PLANNED), reason="planned"
            )
        planned += len(rows)
    return planned


def look_again(ctx: Context) -> None:
    """Read the records that an approved undo is about to write: what has changed since the preview shows by its link."""
    rows = RecordChange.objects.filter(run=ctx.run, open=1).order_by("id").values_list("link", "side")
    for block in store.blocks(rows.iterator(chunk_size=2000), BLOCK):
        _look(ctx, _links(ctx, block))  # type: ignore[arg-type]


def _side(text: str) -> Side:
    return LEFT if text == LEFT else RIGHT


@dataclass(frozen=True, slots=True)
class _Known:
    """One link as an undo sees it."""

    state: LinkState
    pair: Pair | None  # None: switched off
    number: int  # RecordLink.State
    reason: str


@dataclass(frozen=True, slots=True)
class _Judged:
    target: Target
    known: _Known
    done: Sequence[Done]
    inverse: Inverse


def _links(ctx: Context, targets: Iterable[Target]) -> dict[Target, _Known]:
    targets = list(targets)
    found: dict[int, _Known] = {}
    rows = RecordLink.objects.filter(pk__in={link for link, _ in targets})
    for sync_id, reason, *columns in store.read(rows.values_list("entity_sync", "reason", *COLUMNS)):
        state = link_state(tuple(columns))
        found[state.id] = _Known(state, ctx.by_id.get(sync_id), columns[COLUMNS.index("state")], reason)
    return {target: found[target[0]] for target in targets if target[0] in found}


def _look(ctx: Context, links: Mapping[Target, _Known]) -> tuple[set[Target], set[Target]]:
    """Read these records now and stage what came.  Returns (those that are there, those that may not be seen)."""
    places: dict[tuple[Side, str], dict[str, Target]] = {}
    for target, known in links.items():
        own = known.state.sides[target[1]]
        if known.pair is not None and own.id is not None:
            places.setdefault((target[1], own.entity), {})[own.id] = target
    there: set[Target] = set()
    hidden: set[Target] = set()
    for (side, entity), by_id in places.items():
        by_values = frozenset([entity]) & ctx.compared_by_values(side)
        for block in store.blocks(by_id, LOOK_UP):
            fetched = ctx.connectors[side].fetch(entity, [str(i) for i in block], ctx.wanted(side, entity))
            ctx.reads[side] += len(fetched.records)
            staging = Staging(ctx, side, by_values)
            staging.prepare(fetched.records, fetched.gone)
            with ctx.transaction("stage fetched"):
                staging.apply()
            there.update(by_id[record.id] for record in fetched.records if record.id in by_id)
            hidden.update(by_id[record_id] for record_id in fetched.hidden if record_id in by_id)
    return there, hidden


def _judge(ctx: Context, newest: Mapping[Target, int], gone_by_undo: frozenset[str]) -> list[_Judged]:
    """Decide about records as they are now, in the order of their newest writes, newest first."""
    there, hidden = _look(ctx, _links(ctx, newest))
    links = _links(ctx, newest)
    history = _history(ctx, links)
    fits = _Fits(ctx)
    judged: list[_Judged] = []
    for target in sorted(links, key=lambda t: newest[t], reverse=True):
        known, (done, later) = links[target], history[target]
        why = _impossible(known, target, hidden)
        if why is None and done[-1].verb is Verb.DELETE and target in there:
            why = Inverse(None, word=inverse.CHANGED, message="The record is there again.")
        found = [why] if why else invert(done, later, fits.place(known, target[1], gone_by_undo))
        judged += [_Judged(target, known, done, one) for one in found]
    return judged


def _history(ctx: Context, targets: Iterable[Target]) -> dict[Target, tuple[list[Done], list[Done]]]:
    """Return (what the run to be undone wrote, what others wrote after it) for each record, oldest first."""
    found: dict[Target, tuple[list[Done], list[Done]]] = {target: ([], []) for target in targets}
    rows = RecordChange.objects.filter(link__in={link for link, _ in found}, status=S.WRITTEN).order_by("id")
    for pk, run, link, side, verb, before, after in rows.values_list(
        "id", "run", "link", "side", "verb", "before", "after"
    ):
        chain = found.get((link, _side(side)))
        if chain is not None and (run == ctx.run.undoes_id or chain[0]):
            chain[run != ctx.run.undoes_id].append(Done(pk, run, Verb(verb), decode(before), decode(after)))
    return found


def _impossible(known: _Known, target: Target, hidden: set[Target]) -> Inverse | None:
    side = target[1]
    if known.number == DISCONNECTED or (known.number == HELD and known.reason != UNDONE):
        return Inverse(None, word=inverse.HELD, message="A person holds the record. Release it; then undo the run.")
    if known.pair is None:
        return Inverse(None, word=inverse.FORBIDDEN, message="Its entity sync is switched off.")
    if not known.pair.flows(side):
        return Inverse(
            None, word=inverse.FORBIDDEN, message=f"By the settings nothing is written to the {side} any more."
        )
    if target in hidden:
        return Inverse(None, word=inverse.HIDDEN, message="This connection's rights do not show the record any more.")
    if known.number == ENDED and known.state.sides[side].life is not Life.GONE:
        return Inverse(
            None, word=inverse.CHANGED, message="Its link is over; the record may have another partner by now."
        )
    return None


@dataclass
class _Fits:
    """Tries values on a side without writing them."""

    ctx: Context
    partners: dict[str, dict[Side, tuple[Ref | None, int, int | None]]] = field(default_factory=dict)

    def place(self, known: _Known, side: Side, gone_by_undo: frozenset[str]) -> Place:
        """Return a record for `invert`."""
        if known.pair is None:
            raise ValueError("A link whose entity sync is switched off can't be undone.")
        pair = known.pair
        return Place(known.state, side, pair, lambda values, new: self.why(pair, side, values, new), gone_by_undo)

    def why(self, pair: Pair, side: Side, values: CanonicalValues, creating: bool) -> str:
        """Return why a side does not take values, or ''.  A record that is only still to be made is no reason."""
        keys = [ref[1:] for _, ref in references(values, pair.referring) if ref.startswith("@")]
        self.partners |= self.ctx.partners([key for key in keys if key not in self.partners])

        def id_of(key: str, of: Side) -> Ref | None:
            return self.partners[key][of][0] if key in self.partners else None

        try:
            self.ctx.mappers[pair.id].to_side(side, values, id_of, creating=creating)
        except Unfit as unfit:
            return unfit.message
        except Unlinked as unlinked:
            return "it refers to a record that has no link" if unlinked.target.startswith("?") else ""
        return ""


def _row(ctx: Context, one: _Judged, status: str) -> RecordChange:
    (link_id, side), found = one.target, one.inverse
    own = one.known.state.sides[side]
    creating = found.verb is Verb.CREATE
    return RecordChange(
        run=ctx.run, link_id=link_id, entity_sync_id=_sync_of(one), side=side,
        verb=str(found.verb or one.done[-1].verb), status=status, open=1 if status == S.PLANNED else None,
        key=ctx.world.key(), record_id="" if creating else own.id or "",
        before=encode(found.before) if found.before else "", after=encode(found.after) if found.after else "",
        expect="" if creating or found.verb is None else own.version, link_revision=one.known.state.revision,
        settings_revision=ctx.run.settings_revision, fence=ctx.run.fence,
        rule=encode({"*": f"takes back what run {ctx.run.undoes_id} wrote"}) if found.verb else "",
        code="" if found.verb else NOT_UNDONE, field=found.word, message=found.message[:1000],
        undoes_id=one.done[-1].id, at=ctx.world.now(),
    )  # fmt: skip


def _sync_of(one: _Judged) -> int:
    if one.known.pair is not None:
        return one.known.pair.id
    return RecordLink.objects.values_list("entity_sync", flat=True).get(pk=one.target[0])


# Records that others refer to


def _keep_referred(ctx: Context) -> None:
    """A record that something else refers to is made inactive, not deleted: its system might empty those references or refuse."""
    proposed = RecordChange.objects.filter(run=ctx.run, status=S.PROPOSED)
    leaving = {
        (key, side): (pk, link)
        for pk, link, key, side in proposed.filter(verb=Verb.DELETE).values_list("id", "link", "link__key", "side")
    }
    if not leaving:
        return
    going = {(link, side) for (_, side), (_, link) in leaving.items()}
    cleared = {
        (link, side, key)
        for link, side, before in proposed.filter(verb=Verb.UPDATE).values_list("link", "side", "before")
        for key in KEYS.findall(before)
    }
    referrers: dict[tuple[str, str], list[int]] = {}
    for link, side, key in _references(ctx):
        if (key, side) in leaving and (link, side, key) not in cleared and leaving[key, side][1] != link:
            referrers.setdefault((key, side), []).append(link)
    while True:  # what is kept keeps, in turn, what it refers to
        kept = [place for place, by in referrers.items() if any((link, place[1]) not in going for link in by)]
        kept = [place for place in kept if (leaving[place][1], place[1]) in going]
        if not kept:
            return
        going -= {(leaving[place][1], place[1]) for place in kept}
        _make_inactive(ctx, [leaving[place][0] for place in kept])


def _references(ctx: Context) -> Iterator[tuple[int, str, str]]:
    """Yield (link, side, key of the link referred to) of every record that is there."""
    for pair in ctx.pairs:
        last = 0
        while pair.referring:
            links = RecordLink.objects.filter(entity_sync=pair.id, ended=0, id__gt=last).order_by("id")
            rows = list(
                links.values_list("id", "base", "left_staged", "right_staged", "left_life", "right_life")[:2000]
            )
            for link, base, left, right, *lives in rows:
                for side, staged, life in zip((LEFT, RIGHT), (left, right), lives, strict=True):
                    if life in (Life.LIVE, Life.ARCHIVED):
                        yield from ((link, side, key) for key in KEYS.findall(base if staged is None else staged))
            if not rows:
                break
            last = rows[-1][0]


def _make_inactive(ctx: Context, change_ids: Sequence[int]) -> None:
    for block in store.blocks(change_ids, BLOCK):
        with ctx.transaction("keep referred"):
            for change in RecordChange.objects.filter(pk__in=[int(str(pk)) for pk in block]):
                found = removal(
                    ctx.by_id[change.entity_sync_id], _side(change.side), {}, keep="Records that stay refer to it."
                )
                columns = {"message": found.message, "field": found.word}
                if found.verb is None:
                    columns |= {"status": S.REJECTED, "code": NOT_UNDONE, "before": "", "expect": "", "rule": ""}
                else:
                    columns |= {"verb": str(found.verb)}
                RecordChange.objects.filter(pk=change.pk).update(**columns)


# Words


def count_undo(run: Run) -> dict[str, object]:
    """Count the records that an undo has taken back, or would, and why the rest stays."""
    rows = RecordChange.objects.filter(run=run)
    done = (S.WRITTEN,) if run.approved_at else (S.PROPOSED, S.WRITTEN)
    words = {S.CONFLICT: inverse.CHANGED, S.SUPERSEDED: inverse.CHANGED, S.DROPPED: "left out", S.REJECTED: "refused"}
    finished = Exists(rows.filter(status__in=done, link=OuterRef("link"), side=OuterRef("side")))
    why: dict[Target, str] = {}  # the last word on each
    rest = rows.filter(status__in=list(words)).exclude(finished, status=S.CONFLICT)
    for link, side, status, code, word in rest.order_by("id").values_list("link", "side", "status", "code", "field"):
        why[link, _side(side)] = word if code == NOT_UNDONE and word else words[S(status)]
    undone = rows.filter(status__in=done).order_by().values("link", "side").distinct().count()
    return {"undone": undone, "not": dict(Counter(why.values()).most_common())}


def summary(run: Run) -> str:
    """Say in one line what an undo did, or would do."""
    told = run.counts.get("undo", {}) if run.counts else {}
    done, why = int(told.get("undone", 0)), dict(told.get("not", {}))
    waits = run.phase == Run.Phase.PROPOSED
    text = f"{done} to be undone" if waits else f"{done} undone"
    if why:
        reasons = ", ".join(f"{count} {word}" for word, count in why.items())
        cannot = "can't" if waits else "could not"
        text += f", {sum(why.values())} {cannot} be ({reasons})"
    return text
