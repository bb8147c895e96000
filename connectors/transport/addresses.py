"""May we talk to this address?  Checked is the very address that is then connected to, not just the name."""

from __future__ import annotations

import ipaddress
import re
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

from django.conf import settings

from connectors.contract import PermanentError, RetryableError

Address: TypeAlias = "ipaddress.IPv4Address | ipaddress.IPv6Address"
Network: TypeAlias = "ipaddress.IPv4Network | ipaddress.IPv6Network"
Resolver: TypeAlias = Callable[[str, int], Sequence[str]]

# One strict form, so that no two URL parsers can disagree about the host: no user, no backslash, no percent or
# unicode in the host, no blanks or control characters anywhere.
_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])"
    r"(?::(?P<port>[0-9]{1,5}))?(?P<rest>[/?][^\s\\#\x00-\x1f\x7f]*)?",
    re.ASCII,
)
# Hosts that the system's resolver reads as a number: decimal, octal, hexadecimal, shortened.  127.1 is 127.0.0.1.
_NUMBERS = re.compile(r"(?:0[xX][0-9A-Fa-f]*|[0-9]+)(?:\.(?:0[xX][0-9A-Fa-f]*|[0-9]+))*", re.ASCII)
_QUAD = re.compile(r"(?:(?:0|[1-9][0-9]{0,2})\.){3}(?:0|[1-9][0-9]{0,2})", re.ASCII)

NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
# Special by IANA's registries, but global to some Python versions (Oracle's cloud has its metadata at 192.0.0.192).
SPECIAL = tuple(
    ipaddress.ip_network(text)
    for text in ("192.0.0.0/24", "192.88.99.0/24", "2001::/23", "100::/64", "3fff::/20", "5f00::/16", "fec0::/10")
)
# Azure's host agent answers with a machine's secrets on this public-looking address.
METADATA = frozenset({ipaddress.ip_address("168.63.129.16")})


class AddressRefused(PermanentError):
    """This address is not one that the hub may talk to."""


@dataclass(frozen=True, slots=True)
class Place:
    """Scheme, host and port of a URL: what must stay the same for credentials to be sent along."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = {"https": 443, "http": 80}[self.scheme]
        return f"{self.scheme}://{host}" + ("" if self.port == usual else f":{self.port}")


def place(url: str) -> Place:
    """Return where a URL leads.  Raises AddressRefused for anything but a plain http or https URL."""
    found = _URL.fullmatch(url)
    if not found:
        raise AddressRefused("The address is refused: it is not a plain https://host/path address.")
    host = found["host"].strip("[]").lower()
    if found["host"].startswith("["):
        try:
            host = str(ipaddress.IPv6Address(host))
        except ValueError as error:
            raise AddressRefused("The address is refused: its host is not an IPv6 address.") from error
    elif _NUMBERS.fullmatch(host) and not _is_quad(host):
        raise AddressRefused(f"The address is refused: {host} is an IP address in disguise.")
    port = int(found["port"] or (443 if found["scheme"] == "https" else 80))
    if not 0 < port < 65536:
        raise AddressRefused(f"The address is refused: {port} is not a port.")
    return Place(found["scheme"], host, port)


def _is_quad(host: str) -> bool:
    return bool(_QUAD.fullmatch(host)) and all(int(part) < 256 for part in host.split("."))


@lru_cache(maxsize=8)
def _networks(listed: tuple[str, ...]) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(text.strip()) for text in listed if text.strip())


def _inner(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 address leads to (mapped, 6to4, Teredo, NAT64), or the address itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.ipv4_mapped:
        return address.ipv4_mapped
    if address.sixtofour:
        return address.sixtofour
    if address.teredo:
        return address.teredo[1]
    if address in NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def refusal(text: str, *, plain: bool) -> str:
    """Return why this IP address may not be connected to, or "".  `plain`: without TLS."""
    address = _inner(ipaddress.ip_address(text.split("%")[0]))
    listed = _networks(tuple(settings.ALLOWED_PRIVATE_NETWORKS))
    if any(address in network for network in listed if network.version == address.version):
        return ""
    special = any(address in network for network in SPECIAL if network.version == address.version)
    if special or not address.is_global or address.is_multicast or address.is_reserved or address in METADATA:
        return "it is a loopback, private, link-local or metadata address outside ALLOWED_PRIVATE_NETWORKS; correct it"
    return "plain http is allowed only into ALLOWED_PRIVATE_NETWORKS, use https" if plain else ""


def system_resolver(host: str, port: int) -> Sequence[str]:
    """Ask the operating system for the addresses of a name, in its order of preference."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def check_literal(url: str) -> Place:
    """Return where an address that a person enters leads.  Raises AddressRefused for what can be told without asking for a name.

    A name is looked up when it is called: what it stands for by then is what counts.
    """
    where = place(url)
    host = "127.0.0.1" if where.host == "localhost" or where.host.endswith(".localhost") else where.host
    if ":" in host or _is_quad(host):
        why = refusal(host, plain=where.scheme == "http")
        if why:
            raise AddressRefused(f"The address {where.host} is refused: {why}.")
    return where


class AddressBook:
    """Names resolved and checked once for a session; connections are made to these addresses and to no others."""

    def __init__(self, resolve: Resolver = system_resolver) -> None:
        self._resolve = resolve
        self._lock = threading.Lock()
        self._known: dict[tuple[str, int, bool], tuple[str, ...]] = {}

    def addresses(self, host: str, port: int, *, plain: bool) -> tuple[str, ...]:
        """Return the addresses to connect to.  One bad address among them refuses the name as a whole."""
        key = (host, port, plain)
        with self._lock:
            if key not in self._known:
                self._known[key] = self._check(host, port, plain)
            return self._known[key]

    def _check(self, host: str, port: int, plain: bool) -> tuple[str, ...]:
        try:
            found = tuple(self._resolve(host, port))
        except (OSError, UnicodeError) as error:
            raise RetryableError(f"The name {host} can't be resolved.") from error
        if not found:
            raise RetryableError(f"The name {host} has no address.")
        for address in found:
            why = refusal(address, plain=plain)
            if why:
                raise AddressRefused(f"The address {host} ({address}) is refused: {why}.")
        return found
