"""What has changed in a QuickBooks company?  A listing by query, then rounds of change data capture.

A cursor is JSON: `entities` it covers; `since`, from when the next round reads; `tasks` still to do in this round;
`next`, the `since` of the round after it; `listed`, when each entity was listed.  So another process can go on in the
middle of a round.

What guards a listing against page drift: rows are ordered by Id, so a new row comes last or moves others back
(read twice, harmless).  Deactivated rows stay, because inactive ones are asked for too.  Only a deleted transaction
moves rows forward past the border of two pages.  The next round starts at the START of the listing, so it re-reads
all that changed meanwhile and sees each such deletion: then it says by Page.gap that a row may have been left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, TypedDict, cast

from connectors.contract import CursorExpired, Gone, Page, PermanentError, Record, Unanswered
from connectors.quickbooks.bodies import Body, when
from connectors.quickbooks.entities import ENTITIES, FEED, LISTS, PAGE

if TYPE_CHECKING:
    from connectors.quickbooks.connector import QuickBooks

__all__ = ["FEED", "id_in", "read"]

LOOK_BACK = timedelta(days=30)  # section 8
BALANCES = frozenset({"Balance", "BalanceWithJobs"})
_ID = re.compile(r"\bId\s*=\s*(\d+)")


class Task(TypedDict, total=False):
    """One thing to read: `list` or `query` one entity from `position` on, or `cdc` several entities."""

    list: str
    query: str
    position: int
    cdc: list[str]


class Cursor(TypedDict):
    """How far the feed has been read."""

    entities: list[str]
    since: str
    next: str
    tasks: list[Task]
    listed: dict[str, list[str]]


def id_in(detail: str) -> str:
    """Return the id that the detail of a fault names ("... Id=123"), or ""."""
    found = _ID.search(detail)
    return found.group(1) if found else ""


def read(connector: QuickBooks, wanted: Mapping[str, frozenset[str]], cursor: str | None) -> Iterator[Page]:
    """Yield the pages of one round."""
    unknown = [name for name in wanted if name not in ENTITIES]
    if unknown:
        raise PermanentError(f"QuickBooks has no entity {unknown[0]!r} in its feed")
    state = _started(wanted) if cursor is None else _resumed(connector, wanted, cursor)
    while state["tasks"]:
        yield _step(connector, wanted, state)


def _started(wanted: Mapping[str, frozenset[str]]) -> Cursor:
    tasks: list[Task] = [{"list": name, "position": 1} for name in ENTITIES if name in wanted]
    return {"entities": sorted(wanted), "since": "", "next": "", "tasks": tasks, "listed": {}}


def _resumed(connector: QuickBooks, wanted: Mapping[str, frozenset[str]], cursor: str) -> Cursor:
    try:
        state = cast("Cursor", json.loads(cursor))
        covered = set(state["entities"])
    except (ValueError, KeyError, TypeError) as error:
        raise CursorExpired("this is no cursor of the QuickBooks feed") from error
    if not wanted.keys() <= covered:
        # What was never listed would stay unknown until somebody edits it.
        raise CursorExpired("the cursor does not cover " + ", ".join(sorted(wanted.keys() - covered)))
    state["entities"] = sorted(wanted)
    if not state["tasks"]:
        state["tasks"] = [{"cdc": [name for name in ENTITIES if name in wanted]}]
        state["next"] = ""
    since = when(state["since"])
    if since is not None and connector.now() - since > LOOK_BACK:
        raise CursorExpired(f"QuickBooks tells changes of the last 30 days, and the last read was {since:%Y-%m-%d}")
    return state


def _step(connector: QuickBooks, wanted: Mapping[str, frozenset[str]], state: Cursor) -> Page:
    """Do the first task and return its page, with the cursor that comes after it."""
    task = state["tasks"].pop(0)
    if "cdc" in task:
        page = _captured(connector, wanted, state, [name for name in task["cdc"] if name in wanted])
    else:
        page = _listed(connector, wanted, state, task)
    last = not state["tasks"]
    if last:
        state["since"], state["next"] = state["next"], ""
        if "list" not in task:
            state["listed"] = {}  # judged by this round; only the one after a listing looks at it
    return Page(json.dumps(state), page.records, page.gone, page.touched, last, page.gap)


def _began(state: Cursor, answer: Body) -> None:
    """Note the time of the round's first answer: what is committed after it belongs to the next round."""
    at = when(answer.get("time"))
    if at is None:
        raise Unanswered("QuickBooks answered without its time")
    state["next"] = state["next"] or at.isoformat()


def _since(connector: QuickBooks, state: Cursor) -> str:
    since = when(state["since"])
    if since is None:
        raise CursorExpired("this cursor of the QuickBooks feed has no time")
    return (since - connector.overlap).isoformat(timespec="seconds")


def _listed(connector: QuickBooks, wanted: Mapping[str, frozenset[str]], state: Cursor, task: Task) -> Page:
    """Read one page of rows: all, or (task `query`) those changed since."""
    entity = task.get("list") or task["query"]
    if entity not in wanted:
        return Page("")
    conditions = ["Active IN (true,false)"] if entity in LISTS else []
    if "query" in task:
        conditions.append(f"MetaData.LastUpdatedTime >= '{_since(connector, state)}'")
    where = f"WHERE {' AND '.join(conditions)} " if conditions else ""
    position = task["position"]
    paging = f"ORDERBY Id STARTPOSITION {position} MAXRESULTS {PAGE}"
    answer = connector.query_answer(f"SELECT * FROM {entity} {where}{paging}")  # noqa: S608  our own names and numbers
    _began(state, answer)
    response = cast("Body", answer.get("QueryResponse") or {})
    rows = cast("list[Body]", response.get(entity) or [])
    if len(rows) >= PAGE:
        # The entity's next page comes before the next entity, so that an entity is read in the shortest time.
        state["tasks"].insert(0, {**task, "position": position + PAGE})
    if "list" in task and (len(rows) >= PAGE or position > 1):
        span = state["listed"].setdefault(entity, [str(answer["time"]), ""])
        span[1] = str(answer["time"])
    records = connector.records(entity, rows, wanted[entity])
    touched = _touched(wanted, {entity: rows}, records) if "query" in task else ()
    gap = f"more than {PAGE} changes of {entity}: deletions may be missing" if "query" in task else ""
    return Page("", records, touched=touched, gap=gap)


def _captured(
    connector: QuickBooks, wanted: Mapping[str, frozenset[str]], state: Cursor, entities: Sequence[str]
) -> Page:
    """Read what changed in these entities; at the cap of one answer, split the question instead."""
    if not entities:
        return Page("")
    try:
        answer = connector.get("cdc", entities=",".join(entities), changedSince=_since(connector, state))
    except PermanentError as error:
        # The one thing in this call that can be refused is the time, as too long ago (section 8).
        raise CursorExpired(str(error), code=error.code, vendor_id=error.vendor_id) from error
    _began(state, answer)
    found = _by_entity(answer, entities)
    if sum(len(rows) for rows in found.values()) >= PAGE:
        if len(entities) > 1:
            middle = len(entities) // 2
            state["tasks"][:0] = [{"cdc": list(entities[:middle])}, {"cdc": list(entities[middle:])}]
            return Page("")
        # What the capped answer tells of deletions is kept: the query can't tell them.
        state["tasks"].insert(0, {"query": entities[0], "position": 1})
        found = {name: [row for row in rows if row.get("status") == "Deleted"] for name, rows in found.items()}
    records: list[Record] = []
    gone: list[Gone] = []
    for name, rows in found.items():
        gone += [_gone(name, row) for row in rows if row.get("status") == "Deleted"]
        records += connector.records(name, [row for row in rows if row.get("status") != "Deleted"], wanted[name])
    return Page("", records, gone, _touched(wanted, found, records), gap=_drift(state, gone))


def _by_entity(answer: Body, entities: Sequence[str]) -> dict[str, list[Body]]:
    """Return the objects by entity; names are looked at, because an empty place has none."""
    found: dict[str, list[Body]] = {name: [] for name in entities}
    responses = answer.get("CDCResponse")
    if not isinstance(responses, list):
        raise Unanswered("QuickBooks answered the change read without a result")
    for response in responses:
        for part in response.get("QueryResponse") or []:
            for name in entities:
                found[name] += part.get(name) or []
    return found


def _gone(entity: str, row: Body) -> Gone:
    meta = cast("Body", row.get("MetaData") or {})
    return Gone(entity, str(row["Id"]), when(meta.get("LastUpdatedTime")))


def _touched(
    wanted: Mapping[str, frozenset[str]], found: Mapping[str, Sequence[Body]], records: Sequence[Record]
) -> tuple[tuple[str, str], ...]:
    """Name the customers whose balance a changed transaction may have moved: their own time need not tell it."""
    if not BALANCES & wanted.get("Customer", frozenset()):
        return ()
    read_already = {record.id for record in records if record.entity == "Customer"}
    customers: dict[str, None] = {}
    for entity, rows in found.items():
        for row in rows:
            reference = row.get("CustomerRef") if entity not in LISTS else None
            if isinstance(reference, dict) and str(reference.get("value")) not in read_already:
                customers[str(reference["value"])] = None
    return tuple(("Customer", customer) for customer in customers)


def _drift(state: Cursor, gone: Sequence[Gone]) -> str:
    """Say when rows may have been left out of the listing before this round (see the module's docstring)."""
    moved: dict[str, None] = {}
    for each in gone:
        start, end = (when(text) for text in state["listed"].get(each.entity, ["", ""]))
        if start and end and (each.at is None or start.replace(microsecond=0) <= each.at <= end):
            moved[each.entity] = None
    return f"deleted while being listed: {', '.join(moved)}; rows may have been left out" if moved else ""
