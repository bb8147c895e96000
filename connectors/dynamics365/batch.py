"""How do several requests travel in one?  The multipart form of $batch, each part standing alone (sheet, section 8)."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from connectors.contract import Unanswered
from connectors.transport.types import Reply

CONTENT_TYPE = "application/json; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Part:
    """One request of a batch.  No changesets: each part stands or falls by itself."""

    method: str
    path: str  # absolute, with its query, already encoded
    headers: Mapping[str, str] = field(default_factory=dict)
    body: object = None


def boundary(key: str) -> str:
    """Derive the boundary from the batch's key, so that a repeat is the same request to the byte."""
    return f"batch_{hashlib.sha256(key.encode()).hexdigest()[:32]}"


def encode(parts: Sequence[Part], mark: str) -> bytes:
    """Write a batch.  Line ends are CRLF, and a part without a body ends in two empty lines."""
    lines: list[str] = []
    for part in parts:
        lines += [f"--{mark}", "Content-Type: application/http", "Content-Transfer-Encoding: binary", ""]
        lines.append(f"{part.method} {part.path} HTTP/1.1")
        lines += [f"{name}: {value}" for name, value in part.headers.items()]
        if part.body is None:
            lines += ["", ""]
        else:
            lines += [f"Content-Type: {CONTENT_TYPE}", "", json.dumps(part.body, ensure_ascii=False)]
    return "\r\n".join([*lines, f"--{mark}--", ""]).encode()


def decode(reply: Reply) -> list[Reply]:
    """Read the answers, in the order of the requests; parts that are missing were not answered."""
    match = re.search(r'boundary="?([^";]+)', reply.headers.get("content-type", ""))
    if match is None:
        raise Unanswered(f"the answer to a batch (status {reply.status}) is not multipart")
    mark = b"--" + match.group(1).strip().encode()
    answers = []
    for piece in (b"\r\n" + reply.body).split(b"\r\n" + mark)[1:]:
        if piece.startswith(b"--"):
            break
        _, _, http = piece.partition(b"\r\n\r\n")
        answers.append(_read_answer(http))
    return answers


def _read_answer(http: bytes) -> Reply:
    head, _, body = http.lstrip(b"\r\n").partition(b"\r\n\r\n")
    first, *rest = head.decode("utf-8", "replace").split("\r\n")
    status = re.match(r"HTTP/\d\.\d (\d{3})", first)
    if status is None:
        raise Unanswered("a part of the batch's answer has no status line")
    pairs = (line.partition(":") for line in rest if ":" in line)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    return Reply(int(status.group(1)), headers, body.strip(b"\r\n"))
