"""What do the tests of Dynamics 365 stand on?  A simulator on loopback and a plain HTTP session that logs in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime

import pytest
import requests

from connectors.contract import AuthError, Batch, Operation, Unanswered, Values, Verb
from connectors.dynamics365.connector import Dynamics365
from connectors.dynamics365.simulator import DynamicsSimulator
from connectors.simulation import SimClock
from connectors.transport.types import Reply

START = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)


class PlainHttp:
    """The transport's contract over one requests.Session: a token, one refresh after a 401, no retries."""

    def __init__(self, simulator: DynamicsSimulator) -> None:
        self.session, self.simulator, self.token = requests.Session(), simulator, ""
        self.calls: list[str] = []

    def log_in(self) -> None:
        """Fetch an access token as Dynamics365.auth says."""
        given = self.simulator.credentials()
        login = Dynamics365.auth(given["settings"])
        form = {"grant_type": login.grant, "scope": login.scope, **given["secret"]}
        reply = self.session.post(login.token_url, data=form, timeout=30)
        if reply.status_code != 200:
            raise AuthError(reply.text)
        self.token = reply.json()["access_token"]

    def request(
        self,
        method: str,
        url: str,
        *,
        params: Mapping[str, str] | None = None,
        json: object = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        charge: Sequence[str] = ("request",),
        repeatable: bool | None = None,
        timeout: float | None = None,
    ) -> Reply:
        if not self.token:
            self.log_in()
        reply = self._send(method, url, params, json, content, headers)
        if reply.status_code == 401:
            self.log_in()
            reply = self._send(method, url, params, json, content, headers)
        return Reply(reply.status_code, {k.lower(): v for k, v in reply.headers.items()}, reply.content)

    def _send(self, method, url, params, json, content, headers) -> requests.Response:
        self.calls.append(f"{method} {url}")
        sent = {**(headers or {}), "Authorization": f"Bearer {self.token}"}
        try:
            return self.session.request(method, url, params=params, json=json, data=content, headers=sent, timeout=30)
        except requests.ConnectionError as error:
            raise Unanswered(str(error)) from error


class World:
    """A simulator, a connector to it, and short words for what tests do."""

    def __init__(self, simulator: DynamicsSimulator, **settings: str) -> None:
        self.simulator = simulator
        self.http = PlainHttp(simulator)
        self.settings = settings
        self.connector = self.new_connector()
        self.made = 0

    def new_connector(self, **settings: str) -> Dynamics365:
        """A connector as another process would have it."""
        given = {**self.simulator.credentials()["settings"], **self.settings, **settings}
        return Dynamics365(self.http, given, self.simulator.clock.now)

    def new_id(self) -> str:
        self.made += 1
        return f"00000000-0000-4000-9000-{self.made:012}"

    def operation(self, verb: Verb, entity: str, record_id: str = "", expect: str = "", **values: object) -> Operation:
        self.made += 1
        return Operation(f"op-{self.made}", verb, entity, record_id, values, expect)

    def creating(self, entity: str, values: Values) -> Operation:
        return self.operation(Verb.CREATE, entity, self.new_id(), **values)

    def write(self, *operations: Operation):
        self.made += 1
        return self.connector.write(Batch(f"batch-{self.made}", operations))

    def create(self, entity: str = "account", **values: object):
        [outcome] = self.write(self.creating(entity, values or {"name": "Ada's Bakery"}))
        return outcome

    def read(self, feed: str, wanted: set[str], cursor: str | None = None, connector: Dynamics365 | None = None):
        return list((connector or self.connector).changes(feed, {feed: frozenset(wanted)}, cursor))

    def requests_since(self, count: int) -> list[str]:
        return self.http.calls[count:]


@pytest.fixture
def make_world() -> Iterator[Callable[..., World]]:
    """Start simulators on a clock that stands still."""
    started: list[DynamicsSimulator] = []

    def make(records: int = 0, settings: Mapping[str, str] | None = None, **switches: object) -> World:
        simulator = DynamicsSimulator(records=records, seed=7, clock=SimClock(START), **switches)
        simulator.start()
        started.append(simulator)
        return World(simulator, **(settings or {}))

    yield make
    for simulator in started:
        simulator.stop()


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    return make_world()
