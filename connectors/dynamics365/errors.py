"""What should the caller do about a Dataverse answer?  One table for calls and for items of a batch.

Sheet, section 11.  A code says more than its status: 412 is a stale version, a duplicate id or a duplicate key.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from connectors.contract import (
    AuthError,
    ConnectorError,
    CursorExpired,
    Operation,
    Outcome,
    PermanentError,
    Ref,
    Result,
    RetryableError,
    Verb,
)
from connectors.transport.types import Reply

LATER_IN = timedelta(seconds=30)  # for an item that may succeed later, where no Retry-After says when


@dataclass(frozen=True, slots=True)
class Meaning:
    """What an answer means for a whole call, and for one item of a batch."""

    call: type[ConnectorError]
    item: Result


_REFUSED = Meaning(PermanentError, Result.REJECTED)
_LATER = Meaning(RetryableError, Result.LATER)
_RIGHTS = Meaning(AuthError, Result.REJECTED)

MEANINGS: dict[str | int, Meaning] = {
    "0x80060882": Meaning(PermanentError, Result.CONFLICT),  # the row is no longer at the version of If-Match
    "0x80040237": Meaning(PermanentError, Result.EXISTS),  # the id that we chose is taken: an earlier try arrived
    "0x80060892": Meaning(PermanentError, Result.EXISTS),  # an alternate key is taken, by a row whose id is not told
    "0x80040333": Meaning(PermanentError, Result.EXISTS),  # a duplicate detection rule of the customer's
    "0x80040217": Meaning(PermanentError, Result.GONE),
    "0x80044352": Meaning(CursorExpired, Result.REJECTED),  # version stamp expired
    "0x80040220": _RIGHTS,  # a privilege is missing
    "0x80072560": _RIGHTS,  # the user is no member of the organization
    "0x80072322": _LATER,  # number of requests
    "0x80072321": _LATER,  # execution time
    "0x80072326": _LATER,  # concurrent requests
    "0x80044150": _LATER,  # generic SQL error
    "0x80044151": _LATER,  # SQL time-out or deadlock: this item was rolled back
    "0x80040216": _LATER,  # unexpected
    401: Meaning(AuthError, Result.LATER),
    403: _REFUSED,
    404: _REFUSED,
    410: Meaning(CursorExpired, Result.REJECTED),
    412: Meaning(PermanentError, Result.CONFLICT),
    413: _REFUSED,
    429: _LATER,
    500: _LATER,
    502: _LATER,
    503: _LATER,
    504: _LATER,
}


# What helps, for people (sheet, section 11).
HINTS: dict[str, str] = {
    "0x80040203": "Dynamics 365 does not take a value; its words name it. Mend it or the mapping, then read again and plan again.",
    "0x80040220": "The application user lacks a privilege on this table. Give it the security role in Dynamics 365, then retry as it was.",
    "0x80040237": "A row with this id or key is there already. Open both and join them, or change the key.",
    "0x80040265": "A plug-in of your Dynamics 365 refused it; the words are its own. Mend the record or the plug-in, then retry as it was.",
    "0x80040333": "A duplicate detection rule found a row that is like it. Join the two records, or change the rule.",
    "0x80044330": "The choice does not exist in Dynamics 365. Map the option, or add it there, then read again and plan again.",
    "0x80044331": "The text is too long for the column. Lengthen the column, or let the mapping cut it (transform: truncate).",
    "0x80048408": "The status does not fit the state of the row. Change the mapping of the status, then plan with today's mapping.",
    "0x80060892": "Another row has the same alternate key. Join the two records, or change the key.",
}


def meaning(status: int, code: str) -> Meaning:
    """Look up an answer, by its code first."""
    return MEANINGS.get(code.lower()) or MEANINGS.get(status) or (_LATER if status >= 500 else _REFUSED)


def read_error(body: bytes) -> tuple[str, str]:
    """Return (code, message) of an error body; a body that is no JSON (a gateway's page) has neither."""
    try:
        content = json.loads(body)
    except ValueError:
        return "", ""
    error = content.get("error") if isinstance(content, dict) else None
    if not isinstance(error, dict):
        return "", ""
    return str(error.get("code") or ""), str(error.get("message") or "")


def call_error(reply: Reply, now: datetime) -> ConnectorError:
    """Return the error to raise for an answer that is not a success."""
    code, message = read_error(reply.body)
    kind = meaning(reply.status, code).call
    words = f"Dynamics 365 answered {reply.status}{f' {code}' if code else ''}: {message or 'no reason was given'}"
    vendor_id = reply.headers.get("x-ms-service-request-id", "")
    if issubclass(kind, RetryableError):
        return kind(words, retry_after=reply.retry_after(now), code=code, vendor_id=vendor_id)
    return kind(words, code=code, vendor_id=vendor_id)


def item_outcome(operation: Operation, reply: Reply, columns: frozenset[str], now: datetime) -> Outcome:
    """Return what became of one operation whose part was refused."""
    code, message = read_error(reply.body)
    result = meaning(reply.status, code).item
    identity, field, retry_at = operation.id, "", None
    if result is Result.GONE and operation.id.lower() not in message.lower():
        # The row that a lookup points at is missing, not the row itself.
        result, field = Result.REJECTED, _pointing_field(operation, message)
    elif result is Result.GONE and operation.verb is Verb.CREATE:
        result = Result.REJECTED
    elif result is Result.REJECTED:
        field = _named_field(message, columns)
    elif result is Result.EXISTS and (code.lower() != "0x80040237" or operation.verb is not Verb.CREATE):
        identity, field = "", _named_field(message, columns)
    elif result is Result.LATER:
        seconds = reply.retry_after(now)
        retry_at = now + (LATER_IN if seconds is None else timedelta(seconds=seconds))
    return Outcome(
        operation.key, result, id=identity, field=field, code=code or str(reply.status),
        message=message or f"status {reply.status}", retry_at=retry_at,
    )  # fmt: skip


def _pointing_field(operation: Operation, message: str) -> str:
    for name, value in operation.values.items():
        identity = value.id if isinstance(value, Ref) else value if isinstance(value, str) else ""
        if len(identity) == 36 and identity.lower() in message.lower():
            return name
    return ""


def _named_field(message: str, columns: frozenset[str]) -> str:
    """Return the column that a message names, in quotes or as a bare word."""
    for word in re.findall(r"'(\w+)'", message) + re.findall(r"\w+", message):
        if word in columns:
            return str(word)
    return ""
