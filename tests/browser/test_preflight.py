"""Can a person see what blocks the services, go where it is mended, look again, and then start them?"""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.urls import reverse

from connectors.models import FieldMapping
from connectors.sync.run import mark_settings_changed
from jobs import clock
from scheduling.models import Provisioning, Service
from scheduling.services import make_services
from tests.acceptance.conftest import Hub, fresh, systems  # noqa: F401 - fixtures
from tests.browser.chromium import executable

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(executable() is None, reason="there is no Chromium on this machine"),
    pytest.mark.django_db(transaction=True),
]
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")


def test_red_lines_are_mended_where_they_lead_and_then_the_services_start(live_server, page, fresh: Hub) -> None:  # type: ignore[no-untyped-def]  # noqa: F811
    integration = fresh.integration
    make_services(integration)
    now = clock.now()
    Provisioning.objects.create(integration=integration, status="approved", requested_at=now, decided_at=now)
    User.objects.create_superuser("ada", password="a long enough secret")
    # Somebody took a column away, and a required field gets its value too late.
    column = fresh.right.tables["account"].columns["syn_aging30"]
    fresh.right.tables["account"].drop("syn_aging30")
    mapping = integration.entity_syncs.get(name="customer").mappings.get(
        left="DisplayName", when="create", direction="to_left"
    )
    FieldMapping.objects.filter(pk=mapping.pk).update(when="later")
    mark_settings_changed(integration)
    service = Service.objects.filter(integration=integration).first()
    schedules = live_server.url + reverse("admin:scheduling_integration", args=[integration.pk])
    start = f"button[formaction$='/{service.pk}/do/start/']"

    page.goto(f"{live_server.url}/")
    page.fill("[name=username]", "ada")
    page.fill("[name=password]", "a long enough secret")
    page.click("[type=submit]")
    page.goto(schedules)
    page.click(start)
    text = page.inner_text("#main")
    assert "2 checks of the pre-flight are red" in text and "syn_aging30" in text
    assert not Service.objects.get(pk=service.pk).enabled

    page.click("text=Pre-flight (2 red)")
    assert "2 things block the services." in page.inner_text("#content")
    red = page.locator("li.sl-pf-blocking")
    assert red.count() == 2
    assert "lacks on account: syn_aging30 (currency, 4 decimal places)" in red.nth(0).inner_text()
    assert "Display name (DisplayName) is required on Customer in Books" in red.nth(1).inner_text()

    red.nth(1).get_by_role("link", name="Open the entity sync").click()
    fresh.right.tables["account"].add(column)
    page.click("#content .sl-button:text-is('Mappings')")
    page.locator(f"#mapping-{mapping.pk} select[name$='-when']").select_option("create")
    page.click("text=Save…")
    page.click("text=Save these changes")
    page.wait_for_selector("text=Saved: ")

    page.goto(live_server.url + reverse("admin:scheduling_preflight", args=[integration.pk]))
    assert "Settings have changed since" in page.inner_text("#content")
    page.click("text=Look again")
    text = page.inner_text("#content")
    assert "Nothing blocks the services" in text and "Settings have changed" not in text
    assert page.locator("li.sl-pf-blocking").count() == 0

    page.click("#content >> text=Schedules")
    page.click(start)
    page.wait_for_selector(f"button[formaction$='/{service.pk}/do/stop/']")
    started = Service.objects.get(pk=service.pk)
    assert started.enabled and started.next_run_at is not None
