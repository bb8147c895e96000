"""Due services are found by an index and started once, whatever their number; what was missed is made up once and reported."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from pathlib import Path

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from connectors.models import Connection, Event, Integration, Scope
from jobs import clock
from jobs.models import Job, JobTransition
from jobs.states import Priority, StatusReason
from scheduling import dispatch, services
from scheduling.models import EVERY_DAY, Blackout, Provisioning, Service, ServiceWindow

pytestmark = pytest.mark.django_db
MONDAY = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


@pytest.fixture(autouse=True)
def at(tmp_path: Path, settings: object) -> Clock:
    settings.SYNCLINE_TEST_CLOCK = str(tmp_path / "clock")  # type: ignore[attr-defined]
    found = Clock()
    found.set(MONDAY)
    return found


class Clock:
    """The settable clock."""

    def set(self, moment: datetime) -> None:
        clock.set_test_clock(moment.isoformat())

    def go(self, **by: float) -> None:
        self.set(clock.now() + timedelta(**by))


def integration(number: int = 0, *, provisioned: bool = True) -> Integration:
    ends = [Connection.objects.create(system="memory", name=f"{side} {number}") for side in ("left", "right")]
    found = Integration.objects.create(name=f"Pair {number}", left=ends[0], right=ends[1])
    Scope.objects.create(integration=found)
    if provisioned:
        Provisioning.objects.create(integration=found, status="approved", requested_at=MONDAY)
    return found


def service(of: Integration, name: str = "Changes", every: int = 30, **columns: object) -> Service:
    found = Service.objects.create(integration=of, name=name, enabled=True, **columns)
    ServiceWindow.objects.create(
        service=found, days=EVERY_DAY, start=time(8), end=time(17), every_minutes=every, aligned_to="start"
    )
    services.reschedule([found])
    found.refresh_from_db()
    return found


def jobs() -> list[Job]:
    return list(Job.objects.order_by("id"))


def test_a_service_starts_at_its_minute_and_not_before(at: Clock) -> None:
    one = service(integration())
    assert one.next_run_at == MONDAY + timedelta(minutes=30)
    at.go(minutes=29, seconds=59)
    assert dispatch.tick() == 0
    at.go(seconds=1)
    assert dispatch.tick() == 1
    [job] = jobs()
    assert (job.type, job.priority, job.object_ref) == ("sync", Priority.SCHEDULED, f"service:{one.pk}")
    assert job.params == {"mode": "delta", "purpose": "sync", "entities": [], "service": str(one.pk)}
    one.refresh_from_db()
    assert one.next_run_at == MONDAY + timedelta(hours=1)
    assert one.last_run_at == clock.now()
    assert dispatch.tick() == 0, "once is enough"


def test_a_job_that_still_runs_is_marked_to_run_once_more_not_doubled(at: Clock) -> None:
    service(integration())
    at.go(minutes=30)
    dispatch.tick()
    Job.objects.update(status_reason=StatusReason.IN_PROGRESS, ready_at=None, lease_until=MONDAY + timedelta(days=1))
    for _ in range(2):
        at.go(minutes=30)
        dispatch.tick()
    [job] = jobs()
    assert job.again
    reasons = JobTransition.objects.filter(reason__startswith="asked for again")
    assert reasons.count() == 1


def test_long_work_goes_behind_the_others(at: Clock) -> None:
    one = integration()
    service(one, "Aging", work=Service.Work.REPORTS)
    service(one, "Changes")
    at.go(minutes=30)
    dispatch.tick()
    order = [job.params["mode"] for job in Job.objects.ready(clock.now())]
    assert order == ["delta", "reports"]


def test_what_is_off_paused_or_not_provisioned_starts_nothing(at: Clock) -> None:
    paused = service(integration(1), paused_until=MONDAY + timedelta(hours=2))
    service(integration(2, provisioned=False))
    off = integration(3)
    service(off)
    Integration.objects.filter(pk=off.pk).update(enabled=False)
    services.stop(service(integration(4)), by="ada")
    at.go(minutes=30)
    assert dispatch.tick() == 2  # looked at and put off, but no job
    assert jobs() == []
    assert Event.objects.exclude(code__startswith="service").count() == 0
    paused.refresh_from_db()
    assert paused.next_run_at == MONDAY + timedelta(hours=2), "the pause ends with that minute"


def test_a_blackout_is_kept(at: Clock) -> None:
    one = integration()
    Blackout.objects.create(name="Inventory", integration=one, first=MONDAY.date(), last=MONDAY.date())
    two = service(one)
    assert two.next_run_at == datetime(2026, 3, 3, 8, 0, tzinfo=UTC)


def test_missed_runs_are_made_up_once_and_reported(at: Clock) -> None:
    one = service(integration())
    at.go(hours=3, minutes=10)  # 12:10: 9:30 to 12:00 did not happen
    assert dispatch.tick() == 1
    assert len(jobs()) == 1
    event = Event.objects.get(code="missed run")
    assert event.args == {"service": one.pk, "count": 6}
    assert "6 runs between 2026-03-02 09:30 and 2026-03-02 12:00 UTC" in event.message
    one.refresh_from_db()
    assert one.next_run_at == MONDAY.replace(hour=12, minute=30)
    assert dispatch.tick() == 0


def test_nothing_is_made_up_outside_the_windows(at: Clock) -> None:
    one = service(integration())
    at.go(hours=14)  # 23:00
    dispatch.tick()
    assert jobs() == []
    event = Event.objects.get(code="missed run")
    assert "The next regular run makes up for it" in event.message
    one.refresh_from_db()
    assert one.next_run_at == datetime(2026, 3, 3, 8, 0, tzinfo=UTC)


def test_a_worker_that_comes_back_in_time_for_a_regular_run_starts_that_one_only(at: Clock) -> None:
    service(integration())
    at.go(hours=2)  # 11:00 sharp
    dispatch.tick()
    assert len(jobs()) == 1
    assert Event.objects.get(code="missed run").args["count"] == 3


def test_a_few_late_seconds_are_nothing_to_report(at: Clock) -> None:
    service(integration())
    at.go(minutes=31)
    dispatch.tick()
    assert len(jobs()) == 1
    assert not Event.objects.filter(code="missed run").exists()


def test_what_is_due_stays_due_when_times_or_blackouts_are_saved(at: Clock) -> None:
    one = service(integration())
    at.go(hours=3, minutes=10)
    services.reschedule([one])
    assert dispatch.tick() == 1
    assert Event.objects.get(code="missed run").args["count"] == 6
    assert len(jobs()) == 1


def test_a_start_that_a_new_blackout_forbids_does_not_happen(at: Clock) -> None:
    one = service(integration())
    at.go(minutes=30)
    Blackout.objects.create(name="Fire drill", integration=one.integration, first=MONDAY.date(), last=MONDAY.date())
    services.reschedule([one])
    dispatch.tick()
    assert jobs() == []
    one.refresh_from_db()
    assert one.next_run_at == datetime(2026, 3, 3, 8, 0, tzinfo=UTC)


def test_a_stopped_service_is_never_due(at: Clock) -> None:
    one = service(integration())
    Service.objects.filter(pk=one.pk).update(enabled=False)  # as if a slower save had put its next run back
    at.go(minutes=30)
    assert dispatch.tick() == 0


def test_a_manual_run_does_not_disturb_the_schedule(at: Clock) -> None:
    one = service(integration())
    before = one.next_run_at
    job = services.run_now(one, by="ada")
    one.refresh_from_db()
    assert (one.next_run_at, job.priority) == (before, Priority.PERSON)


def test_a_service_whose_times_can_not_be_does_not_keep_the_others_from_starting(at: Clock) -> None:
    broken, fine = service(integration(1)), service(integration(2))
    Service.objects.filter(pk=broken.pk).update(zone="Mars/Olympus")
    at.go(minutes=30)
    dispatch.tick()
    assert [job.object_ref for job in jobs()] == [f"service:{fine.pk}"]
    assert "Mars/Olympus" in Event.objects.get(code="no next run").message
    broken.refresh_from_db()
    assert broken.next_run_at is None
    assert dispatch.tick() == 0


def many(count: int) -> None:
    """Make `count` due services, as many integrations, without their thousands of statements."""
    left, right = (
        Connection.objects.create(system="memory", name="l"),
        Connection.objects.create(system="memory", name="r"),
    )
    pairs = Integration.objects.bulk_create(Integration(name=f"P{n}", left=left, right=right) for n in range(count))
    Scope.objects.bulk_create(Scope(integration=pair) for pair in pairs)
    Provisioning.objects.bulk_create(
        Provisioning(integration=pair, status="approved", requested_at=MONDAY) for pair in pairs
    )
    made = Service.objects.bulk_create(
        Service(integration=pair, name="Changes", enabled=True, next_run_at=MONDAY) for pair in pairs
    )
    ServiceWindow.objects.bulk_create(
        ServiceWindow(service=one, start=time(8), end=time(17), every_minutes=30) for one in made
    )


def queries_of_a_tick() -> int:
    with CaptureQueriesContext(
        connection,
    ) as caught:
        dispatch.tick()
    return len(
        [q for q in caught.captured_queries if not q["sql"].startswith(("SAVEPOINT", "RELEASE", "BEGIN", "COMMIT"))]
    )


def test_the_queries_of_a_batch_do_not_depend_on_how_many_are_due(at: Clock) -> None:
    many(10)
    few = queries_of_a_tick()
    Integration.objects.all().delete()
    Connection.objects.all().delete()
    many(400)
    # SQLite takes 999 values in a statement, so that a batch is written in several: no more of them than rows / 25.
    assert queries_of_a_tick() <= few + (0 if connection.vendor == "postgresql" else 400 / 25 + 8)
    Job.objects.filter(params__service__isnull=False).update(status_reason=StatusReason.RETRY)
    Service.objects.update(next_run_at=MONDAY)
    assert queries_of_a_tick() <= few + 2 + (0 if connection.vendor == "postgresql" else 8)
    assert Job.objects.filter(again=True).count() == 400


def test_ten_thousand_due_services_are_started_by_a_constant_number_of_queries_for_each_batch(at: Clock) -> None:
    many(dispatch.BATCH)
    batch = queries_of_a_tick()
    Job.objects.all().delete()
    Integration.objects.all().delete()
    Connection.objects.all().delete()
    many(10_000)
    assert queries_of_a_tick() <= batch * 10_000 / dispatch.BATCH + 20
    assert Job.objects.count() == 10_000
    assert Service.objects.due(clock.now()).count() == 0
    assert JobTransition.objects.count() == 10_000


def test_the_dispatcher_finds_due_services_by_its_index(at: Clock) -> None:
    many(2000)
    Service.objects.filter(pk__gt=Service.objects.order_by("id")[10].pk).update(next_run_at=None)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE scheduling_service" if connection.vendor == "postgresql" else "ANALYZE")
    plan = Service.objects.due(clock.now())[:500].explain()
    assert "service_due" in plan
