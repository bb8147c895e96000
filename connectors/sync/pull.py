"""What did each side tell?  Reads feeds page by page; a page is staged on the links in the transaction that moves its cursor."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from connectors.contract import CursorExpired, Page, Record
from connectors.models import Cursor, RecordLink, Run
from connectors.sync import guards, store
from connectors.sync.context import Context, EmptySide
from connectors.sync.groups import pull_groups
from connectors.sync.plan import Life
from connectors.sync.rules import LEFT, OTHER, RIGHT, Side
from connectors.sync.stage import Staging

LOOK_UP = 500  # ids asked for at once when absence must be proved


def pull(ctx: Context) -> None:
    """Read every feed of both sides, left first, so that the right can find its partners.  Resumes where it stopped."""
    reports = ctx.run.mode == Run.Mode.REPORTS
    comprehensive = ctx.run.mode == Run.Mode.COMPREHENSIVE
    cursors = {(cursor.side, cursor.feed): cursor for cursor in ctx.scope.cursors.all()}
    for side in (LEFT, RIGHT):
        for feed, wanted in ctx.feeds(side).items() if not reports else ():
            name = f"{side}:{feed}"
            if name in ctx.run.progress.get("pulled", []):
                continue
            cursor = cursors.get((side, feed)) or Cursor.objects.create(scope=ctx.scope, side=side, feed=feed)
            if comprehensive or not cursor.complete_at or _read_in_delta(ctx, side, feed):
                _round(ctx, cursor, side, feed, wanted, comprehensive)
            _mark_pulled(ctx, name)
        name = f"{side} reports"
        if name in ctx.run.progress.get("pulled", []):
            continue
        if (comprehensive or reports or not ctx.scope.last_full_at) and ctx.run.purpose != Run.Purpose.CHECK:
            pull_groups(ctx, side)
            _mark_pulled(ctx, name)
    settle_touched(ctx)


def read_changes(ctx: Context) -> set[int]:
    """Stage what the feeds tell since their cursors, and nothing else: a feed that is to be listed is left alone.

    Returns the ids of the links whose records were told.
    """
    ctx.told = told = set[int]()
    cursors = {(cursor.side, cursor.feed): cursor for cursor in ctx.scope.cursors.all()}
    for side in (LEFT, RIGHT):
        for feed, wanted in ctx.feeds(side).items():
            cursor = cursors.get((side, feed))
            if cursor is not None and cursor.phase == Cursor.Phase.DELTA and _read_in_delta(ctx, side, feed):
                _round(ctx, cursor, side, feed, wanted, comprehensive=False)
    ctx.told = None
    return told


def _read_in_delta(ctx: Context, side: Side, feed: str) -> bool:
    """One-way runs do not read the other side's feed in a delta."""
    return any(pair.entity(side).feed == feed and pair.flows(OTHER[side]) for pair in ctx.pairs)


def _mark_pulled(ctx: Context, name: str) -> None:
    ctx.run.progress = {**ctx.run.progress, "pulled": [*ctx.run.progress.get("pulled", []), name]}
    ctx.run.progress.pop("step", None)
    # Kept in memory until the run's next write: reading a feed to its end twice is harmless, and an idle run writes less.


def _round(
    ctx: Context, cursor: Cursor, side: Side, feed: str, wanted: dict[str, frozenset[str]], comprehensive: bool
) -> None:
    fresh = comprehensive and cursor.run_id != ctx.run.pk
    if fresh or not cursor.value:
        _restart(ctx, cursor)
    try:
        _read_pages(ctx, cursor, side, feed, wanted)
    except CursorExpired as expired:
        ctx.event(
            "warning",
            "cursor expired",
            f"The {side} can't go on from where {feed} was read to: {expired}. Reading all of it.",
        )
        _restart(ctx, cursor)
        _read_pages(ctx, cursor, side, feed, wanted)


def _restart(ctx: Context, cursor: Cursor) -> None:
    cursor.value, cursor.phase, cursor.seen, cursor.run_id = "", Cursor.Phase.LISTING, b"", ctx.run.pk
    cursor.save()


def _read_pages(ctx: Context, cursor: Cursor, side: Side, feed: str, wanted: dict[str, frozenset[str]]) -> None:
    listing = cursor.phase == Cursor.Phase.LISTING
    seen = Bitmap(bytes(cursor.seen)) if listing else None
    by_values = ctx.compared_by_values(side) if listing else frozenset()
    pages = ctx.connectors[side].changes(feed, wanted, cursor.value or None, ctx.scope_key(side))
    for page in pages:
        ctx.world.point("page read")
        ctx.reads[side] += len(page.records)
        staging = Staging(ctx, side, by_values, drift=listing and ctx.run.purpose == Run.Purpose.CHECK)
        staging.prepare(page.records, page.gone)
        last = page.last
        with ctx.transaction("stage page"):
            staging.apply()
            if ctx.told is not None:
                ctx.told.update(staging.seen)
            if seen is not None:
                seen.add(staging.seen)
                cursor.seen = seen.content
            _advance(ctx, cursor, page, listing)
        if page.touched:
            _refetch(ctx, side, page.touched)
        if last:
            break
        ctx.check_slice()
    if listing:
        _missing(ctx, cursor, side, feed, seen or Bitmap(b""))


def _advance(ctx: Context, cursor: Cursor, page: Page, listing: bool) -> None:
    cursor.value = page.cursor
    fields = ["value"]
    if page.gap:
        cursor.gap = page.gap[:300]
        ctx.scope.full_wanted = page.gap[:300]
        ctx.scope.save(update_fields=["full_wanted"])
        ctx.event("warning", "feed gap", f"{cursor}: {page.gap}. A comprehensive run will follow.")
        fields.append("gap")
    if listing:
        fields += ["seen"]
    if page.last and not listing:
        cursor.round += 1
        fields.append("round")
    cursor.save(update_fields=fields)


def _refetch(ctx: Context, side: Side, touched: Sequence[tuple[str, str]]) -> None:
    by_entity: dict[str, list[str]] = {}
    for entity, record_id in dict.fromkeys(touched):
        by_entity.setdefault(entity, []).append(record_id)
    for entity, ids in by_entity.items():
        # A child or a computed value has changed, which the record's own version need not tell.
        fetch_and_stage(ctx, side, entity, ids, by_values=True)


def fetch_and_stage(
    ctx: Context, side: Side, entity: str, ids: Sequence[str], *, by_values: bool = False, drift: bool = False
) -> set[str]:
    """Read these records now and stage what came.  Returns the ids that are proved to be gone."""
    gone: set[str] = set()
    for block in store.blocks(ids, LOOK_UP):
        asked = [str(record_id) for record_id in block]
        fetched = ctx.connectors[side].fetch(entity, asked, ctx.wanted(side, entity))
        ctx.reads[side] += len(fetched.records)
        staging = Staging(ctx, side, frozenset([entity]) if by_values else frozenset(), drift=drift)
        staging.prepare(fetched.records, fetched.gone)
        with ctx.transaction("stage fetched"):
            staging.apply()
        gone.update(item.id for item in fetched.gone)
    return gone


def stage_records(ctx: Context, side: Side, records: Sequence[Record]) -> None:
    """Stage records that were read by the way, in the caller's transaction."""
    if records:
        staging = Staging(ctx, side)
        staging.prepare(records, ())
        staging.apply()


def _missing(ctx: Context, cursor: Cursor, side: Side, feed: str, seen: Bitmap) -> None:
    """Find what a complete listing did not show, and prove each by a look at that very record."""
    for entity in ctx.feeds(side)[feed]:
        absent, known = _absent(ctx, side, entity, seen)
        sentence = guards.vanished(side, entity, len(absent), known)
        if sentence and not ctx.run.guard.get("accepted"):
            # Not to be believed: whoever comes next, be it this run once accepted, lists anew.
            cursor.value, cursor.seen = "", b""
            cursor.save(update_fields=["value", "seen"])
            raise EmptySide(sentence)
        fetch_and_stage(ctx, side, entity, absent, drift=ctx.run.purpose == Run.Purpose.CHECK)
    cursor.phase, cursor.seen = Cursor.Phase.DELTA, b""
    cursor.complete_at = ctx.world.now()
    cursor.round += 1
    cursor.gap = ""
    with ctx.transaction("listing complete"):
        cursor.save()
        _release_listing(ctx, OTHER[side])


def _absent(ctx: Context, side: Side, entity: str, seen: Bitmap) -> tuple[list[str], int]:
    absent: dict[str, None] = {}  # a record may have links in several families
    home = ctx.home(side, entity)[0]
    known, last = 0, 0
    # Links that were born in this very listing are marked as seen, so that only older ones can be absent.
    while True:
        rows = store.read(
            RecordLink.objects.filter(
                **{
                    "integration": ctx.integration.pk,
                    "scope": ctx.scope.pk,
                    f"{side}_entity": entity,
                    f"{side}_life__in": [Life.LIVE, Life.ARCHIVED],
                    "ended": 0,
                    "id__gt": last,
                }
            )
            .order_by("id")
            .values_list("id", f"{side}_id", "family")[:5000]
        )
        for link_id, record_id, family in rows:
            known += family == home
            if link_id not in seen:
                absent[str(record_id)] = None
        if len(rows) < 5000:
            return list(absent), max(known, len(absent))
        last = rows[-1][0]


def _release_listing(ctx: Context, source: Side) -> None:
    """Let creates be planned that waited for this listing."""
    RecordLink.objects.filter(
        integration=ctx.integration, entity_sync__in=[p.id for p in ctx.pairs], pending=2, reason="waits for listing"
    ).update(pending=1, reason="changed")


def settle_touched(ctx: Context) -> None:
    """Links that met a second conflict in the last run get their next chance now."""
    for pair in ctx.pairs:
        RecordLink.objects.filter(entity_sync=pair.id, pending=2, reason="changed meanwhile").exclude(
            touched_run=ctx.run.pk
        ).update(pending=1, reason="changed")


class Bitmap:
    """A set of link ids: 125 kB for a million links (PROTOTYPE 4.8)."""

    def __init__(self, content: bytes) -> None:
        self._bits = bytearray(content)

    def add(self, ids: Iterable[int]) -> None:
        """Put ids into the set."""
        for number in ids:
            place = number >> 3
            if place >= len(self._bits):
                self._bits.extend(bytes(place - len(self._bits) + 1024))
            self._bits[place] |= 1 << (number & 7)

    def __contains__(self, number: int) -> bool:
        place = number >> 3
        return place < len(self._bits) and bool(self._bits[place] & 1 << (number & 7))

    @property
    def content(self) -> bytes:
        """The bits, to be stored beside the cursor."""
        return bytes(self._bits)
