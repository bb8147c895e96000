"""How is a connection made to the address that was checked, and to no other?  Below requests, in urllib3."""

from __future__ import annotations

import logging
import socket
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3 import PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

from connectors.transport.addresses import AddressBook

TRIES = 2  # addresses of one name; the connect time-out counts for each
POOL = 16  # idle connections kept, for as many writers


def _no_addresses(record: logging.LogRecord) -> bool:
    """Keep urllib3's debug lines out of every log: they hold whole URLs, and with them names and tokens."""
    return record.levelno > logging.DEBUG


logging.getLogger("urllib3.connectionpool").addFilter(_no_addresses)


class _Pinned(HTTPConnection):
    """Connects to an address out of the book; Host, SNI and the certificate's name stay the name in the URL."""

    plain = True

    def __init__(self, *args: Any, book: AddressBook, **options: Any) -> None:
        self._book = book
        super().__init__(*args, **options)

    def _new_conn(self) -> socket.socket:
        name = self._dns_host
        addresses = self._book.addresses(self.host, self.port, plain=self.plain)[:TRIES]
        try:
            for address in addresses[:-1]:
                self._dns_host = address
                try:
                    return super()._new_conn()
                except (NewConnectionError, ConnectTimeoutError):
                    continue  # the name's next address may answer
            self._dns_host = addresses[-1]
            return super()._new_conn()
        finally:
            self._dns_host = name


class _PinnedTLS(_Pinned, HTTPSConnection):
    plain = False


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Pinned


class _PoolTLS(HTTPSConnectionPool):
    ConnectionCls = _PinnedTLS


class _Manager(PoolManager):
    def __init__(self, book: AddressBook, **options: Any) -> None:
        super().__init__(**options)
        self._book = book
        self.pool_classes_by_scheme = {"http": _Pool, "https": _PoolTLS}

    def _new_pool(self, *args: Any, **options: Any) -> HTTPConnectionPool:
        pool = super()._new_pool(*args, **options)
        pool.conn_kw["book"] = self._book
        return pool


class PinnedAdapter(HTTPAdapter):
    """A requests adapter whose every connection goes through the address book.  It never retries by itself."""

    def __init__(self, book: AddressBook) -> None:
        self._book = book
        super().__init__(pool_connections=4, pool_maxsize=POOL, max_retries=0)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **options: Any) -> None:
        """Make the pool of pinned connections (called by requests)."""
        self.poolmanager = _Manager(self._book, num_pools=connections, maxsize=maxsize, block=block, **options)
