"""Who speaks for a connection, and is it still the company it was made for?"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import datetime

from connectors.contract import AuthError, Connector, Identity, PermanentError, RetryableError
from connectors.models import Connection, LastCheck
from connectors.registry import ConnectorClass, connector_class
from connectors.transport import redaction
from connectors.transport.addresses import AddressBook, AddressRefused, place
from connectors.transport.apilog import ApiLog
from connectors.transport.entered import known, misfit
from connectors.transport.session import Transport, utc_now


class SettingsMissing(PermanentError):
    """The connection can't be used before a person has filled in more, or corrected it."""


def effective_settings(connection: Connection, cls: ConnectorClass) -> dict[str, str]:
    """Return the connection's settings with the connector's defaults.  Raises SettingsMissing naming what lacks or is wrong."""
    given: Mapping[str, object] = connection.settings or {}
    settings = {s.name: s.default for s in cls.settings if s.default}
    settings |= {name: str(value) for name, value in given.items() if value not in (None, "")}
    missing = [f"{s.label} ({s.name})" for s in cls.settings if s.required and not settings.get(s.name)]
    if missing:
        raise SettingsMissing(f"Connection {connection.name} lacks {', '.join(missing)}. Fill it in and check again.")
    refuse_misfits(connection, cls, settings)
    return settings


def refuse_misfits(connection: Connection, cls: ConnectorClass, settings: Mapping[str, str]) -> None:
    """Raise SettingsMissing naming each setting that is not of its kind: connectors read them as they are."""
    wrong = [
        f"{setting.label} ({setting.name}) can't be {settings[setting.name]!r}. {problem}"
        for setting in known(cls.settings, settings)
        if settings.get(setting.name) and (problem := misfit(setting, settings[setting.name]))
    ]
    if wrong:
        raise SettingsMissing(f"Connection {connection.name}: {' '.join(wrong)} Correct it and check again.")


def open_transport(
    connection: Connection,
    *,
    run_id: int | None = None,
    job_id: int | None = None,
    now: Callable[[], datetime] | None = None,
    sleep: Callable[[float], None] | None = None,
    log: ApiLog | None = None,
    checking: bool = False,
) -> Transport:
    """Return a transport with the limits, login and hosts that the connection's system declares."""
    cls = connector_class(connection.system)
    settings = effective_settings(connection, cls)
    return Transport(
        connection, cls.auth(settings), cls.limits, now=now or utc_now, sleep=sleep or time.sleep, run_id=run_id,
        job_id=job_id, log=log, settings=settings, checking=checking,
    )  # fmt: skip


def speak(transport: Transport) -> Connector:
    """Return the connector that talks through this transport.  Raises SettingsMissing where it could not read its settings."""
    cls = connector_class(transport.connection.system)
    refuse_misfits(transport.connection, cls, transport.settings)
    return cls(transport, transport.settings, transport.now)


def check_connection(
    connection: Connection,
    *,
    now: Callable[[], datetime] | None = None,
    sleep: Callable[[float], None] | None = None,
) -> Identity:
    """Ask the system who we are and store the answer; see `connectors.transport.check`."""
    transport = open_transport(connection, now=now, sleep=sleep, checking=True)
    try:
        _refuse_addresses(connection, transport.settings)
        identity = speak(transport).check()
    except AuthError as error:
        if connection.state != Connection.State.NEEDS_RECONNECT:
            connection.needs_reconnect(redaction.text(str(error)))
        raise
    finally:
        transport.close()
    return remember(connection, identity, transport.now())


def _refuse_addresses(connection: Connection, settings: Mapping[str, str]) -> None:
    """Look at every address before the first secret is sent, and name the setting that holds a bad one."""
    book = AddressBook()
    for setting in connector_class(connection.system).settings:
        if not setting.is_url or not settings.get(setting.name):
            continue
        try:
            where = place(settings[setting.name])
            book.addresses(where.host, where.port, plain=where.scheme == "http")
        except AddressRefused as error:
            raise AddressRefused(f"Connection {connection.name}, {setting.label} ({setting.name}): {error}") from error
        except RetryableError:
            continue  # a name that can't be resolved just now is told by the call that needs it


def remember(connection: Connection, identity: Identity, now: datetime) -> Identity:
    """Store who we are there.  Raises AuthError when that is somebody else than before: reused ids would join records
    of two companies."""
    rows = Connection.objects.filter(pk=connection.pk).exclude(state=Connection.State.PAUSED)
    if connection.instance and identity.instance != connection.instance:
        reason = (
            f"These credentials lead to {identity.account or 'another account'} ({identity.instance}), "
            f"but the connection was made for {connection.account or 'the company'} ({connection.instance})."
        )[:500]
        rows.update(state=Connection.State.WRONG_INSTANCE, reason=reason)
        connection.refresh_from_db(fields=["state", "reason"])
        raise AuthError(f"Connection {connection.name}: {reason}", code=Connection.State.WRONG_INSTANCE.value)
    changes: dict[str, object] = {
        "instance": identity.instance, "account": identity.account[:200], "schema": identity.schema[:64],
        "state": Connection.State.CONNECTED, "reason": "",
    }  # fmt: skip
    if identity.expires_at is not None:  # else what the login said stays (a refresh token's end)
        changes["auth_expires_at"] = identity.expires_at
    rows.update(**changes)
    said = {
        "at": now, "remaining": dict(identity.remaining),
        "may": {entity: sorted(verbs) for entity, verbs in identity.may.items()},
        "skew_seconds": (identity.clock - now).total_seconds() if identity.clock else None,
    }  # fmt: skip
    if not LastCheck.objects.filter(connection=connection).update(**said):
        LastCheck.objects.get_or_create(connection=connection, defaults=said)
    connection.refresh_from_db(fields=[*changes])
    return identity
