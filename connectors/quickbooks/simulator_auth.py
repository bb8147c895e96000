"""Who may call simulated QuickBooks?  OAuth 2.0 with a consent page, rotating refresh tokens and their failures."""

from __future__ import annotations

import base64
import binascii
import json
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlencode, urlsplit

from werkzeug.utils import redirect
from werkzeug.wrappers import Request, Response

from connectors.simulation.consent import consent_page

CODE_LIVES = timedelta(minutes=10)  # quickbooks sheet, section 2, for all lifetimes
ACCESS_LIVES = timedelta(hours=1)
REFRESH_LIVES = timedelta(days=101)
REFRESH_HARD = timedelta(days=5 * 365)
GRACE = timedelta(days=1)
ROTATIONS = ("every", "daily", "grace", "invalid_grant")
SCOPE = "com.intuit.quickbooks.accounting"


@dataclass(slots=True)
class _Refresh:
    value: str
    issued: datetime
    good_until: datetime


class TokenServer:
    """Hands out and checks tokens of one app for one company.

    `rotation` says what a refresh does to the refresh token: "every" replaces it and the old one is dead at once,
    "grace" replaces it and the old one stays good for a day, "daily" replaces it once a day with the same grace, and
    "invalid_grant" refuses every refresh.
    """

    def __init__(self, now: Callable[[], datetime], realm: str, seed: int, rotation: Callable[[], str]) -> None:
        self._now = now
        self._realm = realm
        self._random = random.Random(f"tokens {seed}")
        self._rotation = rotation
        self._lock = threading.Lock()
        self.client_id = f"ABsim{self._random.getrandbits(64):016x}"
        self.client_secret = f"{self._random.getrandbits(160):040x}"
        self._access: dict[str, datetime] = {}
        self._codes: dict[str, tuple[datetime, str]] = {}
        self._refresh: dict[str, _Refresh] = {}
        self._current = self._new_refresh()
        self.refreshes = 0

    @property
    def refresh_token(self) -> str:
        """The refresh token that is good now."""
        return self._current.value

    def allows(self, request: Request) -> bool:
        """Tell whether the request carries a live access token."""
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        with self._lock:
            return kind.lower() == "bearer" and self._access.get(token, self._now()) > self._now()

    def expire(self, request: Request | None = None) -> None:
        """End the access token of this request, or all of them."""
        with self._lock:
            if request is None:
                self._access.clear()
            else:
                self._access.pop(request.headers.get("Authorization", "").partition(" ")[2], None)

    def revoke_all(self) -> None:
        """Do what a person does who disconnects the app: no token is good any more."""
        with self._lock:
            self._access.clear()
            self._refresh.clear()

    def answer(self, request: Request, url: str) -> Response | None:
        """Answer a call to one of the OAuth addresses; None for any other address."""
        path = request.path.rstrip("/")
        if path in {"/.well-known/openid_configuration", "/.well-known/openid_sandbox_configuration"}:
            return _json(self._discovery(url))
        if path == "/connect/oauth2":
            return self._consent(request)
        if path == "/oauth2/v1/tokens/bearer" and request.method == "POST":
            return self._token(request)
        if path == "/v2/oauth2/tokens/revoke" and request.method == "POST":
            return self._revoke(request)
        if path == "/op/v1/jwks":
            return _json({"keys": []})
        if path == "/v1/openid_connect/userinfo":
            return _json({"sub": "simulated-user", "email": "owner@example.com", "emailVerified": True})
        return None

    def _discovery(self, url: str) -> dict[str, object]:
        return {
            "issuer": f"{url}/op/v1",
            "authorization_endpoint": f"{url}/connect/oauth2",
            "token_endpoint": f"{url}/oauth2/v1/tokens/bearer",
            "userinfo_endpoint": f"{url}/v1/openid_connect/userinfo",
            "revocation_endpoint": f"{url}/v2/oauth2/tokens/revoke",
            "jwks_uri": f"{url}/op/v1/jwks",
            "response_types_supported": ["code"],
            "scopes_supported": ["openid", SCOPE],
        }

    def _consent(self, request: Request) -> Response:
        asked = request.args
        back = asked.get("redirect_uri", "")
        if asked.get("client_id") != self.client_id or asked.get("response_type") != "code" or not back:
            return Response("This app is not known, or its request is incomplete.", 400, mimetype="text/plain")
        if urlsplit(back).scheme not in {"http", "https"}:
            return Response("The redirect address must be a web address.", 400, mimetype="text/plain")
        decision = asked.get("decision")
        if decision is None:
            words = f"An application asks to read and write the books of company {self._realm}."
            buttons = {"approve": "Connect", "deny": "Cancel"}
            page = consent_page("Share your company's books?", words, buttons, "get", asked.items())
            return Response(page, mimetype="text/html")
        answer: dict[str, str] = {"state": asked.get("state", "")}
        if decision == "approve":
            with self._lock:
                code = f"AB{self._random.getrandbits(128):032x}"
                self._codes[code] = (self._now() + CODE_LIVES, back)
            answer |= {"code": code, "realmId": self._realm}
        else:
            answer["error"] = "access_denied"
        return redirect(f"{back}{'&' if '?' in back else '?'}{urlencode(answer)}")

    def _token(self, request: Request) -> Response:
        if not self._is_client(request):
            return _json({"error": "invalid_client"}, 401)
        form = request.form
        grant = form.get("grant_type")
        with self._lock:
            if grant == "authorization_code":
                until, back = self._codes.pop(form.get("code", ""), (self._now(), ""))
                if until <= self._now() or back != form.get("redirect_uri"):
                    return _refused("invalid_grant", "Invalid authorization code")
                self._current = self._new_refresh()
            elif grant == "refresh_token":
                if not self._take(form.get("refresh_token", "")):
                    return _refused("invalid_grant", "Incorrect or expired Token type or Token")
            else:
                return _refused("unsupported_grant_type", f"{grant} is not supported")
            return _json(self._issued(request))

    def _take(self, value: str) -> bool:
        """Use a refresh token; what becomes of it is the rotation's choice."""
        known, rotation, now = self._refresh.get(value), self._rotation(), self._now()
        if known is None or known.good_until <= now or rotation == "invalid_grant":
            return False
        self.refreshes += 1
        if known is not self._current:
            return True  # the previous value within its grace: answers the new one
        if rotation == "daily" and now - known.issued < GRACE:
            known.good_until = now + REFRESH_LIVES
            return True
        known.good_until = now if rotation == "every" else now + GRACE
        self._current = self._new_refresh()
        return True

    def _issued(self, request: Request) -> dict[str, object]:
        token = f"eySim{self._random.getrandbits(256):064x}"
        self._access[token] = self._now() + ACCESS_LIVES
        answer: dict[str, object] = {
            "token_type": "bearer",
            "access_token": token,
            "expires_in": int(ACCESS_LIVES.total_seconds()),
            "refresh_token": self._current.value,
            "x_refresh_token_expires_in": int(REFRESH_LIVES.total_seconds()),
        }
        if request.headers.get("x-include-refresh-token-hard-expires-in", "").lower() == "true":
            answer["x_refresh_token_hard_expires_in"] = int(REFRESH_HARD.total_seconds())
        return answer

    def _revoke(self, request: Request) -> Response:
        if not self._is_client(request):
            return _json({"error": "invalid_client"}, 401)
        given = request.get_json(silent=True) or request.form
        token = str(given.get("token", ""))
        with self._lock:
            if token not in self._access and token not in self._refresh:
                return _refused("invalid_request", "The token is not known")
            self._access.clear()
            self._refresh.clear()
        return Response("", 200)

    def _new_refresh(self) -> _Refresh:
        now = self._now()
        refresh = _Refresh(f"RT1-sim-{self._random.getrandbits(128):032x}", now, now + REFRESH_LIVES)
        self._refresh[refresh.value] = refresh
        return refresh

    def _is_client(self, request: Request) -> bool:
        kind, _, packed = request.headers.get("Authorization", "").partition(" ")
        try:
            given = base64.b64decode(packed, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            return False
        return kind.lower() == "basic" and given == f"{self.client_id}:{self.client_secret}"


def _json(body: object, status: int = 200) -> Response:
    return Response(json.dumps(body), status, mimetype="application/json")


def _refused(error: str, description: str) -> Response:
    return _json({"error": error, "error_description": description}, 400)
