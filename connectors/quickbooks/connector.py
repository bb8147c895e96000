"""How is a QuickBooks Online company kept in agreement?  The eight verbs over its Accounting API v3."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import ClassVar, cast
from urllib.parse import quote

from connectors.contract import (
    Batch,
    ConnectorError,
    Entity,
    Fetched,
    Gone,
    Heard,
    Identity,
    Limit,
    Operation,
    Option,
    Outcome,
    Page,
    PermanentError,
    Record,
    Result,
    Unanswered,
    Values,
    Verb,
)
from connectors.quickbooks import feed as change_feed
from connectors.quickbooks import figures, webhooks
from connectors.quickbooks.bodies import Body, all_fields, body_of, dump, parse, record_of, when, whole_fields
from connectors.quickbooks.entities import (
    ACCOUNT_TYPES,
    BATCH,
    CHOICES,
    ENTITIES,
    FINDABLE,
    LISTS,
    NAME_FIELDS,
    OPTION_LISTS,
    PAGE,
    declare_all,
)
from connectors.quickbooks.errors import HINTS, MISSING, error_for, fault_in, fault_of
from connectors.transport.types import Consent, Http, OAuth2, Reply, Setting

PRODUCTION = "https://quickbooks.api.intuit.com"
SANDBOX = "https://sandbox-quickbooks.api.intuit.com"
MINUTE = timedelta(minutes=1)
PAGES = "https://app.qbo.intuit.com/app/"
SANDBOX_PAGES = "https://app.sandbox.qbo.intuit.com/app/"
PAGE_OF = {
    "Customer": "customerdetail?nameId=", "Invoice": "invoice?txnId=", "Payment": "recvpayment?txnId=",
    "CreditMemo": "creditmemo?txnId=", "SalesReceipt": "salesreceipt?txnId=", "Estimate": "estimate?txnId=",
    "RefundReceipt": "refundreceipt?txnId=",
}  # fmt: skip
IN_ONE_QUERY = 200  # ids or names in one IN list; keeps a statement below 8 KB for ids
TOO_LONG = 50  # characters of a requestid (section 3)


class QuickBooks:
    """One QuickBooks Online company (a realm)."""

    system: ClassVar[str] = "quickbooks"
    modified_field: ClassVar[str] = "MetaData.LastUpdatedTime"  # of every record: when it was changed last
    title: ClassVar[str] = "QuickBooks Online"
    hints: ClassVar[Mapping[str, str]] = HINTS  # what helps, by code
    limits: ClassVar[Sequence[Limit]] = (  # section 11
        Limit("request", 500, MINUTE),
        Limit("batch", 40, MINUTE),
        Limit("report", 200, MINUTE),
        Limit("concurrent", 10, None),
    )
    settings: ClassVar[Sequence[Setting]] = (
        Setting(
            "realm",
            "Company id (realm)",
            required=True,
            by_consent=True,
            help="Comes by itself with Connect. QuickBooks shows it under Account and settings.",
        ),
        Setting("api_base", "API host", PRODUCTION, required=True, is_url=True),
        Setting(
            "token_url",
            "Token address",
            "https://oauth.platform.intuit.com/oauth2/v1/tokens/bearer",
            required=True,
            is_url=True,
        ),
        Setting("authorize_url", "Consent page", "https://appcenter.intuit.com/connect/oauth2", is_url=True),
        Setting(
            "revoke_url", "Revocation address", "https://developer.api.intuit.com/v2/oauth2/tokens/revoke", is_url=True
        ),
        Setting("minor_version", "Minor version", "75", between=(1, 999)),
        Setting("batch_size", "Items in one batch", str(BATCH), help="QuickBooks documents 30.", between=(1, BATCH)),
        Setting(
            "cdc_overlap_seconds",
            "Overlap of change reads (seconds)",
            "300",
            help="Changes are read again this far back.",
            between=(0, 86400),
        ),
    )
    secrets: ClassVar[Sequence[str]] = ("client_id", "client_secret", "refresh_token")
    environments: ClassVar[Mapping[str, Mapping[str, str]]] = {  # what each changes of the defaults (section 1)
        "Production": {"api_base": PRODUCTION},
        "Sandbox": {"api_base": SANDBOX},
    }
    simulator: ClassVar[str] = "connectors.quickbooks.simulator.QuickBooksSimulator"

    def __init__(self, http: Http, settings: Mapping[str, str], now: Callable[[], datetime]) -> None:
        given = {setting.name: settings.get(setting.name) or setting.default for setting in self.settings}
        self.now = now
        self.realm = given["realm"]
        self.overlap = timedelta(seconds=float(given["cdc_overlap_seconds"]))
        self._http = http
        self._root = f"{given['api_base'].rstrip('/')}/v3/company/{self.realm}"
        self._minor_version = given["minor_version"]
        self._entities = declare_all(int(given["batch_size"]))
        self._choices: dict[str, list[Body]] = {}
        self.aged_on: date | None = None  # of the aging report that was read last

    @classmethod
    def auth(cls, settings: Mapping[str, str]) -> OAuth2 | None:
        """Log in with the refresh token that a person's consent gave."""
        default = next(setting.default for setting in cls.settings if setting.name == "token_url")
        return OAuth2(settings.get("token_url") or default, grant="refresh_token", client_auth="basic")

    @classmethod
    def consent(cls, settings: Mapping[str, str]) -> Consent:
        """A person picks the company; its id comes back with the code, and only then (section 2)."""
        default = next(setting.default for setting in cls.settings if setting.name == "authorize_url")
        where = settings.get("authorize_url") or default
        return Consent(where, "com.intuit.quickbooks.accounting", tells="realmId", tells_setting="realm")

    @classmethod
    def record_url(cls, settings: Mapping[str, str], entity: str, record_id: str) -> str:
        """Return the record's page in the browser; it opens in the company that the person has chosen there."""
        hosts = {PRODUCTION: PAGES, SANDBOX: SANDBOX_PAGES}
        host, page = hosts.get((settings.get("api_base") or PRODUCTION).rstrip("/")), PAGE_OF.get(entity)
        return f"{host}{page}{quote(record_id)}" if host and page else ""

    @classmethod
    def receive(
        cls, method: str, headers: Mapping[str, str], query: Mapping[str, str], body: bytes, keys: Sequence[str]
    ) -> Heard:
        """Take a webhook; `keys` are the verifier tokens of the app."""
        return webhooks.receive(headers, body, keys)

    # The eight verbs

    def check(self) -> Identity:
        """Read the company and its preferences."""
        answer = self.get(f"companyinfo/{self.realm}")
        company = cast("Body", answer["CompanyInfo"])
        preferences = cast("Body", self.get("preferences")["Preferences"])
        return Identity(
            self.realm,
            str(company.get("CompanyName", "")),
            {entity.name: entity.verbs for entity in self._entities},
            clock=when(answer.get("time")),
            schema=str(preferences.get("SyncToken", "")),
        )

    def describe(self) -> Sequence[Entity]:
        """Return the entities; they are the same in each company."""
        return self._entities

    def options(self, entity: str, field: str, of: str = "") -> Sequence[Option]:
        """Return the choices of a field ("Line.TaxCodeRef" too), or with no field the records of a small list."""
        name = field.removeprefix("Line.")
        if name in CHOICES:
            return [Option(word, word) for word in CHOICES[name]]
        wanted = OPTION_LISTS.get(name, "" if name else entity)
        if wanted == "CompanyCurrency":
            return self._currencies()
        if wanted not in {"Term", "PaymentMethod", "TaxCode", "Account"}:
            raise PermanentError(f"{entity}.{field} has no list of choices")
        types = ACCOUNT_TYPES.get(name)
        return [
            Option(str(row["Id"]), str(row["Name"]), row.get("Active") is not False)
            for row in self._list(wanted)
            if types is None or row.get("AccountType") in types
        ]

    def changes(
        self, feed: str, wanted: Mapping[str, frozenset[str]], cursor: str | None, scope: str = ""
    ) -> Iterator[Page]:
        """Read all records by query, or what changed since the cursor by change data capture."""
        if feed != change_feed.FEED:
            raise PermanentError(f"QuickBooks has no feed {feed!r}")
        return change_feed.read(self, wanted, cursor)

    def snapshot(self, entity: str, group: str, scope: str = "") -> Iterator[Page]:
        """Read aging or sales of all customers from reports, or the stock of all items."""
        read = figures.GROUPS.get((entity, group))
        if read is None:
            raise PermanentError(f"QuickBooks has no field group {group!r} of {entity}")
        return read(self)

    def absent(self, entity: str, group: str) -> Values | None:
        """Return what a record has that the snapshot just read does not name."""
        return figures.absent(group, self.aged_on) if (entity, group) in figures.GROUPS else None

    def fetch(self, entity: str, ids: Sequence[str], fields: frozenset[str]) -> Fetched:
        """Read records by id, inactive ones too."""
        found: dict[str, Record] = {}
        active = " AND Active IN (true,false)" if entity in LISTS else ""
        for block in blocks(ids):
            rows = self.query(entity, f"WHERE Id IN ({quoted(block)}){active} MAXRESULTS {PAGE}", post=True)
            found |= {record.id: record for record in self.records(entity, rows, fields)}
        gone: list[Gone] = []
        hidden: list[str] = []
        for missing in [each for each in dict.fromkeys(ids) if each not in found]:
            # A query that leaves an id out proves nothing (a filter, a lagging index): only the object's own 610 does.
            record = self._look(entity, missing, fields)
            if isinstance(record, Record):
                found[missing] = record
            elif isinstance(record, Gone):
                gone.append(record)
            else:
                hidden.append(missing)
        return Fetched(list(found.values()), gone, hidden)

    def find(self, entity: str, field: str, values: Sequence[str]) -> Iterator[Record]:
        """Read the records, inactive ones too, whose `field` is one of `values`."""
        declared = ENTITIES[entity].field(field)
        if declared is None or not declared.findable:
            raise PermanentError(f"QuickBooks cannot look for {entity} by {field}")
        active = " AND Active IN (true,false)" if entity in LISTS else ""
        for block in blocks(values):
            where = f"WHERE {FINDABLE[field]} IN ({quoted(block)}){active}"
            position = 1
            while True:
                paging = f"ORDERBY Id STARTPOSITION {position} MAXRESULTS {PAGE}"
                rows = self.query(entity, f"{where} {paging}", post=True)
                yield from self.records(entity, rows, all_fields(entity))
                if len(rows) < PAGE:
                    break
                position += PAGE

    def write(self, batch: Batch) -> Sequence[Outcome]:
        """Send all operations as one batch request; a repeat with the same key answers as the first one did."""
        operations = self._with_current(batch.operations)
        items = [{"bId": str(place), **self._item(operation)} for place, operation in enumerate(operations)]
        reply = self._http.request(
            "POST",
            f"{self._root}/batch",
            params={"requestid": batch.key[:TOO_LONG], "minorversion": self._minor_version},
            content=dump({"BatchItemRequest": items}),
            headers={"Accept": "application/json", "Content-Type": "application/json"},
            charge=("request", "batch"),
            repeatable=True,  # because of the requestid (section 6)
        )
        answers = self._answer(reply).get("BatchItemResponse")
        if not isinstance(answers, list):
            raise Unanswered("QuickBooks answered the batch without its items")
        by_place = {str(answer.get("bId")): answer for answer in answers}  # the order is not promised (section 7)
        return [
            self._outcome(operation, by_place[str(place)])
            for place, operation in enumerate(operations)
            if str(place) in by_place
        ]

    # Calls, also used by the feed and the report

    def get(self, path: str, *, charge: Sequence[str] = ("request",), **params: str) -> dict[str, object]:
        """GET a resource of this company."""
        return self._answer(self._get(path, charge=charge, **params))

    def query(self, entity: str, rest: str, *, columns: str = "*", post: bool = False) -> list[Body]:
        """Return the rows of one query.  `post`: for statements that carry values or are long for an address.

        All properties may come back whatever `columns` says (section 4).
        """
        statement = f"SELECT {columns} FROM {entity} {rest}"  # noqa: S608  values in `rest` are quoted by quoted()
        return rows_of(self.query_answer(statement, post=post), entity)

    def query_answer(self, statement: str, *, post: bool = False) -> dict[str, object]:
        """Send one query and return the whole answer."""
        if not post:
            return self.get("query", query=statement)
        reply = self._http.request(
            "POST",
            f"{self._root}/query",
            params={"minorversion": self._minor_version},
            content=statement.encode(),
            headers={"Accept": "application/json", "Content-Type": "application/text"},
            repeatable=True,  # it only reads
        )
        return self._answer(reply)

    def records(self, entity: str, rows: Iterable[Body], fields: frozenset[str]) -> list[Record]:
        """Read full objects."""
        today = self.now().date()
        return [record_of(entity, row, fields, today) for row in rows]

    def _get(self, path: str, *, charge: Sequence[str] = ("request",), **params: str) -> Reply:
        return self._http.request(
            "GET",
            f"{self._root}/{path}",
            params={**params, "minorversion": self._minor_version},
            headers={"Accept": "application/json"},
            charge=charge,
        )

    def _answer(self, reply: Reply) -> dict[str, object]:
        if reply.status != 200:
            raise error_for(reply, self.now())
        body = parse(reply)
        if fault_of(body) is not None:
            raise error_for(reply, self.now())
        return body

    def _look(self, entity: str, record_id: str, fields: frozenset[str]) -> Record | Gone | None:
        """Read one object by its own address; None: it can't be seen, which is no proof of anything."""
        reply = self._get(f"{entity.lower()}/{record_id}")
        fault = fault_in(reply) if reply.status in (400, 403, 404) else None
        error = error_for(reply, self.now())
        if reply.status == 200:
            body = self._answer(reply).get(entity)
            return self.records(entity, [cast("Body", body)], fields)[0] if isinstance(body, dict) else None
        if fault is not None and fault.code == MISSING:
            return Gone(entity, record_id)
        if fault is None or not isinstance(error, PermanentError):
            raise error
        return None

    # Small lists

    def _list(self, entity: str) -> list[Body]:
        # Read once for each connector object: one run reads a list of terms once (section 11, metered reads).
        if entity not in self._choices:
            self._choices[entity] = self.query(entity, f"WHERE Active IN (true,false) MAXRESULTS {PAGE}")
        return self._choices[entity]

    def _currencies(self) -> list[Option]:
        preferences = cast("Body", self.get("preferences")["Preferences"])
        currency = cast("Body", preferences.get("CurrencyPrefs") or {})
        home = str(cast("Body", currency.get("HomeCurrency") or {}).get("value", ""))
        options = {home: Option(home, home)} if home else {}
        if currency.get("MultiCurrencyEnabled"):
            for row in self._list("CompanyCurrency"):
                code = str(row["Code"])
                options.setdefault(code, Option(code, code, row.get("Active") is not False))
        return list(options.values())

    # Writing

    def _with_current(self, operations: Sequence[Operation]) -> list[Operation]:
        """Complete `current` where an operation must re-send fields that the caller did not read."""
        lacking: dict[str, dict[str, frozenset[str]]] = {}
        for operation in operations:
            needed = self._needed(operation)
            known = operation.current.values if operation.current else {}
            if not needed <= known.keys():
                lacking.setdefault(operation.entity, {})[operation.id] = needed
        if not lacking:
            return list(operations)
        read: dict[tuple[str, str], Record] = {}
        for entity, wanted in lacking.items():
            fetched = self.fetch(entity, list(wanted), frozenset().union(*wanted.values()))
            read |= {(entity, record.id): record for record in fetched.records}
        # The version stays the planned one: had somebody edited meanwhile, the write is refused as stale.
        return [
            replace(operation, current=read.get((operation.entity, operation.id), operation.current))
            for operation in operations
        ]

    def _needed(self, operation: Operation) -> frozenset[str]:
        entity = ENTITIES[operation.entity]
        if operation.verb is Verb.UPDATE:
            return whole_fields(entity, operation.values)
        if operation.verb is Verb.RESTORE:
            return frozenset({NAME_FIELDS[operation.entity]}) - operation.values.keys()
        return frozenset()

    def _item(self, operation: Operation) -> dict[str, object]:
        entity = ENTITIES[operation.entity]
        if operation.verb is Verb.CREATE:
            return {"operation": "create", entity.name: body_of(entity, operation.values)}
        body: dict[str, object] = {"Id": operation.id, "SyncToken": operation.expect}
        if operation.verb is Verb.DELETE:
            return {"operation": "delete", entity.name: body}
        body["sparse"] = True
        if operation.verb is Verb.ARCHIVE and entity.name not in LISTS:
            return {"operation": "update", "optionsData": "void", entity.name: body}
        current = operation.current.values if operation.current else {}
        values = dict(operation.values)
        if operation.verb is Verb.RESTORE:
            # The server appended "(deleted)" to the name; `current` has the name without it.
            name = NAME_FIELDS[entity.name]
            values.setdefault(name, current.get(name))
        body |= body_of(entity, values, current)
        if operation.verb in (Verb.ARCHIVE, Verb.RESTORE):
            body["Active"] = operation.verb is Verb.RESTORE
        return {"operation": "update", entity.name: body}

    def _outcome(self, operation: Operation, answer: Body) -> Outcome:
        fault = fault_of(answer)
        if fault is not None:
            result = fault.result
            if result is Result.GONE:
                result = self._which_is_missing(operation)
            known = change_feed.id_in(fault.detail) if result is Result.EXISTS else operation.id
            return Outcome(
                operation.key,
                result,
                id=known,
                field=field_named(operation.entity, fault.element),
                code=fault.code,
                message=fault.words,
            )
        body = answer.get(operation.entity)
        if not isinstance(body, dict):
            return Outcome(operation.key, Result.UNKNOWN, message="QuickBooks answered without the record")
        if body.get("status") == "Deleted":
            return Outcome(operation.key, Result.WRITTEN, id=operation.id)
        [record] = self.records(operation.entity, [body], all_fields(operation.entity))
        return Outcome(
            operation.key,
            Result.WRITTEN,
            id=record.id,
            version=record.version,
            values=record.values,
            modified=record.modified,
        )

    def _which_is_missing(self, operation: Operation) -> Result:
        """Tell a record that is no more from one whose reference is inactive: code 610 says both alike."""
        if operation.verb is Verb.CREATE:
            return Result.REJECTED
        try:
            found = self._look(operation.entity, operation.id, frozenset())
        except ConnectorError:
            return Result.LATER  # the write was refused for sure; why can be asked next time
        return Result.GONE if isinstance(found, Gone) else Result.REJECTED


def rows_of(answer: Mapping[str, object], entity: str) -> list[Body]:
    """Return the rows of a query's answer; a missing key means that nothing was found."""
    response = answer.get("QueryResponse")
    if not isinstance(response, dict):
        raise Unanswered("QuickBooks answered the query without a result")
    return cast("list[Body]", response.get(entity) or [])


def field_named(entity: str, element: str) -> str:
    """Return our name of what a fault calls its element: "PrimaryPhone" is our PrimaryPhone.FreeFormNumber."""
    inside = [field.name for field in ENTITIES[entity].fields if field.name.startswith(f"{element}.")]
    return inside[0] if element and len(inside) == 1 else element


def quoted(values: Sequence[str]) -> str:
    """Write values for an IN list; an apostrophe is escaped by a backslash (section 4)."""
    return ",".join("'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'" for value in values)


def blocks(values: Sequence[str]) -> Iterator[Sequence[str]]:
    """Cut into blocks that fit one statement."""
    unique = list(dict.fromkeys(values))
    for start in range(0, len(unique), IN_ONE_QUERY):
        yield unique[start : start + IN_ONE_QUERY]
