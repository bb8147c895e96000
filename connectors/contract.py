"""What does a connector author write?  All that the engine knows of another system is here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import ClassVar, Protocol, TypeAlias, runtime_checkable

Value: TypeAlias = "None | bool | int | Decimal | str | date | datetime | Ref | tuple[Row, ...] | frozenset[str]"
Values: TypeAlias = "Mapping[str, Value]"  # key with None: known to be empty.  No key: not told, leave alone.


class Kind(StrEnum):
    """What a field holds."""

    TEXT = "text"
    HTML = "html"
    INTEGER = "integer"
    DECIMAL = "decimal"
    MONEY = "money"
    BOOLEAN = "boolean"
    DATE = "date"
    DATETIME = "datetime"
    OPTION = "option"
    OPTIONS = "options"
    REF = "ref"
    ROWS = "rows"


class Write(StrEnum):
    """When a field may be written.  NEVER: the system computes it."""

    ALWAYS = "always"
    CREATE = "create"
    NEVER = "never"


class Lock(StrEnum):
    """REREAD: the system has no optimistic locking, so the engine fetches just before it writes."""

    NATIVE = "native"
    REREAD = "reread"


class Safe(StrEnum):
    """How a repeated create stays one record."""

    CLIENT_ID = "client_id"  # we choose the id
    REQUEST_KEY = "request_key"  # a repeat with the batch's key answers as the first one did
    UPSERT = "upsert"
    FIND = "find"  # look for the marker before a repeat


class Removal(StrEnum):
    """What "delete" can mean in this system at most."""

    DELETE = "delete"
    ARCHIVE = "archive"
    VOID = "void"
    NONE = "none"


class Returns(StrEnum):
    """What a write answers for each item."""

    VALUES = "values"
    VERSION = "version"
    ID = "id"


class Verb(StrEnum):
    """What an operation does to one record."""

    CREATE = "create"
    UPDATE = "update"
    ARCHIVE = "archive"
    RESTORE = "restore"
    DELETE = "delete"


class Result(StrEnum):
    """What became of one operation."""

    WRITTEN = "written"
    CONFLICT = "conflict"  # the record is no longer at the expected version
    EXISTS = "exists"  # another record is in the way; Outcome.id says which
    GONE = "gone"
    REJECTED = "rejected"  # the system will refuse it again
    LATER = "later"  # surely not done; may succeed later
    UNKNOWN = "unknown"  # may or may not be done


class ConnectorError(Exception):
    """Base class.  Catch this, never Exception, around a vendor call."""

    def __init__(self, message: str, *, code: str = "", vendor_id: str = "") -> None:
        super().__init__(message)
        self.code = code  # the system's own error code
        self.vendor_id = vendor_id  # the system's correlation id, for its support


class RetryableError(ConnectorError):
    """The same call may succeed later: time-out, 429, 502, 503.  `retry_after` is in seconds, None when not told."""

    def __init__(self, message: str, *, retry_after: float | None = None, code: str = "", vendor_id: str = "") -> None:
        super().__init__(message, code=code, vendor_id=vendor_id)
        self.retry_after = retry_after


class Unanswered(RetryableError):
    """No answer came, or one that does not say: a write may have been done.  Never repeat it blindly."""


class QuotaExhausted(RetryableError):
    """The budget of calls is used up until `retry_after` seconds from now.  Nothing was sent."""


class AuthError(ConnectorError):
    """The credentials no longer work: pause the connection and tell its owner."""


class PermanentError(ConnectorError):
    """The system refused the call and will refuse it again."""


class CursorExpired(ConnectorError):
    """The feed can't go on from here: read everything."""


class Forged(ConnectorError):
    """A webhook whose signature does not fit."""


@dataclass(frozen=True, slots=True)
class Ref:
    """Another record of the same system; `id` empty when only the unique `label` is known."""

    entity: str
    id: str
    label: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One child of a document (an invoice line); `id` may change at each write of the parent."""

    values: Values
    id: str = ""


@dataclass(frozen=True, slots=True)
class Option:
    """One choice: `key` goes over the wire and never changes, `label` is what people read and rename."""

    key: str
    label: str
    active: bool = True


@dataclass(frozen=True, slots=True)
class Field:
    """One value of a record, with all that mapping and pre-flight must know before a call is made."""

    name: str
    kind: Kind
    label: str = ""
    write: Write = Write.ALWAYS
    required: bool = False
    max_length: int | None = None  # characters
    scale: int | None = None  # digits after the point that survive a write
    resolution: timedelta | None = None  # of a time
    refers_to: tuple[str, ...] = ()  # several: polymorphic; the engine names one in Ref.entity
    rows: tuple[Field, ...] = ()  # kind ROWS: the child's fields
    options_by: str = ""  # record field on which the option list depends
    findable: bool = False  # may be asked for in `find`
    group: str = ""  # not in the feed; comes by `snapshot` (aging, balance, stock)


@dataclass(frozen=True, slots=True)
class Entity:
    """A kind of record and what its feed and its writes can and cannot do."""

    name: str
    fields: tuple[Field, ...]
    feed: str  # entities with one feed share one cursor
    tells_deletes: bool  # else absence from a listing, proved by `fetch`
    lock: Lock
    safe: Safe
    removal: Removal
    returns: Returns
    verbs: frozenset[Verb]
    page: int = 100  # records in one answer of the feed
    batch: int = 1  # operations in one request
    wants_current: bool = False  # an update must re-send more than what changed
    after: tuple[str, ...] = ()  # entities to write first
    scoped: bool = False  # `scope` narrows its reading
    resolution: timedelta = timedelta(0)  # of Record.modified
    marker: str = ""  # field that can carry the link's key
    version_tells_all: bool = True  # False: some values (a balance) change without a new version
    label: str = ""

    def field(self, name: str) -> Field | None:
        """Return the field called `name`, or None."""
        return next((f for f in self.fields if f.name == name), None)


@dataclass(frozen=True, slots=True)
class Limit:
    """A budget that all workers share; `name` is what a call is charged to (request, batch, report)."""

    name: str
    amount: int
    per: timedelta | None  # None: so many at the same time


@dataclass(frozen=True, slots=True)
class Identity:
    """Who we are there.  `instance` (realm, organization) must never change under a connection."""

    instance: str
    account: str
    may: Mapping[str, frozenset[Verb]]  # by entity; reading is implied by presence
    expires_at: datetime | None = None  # of what a person must renew
    remaining: Mapping[str, int] = field(default_factory=dict)  # by Limit.name, where the system says
    clock: datetime | None = None  # its time now, for the skew
    schema: str = ""  # changes when describe() or options() would


@dataclass(frozen=True, slots=True)
class Record:
    """A record as read.  `version` is compared for equality only; `modified` is the system's clock, UTC."""

    entity: str
    id: str
    values: Values
    version: str = ""
    modified: datetime | None = None
    archived: bool = False  # inactive, voided, in the recycle bin: still readable
    scope: str = ""  # where it is now (project, list), also when that differs from the asked one
    marker: str = ""  # the link's key, when the record carries it
    url: str = ""


@dataclass(frozen=True, slots=True)
class Gone:
    """Proof that a record is no more.  `into`: the record it was merged into."""

    entity: str
    id: str
    at: datetime | None = None
    into: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """One answer.  `cursor` is stored in the transaction that stages the page, never before."""

    cursor: str
    records: Sequence[Record] = ()
    gone: Sequence[Gone] = ()
    touched: Sequence[tuple[str, str]] = ()  # (entity, id) that changed but must be fetched (a child did)
    last: bool = False  # the round is complete
    gap: str = ""  # why something may be missing: the engine plans a comprehensive run


@dataclass(frozen=True, slots=True)
class Fetched:
    """Every asked id is in exactly one of the three; `hidden` is never taken for a delete."""

    records: Sequence[Record]
    gone: Sequence[Gone]
    hidden: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Operation:
    """One write.  `expect` is the version it was planned on; `current` is there if the entity wants it.

    A create of an entity with Safe.CLIENT_ID carries the id to use.
    """

    key: str  # at most 50 characters, the same at each repeat
    verb: Verb
    entity: str
    id: str = ""
    values: Values = field(default_factory=dict)
    expect: str = ""
    current: Record | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """Operations that go in one request; a repeat has the same key, items, order and values."""

    key: str
    operations: Sequence[Operation]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one operation.  No answer for it means UNKNOWN, never WRITTEN."""

    key: str
    result: Result
    id: str = ""  # EXISTS: id of the record that is in the way, where the system says
    version: str = ""
    values: Values | None = None  # as the system stored them; None: read them again
    modified: datetime | None = None
    field: str = ""
    code: str = ""
    message: str = ""  # the system's own code and words
    retry_at: datetime | None = None


@runtime_checkable
class Connector(Protocol):
    """A system that can be kept in agreement.  Raises ConnectorError for a call, Outcome for an item."""

    system: ClassVar[str]
    limits: ClassVar[Sequence[Limit]]

    def check(self) -> Identity:
        """Log in and say as whom, with which rights, until when."""

    def describe(self) -> Sequence[Entity]:
        """Entities of this very account, custom fields included."""

    def options(self, entity: str, field: str, of: str = "") -> Sequence[Option]:
        """Choices of a field, or records of a small list (terms, currencies, statuses of board `of`)."""

    def changes(
        self, feed: str, wanted: Mapping[str, frozenset[str]], cursor: str | None, scope: str = ""
    ) -> Iterator[Page]:
        """Read a feed from the cursor on; None: everything.  Raises CursorExpired."""

    def snapshot(self, entity: str, group: str, scope: str = "") -> Iterator[Page]:
        """Values of one field group for all records, keyed by record id (a report).  See KnowsAbsence."""

    def fetch(self, entity: str, ids: Sequence[str], fields: frozenset[str]) -> Fetched:
        """Present state of these records, whatever scope, filter or window they are in."""

    def find(self, entity: str, field: str, values: Sequence[str]) -> Iterator[Record]:
        """Records by a findable field: a marker before a repeated create, a name before a first one."""

    def write(self, batch: Batch) -> Sequence[Outcome]:
        """Send one request; answer for each item.  Raises Unanswered where nothing tells what was done."""


@runtime_checkable
class KnowsAbsence(Protocol):
    """Optional: a snapshot names only records that have something to tell (a report of who owes money)."""

    def absent(self, entity: str, group: str) -> Values | None:
        """Values of a record that the snapshot just read to its end does not name; None: that says nothing of it."""


@dataclass(frozen=True, slots=True)
class Heard:
    """The answer to give at once, and (instance, scope) pairs to mark; one call may concern many instances."""

    marks: Sequence[tuple[str, str]] = ()
    ids: Sequence[str] = ()  # the system's own id of each mark, in the same order; what was heard before is let go
    status: int = 204
    body: str = ""


@runtime_checkable
class Listens(Protocol):
    """Optional: the system can call us.  A call only says which scope to look at."""

    @classmethod
    def receive(
        cls, method: str, headers: Mapping[str, str], query: Mapping[str, str], body: bytes, keys: Sequence[str]
    ) -> Heard:
        """Verify by one of these keys, without I/O; raises Forged.  Of the class: one call may concern many connections."""


@runtime_checkable
class Subscribes(Listens, Protocol):
    """Optional: the system calls only while it is asked to."""

    def listen(self, url: str, until: datetime) -> datetime | None:
        """Make or renew all subscriptions; when to come again."""
