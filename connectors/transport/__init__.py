"""How does the hub reach a system?  `connect` gives a connector that is ready to use, `check` says who we are there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

from connectors.contract import Connector, Identity

if TYPE_CHECKING:
    from connectors.models import Connection
    from connectors.transport.apilog import ApiLog

__all__ = ["check", "connect", "connected"]

# The imports are inside: connectors import `connectors.transport.types`, and the registry imports connectors.


def connect(
    connection: Connection,
    *,
    run_id: int | None = None,
    job_id: int | None = None,
    now: Callable[[], datetime] | None = None,
    sleep: Callable[[float], None] | None = None,
    log: ApiLog | None = None,
) -> Connector:
    """Return a connector for this connection.  With `log` its API rows wait there for the caller's flush.

    Use `connected` where the end is known: only a closed transport gives its concurrency slots back at once.
    """
    from connectors.transport.connecting import open_transport, speak

    return speak(open_transport(connection, run_id=run_id, job_id=job_id, now=now, sleep=sleep, log=log))


@contextmanager
def connected(
    connection: Connection,
    *,
    run_id: int | None = None,
    job_id: int | None = None,
    now: Callable[[], datetime] | None = None,
    sleep: Callable[[float], None] | None = None,
    log: ApiLog | None = None,
) -> Iterator[Connector]:
    """Give a connector for the length of a `with` block, then close its transport (which flushes the API rows)."""
    from connectors.transport.connecting import open_transport, speak

    transport = open_transport(connection, run_id=run_id, job_id=job_id, now=now, sleep=sleep, log=log)
    try:
        yield speak(transport)
    finally:
        transport.close()


def check(
    connection: Connection,
    *,
    now: Callable[[], datetime] | None = None,
    sleep: Callable[[float], None] | None = None,
) -> Identity:
    """Log in, say as whom, and store it on the row.  Raises AuthError also when it is another instance than before."""
    from connectors.transport.connecting import check_connection

    return check_connection(connection, now=now, sleep=sleep)
