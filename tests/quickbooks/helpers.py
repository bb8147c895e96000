"""How do the tests say operations and readings in few words?"""

from __future__ import annotations

from connectors.contract import Batch, Operation, Outcome, Page, Record, Value, Verb
from connectors.quickbooks.bodies import all_fields
from connectors.quickbooks.connector import QuickBooks
from connectors.quickbooks.entities import FEED

ALL = {
    name: all_fields(name)
    for name in ("Customer", "Item", "Estimate", "Invoice", "CreditMemo", "SalesReceipt", "Payment")
}


def write(qb: QuickBooks, *operations: Operation, key: str = "") -> list[Outcome]:
    """Send one batch, named for its first operation if not told otherwise."""
    return list(qb.write(Batch(key or f"batch-{operations[0].key}", operations)))


def creating(key: str, entity: str = "Customer", **values: Value) -> Operation:
    return Operation(key, Verb.CREATE, entity, values=values)


def updating(key: str, record: Record | Outcome, values: dict[str, Value], entity: str = "Customer") -> Operation:
    current = record if isinstance(record, Record) else None
    return Operation(key, Verb.UPDATE, entity, record.id, values, expect=record.version, current=current)


def acting(key: str, verb: Verb, record: Record | Outcome, entity: str = "Customer") -> Operation:
    return Operation(key, verb, entity, record.id, expect=record.version)


def read_all(qb: QuickBooks, cursor: str | None = None, *entities: str) -> list[Page]:
    """Read one round of the feed."""
    wanted = {name: ALL[name] for name in entities or ("Customer",)}
    return list(qb.changes(FEED, wanted, cursor))


def records(pages: list[Page]) -> list[Record]:
    return [record for page in pages for record in page.records]


def fetch_one(qb: QuickBooks, entity: str, record_id: str) -> Record:
    [record] = qb.fetch(entity, [record_id], ALL[entity]).records
    return record
