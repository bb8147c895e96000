"""What became of a batch?  Records every outcome on its change and its link in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from django.db.models import F, Q

from connectors.contract import Fetched, Operation, Outcome, Record, Result, RetryableError, Safe, Unanswered, Verb
from connectors.models import Promotion, RecordChange, RecordLink, Run
from connectors.sync import store
from connectors.sync.context import Context, modified_text
from connectors.sync.matching import ENDED, HELD, LINKED
from connectors.sync.plan import DELETED, UNDONE_HERE, Life, Pending, unmarked
from connectors.sync.planning import release, rest
from connectors.sync.problems import key_of, see
from connectors.sync.proposals import withhold
from connectors.sync.pull import fetch_and_stage, stage_records
from connectors.sync.rules import ARCHIVED, OTHER, Pair, Side
from connectors.sync.undone import of_undo, undone_row, withdraw_promotions
from connectors.sync.values import CanonicalValues, decode, encode, parse_datetime


@dataclass(frozen=True, slots=True)
class Item:
    """One change on its way."""

    change_id: int
    link_id: int
    link_key: str
    operation: Operation
    after: CanonicalValues  # without what was left out
    left_out: frozenset[str] = frozenset()
    spared: frozenset[str] = frozenset()  # fields that a person left out of this run
    shown: CanonicalValues = field(default_factory=dict)  # what a record holds in them that an earlier try had made

    def with_current(self, record: Record) -> Item:
        """Add the record as it is now, and its version as the expected one."""
        operation = replace(self.operation, current=record, expect=self.operation.expect or record.version)
        return replace(self, operation=operation)


def spared_by(left_out: str) -> frozenset[str]:
    """Return the fields that a person left out of a change."""
    return frozenset(decode(left_out)) if left_out else frozenset()


@dataclass(slots=True)
class LinkRow:
    """A link as it is when its outcome is recorded."""

    id: int
    revision: int
    base: str
    left_staged: str | None
    left_quirk: str
    right_staged: str | None
    right_quirk: str
    pending: int | None
    left_life: int
    right_life: int
    left_modified: str
    right_modified: str
    args: str


LINK_COLUMNS = (
    "id", "revision", "base", "left_staged", "left_quirk", "right_staged", "right_quirk", "pending", "left_life", "right_life",
    "left_modified", "right_modified", "args",
)  # fmt: skip


LINKS = store.Prepared(lambda ids: RecordLink.objects.filter(pk__in=ids).values_list(*LINK_COLUMNS))
OPEN_WRITES = store.Prepared(
    lambda links, side: RecordChange.objects.filter(
        link__in=links, side=side, status__in=["planned", "sending", "unknown"]
    ).values_list("link")
)


STILL_OPEN = store.Prepared(
    lambda ids: RecordChange.objects.filter(pk__in=ids, open__in=[2, 3]).values_list("id", "run__purpose")
)


def record_outcomes(
    ctx: Context, pair: Pair, side: Side, items: Sequence[Item], outcomes: Sequence[Outcome], *, repeat: bool = False,
    found: Sequence[Record] | None = None,
) -> None:  # fmt: skip
    """Store what each item came to.  Raises RetryableError where something is to be done later.

    `found`: records that were looked up because nothing else tells what became of the items; they are staged, since what
    they show may be a person's edit.
    """
    by_key = {outcome.key: outcome for outcome in outcomes}
    answers = [(item, by_key.get(item.operation.key) or Outcome(item.operation.key, Result.UNKNOWN)) for item in items]
    to_stage = list(found or ())
    if found is None:
        answers, to_stage = _read_back(ctx, pair, side, answers, repeat=repeat)
    # A batch with an item that was not answered is repeated as a whole, so what was sent is kept for all of its items.
    keep = any(o.result is Result.UNKNOWN for _, o in answers)
    if keep:
        answers = [(i, replace(o, result=Result.UNKNOWN) if o.result is Result.LATER else o) for i, o in answers]
    with ctx.transaction("record outcomes"):
        still: dict[int, str] = dict(STILL_OPEN.read([item.change_id for item, _ in answers]))
        answers = [(i, o) for i, o in answers if i.change_id in still]  # the others somebody else has settled meanwhile
        undoing = Run.Purpose.UNDO in still.values()  # asked of the rows: who settles them may be another run
        if undoing:
            answers = [(i, _gone_already(i, o)) for i, o in answers]
        written = [(i, o) for i, o in answers if o.result is Result.WRITTEN]
        refused = [(i, o) for i, o in answers if o.result in (Result.REJECTED, Result.EXISTS)]
        written, to_stage = _adopted(ctx, pair, side, written, to_stage)
        _store_written(ctx, pair, side, written, keep=keep, undoing=undoing)
        if Run.Purpose.CHECK in still.values():
            runs = RecordChange.objects.filter(pk__in=still).values_list("run", flat=True).distinct()
            withhold(list(runs), [item.link_id for item, _ in written])
        for item, outcome in refused:
            _store_refused(ctx, pair, side, item, outcome, undoing=undoing)
        _store_others(ctx, answers)
        done = [] if keep else [item.change_id for item, o in answers if o.result is not Result.WRITTEN]
        if done:
            RecordChange.objects.filter(pk__in=done, open__isnull=True).update(sent="")
        stage_records(ctx, side, to_stage)
    moved = [i for i, o in answers if o.result in (Result.CONFLICT, Result.GONE)]
    if moved:
        _look_again(ctx, pair, side, moved)
    _raise_if_unfinished(answers, ctx.world.now())


def _gone_already(item: Item, outcome: Outcome) -> Outcome:
    """A record that was to be deleted and is not there: that is what an undo wanted."""
    if outcome.result is not Result.GONE or item.operation.verb is not Verb.DELETE:
        return outcome
    return replace(outcome, result=Result.WRITTEN, message="It was gone already.")


def _read_back(
    ctx: Context, pair: Pair, side: Side, answers: list[tuple[Item, Outcome]], *, repeat: bool
) -> tuple[list[tuple[Item, Outcome]], list[Record]]:
    """Where the answer did not tell the values, read them; where a repeat met its own first try, adopt that.

    The records that come second are to be staged: what they show may be a person's edit.
    """
    entity = pair.entity(side)
    asked: list[str] = []
    for item, outcome in answers:
        own = (
            outcome.result is Result.EXISTS and entity.safe is Safe.CLIENT_ID and outcome.id in ("", item.operation.id)
        )
        again = repeat and outcome.result is Result.CONFLICT and item.operation.verb is not Verb.CREATE
        silent = outcome.result is Result.WRITTEN and outcome.values is None and item.operation.verb is not Verb.DELETE
        if own or again or silent:
            asked.append(outcome.id or item.operation.id)
    if not asked:
        return answers, []
    fetched: Fetched = ctx.connectors[side].fetch(entity.name, asked, ctx.wanted(side, entity.name))
    ctx.reads[side] += len(fetched.records)
    records = {record.id: record for record in fetched.records}
    seen: list[tuple[Item, Outcome]] = []
    to_stage: list[Record] = []
    for item, outcome in answers:
        record = records.get(outcome.id or item.operation.id)
        outcome = outcome if record is None else _seen_now(ctx, pair, side, item, outcome, record)
        if record is not None and outcome.result is Result.WRITTEN and outcome.values is None:
            to_stage.append(record)
        seen.append((item, outcome))
    return seen, to_stage


def _seen_now(ctx: Context, pair: Pair, side: Side, item: Item, outcome: Outcome, record: Record) -> Outcome:
    if outcome.result is Result.WRITTEN:
        if outcome.values is not None:
            return outcome
        # Accepted as the system's own way of storing only when it is exactly the version that was written.
        same = not outcome.version or outcome.version == record.version
        return replace(
            outcome,
            values=record.values if same else None,
            version=outcome.version or record.version,
            modified=record.modified if same else outcome.modified,
        )
    if outcome.result is Result.CONFLICT and not _holds(ctx, pair, side, item, record):
        return outcome
    # Which version the earlier try made is not known, so nothing that the record shows is taken for the system's own.
    return Outcome(
        item.operation.key, Result.WRITTEN, record.id, code=outcome.code, message="settled: an earlier try had done it"
    )


def _holds(ctx: Context, pair: Pair, side: Side, item: Item, record: Record) -> bool:
    """Whether a record holds what an earlier try may have written."""
    if item.operation.verb in (Verb.ARCHIVE, Verb.RESTORE):
        return record.archived == (item.operation.verb is Verb.ARCHIVE)
    now = _canonical(ctx, pair, side, record)
    return all(now.get(name) == value for name, value in item.after.items())


def _canonical(ctx: Context, pair: Pair, side: Side, record: Record) -> CanonicalValues:
    mapper = ctx.mappers[pair.id]
    keys = ctx.keys_of(side, set(mapper.refs(side, record.values)))
    return mapper.canonical(side, record, lambda entity, record_id: keys.get((entity, record_id)))


def _adopted(
    ctx: Context, pair: Pair, side: Side, written: list[tuple[Item, Outcome]], to_stage: list[Record]
) -> tuple[list[tuple[Item, Outcome]], list[Record]]:
    """An earlier try's write that is only found again turns no winner in a field left out of it, as its answer would not.

    Such a record is staged with the time that it had before, and what a new one holds by itself is told to its item.  A record
    of a later version than the one that was answered is somebody else's edit, and has its own time.
    """
    told = {record.id: record for record in to_stage}
    former: dict[int, str] = {}
    if links := [item.link_id for item, outcome in written if item.spared and not outcome.version]:
        former = dict(RecordLink.objects.filter(pk__in=links).values_list("id", f"{side}_modified"))
    found: list[tuple[Item, Outcome]] = []
    for item, outcome in written:
        record = told.get(outcome.id or item.operation.id)
        if record is not None and item.link_id in former:
            if item.operation.verb is Verb.CREATE:
                values = _canonical(ctx, pair, side, record)
                names = (item.spared & pair.tracked) - pair.reported(side)
                item = replace(item, shown={name: values[name] for name in names if name in values})
            at = former[item.link_id]
            told[record.id] = replace(record, modified=parse_datetime(at) if at else None)
        found.append((item, outcome))
    return found, [told[record.id] for record in to_stage]


def _links(ids: Sequence[int]) -> dict[int, LinkRow]:
    return {row[0]: LinkRow(*row) for row in LINKS.read(list(ids))}


LINK_SET = (
    "base", "{s}_staged", "{s}_quirk", "{o}_staged", "{o}_quirk",
    "{s}_entity", "{s}_id", "{s}_version", "{s}_modified", "{s}_life", "{s}_match",
    "state", "ended", "pending", "reason", "args", "waits_on", "touched_run",
)  # fmt: skip


def _store_written(
    ctx: Context, pair: Pair, side: Side, written: Sequence[tuple[Item, Outcome]], *, keep: bool, undoing: bool
) -> None:  # fmt: skip
    if not written:
        return
    links = _links([item.link_id for item, _ in written])
    others = _other_open([item.link_id for item, _ in written], side)
    keys = _answered_keys(ctx, pair, side, written)
    rows, changes, released, promoted = [], [], set(), []
    args, before = of_undo([item.change_id for item, _ in written]) if undoing else ("", {})
    for item, outcome in written:
        link = links[item.link_id]
        if undoing:
            told = _told(ctx, pair, side, item, outcome, keys)
            rows.append(undone_row(ctx, pair, side, item, outcome, link, told, before[item.change_id], args))
        else:
            rows.append(_written_row(ctx, pair, side, item, outcome, link, keys, item.link_id in others))
        record_id = outcome.id or item.operation.id
        sent = () if keep else ("",)
        changes.append(("written", None, record_id, outcome.version, outcome.message[:1000], *sent, item.change_id))
        if item.operation.verb is Verb.CREATE:
            released.add(item.link_key)
            promoted.append(item.link_id)
    columns = tuple(name.format(s=side, o=OTHER[side]) for name in LINK_SET)
    store.update_many(RecordLink, columns, ("id",), rows, bump="revision")
    if others:
        # The plan for the other side was made on the same facts: it stays good.
        RecordChange.objects.filter(link__in=others, side=OTHER[side], open=1).update(
            link_revision=F("link_revision") + 1
        )
    answered = ("status", "open", "record_id", "version", "message", *(() if keep else ("sent",)))
    store.update_many(RecordChange, answered, ("id",), changes)
    if released:
        release(ctx, released)
    if undoing:
        gone = (Verb.DELETE, Verb.ARCHIVE)
        removed = [item.link_id for item, _ in written if item.operation.verb in gone and not item.after]
        withdraw_promotions(removed, ctx.run.pk)
    elif side in pair.on_request and promoted:
        _promotions_done(ctx, pair, OTHER[side], promoted)


def _other_open(link_ids: Sequence[int], side: Side) -> set[int]:
    return {row[0] for row in OPEN_WRITES.read(list(link_ids), OTHER[side])}


def _answered_keys(
    ctx: Context, pair: Pair, side: Side, written: Sequence[tuple[Item, Outcome]]
) -> dict[tuple[str, str], str]:
    mapper = ctx.mappers[pair.id]
    wanted: set[tuple[str, str]] = set()
    for _, outcome in written:
        if outcome.values is not None:
            wanted.update(mapper.refs(side, outcome.values))
    return ctx.keys_of(side, wanted) if wanted else {}


def _written_row(
    ctx: Context, pair: Pair, side: Side, item: Item, outcome: Outcome, link: LinkRow,
    keys: dict[tuple[str, str], str], other_open: bool,
) -> store.Row:  # fmt: skip
    verb, other = item.operation.verb, OTHER[side]
    record_id = outcome.id or item.operation.id
    if verb is Verb.ARCHIVE and not item.after:
        return _archived_for_a_delete(ctx, pair, side, item, outcome, link)
    if verb is Verb.DELETE:
        life = Life.GONE
        return (
            link.base, _staged(link, side), _quirk(link, side), _staged(link, other), _quirk(link, other),
            pair.entity(side).name, record_id, outcome.version, modified_text(outcome.modified), int(life), "", ENDED, link.id,
            None, "", "", None, ctx.run.pk, link.id,
        )  # fmt: skip
    base = {**decode(link.base), **{n: v for n, v in item.after.items() if n in pair.tracked}}
    if verb is Verb.RESTORE:
        base.pop(UNDONE_HERE, None)
    quirk = {n: v for n, v in unmarked(decode(_quirk(link, side)), item.after).items() if n not in item.after}
    staged_own: CanonicalValues = _decoded(_staged(link, side)) or {}
    staged_own = {n: v for n, v in staged_own.items() if n not in item.after}
    archived = _archived(item, link.left_life if side == "left" else link.right_life)
    if verb is Verb.CREATE and pair.keeps_archived:
        base[ARCHIVED] = False
    # What is agreed anew is what the other side holds: how it stored the former value counts no more.
    quirk_other = {n: v for n, v in decode(_quirk(link, other)).items() if n not in item.after}
    staged_other = rest(_decoded(_staged(link, other)), base, quirk_other, pair)
    if outcome.values is not None:
        now = _told(ctx, pair, side, item, outcome, keys)
        now = {n: v for n, v in now.items() if n in pair.tracked and n not in pair.reported(side)}
        now.pop(ARCHIVED, None)
        # What the write's own answer shows differently for a written field is this side's way of storing it.
        quirk.update({n: now[n] for n in item.after if n in now and now[n] != base.get(n)})
        staged_own = {**staged_own, **{n: v for n, v in now.items() if n not in item.after}}
    if verb is Verb.CREATE:
        # What the new record has by itself in a field that a person left out is no edit: its source goes on being the one that
        # has changed, whatever the policy says of two values that meet.
        base |= {n: staged_own[n] for n in item.spared & pair.tracked if n in staged_own} | item.shown
    own = {**base, **quirk}
    staged_own = {n: v for n, v in staged_own.items() if n not in own or own[n] != v}
    staged = rest({**own, **staged_own}, base, quirk, pair) if staged_own else None
    pending, reason, args, waits_on = _after(item, link, staged, staged_other, other_open)
    return (
        encode(base), staged, encode(quirk) if quirk else "", staged_other, encode(quirk_other) if quirk_other else "",
        pair.entity(side).name, record_id, outcome.version, _modified(item, outcome, side, link),
        int(Life.ARCHIVED if archived else Life.LIVE), pair.match_hash({**base, **own}),
        LINKED, 0, pending, reason, args, waits_on, ctx.run.pk, link.id,
    )  # fmt: skip


def _modified(item: Item, outcome: Outcome, side: Side, link: LinkRow) -> str:
    """When the record was last changed.  Our own write is no later edit: it must not turn who wins in a field left out of it."""
    if item.spared:
        return link.left_modified if side == "left" else link.right_modified
    return modified_text(outcome.modified)


def _told(
    ctx: Context, pair: Pair, side: Side, item: Item, outcome: Outcome, keys: dict[tuple[str, str], str]
) -> CanonicalValues:
    """Return what a write's answer shows, as canonical values; nothing where it shows none."""
    if outcome.values is None:
        return {}
    record = Record(pair.entity(side).name, outcome.id or item.operation.id, outcome.values)
    return ctx.mappers[pair.id].canonical(side, record, lambda entity, i: keys.get((entity, i)))


def _archived_for_a_delete(
    ctx: Context, pair: Pair, side: Side, item: Item, outcome: Outcome, link: LinkRow
) -> store.Row:
    """The other side deleted its record and this one made its own inactive: the link stays, so that it is not made again."""
    base = {**decode(link.base), DELETED: True}
    if ARCHIVED in pair.tracked:
        base[ARCHIVED] = True
    return (
        encode(base), _staged(link, side), _quirk(link, side), _staged(link, OTHER[side]), _quirk(link, OTHER[side]),
        pair.entity(side).name, item.operation.id, outcome.version, modified_text(outcome.modified), int(Life.ARCHIVED),
        pair.match_hash(base),
        LINKED, 0, int(Pending.SKIPPED), "deleted", encode({"side": OTHER[side]}), None, ctx.run.pk, link.id,
    )  # fmt: skip


def _after(
    item: Item, link: LinkRow, staged: str | None, staged_other: str | None, other_open: bool
) -> tuple[int | None, str, str, str | None]:
    """Why a link is not agreed after a write: the other side's write is still open, or something is left to plan."""
    # A person's decision about the fields stays until all of it is written: the other side's write may be planned again.
    decided = decode(link.args).get("resolution")
    if other_open:
        return int(Pending.PLANNED), "planned", encode({"resolution": decided}) if decided else "", None
    if staged is None and staged_other is None:
        return None, "", "", None
    fields: dict[str, object] = decided if isinstance(decided, dict) else {}
    if isinstance(decided, str) and decided:  # for all fields: of those that were left out it holds, too
        fields = dict.fromkeys(_apart(staged, staged_other), decided)
    left = {name: side for name, side in fields.items() if name not in item.after}
    return int(Pending.DIRTY), "changed", encode({"resolution": left}) if left else "", None


def _apart(staged: str | None, staged_other: str | None) -> list[str]:
    """Return the fields in which both sides differ from what was agreed, or may, and from each other."""
    one, other = _decoded(staged) or {}, _decoded(staged_other) or {}
    return [name for name, value in one.items() if name in other and other[name] != value]


def _archived(item: Item, life: int) -> bool:
    if item.operation.verb in (Verb.ARCHIVE, Verb.RESTORE):
        return item.operation.verb is Verb.ARCHIVE
    return item.operation.verb is Verb.UPDATE and life == Life.ARCHIVED


def _staged(link: LinkRow, side: Side) -> str | None:
    return link.left_staged if side == "left" else link.right_staged


def _quirk(link: LinkRow, side: Side) -> str:
    return link.left_quirk if side == "left" else link.right_quirk


def _decoded(text: str | None) -> CanonicalValues | None:
    return None if text is None else decode(text)


def _store_refused(
    ctx: Context, pair: Pair, side: Side, item: Item, outcome: Outcome, *, undoing: bool
) -> None:  # fmt: skip
    message = outcome.message or "The system refused the record without saying why."
    if outcome.result is Result.EXISTS:
        message = _taken(ctx, pair, side, outcome) or message
    code = outcome.code or str(outcome.result)
    print_ = fingerprint(pair, side, code, outcome.field)
    RecordChange.objects.filter(pk=item.change_id).update(
        status="rejected", open=None, code=code[:100], field=outcome.field[:100], message=message[:1000],
        fingerprint=print_, record_id=item.operation.id if item.operation.verb is not Verb.CREATE else "",
    )  # fmt: skip
    if undoing:
        leave(ctx, [item.link_id])
    else:
        park(ctx, item.link_id, code, outcome.field, message, side, print_)


def leave(ctx: Context, link_ids: Sequence[int]) -> None:
    """What an undo could not take back goes on as before: the next run looks whether there is anything to do."""
    RecordLink.objects.filter(pk__in=link_ids).exclude(state=HELD).update(
        pending=int(Pending.DIRTY), reason="changed", args="", touched_run=ctx.run.pk
    )


def park(
    ctx: Context, link_id: int, code: str, field_name: str, message: str, side: Side, print_: str, *, option: str = ""
) -> None:  # fmt: skip
    """Set a link aside with its reason until something about it changes or a person asks."""
    RecordLink.objects.filter(pk=link_id).update(
        pending=int(Pending.PARKED),
        reason="parked",
        args=encode(
            {"code": code, "field": field_name, "message": message[:1000], "side": side, "fingerprint": print_}
            | ({"option": option} if option else {})
        ),
        touched_run=ctx.run.pk,
    )
    see(RecordLink.objects.filter(pk=link_id), ctx.world.now(), ctx.noted)
    _promotion_failed(ctx, link_id, OTHER[side], message)


def _promotion_failed(ctx: Context, link_id: int, source: Side, message: str) -> None:
    if not any(OTHER[source] in pair.on_request for pair in ctx.pairs):
        return
    for entity_sync, record_id in RecordLink.objects.filter(pk=link_id).values_list("entity_sync", f"{source}_id"):
        Promotion.objects.filter(
            entity_sync=entity_sync, side=source, status="queued", external_id=record_id or ""
        ).update(status="error", reason=message[:500], link=link_id)


def fingerprint(pair: Pair, side: Side, code: str, field_name: str, option: str = "") -> str:
    """What records parked for the same cause have in common."""
    return key_of(pair.id, side[0], code or "rejected", field_name, option)


def _taken(ctx: Context, pair: Pair, side: Side, outcome: Outcome) -> str:
    """Say which record is in the way, and whether it already has a partner."""
    if not outcome.id:
        return outcome.message
    entity = pair.entity(side).name
    link = RecordLink.objects.filter(
        Q(**{f"{side}_entity": entity, f"{side}_id": outcome.id}),
        integration=ctx.integration,
        family=pair.family,
        ended=0,
    ).first()
    partner = getattr(link, f"{OTHER[side]}_id", None) if link else None
    linked = (
        f", which is linked to {getattr(link, f'{OTHER[side]}_entity')} {partner}"
        if partner
        else ", which has no partner"
    )
    return f"The name is taken by {entity} {outcome.id}{linked}. {outcome.message}"


def _store_others(ctx: Context, answers: Sequence[tuple[Item, Outcome]]) -> None:
    for item, outcome in answers:
        if outcome.result in (Result.WRITTEN, Result.REJECTED, Result.EXISTS):
            continue  # stored already
        row = RecordChange.objects.filter(pk=item.change_id)
        if outcome.result is Result.CONFLICT or (
            outcome.result is Result.GONE and item.operation.verb is not Verb.DELETE
        ):
            row.update(status="conflict", open=None, code=outcome.code[:100], message=outcome.message[:1000])
            again = item.link_id not in ctx.retried
            ctx.retried.add(item.link_id)
            RecordLink.objects.filter(pk=item.link_id).exclude(state=HELD).update(
                pending=int(Pending.DIRTY if again else Pending.WAITING),
                reason="changed" if again else "changed meanwhile",
                touched_run=ctx.run.pk,
            )
        elif outcome.result is Result.GONE:
            row.update(status="written", open=None, message="it was gone already")
            RecordLink.objects.filter(pk=item.link_id).update(
                state=ENDED, ended=item.link_id, pending=None, reason="", waits_on=None, touched_run=ctx.run.pk
            )
        elif outcome.result is Result.LATER:
            row.update(status="planned", open=1, code=outcome.code[:100], message=outcome.message[:1000])
        elif outcome.result is Result.UNKNOWN:
            row.update(status="unknown", open=3, code=outcome.code[:100], message=outcome.message[:1000])


def _look_again(ctx: Context, pair: Pair, side: Side, moved: Sequence[Item]) -> None:
    """Read what was not as expected and stage it, so that it is planned on what is there."""
    asked = [item for item in moved if item.operation.verb is not Verb.DELETE and item.operation.id]
    waiting = {
        item.link_id
        for item in asked
        if RecordLink.objects.filter(pk=item.link_id, reason="changed meanwhile").exists()
    }
    fetch_and_stage(ctx, side, pair.entity(side).name, [item.operation.id for item in asked])
    if waiting:
        RecordLink.objects.filter(pk__in=waiting, pending=Pending.DIRTY).update(
            pending=int(Pending.WAITING), reason="changed meanwhile"
        )


def _raise_if_unfinished(answers: Sequence[tuple[Item, Outcome]], now: datetime) -> None:
    later = [outcome for _, outcome in answers if outcome.result is Result.LATER]
    unknown = [outcome for _, outcome in answers if outcome.result is Result.UNKNOWN]
    if unknown:
        raise Unanswered(f"{len(unknown)} writes were not answered: {unknown[0].message or 'no outcome was told'}")
    if later:
        waits = [(outcome.retry_at - now).total_seconds() for outcome in later if outcome.retry_at]
        raise RetryableError(
            f"{len(later)} writes are to be tried later: {later[0].message}", retry_after=max(waits, default=None)
        )


def _promotions_done(ctx: Context, pair: Pair, source: Side, link_ids: Sequence[int]) -> None:
    rows = dict(RecordLink.objects.filter(pk__in=link_ids).values_list(f"{source}_id", "id"))
    for external_id, link_id in rows.items():
        Promotion.objects.filter(
            entity_sync=pair.id, side=source, external_id=external_id or "", status="queued"
        ).update(status="success", reason="", link_id=link_id)
