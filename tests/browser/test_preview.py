"""Does a person see what a preview would write, leave some of it out, approve the rest and watch it being written?"""

from __future__ import annotations

import re

import pytest
from django.contrib.auth.models import User
from django.urls import reverse

from connectors.models import RecordChange
from connectors.sync.values import decode
from jobs.models import Job
from jobs.worker import run_in_process
from tests.acceptance.conftest import Hub, fresh, systems  # noqa: F401 - fixtures
from tests.browser.chromium import executable
from tests.browser.looking import CHECKS

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(executable() is None, reason="there is no Chromium on this machine"),
    pytest.mark.django_db(transaction=True),
]
CITY = "BillAddr.City>address1_city"
BAR = "#sl-page progress"


def account_of(hub: Hub, change: RecordChange) -> dict[str, object] | None:
    name = str(decode(change.after)["CompanyName>name"])
    rows = [row.body for row in hub.right.store.table("account").values() if row.body.get("name") == name]
    return rows[0] if rows else None


def test_a_person_leaves_out_a_record_and_a_field_approves_and_watches_the_bar(live_server, page, fresh: Hub) -> None:  # type: ignore[no-untyped-def]  # noqa: F811
    User.objects.create_superuser("ada", password="a long enough secret")
    run = fresh.run_of(fresh.settle(fresh.sync(preview=True)))
    assert fresh.writes("right") == fresh.writes("left") == 0
    first_page = RecordChange.objects.filter(run=run, verb="create").order_by("id")[:50]
    whole, partly, *_ = [c for c in first_page if decode(c.after).get(CITY) and c.side == "right"]
    every = RecordChange.objects.filter(run=run).count()

    wrong: list[str] = []
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(f"{live_server.url}/")
    page.fill("[name=username]", "ada")
    page.fill("[name=password]", "a long enough secret")
    page.click("[type=submit]")
    page.goto(live_server.url + reverse("admin:connectors_run_change", args=[run.pk], query={"verb": "create"}))
    page.wait_for_selector(f"text=Approve {every} of {every}")
    page.uncheck(f"[data-change='{whole.pk}'] input[name=change]")
    page.wait_for_selector(f"text=Approve {every - 1} of {every}")
    page.click(f"[data-change='{partly.pk}'] summary")
    page.uncheck(f"[data-change='{partly.pk}'] [data-field='{CITY}']")
    page.wait_for_selector("text=1 single field left out")
    page.set_viewport_size({"width": 1440, "height": 900})
    told = [sentence for sentence in page.evaluate(CHECKS, True) if "spill" in sentence or "cut off" in sentence]
    assert told == [], "a field's name stays in its own cell"
    page.reload()
    assert not page.is_checked(f"[data-change='{whole.pk}'] input[name=change]"), "the tick is kept"
    assert not page.is_checked(f"[data-change='{partly.pk}'] [data-field='{CITY}']")
    page.click(f"text=Approve {every - 1} of {every}")
    page.wait_for_selector(BAR)

    values: list[float] = []

    def look(name: str) -> None:
        if name == "after record outcomes" and len(values) < 4:
            page.wait_for_timeout(2300)  # the page asks every 2 s
            values.append(page.evaluate(f"document.querySelector('{BAR}').value"))

    fresh.point.append(look)
    fresh.settle(run_in_process(Job.objects.latest("id")))
    assert values == sorted(values) and len(set(values)) > 1, values
    assert 0 < values[-1] <= every - 1
    page.wait_for_selector("text=1 left out, 1 field left out", timeout=10_000)  # without a reload
    told = page.inner_text("#sl-page .sl-head >> nth=0")
    written, waiting = (
        int((re.search(rf"(\d+) {word}", told) or [0, 0])[1]) for word in ("written", "waiting for another")
    )
    assert written + waiting == every - 1 and written > every - 10, told  # what refers to the one left out waits for it
    assert page.locator(BAR).count() == 0
    assert wrong == []

    assert account_of(fresh, whole) is None
    written = account_of(fresh, partly)
    assert written is not None and not written.get("address1_city")
    fresh.point.clear()
    fresh.settle()
    fresh.settle()
    fresh.assert_agreed()  # what was left out of that run came with the next one
    fresh.assert_nothing_doubled()
