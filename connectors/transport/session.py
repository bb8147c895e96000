"""How is one request sent?  Authorized, within the budget, to a checked address, logged, repeated only where safe."""

from __future__ import annotations

import json as json_module
import ssl
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from http.cookiejar import DefaultCookiePolicy
from urllib.parse import urljoin

import requests
import urllib3.exceptions
from django.conf import settings as django_settings
from django.db import transaction

from connectors.contract import Limit, PermanentError, RetryableError, Unanswered
from connectors.models import Connection
from connectors.transport import apilog, redaction
from connectors.transport.addresses import AddressBook, AddressRefused, Place, place
from connectors.transport.apilog import ApiLog
from connectors.transport.auth import TIMEOUTS, Login, Tokens, refuse_if_stopped
from connectors.transport.budget import PATIENCE, Budgets, Clock, Sleep, amounts
from connectors.transport.pinned import PinnedAdapter
from connectors.transport.types import OAuth2, Reply

TRIES = 3  # of a repeatable request
PAUSE = 0.5  # seconds before the second try, doubled before the third
READS = frozenset({"GET", "HEAD"})
PASSING = frozenset({429, 502, 503, 504})
HOLDING = frozenset({429, 503})  # with Retry-After: all workers wait
REDIRECTS = frozenset({301, 302, 303, 307, 308})
REDIRECTS_MOST = 3
ANSWER_BYTES = 64 * 1024 * 1024  # unpacked; the largest page of any sheet is below 10 MB
ANSWER_SECONDS = 120.0  # for a body that drips
CHUNK = 64 * 1024
STATE_AGE = 30.0  # seconds after which a long run looks again whether a person has paused the connection
AGENT = "Syncline/0.1"


def utc_now() -> datetime:
    """Return the present moment."""
    return datetime.now(UTC)


class AnswerTooLarge(Unanswered):
    """The answer to what may have been a write was not read to its end.  A repeat would be answered the same."""


class Transport:
    """One HTTP session of one connection; implements types.Http.  Threads may share it.

    `settings` are the connection's with defaults filled in: only the hosts named in them are ever called, so that a
    link in an answer can't lead the access token elsewhere.  `checking` lets calls through on a connection that waits
    to be checked again.  With `login` its token goes along, and the stored credentials are not looked at.
    """

    def __init__(
        self,
        connection: Connection,
        auth: OAuth2 | None,
        limits: Sequence[Limit],
        *,
        now: Clock = utc_now,
        sleep: Sleep = time.sleep,
        run_id: int | None = None,
        job_id: int | None = None,
        log: ApiLog | None = None,
        settings: Mapping[str, str] | None = None,
        book: AddressBook | None = None,
        checking: bool = False,
        login: Login | None = None,
    ) -> None:
        self.connection = connection
        self.settings = dict(connection.settings if settings is None else settings)
        self.log = log if log is not None else ApiLog()
        self.now = now
        self._sleep = sleep
        self._run_id, self._job_id = run_id, job_id
        self._checking = checking
        self._budgets = Budgets(connection, amounts(limits, self.settings), now, sleep)
        self._tokens = login
        if login is None and auth is not None:
            self._tokens = Tokens(connection, auth, self.post_form, now, sleep, checking=checking)
        self._places = {place(v) for v in self.settings.values() if str(v).startswith(("https://", "http://"))}
        self._token_place = place(auth.token_url) if auth else None
        self._refused = ""  # a token that was refused although it was new: no use to refresh again
        self._looked = time.monotonic()
        self._session = _session(book or AddressBook())

    def __repr__(self) -> str:
        return f"<transport of {self.connection}>"

    def close(self) -> None:
        """Give back what is held, close the connections and insert the API rows that wait."""
        self._session.close()
        self._budgets.close()
        self.log.flush()

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
        """Send one request; see types.Http for the promises."""
        self._refuse_if_stopped()
        _refuse_in_transaction()
        if place(url) not in self._places:
            raise AddressRefused(
                f"The address {place(url)} is refused: it is not in the settings of connection {self.connection.name}."
            )
        sent = {"Accept": "application/json", **(headers or {})}
        if json is not None:
            content = json_module.dumps(json, separators=(",", ":")).encode()
            sent.setdefault("Content-Type", "application/json")
        call = requests.Request(method, url, params=dict(params) if params else None, data=content, headers=sent)
        tries = TRIES if (method in READS if repeatable is None else repeatable) else 1
        return self._authorized(call, charge, tries, timeout)

    def login(self) -> bool:
        """Get an access token, as the first call would; False where the system has no login."""
        self._refuse_if_stopped()
        _refuse_in_transaction()
        return bool(self._tokens.token()) if self._tokens else False

    # One step each: token, repeat, redirect, send

    def _authorized(self, call: requests.Request, charge: Sequence[str], tries: int, timeout: float | None) -> Reply:
        """Send with the access token; after a 401, once more with a new one.  A 401 was surely not carried out."""
        if self._tokens is None:
            return self._repeated(call, charge, tries, timeout)
        token = self._tokens.token()
        call.headers["Authorization"] = f"Bearer {token}"
        reply = self._repeated(call, charge, tries, timeout)
        if reply.status == 401 and token != self._refused:
            token = self._tokens.refresh(stale=token)
            call.headers["Authorization"] = f"Bearer {token}"
            reply = self._repeated(call, charge, tries, timeout)
            self._refused = token if reply.status == 401 else ""
        elif reply.status < 400:
            self._refused = ""
        return reply

    def _repeated(self, call: requests.Request, charge: Sequence[str], tries: int, timeout: float | None) -> Reply:
        for left in reversed(range(tries)):
            pause: float | None = PAUSE * 2 ** (tries - left - 1)
            try:
                reply = self._followed(call, charge, timeout)
            except AnswerTooLarge:
                raise
            except RetryableError as error:
                # Our own refusals (budget, back-off) say when to come back; a failed connection does not.
                if not left or error.retry_after is not None:
                    raise
            else:
                if reply.status not in PASSING:
                    return reply
                asked = reply.retry_after(self.now())
                if asked is not None and reply.status in HOLDING:
                    self._budgets.hold(charge, asked)
                if not left or (asked or 0) > PATIENCE:
                    return reply
                # The hold makes the next try wait; without a budget to hold, wait here.
                pause = asked if asked is not None else pause
            self._sleep(pause or 0)
        raise AssertionError("the last try returns or raises")

    def _followed(self, call: requests.Request, charge: Sequence[str], timeout: float | None) -> Reply:
        """Send; follow a redirect of a GET within the same scheme, host and port."""
        target = call
        for _ in range(REDIRECTS_MOST):
            reply = self._send(target, charge, timeout)
            if reply.status not in REDIRECTS or call.method != "GET":
                return reply
            before = place(str(target.url))
            url = urljoin(str(target.url), reply.headers.get("location", ""))
            if place(url) != before:
                raise AddressRefused(f"{before} redirects to another host; that is not followed.")
            target = requests.Request("GET", url, headers=call.headers)
        raise PermanentError(f"{place(str(call.url))} redirects in circles.")

    def _send(self, call: requests.Request, charge: Sequence[str], timeout: float | None) -> Reply:
        self._budgets.spend(charge)
        prepared = self._session.prepare_request(call)
        limits = (django_settings.CONNECT_TIMEOUT, timeout or django_settings.READ_TIMEOUT)
        with self._budgets.in_the_air():
            return self._logged(prepared, limits)

    def post_form(self, url: str, form: bytes, headers: Mapping[str, str]) -> Reply:
        """Send a form to the token endpoint: no budget, no repeat, and its body is never logged."""
        if place(url) != self._token_place:
            raise AddressRefused("The token endpoint is not the one that was declared.")
        call = requests.Request("POST", url, data=form, headers=dict(headers))
        limits = (min(django_settings.CONNECT_TIMEOUT, TIMEOUTS[0]), min(django_settings.READ_TIMEOUT, TIMEOUTS[1]))
        return self._logged(self._session.prepare_request(call), limits, bodies=False)

    def _logged(self, call: requests.PreparedRequest, limits: tuple[float, float], *, bodies: bool = True) -> Reply:
        at, started = self.now(), time.perf_counter()
        reply: Reply | None = None
        try:
            reply = self._answered(call, limits)
            return reply
        finally:
            content = reply.body if reply else b""
            self.log.add(
                apilog.row(
                    self.connection, at=at, method=str(call.method), url=str(call.url),
                    status=reply.status if reply else 0, ms=(time.perf_counter() - started) * 1000,
                    headers=reply.headers if reply else {}, run_id=self._run_id, job_id=self._job_id,
                    code=apilog.error_code(reply.status, content) if reply else "",
                    body=_bodies(call.body, content) if bodies and django_settings.API_LOG_BODIES else "",
                )
            )  # fmt: skip

    def _answered(self, call: requests.PreparedRequest, limits: tuple[float, float]) -> Reply:
        """Send and read the whole answer, and name what went wrong by what the caller should do."""
        where = place(str(call.url))
        try:
            response = self._session.send(call, stream=True, allow_redirects=False, timeout=limits, verify=True)
            try:
                body = _read(response, str(call.method))
            finally:
                response.close()
        # `from None` below: the original errors carry the request, and with it the access token.
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise _named(error, where) from None
        headers = {name.lower(): value for name, value in response.headers.items()}
        return Reply(response.status_code, headers, body)

    def _refuse_if_stopped(self) -> None:
        if time.monotonic() - self._looked > STATE_AGE:
            self._looked = time.monotonic()
            self.connection.refresh_from_db(fields=["state", "reason"])
        if not self._checking or self.connection.state == Connection.State.PAUSED:
            refuse_if_stopped(self.connection)


def _session(book: AddressBook) -> requests.Session:
    session = requests.Session()
    session.trust_env = False  # no proxy, no .netrc; and it costs 0.7 ms a call (PERFORMANCE d)
    session.verify = True
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    session.adapters.clear()
    adapter = PinnedAdapter(book)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    session.headers["User-Agent"] = AGENT
    return session


def _read(response: requests.Response, method: str) -> bytes:
    """Read the body, unpacked, up to a size and a time."""
    started, parts, size = time.monotonic(), [], 0
    for part in response.raw.stream(CHUNK, decode_content=True):
        parts.append(part)
        size += len(part)
        if size > ANSWER_BYTES:
            told = f"The answer is larger than {ANSWER_BYTES // 2**20} MiB; ask for less at a time."
            if method in READS:
                raise PermanentError(told)
            # The system answered, so it may well have done what was asked: that is not a refusal.
            raise AnswerTooLarge(f"{told} The request may have been carried out.")
        if time.monotonic() - started > ANSWER_SECONDS:
            raise Unanswered(f"The answer did not end within {ANSWER_SECONDS:.0f} seconds.")
    return b"".join(parts)


def _causes(error: BaseException) -> list[object]:
    """Return an error and everything it was made from (requests and urllib3 wrap through args, reason and context)."""
    found: list[object] = []
    queue: list[object] = [error]
    while queue:
        item = queue.pop()
        if isinstance(item, BaseException) and item not in found:
            found.append(item)
            queue += [*item.args, getattr(item, "reason", None), item.__cause__, item.__context__]
    return found


def _named(error: Exception, where: Place) -> RetryableError | PermanentError:
    """Tell what surely did not arrive (try again) from what may have arrived (never repeat blindly)."""
    causes = _causes(error)
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
        return PermanentError(f"{where} shows a certificate that is not good for it; nothing was sent.")
    if any(
        isinstance(c, urllib3.exceptions.NewConnectionError | urllib3.exceptions.ConnectTimeoutError) for c in causes
    ):
        return RetryableError(f"{where} could not be connected to; nothing was sent.")
    kind = type(error).__name__
    if isinstance(error, requests.exceptions.InvalidHeader | requests.exceptions.InvalidURL):
        return PermanentError(f"The request to {where} could not be made ({kind}).")
    return Unanswered(f"{where} gave no complete answer ({kind}); the request may have been carried out.")


def _bodies(sent: object, got: bytes) -> str:
    asked = sent if isinstance(sent, bytes) else b""
    return f"> {redaction.body(asked)}\n< {redaction.body(got)}"


def _refuse_in_transaction() -> None:
    """No HTTP inside a database transaction: it would hold locks for as long as a system takes to answer."""
    present = transaction.get_connection()
    # Like atomic(durable=True): the transaction that a TestCase wraps around a test does not count.
    if present.in_atomic_block and not all(getattr(b, "_from_testcase", False) for b in present.atomic_blocks):
        raise RuntimeError("A request was to be sent inside a database transaction; read first, then open it.")
