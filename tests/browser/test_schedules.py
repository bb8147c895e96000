"""The story of provisioning in a real browser, with both systems simulated over HTTP and a real mail server."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import default

import environ
import pytest
from aiosmtpd.controller import Controller
from django.contrib.auth.models import Permission, User

from connectors.dynamics365.simulator import DynamicsSimulator
from connectors.models import Integration
from connectors.quickbooks.simulator import QuickBooksSimulator
from connectors.sync.presets import apply_preset, presets
from connectors.transport import check, connected
from jobs.models import Job
from jobs.worker import run_in_process
from scheduling.models import Provisioning, Service
from scheduling.services import make_services
from tests.acceptance.conftest import connection_to
from tests.browser.chromium import ARGUMENTS, executable

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(executable() is None, reason="there is no Chromium on this machine"),
    pytest.mark.django_db(transaction=True),
]
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
PASSWORD = "a long enough secret"
SEES = ("view_service", "view_provisioning", "view_integration", "view_job", "view_blackout")
FIRST = "QuickBooks to Dynamics 365"


@dataclass
class Mailbox:
    """What the mail server has taken."""

    mails: list[EmailMessage] = field(default_factory=list)

    async def handle_DATA(self, server: object, session: object, envelope: object) -> str:
        self.mails.append(BytesParser(policy=default).parsebytes(envelope.content))  # type: ignore[attr-defined]
        return "250 taken"


@pytest.fixture
def mailbox(settings) -> Iterator[Mailbox]:  # type: ignore[no-untyped-def]
    """A mail server on loopback that the hub is told of as operators do it: by EMAIL_URL."""
    found = Mailbox()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = Controller(found, hostname="127.0.0.1", port=port)
    server.start()
    for name, value in environ.Env.email_url_config(f"smtp://127.0.0.1:{port}").items():
        setattr(settings, name, value)
    yield found
    server.stop()


@pytest.fixture
def pair(transactional_db: None) -> Iterator[Integration]:
    """Both simulated systems with the preset applied, and its services."""
    with QuickBooksSimulator(records=20, seed=7) as left, DynamicsSimulator(seed=7) as right:
        ends = {"left": connection_to(left, "Books"), "right": connection_to(right, "Sales")}
        for end in ends.values():
            check(end)
        with connected(ends["left"]) as one, connected(ends["right"]) as other:
            applied = apply_preset(presets()["inolink"], "Books with Sales", ends, {"left": one, "right": other})
        make_services(applied.integration)
        yield applied.integration


@pytest.fixture
def visit(live_server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., object]]:  # type: ignore[no-untyped-def]
    """Log somebody with these rights in, in a browser of their own, and open the schedules."""
    monkeypatch.setitem(os.environ, "DJANGO_ALLOW_ASYNC_UNSAFE", "1")  # playwright keeps an event loop in this thread
    foreign: list[str] = []
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=executable(), args=ARGUMENTS)

        def open_page(name: str, of: Integration, *codenames: str) -> object:
            user = User.objects.create_user(name, email=f"{name}@example.com", password=PASSWORD, is_staff=True)
            user.user_permissions.set(Permission.objects.filter(codename__in=[*SEES, *codenames]))
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            page.set_default_timeout(20_000)
            page.on(
                "request",
                lambda asked: (
                    foreign.append(asked.url) if not asked.url.startswith((live_server.url, "data:")) else None
                ),
            )
            page.goto(f"{live_server.url}/admin/scheduling/service/schedules/{of.pk}/")
            page.fill("[name=username]", name)
            page.fill("[name=password]", PASSWORD)
            page.click("[type=submit]")
            page.wait_for_selector("#provisioning")
            return page

        yield open_page
        browser.close()
    assert foreign == []


def card(page, name: str):  # type: ignore[no-untyped-def]
    return page.locator(".sched-card").filter(has=page.get_by_role("heading", name=name, exact=True))


def said(page) -> str:  # type: ignore[no-untyped-def]
    return str(page.inner_text("#main"))


def test_services_are_asked_for_approved_told_by_mail_and_started(visit, pair, mailbox, settings) -> None:  # type: ignore[no-untyped-def]
    settings.SITE_URL = "https://sync.example.com"
    ada = visit("ada", pair, "change_service")

    # Editing says at once what it means; nothing is stored before Save.
    first = card(ada, FIRST)
    first.locator("input[type=number]").fill("10")
    ada.wait_for_selector("text=is more often than recommended")
    first.locator("input[type=number]").fill("3")
    ada.wait_for_selector("text=every 3 minutes is too often")
    assert first.locator(".sched-runs li").count() == 0
    first.locator("input[type=number]").fill("45")
    ada.wait_for_selector("text=Every 45 minutes")
    first.get_by_label("Sun", exact=True).uncheck()
    ada.wait_for_selector("text=Every 45 minutes, 08:00 to 17:00, Monday to Saturday")
    assert first.locator(".sched-runs li").count() == 10
    assert Service.objects.get(name=FIRST).windows.get().every_minutes == 30

    # The first Save asks, once for a double click; the message says how long it may take.
    ada.get_by_role("button", name="Save").last.dblclick()
    ada.wait_for_selector("text=The request to provision the services was placed")
    assert "Nothing was saved" not in said(ada)
    assert "24 hours" in said(ada)
    assert Service.objects.get(name=FIRST).windows.get().every_minutes == 45
    assert "Waiting for provision" in first.inner_text()

    # While it is processed, the page does not let anybody save or start, and the hub refuses whoever tries.
    assert ada.get_by_role("button", name="Save").last.is_disabled()
    assert first.get_by_role("button", name="Start").is_disabled()
    for locked in ("fieldset", ".sched-save button", ".sched-switch"):
        ada.evaluate("chosen => document.querySelectorAll(chosen).forEach(e => e.disabled = false)", locked)
    first.locator("input[type=number]").fill("60")
    ada.wait_for_selector("text=Every hour, 08:00 to 17:00")
    ada.get_by_role("button", name="Save").last.click()
    ada.wait_for_selector("text=Nothing was saved")
    assert "are being provisioned (asked for by ada" in said(ada)
    assert Service.objects.get(name=FIRST).windows.get().every_minutes == 45

    # An administrator of the hub approves; the requester is told by mail, by whom and about what.
    grace = visit("grace", pair, "decide_provisioning")
    grace.get_by_role("button", name="Approve").click()
    grace.wait_for_selector("text=is told by e-mail and can start the services")
    run_in_process(Job.objects.get(type="provisioning mail"))
    [told] = mailbox.mails
    assert told["To"] == "ada@example.com"
    assert "Books with Sales" in told["Subject"]
    assert "grace" in told.get_content()
    assert f"https://sync.example.com/admin/scheduling/service/schedules/{pair.pk}/" in told.get_content()

    # Then the services start, after a look at both systems; the next run is shown.
    ada.goto(ada.url.partition("#")[0])
    first.get_by_role("button", name="Start").click()
    ada.wait_for_selector(f"text={FIRST} is started.")
    service = Service.objects.get(name=FIRST)
    assert service.enabled
    assert service.next_run_at is not None
    shown = first.locator("time").first
    assert shown.get_attribute("title") == f"{service.next_run_at:%Y-%m-%d %H:%M:%S} UTC"
    assert first.locator(".sched-runs time").first.get_attribute("title") == f"{service.next_run_at:%Y-%m-%d %H:%M} UTC"

    # A person runs it at once: two clicks, one job.
    first.get_by_role("button", name="Run now").dblclick()
    ada.wait_for_selector("text=run requested as")
    assert Job.objects.filter(object_ref=f"service:{service.pk}").count() == 1


def test_a_declined_request_is_told_with_its_reason_and_asked_again(visit, pair, mailbox) -> None:  # type: ignore[no-untyped-def]
    ada = visit("ada", pair, "change_service")
    ada.get_by_role("button", name="Save").last.click()
    ada.wait_for_selector("text=The request to provision the services was placed")
    grace = visit("grace", pair, "decide_provisioning")
    grace.get_by_label("Why it is declined").fill("The books are closed until May.")
    grace.get_by_role("button", name="Decline").click()
    grace.wait_for_selector("text=Declined. ada is told")
    run_in_process(Job.objects.get(type="provisioning mail"))
    assert "closed until May" in mailbox.mails[0].get_content()
    ada.reload()
    assert "grace declined" in said(ada)
    card(ada, FIRST).get_by_role("button", name="Start").click()
    ada.wait_for_selector("text=was declined by grace: The books are closed until May.")
    ada.get_by_role("button", name="Ask again").click()
    ada.wait_for_selector("text=The request to provision the services was placed")
    assert list(Provisioning.objects.order_by("id").values_list("status", flat=True)) == ["declined", "requested"]
    ada.get_by_text("Who and when").click()
    assert ada.locator(".sl-timeline li").count() == 3


def test_windows_are_added_and_removed_and_the_heat_follows(visit, pair) -> None:  # type: ignore[no-untyped-def]
    Provisioning.objects.create(integration=pair, status="approved", requested_at=pair.created_at)
    ada = visit("ada", pair, "change_service")
    weekly = card(ada, "Weekly reconciliation")
    assert weekly.locator(".sched-h1").count() == 1
    weekly.get_by_role("button", name="Add window").click()
    weekly.locator(".sched-h2").first.wait_for()
    assert weekly.locator(".sched-h2").count() == 5 * 9
    weekly.get_by_label("Remove").first.check()
    ada.wait_for_function("document.querySelectorAll('.sched-card:last-of-type .sched-h1').length === 5")
    weekly.get_by_label("Time zone").fill("America/New_York")
    ada.wait_for_selector("text=Every 30 minutes, 08:00 to 17:00, Monday to Friday, America/New_York")
    weekly.get_by_label("Time zone").press("Enter")
    ada.wait_for_selector("text=Saved: Weekly reconciliation.")
    kept = Service.objects.get(name="Weekly reconciliation")
    assert (kept.zone, kept.windows.get().days, kept.enabled) == ("America/New_York", 0b11111, False)
