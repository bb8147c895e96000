"""What does a link hold once a write has been taken back?  What it held before the run, and it is held: no run does it again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from connectors.contract import Outcome, Verb
from connectors.models import Promotion, RecordChange, RecordLink, Run
from connectors.sync.context import Context, modified_text
from connectors.sync.matching import ENDED, HELD
from connectors.sync.plan import DELETED, UNDONE_HERE, Life, Pending, unmarked
from connectors.sync.planning import rest
from connectors.sync.rules import ARCHIVED, LEFT, OTHER, RIGHT, Pair, Side
from connectors.sync.values import CanonicalValues, decode, encode

if TYPE_CHECKING:
    from connectors.sync import store
    from connectors.sync.outcomes import Item, LinkRow

UNDONE = "undone"  # the reason of a link that an undo holds


def undone_row(
    ctx: Context, pair: Pair, side: Side, item: Item, outcome: Outcome, link: LinkRow, told: CanonicalValues,
    held: CanonicalValues, args: str,
) -> store.Row:  # fmt: skip
    """Return the link's columns (outcomes.LINK_SET) after a write of an undo.

    `told`: what the write's answer shows, as canonical values.  `held`, `args`: from `of_undo`.
    """
    verb, other = item.operation.verb, OTHER[side]
    base = decode(link.base)
    quirks = {s: decode(getattr(link, f"{s}_quirk")) for s in (LEFT, RIGHT)}
    now = {s: _now(getattr(link, f"{s}_staged"), {**base, **quirks[s]}) for s in (LEFT, RIGHT)}
    if verb is Verb.DELETE:
        # What a record is made of, but no merge looks at, is known by what was made of it alone.
        source = {**{n: v for n, v in held.items() if n not in pair.tracked}, **now[other]}
        return _removed(ctx, side, link, encode(source), args)
    before = _agreed_before(verb, item, base, pair)
    agreed = {**{n: v for n, v in base.items() if n != DELETED or verb is not Verb.RESTORE}, **before}
    shown = {n: v for n, v in told.items() if n in pair.tracked and n not in pair.reported(side) and n != ARCHIVED}
    own = {n: v for n, v in unmarked(quirks[side], before).items() if n not in before}
    own |= {n: shown[n] for n in before if n in shown and shown[n] != agreed[n]}
    others = {n: v for n, v in quirks[other].items() if n not in before}
    # The other side still holds what the run had made equal: it differs from the base again, as it did before the run.
    staged = rest({**now[side], **before, **shown}, agreed, own, pair)
    staged_other = rest(now[other], agreed, others, pair)
    archived = verb is Verb.ARCHIVE or (verb is Verb.UPDATE and getattr(link, f"{side}_life") == Life.ARCHIVED)
    state, ended = HELD, 0
    pending: int | None = int(Pending.SKIPPED)
    if verb is Verb.CREATE and _has_another_link(link.id, other):
        state, ended, pending = ENDED, link.id, None  # the next run meets the record as a new one, beside that link
    return (
        encode(agreed), staged, encode(own) if own else "", staged_other, encode(others) if others else "",
        pair.entity(side).name, outcome.id or item.operation.id, outcome.version, modified_text(outcome.modified),
        int(Life.ARCHIVED if archived else Life.LIVE), pair.match_hash({**agreed, **own}),
        state, ended, pending, "" if ended else UNDONE, "" if ended else args, None, ctx.run.pk, link.id,
    )  # fmt: skip


def _now(staged: str | None, own_base: CanonicalValues) -> CanonicalValues:
    return own_base if staged is None else decode(staged)


def _agreed_before(verb: Verb, item: Item, base: CanonicalValues, pair: Pair) -> CanonicalValues:
    """Return the fields of the base that are again what they were."""
    if verb is Verb.UPDATE:
        return {n: v for n, v in item.after.items() if n in pair.tracked}
    if verb in (Verb.ARCHIVE, Verb.RESTORE) and ARCHIVED in pair.tracked:
        return {ARCHIVED: verb is Verb.ARCHIVE}
    if verb is Verb.ARCHIVE:
        return {UNDONE_HERE: True}
    return {}


def _removed(ctx: Context, side: Side, link: LinkRow, staged_other: str, args: str) -> store.Row:
    """The record that the run had made is gone: its source is alone again, as it was."""
    state: tuple[int, int, int | None, str, str]
    nothing = ("", None, "", "", int(Life.NONE), "")
    if getattr(link, f"{OTHER[side]}_life") in (Life.LIVE, Life.ARCHIVED):
        state = (HELD, 0, int(Pending.SKIPPED), UNDONE, args)
    else:
        state = (ENDED, link.id, None, "", "")
    return ("", None, "", staged_other, "", *nothing, *state, None, ctx.run.pk, link.id)


def _has_another_link(link_id: int, side: Side) -> bool:
    """Whether the record that a link which is over has on one side belongs to a living link by now."""
    columns = ("integration", "family", f"{side}_entity", f"{side}_id")
    place = RecordLink.objects.filter(pk=link_id).values(*columns).get()
    return place[f"{side}_id"] is not None and RecordLink.objects.filter(**place, ended=0).exists()


def of_undo(change_ids: list[int]) -> tuple[str, dict[int, CanonicalValues]]:
    """Return (the reason's arguments: which run was undone, and by whom; what each record held before its write)."""
    if not change_ids:
        return "", {}
    run = Run.objects.select_related("approved_by").get(changes=change_ids[0])
    args = encode({"run": run.undoes_id, "by": run.approved_by.get_username() if run.approved_by else ""})
    rows = RecordChange.objects.filter(pk__in=change_ids).values_list("id", "before")
    return args, {pk: decode(before) for pk, before in rows}


def withdraw_promotions(link_ids: list[int], now_run: int) -> None:
    """A promoted record whose partner was taken back is promoted no longer; it can be asked for again once released."""
    done = Promotion.objects.filter(link__in=link_ids, status=Promotion.Status.SUCCESS)
    told = {"status": Promotion.Status.WITHDRAWN, "reason": f"Taken back by run {now_run}, an undo."}
    done.filter(source=Promotion.Source.FLAG).update(untold=True, **told)
    done.update(**told)
