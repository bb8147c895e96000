"""What does a read answer?  Rows, pages, delta rounds and annotations of the simulated environment."""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from urllib.parse import quote, unquote
from xml.sax.saxutils import quoteattr

from connectors.dynamics365.simulator_query import (
    Body,
    Compiler,
    Node,
    Parser,
    find_column,
    hints,
    read_order,
    sort_key,
)
from connectors.dynamics365.simulator_rows import LOOKUP_NAME, RowRules, missing
from connectors.dynamics365.simulator_tables import UNTRACKED, Column, Table
from connectors.dynamics365.simulator_wire import Answer, Ask, Refused, json_answer, split_outside
from connectors.simulation import StoredRecord

KNOWN_OPTIONS = frozenset(
    ["$select", "$filter", "$orderby", "$top", "$expand", "$count", "$skiptoken", "$deltatoken", "$format", "tag"]
)
MAX_PAGE = 5000
COUNT_CAP = 5000  # @odata.count and /$count never say more (sheet, section 3)
INDEXED_FROM = 500  # below that a scan is quicker than keeping an index
_FORMATTED = "OData.Community.Display.V1.FormattedValue"
_NAVIGATION = "Microsoft.Dynamics.CRM.associatednavigationproperty"
_LOOKUP = "Microsoft.Dynamics.CRM.lookuplogicalname"

Render = Callable[[StoredRecord], Body]


class Reader:
    """Answers queries, single rows and delta links."""

    def __init__(
        self, rules: RowRules, now: Callable[[], datetime], switches: dict[str, object], version: Callable[[], str]
    ) -> None:
        self.rules, self.store, self.now = rules, rules.store, now
        self.switches, self.version = switches, version

    # Choosing columns

    def columns(self, table: Table, select: str) -> list[str]:
        """Return the properties that $select means, with those that come along unasked (sheet, section 3)."""
        if not select:
            return list(table.wires)
        found: dict[str, None] = {}
        for name in select.split(","):
            column = find_column(table, name.strip())
            found[column.wire] = None
            if column.type == "money" and "transactioncurrencyid" in table.columns:
                found["_transactioncurrencyid_value"] = None
            if column.name.endswith("_line1") and column.name.replace("_line1", "_composite") in table.columns:
                found[column.name.replace("_line1", "_composite")] = None
        found[table.id] = None
        return list(found)

    def renderer(self, table: Table, names: Sequence[str], annotations: str) -> Render:
        """Return what turns a stored row into a body.  Columns without a value are there with null."""
        computed = [n for n in names if n == "versionnumber" or n.endswith("_composite")]
        plain = tuple(names)

        def simple(record: StoredRecord) -> Body:
            body = record.body
            row: Body = {"@odata.etag": f'W/"{record.version}"'}
            row.update((name, body.get(name)) for name in plain)
            for name in computed:
                row[name] = record.version if name == "versionnumber" else composite(body, name)
            return row

        wanted = [a.strip() for a in annotations.split(",") if a.strip()]
        if not wanted:
            return simple
        lookups = [table.wires[n] for n in names if table.wires[n].type == "lookup"]
        if wanted == [_LOOKUP]:
            # The one that a client needs for polymorphic lookups, kept quick.
            keys = [(c.wire, c.wire + LOOKUP_NAME) for c in lookups]

            def with_names(record: StoredRecord) -> Body:
                row = simple(record)
                for wire, key in keys:
                    if row[wire] is not None:
                        row[key] = record.body.get(key)
                return row

            return with_names
        return lambda record: self._annotate(table, simple(record), record, wanted)

    def _annotate(self, table: Table, row: Body, record: StoredRecord, wanted: list[str]) -> Body:
        def asked(name: str) -> bool:
            return any(w == "*" or w == name or (w.endswith(".*") and name.startswith(w[:-1])) for w in wanted)

        result: Body = {}
        for name, value in row.items():
            column = table.wires.get(name)
            if column is not None and value is not None:
                target = str(record.body.get(name + LOOKUP_NAME) or "")
                if column.type == "lookup" and asked(_NAVIGATION):
                    result[f"{name}@{_NAVIGATION}"] = column.navigation(target)
                if column.type == "lookup" and asked(_LOOKUP):
                    result[f"{name}@{_LOOKUP}"] = target
                text = self._formatted(column, value, target) if asked(_FORMATTED) else None
                if text is not None:
                    result[f"{name}@{_FORMATTED}"] = text
            result[name] = value
        return result

    def _formatted(self, column: Column, value: object, target: str) -> str | None:
        if column.type in {"pick", "state", "status"}:
            return next((label for key, label in column.options if key == value), None)
        if column.type == "lookup":
            other = self.rules.body(target, str(value))
            return None if other is None else str(other.get(self.rules.tables[target].primary) or "")
        if column.type == "boolean":
            return "Yes" if value else "No"
        if column.type == "money":
            return f"${float(str(value)):,.2f}"
        if column.type == "date":
            moment = datetime.fromisoformat(str(value))
            return f"{moment.month}/{moment.day}/{moment.year}"
        if column.type == "datetime":
            return datetime.fromisoformat(str(value)).strftime("%m/%d/%Y %I:%M %p")
        if column.type in {"integer", "decimal"}:
            return f"{value:,}"
        return None

    # One row

    def single(self, ask: Ask, table: Table, identity: str, keys: Body, *, status: int = 200) -> Answer:
        """Answer one row by id or key; If-None-Match may say that nothing changed (sheet, section 6)."""
        self.rules.allow("Read", table)
        self.check_options(ask)
        with self.store.lock:
            record = self.store.get(table.logical, identity)
            if record is None:
                raise missing(table, identity, keys)
            condition = ask.headers.get("if-none-match", "")
            plain = "$expand" not in ask.options and "odata.include-annotations" not in ask.prefer()
            if ask.method == "GET" and plain and condition == f'W/"{record.version}"':
                return Answer(304)
            names = self.columns(table, ask.options.get("$select", ""))
            row = self.renderer(table, names, ask.prefer().get("odata.include-annotations", ""))(record)
            self._expand(ask, table, [row], [record], in_set=False)
        context = f"{ask.root}$metadata#{table.set}{_context(ask)}/$entity"
        return json_answer({"@odata.context": context, **row}, status, {"ETag": f'W/"{record.version}"'})

    def check_options(self, ask: Ask) -> None:
        """Refuse query options that the Web API does not know; there is no $skip."""
        for name in ask.options:
            if name not in KNOWN_OPTIONS and name.startswith("$"):
                message = f"The query parameter {name} is not supported."
                raise Refused(400, "0x80060888", message)

    # Sets

    def rows(self, ask: Ask, table: Table, extra: Callable[[Body], bool] | None = None) -> Answer:
        """Answer a query over one table: a page, with a next link where there is more."""
        self.rules.allow("Read", table)
        self.check_options(ask)
        if "$deltatoken" in ask.options or "odata.track-changes" in ask.prefer():
            self._check_tracking(ask, table)
        if "$deltatoken" in ask.options:
            return self._delta(ask, table)
        top = self._top(ask)
        size = top or page_size(ask)
        cookie = read_cookie(ask.options.get("$skiptoken", ""))
        started = int(str(cookie.get("since", self.store.sequence)))
        with self.store.lock:
            found, more, last, total = self._select(ask, table, size, cookie, extra)
            names = self.columns(table, ask.options.get("$select", ""))
            render = self.renderer(table, names, ask.prefer().get("odata.include-annotations", ""))
            rows = [render(record) for record in found]
            self._expand(ask, table, rows, found, in_set=True)
        content: Body = {"@odata.context": f"{ask.root}$metadata#{table.set}{_context(ask)}"}
        if total is not None:
            content["@odata.count"] = min(total, COUNT_CAP)
        if ask.prefer().get("odata.include-annotations") == "*":
            over = total is not None and total > COUNT_CAP
            content["@Microsoft.Dynamics.CRM.totalrecordcount"] = -1 if over or total is None else total
            content["@Microsoft.Dynamics.CRM.totalrecordcountlimitexceeded"] = over
            content["@Microsoft.Dynamics.CRM.globalmetadataversion"] = self.version()
        content["value"] = rows
        tracking = "odata.track-changes" in ask.prefer()
        headers = {"Preference-Applied": "odata.track-changes"} if tracking else {}
        if more and not top:
            content["@odata.nextLink"] = next_link(ask, table, last, int(str(cookie.get("page", 1))) + 1, started)
        elif tracking:
            content["@odata.deltaLink"] = self._delta_link(ask, table, started)
        return json_answer(content, 200, headers)

    def _top(self, ask: Ask) -> int:
        text = ask.options.get("$top", "")
        if text and not text.isdigit():
            raise Refused(400, "0x0", f"Invalid value '{text}' for $top query option found.")
        return min(int(text or 0), MAX_PAGE)

    def _select(
        self, ask: Ask, table: Table, size: int, cookie: Body, extra: Callable[[Body], bool] | None
    ) -> tuple[list[StoredRecord], bool, list[object], int | None]:
        """Return (rows of this page, whether there are more, what the next page starts after, count if asked)."""
        rows = self.store.table(table.logical)
        counting = ask.options.get("$count") == "true"
        if ask.empty or not rows:
            return [], False, [], 0 if counting else None
        order = read_order(table, ask.options["$orderby"]) if "$orderby" in ask.options else []
        matching = self._matching(ask, table, extra)
        after = cookie.get("after")
        if not order:
            ids = self._ids_after(table, matching, str(after[0]) if isinstance(after, list) else "")
            page = list(islice((rows[i] for i in ids), size + 1))
            last: list[object] = [page[size - 1].id] if len(page) > size else []
        else:
            wires = [*(column.wire for column, _ in order), table.id]
            records = rows.values() if matching is None else [rows[i] for i in matching]
            keyed = [(sort_key(order, [r.body.get(w) for w in wires]), r) for r in records]
            if isinstance(after, list):
                start = sort_key(order, after)
                keyed = [item for item in keyed if start < item[0]]
            keyed.sort(key=lambda item: item[0])
            page = [record for _, record in keyed[: size + 1]]
            last = [page[size - 1].body.get(w) for w in wires] if len(page) > size else []
        total = (len(rows) if matching is None else len(matching)) if counting else None
        return page[:size], len(page) > size, last, total

    def _ids_after(self, table: Table, matching: list[str] | None, after: str) -> Iterator[str]:
        ids = self.rules.index(table.logical).ids if matching is None else matching
        return islice(ids, bisect_right(ids, after) if after else 0, None)

    def _matching(self, ask: Ask, table: Table, extra: Callable[[Body], bool] | None) -> list[str] | None:
        """Return the sorted ids that $filter lets through; None: all."""
        if "$filter" not in ask.options and extra is None:
            return None
        rows = self.store.table(table.logical)
        test = extra or (lambda body: True)
        candidates: Iterable[str] = rows
        if "$filter" in ask.options:
            node = Parser(ask.options["$filter"]).filter()
            compiled = Compiler(self.rules, self.now()).compile(table, node)
            candidates = self._candidates(table, node)
            test = compiled
            if extra is not None:
                candidates = [i for i in candidates if extra(rows[i].body)]
        return sorted(i for i in candidates if test(rows[i].body))

    def _candidates(self, table: Table, node: Node) -> Iterable[str]:
        rows = self.store.table(table.logical)
        for column, values in hints(table, node):
            if column.name == table.id:
                return [str(value) for value in values if value in rows]
            if len(rows) > INDEXED_FROM:
                by_value = self.rules.index(table.logical, column.wire).by_value
                return {identity for value in values for identity in by_value.get(value, ())}
        return rows

    def count(self, ask: Ask, table: Table) -> Answer:
        """Answer /$count: plain text, and never more than the cap."""
        self.rules.allow("Read", table)
        with self.store.lock:
            if "$deltatoken" in ask.options:
                since, _ = self._read_token(ask.options["$deltatoken"])
                total = len(self._changed(table, since, self.store.sequence))
            else:
                matching = self._matching(ask, table, None)
                total = len(self.store.table(table.logical)) if matching is None else len(matching)
        return Answer(200, f"\ufeff{min(total, COUNT_CAP)}".encode(), {"Content-Type": "text/plain; charset=utf-8"})

    # Change tracking (sheet, section 7)

    def _check_tracking(self, ask: Ask, table: Table) -> None:
        if not self.tracked(table):
            message = f"Change tracking is not enabled for the entity '{table.logical}'."
            raise Refused(400, "0x80072491", message)
        for name in ("$filter", "$orderby", "$expand", "$top"):
            if name in ask.options:
                message = f'The "{name}" query parameter isn\'t supported when Change Tracking is enabled.'
                raise Refused(400, "0x80060888", message)

    def tracked(self, table: Table) -> bool:
        """Say whether the table keeps changes: a switch takes it away from all of them, or from those that it names."""
        switch = self.switches.get("change_tracking", True)
        if isinstance(switch, bool):
            return switch and table.logical not in UNTRACKED
        return table.logical in set(switch)  # type: ignore[call-overload]

    def _delta_link(self, ask: Ask, table: Table, sequence: int) -> str:
        stamp = self.now().astimezone(UTC).strftime("%m/%d/%Y %H:%M:%S")
        select = f"$select={ask.options['$select']}&" if ask.options.get("$select") else ""
        return f"{ask.root}{table.set}?{select}$deltatoken={quote(f'{sequence}!{stamp}', safe='')}"

    def _read_token(self, text: str) -> tuple[int, datetime]:
        match = re.fullmatch(r"(\d+)!(\d\d/\d\d/\d{4} \d\d:\d\d:\d\d)", text)
        if match is None:
            raise Refused(400, "0x80060888", "The delta token is not valid.")
        at = datetime.strptime(match.group(2), "%m/%d/%Y %H:%M:%S").replace(tzinfo=UTC)
        organization = next(iter(self.store.table("organization").values()))
        days = int(str(organization.body["expirechangetrackingindays"]))
        if self.switches.get("expire_delta") or self.now() - at > timedelta(days=days):
            raise Refused(400, "0x80044352", "Version stamp associated with the client has expired.")
        return int(match.group(1)), at

    def _changed(self, table: Table, since: int, until: int) -> list[tuple[str, str]]:
        """Return (id, verb) of what changed in between: new and changed rows first, then deletes."""
        log = self.store.log
        start = bisect_right(log, since, key=lambda change: change.sequence)
        stop = bisect_right(log, until, key=lambda change: change.sequence)
        newest: dict[str, str] = {}
        for change in log[start:stop]:
            if change.entity == table.logical:
                newest.pop(change.id, None)
                newest[change.id] = change.verb
        return sorted(newest.items(), key=lambda item: item[1] == "delete")

    def _delta(self, ask: Ask, table: Table) -> Answer:
        since, _ = self._read_token(ask.options["$deltatoken"])
        cookie = read_cookie(ask.options.get("$skiptoken", ""))
        until = int(str(cookie.get("until", self.store.sequence)))
        place, size = int(str(cookie.get("place", 0))), page_size(ask)
        names = self.columns(table, ask.options.get("$select", ""))
        render = self.renderer(table, names, ask.prefer().get("odata.include-annotations", ""))
        deleted_context = f"{ask.root}$metadata#{table.set}/$deletedEntity"
        rows: list[Body] = []
        with self.store.lock:
            changed = [] if ask.empty else self._changed(table, since, until)
            live = self.store.table(table.logical)
            for identity, _verb in changed[place : place + size]:
                record = live.get(identity)  # a row deleted since the round began is told as deleted
                if record is None:
                    rows.append({"@odata.context": deleted_context, "id": identity, "reason": "deleted"})
                else:
                    rows.append(render(record))
        content: Body = {"@odata.context": f"{ask.root}$metadata#{table.set}{_context(ask)}/$delta"}
        if place + size < len(changed):
            page = int(str(cookie.get("page", 1))) + 1
            token = write_cookie({"page": page, "until": until, "place": place + size})
            content["@odata.nextLink"] = f"{ask.root}{table.set}?{_without(ask, '$skiptoken')}&$skiptoken={token}"
        else:
            content["@odata.deltaLink"] = self._delta_link(ask, table, until)
        content["value"] = rows
        return json_answer(content, 200, {"Preference-Applied": "odata.track-changes"})

    # $expand

    def _expand(
        self, ask: Ask, table: Table, rows: list[Body], records: Sequence[StoredRecord], *, in_set: bool
    ) -> None:
        text = ask.options.get("$expand", "")
        items = split_outside(text, ",") if text else []
        if len(items) > 15:  # from memory (sheet, section 3)
            raise Refused(400, "0x80060888", "Number of $expand entries exceeded the limit of 15.")
        for item in items:
            name, _, rest = item.strip().partition("(")
            options = dict(o.strip().partition("=")[::2] for o in split_outside(rest.removesuffix(")"), ";") if o)
            if name in table.navigations:
                self._expand_one(table, name, options, rows, records)
            elif name in table.collections:
                self._expand_many(ask, table, name, options, rows, in_set=in_set)
            else:
                message = f"Could not find a property named '{name}' on type 'Microsoft.Dynamics.CRM.{table.logical}'."
                raise Refused(400, "0x0", message)

    def _expand_one(
        self, table: Table, name: str, options: dict[str, str], rows: list[Body], records: Sequence[StoredRecord]
    ) -> None:
        lookup, target = table.navigations[name]
        other = self.rules.tables[target]
        render = self.renderer(other, self.columns(other, str(options.get("$select", ""))), "")
        for row, record in zip(rows, records, strict=True):
            fits = record.body.get(lookup.wire + LOOKUP_NAME) == target
            found = self.store.get(target, str(record.body.get(lookup.wire))) if fits else None
            row[name] = None if found is None else render(found)

    def _expand_many(
        self, ask: Ask, table: Table, name: str, options: dict[str, str], rows: list[Body], *, in_set: bool
    ) -> None:
        child, lookup = table.collections[name]
        other = self.rules.tables[child]
        render = self.renderer(other, self.columns(other, str(options.get("$select", ""))), "")
        test = None
        if options.get("$filter"):
            test = Compiler(self.rules, self.now()).compile(other, Parser(str(options["$filter"])).filter())
        stored = self.store.table(child)
        for row in rows:
            children = self.rules.children(child, lookup, str(row[table.id]))
            row[name] = [render(stored[str(body[other.id])]) for body in children if test is None or test(body)]
            if in_set:
                row[f"{name}@odata.nextLink"] = f"{ask.root}{table.set}({row[table.id]})/{name}"


def composite(body: Body, name: str) -> str | None:
    """Build an address in one text from its parts."""
    side = name.removesuffix("_composite")
    middle = " ".join(str(body[p]) for p in (f"{side}_stateorprovince", f"{side}_postalcode") if body.get(p))
    city = ", ".join(t for t in (str(body.get(f"{side}_city") or ""), middle) if t)
    lines = [str(body.get(f"{side}_{part}") or "") for part in ("line1", "line2", "line3")]
    return "\r\n".join(t for t in (*lines, city, str(body.get(f"{side}_country") or "")) if t) or None


def page_size(ask: Ask) -> int:
    """Return how many rows a page has: odata.maxpagesize, 5000 at most."""
    text = ask.prefer().get("odata.maxpagesize", "")
    return min(int(text), MAX_PAGE) if text.isdigit() and int(text) > 0 else MAX_PAGE


def _context(ask: Ask) -> str:
    return f"({ask.options['$select']})" if ask.options.get("$select") else ""


def _without(ask: Ask, name: str) -> str:
    pairs = [pair for pair in ask.query.split("&") if pair and unquote(pair.partition("=")[0]) != name]
    return "&".join(pairs)


def write_cookie(state: Body) -> str:
    """Write where the next page starts, in the vendor's form: an XML element whose attribute is encoded once more."""
    inner = quote(json.dumps(state), safe="")
    element = (
        f'<cookie pagenumber={quoteattr(str(state["page"]))} pagingcookie={quoteattr(inner)} istracking="False" />'
    )
    return quote(element, safe="/='()")


def read_cookie(text: str) -> Body:
    """Read a next link's $skiptoken."""
    if not text:
        return {}
    match = re.search(r'pagingcookie="([^"]*)"', text)
    try:
        state = json.loads(unquote(match.group(1))) if match else None
    except ValueError:
        state = None
    if not isinstance(state, dict):
        raise Refused(400, "0x80060888", "The paging token is not valid.")
    return state


def next_link(ask: Ask, table: Table, last: list[object], page: int, since: int) -> str:
    """Build the link to the next page."""
    query = _without(ask, "$skiptoken")
    token = write_cookie({"page": page, "after": last, "since": since})
    path = ask.path or table.set
    return f"{ask.root}{path}?{query}{'&' if query else ''}$skiptoken={token}"
