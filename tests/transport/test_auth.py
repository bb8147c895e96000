"""Is a token refreshed once, stored before it is used, and never asked for in vain?"""

from __future__ import annotations

import threading
import time
from datetime import timedelta

import pytest
from django.db import connection as database
from django.db import connections

from connectors.contract import AuthError, RetryableError
from connectors.models import Connection
from connectors.transport.session import Transport
from connectors.transport.types import OAuth2
from tests.transport.conftest import CANARIES, answer


def test_a_call_carries_a_token_and_the_rotated_refresh_token_is_stored(connection, make_transport, server, oauth):
    reply = make_transport(connection, oauth).request("GET", f"{server.url}/x")
    assert reply.json()["authorization"]
    stored = Connection.objects.get().get_secret()
    assert stored["refresh_token"] == server.good_refresh == "canary-refresh-token-1"
    assert stored["access_token"] == "canary-access-token-1"
    assert stored["client_id"] == CANARIES["client_id"]


def test_the_token_is_shared_through_the_row(connection, make_transport, server, oauth):
    make_transport(connection, oauth).request("GET", f"{server.url}/x")
    make_transport(Connection.objects.get(), oauth).request("GET", f"{server.url}/x")
    assert len(server.paths("/token")) == 1


def test_the_rotated_token_is_committed_before_the_new_access_token_is_used(
    file_database, connection, make_transport, server, oauth
):
    found = []

    def look(request):
        found.append(Connection.objects.get().get_secret()["refresh_token"])
        database.close()
        return answer({})

    server.routes["/x"] = look
    make_transport(connection, oauth).request("GET", f"{server.url}/x")
    assert found == ["canary-refresh-token-1"]


def test_client_credentials_in_the_body(connection, make_transport, server):
    oauth = OAuth2(f"{server.url}/token", "client_credentials", scope="https://x/.default", client_auth="body")
    make_transport(connection, oauth).request("GET", f"{server.url}/x")
    body = server.paths("/token")[0].body.decode()
    assert "client_secret=canary" in body and "scope=https%3A%2F%2Fx%2F.default" in body
    assert "Authorization" not in server.paths("/token")[0].headers


def test_a_token_is_renewed_before_it_ends(connection, make_transport, server, oauth, clock):
    transport = make_transport(connection, oauth)
    transport.request("GET", f"{server.url}/x")
    clock.at += timedelta(seconds=3600 - 61)
    transport.request("GET", f"{server.url}/x")
    assert len(server.paths("/token")) == 1
    clock.at += timedelta(seconds=2)
    transport.request("GET", f"{server.url}/x")
    assert len(server.paths("/token")) == 2


def test_a_401_refreshes_once_and_repeats_also_a_post(connection, make_transport, server, oauth):
    transport = make_transport(connection, oauth)
    transport.request("GET", f"{server.url}/x")
    server.good_access = {"revoked everything"}
    reply = transport.request("POST", f"{server.url}/x", json={})
    assert reply.status == 200
    assert (len(server.paths("/token")), len(server.paths("/x"))) == (2, 3)


def test_a_second_401_is_returned_and_later_ones_ask_for_no_more_tokens(connection, make_transport, server, oauth):
    server.routes["/x"] = lambda _: answer({}, 401)
    transport = make_transport(connection, oauth)
    assert [transport.request("GET", f"{server.url}/x").status for _ in range(4)] == [401] * 4
    assert len(server.paths("/token")) == 2
    connection.refresh_from_db()
    assert connection.state == Connection.State.NEW


@pytest.mark.parametrize(("status", "word"), [(400, "invalid_grant"), (401, "invalid_client"), (400, "")])
def test_a_refused_login_stops_the_connection(connection, make_transport, server, oauth, status, word):
    server.routes["/token"] = lambda _: answer(
        {"error": word, "error_description": "expired, ask ada@example.com"}, status
    )
    transport = make_transport(connection, oauth)
    for _ in range(2):
        with pytest.raises(AuthError, match="Enter its credentials again"):
            transport.request("GET", f"{server.url}/x")
    connection.refresh_from_db()
    assert connection.state == Connection.State.NEEDS_RECONNECT
    assert word in connection.reason and "ada@" not in connection.reason
    assert (len(server.paths("/token")), server.paths("/x")) == (1, [])
    assert connection.refresh_lease == ""


def test_a_failing_token_endpoint_is_left_alone_for_longer_and_longer(connection, make_transport, server, oauth, clock):
    server.routes["/token"] = lambda _: answer({}, 503)
    waits = []
    for _ in range(7):
        with pytest.raises(RetryableError) as first:
            make_transport(Connection.objects.get(), oauth).request("GET", f"{server.url}/x")
        asked = len(server.paths("/token"))
        with pytest.raises(RetryableError, match="next try"):
            make_transport(Connection.objects.get(), oauth).request("GET", f"{server.url}/x")
        assert len(server.paths("/token")) == asked
        waits.append(first.value.retry_after)
        clock.at += timedelta(seconds=waits[-1])
    assert waits == [30, 60, 120, 240, 480, 900, 900]
    del server.routes["/token"]
    make_transport(Connection.objects.get(), oauth).request("GET", f"{server.url}/x")
    row = Connection.objects.get()
    assert (row.refresh_failures, row.refresh_until, row.state) == (0, None, Connection.State.NEW)


@pytest.mark.parametrize("body", ["<html>busy</html>", "[]", '{"expires_in": 3600}'])
def test_a_good_status_without_a_token_is_a_failure_for_now(connection, make_transport, server, oauth, body):
    from werkzeug.wrappers import Response

    server.routes["/token"] = lambda _: Response(body, 200)
    with pytest.raises(RetryableError):
        make_transport(connection, oauth).request("GET", f"{server.url}/x")
    assert Connection.objects.get().state == Connection.State.NEW


def test_missing_credentials_are_named(connection, make_transport, server, oauth):
    connection.set_secret({"client_id": "only"})
    with pytest.raises(AuthError, match="client_secret, refresh_token"):
        make_transport(connection, oauth).request("GET", f"{server.url}/x")
    assert server.seen == []


def test_credentials_entered_during_a_refresh_win(file_database, connection, make_transport, server, oauth):
    """The old login is refused while a person enters a new one: that one is tried, and the connection goes on."""

    def person() -> None:
        if server.good_refresh == CANARIES["refresh_token"]:
            server.good_refresh = "entered-by-a-person"
            Connection.objects.get().set_secret({**CANARIES, "refresh_token": server.good_refresh})
            database.close()

    server.token_delay = person
    assert make_transport(connection, oauth).request("GET", f"{server.url}/x").status == 200
    assert len(server.paths("/token")) == 2
    assert Connection.objects.get().state == Connection.State.NEW


def test_entering_credentials_ends_needs_reconnect_and_back_off(connection, make_transport, server, oauth, clock):
    connection.needs_reconnect("gone")
    Connection.objects.update(refresh_until=clock.now() + timedelta(minutes=10), refresh_failures=4)
    connection.set_secret(CANARIES)
    assert make_transport(connection, oauth).request("GET", f"{server.url}/x").status == 200


def test_workers_that_need_a_token_at_once_ask_for_one(file_database, connection, server, oauth):
    """Real threads with their own database connections; a second use of the old refresh token would be refused."""
    server.token_delay = lambda: time.sleep(0.3)
    replies, failures = [], []
    barrier = threading.Barrier(4)

    def work() -> None:
        try:
            transport = Transport(Connection.objects.get(), oauth, ())
            barrier.wait()
            replies.append(transport.request("GET", f"{server.url}/x").status)
            transport.close()
        except Exception as error:
            failures.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (replies, failures) == ([200] * 4, [])
    assert len(server.paths("/token")) == 1


@pytest.mark.django_db(transaction=True)
def test_a_lease_of_a_dead_worker_runs_out(connection, make_transport, server, oauth, clock):
    until = clock.now() + timedelta(seconds=30)
    Connection.objects.update(refresh_lease="dead", refresh_until=until)
    assert make_transport(Connection.objects.get(), oauth).request("GET", f"{server.url}/x").status == 200
    assert clock.now() >= until
