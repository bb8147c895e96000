"""Can a person connect, end to end, in a real browser: from an empty list to the system's consent page and back?"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.urls import reverse

from connectors.dynamics365.simulator import DynamicsSimulator
from connectors.models import ApiCall, Connection
from connectors.quickbooks.simulator import QuickBooksSimulator
from tests.acceptance.conftest import Hub, fresh, hub, systems  # noqa: F401 - fixtures
from tests.browser.chromium import ARGUMENTS, executable

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(executable() is None, reason="there is no Chromium on this machine"),
    pytest.mark.django_db(transaction=True),
]
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch, live_server) -> Iterator[object]:  # type: ignore[no-untyped-def]
    """A page in which ada is logged in.  Playwright keeps an event loop here, which Django takes for asynchronous code."""
    monkeypatch.setitem(os.environ, "DJANGO_ALLOW_ASYNC_UNSAFE", "1")
    User.objects.create_superuser("ada", password="a long enough secret")
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=executable(), args=ARGUMENTS)
        opened = browser.new_context(viewport={"width": 1440, "height": 900}).new_page()
        opened.goto(f"{live_server.url}/")
        opened.fill("[name=username]", "ada")
        opened.fill("[name=password]", "a long enough secret")
        opened.click("[type=submit]")
        yield opened
        browser.close()


def add(page, live_server, system: str, name: str, told: dict[str, str], secret: dict[str, str]) -> Connection:  # type: ignore[no-untyped-def]
    """Make a connection as a person does: system and name first, then what the connector asks for."""
    page.goto(live_server.url + reverse("admin:connectors_connection_add"))
    page.select_option("[name=system]", system)
    page.fill("[name=name]", name)
    page.click("[name=_save]")
    assert "then press" in page.inner_text("#main")
    for key, value in told.items():
        field = page.locator(f"[name=setting_{key}]")
        field.select_option(value) if key == "login" else field.fill(value)
    for key, value in secret.items():
        page.fill(f"[name=secret_{key}]", value)
    page.click("[name=_continue]")
    return Connection.objects.get(name=name)


def test_a_person_connects_a_quickbooks_company_and_may_say_no_first(live_server, page) -> None:  # type: ignore[no-untyped-def]
    with QuickBooksSimulator(records=3, seed=3) as books:
        given = books.credentials()
        realm = given["settings"].pop("realm")
        secret = {key: str(given["secret"][key]) for key in ("client_id", "client_secret")}
        told = {key: str(given["settings"][key]) for key in ("api_base", "token_url", "authorize_url")}
        connection = add(page, live_server, "quickbooks", "Books", told, secret)
        there = reverse("admin:connectors_connection_change", args=[connection.pk])
        assert f"{live_server.url}{reverse('admin:connectors_connection_callback')}" in page.inner_text("#content")

        page.click("button:text-is('Connect')")
        page.wait_for_url(f"{books.url}/connect/oauth2*")
        assert "Share your company's books?" in page.inner_text("main")
        page.click("text=Cancel")
        page.wait_for_url(live_server.url + there)
        assert "Nobody gave consent at QuickBooks Online" in page.inner_text("#main")

        page.click("button:text-is('Connect')")
        page.wait_for_url(f"{books.url}/connect/oauth2*")
        page.click("button:text-is('Connect')")
        page.wait_for_url(live_server.url + there)  # no code stays in the address
        assert "Connected to" in page.inner_text("#main")
        row = Connection.objects.get()
        assert (row.state, row.instance, row.settings["realm"]) == ("connected", realm, realm)
        logged = LogEntry.objects.filter(object_id=str(row.pk), change_message__startswith="Connect.").get()
        assert row.get_secret()["refresh_token"] not in logged.change_message


def test_a_person_connects_dynamics_in_two_tabs(live_server, page) -> None:  # type: ignore[no-untyped-def]
    with DynamicsSimulator(seed=3) as crm:
        given = crm.credentials()
        secret = {key: str(value) for key, value in given["secret"].items()}
        told = {key: str(given["settings"][key]) for key in ("org_url", "token_url")} | {"login": "person"}
        connection = add(page, live_server, "dynamics365", "CRM", told, secret)
        there = live_server.url + reverse("admin:connectors_connection_change", args=[connection.pk])
        tabs = [page, page.context.new_page()]
        for tab in tabs:
            tab.goto(there)
            tab.click("button:text-is('Connect')")
            tab.wait_for_url(f"{crm.url}/**/authorize?*")
        for tab in tabs:
            tab.click("text=Accept")
            tab.wait_for_url(there)
            assert "Connected to" in tab.inner_text("#main")
        assert Connection.objects.get().state == "connected"


def test_somebody_elses_return_is_refused_with_a_sentence(live_server, page) -> None:  # type: ignore[no-untyped-def]
    page.goto(live_server.url + reverse("admin:connectors_connection_callback") + "?state=made-up&code=x&realmId=1")
    assert page.url == live_server.url + reverse("admin:connectors_connection_changelist")
    assert "This sign-in is not known here" in page.inner_text("#main")


def test_an_operator_sees_which_step_fails_while_it_fails(live_server, page, fresh: Hub) -> None:  # type: ignore[no-untyped-def]  # noqa: F811
    books = fresh.connection("left")
    there = live_server.url + reverse("admin:connectors_connection_health", args=[books.pk])
    page.goto(there)
    page.click("button:text-is('Test')")
    page.wait_for_selector("[data-step=write] .sl-good")
    assert page.locator("#steps .sl-good").count() == 5
    fresh.left.tokens.revoke_all()
    page.click("button:text-is('Test')")
    page.wait_for_selector("[data-step=login] .sl-bad, [data-step=read] .sl-bad")
    assert "refused to log in" in page.inner_text("#steps")
    assert "can be written" not in page.inner_text("[data-step=write]")  # what comes after a failure is not tried
    page.reload()
    assert "Needs reconnect" in page.inner_text("#content")
    assert page.locator("button:text-is('Connect')").count() == 1


def test_bodies_are_seen_only_after_reveal(live_server, page, fresh: Hub) -> None:  # type: ignore[no-untyped-def]  # noqa: F811
    books = fresh.connection("left")
    call = ApiCall.objects.filter(connection=books).first()
    ApiCall.objects.filter(pk=call.pk).update(body="> {}\n< what came back")
    page.goto(live_server.url + reverse("admin:connectors_connection_health", args=[books.pk]))
    page.click(f"a[href$='/calls/{call.pk}/']")
    assert "what came back" not in page.content()
    assert "$TOKEN" in page.inner_text("#curl")
    page.on("dialog", lambda dialog: dialog.accept())
    page.click("text=Reveal")
    page.wait_for_selector("text=what came back")
    assert LogEntry.objects.filter(object_id=str(call.pk), change_message="Bodies revealed.").count() == 1
