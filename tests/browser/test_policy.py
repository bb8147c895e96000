"""Do the pages work under their own content policy?  A browser says in its console what it refused."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.urls import reverse

from connectors.models import RecordChange, RecordLink, Run
from tests.browser.chromium import executable
from tests.config.conftest import everything, world  # noqa: F401 - fixtures
from tests.sync.worlds import TwoSystems

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(executable() is None, reason="there is no Chromium on this machine"),
    pytest.mark.django_db(transaction=True),
]
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")


def addresses(world: TwoSystems) -> list[str]:  # noqa: F811
    """The pages that people use."""
    lists = [
        "connectors_integration", "connectors_connection", "connectors_run", "connectors_recordlink", "connectors_promotion",
        "connectors_recordchange", "connectors_event", "connectors_apicall", "connectors_entitysync", "connectors_fieldmapping",
        "jobs_job", "jobs_pause", "jobs_workerheartbeat", "scheduling_service", "scheduling_blackout", "auth_user",
        "auth_group", "config_apitoken", "admin_logentry", "axes_accessattempt",
    ]  # fmt: skip
    link = RecordLink.objects.filter(reason="conflict").latest("id")
    return [
        reverse("admin:index"),
        *(reverse(f"admin:{name}_changelist") for name in lists),
        reverse("admin:connectors_integration_change", args=[world.integration.pk]),
        reverse("admin:connectors_integration_preferences", args=[world.integration.pk]),
        reverse("admin:connectors_integration_preset"),
        reverse("admin:connectors_connection_change", args=[world.integration.left_id]),
        reverse("admin:connectors_connection_unrouted", args=[world.integration.left_id]),
        reverse("admin:connectors_recordlink_change", args=[link.pk]),
        reverse("admin:connectors_run_change", args=[Run.objects.latest("id").pk]),
        reverse("admin:connectors_recordchange_change", args=[RecordChange.objects.latest("id").pk]),
        reverse("admin:scheduling_integration", args=[world.integration.pk]),
        reverse("admin:config_apitoken_add"),
        reverse("admin:auth_user_add"),
        reverse("admin:scheduling_blackout_add"),
    ]


def test_no_main_page_breaks_its_policy_or_logs_an_error(live_server, page, everything: TwoSystems) -> None:  # type: ignore[no-untyped-def]  # noqa: F811
    User.objects.create_superuser("ada", password="a long enough secret")
    told: list[str] = []
    page.on("console", lambda message: told.append(f"{page.url}: {message.text}") if message.type == "error" else None)
    page.on("pageerror", lambda error: told.append(f"{page.url}: {error}"))
    # A page that is left at once takes what it was still loading with it: that is no refusal.
    page.on(
        "requestfailed",
        lambda request: (
            told.append(f"{page.url}: {request.url} failed: {request.failure}")
            if request.failure != "net::ERR_ABORTED"
            else None
        ),
    )
    page.goto(f"{live_server.url}/admin/")
    page.fill("[name=username]", "ada")
    page.fill("[name=password]", "a long enough secret")
    page.click("[type=submit]")
    for address in addresses(everything):
        page.goto(f"{live_server.url}{address}", wait_until="load")
    page.goto(f"{live_server.url}{reverse('docs')}")
    page.wait_for_selector(".opblock-summary-path")
    page.mouse.move(600, 600)
    resolve = page.locator("[id*=links_resolve]")
    for _ in range(200):  # only what is in sight is in the page
        if resolve.count():
            break
        page.mouse.wheel(0, 400)
        page.wait_for_timeout(100)
    assert resolve.count()
    assert not told, "\n".join(sorted(set(told)))


def test_a_button_asks_before_it_acts_and_one_tick_ticks_all(live_server, page, everything: TwoSystems) -> None:  # type: ignore[no-untyped-def]  # noqa: F811
    User.objects.create_superuser("ada", password="a long enough secret")
    page.goto(f"{live_server.url}/admin/")
    page.fill("[name=username]", "ada")
    page.fill("[name=password]", "a long enough secret")
    page.click("[type=submit]")
    asked: list[str] = []

    def answer(dialog) -> None:  # type: ignore[no-untyped-def]
        asked.append(dialog.message)
        if len(asked) == 1:
            dialog.dismiss()
        else:
            dialog.accept()

    page.on("dialog", answer)
    connection = everything.integration.left
    page.goto(f"{live_server.url}{reverse('admin:connectors_connection_change', args=[connection.pk])}")
    page.click("form[data-confirm] >> text=Pause")
    connection.refresh_from_db()
    assert connection.state != "paused"
    page.click("form[data-confirm] >> text=Pause")
    page.wait_for_selector("text=Paused by ada")
    connection.refresh_from_db()
    assert (connection.state, len(asked)) == ("paused", 2)

    page.goto(f"{live_server.url}{reverse('admin:conflicts')}")
    boxes = page.locator("input[name=link]")
    assert boxes.count() > 0 and not any(box.is_checked() for box in boxes.all())
    page.locator("input[data-ticks-page=link]").first.check()
    assert all(box.is_checked() for box in boxes.all())
