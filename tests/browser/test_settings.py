"""An administrator changes a filter in the browser, sees the effect, saves it, and goes back by the history."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.urls import reverse

from connectors.models import EntitySync, Integration
from tests.sync.worlds import TwoSystems

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
PASSWORD = "long enough for us"


@pytest.fixture
def world() -> TwoSystems:
    world = TwoSystems()
    for number in range(6):
        world.left.create("person", {"name": f"Person {number}", "city": "Paris" if number % 3 else "Rome"})
    world.run()
    world.settle()
    return world


def log_in(page: Any, server: Any) -> None:
    User.objects.create_superuser("boss", password=PASSWORD)
    page.goto(f"{server.url}/admin/login/")
    page.fill("#id_username", "boss")
    page.fill("#id_password", PASSWORD)
    page.click("button[type=submit]")
    page.wait_for_url(f"{server.url}/admin/")


def no_overflow(page: Any) -> None:
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0, f"the page is {wide} pixels too wide"


def test_a_filter_is_changed_its_effect_seen_saved_and_taken_back(
    page: Any, live_server: Any, world: TwoSystems
) -> None:
    told: list[str] = []
    page.on("console", lambda message: told.append(message.text) if message.type == "error" else None)
    log_in(page, live_server)
    page.goto(live_server.url + reverse("admin:connectors_integration_change", args=[world.integration.pk]))
    assert "Keeps people of In memory (left)" in page.inner_text(".st-sentence")
    page.click("a.sl-button:text-is('Settings')")
    page.wait_for_selector("[data-settings]")
    page.click("[data-lines=filters] [data-add]")
    lines = page.locator("[data-lines=filters] [data-line]")
    assert lines.count() == 2
    last = lines.nth(1)
    last.locator("select").nth(0).select_option("left:city")
    last.locator("select").nth(1).select_option("eq")
    last.locator("input[type=text]").fill("Paris")
    page.check("input[value='right.delete']")
    page.click("text=Show the effect")
    page.wait_for_selector("#effect")
    assert "2 newly excluded" in page.inner_text("#effect")
    assert page.is_checked("input[value='right.delete']"), "what was entered is still there"
    assert EntitySync.objects.get().filters == []
    for width in (1440, 390):
        page.set_viewport_size({"width": width, "height": 900})
        no_overflow(page)
    page.set_viewport_size({"width": 1440, "height": 900})
    page.click("text=Save these settings")
    page.wait_for_selector("text=The next run reads everything again")
    assert EntitySync.objects.get().filters == [{"side": "left", "field": "city", "op": "eq", "value": "Paris"}]
    assert EntitySync.objects.get().prevents == ["right.delete"]
    world.run("comprehensive")

    page.click("text=History of settings")
    page.wait_for_selector("text=Changes of settings")
    assert "Filters: none → In memory (left) city is Paris" in page.inner_text(".sl-timeline")
    page.locator("text=Go back to this").first.click()
    page.wait_for_selector("#effect")
    assert "2 newly included" in page.inner_text("#effect")
    page.set_viewport_size({"width": 390, "height": 900})
    no_overflow(page)
    page.click("text=Go back to these settings")
    page.wait_for_selector("text=Went back.")
    assert EntitySync.objects.get().filters == []
    assert not told, told


def test_a_person_pauses_an_integration_with_a_reason(page: Any, live_server: Any, world: TwoSystems) -> None:
    log_in(page, live_server)
    page.goto(live_server.url + reverse("admin:connectors_integration_change", args=[world.integration.pk]))
    page.click("summary:has-text('Pause')")
    page.fill("#why-pause", "month end")
    page.click(".st-why button")
    page.wait_for_selector("text=switched off by boss: month end")
    assert not Integration.objects.get().enabled
    page.click("text=Go on")
    page.wait_for_selector("text=is switched on")
    assert Integration.objects.get().enabled
