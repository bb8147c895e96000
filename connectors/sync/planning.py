"""Which writes follow from what was staged?  Asks the pure planner for each link out of agreement and stores its decisions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from django.db.models import Q, QuerySet

from connectors.contract import Ref
from connectors.models import Promotion, RecordChange, RecordLink, Run
from connectors.sync import store
from connectors.sync.compile import tolerance
from connectors.sync.context import Context
from connectors.sync.guards import Guard
from connectors.sync.mapping import references, resolved
from connectors.sync.matching import DISCONNECTED, ENDED, HELD, LINKED, NEW
from connectors.sync.plan import APPROVAL, UNTICKED, Decision, Life, LinkState, Pending, PlannedWrite, SideState, decide
from connectors.sync.plan import Context as PlanContext
from connectors.sync.problems import HANDS, see
from connectors.sync.promotions import wake
from connectors.sync.rules import LEFT, OTHER, RIGHT, Pair, Side
from connectors.sync.sheet import UNAPPROVED, WAITERS
from connectors.sync.tolerant import Questions, asking
from connectors.sync.values import CanonicalValues, decode, encode

BLOCK = 1000
COLUMNS = (
    "id", "key", "revision", "state", "base", "args",
    "left_entity", "left_id", "left_version", "left_modified", "left_life", "left_staged", "left_quirk",
    "right_entity", "right_id", "right_version", "right_modified", "right_life", "right_staged", "right_quirk",
)  # fmt: skip
OPEN = {"planned": 1, "sending": 2, "unknown": 3}  # RecordChange.open by status
LINK_SET = (
    "base", "left_staged", "left_quirk", "right_staged", "right_quirk", "state", "ended", "pending", "reason", "args",
    "waits_on", "touched_run",
)  # fmt: skip
CHANGE_COLUMNS = (
    "run", "link", "entity_sync", "side", "verb", "status", "open", "key", "batch_key", "batch_pos", "record_id", "before",
    "after", "sent", "lost", "expect", "link_revision", "settings_revision", "fence", "rule", "version", "code", "field",
    "message", "fingerprint", "at",
)  # fmt: skip


def plan(ctx: Context) -> int:
    """Plan every link of the run's pairs that needs it (of an approved preview: only adopt).  Returns how many writes."""
    planned = 0
    complete = _complete(ctx)
    adopting = ctx.run.approved_at is not None
    if not adopting:
        wake(ctx)
    superseded = adopting
    for pair in ctx.acting:
        last = 0
        questions = Questions(ctx, pair)
        while True:
            links = RecordLink.objects.filter(entity_sync=pair.id, id__gt=last, scope=ctx.scope.pk, ended=0)
            if ctx.run.purpose == Run.Purpose.CHECK and not adopting:
                # Only what its listing found: ordinary edits are the next ordinary run's.
                links = links.filter(pending=Pending.WAITING, reason=APPROVAL, args=UNAPPROVED)
            else:
                links = links.filter(pending=Pending.DIRTY, state__in=[NEW, LINKED])
            if ctx.aside:
                links = links.exclude(touched_run__in=ctx.aside)
            if adopting:
                links = links.filter(pk__in=_just_written(ctx, pair))
            rows = store.read(links.order_by("id").values_list(*COLUMNS)[:BLOCK])
            planner = Planner(ctx, pair, complete[pair.id], questions)
            if rows:
                if not superseded:
                    _supersede_stale(ctx)
                    superseded = True
                planned += planner.block(rows)
                last = rows[-1][0]
            if len(rows) < BLOCK and not planner.respawns:  # a link that begins anew gets its turn in this round
                break
            ctx.check_slice()
    return planned


def _just_written(ctx: Context, pair: Pair) -> QuerySet[RecordChange, int]:
    """After an approved preview nothing new is planned; only what its writes brought into agreement is taken over."""
    written = RecordChange.objects.filter(run=ctx.run, entity_sync=pair.id, status="written")
    return written.values_list("link", flat=True)


def _supersede_stale(ctx: Context) -> None:
    """Give up writes whose link is to be planned again: one side met a conflict while the other side's write still waited."""
    rows = RecordChange.objects.filter(open=1, run__scope=ctx.scope, link__pending=Pending.DIRTY)
    ids = list(rows.values_list("id", flat=True))
    if not ids:
        return
    with ctx.transaction("supersede stale"):
        for start in range(0, len(ids), 500):
            RecordChange.objects.filter(pk__in=ids[start : start + 500], open=1).update(
                status="superseded", open=None, message="The record changed before it was written."
            )


def _complete(ctx: Context) -> dict[int, dict[Side, bool]]:
    done = set(ctx.scope.cursors.filter(complete_at__isnull=False).values_list("side", "feed"))
    return {pair.id: {side: (side, pair.entity(side).feed) in done for side in (LEFT, RIGHT)} for pair in ctx.pairs}


@dataclass
class Planner:
    """Plans links of one pair, a block at a time."""

    ctx: Context
    pair: Pair
    complete: dict[Side, bool]
    questions: Questions
    links: list[store.Row] = field(default_factory=list)
    changes: list[store.Row] = field(default_factory=list)
    respawns: list[tuple[LinkState, Side]] = field(default_factory=list)
    released: set[str] = field(default_factory=set)

    @property
    def preview(self) -> bool:
        """A preview proposes and leaves the links as they are."""
        return self.ctx.run.purpose == Run.Purpose.PREVIEW

    @property
    def checks(self) -> bool:
        """A reconciliation proposes, and its links wait for a person: no later run writes what nobody approved."""
        return self.ctx.run.purpose == Run.Purpose.CHECK

    def block(self, rows: Sequence[store.Row]) -> int:
        """Decide a block and store the decisions in one transaction."""
        states = [link_state(row) for row in rows]
        self._resolve(states)
        self._promotions(states)
        context = PlanContext(self.pair, self.complete, tolerance(self.pair, self.ctx.skew), self._linkable(states))
        proposed = self._already_proposed(states)
        decisions = [(link, decide(link, context)) for link in states]
        alike = self.questions.ask([link for link, decision in decisions if decision.creates])
        for link, decision in decisions:
            self._store(link, asking(alike[link.id]) if link.id in alike else decision, link.id in proposed)
        with self.ctx.transaction("store plan"):
            met = store.update_many(RecordLink, LINK_SET, ("id", "revision"), self.links, bump="revision")
            if met != len(self.links):
                self._forget(states)
            store.insert_many(RecordChange, CHANGE_COLUMNS, self.changes)
            self._respawn()
            self.questions.ask_back(alike)
            standing = [link.id for link, decision in decisions if decision.pending in HANDS or link.id in alike]
            if standing:
                see(RecordLink.objects.filter(pk__in=standing), self.ctx.world.now(), self.ctx.noted)
            if self.released:
                self.ctx.released += release(self.ctx, self.released)
        return sum(1 for change in self.changes if change[5] == "planned")

    def _forget(self, states: Sequence[LinkState]) -> None:
        """Drop what was decided about links that a person decided meanwhile: the next plan sees the person's decision."""
        rows = RecordLink.objects.filter(pk__in=[link.id for link in states], touched_run=self.ctx.run.pk)
        revisions: dict[int, int] = dict(rows.values_list("id", "revision"))
        missed = {link.id: link.key for link in states if revisions.get(link.id) != link.revision + 1}
        self.changes = [change for change in self.changes if change[1] not in missed]
        self.respawns = [(link, alive) for link, alive in self.respawns if link.id not in missed]
        self.released -= set(missed.values())

    def _resolve(self, states: Sequence[LinkState]) -> None:
        """References whose record was unknown when it was staged may be known by now."""
        for side in (LEFT, RIGHT) if self.pair.referring else ():
            unknown = {
                ref[1:]
                for link in states
                for _, ref in references(link.sides[side].staged or {}, self.pair.referring)
                if ref.startswith("?")
            }
            if not unknown:
                continue
            pairs = [tuple(name.split(":", 1)) for name in unknown]
            keys = self.ctx.keys_of(side, [(entity, record_id) for entity, record_id in pairs])
            by_name = {f"{entity}:{record_id}": key for (entity, record_id), key in keys.items()}
            for link in states:
                staged = link.sides[side].staged
                if staged is not None:
                    resolved(staged, by_name.get, self.pair.by_name)

    def _promotions(self, states: Sequence[LinkState]) -> None:
        for target in self.pair.on_request:
            source = OTHER[target]
            ids = {link.sides[source].id: link for link in states}
            rows = Promotion.objects.filter(
                entity_sync=self.pair.id,
                side=source,
                status="queued",
                waits=False,
                external_id__in=[i for i in ids if i],
            ).values_list("external_id", flat=True)
            for record_id in rows:
                ids[record_id].promoted = True

    def _linkable(self, states: Sequence[LinkState]) -> dict[str, dict[Side, str]]:
        if not self.pair.referring:
            return {}
        keys = {
            ref[1:]
            for link in states
            for side in (LEFT, RIGHT)
            for _, ref in references(link.now(side), self.pair.referring)
            if ref.startswith("@")
        }
        found: dict[str, dict[Side, str]] = {}
        for key, sides in self.ctx.partners(sorted(keys)).items():
            found[key] = {
                side: _state(sides[side][0], sides[side][1], sides[side][2], other_life=sides[OTHER[side]][1])
                for side in (LEFT, RIGHT)
            }
        return found

    def _already_proposed(self, states: Sequence[LinkState]) -> set[int]:
        """Deletes that wait for approval are proposed once, not at each run."""
        rows = RecordChange.objects.filter(
            link__in=[link.id for link in states], status="proposed", verb__in=["delete", "archive"]
        )
        return set(
            rows.exclude(run__purpose__in=[Run.Purpose.PREVIEW, Run.Purpose.UNDO]).values_list("link_id", flat=True)
        )

    def _store(self, link: LinkState, decision: Decision, proposed: bool) -> None:
        if self.ctx.run.approved_at is not None and (decision.writes or decision.respawn):
            return  # not approved: the next run plans it
        if decision.respawn and self.checks:
            decision = Decision(pending=Pending.WAITING, reason=APPROVAL)
        if decision.respawn:
            self.respawns.append((link, decision.respawn))
        base, staged, quirk = _adopted(link, decision, self.pair)
        state = LINKED if decision.adopt else (NEW if link.base is None else LINKED)
        ended = link.id if decision.end or decision.respawn else 0
        if ended:
            state = ENDED
            self.released.add(link.key)
        elif decision.adopt:
            self.released.add(link.key)
        pending: int | None = None if decision.pending is None else int(decision.pending)
        reason, args = decision.reason, _told(link, decision)
        if pending is None and not ended and (staged[LEFT] is not None or staged[RIGHT] is not None):
            pending, reason = int(Pending.SKIPPED), "prevented"
        if decision.writes and (self.preview or self.checks or decision.propose):
            status = "proposed"
            if self.preview and not decision.propose:
                pending, reason = int(Pending.DIRTY), "changed"
            elif self.checks and not decision.propose:
                pending, reason, args = int(Pending.WAITING), APPROVAL, UNAPPROVED
        else:
            status = "planned"
        if self.checks and decision.pending == Pending.WAITING and decision.reason != "waits for promotion":
            # Whatever else it waits for: no ordinary run may go on with it before somebody has approved.
            pending, reason, args = int(Pending.WAITING), APPROVAL, UNAPPROVED if not decision.propose else args
        self.links.append(
            (
                base,
                staged[LEFT],
                quirk[LEFT],
                staged[RIGHT],
                quirk[RIGHT],
                state,
                ended,
                pending,
                reason,
                args,
                None if ended else decision.waits_on,
                self.ctx.run.pk,
                link.id,
                link.revision,
            )  # fmt: skip
        )
        if decision.propose and proposed:
            return
        for write in decision.writes:
            self.changes.append(self._change(link, write, status))

    def _change(self, link: LinkState, write: PlannedWrite, status: str) -> store.Row:
        target = link.sides[write.side]
        creating = write.verb == "create"
        return (
            self.ctx.run.pk, link.id, self.pair.id, write.side, str(write.verb), status, OPEN.get(status),
            self.ctx.world.key(), "", 0, "" if creating else target.id or "", encode(write.before) if write.before else "",
            encode(write.after) if write.after else "", "", encode(write.lost) if write.lost else "",
            "" if creating else target.version, link.revision + 1, self.ctx.run.settings_revision, self.ctx.run.fence,
            encode(write.rule) if write.rule else "", "", "", "", "", "", store.moment(self.ctx.world.now()),
        )  # fmt: skip

    def _respawn(self) -> None:
        """End a link and let the living record begin a new one."""
        for link, alive in self.respawns:
            side, other = link.sides[alive], OTHER[alive]
            values = encode(link.now(alive))
            store.insert_many(
                RecordLink,
                (
                    "key", "integration", "entity_sync", "family", "scope",
                    f"{alive}_entity", f"{alive}_id", f"{alive}_version", f"{alive}_modified", f"{alive}_life",
                    f"{alive}_match", f"{alive}_match2", f"{alive}_staged", f"{alive}_quirk",
                    f"{other}_entity", f"{other}_id", f"{other}_version", f"{other}_modified", f"{other}_life",
                    f"{other}_match", f"{other}_staged", f"{other}_quirk",
                    "base", "state", "ended", "pending", "reason", "args", "revision", "settings_revision", "touched_run",
                ),
                [(
                    self.ctx.world.key(), self.ctx.integration.pk, self.pair.id, self.pair.family, self.ctx.scope.pk,
                    side.entity, side.id, side.version, side.modified, int(side.life),
                    *self.pair.match_hashes(link.now(alive)), values, "",
                    "", None, "", "", int(Life.NONE), "", None, "",
                    "", NEW, 0, int(Pending.DIRTY), "changed", "", 1, self.pair.revision, self.ctx.run.pk,
                )],
            )  # fmt: skip
            self.ctx.event(
                "info", "recreated", f"{side.entity} {side.id} was deleted on the {other} and edited on the {alive}: it is made again."
                if link.base is not None else f"{side.entity} {side.id} lost its partner before they ever agreed.", link_id=link.id,
            )  # fmt: skip


def _told(link: LinkState, decision: Decision) -> str:
    """Return the reason's arguments.  A person's decision stays with its write, which may have to be planned again."""
    told = dict(decision.args)
    if decision.writes and not decision.propose:
        told |= {name: v for name, v in (("approved", link.approved), ("resolution", link.resolution)) if v}
    return encode(told) if told else ""


def _state(record: Ref | None, life: int, pending: int | None, *, other_life: int) -> str:
    if record is not None and life in (Life.LIVE, Life.ARCHIVED):
        return "id"
    coming = other_life in (Life.LIVE, Life.ARCHIVED) and pending in (Pending.DIRTY, Pending.PLANNED)
    return "coming" if coming else ""


def _adopted(link: LinkState, decision: Decision, pair: Pair) -> tuple[str, dict[Side, str | None], dict[Side, str]]:
    """Return base, staged and quirks of both sides after what is agreed without a write."""
    sides = link.sides
    staged = {s: None if sides[s].staged is None else encode(sides[s].staged) for s in (LEFT, RIGHT)}
    quirks = {s: encode(sides[s].quirk) if sides[s].quirk else "" for s in (LEFT, RIGHT)}
    if not decision.adopt and not decision.agreed:
        return "" if link.base is None else encode(_marked(link, link.base)), staged, quirks
    base = {**(link.base or {}), **(decision.agreed or {})}
    for side in (LEFT, RIGHT):
        kept = decision.kept.get(side, {})
        quirk = {
            n: v for n, v in {**sides[side].quirk, **kept}.items() if n not in (decision.agreed or {}) or n in kept
        }
        quirks[side] = encode(quirk) if quirk else ""
        staged[side] = rest(link.sides[side].staged, base, quirk, pair)
    return encode(_marked(link, base)), staged, quirks


def _marked(link: LinkState, base: CanonicalValues) -> CanonicalValues:
    """Add that a person left the removal unticked, for as long as there is one: not once both records are there again."""
    deleted = link.unticked and any(side.life is Life.GONE for side in link.sides.values())
    return {**base, UNTICKED: link.unticked} if deleted else base


def _plain(values: CanonicalValues) -> CanonicalValues:
    """Return values without the mark, which is none of a record's values."""
    return {name: value for name, value in values.items() if name != UNTICKED} if UNTICKED in values else values


def rest(staged: CanonicalValues | None, base: CanonicalValues, quirk: CanonicalValues, pair: Pair) -> str | None:
    """Return a side's staged text, or None when the side equals its own base by now."""
    if staged is None:
        return None
    own = {**base, **quirk}
    if all(name in own and own[name] == value for name, value in staged.items() if name in pair.tracked):
        return None
    return encode(staged)


def link_state(row: store.Row) -> LinkState:
    """Return a link as the planner sees it, from its COLUMNS."""
    (link_id, key, revision, _state_no, base, args, *both) = row
    sides: dict[Side, SideState] = {}
    for side, values in ((LEFT, both[:7]), (RIGHT, both[7:])):
        entity, record_id, version, modified, life, staged, quirk = values
        sides[side] = SideState(
            entity,
            record_id,
            version,
            modified,
            Life(life),
            None if staged is None else _plain(decode(staged)),
            decode(quirk),
        )
    told, agreed = decode(args), decode(base)
    return LinkState(
        link_id,
        key,
        sides,
        _plain(agreed) if base else None,
        revision,
        approved=str(told.get("approved", "")),
        unticked=str(agreed.get(UNTICKED, "")),
        resolution=_resolution(told.get("resolution")),
    )


def _resolution(told: object) -> str | dict[str, str]:
    """Return a person's decision of a conflict: one side for all fields, or one for each."""
    return {str(name): str(side) for name, side in told.items()} if isinstance(told, dict) else str(told or "")


def release(ctx: Context, keys: set[str]) -> int:
    """Let links that waited for one of these be planned again."""
    released = 0
    for block in store.blocks(sorted(keys), 500):
        if not WAITERS.read(block):
            continue
        released += (
            RecordLink.objects.filter(waits_on__in=block)
            .exclude(Q(pending=Pending.PLANNED) | Q(state__in=[HELD, ENDED, DISCONNECTED]) | Q(args=UNAPPROVED))
            .update(pending=int(Pending.DIRTY), reason="changed", waits_on=None, touched_run=ctx.run.pk)
        )
    return released


def check_guards(ctx: Context) -> list[str]:
    """Judge the writes that this run plans, or as a preview proposes, as a whole.

    Returns the sentences of the limits they pass.
    """
    if ctx.run.guard.get("accepted"):
        return []
    # The deletes that an ordinary run proposes wait for a person one by one; those of a preview are approved all at once.
    preview = ctx.run.proposes
    counted = {"status": "proposed"} if preview else {"open__isnull": False}
    found: list[str] = []
    for pair in ctx.acting:
        reported = {(OTHER[side], name) for side in (LEFT, RIGHT) for name in pair.reported(side)}
        guard = Guard(pair.name, 0, frozenset(reported))
        rows = (
            RecordChange.objects.filter(run=ctx.run, entity_sync=pair.id, **counted)
            .exclude(verb="create")
            .order_by("id")
            .values_list("side", "verb", "before", "after")
        )
        for side, verb, before, after in rows.iterator(chunk_size=BLOCK):
            guard.see(side, verb, decode(before), decode(after))
        if guard.deletes or guard.blanked or guard.values:
            guard.links = RecordLink.objects.filter(entity_sync=pair.id, state=LINKED).count()
            found += guard.tripped()
    return found
