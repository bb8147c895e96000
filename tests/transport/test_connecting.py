"""Do connect, check and the commands say who we are, and stop what is not who it was?"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import ClassVar

import pytest
import requests
from django.apps import apps
from django.core.management import CommandError, call_command

from connectors import registry
from connectors.contract import AuthError, Identity, Limit, RetryableError
from connectors.models import ApiCall, Connection
from connectors.simulation import Simulator
from connectors.transport import check, connect, connected
from connectors.transport.connecting import SettingsMissing
from connectors.transport.types import OAuth2, Setting
from tests.transport.conftest import CANARIES, answer


class Books:
    """A connector of two calls: enough to be checked."""

    system: ClassVar[str] = "books"
    title: ClassVar[str] = "Books"
    limits: ClassVar[tuple[Limit, ...]] = ()
    settings: ClassVar[tuple[Setting, ...]] = (
        Setting("base_url", "Address", required=True, is_url=True),
        Setting("company", "Company", required=True),
        Setting("zone", "Zone", default="UTC"),
    )
    secrets: ClassVar[tuple[str, ...]] = ("client_id", "client_secret", "refresh_token")
    simulator: ClassVar[str] = "tests.transport.test_connecting.BooksSimulator"

    @classmethod
    def auth(cls, settings):
        return OAuth2(f"{settings['base_url']}/token", "refresh_token")

    def __init__(self, http, settings, now):
        self.http, self.settings, self.now = http, settings, now

    def check(self):
        reply = self.http.request("GET", f"{self.settings['base_url']}/me")
        if reply.status == 401:
            raise AuthError("The login is no longer accepted.")
        if reply.status >= 500:
            raise RetryableError("The system is down.")
        told = reply.json()
        return Identity(told["id"], told["name"], dict.fromkeys(told["may"], frozenset()), schema="s1")


class BooksSimulator(Simulator):
    system = "books"

    def credentials(self):
        return {"settings": {"base_url": self.url}, "secret": {"client_id": "invented"}}


@pytest.fixture(autouse=True)
def installed(monkeypatch):
    """Install the system as an app of a third party would."""
    monkeypatch.setattr(apps.get_app_config("connectors"), "connector", f"{__name__}.Books", raising=False)
    registry.systems.cache_clear()
    known = {**registry.systems(), "books": f"{__name__}.Books"}
    monkeypatch.setattr(registry, "systems", lambda: known)
    monkeypatch.setattr("connectors.management.commands.simulate.systems", lambda: {"books": known["books"]})
    yield
    monkeypatch.undo()
    registry.systems.cache_clear()


@pytest.fixture
def books(connection, server):
    server.routes["/me"] = lambda _: answer({"id": "1", "name": "Analytical Engines", "may": ["customer"]})
    Connection.objects.filter(pk=connection.pk).update(
        system="books", settings={"base_url": server.url, "company": "1"}
    )
    return Connection.objects.get(pk=connection.pk)


def test_connect_fills_in_defaults(books):
    connector = connect(books)
    assert isinstance(connector, Books)
    assert connector.settings["zone"] == "UTC"


def test_a_missing_setting_is_named(books):
    books.settings = {"base_url": "https://x.example", "company": ""}
    with pytest.raises(SettingsMissing, match=r"lacks Company \(company\)"):
        connect(books)


def test_connected_inserts_the_api_rows_at_the_end(books):
    with connected(books, run_id=3) as connector:
        connector.check()
        assert ApiCall.objects.count() == 0
    assert set(ApiCall.objects.values_list("path", "run_id")) == {("/token", 3), ("/me", 3)}


def test_check_stores_who_we_are(books):
    assert check(books).account == "Analytical Engines"
    books.refresh_from_db()
    assert (books.instance, books.account, books.schema) == ("1", "Analytical Engines", "s1")
    assert (books.state, books.reason) == (Connection.State.CONNECTED, "")


def test_another_company_stops_the_connection_until_the_first_one_is_back(books, server):
    check(books)
    first = server.routes["/me"]
    server.routes["/me"] = lambda _: answer({"id": "2", "name": "Difference Engines", "may": ["customer"]})
    with pytest.raises(AuthError, match=r"Difference Engines.*made for Analytical Engines"):
        check(books)
    books.refresh_from_db()
    assert (books.state, books.instance) == (Connection.State.WRONG_INSTANCE, "1")
    with pytest.raises(AuthError, match="another company"):
        connect(books).check()
    server.routes["/me"] = first
    check(books)
    assert Connection.objects.get().state == Connection.State.CONNECTED


def test_a_refused_login_needs_a_reconnect_and_a_check_after_new_credentials_ends_it(books, server):
    server.good_refresh = "something else"
    with pytest.raises(AuthError):
        check(books)
    assert Connection.objects.get().state == Connection.State.NEEDS_RECONNECT
    server.good_refresh = "entered"
    books.set_secret({**CANARIES, "refresh_token": "entered"})
    check(books)
    assert Connection.objects.get().state == Connection.State.CONNECTED


def test_a_401_that_stays_needs_a_reconnect(books, server):
    server.routes["/me"] = lambda _: answer({}, 401)
    with pytest.raises(AuthError):
        check(books)
    assert Connection.objects.get().reason == "The login is no longer accepted."


def test_a_system_that_is_down_changes_no_state(books, server):
    check(books)
    server.routes["/me"] = lambda _: answer({}, 500)
    with pytest.raises(RetryableError):
        check(books)
    assert Connection.objects.get().state == Connection.State.CONNECTED


def test_a_paused_connection_is_not_checked(books, server):
    Connection.objects.update(state="paused")
    with pytest.raises(AuthError, match="Resume"):
        check(Connection.objects.get())
    assert (server.seen, Connection.objects.get().state) == ([], "paused")


def checked(*names: str) -> tuple[int, list[dict[str, object]]]:
    out = StringIO()
    try:
        call_command("check_connections", *names, "--json", stdout=out)
    except SystemExit as end:
        return int(str(end.code)), json.loads(out.getvalue())
    return 0, json.loads(out.getvalue())


def test_the_command_says_ok_for_each_step(books):
    code, [result] = checked()
    assert (code, result["ok"], result["state"]) == (0, True, "connected")
    assert result["steps"] == {"address": "ok", "login": "ok", "rights": "ok"}
    assert "Analytical Engines" in result["message"]


def test_the_command_says_which_step_failed_and_ends_with_1(books, server, settings):
    server.routes["/me"] = lambda _: answer({"id": "1", "name": "", "may": []})
    assert checked("Books")[1][0]["steps"] == {"address": "ok", "login": "ok", "rights": "failed"}
    server.routes["/me"] = lambda _: answer({}, 401)
    code, [result] = checked("Books")
    assert (code, result["steps"]["login"], result["state"]) == (1, "failed", "needs reconnect")
    settings.ALLOWED_PRIVATE_NETWORKS = []
    code, [result] = checked("Books")
    assert (code, result["steps"]["address"], result["steps"]["login"]) == (1, "failed", "not tried")


def test_a_wrong_setting_is_told_and_the_others_are_checked(books):
    wrong = {"org_url": "https://crm.example.com", "token_url": "https://crm.example.com/token", "page_size": "abc"}
    Connection.objects.create(system="dynamics365", name="A wrong one", settings=wrong)
    code, [first, second] = checked()
    assert (code, first["ok"], second["ok"]) == (1, False, True)
    assert "Rows in a page (page_size) can't be 'abc'. It is a whole number from 1 to 5000." in first["message"]


def test_the_command_speaks_to_people_and_knows_unknown_names(books):
    out = StringIO()
    call_command("check_connections", stdout=out)
    assert "Books (books): connected; address ok, login ok, rights ok" in out.getvalue()
    with pytest.raises(CommandError, match="Nobody"):
        call_command("check_connections", "Nobody")


def test_simulate_tells_a_script_where_it_listens():
    out = StringIO()
    call_command("simulate", "books", "--json", "--seconds", "0.05", stdout=out)
    told = json.loads(out.getvalue())
    assert told["books"]["settings"]["base_url"] == told["books"]["url"]


def test_simulate_refuses_what_it_does_not_know():
    with pytest.raises(CommandError, match="No installed app speaks"):
        call_command("simulate", "nothing")


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_simulate_runs_until_it_is_stopped(stop):
    root = Path(__file__).resolve().parents[2]
    # The environment is the test's own: tests/environment.py has set what Django's settings need.
    process = subprocess.Popen(
        [sys.executable, "manage.py", "simulate", "quickbooks", "--records", "2", "--json"],
        cwd=root, env={**os.environ}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        journal = requests.get(f"{told['quickbooks']['url']}/_simulator/journal", timeout=5)
        assert journal.json() == []
        process.send_signal(stop)
        assert process.wait(timeout=10) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
