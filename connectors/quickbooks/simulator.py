"""How does QuickBooks Online answer?  A simulated company over real HTTP (quickbooks sheet, section 16)."""

from __future__ import annotations

import bisect
import json
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import ClassVar, TypeAlias, cast

from werkzeug.wrappers import Request, Response

from connectors.quickbooks import simulator_query as query_language
from connectors.quickbooks import simulator_reports as reports
from connectors.quickbooks.simulator_auth import TokenServer
from connectors.quickbooks.simulator_books import PACIFIC, Books
from connectors.quickbooks.simulator_documents import rate
from connectors.quickbooks.simulator_faults import VendorFault, gateway_answer, service_answer
from connectors.quickbooks.simulator_rules import BY_RESOURCE, NAME_LISTS, NO_CDC, PROPERTIES, TRANSACTIONS
from connectors.quickbooks.simulator_seed import Seeder
from connectors.quickbooks.simulator_webhooks import Webhooks
from connectors.simulation.clock import SimClock
from connectors.simulation.faults import Fault
from connectors.simulation.server import Simulator
from connectors.simulation.store import StoredRecord

Json: TypeAlias = "dict[str, object]"

REALM = "4620816365002510650"
LOOK_BACK = timedelta(days=30)  # section 8
CDC_CAP = 1000
MINUTE = timedelta(minutes=1)
KEPT_QUERIES = 8
PAPER = b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[]/Count 0>>endobj\n"
SENDABLE = {"Invoice", "Estimate", "SalesReceipt", "CreditMemo", "Payment"}


class QuickBooksSimulator(Simulator):
    """One QuickBooks Online company.  Set the class's `transactions` to False to seed lists only."""

    system: ClassVar[str] = "quickbooks"
    transactions: ClassVar[bool] = True

    def __init__(
        self, *, records: int = 0, seed: int = 0, clock: SimClock | None = None, port: int = 0, **switches: object
    ) -> None:
        self._lock = threading.Lock()
        self._busy = 0
        self._calls: dict[str, deque[datetime]] = {}
        self._answered: dict[str, bytes] = {}  # requestid -> the answer of the first one
        self._results: dict[object, list[StoredRecord]] = {}
        self._tid = 0
        super().__init__(records=records, seed=seed, clock=clock, port=port, **switches)

    def default_switches(self) -> dict[str, object]:
        """Return the behaviours that a test may switch."""
        return {
            "realm": REALM,  # two companies at a time are two of them
            "limits": True,  # count calls and refuse too many (section 11)
            "limit_request": 500,
            "limit_batch": 40,
            "limit_report": 200,
            "limit_concurrent": 10,
            "batch_items": 30,
            "rotation": "daily",  # see TokenServer
            "error_shape": "lower",  # of the gateway: lower, capital, xml, html, empty
            "balances_touch_customer": False,
            "stock_touches_item": False,
            "report_cells": 400_000,  # of one report's answer; what is more is cut (section 11)
            "multi_currency": True,
            "custom_txn_numbers": False,
            "transactions": self.transactions,
            "webhook_url": "",
            "webhook_verifier": "simulated-verifier-token",
            "webhook_shape": "cloudevents",
            "webhook_faults": "",
        }

    @property
    def realm(self) -> str:
        """Whose books these are."""
        return str(self.switches["realm"])

    def seed(self, records: int, seed: int) -> None:
        """Fill the company."""
        self.books = Books(self.store, self.switches)
        self.tokens = TokenServer(self.clock.now, self.realm, seed, lambda: str(self.switches["rotation"]))
        self.webhooks = Webhooks(self.switches, self.realm)
        Seeder(self.books, seed, self.clock.now()).fill(records, transactions=bool(self.switches["transactions"]))
        self.store.now = self.clock.now
        self.books.count = self.count
        self.books.on_commit = lambda entity, key, verb: self.webhooks.tell(entity, key, verb, self.clock.now())

    def credentials(self) -> dict[str, dict[str, object]]:
        """Return what a Connection to this company needs; call start() first."""
        settings = {
            "realm": self.realm,
            "api_base": self.url,
            "token_url": f"{self.url}/oauth2/v1/tokens/bearer",
            "authorize_url": f"{self.url}/connect/oauth2",
            "revoke_url": f"{self.url}/v2/oauth2/tokens/revoke",
            "minor_version": "75",
            "batch_size": str(self.switches["batch_items"]),
            "cdc_overlap_seconds": "300",
        }
        secret = {
            "client_id": self.tokens.client_id,
            "client_secret": self.tokens.client_secret,
            "refresh_token": self.tokens.refresh_token,
        }
        return {"settings": dict(settings), "secret": dict(secret)}

    # What a person does in QuickBooks' own screens

    def user_creates(self, entity: str, values: Json) -> str:
        """Create a record from vendor-shaped values, dotted keys allowed; returns its id."""
        with self.store.lock:
            return str(self.books.create(entity, _nested({}, values), "user")["Id"])

    def user_edits(self, entity: str, record_id: str, values: dict[str, object]) -> str:
        """Change some values; "BillAddr.Line1" leaves the other lines as they are.  None empties."""
        with self.store.lock:
            body = self.books.need(entity, record_id).body
            given = {"Id": record_id, "SyncToken": body["SyncToken"], "sparse": True, **_nested(body, values)}
            self.books.update(entity, given, "user")
        return record_id

    def user_deletes(self, entity: str, record_id: str) -> bool:
        """Delete a transaction; make a list record inactive, which is all that QuickBooks has for it."""
        with self.store.lock:
            body = self.books.body(entity, record_id)
            if body is None:
                return False
            if entity in NAME_LISTS:
                self.user_edits(entity, record_id, {"Active": False})
            else:
                self.books.delete(entity, {"Id": record_id, "SyncToken": body["SyncToken"]}, "user")
            return True

    def user_voids(self, entity: str, record_id: str) -> None:
        """Void a transaction."""
        with self.store.lock:
            token = self.books.need(entity, record_id).body["SyncToken"]
            self.books.update(entity, {"Id": record_id, "SyncToken": token}, "user", void=True)

    # Answering

    def respond(self, request: Request, fault: Fault | None) -> Response:
        """Answer one request."""
        with self._lock:
            self._tid += 1
            tid = f"1-sim{self._tid:08x}"
        failing = fault is not None and fault.kind in {"error", "throttle"}
        response = (None if failing else self.tokens.answer(request, self.url)) or self._guarded(request, fault)
        response.headers["intuit_tid"] = tid
        return response

    def _guarded(self, request: Request, fault: Fault | None) -> Response:
        kind = fault.kind if fault else ""
        try:
            if fault and kind == "error":
                raise VendorFault("10000", status=fault.status, kind="SystemFault")
            if fault and kind == "throttle":
                raise VendorFault("3001", "The request limit was reached", status=429, kind="SERVICE")
            if kind == "expire_token":
                self.tokens.expire(request)
            if not self.tokens.allows(request):
                raise VendorFault("3200", "Token expired", status=401, kind="AUTHENTICATION")
            parts = [part for part in request.path.split("/") if part]
            if parts[:2] != ["v3", "company"] or len(parts) < 4:
                return Response("Not found", 404, mimetype="text/plain")
            if parts[2] != self.realm:
                raise VendorFault(
                    "3100", "The app is not authorised for this company", status=403, kind="AUTHORIZATION"
                )
            with self._slot(parts[3]):
                return self._routed(request, parts[3:], fault)
        except VendorFault as refused:
            return self._refused(refused, fault)

    def _refused(self, refused: VendorFault, fault: Fault | None) -> Response:
        if refused.status == 400:
            return service_answer(refused, self._time())
        millis = int(self.clock.now().timestamp() * 1000)
        response = gateway_answer(refused, str(self.switches["error_shape"]), millis, self._time())
        if refused.status == 429:
            seconds = fault.seconds if fault and fault.kind == "throttle" else self._wait()
            response.headers["Retry-After"] = f"{max(seconds, 0):g}"
        return response

    @contextmanager
    def _slot(self, resource: str) -> Iterator[None]:
        """Count the call against the limits of section 11, or refuse it."""
        throttled = VendorFault("3001", "The request limit was reached", status=429, kind="SERVICE")
        with self._lock:
            counted = bool(self.switches["limits"])
            if counted and self._busy >= int(str(self.switches["limit_concurrent"])):
                raise throttled
            special = {"batch": "batch", "reports": "report"}.get(resource)
            if counted and not all(self._room(name) for name in ("request", special) if name):
                raise throttled
            now = self.clock.now()
            for name in ("request", special):
                if name:
                    self._calls.setdefault(name, deque()).append(now)
            self._busy += 1
        try:
            yield
        finally:
            with self._lock:
                self._busy -= 1

    def _room(self, name: str) -> bool:
        calls, now = self._calls.setdefault(name, deque()), self.clock.now()
        while calls and calls[0] <= now - MINUTE:
            calls.popleft()
        return len(calls) < int(str(self.switches[f"limit_{name}"]))

    def _wait(self) -> int:
        """Return the seconds until the oldest call of a full minute is forgotten."""
        now = self.clock.now()
        full = [calls[0] for name, calls in self._calls.items() if calls and not self._room(name)]
        return max((int((at + MINUTE - now).total_seconds()) + 1 for at in full), default=1)

    def _routed(self, request: Request, parts: list[str], fault: Fault | None) -> Response:
        resource, post = parts[0], request.method == "POST"
        empty = fault is not None and fault.kind == "empty"
        if resource == "query":
            text = request.get_data(as_text=True) if post else request.args.get("query", "")
            return self._json({"QueryResponse": {} if empty else self._query(text)})
        if resource == "cdc":
            return self._cdc(request, empty=empty)
        if resource == "reports":
            self.describe_call(f"report {parts[1]}")
            with self.store.lock:
                return self._json(reports.answer(self.books, parts[1], request.args, self._time()), wrapped=False)
        if post:
            return self._once(request, lambda: self._posted(request, parts, fault))
        return self._got(request, parts)

    def _once(self, request: Request, answer: Callable[[], Response]) -> Response:
        """Answer a repeated requestid as the first one was, and do nothing (section 6)."""
        key = request.args.get("requestid", "")
        if len(key) > 50:
            raise VendorFault("2050", "Max:50 supported", element="requestid")
        with self.store.lock:
            if key and key in self._answered:
                self.describe_call(f"replay of {key}")
                return Response(self._answered[key], mimetype="application/json")
            response = answer()
            if key and response.status_code == 200:
                self._answered[key] = response.get_data()
            return response

    def _posted(self, request: Request, parts: list[str], fault: Fault | None) -> Response:
        resource = parts[0]
        if resource == "batch":
            return self._batch(request, fault)
        if resource == "upload":
            return self._upload(request)
        if resource == "taxservice":
            return self._json(self._tax_service(_body(request)), wrapped=False)
        if resource == "exchangerate":
            return self._json({"ExchangeRate": self._set_rate(_body(request))})
        entity = _entity(resource)
        if len(parts) == 3 and parts[2] == "send":
            return self._json({entity: self._send(entity, parts[1], request.args.get("sendTo", ""))})
        self.describe_call(f"write {entity}")
        operation, include = request.args.get("operation", ""), request.args.get("include", "")
        void = operation == "void" or "void" in include
        return self._json({entity: self._write(entity, "void" if void else operation, _body(request))})

    def _write(self, entity: str, operation: str, body: Json) -> Json:
        if operation == "delete":
            return self.books.delete(entity, body)
        if operation == "void":
            return self.books.update(entity, body, void=True)
        if operation == "create" or (not operation and not body.get("Id")):
            return self.books.create(entity, body)
        return self.books.update(entity, body)

    def _got(self, request: Request, parts: list[str]) -> Response:
        resource = parts[0]
        self.describe_call(f"read {resource}")
        if resource == "exchangerate":
            return self._json({"ExchangeRate": self._get_rate(request.args)})
        entity = _entity(resource)
        if entity == "CompanyInfo" or entity == "Preferences":
            return self._json({entity: self.books.body(entity, "1")})
        if len(parts) < 2:
            raise VendorFault("500", f"Operation read needs an id of {entity}")
        body = self.books.need(entity, parts[1]).body
        if len(parts) == 3 and parts[2] == "pdf" and entity in SENDABLE:
            text = f"% {entity} {body.get('DocNumber', body['Id'])} total {body.get('TotalAmt', 0)}\n"
            pdf = PAPER + text.encode() + b"trailer<</Root 1 0 R>>\n%%EOF\n"
            return Response(pdf, mimetype="application/pdf")
        if "invoiceLink" in request.args.get("include", "") and entity == "Invoice" and body.get("BillEmail"):
            body = {**body, "InvoiceLink": f"{self.url}/invoice-link/{body['Id']}"}
        return self._json({entity: body})

    # Query and change data capture

    def _query(self, text: str) -> Json:
        statement = query_language.parse(text)
        entity = statement.entity
        self.describe_call(f"query {entity}")
        found = self._selected(statement)
        if statement.count:
            return {"totalCount": len(found)}
        rows = found[statement.start - 1 : statement.start - 1 + statement.rows]
        if not rows:
            return {}
        return {
            entity: [record.body for record in rows],
            "startPosition": statement.start,
            "maxResults": len(rows),
            "totalCount": len(found),
        }

    def _selected(self, statement: query_language.Statement) -> list[StoredRecord]:
        """Return all records that fit, in order; kept for the next page as long as nothing changes."""
        entity = statement.entity
        key = (entity, tuple(statement.where), tuple(statement.order), self.books.generation)
        with self.store.lock:
            if key in self._results:
                return self._results[key]
            table = self.store.table(entity)
            ids = query_language.ids_in(statement)
            if ids is None:
                rows = list(table.values())
            else:
                rows = [table[each] for each in sorted(set(ids), key=lambda each: (len(each), each)) if each in table]
            tests = query_language.tests_of(statement)
            if entity in NAME_LISTS and not any(condition.name == "Active" for condition in statement.where):
                tests.append(lambda record: record.body.get("Active") is not False)  # section 4
            for test in tests:
                rows = [record for record in rows if test(record)]
            rows = query_language.sort(rows, statement.order)
            while len(self._results) >= KEPT_QUERIES:
                self._results.pop(next(iter(self._results)))
            self._results[key] = rows
            return rows

    def _cdc(self, request: Request, *, empty: bool) -> Response:
        names = [name.strip() for name in request.args.get("entities", "").split(",") if name.strip()]
        entities = [_entity(name.lower()) for name in names]
        if not entities or any(name in NO_CDC for name in entities):
            raise VendorFault("2170", f"Change data capture does not know {request.args.get('entities')}")
        self.describe_call(f"cdc {len(entities)}")
        since = _since(request.args.get("changedSince", ""))
        if since < self.clock.now() - LOOK_BACK:
            raise VendorFault("6000", "changedSince may be at most 30 days ago", element="changedSince")
        found = {} if empty else self._captured(set(entities), since)
        left, responses = CDC_CAP, []
        for entity in entities:
            rows = found.get(entity, [])[:left]
            left -= len(rows)
            responses.append({entity: rows, "startPosition": 1, "maxResults": len(rows)} if rows else {})
        return self._json({"CDCResponse": [{"QueryResponse": responses}]})

    def _captured(self, entities: set[str], since: datetime) -> dict[str, list[Json]]:
        """Return what changed, oldest change first, from the end of the change log only."""
        found: dict[str, list[Json]] = {}
        with self.store.lock:
            log = self.store.log
            for change in log[bisect.bisect_left(log, since, key=lambda each: each.at) :]:
                if change.entity not in entities or self.store.latest[change.entity][change.id] is not change:
                    continue
                record = self.store.get(change.entity, change.id)
                if record is not None:
                    found.setdefault(change.entity, []).append(record.body)
                else:
                    at = change.at.astimezone(PACIFIC).isoformat(timespec="seconds")
                    gone = {"domain": "QBO", "status": "Deleted", "Id": change.id, "MetaData": {"LastUpdatedTime": at}}
                    found.setdefault(change.entity, []).append(cast("Json", gone))
        return found

    # Batch

    def _batch(self, request: Request, fault: Fault | None) -> Response:
        items = _body(request).get("BatchItemRequest")
        if not isinstance(items, list) or not items:
            raise VendorFault("2020", "Required parameter BatchItemRequest is missing", element="BatchItemRequest")
        if len(items) > int(str(self.switches["batch_items"])):
            raise VendorFault("6000", f"A batch holds at most {self.switches['batch_items']} items")
        self.describe_call(f"batch {len(items)}")
        answers = [self._batch_item(cast("Json", item), fault) for item in items]
        return self._json({"BatchItemResponse": answers})

    def _batch_item(self, item: Json, fault: Fault | None) -> Json:
        answer: Json = {"bId": item.get("bId")}
        try:
            if fault and fault.kind == "partial" and self.faults.random.random() < fault.rate:
                # status 400: refused for good; any other: their system failed, the item may work later.
                if fault.status == 400:
                    raise VendorFault("6000", "Business Validation Error: simulated")
                raise VendorFault("10000", kind="SystemFault")
            if isinstance(item.get("Query"), str):
                return {**answer, "QueryResponse": self._query(str(item["Query"]))}
            entity = next((name for name in item if name in PROPERTIES), "")
            body = item.get(entity)
            if not entity or not isinstance(body, dict):
                raise VendorFault("2010", "The batch item has no entity")
            operation = str(item.get("operation", ""))
            if operation not in {"create", "update", "delete", "void"}:
                raise VendorFault("500", f"Operation {operation} is not supported")
            if "void" in str(item.get("optionsData", "")):
                operation = "void"
            return {**answer, entity: self._write(entity, operation, body)}
        except VendorFault as refused:
            return {**answer, "Fault": refused.body()}

    # The rest

    def _send(self, entity: str, record_id: str, send_to: str) -> Json:
        body = self.books.need(entity, record_id).body
        to = send_to or str(cast("Json", body.get("BillEmail") or {}).get("Address", ""))
        if entity not in SENDABLE or not to:
            raise VendorFault("2380", "The transaction has no e-mail address", element="BillEmail")
        time = self._time()
        sent: Json = {"BillEmail": {"Address": to}, "EmailStatus": "EmailSent"}
        sent["DeliveryInfo"] = {"DeliveryType": "Email", "DeliveryTime": time}
        return self.books.commit(entity, record_id, {**body, **sent}, "api", "emailed")

    def _upload(self, request: Request) -> Response:
        answers: list[Json] = []
        for name in sorted({*request.files, *request.form}):
            if not name.startswith("file_metadata_"):
                continue
            text = request.form.get(name) or request.files[name].read().decode()
            content = request.files.get(name.replace("metadata", "content"))
            given = cast("Json", json.loads(text))
            size = len(content.read()) if content else 0
            body = {key: value for key, value in given.items() if key.lower() in PROPERTIES["Attachable"]}
            key = self.books.next_id("Attachable")
            links: Json = {"Size": size, "FileAccessUri": f"/v3/company/{self.realm}/download/{key}"}
            answers.append({"Attachable": self.books.commit("Attachable", key, {**body, **links}, "api", "create")})
        if not answers:
            raise VendorFault("2020", "Required parameter file_metadata_01 is missing", element="file_metadata_01")
        return self._json({"AttachableResponse": answers})

    def _tax_service(self, given: Json) -> Json:
        name, details = str(given.get("TaxCode") or ""), given.get("TaxRateDetails")
        if not name or not isinstance(details, list) or not details:
            raise VendorFault("2020", "Required parameter TaxCode is missing in the request", element="TaxCode")
        if any(row.body["Name"] == name for row in self.store.table("TaxCode").values()):
            raise VendorFault("6000", f"The tax code {name} exists already", element="TaxCode")
        answered, listed = [], []
        for detail in cast("list[Json]", details):
            self.books.refer("TaxAgency", {"value": str(detail.get("TaxAgencyId"))}, "TaxAgencyId")
            rate_body: Json = {
                "Name": detail.get("TaxRateName"),
                "Active": True,
                "RateValue": float(str(detail.get("RateValue"))),
                "AgencyRef": {"value": str(detail["TaxAgencyId"])},
            }
            made = self.books.commit("TaxRate", self.books.next_id("TaxRate"), rate_body, "api", "create")
            listed.append({"TaxRateRef": {"value": made["Id"]}, "TaxTypeApplicable": "TaxOnAmount"})
            answered.append({**detail, "TaxRateId": made["Id"], "TaxAgencyId": str(detail["TaxAgencyId"])})
        code: Json = {"Name": name, "Active": True, "Taxable": True, "SalesTaxRateList": {"TaxRateDetail": listed}}
        made = self.books.commit("TaxCode", self.books.next_id("TaxCode"), code, "api", "create")
        return {"TaxCode": name, "TaxCodeId": made["Id"], "TaxRateDetails": answered}

    def _get_rate(self, asked: Mapping[str, str]) -> Json:
        code = asked.get("sourcecurrencycode", "")
        if code == self.books.home:
            raise VendorFault("6000", "The home currency has no exchange rate", element="SourceCurrencyCode")
        self.books.currency({"value": code})
        stored = self.books.body("ExchangeRate", code)
        day = asked.get("asofdate") or self.clock.now().date().isoformat()
        return {
            "SourceCurrencyCode": code,
            "TargetCurrencyCode": self.books.home,
            "Rate": float(rate(self.books, code)),
            "AsOfDate": day,
            "SyncToken": stored["SyncToken"] if stored else "0",
        }

    def _set_rate(self, given: Json) -> Json:
        code = str(given.get("SourceCurrencyCode") or "")
        if code == self.books.home or not given.get("Rate"):
            raise VendorFault("6000", "The home currency has no exchange rate", element="SourceCurrencyCode")
        self.books.currency({"value": code})
        body: Json = {"SourceCurrencyCode": code, "Rate": float(str(given["Rate"]))}
        self.books.commit("ExchangeRate", code, body, "api")
        return self._get_rate({"sourcecurrencycode": code, "asofdate": str(given.get("AsOfDate") or "")})

    def _json(self, body: Json, *, wrapped: bool = True) -> Response:
        answer = {**body, "time": self._time()} if wrapped else body
        return Response(json.dumps(answer), mimetype="application/json")

    def _time(self) -> str:
        return self.clock.now().astimezone(PACIFIC).isoformat(timespec="milliseconds")


def _entity(resource: str) -> str:
    entity = BY_RESOURCE.get(resource.lower())
    if entity is None:
        raise VendorFault("500", f"Unsupported resource {resource}")
    return entity


def _body(request: Request) -> Json:
    try:
        body = json.loads(request.get_data())
    except ValueError as error:
        raise VendorFault("2010", "The request body is no JSON") from error
    if not isinstance(body, dict):
        raise VendorFault("2010", "The request body is no JSON object")
    return body


def _since(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text.replace(" ", "+"))  # an unescaped + in an address arrives as a blank
    except ValueError as error:
        raise VendorFault("2090", f"Invalid date : {text}", element="changedSince") from error
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)


def _nested(body: Json, values: Mapping[str, object]) -> Json:
    """Turn dotted keys into nested objects, laid over those of `body`."""
    given: Json = {}
    for name, value in values.items():
        first, _, second = name.partition(".")
        if second:
            inner = given.get(first) or dict(cast("Json", body.get(first) or {}))
            given[first] = {**cast("Json", inner), second: value}
        else:
            given[name] = value
    return given


__all__ = ["REALM", "TRANSACTIONS", "QuickBooksSimulator"]
