"""How far has a table been read, and what comes next?  Change tracking, or modified times where that is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING
from urllib.parse import quote

from connectors.contract import AuthError, CursorExpired, Gone, Page, PermanentError
from connectors.dynamics365.entities import DOCUMENTS, declared
from connectors.dynamics365.errors import call_error, meaning, read_error
from connectors.dynamics365.schema import Json, objects
from connectors.dynamics365.values import Shape
from connectors.transport.types import Reply

if TYPE_CHECKING:
    from connectors.dynamics365.connector import Dynamics365

# Without change tracking a row is seen by its modified time, which is set before its transaction is committed: what a
# long one wrote shows up late, so each round goes back a little.
OVERLAP = timedelta(minutes=5)
_JUDGED = frozenset([400, 403, 404, 405, 410, 412])


@dataclass(frozen=True, slots=True)
class Part:
    """How far one table has been read."""

    link: str = ""  # next or delta link, followed to the letter
    delta: bool = False  # `link` begins a round
    since: str = ""  # by modified time: the round's lower bound
    start: str = ""  # by modified time: the server's time when the round began
    tracked: bool = True
    listing: bool = True  # the first round


@dataclass(frozen=True, slots=True)
class State:
    """What a cursor holds.  Another choice of columns needs a fresh link, so the choice stands in it."""

    wanted: str
    head: Part
    lines: Part | None = None  # a document's lines are a feed of their own, read after the headers
    at: str = "head"

    def text(self) -> str:
        """Write the cursor."""
        return json.dumps({"v": 1, **asdict(self)}, separators=(",", ":"))


def _read_state(cursor: str, wanted: str) -> State:
    try:
        held = json.loads(cursor)
        lines = Part(**held["lines"]) if held["lines"] else None
        state = State(held["wanted"], Part(**held["head"]), lines, held["at"])
    except (ValueError, TypeError, KeyError) as error:
        raise CursorExpired("the cursor is not one of Dynamics 365") from error
    if state.wanted != wanted:
        raise CursorExpired("other columns are wanted than the cursor was made for")
    return state


class FeedReader:
    """Reads one feed from a cursor to the end of the round."""

    def __init__(self, connector: Dynamics365, feed: str, wanted: frozenset[str], cursor: str | None) -> None:
        self.connector, self.feed, self.wanted = connector, feed, wanted
        choice = ",".join(sorted(wanted))
        self.whole = "details" in wanted and feed in DOCUMENTS
        if cursor:
            self.state = _read_state(cursor, choice)
        else:
            head = Part(tracked=connector.tracked(feed))
            lines = Part(tracked=connector.tracked(DOCUMENTS[feed])) if self.whole else None
            self.state = State(choice, head, lines)
        self.seen: set[str] = set()

    def pages(self) -> Iterator[Page]:
        """Yield the round's pages: headers, then (for documents whose lines are wanted) lines."""
        if self.state.at == "head":
            yield from self._head()
        if self.state.at == "lines":
            yield from self._lines()

    # The table itself

    def _shape(self) -> Shape:
        """Prepare the reading.  A delta round of declared columns needs no metadata: its link holds the choice."""
        fields = {f.name: f for f in declared(self.connector.prefix).get(self.feed, ())}
        if self.state.head.link and self.wanted <= fields.keys():
            chosen = [fields[name] for name in sorted(self.wanted)]
            marker = f"{self.connector.prefix}_linkkey"
            return Shape.of(self.feed, f"{self.feed}id", chosen, marker=marker, url=self.connector.address(self.feed))
        return self.connector.shape(self.feed, self.wanted)

    def _head(self) -> Iterator[Page]:
        shape = self._shape()
        while True:
            part = self.state.head
            content, part, done = self._next(self.feed, part, shape.select(), shape)
            rows = objects(content.get("value"))
            gone = [Gone(self.feed, str(row["id"])) for row in rows if "$deletedEntity" in _context(row)]
            found = [shape.record(row) for row in rows if "$deletedEntity" not in _context(row)]
            records = self.connector.with_lines(self.feed, self.wanted, found)
            self.seen.update(record.id for record in records)
            at = "lines" if done and self.state.lines is not None else "head"
            self.state = replace(self.state, head=part, at=at)
            last = done and self.state.lines is None
            yield Page(self.state.text(), records, gone, last=last)
            if done:
                return

    def _lines(self) -> Iterator[Page]:
        """Read which documents had a line changed.

        The first round only fetches the link: the headers' pages have just brought all lines.  A deleted line is told
        without its document; it shows in the header, whose totals the system raises anew.
        """
        entity = DOCUMENTS[self.feed]
        parent = f"_{self.feed}id_value"
        while True:
            part = self.state.lines or Part()
            listing = part.listing
            content, part, done = self._next(entity, part, f"{parent},modifiedon", None)
            rows = objects(content.get("value"))
            parents = dict.fromkeys(str(row[parent]) for row in rows if row.get(parent))
            touched = [] if listing else [(self.feed, p) for p in parents if p not in self.seen]
            self.state = replace(self.state, lines=part, at="head" if done else "lines")
            yield Page(self.state.text(), touched=touched, last=done)
            if done:
                return

    # One page of one table

    def _next(self, table: str, part: Part, select: str, shape: Shape | None) -> tuple[Json, Part, bool]:
        """Return (answer, how far that is, whether the round is complete)."""
        prefer = [f"odata.maxpagesize={self.connector.page_size}"]
        prefer += self.connector.annotations(shape) if shape is not None else []
        if part.tracked:
            reply = self._tracked(table, part, select, prefer)
            if reply is None:  # refused: by modified time from here on, and deletes are not told
                self.connector.untracked.add(table)
                part = replace(part, tracked=False)
        if not part.tracked:
            return self._by_time(table, part, select, prefer)
        content = self.connector.parse(reply)  # type: ignore[arg-type]
        link, delta = str(content.get("@odata.nextLink") or ""), str(content.get("@odata.deltaLink") or "")
        if not link and not delta:
            raise PermanentError(f"the feed of {table} has neither a next nor a delta link")
        listing = part.listing and not (part.delta and part.link)
        return content, replace(part, link=link or delta, delta=not link, listing=listing and bool(link)), not link

    def _tracked(self, table: str, part: Part, select: str, prefer: list[str]) -> Reply | None:
        if not part.link:
            url = f"{self.connector.table(table).set}?$select={select}"
            reply = self.connector.get(url, ["odata.track-changes", *prefer], known_failures=frozenset([400, 403]))
            return None if reply.status in {400, 403} else reply
        # Change tracking has to be preferred on each page of the first round; on a delta link it does no harm.
        reply = self.connector.get(part.link, ["odata.track-changes", *prefer], known_failures=_JUDGED)
        if reply.status >= 400:
            code, message = read_error(reply.body)
            if meaning(reply.status, code).call is AuthError:
                raise call_error(reply, self.connector.now())
            raise CursorExpired(f"the link was refused ({reply.status} {code}): {message}", code=code)
        return reply

    def _by_time(self, table: str, part: Part, select: str, prefer: list[str]) -> tuple[Json, Part, bool]:
        url = part.link
        if not url:
            url = f"{self.connector.table(table).set}?$select={select}"
            if part.since:
                where = quote(f"modifiedon ge {part.since}")
                url += f"&$filter={where}&$orderby=modifiedon%20asc"
        reply = self.connector.get(url, prefer)
        content = self.connector.parse(reply)
        start = part.start or _server_time(reply, self.connector.now())
        link = str(content.get("@odata.nextLink") or "")
        if link:
            return content, replace(part, link=link, start=start), False
        since = (datetime.fromisoformat(start) - OVERLAP).strftime("%Y-%m-%dT%H:%M:%SZ")
        return content, replace(part, link="", since=since, start="", listing=False), True


def _context(row: Json) -> str:
    return str(row.get("@odata.context", ""))


def _server_time(reply: Reply, now: datetime) -> str:
    text = reply.headers.get("date", "")
    moment = parsedate_to_datetime(text) if text else now
    return moment.astimezone(UTC).isoformat()
