"""What does it take for a person to let the hub in, and what is refused?  Against the simulators' own consent pages."""

from __future__ import annotations

import hashlib
import logging
from datetime import timedelta
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
import requests
from django.core.management import CommandError, call_command
from django.urls import reverse
from rest_framework.test import APIClient

from connectors.dynamics365.simulator import DynamicsSimulator
from connectors.models import ApiCall, Connection, PendingConsent
from connectors.quickbooks.simulator import QuickBooksSimulator
from connectors.transport import check, connected, oauth
from connectors.transport.addresses import AddressRefused
from connectors.transport.connecting import SettingsMissing
from connectors.transport.session import utc_now
from tests.admin.conftest import person  # noqa: F401 - a fixture

pytestmark = pytest.mark.django_db(transaction=True)
BACK = "https://hub.example.com/admin/connectors/connection/oauth/callback/"
ME = oauth.holder_of("session", "abc", 1)


@pytest.fixture
def books():
    with QuickBooksSimulator(records=3, seed=3) as simulator:
        yield simulator


@pytest.fixture
def crm():
    with DynamicsSimulator(seed=3) as simulator:
        yield simulator


def quickbooks(simulator, name="Books", **secret):
    """A connection as a person makes it: hosts, client id and secret, and neither company nor refresh token."""
    told = simulator.credentials()
    told["settings"].pop("realm")
    made = Connection.objects.create(system="quickbooks", name=name, settings=told["settings"])
    made.set_secret({key: told["secret"][key] for key in oauth.APP} | secret)
    return made


def dynamics(simulator, **settings):
    told = simulator.credentials()
    made = Connection.objects.create(
        system="dynamics365", name="CRM", settings={**told["settings"], "login": "person", **settings}
    )
    made.set_secret(told["secret"])
    return made


def consent(address, decision=""):
    """Do what a person does in the browser; returns what the page sends back."""
    if "/connect/oauth2" in address:
        reply = requests.get(f"{address}&decision={decision or 'approve'}", allow_redirects=False, timeout=10)
    else:
        told = {"decision": decision or "accept"}
        reply = requests.post(address, data=told, allow_redirects=False, timeout=10)
    assert reply.status_code == 302, reply.text
    return oauth.pasted(reply.headers["Location"])


def asked(address):
    return {key: values[0] for key, values in parse_qs(urlsplit(address).query).items()}


def test_quickbooks_lets_a_person_in_and_the_company_comes_with_the_code(books):
    connection = quickbooks(books)
    address = oauth.begin(connection, back=BACK, holder=ME)
    told = asked(address)
    assert told["scope"] == "com.intuit.quickbooks.accounting"
    assert (told["redirect_uri"], told["response_type"]) == (BACK, "code")
    assert "code_challenge" not in told  # the sheet has no PKCE for it

    done = oauth.finish(consent(address), holder=ME)

    row = Connection.objects.get()
    realm = books.credentials()["settings"]["realm"]
    assert (row.state, row.instance, row.settings["realm"]) == ("connected", realm, realm)
    assert done.identity.instance == realm and row.account == done.identity.account
    assert row.auth_expires_at > utc_now() + timedelta(days=99)
    stored = row.get_secret()
    assert stored["refresh_token"] == books.tokens.refresh_token and stored["access_token"]
    with connected(row) as connector:  # and with the stored login
        assert connector.check().instance == realm


def test_dynamics_lets_a_person_in_with_a_proof_that_only_this_hub_has(crm):
    connection = dynamics(crm)
    address = oauth.begin(connection, back=BACK, holder=ME)
    told = asked(address)
    assert told["code_challenge_method"] == "S256" and len(told["code_challenge"]) == 43
    assert told["scope"] == f"{crm.url}/user_impersonation offline_access"
    assert told["response_mode"] == "query"

    oauth.finish(consent(address), holder=ME)

    row = Connection.objects.get()
    assert row.state == "connected" and row.instance
    stored = row.get_secret()
    crm.login.forget_tokens()
    assert check(row).instance == row.instance  # by the refresh token
    assert Connection.objects.get().get_secret()["refresh_token"] != stored["refresh_token"]


def test_a_code_of_dynamics_is_worth_nothing_without_the_proof(crm):
    connection = dynamics(crm)
    returned = consent(oauth.begin(connection, back=BACK, holder=ME))
    given = crm.credentials()
    form = {
        "grant_type": "authorization_code",
        "code": returned["code"],
        "redirect_uri": BACK,
        "code_verifier": "guessed",
        **given["secret"],
    }
    stolen = requests.post(given["settings"]["token_url"], data=form, timeout=10)
    assert (stolen.status_code, stolen.json()["error_codes"]) == (400, [501481])


def test_the_application_still_logs_in_by_itself(crm):
    connection = dynamics(crm, login="application")
    assert oauth.consent_of(connection) is None
    assert check(connection).instance
    with pytest.raises(oauth.NotLetIn, match="logs in by itself"):
        oauth.begin(connection, back=BACK, holder=ME)


def test_the_consent_page_is_found_beside_the_token_address(crm):
    connection = dynamics(crm, authorize_url="")
    assert oauth.consent_of(connection).authorize_url == crm.credentials()["settings"]["authorize_url"]


@pytest.mark.parametrize("system", ["quickbooks", "dynamics365"])
def test_a_denied_consent_says_so_and_changes_nothing(books, crm, system):
    connection = quickbooks(books) if system == "quickbooks" else dynamics(crm)
    before = bytes(connection.secret)
    address = oauth.begin(connection, back=BACK, holder=ME)
    with pytest.raises(oauth.NotLetIn, match="Nobody gave consent"):
        oauth.finish(consent(address, "deny" if system == "quickbooks" else "cancel"), holder=ME)
    assert bytes(Connection.objects.get().secret) == before


def test_a_state_is_good_once(books):
    connection = quickbooks(books)
    returned = consent(oauth.begin(connection, back=BACK, holder=ME))
    oauth.finish(returned, holder=ME)
    calls = len(books.journal)
    with pytest.raises(oauth.NotLetIn, match="used already"):
        oauth.finish(returned, holder=ME)
    assert len(books.journal) == calls


def test_a_state_of_another_session_is_refused_and_stays_good_for_its_own(books):
    connection = quickbooks(books)
    returned = consent(oauth.begin(connection, back=BACK, holder=ME))
    for other in (oauth.holder_of("session", "abc", 2), oauth.holder_of("session", "other", 1)):
        with pytest.raises(oauth.NotLetIn, match="by somebody else"):
            oauth.finish(returned, holder=other)
    assert oauth.finish(returned, holder=ME).identity


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"state": "made-up"}, "not known here"),
        ({"state": ""}, "lacks the state"),
        ({"code": ""}, "sent no code"),
        ({"code": "ABmade-up"}, "does not take the code"),
        ({"realmId": ""}, "which company"),
    ],
)
def test_a_return_that_was_tampered_with_is_refused(books, change, words):
    connection = quickbooks(books)
    returned = consent(oauth.begin(connection, back=BACK, holder=ME)) | change
    with pytest.raises(oauth.NotLetIn, match=words):
        oauth.finish({key: value for key, value in returned.items() if value}, holder=ME)
    assert "refresh_token" not in Connection.objects.get().get_secret()


def test_a_sign_in_ends_after_ten_minutes(books):
    connection = quickbooks(books)
    returned = consent(oauth.begin(connection, back=BACK, holder=ME))
    late = utc_now() + oauth.LASTS + timedelta(seconds=1)
    with pytest.raises(oauth.NotLetIn, match="longer than 10 minutes"):
        oauth.finish(returned, holder=ME, now=lambda: late)
    oauth.begin(connection, back=BACK, holder=ME, now=late + oauth.LASTS)
    assert PendingConsent.objects.count() == 1  # what is over is swept


def test_a_connection_keeps_its_company(books):
    connection = quickbooks(books)
    Connection.objects.update(instance="4620816365", account="The other company", state="needs reconnect")
    before = Connection.objects.get()
    returned = consent(oauth.begin(Connection.objects.get(), back=BACK, holder=ME))
    with pytest.raises(oauth.NotLetIn, match=r"belongs to The other company \(4620816365\), but .* was chosen"):
        oauth.finish(returned, holder=ME)
    row = Connection.objects.get(pk=connection.pk)
    assert (bytes(row.secret), row.settings, row.state) == (bytes(before.secret), before.settings, "needs reconnect")
    assert not any("tokens/bearer" in call.path for call in books.journal)  # the code was not even redeemed


def test_an_environment_that_says_only_afterwards_who_it_is_keeps_its_login_too(crm):
    connection = dynamics(crm)
    Connection.objects.update(instance="another organization", account="Other")
    before = bytes(Connection.objects.get().secret)
    returned = consent(oauth.begin(Connection.objects.get(), back=BACK, holder=ME))
    with pytest.raises(oauth.NotLetIn, match="belongs to Other"):
        oauth.finish(returned, holder=ME)
    row = Connection.objects.get(pk=connection.pk)
    assert (bytes(row.secret), row.instance) == (before, "another organization")


def test_a_reconnect_brings_a_stopped_connection_back(books):
    connection = quickbooks(books)
    oauth.finish(consent(oauth.begin(connection, back=BACK, holder=ME)), holder=ME)
    books.tokens.revoke_all()
    row = Connection.objects.get()
    with pytest.raises(Exception, match="refused to log in"):
        check(row)
    assert Connection.objects.get().state == "needs reconnect"
    oauth.finish(consent(oauth.begin(Connection.objects.get(), back=BACK, holder=ME)), holder=ME)
    assert Connection.objects.get().state == "connected"


def test_of_two_tabs_each_may_finish_and_the_last_login_stays(books):
    connection = quickbooks(books)
    first, second = (oauth.begin(Connection.objects.get(), back=BACK, holder=ME) for _ in range(2))
    one, other = consent(first), consent(second)
    oauth.finish(one, holder=ME)
    oauth.finish(other, holder=ME)
    row = Connection.objects.get(pk=connection.pk)
    assert row.state == "connected"
    assert row.get_secret()["refresh_token"] == books.tokens.refresh_token


def test_credentials_that_somebody_entered_meanwhile_are_not_overwritten(books, monkeypatch):
    connection = quickbooks(books)
    returned = consent(oauth.begin(connection, back=BACK, holder=ME))
    issued = books.tokens._issued

    def entered_meanwhile(request):
        Connection.objects.get().set_secret({"client_id": "other", "client_secret": "other"})
        return issued(request)

    monkeypatch.setattr(books.tokens, "_issued", entered_meanwhile)
    with pytest.raises(oauth.NotLetIn, match="was changed while you were signing in"):
        oauth.finish(returned, holder=ME)
    assert dict(Connection.objects.get().get_secret()) == {"client_id": "other", "client_secret": "other"}


def test_a_wrong_client_secret_is_told_in_words(books):
    connection = quickbooks(books)
    address = oauth.begin(connection, back=BACK, holder=ME)
    connection.update_secret(client_secret="wrong")
    with pytest.raises(oauth.NotLetIn, match="client id with this client secret"):
        oauth.finish(consent(address), holder=ME)


def test_a_login_is_kept_when_the_system_fails_just_after_it(books):
    connection = quickbooks(books)
    returned = consent(oauth.begin(connection, back=BACK, holder=ME))
    books.faults.add("error", match="GET /v3", times=10, status=500)
    done = oauth.finish(returned, holder=ME, sleep=lambda seconds: None)
    row = Connection.objects.get()
    assert done.identity is None and done.why_not
    assert (row.state, row.settings["realm"]) == ("new", returned["realmId"])
    assert row.get_secret()["refresh_token"] == books.tokens.refresh_token


def test_nobody_is_sent_anywhere_before_the_connection_is_complete(books):
    connection = quickbooks(books)
    connection.set_secret({"client_id": "x"})
    with pytest.raises(SettingsMissing, match="client secret"):
        oauth.begin(connection, back=BACK, holder=ME)
    connection.set_secret({"client_id": "x", "client_secret": "y"})
    connection.settings["authorize_url"] = "http://10.1.2.3/consent"
    with pytest.raises(AddressRefused):
        oauth.begin(connection, back=BACK, holder=ME)
    Connection.objects.update(state="paused")
    with pytest.raises(oauth.NotLetIn, match="is paused"):
        oauth.begin(Connection.objects.get(), back=BACK, holder=ME)
    assert not PendingConsent.objects.exists()


def test_neither_state_nor_code_nor_verifier_nor_token_is_written_anywhere(crm, caplog):
    caplog.set_level(logging.DEBUG)
    connection = dynamics(crm)
    address = oauth.begin(connection, back=BACK, holder=ME)
    returned = consent(address)
    oauth.finish(returned, holder=ME)
    row, pending = Connection.objects.get(), PendingConsent.objects.get()
    stored = row.get_secret()
    log = "".join(str(list(ApiCall.objects.values()))) + "".join(
        r.getMessage() for r in caplog.records if "urllib3" not in r.name
    )
    kept = log + str(row.__dict__) + str(pending.__dict__)
    for value in (returned["code"], returned["state"], stored["access_token"], stored["refresh_token"]):
        assert value not in kept
    assert pending.state_digest == hashlib.sha256(returned["state"].encode()).hexdigest()
    assert ApiCall.objects.filter(method="POST", status=200).count() == 1  # but that it was asked for is there


# The command and the API


def test_the_command_prints_the_address_and_takes_what_it_led_back_to(books, capsys):
    connection = quickbooks(books)
    call_command("connect", "Books", "--back", BACK, "--print")
    returned = consent(capsys.readouterr().out.strip())
    address = f"{BACK}?{urlencode(returned)}"
    with pytest.raises(CommandError, match="was begun for Books, not for Other"):
        quickbooks(books, name="Other")
        call_command("connect", "Other", "--redirect", address)
    with pytest.raises(oauth.NotLetIn, match="by somebody else"):  # a browser can't finish it
        oauth.finish(returned, holder=ME)
    call_command("connect", "Books", "--redirect", address)
    assert "Connected to" in capsys.readouterr().out
    assert Connection.objects.get(pk=connection.pk).state == "connected"


def test_the_command_says_what_lacks(books):
    quickbooks(books)
    with pytest.raises(CommandError, match="Set SITE_URL, or give --back"):
        call_command("connect", "Books")
    with pytest.raises(CommandError, match="There is no connection 'Sales'"):
        call_command("connect", "Sales")


def test_the_api_begins_and_finishes_a_sign_in(books, person):  # noqa: F811
    connection = quickbooks(books)
    client = APIClient()
    client.force_login(person("view_connection", "change_connection"))
    begun = client.post(f"/api/v1/connections/{connection.pk}/connect/", {}, format="json").json()
    assert begun["back"].endswith(reverse("admin:connectors_connection_callback"))
    returned = consent(begun["url"])
    address = f"{begun['back']}?{urlencode(returned)}"
    url = f"/api/v1/connections/{connection.pk}/connected/"
    assert client.post(url, {"redirect": "https://x.example.com/?state=no"}, format="json").status_code == 409
    answered = client.post(url, {"redirect": address}, format="json")
    assert (answered.status_code, answered.json()["state"]) == (200, "connected")
    assert (
        client.post(url, {"redirect": address}, format="json").json()["detail"].startswith("This sign-in has been used")
    )


def test_to_operate_is_not_enough_to_connect(books, person):  # noqa: F811
    connection = quickbooks(books)
    client = APIClient()
    client.force_login(person("view_connection", "operate_connection"))
    for action in ("connect", "connected"):
        assert client.post(f"/api/v1/connections/{connection.pk}/{action}/", {}, format="json").status_code == 403
    assert not PendingConsent.objects.exists()


def test_a_token_page_that_does_not_answer_is_told_in_words(books):
    connection = quickbooks(books)
    returned = consent(oauth.begin(connection, back=BACK, holder=ME))
    books.faults.add("error", match="POST /oauth2", times=5, status=503)
    with pytest.raises(oauth.NotLetIn, match=r"status 503.*Press Connect again"):
        oauth.finish(returned, holder=ME)
    assert "refresh_token" not in Connection.objects.get().get_secret()
