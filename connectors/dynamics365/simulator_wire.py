"""How do requests and answers of the simulated Web API look before anybody judges their content?"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, unquote_plus, urlsplit

API_ROOT = "/api/data/v9.2/"


class Refused(Exception):
    """The simulated system refuses: status, Dataverse code and words (dynamics365 sheet, section 11)."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.headers = status, code, message, dict(headers or {})


@dataclass(slots=True)
class Ask:
    """One request, whether it came alone or as a part of a batch."""

    method: str
    segments: list[str]
    options: dict[str, str]
    headers: Mapping[str, str]  # lower-case names
    body: bytes
    root: str  # absolute URL of the API root, with a slash at the end
    query: str = ""  # as it came
    path: str = ""
    empty: bool = False  # the fault "empty": listings have no rows

    def json(self) -> dict[str, object]:
        """Parse the payload, which must be an object."""
        try:
            payload = json.loads(self.body or b"{}")
        except ValueError as error:
            raise Refused(400, "0x80048d19", "Error identified in Payload provided by the user.") from error
        if not isinstance(payload, dict):
            raise Refused(400, "0x80048d19", "Error identified in Payload provided by the user: an object is expected.")
        return payload

    def prefer(self) -> dict[str, str]:
        """Return the preferences: several stand in one Prefer header, separated by commas."""
        found: dict[str, str] = {}
        for item in split_outside(self.headers.get("prefer", ""), ","):
            name, _, value = item.strip().partition("=")
            if name:
                found[name.strip().lower()] = value.strip().strip('"')
        return found


@dataclass(slots=True)
class Answer:
    """One answer, whether it goes alone or as a part of a batch."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


def json_answer(content: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """Build an answer with a JSON body."""
    body = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
    return Answer(status, body, {"Content-Type": "application/json; odata.metadata=minimal", **(headers or {})})


def error_answer(refused: Refused, *, details: bool = False) -> Answer:
    """Build the error shape; the annotations come only where include-annotations asks for them (section 11)."""
    error: dict[str, object] = {"code": refused.code, "message": refused.message}
    if details:
        error["@Microsoft.PowerApps.CDS.ErrorDetails.OperationStatus"] = "0"
        error["@Microsoft.PowerApps.CDS.ErrorDetails.SubErrorCode"] = "-2146233088"
        error["@Microsoft.PowerApps.CDS.HelpLink"] = "http://go.microsoft.com/fwlink/?LinkID=398563"
        error["@Microsoft.PowerApps.CDS.TraceText"] = ""
        error["@Microsoft.PowerApps.CDS.InnerError.Message"] = refused.message
    return json_answer({"error": error}, refused.status, refused.headers)


def split_outside(text: str, separator: str) -> list[str]:
    """Split at a one-character separator that stands outside quotes and brackets."""
    parts, depth, quote, start = [], 0, "", 0
    for place, char in enumerate(text):
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char in "([":
            depth += 1
        elif char in ")]":
            depth -= 1
        elif char == separator and depth == 0:
            parts.append(text[start:place])
            start = place + 1
    parts.append(text[start:])
    return parts


def read_target(method: str, target: str, headers: Mapping[str, str], body: bytes, root: str) -> Ask:
    """Read a request line's target: absolute URL, absolute path, or (in a batch) relative to the API root."""
    parsed = urlsplit(target)
    path = parsed.path
    if path.startswith(API_ROOT) or path == API_ROOT.rstrip("/"):
        path = path[len(API_ROOT) :]
    elif path.startswith("/") and not path.startswith("/$"):
        raise Refused(404, "", f"Resource not found for the segment '{path.strip('/').split('/')[0]}'.")
    segments = [unquote(part) for part in split_outside(path.strip("/"), "/") if part]
    options: dict[str, str] = {}
    for pair in parsed.query.split("&") if parsed.query else []:
        name, _, value = pair.partition("=")
        options[unquote(name)] = unquote_plus(value)
    return Ask(method, segments, options, headers, body, root, parsed.query, path)
