"""How does the simulated system read and answer $batch?  Parts, changesets, and who goes on after an error."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from connectors.dynamics365.simulator_wire import Answer, Refused

MAX_REQUESTS = 1000  # sheet, section 8
_CRLF = b"\r\n"
_REFERENCE = re.compile(rb"\$(\d+)")
_PHRASES = {200: "OK", 201: "Created", 204: "No Content", 304: "Not Modified", 400: "Bad Request", 401: "Unauthorized",
            403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed", 412: "Precondition Failed",
            413: "Request Entity Too Large", 429: "Too Many Requests", 500: "Internal Server Error",
            503: "Service Unavailable"}  # fmt: skip


@dataclass(slots=True)
class Part:
    """One request of a batch."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    content_id: str = ""


@dataclass(slots=True)
class Changeset:
    """Requests that are carried out all or none."""

    parts: list[Part] = field(default_factory=list)


Send = Callable[[Part], Answer]


def boundary_of(content_type: str) -> bytes:
    """Return the boundary that a multipart content type names."""
    match = re.search(r'boundary=("[^"]+"|[^;\s]+)', content_type)
    if not content_type.lower().startswith("multipart/mixed") or match is None:
        raise Refused(400, "0x80060888", "The content type of a batch must be multipart/mixed with a boundary.")
    return match.group(1).strip('"').encode()


def _headers(block: bytes) -> dict[str, str]:
    pairs = (line.partition(b":") for line in block.split(_CRLF) if line)
    return {name.strip().lower().decode(): value.strip().decode() for name, _, value in pairs}


def _sections(body: bytes, boundary: bytes) -> list[tuple[dict[str, str], bytes]]:
    mark = b"--" + boundary
    pieces = (_CRLF + body).split(_CRLF + mark)
    if len(pieces) < 2 or not pieces[-1].startswith(b"--"):
        # Line ends must be CRLF and the last boundary must be closed.
        raise Refused(400, "0x80060888", "The batch request's body is not valid multipart content.")
    found = []
    for piece in pieces[1:-1]:
        head, separator, content = piece.removeprefix(_CRLF).partition(_CRLF + _CRLF)
        if not separator:
            raise Refused(400, "0x80060888", "A part of the batch has no headers.")
        found.append((_headers(head), content))
    return found


def _part(headers: dict[str, str], content: bytes) -> Part:
    if headers.get("content-type", "").split(";")[0] != "application/http":
        raise Refused(400, "0x80060888", "The content type of a part must be application/http or multipart/mixed.")
    head, _, body = content.lstrip(_CRLF).partition(_CRLF + _CRLF)
    line, _, rest = head.partition(_CRLF)
    words = line.decode().split(" ")
    if len(words) < 2:
        raise Refused(400, "0x80060888", "A part of the batch has no request line.")
    target = " ".join(words[1:-1]) if words[-1].startswith("HTTP/") else " ".join(words[1:])
    if target.rstrip("/").endswith("$batch"):
        raise Refused(400, "0x80060888", "A batch cannot be nested in a batch.")
    return Part(words[0], target, _headers(rest), body.removesuffix(_CRLF), headers.get("content-id", ""))


def read_batch(content_type: str, body: bytes) -> list[Part | Changeset]:
    """Read a batch request."""
    items: list[Part | Changeset] = []
    total = 0
    for headers, content in _sections(body, boundary_of(content_type)):
        if headers.get("content-type", "").startswith("multipart/mixed"):
            inner = _sections(content, boundary_of(headers["content-type"]))
            changeset = Changeset([_part(h, c) for h, c in inner])
            if any(part.method == "GET" for part in changeset.parts):
                raise Refused(400, "0x80060888", "A changeset cannot contain a GET request.")
            items.append(changeset)
            total += len(changeset.parts)
        else:
            items.append(_part(headers, content))
            total += 1
    if total > MAX_REQUESTS:
        raise Refused(400, "0x80060888", f"The batch has {total} requests, the maximum is {MAX_REQUESTS}.")
    return items


def resolve(part: Part, made: Mapping[str, str]) -> Part:
    """Put the rows that were created earlier in the changeset where `$1` stands."""

    def url(match: re.Match[bytes]) -> bytes:
        name = match.group(1).decode()
        if name not in made:
            message = f"Content-ID Reference: '${name}' does not exist in the batch context."
            raise Refused(400, "0x80060888", message)
        return made[name].encode()

    target = _REFERENCE.sub(url, part.target.encode()).decode() if part.target.startswith("$") else part.target
    body = re.sub(
        rb'(@odata\.bind"\s*:\s*")\$(\d+)"', lambda m: m.group(1) + url_of(m.group(2), made) + b'"', part.body
    )
    return replace(part, target=target, body=body)


def url_of(name: bytes, made: Mapping[str, str]) -> bytes:
    """Return the URL of the row that an earlier part made."""
    if name.decode() not in made:
        message = f"Content-ID Reference: '${name.decode()}' does not exist in the batch context."
        raise Refused(400, "0x80060888", message)
    return made[name.decode()].encode()


def write_part(answer: Answer, content_id: str = "") -> bytes:
    """Write one answer as a part, with its MIME headers."""
    lines = ["Content-Type: application/http", "Content-Transfer-Encoding: binary"]
    if content_id:
        lines.append(f"Content-ID: {content_id}")
    lines += ["", f"HTTP/1.1 {answer.status} {_PHRASES.get(answer.status, 'Answer')}"]
    lines += [f"{name}: {value}" for name, value in answer.headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + answer.body + _CRLF


def write_multipart(kind: str, parts: list[bytes], identity: uuid.UUID) -> tuple[str, bytes]:
    """Write parts between boundaries; returns (content type, body)."""
    boundary = f"{kind}_{identity}"
    mark = f"--{boundary}\r\n".encode()
    body = b"".join(mark + part for part in parts) + f"--{boundary}--\r\n".encode()
    return f"multipart/mixed; boundary={boundary}", body
