"""Which requests were sent?  One row each, redacted when it is made, inserted many at a time."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from datetime import datetime

from connectors.models import ApiCall, Connection
from connectors.transport import redaction

FLUSH_AT = 500  # rows

# Headers in which systems say the id that their support asks for (sheets: quickbooks 2, dynamics365 10, msgraph 8).
CORRELATION = (
    "intuit_tid", "x-ms-service-request-id", "request-id", "x-request-id", "x-ms-request-id", "cw-request-id",
)  # fmt: skip


class ApiLog:
    """Rows that wait for one bulk insert.  The engine may flush it inside a transaction of its own."""

    def __init__(self, *, flush_at: int = FLUSH_AT) -> None:
        self._lock = threading.Lock()
        self._flush_at = flush_at
        self.rows: list[ApiCall] = []
        self.sent = 0  # calls since the beginning, flushed or not

    def add(self, row: ApiCall) -> None:
        """Keep a row; at 500 of them they are inserted."""
        with self._lock:
            self.rows.append(row)
            self.sent += 1
            full = len(self.rows) >= self._flush_at
        if full:
            self.flush()

    def flush(self) -> int:
        """Insert all rows that wait, in one statement; return how many."""
        with self._lock:
            rows, self.rows = self.rows, []
        if rows:
            ApiCall.objects.bulk_create(rows, batch_size=FLUSH_AT)
        return len(rows)


def row(
    connection: Connection,
    *,
    at: datetime,
    method: str,
    url: str,
    status: int,
    ms: float,
    headers: Mapping[str, str],
    run_id: int | None,
    job_id: int | None,
    code: str = "",
    body: str = "",
) -> ApiCall:
    """Make the row of one call; nothing that is not redacted gets into it."""
    vendor_id = next((headers[name] for name in CORRELATION if headers.get(name)), "")
    return ApiCall(
        connection=connection, at=at, run_id=run_id, job_id=job_id, method=method[:10], path=redaction.path(url),
        status=status, ms=round(ms), vendor_id=redaction.text(vendor_id)[:100], code=code[:100], body=body,
    )  # fmt: skip


def error_code(status: int, content: bytes) -> str:
    """Return the system's own error code of a refused call, where the body has one of the usual shapes."""
    if status < 400 or not content or len(content) > 100_000:
        return ""
    try:
        shape = json.loads(content)
    except ValueError:
        return ""
    return redaction.text(_code(shape, 4))[:100]


def _code(shape: object, depth: int) -> str:
    """Look for `code`, `errorCode` or a plain `error` word, below Fault, Error, error and the first list item."""
    if isinstance(shape, list):
        return _code(shape[0], depth - 1) if shape and depth else ""
    if not isinstance(shape, dict):
        return ""
    lower = {str(key).lower(): value for key, value in shape.items()}
    for key in ("code", "errorcode"):
        if isinstance(lower.get(key), str | int):
            return str(lower[key])
    if isinstance(lower.get("error"), str):
        word = str(lower["error"])
        return word if word.replace("_", "").isalnum() else ""
    if not depth:
        return ""
    return next((found for key in ("error", "fault", "errors") if (found := _code(lower.get(key), depth - 1))), "")
