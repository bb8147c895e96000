"""Which access token goes along?  Refreshed by one worker at a time, and stored before it is used (DESIGN 9.9)."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Protocol
from urllib.parse import quote_plus, urlencode

from django.db import transaction
from django.db.models import Q

from connectors.contract import AuthError, RetryableError
from connectors.models import Connection
from connectors.transport import redaction, vault
from connectors.transport.budget import Clock, Sleep
from connectors.transport.types import OAuth2, Reply

LEASE = timedelta(seconds=30)  # longer than TIMEOUTS together
TIMEOUTS = (5.0, 15.0)  # connect, read, of the token endpoint
POLL = 0.2  # seconds between two looks of a worker that waits for another one's refresh
LOOKS = 200  # 40 seconds: the other one's lease is over by then
BACK_OFF = timedelta(seconds=30)  # doubled after each failure in a row
BACK_OFF_MOST = timedelta(minutes=15)
EARLY = 60.0  # seconds before its end a token is no longer used, at most a fifth of its life

# Answers 400 and 401 that RFC 6749, section 5.2, and its extensions mean as "not now", not as "no more".
PASSING = frozenset({"temporarily_unavailable", "server_error", "slow_down"})

WHAT_TO_DO = {
    Connection.State.NEEDS_RECONNECT: "Enter its credentials again or press Connect, then check the connection.",
    Connection.State.WRONG_INSTANCE: "Enter the credentials of the company it was made for, or make a new connection.",
    Connection.State.PAUSED: "Resume it first.",
}


class Login(Protocol):
    """Where the access token of a request comes from."""

    def token(self) -> str: ...

    def refresh(self, stale: str) -> str: ...


class Post(Protocol):
    """How a form is sent to the token endpoint: checked address, logged, no retry."""

    def __call__(self, url: str, form: bytes, headers: Mapping[str, str]) -> Reply: ...


def refuse_if_stopped(connection: Connection) -> None:
    """Raise AuthError, with what to do, when no call may be made."""
    state = Connection.State(connection.state)
    if state in WHAT_TO_DO:
        because = f" ({connection.reason})" if connection.reason else ""
        raise AuthError(
            f"Connection {connection.name}: {state.label.lower()}{because}. {WHAT_TO_DO[state]}", code=state.value
        )


class Tokens:
    """The access token of one connection, shared by all workers through its row."""

    def __init__(
        self, connection: Connection, oauth: OAuth2, post: Post, now: Clock, sleep: Sleep, *, checking: bool = False
    ) -> None:
        self._connection = connection
        self._oauth = oauth
        self._post = post
        self._now = now
        self._sleep = sleep
        self._checking = checking
        self._secret: vault.Secret | None = None
        self._settings = connection.settings  # the addresses that this object's transport talks to

    def __repr__(self) -> str:
        return f"<tokens of {self._connection}>"

    def token(self) -> str:
        """Return a token that is good now."""
        if self._secret is None:
            self._refuse_if_changed()
            self._secret = self._connection.get_secret()
        return self._good(self._secret) or self.refresh(stale="")

    def refresh(self, stale: str) -> str:
        """Return a token other than `stale`: a new one, or the one that another worker has just got."""
        for _ in range(LOOKS):
            secret = self._read()
            fresh = self._good(secret)
            if fresh and fresh != stale:
                return fresh
            self._refuse_in_back_off()
            lease = str(uuid.uuid4())
            if self._take(lease):
                try:
                    renewed = self._renew(lease, stale)
                except BaseException:
                    self._let_go(lease)
                    raise
                if renewed:
                    return renewed
                continue
            self._sleep(POLL)
        raise RetryableError(f"Another worker has been logging in to {self._connection} for long.", retry_after=POLL)

    def _good(self, secret: Mapping[str, str]) -> str:
        """Return the stored token if it is still good, else an empty string."""
        until = secret.get("access_expires_at", "")
        if until and datetime.fromisoformat(until) > self._now():
            return secret.get("access_token", "")
        return ""

    def _read(self) -> vault.Secret:
        """Read the row again: another worker may have changed token, state and back-off."""
        self._connection.refresh_from_db(
            fields=["secret", "settings", "state", "reason", "refresh_lease", "refresh_until", "refresh_failures"]
        )
        self._refuse_if_changed()
        if not self._checking or self._connection.state == Connection.State.PAUSED:
            refuse_if_stopped(self._connection)
        self._secret = self._connection.get_secret()
        return self._secret

    def _refuse_if_changed(self) -> None:
        """Credentials entered for new addresses never go to the old ones, which this object's transport talks to."""
        if self._connection.settings != self._settings:
            raise RetryableError(
                f"The settings of connection {self._connection.name} were changed; the next try goes by the new ones.",
                retry_after=POLL,
            )

    def _refuse_in_back_off(self) -> None:
        row = self._connection
        if not row.refresh_lease and row.refresh_until and row.refresh_until > self._now():
            seconds = (row.refresh_until - self._now()).total_seconds()
            raise RetryableError(
                f"Connection {row.name} could not log in a moment ago; the next try is in {seconds:.0f} seconds.",
                retry_after=seconds,
            )

    # The lease: `refresh_until` in the future bars everybody, be it a lease or a back-off.

    def _take(self, lease: str) -> bool:
        free = Q(refresh_until__isnull=True) | Q(refresh_until__lte=self._now())
        rows = Connection.objects.filter(free, pk=self._connection.pk)
        return bool(rows.update(refresh_lease=lease, refresh_until=self._now() + LEASE))

    def _let_go(self, lease: str) -> None:
        """Free the lease if it is still ours; after a failure that set a back-off it no longer is."""
        Connection.objects.filter(pk=self._connection.pk, refresh_lease=lease).update(
            refresh_lease="", refresh_until=None
        )

    def _renew(self, lease: str, stale: str) -> str:
        """Ask for a token while holding the lease.  Returns "" when somebody else stored newer ones."""
        secret = self._read()  # again: it may have been renewed between the look and the lease
        fresh = self._good(secret)
        if fresh and fresh != stale:
            self._let_go(lease)
            return fresh
        try:
            reply = self._ask(secret)
        except RetryableError as error:
            raise self._back_off(lease, "the token endpoint could not be reached", None) from error
        answer = told(reply)
        if reply.status == 200 and isinstance(answer.get("access_token"), str):
            return self._store(lease, secret, answer)
        word = str(answer.get("error", ""))
        if reply.status in (400, 401, 403) and word not in PASSING:
            return self._refused(lease, secret, reply.status, word, str(answer.get("error_description", "")))
        raise self._back_off(lease, f"the token endpoint answered {reply.status}", reply.retry_after(self._now()))

    def _ask(self, secret: Mapping[str, str]) -> Reply:
        missing = [key for key in self._needed() if not secret.get(key)]
        if missing:
            raise self._stop(f"The credentials lack {', '.join(missing)}.")
        form: dict[str, str] = {"grant_type": self._oauth.grant}
        if self._oauth.grant == "refresh_token":
            form["refresh_token"] = secret["refresh_token"]
        if self._oauth.scope:
            form["scope"] = self._oauth.scope
        return ask_for_token(self._post, self._oauth, secret, form)

    def _needed(self) -> tuple[str, ...]:
        own = ("client_id", "client_secret")
        return (*own, "refresh_token") if self._oauth.grant == "refresh_token" else own

    def _store(self, lease: str, used: Mapping[str, str], answer: Mapping[str, object]) -> str:
        """Commit the new tokens and free the lease in one statement, before anybody uses them."""
        now = self._now()
        token = str(answer["access_token"])
        secret = with_tokens(used, answer, now)
        changes: dict[str, object] = {
            "secret": vault.encrypt(secret, self._connection.pk),
            "refresh_lease": "", "refresh_until": None, "refresh_failures": 0,
        }  # fmt: skip
        ends = login_ends(answer, now)
        if ends is not None:
            changes["auth_expires_at"] = ends
        # durable: inside somebody's open transaction the rotated refresh token could be rolled back and lost.
        with transaction.atomic(durable=True):
            rows = Connection.objects.filter(pk=self._connection.pk, secret=self._connection.secret)
            stored = rows.update(**changes)
        if not stored:  # a person entered other credentials meanwhile: those count
            if "refresh_token" in used and secret["refresh_token"] != used["refresh_token"]:
                # ... but where the refresh token was kept, it has just been used up.
                kept = {"client_id": used["client_id"], "refresh_token": used["refresh_token"]}
                self._connection.update_secret(kept, refresh_token=secret["refresh_token"])
            self._let_go(lease)
            return ""
        self._read()
        return token

    def _refused(self, lease: str, used: Mapping[str, str], status: int, word: str, words: str) -> str:
        """Stop the connection, unless the refused credentials are no longer the stored ones."""
        self._connection.refresh_from_db(fields=["secret"])
        stored = self._connection.get_secret()
        if any(stored.get(key) != used.get(key) for key in self._needed()):
            self._let_go(lease)
            return ""
        said = redaction.text(f"{word}: {words}" if words else word or "no reason").strip()
        raise self._stop(f"The system refused to log in (status {status}, {said[:300]}).")

    def _stop(self, reason: str) -> AuthError:
        self._connection.needs_reconnect(reason)
        todo = WHAT_TO_DO[Connection.State.NEEDS_RECONNECT]
        return AuthError(f"Connection {self._connection.name}: {reason} {todo}", code="needs reconnect")

    def _back_off(self, lease: str, why: str, asked: float | None) -> RetryableError:
        """Bar everybody from the token endpoint for a while: 30 seconds, doubled each time, 15 minutes at most."""
        failures = self._connection.refresh_failures + 1
        pause = min(BACK_OFF * 2 ** min(failures - 1, 10), BACK_OFF_MOST)
        pause = max(pause, timedelta(seconds=asked or 0))
        Connection.objects.filter(pk=self._connection.pk, refresh_lease=lease).update(
            refresh_lease="", refresh_until=self._now() + pause, refresh_failures=failures
        )
        seconds = pause.total_seconds()
        return RetryableError(
            f"Connection {self._connection.name} could not log in: {why}. The next try is in {seconds:.0f} seconds.",
            retry_after=seconds,
        )


def ask_for_token(post: Post, oauth: OAuth2, secret: Mapping[str, str], form: Mapping[str, str]) -> Reply:
    """Send a form to the token endpoint, with who we are as the system wants it told."""
    headers = {"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded"}
    sent = dict(form)
    if oauth.client_auth == "basic":
        # RFC 6749, section 2.3.1: both parts are form-encoded before they are joined.
        pair = f"{quote_plus(secret['client_id'])}:{quote_plus(secret['client_secret'])}"
        headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
    else:
        sent |= {"client_id": secret["client_id"], "client_secret": secret["client_secret"]}
    return post(oauth.token_url, urlencode(sent).encode(), headers)


def with_tokens(secret: Mapping[str, str], answer: Mapping[str, object], now: datetime) -> dict[str, str]:
    """Return the credentials with the tokens of an answer."""
    life = _seconds(answer.get("expires_in"), 3600.0)
    until = now + timedelta(seconds=life - min(EARLY, life / 5))
    given = {**secret, "access_token": str(answer["access_token"]), "access_expires_at": until.isoformat()}
    if isinstance(answer.get("refresh_token"), str) and answer["refresh_token"]:
        given["refresh_token"] = str(answer["refresh_token"])
    return given


def login_ends(answer: Mapping[str, object], now: datetime) -> datetime | None:
    """Return when a person must log in again, where the answer says so (quickbooks sheet, section 2)."""
    ends = _seconds(answer.get("x_refresh_token_expires_in"), 0.0)
    return now + timedelta(seconds=ends) if ends else None


def told(reply: Reply) -> Mapping[str, object]:
    """Return the token endpoint's answer; an empty one where it is not JSON (a proxy's page)."""
    try:
        shape = json.loads(reply.body)
    except ValueError:
        return {}
    return shape if isinstance(shape, dict) else {}


def _seconds(value: object, otherwise: float) -> float:
    """Read a number of seconds; some systems send it as text."""
    try:
        return float(str(value))
    except ValueError:
        return otherwise
