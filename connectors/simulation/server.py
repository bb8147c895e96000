"""How does a simulated system answer?  A threaded HTTP server on loopback, with faults, a journal and a control door."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, ClassVar, get_args

from werkzeug.exceptions import HTTPException
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server
from werkzeug.wrappers import Request, Response

from connectors.simulation.clock import SimClock
from connectors.simulation.faults import Fault, FaultKind, FaultPlan
from connectors.simulation.store import Store

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


@dataclass(frozen=True, slots=True)
class Call:
    """One request as the system saw it.  `creates`, `updates`, `deletes` count what it committed."""

    at: datetime
    method: str
    path: str
    query: str
    status: int  # 0: the connection was closed without an answer
    creates: int = 0
    updates: int = 0
    deletes: int = 0
    fault: str = ""
    note: str = ""  # what kind of request it was, in the simulator's words ("query Customer", "batch 30")


class WrongInput(ValueError):
    """What was asked of the control door makes no sense; the sentence says why."""


class _Reset(BaseException):
    """Close the connection without an answer.  No Exception: the server would answer 500 to that."""


class _Handler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def run_wsgi(self) -> None:
        try:
            super().run_wsgi()
        except _Reset:
            self._drop()

    def handle_one_request(self) -> None:
        # Without this a client's keep-alive connection would delay every small answer by 40 ms.
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().handle_one_request()

    def send_response(self, code: int, message: str | None = None) -> None:
        # The base class adds a Date header of real time, beside the one of the simulated clock.
        self.send_response_only(code, message)

    def _drop(self) -> None:
        self.close_connection = True
        linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
        self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.request.close()

    def log(self, type: str, message: str, *args: object) -> None:
        return None


class Simulator:
    """Base of all simulators.  A subclass answers `respond`, seeds itself in `seed`, and says `credentials`."""

    system: ClassVar[str]

    def __init__(
        self, *, records: int = 0, seed: int = 0, clock: SimClock | None = None, port: int = 0, **switches: object
    ) -> None:
        self.clock = clock or SimClock()
        self.store = Store(self.clock.now)
        self.faults = FaultPlan(seed)
        self.journal: list[Call] = []
        self.switches: dict[str, object] = {**self.default_switches(), **switches}
        self.note = threading.local()
        self._port = port
        self._server: BaseWSGIServer | None = None
        self._thread: threading.Thread | None = None
        self.seed(records, seed)

    # What a subclass says

    def default_switches(self) -> dict[str, object]:
        """Return the vendor behaviours that a test may switch, with their defaults."""
        return {}

    def seed(self, records: int, seed: int) -> None:
        """Fill the store with a believable company of `records` customers.  Same arguments, same company."""

    def credentials(self) -> dict[str, dict[str, object]]:
        """Return {"settings": ..., "secret": ...} for a Connection to this simulator."""
        raise NotImplementedError(f"{type(self).__name__} does not say its credentials")

    def respond(self, request: Request, fault: Fault | None) -> Response:
        """Answer one request.  `fault` is given when it is the vendor's to shape: throttle, error, expire_token,
        partial, empty."""
        raise NotImplementedError(f"{type(self).__name__} does not answer")

    # Server

    @property
    def url(self) -> str:
        """Base URL, for example http://127.0.0.1:40123."""
        if self._server is None:
            raise RuntimeError("start() the simulator first")
        return f"http://127.0.0.1:{self._server.port}"

    def start(self) -> Simulator:
        """Listen on loopback and return at once."""
        self._server = make_server("127.0.0.1", self._port, self, threaded=True, request_handler=_Handler)
        self._server.daemon_threads = True  # type: ignore[attr-defined]
        self._thread = threading.Thread(
            # Asked often whether to stop, else each stop of a test's simulator takes half a second.
            target=self._server.serve_forever,
            args=(0.02,),
            name=f"{self.system} simulator",
            daemon=True,
        )
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop listening; the store stays."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def __enter__(self) -> Simulator:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        request = Request(environ)
        if request.path.startswith("/_simulator/"):
            return self._control(request)(environ, start_response)
        line = f"{request.method} {request.path}"
        fault = self.faults.draw(line)
        before, started = self._counts(), self.clock.now()
        status = 0
        try:
            response = self._answer(request, fault)
            status = response.status_code
            return response(environ, start_response)
        finally:
            note = getattr(self.note, "text", "")
            self.note.text = ""
            creates, updates, deletes = (now - then for now, then in zip(self._counts(), before, strict=True))
            self.journal.append(
                Call(
                    started,
                    request.method,
                    request.path,
                    request.query_string.decode("latin-1"),
                    status,
                    creates,
                    updates,
                    deletes,
                    fault.kind if fault else "",
                    note,
                )
            )

    def _answer(self, request: Request, fault: Fault | None) -> Response:
        request.get_data(cache=True)  # else the unread body would be taken for the next request
        kind = fault.kind if fault else ""
        if kind == "reset":
            raise _Reset
        if kind == "garbage":
            return Response("<html><body>Service temporarily unavailable</body></html>", 200, mimetype="text/html")
        if fault and kind == "delay":
            time.sleep(fault.seconds)
        shaped = fault if kind in {"throttle", "error", "expire_token", "partial", "empty"} else None
        response = self.respond(request, shaped)
        if kind == "reset_after":
            raise _Reset
        if fault and kind == "error_after":
            return Response('{"error": "after"}', fault.status, mimetype="application/json")
        return response

    def _counts(self) -> tuple[int, int, int]:
        # Commits of this thread only, so that concurrent requests are not counted for each other.
        counts = getattr(self.note, "counts", None)
        return (counts["create"], counts["update"], counts["delete"]) if counts else (0, 0, 0)

    def count(self, verb: str, by: int = 1) -> None:
        """Count a commit (create, update, delete) for the request that is being answered."""
        if not hasattr(self.note, "counts"):
            self.note.counts = {"create": 0, "update": 0, "delete": 0}
        self.note.counts[verb] += by

    def describe_call(self, text: str) -> None:
        """Say in the journal what the present request was."""
        self.note.text = text

    # Control door: the same things for a test or a person in another process

    def _control(self, request: Request) -> Response:
        actions: dict[str, Callable[[Request], object]] = {
            "/_simulator/journal": self._control_journal,
            "/_simulator/faults": self._control_faults,
            "/_simulator/clock": self._control_clock,
            "/_simulator/switches": self._control_switches,
            "/_simulator/records": self._control_records,
            "/_simulator/credentials": lambda _: self.credentials(),
        }
        action = actions.get(request.path)
        if action is None:
            return Response(json.dumps({"actions": sorted(actions)}), 404, mimetype="application/json")
        request.get_data(cache=True)  # else the unread body would be taken for the next request
        try:
            told, status = action(request), 200
        except Exception as error:
            told, status = {"error": _sentence(error)}, 400
        return Response(json.dumps(told, default=str), status, mimetype="application/json")

    def _control_journal(self, request: Request) -> object:
        if request.method == "DELETE":
            self.journal.clear()
        return [asdict(call) for call in self.journal]

    def _control_faults(self, request: Request) -> object:
        if request.method == "DELETE":
            self.faults.clear()
        elif request.method == "POST":
            given = _object(request)
            _check_fault(given)
            self.faults.add(**given)  # type: ignore[arg-type]
        return self.faults.describe()

    def _control_clock(self, request: Request) -> object:
        if request.method == "POST":
            given = _object(request, "advance")
            try:
                self.clock.advance(timedelta(seconds=float(str(given["advance"]))))
            except (ValueError, OverflowError) as error:
                raise WrongInput('"advance" is a number of seconds, for example {"advance": 3600}') from error
        return {"now": self.clock.now().isoformat()}

    def _control_switches(self, request: Request) -> object:
        if request.method == "POST":
            given = _object(request)
            unknown = sorted(set(given) - set(self.switches))
            if unknown:
                raise WrongInput(
                    f"there is no switch {', '.join(unknown)}; there are: {', '.join(sorted(self.switches))}"
                )
            self.switches.update(given)
        return self.switches

    def _control_records(self, request: Request) -> object:
        """GET ?entity=: all bodies by id.  PATCH {"entity", "id", "values"}: a person's edit.  DELETE: a person's delete."""
        known = sorted(name for name, table in self.store.tables.items() if table)
        if request.method == "GET":
            entity = request.args.get("entity", "")
            if entity not in known:
                raise WrongInput(f"say ?entity= and one of: {', '.join(known)}")
            with self.store.lock:
                return {r.id: r.body for r in self.store.table(entity).values()}
        if request.method not in ("PATCH", "DELETE"):
            raise WrongInput("GET shows records, PATCH edits one, DELETE deletes one")
        asked = _object(request, "entity", "id", *(["values"] if request.method == "PATCH" else []))
        entity, record_id, values = str(asked["entity"]), str(asked["id"]), asked.get("values", {})
        if entity not in known:
            raise WrongInput(f"there is no entity {entity!r} with records; there are: {', '.join(known)}")
        if self.store.get(entity, record_id) is None:
            raise WrongInput(f"there is no {entity} with the id {record_id!r}")
        if request.method == "DELETE":
            return {"deleted": self.user_deletes(entity, record_id)}
        if not isinstance(values, dict):
            raise WrongInput('"values" is an object of fields and their new values')
        return {"id": self.user_edits(entity, record_id, values)}

    def user_edits(self, entity: str, record_id: str, values: dict[str, object]) -> str:
        """Do what a person in the system's own screens does: change some values.  Returns the id."""
        with self.store.lock:
            record = self.store.table(entity)[record_id]
            self.store.put(entity, record_id, {**record.body, **values})
        return record_id

    def user_deletes(self, entity: str, record_id: str) -> bool:
        """Delete as a person would."""
        return self.store.delete(entity, record_id)


def _object(request: Request, *needed: str) -> dict[str, object]:
    """Return the request's JSON object.  Raises WrongInput where it is none, or lacks what is needed."""
    try:
        given = json.loads(request.get_data())
    except ValueError as error:
        raise WrongInput("the body must be JSON") from error
    if not isinstance(given, dict):
        raise WrongInput("the body must be a JSON object")
    missing = [name for name in needed if name not in given]
    if missing:
        raise WrongInput(f"the body lacks {', '.join(missing)}")
    return given


def _check_fault(given: dict[str, object]) -> None:
    """Refuse a fault that would break every later request."""
    kinds = get_args(FaultKind)
    if given.get("kind") not in kinds:
        raise WrongInput(f'"kind" must be one of: {", ".join(kinds)}')
    names = {f.name for f in fields(Fault)}
    unknown = sorted(set(given) - names)
    if unknown:
        raise WrongInput(f"a fault has no {', '.join(unknown)}; it has: {', '.join(sorted(names))}")
    times, numbers = given.get("times", 1), [given.get(name, 0) for name in ("rate", "skip", "seconds", "status")]
    if (times is not None and not isinstance(times, int)) or not all(isinstance(n, int | float) for n in numbers):
        raise WrongInput('"times" (null: for ever), "rate", "skip", "seconds" and "status" are numbers')
    try:
        re.compile(str(given.get("match", "")))
    except re.error as error:
        raise WrongInput(f'"match" is no regular expression: {error}') from error


def _sentence(error: Exception) -> str:
    """Return what was wrong, in one sentence."""
    if isinstance(error, KeyError):
        return f"There is no {error.args[0]}." if error.args else "Something is missing."
    text = str(error.description if isinstance(error, HTTPException) else error) or type(error).__name__
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!")) else ".")
