"""Which tables and columns can be kept in agreement, and what is each?  Metadata has the last word on lengths."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from connectors.contract import Field, Kind, Write

SECOND = timedelta(seconds=1)
CUSTOMER = ("account", "contact")

# Lookups to small lists are options: field -> (table, column that people read).  Currencies agree by their ISO code.
LISTS: dict[str, tuple[str, str]] = {
    "transactioncurrencyid": ("transactioncurrency", "isocurrencycode"),
    "defaultuomid": ("uom", "name"),
    "uomid": ("uom", "name"),
    "defaultuomscheduleid": ("uomschedule", "name"),
    "pricelevelid": ("pricelevel", "name"),
    "defaultpricelevelid": ("pricelevel", "name"),
}
DOCUMENTS: dict[str, str] = {"quote": "quotedetail", "salesorder": "salesorderdetail", "invoice": "invoicedetail"}

# State to archive with, state to restore to, and the states that mean archived (sheet, section 14).
ARCHIVE: dict[str, dict[str, int]] = {
    "product": {"statecode": 1, "statuscode": 2},
    "quote": {"statecode": 3, "statuscode": 6},
    "salesorder": {"statecode": 2, "statuscode": 4},
    "invoice": {"statecode": 3, "statuscode": 100003},
}
ARCHIVE_DEFAULT = {"statecode": 1, "statuscode": 2}
RESTORE = {"statecode": 0, "statuscode": 1}


def text(name: str, size: int, **more: object) -> Field:
    """Declare a text column."""
    return Field(name, Kind.TEXT, max_length=size, **more)  # type: ignore[arg-type]


def money(name: str, write: Write = Write.ALWAYS) -> Field:
    """Declare a money column: four digits are kept, whatever the currency shows."""
    return Field(name, Kind.MONEY, write=write, scale=4)


def option(name: str, write: Write = Write.ALWAYS) -> Field:
    """Declare a choice, or a lookup to a small list."""
    return Field(name, Kind.OPTION, write=write)


def day(name: str) -> Field:
    """Declare a date without time."""
    return Field(name, Kind.DATE)


def ref(name: str, *targets: str) -> Field:
    """Declare a lookup to records that are kept in agreement themselves."""
    return Field(name, Kind.REF, refers_to=targets)


def _address(side: str, names: tuple[tuple[str, int], ...]) -> tuple[Field, ...]:
    return tuple(text(f"{side}_{name}", size) for name, size in names)


_PLACE = (("city", 80), ("stateorprovince", 50), ("postalcode", 20), ("country", 80))
_LINES = (("line1", 250), ("line2", 250), ("line3", 250), *_PLACE)
_PARTY = (
    ("name", 200), ("line1", 4000), ("line2", 4000), ("line3", 4000), *_PLACE, ("telephone", 50), ("fax", 50),
)  # fmt: skip
CREATED = Field("createdon", Kind.DATETIME, write=Write.NEVER, resolution=SECOND)
MODIFIED = Field("modifiedon", Kind.DATETIME, write=Write.NEVER, resolution=SECOND)
RATE = Field("exchangerate", Kind.DECIMAL, write=Write.NEVER, scale=10)

_PERSON = (
    text("emailaddress1", 100, findable=True),
    *(text(name, 50) for name in ("telephone1", "telephone2", "telephone3", "fax")),
    text("websiteurl", 200),
    text("description", 2000),
    money("creditlimit"),
    Field("creditonhold", Kind.BOOLEAN),
    option("paymenttermscode"),
    option("transactioncurrencyid"),
    option("defaultpricelevelid"),
    *_address("address1", _LINES),
    *_address("address2", _LINES),
    CREATED,
    MODIFIED,
)
_DOCUMENT = (
    text("name", 300, findable=True),
    ref("customerid", *CUSTOMER),
    text("description", 2000),
    option("paymenttermscode"),
    option("shippingmethodcode"),
    option("pricelevelid"),
    option("transactioncurrencyid"),
    RATE,
    money("discountamount"),
    Field("discountpercentage", Kind.DECIMAL, scale=2),
    money("freightamount"),
    *(
        money(name, Write.NEVER)
        for name in (
            "totallineitemamount", "totaldiscountamount", "totalamountlessfreight", "totaltax", "totalamount",
        )
    ),
    *_address("billto", _PARTY),
    *_address("shipto", _PARTY),
    CREATED,
)  # fmt: skip

# A line's columns.  `details` as a whole is Write.NEVER: documents go from Dataverse to accounting only, and rows of
# a document can't be written in one request with its header once it exists.
LINE: tuple[Field, ...] = (
    ref("productid", "product"),
    option("uomid"),
    Field("isproductoverridden", Kind.BOOLEAN),
    text("productdescription", 500),
    Field("quantity", Kind.DECIMAL, scale=5),
    money("priceperunit"),
    money("manualdiscountamount"),
    money("tax"),
    money("extendedamount", Write.NEVER),
    text("description", 2000),
    Field("lineitemnumber", Kind.INTEGER),
)
DETAILS = Field("details", Kind.ROWS, label="Lines", write=Write.NEVER, rows=LINE)


def _number(name: str) -> Field:
    return text(name, 100, write=Write.CREATE, findable=True)


def _promoted(prefix: str) -> tuple[Field, ...]:
    return (
        text(f"{prefix}_externalid", 60, findable=True),
        Field(f"{prefix}_promote", Kind.OPTION, findable=True),  # asked for: whose turn is it?
        text(f"{prefix}_promotemessage", 2000),
        text(f"{prefix}_linkkey", 36, findable=True),
    )


def _balances(prefix: str) -> tuple[Field, ...]:
    amounts = (
        "currentbalance", "totalbalance", "agingcurrent", "aging30", "aging60", "aging90", "aging91", "ytdsales",
    )  # fmt: skip
    days = ("agingasof", "lasttransactiondate")
    return (*(money(f"{prefix}_{name}") for name in amounts), *(day(f"{prefix}_{name}") for name in days))


def declared(prefix: str) -> dict[str, tuple[Field, ...]]:
    """Return the columns of each table that the field map knows (inolink sheet, last two sections)."""
    ours = _promoted(prefix)
    account = (
        text("name", 160, findable=True),
        text("accountnumber", 20, findable=True),
        *(option(name) for name in ("customertypecode", "industrycode", "accountcategorycode")),
        ref("primarycontactid", "contact"),
        ref("parentaccountid", "account"),
        *_PERSON, *_balances(prefix), *ours,
    )  # fmt: skip
    contact = (
        text("firstname", 50),
        text("middlename", 50),
        text("lastname", 50, findable=True),
        text("fullname", 160, write=Write.NEVER, findable=True),
        text("salutation", 100),
        text("suffix", 10),
        text("jobtitle", 100),
        text("mobilephone", 50),
        ref("parentcustomerid", *CUSTOMER),
        *_PERSON, *_balances(prefix), *ours,
    )  # fmt: skip
    product = (
        text("name", 100, findable=True),
        text("productnumber", 100, findable=True),
        text("description", 2000),
        *(money(name) for name in ("price", "currentcost", "standardcost")),
        Field("quantityonhand", Kind.DECIMAL, scale=5),
        option("producttypecode"),
        option("productstructure"),
        Field("quantitydecimal", Kind.INTEGER),
        *(option(name) for name in ("defaultuomid", "defaultuomscheduleid", "pricelevelid", "transactioncurrencyid")),
        CREATED,
        Field(f"{prefix}_quantityonhand", Kind.DECIMAL, scale=5),
        *ours,
    )
    quote_days = ("effectivefrom", "effectiveto", "expireson", "requestdeliveryby")
    order_days = ("requestdeliveryby", "datefulfilled", "submitdate")
    invoice_days = ("duedate", "datedelivered")
    return {
        "account": account,
        "contact": contact,
        "product": product,
        "quote": (*_DOCUMENT, _number("quotenumber"), *map(day, quote_days), DETAILS, *ours),
        "salesorder": (
            *_DOCUMENT, _number("ordernumber"), *map(day, order_days), ref("quoteid", "quote"), DETAILS, *ours,
        ),
        "invoice": (
            *_DOCUMENT, _number("invoicenumber"), *map(day, invoice_days), ref("salesorderid", "salesorder"), DETAILS,
            *ours,
        ),
        f"{prefix}_salestransaction": _transaction(prefix),
    }  # fmt: skip


def _transaction(prefix: str) -> tuple[Field, ...]:
    return (
        text(f"{prefix}_name", 200, findable=True),
        option(f"{prefix}_type"),
        text(f"{prefix}_number", 50, findable=True),
        day(f"{prefix}_date"),
        day(f"{prefix}_duedate"),
        money(f"{prefix}_amount"),
        money(f"{prefix}_balance"),
        text(f"{prefix}_status", 50),
        text(f"{prefix}_memo", 2000),
        ref(f"{prefix}_customerid", *CUSTOMER),
        option("transactioncurrencyid"),
        text(f"{prefix}_externalid", 60, findable=True),
        text(f"{prefix}_linkkey", 36, findable=True),
        CREATED,
    )


def after(entity: str) -> tuple[str, ...]:
    """Return what is written before `entity`, because it is pointed at."""
    if entity in DOCUMENTS:
        return ("account", "contact", "product")
    if entity in {"account", "product"}:
        return ()
    return ("account",) if entity == "contact" else CUSTOMER


def wire_name(field: Field) -> str:
    """Return the property that carries a field in a body: lookups are read as `_x_value`."""
    return f"_{field.name}_value" if field.kind is Kind.REF or field.name in LISTS else field.name


_KINDS = {
    "String": Kind.TEXT, "Memo": Kind.TEXT, "Money": Kind.MONEY, "Decimal": Kind.DECIMAL, "Double": Kind.DECIMAL,
    "Integer": Kind.INTEGER, "Boolean": Kind.BOOLEAN, "Picklist": Kind.OPTION,
}  # fmt: skip


def _text_of(value: object, *path: str) -> str:
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return str(value) if value is not None else ""


def from_metadata(field: Field, attribute: dict[str, object]) -> Field:
    """Correct a declared field by what this very environment says of its column."""
    level = _text_of(attribute.get("RequiredLevel"), "Value")
    write = field.write
    if attribute.get("IsValidForCreate") is False and attribute.get("IsValidForUpdate") is False:
        write = Write.NEVER
    elif attribute.get("IsValidForUpdate") is False:
        write = Write.CREATE
    length, precision = attribute.get("MaxLength"), attribute.get("Precision")
    return replace(
        field,
        label=_text_of(attribute.get("DisplayName"), "UserLocalizedLabel", "Label") or field.label or field.name,
        write=write,
        required=level in {"SystemRequired", "ApplicationRequired"} and write is not Write.NEVER,
        max_length=length if isinstance(length, int) else field.max_length,
        scale=precision if isinstance(precision, int) else field.scale,
    )


def custom_field(attribute: dict[str, object], entities: frozenset[str]) -> Field | None:
    """Return a field for a customer's own column, or None where its type can't be kept in agreement."""
    name, code = str(attribute.get("LogicalName")), str(attribute.get("AttributeType"))
    if name.endswith("_base"):  # the twin in base currency that comes with each money column
        return None
    if code == "DateTime":
        only = _text_of(attribute.get("DateTimeBehavior"), "Value") == "DateOnly"
        found = Field(name, Kind.DATE) if only else Field(name, Kind.DATETIME, resolution=SECOND)
    elif code in {"Lookup", "Customer"}:
        targets = attribute.get("Targets")
        known = tuple(t for t in targets if t in entities) if isinstance(targets, list) else ()
        if not known:
            return None
        found = Field(name, Kind.REF, refers_to=known)
    elif str(attribute.get("@odata.type", "")).endswith("MultiSelectPicklistAttributeMetadata"):
        found = Field(name, Kind.OPTIONS)
    elif code in _KINDS:
        found = Field(name, _KINDS[code])
    else:
        return None
    return from_metadata(found, attribute)
