"""Does one request behave as types.Http promises?"""

from __future__ import annotations

import gzip
import socket
import threading
import time
from datetime import timedelta

import pytest
from django.db import transaction
from werkzeug.wrappers import Response

from connectors.contract import AuthError, Limit, PermanentError, RetryableError, Unanswered
from connectors.models import ApiCall, Connection
from connectors.transport import session
from connectors.transport.addresses import AddressBook, AddressRefused
from tests.transport.conftest import answer

REPEATED = 3


class Drops:
    """A raw server that reads a request and closes the connection without an answer (or after a part of one)."""

    def __init__(self, part: bytes = b"") -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self.part, self.requests = part, 0
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        while True:
            try:
                peer, _ = self.socket.accept()
            except OSError:
                return
            peer.recv(65536)
            self.requests += 1
            if self.part:
                peer.sendall(self.part)
            peer.close()


@pytest.fixture
def drops():
    made = []

    def make(part: bytes = b"") -> Drops:
        made.append(Drops(part))
        return made[-1]

    yield make
    for server in made:
        server.socket.close()


def test_query_body_and_headers_arrive_and_the_answer_comes_back(connection, make_transport, server):
    server.routes["/x"] = lambda request: answer({"got": request.get_json()}, 201, intuit_tid="1-abc")
    reply = make_transport(connection).request(
        "POST", f"{server.url}/x", params={"a": "b c"}, json={"n": 1}, headers={"X-One": "1"}
    )
    assert (reply.status, reply.json(), reply.headers["intuit-tid"]) == (201, {"got": {"n": 1}}, "1-abc")
    assert server.seen[0].query == "a=b+c" and server.seen[0].headers["X-One"] == "1"
    assert server.seen[0].headers["Content-Type"] == "application/json"


def test_a_packed_answer_is_unpacked(connection, make_transport, server):
    server.routes["/x"] = lambda _: Response(gzip.compress(b'{"a": 1}'), headers={"Content-Encoding": "gzip"})
    assert make_transport(connection).request("GET", f"{server.url}/x").json() == {"a": 1}


def test_an_answer_beyond_the_cap_is_refused_also_when_it_is_packed(connection, make_transport, server, monkeypatch):
    monkeypatch.setattr(session, "ANSWER_BYTES", 100_000)
    bomb = gzip.compress(b"0" * 5_000_000)
    assert len(bomb) < 100_000
    server.routes["/x"] = lambda _: Response(bomb, headers={"Content-Encoding": "gzip"})
    with pytest.raises(PermanentError, match="larger than"):
        make_transport(connection).request("GET", f"{server.url}/x")


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_get_is_repeated_and_a_post_is_not(connection, make_transport, server, clock, status):
    server.routes["/x"] = lambda _: answer({}, status)
    transport = make_transport(connection)
    assert transport.request("GET", f"{server.url}/x").status == status
    assert len(server.seen) == REPEATED
    assert clock.slept == [0.5, 1.0]
    assert transport.request("POST", f"{server.url}/x").status == status
    assert len(server.seen) == REPEATED + 1
    transport.request("POST", f"{server.url}/x", repeatable=True)
    assert len(server.seen) == 2 * REPEATED + 1


@pytest.mark.parametrize("status", [400, 404, 409, 500])
def test_other_answers_are_returned_at_once(connection, make_transport, server, status):
    server.routes["/x"] = lambda _: answer({}, status)
    assert make_transport(connection).request("GET", f"{server.url}/x").status == status
    assert len(server.seen) == 1


def test_retry_after_is_waited_for_when_it_is_short(connection, make_transport, server, clock):
    answers = [answer({}, 429, Retry_After="3"), answer({"ok": True})]
    server.routes["/x"] = lambda _: answers.pop(0)
    assert make_transport(connection).request("GET", f"{server.url}/x").status == 200
    assert sum(clock.slept) == 3


def test_a_long_retry_after_is_returned_at_once(connection, make_transport, server, clock):
    server.routes["/x"] = lambda _: answer({}, 429, Retry_After="60")
    reply = make_transport(connection).request("GET", f"{server.url}/x")
    assert reply.retry_after(clock.now()) == 60
    assert (len(server.seen), clock.slept) == (1, [])


def test_a_lost_answer_to_a_post_is_unanswered_and_sent_once(connection, make_transport, drops):
    gone = drops()
    connection.settings = {"base_url": gone.url}
    with pytest.raises(Unanswered):
        make_transport(connection).request("POST", f"{gone.url}/x")
    assert gone.requests == 1
    with pytest.raises(Unanswered):
        make_transport(connection).request("GET", f"{gone.url}/x")
    assert gone.requests == 1 + REPEATED


def test_half_a_body_is_unanswered(connection, make_transport, drops):
    half = drops(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
    connection.settings = {"base_url": half.url}
    with pytest.raises(Unanswered):
        make_transport(connection).request("POST", f"{half.url}/x")


def test_a_refused_connection_surely_did_not_arrive(connection, make_transport):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    connection.settings = {"base_url": url}
    with pytest.raises(RetryableError) as caught:
        make_transport(connection).request("POST", f"{url}/x")
    assert not isinstance(caught.value, Unanswered)


def test_a_silent_server_meets_the_time_out(connection, make_transport, server, settings):
    settings.READ_TIMEOUT = 0.2
    server.routes["/x"] = lambda _: (time.sleep(1), answer({}))[1]
    started = time.monotonic()
    with pytest.raises(Unanswered):
        make_transport(connection).request("POST", f"{server.url}/x")
    assert time.monotonic() - started < 0.9


def test_a_redirect_within_the_host_is_followed_for_get_only(connection, make_transport, server):
    server.routes["/x"] = lambda _: answer({}, 302, Location="/y")
    assert make_transport(connection).request("GET", f"{server.url}/x").json()["path"] == "/y"
    assert make_transport(connection).request("POST", f"{server.url}/x").status == 302
    assert len(server.paths("/y")) == 1


def test_a_redirect_to_another_host_is_refused_and_no_token_goes_there(
    connection, make_transport, server, oauth, drops
):
    other = drops()
    server.routes["/x"] = lambda _: answer({}, 302, Location=f"{other.url}/y")
    with pytest.raises(AddressRefused):
        make_transport(connection, oauth).request("GET", f"{server.url}/x")
    assert other.requests == 0


def test_a_redirect_in_circles_ends(connection, make_transport, server):
    server.routes["/x"] = lambda _: answer({}, 302, Location="/x")
    with pytest.raises(PermanentError, match="circles"):
        make_transport(connection).request("GET", f"{server.url}/x")
    assert len(server.seen) == 3


def test_only_hosts_of_the_settings_are_called(connection, make_transport, drops):
    other = drops()
    with pytest.raises(AddressRefused, match="not in the settings"):
        make_transport(connection).request("GET", f"{other.url}/x")
    assert other.requests == 0


def test_a_name_that_changes_between_check_and_use_is_not_asked_again(connection, make_transport, server):
    asked = []

    def rebinding(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["169.254.169.254"]

    url = server.url.replace("127.0.0.1", "books.example")
    connection.settings = {"base_url": url}
    transport = make_transport(connection, book=AddressBook(rebinding))
    for _ in range(2):
        assert transport.request("GET", f"{url}/x").status == 200
        transport._session.adapters["http://"].poolmanager.clear()  # a new connection each time
    assert asked == ["books.example"]
    assert server.seen[0].headers["Host"] == url.removeprefix("http://")


def test_a_name_with_one_bad_address_is_refused(connection, make_transport, server):
    url = server.url.replace("127.0.0.1", "books.example")
    connection.settings = {"base_url": url}
    book = AddressBook(lambda host, port: ["127.0.0.1", "10.0.0.1"])
    with pytest.raises(AddressRefused, match=r"10\.0\.0\.1"):
        make_transport(connection, book=book).request("GET", f"{url}/x")
    assert server.seen == []


@pytest.mark.parametrize("state", ["needs reconnect", "wrong instance", "paused"])
def test_a_stopped_connection_is_refused_with_what_to_do(connection, make_transport, server, state):
    connection.state, connection.reason = state, "because"
    with pytest.raises(AuthError, match=r"because.*\. \w.*\.$"):
        make_transport(connection).request("GET", f"{server.url}/x")
    assert server.seen == []


def test_a_pause_by_a_person_stops_a_run_that_is_under_way(connection, make_transport, server, monkeypatch):
    monkeypatch.setattr(session, "STATE_AGE", 0)
    transport = make_transport(connection)
    transport.request("GET", f"{server.url}/x")
    Connection.objects.update(state="paused")
    with pytest.raises(AuthError, match="Resume"):
        transport.request("GET", f"{server.url}/x")


@pytest.mark.django_db(transaction=True)
def test_no_request_is_sent_inside_a_transaction(connection, make_transport, server):
    transport = make_transport(connection)
    with transaction.atomic(), pytest.raises(RuntimeError, match="inside a database transaction"):
        transport.request("GET", f"{server.url}/x")
    assert server.seen == []
    assert transport.request("GET", f"{server.url}/x").status == 200


def test_calls_wait_in_the_log_and_are_inserted_together(connection, make_transport, server, django_assert_num_queries):
    transport = make_transport(connection, run_id=5, job_id=6)
    server.routes["/bad"] = lambda _: answer({"Fault": {"Error": [{"code": "6240"}]}}, 400, Request_Id="1-5")
    with django_assert_num_queries(0):
        transport.request("GET", f"{server.url}/x", params={"id": "7"})
        transport.request("POST", f"{server.url}/bad", json={"DisplayName": "Ada"})
    with django_assert_num_queries(1):
        transport.close()
    good, bad = ApiCall.objects.order_by("id")
    assert (good.method, good.path, good.status, good.run_id, good.job_id) == ("GET", "/x?id=7", 200, 5, 6)
    assert (bad.status, bad.code, bad.vendor_id, bad.body) == (400, "6240", "1-5", "")


def test_a_call_without_an_answer_is_logged_with_status_0(connection, make_transport, drops):
    gone = drops()
    connection.settings = {"base_url": gone.url}
    transport = make_transport(connection)
    with pytest.raises(Unanswered):
        transport.request("POST", f"{gone.url}/x")
    assert [row.status for row in transport.log.rows] == [0]


def test_the_log_inserts_itself_when_it_is_long(connection, make_transport, server):
    transport = make_transport(connection)
    transport.log._flush_at = 3
    for _ in range(4):
        transport.request("GET", f"{server.url}/x")
    assert (ApiCall.objects.count(), len(transport.log.rows), transport.log.sent) == (3, 1, 4)


def test_bodies_are_kept_in_debug_mode_only_and_redacted(connection, make_transport, server, settings):
    settings.API_LOG_BODIES = True
    transport = make_transport(connection)
    transport.request("POST", f"{server.url}/x", json={"Id": "7", "DisplayName": "Ada", "Active": True})
    body = transport.log.rows[0].body
    assert '{"Id": "7", "DisplayName": "…", "Active": true}' in body
    assert "Ada" not in body


def test_cookies_are_not_kept(connection, make_transport, server):
    server.routes["/x"] = lambda _: answer({}, 200, Set_Cookie="a=b; Path=/")
    transport = make_transport(connection)
    transport.request("GET", f"{server.url}/x")
    transport.request("GET", f"{server.url}/x")
    assert "Cookie" not in server.seen[1].headers


def test_the_environments_proxy_is_ignored(connection, make_transport, server, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert make_transport(connection).request("GET", f"{server.url}/x").status == 200


def test_threads_may_share_a_transport(connection, make_transport, server):
    transport, replies = make_transport(connection), []
    threads = [
        threading.Thread(
            target=lambda n=n: replies.append(transport.request("GET", f"{server.url}/{n}").json()["path"])
        )
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(replies) == [f"/{n}" for n in range(8)]


def test_an_idle_run_costs_one_budget_query_and_one_insert(
    connection, make_transport, server, oauth, django_assert_max_num_queries
):
    limits = (Limit("request", 500, timedelta(minutes=1)), Limit("concurrent", 10, None))
    make_transport(connection, oauth, limits).request("GET", f"{server.url}/warm")
    again = make_transport(connection, oauth, limits)
    with django_assert_max_num_queries(2):
        for _ in range(4):
            again.request("GET", f"{server.url}/x")
        again.close()
