"""Does an operator find out on the first page what is wrong, and mend it without a shell or a reload?"""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from connectors.models import Connection, Integration, ProblemGroup, RecordLink, Run
from connectors.sync.plan import Pending
from jobs.models import Job
from jobs.worker import run_here
from tests.browser.chromium import executable
from tests.sync.test_problems import parked
from tests.sync.worlds import TwoSystems

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(executable() is None, reason="there is no Chromium on this machine"),
    pytest.mark.django_db(transaction=True),
]
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")


def enter(page, live_server) -> list[str]:  # type: ignore[no-untyped-def]
    """Log in; what the browser complains of is collected."""
    User.objects.create_superuser("ada", password="a long enough secret")
    wrong: list[str] = []
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(f"{live_server.url}/")
    page.fill("[name=username]", "ada")
    page.fill("[name=password]", "a long enough secret")
    page.click("[type=submit]")
    page.wait_for_selector("#sl-overview")
    return wrong


def test_fifty_records_parked_for_one_missing_label_clear_after_one_fix(live_server, page) -> None:  # type: ignore[no-untyped-def]
    parked(50)
    wrong = enter(page, live_server)
    assert "50 records need a person" in page.inner_text("#sl-overview")
    page.click("text=See the problems")
    page.wait_for_url("**/problemgroup/?**")
    page.click("text=The option 'Partner' has no partner")
    assert "50 records" in page.inner_text("#sl-page")
    page.select_option("#id_option", label="Reseller")
    page.click("text=Map and try all again")
    page.wait_for_selector("text=tries all of them again")
    [job] = Job.objects.all()
    run_here(job)
    assert not RecordLink.objects.filter(pending=Pending.PARKED).exists()
    page.goto(f"{live_server.url}/admin/connectors/problemgroup/")
    assert "no partner" not in page.inner_text("#main")
    page.goto(f"{live_server.url}/admin/")
    assert "need a person" not in page.inner_text("#sl-overview")
    assert wrong == []


def test_a_wrong_choice_is_said_at_the_field(live_server, page) -> None:  # type: ignore[no-untyped-def]
    parked(1)
    enter(page, live_server)
    page.click("text=See the problems")
    page.wait_for_url("**/problemgroup/?**")
    page.click("text=The option 'Partner' has no partner")
    page.wait_for_selector("#id_option")
    # In one step: the page keeps itself fresh, and in between it might show the true options again.
    page.evaluate(
        """() => {
            const list = document.querySelector("#id_option");
            list.options[list.options.length - 1].value = "gone";
            list.value = "gone";
            list.form.requestSubmit();
        }"""
    )
    page.wait_for_selector("#option_error")
    assert page.inner_text("#option_error") == "Choose one of the options."
    assert page.get_attribute("#id_option", "aria-invalid") == "true"


def test_the_overview_keeps_itself_fresh_and_stops_in_a_hidden_tab(live_server, page) -> None:  # type: ignore[no-untyped-def]
    TwoSystems()
    wrong = enter(page, live_server)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/live/" in request.url else None)
    assert "New" in page.inner_text(".ov-state")
    Connection.objects.filter(name="left").update(state="needs reconnect", reason="The refresh token was revoked.")
    page.clock.run_for(9_000)
    assert asked == []
    with page.expect_response("**/admin/live/"):
        page.clock.run_for(2_000)
    page.wait_for_selector("text=left needs to be connected again")
    assert len(asked) == 1

    hide = (
        "Object.defineProperty(document, 'hidden', {{value: {0}, configurable: true}}); "
        "document.dispatchEvent(new Event('visibilitychange'))"
    )
    page.evaluate(hide.format("true"))
    page.clock.run_for(60_000)
    assert len(asked) == 1
    with page.expect_response("**/admin/live/"):
        page.evaluate(hide.format("false"))
    assert len(asked) == 2
    assert wrong == []


def test_a_running_run_is_followed_until_it_is_done(live_server, page) -> None:  # type: ignore[no-untyped-def]
    world = TwoSystems()
    run = Run.objects.create(integration=world.integration, scope=world.scope, phase="pull", started_at=timezone.now())
    wrong = enter(page, live_server)
    page.goto(f"{live_server.url}/admin/connectors/run/{run.pk}/change/")
    assert "Reading" in page.inner_text("#sl-page")
    Run.objects.filter(pk=run.pk).update(phase="done", finished_at=timezone.now())
    address = f"**/admin/connectors/run/{run.pk}/change/"
    with page.expect_response(address):
        page.clock.run_for(2_500)
    page.wait_for_selector("#sl-page >> text=Succeeded")
    again: list[str] = []
    page.on("request", lambda request: again.append(request.url))
    page.clock.run_for(30_000)
    assert again == []
    assert wrong == []


def test_a_list_is_fresh_unless_somebody_is_ticking_rows_or_has_switched_it_off(live_server, page) -> None:  # type: ignore[no-untyped-def]
    world = TwoSystems()
    Job.objects.create(type="sync", scope=world.scope, run_at=timezone.now(), created_at=timezone.now())
    enter(page, live_server)
    page.goto(f"{live_server.url}/admin/jobs/job/")
    rows = page.locator("#result_list tr.data-row")
    assert rows.count() == 1
    Job.objects.create(type="sync", scope=world.scope, run_at=timezone.now(), created_at=timezone.now())
    page.check("input.action-select >> nth=0")
    with page.expect_response("**/admin/jobs/job/"):
        page.clock.run_for(11_000)
    page.wait_for_timeout(300)
    assert (rows.count(), page.is_checked("input.action-select >> nth=0")) == (1, True)
    page.uncheck("input.action-select >> nth=0")
    page.evaluate("document.activeElement.blur()")
    with page.expect_response("**/admin/jobs/job/"):
        page.clock.run_for(11_000)
    page.wait_for_function("document.querySelectorAll('#result_list tr.data-row').length === 2")
    page.uncheck("[data-live-switch]")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.clock.run_for(60_000)
    assert asked == []
    page.reload()
    assert not page.is_checked("[data-live-switch]")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
def test_nothing_is_wider_than_the_window(live_server, page, width: int, theme: str) -> None:  # type: ignore[no-untyped-def]
    world = parked(3)
    Integration.objects.filter(pk=world.integration.pk).update(name="A long name of an integration " * 3)
    page.emulate_media(color_scheme=theme)
    page.set_viewport_size({"width": width, "height": 900})
    wrong = enter(page, live_server)
    number = ProblemGroup.objects.get().pk
    for path in (
        "/admin/",
        "/admin/connectors/problemgroup/",
        f"/admin/connectors/problemgroup/{number}/change/",
        "/admin/time-zone/",
    ):
        page.goto(live_server.url + path)
        assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0, path
    assert wrong == []
