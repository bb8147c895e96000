"""Which believable company does the simulated environment begin with?  Same arguments, same company."""

from __future__ import annotations

import random
from datetime import date, timedelta
from typing import TYPE_CHECKING

from connectors.dynamics365.simulator_query import Body
from connectors.dynamics365.simulator_rows import LOOKUP_NAME

if TYPE_CHECKING:
    from connectors.dynamics365.simulator import DynamicsSimulator

FIRST = ["Ada", "Björn", "Carmen", "Desh", "Elena", "Farid", "Grace", "Hana",
         "Ivo", "José", "Kim", "Lena", "Marek", "Noor",
         "Olu", "Priya", "Quinn", "Rosa", "Siân", "Tomás"]  # fmt: skip
LAST = ["Abbott", "Baker", "Chen", "D'Angelo", "Eriksen", "Fischer", "García", "Hughes", "Ito", "Jansen", "Kowalski",
        "López", "Müller", "Novak", "O'Neil", "Patel", "Quist", "Rossi", "Şahin", "Turner"]  # fmt: skip
TRADE = ["Bakery", "Brewing", "Cabinets", "Design", "Electric", "Farms", "Garage", "Hardware", "Interiors", "Joinery",
         "Kitchens", "Logistics", "Marine", "Nursery", "Optics", "Plumbing", "Roofing", "Supply"]  # fmt: skip
PLACES = [("Bayshore", "CA", "94326", "USA"), ("Tucson", "AZ", "85705", "USA"), ("Toronto", "ON", "M5V 2T6", "Canada"),
          ("Lyon", "", "69002", "France"), ("Middlefield", "CA", "94303", "USA"),
          ("Austin", "TX", "78701", "USA")]  # fmt: skip
GOODS = ["Bolt", "Bracket", "Cable", "Door", "Fence panel", "Hinge", "Lamp", "Panel", "Pump", "Sprinkler head", "Valve"]
CURRENCIES = (("US Dollar", "USD", "$", 1), ("Euro", "EUR", "€", 0.92), ("Canadian Dollar", "CAD", "$", 1.36))


def lookup(name: str, target: str, record_id: str) -> Body:
    """Return a lookup's two stored values."""
    return {f"_{name}_value": record_id, f"_{name}_value{LOOKUP_NAME}": target}


def seed_basics(simulator: DynamicsSimulator) -> None:
    """Make what every environment has: currencies, a unit, a price list, a user, a business unit, the organization."""
    raw = simulator.seed_row
    ids: dict[str, str] = {}
    for name, code, symbol, rate in CURRENCIES:
        body: Body = {
            "currencyname": name, "isocurrencycode": code, "currencysymbol": symbol, "exchangerate": rate,
            "currencyprecision": 2, "statecode": 0, "statuscode": 1,
        }  # fmt: skip
        ids[code] = raw("transactioncurrency", body)
    simulator.rules.base_currency = ids["USD"]
    simulator.ids["currency"] = ids["USD"]
    simulator.ids["businessunit"] = unit = raw("businessunit", {"name": "Syncline rehearsal"})
    user = {"fullname": "# Syncline", "internalemailaddress": "syncline@example.com", "isdisabled": False}
    simulator.ids["user"] = raw("systemuser", {**user, **lookup("businessunitid", "businessunit", unit)})
    organization = {
        "name": "Syncline rehearsal", "languagecode": 1033, "maxuploadfilesize": 5_242_880,
        "expirechangetrackingindays": 7, **lookup("basecurrencyid", "transactioncurrency", ids["USD"]),
    }  # fmt: skip
    simulator.ids["organization"] = raw("organization", organization)
    live: Body = {"statecode": 0, "statuscode": 1}
    schedule = raw("uomschedule", {"name": "Default Unit", "baseuomname": "Primary Unit", **live})
    simulator.ids["uomschedule"] = schedule
    simulator.ids["uom"] = raw(
        "uom", {"name": "Primary Unit", "quantity": 1, **lookup("uomscheduleid", "uomschedule", schedule), **live}
    )
    currency = lookup("transactioncurrencyid", "transactioncurrency", ids["USD"])
    simulator.ids["pricelevel"] = raw(
        "pricelevel", {"name": "Standard price list", "statecode": 0, "statuscode": 100001, **currency}
    )


def seed_company(simulator: DynamicsSimulator, records: int, seed: int) -> None:
    """Make `records` accounts, and contacts, products and documents in proportion."""
    rng = random.Random(f"dynamics {seed}")
    accounts = [simulator.user_creates("account", _account(rng, number)) for number in range(records)]
    contacts = [simulator.user_creates("contact", _contact(rng, accounts)) for _ in range(records // 2)]
    products = [simulator.user_creates("product", _product(simulator, rng, n)) for n in range(max(5, records // 5))]
    for entity, share in (("quote", 10), ("salesorder", 10), ("invoice", 5)):
        for number in range(records // share):
            _document(simulator, rng, entity, number, accounts, contacts, products)


def _address(rng: random.Random) -> Body:
    city, state, code, country = rng.choice(PLACES)
    body: Body = {"address1_line1": f"{rng.randint(1, 999)} {rng.choice(LAST)} Street", "address1_city": city}
    body |= {"address1_postalcode": code, "address1_country": country}
    return {**body, "address1_stateorprovince": state} if state else body


def _account(rng: random.Random, number: int) -> Body:
    name = f"{rng.choice(FIRST)} {rng.choice(LAST)} {rng.choice(TRADE)} {number + 1}"
    body: Body = {"name": name, "accountnumber": f"A{number + 1:06}", **_address(rng)}
    body["telephone1"] = f"(555) {rng.randint(100, 999)}-{rng.randint(1000, 9999)}"
    body["emailaddress1"] = f"office{number + 1}@example.com"
    if rng.random() < 0.7:
        body["paymenttermscode"] = rng.choice([1, 2, 3, 4])
    if rng.random() < 0.3:
        body["creditlimit"] = rng.randrange(500, 50_000, 500)
    if rng.random() < 0.05:
        body |= {"statecode": 1, "statuscode": 2}
    if rng.random() < 0.02:
        body["description"] = "Prefers deliveries before noon.  " * 40
    return body


def _contact(rng: random.Random, accounts: list[str]) -> Body:
    first, last = rng.choice(FIRST), rng.choice(LAST)
    body: Body = {"firstname": first, "lastname": last, **_address(rng)}
    body["emailaddress1"] = f"person{rng.randrange(10**6)}@example.com"
    if accounts and rng.random() < 0.5:
        body["parentcustomerid_account@odata.bind"] = f"/accounts({rng.choice(accounts)})"
    return body


def _product(simulator: DynamicsSimulator, rng: random.Random, number: int) -> Body:
    return {
        "name": f"{rng.choice(GOODS)} {number + 1}", "productnumber": f"P-{number + 1:05}", "quantitydecimal": 2,
        "price": rng.randrange(100, 50_000) / 100, "producttypecode": rng.choice([1, 2, 3]),
        "defaultuomid@odata.bind": f"/uoms({simulator.ids['uom']})",
        "defaultuomscheduleid@odata.bind": f"/uomschedules({simulator.ids['uomschedule']})",
        "statecode": 0, "statuscode": 1,
    }  # fmt: skip


def _document(
    simulator: DynamicsSimulator, rng: random.Random, entity: str, number: int, accounts: list[str],
    contacts: list[str], products: list[str],
) -> None:  # fmt: skip
    lines: list[Body] = []
    for place in range(rng.randint(1, 4)):
        line: Body = {"quantity": rng.randint(1, 10), "priceperunit": rng.randrange(100, 20_000) / 100}
        line["lineitemnumber"] = place + 1
        if rng.random() < 0.85:
            line["productid@odata.bind"] = f"/products({rng.choice(products)})"
            line["uomid@odata.bind"] = f"/uoms({simulator.ids['uom']})"
        else:
            line |= {"isproductoverridden": True, "productdescription": "Work on site"}
        lines.append(line)
    collection = {"quote": "quote_details", "salesorder": "order_details", "invoice": "invoice_details"}[entity]
    body: Body = {"name": f"{entity.capitalize()} {number + 1}", collection: lines}
    if contacts and rng.random() < 0.2:
        body["customerid_contact@odata.bind"] = f"/contacts({rng.choice(contacts)})"
    else:
        body["customerid_account@odata.bind"] = f"/accounts({rng.choice(accounts)})"
    due = (date(2026, 6, 30) + timedelta(days=rng.randint(-60, 60))).isoformat()
    body["duedate" if entity == "invoice" else "requestdeliveryby"] = due
    simulator.user_creates(entity, body)
