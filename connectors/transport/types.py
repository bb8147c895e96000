"""What does a connector see of HTTP?  One call that authenticates, keeps budgets, logs and redacts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal, Protocol

from connectors.contract import Unanswered


@dataclass(frozen=True, slots=True)
class Reply:
    """One HTTP answer.  Header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> object:
        """Parse the body.  Raises Unanswered where it is not JSON: an HTML page with status 200 says nothing."""
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise Unanswered(f"the answer (status {self.status}) is not JSON") from error

    def retry_after(self, now: datetime) -> float | None:
        """Return the seconds that Retry-After asks for (a number or an HTTP date), or None."""
        text = self.headers.get("retry-after", "").strip()
        if not text:
            return None
        try:
            return max(0.0, float(text))
        except ValueError:
            try:
                return max(0.0, (parsedate_to_datetime(text).astimezone(UTC) - now).total_seconds())
            except ValueError:
                return None


@dataclass(frozen=True, slots=True)
class OAuth2:
    """How a system hands out access tokens (RFC 6749).  Secret keys: client_id, client_secret, refresh_token."""

    token_url: str
    grant: Literal["client_credentials", "refresh_token"]
    scope: str = ""
    client_auth: Literal["basic", "body"] = "basic"


@dataclass(frozen=True, slots=True)
class Consent:
    """How a person lets us in on the system's own page (RFC 6749, section 4.1)."""

    authorize_url: str
    scope: str
    pkce: bool = False  # RFC 7636 with S256
    more: Mapping[str, str] = field(default_factory=dict)  # further parameters of the page's address
    tells: str = ""  # parameter of the return that says whose books they are (Identity.instance) ...
    tells_setting: str = ""  # ... and the setting that keeps it


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting of a connection, as the admin's form and the pre-flight show it."""

    name: str
    label: str
    default: str = ""
    required: bool = False
    is_url: bool = False
    help: str = ""
    choices: tuple[tuple[str, str], ...] = ()  # (value, label); the first one where nothing is chosen
    by_consent: bool = False  # the system tells it when a person connects, so nobody needs to enter it
    between: tuple[int, int] | None = None  # a whole number: the least and the most that it may be


class Http(Protocol):
    """The transport as a connector sees it."""

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
        """Send one request with the connection's access token and return whatever answer came.

        `charge` names the Limits that the call counts against.  `repeatable` (default: GET) allows the transport to try
        again by itself after a connection failure, 429, 502, 503 or 504.  A 401 refreshes the token once and repeats.
        Raises Unanswered when the request may have arrived but no answer came, RetryableError when it surely did not
        arrive, QuotaExhausted before sending when the budget is used up for long, AuthError when no token can be had,
        PermanentError when the address is not allowed.
        """
