"""A world for the hard cases: more entities, settings that change, a process that dies at a named point."""

from __future__ import annotations

from collections.abc import Iterable

from connectors.contract import Entity, Field, Kind
from connectors.memory.store import MemoryStore, Written, entity
from connectors.models import EntitySync, Event, FieldMapping, PicklistMapping, RecordChange, RecordLink, Run
from connectors.sync.run import mark_settings_changed
from connectors.sync.values import decode
from tests.sync.worlds import FIELDS, TwoSystems

NAME = Field("name", Kind.TEXT, required=True, max_length=60, findable=True)
USUAL = (
    NAME,
    Field("email", Kind.TEXT, max_length=100, findable=True),
    Field("city", Kind.TEXT, max_length=40),
    Field("credit", Kind.MONEY, scale=2),
    Field("parent", Kind.REF, refers_to=("person",)),
)


class Crash(BaseException):
    """The process dies here."""


def person(*more: Field, **options: object) -> Entity:
    """Return the usual entity with further fields."""
    return entity("person", *USUAL, *more, **options)


class Hard(TwoSystems):
    """Two systems, and short words for what the hard cases look at.  Every run's counts must add up."""

    def run(self, mode: str = "delta", purpose: str = "sync") -> Run:
        run = super().run(mode, purpose)
        assert run.counts["adds_up"], run.counts
        return run

    def store(self, side: str) -> MemoryStore:
        return self.left if side == "left" else self.right

    def add_entity(self, side: str, new: Entity) -> None:
        self.store(side).entities[new.name] = new
        self.store(side).tables[new.name] = {}

    def add_sync(self, name: str, left: str, right: str, fields: Iterable[str], **options: object) -> EntitySync:
        """Add a further entity sync that maps `fields` to fields of the same name."""
        settings = {"family": name, "on_delete": "delete", "match": [["name>name"]], **options}
        sync = EntitySync.objects.create(
            integration=self.integration, name=name, left_entity=left, right_entity=right, **settings
        )
        for number, field in enumerate(fields):
            FieldMapping.objects.create(
                entity_sync=sync, position=number, left=field, right=field, required=field == "name"
            )
        return sync

    def map(self, left: str, right: str, *options: tuple[str, str], **settings: object) -> FieldMapping:
        """Add a field mapping, with pairs of option keys where it is a picklist."""
        mapping = FieldMapping.objects.create(entity_sync=self.sync, position=20, left=left, right=right, **settings)
        for one, other in options:
            PicklistMapping.objects.create(
                field_mapping=mapping, left_key=one, left_label=one.title(), right_key=other,
                right_label=other.title(), token=other,
            )  # fmt: skip
        return mapping

    def change(self, **settings: object) -> None:
        """Change the entity sync as the admin does."""
        EntitySync.objects.filter(pk=self.sync.pk).update(**settings)
        mark_settings_changed(self.integration, self.sync)

    def change_mapping(self, field: str, **settings: object) -> None:
        FieldMapping.objects.filter(entity_sync=self.sync, left=field).update(**settings)
        mark_settings_changed(self.integration, self.sync)

    def pair_up(self, **values: object) -> tuple[str, str]:
        """Make one record on the left, sync it, and return the ids of both."""
        before = set(self.right.ids("person"))
        left = self.left.create("person", {"name": f"Ada {len(before)}", **values})
        self.run()
        (right,) = set(self.right.ids("person")) - before
        return left, right

    def value(self, side: str, record_id: str, field: str) -> object:
        return self.store(side).tables["person"][record_id].values[field]

    def link(self, **record: str) -> RecordLink:
        """Return the one living link of `left=id` or `right=id`."""
        ((side, record_id),) = record.items()
        return RecordLink.objects.get(**{f"{side}_id": record_id}, ended=0)

    def state(self, **record: str) -> tuple[str, dict[str, object]]:
        """Return reason and arguments of a record's link."""
        link = self.link(**record)
        return link.reason, dict(decode(link.args))

    def writes(self, side: str, verb: str = "") -> list[Written]:
        return [w for w in self.store(side).journal if not verb or w.verb == verb]

    @property
    def written(self) -> int:
        """How many writes both systems have taken so far."""
        return len(self.left.journal) + len(self.right.journal)

    def die_at(self, point: str) -> None:
        """Start a run that dies the first time it comes to `point`."""

        def die(name: str) -> None:
            if name == point:
                raise Crash(name)

        self.at_point = die
        try:
            super().run()
        except Crash:
            return
        finally:
            self.at_point = None
        raise AssertionError(f"the run never came to {point!r}")

    def meanwhile(self, point: str, act: object) -> None:
        """Let a person act the first time a run comes to `point`."""

        def do(name: str) -> None:
            if name == point:
                self.at_point = None
                act()  # type: ignore[operator]

        self.at_point = do

    def lost(self) -> list[str]:
        return list(RecordChange.objects.exclude(lost="").values_list("lost", flat=True))

    def events(self) -> list[str]:
        return list(Event.objects.order_by("id").values_list("code", flat=True))


__all__ = ["FIELDS", "NAME", "Crash", "Hard", "person"]
