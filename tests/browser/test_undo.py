"""Can a person undo a run from its page, and does the page say first what can't be undone?"""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.urls import reverse

from connectors.models import Run
from jobs.models import Job
from jobs.worker import run_in_process
from tests.acceptance.conftest import Hub, fresh, systems  # noqa: F401 - fixtures
from tests.browser.chromium import executable

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(executable() is None, reason="there is no Chromium on this machine"),
    pytest.mark.django_db(transaction=True),
]


def test_a_run_is_undone_from_its_page_and_what_stays_is_told_first(live_server, page, fresh: Hub) -> None:  # type: ignore[no-untyped-def]  # noqa: F811
    User.objects.create_superuser("ada", password="a long enough secret")
    run = fresh.run_of(fresh.settle())
    worked_on = next(iter(fresh.right.store.table("account").values()))
    fresh.right.user_edits("account", worked_on.id, {"description": "Called them on Monday"})
    page.goto(f"{live_server.url}/")
    page.fill("[name=username]", "ada")
    page.fill("[name=password]", "a long enough secret")
    page.click("[type=submit]")
    page.goto(live_server.url + reverse("admin:connectors_run_change", args=[run.pk]))
    page.click("text=Undo this run")
    assert "Nothing is written before you approve it" in page.inner_text("#main")
    run_in_process(Job.objects.latest("id"))

    undo = Run.objects.get(undoes=run)
    page.goto(live_server.url + reverse("admin:connectors_run_change", args=[undo.pk]))
    text = page.inner_text("#content")
    assert "Somebody has changed it since" in text and "It will be made inactive" in text
    assert text.index("What can’t be undone") < text.index("Approve") < text.index("Proposals")
    assert "Can't be undone 1" in text
    assert worked_on.body["name"] in page.locator("table.sl-table").last.locator("tbody tr").first.inner_text()
    page.check("[name=accept_guard]")
    page.click("text=Approve")
    run_in_process(Job.objects.latest("id"))

    page.reload()
    text = page.inner_text("#content")
    assert "undone, 1 could not be (1 changed since)" in text
    assert f"run #{run.pk}" in text
    page.goto(live_server.url + reverse("admin:connectors_run_change", args=[run.pk]))
    assert f"run #{undo.pk}" in page.inner_text("#content")
    assert page.locator("text=Undo this run").count() == 1, "what could not be undone may be undone later"
