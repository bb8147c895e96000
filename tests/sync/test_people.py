"""Does what people decide survive runs, previews and races, and do their requests get an answer?"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from connectors.contract import Fetched, PermanentError
from connectors.memory.connector import Memory
from connectors.models import Promotion, RecordChange, RecordLink, Run
from connectors.sync import decisions, promotions
from connectors.sync.context import Context
from connectors.sync.planning import plan
from connectors.sync.promotions import close_promotions, promote
from connectors.sync.pull import pull
from connectors.sync.run import approve, start_run
from tests.sync.hard_world import Hard

pytestmark = pytest.mark.django_db
BOTH = ("left", "right")


def other(side: str) -> str:
    return "right" if side == "left" else "left"


def begin(world: Hard, purpose: str = "sync") -> Context:
    """Start a run without letting it do anything."""
    return Context.open(start_run(world.scope, world.world, purpose=purpose), world.world)


# Previews and the guard


def many_blanked(world: Hard, count: int) -> Run:
    ids = [world.left.create("person", {"name": f"P{n}", "city": "Bern"}) for n in range(count)]
    world.settle()
    for record_id in ids:
        world.left.put("person", record_id, {"city": None})
    return world.run(purpose="preview")


def test_the_guard_judges_what_a_preview_proposes() -> None:
    world = Hard()
    run = many_blanked(world, 25)
    [sentence] = run.guard["tripped"]
    assert "empty in 25 records of 25 on the right" in sentence
    with pytest.raises(ValueError, match="empty in 25 records"):
        approve(run, world.clock.now())
    assert approve(run, world.clock.now(), accept_guard=True) == (25, 0)


def test_a_preview_of_little_is_approved_without_more_ado() -> None:
    world = Hard()
    run = many_blanked(world, 20)
    assert run.guard == {}
    assert approve(run, world.clock.now()) == (20, 0)


@pytest.mark.parametrize("on_delete", ["ask", "delete"])
def test_the_guard_counts_the_deletes_that_a_preview_shows(on_delete: str) -> None:
    world = Hard(on_delete=on_delete)
    ids = [world.left.create("person", {"name": f"P{n}"}) for n in range(25)]
    world.settle()
    for record_id in ids[:22]:
        world.left.delete("person", record_id)
    run = world.run(purpose="preview")
    assert run.guard["tripped"] == ["person: 22 records of 25 would be removed on the right"]


# A person decides while a run plans


def test_a_hold_in_the_middle_of_planning_stops_the_write() -> None:
    world = Hard()
    left, right = world.pair_up(city="Bern")
    also, partner = world.pair_up(city="Bern")
    for record_id in (left, also):
        world.left.put("person", record_id, {"city": "Rome"})
    world.meanwhile("before store plan", lambda: decisions.hold(world.link(left=left), now=world.clock.now()))
    world.run()
    assert world.state(left=left)[0] == "held"
    assert world.value("right", right, "city") == "Bern"
    assert world.value("right", partner, "city") == "Rome"  # the others of the block are carried out
    assert not RecordChange.objects.filter(link=world.link(left=left), verb="update").exists()


def test_a_hold_in_the_middle_of_planning_stops_a_link_from_beginning_anew() -> None:
    world = Hard(edit_v_delete="edit")
    left, right = world.pair_up()
    world.left.delete("person", left)
    world.right.put("person", right, {"city": "Rome"})
    world.meanwhile("before store plan", lambda: decisions.hold(world.link(right=right), now=world.clock.now()))
    world.run()
    assert world.state(right=right)[0] == "held"
    assert RecordLink.objects.count() == 1
    assert world.left.ids("person") == []


def test_an_ordinary_block_pays_nothing_for_it() -> None:
    def statements(count: int) -> int:
        world.left.create("person", {"name": f"one more {count}"})
        for n in range(count):
            world.left.create("person", {"name": f"P{count} {n}"})
        with CaptureQueriesContext(
            connection,
        ) as asked:
            world.run()
        return sum(
            "touched_run" in q["sql"] and q["sql"].startswith("SELECT") and "revision" in q["sql"] for q in asked
        )

    world = Hard()
    world.settle()
    assert statements(3) == statements(30) == 0


# A link that is to be planned again while a write waits


def test_what_is_planned_for_a_link_that_changed_is_given_up_before_it_is_planned_anew() -> None:
    world = Hard()
    left, _ = world.pair_up(city="Bern")
    world.left.put("person", left, {"city": "Rome"})
    ctx = planned(world)
    link = world.link(left=left)
    RecordLink.objects.filter(pk=link.pk).update(
        pending=1, reason="changed"
    )  # as a conflict on the other side leaves it
    assert plan(ctx) == 1
    rows = RecordChange.objects.filter(link=link, verb="update").order_by("id")
    assert list(rows.values_list("status", "open")) == [("superseded", None), ("planned", 1)]


def planned(world: Hard) -> Context:
    """Read and plan, but write nothing."""
    ctx = begin(world)
    pull(ctx)
    assert plan(ctx) == 1
    return ctx


# Decisions outlive previews and plans that are thrown away


def conflict(world: Hard) -> tuple[str, str]:
    left, right = world.pair_up(city="Bern")
    world.left.put("person", left, {"city": "Rome"})
    world.right.put("person", right, {"city": "Oslo"})
    world.run()
    assert world.state(left=left)[0] == "conflict"
    decisions.resolve(world.link(left=left), "left", now=world.clock.now())
    return left, right


def test_a_preview_keeps_a_decided_conflict() -> None:
    world = Hard(policy="ask")
    left, right = conflict(world)
    run = world.run(purpose="preview")
    assert RecordChange.objects.filter(run=run, status="proposed", side="right").count() == 1
    world.run()
    assert (world.value("right", right, "city"), world.link(left=left).pending) == ("Rome", None)
    assert world.link(left=left).args == ""


def test_a_preview_keeps_an_approved_delete() -> None:
    world = Hard(on_delete="ask")
    left, right = world.pair_up()
    world.left.delete("person", left)
    world.run()
    decisions.approve(world.link(right=right), now=world.clock.now())
    world.run(purpose="preview")
    world.run()
    assert world.right.ids("person") == []


def test_a_plan_that_is_thrown_away_leaves_the_decision() -> None:
    world = Hard(policy="ask")
    left, right = conflict(world)
    planned(world)
    assert world.link(left=left).pending == 6
    world.run()  # the next run gives up what the first one planned
    assert (world.value("right", right, "city"), world.link(left=left).pending) == ("Rome", None)


def test_a_decision_does_not_cover_what_is_edited_after_it() -> None:
    world = Hard(policy="ask")
    left, right = conflict(world)
    planned(world)
    world.right.put("person", right, {"city": "Kyiv"})
    world.run()
    assert world.state(left=left)[0] == "conflict"
    assert world.value("right", right, "city") == "Kyiv"


@pytest.mark.parametrize("deleted", BOTH)
def test_a_person_who_chooses_the_living_side_has_its_record_made_again(deleted: str) -> None:
    world = Hard()
    left, right = world.pair_up()
    ids = {"left": left, "right": right}
    alive = other(deleted)
    world.store(deleted).delete("person", ids[deleted])
    world.store(alive).put("person", ids[alive], {"city": "Rome"})
    world.run()
    link = world.link(**{alive: ids[alive]})
    assert decisions.choices(link) == [f"resolve_{alive}", "approve", "hold"]
    with pytest.raises(decisions.Undecidable, match=f"the record on the {deleted} was deleted"):
        decisions.resolve(link, deleted, now=world.clock.now())
    decisions.resolve(link, alive, now=world.clock.now())
    world.settle()
    (made,) = world.store(deleted).ids("person")
    assert made != ids[deleted] and world.value(deleted, made, "city") == "Rome"
    assert world.store(alive).ids("person") == [ids[alive]]


# Promotions


@pytest.fixture
def asking() -> Hard:
    """Left records reach the right only on request."""
    return Hard(push={"right": "on_request"})


def ask(world: Hard, *ids: str) -> None:
    promote(world.sync, ids, now=world.clock.now())


def answer(record_id: str) -> tuple[str, str]:
    promotion = Promotion.objects.filter(external_id=record_id).latest("id")
    return promotion.status, promotion.reason


def test_a_request_that_the_link_did_not_hear_of_is_carried_out(asking: Hard) -> None:
    left = asking.left.create("person", {"name": "Ada"})
    asking.run()
    assert asking.state(left=left)[0] == "waits for promotion"
    Promotion.objects.create(
        entity_sync=asking.sync, side="left", external_id=left, at=asking.clock.now(), status="queued"
    )
    asking.run()
    assert asking.names(asking.right) == ["Ada"]
    assert answer(left)[0] == "success"


def test_a_request_in_the_middle_of_planning_is_carried_out(asking: Hard) -> None:
    left = asking.left.create("person", {"name": "Ada"})
    asking.run()
    asking.left.put("person", left, {"city": "Rome"})
    asking.meanwhile("before store plan", lambda: ask(asking, left))
    asking.run()
    asking.run()
    assert asking.names(asking.right) == ["Ada"]
    assert answer(left)[0] == "success"


def test_a_request_counts_two_up_so_that_no_planned_write_fits(asking: Hard) -> None:
    left = asking.left.create("person", {"name": "Ada"})
    asking.run()
    before = asking.link(left=left).revision
    ask(asking, left)
    assert asking.link(left=left).revision == before + 2


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ({"pending": 3, "reason": "outside", "args": '{"why":"filter"}'}, "leaves it out"),
        ({"pending": 5, "reason": "parked", "args": '{"message":"Name is taken"}'}, "Name is taken"),
        ({"pending": 4, "reason": "ambiguous"}, "could be its partner"),
    ],
)
def test_a_request_for_a_record_that_can_not_flow_ends_in_error(asking: Hard, columns: dict, why: str) -> None:
    left = asking.left.create("person", {"name": "Ada"})
    asking.run()
    ask(asking, left)
    RecordLink.objects.update(**columns)
    close_promotions(begin(asking))
    status, reason = answer(left)
    assert status == "error" and why in reason


def test_a_request_for_no_record_ends_in_error_and_one_for_a_late_record_stays(asking: Hard) -> None:
    asking.run()
    late, hidden = (asking.left.create("person", {"name": name}) for name in ("Late", "Hidden"))
    asking.left.hidden.add(("person", hidden))
    ask(asking, "4711", late, hidden)
    close_promotions(begin(asking))
    assert answer("4711") == ("error", "There is no such record: person 4711.")
    assert answer(late)[0] == "queued"
    assert answer(hidden)[0] == "error" and "rights" in answer(hidden)[1]
    asking.settle()
    assert answer(late)[0] == "success"


def test_one_id_that_the_system_takes_for_nonsense_spoils_no_other(
    asking: Hard, monkeypatch: pytest.MonkeyPatch
) -> None:
    asking.run()
    late = asking.left.create("person", {"name": "Late"})
    fetch: Callable[..., Fetched] = Memory.fetch

    def strict(self: Memory, entity: str, ids: list[str], fields: frozenset[str]) -> Fetched:
        if "?!" in ids:
            raise PermanentError("'?!' is no id")
        return fetch(self, entity, ids, fields)

    monkeypatch.setattr(Memory, "fetch", strict)
    ask(asking, "?!", "4711", late)
    close_promotions(begin(asking))
    assert answer("?!") == ("error", "person ?! can't be read: '?!' is no id")
    assert (answer("4711")[0], answer(late)[0]) == ("error", "queued")


def test_nothing_is_said_of_a_side_that_was_not_read_to_its_end(asking: Hard) -> None:
    ask(asking, "4711")
    close_promotions(begin(asking))
    assert answer("4711")[0] == "queued"


def test_a_preview_answers_no_request(asking: Hard) -> None:
    asking.run()
    ask(asking, "4711")
    close_promotions(begin(asking, "preview"))
    assert answer("4711")[0] == "queued"


def test_a_request_for_a_record_that_found_its_partner_is_done(asking: Hard) -> None:
    left = asking.left.create("person", {"name": "Ada"})
    asking.run()
    ask(asking, left)
    asking.right.create("person", {"name": "Ada"})
    asking.run()
    close_promotions(begin(asking))
    assert answer(left)[0] == "success"


def test_closing_costs_one_statement_where_nobody_asked(asking: Hard) -> None:
    asking.run()
    ctx = begin(asking)
    with CaptureQueriesContext(connection) as asked:
        close_promotions(ctx)
    assert len(asked) == 1


def test_a_request_is_taken_back_until_its_write_is_planned(asking: Hard) -> None:
    left, again = (asking.left.create("person", {"name": name}) for name in ("Ada", "Bob"))
    asking.run()
    ask(asking, left, again)
    RecordLink.objects.filter(left_id=again).update(pending=6, reason="planned")
    ids = list(Promotion.objects.values_list("pk", flat=True))
    assert promotions.withdraw(ids, by="ada") == 1
    assert answer(left) == ("withdrawn", "Taken back by ada.")
    assert answer(again)[0] == "queued"
    RecordLink.objects.filter(left_id=again).update(pending=1, reason="changed")
    assert promotions.withdraw(ids) == 1
    asking.run()
    assert asking.right.ids("person") == []
    assert asking.state(left=left)[0] == "waits for promotion"
