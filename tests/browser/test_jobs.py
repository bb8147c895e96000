"""Can a person see why a job failed and retry it, cancel one that waits and one that runs, and retry all that match?"""

from __future__ import annotations

import threading
import time
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.db import connections
from django.urls import reverse

from jobs import clock, dispatch, handlers, worker
from jobs.models import Job
from jobs.states import StatusReason
from tests.browser.chromium import executable

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(executable() is None, reason="there is no Chromium on this machine"),
    pytest.mark.django_db(transaction=True),
]
S = StatusReason
LIST = "/admin/jobs/job/"


@pytest.fixture(autouse=True)
def probes(settings):  # type: ignore[no-untyped-def]
    """Handlers that do what their parameters say."""
    settings.JOB_HANDLERS_EXTRA = ["tests.jobs.handlers"]
    handlers.registered.cache_clear()
    yield
    handlers.registered.cache_clear()


def enter(page, live_server) -> None:  # type: ignore[no-untyped-def]
    """Log in."""
    User.objects.create_superuser("ada", password="a long enough secret")
    page.goto(f"{live_server.url}/")
    page.fill("[name=username]", "ada")
    page.fill("[name=password]", "a long enough secret")
    page.click("[type=submit]")
    page.wait_for_selector("#sl-overview")


def of_job(job: Job, tab: str = "") -> str:
    return reverse("admin:jobs_job_change", args=[job.pk]) + (f"?tab={tab}" if tab else "")


def test_a_failing_job_is_understood_and_retried(live_server, page) -> None:  # type: ignore[no-untyped-def]
    job = worker.run_in_process(dispatch.request("probe", params={"do": "permanent"}))
    assert job.status is S.FAILED
    enter(page, live_server)
    page.goto(live_server.url + LIST)
    page.click("nav.jb-tabs >> text=Failed")
    page.wait_for_url("**status=failed**")
    page.click("#result_list >> text=no such invoice 17")
    page.wait_for_selector("text=Business, code 610")
    page.click("text=Attempts")
    page.wait_for_selector("th:has-text('Outcome')")
    assert "no such invoice 17" in page.inner_text(".sl-table")
    page.click("button:has-text('Retry')")
    page.wait_for_selector("text=It begins anew.")
    job.refresh_from_db()
    assert (job.status, job.round) == (S.WAITING, 1)
    page.goto(live_server.url + of_job(job, "timeline"))
    assert "Operator ada" in page.inner_text(".sl-timeline")


def test_a_waiting_job_is_rescheduled_then_cancelled(live_server, page) -> None:  # type: ignore[no-untyped-def]
    job = dispatch.request("probe", run_at=clock.now() + timedelta(hours=1))
    enter(page, live_server)
    page.goto(live_server.url + of_job(job))
    page.click("summary:has-text('Reschedule')")
    page.fill("[name=run_at]", "2020-01-01T00:00")
    page.click("button:has-text('Reschedule')")
    page.wait_for_selector("text=That moment is past")
    later = clock.now() + timedelta(days=2)
    page.fill("[name=run_at]", f"{later:%Y-%m-%dT%H:%M}")
    page.fill("[name=reason]", "after the audit")
    page.click("button:has-text('Reschedule')")
    page.wait_for_selector("text=It is due at")
    job.refresh_from_db()
    assert f"{job.run_at:%Y-%m-%d %H:%M}" == f"{later:%Y-%m-%d %H:%M}"
    page.click("button:has-text('Cancel')")
    page.wait_for_selector("text=Cancelled.")
    job.refresh_from_db()
    assert (job.status, job.cancel_by) == (S.CANCELLED, "ada")


def test_a_running_job_is_followed_and_stops_at_its_next_safe_point(live_server, page) -> None:  # type: ignore[no-untyped-def]
    job = dispatch.request("probe", params={"do": "sleep", "seconds": 120})

    def work() -> None:
        try:
            worker.run_in_process(job)
        finally:
            connections.close_all()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        while Job.objects.get(pk=job.pk).status is not S.IN_PROGRESS:
            time.sleep(0.1)
        enter(page, live_server)
        page.goto(live_server.url + of_job(job))
        page.wait_for_selector(".sl-badge:has-text('In progress')")
        page.click("button:has-text('Cancel')")
        page.wait_for_selector("text=It stops at its next safe point.")
        page.wait_for_selector(".sl-head .sl-badge:has-text('Cancelled')", timeout=60_000)  # without a reload
    finally:
        Job.objects.filter(pk=job.pk).update(cancel_requested=True)
        thread.join(60)
    job.refresh_from_db()
    assert (job.status, job.cancel_by) == (S.CANCELLED, "ada")


def test_all_that_match_are_retried_not_those_of_the_page(live_server, page) -> None:  # type: ignore[no-untyped-def]
    now = clock.now()
    Job.objects.bulk_create(
        Job(
            type="probe", status_reason=S.FAILED, run_at=now, created_at=now, finished_at=now, error_class="business",
            error_message="no such invoice", fingerprint="f1", params={"n": n},
        )
        for n in range(130)
    )  # fmt: skip
    other = dispatch.request("probe", run_at=now + timedelta(hours=1))
    enter(page, live_server)
    page.goto(live_server.url + reverse("admin:jobs_job_errors"))
    page.click("text=Retry all…")
    page.wait_for_selector("text=Retry 130 of 130 matching")
    assert page.locator(".sl-table tbody tr").count() == 20
    Job.objects.filter(pk=Job.objects.filter(fingerprint="f1").latest("id").pk).update(status_reason=S.SUCCEEDED)
    page.fill("[name=reason]", "The tax code is there now.")
    page.click("button:has-text('Retry 130 jobs')")
    page.wait_for_selector("text=meanwhile there are 129. Nothing was done.")
    assert page.input_value("[name=reason]") == "The tax code is there now."
    assert Job.objects.filter(status_reason=S.FAILED).count() == 129
    page.click("button:has-text('Retry 129 jobs')")
    page.wait_for_selector("text=129 jobs retried.")
    assert Job.objects.filter(status_reason=S.WAITING, round=1).count() == 129
    other.refresh_from_db()
    assert (other.round, other.status) == (0, S.WAITING)


def test_a_pause_is_made_seen_on_the_list_and_ended(live_server, page) -> None:  # type: ignore[no-untyped-def]
    dispatch.request("probe")
    enter(page, live_server)
    page.goto(live_server.url + reverse("admin:jobs_pause_add"))
    page.select_option("[name=kind]", "type")
    page.wait_for_selector("[name=job_type]:visible")
    assert not page.is_visible("[name=connection]")
    page.select_option("[name=job_type]", "probe")
    page.fill("[name=reason]", "The books are closed.")
    page.click("button[name=_save]")
    page.goto(live_server.url + LIST)
    page.wait_for_selector("text=The books are closed.")
    assert "paused" in page.inner_text("#result_list")
    page.click("text=End the pause")
    page.wait_for_selector("text=go on.")
    assert "The books are closed." not in page.inner_text("#jobs-head")
