"""What does one run carry around?  Settings, both connectors, counters; nothing that a crash could lose."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from connectors.contract import Connector, Entity, Ref
from connectors.models import Event, Integration, RecordLink, Run, Scope
from connectors.sync import store, twins
from connectors.sync.compile import Described, compile_all
from connectors.sync.mapping import Mapper
from connectors.sync.rules import LEFT, RIGHT, Pair, Side
from connectors.sync.world import World

HELD = store.Prepared(
    lambda scope, fence: Scope.objects.select_for_update().filter(pk=scope, fence=fence).values_list("pk")
)


class Interrupted(Exception):
    """The run was asked to stop at a safe point: its slice is over, or a person cancelled it."""


class EmptySide(Exception):
    """A side shows suspiciously few records: a guard stops the run."""


class FenceLost(Exception):
    """Another run has taken the scope, or the settings changed: this one must write nothing more."""


@dataclass
class Context:
    """One run at work."""

    run: Run
    scope: Scope
    integration: Integration
    world: World
    connectors: Mapping[Side, Connector]
    pairs: list[Pair]  # all that are enabled: a feed has one cursor, so what it tells is staged for each of them
    acting: list[Pair]  # those that are planned and written in this run
    disabled: list[Pair] = field(default_factory=list)  # they keep their records from becoming another pair's
    aside: list[int] = field(
        default_factory=list
    )  # runs over reports that gave this one its turn: what they staged is theirs
    slice_over: Callable[[], bool] = lambda: False
    skew: timedelta = timedelta(0)
    reads: Counter[str] = field(default_factory=Counter)
    retried: set[int] = field(default_factory=set)  # links that met a conflict once in this run
    noted: set[str] = field(default_factory=set)  # causes of problems that this run has noted
    told: set[int] | None = None  # links whose records the feeds tell of, while somebody wants to know
    released: int = 0  # links that the last plan has let go on

    @classmethod
    def open(cls, run: Run, world: World, slice_over: Callable[[], bool] | None = None) -> Context:
        """Connect both sides and compile the settings.  Raises SettingsError, ConnectorError."""
        integration = run.integration
        twins.refuse_run(integration, world)
        connectors: dict[Side, Connector] = {
            LEFT: world.connect(integration.left),
            RIGHT: world.connect(integration.right),
        }
        pairs, disabled = compile_all(integration, Described.read(integration, connectors))
        acting = [pair for pair in pairs if pair.name in run.entities] if run.entities else pairs
        aside = Run.objects.filter(scope=run.scope, mode=Run.Mode.REPORTS, finished_at__isnull=True).exclude(pk=run.pk)
        context = cls(
            run, run.scope, integration, world, connectors, pairs, acting, disabled, list(aside.values_list("pk", flat=True))
        )  # fmt: skip
        if slice_over is not None:
            context.slice_over = slice_over
        return context

    def __post_init__(self) -> None:
        self.mappers = {pair.id: Mapper(pair) for pair in self.pairs}
        self.by_id = {pair.id: pair for pair in self.pairs}
        every = [*self.pairs, *self.disabled]
        # Pairs of the same two entities in different families: a record has its partner in one of them only, else both
        # would write one record (a person of its own, or the primary contact of an account).
        self.rivals = {
            pair.id: [
                other
                for other in every
                if other.family != pair.family
                and (other.left.name, other.right.name) == (pair.left.name, pair.right.name)
            ]
            for pair in self.pairs
        }
        self._rank: dict[str, int] = {}
        for pair in every:
            self._rank[pair.family] = min(pair.position, self._rank.get(pair.family, pair.position))
        self._homes: dict[tuple[Side, str], tuple[str, str]] = {}

    def scope_key(self, side: Side) -> str:
        """The connector's scope on one side."""
        return self.scope.left_key if side == LEFT else self.scope.right_key

    def entities(self, side: Side) -> dict[str, Entity]:
        """Entities of one side that take part."""
        return {pair.entity(side).name: pair.entity(side) for pair in self.pairs}

    def pairs_of(self, side: Side, entity: str) -> dict[str, list[Pair]]:
        """Pairs that an entity takes part in, by family, in order of position."""
        found: dict[str, list[Pair]] = {}
        for pair in sorted(self.pairs, key=lambda p: (p.position, p.id)):
            if pair.entity(side).name == entity:
                found.setdefault(pair.family, []).append(pair)
        return found

    def routes_of(self, side: Side, entity: str, family: str) -> list[Pair]:
        """Pairs of a family that may hold an entity's record, in order of position: also disabled ones that filter this side.

        A disabled pair without a filter here would hold every record, and nobody could replace it by another pair.
        """
        claims = [pair for pair in self.disabled if any(c.side == side for c in pair.filters)]
        return [
            pair
            for pair in sorted([*self.pairs, *claims], key=lambda p: (p.position, p.id))
            if pair.family == family and pair.entity(side).name == entity
        ]

    def feeds(self, side: Side) -> dict[str, dict[str, frozenset[str]]]:
        """Feeds to read on one side: feed -> entity -> wanted fields, in dependency order."""
        found: dict[str, dict[str, frozenset[str]]] = {}
        for pair in self.pairs:
            entity = pair.entity(side)
            wanted = found.setdefault(entity.feed, {})
            wanted[entity.name] = wanted.get(entity.name, frozenset()) | pair.wanted(side)
        for pair in self.disabled:
            entity = pair.entity(side)
            if entity.name in found.get(entity.feed, {}):  # what its filter looks at must be told, too
                found[entity.feed][entity.name] |= pair.wanted(side)
        return found

    def wanted(self, side: Side, entity: str) -> frozenset[str]:
        """Fields of one entity that must be read."""
        return next((w[entity] for w in self.feeds(side).values() if entity in w), frozenset())

    def compared_by_values(self, side: Side) -> frozenset[str]:
        """Entities that may change without a new version: a listing compares their values."""
        return frozenset(name for name, entity in self.entities(side).items() if not entity.version_tells_all)

    @contextmanager
    def transaction(self, name: str) -> Iterator[None]:
        """A transaction that only the holder of the scope may commit: a worker that was slow to die records nothing."""
        with self.world.transaction(name):
            # The lock keeps whoever takes the scope over waiting until this has been committed (SQLite has one writer anyway).
            if not HELD.read(self.scope.pk, self.run.fence):
                raise FenceLost("Another run has taken over: this one writes nothing more.")
            yield

    def check_slice(self) -> None:
        """Raise Interrupted at the end of a slice; what was done so far is stored."""
        if self.slice_over():
            raise Interrupted

    def event(self, level: str, code: str, message: str, *, link_id: int | None = None, **args: object) -> None:
        """Tell a person."""
        Event.objects.create(
            integration=self.integration,
            scope=self.scope,
            run=self.run,
            link_id=link_id,
            level=level,
            code=code,
            message=message[:1000],
            args=args,
            at=self.world.now(),
        )

    # Look-ups of links by record and by key

    def keys_of(self, side: Side, wanted: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
        """Return the link keys of records of one side: (place, id) -> key."""
        by_place: dict[str, set[str]] = {}
        for place, record_id in wanted:
            by_place.setdefault(place, set()).add(record_id)
        found: dict[tuple[str, str], str] = {}
        for place, ids in by_place.items():
            family, entity = self.home(side, place)
            for block in store.blocks(sorted(ids), 500):
                rows = RecordLink.objects.filter(
                    **{
                        "integration": self.integration.pk,
                        "family": family,
                        f"{side}_entity": entity,
                        f"{side}_id__in": block,
                        "ended": 0,
                    }
                ).values_list(f"{side}_id", "key")
                for record_id, key in store.read(rows):
                    found[place, str(record_id)] = str(key)
        return found

    def home(self, side: Side, place: str) -> tuple[str, str]:
        """Return (family, entity) of the links that references to a place mean.

        Without a word about it that is the first family in which the entity takes part (customer, not primary contact).
        """
        if (side, place) not in self._homes:
            named, _, entity = place.rpartition("/")
            families = [named] if named else sorted(self.pairs_of(side, entity), key=self._rank.__getitem__)
            if not families:
                rows = self.integration.entity_syncs.filter(**{f"{side}_entity": entity}).order_by("position", "id")
                families = [family for (family,) in rows.values_list("family")[:1]]
            self._homes[side, place] = (families[0] if families else "", entity)
        return self._homes[side, place]

    def places(self, side: Side, family: str, entity: str) -> list[str]:
        """Return by which names references may mean a record of an entity's links in a family."""
        full = f"{family}/{entity}"
        return [entity, full] if self.home(side, entity)[0] == family else [full]

    def partners(self, keys: Sequence[str]) -> dict[str, dict[Side, tuple[Ref | None, int, int | None]]]:
        """Return key -> side -> (record there or None, its life, pending of the link)."""
        found: dict[str, dict[Side, tuple[Ref | None, int, int | None]]] = {}
        for block in store.blocks(sorted(set(keys)), 500):
            rows = RecordLink.objects.filter(key__in=block).values_list(
                "key", "left_entity", "left_id", "left_life", "right_entity", "right_id", "right_life", "pending"
            )
            for key, left_entity, left_id, left_life, right_entity, right_id, right_life, pending in store.read(rows):
                found[str(key)] = {
                    LEFT: (Ref(str(left_entity), str(left_id)) if left_id else None, int(str(left_life)), pending),
                    RIGHT: (Ref(str(right_entity), str(right_id)) if right_id else None, int(str(right_life)), pending),
                }
        return found


def modified_text(moment: datetime | None) -> str:
    """Return a modification time as links keep it."""
    return moment.isoformat() if moment else ""
