"""Do records that stand still for one cause come together, and does one fix let all of them go on?"""

from __future__ import annotations

from importlib import import_module

import pytest
from django.apps import apps
from django.db import connection as database
from django.db.models import QuerySet
from django.test.utils import CaptureQueriesContext

from connectors.contract import Field, Kind, Option
from connectors.memory.store import entity
from connectors.models import Event, FieldMapping, PicklistMapping, ProblemGroup, RecordChange, RecordLink, Run
from connectors.sync import problems as kept
from connectors.sync.plan import Pending
from connectors.sync.problems import NotMended, Stale, hint_of, key_of, title_of
from connectors.sync.retrying import How
from connectors.sync.run import advance, start_run
from jobs import clock, problems
from jobs.models import Job
from jobs.retries import ErrorClass, fingerprint
from jobs.states import Actor, StatusReason
from jobs.syncing import NotNow
from jobs.worker import run_here
from tests.sync.worlds import TwoSystems

pytestmark = pytest.mark.django_db(transaction=True)
KIND = Field("kind", Kind.OPTION)
FIELDS = tuple(entity().fields)


def listed() -> TwoSystems:
    """Two systems with a picklist, of which two options are paired and the left one's "Partner" is not."""
    both = {side: entity("person", *FIELDS, KIND) for side in ("left_entity", "right_entity")}
    world = TwoSystems(**both)
    mapping = FieldMapping.objects.create(entity_sync=world.sync, position=9, left="kind", right="kind")
    for left, right in (("a", "1"), ("b", "2")):
        PicklistMapping.objects.create(
            field_mapping=mapping,
            left_key=left,
            left_label=left.upper(),
            right_key=right,
            right_label=right,
            token=right,
        )
    world.left.options = {("person", "kind"): [Option("a", "A"), Option("b", "B"), Option("z", "Partner")]}
    world.right.options = {("person", "kind"): [Option("1", "One"), Option("2", "Two"), Option("3", "Reseller")]}
    return world


def parked(count: int = 5) -> TwoSystems:
    """So many records that are parked for the same missing option, and one that is not."""
    world = listed()
    for number in range(count):
        world.left.create("person", {"name": f"Odd {number}", "kind": "z"})
    world.left.create("person", {"name": "Even", "kind": "b"})
    world.run()
    return world


def still_open() -> QuerySet[ProblemGroup]:
    return problems.still_open(problems.groups())


def group() -> ProblemGroup:
    return still_open().get()


def carry_out(job: Job) -> Run:
    """What the worker does with the job, in this process."""
    run_here(job)
    run = Run.objects.latest("id")
    job.refresh_from_db()
    assert job.status is StatusReason.SUCCEEDED, job.error_message
    return run


# Groups


def test_records_parked_for_one_missing_option_are_one_group() -> None:
    parked(5)
    one = group()
    assert (one.count, one.reason, one.code, one.field, one.side, one.option) == (
        5,
        "parked",
        "no option",
        "kind",
        "right",
        "z",
    )
    assert "'Partner' has no partner in kind on the right" in title_of(one)
    assert "All records of this group are then read and written again" in hint_of(one)
    assert set(RecordLink.objects.filter(problem=one.key).values_list("pending", flat=True)) == {Pending.PARKED}


def test_another_option_is_another_group() -> None:
    world = parked(2)
    world.left.create("person", {"name": "Other", "kind": "y"})
    world.run()
    assert sorted((g.option, g.count) for g in still_open()) == [("y", 1), ("z", 2)]


def test_long_keys_do_not_fall_together() -> None:
    long = "new_a_very_long_name_of_a_column_of_dataverse"
    one, other = (key_of(12, "r", "no option", long, option) for option in ("a", "b"))
    assert one != other
    assert max(len(one), len(other)) == 40


def test_conflicts_doubts_and_merges_have_groups_of_their_own(world_of_conflicts: TwoSystems) -> None:
    found = {g.reason: (g.count, title_of(g)) for g in still_open()}
    assert found == {
        "conflict": (1, "Changed on both sides"),
        "ambiguous": (3, "Could be the same as another record"),
    }


@pytest.fixture
def world_of_conflicts(db: None) -> TwoSystems:
    world = TwoSystems(policy="ask")
    left = world.left.create("person", {"name": "Ada", "city": "Paris"})
    world.settle()
    right = RecordLink.objects.get().right_id
    world.left.put("person", left, {"city": "Rome"})
    world.right.put("person", right, {"city": "Oslo"})
    world.left.create("person", {"name": "Grace"})
    for _ in range(2):
        world.right.create("person", {"name": "Grace"})
    world.run()
    return world


def test_what_goes_on_is_no_longer_counted_and_an_empty_group_is_resolved() -> None:
    world = parked(3)
    for link in RecordLink.objects.filter(pending=Pending.PARKED):
        world.left.put("person", link.left_id, {"kind": "a"})
    world.run()
    assert not still_open()
    one = problems.resolved(problems.groups()).get()
    assert (one.count, one.resolved_by) == (0, "")
    assert problems.state_of(one, clock.now()).why == "Nothing of it is left."


def test_a_resolved_group_comes_back_when_its_cause_is_met_again() -> None:
    world = parked(1)
    problems.resolve(group(), by="ada")
    assert not still_open()
    assert problems.resolved(problems.groups()).get().resolved_by == "ada"
    world.run()  # nothing new of it
    assert not still_open()
    world.left.create("person", {"name": "Odd again", "kind": "z"})
    world.run()
    assert (group().count, problems.state_of(group(), clock.now()).word) == (2, "Came back")


def test_a_stale_page_resolves_nothing() -> None:
    world = parked(1)
    seen = group()
    world.left.create("person", {"name": "Odd again", "kind": "z"})
    world.run()
    with pytest.raises(Stale, match="met again"):
        problems.resolve(seen, by="ada")
    assert group().count == 2


def test_listing_costs_the_same_with_many_records_and_reads_an_index() -> None:
    parked(3)

    def cost() -> tuple[int, str]:
        with CaptureQueriesContext(database) as queries:
            assert [g.count for g in still_open()]
        return len(queries), queries[-1]["sql"]

    few, sql = cost()
    first = RecordLink.objects.filter(pending=Pending.PARKED).first()
    assert first is not None
    rows = [RecordLink(**{**_columns(first), "key": f"more {n}", "left_id": f"more {n}"}) for n in range(300)]
    RecordLink.objects.bulk_create(rows)
    assert cost()[0] == few == 1
    assert group().count == 303
    if database.vendor == "sqlite":
        with database.cursor() as cursor:
            cursor.execute("EXPLAIN QUERY PLAN " + sql)
            plan = " ".join(str(row) for row in cursor.fetchall())
        assert "link_problem" in plan
        assert "SCAN connectors_recordlink" not in plan


def _columns(link: RecordLink) -> dict[str, object]:
    return {f.attname: getattr(link, f.attname) for f in RecordLink._meta.concrete_fields if not f.primary_key}


def test_counts_stop_at_ten_thousand(monkeypatch: pytest.MonkeyPatch) -> None:
    parked(5)
    monkeypatch.setattr(kept, "MOST_COUNTED", 3)
    assert group().count == 4


# One fix


def test_mapping_the_option_in_place_clears_the_whole_group_in_one_job() -> None:
    world = parked(50)
    revision = world.integration.revision
    written = len(world.right.journal)
    answer = problems.map_option(group(), "3", by="ada")
    [job] = answer.jobs
    run = carry_out(job)
    assert not RecordLink.objects.filter(pending__isnull=False).exists()
    assert {kept_.values["kind"] for kept_ in world.right.tables["person"].values()} == {"2", "3"}
    assert len(world.right.journal) - written == 50
    assert Job.objects.count() == 1
    assert (run.mode, run.progress["retry"]["count"]) == ("delta", 50)
    world.integration.refresh_from_db()
    assert world.integration.revision == revision + 1
    assert not still_open()
    assert Event.objects.get(code="option mapped").message == "person: kind>kind: Partner means Reseller."


def test_an_option_may_share_a_partner_and_the_first_is_written_back() -> None:
    world = parked(1)
    carry_out(problems.map_option(group(), "2", by="ada").jobs[0])
    partner = RecordLink.objects.get(left_id="1").right_id
    assert world.right.tables["person"][partner].values["kind"] == "2"
    world.run("comprehensive")
    assert world.left.tables["person"]["1"].values["kind"] == "z"


def test_an_option_of_the_right_is_mapped_the_other_way_round() -> None:
    world = listed()
    world.right.create("person", {"name": "Odd", "kind": "3"})
    world.run()
    found = problems.missing(group())
    assert found is not None
    assert (found.side, found.label, [o.key for o in found.choices]) == ("right", "Reseller", ["a", "b", "z"])
    carry_out(problems.map_option(group(), "z", by="ada").jobs[0])
    assert [kept_.values["kind"] for kept_ in world.left.tables["person"].values()] == ["z"]


@pytest.mark.parametrize("chosen", ["", "9", "z"])
def test_an_option_that_does_not_exist_is_refused(chosen: str) -> None:
    parked(1)
    with pytest.raises(NotMended, match="Choose one of the options"):
        problems.map_option(group(), chosen, by="ada")
    assert PicklistMapping.objects.count() == 2
    assert not Job.objects.exists()


def test_an_option_is_mapped_once() -> None:
    parked(1)
    seen = group()
    problems.map_option(seen, "3", by="ada")
    with pytest.raises(NotMended, match="mapped meanwhile"):
        problems.map_option(seen, "2", by="grace")


def test_a_double_click_makes_one_job() -> None:
    parked(2)
    jobs = {problems.retry(group(), How.REREAD, by="ada").jobs[0].pk for _ in range(2)}
    assert len(jobs) == Job.objects.count() == 1


def test_a_switched_off_integration_retries_nothing() -> None:
    world = parked(1)
    type(world.integration).objects.update(enabled=False)
    with pytest.raises(NotNow, match="switched off"):
        problems.retry(group(), How.PLAN, by="ada")


# The three ways


def test_planning_again_takes_what_is_known_and_reads_no_record() -> None:
    world = parked(2)
    PicklistMapping.objects.create(
        field_mapping=FieldMapping.objects.get(left="kind"), left_key="z", left_label="Partner", right_key="3",
        right_label="Reseller", token="3",
    )  # fmt: skip
    run = carry_out(problems.retry(group(), How.PLAN, by="ada").jobs[0])
    assert group().count == 2  # what lies staged was read by the old mapping
    assert run.progress["retry"]["count"] == 2
    assert world.names(world.right) == ["Even"]


def test_reading_again_reads_both_records_and_writes_what_is_there_now() -> None:
    world = parked(2)
    PicklistMapping.objects.create(
        field_mapping=FieldMapping.objects.get(left="kind"), left_key="z", left_label="Partner", right_key="3",
        right_label="Reseller", token="3",
    )  # fmt: skip
    carry_out(problems.retry(group(), How.REREAD, by="ada").jobs[0])
    assert world.names(world.right) == ["Even", "Odd 0", "Odd 1"]
    assert not still_open()


def test_what_was_never_sent_is_not_repeated_blindly() -> None:
    world = parked(1)
    carry_out(problems.retry(group(), How.SAME, by="ada").jobs[0])
    link = RecordLink.objects.get(pending=Pending.PARKED)
    assert (
        RecordChange.objects.filter(link=link, status="rejected").count() == 2
    )  # tried, and refused for the same cause
    assert world.names(world.right) == ["Even"]


def in_the_way(*, update: bool = False) -> TwoSystems:
    """A write that the right side refused: another record has this e-mail address."""
    world = TwoSystems()
    world.right.unique.add(("person", "email"))
    left = world.left.create("person", {"name": "Ada", "city": "Paris", **({} if update else {"email": "a@b.c"})})
    if update:
        world.settle()
        world.left.put("person", left, {"email": "a@b.c"})
    # Made in the other system meanwhile: nobody tells us of it before the write.
    world.right.create("person", {"name": "Grace", "email": "a@b.c"})
    world.run()
    assert group().code == "duplicate"
    return world


@pytest.mark.parametrize("update", [False, True])
def test_retry_as_it_was_repeats_the_refused_write_under_a_new_key(update: bool) -> None:
    world = in_the_way(update=update)
    grace = next(k.id for k in world.right.tables["person"].values() if k.values["name"] == "Grace")
    world.right.tables["person"][grace].values["email"] = "g@b.c"  # mended there, and no feed tells of it
    before = len(world.right.journal)
    carry_out(problems.retry(group(), How.SAME, by="ada").jobs[0])
    [written] = world.right.journal[before:]
    changes = RecordChange.objects.filter(link__left_id="1", side="right").order_by("id")
    old, new = changes.exclude(status="written", verb="create" if update else "")[:2]
    assert (old.status, new.status) == ("rejected", "written")
    assert old.after == new.after
    assert written.key == new.key != old.key
    assert written.verb == ("update" if update else "create")
    assert not still_open().filter(reason="parked")


def test_retry_as_it_was_makes_nothing_twice_that_is_there_by_now() -> None:
    world = in_the_way()
    grace = next(k for k in world.right.tables["person"].values() if k.values["name"] == "Grace")
    grace.values["email"] = "g@b.c"
    made = world.right.create("person", {"name": "Ada"})
    world.right.log = [line for line in world.right.log if line[2] != made]  # the feed is late
    carry_out(problems.retry(group(), How.SAME, by="ada").jobs[0])
    link = RecordLink.objects.get(left_id="1")
    assert (link.pending, link.right_id) == (Pending.PARKED, None)
    assert f"person {made} has the same name by now. Read again and plan again." in link.args
    assert world.names(world.right) == ["Ada", "Grace"]


def test_retry_as_it_was_leaves_what_the_settings_forbid_by_now() -> None:
    world = in_the_way()
    type(world.sync).objects.update(prevents=["right.create"])
    carry_out(problems.retry(group(), How.SAME, by="ada").jobs[0])
    assert "The settings forbid this write by now." in RecordLink.objects.get(left_id="1").args


def test_a_record_that_changed_meanwhile_is_planned_anew_and_not_repeated() -> None:
    world = in_the_way()
    world.left.put("person", "1", {"email": "new@b.c"})
    carry_out(problems.retry(group(), How.SAME, by="ada").jobs[0])
    assert {k.values.get("email") for k in world.right.tables["person"].values()} == {"a@b.c", "new@b.c"}


def test_conflicts_cannot_be_retried(world_of_conflicts: TwoSystems) -> None:
    one = still_open().get(reason="conflict")
    assert not problems.retryable(one)
    with pytest.raises(NotNow, match="No record of this group is left"):
        problems.retry(one, How.PLAN, by="ada")


def test_a_run_that_is_cut_into_slices_tries_each_record_once() -> None:
    world = parked(450)
    asked = {"problem": group().key, "how": "reread"}
    run = start_run(world.scope, world.world, retry=asked)
    world.scope.refresh_from_db()
    slices = 1
    while not advance(run, world.world, slice_over=lambda: True):
        slices += 1
    run.refresh_from_db()
    assert slices > 3
    assert (run.progress["retry"]["count"], run.progress["retry"]["done"]) == (450, True)
    assert RecordChange.objects.filter(run=run, status="rejected").count() == 450


# Jobs


def failed(world: TwoSystems, message: str = "Job 17 was refused", **columns: object) -> Job:
    job = Job.objects.create(
        type="sync", scope=world.scope, run_at=clock.now(), created_at=clock.now(),
        status_reason=StatusReason.IN_PROGRESS, **columns,
    )  # fmt: skip
    job.move_to(
        StatusReason.FAILED, actor=Actor.WORKER, error_class="business", error_code="610", error_message=message,
        fingerprint=fingerprint("sync", ErrorClass.BUSINESS, "610", message),
    )  # fmt: skip
    return job


def test_failed_jobs_that_look_alike_are_one_group_with_a_retry() -> None:
    world = TwoSystems()
    jobs = [failed(world, f"Job {n} was refused") for n in (1, 2)]
    failed(world, "Something else")
    found = {g.message: g.count for g in still_open()}
    assert found == {"Job 2 was refused": 2, "Something else": 1}
    one = still_open().get(message="Job 2 was refused")
    assert (one.kind, one.integration, one.code) == ("jobs", world.integration, "610")
    answer = problems.retry(one, How.PLAN, by="ada")
    assert {job.pk for job in answer.jobs} == {job.pk for job in jobs}
    assert still_open().get().message == "Something else"


def test_a_failed_job_whose_work_a_later_one_has_done_is_no_problem() -> None:
    world = TwoSystems()
    failed(world)
    assert group().count == 1
    Job.objects.create(
        type="sync", scope=world.scope, run_at=clock.now(), created_at=clock.now(), status_reason=StatusReason.SUCCEEDED
    )
    assert not still_open()


def test_a_resolved_failure_comes_back_with_the_next_one() -> None:
    world = TwoSystems()
    failed(world)
    problems.resolve(group(), by="ada")
    assert not still_open()
    failed(world)
    assert problems.state_of(group(), clock.now()).word == "Came back"


def test_what_stood_still_before_groups_were_kept_gets_its_group() -> None:
    parked(3)
    before = set(RecordLink.objects.filter(pending=Pending.PARKED).values_list("problem", flat=True))
    RecordLink.objects.update(problem=None)
    ProblemGroup.objects.all().delete()
    migration = import_module("connectors.migrations.0011_problems_of_links")
    migration.group(apps, None)
    assert (group().count, group().code, {group().key}) == (3, "no option", before)
    migration.ungroup(apps, None)
    assert not ProblemGroup.objects.exists()
