"""What do the transport's tests share?  A real server that answers as told, a connection to it, a clock that sleeps."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.db import connections
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Request, Response

from connectors.contract import Limit
from connectors.models import Connection
from connectors.transport.session import Transport
from connectors.transport.types import OAuth2

CANARIES = {
    "client_id": "canary-client-id-7f3a",
    "client_secret": "canary-client-secret-9b1c",
    "refresh_token": "canary-refresh-token-0",
}


class Clock:
    """A clock that moves when somebody sleeps."""

    def __init__(self) -> None:
        self.at = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
        self.slept: list[float] = []

    def now(self) -> datetime:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.at += timedelta(seconds=seconds)


class _Handler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, type: str, message: str, *args: object) -> None:
        return None


@dataclass
class Seen:
    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Server:
    """Answers each path by a function of the request; /token hands out numbered tokens that rotate."""

    routes: dict[str, Callable[[Request], Response]] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    issued: int = 0
    good_refresh: str = CANARIES["refresh_token"]
    good_access: set[str] = field(default_factory=set)
    token_delay: Callable[[], None] = lambda: None
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def paths(self, path: str) -> list[Seen]:
        return [call for call in self.seen if call.path == path]

    def __call__(self, environ, start_response):
        request = Request(environ)
        body = request.get_data(cache=True)
        seen = Seen(request.method, request.path, request.query_string.decode(), dict(request.headers), body)
        with self.lock:
            self.seen.append(seen)
        route = self.routes.get(request.path)
        if route is not None:
            response = route(request)
        elif request.path == "/token":
            response = self.token(request)
        else:
            response = self.api(request)
        return response(environ, start_response)

    def token(self, request: Request) -> Response:
        self.token_delay()
        with self.lock:
            if request.form.get("refresh_token", self.good_refresh) != self.good_refresh:
                return answer({"error": "invalid_grant"}, 400)
            self.issued += 1
            token = f"canary-access-token-{self.issued}"
            self.good_access = {token}
            if request.form["grant_type"] == "refresh_token":
                self.good_refresh = f"canary-refresh-token-{self.issued}"
            given = {"access_token": token, "expires_in": 3600, "token_type": "bearer"}
            return answer({**given, "refresh_token": self.good_refresh})

    def api(self, request: Request) -> Response:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if token and token not in self.good_access:
            return answer({"error": {"code": "expired"}}, 401)
        return answer({"path": request.path, "authorization": bool(token)})


def answer(body: object, status: int = 200, **headers: str) -> Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(json.dumps(body), status, named, mimetype="application/json")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def server() -> Iterator[Server]:
    app = Server()
    listening = make_server("127.0.0.1", 0, app, threaded=True, request_handler=_Handler)
    listening.daemon_threads = True
    app.port = listening.port
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield app
    listening.shutdown()
    listening.server_close()


@pytest.fixture
def connection(db: None, server: Server) -> Connection:
    made = Connection.objects.create(system="test", name="Books", settings={"base_url": server.url})
    made.set_secret(CANARIES)
    return made


@pytest.fixture
def oauth(server: Server) -> OAuth2:
    return OAuth2(f"{server.url}/token", "refresh_token")


@pytest.fixture
def make_transport(clock: Clock) -> Iterator[Callable[..., Transport]]:
    made: list[Transport] = []

    def make(
        connection: Connection, auth: OAuth2 | None = None, limits: tuple[Limit, ...] = (), **options: object
    ) -> Transport:
        options = {"now": clock.now, "sleep": clock.sleep, **options}
        made.append(Transport(connection, auth, limits, **options))
        return made[-1]

    yield make
    for transport in made:
        transport._session.close()


@pytest.fixture
def file_database(transactional_db: None, tmp_path: Path) -> Iterator[None]:
    """A database that threads may write to at once: SQLite in memory locks tables where a file would wait."""
    database = connections["default"]
    if database.vendor != "sqlite":
        yield
        return
    database.ensure_connection()
    memory, name = database.connection, database.settings_dict["NAME"]
    with sqlite3.connect(tmp_path / "test.sqlite3") as copy:
        memory.backup(copy)
    copy.close()
    database.connection, database.settings_dict["NAME"] = None, str(tmp_path / "test.sqlite3")
    database.connect()
    yield
    database.close()
    database.connection, database.settings_dict["NAME"] = memory, name
