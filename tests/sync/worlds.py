"""A whole world in one process: two systems in memory, an integration between them, a clock, and an engine."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

from connectors.contract import Connector
from connectors.memory.connector import Memory
from connectors.memory.store import MemoryStore, entity
from connectors.models import Connection, EntitySync, FieldMapping, Integration, Run, Scope
from connectors.sync.run import advance, start_run
from connectors.sync.world import World

FIELDS = ("name", "email", "city", "credit", "parent")


class Clock:
    """A clock that moves only when told."""

    def __init__(self) -> None:
        self.time = datetime(2026, 3, 1, 8, 0, tzinfo=UTC)

    def now(self) -> datetime:
        self.time += timedelta(milliseconds=1)
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


class TwoSystems:
    """Two stores and the integration between them."""

    def __init__(
        self, seed: int = 0, *, left_entity: object = None, right_entity: object = None, **sync: object
    ) -> None:
        self.clock = Clock()
        self.left = MemoryStore("left", {"person": left_entity or entity()}, clock=self.clock.now)
        self.right = MemoryStore("right", {"person": right_entity or entity()}, clock=self.clock.now, first_id=1001)
        self.world = World(self.connect, self.clock.now, self.clock.sleep, random.Random(seed), self.point)
        self.at_point = None
        ends = [Connection.objects.create(system="memory", name=n, settings={"store": n}) for n in ("left", "right")]
        self.integration = Integration.objects.create(name="both", left=ends[0], right=ends[1], first_run="apply")
        self.scope = Scope.objects.create(integration=self.integration)
        options = {"match": [["name>name"]], "on_delete": "delete", **sync}
        self.sync = EntitySync.objects.create(
            integration=self.integration,
            name="person",
            family="person",
            left_entity="person",
            right_entity="person",
            **options,
        )
        for number, name in enumerate(FIELDS):
            FieldMapping.objects.create(
                entity_sync=self.sync, position=number, left=name, right=name, required=name == "name"
            )

    def connect(self, connection: Connection) -> Connector:
        return Memory(None, connection.settings, self.clock.now)

    def point(self, name: str) -> None:
        if self.at_point is not None:
            self.at_point(name)

    def run(self, mode: str = "delta", purpose: str = "sync") -> Run:
        run = start_run(self.scope, self.world, mode=mode, purpose=purpose)
        self.scope.refresh_from_db()
        while not advance(run, self.world):
            pass
        run.refresh_from_db()
        return run

    def settle(self, most: int = 5) -> list[Run]:
        """Run until a run writes nothing."""
        runs = []
        for _ in range(most):
            before = len(self.left.journal) + len(self.right.journal)
            runs.append(self.run())
            if len(self.left.journal) + len(self.right.journal) == before:
                return runs
        raise AssertionError(f"did not settle within {most} runs")

    def names(self, store: MemoryStore) -> list[str]:
        return sorted(str(kept.values["name"]) for kept in store.tables["person"].values())
