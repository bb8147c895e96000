"""A person decides, or another run comes between, at the very moment at which a run works on the same record: what holds?"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest
from django.db import connection

from connectors.contract import Field, Kind, Record, Ref
from connectors.models import Event, Promotion, RecordChange, RecordLink, Run
from connectors.sync import decisions, joining
from connectors.sync.context import Context
from connectors.sync.promotions import promote, withdraw
from connectors.sync.run import advance
from connectors.sync.stage import Staging
from tests.sync.hard_world import Crash, Hard, person
from tests.sync.test_bulk import add, at, crash, flagging, history, service, told
from tests.sync.test_reports import begin, owed, people, take_again

pytestmark = pytest.mark.django_db
STAGING = "before stage page"  # what was read has been looked at, and nothing of it is stored yet


def strangers() -> tuple[Hard, str, str]:
    """Two records that are one, though their names are a letter apart: each has a link of its own, and a person is asked."""
    world = Hard(match_tolerance=80, policy="left")
    left = world.left.create("person", {"name": "Infomedia Services"})
    right = world.right.create("person", {"name": "Infomedai Services"})
    world.run()
    assert world.link(left=left).pk != world.link(right=right).pk
    return world, left, right


# Decisions while a page is on its way


@pytest.mark.parametrize("page", [0, 1], ids=["of the left", "of the right"])
def test_records_that_are_joined_while_a_page_is_staged_stay_joined(page: int) -> None:
    world, left, right = strangers()
    world.right.put("person", right, {"city": "Rome"})
    now = world.clock.now()
    at(world, STAGING, lambda: joining.join(world.link(left=left), world.link(right=right), now=now, by="eve"), page)
    for _ in range(3):
        world.run()
    assert (world.link(left=left).right_id, world.link(left=left).pending) == (right, None)
    assert (len(world.left.ids("person")), len(world.right.ids("person"))) == (1, 1)
    assert world.value("left", left, "city") == "Rome", "what the page told is not lost either"
    assert not RecordLink.objects.exclude(ended=0).filter(pending__isnull=False).exists()


def test_records_that_are_taken_apart_while_a_page_is_staged_stay_apart() -> None:
    world = Hard()
    left, right = world.pair_up(city="Paris")
    world.left.put("person", left, {"city": "Rome"})
    at(world, STAGING, lambda: joining.unlink(world.link(left=left), now=world.clock.now(), by="eve"))
    before = world.written
    for _ in range(2):
        world.run()
    assert Event.objects.filter(code="unlinked", actor="eve").exists()
    assert (world.link(left=left).state, world.state(left=left)[0]) == (RecordLink.State.HELD, "unlinked")
    assert world.written == before and world.value("right", right, "city") == "Paris"


def test_a_record_that_is_held_while_its_page_is_staged_is_held_and_its_edit_is_kept_for_later() -> None:
    world = Hard()
    left, right = world.pair_up(city="Paris")
    world.left.put("person", left, {"city": "Rome"})
    at(world, STAGING, lambda: decisions.hold(world.link(left=left), now=world.clock.now(), by="eve"))
    world.run()
    assert (world.state(left=left)[0], world.value("right", right, "city")) == ("held", "Paris")
    decisions.release(world.link(left=left), now=world.clock.now())
    world.settle()
    assert world.value("right", right, "city") == "Rome"


def test_records_that_are_linked_again_while_a_page_is_staged_are_merged() -> None:
    world = Hard()
    left, right = world.pair_up(city="Paris")
    joining.unlink(world.link(left=left), now=world.clock.now())
    world.left.put("person", left, {"city": "Rome"})
    at(world, STAGING, lambda: joining.relink(world.link(left=left), now=world.clock.now(), by="eve"))
    world.run()
    world.settle()
    assert (world.link(left=left).pending, world.value("right", right, "city")) == (None, "Rome")


def test_the_rest_of_a_page_is_staged_although_a_person_decided_about_one_of_its_records() -> None:
    world = Hard()
    left, _ = world.pair_up(city="Paris")
    other, partner = world.pair_up(city="Paris")
    new = world.left.create("person", {"name": "New", "parent": Ref("person", other)})
    for record in (left, other):
        world.left.put("person", record, {"city": "Rome"})
    at(world, STAGING, lambda: joining.unlink(world.link(left=left), now=world.clock.now()))
    world.settle()
    assert world.value("right", partner, "city") == "Rome"
    assert world.value("right", str(world.link(left=new).right_id), "parent") == Ref("person", partner)


def test_what_refers_to_a_record_that_is_joined_while_its_page_is_staged_refers_to_the_link_that_goes_on() -> None:
    world, left, right = strangers()
    child = world.right.create("person", {"name": "Child", "parent": Ref("person", right)})
    now = world.clock.now()
    at(world, STAGING, lambda: joining.join(world.link(left=left), world.link(right=right), now=now), 1)
    world.settle()
    assert world.value("left", str(world.link(right=child).left_id), "parent") == Ref("person", left)


def test_a_page_that_nobody_interferes_with_is_looked_at_once() -> None:
    world = Hard()
    for number in range(3):
        world.left.create("person", {"name": f"P{number}"})
    world.settle()
    for record in world.left.ids("person"):
        world.left.put("person", record, {"city": "Rome"})
    statements: list[str] = []
    staging = [False]

    def point(here: str) -> None:
        staging[0] = here == STAGING

    def note(execute: Callable[..., object], sql: str, params: object, many: bool, context: object) -> object:
        if staging[0]:
            statements.append(sql)
        return execute(sql, params, many, context)

    world.at_point = point
    with connection.execute_wrapper(note):
        world.run()
    links = [sql for sql in statements if "connectors_recordlink" in sql]
    assert len(links) == 1 and links[0].startswith("UPDATE"), "all of its records by one statement"


# Two that could be the same, while a write is planned


def test_a_create_that_another_run_has_planned_waits_when_two_namesakes_appear() -> None:
    world = people(120)
    owed(world, 5)
    world.left.create("person", {"name": "New", "overdue": Decimal(1), "city": "X"})
    at(world, "before store plan", crash)  # it is staged, and nothing is planned of it
    with pytest.raises(Crash):
        world.run()
    reports = begin(world, mode="reports")
    planned = RecordChange.objects.filter(run=reports, open=1)
    assert not advance(reports, world.world, slice_over=planned.exists)
    assert planned.filter(verb="create").exists()
    for city in ("Rome", "Bern"):
        world.right.create("person", {"name": "New", "city": city})
    delta = begin(world, aside=(reports.pk,))
    while not advance(delta, world.world):
        pass
    while not advance(take_again(reports), world.world):
        pass
    assert world.names(world.right).count("New") == 2
    [create] = RecordChange.objects.filter(run=reports, verb="create")
    assert (create.status, create.open) == ("superseded", None)
    assert set(RecordLink.objects.filter(reason="ambiguous").values_list("pending", flat=True)) == {4}
    assert RecordLink.objects.filter(reason="ambiguous").count() == 3
    reports.refresh_from_db()
    assert reports.phase == Run.Phase.DONE and reports.counts["adds_up"]


def test_a_create_whose_answer_is_still_out_is_not_asked_about() -> None:
    """Its record may be there by now: what becomes of the write is known first, then people are asked."""
    world = Hard()
    left = world.left.create("person", {"name": "Ada"})
    world.die_at("before write")
    assert RecordChange.objects.get().status == "sending"
    link = world.link(left=left)
    ctx = Context.open(begin(world), world.world)
    staging = Staging(ctx, "right")
    staging.prepare([Record("person", number, {"name": "Ada"}, version="1") for number in ("2001", "2002")], ())
    with ctx.transaction("stage page"):
        staging.apply()
    link.refresh_from_db()
    assert (link.pending, link.reason) == (RecordLink.Pending.PLANNED, "planned")
    assert RecordChange.objects.get().status == "sending"
    assert set(RecordLink.objects.exclude(pk=link.pk).values_list("reason", flat=True)) == {"ambiguous"}


# Requests that are taken back, or made again


def test_a_request_that_is_older_than_its_record_is_not_taken_back_once_the_write_is_planned() -> None:
    world = flagging()
    ada = add(world, "Ada")
    promote(world.sync, [ada], now=world.clock.now())
    taken: list[int] = []
    at(world, "before mark sending", lambda: taken.append(withdraw(queued(), by="eve")))
    world.run()
    assert (taken, history(ada), world.names(world.right)) == ([0], [("person", "success", False)], ["Ada"])


def test_a_request_that_is_taken_back_while_it_is_planned_writes_nothing() -> None:
    world = flagging()
    ada = add(world, "Ada")
    promote(world.sync, [ada], now=world.clock.now())
    taken: list[int] = []
    at(world, "before store plan", lambda: taken.append(withdraw(queued(), by="eve")))
    world.run()
    world.run()
    assert (taken, history(ada), world.names(world.right)) == ([1], [("person", "withdrawn", False)], [])
    assert world.state(left=ada)[0] == "waits for promotion"


def queued() -> list[int]:
    return list(Promotion.objects.filter(status="queued").values_list("id", flat=True))


@pytest.mark.parametrize("flagged", [True, False])
def test_a_record_whose_partner_was_deleted_is_made_again_on_request(flagged: bool) -> None:
    world = flagging(Field("code", Kind.TEXT), right_entity=person(Field("code", Kind.TEXT)), on_delete="ignore")
    world.map("code", "code", when="create", required=True)
    ada = add(world, "Ada", "1", code="A-1")
    service(world)
    (first,) = world.right.ids("person")
    world.right.delete("person", first)
    world.run()
    assert world.state(left=ada)[0] == "deleted"
    if flagged:
        world.left.put("person", ada, {"promote": "1"})
        service(world)
        assert told(world, ada)[0] == "2"
    else:
        asked = promote(world.sync, [ada], now=world.clock.now())
        assert (asked.queued, asked.already) == ([ada], [])
        world.run()
    (second,) = world.right.ids("person")
    assert second != first and world.link(left=ada).right_id == second
    assert world.value("right", second, "code") == "A-1", "what is written at creation only is written again"
    assert [status for _, status, _ in history(ada)] == ["success", "success"]
    world.run("comprehensive")
    assert world.link(left=ada).pending is None and world.right.ids("person") == [second]


def test_a_request_for_a_record_whose_deletion_a_person_must_decide_about_is_refused_with_that_reason() -> None:
    world = flagging(on_delete="ask")
    ada = add(world, "Ada", "1")
    service(world)
    world.right.delete("person", world.right.ids("person")[0])
    world.run()
    assert world.state(left=ada)[0] == "waits for approval"
    asked = promote(world.sync, [ada], now=world.clock.now())
    assert asked.queued == asked.already == []
    assert asked.refused[ada].startswith("Its partner was deleted. It waits until a person approves")
    world.run()
    assert world.names(world.right) == []


# Joining what others refer to


def test_a_reference_that_a_write_without_an_answer_left_out_follows_once_its_record_is_joined() -> None:
    world, left, right = strangers()
    child = world.right.create("person", {"name": "Child", "parent": Ref("person", right)})
    world.die_at("after write")
    [create] = RecordChange.objects.filter(link__right_id=child)
    assert (create.status, "parent" in create.sent) == ("sending", False)
    joining.join(world.link(left=left), world.link(right=right), now=world.clock.now())
    world.settle()
    assert world.value("left", str(world.link(right=child).left_id), "parent") == Ref("person", left)
    assert world.value("right", child, "parent") == Ref("person", right)


def test_what_a_write_without_an_answer_remembers_of_a_joined_record_names_the_link_that_goes_on() -> None:
    world, left, right = strangers()
    child = world.right.create("person", {"name": "Child", "parent": Ref("person", right)})
    world.run()
    world.change(edit_v_delete="delete")
    world.left.delete("person", str(world.link(right=child).left_id))
    world.die_at("after write")
    [delete] = RecordChange.objects.filter(verb="delete")
    over = world.link(right=right).key
    assert delete.status == "sending" and over in delete.before
    kept = joining.join(world.link(left=left), world.link(right=right), now=world.clock.now())
    delete.refresh_from_db()
    assert f'"@{kept.key}"' in delete.before and over not in delete.before


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("running", [False, True])
def test_values_of_all_links_are_searched_before_a_join_holds_up_others(running: bool) -> None:
    world, left, right = strangers()
    child = world.right.create("person", {"name": "Child", "parent": Ref("person", right)})
    world.run()
    if running:
        begin(world)  # it may stage something between the search and the join, so the search is repeated
    searches: list[bool] = []

    def note(execute: Callable[..., object], sql: str, params: object, many: bool, context: object) -> object:
        plain = sql.replace("::text", "")  # as PostgreSQL has it
        if sql.startswith("SELECT") and '"connectors_recordlink"."left_staged" LIKE' in plain:
            searches.append(connection.in_atomic_block)
        return execute(sql, params, many, context)

    with connection.execute_wrapper(note):
        kept = joining.join(world.link(left=left), world.link(right=right), now=world.clock.now())
    assert searches == ([False, True] if running else [False])
    assert f'"@{kept.key}"' in str(world.link(right=child).right_staged)
