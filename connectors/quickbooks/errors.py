"""What should the caller do about an answer that is not what was asked for?  One table of codes, one of statuses."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from xml.etree import ElementTree

from connectors.contract import AuthError, ConnectorError, PermanentError, Result, RetryableError, Unanswered
from connectors.transport.types import Reply

# quickbooks sheet, section 10.  For a whole call: the class to raise.  For one record: the outcome's result.
CALL: dict[str, type[ConnectorError]] = {
    "100": AuthError,
    "120": AuthError,  # the user lost rights, or the subscription does not cover the app
    "3001": RetryableError,  # throttled; old gateways say so with status 403
    "3100": AuthError,
    "3200": AuthError,
    "6190": AuthError,  # the subscription ended: comes with status 400
}
ITEM: dict[str, Result] = {
    "610": Result.GONE,  # of the record itself or of what it refers to: the connector asks which
    "3001": Result.LATER,
    "5010": Result.CONFLICT,
    "6240": Result.EXISTS,
}
BY_STATUS: dict[int, type[ConnectorError]] = {401: AuthError, 403: PermanentError, 429: RetryableError}
# What helps, for people (section 10): which codes come is up to the record, so the connector knows.
HINTS: dict[str, str] = {
    "610": "It refers to something inactive or deleted in QuickBooks. Make that active again, then read again and plan again.",
    "2020": "QuickBooks needs a field that is empty. Fill it in the other system, or give the mapping a default.",
    "2050": "The text is too long for QuickBooks. Shorten it, or let the mapping cut it (transform: truncate).",
    "6000": "QuickBooks refused it by its own rules; its words say why. Mend the record, then read again and plan again.",
    "6140": "The document number is taken in QuickBooks. Renumber one of the two, then read again and plan again.",
    "6200": "The books are closed for that date. Open the period in QuickBooks or change the date, then retry as it was.",
    "6210": "The books are closed for that date. Open the period in QuickBooks or change the date, then retry as it was.",
    "6240": "A customer, vendor or employee of that name is in QuickBooks already. Rename one of them, or join the two records.",
    "6540": "The transaction has been deposited and can't be changed. Take it out of the deposit in QuickBooks, then retry as it was.",
}
SEVERE = 10000  # from here on: failures of their system, which may pass
THROTTLED_FOR = 60.0  # seconds to wait when a 429 does not say (section 11)
MISSING = "610"

_GATEWAY_CODE = re.compile(r"errorCode=0*(\d+)")
_XML_NAMESPACE = "{http://schema.intuit.com/finance/v3}"
_MAX_XML = 100_000  # bytes; a fault is small, and nothing larger from a gateway is worth parsing


@dataclass(frozen=True, slots=True)
class Fault:
    """What QuickBooks says is wrong."""

    code: str
    message: str
    detail: str = ""
    element: str = ""
    type: str = ""

    @property
    def words(self) -> str:
        """The vendor's own words on one line."""
        return f"{self.message}: {self.detail}" if self.detail and self.detail != self.message else self.message

    @property
    def result(self) -> Result:
        """Return what became of the one record that this fault is about."""
        if self.code.isdecimal() and int(self.code) >= SEVERE:
            return Result.LATER
        if CALL.get(self.code) is AuthError:
            # Not done, and not the record's fault.  It is no exception here: other items of the batch may be written.
            return Result.LATER
        return ITEM.get(self.code, Result.REJECTED)


def fault_of(body: object) -> Fault | None:
    """Return the first error in a parsed body, with capital keys (the service) or lower-case ones (the gateway)."""
    if not isinstance(body, Mapping):
        return None
    fault = body.get("Fault") or body.get("fault")
    if not isinstance(fault, Mapping):
        return None
    errors = fault.get("Error") or fault.get("error") or [{}]
    error = errors[0] if isinstance(errors, list) and errors else {}
    found = {str(key).lower(): "" if value is None else str(value) for key, value in error.items()}
    return Fault(
        found.get("code", ""),
        found.get("message", ""),
        found.get("detail", ""),
        found.get("element", ""),
        str(fault.get("type") or ""),
    )


def fault_in(reply: Reply) -> Fault | None:
    """Read a fault in any of the shapes that the sheet's section 10 shows: JSON in two spellings, or XML."""
    body = reply.body.lstrip()
    if body.startswith(b"{"):
        try:
            return fault_of(json.loads(body))
        except ValueError:
            return None
    if body.startswith(b"<") and b"IntuitResponse" in body and b"<!DOCTYPE" not in body and len(body) <= _MAX_XML:
        try:
            root = ElementTree.fromstring(body)  # noqa: S314  a document type, and so any entity, was refused above
        except ElementTree.ParseError:
            return None
        error = root.find(f".//{_XML_NAMESPACE}Error")
        if error is not None:
            message = error.findtext(f"{_XML_NAMESPACE}Message") or ""
            told = _GATEWAY_CODE.search(message)
            code = error.get("code") or (told.group(1) if told else "")
            return Fault(code, message, error.findtext(f"{_XML_NAMESPACE}Detail") or "", error.get("element") or "")
    return None


def error_for(reply: Reply, now: datetime) -> ConnectorError:
    """Return what to raise for a call that was not answered as asked."""
    fault = fault_in(reply)
    support = reply.headers.get("intuit_tid", "")
    code = fault.code if fault else ""
    words = f"QuickBooks answered {reply.status}: {fault.words if fault else 'without saying why'}"
    kind = CALL.get(code) or BY_STATUS.get(reply.status)
    if kind is None:
        severe = reply.status >= 500 or (code.isdecimal() and int(code) >= SEVERE)
        silent = fault is None and reply.status < 400  # a page of a proxy with status 200 says nothing
        kind = Unanswered if severe or silent else PermanentError
    if issubclass(kind, RetryableError):
        wait = reply.retry_after(now)
        if wait is None and kind is RetryableError:
            wait = THROTTLED_FOR
        return kind(words, retry_after=wait, code=code, vendor_id=support)
    return kind(words, code=code, vendor_id=support)
