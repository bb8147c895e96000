"""Values that no feed tells of (aging, stock) come by a report and stand on the record's own link."""

from __future__ import annotations

from decimal import Decimal

import pytest

from connectors.contract import Field, Kind, Write
from connectors.memory.store import entity
from connectors.models import FieldMapping, RecordLink
from connectors.sync.run import mark_settings_changed
from tests.sync.worlds import TwoSystems

pytestmark = pytest.mark.django_db
AGING = Field("overdue", Kind.MONEY, write=Write.NEVER, scale=2, group="aging")


def world_with_aging() -> TwoSystems:
    plain = entity()
    world = TwoSystems(left_entity=entity("person", *plain.fields, AGING))
    credit = FieldMapping.objects.get(entity_sync=world.sync, left="credit")
    credit.delete()
    FieldMapping.objects.create(entity_sync=world.sync, left="overdue", right="credit", direction="to_right")
    return world


def credits(world: TwoSystems) -> list[object]:
    return [kept.values["credit"] for kept in world.right.tables["person"].values()]


def test_a_new_record_is_made_with_its_reported_values_in_one_write() -> None:
    world = world_with_aging()
    world.left.create("person", {"name": "Ada", "overdue": Decimal("12.50")})
    world.run()
    assert credits(world) == [Decimal("12.50")]
    assert len(world.right.journal) == 1
    assert RecordLink.objects.get().pending is None


def test_a_report_that_changed_is_written_by_the_next_comprehensive_run_and_only_that_field() -> None:
    world = world_with_aging()
    left = world.left.create("person", {"name": "Ada", "overdue": Decimal("12.50")})
    world.run()
    world.left.tables["person"][left].values["overdue"] = Decimal("99")  # no new version, no word in the feed
    world.run()
    assert credits(world) == [Decimal("12.50")], "a delta reads no reports"
    run = world.run("comprehensive")
    assert credits(world) == [Decimal("99.00")]
    assert world.right.journal[-1].values == {"credit": Decimal("99.00")}
    assert run.counts["adds_up"]
    writes = len(world.right.journal)
    world.run("comprehensive")
    assert len(world.right.journal) == writes


def test_a_record_that_a_delta_brought_gets_its_reported_values_with_the_next_report() -> None:
    world = world_with_aging()
    world.left.create("person", {"name": "Ada", "overdue": Decimal(1)})
    world.run()
    world.left.create("person", {"name": "Grace", "overdue": Decimal(2)})
    world.run()
    assert credits(world) == [Decimal("1.00"), None]
    world.run("comprehensive")
    assert credits(world) == [Decimal("1.00"), Decimal("2.00")]


def test_the_feed_is_not_asked_for_reported_fields() -> None:
    world = world_with_aging()
    world.left.create("person", {"name": "Ada", "overdue": Decimal("5")})
    world.run()
    mark_settings_changed(world.integration, world.sync)
    world.run()
    assert "overdue" not in (RecordLink.objects.get().left_staged or "")
    assert credits(world) == [Decimal("5.00")]
