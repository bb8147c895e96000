"""What is in a simulated company?  A believable small business, the same for the same arguments."""

from __future__ import annotations

import random
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, TypeAlias, cast

from connectors.quickbooks.simulator_documents import RATES

if TYPE_CHECKING:
    from connectors.quickbooks.simulator_books import Books

Json: TypeAlias = "dict[str, object]"

FIRST = [
    "Ada",
    "Grace",
    "Alan",
    "Edsger",
    "Barbara",
    "Donald",
    "Margaret",
    "Ken",
    "Frances",
    "Dennis",
    "Radia",
    "Linus",
    "Katherine",
    "Tim",
    "Hedy",
    "Niklaus",
    "Joan",
    "Claude",
    "Shafi",
    "Leslie",
    "Adele",
    "Vint",
    "Karen",
    "Brian",
    "Sophie",
    "Anita",
    "Bjarne",
    "Lynn",
    "Guido",
    "Mary",
    "José",
    "Zoë",
    "Søren",
    "Chloé",
    "Jürgen",
    "Siobhán",
]
LAST = [
    "Lovelace",
    "Hopper",
    "Turing",
    "Dijkstra",
    "Liskov",
    "Knuth",
    "Hamilton",
    "Thompson",
    "Allen",
    "Ritchie",
    "Perlman",
    "Torvalds",
    "Johnson",
    "Lee",
    "Lamarr",
    "Wirth",
    "Clarke",
    "Shannon",
    "Goldwasser",
    "Lamport",
    "Goldberg",
    "Cerf",
    "Jones",
    "Kernighan",
    "Wilson",
    "Borg",
    "O'Neil",
    "D'Angelo",
    "Müller",
    "Åberg",
    "Nuñez",
]
TRADE = [
    "Bakery",
    "Roofing",
    "Dental",
    "Plumbing",
    "Landscaping",
    "Consulting",
    "Logistics",
    "Robotics",
    "Brewing",
    "Interiors",
    "Motors",
    "Optics",
    "Farms",
    "Studios",
    "Printing",
    "Foods",
    "Electric",
    "Fitness",
    "Legal",
    "Media",
]
PLACE = [
    "Harbor",
    "Summit",
    "Cedar",
    "Granite",
    "Willow",
    "Juniper",
    "Lakeside",
    "Northern",
    "Prairie",
    "Coastal",
    "Redwood",
    "Maple",
    "Canyon",
    "Sunset",
    "Blue",
    "River",
    "Silver",
    "Evergreen",
    "Golden",
    "Stone",
    "Bright",
]
ENDING = ("LLC", "Inc.", "Co.", "Partners", "Group", "& Sons", "")
STREET = ["Main", "Oak", "Pine", "Maple", "Cedar", "Elm", "Washington", "Lake", "Hill", "Park", "Sunset", "Church"]
CITY = (
    ("Portland", "OR", "97201"),
    ("Seattle", "WA", "98101"),
    ("Austin", "TX", "78701"),
    ("Denver", "CO", "80202"),
    ("Boston", "MA", "02108"),
    ("Chicago", "IL", "60601"),
    ("Miami", "FL", "33101"),
    ("Tucson", "AZ", "85701"),
)
GOODS = [
    "Hinge",
    "Valve",
    "Sensor",
    "Panel",
    "Bracket",
    "Cable",
    "Filter",
    "Pump",
    "Switch",
    "Lamp",
    "Motor",
    "Gasket",
    "Battery",
    "Antenna",
    "Relay",
    "Lens",
]
GRADE = ["Standard", "Compact", "Industrial", "Premium", "Outdoor", "Marine", "Slim", "Heavy-duty"]
TERMS = (("Due on receipt", 0), ("Net 15", 15), ("Net 30", 30), ("Net 45", 45), ("Net 60", 60))
ACCOUNTS = (
    ("Checking", "Bank", "Checking"),
    ("Accounts Receivable (A/R)", "Accounts Receivable", "AccountsReceivable"),
    ("Undeposited Funds", "Other Current Asset", "UndepositedFunds"),
    ("Inventory Asset", "Other Current Asset", "Inventory"),
    ("Sales of Product Income", "Income", "SalesOfProductIncome"),
    ("Services", "Income", "ServiceFeeIncome"),
    ("Discounts given", "Income", "DiscountsRefundsGiven"),
    ("Cost of Goods Sold", "Cost of Goods Sold", "SuppliesMaterialsCogs"),
    ("Office Expenses", "Expense", "OfficeGeneralAdministrativeExpenses"),
    ("Visa", "Credit Card", "CreditCard"),
)
CURRENCIES = (("EUR", "Euro"), ("CAD", "Canadian Dollar"))
OLDEST, NEWEST = timedelta(days=700), timedelta(days=32)  # ago; older than CDC looks back, so a seed is no change


class Seeder:
    """Fills the books of one company.  Time goes on evenly while it does."""

    def __init__(self, books: Books, seed: int, now: datetime) -> None:
        self.books = books
        self.random = random.Random(f"company {seed}")
        self.now = now
        self.today = now.date()
        self._open: dict[str, list[Json]] = {}
        self._sold: list[Json] = []
        self._owing: list[Json] = []  # customers of _open that may have something to pay
        self._balances: dict[str, float] = {}

    def fill(self, records: int, *, transactions: bool) -> None:
        """Make the small lists and `records` customers, a fifth of it items, and twice as many transactions."""
        self._time(0, 1)
        self._lists()
        steps = max(1, records * 4)
        customers = [self._customer(n, self._time(n, steps)) for n in range(records)]
        items = [self._item(n, self._time(records + n, steps)) for n in range(max(5, records // 5) if records else 0)]
        self._sold = [item for item in items if item["Active"] and item["Type"] not in {"Category", "Group"}]
        if transactions and customers:
            for n in range(records * 2):
                self._transaction(n, customers, items, self._time(records * 2 + n, steps + 1))
            self._post_balances()

    def _time(self, step: int, steps: int) -> datetime:
        at = self.now - OLDEST + (OLDEST - NEWEST) * (step / steps)
        self.books.store.now = lambda: at
        return at

    def _lists(self) -> None:
        load = self.books.load
        for name, days in TERMS:
            load("Term", {"Name": name, "Active": True, "Type": "STANDARD", "DueDays": days, "DiscountPercent": 0})
        discount = {"DueDays": 30, "DiscountPercent": 2, "DiscountDays": 10}
        load("Term", {"Name": "2% 10 Net 30", "Active": True, "Type": "STANDARD", **discount})
        for name, kind, detail in ACCOUNTS:
            load(
                "Account",
                {
                    "Name": name,
                    "FullyQualifiedName": name,
                    "Active": True,
                    "AccountType": kind,
                    "AccountSubType": detail,
                    "CurrentBalance": 0,
                    "CurrencyRef": {"value": "USD"},
                },
            )
        for name in ("Cash", "Check", "Visa", "MasterCard"):
            kind = "CREDIT_CARD" if name in {"Visa", "MasterCard"} else "NON_CREDIT_CARD"
            load("PaymentMethod", {"Name": name, "Active": True, "Type": kind})
        for code, name in CURRENCIES if self.books.many_currencies else ():
            load("CompanyCurrency", {"Code": code, "Name": name, "Active": True})
        agency = load("TaxAgency", {"DisplayName": "Oregon Department of Revenue", "TaxTrackedOnSales": True})
        rate = load(
            "TaxRate",
            {
                "Name": "State sales tax",
                "Description": "Sales tax",
                "Active": True,
                "RateValue": 8,
                "AgencyRef": {"value": agency["Id"]},
                "SpecialTaxType": "NONE",
            },
        )
        charged: Json = {"TaxRateRef": {"value": rate["Id"]}, "TaxTypeApplicable": "TaxOnAmount", "TaxOrder": 0}
        load(
            "TaxCode",
            {
                "Name": "State",
                "Active": True,
                "Taxable": True,
                "TaxGroup": True,
                "SalesTaxRateList": {"TaxRateDetail": [charged]},
            },
        )
        load("TaxCode", {"Name": "Exempt", "Active": True, "Taxable": False, "TaxGroup": False})
        load("Vendor", {"DisplayName": "Norton Lumber and Building Materials", "Active": True, "Balance": 0})
        load("Vendor", {"DisplayName": "Hall Properties", "Active": True, "Balance": 0})
        self._company()

    def _company(self) -> None:
        load = self.books.load
        load(
            "CompanyInfo",
            {
                "CompanyName": "Craig's Design and Supply",
                "LegalName": "Craig's Design and Supply LLC",
                "Country": "US",
                "FiscalYearStartMonth": "January",
                "SupportedLanguages": "en",
                "DefaultTimeZone": "America/Los_Angeles",
                "Email": {"Address": "books@example.com"},
                "NameValue": [{"Name": "NeoEnabled", "Value": "true"}],
            },
            "1",
        )
        load(
            "Preferences",
            {
                "CurrencyPrefs": {
                    "MultiCurrencyEnabled": self.books.many_currencies,
                    "HomeCurrency": {"value": self.books.home},
                },
                "SalesFormsPrefs": {
                    "CustomTxnNumbers": bool(self.books.switches.get("custom_txn_numbers")),
                    "AllowDiscount": True,
                    "AllowDeposit": True,
                    "AllowShipping": True,
                    "AllowEstimates": True,
                    "DefaultTerms": {"value": "3"},
                    "CustomField": [],
                },
                "TaxPrefs": {"UsingSalesTax": True, "PartnerTaxEnabled": False, "TaxGroupCodeRef": {"value": "1"}},
                "ProductAndServicesPrefs": {"QuantityOnHand": True, "ForSales": True},
                "AccountingInfoPrefs": {"TrackDepartments": False, "FirstMonthOfFiscalYear": "January"},
            },
            "1",
        )

    def _account(self, name: str) -> Json:
        key = next(n for n, account in enumerate(ACCOUNTS, 1) if account[0] == name)
        return {"value": str(key), "name": name}

    def _customer(self, n: int, at: datetime) -> Json:
        pick = self.random
        first, last = pick.choice(FIRST), pick.choice(LAST)
        is_company = pick.random() < 0.6
        company = f"{pick.choice(PLACE)} {pick.choice(TRADE)} {n + 1} {pick.choice(ENDING)}".rstrip()
        display = company if is_company else f"{first} {last} {n + 1}"
        code = "USD" if pick.random() < 0.92 else pick.choice(("EUR", "CAD"))
        if not self.books.many_currencies:
            code = self.books.home
        body: Json = {
            "DisplayName": display,
            "FullyQualifiedName": display,
            "PrintOnCheckName": display,
            "Active": True,
            "GivenName": first,
            "FamilyName": last,
            "Job": False,
            "BillWithParent": False,
            "IsProject": False,
            "Taxable": pick.random() < 0.5,
            "Balance": 0,
            "BalanceWithJobs": 0,
            "PreferredDeliveryMethod": "Email",
            "CurrencyRef": {"value": code, "name": dict(CURRENCIES).get(code, "United States Dollar")},
        }
        if is_company:
            body["CompanyName"] = company
        self._contact(body, n, f"{first}.{last}{n + 1}".lower())
        self._awkward(body, n)
        if n >= 20 and n % 25 == 0:
            self._below(body, str(n // 2))
        return self.books.load("Customer", body)

    def _contact(self, body: Json, n: int, mailbox: str) -> None:
        pick = self.random
        ascii_box = mailbox.encode("ascii", "ignore").decode().replace("'", "")
        if pick.random() < 0.9:
            body["PrimaryEmailAddr"] = {"Address": f"{ascii_box}@example.com"}
        if pick.random() < 0.8:
            body["PrimaryPhone"] = {"FreeFormNumber": f"(555) {pick.randrange(200, 999)}-{pick.randrange(10000):04d}"}
        if pick.random() < 0.2:
            body["Mobile"] = {"FreeFormNumber": f"(555) {pick.randrange(200, 999)}-{pick.randrange(10000):04d}"}
        if pick.random() < 0.85:
            city, state, code = pick.choice(CITY)
            address = {
                "Id": self.books.next_id("Address"),
                "Line1": f"{pick.randrange(1, 9900)} {pick.choice(STREET)} St",
                "City": city,
                "CountrySubDivisionCode": state,
                "PostalCode": code,
                "Country": "USA",
            }
            if pick.random() < 0.2:
                address["Line2"] = f"Suite {pick.randrange(1, 900)}"
            body["BillAddr"] = address
            if pick.random() < 0.3:
                body["ShipAddr"] = {**address, "Id": self.books.next_id("Address")}
        if "CompanyName" in body and pick.random() < 0.5:
            body["WebAddr"] = {"URI": f"https://www.example.com/{n + 1}"}
        if pick.random() < 0.8:
            body["SalesTermRef"] = {"value": str(pick.randrange(1, len(TERMS) + 2))}
        if pick.random() < 0.15:
            body["Notes"] = f"Prefers a call before {pick.randrange(8, 12)} o'clock."

    def _awkward(self, body: Json, n: int) -> None:
        """Make some customers the kind that breaks careless code."""
        if n % 97 == 3:
            body["Notes"] = ("A very long story. " * 110)[:2000]
        if n % 89 == 4:
            name = f"Brüder Åström & Söhne “{n}” Ω"
            body["DisplayName"] = body["FullyQualifiedName"] = body["CompanyName"] = name
        if n % 83 == 5:
            body["Active"] = False
            body["DisplayName"] = body["FullyQualifiedName"] = f"{body['DisplayName']} (deleted)"

    def _below(self, body: Json, parent: str) -> None:
        above = self.books.body("Customer", parent)
        if above is not None and above["Active"] and "ParentRef" not in above:
            body |= {"ParentRef": {"value": parent}, "Job": True, "Level": 1, "CurrencyRef": above["CurrencyRef"]}
            body["FullyQualifiedName"] = f"{above['FullyQualifiedName']}:{body['DisplayName']}"

    def _item(self, n: int, at: datetime) -> Json:
        pick = self.random
        kind = (
            ("Service", "NonInventory", "Inventory", "Category", "Group")[n]
            if n < 5
            else pick.choices(("Inventory", "NonInventory", "Service"), (5, 3, 2))[0]
        )
        name = f"{pick.choice(GRADE)} {pick.choice(GOODS)} {n + 1}"
        body: Json = {
            "Name": name,
            "FullyQualifiedName": name,
            "Active": n % 53 != 6,
            "Type": kind,
            "Taxable": True,
            "UnitPrice": 0,
            "PurchaseCost": 0,
            "TrackQtyOnHand": kind == "Inventory",
            "SubItem": False,
        }
        if not body["Active"]:
            body["Name"] = body["FullyQualifiedName"] = f"{name} (deleted)"
        if kind not in {"Category", "Group"}:
            price = pick.randrange(200, 90000) / 100
            income = "Services" if kind == "Service" else "Sales of Product Income"
            body |= {
                "UnitPrice": price,
                "PurchaseCost": round(price * 0.6, 2),
                "Description": f"{name}, each",
                "Sku": f"SKU-{n + 1:05d}",
                "IncomeAccountRef": self._account(income),
            }
        if kind in {"Inventory", "NonInventory"}:
            body["ExpenseAccountRef"] = self._account("Cost of Goods Sold")
        if kind == "Inventory":
            body |= {
                "AssetAccountRef": self._account("Inventory Asset"),
                "QtyOnHand": pick.randrange(0, 400),
                "InvStartDate": (self.today - OLDEST).isoformat(),
                "ReorderPoint": 5,
            }
        return self.books.load("Item", body)

    def _transaction(self, n: int, customers: list[Json], items: list[Json], at: datetime) -> None:
        customer = self.random.choice(customers)
        kind = self.random.choices(
            ("Invoice", "Payment", "Estimate", "SalesReceipt", "CreditMemo"), (55, 22, 10, 8, 5)
        )[0]
        place = 0
        if kind == "Payment" and self._owing:
            # Somebody who owes something pays, else most payments would find nothing to pay.
            place = self.random.randrange(len(self._owing))
            customer = self._owing[place]
        elif kind == "Payment":
            kind = "Invoice"
        body: Json = {
            "CustomerRef": {"value": customer["Id"], "name": customer["DisplayName"]},
            "CurrencyRef": customer["CurrencyRef"],
            "TxnDate": at.date().isoformat(),
        }
        code = str(cast("Json", customer["CurrencyRef"])["value"])
        if code != "USD":
            body["ExchangeRate"] = float(RATES[code])
        if kind == "Payment":
            owing = self._open[str(customer["Id"])]
            self._payment(body, owing)
            if not owing:
                self._owing[place] = self._owing[-1]
                self._owing.pop()
            return
        total = self._lines(body, items)
        body |= {"DocNumber": self.books.next_number(), "PrintStatus": "NeedToPrint", "EmailStatus": "NotSet"}
        for name in ("BillAddr", "ShipAddr"):
            if name in customer:
                body[name] = customer[name]
        if "PrimaryEmailAddr" in customer:
            body["BillEmail"] = customer["PrimaryEmailAddr"]
        self._finish(kind, body, customer, total)

    def _finish(self, kind: str, body: Json, customer: Json, total: float) -> None:
        key = str(customer["Id"])
        if "HomeTotalAmt" in body and kind in {"Invoice", "CreditMemo"}:
            body["HomeBalance"] = body["HomeTotalAmt"]
        if kind == "Invoice":
            # Due around today, so that each bucket of the aging report has something in it.
            late = self.random.choice((-20, -5, 0, 10, 45, 75, 120, 200))
            body["DueDate"] = (self.today - timedelta(days=late)).isoformat()
            body["TxnDate"] = (self.today - timedelta(days=late + 32)).isoformat()
            body["Balance"] = total
            if "SalesTermRef" in customer:
                body["SalesTermRef"] = customer["SalesTermRef"]
            if not self._open.get(key):
                self._owing.append(customer)
            self._open.setdefault(key, []).append(self.books.load("Invoice", body))
            self._owe(key, total)
        elif kind == "Estimate":
            body["TxnStatus"] = self.random.choice(("Pending", "Accepted", "Closed", "Rejected"))
            body["ExpirationDate"] = (date.fromisoformat(str(body["TxnDate"])) + timedelta(days=30)).isoformat()
            self.books.load("Estimate", body)
        elif kind == "SalesReceipt":
            body |= {"Balance": 0, "DepositToAccountRef": self._account("Undeposited Funds")}
            body["PaymentMethodRef"] = {"value": str(self.random.randrange(1, 5))}
            self.books.load("SalesReceipt", body)
        else:
            body |= {"Balance": total, "RemainingCredit": total}
            self.books.load("CreditMemo", body)
            self._owe(key, -total)

    def _lines(self, body: Json, items: list[Json]) -> float:
        lines: list[Json] = []
        total = 0.0
        sold = self._sold or items
        for n in range(self.random.randrange(1, 4)):
            item = self.random.choice(sold)
            quantity, price = self.random.randrange(1, 9), cast("float", item["UnitPrice"]) or 25.0
            amount = round(quantity * price, 2)
            total += amount
            detail = {
                "ItemRef": {"value": item["Id"], "name": item["Name"]},
                "Qty": quantity,
                "UnitPrice": price,
                "TaxCodeRef": {"value": "NON"},
            }
            lines.append(
                {
                    "Id": str(n + 1),
                    "LineNum": n + 1,
                    "Amount": amount,
                    "Description": f"{item['Name']}, each",
                    "DetailType": "SalesItemLineDetail",
                    "SalesItemLineDetail": detail,
                }
            )
        total = round(total, 2)
        lines.append({"Amount": total, "DetailType": "SubTotalLineDetail", "SubTotalLineDetail": {}})
        body |= {"Line": lines, "TotalAmt": total, "TxnTaxDetail": {"TotalTax": 0}}
        if "ExchangeRate" in body:
            body["HomeTotalAmt"] = round(total * cast("float", body["ExchangeRate"]), 2)
        return total

    def _payment(self, body: Json, owing: list[Json]) -> None:
        """Pay one or several invoices, the last one sometimes in part."""
        paid = owing[: self.random.randrange(1, 4)]
        del owing[: len(paid)]
        lines: list[Json] = []
        number = self.books.next_id("Payment")
        for place, invoice in enumerate(paid):
            left = cast("float", invoice["Balance"])
            in_part = place == len(paid) - 1 and self.random.random() < 0.3
            amount = round(left / 2, 2) if in_part else left
            lines.append({"Amount": amount, "LinkedTxn": [{"TxnId": invoice["Id"], "TxnType": "Invoice"}]})
            linked = [{"TxnId": number, "TxnType": "Payment"}]
            self.books.silently(
                "Invoice", str(invoice["Id"]), {"Balance": round(left - amount, 2), "LinkedTxn": linked}
            )
        total = round(sum(cast("float", line["Amount"]) for line in lines), 2)
        body |= {
            "TotalAmt": total,
            "UnappliedAmt": 0,
            "Line": lines,
            "ProcessPayment": False,
            "PaymentRefNum": str(self.random.randrange(1000, 9999)),
            "PaymentMethodRef": {"value": str(self.random.randrange(1, 5))},
            "DepositToAccountRef": self._account("Undeposited Funds"),
        }
        self.books.load("Payment", body, number)
        self._owe(str(cast("Json", body["CustomerRef"])["value"]), -total)

    def _owe(self, customer: str, amount: float) -> None:
        self._balances[customer] = self._balances.get(customer, 0.0) + amount

    def _post_balances(self) -> None:
        with_jobs = dict(self._balances)
        for key, amount in self._balances.items():
            above = cast("Json", self.books.body("Customer", key)).get("ParentRef")
            if isinstance(above, dict):
                with_jobs[str(above["value"])] = with_jobs.get(str(above["value"]), 0.0) + amount
        for key, amount in with_jobs.items():
            own = round(self._balances.get(key, 0.0), 2)
            self.books.silently("Customer", key, {"Balance": own, "BalanceWithJobs": round(amount, 2)})
