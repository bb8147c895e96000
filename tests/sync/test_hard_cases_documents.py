"""How do a document's lines stay in agreement?  They are one ordered value of their parent (CORE section 3, invoice lines)."""

from __future__ import annotations

import itertools
from dataclasses import replace
from decimal import Decimal

import pytest

from connectors.contract import Field, Kind, Row, Value
from tests.sync.hard_world import Hard, person

pytestmark = pytest.mark.django_db
LINES = Field("lines", Kind.ROWS, rows=(Field("item", Kind.TEXT), Field("price", Kind.MONEY, scale=2)))
ROWS = {"rows": [{"left": "item", "right": "item"}, {"left": "price", "right": "price"}]}


def lines(*items: str) -> tuple[Row, ...]:
    return tuple(Row({"item": item, "price": Decimal("1.00")}, id=f"own-{item}") for item in items)


def items(value: object) -> list[object]:
    assert isinstance(value, tuple)
    return [row.values["item"] for row in value]


@pytest.fixture
def world() -> Hard:
    """Both systems give every line a new id at each write of its parent."""
    world = Hard(left_entity=person(LINES), right_entity=person(LINES))
    world.map("lines", "lines", args=ROWS)
    ids = itertools.count(500)

    def renumbered(value: Value) -> Value:
        return tuple(replace(row, id=str(next(ids))) for row in value) if isinstance(value, tuple) else value

    for store in (world.left, world.right):
        store.stores_as["person", "lines"] = renumbered
    return world


def test_a_documents_lines_go_with_it_in_their_order_and_new_line_ids_are_no_change(world: Hard) -> None:
    left, right = world.pair_up(lines=lines("b", "a", "b"))
    assert items(world.value("right", right, "lines")) == ["b", "a", "b"]
    world.left.put("person", left, {"lines": lines("b", "a", "b")})
    world.run()
    world.run("comprehensive")
    assert world.written == 1


def test_an_edit_of_one_line_sends_all_lines_and_no_other_field(world: Hard) -> None:
    left, right = world.pair_up(lines=lines("a", "b"), city="Rome")
    world.left.put("person", left, {"lines": lines("a", "c", "b")})
    world.settle()
    assert items(world.value("right", right, "lines")) == ["a", "c", "b"]
    (update,) = world.writes("right", "update")
    assert set(update.values) == {"lines"}


def test_lines_edited_on_both_sides_go_by_the_policy_as_one_value_and_the_loser_is_kept(world: Hard) -> None:
    left, right = world.pair_up(lines=lines("a"))
    world.left.put("person", left, {"lines": lines("a", "left")})
    world.clock.sleep(60)
    world.right.put("person", right, {"lines": lines("a", "right"), "city": "Rome"})
    world.settle()
    for side, record_id in (("left", left), ("right", right)):
        assert items(world.value(side, record_id, "lines")) == ["a", "right"]
    assert world.value("left", left, "city") == "Rome"
    assert any('"left":[' in lost and '"item>item":"left"' in lost for lost in world.lost())


def test_a_line_that_was_changed_alone_is_told_by_its_parent(world: Hard) -> None:
    """A detail feed answers `touched`; the parent's own version stays."""
    left, right = world.pair_up(lines=lines("a"))
    world.left.compute("person", left, {"lines": lines("a", "b")})
    world.left.touch_child("person", left)
    world.run()
    assert items(world.value("right", right, "lines")) == ["a", "b"]


@pytest.mark.parametrize("point", ["before write", "after write"])
def test_a_crash_while_lines_are_sent_leaves_them_once(world: Hard, point: str) -> None:
    left, right = world.pair_up(lines=lines("a"))
    world.left.put("person", left, {"lines": lines("a", "b")})
    world.die_at(point)
    world.settle()
    assert items(world.value("right", right, "lines")) == ["a", "b"]
    assert len(world.writes("right", "update")) == 1
