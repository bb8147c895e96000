"""Where exactly does a connection fail?  One step after another: name, encryption, login, read, write."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import cast

from django.conf import settings

from connectors.contract import ConnectorError, PermanentError, RetryableError
from connectors.models import Connection, LastCheck
from connectors.registry import UnknownSystem, connector_class
from connectors.transport import redaction
from connectors.transport.addresses import AddressBook, Place, place
from connectors.transport.connecting import check_connection, effective_settings, open_transport

OK, FAILED, NOT_TRIED = "ok", "failed", "not tried"


@dataclass(frozen=True, slots=True)
class Step:
    """How one step ended, in a sentence."""

    name: str
    title: str
    outcome: str
    words: str
    ms: int = 0


def names() -> list[tuple[str, str]]:
    """Return the steps with what people call them."""
    return [(name, title) for name, (title, _) in STEPS.items()]


def take(connection: Connection, name: str) -> Step:
    """Take one step."""
    title, act = STEPS[name]
    started = time.perf_counter()
    try:
        outcome, words = OK, act(connection)
    except (ConnectorError, UnknownSystem) as error:
        outcome, words = FAILED, redaction.text(str(error))
    return Step(name, title, outcome, words, round((time.perf_counter() - started) * 1000))


def examine(connection: Connection) -> Iterator[Step]:
    """Take all steps; what comes after a failed one is not tried."""
    failed = False
    for name, (title, _) in STEPS.items():
        step = Step(name, title, NOT_TRIED, "") if failed else take(connection, name)
        failed = failed or step.outcome == FAILED
        yield step


def _places(connection: Connection) -> list[Place]:
    cls = connector_class(connection.system)
    given = effective_settings(connection, cls)
    return list(dict.fromkeys(place(given[s.name]) for s in cls.settings if s.is_url and given.get(s.name)))


def _resolved(connection: Connection) -> list[tuple[Place, str]]:
    """Return each host with the address that would be connected to.  Raises AddressRefused or RetryableError."""
    book = AddressBook()
    found = [
        (where, book.addresses(where.host, where.port, plain=where.scheme == "http"))
        for where in _places(connection)
    ]  # fmt: skip
    return [(where, addresses[0]) for where, addresses in found]


def _name(connection: Connection) -> str:
    found = _resolved(connection)
    if not found:
        return "This system needs no host."
    return f"{', '.join(dict.fromkeys(where.host for where, _ in found))}: found, and allowed to be called."


def _encryption(connection: Connection) -> str:
    found = _resolved(connection)
    if not found:
        return "This system needs no host."
    ends = [(where, _handshake(where, address)) for where, address in found]
    plain = [str(where) for where, until in ends if until is None]
    certified = sorted((until, where.host) for where, until in ends if until is not None)
    told = []
    if certified:
        until, host = certified[0]
        told.append(f"The certificates are good; the first to end is that of {host}, on {until:%Y-%m-%d}.")
    if plain:
        told.append(f"{', '.join(plain)} answers without encryption, which ALLOWED_PRIVATE_NETWORKS allows.")
    return " ".join(told)


def _handshake(where: Place, address: str) -> datetime | None:
    """Connect to the very address that was checked; return until when its certificate is good, None without TLS."""
    try:
        with socket.create_connection((address, where.port), timeout=settings.CONNECT_TIMEOUT) as raw:
            if where.scheme == "http":
                return None
            context = ssl.create_default_context()
            with context.wrap_socket(raw, server_hostname=where.host) as wrapped:
                told = cast("Mapping[str, str]", wrapped.getpeercert() or {})
                return datetime.fromtimestamp(ssl.cert_time_to_seconds(told["notAfter"])).astimezone()
    except ssl.SSLCertVerificationError as error:
        raise PermanentError(f"{where} shows a certificate that is not good for it ({error.verify_message}).") from None
    except OSError as error:
        raise RetryableError(f"{where} could not be connected to ({type(error).__name__}).") from None


def _login(connection: Connection) -> str:
    transport = open_transport(connection, checking=True)
    try:
        return "The system gave an access token." if transport.login() else "This system needs no login."
    finally:
        transport.close()


def _read(connection: Connection) -> str:
    identity = check_connection(connection)
    if not identity.may:
        raise PermanentError("The login works, but this account may not read a single entity.")
    who = identity.account or identity.instance
    return f"Connected to {who} ({identity.instance}); {len(identity.may)} entities can be read."


def _write(connection: Connection) -> str:
    """By the rights that the reading step was told; nothing is written."""
    check = LastCheck.objects.filter(connection=connection).first()
    may: Mapping[str, list[str]] = check.may if check else {}
    writable = sorted(entity for entity, verbs in may.items() if verbs)
    if not writable:
        raise PermanentError("This account may read but not write. Give it the right, or sync one way only.")
    only = sorted(set(may) - set(writable))
    return f"{len(writable)} entities can be written" + (f"; only read: {', '.join(only)}." if only else ".")


STEPS: Mapping[str, tuple[str, Callable[[Connection], str]]] = {
    "dns": ("Name", _name),
    "tls": ("Encryption", _encryption),
    "login": ("Login", _login),
    "read": ("Read", _read),
    "write": ("Write permission", _write),
}
