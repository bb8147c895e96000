"""Which link does a record that was read belong to, and what is new about it?  Looks up in blocks, then writes in one go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import TypeAlias

from connectors.contract import Gone, Record, RetryableError
from connectors.models import RecordLink
from connectors.sync import store
from connectors.sync.context import Context, modified_text
from connectors.sync.mapping import rename
from connectors.sync.matching import (
    DISCONNECTED,
    HELD,
    LOOK_UP,
    NEW,
    Candidate,
    bounds_of,
    candidates_for,
)
from connectors.sync.merge import UNMET
from connectors.sync.plan import APPROVAL, SHOWN, Life, Pending
from connectors.sync.rules import COMPANY, FAMILY, OTHER, Pair, Side, without_partner
from connectors.sync.sheet import PENDING, UNAPPROVED, Sheet
from connectors.sync.values import CanonicalValues, decode, encode

MOST_LOOKS = 10  # at one page; nobody decides faster than that


@dataclass(slots=True)
class Row:
    """What staging must know of a link that exists."""

    id: int
    record_id: str
    version: str
    life: int
    staged: str | None
    quirk: str
    base: str
    state: int
    pending: int | None
    reason: str
    settings_revision: int
    entity_sync: int
    key: str
    args: str
    other_life: int
    other_id: str | None
    match2: str | None
    revision: int

    @property
    def alone(self) -> bool:
        """Whether the record never had a partner."""
        return self.state == NEW and not self.base and self.other_id is None


@dataclass(slots=True)
class Arrival:
    """A record that has no link of its own yet."""

    record: Record
    pair: Pair
    outside: str
    values: CanonicalValues
    candidates: list[Candidate] = field(default_factory=list)
    joins: Candidate | None = None


ROW_COLUMNS = (
    "id {s}_id {s}_version {s}_life {s}_staged {s}_quirk base state pending reason settings_revision entity_sync key args "
    "{o}_life {o}_id {s}_match2 revision"
)

Known: TypeAlias = "tuple[int, int, str, int, int, str]"  # id, entity_sync, version, life, settings_revision, reason
KNOWN_COLUMNS = "{s}_id id entity_sync {s}_version {s}_life settings_revision reason"
BY_RECORD = store.Prepared(
    lambda integration, family, entity, ids, *, side, columns: RecordLink.objects.filter(
        **{"integration": integration, "family": family, f"{side}_entity": entity, f"{side}_id__in": ids, "ended": 0}
    ).values_list(*columns.format(s=side, o=OTHER[side]).split())
)
BY_RIVAL = store.Prepared(
    lambda integration, families, entity, ids, pairs, *, side, other: RecordLink.objects.filter(
        **{
            "integration": integration, "family__in": families, f"{side}_entity": entity, f"{side}_id__in": ids, "ended": 0,
            "entity_sync__in": pairs, f"{other}_id__isnull": False,
        }
    ).values_list(f"{side}_id")
)  # fmt: skip


@dataclass
class Staging:
    """One page of one side on its way into the links."""

    ctx: Context
    side: Side
    by_values: frozenset[str] = frozenset()  # entities whose versions do not tell of every change
    drift: bool = False  # a reconciliation reads it

    def __post_init__(self) -> None:
        self.today: date = self.ctx.world.now().date()
        self.sheet = Sheet(self.ctx, self.side, self.drift)
        self._page: tuple[Sequence[Record], Sequence[Gone]] = (), ()
        self._going: set[tuple[str, str]] = set()
        self._alone: list[tuple[int, str, Pair, CanonicalValues]] = []  # link, record id, pair, values

    @property
    def seen(self) -> list[int]:
        """Links whose record was in the page."""
        return self.sheet.seen

    # Reading and deciding

    def prepare(self, records: Sequence[Record], gone: Sequence[Gone]) -> None:
        """Decide what each record means.  Writes nothing."""
        self._page = records, gone
        self.sheet = Sheet(self.ctx, self.side, self.drift)
        self._going = {(item.entity, item.id) for item in gone}
        by_entity: dict[str, dict[str, Record]] = {}
        for record in records:
            by_entity.setdefault(record.entity, {})[record.id] = (
                record  # a page may tell a record twice: the last counts
            )
        for entity, unique in by_entity.items():
            for family, pairs in self.ctx.pairs_of(self.side, entity).items():
                self._family(entity, family, pairs, list(unique.values()))
        gone_by_entity: dict[str, dict[str, Gone]] = {}
        for item in gone:
            gone_by_entity.setdefault(item.entity, {})[item.id] = item
        for entity, items in gone_by_entity.items():
            for family in self.ctx.pairs_of(self.side, entity):
                self._gone(entity, family, items)

    def _rows(self, entity: str, family: str, ids: Sequence[str]) -> dict[str, Row]:
        found: dict[str, Row] = {}
        for block in store.blocks(ids, LOOK_UP):
            place = (self.ctx.integration.pk, family, entity, block)
            for values in BY_RECORD.read(*place, side=self.side, columns=ROW_COLUMNS):
                row = Row(*values)
                found[row.record_id] = row
        return found

    def _known(self, entity: str, family: str, ids: Sequence[str]) -> dict[str, Known]:
        """The little that tells whether a record is as it was: most are, and their texts need not be read."""
        found: dict[str, Known] = {}
        for block in store.blocks(ids, LOOK_UP):
            place = (self.ctx.integration.pk, family, entity, block)
            for record_id, *rest in BY_RECORD.read(*place, side=self.side, columns=KNOWN_COLUMNS):
                found[record_id] = tuple(rest)
        return found

    def _family(self, entity: str, family: str, pairs: list[Pair], records: list[Record]) -> None:
        known = self._known(entity, family, [record.id for record in records])
        routes = self.ctx.routes_of(self.side, entity, family)
        differing: list[tuple[Record, Pair, bool]] = []
        new: list[Record] = []
        # A record that flows nowhere and can be nobody's partner needs no link (invoices, where quotes come from the right).
        welcome = [pair for pair in pairs if pair.match or pair.flows(OTHER[self.side])]
        for record in records:
            brief = known.get(record.id)
            if brief is None:
                if welcome or record.marker:
                    new.append(record)
                continue
            self.sheet.seen.append(brief[0])
            pair = self.ctx.by_id.get(brief[1])
            if pair is None:
                continue
            differs = entity in self.by_values or not _unchanged(brief, record, pair)
            if differs or (brief[5] == "outside" and len(routes) > 1):  # another pair may hold it by now
                differing.append((record, pair, differs))
        if not differing and not new:
            return
        rows = self._rows(entity, family, [record.id for record, _, _ in differing])
        changed: list[tuple[Row, Record, Pair]] = []
        for record, pair, differs in differing:
            now = self._routed(rows[record.id], record, pair, routes)
            if differs or now is not pair:
                changed.append((rows[record.id], record, now))
        taken = self._taken(entity, pairs, [*(record for record, *_ in differing), *new])
        chosen = self._placed(new, welcome or pairs, routes, taken)
        for record, _, _ in chosen:
            self.sheet.new_keys[family, entity, record.id] = self.ctx.world.key()
        keys = self._keys([(record, pair) for _, record, pair in changed] + [(r, p) for r, p, _ in chosen])
        arrivals = self._arrivals(family, chosen, keys)
        for row, record, pair in changed:
            self._restage(row, record, pair, routes if row.alone else pairs, keys, record.id in taken.get(pair.id, ()))
        self._doubt(family)
        for arrival in arrivals:
            self._arrive(family, arrival)

    def _keys(self, items: Sequence[tuple[Record, Pair]]) -> dict[tuple[str, str], str]:
        """Return (place, id) -> key of every record that these refer to and whose link is known."""
        wanted: set[tuple[str, str]] = set()
        for record, pair in items:
            wanted.update(self.ctx.mappers[pair.id].refs(self.side, record.values))
        found: dict[tuple[str, str], str] = {}
        for place, record_id in wanted:
            key = self.sheet.new_keys.get((*self.ctx.home(self.side, place), record_id))
            if key is not None:
                found[place, record_id] = key
        asked = wanted - found.keys()
        if not asked:
            return found
        known = self.ctx.keys_of(self.side, asked)
        self.sheet.referred.update(known.values())
        return {**known, **found}

    def _taken(self, entity: str, pairs: list[Pair], records: Sequence[Record]) -> dict[int, set[str]]:
        """Return pair -> ids of the records that have their partner by a rival of that pair."""
        found: dict[int, set[str]] = {}
        other = OTHER[self.side]
        for pair in pairs:
            rivals = self.ctx.rivals[pair.id]
            if not rivals:
                continue
            found[pair.id] = {record_id for rival in rivals for record_id in self.sheet.paired.get(rival.id, ())}
            for block in store.blocks([record.id for record in records], LOOK_UP):
                rows = BY_RIVAL.read(
                    self.ctx.integration.pk, sorted({r.family for r in rivals}), entity, block, sorted(r.id for r in rivals),
                    side=self.side, other=other,
                )  # fmt: skip
                found[pair.id].update(record_id for (record_id,) in rows)
        return found

    def _choose(self, pairs: list[Pair], record: Record) -> tuple[Pair, str]:
        """Return the first pair whose filter holds, and why the record is outside ('' when it is not)."""
        for pair in pairs:
            why = pair.inside(self.side, record.values, self.today)
            if why != "filter":
                return pair, why
        return pairs[0], "filter"

    def _placed(
        self, records: Sequence[Record], pairs: list[Pair], routes: list[Pair], taken: Mapping[int, set[str]]
    ) -> list[tuple[Record, Pair, str]]:
        """Return pair and why it is outside for each new record, but for those that a disabled pair holds.

        Such a record gets no link: it is read again when the pair is enabled, since a change of settings reads everything.
        Nor does one that a further family leaves out: the first family's link tells of it, and a change of it is read.
        """
        found: list[tuple[Record, Pair, str]] = []
        several = [pair for pair in routes if pair in pairs or pair.id not in self.ctx.by_id]
        for record in records:
            pair, why = self._choose(pairs if record.marker else several, record)
            if why == "filter":
                found.append((record, pairs[0], why))
            elif pair.id in self.ctx.by_id:
                found.append((record, pair, why or (FAMILY if record.id in taken.get(pair.id, ()) else "")))
        if found and self.ctx.home(self.side, found[0][0].entity)[0] != found[0][1].family:
            return [item for item in found if item[2] in ("", "window") or item[0].marker]
        return found

    # A record that is known

    def _routed(self, row: Row, record: Record, pair: Pair, routes: list[Pair]) -> Pair:
        """Return the pair that a record belongs to now: one that never had a partner follows its values."""
        if len(routes) < 2 or not row.alone:
            return pair
        chosen, why = self._choose(routes, record)
        if why == "filter" or chosen.id not in self.ctx.by_id:
            return pair
        # Records of the right seldom tell by their values whose they are: there the pair changes only when it must.
        return pair if self.side == "right" and pair.inside("right", record.values, self.today) != "filter" else chosen

    def _restage(
        self, row: Row, record: Record, pair: Pair, pairs: list[Pair], keys: Mapping[tuple[str, str], str], taken: bool
    ) -> None:
        mapper = self.ctx.mappers[pair.id]
        told = mapper.canonical(self.side, record, lambda entity, record_id: keys.get((entity, record_id)))
        own_base = {**decode(row.base), **decode(row.quirk)} if row.base else {}
        quirk, was = row.quirk, decode(row.staged) if row.staged else own_base
        met: frozenset[str] = frozenset()
        if row.base and row.settings_revision != pair.revision:
            met, quirk = _met(pair, OTHER[self.side], told, row)
            own_base = {**decode(row.base), **decode(quirk)}
        agreed = bool(row.base) and row.staged is None and row.version == record.version != ""
        if agreed and row.settings_revision != pair.revision:
            # Settings changed and nobody edited since both agreed: what differs now is how this side shows the agreed value.
            shown = {n: v for n, v in told.items() if n in own_base and n not in met}
            own = {**decode(quirk), **{n: v for n, v in shown.items() if v != own_base[n]}}
            quirk, own_base = encode(own) if own else "", {**own_base, **shown}
        quirk = _with_shown(quirk, mapper.shown(self.side, record.values))
        now = {**(decode(row.staged) if row.staged else own_base), **told}
        now.pop(SHOWN, None)
        same = bool(row.base) and all(now[name] == own_base.get(name, _ABSENT) for name in told if name in pair.tracked)
        staged = None if same else encode(now)
        life = int(Life.ARCHIVED if record.archived else Life.LIVE)
        version = (record.version, modified_text(record.modified))
        outside = self._outside(row, record, pair, pairs) or (FAMILY if taken and row.alone else "")
        nothing_new = (
            staged == row.staged
            and life == row.life
            and quirk == row.quirk
            and not outside
            and (row.settings_revision == pair.revision or self.ctx.run.approved_at is not None)
            and row.reason != "outside"
            and row.entity_sync == pair.id
        )  # What a person approved was planned by the settings of now: to read the same once more changes nothing of it.
        if nothing_new:
            if row.version != record.version:
                self.sheet.touches[row.id] = (*version, row.id, row.revision)
            return
        pending, reason, args = self._pending(row, record, pair, outside)
        if reason == "changed" and life == row.life and row.reason in ("changed", "planned"):
            args = _still_decided(row, was, now)
        # The left is read first: a link keeps its older revision until its right record has been looked at, too.
        read = self.side == "right" or row.other_life not in (Life.LIVE, Life.ARCHIVED)
        match, second = pair.match_hashes(now)
        if not row.base and row.match2 != second:  # partners need no second match value
            self.sheet.seconds.append((second, row.id))
        if row.entity_sync != pair.id:
            self.sheet.moves.append((pair.id, row.id))
        if row.alone and pending == Pending.DIRTY:
            self._alone.append((row.id, row.record_id, pair, now))
        self.sheet.updates[row.id] = (
            *version, life, staged, quirk, match, pending, reason, args, pair.revision if read else row.settings_revision,
            self.ctx.run.pk, row.id, row.revision,
        )  # fmt: skip

    def _doubt(self, family: str) -> None:
        """An edit, or a move to another pair, may show that a record without a partner is one that the other side has, too.

        Both have links by now, which are not made one: it is a question for a person, and so it stays while both are there.
        """
        found = candidates_for(
            self.ctx.integration.pk,
            family,
            self.side,
            [(record_id, pair, now) for _, record_id, pair, now in self._alone],
        )
        for link_id, record_id, _, _ in self._alone:
            if record_id in found:
                self._ask_about(found[record_id])
                row = self.sheet.updates[link_id]
                asked = (int(Pending.CONFLICT), "ambiguous", encode({"side": self.side}))
                self.sheet.updates[link_id] = (*row[:PENDING], *asked, *row[PENDING + 3 :])
        self._alone.clear()

    def _ask_about(self, candidates: Sequence[Candidate]) -> None:
        self.sheet.ambiguous.update({c.id: c.revision for c in candidates if not c.held})

    def _outside(self, row: Row, record: Record, pair: Pair, pairs: list[Pair]) -> str:
        if self.side == "right" and len(pairs) == 1:
            return pair.inside(self.side, record.values, self.today)
        chosen, why = self._choose(pairs, record)
        if why == "" and chosen.id != pair.id and self.side == "left":
            return "route"
        return pair.inside(self.side, record.values, self.today) if chosen.id == pair.id else why

    def _left_out(self, record: Record, pair: Pair, why: str) -> CanonicalValues:
        """Return the arguments of a record that is left out: of one that is another company's also which it names."""
        found: CanonicalValues = {"why": why, "side": self.side}
        if why == COMPANY and pair.route is not None:
            found |= {"field": pair.route.field, "value": pair.route.found(record.values)}
        return found

    def _pending(self, row: Row, record: Record, pair: Pair, outside: str) -> tuple[int | None, str, str]:
        if row.state in (HELD, DISCONNECTED) or (row.reason, row.args) == (APPROVAL, UNAPPROVED):
            return row.pending, row.reason, row.args  # who holds it and why stays
        told = decode(row.args) if row.reason == "outside" else {}
        also = {"also": told["also"]} if told.get("also") else {}
        if told.get("side") == OTHER[self.side]:
            # What this side tells is kept for the merge, but only the side that left the bounds can bring the record back.
            kept = {name: value for name, value in told.items() if name != "also"}
            return int(Pending.SKIPPED), "outside", encode({**kept, "also": outside} if outside else kept)
        if outside:
            return int(Pending.SKIPPED), "outside", encode({**self._left_out(record, pair, outside), **also})
        if also:  # this side is back, the other one is not
            return int(Pending.SKIPPED), "outside", encode({"why": told["also"], "side": OTHER[self.side]})
        return int(Pending.DIRTY), "changed", ""

    # A record that is new

    def _arrivals(
        self, family: str, chosen: list[tuple[Record, Pair, str]], keys: dict[tuple[str, str], str]
    ) -> list[Arrival]:
        """Find out which of these join a link that is there, and under which keys all of them are referred to from now on."""
        staged: list[Arrival] = []
        for record, pair, outside in chosen:
            values = self.ctx.mappers[pair.id].canonical(self.side, record, lambda place, i: keys.get((place, i)))
            staged.append(Arrival(record, pair, outside, values))
        marked = self._marked(family, [a.record for a in staged if a.record.marker])
        free = [
            (a.record.id, a.pair, a.values) for a in staged if not a.outside and a.record.marker not in marked
        ]  # fmt: skip
        candidates = candidates_for(self.ctx.integration.pk, family, self.side, free)
        claims = Counter(candidate.id for found in candidates.values() for candidate in found)
        renamed: dict[str, str] = {}
        for arrival in staged:
            record = arrival.record
            arrival.candidates = candidates.get(record.id, [])
            arrival.joins = marked.pop(record.marker, None) if record.marker else None  # of two copies the first
            found = arrival.candidates
            if arrival.joins is None and len(found) == 1 and found[0].free and claims[found[0].id] == 1:
                arrival.joins = found[0]
            if arrival.joins is not None:
                place = (family, record.entity, record.id)
                renamed[f"@{self.sheet.new_keys[place]}"] = f"@{arrival.joins.key}"
                self.sheet.new_keys[place] = arrival.joins.key
        if renamed:  # records of this very page may refer to one that has joined a link
            for arrival in staged:
                rename(arrival.values, renamed, arrival.pair.referring)
            keys.update({asked: renamed.get(f"@{key}", f"@{key}")[1:] for asked, key in keys.items()})
        return staged

    def _arrive(self, family: str, arrival: Arrival) -> None:
        if arrival.joins is not None:
            self._join(arrival.joins, arrival.record, arrival.pair, arrival.values)
            return
        self._ask_about(arrival.candidates)
        self._insert(arrival.record, arrival.pair, family, arrival.values, arrival.outside, bool(arrival.candidates))

    def _marked(self, family: str, records: Sequence[Record]) -> dict[str, Candidate]:
        """Return marker -> link, for markers whose link has no living record on this side.

        Of this family only: a record that belongs to two carries the marker of one, and is no copy of itself in the other.
        """
        if not records:
            return {}
        rows = RecordLink.objects.filter(
            key__in=[record.marker for record in records],
            integration=self.ctx.integration.pk,
            family=family,
            ended=0,
        ).values_list(
            "key", "id", f"{self.side}_id", f"{self.side}_life", f"{self.side}_entity", "reason", "args", "revision"
        )
        found: dict[str, Candidate] = {}
        by_marker = {record.marker: record for record in records}
        for key, link_id, record_id, life, entity, reason, args, revision in store.read(rows):
            # A move to another list is told as a delete and a new id in one page.
            if record_id is None or life in (Life.NONE, Life.GONE) or (entity, record_id) in self._going:
                found[str(key)] = Candidate(link_id, str(key), revision, True, bounds_of(reason, args), False)
            else:
                copy = by_marker[str(key)]
                self.sheet.events.append(
                    (
                        "warning",
                        "copied marker",
                        f"{copy.entity} {copy.id} carries the marker of {entity} {record_id}: taken for a person's copy.",
                    )
                )
        return found

    def _join(self, link: Candidate, record: Record, pair: Pair, values: CanonicalValues) -> None:
        link_id, bounds = link.id, link.bounds
        match, second = pair.match_hashes(values)
        if second is not None:
            self.sheet.seconds.append((second, link_id))
        pending, reason = (Pending.SKIPPED, "outside") if bounds else (Pending.DIRTY, "changed")
        self.sheet.seen.append(link_id)
        self.sheet.paired.setdefault(pair.id, {})[record.id] = link_id
        self.sheet.joins[link_id] = (
                record.entity,
                record.id,
                record.version,
                modified_text(record.modified),
                int(Life.ARCHIVED if record.archived else Life.LIVE),
                match,
                encode(values),
                int(pending),
                reason,
                bounds,
                pair.revision,
                self.ctx.run.pk,
                self._shown(record, pair),
                link_id,
                link.revision,
            )  # fmt: skip

    def _insert(
        self,
        record: Record,
        pair: Pair,
        family: str,
        values: CanonicalValues,
        outside: str,
        ambiguous: bool,
    ) -> None:
        pending, reason, args = int(Pending.DIRTY), "changed", ""
        if outside:
            pending, reason, args = int(Pending.SKIPPED), "outside", encode(self._left_out(record, pair, outside))
        elif ambiguous:
            pending, reason, args = int(Pending.CONFLICT), "ambiguous", encode({"side": self.side})
        key = self.sheet.new_keys[family, record.entity, record.id]
        match, second = pair.match_hashes(values)
        self.sheet.inserts.append(
            (
                key, self.ctx.integration.pk, pair.id, family, self.ctx.scope.pk,
                record.entity, record.id, record.version, modified_text(record.modified),
                int(Life.ARCHIVED if record.archived else Life.LIVE), match, second, encode(values), self._shown(record, pair),
                "", None, "", "", int(Life.NONE), "", None, "",
                "", NEW, 0, pending, reason, args, 1, pair.revision, self.ctx.run.pk,
            )
        )  # fmt: skip

    def _shown(self, record: Record, pair: Pair) -> str:
        return _with_shown("", self.ctx.mappers[pair.id].shown(self.side, record.values))

    # A record that is no more

    def _gone(self, entity: str, family: str, items: dict[str, Gone]) -> None:
        for row in self._rows(entity, family, list(items)).values():
            if row.life == Life.GONE or row.entity_sync not in self.ctx.by_id:
                continue
            into = items[row.record_id].into
            pending, reason, args = int(Pending.DIRTY), "changed", ""
            if row.state in (HELD, DISCONNECTED):
                pending, reason, args = row.pending or int(Pending.SKIPPED), row.reason, row.args
            elif into:
                pending, reason, args = int(Pending.CONFLICT), "merged", encode({"into": into, "side": self.side})
            self.sheet.updates[row.id] = (
                row.version, "", int(Life.GONE), row.staged, row.quirk, "", pending, reason, args,
                row.settings_revision, self.ctx.run.pk, row.id, row.revision,
            )  # fmt: skip

    # Writing

    def apply(self) -> None:
        """Write everything that was decided.  The caller's transaction moves the cursor, too.

        Where somebody has changed one of the links since, the whole page is looked at once more, as they are now.
        """
        for _ in range(MOST_LOOKS):
            if self.sheet.write():
                return
            self.prepare(*self._page)
        raise RetryableError("People change these very records at this moment: the page is read again later.")


_ABSENT = object()


def _met(pair: Pair, to: Side, told: CanonicalValues, row: Row) -> tuple[frozenset[str], str]:
    """Return the fields whose option the settings give a partner by now, or leave alone no more, and the quirks without them.

    It was told before and kept out, so it is no other way to show what was agreed: the other side has never heard of it.
    """
    base, quirk, met = decode(row.base), decode(row.quirk), set()
    for name, value in told.items():
        rule = pair.by_name.get(name)
        if rule is None or rule.options is None or value is None or rule.leaves(value):
            continue
        held = quirk.get(name, base.get(name))
        if not rule.writable(to, creating=False) or not (
            held is None or without_partner(held) or without_partner(value)
        ):
            continue
        met.add(name)
        if without_partner(value):
            quirk.pop(name, None)
        elif without_partner(held):
            quirk[name] = UNMET
    return frozenset(met), encode(quirk) if quirk else ""


def _with_shown(quirk: str, shown: dict[str, str]) -> str:
    """Return the quirks with the options that the side holds now; as they are where there is nothing to tell."""
    if not shown:
        return quirk
    values = decode(quirk)
    before = values.get(SHOWN)
    kept = [each for each in (before if isinstance(before, list) else []) if each[0] not in shown]  # type: ignore[index]
    told: list[object] = [*kept, *([name, key] for name, key in sorted(shown.items()))]
    return encode({**values, SHOWN: told})


def _still_decided(row: Row, was: CanonicalValues, now: CanonicalValues) -> str:
    """Return a person's decision, which outlives a change of settings while the values are those that the person saw.

    It says nothing of a field that has come since.
    """
    decided = {name: value for name, value in decode(row.args).items() if name in ("resolution", "approved")}
    if not decided or any(now[name] != value for name, value in was.items() if name in now):
        return ""
    winner = decided.get("resolution")
    if isinstance(winner, str) and row.other_life != Life.GONE and not now.keys() <= was.keys():
        decided["resolution"] = dict.fromkeys(was, winner)  # type: ignore[assignment]
    return encode(decided)


def _unchanged(row: Known, record: Record, pair: Pair) -> bool:
    _, _, version, life, settings_revision, reason = row
    return (
        record.version != ""
        and version == record.version
        and life == (Life.ARCHIVED if record.archived else Life.LIVE)
        and settings_revision == pair.revision
        and not (pair.window is not None and reason == "outside")
    )
