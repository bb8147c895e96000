"""How does a Dataverse environment answer?  A loopback Web API v9.2 (dynamics365 sheet, section 16)."""

from __future__ import annotations

import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC
from email.utils import format_datetime
from typing import ClassVar
from urllib.parse import unquote

from werkzeug.wrappers import Request, Response

from connectors.dynamics365 import simulator_batch as batches
from connectors.dynamics365.simulator_login import CLIENT_ID, CLIENT_SECRET, TENANT, Login
from connectors.dynamics365.simulator_metadata import MetadataPages
from connectors.dynamics365.simulator_query import Body
from connectors.dynamics365.simulator_reading import Reader
from connectors.dynamics365.simulator_rows import RowRules, missing
from connectors.dynamics365.simulator_seed import seed_basics, seed_company
from connectors.dynamics365.simulator_tables import UNTRACKED, Table, build_tables
from connectors.dynamics365.simulator_wire import (
    API_ROOT,
    Answer,
    Ask,
    Refused,
    error_answer,
    json_answer,
    read_target,
)
from connectors.simulation import Fault, Simulator

WINDOW = 300.0  # seconds of the service protection limits (sheet, section 10)
_METADATA = frozenset(
    ["EntityDefinitions", "GlobalOptionSetDefinitions", "RelationshipDefinitions", "CreateCustomerRelationships"]
)
_BULK = "Microsoft.Dynamics.CRM."


class DynamicsSimulator(Simulator):
    """One Dataverse environment.  Entity keys of the store are logical names; values are as on the wire."""

    system: ClassVar[str] = "dynamics365"

    def default_switches(self) -> dict[str, object]:
        """Return what a test may switch.

        `change_tracking`: True, False, or the names of the tables that have it.  `denied`: privileges that the caller
        lacks (prvWriteAccount).  `member`: False makes the caller no user of the organization.  `limits`: False turns
        the service protection off.  `secret_expired`: the token endpoint answers AADSTS7000222.
        """
        return {
            "syncline_columns": True, "prefix": "syn", "change_tracking": True, "expire_delta": False, "denied": (),
            "member": True, "limits": True, "limit_requests": 6000, "limit_execution_ms": 1_200_000,
            "limit_concurrent": 52, "products_born_active": False, "secret_expired": False,
        }  # fmt: skip

    def seed(self, records: int, seed: int) -> None:
        """Make an almost empty environment; `records` accounts and what belongs to them if asked."""
        self.tables = build_tables(
            str(self.switches["prefix"]), syncline_columns=bool(self.switches["syncline_columns"])
        )
        self.rules = RowRules(self.store, self.tables, seed, self.count, self.switches)
        self.ids: dict[str, str] = {}
        self.login = Login(self.clock.now, seed)
        tracked = {name: name not in UNTRACKED for name in self.tables}
        self.metadata = MetadataPages(self.rules, tracked, self.switches)
        self.reader = Reader(self.rules, self.clock.now, self.switches, self.metadata.version)
        self._calls: deque[tuple[float, float]] = deque()  # (end, seconds) of the calls in the window
        self._running = 0
        self._gate = threading.Lock()
        self._answers = 0
        seed_basics(self)
        if records:
            seed_company(self, records, seed)

    def credentials(self) -> dict[str, dict[str, object]]:
        """Return what a Connection to this environment needs."""
        login = f"{self.url}/{TENANT}/oauth2/v2.0"
        return {
            "settings": {
                "org_url": self.url, "token_url": f"{login}/token", "authorize_url": f"{login}/authorize",
                "tenant": TENANT, "prefix": str(self.switches["prefix"]),
            },
            "secret": {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET},
        }  # fmt: skip

    # A person's doors.  Values are those of a Web API payload; a lookup may be given as it is stored, too:
    # "_x_value": id, with the target named by "_x_value@Microsoft.Dynamics.CRM.lookuplogicalname" or the only one.

    def user_creates(self, entity: str, values: Body) -> str:
        """Create a row as a person would.  Returns the id."""
        table = self.tables[entity]
        plain, stored = self._stored_lookups(table, values)
        state: Body = {name: plain.pop(name) for name in ("statecode", "statuscode") if name in plain}
        with self.rules.transaction():
            identity = self.rules.create(table, plain, by="user", parent=stored)
            if state:
                self.rules.update(table, identity, state, by="user")
        return identity

    def user_edits(self, entity: str, record_id: str, values: Body) -> str:
        """Change some values of a row as a person would.  Returns the id."""
        table = self.tables[entity]
        plain, stored = self._stored_lookups(table, values)
        with self.store.lock:
            self.rules.update(table, record_id, {**plain, **self._binds(table, stored)}, by="user")
        return record_id

    def user_deletes(self, entity: str, record_id: str) -> bool:
        """Delete a row as a person would."""
        with self.store.lock:
            if self.store.get(entity, record_id) is None:
                return False
            self.rules.delete(self.tables[entity], record_id, by="user")
        return True

    def seed_row(self, entity: str, values: Body) -> str:
        """Put a row of the environment's own furniture, without rules."""
        identity = self.rules.new_id()
        self.rules.put(self.tables[entity], identity, {self.tables[entity].id: identity, **values}, "user")
        return identity

    def _stored_lookups(self, table: Table, values: Body) -> tuple[Body, Body]:
        plain: Body = {}
        stored: Body = {}
        for name, value in values.items():
            wire = name.partition("@")[0]
            column = table.wires.get(wire) or (table.columns.get(wire) if not name.endswith("@odata.bind") else None)
            if column is None or column.type != "lookup":
                plain[name] = value
            elif "@" in name:
                stored[f"{column.wire}@{name.partition('@')[2]}"] = value
            else:
                stored[column.wire] = value
                if value is not None and len(column.targets) == 1:
                    stored[f"{column.wire}@Microsoft.Dynamics.CRM.lookuplogicalname"] = column.targets[0]
        return plain, stored

    def _binds(self, table: Table, stored: Body) -> Body:
        binds: Body = {}
        for wire, value in stored.items():
            if "@" in wire:
                continue
            column = table.wires[wire]
            target = str(stored.get(f"{wire}@Microsoft.Dynamics.CRM.lookuplogicalname") or column.targets[0])
            url = None if value is None else f"/{self.tables[target].set}({value})"
            binds[f"{column.navigation(target)}@odata.bind"] = url
        return binds

    # HTTP

    def respond(self, request: Request, fault: Fault | None) -> Response:
        """Answer one request."""
        words = request.path.strip("/").split("/")
        if words[1:] == ["oauth2", "v2.0", "token"] and request.method == "POST":
            self.describe_call("token")
            if fault and fault.kind in {"error", "throttle"}:
                return self._response(self._shaped(fault))
            self.login.expired_secret = bool(self.switches["secret_expired"])
            return self.login.token(request, words[0])
        if words[1:] == ["oauth2", "v2.0", "authorize"]:
            self.describe_call("authorize")
            return self.login.authorize(request)
        started = time.perf_counter()
        with self._gate:
            self._running += 1
        try:
            return self._response(self._guarded(request, fault))
        finally:
            with self._gate:
                self._running -= 1
                self._calls.append((self._seconds(), time.perf_counter() - started))

    def _seconds(self) -> float:
        return self.clock.now().timestamp()

    def _guarded(self, request: Request, fault: Fault | None) -> Answer:
        prefers_details = "include-annotations" in request.headers.get("Prefer", "")
        try:
            if fault and fault.kind == "expire_token":
                self.login.forget_tokens()
            if not self.login.good(request.headers.get("Authorization", "")):
                return self._unauthorized(request)
            if fault and fault.kind in {"error", "throttle"}:
                return self._shaped(fault)
            self._protect()
            if not self.switches["member"]:
                raise Refused(403, "0x80072560", "The user is not a member of the organization.")
            root = f"{request.host_url.rstrip('/')}{API_ROOT}"
            headers = {name.lower(): value for name, value in request.headers.items()}
            target = str(request.environ.get("REQUEST_URI") or request.full_path)
            if unquote(request.path) == f"{API_ROOT}$batch":
                return self._batch(request, headers, root, fault)
            ask = read_target(request.method, target, headers, request.get_data(), root)
            ask.empty = bool(fault and fault.kind == "empty")
            return self.answer(ask)
        except Refused as refused:
            return error_answer(refused, details=prefers_details)

    def _unauthorized(self, request: Request) -> Answer:
        resource = request.host_url
        where = f"https://login.microsoftonline.com/{TENANT}/oauth2/authorize"
        challenge = f"Bearer authorization_uri={where}, resource_id={resource}"
        return Answer(401, b"", {"WWW-Authenticate": challenge})

    def _shaped(self, fault: Fault) -> Answer:
        if fault.kind == "throttle":
            return error_answer(self._too_many(max(1, round(fault.seconds))))
        code = "0x80040216" if fault.status >= 500 else ""
        return error_answer(Refused(fault.status, code, "An unexpected error occurred."))

    def _too_many(self, wait: int) -> Refused:
        limit = self.switches["limit_requests"]
        message = f"Number of requests exceeded the limit of {limit} over time window of 300 seconds."
        return Refused(429, "0x80072322", message, {"Retry-After": str(wait)})

    def _protect(self) -> None:
        """Keep the three service protection limits (sheet, section 10)."""
        if not self.switches["limits"]:
            return
        now = self._seconds()
        with self._gate:
            while self._calls and self._calls[0][0] <= now - WINDOW:
                self._calls.popleft()
            oldest = self._calls[0][0] if self._calls else now
            wait = {"Retry-After": str(max(1, int(oldest + WINDOW - now) + 1))}
            if len(self._calls) >= int(str(self.switches["limit_requests"])):
                raise self._too_many(int(wait["Retry-After"]))
            used = sum(seconds for _, seconds in self._calls) * 1000 if len(self._calls) % 50 == 49 else 0.0
            limit = int(str(self.switches["limit_execution_ms"]))
            if used > limit or limit == 0:
                raise Refused(
                    429, "0x80072321",
                    f"Combined execution time of incoming requests exceeded limit of {limit:,} milliseconds over time "
                    "window of 300 seconds. Decrease number of concurrent requests or reduce the duration of requests "
                    "and try again later.", wait,
                )  # fmt: skip
            concurrent = int(str(self.switches["limit_concurrent"]))
            if self._running > concurrent:
                message = f"Number of concurrent requests exceeded the limit of {concurrent}."
                raise Refused(429, "0x80072326", message, {"Retry-After": "1"})

    def _response(self, answer: Answer) -> Response:
        with self._gate:
            self._answers += 1
            number, used = self._answers, len(self._calls)
        response = Response(answer.body, answer.status, headers=answer.headers)
        response.headers["OData-Version"] = "4.0"
        response.headers["Date"] = format_datetime(self.clock.now().astimezone(UTC).replace(microsecond=0), usegmt=True)
        response.headers["x-ms-service-request-id"] = str(uuid.UUID(int=number, version=4))
        response.headers["REQ_ID"] = response.headers["x-ms-service-request-id"]
        remaining = max(0, int(str(self.switches["limit_requests"])) - used - 1)
        response.headers["x-ms-ratelimit-burst-remaining-xrm-requests"] = str(remaining)
        response.headers["x-ms-dop-hint"] = "4"
        return response

    # $batch

    def _batch(self, request: Request, headers: Mapping[str, str], root: str, fault: Fault | None) -> Answer:
        if request.method != "POST":
            raise Refused(405, "0x80060888", "A batch is sent by POST.")
        items = batches.read_batch(request.headers.get("Content-Type", ""), request.get_data())
        self.describe_call(f"batch {len(items)}")
        goes_on = "odata.continue-on-error" in headers.get("prefer", "")
        parts: list[bytes] = []
        failed = False
        for item in items:
            changeset = isinstance(item, batches.Changeset)
            answer, written = self._changeset(item, root) if changeset else self._single(item, root, fault)  # type: ignore[arg-type]
            parts.append(written)
            if answer.status >= 400:
                failed = True
                if not goes_on:
                    break
        with self._gate:
            self._answers += 1
            identity = uuid.UUID(int=(1 << 64) + self._answers, version=4)
        content_type, body = batches.write_multipart("batchresponse", parts, identity)
        return Answer(400 if failed and not goes_on else 200, body, {"Content-Type": content_type})

    def _single(self, part: batches.Part, root: str, fault: Fault | None) -> tuple[Answer, bytes]:
        answer = None
        if fault and fault.kind == "partial" and self.faults.random.random() < fault.rate:
            answer = self._part_fault(fault)
        if answer is None:
            answer = self._send(part, root)
        return answer, batches.write_part(answer, part.content_id)

    def _part_fault(self, fault: Fault) -> Answer:
        if fault.status == 429:
            return error_answer(self._too_many(max(1, round(fault.seconds))))
        if fault.status < 500:
            return error_answer(Refused(fault.status, "0x80040265", "The order desk does not accept this today."))
        return error_answer(Refused(fault.status, "0x80044151", "SQL timeout expired."))

    def _send(self, part: batches.Part, root: str) -> Answer:
        details = "include-annotations" in part.headers.get("prefer", "")
        try:
            return self.answer(read_target(part.method, part.target, part.headers, part.body, root))
        except Refused as refused:
            return error_answer(refused, details=details)

    def _changeset(self, changeset: batches.Changeset, root: str) -> tuple[Answer, bytes]:
        made: dict[str, str] = {}
        written: list[bytes] = []
        answer = Answer(200)
        try:
            with self.rules.transaction():
                for part in changeset.parts:
                    ready = batches.resolve(part, made)
                    answer = self.answer(read_target(ready.method, ready.target, ready.headers, ready.body, root))
                    if answer.headers.get("OData-EntityId"):
                        made[part.content_id] = answer.headers["OData-EntityId"]
                    written.append(batches.write_part(answer, part.content_id))
        except Refused as refused:  # one error part for the whole set
            answer = error_answer(refused)
            return answer, batches.write_part(answer)
        content_type, body = batches.write_multipart(
            "changesetresponse", written, uuid.UUID(int=len(written), version=4)
        )
        return answer, f"Content-Type: {content_type}\r\n\r\n".encode() + body

    # One request

    def answer(self, ask: Ask) -> Answer:
        """Answer one request of the Web API, alone or as part of a batch."""
        if not ask.segments:
            values = [{"name": t.set, "kind": "EntitySet", "url": t.set} for t in self.tables.values()]
            return json_answer({"@odata.context": f"{ask.root}$metadata", "value": values})
        name, bracket, key = ask.segments[0].partition("(")
        if name in _METADATA:
            with self.store.lock:
                return self.metadata.answer(ask)
        if name == "WhoAmI":
            return self._who_am_i(ask)
        if name == "RetrieveTotalRecordCount":
            return self._total_count(ask)
        table = self.rules.sets.get(name)
        if table is None:
            raise Refused(404, "0x80060888", f"Resource not found for the segment '{name}'.")
        if not bracket:
            return self._collection(ask, table)
        with self.store.lock:
            identity, keys = self.rules.resolve_key(table, key.removesuffix(")"))
            if len(ask.segments) > 1:
                return self._below(ask, table, identity, keys)
            return self._row(ask, table, identity, keys)

    def _who_am_i(self, ask: Ask) -> Answer:
        return json_answer(
            {"@odata.context": f"{ask.root}$metadata#Microsoft.Dynamics.CRM.WhoAmIResponse",
             "BusinessUnitId": self.ids["businessunit"], "UserId": self.ids["user"],
             "OrganizationId": self.ids["organization"]}
        )  # fmt: skip

    def _total_count(self, ask: Ask) -> Answer:
        names = [t for t in self.tables if f"'{t}'" in ask.segments[0] or f'"{t}"' in ask.segments[0]]
        counts = [len(self.store.table(name)) for name in names]
        return json_answer({"EntityRecordCountCollection": {"Count": len(names), "Keys": names, "Values": counts}})

    def _collection(self, ask: Ask, table: Table) -> Answer:
        rest = ask.segments[1:]
        if not rest and ask.method == "GET":
            return self.reader.rows(ask, table)
        if not rest and ask.method == "POST":
            with self.rules.transaction():
                identity = self.rules.create(table, ask.json())
            return self._written(ask, table, identity, created=True)
        if rest == ["$count"] and ask.method == "GET":
            return self.reader.count(ask, table)
        if len(rest) == 1 and rest[0].startswith(_BULK) and ask.method == "POST":
            return self._bulk(ask, table, rest[0].removeprefix(_BULK))
        if rest:
            raise Refused(404, "0x80060888", f"Resource not found for the segment '{rest[0]}'.")
        raise Refused(405, "0x80060888", f"The requested resource does not support http method '{ask.method}'.")

    def _written(self, ask: Ask, table: Table, identity: str, *, created: bool) -> Answer:
        url = f"{ask.root}{table.set}({identity})"
        if ask.prefer().get("return") == "representation":
            answer = self.reader.single(ask, table, identity, {}, status=201 if created else 200)
            # The header is absent with a body (sheet, section 5), but Preference-Applied says what was done.
            answer.headers["Preference-Applied"] = "return=representation"
            return answer
        return Answer(204, b"", {"OData-EntityId": url, "Location": url})

    def _row(self, ask: Ask, table: Table, identity: str, keys: Body) -> Answer:
        if ask.method == "GET":
            return self.reader.single(ask, table, identity, keys)
        record = self.store.get(table.logical, identity)
        condition = ask.headers.get("if-match", "")
        if ask.method == "DELETE":
            if record is None:
                raise missing(table, identity, keys)
            self._check_version(condition, record.version)
            with self.rules.transaction():
                self.rules.delete(table, identity)
            return Answer(204)
        if ask.method != "PATCH":
            raise Refused(405, "0x80060888", f"The requested resource does not support http method '{ask.method}'.")
        if record is None:
            if condition:
                raise missing(table, identity, keys)
            return self._upsert(ask, table, identity, keys)
        if ask.headers.get("if-none-match") == "*":
            raise Refused(412, "0x80040237", "A record with matching key values already exists.")
        self._check_version(condition, record.version)
        with self.rules.transaction():
            self.rules.update(table, identity, {n: v for n, v in ask.json().items() if n not in keys})
        return self._written(ask, table, identity, created=False)

    def _upsert(self, ask: Ask, table: Table, identity: str, keys: Body) -> Answer:
        payload = {**ask.json(), **keys}
        if identity:
            payload[table.id] = identity
        with self.rules.transaction():
            made = self.rules.create(table, payload)
        return self._written(ask, table, made, created=True)

    def _check_version(self, condition: str, version: int) -> None:
        if condition and condition != "*" and condition != f'W/"{version}"':
            message = "The version of the existing record doesn't match the RowVersion property provided."
            raise Refused(412, "0x80060882", message)

    def _below(self, ask: Ask, table: Table, identity: str, keys: Body) -> Answer:
        """Answer what stands under one row: a column, a lookup's reference, a collection."""
        record = self.store.get(table.logical, identity)
        if record is None:
            raise missing(table, identity, keys)
        name = ask.segments[1]
        if table.logical == "systemuser" and name == f"{_BULK}RetrieveUserPrivileges()":
            return self._privileges(ask)
        if name in table.collections and ask.method == "GET":
            child, lookup = table.collections[name]
            wire = self.tables[child].columns[lookup].wire
            return self.reader.rows(ask, self.tables[child], lambda body: body.get(wire) == identity)
        if name in table.navigations:
            return self._reference(ask, table, identity, name)
        column = table.columns.get(name)
        if column is None or column.type == "lookup":
            raise Refused(404, "0x80060888", f"Resource not found for the segment '{name}'.")
        if ask.method == "GET":
            value = record.body.get(name)
            context = f"{ask.root}$metadata#{table.set}({identity})/{name}"
            return json_answer({"@odata.context": context, "value": value}) if value is not None else Answer(204)
        if ask.method not in {"PUT", "DELETE"}:
            raise Refused(405, "0x80060888", f"The requested resource does not support http method '{ask.method}'.")
        with self.rules.transaction():
            self.rules.update(table, identity, {name: ask.json().get("value") if ask.method == "PUT" else None})
        return Answer(204)

    def _privileges(self, ask: Ask) -> Answer:
        denied = self.switches["denied"] or ()
        names = [
            f"prv{verb}{table.logical if table.custom else table.logical.capitalize()}"
            for table in self.tables.values()
            for verb in ("Create", "Read", "Write", "Delete")
        ]
        rows = [
            {"Depth": "Global", "PrivilegeId": str(uuid.UUID(int=number)), "PrivilegeName": name,
             "BusinessUnitId": self.ids["businessunit"]}
            for number, name in enumerate(names)
            if name not in denied  # type: ignore[operator]
        ]  # fmt: skip
        context = f"{ask.root}$metadata#{_BULK}RetrieveUserPrivilegesResponse"
        return json_answer({"@odata.context": context, "RolePrivileges": rows})

    def _reference(self, ask: Ask, table: Table, identity: str, name: str) -> Answer:
        lookup, target = table.navigations[name]
        if ask.method == "GET":
            pointed = str(self.store.table(table.logical)[identity].body.get(lookup.wire) or "")
            if not pointed:
                return Answer(204)
            return self.reader.single(ask, self.tables[target], pointed, {})
        if ask.segments[2:] != ["$ref"] or ask.method not in {"PUT", "DELETE"}:
            raise Refused(405, "0x80060888", f"The requested resource does not support http method '{ask.method}'.")
        value = ask.json().get("@odata.id") if ask.method == "PUT" else None
        with self.rules.transaction():
            self.rules.update(table, identity, {f"{name}@odata.bind": value})
        return Answer(204)

    # Bulk actions (sheet, section 9)

    def _bulk(self, ask: Ask, table: Table, action: str) -> Answer:
        targets = ask.json().get("Targets")
        if action == "DeleteMultiple":
            raise Refused(501, "0x80040800", "DeleteMultiple has not yet been implemented.")
        actions: dict[str, Callable[[Table, Body], str]] = {
            "CreateMultiple": lambda of, row: self.rules.create(of, row),
            "UpdateMultiple": self._bulk_update,
            "UpsertMultiple": self._bulk_upsert,
        }
        if action not in actions or not isinstance(targets, list):
            raise Refused(404, "0x80060888", f"Resource not found for the segment '{_BULK}{action}'.")
        with self.rules.transaction():  # any error rolls back all
            made = [actions[action](table, row) for row in targets]
        if action != "CreateMultiple":
            return Answer(204)
        return json_answer({"@odata.context": f"{ask.root}$metadata#{_BULK}CreateMultipleResponse", "Ids": made})

    def _bulk_update(self, table: Table, row: Body) -> str:
        identity = str(row.get(table.id) or "")
        if self.store.get(table.logical, identity) is None:
            raise missing(table, identity)
        self.rules.update(table, identity, row)
        return identity

    def _bulk_upsert(self, table: Table, row: Body) -> str:
        key = str(row.get("@odata.id") or f"{table.set}({row.get(table.id)})").partition("(")[2].removesuffix(")")
        identity, keys = self.rules.resolve_key(table, key)
        if self.store.get(table.logical, identity) is None:
            return self.rules.create(table, {**row, **keys, **({table.id: identity} if identity else {})})
        self.rules.update(table, identity, row)
        return identity
