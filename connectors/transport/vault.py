"""How are credentials kept?  Encrypted, bound to their row, and never shown by accident."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import lru_cache

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from connectors.contract import AuthError


class CredentialsUnreadable(AuthError):
    """The stored cipher text can't be used: another key, or another row's."""


class Secret(dict[str, str]):
    """Credentials in the clear.  Printing them shows the names of the keys only."""

    def __repr__(self) -> str:
        return f"<secret: {', '.join(sorted(self)) or 'empty'}>"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)


def only(secret: Mapping[str, str], keys: Iterable[str]) -> Secret:
    """Return the part under these keys: what a person gave, without what a login added."""
    return Secret({key: secret[key] for key in keys if key in secret})


@lru_cache(maxsize=4)
def _fernet(keys: tuple[str, ...]) -> MultiFernet:
    try:
        return MultiFernet([Fernet(key) for key in keys])
    except ValueError:
        # `from None`: the original error's frame holds the key.
        raise ImproperlyConfigured(
            "CREDENTIAL_KEYS holds something that is not a Fernet key (see .env.example)."
        ) from None


def _present() -> MultiFernet:
    return _fernet(tuple(settings.CREDENTIAL_KEYS))


def encrypt(secret: Mapping[str, str], owner: int | str) -> bytes:
    """Return cipher text that only this row can use: a connection's number, or "alert rule 3".  The first key encrypts."""
    clear = json.dumps({"connection": owner, "secret": dict(secret)})
    return _present().encrypt(clear.encode())


def _named(owner: object) -> str:
    return f"connection {owner}" if isinstance(owner, int) else str(owner)


def decrypt(cipher: bytes, owner: int | str) -> Secret:
    """Return the credentials.  Raises CredentialsUnreadable with a sentence that names no value."""
    if not cipher:
        return Secret()
    try:
        clear = json.loads(_present().decrypt(bytes(cipher)))
    except InvalidToken:
        raise CredentialsUnreadable(
            f"The stored credentials of {_named(owner)} can't be decrypted with any of CREDENTIAL_KEYS. "
            "Put the key they were stored with back into CREDENTIAL_KEYS, or enter the credentials again."
        ) from None
    if clear["connection"] != owner:
        raise CredentialsUnreadable(
            f"The stored credentials of {_named(owner)} were stored for {_named(clear['connection'])}: "
            "the cipher text was moved. Enter the credentials again."
        )
    return Secret(clear["secret"])


def is_newest(cipher: bytes) -> bool:
    """Tell whether the first key alone can read it, so that rotation has nothing to do."""
    try:
        _fernet((settings.CREDENTIAL_KEYS[0],)).decrypt(bytes(cipher))
    except InvalidToken:
        return False
    return True
