"""What do the tests of QuickBooks share?  A simulated company on a clock that stands still, and a client for it."""

from __future__ import annotations

import json as json_module
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import pytest
import requests

from connectors.contract import AuthError, RetryableError, Unanswered
from connectors.quickbooks.connector import QuickBooks
from connectors.quickbooks.simulator import QuickBooksSimulator
from connectors.simulation import SimClock
from connectors.transport.types import Reply

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


class PlainHttp:
    """The promises of transport.types.Http without budget, log and repetition: one call here is one request there."""

    def __init__(self, credentials: Mapping[str, Mapping[str, object]]) -> None:
        self.token_url = str(credentials["settings"]["token_url"])
        self.secret = {key: str(value) for key, value in credentials["secret"].items()}
        self.session = requests.Session()
        self.access = ""
        self.charged: list[tuple[str, ...]] = []

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
        self.charged.append(tuple(charge))
        body = content if json is None else json_module.dumps(json).encode()
        if not self.access:
            self.refresh()
        reply = self.send(method, url, params, body, headers)
        if reply.status == 401:
            self.refresh()
            reply = self.send(method, url, params, body, headers)
        return reply

    def send(
        self,
        method: str,
        url: str,
        params: Mapping[str, str] | None,
        body: bytes | None,
        headers: Mapping[str, str] | None,
    ) -> Reply:
        sent = {**(headers or {}), "Authorization": f"Bearer {self.access}"}
        try:
            answer = self.session.request(method, url, params=params, data=body, headers=sent, timeout=10)
        except requests.ConnectionError as error:
            raise Unanswered(str(error)) from error
        return Reply(answer.status_code, {k.lower(): v for k, v in answer.headers.items()}, answer.content)

    def refresh(self) -> None:
        form = {"grant_type": "refresh_token", "refresh_token": self.secret["refresh_token"]}
        basic = (self.secret["client_id"], self.secret["client_secret"])
        answer = requests.post(self.token_url, data=form, auth=basic, timeout=10)
        if answer.status_code >= 500:
            raise RetryableError("no token")
        if answer.status_code != 200:
            raise AuthError(answer.text)
        self.access, self.secret["refresh_token"] = answer.json()["access_token"], answer.json()["refresh_token"]


Company = Callable[..., QuickBooksSimulator]


@pytest.fixture
def company() -> Iterator[Company]:
    """Start simulated companies; they stop at the end of the test."""
    started: list[QuickBooksSimulator] = []

    def start(records: int = 0, **options: object) -> QuickBooksSimulator:
        simulator = QuickBooksSimulator(records=records, clock=SimClock(NOON), **options)  # type: ignore[arg-type]
        simulator.start()
        started.append(simulator)
        return simulator

    yield start
    for simulator in started:
        simulator.stop()


@pytest.fixture
def sim(company: Company) -> QuickBooksSimulator:
    return company()


@pytest.fixture
def qb(sim: QuickBooksSimulator) -> QuickBooks:
    return client(sim)


def client(sim: QuickBooksSimulator, **settings: str) -> QuickBooks:
    """Return a connector to this company, on its clock."""
    credentials = sim.credentials()
    merged = {key: str(value) for key, value in credentials["settings"].items()} | settings
    return QuickBooks(PlainHttp(credentials), merged, sim.clock.now)


def later(sim: QuickBooksSimulator, seconds: float = 1) -> None:
    """Let time pass."""
    sim.clock.advance(timedelta(seconds=seconds))
