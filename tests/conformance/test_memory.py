"""Does the in-memory system do what every connector must do?  Also the shortest example of how the suite is used."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from connectors.contract import Safe
from connectors.memory.connector import Memory
from connectors.memory.store import MemoryStore, entity
from tests.conformance.suite import ConnectorConformance


def speaking_to(store: MemoryStore) -> Memory:
    return Memory(None, {"store": store.name}, lambda: datetime.now(UTC))


class TestMemory(ConnectorConformance):
    @pytest.fixture(params=[Safe.REQUEST_KEY, Safe.CLIENT_ID])
    def store(self, request: pytest.FixtureRequest) -> MemoryStore:
        return MemoryStore("conformance", {"person": entity(safe=request.param)})

    @pytest.fixture
    def connector(self, store: MemoryStore) -> Memory:
        return speaking_to(store)

    @pytest.fixture
    def new_connector(self, store: MemoryStore) -> Callable[[], Memory]:
        return lambda: speaking_to(store)

    @pytest.fixture
    def entity(self) -> str:
        return "person"

    @pytest.fixture
    def sample(self) -> dict[str, object]:
        return {"name": "Ada", "email": "ada@example.com", "city": "London", "credit": Decimal("12.50")}

    @pytest.fixture
    def other(self) -> dict[str, object]:
        return {"city": "Paris", "credit": Decimal("7.25")}
