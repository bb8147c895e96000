"""What does simulated QuickBooks compute on a transaction?  Lines, totals, due dates, payments and voids."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, TypeAlias, cast

from connectors.quickbooks.simulator_faults import VendorFault
from connectors.quickbooks.simulator_rules import LINE_TYPES
from connectors.simulation.store import StoredRecord

if TYPE_CHECKING:
    from connectors.quickbooks.simulator_books import Books

Json: TypeAlias = "dict[str, object]"
CENT = Decimal("0.01")
# What of a transaction is still open, and which way it moves the customer's balance.
OPEN_AMOUNT = {"Invoice": ("Balance", 1), "Payment": ("UnappliedAmt", -1), "CreditMemo": ("RemainingCredit", -1)}
# Which way a sale moves the stock of inventory items.
STOCK = {"Invoice": -1, "SalesReceipt": -1, "CreditMemo": 1, "RefundReceipt": 1}
APPLICABLE = {"Invoice": 1, "CreditMemo": -1}  # what a payment's line may be linked to, and how it counts
RATES = {"EUR": Decimal("1.08"), "CAD": Decimal("0.74")}  # home units for 1 foreign unit, where none is stored


def decimal(value: object) -> Decimal:
    """Return a number of a body, 0 for none."""
    return Decimal(str(value)) if value not in (None, "") else Decimal(0)


def number(value: Decimal) -> float:
    """Return an amount as bodies hold it."""
    return float(value.quantize(CENT))


def owed(entity: str, body: Json) -> Decimal:
    """Return what the transaction adds to its customer's balance."""
    name, sign = OPEN_AMOUNT[entity]
    return sign * decimal(body.get(name))


def quantities(entity: str, body: Json | None) -> dict[str, Decimal]:
    """Return what a sale adds to the stock of each item of its lines; a sale takes away, a credit gives back."""
    found: dict[str, Decimal] = {}
    for line in cast("list[Json]", (body or {}).get("Line") or []):
        detail = cast("Json", line.get("SalesItemLineDetail") or {})
        reference = detail.get("ItemRef")
        if isinstance(reference, Mapping):
            key = str(reference["value"])
            found[key] = found.get(key, Decimal(0)) + STOCK[entity] * decimal(detail.get("Qty"))
    return found


def complete(books: Books, entity: str, body: Json, old: Json | None) -> None:
    """Check a transaction and fill in all that the server computes."""
    if entity != "SalesReceipt" or body.get("CustomerRef"):
        _complete_customer(books, body, old)
    else:
        body["CurrencyRef"] = books.currency(body.get("CurrencyRef"))
    body.setdefault("TxnDate", books.today().isoformat())
    code = str(cast("Json", body["CurrencyRef"])["value"])
    if code != books.home and "ExchangeRate" not in body:
        body["ExchangeRate"] = float(rate(books, code))
    if entity == "Payment":
        _complete_payment(books, body, old)
    else:
        _complete_document(books, entity, body, old)
    if code != books.home:
        factor = decimal(body["ExchangeRate"])
        body["HomeTotalAmt"] = number(decimal(body.get("TotalAmt")) * factor)
        if "Balance" in body:
            body["HomeBalance"] = number(decimal(body["Balance"]) * factor)


def rate(books: Books, code: str) -> Decimal:
    """Return the home units for one unit of a currency."""
    stored = books.store.get("ExchangeRate", code)
    return decimal(stored.body["Rate"]) if stored else RATES.get(code, Decimal(1))


def _complete_customer(books: Books, body: Json, old: Json | None) -> None:
    if not isinstance(body.get("CustomerRef"), Mapping):
        raise VendorFault("2020", "Required parameter CustomerRef is missing in the request", element="CustomerRef")
    reference = cast("Json", body["CustomerRef"])
    if old is not None and cast("Json", old.get("CustomerRef") or {}).get("value") == reference.get("value"):
        customer = books.need("Customer", reference.get("value")).body
    else:
        customer = books.refer("Customer", reference, "CustomerRef")
    body["CustomerRef"] = {"value": customer["Id"], "name": customer["DisplayName"]}
    currency = cast("Json", customer["CurrencyRef"])
    asked = body.get("CurrencyRef")
    if isinstance(asked, Mapping) and asked.get("value") != currency["value"]:
        raise VendorFault("6000", "The currency of the transaction is not the customer's", element="CurrencyRef")
    body["CurrencyRef"] = dict(currency)


def _complete_document(books: Books, entity: str, body: Json, old: Json | None) -> None:
    lines = body.get("Line")
    if not isinstance(lines, list) or not lines:
        raise VendorFault("2020", "Required parameter Line is missing in the request", element="Line")
    customer = cast("Json", body.get("CustomerRef") or {}).get("value")
    known = books.body("Customer", customer) or {}
    for name in ("BillAddr", "ShipAddr", "SalesTermRef"):
        if old is None and known.get(name) and (name != "SalesTermRef" or entity == "Invoice"):
            body.setdefault(name, known[name])
    if old is None and known.get("PrimaryEmailAddr"):
        body.setdefault("BillEmail", known["PrimaryEmailAddr"])
    _number_document(books, entity, body, old)
    body["Line"], subtotal, discount, taxable = _complete_lines(books, lines)
    tax = _tax(books, body, taxable)
    total = subtotal - discount + tax
    body["TotalAmt"] = number(total)
    body.setdefault("PrintStatus", "NeedToPrint")
    body.setdefault("EmailStatus", "NotSet")
    body.setdefault("ApplyTaxAfterDiscount", False)
    if entity == "Invoice":
        paid = decimal(old["TotalAmt"]) - decimal(old.get("Deposit")) - decimal(old["Balance"]) if old else Decimal(0)
        body["Balance"] = number(max(Decimal(0), total - decimal(body.get("Deposit")) - paid))
        body.setdefault("DueDate", due_date(books, body))
    elif entity == "CreditMemo":
        used = decimal(old["TotalAmt"]) - decimal(old["RemainingCredit"]) if old else Decimal(0)
        body["RemainingCredit"] = body["Balance"] = number(max(Decimal(0), total - used))
    elif entity == "Estimate":
        body.setdefault("TxnStatus", "Pending")
    else:
        body["Balance"] = 0
        body.setdefault("DepositToAccountRef", _undeposited(books))


def _number_document(books: Books, entity: str, body: Json, old: Json | None) -> None:
    custom = bool(books.switches.get("custom_txn_numbers"))
    given = body.get("DocNumber")
    if given == "AUTO_GENERATE" or (given is None and not custom):
        body["DocNumber"] = books.next_number()
    elif given is not None and custom and (old is None or old.get("DocNumber") != given):
        for other in books.store.table(entity).values():
            if other.body.get("DocNumber") == given:
                detail = f"Duplicate Document Number Error : You must specify a different number. TxnId={other.id}"
                raise VendorFault("6140", detail, element="DocNumber")


def due_date(books: Books, body: Json) -> str:
    """Return the date plus the term's days, or the date where there is no term."""
    day = date.fromisoformat(str(body["TxnDate"])[:10])
    reference = body.get("SalesTermRef")
    term = books.body("Term", cast("Json", reference)["value"]) if isinstance(reference, Mapping) else None
    return (day + timedelta(days=int(decimal((term or {}).get("DueDays"))))).isoformat()


def _complete_lines(books: Books, given: Iterable[object]) -> tuple[list[Json], Decimal, Decimal, Decimal]:
    """Return the lines as stored, their sum, the discount and the taxable part."""
    lines: list[Json] = []
    subtotal = discount = taxable = Decimal(0)
    for each in given:
        line = {k: v for k, v in cast("Json", each).items() if v not in (None, "")}
        kind = str(line.get("DetailType") or "")
        if kind not in LINE_TYPES:
            raise VendorFault("2170", f"Invalid Enumeration : {kind}", element="DetailType")
        if kind in {"SubTotalLineDetail", "TaxLineDetail"}:
            continue
        if len(str(line.get("Description", ""))) > 4000:
            raise VendorFault("2050", "String length is too long. Min:0 Max:4000", element="Description")
        if kind == "SalesItemLineDetail":
            _complete_sales_line(books, line)
            subtotal += decimal(line["Amount"])
            code = cast("Json", line[kind]).get("TaxCodeRef")
            if isinstance(code, Mapping) and code.get("value") != "NON":
                taxable += decimal(line["Amount"])
        elif kind == "DiscountLineDetail":
            detail = cast("Json", line.get(kind) or {})
            if detail.get("PercentBased") in (True, "true"):
                line["Amount"] = number(subtotal * decimal(detail.get("DiscountPercent")) / 100)
            discount += decimal(line.get("Amount"))
        elif kind == "GroupLineDetail":
            subtotal += decimal(line.get("Amount"))
        lines.append({**line, "Id": str(line.get("Id") or len(lines) + 1), "LineNum": len(lines) + 1})
    lines.append({"Amount": number(subtotal), "DetailType": "SubTotalLineDetail", "SubTotalLineDetail": {}})
    return lines, subtotal, discount, taxable


def _complete_sales_line(books: Books, line: Json) -> None:
    detail = {k: v for k, v in cast("Json", line.get("SalesItemLineDetail") or {}).items() if v not in (None, "")}
    if isinstance(detail.get("ItemRef"), Mapping):
        item = books.refer("Item", detail["ItemRef"], "ItemRef")
        detail["ItemRef"] = {"value": item["Id"], "name": item["Name"]}
    code = detail.get("TaxCodeRef")
    if isinstance(code, Mapping) and code.get("value") not in {"TAX", "NON"}:
        books.refer("TaxCode", code, "TaxCodeRef")
    detail.setdefault("TaxCodeRef", {"value": "NON"})
    if "Amount" not in line:
        raise VendorFault("2020", "Required parameter Amount is missing in the request", element="Amount")
    if "Qty" in detail and "UnitPrice" in detail:
        computed = decimal(detail["Qty"]) * decimal(detail["UnitPrice"])
        if abs(computed - decimal(line["Amount"])) > CENT:
            raise VendorFault(
                "6070", "Amount calculation incorrect in the request. Amount is not equal to UnitPrice * Qty.",
                element="Amount",
            )  # fmt: skip
    line["SalesItemLineDetail"] = detail


def _tax(books: Books, body: Json, taxable: Decimal) -> Decimal:
    detail = cast("Json", body.get("TxnTaxDetail") or {})
    code = detail.get("TxnTaxCodeRef")
    if not isinstance(code, Mapping):
        total = decimal(detail.get("TotalTax"))
        body["TxnTaxDetail"] = {**detail, "TotalTax": number(total)}
        return total
    books.refer("TaxCode", code, "TxnTaxCodeRef")
    lines, total = [], Decimal(0)
    for rate_id, percent in rates_of(books, str(code["value"])):
        amount = (taxable * percent / 100).quantize(CENT)
        total += amount
        taxed = {"TaxRateRef": {"value": rate_id}, "PercentBased": True, "TaxPercent": float(percent)}
        taxed["NetAmountTaxable"] = number(taxable)
        lines.append({"Amount": number(amount), "DetailType": "TaxLineDetail", "TaxLineDetail": taxed})
    body["TxnTaxDetail"] = {"TxnTaxCodeRef": dict(code), "TotalTax": number(total), "TaxLine": lines}
    return total


def rates_of(books: Books, code: str) -> list[tuple[str, Decimal]]:
    """Return the sales tax rates of a tax code: id and percent."""
    body = books.body("TaxCode", code) or {}
    details = cast("Json", body.get("SalesTaxRateList") or {}).get("TaxRateDetail") or []
    ids = [str(cast("Json", detail["TaxRateRef"])["value"]) for detail in cast("list[Json]", details)]
    return [(key, decimal((books.body("TaxRate", key) or {}).get("RateValue"))) for key in ids]


def _undeposited(books: Books) -> Json:
    for row in books.store.table("Account").values():
        if row.body.get("AccountSubType") == "UndepositedFunds":
            return {"value": row.id, "name": row.body["Name"]}
    raise VendorFault("6000", "The company has no account for undeposited funds")


# Payments


def links(body: Json | None) -> dict[tuple[str, str], Decimal]:
    """Return what a payment's lines pay: (type, id) -> amount."""
    found: dict[tuple[str, str], Decimal] = {}
    for line in cast("list[Json]", (body or {}).get("Line") or []):
        for linked in cast("list[Json]", line.get("LinkedTxn") or []):
            key = (str(linked.get("TxnType")), str(linked.get("TxnId")))
            if key[0] in APPLICABLE:
                found[key] = found.get(key, Decimal(0)) + decimal(line.get("Amount"))
    return found


def _complete_payment(books: Books, body: Json, old: Json | None) -> None:
    if body.get("TotalAmt") is None:
        raise VendorFault("2020", "Required parameter TotalAmt is missing in the request", element="TotalAmt")
    body.setdefault("DepositToAccountRef", _undeposited(books))
    body.setdefault("ProcessPayment", False)
    body.setdefault("Line", [])
    before, applied = links(old), Decimal(0)
    for (kind, key), amount in links(body).items():
        paid = books.body(kind, key)
        if paid is None:
            raise VendorFault("2500", f"Invalid Reference Id : {kind} element id {key} not found", element="TxnId")
        left = decimal(paid.get("Balance")) + before.get((kind, key), Decimal(0))
        if amount > left:
            raise VendorFault("6000", f"Amount {amount} is more than the open {left} of {kind} {key}", element="Amount")
        applied += APPLICABLE[kind] * amount
    unapplied = decimal(body["TotalAmt"]) - applied
    if unapplied < 0:
        raise VendorFault("6000", "More is applied than was paid", element="TotalAmt")
    body["TotalAmt"], body["UnappliedAmt"] = number(decimal(body["TotalAmt"])), number(unapplied)


def apply(books: Books, entity: str, record_id: str, saved: Json, old: Json | None, by: str) -> None:
    """Carry a saved transaction to those that it is linked to."""
    if entity == "Invoice" and old is None:
        for linked in cast("list[Json]", saved.get("LinkedTxn") or []):
            estimate = books.body("Estimate", linked.get("TxnId")) if linked.get("TxnType") == "Estimate" else None
            if estimate is not None:
                books.commit("Estimate", str(estimate["Id"]), {**estimate, "TxnStatus": "Closed"}, by)
    if entity != "Payment":
        return
    before, after = links(old), links(saved)
    for key in dict.fromkeys([*before, *after]):
        _pay(books, key, after.get(key, Decimal(0)) - before.get(key, Decimal(0)), record_id, key in after, by)


def _pay(books: Books, key: tuple[str, str], by_amount: Decimal, payment: str, linked: bool, by: str) -> None:
    kind, record_id = key
    body = books.body(kind, record_id)
    if body is None:
        return
    others = [each for each in cast("list[Json]", body.get("LinkedTxn") or []) if each.get("TxnId") != payment]
    if linked:
        others.append({"TxnId": payment, "TxnType": "Payment"})
    left = number(decimal(body["Balance"]) - by_amount)
    changes: Json = {"Balance": left, "LinkedTxn": others}
    if kind == "CreditMemo":
        changes["RemainingCredit"] = left
    if "HomeBalance" in body:
        changes["HomeBalance"] = number(decimal(left) * decimal(body["ExchangeRate"]))
    books.commit(kind, record_id, {**body, **changes}, by)


def unlink(books: Books, entity: str, record: StoredRecord, by: str) -> None:
    """Take a transaction that is going to be voided or deleted out of what it is linked to."""
    if entity == "Payment":
        for key, amount in links(record.body).items():
            _pay(books, key, -amount, record.id, False, by)
        return
    for linked in cast("list[Json]", record.body.get("LinkedTxn") or []):
        payment = books.body("Payment", linked.get("TxnId")) if linked.get("TxnType") == "Payment" else None
        if payment is None:
            continue
        freed = links(payment).get((entity, record.id), Decimal(0))
        lines = [
            line
            for line in cast("list[Json]", payment.get("Line") or [])
            if all(each.get("TxnId") != record.id for each in cast("list[Json]", line.get("LinkedTxn") or []))
        ]
        unapplied = number(decimal(payment.get("UnappliedAmt")) + APPLICABLE.get(entity, 0) * freed)
        books.commit("Payment", str(payment["Id"]), {**payment, "Line": lines, "UnappliedAmt": unapplied}, by)


def voided(entity: str, body: Json) -> Json:
    """Return a transaction as a void leaves it: all amounts 0, and a note that says so (section 5)."""
    note = str(body.get("PrivateNote") or "")
    lines = [] if entity == "Payment" else [_voided_line(line) for line in cast("list[Json]", body.get("Line") or [])]
    changes: Json = {"TotalAmt": 0, "Line": lines, "PrivateNote": f"Voided - {note}" if note else "Voided"}
    for name in ("Balance", "UnappliedAmt", "RemainingCredit", "HomeTotalAmt", "HomeBalance", "Deposit"):
        if name in body:
            changes[name] = 0
    if "TxnTaxDetail" in body:
        changes["TxnTaxDetail"] = {"TotalTax": 0}
    return {k: v for k, v in {**body, **changes}.items() if k != "LinkedTxn"}


def _voided_line(line: Json) -> Json:
    kind = str(line.get("DetailType"))
    detail = cast("Json", line.get(kind) or {})
    emptied: Json = {name: 0 for name in ("Qty", "UnitPrice") if name in detail}
    return {**line, "Amount": 0, kind: {**detail, **emptied}}
