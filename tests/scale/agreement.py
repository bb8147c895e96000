"""Do both simulated companies agree on every mapped field?  A mapping of its own, so that a mistake of the engine's shows."""

from __future__ import annotations

from collections.abc import Iterator

from connectors.dynamics365.simulator import DynamicsSimulator
from connectors.quickbooks.simulator import QuickBooksSimulator

Body = dict[str, object]
# docs/inolink: what the customer's screens show on both sides.
PARTIES = {
    "PrimaryEmailAddr.Address": "emailaddress1", "PrimaryPhone.FreeFormNumber": "telephone1",
    "AlternatePhone.FreeFormNumber": "telephone2", "Fax.FreeFormNumber": "fax", "WebAddr.URI": "websiteurl",
    "BillAddr.Line1": "address1_line1", "BillAddr.Line2": "address1_line2", "BillAddr.City": "address1_city",
    "BillAddr.CountrySubDivisionCode": "address1_stateorprovince", "BillAddr.PostalCode": "address1_postalcode",
    "BillAddr.Country": "address1_country", "ShipAddr.Line1": "address2_line1", "ShipAddr.Line2": "address2_line2",
    "ShipAddr.City": "address2_city", "ShipAddr.CountrySubDivisionCode": "address2_stateorprovince",
    "ShipAddr.PostalCode": "address2_postalcode", "ShipAddr.Country": "address2_country", "Notes": "description",
}  # fmt: skip
COMPANY = {**PARTIES, "CompanyName": "name"}
PERSON = {
    **PARTIES, "GivenName": "firstname", "MiddleName": "middlename", "FamilyName": "lastname", "Title": "salutation",
    "Suffix": "suffix", "Mobile.FreeFormNumber": "mobilephone",
}  # fmt: skip
AMOUNTS = {"Balance": "syn_currentbalance", "BalanceWithJobs": "syn_totalbalance"}
# Dataverse's own choices, by the name that QuickBooks gives them; the others stay empty.
TERMS = {"Net 30": 1, "2% 10 Net 30": 2, "Net 45": 3, "Net 60": 4}


def differences(left: QuickBooksSimulator, right: DynamicsSimulator) -> Iterator[str]:
    """Yield a sentence for each field on which partners differ and each record without a partner."""
    realm = left.credentials()["settings"]["realm"]
    customers = {i: r.body for i, r in left.store.table("Customer").items()}
    partners: dict[str, tuple[str, Body]] = {}
    for table in ("account", "contact"):
        for row_id, row in right.store.table(table).items():
            key = str(row.body.get("syn_externalid") or "")
            if not key or key in partners:
                yield f"{table} {row_id} has the external id {key!r}, which no other may have"
            partners[key] = (table, {**row.body, "#id": row_id})
    by_customer = {key.removeprefix(f"{realm}:Customer:"): found for key, found in partners.items()}
    terms = {i: str(r.body["Name"]) for i, r in left.store.table("Term").items()}
    currencies = {i: r.body["isocurrencycode"] for i, r in right.store.table("transactioncurrency").items()}
    for customer_id, body in customers.items():
        if customer_id not in by_customer:
            if body["Active"]:  # an inactive one is never made on the other side
                yield f"customer {customer_id} has no partner"
            continue
        table, partner = by_customer[customer_id]
        for name, here, there in _pairs(body, table, partner, by_customer, terms, currencies):
            if here != there:
                yield f"customer {customer_id}: {name} is {here!r} there and {there!r} in its {table}"
    for key in by_customer.keys() - customers.keys():
        yield f"{by_customer[key][0]} with the external id {key} has no customer"


def _pairs(
    body: Body, table: str, partner: Body, partners: dict[str, tuple[str, Body]], terms: dict[str, str],
    currencies: dict[str, object],
) -> Iterator[tuple[str, object, object]]:  # fmt: skip
    yield "kind", "account" if body.get("CompanyName") else "contact", table
    for path, column in (COMPANY if table == "account" else PERSON).items():
        here = _at(body, path)
        if path == "FamilyName" and not here:
            here = body["DisplayName"]  # a contact must have a last name
        yield path, _text(here), _text(partner.get(column))
    for path, column in AMOUNTS.items():
        yield path, f"{float(str(body.get(path) or 0)):.2f}", f"{float(str(partner.get(column) or 0)):.2f}"
    yield "Active", bool(body["Active"]), partner["statecode"] == 0
    term = terms.get(str(_at(body, "SalesTermRef.value") or ""), "")
    yield "SalesTermRef", TERMS.get(term), partner.get("paymenttermscode")
    currency = currencies.get(str(partner.get("_transactioncurrencyid_value")))
    yield "CurrencyRef", _at(body, "CurrencyRef.value"), currency
    column = "_parentaccountid_value" if table == "account" else "_parentcustomerid_value"
    parent = partners.get(str(_at(body, "ParentRef.value") or ""))
    # A company can't belong to a person in Dynamics 365; a person may belong to either.
    fits = parent is not None and (table == "contact" or parent[0] == "account")
    yield "ParentRef", parent[1]["#id"] if parent is not None and fits else None, partner.get(column)


def _at(body: Body, path: str) -> object:
    found: object = body
    for name in path.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return found


def _text(value: object) -> str:
    return "" if value is None else str(value).strip()
