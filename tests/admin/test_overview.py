"""Does the first page say what needs somebody, how each integration is, and what is wrong with the hub, at a constant cost?"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.db import connection as database
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from config import overview
from config.zone import COOKIE
from connectors.models import Budget, Connection, Event, Integration, RecordLink, Run, Scope
from jobs import clock
from jobs.models import Job, WorkerHeartbeat
from jobs.states import StatusReason
from jobs.syncing import request_sync
from scheduling.models import Provisioning, Service
from tests.sync.worlds import TwoSystems


def text_of(client: Client) -> str:
    """The page as a person reads it."""
    page = client.get(reverse("admin:index")).content.decode()
    body = page[page.index('id="sl-overview"') :]
    return " ".join(re.sub(r"<[^>]+>", " ", re.sub(r"<title>.*?</title>", "", body)).split())


@pytest.fixture
def quiet(db: None) -> TwoSystems:
    """A world in agreement, and a worker."""
    world = TwoSystems()
    world.left.create("person", {"name": "Ada"})
    world.settle()
    WorkerHeartbeat.objects.create(
        name="here", kind="supervisor", host="here", pid=1, workers=2, seen_at=timezone.now()
    )
    Run.objects.update(started_at=clock.now())
    return world


def row_of(name: str = "both") -> overview.Row:
    (row,) = [row for row in overview.rows(clock.now()) if row.integration.name == name]
    return row


def service(world: TwoSystems, **columns: object) -> Service:
    return Service.objects.create(integration=world.integration, name="Changes", enabled=True, **columns)


def test_where_all_is_well_nothing_needs_you(boss: Client, quiet: TwoSystems) -> None:
    text = text_of(boss)
    assert "Nothing needs you" in text
    assert "Healthy Nothing needs you." in text
    assert "No worker is running" not in text


def test_a_hub_without_a_worker_says_what_to_do(boss: Client, quiet: TwoSystems) -> None:
    WorkerHeartbeat.objects.all().delete()
    assert "No worker is running. Syncs that you ask for wait until one is started: python manage.py worker" in text_of(
        boss
    )


def test_what_needs_you_stands_on_top_longest_first(boss: Client, world: TwoSystems) -> None:
    Provisioning.objects.create(
        integration=world.integration, requested_name="Grace", requested_at=clock.now() - timedelta(days=3)
    )
    preview = Run.objects.create(
        integration=world.integration, scope=world.scope, purpose="preview", phase="proposed", started_at=clock.now(),
        finished_at=clock.now() - timedelta(minutes=10),
    )  # fmt: skip
    found = overview.needs(overview.rows(clock.now()), clock.now(), User.objects.get())
    assert [need.what for need in found] == [
        "both waits to be provisioned",
        f"both: preview {preview.pk} waits for approval",
        "both: 1 record needs a person",
        "both: 1 delete waits for approval",
    ]
    text = text_of(boss)
    assert text.index("4 things need you") < text.index("both waits to be provisioned") < text.index("Last 14 days")


def test_a_preview_that_nobody_can_approve_any_more_needs_nobody(boss: Client, quiet: TwoSystems) -> None:
    Run.objects.create(
        integration=quiet.integration, scope=quiet.scope, purpose="preview", phase="proposed",
        started_at=clock.now() - timedelta(hours=3), finished_at=clock.now() - timedelta(hours=2),
    )  # fmt: skip
    assert overview.needs(overview.rows(clock.now()), clock.now(), User.objects.get()) == []


def test_a_row_tells_problems_and_approvals_and_leads_to_them(boss: Client, world: TwoSystems) -> None:
    row = row_of()
    assert (row.hands, row.approvals) == (1, 1)
    for url, reason in ((row.problems_url, "conflict"), (row.approve_at, "waits for approval")):
        answer = boss.get(url)
        assert answer.status_code == 200
        assert {one.reason for one in answer.context["cl"].queryset} == {reason}


def test_a_preview_that_waits_counts_as_an_approval_and_is_where_approving_begins(
    boss: Client, world: TwoSystems
) -> None:
    preview = Run.objects.create(
        integration=world.integration, scope=world.scope, purpose="preview", phase="proposed", started_at=clock.now(),
        finished_at=clock.now() - timedelta(minutes=10),
    )  # fmt: skip
    row = row_of()
    assert row.approvals == 2
    assert row.approve_at == reverse("admin:connectors_run_change", args=[preview.pk])


@pytest.mark.parametrize(
    ("purpose", "phase", "reason"),
    [
        ("undo", "proposed", "Undo {} waits for approval."),
        ("sync", "guarded", "A guard stopped run {}. Look at its reasons and accept, or mend the cause."),
    ],
)
def test_what_waits_for_approval_is_told_by_the_row_also_where_a_later_run_is_done(
    boss: Client, quiet: TwoSystems, purpose: str, phase: str, reason: str
) -> None:
    waits = Run.objects.create(
        integration=quiet.integration, scope=quiet.scope, purpose=purpose, phase=phase, started_at=clock.now(),
        finished_at=clock.now() - timedelta(minutes=10),
    )  # fmt: skip
    quiet.settle()
    assert Run.objects.latest("id").phase == "done"
    health = row_of().health
    assert (health.state, health.reason) == ("Attention", reason.format(waits.pk))
    page = boss.get(reverse("admin:connectors_integration_change", args=[quiet.integration.pk])).content.decode()
    assert reason.format(waits.pk) in page
    assert "Nothing needs you" not in text_of(boss)


def test_a_run_that_waits_for_its_next_try_says_when(boss: Client, quiet: TwoSystems) -> None:
    run = Run.objects.create(
        integration=quiet.integration, scope=quiet.scope, phase="pull", started_at=clock.now() - timedelta(minutes=1)
    )
    job, due = request_sync(quiet.integration), clock.now() + timedelta(minutes=5)
    Job.objects.filter(pk=job.pk).update(run=run, status_reason=StatusReason.RETRY, run_at=due, ready_at=due)
    pages = [reverse("admin:index"), reverse("admin:connectors_run_changelist")]
    pages += [reverse(f"admin:connectors_{p.partition(' ')[0]}_change", args=[p.partition(" ")[2]]) for p in
              (f"run {run.pk}", f"integration {quiet.integration.pk}")]  # fmt: skip
    for page in pages:
        assert re.search(r"sl-warn[^>]*>Waiting to try again</span> <time", boss.get(page).content.decode()), page
    Job.objects.filter(pk=job.pk).update(status_reason=StatusReason.IN_PROGRESS, ready_at=None)
    assert "Waiting to try again" not in boss.get(pages[0]).content.decode()


def test_a_lost_connection_is_named_with_its_reason(boss: Client, quiet: TwoSystems) -> None:
    Connection.objects.filter(name="left").update(state="needs reconnect", reason="The refresh token was revoked.")
    text = text_of(boss)
    assert "1 thing needs you left needs to be connected again The refresh token was revoked." in text
    assert "Needs reconnect left: The refresh token was revoked." in text


@pytest.mark.parametrize(("days", "told"), [(40, ""), (20, "end soon"), (-1, "have ended")])
def test_credentials_are_warned_of_thirty_days_ahead(boss: Client, quiet: TwoSystems, days: int, told: str) -> None:
    Connection.objects.filter(name="left").update(auth_expires_at=clock.now() + timedelta(days=days, minutes=1))
    text = text_of(boss)
    assert ("The credentials of left" in text) == bool(told)
    assert told in text


def test_a_missed_run_is_a_banner_for_a_day(boss: Client, quiet: TwoSystems) -> None:
    event = Event.objects.create(
        integration=quiet.integration, level="warning", code="missed run", message="Changes: 3 runs did not happen.",
        at=clock.now() - timedelta(hours=2),
    )  # fmt: skip
    assert "both: a run was missed. Changes: 3 runs did not happen." in text_of(boss)
    Event.objects.filter(pk=event.pk).update(at=clock.now() - timedelta(hours=25))
    assert "a run was missed" not in text_of(boss)


def test_a_run_that_is_late_is_a_banner(boss: Client, quiet: TwoSystems) -> None:
    service(quiet, next_run_at=clock.now() - timedelta(minutes=4))
    assert "a run is late" not in text_of(boss)
    Service.objects.update(next_run_at=clock.now() - timedelta(minutes=20))
    assert "both: a run is late. Changes should have started 20 min ago." in text_of(boss)


def test_the_next_run_is_the_services_or_the_open_jobs(boss: Client, quiet: TwoSystems) -> None:
    assert "none planned" in text_of(boss)
    ahead = clock.now() + timedelta(minutes=30, seconds=30)
    service(quiet, next_run_at=ahead)
    assert (row_of().next_at, "in 30 min" in text_of(boss)) == (ahead, True)
    job = request_sync(quiet.integration)
    assert "waits for a worker" in text_of(boss)
    Job.objects.filter(pk=job.pk).update(status_reason=StatusReason.IN_PROGRESS, ready_at=None)
    assert "running now" in text_of(boss)


# The strip


def runs_on(world: TwoSystems, start: datetime, *kinds: str) -> None:
    for kind in kinds:
        columns: dict[str, object] = {
            "good": {"phase": "done", "finished_at": start},
            "warn": {"phase": "done", "finished_at": start, "problems": 3},
            "bad": {"phase": "failed", "finished_at": start, "error": "no answer"},
            "busy": {"phase": "pull"},
        }[kind]  # type: ignore[assignment]
        Run.objects.create(integration=world.integration, scope=world.scope, started_at=start, **columns)


def test_the_strip_shows_the_worst_of_each_day(quiet: TwoSystems) -> None:
    Run.objects.all().delete()
    noon = timezone.localtime().replace(hour=12, minute=0)
    runs_on(quiet, noon, "good", "busy")
    runs_on(quiet, noon - timedelta(days=1), "good", "warn")
    runs_on(quiet, noon - timedelta(days=2), "warn", "bad", "good")
    runs_on(quiet, noon - timedelta(days=14), "bad")  # too long ago
    days = row_of().days
    assert [day.tone for day in days] == ["none"] * 11 + ["bad", "warn", "good"]
    assert days[-2].words.endswith(": 2 runs, 1 with problems")
    assert days[-3].words.endswith(": 3 runs, 1 with problems, 1 failed")
    assert days[-1].words.endswith(": 1 run")


def test_a_run_that_left_problems_is_told_from_one_that_did_not(boss: Client, world: TwoSystems) -> None:
    problems = dict(Run.objects.values_list("id", "problems"))
    assert set(problems.values()) == {0, 1}
    Run.objects.update(started_at=clock.now())
    assert row_of().days[-1].tone == "warn"


def test_days_begin_at_midnight_of_the_reader(boss: Client, quiet: TwoSystems) -> None:
    Run.objects.all().delete()
    late = timezone.now().replace(hour=23, minute=0, second=0, microsecond=0) - timedelta(days=1)
    runs_on(quiet, late, "bad")
    assert [day.tone for day in row_of().days][-2:] == ["bad", "none"]
    with timezone.override("Pacific/Kiritimati"):  # 14 hours ahead
        days = overview.strips([quiet.scope.pk], timezone.localdate(late) + timedelta(days=1))[quiet.scope.pk]
        assert [day.tone for day in days][-2:] == ["bad", "none"]
        assert days[-2].words.startswith(f"{timezone.localtime(late):%a %d %b}")


# Quotas


def test_the_scarcest_quota_is_shown(quiet: TwoSystems) -> None:
    now = clock.now()
    assert row_of().quota is None  # the memory system has no limit
    books = Connection.objects.create(system="quickbooks", name="Books", settings={})
    start = now.replace(second=0, microsecond=0)
    Budget.objects.create(connection=books, limit="request", window_start=start, used=100)
    Budget.objects.create(connection=books, limit="batch", window_start=start, used=38)
    quota = overview.quotas_of([books], now)[books.pk]
    assert quota.words == "Books: 2 of 40 calls (batch) left this minute"
    assert overview.quotas_of([books], now + timedelta(minutes=2))[books.pk].left == 1


# Rights, cost and freshness


def test_who_may_not_sync_sees_no_button(viewer: Client, quiet: TwoSystems) -> None:
    page = viewer.get(reverse("admin:index"))
    assert b"Healthy" in page.content
    assert b"Sync now" not in page.content


def test_who_may_see_nothing_is_told_so(client: Client, person: Callable[..., User], world: TwoSystems) -> None:
    client.force_login(person())
    text = text_of(client)
    assert "Nothing here that you may see" in text
    assert "both" not in text


def test_the_live_part_is_the_page_without_its_frame(boss: Client, world: TwoSystems) -> None:
    part = boss.get(reverse("admin:overview_live")).content.decode()
    assert "<html" not in part
    assert "2 things need you" in part
    assert Client().get(reverse("admin:overview_live")).status_code == 302


def more(world: TwoSystems, count: int) -> None:
    """Add integrations with all that a row looks at."""
    now = clock.now()
    for number in range(count):
        ends = [
            Connection.objects.create(system="memory", name=f"{side} {uuid4()}", settings={"store": side})
            for side in ("left", "right")
        ]
        one = Integration.objects.create(name=f"more {uuid4()}", left=ends[0], right=ends[1])
        scope = Scope.objects.create(integration=one, failures=number % 2, last_error="no answer" if number % 2 else "")
        sync = one.entity_syncs.create(name="person", family="person", left_entity="person", right_entity="person")
        Run.objects.create(integration=one, scope=scope, started_at=now, finished_at=now, phase="done", problems=1)
        Run.objects.create(
            integration=one, scope=scope, started_at=now, finished_at=now, phase="proposed", purpose="preview"
        )
        Service.objects.create(integration=one, name="Changes", enabled=True, next_run_at=now + timedelta(hours=1))
        Budget.objects.create(connection=ends[0], limit="request", window_start=now)
        request_sync(one)
        RecordLink.objects.bulk_create(
            RecordLink(
                key=str(uuid4()), integration=one, entity_sync=sync, family="person", scope=scope, pending=pending,
                left_entity="person", left_id=str(uuid4()), reason=reason,
            )
            for pending, reason in ((5, "parked"), (4, "conflict"), (2, "waits for approval"))
        )  # fmt: skip


def test_the_page_costs_the_same_with_many_integrations(boss: Client, world: TwoSystems) -> None:
    def cost() -> int:
        with CaptureQueriesContext(
            database,
        ) as queries:
            assert boss.get(reverse("admin:index")).status_code == 200
        return len(queries)

    more(world, 2)
    cost()  # what is cached for ever is cached now
    few = cost()
    more(world, 20)
    assert cost() == few


# The reader's time zone


def test_times_are_told_in_the_zone_that_a_person_chose(boss: Client, quiet: TwoSystems) -> None:
    Scope.objects.update(last_done_at=datetime.fromisoformat("2026-07-01T12:00:00+00:00"))
    assert "2026-07-01 12:00:00 UTC" in boss.get(reverse("admin:index")).content.decode()
    saved = boss.post(reverse("admin:time_zone"), {"zone": "Asia/Tokyo"}, follow=True)
    assert "Times are shown in Asia/Tokyo." in saved.content.decode()
    assert boss.cookies[COOKIE]["httponly"]
    assert "2026-07-01 21:00:00 JST" in boss.get(reverse("admin:index")).content.decode()
    boss.post(reverse("admin:time_zone"), {"zone": ""})
    assert "2026-07-01 12:00:00 UTC" in boss.get(reverse("admin:index")).content.decode()


def test_a_zone_that_does_not_exist_is_refused_at_the_field_and_ignored_in_the_cookie(
    boss: Client, quiet: TwoSystems
) -> None:
    answer = boss.post(reverse("admin:time_zone"), {"zone": "Moon/Crater"})
    assert "Moon/Crater is not one of the available choices" in answer.content.decode()
    boss.cookies[COOKIE] = "../../etc/passwd"
    assert boss.get(reverse("admin:index")).status_code == 200
