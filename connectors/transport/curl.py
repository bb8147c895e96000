"""How does a person repeat a call by hand?  As a curl command with placeholders where secrets and values were."""

from __future__ import annotations

import shlex
from urllib.parse import quote, urlsplit

from connectors.models import ApiCall, Connection
from connectors.registry import connector_class
from connectors.transport.addresses import AddressRefused, place
from connectors.transport.redaction import MARK

BODIES = frozenset({"POST", "PUT", "PATCH"})


def command(call: ApiCall, connection: Connection) -> str:
    """Return the command; the request log holds neither token nor body, so both are left to the person."""
    path, _, query = call.path.partition("?")
    address = f"{_host(connection, path)}{_quoted(path, '/')}" + (f"?{_quoted(query, '=&')}" if query else "")
    parts = ["curl", "-X", call.method, address, "-H", "Authorization: Bearer $TOKEN", "-H", "Accept: application/json"]
    if call.method in BODIES:
        parts += ["-H", "Content-Type: application/json", "--data", "@body.json"]
    # The token is put in by the shell, so that one word is in double quotes.
    return " ".join('"Authorization: Bearer $TOKEN"' if "$TOKEN" in part else shlex.quote(part) for part in parts)


def _quoted(text: str, safe: str) -> str:
    return quote(text, safe=f"{safe}:@!$()*,;~").replace(quote(MARK), MARK)


def _host(connection: Connection, path: str) -> str:
    """Return the host that a path was most likely sent to: the one whose setting has this path, else the API's own."""
    cls = connector_class(connection.system)
    given = {s.name: str(connection.settings.get(s.name) or s.default) for s in cls.settings if s.is_url}
    urls = [url for url in given.values() if url]
    try:
        found = [url for url in urls if urlsplit(url).path not in ("", "/") and urlsplit(url).path == path] or urls[:1]
        return str(place(found[0])) if found else "https://HOST"
    except (AddressRefused, ValueError):  # an address that was stored before such were refused
        return "https://HOST"
