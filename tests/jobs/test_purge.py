"""What goes when it is old, what never goes, and does anybody wait for it?"""

from __future__ import annotations

import io
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from connectors.models import ApiCall, Event, RecordChange, RecordLink, Run, Scope
from jobs import clock
from jobs.housekeeping import purge
from jobs.housekeeping.tick import ask_for_purge
from jobs.models import Job, JobTransition
from jobs.states import StatusReason
from jobs.worker import run_in_process
from tests.sync.worlds import TwoSystems

pytestmark = pytest.mark.django_db(transaction=True)
S = StatusReason
DAY = timedelta(days=1)


@pytest.fixture
def world():
    return TwoSystems()


def ago(days):
    return clock.now() - days * DAY


def calls(world, count, days, body=""):
    left = world.integration.left
    ApiCall.objects.bulk_create(
        ApiCall(connection=left, at=ago(days), method="GET", path="/x", body=body) for _ in range(count)
    )


def run(world, days, phase="done", **columns):
    done = None if phase == "push" else ago(days)
    return Run.objects.create(
        integration=world.integration, scope=world.scope, phase=phase, started_at=ago(days), finished_at=done, **columns
    )


def changes(world, run, count, status="written", **columns):
    if not RecordLink.objects.exists():
        RecordLink.objects.create(
            key="k",
            integration=world.integration,
            entity_sync=world.sync,
            family="person",
            scope=world.scope,
            left_id="1",
        )
    link = RecordLink.objects.get()
    base = RecordChange.objects.count()
    RecordChange.objects.bulk_create(
        RecordChange(
            run=run, link=link, entity_sync=world.sync, side="left", verb="update", status=status, key=f"c{base + n}",
            at=run.started_at, **columns,
        )
        for n in range(count)
    )  # fmt: skip


def job(status, days, **columns):
    done = None if status in (S.WAITING, S.RETRY) else ago(days)
    ready = ago(days) if done is None else None
    found = Job.objects.create(
        type=columns.pop("type", "sync"), status_reason=status, run_at=ago(days), ready_at=ready, created_at=ago(days),
        finished_at=done, **columns,
    )  # fmt: skip
    JobTransition.objects.create(job=found, to_status=status, actor="worker", at=ago(days))
    return found


def purged():
    for _ in purge.blocks(clock.now()):
        pass


def test_each_table_has_its_age(world, settings):
    settings.KEEP_DAYS = {**settings.KEEP_DAYS, "bodies": 2}
    calls(world, 1, 15)
    calls(world, 1, 13)
    calls(world, 1, 3, body="> {}")
    calls(world, 1, 1, body="> {}")
    Event.objects.create(integration=world.integration, code="old", message="", at=ago(91))
    Event.objects.create(integration=world.integration, code="new", message="", at=ago(89))
    purged()
    assert list(ApiCall.objects.order_by("id").values_list("body", flat=True)) == ["", "", "> {}"]
    assert [e.code for e in Event.objects.all()] == ["new"]


def test_the_last_run_of_a_scope_stays_however_old_it_is(world):
    other = Scope.objects.create(integration=world.integration, left_key="b", right_key="b")
    kept = Run.objects.create(integration=world.integration, scope=other, started_at=ago(500), finished_at=ago(500))
    first, last = run(world, 400), run(world, 300)
    changes(world, first, 3)
    changes(world, last, 3)
    purged()
    assert set(Run.objects.all()) == {kept, last}
    assert set(RecordChange.objects.values_list("run", flat=True)) == {last.pk}
    assert RecordLink.objects.exists()  # what both sides agreed on is never purged


def test_changes_of_open_previews_and_unsettled_writes_stay(world, settings):
    settings.KEEP_DAYS = {**settings.KEEP_DAYS, "runs": 1}
    preview = run(world, 6, phase="proposed", purpose="check")
    stale = run(world, 8, phase="proposed", purpose="check")
    unknown = run(world, 50)
    unfinished = run(world, 50, phase="push")
    for each, status, is_open in ((preview, "proposed", None), (stale, "proposed", None), (unknown, "unknown", 3)):
        changes(world, each, 1, status, open=is_open)
    run(world, 0)
    purged()
    assert {preview, unknown, unfinished} < set(Run.objects.all())
    assert stale not in Run.objects.all()
    assert set(RecordChange.objects.values_list("run", flat=True)) == {preview.pk, unknown.pk}


def test_what_was_undone_may_go_before_what_undid_it(world):
    done, undo = run(world, 100), run(world, 50)
    changes(world, done, 2)
    first = RecordChange.objects.order_by("id").first()
    changes(world, undo, 1, undoes=first)
    purged()
    assert [c.undoes_id for c in RecordChange.objects.all()] == [None]


def test_an_unresolved_failed_job_never_goes(world):
    unresolved = job(S.FAILED, 900, scope=world.scope)
    other = job(S.FAILED, 900, type="mail", dedupe_key="mail:1")
    job(S.SUCCEEDED, 901, scope=world.scope)  # before it: that resolves nothing
    job(S.SUCCEEDED, 800, type="mail", dedupe_key="mail:2")
    purged()
    assert set(Job.objects.all()) == {unresolved, other}


def test_a_failed_job_goes_once_the_same_has_succeeded(world):
    job(S.FAILED, 200, scope=world.scope)
    job(S.SUCCEEDED, 150, scope=world.scope)
    job(S.FAILED, 200, type="mail", dedupe_key="mail:1")
    job(S.SUCCEEDED, 199, type="mail", dedupe_key="mail:1")
    purged()
    assert not Job.objects.exists()
    assert not JobTransition.objects.exists()  # they go with their jobs


def test_finished_jobs_go_and_open_ones_stay(world):
    parent = job(S.SUCCEEDED, 100)
    waiting, retry = job(S.WAITING, 100, parent=parent), job(S.RETRY, 100)
    job(S.CANCELLED, 91)
    job(S.NOT_APPLICABLE, 91)
    recent = job(S.SUCCEEDED, 89)
    purged()
    assert set(Job.objects.all()) == {waiting, retry, recent}
    assert JobTransition.objects.count() == 3


def test_counting_deletes_nothing_and_says_what_would_go(world):
    calls(world, 7, 20)
    out = io.StringIO()
    call_command("purge", stdout=out)
    assert "7  API calls, older than 14 days" in out.getvalue() and "Nothing was deleted" in out.getvalue()
    assert ApiCall.objects.count() == 7
    call_command("purge", "--yes", stdout=out)
    assert ApiCall.objects.count() == 0
    assert out.getvalue().count("7  API calls") == 2


def test_a_hundred_thousand_rows_cost_statements_by_the_block(world):
    calls(world, 60_000, 20)
    calls(world, 10, 1)
    old = run(world, 100)
    run(world, 1)
    changes(world, old, 40_000)
    with CaptureQueriesContext(connection) as seen:
        purged()
    assert (ApiCall.objects.count(), RecordChange.objects.count()) == (10, 0)
    blocks = 100_000 // purge.BLOCK
    assert len(seen) < 6 * blocks
    # No transaction holds the one writer for more than a block.
    open_for, longest = 0, 0
    for query in seen.captured_queries:
        open_for = 0 if query["sql"].startswith(("BEGIN", "COMMIT")) else open_for + query["sql"].startswith("DELETE")
        longest = max(longest, open_for)
    assert longest == 1


def test_the_daily_job_works_in_slices_and_adds_them_up(world, settings):
    settings.JOB_SLICE_SECONDS = 0
    calls(world, 1200, 20)
    asked = ask_for_purge(clock.now())
    assert ask_for_purge(clock.now()) is None
    done = run_in_process(asked)
    assert done.status is S.SUCCEEDED and done.slices >= 3
    assert done.results["removed"] == {"API calls": 1200}
    assert ask_for_purge(clock.now()) is None  # once a day
    assert ask_for_purge(clock.now() + DAY) is not None
