"""A person leaves a field, a record or a removal out of a preview: nothing of it is written, and nothing of it is lost."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal

import pytest
from django.contrib.auth.models import User

from connectors.contract import Entity, Operation, Outcome, Removal, Result, Safe, Verb
from connectors.memory import connector as memory
from connectors.models import RecordChange, RecordLink, Run
from connectors.sync import decisions
from connectors.sync.proposals import (
    PlanChanged,
    WrongChoice,
    approve,
    decide,
    decide_all,
    decide_proposals,
    guard_of,
    seen,
)
from connectors.sync.run import advance, describe, mark_settings_changed, start_run
from connectors.sync.values import decode
from tests.sync.hard_world import Hard, person

pytestmark = pytest.mark.django_db
EMAIL, CITY, NAME = "email>email", "city>city", "name>name"


def proposal(run: Run, **which: object) -> RecordChange:
    return RecordChange.objects.get(run=run, status="proposed", **which)


def leave_out(run: Run, change: RecordChange, *names: str) -> None:
    decide(run, {}, {change.pk: dict.fromkeys(names, False)})


def carry_out(world: Hard, run: Run, **approval: object) -> Run:
    approve(run, world.clock.now(), **approval)  # type: ignore[arg-type]
    while not advance(run, world.world):
        pass
    run.refresh_from_db()
    assert run.counts["adds_up"], run.counts
    return run


def base(world: Hard, **record: str) -> dict[str, object]:
    return decode(world.link(**record).base)


@pytest.mark.parametrize("source", ["left", "right"])
def test_of_two_changed_fields_one_is_written_and_agreed_and_the_other_waits_for_the_next_plan(source: str) -> None:
    world = Hard()
    ids = dict(zip(("left", "right"), world.pair_up(city="Paris", email="old@example.com"), strict=True))
    target = "right" if source == "left" else "left"
    world.store(source).put("person", ids[source], {"city": "Rome", "email": "new@example.com"})
    run = world.run(purpose="preview")
    leave_out(run, proposal(run), EMAIL)
    run = carry_out(world, run)

    assert world.value(target, ids[target], "city") == "Rome"
    assert world.value(target, ids[target], "email") == "old@example.com"
    assert (base(world, left=ids["left"])[CITY], base(world, left=ids["left"])[EMAIL]) == ("Rome", "old@example.com")
    assert "1 written, 1 field left out" in describe(run)
    assert world.link(left=ids["left"]).pending == RecordLink.Pending.DIRTY

    before = world.written
    again = world.run(purpose="preview")  # it has read the echo of what was written
    assert decode(proposal(again).after) == {EMAIL: "new@example.com"}
    assert (proposal(again).side, world.written) == (target, before)
    carry_out(world, again)
    assert world.value(target, ids[target], "email") == "new@example.com"
    before = world.written
    world.settle()
    assert world.written == before
    assert world.link(left=ids["left"]).pending is None


def test_the_next_ordinary_run_writes_what_was_left_out_of_one() -> None:
    world = Hard()
    left, right = world.pair_up(city="Paris", email="old@example.com")
    world.left.put("person", left, {"city": "Rome", "email": "new@example.com"})
    run = world.run(purpose="preview")
    leave_out(run, proposal(run), EMAIL)
    carry_out(world, run)
    world.settle()
    assert world.value("right", right, "email") == "new@example.com"
    assert [w.values for w in world.writes("right", "update")] == [{"city": "Rome"}, {"email": "new@example.com"}]


@pytest.mark.parametrize("policy", ["last_updated", "left", "right"])
def test_a_field_left_out_of_a_creation_follows_from_its_source_whatever_the_new_record_holds(policy: str) -> None:
    """The new record is the younger one, and its system may have filled the field: neither makes it the winner."""
    world = Hard(policy=policy)
    left = world.left.create("person", {"name": "Ada", "city": "Paris", "email": "ada@example.com"})
    run = world.run(purpose="preview")
    leave_out(run, proposal(run), CITY)
    run = carry_out(world, run)
    [right] = world.right.ids("person")
    assert (world.value("right", right, "city"), world.value("right", right, "email")) == (None, "ada@example.com")
    world.settle()
    assert world.value("right", right, "city") == world.value("left", left, "city") == "Paris"


@pytest.mark.parametrize("winner", ["left", "right"])
def test_what_a_person_decided_for_a_whole_record_holds_for_a_field_that_is_left_out(winner: str) -> None:
    world = Hard(policy="ask")
    ids = dict(zip(("left", "right"), world.pair_up(city="Paris", email="old@example.com", credit=None), strict=True))
    for side, record in ids.items():
        world.store(side).put("person", record, {"city": f"{side} city", "email": f"{side}@example.com"})
    loser = "right" if winner == "left" else "left"
    world.store(loser).put("person", ids[loser], {"credit": Decimal("5.00")})  # flows the other way, in the same run
    world.run()
    decisions.resolve(world.link(left=ids["left"]), winner, now=world.clock.now())
    run = world.run(purpose="preview")
    leave_out(run, proposal(run, side=loser), EMAIL)
    carry_out(world, run)
    assert world.value(loser, ids[loser], "email") == f"{loser}@example.com"
    world.settle()
    assert world.link(left=ids["left"]).pending is None, "nobody is asked again"
    assert {world.value(side, record, "email") for side, record in ids.items()} == {f"{winner}@example.com"}


def refuse_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the systems refuse the next write, whatever it is."""
    real, refused = memory._refusal, []

    def refusing(entity: Entity, operation: Operation) -> Outcome | None:
        if refused:
            return real(entity, operation)
        refused.append(operation)
        return Outcome(operation.key, Result.REJECTED, operation.id, code="busy", message="Not today.")

    monkeypatch.setattr(memory, "_refusal", refusing)


def repeat(world: Hard, link: RecordLink) -> None:
    """Retry as it was."""
    run = start_run(world.scope, world.world, retry={"links": [link.pk], "how": "same"})
    world.scope.refresh_from_db()
    while not advance(run, world.world):
        pass


@pytest.mark.parametrize("policy", ["last_updated", "left", "right"])
def test_a_refused_creation_that_is_repeated_as_it_was_still_knows_what_was_left_out(
    policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = Hard(policy=policy)
    left = world.left.create("person", {"name": "Ada", "city": "Paris"})
    run = world.run(purpose="preview")
    leave_out(run, proposal(run), CITY)
    store, create = world.right, world.right.create

    def with_default(*args: object, **how: object) -> str:
        made = create(*args, **how)  # type: ignore[arg-type]
        store.tables["person"][made].values["city"] = "Default City"
        return made

    store.create = with_default  # type: ignore[method-assign]
    refuse_once(monkeypatch)
    carry_out(world, run)
    assert world.link(left=left).reason == "parked"
    repeat(world, world.link(left=left))
    world.settle()
    [right] = world.right.ids("person")
    assert world.value("right", right, "city") == world.value("left", left, "city") == "Paris"


def test_a_refused_update_that_is_repeated_as_it_was_turns_no_winner_in_what_was_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = Hard(policy="last_updated")
    left, right = world.pair_up(city="Paris", email="old@example.com")
    world.right.put("person", right, {"email": "right@example.com"})
    world.left.put("person", left, {"city": "Rome", "email": "left@example.com"})  # later, so it wins
    run = world.run(purpose="preview")
    leave_out(run, proposal(run), EMAIL)
    refuse_once(monkeypatch)
    carry_out(world, run)
    repeat(world, world.link(left=left))
    assert world.value("right", right, "city") == "Rome"
    world.settle()
    assert world.value("right", right, "email") == world.value("left", left, "email") == "left@example.com"


def test_a_default_of_the_other_system_does_not_win_over_the_field_that_was_left_out() -> None:
    world = Hard(policy="last_updated")
    left = world.left.create("person", {"name": "Ada", "city": "Paris"})
    run = world.run(purpose="preview")
    leave_out(run, proposal(run), CITY)
    store, create = world.right, world.right.create

    def with_default(*args: object, **how: object) -> str:
        made = create(*args, **how)  # type: ignore[arg-type]
        store.tables["person"][made].values["city"] = "Default City"
        return made

    store.create = with_default  # type: ignore[method-assign]
    carry_out(world, run)
    store.create = create  # type: ignore[method-assign]
    [right] = world.right.ids("person")
    assert world.value("right", right, "city") == "Default City"
    world.settle()
    assert world.value("left", left, "city") == "Paris"
    assert world.value("right", right, "city") == "Paris"


def test_our_own_write_does_not_turn_who_wins_in_the_field_that_was_left_out() -> None:
    world = Hard(policy="last_updated")
    left, right = world.pair_up(city="Paris", email="old@example.com")
    world.right.put("person", right, {"city": "Oslo"})
    world.clock.sleep(60)
    world.left.put("person", left, {"city": "Rome", "email": "new@example.com"})  # the last update: the left wins
    world.clock.sleep(60)
    run = world.run(purpose="preview")
    assert decode(proposal(run).after)[CITY] == "Rome"
    leave_out(run, proposal(run), CITY)
    carry_out(world, run)
    assert world.value("right", right, "city") == "Oslo"
    world.settle()
    assert world.value("left", left, "city") == world.value("right", right, "city") == "Rome"


def test_both_sides_of_a_record_are_ticked_for_themselves() -> None:
    world = Hard()
    left, right = world.pair_up(city="Paris", email="old@example.com")
    world.left.put("person", left, {"city": "Rome", "credit": 5})
    world.right.put("person", right, {"email": "new@example.com"})
    run = world.run(purpose="preview")
    leave_out(run, proposal(run, side="right"), CITY)
    carry_out(world, run)
    assert (world.value("right", right, "city"), world.value("right", right, "credit")) == ("Paris", 5)
    assert world.value("left", left, "email") == "new@example.com"
    world.settle()
    assert world.value("right", right, "city") == world.value("left", left, "city") == "Rome"


def test_what_a_creation_needs_and_what_records_are_matched_by_cannot_be_left_out() -> None:
    world = Hard()
    world.sync.match = [["name>name"], ["email>email"]]
    world.sync.save()
    mark_settings_changed(world.integration, world.sync)
    world.left.create("person", {"name": "Ada", "city": "Paris", "email": "ada@example.com"})
    run = world.run(purpose="preview")
    with pytest.raises(WrongChoice, match="No record can be made without it"):
        leave_out(run, proposal(run), NAME)
    with pytest.raises(WrongChoice, match="matched by it"):
        leave_out(run, proposal(run), EMAIL)
    with pytest.raises(WrongChoice, match="does not write"):
        leave_out(run, proposal(run), "shoe>shoe")
    assert proposal(run).left_out == ""


def test_without_its_last_field_a_record_is_left_out_as_a_whole() -> None:
    world = Hard()
    left, right = world.pair_up(city="Paris")
    world.left.put("person", left, {"city": "Rome"})
    run = world.run(purpose="preview")
    change = proposal(run)
    leave_out(run, change, CITY)
    change.refresh_from_db()
    assert (change.status, change.left_out) == ("dropped", "")
    decide(run, {change.pk: True})
    carry_out(world, run)
    assert world.value("right", right, "city") == "Rome"


def test_a_field_ticked_again_is_written() -> None:
    world = Hard()
    left, right = world.pair_up(city="Paris", email="old@example.com")
    world.left.put("person", left, {"city": "Rome", "email": "new@example.com"})
    run = world.run(purpose="preview")
    leave_out(run, proposal(run), EMAIL)
    assert run.counts["proposals"]["fields_left_out"] == 1
    decide(run, {}, {proposal(run).pk: {EMAIL: True}})
    assert run.counts["proposals"]["fields_left_out"] == 0
    carry_out(world, run)
    assert world.value("right", right, "email") == "new@example.com"


def test_a_worker_that_dies_after_the_write_agrees_nothing_that_was_left_out() -> None:
    world = Hard()
    left, right = world.pair_up(city="Paris", email="old@example.com")
    world.left.put("person", left, {"city": "Rome", "email": "new@example.com"})
    run = world.run(purpose="preview")
    leave_out(run, proposal(run), EMAIL)
    die_after_the_write(world, run)
    assert base(world, left=left)[EMAIL] == "old@example.com"
    world.settle()
    assert world.value("right", right, "email") == "new@example.com"


def die_after_the_write(world: Hard, run: Run) -> None:
    """Approve a run whose worker dies when it has written; another one ends it."""

    def die(name: str) -> None:
        if name == "after write":
            world.at_point = None
            raise KeyboardInterrupt

    approve(run, world.clock.now())
    world.at_point = die
    with pytest.raises(KeyboardInterrupt):
        advance(run, world.world)
    while not advance(run, world.world):
        pass


@pytest.mark.parametrize("safe", [Safe.CLIENT_ID, Safe.FIND])
def test_a_creation_that_is_only_found_again_agrees_on_no_default_of_the_field_that_was_left_out(safe: Safe) -> None:
    world = Hard(policy="last_updated", right_entity=person(safe=safe))
    left = world.left.create("person", {"name": "Ada", "city": "Paris"})
    run = world.run(purpose="preview")
    leave_out(run, proposal(run), CITY)
    store, create = world.right, world.right.create

    def with_default(*args: object, **how: object) -> str:
        world.clock.sleep(5)
        made = create(*args, **how)  # type: ignore[arg-type]
        store.tables["person"][made].values["city"] = "Default City"
        return made

    store.create = with_default  # type: ignore[method-assign]
    die_after_the_write(world, run)
    store.create = create  # type: ignore[method-assign]
    world.settle()
    [right] = world.right.ids("person")
    assert world.value("left", left, "city") == world.value("right", right, "city") == "Paris"


@pytest.mark.parametrize("safe", [Safe.CLIENT_ID, Safe.FIND])
def test_an_update_that_is_only_found_again_does_not_turn_who_wins_in_the_field_that_was_left_out(safe: Safe) -> None:
    world = Hard(policy="last_updated", right_entity=person(safe=safe))
    left, right = world.pair_up(city="Paris", email="old@example.com")
    world.right.put("person", right, {"city": "Oslo"})
    world.clock.sleep(60)
    world.left.put("person", left, {"city": "Rome", "email": "new@example.com"})  # the last update: the left wins
    world.clock.sleep(60)
    run = world.run(purpose="preview")
    leave_out(run, proposal(run), CITY)
    die_after_the_write(world, run)
    world.settle()
    assert world.value("left", left, "city") == world.value("right", right, "city") == "Rome"


def test_what_is_left_out_of_a_reconciliation_waits_for_a_person() -> None:
    world = Hard()
    left, right = world.pair_up(city="Paris", email="old@example.com")
    world.settle()
    kept = world.right.tables["person"][right]
    kept.values.update(city="Rome", email="new@example.com")
    kept.version += 1  # a listing tells, the feed has not
    run = world.run("comprehensive", "check")
    leave_out(run, proposal(run), EMAIL)
    carry_out(world, run)
    assert world.value("left", left, "city") == "Rome"
    world.settle()
    assert world.value("left", left, "email") == "old@example.com"
    assert world.link(left=left).reason == "waits for approval"
    decisions.approve(world.link(left=left), now=world.clock.now(), by="ada")
    world.settle()
    assert world.value("left", left, "email") == "new@example.com"


# Removals


def deleted(on_delete: str, count: int = 2) -> tuple[Hard, list[str], Run]:
    world = Hard(on_delete=on_delete)
    ids = [world.left.create("person", {"name": f"P{n}"}) for n in range(count + 1)]
    world.settle()
    for record_id in ids[:count]:
        world.left.delete("person", record_id)
    world.left.put("person", ids[count], {"city": "Rome"})
    return world, ids, world.run(purpose="preview")


@pytest.mark.parametrize("on_delete", ["ask", "delete"])
def test_a_delete_is_written_only_where_it_was_ticked_and_the_others_wait(on_delete: str) -> None:
    world, ids, run = deleted(on_delete)
    first, _ = RecordChange.objects.filter(run=run, verb="delete").order_by("id")
    decide(run, {first.pk: True})
    run = carry_out(world, run)
    assert len(world.right.ids("person")) == 2
    assert "2 written, 1 removal not ticked" in describe(run)
    assert world.link(left=ids[1]).reason == "waits for approval"
    world.settle()
    assert len(world.right.ids("person")) == 2, "no later run deletes it unasked"
    decisions.approve(world.link(left=ids[1]), now=world.clock.now(), by="ada")
    world.settle()
    assert len(world.right.ids("person")) == 1


def save_settings(world: Hard, _: RecordLink) -> None:
    mark_settings_changed(world.integration, world.sync)


def edit_the_survivor(world: Hard, link: RecordLink) -> None:
    world.right.put("person", link.right_id, {"city": "Bern"})


def hold_and_release(world: Hard, link: RecordLink) -> None:
    decisions.hold(link, now=world.clock.now(), by="ada")
    decisions.release(RecordLink.objects.get(pk=link.pk), now=world.clock.now(), by="ada")


@pytest.mark.parametrize("happens", [save_settings, edit_the_survivor, hold_and_release])
def test_a_removal_left_unticked_waits_whatever_happens_to_its_record(
    happens: Callable[[Hard, RecordLink], None],
) -> None:
    world, ids, run = deleted("delete", 1)
    world.sync.edit_v_delete = "delete"
    world.sync.save()
    carry_out(world, run)
    happens(world, world.link(left=ids[0]))
    world.settle()
    link = world.link(left=ids[0])
    assert (len(world.right.ids("person")), link.reason) == (2, "waits for approval")
    decisions.approve(link, now=world.clock.now(), by="ada")
    world.settle()
    assert len(world.right.ids("person")) == 1


def test_a_removal_left_unticked_waits_also_where_deletes_were_asked_for_and_are_not_any_more() -> None:
    world, _, run = deleted("ask", 1)
    carry_out(world, run)
    world.sync.on_delete = "delete"
    world.sync.save()
    mark_settings_changed(world.integration, world.sync)
    world.settle()
    assert len(world.right.ids("person")) == 2


def test_a_removal_left_unticked_waits_also_where_its_record_has_changed_since_the_preview() -> None:
    world, ids, run = deleted("delete", 1)
    world.sync.edit_v_delete = "delete"
    world.sync.save()
    world.right.put("person", world.link(left=ids[0]).right_id, {"city": "Bern"})
    world.run(purpose="preview")
    approve(run, world.clock.now())
    world.settle()
    assert (len(world.right.ids("person")), world.link(left=ids[0]).reason) == (2, "waits for approval")


def test_a_removal_left_unticked_is_forgotten_once_both_records_are_there_again() -> None:
    world, ids, run = deleted("delete", 1)
    carry_out(world, run)
    world.left.create("person", {"name": "P0"}, record_id=ids[0])
    world.settle()
    assert world.link(left=ids[0]).pending is None
    world.left.delete("person", ids[0])
    world.settle()
    assert len(world.right.ids("person")) == 1


def test_all_deletes_are_ticked_at_once_only_by_who_says_how_many_they_are() -> None:
    world, _, run = deleted("delete")
    assert decide_all(run, tick=False) == 1  # all but deletes
    for wrong in (None, 1, 3):
        with pytest.raises(WrongChoice, match="2 records would be removed"):
            decide_all(run, tick=True, kind="delete", confirmed=wrong)
    assert decide_all(run, tick=True, kind="delete", confirmed=2) == 2
    carry_out(world, run)
    assert len(world.right.ids("person")) == 1
    assert "Rome" not in {kept.values.get("city") for kept in world.right.tables["person"].values()}


def test_the_guard_says_nothing_of_removals_that_nobody_ticked() -> None:
    world, _, run = deleted("delete", 22)
    assert "22 records of 23 would be removed" in run.guard["tripped"][0]
    assert guard_of(run) == []
    decide_all(run, tick=True, kind="delete", confirmed=22)
    assert guard_of(run) == run.guard["tripped"]
    with pytest.raises(ValueError, match="would be removed"):
        approve(run, world.clock.now())
    decide_all(run, tick=False, kind="delete")
    assert approve(run, world.clock.now()) == (1, 0)


def test_a_removal_by_making_inactive_counts_as_written() -> None:
    entity = person(removal=Removal.ARCHIVE, verbs=frozenset({Verb.CREATE, Verb.UPDATE, Verb.ARCHIVE, Verb.RESTORE}))
    world = Hard(right_entity=entity, on_delete="ask")
    left, _ = world.pair_up()
    world.left.delete("person", left)
    run = world.run(purpose="preview")
    change = proposal(run)
    assert (change.verb, run.counts["proposals"]["kinds"]) == (
        "archive",
        {"delete": {"right": {"all": 1, "ticked": 0}}},
    )
    decide(run, {change.pk: True})
    run = carry_out(world, run)
    counts = run.counts["entities"]["person"]
    assert (counts["written"]["right"]["deleted"], counts["skipped"], counts["touched"]) == (1, 0, 1)
    assert "1 written" in describe(run)


# What was seen


def two_changed() -> tuple[Hard, Run, list[RecordChange]]:
    world = Hard()
    pairs = [world.pair_up(city="Paris") for _ in range(2)]
    for left, _ in pairs:
        world.left.put("person", left, {"city": "Rome"})
    run = world.run(purpose="preview")
    return world, run, list(RecordChange.objects.filter(run=run).order_by("id"))


def test_an_approval_of_what_was_seen_goes_through_once() -> None:
    world, run, _ = two_changed()
    token = seen(run)
    assert approve(run, world.clock.now(), seen=token) == (2, 0)
    with pytest.raises(ValueError, match="does not wait for approval"):
        approve(Run.objects.get(pk=run.pk), world.clock.now(), seen=token)


def test_another_persons_tick_refuses_the_approval_and_is_named() -> None:
    world, run, changes = two_changed()
    token, grace = seen(run), User.objects.create_user("grace")
    decide_proposals(run, [changes[0].pk], drop=True, by=grace)
    with pytest.raises(PlanChanged, match="grace left out 1"):
        approve(run, world.clock.now(), seen=token)
    with pytest.raises(PlanChanged, match="grace left out 1"):
        decide(run, {changes[1].pk: False}, seen=token)
    assert Run.objects.get(pk=run.pk).phase == Run.Phase.PROPOSED
    assert approve(run, world.clock.now(), seen=seen(run)) == (1, 0)


def test_a_record_that_changed_since_refuses_the_approval_once_and_then_stays_out() -> None:
    world, run, changes = two_changed()
    token = seen(run)
    world.left.put("person", changes[0].link.left_id, {"city": "Bern"})
    world.run()
    RecordLink.objects.filter(pk=changes[1].link_id).update(revision=changes[1].link_revision)
    with pytest.raises(PlanChanged, match="1 record changed"):
        approve(run, world.clock.now(), seen=token)
    assert approve(run, world.clock.now(), seen=seen(run)) == (1, 1)


def test_a_plan_that_a_newer_one_has_replaced_is_refused() -> None:
    world = Hard()
    left, right = world.pair_up(city="Paris")
    world.settle()
    kept = world.right.tables["person"][right]
    kept.values.update(city="Rome")
    kept.version += 1
    run = world.run("comprehensive", "check")
    token = seen(run)
    world.run("comprehensive", "check")
    run.refresh_from_db()
    with pytest.raises(PlanChanged, match="planned anew"):
        approve(run, world.clock.now(), seen=token)
    assert world.value("left", left, "city") == "Paris"


def test_where_nothing_is_ticked_nothing_is_approved() -> None:
    world, run, _ = two_changed()
    decide_all(run, tick=False)
    with pytest.raises(ValueError, match="Nothing is ticked"):
        approve(run, world.clock.now(), seen=seen(run))
    assert Run.objects.get(pk=run.pk).phase == Run.Phase.PROPOSED
    run.refresh_from_db()
    with pytest.raises(ValueError, match="older than an hour"):
        approve(run, world.clock.now() + timedelta(hours=2), seen=seen(run))
