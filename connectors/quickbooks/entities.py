"""Which records and fields does QuickBooks Online have, and what may be done with each?

Field names are dotted paths of the vendor's own body.  Lengths are those of the quickbooks sheet, section 12.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from connectors.contract import Entity, Field, Kind, Lock, Removal, Returns, Safe, Verb, Write

FEED = "cdc"
PAGE = 1000  # rows of one query answer and objects of one CDC answer (sections 4 and 8)
BATCH = 30  # items of one batch request (section 7)
LISTS = ("Customer", "Item")  # name lists: never deleted, only made inactive (section 5)
VOIDABLE = ("Invoice", "Payment", "SalesReceipt")  # section 5
SECOND = timedelta(seconds=1)  # of the times in MetaData

# References to small lists are options, because people choose from them: field -> the list that has the choices.
OPTION_LISTS = {
    "SalesTermRef": "Term",
    "PaymentMethodRef": "PaymentMethod",
    "CurrencyRef": "CompanyCurrency",
    "DefaultTaxCodeRef": "TaxCode",
    "SalesTaxCodeRef": "TaxCode",
    "PurchaseTaxCodeRef": "TaxCode",
    "TaxCodeRef": "TaxCode",
    "TxnTaxDetail.TxnTaxCodeRef": "TaxCode",
    "IncomeAccountRef": "Account",
    "ExpenseAccountRef": "Account",
    "AssetAccountRef": "Account",
    "DepositToAccountRef": "Account",
}
# Account types that QuickBooks takes in a place; the others it refuses with code 6430.
ACCOUNT_TYPES = {
    "IncomeAccountRef": frozenset({"Income", "Other Income"}),
    "ExpenseAccountRef": frozenset({"Cost of Goods Sold", "Expense", "Other Expense"}),
    "AssetAccountRef": frozenset({"Other Current Asset"}),
    "DepositToAccountRef": frozenset({"Bank", "Other Current Asset"}),
}
CHOICES = {
    "PreferredDeliveryMethod": ("Print", "Email", "None"),
    "Type": ("Inventory", "NonInventory", "Service", "Category", "Group"),
    "TxnStatus": ("Pending", "Accepted", "Closed", "Rejected", "Converted"),
    "EmailStatus": ("NotSet", "NeedToSend", "EmailSent"),
    "PrintStatus": ("NotSet", "NeedToPrint", "PrintComplete"),
    "DetailType": ("SalesItemLineDetail", "DiscountLineDetail", "DescriptionOnly", "GroupLineDetail"),
}
# What `find` may ask for -> the property that the query language filters by.
FINDABLE = {
    "DisplayName": "DisplayName",
    "CompanyName": "CompanyName",
    "GivenName": "GivenName",
    "FamilyName": "FamilyName",
    "PrimaryEmailAddr.Address": "PrimaryEmailAddr",
    "Name": "Name",
    "Sku": "Sku",
    "DocNumber": "DocNumber",
    "PaymentRefNum": "PaymentRefNum",
}
AGING = {  # field -> column title of the AgedReceivables report (section 13)
    "AgingCurrent": "Current",
    "Aging30": "1 - 30",
    "Aging60": "31 - 60",
    "Aging90": "61 - 90",
    "Aging91": "91 and over",
}


def text(name: str, length: int, *, label: str = "", write: Write = Write.ALWAYS, required: bool = False) -> Field:
    """Declare a text of at most `length` characters."""
    return Field(name, Kind.TEXT, label, write=write, required=required, max_length=length, findable=name in FINDABLE)


def option(name: str, *, label: str = "", write: Write = Write.ALWAYS) -> Field:
    """Declare a choice: a reference to a small list, or one of fixed words."""
    return Field(name, Kind.OPTION, label, write=write)


def money(name: str, *, label: str = "", write: Write = Write.ALWAYS, group: str = "", scale: int = 2) -> Field:
    """Declare an amount; QuickBooks keeps two digits, seven in unit prices."""
    return Field(name, Kind.MONEY, label, write=write, scale=scale, group=group)


def moment(name: str, label: str) -> Field:
    """Declare a time that the server keeps."""
    return Field(name, Kind.DATETIME, label, write=Write.NEVER, resolution=SECOND)


def address(prefix: str, label: str) -> tuple[Field, ...]:
    """Declare the parts of a PhysicalAddress."""
    parts = [(f"Line{n}", 500) for n in range(1, 6)]
    parts += [("City", 255), ("CountrySubDivisionCode", 255), ("PostalCode", 30), ("Country", 255)]
    return tuple(text(f"{prefix}.{part}", length, label=f"{label}: {part}") for part, length in parts)


def phone(name: str, label: str) -> Field:
    """Declare a telephone number."""
    return text(f"{name}.FreeFormNumber", 30, label=label)


TIMES = (moment("MetaData.CreateTime", "Created"), moment("MetaData.LastUpdatedTime", "Last updated"))

CUSTOMER = (
    # The record itself: a customer with company and person is an account and a contact, which refer to each other.
    Field("Id", Kind.REF, "The customer itself", write=Write.NEVER, refers_to=("Customer",)),
    text("DisplayName", 500, label="Display name", required=True),
    text("CompanyName", 100, label="Company name"),
    text("Title", 16),
    text("GivenName", 100, label="First name"),
    text("MiddleName", 100, label="Middle name"),
    text("FamilyName", 100, label="Last name"),
    text("Suffix", 16),
    text("FullyQualifiedName", 2500, label="Full name", write=Write.NEVER),
    text("PrintOnCheckName", 110, label="Name on cheques"),
    text("PrimaryEmailAddr.Address", 100, label="E-mail"),
    phone("PrimaryPhone", "Phone"),
    phone("AlternatePhone", "Alternate phone"),
    phone("Mobile", "Mobile"),
    phone("Fax", "Fax"),
    text("WebAddr.URI", 1000, label="Website"),
    *address("BillAddr", "Billing address"),
    *address("ShipAddr", "Shipping address"),
    text("Notes", 2000),
    text("ResaleNum", 16, label="Resale number"),
    Field("ParentRef", Kind.REF, "Parent customer", refers_to=("Customer",)),
    Field("Job", Kind.BOOLEAN, "Is a sub-customer", write=Write.NEVER),
    Field("Taxable", Kind.BOOLEAN, "Taxable"),
    option("SalesTermRef", label="Terms"),
    option("PaymentMethodRef", label="Payment method"),
    option("DefaultTaxCodeRef", label="Default tax code"),
    option("CurrencyRef", label="Currency", write=Write.CREATE),  # fixed for life (section 12)
    option("PreferredDeliveryMethod", label="Preferred delivery"),
    Field("Active", Kind.BOOLEAN, "Active", write=Write.NEVER),  # written by the verbs archive and restore
    money("Balance", label="Balance", write=Write.NEVER),
    money("BalanceWithJobs", label="Balance with sub-customers", write=Write.NEVER),
    *TIMES,
    *(money(name, label=f"Aging: {title}", write=Write.NEVER, group="aging") for name, title in AGING.items()),
    Field("AgingAsOf", Kind.DATE, "Aging as of", write=Write.NEVER, group="aging"),
    money("YearToDateSales", label="Sales in this fiscal year", write=Write.NEVER, group="sales"),
    Field("LastTransactionDate", Kind.DATE, "Last transaction", write=Write.NEVER, group="sales"),
)

ITEM = (
    text("Name", 100, required=True),
    text("FullyQualifiedName", 500, label="Full name", write=Write.NEVER),
    text("Sku", 100, label="SKU"),
    text("Description", 4000, label="Sales description"),
    text("PurchaseDesc", 1000, label="Purchase description"),
    option("Type", write=Write.CREATE),
    money("UnitPrice", label="Sales price", scale=7),
    money("PurchaseCost", label="Cost", scale=7),
    Field("QtyOnHand", Kind.DECIMAL, "Quantity on hand", write=Write.CREATE, scale=5, group="stock"),
    Field("InvStartDate", Kind.DATE, "Inventory start", write=Write.CREATE),
    Field("TrackQtyOnHand", Kind.BOOLEAN, "Track quantity", write=Write.CREATE),
    Field("ReorderPoint", Kind.DECIMAL, "Reorder point", scale=5),
    Field("Taxable", Kind.BOOLEAN, "Taxable"),
    option("IncomeAccountRef", label="Income account"),
    option("ExpenseAccountRef", label="Expense account"),
    option("AssetAccountRef", label="Inventory asset account"),
    option("SalesTaxCodeRef", label="Sales tax code"),
    option("PurchaseTaxCodeRef", label="Purchase tax code"),
    Field("ParentRef", Kind.REF, "Parent item", refers_to=("Item",)),
    Field("SubItem", Kind.BOOLEAN, "Is a sub-item", write=Write.NEVER),
    Field("Active", Kind.BOOLEAN, "Active", write=Write.NEVER),
    *TIMES,
)

SALES_LINE = (
    option("DetailType"),
    Field("ItemRef", Kind.REF, "Item", refers_to=("Item",)),
    Field("Qty", Kind.DECIMAL, "Quantity", scale=5),
    money("UnitPrice", label="Unit price", scale=7),
    money("Amount"),
    text("Description", 4000),
    option("TaxCodeRef", label="Tax code"),
)
PAYMENT_LINE = (money("Amount"), text("TxnId", 30, label="Paid transaction"), text("TxnType", 30, label="Its type"))
# Computed here from balance, due date and note: "Overdue" begins at midnight without any change in QuickBooks, so it
# is as old as the last reading of the record.
STATUS = text("Status", 50, write=Write.NEVER)


def transaction(*own: Field, customer: bool = True, lines: tuple[Field, ...] = SALES_LINE) -> tuple[Field, ...]:
    """Declare what all sales transactions have, and their own fields after it."""
    return (
        Field("CustomerRef", Kind.REF, "Customer", required=customer, refers_to=("Customer",)),
        Field("TxnDate", Kind.DATE, "Date"),
        text("PrivateNote", 4000, label="Memo"),
        option("CurrencyRef", label="Currency", write=Write.CREATE),
        Field("ExchangeRate", Kind.DECIMAL, "Exchange rate", scale=7),
        Field("Line", Kind.ROWS, "Lines", rows=lines, required=lines is SALES_LINE),
        STATUS,
        *own,
        *TIMES,
    )


def document(*own: Field, customer: bool = True) -> tuple[Field, ...]:
    """Declare a transaction that is a document with a number, addresses, lines and a total."""
    return transaction(
        text("DocNumber", 21, label="Number"),
        money("TotalAmt", label="Total", write=Write.NEVER),
        money("TxnTaxDetail.TotalTax", label="Tax"),
        option("TxnTaxDetail.TxnTaxCodeRef", label="Tax code"),
        text("CustomerMemo.value", 1000, label="Message to the customer"),
        text("BillEmail.Address", 100, label="E-mail"),
        *address("BillAddr", "Billing address"),
        *address("ShipAddr", "Shipping address"),
        option("EmailStatus", label="E-mail status"),
        option("PrintStatus", label="Print status"),
        *own,
        customer=customer,
    )


INVOICE = document(
    Field("DueDate", Kind.DATE, "Due date"),
    option("SalesTermRef", label="Terms"),
    Field("ShipDate", Kind.DATE, "Ship date"),
    text("TrackingNum", 31, label="Tracking number"),
    money("Deposit"),
    money("Balance", write=Write.NEVER),
)
PAYMENT = transaction(
    money("TotalAmt", label="Total"),
    money("UnappliedAmt", label="Not applied", write=Write.NEVER),
    text("PaymentRefNum", 21, label="Reference number"),
    option("PaymentMethodRef", label="Payment method"),
    option("DepositToAccountRef", label="Deposit to"),
    lines=PAYMENT_LINE,
)
CREDIT_MEMO = document(
    money("Balance", write=Write.NEVER),
    money("RemainingCredit", label="Remaining credit", write=Write.NEVER),
    option("SalesTermRef", label="Terms"),
)
ESTIMATE = document(
    option("TxnStatus", label="Estimate status"),
    Field("ExpirationDate", Kind.DATE, "Expiration date"),
    Field("DueDate", Kind.DATE, "Due date"),
    text("AcceptedBy", 100, label="Accepted by"),
    Field("AcceptedDate", Kind.DATE, "Accepted on"),
    option("SalesTermRef", label="Terms"),
)
SALES_RECEIPT = document(
    money("Balance", write=Write.NEVER),
    text("PaymentRefNum", 21, label="Reference number"),
    option("PaymentMethodRef", label="Payment method"),
    option("DepositToAccountRef", label="Deposit to"),
    customer=False,
)


def declare(name: str, label: str, fields: tuple[Field, ...], *, batch: int, after: Sequence[str] = ()) -> Entity:
    """Return an entity with what is the same for all of QuickBooks."""
    verbs = {Verb.CREATE, Verb.UPDATE}
    verbs |= {Verb.ARCHIVE, Verb.RESTORE} if name in LISTS else {Verb.DELETE}
    if name in VOIDABLE:
        verbs.add(Verb.ARCHIVE)  # a void stays readable, and nothing takes it back
    return Entity(
        name,
        fields,
        feed=FEED,
        tells_deletes=True,
        lock=Lock.NATIVE,
        safe=Safe.REQUEST_KEY,
        removal=Removal.ARCHIVE if name in LISTS else Removal.DELETE,
        returns=Returns.VALUES,
        verbs=frozenset(verbs),
        page=PAGE,
        batch=batch,
        version_tells_all=name not in LISTS,  # balances and stock move with transactions (inolink sheet, last lines)
        wants_current=True,  # a sparse update replaces a nested object (an address) as a whole
        after=tuple(after),
        resolution=SECOND,
        label=label,
    )


def declare_all(batch: int = BATCH) -> tuple[Entity, ...]:
    """Return all entities, for batches of so many items."""
    parties = LISTS
    return (
        declare("Customer", "Customer", CUSTOMER, batch=batch),
        declare("Item", "Product or service", ITEM, batch=batch),
        declare("Estimate", "Estimate", ESTIMATE, batch=batch, after=parties),
        declare("Invoice", "Invoice", INVOICE, batch=batch, after=(*parties, "Estimate")),
        declare("CreditMemo", "Credit memo", CREDIT_MEMO, batch=batch, after=parties),
        declare("SalesReceipt", "Sales receipt", SALES_RECEIPT, batch=batch, after=parties),
        declare("Payment", "Payment", PAYMENT, batch=batch, after=("Customer", "Invoice", "CreditMemo")),
    )


ENTITIES = {entity.name: entity for entity in declare_all()}
NAME_FIELDS = {"Customer": "DisplayName", "Item": "Name"}  # renamed by the server when made inactive (section 5)
