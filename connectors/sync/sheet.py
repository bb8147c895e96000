"""How does what a page told get into the links?  All of it, or nothing where somebody has changed one of them meanwhile."""

from __future__ import annotations

from dataclasses import dataclass, field

from django.db import transaction
from django.db.models import F, Q

from connectors.models import RecordChange, RecordLink
from connectors.sync import store
from connectors.sync.context import Context
from connectors.sync.matching import DISCONNECTED, ENDED, HELD, LOOK_UP, leave_to
from connectors.sync.plan import APPROVAL, DRIFT, Pending
from connectors.sync.problems import see_all
from connectors.sync.rules import OTHER, Side
from connectors.sync.values import encode

PENDING, JOINED, INSERTED = 6, 7, 25  # place of that column in a row of updates, joins, inserts; reason and args follow
UNAPPROVED = encode({"why": DRIFT})  # args of a link that waits for a person to approve what a reconciliation found
ASKED_FIRST = "Another record may be its partner: a person is asked first."

BY_KEY = store.Prepared(lambda keys: RecordLink.objects.filter(key__in=keys).values_list("id"))
OVER = store.Prepared(lambda keys: RecordLink.objects.filter(key__in=keys).exclude(ended=0).values_list("id"))
WAITERS = store.Prepared(lambda keys: RecordLink.objects.filter(waits_on__in=keys).values_list("id"))


class _Overtaken(Exception):
    """A link is no longer as it was when the page was looked at."""


@dataclass
class Sheet:
    """What is to be written of one page of one side.  Rows of links that exist end with the link's id and revision."""

    ctx: Context
    side: Side
    drift: bool = False  # a reconciliation found it: it waits for a person from the moment it is staged
    seen: list[int] = field(default_factory=list)  # links whose record was in the page
    inserts: list[store.Row] = field(default_factory=list)
    touches: dict[int, store.Row] = field(default_factory=dict)  # by link, as the next two; only version and time
    updates: dict[int, store.Row] = field(default_factory=dict)
    joins: dict[int, store.Row] = field(default_factory=dict)
    seconds: list[store.Row] = field(default_factory=list)  # second match values, of pairs that have alternatives
    moves: list[store.Row] = field(default_factory=list)  # to another pair of the family
    ambiguous: dict[int, int] = field(default_factory=dict)  # link of the other side's record -> its revision
    new_keys: dict[tuple[str, str, str], str] = field(default_factory=dict)  # (family, entity, id) -> key of its link
    referred: set[str] = field(default_factory=set)  # keys of links that the page's records refer to
    paired: dict[int, dict[str, int]] = field(default_factory=dict)  # pair -> record id -> link that it joins
    events: list[tuple[str, str, str]] = field(default_factory=list)

    def write(self) -> bool:
        """Write it, in the caller's transaction.  Returns False, and has written nothing, where it is out of date.

        People decide about links at any moment, also between the look at them and this: their decision must stand.
        """
        if self.drift:
            self._withhold()
        if any(OVER.read(block) for block in store.blocks(sorted(self.referred), LOOK_UP)):
            return False
        if self.touches or self.updates or self.joins or self.ambiguous:
            try:
                with transaction.atomic():
                    self._change()
            except _Overtaken:
                return False
        self._insert()
        store.update_many(RecordLink, (f"{self.side}_match2",), ("id",), self.seconds)
        store.update_many(RecordLink, ("entity_sync",), ("id",), self.moves)
        self._after_insert()
        self._claim()
        standing = [link_id for link_id, row in self.updates.items() if row[PENDING] == Pending.CONFLICT]
        keys = [row[0] for row in self.inserts if row[INSERTED] == Pending.CONFLICT]
        see_all([*standing, *self.ambiguous], keys, self.ctx.world.now(), self.ctx.noted)
        for level, code, message in self.events:
            self.ctx.event(level, code, message)
        return True

    def _withhold(self) -> None:
        """What comes with a reconciliation's listing is written by no run before somebody has approved it."""

        def withheld(row: store.Row, place: int) -> store.Row:
            if row[place] != Pending.DIRTY or row[place + 2]:  # with args: a person has decided about it
                return row
            return (*row[:place], int(Pending.WAITING), APPROVAL, UNAPPROVED, *row[place + 3 :])

        self.updates = {link_id: withheld(row, PENDING) for link_id, row in self.updates.items()}
        self.joins = {link_id: withheld(row, JOINED) for link_id, row in self.joins.items()}
        self.inserts = [withheld(row, INSERTED) for row in self.inserts]

    # Links that exist

    def _change(self) -> None:
        s = self.side
        # One page may tell of one link twice: a move to another list is a delete and a record with a new id.
        self.updates = {link_id: row for link_id, row in self.updates.items() if link_id not in self.joins}
        twice = self.updates.keys() | self.joins.keys()
        self.touches = {link_id: row for link_id, row in self.touches.items() if link_id not in twice}
        self._update((f"{s}_version", f"{s}_modified"), self.touches)
        self._update(
            (f"{s}_version", f"{s}_modified", f"{s}_life", f"{s}_staged", f"{s}_quirk", f"{s}_match", "pending", "reason", "args",
             "settings_revision", "touched_run"),
            self.updates, bump="revision",
        )  # fmt: skip
        self._update(
            (f"{s}_entity", f"{s}_id", f"{s}_version", f"{s}_modified", f"{s}_life", f"{s}_match", f"{s}_staged", "pending",
             "reason", "args", "settings_revision", "touched_run", f"{s}_quirk"),
            self.joins, bump="revision",
        )  # fmt: skip
        self._ask()

    def _update(self, columns: tuple[str, ...], rows: dict[int, store.Row], *, bump: str = "") -> None:
        met = store.update_many(RecordLink, columns, ("id", "revision"), list(rows.values()), bump=bump)
        if met != len(rows):
            raise _Overtaken

    def _ask(self) -> None:
        """Ask a person about the records of the other side that may be partners of new ones; what was planned for them waits."""
        if not self.ambiguous:
            return
        for block in store.blocks(list(self.ambiguous), LOOK_UP):
            ids = [int(str(link_id)) for link_id in block]
            writes = RecordChange.objects.filter(link__in=ids, open__isnull=False)
            for link_id in writes.exclude(open=1).values_list("link_id", flat=True):
                self.ambiguous.pop(link_id, None)  # its partner may be made by now: that write's answer goes first
            writes.filter(open=1, link__in=[link_id for link_id in ids if link_id in self.ambiguous]).update(
                status="superseded", open=None, message=ASKED_FIRST
            )
        asked = (int(Pending.CONFLICT), "ambiguous", encode({"side": OTHER[self.side]}), self.ctx.run.pk)
        rows_of: dict[int, store.Row] = {}
        for link_id, read in self.ambiguous.items():
            revision = read + (link_id in self.updates or link_id in self.joins)
            # By two, as a person's decision: a write that was planned of it must not fit any more.
            rows_of[link_id] = (*asked, revision + 2, link_id, revision)
        self._update(("pending", "reason", "args", "touched_run", "revision"), rows_of)

    # New ones

    def _insert(self) -> None:
        s, o = self.side, OTHER[self.side]
        store.insert_many(
            RecordLink,
            (
                "key", "integration", "entity_sync", "family", "scope",
                f"{s}_entity", f"{s}_id", f"{s}_version", f"{s}_modified", f"{s}_life", f"{s}_match", f"{s}_match2", f"{s}_staged",
                f"{s}_quirk",
                f"{o}_entity", f"{o}_id", f"{o}_version", f"{o}_modified", f"{o}_life", f"{o}_match", f"{o}_staged", f"{o}_quirk",
                "base", "state", "ended", "pending", "reason", "args", "revision", "settings_revision", "touched_run",
            ),
            self.inserts,
        )  # fmt: skip

    def _after_insert(self) -> None:
        """A listing marks new records as seen; those that waited for one of them get their turn."""
        for block in store.blocks([row[0] for row in self.inserts], LOOK_UP):
            self.seen.extend(row[0] for row in BY_KEY.read(block))
        names = [
            f"?{place}:{record_id}"
            for family, entity, record_id in self.new_keys
            for place in self.ctx.places(self.side, family, entity)
        ]
        for block in store.blocks(names, LOOK_UP):
            if WAITERS.read(block):
                # What is planned already leaves the reference out, and is looked at again once that is written.
                RecordLink.objects.filter(waits_on__in=block).exclude(
                    Q(pending=Pending.PLANNED) | Q(state__in=[HELD, ENDED, DISCONNECTED]) | Q(args=UNAPPROVED)
                ).update(
                    pending=int(Pending.DIRTY), reason="changed", waits_on=None, touched_run=self.ctx.run.pk,
                    revision=F("revision") + 2,
                )  # fmt: skip

    def _claim(self) -> None:
        """A record that has found its partner by one pair is left out where a rival pair has a link for it."""
        for pair_id, joined in self.paired.items():
            rivals = {rival.id: rival.family for rival in self.ctx.rivals[pair_id]}
            if rivals:
                leave_to(rivals, self.ctx.integration.pk, list(joined.values()))
