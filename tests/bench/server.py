"""How does the smallest system answer?  A feed of pages and a door for writes, over HTTP, so that only the engine's cost counts.

Why not a vendor's simulator: QuickBooks takes 30 and Dynamics 100 writes a request, and their bodies cost connector time to
read; the goals are about the engine, with 200 writes a request or with one.  It runs as a process of its own.
"""

from __future__ import annotations

import json
import socket
import sys
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from tests.bench.records import values_of

STAMP = datetime(2026, 1, 1, tzinfo=UTC).isoformat()


class Holding:
    """The records of one side: id -> body, in the order in which they last changed."""

    def __init__(self, side: str) -> None:
        self.side = side
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.records: dict[str, dict[str, object]] = {}
        self.texts: dict[str, str] = {}
        self.order: list[tuple[int, str]] = []
        self.sequence = 0
        self.requests = {"GET": 0, "POST": 0}
        self.sent: list[dict[str, object]] = []

    def put(self, record_id: str, values: dict[str, object]) -> dict[str, object]:
        """Create or change a record."""
        self.sequence += 1
        record = {
            **self.records.get(record_id, {"id": record_id}), **values, "version": str(self.sequence), "modified": STAMP
        }  # fmt: skip
        self.records[record_id] = record
        self.texts[record_id] = json.dumps(record, separators=(",", ":"))
        self.order.append((self.sequence, record_id))
        return record

    def page(self, after: int, limit: int) -> str:
        """Return the records that changed after a place, as text."""
        block = self.order[after : after + limit]  # the n-th change has the number n
        texts = [self.texts[i] for place, i in block if self.records[i]["version"] == str(place)]  # else it comes later
        place = block[-1][0] if block else after
        last = json.dumps(after + limit >= len(self.order))
        return f'{{"records":[{",".join(texts)}],"next":{place},"last":{last}}}'

    def write(self, operations: list[dict[str, object]]) -> list[dict[str, object]]:
        """Carry out operations and answer for each."""
        answers = []
        for operation in operations:
            record_id = str(operation.get("id") or f"{self.side[0]}{self.sequence + 1:09d}")
            values = operation["values"]
            assert isinstance(values, dict)
            self.sent.append({"verb": operation["verb"], "id": record_id, "fields": sorted(values)})
            answers.append({"key": operation["key"], "record": self.put(record_id, values)})
        return answers

    def control(self, asked: dict[str, object]) -> object:
        """Do what the measuring process asks for between two measurements."""
        if asked["do"] == "seed":
            self.clear()
            for number in range(int(str(asked["records"]))):
                self.put(f"{self.side[0]}{number:09d}", values_of(number, self.side))
        elif asked["do"] == "edit":
            every, start, field = int(str(asked["every"])), int(str(asked["start"])), str(asked["field"])
            for number, record_id in enumerate(sorted(self.records)[start::every]):
                self.put(record_id, {field: f"{asked['value']} {number}"})
        told = {"records": len(self.records), "requests": dict(self.requests), "sent": len(self.sent)}
        if asked.get("forget"):
            self.requests, self.sent = {"GET": 0, "POST": 0}, []
        return told


class Handler(BaseHTTPRequestHandler):
    """Speaks HTTP/1.1 with connections that stay open."""

    protocol_version = "HTTP/1.1"
    holding: Holding

    def setup(self) -> None:
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().setup()

    def do_GET(self) -> None:
        self.holding.requests["GET"] += 1
        query = parse_qs(urlsplit(self.path).query)
        self._answer(self.holding.page(int(query["after"][0]), int(query["limit"][0])))

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/control":
            self._answer(json.dumps(self.holding.control(asked)))
            return
        self.holding.requests["POST"] += 1
        self._answer(json.dumps(self.holding.write(asked)))

    def _answer(self, text: str) -> None:
        body = text.encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self.wfile.write(head.encode() + body)

    def log_message(self, format: str, *args: object) -> None:
        return None


def main(side: str) -> None:
    """Serve until the process that reads our output ends us."""
    Handler.holding = Holding(side)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    print(json.dumps({"url": f"http://127.0.0.1:{server.server_address[1]}"}), flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1])
