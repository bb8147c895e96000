"""How does the hub speak to Dynamics 365?  The Dataverse Web API v9.2 behind the eight verbs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import ClassVar
from urllib.parse import quote, urlsplit

from connectors.contract import (
    Batch,
    Entity,
    Fetched,
    Gone,
    Identity,
    Limit,
    Lock,
    Operation,
    Option,
    Outcome,
    Page,
    PermanentError,
    Record,
    Removal,
    Result,
    Returns,
    Safe,
    Unanswered,
    Verb,
)
from connectors.dynamics365 import batch as batches
from connectors.dynamics365.entities import (
    ARCHIVE,
    ARCHIVE_DEFAULT,
    DOCUMENTS,
    LINE,
    LISTS,
    RESTORE,
    SECOND,
    after,
    declared,
)
from connectors.dynamics365.errors import HINTS, call_error, item_outcome, read_error
from connectors.dynamics365.feed import FeedReader
from connectors.dynamics365.schema import Json, TableInfo, objects, read_schema, schema_query
from connectors.dynamics365.values import LOOKUP_NAME, Shape, Unfit, payload
from connectors.transport.types import Consent, Http, OAuth2, Reply, Setting

API_PATH = "/api/data/v9.2/"
APPLICATION, PERSON = "application", "person"  # who logs in
HEADERS = {
    "Accept": "application/json",
    "OData-MaxVersion": "4.0",
    "OData-Version": "4.0",
    "If-None-Match": "null",  # else a cache on the way may answer for the environment
}
QUERY_LENGTH = 16_000  # characters of an encoded filter: half of the 32 KB that a URL may have (sheet, section 2)
_CHOICES = "Microsoft.Dynamics.CRM.PicklistAttributeMetadata"
_MULTI = "Microsoft.Dynamics.CRM.MultiSelectPicklistAttributeMetadata"


def _page_of(org: str, entity: str) -> str:
    return f"{org}/main.aspx?etn={entity}&pagetype=entityrecord&id="


def _persons_scope(settings: Mapping[str, str]) -> str:
    return settings.get("scope") or f"{settings.get('org_url', '').rstrip('/')}/user_impersonation offline_access"


class Dynamics365:
    """One Dataverse environment."""

    system: ClassVar[str] = "dynamics365"
    modified_field: ClassVar[str] = "modifiedon"  # of every record: when it was changed last
    title: ClassVar[str] = "Dynamics 365"
    hints: ClassVar[Mapping[str, str]] = HINTS  # what helps, by code
    limits: ClassVar[Sequence[Limit]] = (  # sheet, section 10
        Limit("request", 6000, timedelta(seconds=300)),
        Limit("concurrent", 52, None),
    )
    settings: ClassVar[Sequence[Setting]] = (
        Setting("org_url", "Environment URL", required=True, is_url=True, help="https://yourorg.crm.dynamics.com"),
        Setting("token_url", "Token URL", required=True, is_url=True, help="Ends in /oauth2/v2.0/token."),
        Setting(
            "login",
            "Log in as",
            APPLICATION,
            choices=((APPLICATION, "The application itself"), (PERSON, "A person who connects")),
            help="The application needs an application user in the environment; a person presses Connect.",
        ),
        Setting("authorize_url", "Authorize URL", is_url=True, help="Only for a person. Empty: beside the token URL."),
        Setting("scope", "Scope", help="Empty: what the environment URL and the kind of login ask for."),
        Setting("tenant", "Tenant", help="Directory (tenant) id, for people."),
        Setting("prefix", "Publisher prefix", "syn", help="Begins the names of our own columns."),
        Setting("page_size", "Rows in a page", "5000", between=(1, 5000)),
        Setting("batch_size", "Operations in a batch", "100", between=(1, 1000)),
        Setting(
            "change_tracking",
            "Change tracking",
            "auto",
            choices=(("auto", "Where it can be had"), ("off", "Off")),
            help="Needs the right to read the whole organization's records.",
        ),
    )
    secrets: ClassVar[Sequence[str]] = ("client_id", "client_secret")
    simulator: ClassVar[str] = "connectors.dynamics365.simulator.DynamicsSimulator"

    @classmethod
    def auth(cls, settings: Mapping[str, str]) -> OAuth2:
        """Log in as the application, or with what a person's consent gave; only the latter has a refresh token."""
        if settings.get("login") == PERSON:
            return OAuth2(settings["token_url"], "refresh_token", _persons_scope(settings), "body")
        scope = settings.get("scope") or f"{settings['org_url'].rstrip('/')}/.default"
        return OAuth2(settings["token_url"], "client_credentials", scope, "body")

    @classmethod
    def consent(cls, settings: Mapping[str, str]) -> Consent | None:
        """Entra's page, with PKCE; None where the application logs in by itself."""
        if settings.get("login") != PERSON:
            return None
        where = settings.get("authorize_url") or f"{settings.get('token_url', '').removesuffix('/token')}/authorize"
        return Consent(where, _persons_scope(settings), pkce=True, more={"response_mode": "query"})

    @classmethod
    def record_url(cls, settings: Mapping[str, str], entity: str, record_id: str) -> str:
        """Return the record's page in the browser; a simulator has none."""
        org = settings.get("org_url", "").rstrip("/")
        return f"{_page_of(org, entity)}{quote(record_id)}" if org.startswith("https://") else ""

    def __init__(self, http: Http, settings: Mapping[str, str], now: Callable[[], datetime]) -> None:
        self.http, self.now = http, now
        self.org = settings["org_url"].rstrip("/")
        self.root = f"{self.org}{API_PATH}"
        self.prefix = settings.get("prefix") or "syn"
        self.page_size = min(int(settings.get("page_size") or 5000), 5000)
        self.batch_size = int(settings.get("batch_size") or 100)
        self.tracking = (settings.get("change_tracking") or "auto") != "off"
        self.untracked: set[str] = set()  # feeds whose tracking was refused to us
        self._schema: dict[str, TableInfo] | None = None
        self._choices: dict[str, dict[str, list[Option]]] = {}

    # Calls

    def get(self, url: str, prefer: Sequence[str] = (), *, known_failures: frozenset[int] = frozenset()) -> Reply:
        """Send a read.  Raises what the error table says, except for the statuses that the caller judges itself."""
        absolute = url if url.startswith(("https://", "http://")) else self.root + url
        if not absolute.startswith(self.root):
            raise PermanentError(f"Dynamics 365 gave a link to another host: {urlsplit(absolute).netloc}")
        headers = {**HEADERS, **({"Prefer": ",".join(prefer)} if prefer else {})}
        reply = self.http.request("GET", absolute, headers=headers)
        if reply.status >= 400 and reply.status not in known_failures:
            raise call_error(reply, self.now())
        return reply

    def parse(self, reply: Reply) -> Json:
        """Read a JSON object, amounts as exact decimals."""
        try:
            content = json.loads(reply.body, parse_float=Decimal)
        except ValueError as error:
            raise Unanswered(f"the answer (status {reply.status}) is not JSON") from error
        if not isinstance(content, dict):
            raise Unanswered(f"the answer (status {reply.status}) is not a JSON object")
        return content

    def all_rows(self, url: str, prefer: Sequence[str] = ()) -> list[Json]:
        """Read a query to its end."""
        rows: list[Json] = []
        while url:
            content = self.parse(self.get(url, prefer))
            rows += objects(content.get("value"))
            url = str(content.get("@odata.nextLink") or "")
        return rows

    # Schema

    def schema(self) -> dict[str, TableInfo]:
        """Return the environment's tables; asked once for each instance."""
        if self._schema is None:
            self._schema = read_schema(self.parse(self.get(schema_query(self.prefix))), self.prefix)
        return self._schema

    def forget_schema(self) -> None:
        """Ask again at the next use: columns or choices have been changed."""
        self._schema = None
        self._choices.clear()

    def table(self, entity: str) -> TableInfo:
        """Return one entity's table.  Raises PermanentError where the environment lacks it."""
        info = self.schema().get(entity)
        if info is None:
            raise PermanentError(f"the environment has no table '{entity}'", code="no_such_table")
        return info

    def tracked(self, table: str) -> bool:
        """Say whether deletes come by change tracking."""
        return self.tracking and table not in self.untracked and self.table(table).tracked

    def marker(self, info: TableInfo) -> str:
        """Return the column that carries the link's key, where the environment has it."""
        name = f"{self.prefix}_linkkey"
        return name if name in info.fields else ""

    def shape(self, entity: str, wanted: frozenset[str] | None = None) -> Shape:
        """Prepare the reading of an entity; None: all its fields.  A column that has been removed is not told."""
        info = self.table(entity)
        fields = [f for f in info.fields.values() if wanted is None or f.name in wanted]
        return Shape.of(entity, info.id, fields, marker=self.marker(info), url=self.address(entity))

    def address(self, entity: str) -> str:
        """Return how the address of a record of this entity begins, in the browser."""
        return _page_of(self.org, entity)

    # The verbs

    def check(self) -> Identity:
        """Log in and say as whom, with which rights."""
        reply = self.get("WhoAmI")
        who = self.parse(reply)
        organizations = self.all_rows("organizations?$select=name")
        name = str(organizations[0].get("name")) if organizations else ""
        metadata = self.parse(
            self.get(
                "EntityDefinitions?$select=LogicalName&$filter=LogicalName%20eq%20'organization'",
                ['odata.include-annotations="*"'],
            )
        )
        remaining = reply.headers.get("x-ms-ratelimit-burst-remaining-xrm-requests", "")
        clock = reply.headers.get("date", "")
        return Identity(
            instance=str(who["OrganizationId"]),
            account=name,
            may=self._rights(str(who["UserId"])),
            remaining={"request": int(remaining)} if remaining.isdecimal() else {},
            clock=parsedate_to_datetime(clock) if clock else None,
            schema=str(metadata.get("@Microsoft.Dynamics.CRM.globalmetadataversion") or ""),
        )

    def _rights(self, user: str) -> dict[str, frozenset[Verb]]:
        url = f"systemusers({user})/Microsoft.Dynamics.CRM.RetrieveUserPrivileges()"
        rows = objects(self.parse(self.get(url)).get("RolePrivileges"))
        names = frozenset(str(row["PrivilegeName"]).lower() for row in rows if row.get("PrivilegeName"))
        verbs = {"create": (Verb.CREATE,), "write": (Verb.UPDATE, Verb.ARCHIVE, Verb.RESTORE), "delete": (Verb.DELETE,)}
        found: dict[str, frozenset[Verb]] = {}
        for entity in declared(self.prefix):
            # Older environments tell ids only: then what is missing shows at the first write.
            if entity in self.schema() and (not names or f"prvread{entity}" in names):
                allowed = [v for word, of in verbs.items() if not names or f"prv{word}{entity}" in names for v in of]
                found[entity] = frozenset(allowed)
        return found

    def describe(self) -> Sequence[Entity]:
        """Entities of this very environment, with its own columns."""
        return [self._entity(name) for name in declared(self.prefix) if name in self.schema()]

    def _entity(self, name: str) -> Entity:
        info = self.table(name)
        return Entity(
            name,
            tuple(info.fields.values()),
            feed=name,
            tells_deletes=self.tracked(name),
            lock=Lock.NATIVE,
            safe=Safe.CLIENT_ID,
            removal=Removal.DELETE,
            returns=Returns.VALUES,
            verbs=frozenset(Verb),
            page=self.page_size,
            batch=self.batch_size,
            after=after(name),
            resolution=SECOND,
            marker=self.marker(info),
            label=info.label,
        )

    def options(self, entity: str, field: str, of: str = "") -> Sequence[Option]:
        """Choices of a column, or rows of the small list that it points at; `details.uomid` is a line's column."""
        if field.startswith("details."):
            entity, field = DOCUMENTS[entity], field.removeprefix("details.")
        if field in LISTS:
            return self._list(field)
        if entity not in self._choices:
            self._choices[entity] = self._read_choices(entity)
        return self._choices[entity].get(field, [])

    def _list(self, field: str) -> list[Option]:
        logical, label = LISTS[field]
        info = self.table(logical)
        rows = self.all_rows(f"{info.set}?$select={label},statecode")
        return [Option(str(row[info.id]), str(row.get(label) or ""), row.get("statecode") == 0) for row in rows]

    def _read_choices(self, entity: str) -> dict[str, list[Option]]:
        found: dict[str, list[Option]] = {}
        for cast in (_CHOICES, _MULTI):
            rows = self.all_rows(
                f"EntityDefinitions(LogicalName='{entity}')/Attributes/{cast}"
                "?$select=LogicalName&$expand=OptionSet($select=Options),GlobalOptionSet($select=Options)"
            )
            for row in rows:
                chosen = row.get("OptionSet") or row.get("GlobalOptionSet")
                choices = objects(chosen.get("Options")) if isinstance(chosen, dict) else []
                found[str(row["LogicalName"])] = [_option(choice) for choice in choices]
        return found

    def changes(
        self, feed: str, wanted: Mapping[str, frozenset[str]], cursor: str | None, scope: str = ""
    ) -> Iterator[Page]:
        """Read a table's rows, then what changed; a document's lines are read with it."""
        return FeedReader(self, feed, wanted.get(feed, frozenset()), cursor).pages()

    def snapshot(self, entity: str, group: str, scope: str = "") -> Iterator[Page]:
        """No field of Dataverse comes by a report."""
        raise PermanentError(f"{entity} has no field group '{group}'")

    def fetch(self, entity: str, ids: Sequence[str], fields: frozenset[str]) -> Fetched:
        """Present state of these records.  Absence from a query is no proof: a missing id is asked for by itself."""
        shape, info = self.shape(entity, fields), self.table(entity)
        rows = {
            str(row[info.id]): row
            for row in self._in_blocks(info.set, info.id, ids, shape.select(), self.annotations(shape))
        }
        missing = [identity for identity in dict.fromkeys(ids) if identity.lower() not in rows]
        gone: list[Gone] = []
        hidden: list[str] = []
        for start in range(0, len(missing), self.batch_size):
            self._prove(info, shape, missing[start : start + self.batch_size], rows, gone, hidden)
        records = self.with_lines(entity, fields, [shape.record(row) for row in rows.values()])
        return Fetched(records, gone, hidden)

    def _prove(
        self, info: TableInfo, shape: Shape, ids: list[str], rows: dict[str, Json], gone: list[Gone], hidden: list[str]
    ) -> None:
        path = urlsplit(self.root).path
        prefer = self.annotations(shape)
        headers = {"Accept": "application/json", **({"Prefer": ",".join(prefer)} if prefer else {})}
        parts = [batches.Part("GET", f"{path}{info.set}({i})?$select={shape.select()}", headers) for i in ids]
        answers = self._send_batch(f"fetch {info.logical} {' '.join(ids)}", parts)
        if len(answers) < len(ids):
            raise Unanswered("the batch of reads was answered only in part")
        for identity, answer in zip(ids, answers, strict=False):
            code, _ = read_error(answer.body)
            if answer.status == 200:
                rows[identity.lower()] = self.parse(answer)
            elif answer.status == 404 and code.lower() == "0x80040217":
                gone.append(Gone(info.logical, identity))
            elif answer.status == 403:
                hidden.append(identity)
            else:
                raise call_error(answer, self.now())

    def _in_blocks(
        self, entity_set: str, column: str, values: Sequence[str], select: str, prefer: Sequence[str]
    ) -> Iterator[Json]:
        """Query by a list of values, in blocks that fit a URL."""
        block: list[str] = []
        length = 0
        for value in [*dict.fromkeys(values), None]:
            encoded = "" if value is None else quote(f"'{value.replace(chr(39), chr(39) * 2)}',", safe="")
            if block and (value is None or length + len(encoded) > QUERY_LENGTH):
                chosen = "".join(block).removesuffix("%2C")
                where = f"Microsoft.Dynamics.CRM.In(PropertyName='{column}',PropertyValues=[{chosen}])"
                page = f"odata.maxpagesize={self.page_size}"
                yield from self.all_rows(f"{entity_set}?$select={select}&$filter={where}", [page, *prefer])
                block, length = [], 0
            block.append(encoded)
            length += len(encoded)

    def with_lines(self, entity: str, wanted: frozenset[str], records: list[Record]) -> list[Record]:
        """Give documents their lines, which stand in a table of their own."""
        if "details" not in wanted or entity not in DOCUMENTS or not records:
            return records
        info = self.table(DOCUMENTS[entity])
        parent = f"_{entity}id_value"
        shape = Shape.of(info.logical, info.id, LINE)
        select = ",".join([*(wire for _, wire, _ in shape.columns), parent])
        children: dict[str, list[Json]] = {}
        for row in self._in_blocks(info.set, f"{entity}id", [r.id for r in records], select, ()):
            children.setdefault(str(row[parent]), []).append(row)
        return [_with_details(record, shape, children.get(record.id, [])) for record in records]

    def annotations(self, shape: Shape) -> list[str]:
        """Return the preference that tells which table a polymorphic lookup points at, where there is one."""
        return [f'odata.include-annotations="{LOOKUP_NAME}"'] if shape.polymorphic else []

    def find(self, entity: str, field: str, values: Sequence[str]) -> Iterator[Record]:
        """Records by a findable column; compared there without regard to case."""
        info = self.table(entity)
        found = info.fields.get(field)
        if found is None or not found.findable:
            raise PermanentError(f"'{field}' of {entity} can't be searched")
        shape = self.shape(entity)
        wanted = frozenset(info.fields)
        rows = self._in_blocks(info.set, field, values, shape.select(), self.annotations(shape))
        yield from self.with_lines(entity, wanted, [shape.record(row) for row in rows])

    # Writing

    def write(self, batch: Batch) -> Sequence[Outcome]:
        """Send one $batch; each part stands alone and answers for itself (sheet, section 8)."""
        outcomes: dict[str, Outcome] = {}
        sent: list[tuple[Operation, Shape, batches.Part]] = []
        for operation in batch.operations:
            try:
                shape = self.shape(operation.entity)
                sent.append((operation, shape, self._part(operation, shape)))
            except Unfit as refused:
                outcomes[operation.key] = Outcome(
                    operation.key, Result.REJECTED, id=operation.id, field=refused.field, code=refused.code,
                    message=str(refused),
                )  # fmt: skip
        answers = self._send_batch(batch.key, [part for _, _, part in sent]) if sent else []
        for (operation, shape, _), answer in zip(sent, answers, strict=False):
            outcomes[operation.key] = self._outcome(operation, shape, answer)
        return [outcomes[operation.key] for operation in batch.operations if operation.key in outcomes]

    def _send_batch(self, key: str, parts: list[batches.Part]) -> list[Reply]:
        mark = batches.boundary(key)
        reading = all(part.method == "GET" for part in parts)
        headers = {
            **HEADERS,
            "Content-Type": f"multipart/mixed; boundary={mark}",
            "Accept": "multipart/mixed",
            "Prefer": "odata.continue-on-error",
        }
        reply = self.http.request(
            "POST", f"{self.root}$batch", content=batches.encode(parts, mark), headers=headers, repeatable=reading
        )
        if "multipart/mixed" in reply.headers.get("content-type", ""):
            return batches.decode(reply)
        if reply.status >= 500 and not reading:
            # Some parts may have been committed before the whole failed.
            raise Unanswered(f"the batch was answered with status {reply.status}: what was done is not known")
        if reply.status >= 400:
            raise call_error(reply, self.now())
        raise Unanswered(f"the answer to the batch (status {reply.status}) is not multipart")

    def _part(self, operation: Operation, shape: Shape) -> batches.Part:
        info = self.table(operation.entity)
        path = f"{urlsplit(self.root).path}{info.set}"
        if operation.verb is Verb.DELETE:
            headers = {"If-Match": operation.expect} if operation.expect else {}
            return batches.Part("DELETE", f"{path}({operation.id})", headers)
        creating = operation.verb is Verb.CREATE
        body = payload(self.schema(), info, dict(operation.values), creating=creating)
        if operation.verb is Verb.ARCHIVE:
            body |= ARCHIVE.get(operation.entity, ARCHIVE_DEFAULT)
        elif operation.verb is Verb.RESTORE:
            body |= RESTORE
        prefer = ",".join(["return=representation", *self.annotations(shape)])
        headers = {"Accept": "application/json", "Prefer": prefer}
        if creating:
            # Our own id makes a repeat answer "duplicate key" instead of making a second record.
            body = {info.id: operation.id, **body} if operation.id else body
            return batches.Part("POST", f"{path}?$select={shape.select()}", headers, body)
        headers["If-Match"] = operation.expect or "*"  # never an upsert
        return batches.Part("PATCH", f"{path}({operation.id})?$select={shape.select()}", headers, body)

    def _outcome(self, operation: Operation, shape: Shape, answer: Reply) -> Outcome:
        if answer.status >= 400:
            columns = self.table(operation.entity).columns
            return item_outcome(operation, answer, columns, self.now())
        if not answer.body:
            return Outcome(operation.key, Result.WRITTEN, id=operation.id)
        record = shape.record(self.parse(answer))
        return Outcome(
            operation.key, Result.WRITTEN, id=record.id, version=record.version, values=record.values,
            modified=record.modified,
        )  # fmt: skip


def _option(choice: Json) -> Option:
    label = choice.get("Label")
    local = label.get("UserLocalizedLabel") if isinstance(label, dict) else None
    return Option(str(choice["Value"]), str(local.get("Label")) if isinstance(local, dict) else str(choice["Value"]))


def _with_details(record: Record, shape: Shape, children: list[Json]) -> Record:
    return replace(record, values={**record.values, "details": shape.rows(children)})
