"""Which tables and columns does the simulated environment have?  One list for each (sheet, sections 13 and 14)."""

from __future__ import annotations

from dataclasses import dataclass, field

Choices = tuple[tuple[int, str], ...]
CHOICES: dict[str, Choices] = {
    "terms": ((1, "Net 30"), (2, "2% 10, Net 30"), (3, "Net 45"), (4, "Net 60")),
    "shipping": (
        (1, "Airborne"), (2, "DHL"), (3, "FedEx"), (4, "UPS"), (5, "Postal Mail"), (6, "Full Load"), (7, "Will Call"),
    ),
    "customertype": ((1, "Competitor"), (2, "Consultant"), (3, "Customer"), (6, "Partner"), (8, "Prospect")),
    "industry": ((1, "Accounting"), (7, "Consulting"), (9, "Distributors"), (33, "Wholesale")),
    "category": ((1, "Preferred Customer"), (2, "Standard")),
    "producttype": ((1, "Sales Inventory"), (2, "Miscellaneous Charges"), (3, "Services"), (4, "Flat Fees")),
    "structure": ((1, "Product"), (2, "Product Family"), (3, "Product Bundle")),
    "priority": ((1, "Default Value"),),
    "pricing": ((0, "None"), (1, "Detail Error"), (2, "Missing Price Level"), (5, "Missing Product")),
    "company": ((1, "North"), (2, "South")),  # whose records these are, where several companies share the environment
    "promote": ((0, "None"), (1, "Queued"), (2, "Success"), (3, "Error")),
    "transaction": ((1, "Invoice"), (2, "Payment"), (3, "Credit memo"), (4, "Estimate"), (5, "Sales receipt")),
}  # fmt: skip

REQUIRED = {"app": "ApplicationRequired", "system": "SystemRequired", "": "None"}
DEFAULT_STATES = ((0, "Active", 1), (1, "Inactive", 2))
DEFAULT_STATUSES = ((1, "Active", 0), (2, "Inactive", 1))


@dataclass(slots=True)
class Column:
    """One column, with what metadata says of it and what a write must keep."""

    name: str
    type: str  # string memo money decimal integer bigint boolean date datetime pick multi state status lookup id
    size: int = 0  # characters of a text, digits after the point of a number
    options: Choices = ()
    targets: tuple[str, ...] = ()
    required: str = ""
    readonly: bool = False
    create_only: bool = False
    custom: bool = False
    schema: str = ""

    @property
    def wire(self) -> str:
        """The property's name in a body: lookups are read as `_x_value`."""
        return f"_{self.name}_value" if self.type == "lookup" else self.name

    def navigation(self, target: str) -> str:
        """The navigation property towards `target`: schema name for custom columns, one for each target if several."""
        return f"{self.schema}_{target}" if len(self.targets) > 1 else self.schema


@dataclass(slots=True)
class Table:
    """One table."""

    logical: str
    set: str
    id: str
    primary: str
    code: int
    columns: dict[str, Column] = field(default_factory=dict)  # by logical name
    states: tuple[tuple[int, str, int], ...] = DEFAULT_STATES  # value, label, default status
    statuses: tuple[tuple[int, str, int], ...] = DEFAULT_STATUSES  # value, label, state
    keys: dict[str, tuple[str, ...]] = field(default_factory=dict)
    custom: bool = False
    wires: dict[str, Column] = field(default_factory=dict)
    navigations: dict[str, tuple[Column, str]] = field(default_factory=dict)  # name -> (lookup, target)
    collections: dict[str, tuple[str, str]] = field(default_factory=dict)  # name -> (child table, its lookup)

    def add(self, column: Column) -> None:
        """Add a column and index its names."""
        column.schema = column.schema or column.name
        self.columns[column.name] = column
        self.wires[column.wire] = column
        for target in column.targets:
            self.navigations[column.navigation(target)] = (column, target)

    def booleans(self) -> list[str]:
        """Return the yes/no columns, which are never empty."""
        return [column.name for column in self.columns.values() if column.type == "boolean"]

    def drop(self, name: str) -> None:
        """Take a column away, with the keys that need it."""
        column = self.columns.pop(name)
        del self.wires[column.wire]
        self.navigations = {n: v for n, v in self.navigations.items() if v[0] is not column}
        self.keys = {n: v for n, v in self.keys.items() if name not in v}


ADDRESS = """
address{n}_line1 string:250
address{n}_line2 string:250
address{n}_line3 string:250
address{n}_city string:80
address{n}_stateorprovince string:50
address{n}_postalcode string:20
address{n}_country string:80
address{n}_composite memo:1000 ro
"""
DOCUMENT_ADDRESS = "".join(
    f"{side}_{part} string:{size}\n"
    for side in ("billto", "shipto")
    for part, size in (
        ("name", 200), ("line1", 4000), ("line2", 4000), ("line3", 4000), ("city", 80), ("stateorprovince", 50),
        ("postalcode", 20), ("country", 80), ("telephone", 50), ("fax", 50), ("composite", 1000),
    )
)  # fmt: skip
PERSON = (
    """
emailaddress1 string:100
telephone1 string:50
telephone2 string:50
telephone3 string:50
fax string:50
websiteurl string:200
description memo:2000
creditlimit money
creditonhold boolean
paymenttermscode pick:terms
transactioncurrencyid lookup:transactioncurrency
exchangerate decimal:10 ro
defaultpricelevelid lookup:pricelevel
ownerid lookup:systemuser
preferredcontactmethodcode pick:priority
"""
    + ADDRESS.format(n=1)
    + ADDRESS.format(n=2)
)
DOCUMENT = (
    """
name string:300 app
description memo:2000
customerid lookup:account,contact app
paymenttermscode pick:terms
shippingmethodcode pick:shipping
discountamount money
discountpercentage decimal:2
freightamount money
totallineitemamount money ro
totaldiscountamount money ro
totalamountlessfreight money ro
totaltax money ro
totalamount money ro
pricelevelid lookup:pricelevel
opportunityid id
transactioncurrencyid lookup:transactioncurrency
exchangerate decimal:10 ro
pricingerrorcode pick:pricing ro
ownerid lookup:systemuser
"""
    + DOCUMENT_ADDRESS
)
DETAIL = """
productid lookup:product
uomid lookup:uom
isproductoverridden boolean
ispriceoverridden boolean
productdescription string:500
quantity decimal:5
priceperunit money
manualdiscountamount money
volumediscountamount money ro
tax money
baseamount money ro
extendedamount money ro
description memo:2000
lineitemnumber integer
sequencenumber integer
transactioncurrencyid lookup:transactioncurrency
exchangerate decimal:10 ro
"""
PROMOTE = "{p}_externalid string:60\n{p}_promote pick:promote\n{p}_promotemessage memo:2000\n{p}_linkkey string:36\n"
BALANCES = """
{p}_currentbalance money
{p}_totalbalance money
{p}_agingcurrent money
{p}_aging30 money
{p}_aging60 money
{p}_aging90 money
{p}_aging91 money
{p}_agingasof date
{p}_lasttransactiondate date
{p}_ytdsales money
{p}_company pick:company
"""

# logical name, set, id, primary name, object type code, columns
TABLES: tuple[tuple[str, str, str, str, int, str], ...] = (
    (
        "account", "accounts", "accountid", "name", 1,
        "name string:160 app\naccountnumber string:20\nrevenue money\nnumberofemployees integer\n"
        "customertypecode pick:customertype\nindustrycode pick:industry\naccountcategorycode pick:category\n"
        "primarycontactid lookup:contact\nparentaccountid lookup:account\n" + PERSON,
    ),
    (
        "contact", "contacts", "contactid", "fullname", 2,
        "firstname string:50\nmiddlename string:50\nlastname string:50 app\nfullname string:160 ro\n"
        "salutation string:100\nsuffix string:10\njobtitle string:100\nmobilephone string:50\n"
        "parentcustomerid lookup:account,contact\n" + PERSON,
    ),
    (
        "product", "products", "productid", "name", 1024,
        "name string:100 app\nproductnumber string:100 system\ndescription memo:2000\nprice money\ncurrentcost money\n"
        "standardcost money\nquantityonhand decimal:5\nproducttypecode pick:producttype\n"
        "productstructure pick:structure\n"
        "quantitydecimal integer system\ndefaultuomid lookup:uom system\n"
        "defaultuomscheduleid lookup:uomschedule system\n"
        "pricelevelid lookup:pricelevel\ntransactioncurrencyid lookup:transactioncurrency\n"
        "exchangerate decimal:10 ro\n",
    ),
    (
        "quote", "quotes", "quoteid", "name", 1084,
        DOCUMENT + "quotenumber string:100 create\nrevisionnumber integer ro\neffectivefrom date\neffectiveto date\n"
        "expireson date\nrequestdeliveryby date\n",
    ),
    ("quotedetail", "quotedetails", "quotedetailid", "quotedetailname", 1085,
     DETAIL + "quotedetailname string:100\nquoteid lookup:quote system\n"),
    (
        "salesorder", "salesorders", "salesorderid", "name", 1088,
        DOCUMENT + "ordernumber string:100 create\nrequestdeliveryby date\ndatefulfilled date\nsubmitdate date\n"
        "ispricelocked boolean ro\nquoteid lookup:quote\n",
    ),
    ("salesorderdetail", "salesorderdetails", "salesorderdetailid", "salesorderdetailname", 1089,
     DETAIL + "salesorderdetailname string:100\nsalesorderid lookup:salesorder system\n"),
    (
        "invoice", "invoices", "invoiceid", "name", 1090,
        DOCUMENT + "invoicenumber string:100 create\nduedate date\ndatedelivered date\nprioritycode pick:priority\n"
        "ispricelocked boolean ro\nsalesorderid lookup:salesorder\n",
    ),
    (
        "invoicedetail", "invoicedetails", "invoicedetailid", "invoicedetailname", 1091,
        DETAIL + "invoicedetailname string:100\nactualdeliveryon date\ninvoiceispricelocked boolean ro\n"
        "invoiceid lookup:invoice system\n",
    ),
    ("pricelevel", "pricelevels", "pricelevelid", "name", 1022,
     "name string:100 app\ndescription memo:2000\ntransactioncurrencyid lookup:transactioncurrency system\n"),
    ("productpricelevel", "productpricelevels", "productpricelevelid", "productidname", 1026,
     "pricelevelid lookup:pricelevel system\nproductid lookup:product system\nuomid lookup:uom system\namount money\n"
     "transactioncurrencyid lookup:transactioncurrency\nexchangerate decimal:10 ro\n"),
    ("uomschedule", "uomschedules", "uomscheduleid", "name", 1056, "name string:200 app\nbaseuomname string:100\n"),
    ("uom", "uoms", "uomid", "name", 1055,
     "name string:100 app\nquantity decimal:10\nuomscheduleid lookup:uomschedule system\nbaseuom lookup:uom\n"),
    ("transactioncurrency", "transactioncurrencies", "transactioncurrencyid", "currencyname", 9105,
     "currencyname string:100 app\nisocurrencycode string:5 system\ncurrencysymbol string:10\nexchangerate decimal:12\n"
     "currencyprecision integer\n"),
    (
        "annotation", "annotations", "annotationid", "subject", 5,
        "subject string:500\nnotetext memo:100000\nfilename string:255\nmimetype string:256\n"
        "documentbody memo:1073741823\n"
        "isdocument boolean\nfilesize integer ro\nobjectid lookup:account,contact,invoice,quote,salesorder,product\n",
    ),
    ("systemuser", "systemusers", "systemuserid", "fullname", 8,
     "fullname string:200\ninternalemailaddress string:100\napplicationid id\nisdisabled boolean\n"
     "businessunitid lookup:businessunit\n"),
    ("businessunit", "businessunits", "businessunitid", "name", 10, "name string:160 app\n"),
    (
        "organization", "organizations", "organizationid", "name", 1019,
        "name string:160\nbasecurrencyid lookup:transactioncurrency\nlanguagecode integer\nmaxuploadfilesize integer\n"
        "expirechangetrackingindays integer\n",
    ),
)  # fmt: skip

STATES: dict[str, tuple[tuple[tuple[int, str, int], ...], tuple[tuple[int, str, int], ...]]] = {  # sheet, section 14
    "invoice": (
        ((0, "Active", 1), (1, "Closed (deprecated)", 3), (2, "Paid", 100001), (3, "Canceled", 100003)),
        (
            (1, "New", 0), (2, "Partially Shipped", 0), (4, "Billed", 0), (5, "Booked (applies to services)", 0),
            (6, "Installed (applies to services)", 0), (3, "Canceled (deprecated)", 1), (7, "Paid in Full", 1),
            (100001, "Complete", 2), (100002, "Partial", 2), (100003, "Canceled", 3),
        ),
    ),
    "salesorder": (
        ((0, "Active", 1), (1, "Submitted", 3), (2, "Canceled", 4), (3, "Fulfilled", 100001), (4, "Invoiced", 100003)),
        (
            (1, "New", 0), (2, "Pending", 0), (3, "In Progress", 1), (4, "No Money", 2), (100001, "Complete", 3),
            (100002, "Partial", 3), (100003, "Invoiced", 4),
        ),
    ),
    "quote": (
        ((0, "Draft", 1), (1, "Active", 2), (2, "Won", 4), (3, "Closed", 5)),
        (
            (1, "In Progress", 0), (2, "In Progress", 1), (3, "Open", 1), (4, "Won", 2), (5, "Lost", 3),
            (6, "Canceled", 3), (7, "Revised", 3),
        ),
    ),
    "product": (
        ((2, "Draft", 0), (0, "Active", 1), (1, "Retired", 2), (3, "Under Revision", 3)),  # the first is that of birth
        ((0, "Draft", 2), (1, "Active", 0), (2, "Retired", 1), (3, "Under Revision", 3)),
    ),
    "pricelevel": (
        ((0, "Active", 100001), (1, "Inactive", 100002)), ((100001, "Active", 0), (100002, "Inactive", 1)),
    ),
}  # fmt: skip
STATELESS = frozenset(
    ["quotedetail", "salesorderdetail", "invoicedetail", "annotation", "systemuser", "businessunit", "organization",
     "productpricelevel"]
)  # fmt: skip
UNTRACKED = frozenset(["organization", "systemuser", "businessunit", "annotation"])
DETAILS = {"invoicedetail": "invoiceid", "salesorderdetail": "salesorderid", "quotedetail": "quoteid"}
COLLECTIONS = {
    ("quote", "quote_details"): ("quotedetail", "quoteid"),
    ("salesorder", "order_details"): ("salesorderdetail", "salesorderid"),
    ("invoice", "invoice_details"): ("invoicedetail", "invoiceid"),
    ("invoice", "Invoice_Annotation"): ("annotation", "objectid"),
    ("account", "Account_Annotation"): ("annotation", "objectid"),
    ("account", "contact_customer_accounts"): ("contact", "parentcustomerid"),
    ("account", "account_parent_account"): ("account", "parentaccountid"),
}
READ_ONLY_STATES = {"invoice": {2, 3}, "quote": {2, 3}, "salesorder": {3}}  # until reactivated (section 14)


def read_column(line: str, *, custom: bool = False) -> Column:
    """Read one line of a table's list: name, type[:size, choices or targets], flags."""
    name, kind, *flags = line.split()
    kind, _, extra = kind.partition(":")
    column = Column(name, kind, custom=custom)
    if kind == "lookup":
        column.targets = tuple(extra.split(","))
    elif kind in {"pick", "multi"}:
        column.options = CHOICES[extra]
    elif extra:
        column.size = int(extra)
    elif kind == "money":
        column.size = 4
    for flag in flags:
        if flag in REQUIRED:
            column.required = flag
        column.readonly = column.readonly or flag == "ro"
        column.create_only = column.create_only or flag == "create"
    return column


def _common(table: Table) -> None:
    table.add(Column(table.id, "id", create_only=True, required="system"))
    for line in ("createdon datetime ro", "modifiedon datetime ro", "versionnumber bigint ro"):
        table.add(read_column(line))
    if table.logical not in STATELESS:
        table.add(Column("statecode", "state", options=tuple((v, label) for v, label, _ in table.states)))
        table.add(Column("statuscode", "status", options=tuple((v, label) for v, label, _ in table.statuses)))


def add_lines(table: Table, lines: str, *, custom: bool = False) -> None:
    """Add the columns of a list, and the `_base` twin of each money column that has an exchange rate."""
    columns = [read_column(line, custom=custom) for line in lines.splitlines() if line.strip()]
    for column in columns:
        table.add(column)
        if column.type == "money" and not custom:
            table.add(Column(f"{column.name}_base", "money", 4, readonly=True))


def add_link_key(table: Table, prefix: str) -> None:
    """Declare the alternate key on the link's marker (inolink sheet, last section)."""
    table.keys[f"{prefix}_linkkey_key"] = (f"{prefix}_linkkey",)


def build_tables(prefix: str, *, syncline_columns: bool) -> dict[str, Table]:
    """Build the schema of a new environment, with or without our own columns."""
    tables: dict[str, Table] = {}
    for logical, entity_set, id_column, primary, code, lines in TABLES:
        states, statuses = STATES.get(logical, (DEFAULT_STATES, DEFAULT_STATUSES))
        table = tables[logical] = Table(logical, entity_set, id_column, primary, code, states=states, statuses=statuses)
        _common(table)
        add_lines(table, lines)
    for (parent, navigation), child in COLLECTIONS.items():
        tables[parent].collections[navigation] = child
    if syncline_columns:
        _add_ours(tables, prefix)
    return tables


def _add_ours(tables: dict[str, Table], prefix: str) -> None:
    for logical in ("account", "contact"):
        add_lines(tables[logical], (BALANCES + PROMOTE).format(p=prefix), custom=True)
    add_lines(tables["product"], f"{prefix}_quantityonhand decimal:5\n" + PROMOTE.format(p=prefix), custom=True)
    for logical in ("quote", "salesorder", "invoice"):
        add_lines(tables[logical], PROMOTE.format(p=prefix), custom=True)
    for logical in ("account", "contact", "product", "quote", "salesorder", "invoice"):
        add_link_key(tables[logical], prefix)
    logical = f"{prefix}_salestransaction"
    table = tables[logical] = Table(logical, f"{logical}s", f"{logical}id", f"{prefix}_name", 10001, custom=True)
    _common(table)
    lines = (
        f"{prefix}_name string:200 app\n{prefix}_type pick:transaction\n{prefix}_number string:50\n{prefix}_date date\n"
        f"{prefix}_duedate date\n{prefix}_amount money\n{prefix}_balance money\n{prefix}_status string:50\n"
        f"{prefix}_memo memo:2000\n{prefix}_externalid string:60\n{prefix}_linkkey string:36\n"
    )
    add_lines(table, lines, custom=True)
    add_lines(table, "transactioncurrencyid lookup:transactioncurrency\nexchangerate decimal:10 ro\n")
    # Navigation properties of custom lookups carry the schema name, whose case counts (sheet, section 5).
    customer = Column(f"{prefix}_customerid", "lookup", targets=("account", "contact"), custom=True)
    customer.schema = f"{prefix}_CustomerId"
    table.add(customer)
    add_link_key(table, prefix)
