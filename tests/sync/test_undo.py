"""Does an undo bring back what was there before a run, say what it can't, and does it stay undone?"""

from __future__ import annotations

from dataclasses import replace

import pytest

from connectors.contract import Ref, Removal, Verb
from connectors.memory.store import MemoryStore
from connectors.models import RecordChange, RecordLink, Run
from connectors.sync import decisions
from connectors.sync.explain import sentence_of
from connectors.sync.run import advance, approve, decide_proposals, describe, start_run
from connectors.sync.undo import check_undoable
from tests.sync.hard_world import Hard, person

pytestmark = pytest.mark.django_db(transaction=True)
HELD = RecordLink.State.HELD


def carry_on(world: Hard, run: Run) -> Run:
    while not advance(run, world.world):
        pass
    run.refresh_from_db()
    return run


def propose(world: Hard, run: Run) -> Run:
    """Ask for the undo of a run; nothing is written."""
    check_undoable(run)
    before = world.written
    undo = carry_on(world, start_run(world.scope, world.world, purpose="undo", undoes=run))
    assert world.written == before, "a proposal wrote"
    assert undo.counts["adds_up"]
    return undo


def undo(world: Hard, run: Run) -> Run:
    """Undo a run and approve all of it."""
    proposed = propose(world, run)
    assert proposed.phase == Run.Phase.PROPOSED, describe(proposed)
    approve(proposed, world.clock.now(), accept_guard=True)
    done = carry_on(world, proposed)
    assert done.phase == Run.Phase.DONE
    assert done.counts["adds_up"], done.counts
    return done


def contents(store: MemoryStore) -> dict[str, tuple[object, ...]]:
    """What people see of a system, by id."""
    return {k.id: (k.archived, *sorted(k.values.items(), key=str)) for k in store.tables["person"].values()}


def both(world: Hard) -> tuple[object, object]:
    return contents(world.left), contents(world.right)


def told(run: Run) -> list[str]:
    """Why some of it can't be undone."""
    return list(RecordChange.objects.filter(run=run, code="not undone").values_list("message", flat=True))


@pytest.fixture
def world() -> Hard:
    return Hard()


# What comes back


def test_what_a_run_created_is_deleted_and_its_sources_stay_as_they_are(world: Hard) -> None:
    for name in ("Ada", "Grace", "Joan"):
        world.left.create("person", {"name": name})
    before = both(world)
    done = undo(world, world.run())
    assert both(world) == before
    assert describe(done) == "Succeeded: 3 undone"
    assert set(RecordLink.objects.values_list("state", "reason", "right_id")) == {(HELD, "undone", None)}


def test_updated_fields_get_their_former_values_and_the_other_side_keeps_the_new_ones(world: Hard) -> None:
    left, right = world.pair_up(city="Bern", email="a@b.example")
    world.settle()
    world.left.put("person", left, {"city": "Rome"})
    undo(world, world.run())
    assert world.value("right", right, "city") == "Bern"
    assert world.value("left", left, "city") == "Rome"
    assert world.writes("right")[-1].values == {"city": "Bern"}, "only the field that the run wrote"


def test_an_undone_record_is_left_alone_by_every_later_run(world: Hard) -> None:
    left, _right = world.pair_up(city="Bern")
    other = world.left.create("person", {"name": "Grace"})
    world.settle()
    world.left.put("person", left, {"city": "Rome"})
    world.left.put("person", other, {"city": "Oslo"})
    undo(world, world.run())
    written = world.written
    world.run()
    world.run("comprehensive")
    world.left.put("person", left, {"email": "new@b.example"})
    world.run()
    assert world.written == written
    assert world.state(left=left)[0] == "undone"
    assert "was undone" in sentence_of(world.link(left=left))


def test_once_released_it_is_planned_again(world: Hard) -> None:
    left, right = world.pair_up(city="Bern")
    world.left.put("person", left, {"city": "Rome"})
    made = world.left.create("person", {"name": "Grace"})
    undo(world, world.run())
    assert len(world.right.ids("person")) == 1
    for link in RecordLink.objects.filter(reason="undone"):
        assert decisions.choices(link) == ["release", "accept"]
        decisions.release(link, now=world.clock.now())
    world.settle()
    assert world.value("right", right, "city") == "Rome"
    assert world.link(left=made).right_id in world.right.ids("person")
    assert not RecordLink.objects.filter(pending__isnull=False).exists()


def test_accepted_as_it_is_both_sides_keep_their_own_value_and_later_edits_flow(world: Hard) -> None:
    left, right = world.pair_up(city="Bern")
    world.left.put("person", left, {"city": "Rome"})
    undo(world, world.run())
    decisions.accept(world.link(left=left), now=world.clock.now(), by="ada")
    written = world.written
    world.settle()
    world.run("comprehensive")
    assert world.written == written
    assert world.link(left=left).pending is None
    world.left.put("person", left, {"email": "new@b.example"})
    world.settle()
    assert (world.value("right", right, "email"), world.value("right", right, "city")) == ("new@b.example", "Bern")
    world.left.put("person", left, {"city": "Oslo"})
    world.settle()
    assert world.value("right", right, "city") == "Oslo"


def test_a_creation_that_stays_undone_is_held_by_the_person_who_accepts_it(world: Hard) -> None:
    made = world.left.create("person", {"name": "Grace"})
    undo(world, world.run())
    decisions.accept(world.link(left=made), now=world.clock.now(), by="ada")
    world.settle()
    assert world.state(left=made)[0] == "held"
    assert world.right.ids("person") == []


def test_writes_on_both_sides_of_one_record_are_both_taken_back(world: Hard) -> None:
    left, right = world.pair_up(city="Bern", email="a@b.example")
    world.settle()
    world.left.put("person", left, {"city": "Rome"})
    world.right.put("person", right, {"email": "c@d.example"})
    run = world.run()
    assert world.value("left", left, "email") == "c@d.example"
    undo(world, run)
    assert (world.value("left", left, "city"), world.value("left", left, "email")) == ("Rome", "a@b.example")
    assert (world.value("right", right, "city"), world.value("right", right, "email")) == ("Bern", "c@d.example")
    decisions.release(world.link(left=left), now=world.clock.now())
    world.settle()
    assert world.value("right", right, "city") == "Rome"
    assert world.value("left", left, "email") == "c@d.example"


def test_a_deleted_record_is_made_again_under_a_new_id_and_that_is_said_first(world: Hard) -> None:
    left, right = world.pair_up(city="Bern")
    world.settle()
    world.left.delete("person", left)
    run = world.run()
    assert world.right.ids("person") == []
    proposed = propose(world, run)
    [change] = RecordChange.objects.filter(run=proposed)
    assert (change.verb, "new id" in change.message) == ("create", True)
    approve(proposed, world.clock.now())
    carry_on(world, proposed)
    [made] = world.right.ids("person")
    assert made != right
    assert (world.value("right", made, "city"), world.value("right", made, "name")) == ("Bern", "Ada 0")
    assert world.state(right=made)[0] == "undone"
    world.settle()
    assert world.right.ids("person") == [made], "the next run did what was undone"
    decisions.release(world.link(right=made), now=world.clock.now())
    world.settle()
    assert world.right.ids("person") == []


def archiving(side: str) -> Hard:
    """A world in which one side can't delete."""
    verbs = frozenset({Verb.CREATE, Verb.UPDATE, Verb.ARCHIVE, Verb.RESTORE})
    entity = replace(person(), removal=Removal.ARCHIVE, verbs=verbs)
    return Hard(**{f"{side}_entity": entity})


def test_what_a_system_cannot_delete_is_made_inactive_and_that_is_said_first() -> None:
    world = archiving("right")
    left = world.left.create("person", {"name": "Ada"})
    proposed = propose(world, world.run())
    [change] = RecordChange.objects.filter(run=proposed)
    assert change.verb == "archive"
    assert change.message == "The right system can't delete such records. It will be made inactive."
    approve(proposed, world.clock.now())
    carry_on(world, proposed)
    assert [kept.archived for kept in world.right.tables["person"].values()] == [True]
    written = world.written
    world.settle()
    world.run("comprehensive")
    assert (world.written, world.state(left=left)[0]) == (written, "undone")


def test_making_inactive_and_active_is_turned_back(world: Hard) -> None:
    world.map("~archived", "~archived")
    left, right = world.pair_up()
    world.settle()
    world.left.archive("person", left, True)
    undo(world, world.run())
    assert not world.right.tables["person"][right].archived
    decisions.release(world.link(left=left), now=world.clock.now())
    world.settle()
    assert world.right.tables["person"][right].archived


def test_an_edit_and_making_inactive_in_one_run_are_taken_back_one_after_the_other(world: Hard) -> None:
    world.map("~archived", "~archived")
    left, right = world.pair_up(city="Bern")
    world.settle()
    world.left.put("person", left, {"city": "Rome"})
    world.left.archive("person", left, True)
    run = world.run()
    assert [w.verb for w in world.writes("right")] == ["create", "update", "archive"]
    proposed = propose(world, run)
    proposals = RecordChange.objects.filter(run=proposed, status="proposed").order_by("id")
    assert list(proposals.values_list("verb", flat=True)) == ["restore", "update"]
    assert describe(proposed) == "Waiting for approval: 1 to be undone"
    approve(proposed, world.clock.now())
    assert describe(carry_on(world, proposed)) == "Succeeded: 1 undone"
    assert world.value("right", right, "city") == "Bern"
    assert not world.right.tables["person"][right].archived


def test_a_second_write_is_left_out_where_the_first_was_not_carried_out(world: Hard) -> None:
    world.map("~archived", "~archived")
    left, right = world.pair_up(city="Bern")
    world.settle()
    world.left.put("person", left, {"city": "Rome"})
    world.left.archive("person", left, True)
    proposed = propose(world, world.run())
    approve(proposed, world.clock.now())
    world.meanwhile("before write", lambda: world.right.put("person", right, {"city": "Oslo"}))
    done = carry_on(world, proposed)
    assert describe(done) == "Succeeded: 0 undone, 1 could not be (1 changed since)"
    assert world.value("right", right, "city") == "Oslo"


def test_what_a_system_touched_by_itself_while_it_was_undone_is_undone_all_the_same(world: Hard) -> None:
    left, right = world.pair_up(city="Bern")
    world.settle()
    world.left.put("person", left, {"city": "Rome"})
    proposed = propose(world, world.run())
    approve(proposed, world.clock.now())
    world.meanwhile("before write", lambda: world.right.put("person", right, {}))
    assert describe(carry_on(world, proposed)) == "Succeeded: 1 undone"
    assert world.value("right", right, "city") == "Bern"


def test_a_record_made_inactive_for_a_delete_becomes_active_again() -> None:
    world = archiving("right")
    left, right = world.pair_up()
    world.left.delete("person", left)
    run = world.run()
    assert world.right.tables["person"][right].archived
    undo(world, run)
    assert not world.right.tables["person"][right].archived
    written = world.written
    world.settle()
    assert world.written == written
    decisions.release(world.link(right=right), now=world.clock.now())
    world.settle()
    assert world.right.tables["person"][right].archived


# What does not


def test_a_field_that_was_changed_since_stays_and_the_others_go_back(world: Hard) -> None:
    left, right = world.pair_up(city="Bern", email="a@b.example")
    world.settle()
    world.left.put("person", left, {"city": "Rome", "email": "new@b.example"})
    run = world.run()
    world.right.put("person", right, {"city": "Oslo"})
    proposed = propose(world, run)
    [change] = RecordChange.objects.filter(run=proposed)
    assert change.message == "city = city stays: changed since"
    approve(proposed, world.clock.now())
    carry_on(world, proposed)
    assert (world.value("right", right, "city"), world.value("right", right, "email")) == ("Oslo", "a@b.example")


def test_a_created_record_that_somebody_has_worked_on_stays(world: Hard) -> None:
    world.left.create("person", {"name": "Ada"})
    run = world.run()
    [right] = world.right.ids("person")
    world.right.put("person", right, {"city": "Oslo"})
    proposed = propose(world, run)
    assert proposed.phase == Run.Phase.DONE
    assert told(proposed) == ["Somebody has changed it since: city = city. It stays."]
    assert describe(proposed) == "Succeeded: 0 undone, 1 could not be (1 changed since)"


def test_a_created_record_that_only_later_runs_have_changed_is_removed_all_the_same(world: Hard) -> None:
    left = world.left.create("person", {"name": "Ada", "city": "Bern"})
    run = world.run()
    world.left.put("person", left, {"city": "Rome"})
    world.run()
    undo(world, run)
    assert world.right.ids("person") == []


def test_what_is_gone_held_or_hidden_is_told_and_nothing_is_written(world: Hard) -> None:
    lefts = [world.left.create("person", {"name": f"N{n}"}) for n in range(3)]
    run = world.run()
    gone, held, hidden = (world.link(left=left) for left in lefts)
    world.right.delete("person", str(gone.right_id))
    decisions.hold(held, now=world.clock.now(), by="ada")
    world.right.hidden.add(("person", str(hidden.right_id)))
    proposed = propose(world, run)
    assert proposed.phase == Run.Phase.DONE
    assert describe(proposed).startswith("Succeeded: 0 undone, 3 could not be (")
    assert len(set(told(proposed))) == 3


def test_a_record_that_others_refer_to_is_made_inactive_instead_of_deleted(world: Hard) -> None:
    parent = world.left.create("person", {"name": "Head"})
    lonely = world.left.create("person", {"name": "Lonely"})
    first = world.run()
    child = world.left.create("person", {"name": "Branch", "parent": Ref("person", parent)})
    world.run()
    head, branch = world.link(left=parent).right_id, world.link(left=child).right_id
    proposed = propose(world, first)
    assert dict(RecordChange.objects.filter(run=proposed).values_list("link__left_id", "verb")) == {
        parent: "archive", lonely: "delete",
    }  # fmt: skip
    approve(proposed, world.clock.now())
    carry_on(world, proposed)
    assert world.value("right", str(branch), "parent") == Ref("person", str(head))
    assert world.right.tables["person"][str(head)].archived


def test_children_go_before_their_parents(world: Hard) -> None:
    parent = world.left.create("person", {"name": "Head"})
    world.left.create("person", {"name": "Branch", "parent": Ref("person", parent)})
    run = world.run()
    made = [w.id for w in world.writes("right", "create")]
    undo(world, run)
    assert [w.id for w in world.writes("right", "delete")] == made[::-1]


def test_what_a_person_unticks_stays_and_is_not_held(world: Hard) -> None:
    for name in ("Ada", "Grace"):
        world.left.create("person", {"name": name})
    proposed = propose(world, world.run())
    first = RecordChange.objects.filter(run=proposed).earliest("id")
    decide_proposals(proposed, [first.pk], drop=True)
    approve(proposed, world.clock.now())
    done = carry_on(world, proposed)
    assert describe(done) == "Succeeded: 1 undone, 1 could not be (1 left out)"
    first.link.refresh_from_db()
    assert (first.link.reason, first.link.pending) == ("", None)
    assert world.right.ids("person") == [first.record_id]


def test_what_changes_between_preview_and_approval_bounces(world: Hard) -> None:
    left, right = world.pair_up(city="Bern")
    world.settle()
    world.left.put("person", left, {"city": "Rome"})
    proposed = propose(world, world.run())
    world.right.put("person", right, {"city": "Oslo"})
    approve(proposed, world.clock.now())
    done = carry_on(world, proposed)
    assert world.value("right", right, "city") == "Oslo"
    assert describe(done) == "Succeeded: 0 undone, 1 could not be (1 changed since)"
    world.settle()
    assert world.value("left", left, "city") == "Oslo"


def test_a_refused_write_of_an_undo_parks_nothing(world: Hard) -> None:
    left, _right = world.pair_up(email="a@b.example")
    world.settle()
    world.left.put("person", left, {"email": "new@b.example"})
    run = world.run()
    world.right.unique.add(("person", "email"))
    proposed = propose(world, run)
    world.right.create("person", {"name": "Rival", "email": "a@b.example"})
    approve(proposed, world.clock.now())
    done = carry_on(world, proposed)
    assert describe(done) == "Succeeded: 0 undone, 1 could not be (1 refused)"
    world.run()
    assert world.link(left=left).pending is None


def test_the_guard_warns_of_many_removals_and_they_go_through_once_accepted(world: Hard) -> None:
    for number in range(25):
        world.left.create("person", {"name": f"N{number}"})
    proposed = propose(world, world.run())
    with pytest.raises(ValueError, match="25 records of 25 would be removed on the right"):
        approve(proposed, world.clock.now())
    approve(proposed, world.clock.now(), accept_guard=True)
    carry_on(world, proposed)
    assert world.right.ids("person") == []


# Which runs


def test_a_run_that_wrote_nothing_or_is_an_undo_or_was_undone_is_refused_with_a_sentence(world: Hard) -> None:
    world.left.create("person", {"name": "Ada"})
    run = world.run()
    idle = world.run()
    done = undo(world, run)
    for refused, why in ((idle, "wrote nothing"), (done, "is an undo itself"), (run, "has been undone already")):
        with pytest.raises(ValueError, match=why):
            check_undoable(refused)


def test_a_run_whose_changes_were_purged_is_refused(world: Hard) -> None:
    world.left.create("person", {"name": "Ada"})
    run = world.run()
    RecordChange.objects.filter(run=run).delete()
    with pytest.raises(ValueError, match="no longer in the log"):
        check_undoable(run)


def test_what_could_not_be_undone_can_be_undone_later(world: Hard) -> None:
    for name in ("Ada", "Grace"):
        world.left.create("person", {"name": name})
    run = world.run()
    held = world.link(left=world.left.ids("person")[0])
    decisions.hold(held, now=world.clock.now())
    undo(world, run)
    held.refresh_from_db()
    decisions.release(held, now=world.clock.now())
    world.settle()
    undo(world, run)
    assert world.right.ids("person") == []
    assert RecordLink.objects.filter(reason="undone").count() == 2


def test_a_newer_undo_replaces_the_proposals_of_the_last_one(world: Hard) -> None:
    world.left.create("person", {"name": "Ada"})
    run = world.run()
    first = propose(world, run)
    propose(world, run)
    assert approve(first, world.clock.now()) == (0, 0)
