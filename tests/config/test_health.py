"""Do probes and Prometheus learn what is wrong, and nothing else?"""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.db import OperationalError, connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from config import health, metrics
from config.models import ApiToken
from connectors.models import ApiCall
from jobs import clock
from jobs.models import Job, Pause, WorkerHeartbeat
from jobs.states import StatusReason
from scheduling.models import Service
from tests.config.conftest import PASSWORD
from tests.sync.worlds import TwoSystems

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def anew() -> None:
    metrics._CACHE.forget()


@pytest.fixture
def worker(db: None) -> None:
    for kind in ("supervisor", "queue"):
        WorkerHeartbeat.objects.create(
            name="a", kind=kind, host="h", pid=1, workers=2, busy=1, beats=3, seen_at=clock.now()
        )


def job(**columns: object) -> Job:
    now = clock.now()
    return Job.objects.create(type="t", **{"run_at": now, "ready_at": now, "created_at": now, **columns})


def reasons(client: Client, code: int) -> list[str]:
    answer = client.get("/readyz")
    assert answer.status_code == code
    return answer.json()["reasons"]


def test_healthz_answers_without_a_look_at_the_database(client: Client) -> None:
    with CaptureQueriesContext(connection) as asked:
        answer = client.get("/healthz")
    assert (answer.status_code, answer.json(), len(asked)) == (200, {"status": "ok"}, 0)


def test_a_hub_with_a_worker_is_ready(client: Client, worker: None) -> None:
    assert reasons(client, 200) == []
    assert client.get("/readyz").json()["worker_seen_seconds"] is not None


def test_without_a_worker_it_is_not_ready(client: Client) -> None:
    assert "No worker is running" in reasons(client, 503)[0]


def test_a_worker_that_was_last_seen_long_ago_is_none(client: Client, worker: None) -> None:
    WorkerHeartbeat.objects.filter(kind="supervisor").update(seen_at=clock.now() - timedelta(minutes=3))
    assert "No worker is running" in reasons(client, 503)[0]


def test_a_queue_through_which_nothing_comes_is_told(client: Client, worker: None) -> None:
    WorkerHeartbeat.objects.filter(kind="queue").update(seen_at=clock.now() - timedelta(hours=1))
    assert "No task came through the queue" in reasons(client, 503)[0]


def test_a_job_that_nobody_takes_is_told_unless_it_waits_for_another_or_jobs_are_paused(
    client: Client, worker: None
) -> None:
    late = clock.now() - timedelta(minutes=6)
    due = job(ready_at=late, run_at=late)
    assert "A job has been due for 36" in reasons(client, 503)[0]
    assert client.get("/readyz").json()["oldest_due_job_seconds"] >= 360
    Job.objects.filter(pk=due.pk).update(lock_key="scope:1")
    running = job(status_reason=StatusReason.IN_PROGRESS, ready_at=None, lock_key="scope:1", lease_until=clock.now())
    assert reasons(client, 200) == []
    running.delete()
    assert reasons(client, 503)
    Pause.objects.create(kind="hub", reason="Maintenance.")
    assert reasons(client, 200) == []


@pytest.mark.django_db(transaction=True)
def test_a_service_that_is_not_started_in_time_is_told(client: Client, everything: TwoSystems, worker: None) -> None:
    Job.objects.all().delete()
    Service.objects.update(next_run_at=clock.now() - timedelta(minutes=6), enabled=True)
    assert "the scheduler does not tick" in reasons(client, 503)[0]


def test_migrations_that_are_not_applied_and_a_database_that_is_gone_are_told(
    client: Client, worker: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "_migrated", False)
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE app = 'config'")
    assert reasons(client, 503) == ["Migrations are not applied. Run `python manage.py migrate`."]

    def gone(execute, sql, params, many, context):  # type: ignore[no-untyped-def]
        raise OperationalError("server closed the connection unexpectedly: 10.1.2.3")

    with connection.execute_wrapper(gone):
        assert reasons(client, 503) == ["The database does not answer."]
        assert client.get("/healthz").status_code == 200


def test_metrics_are_for_those_who_have_the_token_or_may_see_jobs(client: Client, settings) -> None:  # type: ignore[no-untyped-def]
    boss = User.objects.create_superuser("boss", password=PASSWORD)
    nobody = User.objects.create_user("nobody", password=PASSWORD, is_staff=True)
    _t, good = ApiToken.objects.issue(boss, "prometheus", scope="read")
    _t, useless = ApiToken.objects.issue(nobody, "prometheus", scope="read")

    def asked(text: str | None) -> int:
        return client.get(
            "/metrics", headers={"Authorization": f"Bearer {text}"} if text is not None else {}
        ).status_code

    assert [asked(text) for text in (None, "", "wrong", useless, good)] == [401, 401, 401, 401, 200]
    settings.METRICS_TOKEN = "of prometheus alone"
    assert [asked("of prometheus alone"), asked("of prometheus"), asked("")] == [200, 401, 401]
    client.force_login(nobody)
    assert asked(None) == 401
    client.force_login(boss)
    assert asked(None) == 200


def lines(client: Client) -> dict[str, float]:
    text = client.get("/metrics", headers={"Authorization": "Bearer m"}).content.decode()
    return {
        line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
        for line in text.splitlines()
        if not line.startswith("#")
    }


@pytest.mark.django_db(transaction=True)
def test_metrics_tell_jobs_runs_links_calls_and_workers(client: Client, everything: TwoSystems, settings) -> None:  # type: ignore[no-untyped-def]
    settings.METRICS_TOKEN = "m"
    late = clock.now() - timedelta(seconds=90)
    job(ready_at=late, run_at=late)
    left = everything.integration.left
    ApiCall.objects.all().delete()
    for status in (200, 200, 429, 0):
        ApiCall.objects.create(connection=left, at=clock.now(), method="GET", path="/", status=status, ms=1)
    ApiCall.objects.create(
        connection=left, at=clock.now() - timedelta(hours=1), method="GET", path="/", status=500, ms=1
    )
    told = lines(client)
    assert told['syncline_jobs{status="waiting"}'] == 2
    assert told["syncline_job_oldest_due_seconds"] >= 90
    assert told['syncline_api_calls_recent{connection="left"}'] == 4
    assert told['syncline_api_errors_recent{connection="left"}'] == 2
    assert told['syncline_links_not_agreed{integration="both",pending="conflict"}'] == 1
    assert told['syncline_runs_recent{integration="both",phase="done"}'] >= 2
    assert told['syncline_scope_failures{integration="both",scope=""}'] == 0
    assert told['syncline_worker_processes{worker="host:1:abc"}'] == 2
    assert any(name.startswith("syncline_connection_state{") for name in told)


@pytest.mark.django_db(transaction=True)
def test_a_second_scrape_asks_the_database_nothing_but_who_asks(
    client: Client,
    everything: TwoSystems,
    settings,  # type: ignore[no-untyped-def]
) -> None:
    settings.METRICS_TOKEN = "m"
    with CaptureQueriesContext(connection) as first:
        lines(client)
    with CaptureQueriesContext(connection) as second:
        lines(client)
    assert (len(first) < 30, len(second)) == (True, 0)
    everything_again = Job.objects.bulk_create(
        [Job(type="t", run_at=clock.now(), ready_at=clock.now(), created_at=clock.now()) for _ in range(50)]
    )
    metrics._CACHE.forget()
    with CaptureQueriesContext(connection) as third:
        lines(client)
    assert len(third) == len(first) and everything_again
