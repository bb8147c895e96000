"""What does a run do about crashes, prevented writes, parked records and people?  (CORE sections 2 and 3, DESIGN section 4)."""

from __future__ import annotations

import itertools
from decimal import Decimal

import pytest

from connectors.contract import Field, Kind, Lock, Safe, Value
from connectors.models import RecordChange, RecordLink, Run
from connectors.sync import decisions
from connectors.sync.explain import explain
from connectors.sync.run import advance, approve, decide_proposals
from tests.sync.hard_world import Hard, person

pytestmark = pytest.mark.django_db
BOTH = ("left", "right")
MARKER = Field("ref", Kind.TEXT, findable=True)
KINDS = [
    (Safe.CLIENT_ID, ""),
    (Safe.REQUEST_KEY, ""),
    (Safe.UPSERT, ""),
    (Safe.FIND, ""),  # by the name that it is matched by
    (Safe.FIND, "ref"),  # by the marker
]


def other(side: str) -> str:
    return "right" if side == "left" else "left"


def go_on(world: Hard, run: Run) -> Run:
    world.scope.refresh_from_db()
    while not advance(run, world.world):
        pass
    run.refresh_from_db()
    assert run.counts["adds_up"], run.counts
    return run


# Crashes


@pytest.mark.parametrize("point", ["before write", "after write", "in record outcomes"])
@pytest.mark.parametrize(("safe", "marker"), KINDS)
def test_a_crash_around_a_sent_batch_of_creates_leaves_one_record_of_each(safe: Safe, marker: str, point: str) -> None:
    world = Hard(right_entity=person(MARKER, safe=safe, marker=marker))
    for number in range(3):
        world.left.create("person", {"name": f"P{number}"})
    world.die_at(point)
    assert RecordChange.objects.filter(status="sending").count() == 3
    world.run()
    world.run("comprehensive")
    assert world.names(world.right) == ["P0", "P1", "P2"]
    assert world.names(world.left) == ["P0", "P1", "P2"]
    assert len(world.writes("right", "create")) == 3
    assert RecordLink.objects.filter(pending__isnull=True).count() == 3


@pytest.mark.parametrize("sent", [True, False])
@pytest.mark.parametrize("marker", ["", "ref"])
def test_a_request_key_older_than_a_day_is_not_trusted_and_the_record_is_looked_for(marker: str, sent: bool) -> None:
    """quickbooks sheet, section 6: a key is kept for at least 24 hours, and then forgotten."""
    world = Hard(right_entity=person(MARKER, safe=Safe.REQUEST_KEY, marker=marker))
    world.left.create("person", {"name": "Ada"})
    world.die_at("after write" if sent else "before write")
    world.right.answers.clear()
    world.clock.sleep(25 * 3600)
    world.run()
    assert world.names(world.right) == ["Ada"]
    assert len(world.writes("right", "create")) == 1
    assert "find person" in world.right.requests
    assert not RecordLink.objects.filter(pending__isnull=False).exists()


def test_a_repeat_within_a_day_is_the_same_batch_under_the_same_key() -> None:
    world = Hard(right_entity=person(safe=Safe.REQUEST_KEY))
    for number in range(3):
        world.left.create("person", {"name": f"P{number}"})
    world.die_at("after write")
    keys = {w.batch_key for w in world.writes("right")}
    world.run()
    assert "find person" not in world.right.requests
    assert {w.batch_key for w in world.writes("right")} == keys
    assert len(keys) == 1


@pytest.mark.parametrize(("safe", "marker"), KINDS)
def test_a_crash_after_an_update_was_sent_does_not_write_it_twice(safe: Safe, marker: str) -> None:
    world = Hard(right_entity=person(MARKER, safe=safe, marker=marker))
    left, right = world.pair_up()
    world.left.put("person", left, {"city": "Rome"})
    world.die_at("after write")
    world.run()
    world.run("comprehensive")
    assert world.value("right", right, "city") == "Rome"
    assert len(world.writes("right", "update")) == 1
    assert world.link(left=left).pending is None


@pytest.mark.parametrize("point", ["before write", "after write"])
@pytest.mark.parametrize("lock", list(Lock))
@pytest.mark.parametrize(("safe", "marker"), KINDS)
def test_an_edit_between_a_crash_and_its_settling_is_not_written_over(
    safe: Safe, marker: str, lock: Lock, point: str
) -> None:
    world = Hard(right_entity=person(MARKER, safe=safe, marker=marker, lock=lock))
    left, right = world.pair_up()
    world.left.put("person", left, {"city": "Rome"})
    world.die_at(point)
    world.clock.sleep(60)
    world.right.put("person", right, {"city": "Oslo"})
    world.settle()
    assert (world.value("left", left, "city"), world.value("right", right, "city")) == ("Oslo", "Oslo")
    last = world.right.tables["person"][right].history[-1]
    assert (last[1]["city"], last[2]) == ("Oslo", "user")


@pytest.mark.parametrize("point", ["before write", "after write"])
def test_a_day_after_a_crash_an_edit_that_came_between_is_not_written_over(point: str) -> None:
    world = Hard(right_entity=person(safe=Safe.REQUEST_KEY))
    left, right = world.pair_up()
    world.left.put("person", left, {"city": "Rome", "credit": Decimal("5.00")})
    world.die_at(point)
    world.right.answers.clear()
    world.clock.sleep(25 * 3600)
    world.right.put("person", right, {"city": "Oslo"})
    world.settle()
    for side, record_id in (("left", left), ("right", right)):
        assert world.value(side, record_id, "city") == "Oslo"
        assert world.value(side, record_id, "credit") == Decimal("5.00")


@pytest.mark.parametrize("values", [{"credit": Decimal("5.00")}, {"city": None}, {"city": "Rome"}])
@pytest.mark.parametrize(("safe", "marker"), KINDS)
def test_an_update_that_was_never_carried_out_is_not_taken_for_done(
    safe: Safe, marker: str, values: dict[str, Value]
) -> None:
    world = Hard(right_entity=person(MARKER, safe=safe, marker=marker))
    left, right = world.pair_up(city="Paris")
    world.left.put("person", left, values)
    world.die_at("before write")
    world.settle()
    ((field, value),) = values.items()
    assert world.value("right", right, field) == value
    assert len(world.writes("right", "update")) == 1


@pytest.mark.parametrize("point", ["before write", "after write", "after stage page", "after store plan"])
@pytest.mark.parametrize(("safe", "marker"), KINDS)
def test_a_crash_around_a_delete_ends_in_one_delete(safe: Safe, marker: str, point: str) -> None:
    world = Hard(right_entity=person(MARKER, safe=safe, marker=marker))
    left, _ = world.pair_up()
    world.left.delete("person", left)
    world.die_at(point)
    world.settle()
    world.run("comprehensive")
    assert world.right.ids("person") == world.left.ids("person") == []
    assert len(world.writes("right", "delete")) == 1


# Echoes and idle runs


def test_the_first_delta_reads_its_own_echoes_and_writes_nothing() -> None:
    world = Hard()
    for number in range(12):
        world.left.create("person", {"name": f"L{number}"})
        world.right.create("person", {"name": f"R{number}"})
    world.run()
    before, links = world.written, list(RecordLink.objects.order_by("id").values())
    run = world.run()
    assert (run.mode, run.counts["reads"]) == ("delta", {"left": 12, "right": 12})
    assert (world.written, run.counts["entities"]) == (before, {})
    assert list(RecordLink.objects.order_by("id").values()) == links
    assert world.run().counts["reads"].get("left", 0) == 0


# Planned, and changed before it is written


def test_a_link_that_changed_after_it_was_planned_is_planned_again() -> None:
    world = Hard()
    left, right = world.pair_up(city="Paris")
    world.left.put("person", left, {"city": "Rome"})
    world.die_at("after store plan")
    world.clock.sleep(60)
    world.right.put("person", right, {"city": "Oslo", "email": "a@example.com"})
    world.run()
    assert RecordChange.objects.filter(link__left_id=left, status="superseded").count() == 1
    assert (world.value("left", left, "city"), world.value("right", right, "city")) == ("Oslo", "Oslo")
    assert world.value("left", left, "email") == "a@example.com"
    assert not world.writes("right", "update")
    assert any('"left":"Rome"' in lost for lost in world.lost())


@pytest.mark.parametrize("lock", list(Lock))
def test_an_edit_between_plan_and_write_is_met_in_the_same_run_and_kept(lock: Lock) -> None:
    world = Hard(right_entity=person(lock=lock))
    left, right = world.pair_up(city="Paris")
    world.left.put("person", left, {"city": "Rome"})
    world.meanwhile("after store plan", lambda: world.right.put("person", right, {"email": "a@example.com"}))
    world.run()
    assert world.value("right", right, "city") == "Rome"
    assert world.value("right", right, "email") == "a@example.com"
    world.settle()
    assert world.value("left", left, "email") == "a@example.com"
    assert world.link(left=left).pending is None


def test_a_write_whose_link_has_moved_on_is_not_sent() -> None:
    """Rule 4: no row, no write."""
    world = Hard()
    left, right = world.pair_up(city="Paris")
    world.left.put("person", left, {"city": "Rome"})
    link = world.link(left=left)
    world.meanwhile(
        "before mark sending", lambda: RecordLink.objects.filter(pk=link.pk).update(revision=link.revision + 50)
    )
    world.run()
    statuses = RecordChange.objects.filter(link=link, verb="update").order_by("id").values_list("status", flat=True)
    assert list(statuses) == ["superseded", "written"]
    assert len(world.writes("right", "update")) == 1
    assert world.value("right", right, "city") == "Rome"


# Prevented operations


@pytest.mark.parametrize(("side", "verb"), list(itertools.product(BOTH, ["create", "update", "delete"])))
def test_a_prevented_operation_is_not_written_to_that_side_and_its_mirror_is(side: str, verb: str) -> None:
    world = Hard(prevents=[f"{side}.{verb}"])
    if verb == "create":
        made = {s: world.store(s).create("person", {"name": f"on the {s}"}) for s in BOTH}
        run = world.run()
        assert len(world.store(side).ids("person")) == 1
        assert len(world.store(other(side)).ids("person")) == 2
        link = world.link(**{other(side): made[other(side)]})
    else:
        world.change(prevents=[])
        pairs = [dict(zip(BOTH, world.pair_up(), strict=True)) for _ in range(2)]
        world.change(prevents=[f"{side}.{verb}"])
        for source, ids in zip(BOTH, pairs, strict=True):
            if verb == "update":
                world.store(source).put("person", ids[source], {"city": "Rome"})
            else:
                world.store(source).delete("person", ids[source])
        before = len(world.writes(other(side), verb))
        run = world.run()
        assert len(world.writes(other(side), verb)) == before + 1
        stuck = pairs[BOTH.index(other(side))]  # type: ignore[arg-type]
        link = world.link(**{side: stuck[side]})
        if verb == "update":
            assert world.value(side, stuck[side], "city") is None
            assert world.value(other(side), stuck[other(side)], "city") == "Rome"
    assert not world.writes(side, verb)
    assert link.reason == "prevented"
    assert run.counts["entities"]["person"]["skipped"] == 1
    assert "forbid" in explain(link).sentence


def test_what_was_prevented_flows_when_the_switch_is_turned() -> None:
    world = Hard(prevents=["right.create", "right.update"])
    world.left.create("person", {"name": "Ada"})
    world.run()
    world.run("comprehensive")
    assert world.written == 0
    world.change(prevents=[])
    world.run()
    assert world.names(world.right) == ["Ada"]


# Parked records


def parked() -> tuple[Hard, str]:
    world = Hard()
    bad = world.left.create("person", {"name": "Bad", "city": "x" * 41})
    world.run()
    return world, bad


def refused() -> tuple[Hard, str, str]:
    """Parked by the system itself: the e-mail is taken."""
    world = Hard()
    world.right.unique.add(("person", "email"))
    first = world.left.create("person", {"name": "First", "email": "a@example.com"})
    second = world.left.create("person", {"name": "Second", "email": "a@example.com"})
    world.run()
    return world, first, second


@pytest.mark.parametrize("place", [0, 1, 2])
def test_one_bad_record_is_parked_and_the_rest_of_its_batch_goes_on(place: int) -> None:
    world = Hard()
    for number in range(3):
        world.left.create("person", {"name": f"P{number}", "city": "x" * 41 if number == place else None})
    run = world.run()
    assert len(world.right.ids("person")) == 2
    counts = run.counts["entities"]["person"]
    assert (counts["parked"], counts["written"]["right"]["created"]) == (1, 2)


def test_a_parked_record_is_not_tried_at_each_run() -> None:
    world, _, second = refused()
    world.right.requests.clear()
    for mode in ("delta", "delta", "comprehensive", "comprehensive"):
        world.run(mode)
    assert not [r for r in world.right.requests if r.startswith("write")]
    assert world.link(left=second).reason == "parked"
    assert RecordChange.objects.filter(link__left_id=second).count() == 1


def test_a_parked_record_is_tried_when_a_person_edits_it() -> None:
    world, _, second = refused()
    world.left.put("person", second, {"email": "b@example.com"})
    world.run()
    assert world.names(world.right) == ["First", "Second"]
    assert world.link(left=second).pending is None


def test_a_parked_record_is_tried_when_its_mapping_changes() -> None:
    world, bad = parked()
    world.change_mapping("city", transform="truncate")
    world.run()
    assert world.link(left=bad).pending is None
    assert world.names(world.right) == ["Bad"]


def test_a_parked_record_is_tried_on_request() -> None:
    world, first, second = refused()
    world.right.put("person", str(world.link(left=first).right_id), {"email": None})
    world.run()  # the first is mended, but nobody has said that the second may go
    assert world.link(left=second).reason == "parked"
    links = [world.link(left=second), world.link(left=first)]
    done, left_out = decisions.many(links, lambda link: decisions.retry(link, now=world.clock.now()))
    assert (done, len(left_out)) == ([links[0]], 1)
    world.run()
    assert world.names(world.right) == ["First", "Second"]


def test_a_parked_update_keeps_both_sides_and_goes_through_once_it_fits() -> None:
    world = Hard()
    left, right = world.pair_up(city="Rome")
    world.left.put("person", left, {"city": "y" * 41})
    world.run()
    assert (world.value("right", right, "city"), world.state(left=left)[0]) == ("Rome", "parked")
    world.left.put("person", left, {"city": "Oslo"})
    world.run()
    assert (world.value("right", right, "city"), world.link(left=left).pending) == ("Oslo", None)


# Preview


def two_edits() -> tuple[Hard, str, str]:
    """One record that both sides have edited in different fields."""
    world = Hard()
    left, right = world.pair_up(city="Paris")
    world.left.put("person", left, {"city": "Rome"})
    world.right.put("person", right, {"email": "a@example.com"})
    return world, left, right


def test_a_preview_writes_to_neither_side() -> None:
    world, left, _ = two_edits()
    world.left.create("person", {"name": "New"})
    before = world.written
    world.left.requests.clear()
    world.right.requests.clear()
    run = world.run(purpose="preview")
    assert (run.phase, world.written) == (Run.Phase.PROPOSED, before)
    proposed = RecordChange.objects.filter(run=run, status="proposed")
    assert sorted(proposed.values_list("side", "verb")) == [
        ("left", "update"),
        ("right", "create"),
        ("right", "update"),
    ]
    assert not [r for r in (*world.left.requests, *world.right.requests) if r.startswith("write")]
    assert world.link(left=left).state == RecordLink.State.LINKED


def test_approval_applies_both_sides_of_a_two_sided_update() -> None:
    world, left, right = two_edits()
    run = world.run(purpose="preview")
    assert approve(run, world.clock.now()) == (2, 0)
    run = go_on(world, run)
    assert run.phase == Run.Phase.DONE
    assert world.value("right", right, "city") == "Rome"
    assert world.value("left", left, "email") == "a@example.com"
    assert run.counts["entities"]["person"]["written"]["both"]["updated"] == 1
    assert world.link(left=left).pending is None


def test_approval_applies_exactly_what_was_shown() -> None:
    world = Hard()
    for number in range(4):
        world.left.create("person", {"name": f"P{number}"})
    run = world.run(purpose="preview")
    shown = {c.key: c.after for c in RecordChange.objects.filter(run=run, status="proposed")}
    world.left.create("person", {"name": "Too late"})
    approve(run, world.clock.now())
    go_on(world, run)
    assert {w.key for w in world.writes("right")} == set(shown)
    assert world.names(world.right) == ["P0", "P1", "P2", "P3"]
    world.run()
    assert "Too late" in world.names(world.right)


def test_an_unticked_proposal_is_not_applied() -> None:
    world = Hard()
    for name in ("Yes", "No"):
        world.left.create("person", {"name": name})
    run = world.run(purpose="preview")
    no = RecordChange.objects.get(run=run, after__contains='"No"')
    assert decide_proposals(run, [no.pk], drop=True) == 1
    approve(run, world.clock.now())
    go_on(world, run)
    assert world.names(world.right) == ["Yes"]


def test_an_item_whose_record_changed_since_the_preview_goes_back_and_says_so() -> None:
    world = Hard()
    pairs = [world.pair_up(city="Paris") for _ in range(2)]
    for left, _ in pairs:
        world.left.put("person", left, {"city": "Rome"})
    run = world.run(purpose="preview")
    (_, stays_right), (moves, moves_right) = pairs
    world.left.put("person", moves, {"city": "Oslo"})
    assert approve(run, world.clock.now()) == (2, 0)  # nobody knows yet: the run reads before it writes
    run = go_on(world, run)
    assert world.value("right", stays_right, "city") == "Rome"
    assert world.value("right", moves_right, "city") == "Paris"
    back = RecordChange.objects.get(run=run, link__left_id=moves)
    assert (back.status, "changed since the preview" in back.message) == ("superseded", True)
    assert "changed since preview" in world.events()
    world.settle()
    assert world.value("right", moves_right, "city") == "Oslo"


def reread(world: Hard) -> None:
    """Let both feeds tell every record once more, as the overlap of QuickBooks' feed does."""
    world.scope.cursors.update(value='{"delta": 0}')


@pytest.mark.parametrize("policy", ["last_updated", "ask"])
def test_what_is_read_again_unchanged_after_the_approval_does_not_bounce(policy: str) -> None:
    world = Hard()
    (left, right), (other, other_right) = (world.pair_up(city="Paris") for _ in range(2))
    for one in (left, other):
        world.left.put("person", one, {"city": "Rome"})
    world.right.put("person", right, {"email": "a@example.com"})
    world.right.put("person", other_right, {"city": "Oslo"})
    world.change(policy=policy)
    run = world.run(purpose="preview")
    # Of a record that no listing told, the revision of the settings stays the older one.
    RecordLink.objects.update(settings_revision=0)
    before = world.state(left=other)
    assert approve(run, world.clock.now())[1] == 0
    reread(world)
    run = go_on(world, run)
    assert not RecordChange.objects.filter(run=run, status="superseded").exists()
    assert world.value("right", right, "city") == "Rome"
    assert world.value("left", left, "email") == "a@example.com"
    if policy == "ask":
        assert world.state(left=other) == before, "what is in conflict stays in conflict"


def test_a_second_preview_of_a_first_run_reads_by_the_settings_of_now() -> None:
    world = Hard()
    world.left.create("person", {"name": "Ada", "email": "Ada@Example.com"})
    world.run(purpose="preview")
    world.change_mapping("email", transform="lower")
    run = world.run(purpose="preview")
    assert run.mode == Run.Mode.COMPREHENSIVE
    change = RecordChange.objects.get(run=run, status="proposed")
    assert '"ada@example.com"' in change.after
    assert approve(run, world.clock.now()) == (1, 0)
    reread(world)
    go_on(world, run)
    assert world.names(world.right) == ["Ada"]


def test_approving_what_a_run_has_written_meanwhile_bounces_all_of_it_and_writes_nothing() -> None:
    world, _, _ = two_edits()
    run = world.run(purpose="preview")
    world.run()
    before = world.written
    assert approve(run, world.clock.now()) == (0, 2)
    go_on(world, run)
    assert world.written == before
    assert set(RecordChange.objects.filter(run=run).values_list("status", flat=True)) == {"superseded"}


def test_a_preview_older_than_an_hour_is_not_applied() -> None:
    world, left, right = two_edits()
    run = world.run(purpose="preview")
    world.clock.sleep(3700)
    with pytest.raises(ValueError, match="older than an hour"):
        approve(run, world.clock.now())
    assert world.value("right", right, "city") == "Paris"
    assert world.value("left", left, "email") is None


def test_a_preview_does_not_block_a_run() -> None:
    world, left, right = two_edits()
    world.run(purpose="preview")
    world.run()
    assert world.value("right", right, "city") == "Rome"
    assert world.value("left", left, "email") == "a@example.com"
