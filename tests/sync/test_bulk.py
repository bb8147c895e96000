"""What is promoted in bulk or by a flag goes once with the service for it, and the flag shows what became of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.db import transaction

from connectors.contract import Field, Kind, Write
from connectors.memory.store import entity
from connectors.models import Event, Integration, Promotion, RecordLink, Run
from connectors.sync import bulk, promotions
from connectors.sync.choosing import Wanted, others, waiting
from connectors.sync.context import FenceLost
from connectors.sync.flags import flag_problems
from connectors.sync.promotions import NotPromotable, promote
from connectors.sync.run import advance, start_run
from connectors.sync.run import take as take_over
from tests.sync.hard_world import Crash, Hard, person

pytestmark = pytest.mark.django_db

FLAG = {"field": "promote", "queued": "1", "success": "2", "error": "3", "message": "told"}
PUSH = {"right": "on_request", "flag": FLAG}


def flagging(*more: Field, **options: object) -> Hard:
    """Left records reach the right only on request, and may ask for it themselves."""
    columns = (Field("promote", Kind.OPTION, findable=True), Field("told", Kind.TEXT, max_length=40), *more)
    return Hard(left_entity=person(*columns), push=PUSH, **options)


@pytest.fixture
def world() -> Hard:
    return flagging()


def add(world: Hard, name: str, flag: str | None = None, **values: object) -> str:
    return world.left.create("person", {"name": name, "promote": flag, **values})


def carry_on(world: Hard, run: Run) -> Run:
    """Do what the job of the service does."""
    if not run.progress.get("taken"):
        bulk.take(run, world.world)
    while not advance(run, world.world):
        pass
    bulk.tell(run, world.world)
    run.refresh_from_db()
    assert run.counts["adds_up"], run.counts
    return run


def service(world: Hard, entities: list[str] | None = None) -> Run:
    run = start_run(world.scope, world.world, entities=entities)
    world.scope.refresh_from_db()
    return carry_on(world, run)


def flags(world: Hard) -> dict[str, object]:
    return {str(kept.values["name"]): kept.values["promote"] for kept in world.left.tables["person"].values()}


def told(world: Hard, record_id: str) -> tuple[object, object]:
    values = world.left.tables["person"][record_id].values
    return values["promote"], values["told"]


def history(record_id: str) -> list[tuple[str, str, bool]]:
    rows = Promotion.objects.filter(external_id=record_id).order_by("id")
    return list(rows.values_list("source", "status", "untold"))


def at(world: Hard, name: str, act: Callable[[], object], skip: int = 0) -> None:
    """Act once, when the engine comes to this point for the (skip + 1)th time."""
    left = [skip]

    def point(here: str) -> None:
        if here == name:
            left[0] -= 1
            if left[0] == -1:
                act()

    world.at_point = point


def crash() -> None:
    raise Crash


def test_a_flag_is_read_by_the_service_and_answered_on_the_record(world: Hard) -> None:
    ada, bob = add(world, "Ada", "1"), add(world, "Bob")
    world.run()
    assert world.names(world.right) == [] and not Promotion.objects.exists(), "only the service reads flags"
    service(world)
    assert world.names(world.right) == ["Ada"]
    assert (told(world, ada), told(world, bob)) == (("2", None), (None, None))
    assert history(ada) == [("flag", "success", False)]
    assert Promotion.objects.get().by is None


def test_the_answer_does_not_come_back_as_an_edit(world: Hard) -> None:
    add(world, "Ada", "1")
    service(world)
    before = len(world.left.journal), len(world.right.journal)
    for run in (world.run(), service(world), world.run("comprehensive")):
        assert run.counts["entities"].get("person", {}).get("written", {}).get("right", {}).get("updated", 0) == 0
    assert (len(world.left.journal), len(world.right.journal)) == before
    assert Promotion.objects.count() == 1


def test_flags_cost_one_find_and_answers_go_in_full_batches(world: Hard) -> None:
    for number in range(7):
        add(world, f"P{number}", "1")
    world.run()
    world.left.requests.clear()
    run = service(world)
    assert world.left.requests.count("find person") == 1
    assert [r for r in world.left.requests if r.startswith("write")] == ["write 3", "write 3", "write 1"]
    assert set(flags(world).values()) == {"2"}
    assert run.counts["reads"]["left"] == 7 + 7, "seven were found, and seven read again before they were written"


def test_a_failure_is_told_with_its_reason_and_tried_again_only_when_the_flag_asks_again(world: Hard) -> None:
    world.right.unique.add(("person", "city"))
    world.right.create("person", {"name": "Other", "city": "Rome"})
    ada = add(world, "Ada", "1", city="Rome")
    service(world)
    flag, message = told(world, ada)
    assert flag == "3" and message == Promotion.objects.get().reason[:40] and "is taken by" in str(message)
    for _ in range(2):
        service(world)
    assert history(ada) == [("flag", "error", False)], "nobody asked again"
    world.left.put("person", ada, {"city": "Oslo", "promote": "1"})
    service(world)
    assert history(ada) == [("flag", "error", False), ("flag", "success", False)]
    assert told(world, ada) == ("2", None) and "Ada" in world.names(world.right)


def test_a_parked_record_that_is_flagged_again_unchanged_is_tried_again(world: Hard) -> None:
    world.right.unique.add(("person", "city"))
    other = world.right.create("person", {"name": "Other", "city": "Rome"})
    ada = add(world, "Ada", "1", city="Rome")
    service(world)
    world.right.put("person", other, {"city": "Oslo"})
    world.run()
    assert "Ada" not in world.names(world.right)
    world.left.put("person", ada, {"promote": "1"})
    service(world)
    assert "Ada" in world.names(world.right) and told(world, ada)[0] == "2"


def test_a_flagged_record_with_a_partner_is_answered_at_once(world: Hard) -> None:
    ada = add(world, "Ada")
    world.right.create("person", {"name": "Ada"})
    world.run()
    world.left.put("person", ada, {"promote": "1"})
    service(world)
    assert told(world, ada) == ("2", "It had its partner already.")
    assert world.names(world.right) == ["Ada"]


def test_a_flagged_record_that_a_filter_leaves_out_is_told_so() -> None:
    world = flagging(filters=[{"side": "left", "field": "city", "op": "filled"}])
    ada = add(world, "Ada", city="Rome")
    world.run()
    world.left.put("person", ada, {"city": None, "promote": "1"})
    world.run()
    service(world)
    assert told(world, ada)[0] == "3" and "filter" in str(told(world, ada)[1])[:40].lower()
    service(world)
    assert history(ada) == [("flag", "error", False)]


def test_a_bulk_request_stays_queued_until_the_service_takes_it(world: Hard) -> None:
    ada = add(world, "Ada")
    world.run()
    promote(world.sync, [ada], now=world.clock.now(), waits=True)
    for mode in ("delta", "comprehensive"):
        world.run(mode)
    assert history(ada) == [("person", "queued", False)] and world.names(world.right) == []
    service(world)
    assert history(ada) == [("person", "success", False)] and world.names(world.right) == ["Ada"]
    assert told(world, ada) == (None, None), "nobody asked by the flag"


def test_a_bulk_request_that_is_wanted_at_once_waits_no_longer(world: Hard) -> None:
    ada = add(world, "Ada")
    world.run()
    promote(world.sync, [ada], now=world.clock.now(), waits=True)
    promote(world.sync, [ada], now=world.clock.now())
    world.run()
    assert history(ada) == [("person", "success", False)]


def test_the_service_takes_only_its_own_entity_syncs(world: Hard) -> None:
    ada = add(world, "Ada", "1")
    service(world, ["another"])
    assert not Promotion.objects.exists() and told(world, ada) == ("1", None)


def test_a_failed_promotion_is_queued_again_as_a_new_request(world: Hard) -> None:
    world.right.unique.add(("person", "city"))
    other = world.right.create("person", {"name": "Other", "city": "Rome"})
    ada = add(world, "Ada", "1", city="Rome")
    service(world)
    world.right.put("person", other, {"city": "Oslo"})
    failed = Promotion.objects.get()
    [asked] = promotions.requeue([failed.pk], by=None, now=world.clock.now(), at_once=False).values()
    assert asked.queued == [ada]
    assert promotions.requeue([failed.pk], by=None, now=world.clock.now(), at_once=False).popitem()[1].queued == [ada]
    world.run()
    assert history(ada)[1:] == [("person", "queued", True)], "it waits for the service, once"
    service(world)
    assert history(ada) == [("flag", "error", False), ("person", "success", False)]
    assert told(world, ada) == ("2", None), "the flag had shown the failure"


def test_a_failed_promotion_is_asked_for_again_at_once(world: Hard) -> None:
    world.right.unique.add(("person", "city"))
    other = world.right.create("person", {"name": "Other", "city": "Rome"})
    ada = add(world, "Ada", city="Rome")
    promote(world.sync, [ada], now=world.clock.now())
    world.run()
    world.right.put("person", other, {"city": "Oslo"})
    promotions.requeue([Promotion.objects.get().pk], by=None, now=world.clock.now(), at_once=True)
    world.run()
    assert history(ada) == [("person", "error", False), ("person", "success", False)]
    assert promotions.requeue(
        Promotion.objects.values_list("pk", flat=True), by=None, now=world.clock.now(), at_once=True
    )[world.sync].already == [ada]


def test_a_flagged_request_that_a_person_takes_back_is_told_and_not_taken_again(world: Hard) -> None:
    ada = add(world, "Ada", "1")
    world.run()
    run = start_run(world.scope, world.world)
    bulk.take(run, world.world)
    assert promotions.withdraw([Promotion.objects.get().pk], by="ada") == 1
    carry_on(world, run)
    assert told(world, ada) == ("3", "Taken back by ada.")
    service(world)
    assert history(ada) == [("flag", "withdrawn", False)] and world.names(world.right) == []


# What goes wrong


def points_of_a_service_run() -> list[str]:
    """Return all points that a service run with two flagged records comes to, in a world of its own."""
    sid = transaction.savepoint()
    world, names = flagged_world(), []
    world.at_point = names.append
    service(world)
    transaction.savepoint_rollback(sid)
    return names


def flagged_world() -> Hard:
    world = flagging()
    world.right.unique.add(("person", "city"))
    world.right.create("person", {"name": "Other", "city": "Rome"})
    add(world, "Good", "1", city="Bern")
    world.run()
    add(world, "Bad", "1", city="Rome")
    return world


@pytest.mark.parametrize("goes_on", ["with a new run", "with the same run"])
def test_a_crash_at_any_point_loses_nothing_and_doubles_nothing(goes_on: str) -> None:
    names = points_of_a_service_run()
    assert {"after take promotions", "after queue flagged", "after write", "in flags told"} <= set(names)
    for number, name in enumerate(names):
        sid = transaction.savepoint()
        world, seen = flagged_world(), [0]

        def point(_: str, world: Hard = world, seen: list[int] = seen, number: int = number) -> None:
            seen[0] += 1
            if seen[0] == number + 1:
                world.at_point = None
                raise Crash

        world.at_point = point
        run = start_run(world.scope, world.world)
        with pytest.raises(Crash):
            carry_on(world, run)
        if goes_on == "with the same run":
            fresh = Run.objects.select_related("scope", "integration__left", "integration__right").get(pk=run.pk)
            take_over(fresh)
            carry_on(world, fresh)
        else:
            service(world)
        service(world)
        assert flags(world) == {"Good": "2", "Bad": "3", "Other": None}, (number, name)
        assert world.names(world.right) == ["Good", "Other"], (number, name)
        rows = Promotion.objects.order_by("external_id").values_list("status", "untold")
        assert list(rows) == [("success", False), ("error", False)], (number, name)
        assert sum(entry.verb == "create" for entry in world.right.journal) == 1, (number, name)
        transaction.savepoint_rollback(sid)


def lose_the_answer(world: Hard) -> str:
    """The flag of a failed promotion is written, and nobody here knows."""
    world.right.unique.add(("person", "city"))
    world.right.create("person", {"name": "Other", "city": "Rome"})
    ada = add(world, "Ada", "1", city="Rome")
    run = start_run(world.scope, world.world)
    at(world, "before flags told", crash)
    with pytest.raises(Crash):
        carry_on(world, run)
    world.at_point = None
    assert told(world, ada)[0] == "3" and history(ada) == [("flag", "error", True)]
    return ada


def test_a_flag_that_shows_its_answer_already_is_not_written_again(world: Hard) -> None:
    ada = lose_the_answer(world)
    before = len(world.left.journal)
    service(world)
    assert len(world.left.journal) == before
    assert history(ada) == [("flag", "error", False)]


def test_who_flags_again_after_a_lost_answer_is_not_overwritten(world: Hard) -> None:
    ada = lose_the_answer(world)
    world.left.put("person", ada, {"city": "Oslo", "promote": "1"})
    service(world)
    assert history(ada) == [("flag", "error", False), ("flag", "success", False)]
    assert told(world, ada) == ("2", None)


def test_who_flags_again_while_the_answer_is_on_its_way_is_not_overwritten(world: Hard) -> None:
    ada = lose_the_answer(world)
    at(world, "after finish", lambda: world.left.put("person", ada, {"city": "Oslo", "promote": "1"}))
    service(world)
    assert told(world, ada)[0] == "1", "the flag asks for something new"
    world.at_point = None
    service(world)
    assert history(ada) == [("flag", "error", False), ("flag", "success", False)]


def test_a_record_that_changes_while_its_flag_is_answered_is_answered_by_the_next_run(world: Hard) -> None:
    ada = add(world, "Ada", "1")
    world.run()
    at(world, "in mark sending", lambda: world.left.put("person", ada, {"city": "Rome"}), skip=1)
    service(world)
    assert told(world, ada)[0] == "1" and history(ada) == [("flag", "success", True)]
    world.at_point = None
    service(world)
    assert told(world, ada) == ("2", None) and history(ada) == [("flag", "success", False)]


def test_a_flag_that_can_not_be_written_is_reported_and_tried_again(world: Hard) -> None:
    ada, bob = add(world, "Ada", "1"), add(world, "Bob", "1")
    world.left.unique.add(("person", "promote"))  # so that the second "2" is refused
    service(world)
    [event] = Event.objects.filter(code="flags not told")
    assert event.message.startswith("1 record of person does not show yet what became of its promotion")
    assert sorted([told(world, ada)[0], told(world, bob)[0]]) == ["1", "2"]
    world.left.unique.clear()
    service(world)
    assert (told(world, ada)[0], told(world, bob)[0]) == ("2", "2")
    assert Promotion.objects.count() == 2


def test_a_flagged_record_that_is_deleted_meanwhile_needs_no_answer(world: Hard) -> None:
    ada = add(world, "Ada", "1")
    at(world, "after finish", lambda: world.left.delete("person", ada))
    service(world)
    assert history(ada) == [("flag", "success", False)]


@pytest.mark.parametrize("what", ["switched off", "taken over"])
def test_who_has_lost_the_scope_or_is_switched_off_writes_no_flag(world: Hard, what: str) -> None:
    ada = add(world, "Ada", "1")

    def lose() -> None:
        if what == "switched off":
            Integration.objects.update(enabled=False)
        else:
            start_run(world.scope, world.world)

    at(world, "after finish", lose)
    run = start_run(world.scope, world.world)
    run.scope = type(run.scope).objects.get(pk=run.scope_id)  # a worker has an instance of its own
    before = len(world.left.journal)
    with pytest.raises(FenceLost):
        carry_on(world, run)
    assert len(world.left.journal) == before and told(world, ada)[0] == "1"


def test_a_record_of_another_company_is_left_to_the_integration_that_it_is_for() -> None:
    world = flagging(Field("company", Kind.OPTION))
    ours, theirs = add(world, "Ada", "1", company="A"), add(world, "Bob", "1", company="B")
    Integration.objects.update(route={"side": "left", "fields": {"person": "company"}, "value": "A"})
    world.integration.refresh_from_db()
    service(world)
    assert (told(world, ours)[0], told(world, theirs)[0]) == ("2", "1")
    assert not Promotion.objects.filter(external_id=theirs).exists()


def test_a_thousand_requests_take_few_statements(world: Hard, django_assert_max_num_queries: object) -> None:
    with django_assert_max_num_queries(40):  # type: ignore[operator]
        asked = promote(world.sync, [str(n) for n in range(1000)], now=world.clock.now(), waits=True)
    assert len(asked.queued) == 1000 == Promotion.objects.count()
    with django_assert_max_num_queries(40):  # type: ignore[operator]
        assert promotions.release([world.sync]) == 1000


# Settings


GOOD = entity("person", Field("promote", Kind.OPTION, findable=True), Field("told", Kind.TEXT))


@pytest.mark.parametrize(
    ("push", "sentence"),
    [
        ({"flag": FLAG}, "Set push left or right to on_request"),
        ({"right": "on_request", "flag": {**FLAG, "field": "promoted"}}, "no column 'promoted'"),
        ({"right": "on_request", "flag": {**FLAG, "message": "why"}}, "no column 'why'"),
        ({"right": "on_request", "flag": {**FLAG, "field": "told"}}, "can't be searched"),
        ({"right": "on_request", "flag": {**FLAG, "error": "2"}}, "must differ"),
        ({"right": "on_request", "flag": {"field": "promote"}}, "must name field, queued, success, error"),
        ({"right": "on_request", "flag": {**FLAG, "colour": "red"}}, "must name field, queued, success, error"),
        ({"right": "on_request", "flag": "promote"}, "must name field, queued, success, error"),
    ],
)
def test_a_flag_that_can_not_work_is_refused_with_a_sentence(push: dict[str, object], sentence: str) -> None:
    found = flag_problems("person", push, {"left": GOOD, "right": entity()})
    assert any(sentence in problem for problem in found), found


def test_a_flag_that_can_not_be_answered_is_refused() -> None:
    frozen = entity("person", Field("promote", Kind.OPTION, findable=True, write=Write.NEVER), Field("told", Kind.TEXT))
    [problem] = flag_problems("person", PUSH, {"left": frozen, "right": entity()})
    assert "can't be written" in problem
    assert flag_problems("person", PUSH, {"left": GOOD, "right": entity()}) == []
    assert flag_problems("person", {"right": "on_request"}, {"left": entity(), "right": entity()}) == []


# Choosing


@pytest.fixture
def crowd(world: Hard) -> Hard:
    for name, email, city in [
        ("Ada Lovelace", "ada@engine.example", "London"),
        ("Bob Name", "bob@other.example", "Rome"),
        ('Cy "100%" O_Neil', "cy@engine.example", "rome"),
    ]:
        add(world, name, email=email, city=city)
    add(world, "Known")
    world.right.create("person", {"name": "Known"})
    world.run()
    return world


def chosen(world: Hard, **wanted: object) -> list[str]:
    found = waiting(world.sync, Wanted(**wanted)).values_list("left_id", flat=True)  # type: ignore[arg-type]
    return [str(world.left.tables["person"][str(record_id)].values["name"]).split()[0] for record_id in found]


def test_records_are_chosen_by_name_by_e_mail_by_a_field_and_by_when_they_changed(crowd: Hard) -> None:
    assert chosen(crowd) == ["Ada", "Bob", "Cy"], "a record with a partner is not there"
    assert chosen(crowd, text="lovelace") == ["Ada"]
    assert chosen(crowd, text="@ENGINE") == ["Ada", "Cy"]
    assert chosen(crowd, text='"100%"') == ["Cy"]
    assert chosen(crowd, text="o_n") == ["Cy"]
    assert chosen(crowd, text="name") == ["Bob"], "the names of fields are no values"
    assert chosen(crowd, text="rome") == [], "a text is looked for in names, numbers and e-mail addresses"
    assert chosen(crowd, field="city>city", value="Rome") == ["Bob", "Cy"]
    assert chosen(crowd, field="credit>credit", value="") == ["Ada", "Bob", "Cy"]
    today = crowd.clock.now().date()
    assert chosen(crowd, since=today) == ["Ada", "Bob", "Cy"]
    assert chosen(crowd, since=today.replace(day=today.day + 1)) == []
    with pytest.raises(NotPromotable, match="no field 'colour'"):
        chosen(crowd, field="colour")


def test_an_option_is_chosen_by_its_label() -> None:
    world = flagging(Field("kind", Kind.OPTION))
    world.right.entities["person"] = person(Field("kind", Kind.OPTION))
    world.map("kind", "kind", ("1", "2"))
    add(world, "Ada", kind="1")
    add(world, "Bob")
    world.run()
    option = world.sync.mappings.get(left="kind").options.get()
    option.left_label = "Reseller"
    option.save()
    assert chosen(world, field="kind>kind", value="reseller") == ["Ada"]
    assert chosen(world, field="kind>kind", value="supplier") == []


def test_what_can_not_be_chosen_is_listed_apart_with_its_reason(crowd: Hard) -> None:
    links = {str(link.left_id): link for link in RecordLink.objects.filter(reason="waits for promotion")}
    ada, bob, _ = sorted(links, key=int)
    promote(crowd.sync, [ada], now=crowd.clock.now(), waits=True)
    RecordLink.objects.filter(pk=links[bob].pk).update(pending=3, reason="held")
    assert chosen(crowd) == ["Cy"]
    assert [link.left_id for link in others(crowd.sync)] == [ada, bob]
    assert [link.left_id for link in others(crowd.sync, Wanted(text="bob"))] == [bob]


def test_where_nothing_flows_on_request_nothing_can_be_chosen(db: None) -> None:
    with pytest.raises(NotPromotable, match="nothing to promote"):
        waiting(Hard().sync)
