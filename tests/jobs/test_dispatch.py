"""How does a job come into being, and which one is handed out next?"""

from datetime import timedelta

import pytest
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext

from connectors.models import Connection, Integration, Scope
from jobs import clock, dispatch, handlers, operate
from jobs.models import Job, Pause
from jobs.states import IllegalTransition, Priority, StatusReason
from tests.jobs.conftest import deliveries

pytestmark = pytest.mark.django_db
S = StatusReason
PERSON = Priority.PERSON


def asked(**changes):
    return dispatch.request("probe", **changes)


def scope(name="one"):
    left = Connection.objects.create(system="memory", name=f"{name} left")
    right = Connection.objects.create(system="memory", name=f"{name} right")
    integration = Integration.objects.create(name=name, left=left, right=right)
    return Scope.objects.create(integration=integration)


def handed_out(capture):
    with capture(execute=True):
        given = dispatch.hand_out()
    assert [(task, args[0]) for task, args in deliveries()] == [("jobs.tasks.run", job.pk) for job in given]
    return [job.pk for job in given]


@pytest.fixture
def hand_out(django_capture_on_commit_callbacks):
    return lambda: handed_out(django_capture_on_commit_callbacks)


def test_an_unknown_type_is_refused_with_those_that_there_are():
    with pytest.raises(handlers.UnknownType, match="probe"):
        dispatch.request("nonsense")


def test_a_new_job_waits_and_its_timeline_begins(at):
    job = asked(by="ada")
    assert job.status is S.WAITING
    assert job.ready_at == job.run_at == clock.now()
    assert [(t.from_status, t.to_status, t.actor, t.by) for t in job.transitions.all()] == [
        ("", "waiting", "producer", "ada")
    ]


def test_without_living_workers_nothing_is_handed_out(hand_out):
    asked()
    assert hand_out() == []


def test_workers_that_were_not_seen_lately_do_not_count(at, workers, hand_out, settings):
    workers(4)
    asked()
    from jobs.models import WorkerHeartbeat

    WorkerHeartbeat.objects.update(seen_at=clock.now() - timedelta(seconds=3 * settings.WORKER_BEAT_SECONDS + 1))
    assert hand_out() == []


def test_no_more_jobs_are_handed_out_than_there_are_free_workers(workers, hand_out):
    workers(1)
    first, second = asked(), asked()
    assert hand_out() == [first.pk]
    assert hand_out() == []
    second.refresh_from_db()
    assert second.status is S.WAITING


def test_one_worker_is_kept_for_peoples_clicks(workers, hand_out):
    workers(3)
    scheduled = [asked() for _ in range(5)]
    assert hand_out() == [scheduled[0].pk, scheduled[1].pk]
    click = asked(priority=PERSON)
    assert hand_out() == [click.pk]


def test_at_one_worker_nothing_is_kept(workers, hand_out):
    workers(1)
    job = asked()
    assert hand_out() == [job.pk]


def test_a_click_on_the_kept_worker_does_not_keep_another_one(workers, hand_out):
    workers(2)
    click, scheduled = asked(priority=PERSON), asked()
    assert hand_out() == [click.pk, scheduled.pk]


def test_people_go_first_then_the_longest_due(workers, hand_out, at):
    workers(10)
    old = asked(run_at=clock.now() - timedelta(hours=2))
    older = asked(run_at=clock.now() - timedelta(hours=3))
    later = asked(run_at=clock.now() + timedelta(seconds=1))
    click = asked(priority=PERSON)
    assert hand_out() == [click.pk, older.pk, old.pk]
    at(timedelta(seconds=1))
    assert hand_out() == [later.pk]


def test_a_persons_request_is_tried_at_once_on_commit(workers, django_capture_on_commit_callbacks):
    workers(2)
    with django_capture_on_commit_callbacks(execute=True):
        job = asked(priority=PERSON)
    job.refresh_from_db()
    assert job.status is S.DISPATCHED
    assert deliveries() == [("jobs.tasks.run", (job.pk, job.dispatch_token))]


def test_a_schedules_request_waits_for_the_loop(workers, django_capture_on_commit_callbacks):
    workers(2)
    with django_capture_on_commit_callbacks(execute=True):
        job = asked()
    job.refresh_from_db()
    assert job.status is S.WAITING


# Dedupe key


def test_the_open_job_with_the_key_is_returned():
    first = asked(dedupe_key="k")
    assert asked(dedupe_key="k") == first
    assert Job.objects.count() == 1
    first.refresh_from_db()
    assert not first.again


@pytest.mark.parametrize("status", [S.SUCCEEDED, S.FAILED, S.NOT_APPLICABLE, S.CANCELLED])
def test_a_finished_job_gives_its_key_free(status):
    first = asked(dedupe_key="k")
    Job.objects.filter(pk=first.pk).update(status_reason=status, ready_at=None)
    assert asked(dedupe_key="k") != first


def test_the_database_holds_one_open_job_for_a_key():
    first = asked(dedupe_key="k")
    with pytest.raises(IntegrityError), transaction.atomic():
        Job.objects.create(type="probe", dedupe_key="k", run_at=first.run_at, created_at=first.run_at)


@pytest.mark.parametrize(("status", "again"), [(S.DISPATCHED, False), (S.IN_PROGRESS, True), (S.RETRY, True)])
def test_a_trigger_during_a_run_asks_for_one_more(status, again):
    first = asked(dedupe_key="k")
    Job.objects.filter(pk=first.pk).update(status_reason=status)
    assert asked(dedupe_key="k") == first
    assert asked(dedupe_key="k") == first
    first.refresh_from_db()
    assert first.again is again


def test_a_trigger_between_two_slices_asks_for_one_more():
    first = asked(dedupe_key="k")
    Job.objects.filter(pk=first.pk).update(slices=1)
    assert asked(dedupe_key="k").again


def test_an_earlier_request_brings_a_waiting_job_forward(at):
    first = asked(dedupe_key="k", run_at=clock.now() + timedelta(hours=1))
    joined = asked(dedupe_key="k", priority=PERSON)
    assert joined == first
    assert joined.run_at == joined.ready_at == clock.now()
    assert joined.priority == PERSON


def test_a_trigger_does_not_bring_a_retry_forward(at):
    later = clock.now() + timedelta(hours=1)
    first = asked(dedupe_key="k")
    Job.objects.filter(pk=first.pk).update(status_reason=S.RETRY, run_at=later, ready_at=later)
    assert asked(dedupe_key="k", priority=PERSON).run_at == later


# Lock key


def test_only_one_job_of_a_lock_key_runs(workers, hand_out):
    workers(10)
    first, second, other = asked(lock_key="a"), asked(lock_key="a"), asked(lock_key="b")
    assert hand_out() == [first.pk, other.pk]
    assert hand_out() == []
    second.refresh_from_db()
    assert second.status is S.WAITING


def test_many_jobs_of_one_lock_do_not_hold_up_the_others(workers, hand_out):
    workers(3)
    for _ in range(200):
        asked(lock_key="a")
    other = asked(lock_key="b")
    given = hand_out() + hand_out()
    assert other.pk in given
    assert len(given) == 2


def test_the_database_holds_one_running_job_for_a_lock():
    first, second = asked(lock_key="a"), asked(lock_key="a")
    dispatch.take(first)
    with pytest.raises(IllegalTransition, match="under the lock a"):
        dispatch.take(second)
    second.refresh_from_db()
    assert second.status is S.WAITING


# Pauses


def test_a_pause_of_the_hub_holds_everything(workers, hand_out):
    workers(2)
    job = asked(priority=PERSON)
    pause = Pause.objects.create(kind="hub", reason="migration")
    assert hand_out() == []
    pause.delete()
    assert hand_out() == [job.pk]


def test_a_pause_of_a_type_holds_that_type(workers, hand_out):
    workers(4)
    asked()
    charge = dispatch.request("charge")
    Pause.objects.create(kind="type", job_type="probe", reason="it misbehaves")
    assert hand_out() == [charge.pk]


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_pause_of_a_connection_holds_the_jobs_that_use_it(workers, hand_out, side):
    workers(9)
    paused, free = scope("one"), scope("two")
    asked(scope=paused)
    others = [asked(scope=free), asked()]
    Pause.objects.create(kind="connection", connection=getattr(paused.integration, side), reason="vendor is down")
    assert hand_out() == [job.pk for job in others]


@pytest.mark.parametrize(
    "state", [Connection.State.NEEDS_RECONNECT, Connection.State.WRONG_INSTANCE, Connection.State.PAUSED]
)
def test_jobs_of_an_unusable_connection_wait_for_a_person(workers, hand_out, state):
    workers(2)
    of = scope()
    job = asked(scope=of)
    Connection.objects.filter(pk=of.integration.right_id).update(state=state)
    assert hand_out() == []
    Connection.objects.filter(pk=of.integration.right_id).update(state=Connection.State.CONNECTED)
    assert hand_out() == [job.pk]


def test_a_pause_names_exactly_what_it_stops():
    with pytest.raises(IntegrityError), transaction.atomic():
        Pause.objects.create(kind="type", reason="no type given")


# Cost


def test_an_idle_tick_is_one_query(workers, django_assert_num_queries):
    workers(4)
    asked(run_at=clock.now() + timedelta(hours=1))
    with django_assert_num_queries(1):
        assert dispatch.hand_out() == []


def test_a_tick_costs_the_same_however_many_jobs_wait(workers):
    workers(1)
    dispatch.take(asked(lock_key="running"))
    now, cost = clock.now(), []
    for count in (1, 500):
        Job.objects.bulk_create(
            Job(type="probe", run_at=now, ready_at=now, created_at=now, lock_key="running") for _ in range(count)
        )
        workers(3)
        with CaptureQueriesContext(connection) as queries:
            assert dispatch.hand_out() == []
        cost.append(len(queries))
    assert cost[0] == cost[1] <= 9


# Operators


def test_cancel_needs_a_reason():
    with pytest.raises(ValueError, match="why"):
        operate.cancel(asked(), by="ada", reason=" ")


@pytest.mark.parametrize("status", [S.WAITING, S.DISPATCHED, S.RETRY])
def test_a_job_that_does_not_run_is_cancelled_at_once(status):
    job = asked()
    Job.objects.filter(pk=job.pk).update(status_reason=status)
    assert operate.cancel(job, by="ada", reason="not needed")
    job.refresh_from_db()
    assert (job.status, job.cancel_by, job.cancel_reason) == (S.CANCELLED, "ada", "not needed")
    assert job.finished_at is not None


@pytest.mark.parametrize("status", [S.SUCCEEDED, S.FAILED, S.NOT_APPLICABLE, S.CANCELLED])
def test_a_finished_job_is_not_cancelled(status):
    job = asked()
    Job.objects.filter(pk=job.pk).update(status_reason=status)
    with pytest.raises(IllegalTransition, match="already"):
        operate.cancel(job, by="ada", reason="x")


@pytest.mark.parametrize("status", [S.FAILED, S.CANCELLED])
def test_retry_begins_a_new_round(status, at):
    job = asked()
    Job.objects.filter(pk=job.pk).update(
        status_reason=status, ready_at=None, attempt=6, lost_leases=2, error_message="x", cancel_requested=True
    )
    job.refresh_from_db()
    operate.retry(job, by="ada", reason="fixed")
    assert (job.status, job.attempt, job.round, job.lost_leases) == (S.WAITING, 0, 1, 0)
    assert (job.error_message, job.cancel_requested, job.ready_at) == ("", False, clock.now())


def test_a_retry_is_refused_while_another_job_has_the_key():
    old = asked(dedupe_key="k")
    Job.objects.filter(pk=old.pk).update(status_reason=S.FAILED, ready_at=None)
    asked(dedupe_key="k")
    old.refresh_from_db()
    with pytest.raises(IllegalTransition, match="another open job"):
        operate.retry(old, by="ada")


def test_run_now_brings_a_retry_forward_and_keeps_the_attempt(at):
    job = asked()
    later = clock.now() + timedelta(hours=1)
    Job.objects.filter(pk=job.pk).update(status_reason=S.RETRY, run_at=later, ready_at=later, attempt=3)
    job.refresh_from_db()
    operate.run_now(job, by="ada")
    assert (job.status, job.run_at, job.ready_at, job.attempt) == (S.RETRY, clock.now(), clock.now(), 3)
    last = job.transitions.last()
    assert (last.from_status, last.to_status, last.by) == ("retry", "retry", "ada")


def test_run_now_never_goes_below_retry_after(at):
    job = asked()
    told, later = clock.now() + timedelta(minutes=10), clock.now() + timedelta(hours=1)
    Job.objects.filter(pk=job.pk).update(status_reason=S.RETRY, run_at=later, ready_at=later, not_before=told)
    job.refresh_from_db()
    operate.run_now(job, by="ada")
    assert job.run_at == told


def test_run_again_makes_a_new_job_linked_to_the_old():
    old = asked(params={"a": 1}, lock_key="l", dedupe_key="k")
    with pytest.raises(IllegalTransition):
        operate.run_again(old)
    Job.objects.filter(pk=old.pk).update(status_reason=S.SUCCEEDED, ready_at=None)
    old.refresh_from_db()
    new = operate.run_again(old, by="ada")
    assert (new.repeat_of, new.params, new.lock_key, new.dedupe_key) == (old, {"a": 1}, "l", "k")
