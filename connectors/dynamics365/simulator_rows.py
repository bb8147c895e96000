"""What may be written, and what does the system make of it?  The write rules of the simulated environment."""

from __future__ import annotations

import random
import re
import uuid
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_UP, Decimal

from connectors.dynamics365.simulator_query import Body
from connectors.dynamics365.simulator_tables import DETAILS, READ_ONLY_STATES, STATELESS, Column, Table
from connectors.dynamics365.simulator_wire import Refused
from connectors.simulation import Store, StoredRecord

LOOKUP_NAME = "@Microsoft.Dynamics.CRM.lookuplogicalname"
_GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_BIND = re.compile(r"(?:.*/)?([A-Za-z_0-9]+)\((.*)\)", re.DOTALL)
_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,), "memo": (str,), "multi": (str,), "money": (int, float), "decimal": (int, float),
    "integer": (int,), "bigint": (int,), "boolean": (bool,), "date": (str,), "datetime": (str,), "pick": (int,),
    "state": (int,), "status": (int,), "id": (str,),
}  # fmt: skip
COUNTERS = {"invoice": ("invoicenumber", "INV"), "salesorder": ("ordernumber", "ORD"), "quote": ("quotenumber", "QUO")}


class Index:
    """Row ids by one column's value, or all ids in order; follows the change log."""

    def __init__(self, store: Store, entity: str, wire: str = "") -> None:
        self.store, self.entity, self.wire = store, entity, wire
        self.ids: list[str] = []
        self.by_value: dict[object, set[str]] = {}
        self.value_of: dict[str, object] = {}
        self.place = -1

    def catch_up(self) -> Index:
        """Take in what changed since the last use."""
        log, table = self.store.log, self.store.table(self.entity)
        if self.place == len(log):
            return self
        if self.place < 0 or len(log) - self.place > 2000:
            self._rebuild(table)
        else:
            for identity in {change.id for change in log[self.place :] if change.entity == self.entity}:
                self._forget(identity)
                if identity in table:
                    self._learn(identity, table[identity].body)
        self.place = len(log)
        return self

    def _rebuild(self, table: dict[str, StoredRecord]) -> None:
        self.by_value, self.value_of = {}, {}
        if not self.wire:
            self.ids = sorted(table)
            return
        for identity, record in table.items():
            self._learn(identity, record.body)

    def _forget(self, identity: str) -> None:
        if not self.wire:
            at = bisect_left(self.ids, identity)
            if at < len(self.ids) and self.ids[at] == identity:
                del self.ids[at]
        elif identity in self.value_of:
            self.by_value[self.value_of.pop(identity)].discard(identity)

    def _learn(self, identity: str, body: Body) -> None:
        if not self.wire:
            insort(self.ids, identity)
            return
        value = body.get(self.wire)
        if value is not None:
            value = value.casefold() if isinstance(value, str) else value
            self.value_of[identity] = value
            self.by_value.setdefault(value, set()).add(identity)


class RowRules:
    """Creates, changes and deletes rows as Dataverse would."""

    def __init__(
        self, store: Store, tables: dict[str, Table], seed: int, count: Callable[[str], None], switches: Body
    ) -> None:
        self.switches = switches
        self.store, self.tables, self.count = store, tables, count
        self.sets = {table.set: table for table in tables.values()}
        self.random = random.Random(seed)
        self.base_currency = ""
        self.indexes: dict[tuple[str, str], Index] = {}
        self.numbers: dict[str, int] = {}
        self._second = (0, "")
        self._undo: list[tuple[str, str, StoredRecord | None, object]] | None = None

    # Looking up

    def body(self, table: str, record_id: str) -> Body | None:
        """Return one row's columns."""
        record = self.store.get(table, record_id)
        return None if record is None else record.body

    def index(self, entity: str, wire: str = "") -> Index:
        """Return an index that is up to date; without `wire`, the one of all ids in order."""
        found = self.indexes.get((entity, wire))
        if found is None:
            found = self.indexes[entity, wire] = Index(self.store, entity, wire)
        return found.catch_up()

    def children(self, table: str, lookup: str, parent_id: str) -> Iterable[Body]:
        """Return the rows of `table` whose lookup points at the parent."""
        found = self.index(table, self.tables[table].columns[lookup].wire).by_value.get(parent_id, set())
        rows = self.store.table(table)
        return [rows[identity].body for identity in sorted(found)]

    def new_id(self) -> str:
        """Return the next id of this environment's own making; the same seed gives the same ids."""
        return str(uuid.UUID(int=self.random.getrandbits(128), version=4))

    def resolve_key(self, table: Table, text: str) -> tuple[str, dict[str, object]]:
        """Return (id, key columns) for what stands in the brackets; the id is empty when no row has the key."""
        plain = text.strip().lower()
        if _GUID.fullmatch(plain):
            return plain, {}
        found = re.finditer(r"([A-Za-z_0-9]+)=('(?:[^']|'')*'|[^,]+)", text)
        pairs = {m.group(1): m.group(2).strip() for m in found}
        if list(pairs) == [table.id]:
            return pairs[table.id].strip("'").lower(), {}
        columns = frozenset(name for name in pairs if name in table.wires)
        declared = [frozenset(table.columns[c].wire for c in key) for key in table.keys.values()]
        if not pairs or columns not in declared or len(columns) != len(pairs):
            raise Refused(
                400, "0x80060888",
                f"The key in the request URI is not valid for resource 'Microsoft.Dynamics.CRM.{table.logical}'. "
                "Ensure that the names and number of key properties match the declared or alternate key properties "
                f"for the resource 'Microsoft.Dynamics.CRM.{table.logical}'.",
            )  # fmt: skip
        values = {n: v[1:-1].replace("''", "'") if v.startswith("'") else v for n, v in pairs.items()}
        return self._find_by(table, values), dict(values)

    def _find_by(self, table: Table, values: dict[str, str]) -> str:
        found: set[str] | None = None
        for wire, value in values.items():
            ids = self.index(table.logical, wire).by_value.get(value.casefold(), set())
            found = ids if found is None else found & ids
        return next(iter(found), "") if found else ""

    # Writing

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing.  Commits are counted at the end; inner transactions belong to the outer one."""
        with self.store.lock:
            if self._undo is not None:
                yield
                return
            self._undo, mark = [], len(self.store.log)
            try:
                yield
                for change in self.store.log[mark:]:
                    if change.by == "api":
                        self.count(change.verb)
            except Refused:
                self._roll_back(mark)
                raise
            finally:
                self._undo = None

    def _roll_back(self, mark: int) -> None:
        for entity, identity, old, latest in reversed(self._undo or []):
            if old is None:
                self.store.table(entity).pop(identity, None)
            else:
                self.store.table(entity)[identity] = old
            if latest is None:
                self.store.latest.get(entity, {}).pop(identity, None)
            else:
                self.store.latest[entity][identity] = latest  # type: ignore[assignment]
        if len(self.store.log) > mark:
            del self.store.log[mark:]
            self.indexes.clear()

    def put(self, table: Table, identity: str, body: Body, by: str) -> None:
        """Store a row, stamped; a transaction remembers what was there."""
        entity = table.logical
        if self._undo is not None:
            old = self.store.latest.get(entity, {}).get(identity)
            self._undo.append((entity, identity, self.store.get(entity, identity), old))
        stamp = self._stamp()
        body["modifiedon"] = stamp
        body.setdefault("createdon", stamp)
        self.store.put(entity, identity, body, by=by)

    def _stamp(self) -> str:
        second = int(self.store.now().timestamp())
        if second != self._second[0]:
            self._second = second, datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return self._second[1]

    def create(
        self, table: Table, payload: Body, *, by: str = "api", parent: Body | None = None, nested: bool = False
    ) -> str:
        """Create a row, with its children where they are nested.  Returns the id."""
        self.allow("Create", table)
        with self.transaction():
            values, children = self._read(table, payload, creating=True)
            values.update(parent or {})
            identity = str(values.get(table.id) or self.new_id())
            if self.store.get(table.logical, identity) is not None:
                raise Refused(412, "0x80040237", "A record with matching key values already exists.")
            values[table.id] = identity
            for name in table.booleans():
                values.setdefault(name, False)
            self._require(table, values)
            self._set_state(table, values, None)
            self._number(table, values)
            self._check_keys(table, values, identity)
            self._compute(table, values, None)
            self.put(table, identity, {n: v for n, v in values.items() if v is not None}, by)
            for child, lookup, rows in children:
                column = self.tables[child].columns[lookup]
                link: Body = {column.wire: identity, column.wire + LOOKUP_NAME: table.logical}
                for row in rows:
                    self.create(self.tables[child], row, by=by, parent=link, nested=True)
            if not nested:  # the parent adds up its lines once, at its end
                self._roll_up(table, values)
        return identity

    def update(self, table: Table, identity: str, payload: Body, *, by: str = "api") -> None:
        """Change some columns of a row that is there."""
        self.allow("Write", table)
        with self.transaction():
            old = self.store.table(table.logical)[identity].body
            values, _ = self._read(table, payload, creating=False)
            if values.get(table.id, identity) != identity:
                raise Refused(400, "0x80040203", f"The primary key '{table.id}' cannot be changed.")
            body = {**old, **values}
            self._set_state(table, body, old, asked=values)
            closed = old.get("statecode") in READ_ONLY_STATES.get(table.logical, ())
            if closed and set(values) - {"statecode", "statuscode"} and by == "api":
                raise Refused(400, "0x80040203", f"The {table.logical} is read-only in its present state.")
            self._check_keys(table, values, identity)
            self._compute(table, body, old)
            self.put(table, identity, {n: v for n, v in body.items() if v is not None}, by)
            self._roll_up(table, body)

    def delete(self, table: Table, identity: str, *, by: str = "api") -> None:
        """Delete a row and the lines that belong to it."""
        self.allow("Delete", table)
        with self.transaction():
            body = dict(self.store.table(table.logical)[identity].body)
            for child, lookup in DETAILS.items():
                if lookup == table.id:
                    for row in list(self.children(child, lookup, identity)):
                        self._remove(self.tables[child], str(row[self.tables[child].id]), "system")
            self._remove(table, identity, by)
            self._roll_up(table, body)

    def _remove(self, table: Table, identity: str, by: str) -> None:
        entity = table.logical
        if self._undo is not None:
            old = self.store.latest.get(entity, {}).get(identity)
            self._undo.append((entity, identity, self.store.get(entity, identity), old))
        self.store.delete(entity, identity, by=by)

    def allow(self, verb: str, table: Table) -> None:
        """Refuse what the switch `denied` takes away (privilege names such as prvWriteAccount)."""
        denied = self.switches.get("denied")
        if not denied:
            return
        privilege = f"prv{verb}{table.logical if table.custom else table.logical.capitalize()}"
        if privilege in denied:  # type: ignore[operator]
            raise Refused(
                403, "0x80040220",
                f"Principal user (Id=00000000-0000-0000-0000-00000000abcd, type=8) is missing {privilege} privilege "
                f"(Id=00000000-0000-0000-0000-000000000001) on OTC={table.code} for entity '{table.logical}'.",
            )  # fmt: skip

    # Reading a payload

    def _read(self, table: Table, payload: Body, *, creating: bool) -> tuple[Body, list[tuple[str, str, list[Body]]]]:
        values: Body = {}
        children: list[tuple[str, str, list[Body]]] = []
        for name, value in payload.items():
            if name.endswith("@odata.bind"):
                self._bind(table, name.removesuffix("@odata.bind"), value, values)
            elif "@" in name:
                continue
            elif name in table.collections and isinstance(value, list):
                children.append((*table.collections[name], value))
            else:
                self._read_column(table, name, value, values, creating=creating)
        return values, children

    def _read_column(self, table: Table, name: str, value: object, values: Body, *, creating: bool) -> None:
        column = table.columns.get(name)
        if column is not None and column.type == "lookup" and value is None:
            values[column.wire] = values[column.wire + LOOKUP_NAME] = None
            return
        if column is None or column.type == "lookup":
            raise Refused(
                400, "0x80048d19",
                f"Error identified in Payload provided by the user for Entity :'{table.set}', For more information on "
                "this error please follow this help link https://go.microsoft.com/fwlink/?linkid=2195293  ----> "
                f"InnerException : Microsoft.OData.ODataException: The property '{name}' does not exist on type "
                f"'Microsoft.Dynamics.CRM.{table.logical}'.",
            )  # fmt: skip
        if column.readonly or (column.create_only and not creating and name != table.id):
            return  # values that the system computes are taken without a word and ignored
        values[name] = None if value is None or value == "" else self.check_value(table, column, value)

    def check_value(self, table: Table, column: Column, value: object) -> object:
        """Return the value as it is stored.  Raises with the system's words where it does not fit."""
        good = isinstance(value, _TYPES[column.type]) and (column.type == "boolean" or not isinstance(value, bool))
        if not good:
            raise Refused(
                400, "0x80048d19",
                f"Error identified in Payload provided by the user for Entity :'{table.set}': Cannot convert the "
                f"literal '{value}' to the expected type of the property '{column.name}'.",
            )  # fmt: skip
        if column.type in {"string", "memo"} and len(str(value)) > column.size:
            raise Refused(
                400, "0x80044331",
                f"A validation error occurred.  The length of the '{column.name}' attribute of the '{table.logical}' "
                f"entity exceeded the maximum allowed length of '{column.size}'.",
            )  # fmt: skip
        if column.type in {"pick", "state", "status"} and value not in [key for key, _ in column.options]:
            accepted = ",".join(str(key) for key, _ in column.options)
            raise Refused(
                400, "0x80044330",
                f"A validation error occurred.  The value {value} of '{column.name}' on record of type "
                f"'{table.logical}' is outside the valid range. Accepted Values: {accepted}",
            )  # fmt: skip
        return self._normal(table, column, value)

    def _normal(self, table: Table, column: Column, value: object) -> object:
        try:
            if column.type == "date":
                return date.fromisoformat(str(value)[:10]).isoformat()
            if column.type == "datetime":
                return datetime.fromisoformat(str(value)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            if column.type == "id":
                return str(uuid.UUID(str(value)))
        except ValueError as error:
            raise Refused(
                400, "0x80048d19",
                f"Error identified in Payload provided by the user for Entity :'{table.set}': Cannot convert the "
                f"literal '{value}' to the expected type of the property '{column.name}'.",
            ) from error  # fmt: skip
        if column.type in {"money", "decimal"}:
            return to_number(Decimal(str(value)), column.size)
        return value

    def _bind(self, table: Table, navigation: str, value: object, values: Body) -> None:
        found = table.navigations.get(navigation)  # schema names: the case counts
        if found is None:
            raise Refused(
                400, "0x80048d19",
                f"Error identified in Payload provided by the user for Entity :'{table.set}': An undeclared property "
                f"'{navigation}' which only has property annotations in the payload but no property value was found.",
            )  # fmt: skip
        column, target = found
        if value is None:
            values[column.wire] = values[column.wire + LOOKUP_NAME] = None
            return
        match = _BIND.fullmatch(str(value).strip())
        if match is None or match.group(1) not in self.sets:
            raise Refused(400, "0x80048d19", f"Resource not found for the segment '{value}'.")
        pointed = self.sets[match.group(1)]
        if pointed.logical != target:
            message = f"The entity set '{pointed.set}' does not fit the navigation property '{navigation}'."
            raise Refused(400, "0x80048d19", message)
        identity, keys = self.resolve_key(pointed, match.group(2))
        if self.store.get(pointed.logical, identity) is None:
            raise missing(pointed, identity, keys)
        values[column.wire] = identity
        values[column.wire + LOOKUP_NAME] = pointed.logical

    # What the system makes of it

    def _require(self, table: Table, values: Body) -> None:
        for column in table.columns.values():
            if column.required == "system" and not column.readonly and values.get(column.wire) is None:
                raise Refused(400, "0x80040203", f"The required field '{column.name}' is missing.")

    def _set_state(self, table: Table, body: Body, old: Body | None, asked: Body | None = None) -> None:
        if table.logical in STATELESS:
            return
        given = body if asked is None else asked
        state, status = given.get("statecode"), given.get("statuscode")
        if state is None and old is None:
            state = (
                0 if table.logical == "product" and self.switches.get("products_born_active") else table.states[0][0]
            )
        elif state is None:
            state = old.get("statecode") if old else None
        if status is None:
            moved = old is None or state != old.get("statecode")
            default = next(default for value, _, default in table.states if value == state)
            status = default if moved else (old or {}).get("statuscode")
        if (status, state) not in [(value, of) for value, _, of in table.statuses]:
            message = f"{status} is not a valid status code for state code {state} on {table.logical}."
            raise Refused(400, "0x80048408", message)
        body["statecode"], body["statuscode"] = state, status

    def _number(self, table: Table, values: Body) -> None:
        if table.logical in COUNTERS:
            name, prefix = COUNTERS[table.logical]
            if values.get(name) is None:
                self.numbers[table.logical] = self.numbers.get(table.logical, 1000) + 1
                values[name] = f"{prefix}-{self.numbers[table.logical]:05}"

    def _check_keys(self, table: Table, values: Body, identity: str) -> None:
        unique = [*table.keys.values(), *([("productnumber",)] if table.logical == "product" else [])]
        for key in unique:
            wires = [table.columns[name].wire for name in key]
            if any(values.get(wire) is None for wire in wires):
                continue
            other = self._find_by(table, {wire: str(values[wire]) for wire in wires})
            if other not in {"", identity}:
                message = f"A record that has the attribute values {', '.join(key)} already exists."
                raise Refused(412, "0x80060892", message)

    def _compute(self, table: Table, body: Body, old: Body | None) -> None:
        if table.logical == "contact":
            names = [str(body[n]) for n in ("firstname", "middlename", "lastname") if body.get(n)]
            body["fullname"] = " ".join(names) or None
        if table.logical in DETAILS:
            self._compute_line(table, body)
        if table.logical == "annotation":
            self._compute_note(body)
        if "exchangerate" in table.columns and table.logical != "transactioncurrency":
            self._compute_money(table, body, old)

    def _compute_line(self, table: Table, body: Body) -> None:
        amount = {
            n: Decimal(str(body.get(n) or 0)) for n in ("quantity", "priceperunit", "manualdiscountamount", "tax")
        }
        base = amount["quantity"] * amount["priceperunit"]
        body["baseamount"] = to_number(base, 4)
        body["extendedamount"] = to_number(base - amount["manualdiscountamount"] + amount["tax"], 4)
        name = body.get("productdescription")
        product = self.body("product", str(body.get("_productid_value")))
        body[f"{table.logical}name"] = name or (product or {}).get("name")

    def _compute_note(self, body: Body) -> None:
        content = str(body.get("documentbody") or "")
        size = len(content) * 3 // 4 - content[-2:].count("=")
        limit = next(iter(self.store.table("organization").values())).body["maxuploadfilesize"]
        if size > int(str(limit)):
            message = f"Attachment file size is too big: {size} bytes, the maximum is {limit} bytes."
            raise Refused(400, "0x80044a02", message)
        body["filesize"] = size if content else None
        body["isdocument"] = bool(body.get("isdocument")) or bool(content)

    def _compute_money(self, table: Table, body: Body, old: Body | None) -> None:
        money = [c.name for c in table.columns.values() if c.type == "money" and not c.name.endswith("_base")]
        has_money = any(body.get(name) is not None for name in money)
        currency = body.get("_transactioncurrencyid_value")
        if currency is None and has_money:
            currency = self.base_currency
            body["_transactioncurrencyid_value"] = currency
            body["_transactioncurrencyid_value" + LOOKUP_NAME] = "transactioncurrency"
        before = (old or {}).get("_transactioncurrencyid_value")
        if old and before not in {None, currency} and any(old.get(name) is not None for name in money):
            # From memory (sheet, section 13): the currency is fixed once there are amounts.
            raise Refused(400, "0x80040203", "The 'transactioncurrencyid' cannot change while money columns are set.")
        row = self.body("transactioncurrency", str(currency)) if currency else None
        if row is None:
            return
        rate = Decimal(str(row.get("exchangerate") or 1))
        body["exchangerate"] = to_number(rate, 10)
        for name in money:
            if f"{name}_base" in table.columns:
                value = body.get(name)
                body[f"{name}_base"] = None if value is None else to_number(Decimal(str(value)) / rate, 4)

    def _roll_up(self, table: Table, body: Body) -> None:
        """Raise a document's totals from its lines, and touch it only where they differ."""
        lookup = DETAILS.get(table.logical)
        is_parent = table.logical in COUNTERS
        if lookup is None and not is_parent:
            return
        parent = self.tables[lookup.removesuffix("id")] if lookup else table
        identity = str(body.get(f"_{lookup}_value") if lookup else body[table.id])
        record = self.store.get(parent.logical, identity)
        if record is None:
            return
        child = next(name for name, of in DETAILS.items() if of == parent.id)
        lines = list(self.children(child, parent.id, identity))
        totals = document_totals(record.body, lines)
        if any(record.body.get(name) != value for name, value in totals.items()):
            new = {**record.body, **totals}
            self._compute_money(parent, new, None)
            self.put(parent, identity, new, "system")


def document_totals(header: Body, lines: Iterable[Body]) -> Body:
    """Add up a document's lines and its own discount and freight (sheet, section 13)."""

    def amount(body: Body, name: str) -> Decimal:
        return Decimal(str(body.get(name) or 0))

    rows = list(lines)
    net = sum((amount(row, "extendedamount") - amount(row, "tax") for row in rows), Decimal(0))
    tax = sum((amount(row, "tax") for row in rows), Decimal(0))
    discount = amount(header, "discountamount") + net * amount(header, "discountpercentage") / 100
    less_freight = net - discount
    return {
        "totallineitemamount": to_number(net, 4),
        "totaldiscountamount": to_number(discount, 4),
        "totalamountlessfreight": to_number(less_freight, 4),
        "totaltax": to_number(tax, 4),
        "totalamount": to_number(less_freight + amount(header, "freightamount") + tax, 4),
    }


def to_number(value: Decimal, digits: int) -> int | float:
    """Return a JSON number with at most `digits` after the point."""
    if value == int(value):
        return int(value)
    rounded = value.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP)
    return int(rounded) if rounded == rounded.to_integral_value() else float(rounded)


def missing(table: Table, identity: str, keys: Body | None = None) -> Refused:
    """Say that a row is not there (sheet, section 11)."""
    if keys and not identity:
        named = ", ".join(f"{name}={value}" for name, value in keys.items())
        return Refused(404, "0x80060891", f"A record with the specified key values does not exist: {named}.")
    return Refused(404, "0x80040217", f"{table.logical} With Id = {identity} Does Not Exist")
