"""Where do credentials go when a person changes a connection, and what does a save leave alone?"""

from __future__ import annotations

import html
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.conf import settings
from django.contrib import admin
from django.contrib.auth.models import User
from django.db import connection as database
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from rest_framework.test import APIClient
from werkzeug.wrappers import Response

from connectors.admin.connections import SECRET, SETTING, ConnectionAdmin, connection_form
from connectors.api.connections import ConnectionSerializer
from connectors.contract import PermanentError, RetryableError, Unanswered
from connectors.models import Connection
from connectors.registry import connector_class
from connectors.transport import session
from connectors.transport.session import Transport
from connectors.transport.types import OAuth2
from jobs.housekeeping.bundle import ConfigRefused, take
from jobs.housekeeping.config import KINDS
from tests.production_check import ENVIRONMENT
from tests.transport.conftest import Server, answer, clock, file_database, make_transport, server  # noqa: F401 - fixtures

ADDRESSES = {"org_url": "https://crm.example.com", "token_url": "https://login.example.com/oauth2/v2.0/token"}
GIVEN = {"client_id": "an-id", "client_secret": "hush-1"}
LIVE = {"access_token": "live-bearer", "access_expires_at": (datetime.now(UTC) + timedelta(hours=1)).isoformat()}
JUNK = {"client_id": "x", "client_secret": "y"}
ELSEWHERE = "https://elsewhere.example.net"


@pytest.fixture
def crm(db: None) -> Connection:
    made = Connection.objects.create(system="dynamics365", name="CRM", settings=ADDRESSES)
    made.set_secret({**GIVEN, **LIVE})
    Connection.objects.filter(pk=made.pk).update(state="connected")
    made.refresh_from_db()
    return made


@pytest.fixture
def books(db: None) -> Connection:
    made = Connection.objects.create(system="quickbooks", name="Books", settings={"realm": "1"})
    made.set_secret({**GIVEN, **LIVE, "refresh_token": "rotates-0"})
    return made


def stored(connection: Connection) -> dict[str, str]:
    return dict(Connection.objects.get(pk=connection.pk).get_secret())


def by_api(connection: Connection, body: Mapping[str, object]) -> ConnectionSerializer:
    """Validate a PATCH on this object, which may be older than its row by the time it is saved."""
    asked = ConnectionSerializer(connection, data=body, partial=True)
    asked.is_valid(raise_exception=True)
    return asked


def by_form(connection: Connection, **changes: str) -> Callable[[], None]:
    """Validate the admin's form on this object and return its save."""
    cls = connection_form(connection)
    shown = {n: f.initial or "" for n, f in cls.base_fields.items() if n.startswith(SETTING)}
    form = cls({"name": connection.name, **shown, **changes}, instance=connection)
    assert form.is_valid(), form.errors
    screen, request = ConnectionAdmin(Connection, admin.site), RequestFactory().post("/")
    return lambda: screen.save_model(request, form.instance, form, change=True)


def secret_fields(values: Mapping[str, str]) -> dict[str, str]:
    return {SECRET + name: value for name, value in values.items()}


# A new address


@pytest.mark.parametrize("name", ["org_url", "token_url"])
def test_the_access_token_does_not_follow_to_a_new_address_through_the_api(
    crm: Connection, person: Callable[..., User], name: str
) -> None:
    client = APIClient()
    client.force_login(person("view_connection", "change_connection"))
    body = {"settings": {**ADDRESSES, name: ELSEWHERE}, "secret": JUNK}
    answered = client.patch(f"/api/v1/connections/{crm.pk}/", body, format="json")
    assert (answered.status_code, answered.json()["state"]) == (200, "new")
    assert stored(crm) == JUNK


def test_the_access_token_does_not_follow_to_a_new_address_through_the_admin(
    crm: Connection, client: Client, person: Callable[..., User]
) -> None:
    client.force_login(person("view_connection", "change_connection"))
    page = reverse("admin:connectors_connection_change", args=[crm.pk])
    fields = client.get(page).context["adminform"].form.fields
    shown = {name: field.initial or "" for name, field in fields.items() if name.startswith(SETTING)}
    given = {**shown, "name": "CRM", SETTING + "org_url": ELSEWHERE}
    assert "enter the credentials again" in client.post(page, given).content.decode()
    assert client.post(page, {**given, **secret_fields(JUNK)}).status_code == 302
    assert stored(crm) == JUNK
    assert Connection.objects.get().settings["org_url"] == ELSEWHERE


def test_one_new_secret_ends_the_login_that_the_old_one_gave(crm: Connection) -> None:
    by_api(crm, {"secret": {"client_secret": "hush-2"}}).save()
    assert stored(crm) == {**GIVEN, "client_secret": "hush-2"}
    crm.update_secret(**LIVE)
    by_form(crm, secret_client_secret="hush-3")()
    assert stored(crm) == {**GIVEN, "client_secret": "hush-3"}


def test_a_new_name_keeps_the_login(crm: Connection) -> None:
    by_api(crm, {"name": "Sales"}).save()
    assert stored(crm) == {**GIVEN, **LIVE}
    assert Connection.objects.get().state == "connected"


@pytest.mark.parametrize(
    ("more", "moved"),
    [
        ({"page_size": "10"}, []),
        ({"org_url": ELSEWHERE}, ["org_url"]),
        ({"org_url": ""}, ["org_url"]),
        ({"undeclared": ELSEWHERE}, ["undeclared"]),  # the transport would call it, too
        ({"authorize_url": ""}, []),
    ],
)
def test_which_settings_send_credentials_elsewhere(crm: Connection, more: dict[str, str], moved: list[str]) -> None:
    assert crm.moved({**ADDRESSES, **more}) == moved


def test_writing_out_the_default_address_is_no_move(books: Connection) -> None:
    default = next(s.default for s in connector_class("quickbooks").settings if s.name == "api_base")
    assert books.moved({"realm": "1", "api_base": default}) == []
    assert books.moved({"realm": "1", "api_base": ELSEWHERE}) == ["api_base"]


def test_an_address_that_moved_since_the_check_takes_no_stored_credentials_along(crm: Connection) -> None:
    """The check saw the old row: by then somebody else had moved it and entered credentials for the new host."""
    back = by_api(Connection.objects.get(), {"settings": {**ADDRESSES, "page_size": "10"}})
    Connection.objects.get().change({"settings": {**ADDRESSES, "org_url": ELSEWHERE}}, GIVEN)
    back.save()
    assert stored(crm) == {}


def test_lost_keys_are_replaced_by_what_is_entered(crm: Connection) -> None:
    Connection.objects.filter(pk=crm.pk).update(secret=b"not readable")
    by_api(Connection.objects.get(), {"secret": GIVEN}).save()
    assert stored(crm) == GIVEN


# Only what was changed


def rotate(connection: Connection) -> None:
    """Do what a worker does meanwhile: a rotated refresh token, its end, another state."""
    worker = Connection.objects.get(pk=connection.pk)
    worker.update_secret(refresh_token="rotates-1")
    Connection.objects.filter(pk=connection.pk).update(
        state="connected", instance="company 9", auth_expires_at=datetime(2027, 1, 1, tzinfo=UTC)
    )


@pytest.mark.parametrize("how", ["api", "admin"])
@pytest.mark.parametrize("entered", [{}, {"client_secret": "hush-2"}])
def test_what_a_worker_stored_meanwhile_stays(books: Connection, how: str, entered: dict[str, str]) -> None:
    old = Connection.objects.get()
    if how == "api":
        asked = by_api(old, {"name": "Ledger", "secret": entered})
        rotate(books)
        asked.save()
    else:
        save = by_form(old, **{**secret_fields(entered), "name": "Ledger"})
        rotate(books)
        save()
    row = Connection.objects.get()
    assert (row.name, row.instance, row.state) == ("Ledger", "company 9", "new" if entered else "connected")
    assert row.auth_expires_at == datetime(2027, 1, 1, tzinfo=UTC)
    expected = {**GIVEN, **entered, "refresh_token": "rotates-1"}
    assert stored(books) == (expected if entered else {**expected, **LIVE})
    assert old.get_secret() == row.get_secret()


def test_a_patch_of_the_secret_alone_leaves_name_and_settings(books: Connection) -> None:
    asked = by_api(Connection.objects.get(), {"secret": {"client_secret": "hush-2"}})
    Connection.objects.filter(pk=books.pk).update(name="Renamed", settings={"realm": "2"}, account="Nine")
    asked.save()
    row = Connection.objects.get()
    assert (row.name, row.settings, row.account) == ("Renamed", {"realm": "2"}, "Nine")


def test_nothing_is_written_where_nothing_changed(crm: Connection) -> None:
    same = {"name": "CRM", "settings": ADDRESSES}
    for save in (by_api(Connection.objects.get(), same).save, by_form(Connection.objects.get())):
        with CaptureQueriesContext(database) as queries:
            save()
        assert [q["sql"] for q in queries if q["sql"].startswith(("UPDATE", "INSERT"))] == []


def test_a_connection_of_a_removed_system_is_renamed_and_nothing_else(db: None, client: Client, person: Any) -> None:
    made = Connection.objects.create(system="gone", name="Old", settings={"a": "https://a.example"})
    client.force_login(person(is_superuser=True))
    page = reverse("admin:connectors_connection_change", args=[made.pk])
    assert client.post(page, {"name": "Older"}).status_code == 302
    made.refresh_from_db()
    assert (made.name, made.settings) == ("Older", {"a": "https://a.example"})


# A worker that is under way


@pytest.fixture
def ledger(db: None, server: Server) -> Connection:  # noqa: F811
    urls = {"api_base": server.url, "token_url": f"{server.url}/token"}
    made = Connection.objects.create(system="quickbooks", name="Ledger", settings={"realm": "1", **urls})
    made.set_secret({**GIVEN, "refresh_token": server.good_refresh})
    return made


def test_new_credentials_do_not_go_to_the_address_that_was_left(
    ledger: Connection,
    server: Server,  # noqa: F811
    make_transport: Callable[..., Transport],  # noqa: F811
) -> None:
    run = make_transport(Connection.objects.get(), OAuth2(f"{server.url}/token", "refresh_token"))
    assert run.request("GET", f"{server.url}/x").status == 200
    moved = {"realm": "1", "api_base": ELSEWHERE, "token_url": f"{ELSEWHERE}/token"}
    ledger.change({"settings": moved}, {**GIVEN, "client_secret": "for the new one", "refresh_token": "new"})
    Connection.objects.get().update_secret(**LIVE)  # somebody logged in there
    server.good_access.clear()  # the old host answers 401: the run looks for another token
    with pytest.raises(RetryableError, match="settings of connection Ledger were changed"):
        run.request("GET", f"{server.url}/x")
    sent = str([(call.headers, call.body) for call in server.seen])
    assert "live-bearer" not in sent
    assert "for+the+new+one" not in sent
    assert len(server.paths("/token")) == 1


def test_a_refresh_token_that_rotates_while_a_person_enters_another_secret_is_kept(
    file_database: None,  # noqa: F811
    ledger: Connection,
    server: Server,  # noqa: F811
    make_transport: Callable[..., Transport],  # noqa: F811
) -> None:
    def person() -> None:
        """Save while the worker's request is under way: its answer finds other credentials stored."""
        if len(server.paths("/token")) == 1:
            Connection.objects.get().change({}, {"client_secret": "hush-2"})
            database.close()

    server.token_delay = person
    run = make_transport(Connection.objects.get(), OAuth2(f"{server.url}/token", "refresh_token"))
    assert run.request("GET", f"{server.url}/x").status == 200
    now = stored(ledger)
    assert (now["client_secret"], now["refresh_token"]) == ("hush-2", server.good_refresh)
    assert len(server.paths("/token")) == 2  # the second one with the credentials as they are now


# An answer that is too long to read


@pytest.mark.parametrize("repeatable", [None, True])
def test_a_write_with_an_oversized_answer_may_have_been_done_and_is_sent_once(
    ledger: Connection,
    server: Server,  # noqa: F811
    make_transport: Callable[..., Transport],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    repeatable: bool | None,
) -> None:
    monkeypatch.setattr(session, "ANSWER_BYTES", 1000)
    server.routes["/x"] = lambda _: Response(b"0" * 5000)
    run = make_transport(ledger)
    with pytest.raises(Unanswered, match=r"larger than .* may have been carried out"):
        run.request("POST", f"{server.url}/x", json={}, repeatable=repeatable)
    assert len(server.seen) == 1
    with pytest.raises(PermanentError, match="larger than"):
        run.request("GET", f"{server.url}/x")


def test_an_oversized_answer_of_the_token_endpoint_is_a_failure_for_now(
    ledger: Connection,
    server: Server,  # noqa: F811
    make_transport: Callable[..., Transport],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(session, "ANSWER_BYTES", 1000)
    server.routes["/token"] = lambda _: answer({"access_token": "0" * 5000})
    run = make_transport(ledger, OAuth2(f"{server.url}/token", "refresh_token"))
    with pytest.raises(RetryableError, match="could not log in") as told:
        run.request("GET", f"{server.url}/x")
    assert told.value.retry_after == 30
    ledger.refresh_from_db()
    assert (ledger.state, ledger.refresh_lease, ledger.refresh_failures) == ("new", "", 1)


# Who says that it is https?


@pytest.mark.parametrize(
    ("given", "header"),
    [
        ({}, True),
        ({"BEHIND_PROXY": "0"}, False),
        ({"HTTPS": "0"}, False),
        ({"HTTPS": "0", "BEHIND_PROXY": "1"}, False),
    ],
)
def test_a_header_is_believed_only_behind_a_proxy(given: dict[str, str], header: bool) -> None:
    environment = {k: v for k, v in os.environ.items() if k not in ("HTTPS", "BEHIND_PROXY")} | ENVIRONMENT | given
    code = (
        "import django; django.setup()\n"
        "from django.test import RequestFactory\n"
        "print(RequestFactory().get('/', headers={'X-Forwarded-Proto': 'https'}).is_secure())"
    )
    environment["DJANGO_SETTINGS_MODULE"] = "config.settings"
    said = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=settings.BASE_DIR, capture_output=True, text=True, check=True
    )
    assert said.stdout.split() == [str(header)]


# What can't be is refused at its field, and what is stored already breaks no page

WRONG = [
    ("org_url", "not a url", "it is not a plain https://host/path address"),
    ("token_url", "http://10.0.0.1/x", "outside ALLOWED_PRIVATE_NETWORKS"),
    ("token_url", "https://169.254.169.254/latest", "outside ALLOWED_PRIVATE_NETWORKS"),
    ("page_size", "abc", "a whole number from 1 to 5000"),
    ("batch_size", "-5", "a whole number from 1 to 1000"),
    ("change_tracking", "maybe", "auto, off"),
]


@pytest.mark.parametrize(("name", "value", "sentence"), WRONG)
def test_a_setting_that_can_not_be_is_refused_at_its_field(
    crm: Connection, name: str, value: str, sentence: str
) -> None:
    asked = ConnectionSerializer(crm, data={"settings": {**ADDRESSES, name: value}, "secret": GIVEN}, partial=True)
    assert not asked.is_valid()
    assert sentence in str(asked.errors["settings"][name])
    made = ConnectionSerializer(data={"system": "dynamics365", "name": "new", "settings": {**ADDRESSES, name: value}})
    assert not made.is_valid() and name in made.errors["settings"]
    cls = connection_form(crm)
    shown = {n: f.initial or "" for n, f in cls.base_fields.items() if n.startswith(SETTING)}
    form = cls({"name": "CRM", **shown, SETTING + name: value, **secret_fields(GIVEN)}, instance=crm)
    assert list(form.errors) == [SETTING + name]
    kept = Connection.objects.get()
    with pytest.raises(ConfigRefused, match=f"connection CRM: settings: {name}: "):
        take(f"syncline: 1\nconnections: [{{name: CRM, system: dynamics365, settings: {{{name}: {value!r}}}}}]", KINDS)
    assert Connection.objects.get().settings == kept.settings == ADDRESSES


def test_a_host_in_an_allowed_private_network_is_taken(crm: Connection) -> None:
    own = {"org_url": "http://127.0.0.1:8123", "token_url": "http://localhost:8123/token", "page_size": 10}
    asked = ConnectionSerializer(crm, data={"settings": own, "secret": GIVEN}, partial=True)
    assert asked.is_valid(), asked.errors


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [*WRONG, ("org_url", "http://[", "it is not a plain"), ("limit.request", "lots", "a whole number from 0")],
)
def test_what_is_stored_already_becomes_a_sentence_on_every_page(
    crm: Connection, boss: Client, name: str, value: str, sentence: str
) -> None:
    Connection.objects.update(settings={**ADDRESSES, "login": "person", name: value})
    page = reverse("admin:connectors_connection_change", args=[crm.pk])
    assert boss.get(page).status_code == 200
    assert boss.get(reverse("admin:connectors_connection_health", args=[crm.pk])).status_code == 200
    pressed = boss.post(reverse("admin:connectors_connection_do", args=[crm.pk, "check_now"]), follow=True)
    assert sentence.replace("auto, off", "one of: auto") in html.unescape(pressed.content.decode())
    assert boss.post(reverse("admin:connectors_connection_do", args=[crm.pk, "connect"])).status_code in (200, 302)
    client = APIClient()
    client.force_login(User.objects.get(is_superuser=True))
    answer = client.post(f"/api/v1/connections/{crm.pk}/check/")
    assert (answer.status_code, sentence.split(",")[0] in answer.json()["detail"]) == (502, True)
    assert client.post(f"/api/v1/connections/{crm.pk}/connect/").status_code in (200, 409, 502)
    assert client.post(f"/api/v1/connections/{crm.pk}/test/").status_code == 200
