"""Are credentials safe at rest, and never shown by accident?"""

from __future__ import annotations

import logging
import traceback
from io import StringIO

import pytest
from cryptography.fernet import Fernet
from django.core import serializers
from django.core.management import CommandError, call_command

from connectors.contract import AuthError, ConnectorError
from connectors.models import ApiCall, Connection
from connectors.transport import vault
from tests.transport.conftest import CANARIES, answer


def test_what_was_stored_comes_back(connection):
    assert Connection.objects.get().get_secret() == CANARIES


def test_a_connection_must_be_saved_first():
    with pytest.raises(ValueError, match="Save the connection first"):
        Connection(system="test", name="New").set_secret(CANARIES)


def test_a_cipher_text_moved_to_another_row_fails_with_a_reason(connection):
    other = Connection.objects.create(system="test", name="Other", secret=connection.secret)
    with pytest.raises(vault.CredentialsUnreadable, match=f"stored for connection {connection.pk}"):
        other.get_secret()


def test_another_key_fails_with_a_reason(connection, settings):
    settings.CREDENTIAL_KEYS = [Fernet.generate_key().decode()]
    with pytest.raises(AuthError, match="CREDENTIAL_KEYS"):
        Connection.objects.get().get_secret()


def test_two_writers_lose_none_of_each_others_keys(connection):
    one, two = Connection.objects.get(), Connection.objects.get()
    one.update_secret(access_token="a")
    two.update_secret(refresh_token="b")
    stored = Connection.objects.get().get_secret()
    assert (stored["access_token"], stored["refresh_token"]) == ("a", "b")


def test_rotation_moves_all_rows_to_the_first_key_and_may_be_repeated(connection, settings):
    Connection.objects.create(system="test", name="Empty")
    old, new = settings.CREDENTIAL_KEYS[0], Fernet.generate_key().decode()
    settings.CREDENTIAL_KEYS = [new, old]
    first, second = StringIO(), StringIO()
    call_command("rotate_credentials", stdout=first)
    stored = bytes(Connection.objects.get(name="Books").secret)
    call_command("rotate_credentials", stdout=second)
    assert first.getvalue() == "1 rotated, 0 already on the first key, 1 without credentials\n"
    assert second.getvalue() == "0 rotated, 1 already on the first key, 1 without credentials\n"
    assert bytes(Connection.objects.get(name="Books").secret) == stored
    settings.CREDENTIAL_KEYS = [new]
    assert Connection.objects.get(name="Books").get_secret() == CANARIES


def test_rotation_names_what_it_cannot_read_and_does_the_rest(connection, settings):
    Connection.objects.create(system="test", name="Moved", secret=connection.secret)
    settings.CREDENTIAL_KEYS = [Fernet.generate_key().decode(), *settings.CREDENTIAL_KEYS]
    with pytest.raises(CommandError, match="Moved"):
        call_command("rotate_credentials", stdout=StringIO())
    assert vault.is_newest(bytes(Connection.objects.get(name="Books").secret))


def shown(error: BaseException) -> str:
    """Return an error as a log would have it: message, representation, trace-back with all causes."""
    return "".join([str(error), repr(error), *traceback.format_exception(error)])


def test_canaries_are_nowhere(connection, make_transport, server, oauth, settings, caplog):
    """I18: not in rows, logs, representations or errors, whatever goes well or wrong."""
    caplog.set_level(logging.DEBUG)
    settings.API_LOG_BODIES = True
    seen: list[str] = [repr(connection), repr(connection.get_secret()), f"{connection.get_secret()}"]
    transport = make_transport(connection, oauth)
    server.routes["/echo"] = lambda request: answer({"error": {"code": request.headers["Authorization"]}}, 400)
    transport.request("GET", f"{server.url}/echo", params={"access_token": CANARIES["client_secret"]})
    transport.request("POST", f"{server.url}/echo", json={"password": CANARIES["client_secret"]})
    seen += [repr(transport), repr(transport._tokens)]
    server.routes["/token"] = lambda request: answer({"error": "invalid_grant", "error_description": "refresh_token="
                                                      + request.form["refresh_token"]}, 400)  # fmt: skip
    server.routes["/gone"] = lambda _: answer({}, 401)
    with pytest.raises(AuthError) as refused:
        transport.request("GET", f"{server.url}/gone")
    other = Connection.objects.create(system="test", name="Closed", settings={"base_url": "http://127.0.0.1:9"})
    other.set_secret(
        {**CANARIES, "access_token": "canary-access-token", "access_expires_at": "2030-01-01T00:00:00+00:00"}
    )
    with pytest.raises(ConnectorError) as closed:
        make_transport(other, oauth).request("GET", "http://127.0.0.1:9/x?token=canary")
    seen += [shown(refused.value), shown(closed.value), caplog.text]
    transport.close()
    assert ApiCall.objects.count() == 5
    seen.append(serializers.serialize("json", [*ApiCall.objects.all(), *Connection.objects.all()]))
    assert "invalid_grant" in Connection.objects.get(name="Books").reason
    everything = "".join(seen).replace("canary-client-id-7f3a", "canary-client-id")
    for line in everything.splitlines():
        assert "canary" not in line.replace('x?token=canary")', ""), line
