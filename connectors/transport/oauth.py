"""How does a person let us in?  The consent page's address, and what becomes of the code that it sends back."""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import cast
from urllib.parse import parse_qsl, urlencode, urlsplit

from django.db import transaction

from connectors.contract import AuthError, ConnectorError, Identity, PermanentError, RetryableError
from connectors.models import Connection, PendingConsent
from connectors.registry import ConnectorClass, connector_class
from connectors.transport import redaction, vault
from connectors.transport.addresses import AddressBook, place
from connectors.transport.apilog import ApiLog
from connectors.transport.auth import ask_for_token, login_ends, told, with_tokens
from connectors.transport.connecting import SettingsMissing, refuse_misfits, remember, speak
from connectors.transport.session import Transport, utc_now
from connectors.transport.types import Consent, Reply

LASTS = timedelta(minutes=10)  # as long as a code is good (quickbooks sheet, section 2)
APP = ("client_id", "client_secret")
COMMAND = "command"  # who finishes with a pasted address instead of a browser's return


class NotLetIn(PermanentError):
    """The sign-in did not end in a connection; the sentence says why, and the stored login is as it was."""


@dataclass(frozen=True, slots=True)
class LetIn:
    """What a finished sign-in led to."""

    connection: Connection
    identity: Identity | None  # None: stored, but the system could not be asked who we are
    why_not: str = ""


def consent_of(connection: Connection) -> Consent | None:
    """Return how a person connects, None where this connection logs in without one."""
    cls = connector_class(connection.system)
    consent = cast("Callable[[Mapping[str, str]], Consent | None] | None", getattr(cls, "consent", None))
    return consent(_settings(connection, cls)) if consent else None


def to_enter(connection: Connection) -> list[str]:
    """Return the secrets that a person must enter: a refresh token comes with the consent."""
    names = connector_class(connection.system).secrets
    return [name for name in names if name != "refresh_token" or consent_of(connection) is None]


def holder_of(*who: object) -> str:
    """Return what only who began a sign-in can show again: a browser's session with its person, or the command."""
    return _digest("\n".join(str(part) for part in who))


def missing_for(connection: Connection) -> list[str]:
    """Return what must be entered before a person can be sent to the consent page."""
    cls, settings = connector_class(connection.system), _settings(connection, connector_class(connection.system))
    lacking = [s.label for s in cls.settings if s.required and not s.by_consent and not settings.get(s.name)]
    stored = connection.get_secret()
    return lacking + [key.replace("_", " ") for key in APP if not stored.get(key)]


def begin(connection: Connection, *, back: str, holder: str, now: datetime | None = None) -> str:
    """Return the address of the system's consent page.  Raises NotLetIn, SettingsMissing or AddressRefused."""
    moment = now or utc_now()
    consent = consent_of(connection)
    if consent is None:
        raise NotLetIn(f"{connection.name} logs in by itself: enter its credentials and press Check now.")
    if connection.state == Connection.State.PAUSED:
        raise NotLetIn(f"{connection.name} is paused. Resume it first, then connect.")
    if lacking := missing_for(connection):
        raise SettingsMissing(f"Enter {', '.join(lacking)} first, and save; then connect.")
    cls = connector_class(connection.system)
    refuse_misfits(connection, cls, _settings(connection, cls))
    _refuse_address(consent.authorize_url)
    state, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(64) if consent.pkce else ""
    digest = _digest(state)
    PendingConsent.objects.filter(expires_at__lte=moment - LASTS).delete()
    PendingConsent.objects.create(
        connection=connection, state_digest=digest, holder=holder, back=back, expires_at=moment + LASTS,
        verifier=vault.encrypt({"verifier": verifier}, _owner(digest)) if verifier else b"",
    )  # fmt: skip
    asked = {
        "client_id": connection.get_secret()["client_id"], "response_type": "code", "scope": consent.scope,
        "redirect_uri": back, "state": state, **consent.more,
    }  # fmt: skip
    if verifier:
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        asked |= {"code_challenge": challenge, "code_challenge_method": "S256"}
    return f"{consent.authorize_url}{'&' if '?' in consent.authorize_url else '?'}{urlencode(asked)}"


def pasted(address: str) -> dict[str, str]:
    """Return the parameters of a redirect address that a person copied from the browser."""
    return dict(parse_qsl(urlsplit(address.strip()).query))


def connection_of(state: str) -> Connection | None:
    """Return whose sign-in a state belongs to, whoever holds it: where an error is shown."""
    found = PendingConsent.objects.filter(state_digest=_digest(state)).select_related("connection").first()
    return found.connection if found else None


def finish(
    returned: Mapping[str, str],
    *,
    holder: str,
    now: Callable[[], datetime] | None = None,
    sleep: Callable[[float], None] | None = None,
) -> LetIn:
    """Redeem what the consent page sent back, once, and store the login.  Raises NotLetIn with a sentence.

    A connection that has been checked before stays with its company: the login of another one is not stored.
    """
    clock = now or utc_now
    pending = _take(returned.get("state", ""), holder, clock())
    connection = pending.connection
    title = connector_class(connection.system).title
    if returned.get("error"):
        raise NotLetIn(_denied(title, returned))
    code = returned.get("code", "")
    if not code:
        raise NotLetIn(f"{title} sent no code back. Press Connect again.")
    consent = consent_of(connection)
    if consent is None:
        raise NotLetIn(f"{connection.name} was changed meanwhile and logs in without a person now.")
    instance = returned.get(consent.tells, "") if consent.tells else ""
    if consent.tells and not instance:
        raise NotLetIn(f"{title} did not say which company was chosen. Press Connect again.")
    _refuse_other(connection, instance)
    return _Exchange(connection, consent, instance, clock, sleep or time.sleep).redeem(pending, code)


class _Exchange:
    """One code on its way to a stored login."""

    def __init__(
        self,
        connection: Connection,
        consent: Consent,
        instance: str,
        now: Callable[[], datetime],
        sleep: Callable[[float], None],
    ) -> None:
        self.connection, self.consent, self.instance = connection, consent, instance
        self.now, self.sleep = now, sleep
        self.cls = connector_class(connection.system)
        self.told = {consent.tells_setting: instance} if consent.tells_setting else {}
        self.settings = {**_settings(connection, self.cls), **self.told}
        self.log = ApiLog()

    def redeem(self, pending: PendingConsent, code: str) -> LetIn:
        """Exchange, look whose login it is, store it."""
        used = vault.only(self.connection.get_secret(), APP)
        try:
            answer = self._tokens(pending, code, used)
            secret = with_tokens(used, answer, self.now())
            if not secret.get("refresh_token"):
                raise NotLetIn(f"{self.cls.title} gave no refresh token, so the login would end in an hour.")
            identity, why_not = self._who(secret["access_token"])
        finally:
            self.log.flush()
        if identity is not None:
            _refuse_other(self.connection, identity.instance, identity.account)
        elif self.connection.instance and not self.instance:
            raise NotLetIn(
                f"{self.cls.title} let us in but did not say as whom ({why_not}). Nothing was changed; press Connect again."
            )
        self._store(used, secret, login_ends(answer, self.now()))
        if identity is not None:
            remember(self.connection, identity, self.now())
        return LetIn(self.connection, identity, why_not)

    def _tokens(self, pending: PendingConsent, code: str, used: vault.Secret) -> Mapping[str, object]:
        oauth = self.cls.auth(self.settings)
        if oauth is None or any(not used.get(key) for key in APP):
            raise NotLetIn("Enter client id and client secret first, and save; then connect.")
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": pending.back}
        if pending.verifier:
            form |= {"code_verifier": vault.decrypt(bytes(pending.verifier), _owner(pending.state_digest))["verifier"]}
        transport = Transport(
            self.connection, oauth, (), now=self.now, sleep=self.sleep, log=self.log, settings=self.settings,
            checking=True,
        )  # fmt: skip
        try:
            reply = ask_for_token(transport.post_form, oauth, used, form)
        except RetryableError as error:
            raise NotLetIn(f"{error} Press Connect again.") from error
        finally:
            transport.close()
        answer = told(reply)
        if reply.status == 200 and isinstance(answer.get("access_token"), str):
            return answer
        raise NotLetIn(_refused(self.cls.title, reply, answer))

    def _who(self, token: str) -> tuple[Identity | None, str]:
        """Ask with the new token, before it is anybody else's; the stored login is still the old one."""
        transport = Transport(
            self.connection, None, self.cls.limits, now=self.now, sleep=self.sleep, log=self.log,
            settings=self.settings, checking=True, login=_JustGiven(token),
        )  # fmt: skip
        try:
            return speak(transport).check(), ""
        except ConnectorError as error:
            return None, redaction.text(str(error))
        finally:
            transport.close()

    def _store(self, used: Mapping[str, str], secret: Mapping[str, str], ends: datetime | None) -> None:
        """Put the login into the row, unless a person changed credentials or addresses meanwhile."""
        with transaction.atomic(durable=True):
            row = Connection.objects.select_for_update().get(pk=self.connection.pk)
            stored = row.get_secret()
            if any(stored.get(key) != used.get(key) for key in APP) or row.moved(self.settings):
                raise NotLetIn(f"{row.name} was changed while you were signing in. Press Connect again.")
            _refuse_other(row, self.instance)
            row.settings = {**row.settings, **self.told}
            row.secret = vault.encrypt(secret, row.pk)
            row.auth_expires_at = ends
            row.refresh_lease, row.refresh_until, row.refresh_failures = "", None, 0
            if row.state != Connection.State.PAUSED:
                row.state, row.reason = Connection.State.NEW, ""
            row.save()
        self.connection.refresh_from_db()


class _JustGiven:
    """The access token of this very exchange; where it is refused there is no other."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __repr__(self) -> str:
        return "<a token that was just given>"

    def token(self) -> str:
        """Return it."""
        return self._token

    def refresh(self, stale: str) -> str:
        """There is nothing to refresh with yet."""
        raise AuthError("The system refuses the access token that it has just given.")


def _take(state: str, holder: str, now: datetime) -> PendingConsent:
    """Use a state up.  Of two returns with one state, one wins; somebody else's stays his."""
    again = "Open the connection and press Connect again."
    if not state:
        raise NotLetIn(f"This address lacks the state of a sign-in. {again}")
    found = PendingConsent.objects.filter(state_digest=_digest(state)).select_related("connection").first()
    if found is None:
        raise NotLetIn(f"This sign-in is not known here, or is long over. {again}")
    if not secrets.compare_digest(found.holder, holder):
        raise NotLetIn(f"This sign-in was begun by somebody else, or before you logged in anew. {again}")
    if found.used_at is None and found.expires_at <= now:
        raise NotLetIn(f"This sign-in took longer than {LASTS.seconds // 60} minutes. {again}")
    mine = PendingConsent.objects.filter(pk=found.pk, used_at=None, expires_at__gt=now)
    if not mine.update(used_at=now):
        raise NotLetIn(f"This sign-in has been used already. Look at the connection; if it does not work: {again}")
    return found


def _refuse_other(connection: Connection, instance: str, account: str = "") -> None:
    """A connection that was checked keeps its company: reused ids would join records of two."""
    if connection.instance and instance and instance != connection.instance:
        mine = f"{connection.account} ({connection.instance})" if connection.account else connection.instance
        other = f"{account} ({instance})" if account else instance
        raise NotLetIn(
            f"{connection.name} belongs to {mine}, but {other} was chosen. Nothing was changed. "
            "Connect again and choose the same company, or make a new connection for the other one."
        )


def _denied(title: str, returned: Mapping[str, str]) -> str:
    if returned["error"] == "access_denied":
        return f"Nobody gave consent at {title}. Nothing was changed; press Connect when you want to try again."
    words = redaction.text(f"{returned['error']}: {returned.get('error_description', '')}")[:300].rstrip(": ")
    return f"{title} refused the sign-in ({words}). Nothing was changed."


def _refused(title: str, reply: Reply, answer: Mapping[str, object]) -> str:
    word = str(answer.get("error", ""))
    if word == "invalid_grant":
        return f"{title} does not take the code: it was used already, or it is too old. Press Connect again."
    if word in ("invalid_client", "unauthorized_client"):
        return f"{title} does not know this client id with this client secret. Enter them again, then connect."
    words = redaction.text(f"{word}: {answer.get('error_description', '')}")[:300].rstrip(": ")
    told_so = f", {words}" if words else ""
    return f"{title} gave no login (status {reply.status}{told_so}). Press Connect again."


def _settings(connection: Connection, cls: ConnectorClass) -> dict[str, str]:
    """Return the settings with defaults; unlike for a call, some may still be missing."""
    given: Mapping[str, object] = connection.settings or {}
    defaults = {s.name: s.default for s in cls.settings if s.default}
    return defaults | {name: str(value) for name, value in given.items() if value not in (None, "")}


def _refuse_address(url: str) -> None:
    """A person is not sent to an address that we would not call ourselves."""
    where = place(url)
    try:
        AddressBook().addresses(where.host, where.port, plain=where.scheme == "http")
    except RetryableError:
        return  # this host can't resolve it just now; the browser may


def _owner(digest: str) -> str:
    return f"sign-in {digest[:16]}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
