"""What does a preview propose, what does a person leave out of it, and what is written once it is approved?

Removals (a delete, or making inactive what can't be deleted) are written only where a person ticked them; only an undo is
asked for as a whole.  What is left out is left out of this run alone: its base does not move, so a later run proposes it again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Case, CharField, Count, F, Q, QuerySet, Value, When

from connectors.contract import Write
from connectors.models import RecordChange, RecordLink, Run, Scope
from connectors.sync import store
from connectors.sync.guards import REMOVED
from connectors.sync.plan import APPROVAL, UNTICKED, Life, Pending
from connectors.sync.rules import LEFT, RIGHT, Pair, Side, field_title
from connectors.sync.sheet import UNAPPROVED
from connectors.sync.values import CanonicalValues, decode, encode

CHANGED = "The record has changed since the preview; look at it again."
NOT_TICKED = "Nobody ticked this removal: the record waits until a person approves it."
PREVIEW_KEPT = timedelta(hours=1)  # DESIGN 9.7
CHECK_KEPT = timedelta(days=7)  # until the next weekly one; what has changed by then bounces anyway
KINDS = ("create", "update", "restore", "archive", "delete")
MOST_LOOKED_AT = 5000  # proposals of which a page says whether their record has changed since
MOST_TOLD = 50  # decisions remembered, to say what changed since a page was opened
BLOCK = 500
S = RecordChange.Status
WAITING_COLUMNS = (
    "link", "side", "verb", "link_revision", "link__revision", "link__base", "link__pending", "link__reason", "link__args"
)  # fmt: skip
REMOVAL = Q(verb="delete") | Q(verb="archive", after="")  # made inactive, where the system knows no delete
KIND = Case(When(REMOVAL, then=Value("delete")), default=F("verb"), output_field=CharField())


class PlanChanged(ValueError):
    """The plan is not what the person has seen; the sentence says what changed."""


class WrongChoice(ValueError):
    """What was asked for does not fit the proposals; `field` names what is wrong with it."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


# Looking


def of_run(run: Run) -> QuerySet[RecordChange]:
    """Return what may be ticked: proposed, or left out by a person."""
    return RecordChange.objects.filter(run=run, status__in=[S.PROPOSED, S.DROPPED])


def of_kind(rows: QuerySet[RecordChange], kind: str, side: str = "") -> QuerySet[RecordChange]:
    """Narrow changes to those of one kind (every removal is a delete) and side; empty: all."""
    if kind == "delete":
        rows = rows.filter(REMOVAL)
    elif kind:
        rows = rows.filter(verb=kind).exclude(REMOVAL)
    return rows.filter(side=side) if side else rows


def is_removal(change: RecordChange) -> bool:
    """Whether it takes a record away."""
    return change.verb == "delete" or (change.verb == "archive" and not change.after)


def kind_of(change: RecordChange) -> str:
    """Return under which kind a change is counted."""
    return "delete" if is_removal(change) else change.verb


def is_ticked(run: Run, change: RecordChange) -> bool:
    """Whether an approval would write it."""
    if change.status != S.PROPOSED:
        return False
    return change.allowed or not is_removal(change) or run.purpose == Run.Purpose.UNDO


def _ticked(run: Run) -> Q:
    if run.purpose == Run.Purpose.UNDO:  # asked for as a whole
        return Q(status=S.PROPOSED)
    return Q(status=S.PROPOSED) & (~REMOVAL | Q(allowed=True))


def count_proposals(run: Run, records: int | None = None) -> dict[str, object]:
    """Count what is proposed and what of it is ticked, by kind and side.  `records`: how many it concerns, where that is known."""
    kinds: dict[str, dict[str, dict[str, int]]] = {}
    rows = of_run(run).annotate(kind=KIND).values_list("kind", "side")
    for kind, side, total, ticked in rows.annotate(total=Count("id"), on=Count("id", filter=_ticked(run))).order_by():
        kinds.setdefault(kind, {})[side] = {"all": total, "ticked": ticked}
    left_out = of_run(run).filter(status=S.PROPOSED).exclude(left_out="").values_list("left_out", flat=True)
    return {
        "kinds": {kind: kinds[kind] for kind in KINDS if kind in kinds},
        "fields_left_out": sum(len(decode(text)) for text in left_out),
        "records": of_run(run).values("link").distinct().count() if records is None else records,
    }


def count_changes(run: Run) -> dict[str, dict[str, int]]:
    """Count all writes of a run, whatever became of them, by kind and side."""
    kinds: dict[str, dict[str, int]] = {}
    rows = RecordChange.objects.filter(run=run).annotate(kind=KIND).values_list("kind", "side")
    for kind, side, count in rows.annotate(count=Count("id")).order_by():
        kinds.setdefault(kind, {})[side] = count
    return kinds


def counted(run: Run, what: str, *, kind: str = "", side: str = "") -> int:
    """Return a number of `count_proposals` ("all" or "ticked"), summed over kinds and sides where none is named."""
    if run.phase == Run.Phase.PROPOSED and "proposals" not in (run.counts or {}):  # made by an older release
        run.counts = {**(run.counts or {}), "proposals": count_proposals(run)}
    numbers_of = run.counts.get("proposals", {}) if run.counts else {}
    return sum(
        int(numbers[what])
        for name, sides in numbers_of.get("kinds", {}).items()
        for where, numbers in sides.items()
        if kind in ("", name) and side in ("", where)
    )


def stale(run: Run) -> QuerySet[RecordChange]:
    """Return proposals whose record has changed since they were made, of the first few thousand."""
    first = RecordChange.objects.filter(run=run, status=S.PROPOSED).order_by("id").values("pk")[:MOST_LOOKED_AT]
    return RecordChange.objects.filter(pk__in=first).exclude(link_revision=F("link__revision"))


def seen(run: Run) -> str:
    """Return what a person who looks at the proposals now has seen: an approval carries it along."""
    return f"{run.plan_revision}.{stale(run).count()}" if run.phase == Run.Phase.PROPOSED else ""


def fixed_fields(pairs: Iterable[Pair]) -> dict[str, dict[str, dict[str, str]]]:
    """Return the fields that a creation can't do without: pair -> side -> field -> why."""
    found: dict[str, dict[str, dict[str, str]]] = {}
    for pair in pairs:
        matched = {name for names in pair.match for name in names}
        for side in (LEFT, RIGHT):
            whys = {rule.name: _fixed(pair, rule.name, side, matched) for rule in pair.rules}
            found.setdefault(str(pair.id), {})[side] = {name: why for name, why in whys.items() if why}
    return found


def _fixed(pair: Pair, name: str, side: Side, matched: set[str]) -> str:
    rule = pair.by_name[name]
    target = rule.of(side)
    if target is None or not rule.writable(side, creating=True):
        return ""
    if rule.required or target.required:
        return "No record can be made without it."
    if name in matched:
        return "Records are matched by it."
    if name not in pair.tracked or target.write is Write.CREATE:
        return "It is written only when the record is made: left out now, it would never follow."
    return ""


def now_of(link: RecordLink, side: Side) -> CanonicalValues | None:
    """Return what one side holds; None where it has no record."""
    if getattr(link, f"{side}_id") is None or getattr(link, f"{side}_life") in (Life.NONE, Life.GONE):
        return None
    staged = getattr(link, f"{side}_staged")
    return decode(staged) if staged is not None else {**decode(link.base), **decode(getattr(link, f"{side}_quirk"))}


def why_fixed(run: Run, change: RecordChange, name: str) -> str:
    """Return why a field can't be left out by itself, or ''."""
    if change.verb not in ("create", "update"):
        return "The record is taken or left as a whole."
    if run.purpose == Run.Purpose.UNDO:
        return "An undo takes a record back as a whole, or leaves it."
    if change.verb == "update":
        return ""
    fixed = run.progress.get("fixed", {}).get(str(change.entity_sync_id), {}).get(change.side, {})
    return str(fixed.get(name, ""))


# Deciding


def decide(
    run: Run,
    ticks: Mapping[int, bool],
    fields: Mapping[int, Mapping[str, bool]] | None = None,
    *,
    seen: str | None = None,
    by: object = None,
) -> int:
    """Tick or untick proposals, and single fields of proposals.  Returns how many proposals that changed.

    Raises PlanChanged where the plan is not the one that was seen, WrongChoice where a choice does not fit.
    """

    def act(locked: Run) -> tuple[int, str]:
        wanted = {**dict.fromkeys(fields or {}, None), **ticks}
        rows = {row.pk: row for row in of_run(locked).filter(pk__in=list(wanted))}
        if missing := sorted(set(wanted) - set(rows)):
            raise WrongChoice(
                "records", f"{locked} has no proposal {', '.join(map(str, missing[:5]))} to decide about."
            )
        on, off, changed = 0, 0, 0
        for pk, row in rows.items():
            before = (row.status, row.allowed, row.left_out)
            if (tick := wanted[pk]) is not None and tick != is_ticked(locked, row):
                _tick(locked, row, tick)
                on, off = on + tick, off + (not tick)
            if names := (fields or {}).get(pk):
                _tick_fields(locked, row, names, alone=wanted[pk] is None)
            if before != (row.status, row.allowed, row.left_out):
                changed += 1
                row.decided_by = by if isinstance(by, User) else None
                row.save(update_fields=["status", "allowed", "left_out", "decided_by"])
        told = [f"ticked {on}"] if on else []
        told += [f"left out {off}"] if off else []
        if others := changed - on - off:
            told.append(f"decided about fields of {others}")
        return changed, ", ".join(told)

    return _decide(run, seen, by, act)


def decide_proposals(run: Run, ids: Sequence[int], *, drop: bool, by: object = None) -> int:
    """Untick (or tick again) those of a preview's proposals that are still there.  Returns how many that changed."""
    there = of_run(run).filter(pk__in=list(ids)).values_list("pk", flat=True)
    return decide(run, dict.fromkeys(there, not drop), by=by)


def decide_all(
    run: Run,
    *,
    tick: bool,
    kind: str = "",
    side: str = "",
    confirmed: int | None = None,
    seen: str | None = None,
    by: object = None,
) -> int:
    """Tick or untick all proposals of a kind and side, on all pages; without a kind all but removals.

    All removals are ticked at once only by who confirms how many they are.  Returns how many that changed.
    """

    def act(locked: Run) -> tuple[int, str]:
        rows = of_kind(of_run(locked), kind, side)
        undo = locked.purpose == Run.Purpose.UNDO
        if kind == "" and not undo:
            rows = rows.exclude(REMOVAL)
        if kind == "delete" and tick and confirmed != (count := rows.count()):
            raise WrongChoice("confirmed", f"{count} records would be removed. Confirm that number to tick them all.")
        person = by if isinstance(by, User) else None
        if kind == "delete" and not undo:
            # What a person had left out before is proposed again: a removal that is not ticked waits as a proposal.
            changed = rows.exclude(allowed=tick, status=S.PROPOSED).update(
                allowed=tick, status=S.PROPOSED, decided_by=person
            )
        else:
            source, target = (S.DROPPED, S.PROPOSED) if tick else (S.PROPOSED, S.DROPPED)
            changed = rows.filter(status=source).update(status=target, decided_by=person)
        what = {"": "all but removals"}.get(kind, f"all of {kind}") + (f" on the {side}" if side else "")
        return changed, f"{'ticked' if tick else 'left out'} {what} ({changed})"

    return _decide(run, seen, by, act)


def _tick(run: Run, row: RecordChange, tick: bool) -> None:
    if is_removal(row) and run.purpose != Run.Purpose.UNDO:
        row.status, row.allowed = S.PROPOSED, tick
        return
    row.status = S.PROPOSED if tick else S.DROPPED


def _tick_fields(run: Run, row: RecordChange, names: Mapping[str, bool], *, alone: bool) -> None:
    """A field that is unticked stands in `left_out` with its value; where none is left, the record is left out.

    `alone`: nothing was said of the record itself.  One that was unticked together with this stays so.
    """
    after, left = decode(row.after), decode(row.left_out)
    if alone and row.status == S.DROPPED and any(names.values()):  # of a record left out, this field alone is taken in
        left = {name: value for name, value in after.items() if not why_fixed(run, row, name)}
        row.status = S.PROPOSED
    for name, tick in names.items():
        if name not in after:
            raise WrongChoice("fields", f"Proposal {row.pk} does not write {field_title(name)}.")
        if not tick and (why := why_fixed(run, row, name)):
            raise WrongChoice("fields", f"{field_title(name)} can't be left out: {why}")
        if not tick:
            left[name] = after[name]
        else:
            left.pop(name, None)
    if left.keys() >= after.keys():
        row.status, row.left_out = S.DROPPED, ""
    else:
        row.left_out = encode(left) if left else ""


def _decide(run: Run, seen_then: str | None, by: object, act: Callable[[Run], tuple[int, str]]) -> int:
    with transaction.atomic():
        locked = Run.objects.select_for_update().get(pk=run.pk)
        _expect_open(locked)
        _expect_seen(locked, seen_then)
        changed, what = act(locked)
        if changed:
            told = [*locked.progress.get("decided", []), [locked.plan_revision + 1, _name(by), what]]
            locked.progress = {**locked.progress, "decided": told[-MOST_TOLD:]}
            locked.plan_revision += 1
            records = locked.counts.get("proposals", {}).get("records")
            locked.counts = {**locked.counts, "proposals": count_proposals(locked, records)}
            locked.save(update_fields=["progress", "plan_revision", "counts"])
    run.plan_revision, run.counts, run.progress = locked.plan_revision, locked.counts, locked.progress
    return changed


def _name(by: object) -> str:
    return by.get_username() if isinstance(by, User) else "somebody"


def _expect_open(run: Run) -> None:
    if run.phase != Run.Phase.PROPOSED:
        raise ValueError(f"Run {run.pk} does not wait for approval; it is {run.get_phase_display().lower()}.")


def _expect_seen(run: Run, then: str | None) -> None:
    if then is None or then == seen(run):
        return
    revision = int(then.partition(".")[0]) if then.partition(".")[0].isdecimal() else -1
    told = [f"{who} {what}" for number, who, what in run.progress.get("decided", []) if number > revision]
    if moved := stale(run).count():
        names = [str(row.link) for row in stale(run).select_related("link")[:3]]
        more = " and others" if moved > len(names) else ""
        told.append(f"{moved} record{'s'[: moved > 1]} changed ({'; '.join(names)}{more}) and would stay out of it")
    what = "; ".join(told[-5:]) or "its proposals were planned anew"
    raise PlanChanged(f"The plan is not the one that you saw: {what}. Nothing was done. Look at it again.")


def supersede(rows: QuerySet[RecordChange], message: str) -> int:
    """Give up proposals: something newer takes their place.  Who has seen them has seen something else."""
    runs = list(rows.values_list("run", flat=True).distinct())
    with transaction.atomic():
        changed = rows.update(status=S.SUPERSEDED, message=message)
        for run in Run.objects.select_for_update().filter(pk__in=runs, phase=Run.Phase.PROPOSED).order_by("pk"):
            counts = run.counts or {}
            if "proposals" in counts:
                counts = {**counts, "proposals": count_proposals(run)}
            Run.objects.filter(pk=run.pk).update(plan_revision=F("plan_revision") + 1, counts=counts)
    return changed


# Approving


def guard_of(run: Run) -> list[str]:
    """Return what the guard says of what is ticked: how many are removed says nothing where no removal is ticked."""
    tripped = [str(sentence) for sentence in run.guard.get("tripped", [])] if run.guard else []
    if counted(run, "all", kind="delete") and not counted(run, "ticked", kind="delete"):
        return [sentence for sentence in tripped if REMOVED not in sentence]
    return tripped


def kept(run: Run) -> timedelta:
    """Return how long what a run proposes may be approved."""
    return CHECK_KEPT if run.purpose == Run.Purpose.CHECK else PREVIEW_KEPT


def too_old(run: Run, now: datetime) -> str:
    """Return why a run can't be approved any more, or ''."""
    if run.finished_at is None or now - run.finished_at <= kept(run):
        return ""
    age = "a week" if run.purpose == Run.Purpose.CHECK else "an hour"
    return f"{run} is older than {age}. Make a new one: the systems may have moved on."


def approve(
    run: Run, now: datetime, by: object = None, *, accept_guard: bool = False, seen: str | None = None
) -> tuple[int, int]:
    """Approve a preview: exactly what is ticked becomes planned writes of the same run.

    Returns (approved, bounced): a record that has changed since goes back for review.  Raises ValueError where the run is no
    preview that waits, or is too old; PlanChanged where the plan is not what the person has `seen`.
    """
    with transaction.atomic():
        locked = Run.objects.select_for_update().get(pk=run.pk)
        _expect_open(locked)
        if why := too_old(locked, now):
            raise ValueError(why)
        _expect_seen(locked, seen)
        if seen is not None and locked.integration.revision != locked.settings_revision:
            raise ValueError(
                "The settings have changed since this was planned, so nothing of it may be written. Make a new preview."
            )
        if (tripped := guard_of(locked)) and not accept_guard:
            raise ValueError(f"A guard warns: {' '.join(tripped)} Approve it all the same only after a look.")
        approved, bounced = _approved(locked)
        if seen is not None and not approved:
            raise ValueError(
                "Nothing is ticked, so there is nothing to write. Tick what is meant, or leave the preview be."
            )
        Scope.objects.filter(pk=locked.scope_id).update(fence=F("fence") + 1)
        fence = Scope.objects.values_list("fence", flat=True).get(pk=locked.scope_id)
        for start in range(0, len(approved), BLOCK):
            block = approved[start : start + BLOCK]
            RecordChange.objects.filter(pk__in=block).update(status=S.PLANNED, open=1, fence=fence)
            # What an earlier undo holds stays held, whatever becomes of this write.
            RecordLink.objects.filter(changes__in=block).exclude(state=RecordLink.State.HELD).update(
                pending=int(Pending.PLANNED), reason="planned"
            )
        _let_wait(locked)
        Run.objects.filter(pk=run.pk).update(
            phase=Run.Phase.PUSH, approved_at=now, approved_by=by, fence=fence, finished_at=None,
            counts={**locked.counts, "approved": len(approved)},
        )  # fmt: skip
    run.refresh_from_db()
    return len(approved), bounced


def _approved(run: Run) -> tuple[list[int], int]:
    """Return the proposals that are written, without their fields that were left out, and how many bounced."""
    approved: list[int] = []
    stale_ids: list[int] = []
    begun: set[tuple[int, str]] = set()
    rows = RecordChange.objects.filter(_ticked(run), run=run).order_by("id")
    for change_id, link_id, side, planned_on, revision in rows.values_list(
        "id", "link_id", "side", "link_revision", "link__revision"
    ).iterator(chunk_size=2000):
        if planned_on != revision:
            stale_ids.append(change_id)
        elif run.purpose != Run.Purpose.UNDO or (link_id, side) not in begun:  # a second write follows the first
            approved.append(change_id)
            begun.add((link_id, side))
    for start in range(0, len(stale_ids), BLOCK):
        block = stale_ids[start : start + BLOCK]
        RecordChange.objects.filter(pk__in=block).update(status=S.SUPERSEDED, message=CHANGED)
    for row in rows.filter(status=S.PROPOSED).exclude(left_out=""):
        left = decode(row.left_out)
        for column in ("before", "after", "rule", "lost"):
            values: CanonicalValues = {n: v for n, v in decode(getattr(row, column)).items() if n not in left}
            setattr(row, column, encode(values) if values else "")
        row.save(update_fields=["before", "after", "rule", "lost"])
    return approved, len(stale_ids)


def _let_wait(run: Run) -> None:
    """A removal that nobody ticked waits for a person, whatever the settings say: no later run carries it out unasked."""
    if run.purpose == Run.Purpose.UNDO:
        return
    rows = RecordChange.objects.filter(REMOVAL, run=run, status__in=[S.PROPOSED, S.DROPPED])
    still = rows.filter(link__pending__in=[Pending.DIRTY, Pending.WAITING], link__ended=0).exclude(link__base="")
    updates: list[store.Row] = []
    for link_id, side, verb, planned_on, revision, base, pending, reason, args in still.values_list(*WAITING_COLUMNS):
        if args == UNAPPROVED:  # found by a reconciliation: it waits already, and for more than the removal
            continue
        if pending == Pending.DIRTY and planned_on == revision:
            pending, reason, args = int(Pending.WAITING), APPROVAL, encode({"verb": verb, "side": side})
        # The mark outlives all that may happen to the link.  By two, as every decision of a person: a run that looked at it
        # just before must not write it any more.
        marked = encode({**decode(base), UNTICKED: side})
        updates.append((marked, pending, reason, args, revision + 2, link_id, revision))
    columns = ("base", "pending", "reason", "args", "revision")
    if store.update_many(RecordLink, columns, ("id", "revision"), updates) != len(updates):
        raise PlanChanged("A record changed at this very moment. Nothing was done. Look at it again.")
    rows.update(status=S.DROPPED, message=NOT_TICKED)


def withhold(run_ids: Sequence[int], link_ids: Sequence[int] | None = None) -> None:
    """What a person left out of a reconciliation waits as all that it finds: no ordinary run writes what nobody approved."""
    left = RecordChange.objects.filter(run__in=run_ids, run__purpose=Run.Purpose.CHECK).exclude(left_out="")
    left = left.filter(run__approved_at__isnull=False)
    if link_ids is not None:
        left = left.filter(link__in=link_ids)
    RecordLink.objects.filter(pk__in=left.values("link"), pending=Pending.DIRTY).update(
        pending=int(Pending.WAITING), reason=APPROVAL, args=UNAPPROVED
    )


# What came of it


def result_of(run: Run) -> dict[str, int]:
    """Count what became of the proposals of an approved run."""
    rows = RecordChange.objects.filter(run=run)
    found = {
        "written": 0,
        "bounced": 0,
        "left_out": 0,
        "fields_left_out": 0,
        "not_ticked": 0,
        "refused": 0,
        "waiting": 0,
    }
    for status, message, waits, count in (
        rows.annotate(waits=Case(When(link__reason="waits for link", then=Value(1)), default=Value(0)))
        .annotate(told=Case(When(message=NOT_TICKED, then=Value(1)), default=Value(0)))
        .values_list("status", "told", "waits")
        .annotate(count=Count("id"))
        .order_by()
    ):
        found[_became(status, bool(message), bool(waits))] += count
    left = rows.filter(status=S.WRITTEN).exclude(left_out="").values_list("left_out", flat=True)
    found["fields_left_out"] = sum(len(decode(text)) for text in left)
    return found


def _became(status: str, not_ticked: bool, waits: bool) -> str:
    if status == S.DROPPED:
        return "not_ticked" if not_ticked else "left_out"
    if status == S.SUPERSEDED and waits:
        return "waiting"
    return {S.WRITTEN: "written", S.REJECTED: "refused"}.get(S(status), "bounced")


def result_words(result: Mapping[str, int]) -> str:
    """Say it: "118 written, 2 bounced (changed meanwhile), 3 left out"."""
    words = [f"{result.get('written', 0)} written"]
    fields = result.get("fields_left_out", 0)
    not_ticked = result.get("not_ticked", 0)
    for name, text in (
        ("bounced", "{} bounced (changed meanwhile)"),
        ("left_out", "{} left out"),
        ("fields_left_out", f"{{}} field{'s'[: fields != 1]} left out"),
        ("not_ticked", f"{{}} removal{'s'[: not_ticked != 1]} not ticked"),
        ("refused", "{} refused"),
        ("waiting", "{} waiting for another record"),
    ):
        if count := result.get(name, 0):
            words.append(text.format(count))
    return ", ".join(words)


def progress_of(run: Run) -> tuple[int, int]:
    """Return how many of the approved writes are done, and how many they are."""
    approved = int(run.counts.get("approved", 0)) if run.counts else 0
    left = RecordChange.objects.filter(run=run, open__isnull=False).count()
    return max(0, approved - left), max(approved, left)
