"""What does simulated QuickBooks do with a write?  Versions, names, references, lengths, balances, change log."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import TypeAlias, cast
from zoneinfo import ZoneInfo

from connectors.quickbooks import simulator_documents as documents
from connectors.quickbooks.simulator_faults import INACTIVE, NAME_TAKEN, STALE, VendorFault
from connectors.quickbooks.simulator_rules import (
    CHOICES,
    COMPUTED,
    ENVELOPE,
    FIXED,
    ITEM_ACCOUNTS,
    ITEM_TYPES,
    LENGTHS,
    MEMO_LENGTH,
    NAME_GROUP,
    NAME_LISTS,
    NAMED_BY,
    PART_LENGTHS,
    PROPERTIES,
    READ_ONLY_LISTS,
    REFERENCES,
    TRANSACTIONS,
)
from connectors.simulation.store import Store, StoredRecord

Json: TypeAlias = "dict[str, object]"
PACIFIC = ZoneInfo("America/Los_Angeles")  # the offset of the times in all samples (section 3)
DELETED = re.compile(r" \(deleted(?: \d+)?\)$")


def stamp(at: datetime) -> str:
    """Write a time of MetaData."""
    return at.astimezone(PACIFIC).isoformat(timespec="seconds")


class Books:
    """The rules of one company over its store.  Bodies are never changed in place, so answers need no lock."""

    def __init__(self, store: Store, switches: Mapping[str, object]) -> None:
        self.store = store
        self.switches = switches
        self.home = "USD"
        self.on_commit: Callable[[str, str, str], None] = lambda entity, record_id, verb: None
        self.count: Callable[[str], None] = lambda verb: None
        self.generation = 0  # rises with every change, silent ones too: query results are kept by it
        self._names: dict[tuple[str, str], tuple[str, str]] = {}
        self._children: dict[tuple[str, str], set[str]] = {}
        self._last_id: dict[str, int] = {}
        self._last_number = 1000

    @property
    def many_currencies(self) -> bool:
        """Whether the company has other currencies than its home currency."""
        return bool(self.switches.get("multi_currency"))

    def today(self) -> date:
        """Return the day that it is where the company is."""
        return self.store.now().astimezone(PACIFIC).date()

    # Reading

    def body(self, entity: str, record_id: object) -> Json | None:
        """Return a live body, or None."""
        record = self.store.get(entity, str(record_id))
        return record.body if record else None

    def need(self, entity: str, record_id: object) -> StoredRecord:
        """Return a live record, or raise fault 610."""
        text = str(record_id or "")
        if not text.isdigit():
            raise VendorFault("2030", f"Invalid ID : {text}", element="Id")
        record = self.store.get(entity, text)
        if record is None:
            raise VendorFault("610", INACTIVE)
        return record

    def refer(self, entity: str, reference: object, element: str) -> Json:
        """Return the body that a reference means, or raise the fault for a missing or inactive one."""
        key = reference.get("value") if isinstance(reference, Mapping) else None
        found = self.body(entity, key)
        if found is None:
            raise VendorFault("2500", f"Invalid Reference Id : {entity} element id {key} not found", element=element)
        if found.get("Active") is False:
            raise VendorFault("610", INACTIVE, element=element)
        return found

    def next_id(self, entity: str) -> str:
        """Return a new id; all transactions share one sequence."""
        group = "Txn" if entity in TRANSACTIONS else entity
        self._last_id[group] = self._last_id.get(group, 0) + 1
        return str(self._last_id[group])

    def next_number(self) -> str:
        """Return the next automatic document number."""
        self._last_number += 1
        return str(self._last_number)

    # Writing

    def create(self, entity: str, given: Json, by: str = "api") -> Json:
        """Create a record and return it whole."""
        if entity in READ_ONLY_LISTS:
            raise VendorFault("500", f"Operation create is not supported for {entity}")
        self._check(entity, given)
        keep_balance = entity == "Customer" and given.get("Balance") is not None
        opening = given.get("Balance")
        body = {k: v for k, v in _filled(given).items() if k not in ENVELOPE and k not in COMPUTED.get(entity, set())}
        if keep_balance:
            body["Balance"] = body["BalanceWithJobs"] = opening  # section 12: written on create only
        record_id = self.next_id(entity)
        return self._save(entity, record_id, body, None, by, "create")

    def update(self, entity: str, given: Json, by: str = "api", *, void: bool = False) -> Json:
        """Update a record, whole or sparse, and return it whole."""
        if entity in READ_ONLY_LISTS:
            raise VendorFault("500", f"Operation update is not supported for {entity}")
        old = self._current(entity, given)
        if void:
            return self._void(entity, old, by)
        self._check(entity, given)
        kept = COMPUTED.get(entity, set()) | FIXED.get(entity, set())
        if given.get("sparse") in (True, "true"):
            changed = {k: v for k, v in given.items() if k not in ENVELOPE and k not in kept}
            body = _filled({**old.body, **changed})
        else:
            # What a full update leaves out becomes empty, but for what the server keeps and "active".
            body = {k: v for k, v in _filled(given).items() if k not in ENVELOPE and k not in kept}
            body |= {k: v for k, v in old.body.items() if k in kept}
            if entity in NAME_LISTS:
                body.setdefault("Active", old.body.get("Active", True))
        return self._save(entity, old.id, body, old.body, by, "update")

    def delete(self, entity: str, given: Json, by: str = "api") -> Json:
        """Delete a transaction and return what the service answers."""
        if entity not in (*TRANSACTIONS, "Attachable"):
            raise VendorFault("500", f"Operation delete is not supported for {entity}")
        old = self._current(entity, given)
        documents.unlink(self, entity, old, by)
        before = cast("StoredRecord", self.store.get(entity, old.id)).body
        self.store.delete(entity, old.id, by=by)
        self._post(entity, before, None)
        self._committed(entity, old.id, "delete")
        return {"domain": "QBO", "status": "Deleted", "Id": old.id}

    def _current(self, entity: str, given: Json) -> StoredRecord:
        old = self.need(entity, given.get("Id"))
        token = given.get("SyncToken")
        if token in (None, ""):
            raise VendorFault("2020", "Required parameter SyncToken is missing in the request", element="SyncToken")
        if str(token) != old.body["SyncToken"]:
            raise VendorFault("5010", STALE)
        return old

    def _void(self, entity: str, old: StoredRecord, by: str) -> Json:
        if entity not in TRANSACTIONS or entity == "Estimate":
            raise VendorFault("500", f"Operation void is not supported for {entity}")
        documents.unlink(self, entity, old, by)
        now = cast("StoredRecord", self.store.get(entity, old.id)).body
        return self.commit(entity, old.id, documents.voided(entity, now), by, "void")

    def _save(self, entity: str, record_id: str, body: Json, old: Json | None, by: str, verb: str) -> Json:
        if entity in NAME_LISTS:
            self._complete_list(entity, record_id, body, old)
        elif entity in TRANSACTIONS:
            documents.complete(self, entity, body, old)
        saved = self.commit(entity, record_id, body, by, verb)
        if entity in TRANSACTIONS:
            documents.apply(self, entity, record_id, saved, old, by)
        elif entity in {"Customer", "Item"} and old and old.get("FullyQualifiedName") != saved["FullyQualifiedName"]:
            self._rename_children(entity, record_id)
        return self.body(entity, record_id) or saved

    def commit(self, entity: str, record_id: str, body: Json, by: str, verb: str = "update") -> Json:
        """Put a completed body with its new version into the store and the change log."""
        now = self.store.now()
        old = self.store.get(entity, record_id)
        before = old.body if old else None
        token = int(str(before["SyncToken"])) + 1 if before else 0
        created = cast("Json", before["MetaData"])["CreateTime"] if before else stamp(now)
        body = {
            **body,
            "domain": "QBO",
            "sparse": False,
            "Id": record_id,
            "SyncToken": str(token),
            "MetaData": {"CreateTime": created, "LastUpdatedTime": stamp(now)},
        }
        record = self.store.put(entity, record_id, body, by=by)
        record.modified = now
        self._index(entity, record_id, before, body)
        self._post(entity, before, body)
        self._committed(entity, record_id, verb)
        return body

    def load(self, entity: str, body: Json, record_id: str = "") -> Json:
        """Take a believed body as it is: how a company is seeded quickly."""
        record_id = record_id or self.next_id(entity)
        now = self.store.now()
        at = stamp(now)
        body = {
            **body,
            "domain": "QBO",
            "sparse": False,
            "Id": record_id,
            "SyncToken": "0",
            "MetaData": {"CreateTime": at, "LastUpdatedTime": at},
        }
        record = self.store.put(entity, record_id, body, by="seed")
        record.created = record.modified = now
        self._index(entity, record_id, None, body)
        self.generation += 1
        return body

    def silently(self, entity: str, record_id: str, changes: Json) -> None:
        """Change computed values without a new version or time."""
        body = self.body(entity, record_id)
        if body is not None:
            self.store.put(entity, record_id, {**body, **changes}, silent=True)
            self.generation += 1

    def _committed(self, entity: str, record_id: str, verb: str) -> None:
        self.generation += 1
        self.count({"void": "update", "emailed": "update"}.get(verb, verb))
        self.on_commit(entity, record_id, verb)

    # Checks

    def _check(self, entity: str, given: Json) -> None:
        for name, value in given.items():
            if name.lower() not in PROPERTIES[entity] and value not in (None, ""):
                raise VendorFault("2010", f"Property Name:{name} specified is unsupported or invalid", element=name)
        for name, longest in LENGTHS.get(entity, {}).items():
            _check_length(name, given.get(name), longest)
        for name, value in given.items():
            if isinstance(value, Mapping) and not name.endswith("Ref"):
                for part, longest in PART_LENGTHS.items():
                    _check_length(f"{name}.{part}", value.get(part), longest)
        memo = given.get("CustomerMemo")
        _check_length("CustomerMemo.value", memo.get("value") if isinstance(memo, Mapping) else None, MEMO_LENGTH)
        for name, words in CHOICES.items():
            if given.get(name) not in (None, "") and given[name] not in words:
                raise VendorFault("2170", f"Invalid Enumeration : {given[name]}", element=name)
        for name in ("PrimaryEmailAddr", "BillEmail"):
            email = given.get(name)
            address = email.get("Address") if isinstance(email, Mapping) else None
            if address and not re.fullmatch(r"[^@]+@[^@]+\.[^@]+", str(address)):
                raise VendorFault("2390", f"Invalid Email Address format : {address}", element=name)
        for name, target in REFERENCES.items():
            reference = given.get(name)
            if isinstance(reference, Mapping) and reference.get("value") not in (None, ""):
                # US pseudo codes stand for a tax code without being one.
                if target == "TaxCode" and reference["value"] in {"TAX", "NON"}:
                    continue
                self.refer(target, reference, name)

    # Name lists

    def _complete_list(self, entity: str, record_id: str, body: Json, old: Json | None) -> None:
        body.setdefault("Active", True)
        if entity in {"Customer", "Vendor", "Employee"}:
            _complete_person(body)
        name_field = NAMED_BY.get(entity, "Name")
        name = str(body.get(name_field) or "").strip()
        if not name:
            raise VendorFault("2020", f"Required parameter {name_field} is missing in the request", element=name_field)
        if entity in {"Customer", "Item"} and re.search(r"[:\t\n]", name):
            raise VendorFault("6000", f"{name_field} may not hold a colon, tab or new line", element=name_field)
        body[name_field] = self._free_name(entity, record_id, body, old, name)
        if entity == "Customer":
            self._complete_customer(record_id, body, old)
        elif entity == "Item":
            self._complete_item(record_id, body, old)
        elif entity == "Term":
            self._complete_term(body)
        elif entity == "Account":
            self._complete_account(body)

    def _free_name(self, entity: str, record_id: str, body: Json, old: Json | None, name: str) -> str:
        """Return the name to store, or raise 6240.  An inactive record gives its name free (section 5)."""
        closing = body["Active"] is False and (old is None or old.get("Active") is not False)
        if closing:
            plain, number = DELETED.sub("", name), 1
            name = f"{plain} (deleted)"
            while self._taken(entity, body, name, record_id):
                number += 1
                name = f"{plain} (deleted {number})"
            return name
        if self._taken(entity, body, name, record_id):
            raise VendorFault("6240", NAME_TAKEN)
        return name

    def _taken(self, entity: str, body: Json, name: str, record_id: str) -> bool:
        holder = self._names.get(_name_key(entity, body, name))
        return holder is not None and holder != (entity, record_id)

    def _complete_customer(self, record_id: str, body: Json, old: Json | None) -> None:
        body.setdefault("Balance", 0)
        body.setdefault("BalanceWithJobs", body["Balance"])
        body.setdefault("Taxable", False)
        body.setdefault("BillWithParent", False)
        body.setdefault("IsProject", False)
        body.setdefault("PreferredDeliveryMethod", "None")
        body.setdefault("PrintOnCheckName", body.get("CompanyName") or body["DisplayName"])
        if old is None:
            body["CurrencyRef"] = self.currency(body.get("CurrencyRef"), add=True)
        self._complete_parent("Customer", record_id, body)
        for name in ("BillAddr", "ShipAddr"):
            if isinstance(body.get(name), dict) and "Id" not in cast("Json", body[name]):
                body[name] = {"Id": self.next_id("Address"), **cast("Json", body[name])}

    def _complete_parent(self, entity: str, record_id: str, body: Json) -> None:
        name = str(body[NAMED_BY.get(entity, "Name")])
        flag = "Job" if entity == "Customer" else "SubItem"
        reference = body.get("ParentRef")
        if not isinstance(reference, dict):
            body["FullyQualifiedName"], body[flag] = name, False
            body.pop("Level", None)
            return
        parent = self.refer(entity, reference, "ParentRef")
        level = cast("int", parent.get("Level", 0)) + 1
        ancestor: Json | None = parent
        while ancestor is not None:
            if ancestor["Id"] == record_id:
                raise VendorFault("6000", "A record cannot be its own parent", element="ParentRef")
            above = ancestor.get("ParentRef")
            ancestor = self.body(entity, above["value"]) if isinstance(above, dict) else None
        if level > 4:
            raise VendorFault("6000", "You can only have four levels below the top", element="ParentRef")
        body["FullyQualifiedName"], body["Level"] = f"{parent['FullyQualifiedName']}:{name}", level
        body["ParentRef"], body[flag] = {"value": parent["Id"]}, True

    def _complete_item(self, record_id: str, body: Json, old: Json | None) -> None:
        kind = body.setdefault("Type", "Service")
        if kind not in ITEM_TYPES:
            raise VendorFault("2170", f"Invalid Enumeration : {kind}", element="Type")
        needed = {"Inventory": ["IncomeAccountRef", "ExpenseAccountRef", "AssetAccountRef", "InvStartDate"]}.get(
            str(kind), ["IncomeAccountRef"] if kind == "Service" else []
        )
        if kind == "NonInventory" and not (body.get("IncomeAccountRef") or body.get("ExpenseAccountRef")):
            needed = ["IncomeAccountRef"]
        for name in needed:
            if not body.get(name):
                raise VendorFault("2020", f"Required parameter {name} is missing in the request", element=name)
        for name, types in ITEM_ACCOUNTS.items():
            reference = body.get(name)
            if isinstance(reference, dict):
                account = self.refer("Account", reference, name)
                if account["AccountType"] not in types:
                    raise VendorFault("6430", f"Invalid account type used : {account['AccountType']}", element=name)
                body[name] = {"value": account["Id"], "name": account["Name"]}
        body["TrackQtyOnHand"] = kind == "Inventory"
        if kind == "Inventory":
            body.setdefault("QtyOnHand", 0)
        body.setdefault("UnitPrice", 0)
        body.setdefault("PurchaseCost", 0)
        body.setdefault("Taxable", False)
        self._complete_parent("Item", record_id, body)

    def _complete_term(self, body: Json) -> None:
        if body.get("DueDays") is None and body.get("DayOfMonthDue") is None:
            raise VendorFault("2020", "Required parameter DueDays is missing in the request", element="DueDays")
        body["Type"] = "STANDARD" if body.get("DueDays") is not None else "DATE_DRIVEN"

    def _complete_account(self, body: Json) -> None:
        if not body.get("AccountType") and not body.get("AccountSubType"):
            raise VendorFault("2020", "Required parameter AccountType is missing in the request", element="AccountType")
        body.setdefault("AccountType", "Expense")
        body.setdefault("FullyQualifiedName", body["Name"])
        body.setdefault("CurrentBalance", 0)
        body.setdefault("CurrencyRef", {"value": self.home})

    def currency(self, reference: object, *, add: bool = False) -> Json:
        """Return a full currency reference; a customer's new currency joins the company's list (section 12)."""
        code = str(reference.get("value")) if isinstance(reference, Mapping) else self.home
        if code == self.home:
            return {"value": code, "name": "United States Dollar"}
        if not self.many_currencies:
            raise VendorFault("5020", "Multi-currency is not enabled for this company", element="CurrencyRef")
        for row in self.store.table("CompanyCurrency").values():
            if row.body["Code"] == code:
                return {"value": code, "name": row.body["Name"]}
        if not add or not re.fullmatch(r"[A-Z]{3}", code):
            raise VendorFault("2500", f"Invalid Reference Id : Currency {code} not found", element="CurrencyRef")
        self.commit(
            "CompanyCurrency", self.next_id("CompanyCurrency"), {"Code": code, "Name": code, "Active": True}, "api"
        )
        return {"value": code, "name": code}

    def _rename_children(self, entity: str, record_id: str) -> None:
        parent = cast("Json", self.body(entity, record_id))
        for child in sorted(self._children.get((entity, record_id), ())):
            body = self.body(entity, child)
            if body is not None:
                name = body[NAMED_BY.get(entity, "Name")]
                self.silently(entity, child, {"FullyQualifiedName": f"{parent['FullyQualifiedName']}:{name}"})
                self._rename_children(entity, child)

    def _index(self, entity: str, record_id: str, before: Json | None, after: Json) -> None:
        if entity in TRANSACTIONS:
            return
        name_field = NAMED_BY.get(entity, "Name")
        if before is not None:
            self._names.pop(_name_key(entity, before, str(before.get(name_field, ""))), None)
            self._children.get((entity, _parent(before)), set()).discard(record_id)
        if after.get(name_field):
            self._names[_name_key(entity, after, str(after[name_field]))] = (entity, record_id)
        if _parent(after):
            self._children.setdefault((entity, _parent(after)), set()).add(record_id)

    # Balances and stock

    def _post(self, entity: str, before: Json | None, after: Json | None) -> None:
        """Carry what a transaction adds to or takes from stock and its customer's balance, up to the top customer."""
        if entity in documents.STOCK:
            self._move_stock(entity, before, after)
        if entity not in documents.OPEN_AMOUNT:
            return
        for body, sign in ((before, -1), (after, 1)):
            if body is not None and isinstance(body.get("CustomerRef"), dict):
                amount = sign * documents.owed(entity, body)
                if amount:
                    self.raise_balance(str(cast("Json", body["CustomerRef"])["value"]), amount)

    def _move_stock(self, entity: str, before: Json | None, after: Json | None) -> None:
        moved = documents.quantities(entity, after)
        for item, quantity in documents.quantities(entity, before).items():
            moved[item] = moved.get(item, Decimal(0)) - quantity
        for item, quantity in moved.items():
            body = self.body("Item", item)
            if not quantity or body is None or body.get("Type") != "Inventory":
                continue
            changes: Json = {"QtyOnHand": float(documents.decimal(body.get("QtyOnHand")) + quantity)}
            # Whether that shows as a change of the item is not documented: a switch, as with balances (decision).
            if self.switches.get("stock_touches_item"):
                self.commit("Item", item, {**body, **changes}, "system")
            else:
                self.silently("Item", item, changes)

    def raise_balance(self, customer: str, amount: Decimal) -> None:
        """Add to a customer's balance; whether that shows as a change of the customer is a switch."""
        own = True
        while customer:
            body = self.body("Customer", customer)
            if body is None:
                return
            changes: Json = {
                "BalanceWithJobs": documents.number(documents.decimal(body.get("BalanceWithJobs")) + amount)
            }
            if own:
                changes["Balance"] = documents.number(documents.decimal(body.get("Balance")) + amount)
            if self.switches.get("balances_touch_customer"):
                self.commit("Customer", customer, {**body, **changes}, "system")
            else:
                self.silently("Customer", customer, changes)
            own, customer = False, _parent(body)


def _check_length(name: str, value: object, longest: int) -> None:
    if isinstance(value, str) and len(value) > longest:
        detail = (
            f"String length specified does not match the supported length. Min:0 Max:{longest} supported. Supplied:"
        )
        raise VendorFault("2050", f"{detail}{len(value)}", element=name)


def _complete_person(body: Json) -> None:
    if not body.get("DisplayName"):
        parts = ("Title", "GivenName", "MiddleName", "FamilyName", "Suffix")
        body["DisplayName"] = " ".join(str(body[part]) for part in parts if body.get(part))


def _parent(body: Json) -> str:
    reference = body.get("ParentRef")
    return str(reference["value"]) if isinstance(reference, dict) else ""


def _name_key(entity: str, body: Json, name: str) -> tuple[str, str]:
    # An item's name is unique below its parent, all others in their group.
    parent = _parent(body) if entity == "Item" else ""
    return f"{NAME_GROUP.get(entity, entity)}:{parent}", name.casefold()


def _filled(body: Mapping[str, object]) -> Json:
    """Leave out what is empty: QuickBooks stores and tells no empty value (section 3)."""
    filled: Json = {}
    for name, value in body.items():
        if isinstance(value, Mapping):
            value = {key: part for key, part in value.items() if part not in (None, "")}
            if not value.keys() - {"Id"}:
                continue
        if value not in (None, "") and value != []:
            filled[name] = value
    return filled
