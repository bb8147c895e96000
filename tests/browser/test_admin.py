"""Can a person do the day's work in a real browser: log in, sync, see the run, read why a record is as it is?"""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command

from connectors.models import RecordLink, Run
from jobs.models import Job
from tests.browser.chromium import executable
from tests.sync.worlds import TwoSystems

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(executable() is None, reason="there is no Chromium on this machine"),
    pytest.mark.django_db(transaction=True),
]
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")


def test_a_person_syncs_sees_the_run_and_reads_an_explanation(live_server, page) -> None:  # type: ignore[no-untyped-def]
    world = TwoSystems()
    for name in ("Ada", "Grace", "Joan"):
        world.left.create("person", {"name": name, "city": "Paris"})
    User.objects.create_superuser("ada", password="a long enough secret")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))

    page.goto(f"{live_server.url}/")
    page.fill("[name=username]", "ada")
    page.fill("[name=password]", "a long enough secret")
    page.click("[type=submit]")
    assert "No worker is running" in page.inner_text("#content")
    page.click("text=Sync now")
    assert "Sync requested" in page.inner_text("#main")
    [job] = Job.objects.all()

    call_command("sync", "both")
    job.refresh_from_db()
    run = Run.objects.get()
    page.goto(f"{live_server.url}/admin/connectors/run/")
    page.click(f"text=#{run.pk}")
    text = page.inner_text("#content")
    assert "3 written" in text
    assert "OUTCOMES" in text.upper()

    page.goto(f"{live_server.url}/admin/connectors/recordlink/")
    page.click("text=Grace")
    text = page.inner_text("#content")
    assert "Both sides agree." in text
    assert page.locator("table.sl-table tbody tr").count() >= 2
    page.click("text=Pause this record, Unlink")
    page.click("button:text-is('Pause this record')")
    assert RecordLink.objects.get(reason="held").left_id
    assert all(url.startswith((live_server.url, "data:")) for url in asked)
