"""How does a client log in to the simulated environment?  Token and consent pages of Entra ID (sheet, section 1)."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from urllib.parse import urlencode

from werkzeug.wrappers import Request, Response

from connectors.simulation.consent import consent_page

TENANT = "9f1c4b7e-0000-4000-8000-5359434c494e"
CLIENT_ID = "2b6f0cc9-0000-4000-8000-000000000365"
CLIENT_SECRET = "rehearsal-secret"
LIFETIME = timedelta(seconds=3599)
CODE_LIVES = timedelta(minutes=10)


class Login:
    """Hands out access tokens, and knows which of them are good."""

    def __init__(self, now: Callable[[], datetime], seed: int) -> None:
        self.now, self.seed = now, seed
        self.tokens: dict[str, datetime] = {}
        self.refresh_tokens: set[str] = set()
        self.codes: dict[str, tuple[datetime, Mapping[str, str]]] = {}
        self.made = 0
        self.expired_secret = False

    def _new(self, kind: str) -> str:
        self.made += 1
        return f"{kind}." + hashlib.sha256(f"{self.seed}:{kind}:{self.made}".encode()).hexdigest()

    def good(self, authorization: str) -> bool:
        """Say whether a request carries a token that is still good."""
        scheme, _, token = authorization.partition(" ")
        until = self.tokens.get(token)
        return scheme.lower() == "bearer" and until is not None and self.now() < until

    def forget_tokens(self) -> None:
        """Make every access token bad at once."""
        self.tokens.clear()

    def error(self, status: int, error: str, number: int, words: str) -> Response:
        """Answer in the token endpoint's error shape."""
        stamp = self.now().strftime("%Y-%m-%d %H:%M:%SZ")
        trace = "00000000-0000-4000-8000-000000000001"
        body = {
            "error": error, "error_codes": [number], "timestamp": stamp, "trace_id": trace, "correlation_id": trace,
            "error_description": f"AADSTS{number}: {words} Trace ID: {trace} Timestamp: {stamp}",
        }  # fmt: skip
        return Response(json.dumps(body), status, mimetype="application/json")

    def token(self, request: Request, tenant: str) -> Response:
        """Answer POST /{tenant}/oauth2/v2.0/token."""
        form = request.form
        if tenant not in {TENANT, "organizations", "common"}:
            return self.error(400, "invalid_request", 90002, f"Tenant '{tenant}' not found.")
        if form.get("client_id") != CLIENT_ID:
            words = f"Application with identifier '{form.get('client_id')}' was not found in the directory."
            return self.error(400, "unauthorized_client", 700016, words)
        if form.get("client_secret") != CLIENT_SECRET:
            return self.error(401, "invalid_client", 7000215, "Invalid client secret provided.")
        if self.expired_secret:
            return self.error(401, "invalid_client", 7000222, "The provided client secret keys for app are expired.")
        root = request.host_url.rstrip("/")
        grant = form.get("grant_type")
        if grant == "client_credentials":
            if form.get("scope", "").removesuffix("/.default").rstrip("/") != root:
                words = f"The resource principal named {form.get('scope')} was not found in the tenant."
                return self.error(400, "invalid_resource", 500011, words)
            return self._grant(delegated=False)
        if grant == "authorization_code":
            return self._redeem(form)
        if grant == "refresh_token":
            if form.get("refresh_token") not in self.refresh_tokens:
                return self.error(400, "invalid_grant", 70008, "The provided refresh token has expired.")
            return self._grant(delegated=True)  # a new one each time; the old one is not revoked at once
        return self.error(400, "unsupported_grant_type", 70003, f"The grant type '{grant}' is not supported.")

    def _grant(self, *, delegated: bool, offline: bool = True) -> Response:
        token = self._new("at")
        self.tokens[token] = self.now() + LIFETIME
        seconds = int(LIFETIME.total_seconds())
        body: dict[str, object] = {"token_type": "Bearer", "expires_in": seconds, "ext_expires_in": seconds}
        body["access_token"] = token
        if delegated and offline:  # with client credentials there is no refresh token
            refresh = self._new("rt")
            self.refresh_tokens.add(refresh)
            body |= {"refresh_token": refresh, "scope": "user_impersonation offline_access"}
        return Response(json.dumps(body), mimetype="application/json")

    def _redeem(self, form: Mapping[str, str]) -> Response:
        until, asked = self.codes.pop(form.get("code", ""), (self.now(), {}))
        if until <= self.now() or form.get("redirect_uri") != asked.get("redirect_uri"):
            return self.error(
                400, "invalid_grant", 70000, "The provided authorization code is invalid or was redeemed."
            )
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        if asked.get("code_challenge") and asked["code_challenge"] != challenge:
            return self.error(400, "invalid_grant", 501481, "The Code_Verifier does not match the code_challenge.")
        return self._grant(delegated=True, offline="offline_access" in asked.get("scope", "").split())

    def authorize(self, request: Request) -> Response:
        """Show the consent page, or send the person back with a code."""
        asked = request.args
        if asked.get("client_id") != CLIENT_ID or not asked.get("redirect_uri"):
            return self.error(400, "invalid_request", 900144, "The request must contain client_id and redirect_uri.")
        if asked.get("response_type") != "code" or asked.get("code_challenge_method", "S256") != "S256":
            return self.error(400, "invalid_request", 9000411, "response_type is code, code_challenge_method is S256.")
        if request.method == "GET":
            words = "The rehearsal environment asks whether this application may act for you."
            buttons = {"accept": "Accept", "cancel": "Cancel"}
            return Response(consent_page("Permissions requested", words, buttons, "post"), mimetype="text/html")
        answer = {"state": asked.get("state", "")}
        if request.form.get("decision") == "accept":
            code = self._new("code")
            self.codes[code] = (self.now() + CODE_LIVES, asked.to_dict())
            answer["code"] = code
        else:
            answer |= {
                "error": "access_denied",
                "error_description": "AADSTS65004: The resource owner denied the request.",
            }
        back = asked["redirect_uri"]
        return Response(status=302, headers={"Location": f"{back}{'&' if '?' in back else '?'}{urlencode(answer)}"})
