"""Which properties does each simulated entity have, and what may they hold?  Tables of the sheet's section 12."""

from __future__ import annotations

TRANSACTIONS = ("Invoice", "Payment", "CreditMemo", "Estimate", "SalesReceipt", "RefundReceipt")
NAME_LISTS = (
    "Customer",
    "Vendor",
    "Employee",
    "Item",
    "Account",
    "Term",
    "PaymentMethod",
    "CompanyCurrency",
    "TaxCode",
    "TaxRate",
    "TaxAgency",
    "Class",
    "Department",
)
READ_ONLY_LISTS = frozenset({"TaxCode", "TaxRate"})  # made through taxservice/taxcode
NO_CDC = frozenset({"JournalCode", "TaxAgency", "TimeActivity", "TaxCode", "TaxRate"})  # section 8
NAMED_BY = {"Customer": "DisplayName", "Vendor": "DisplayName", "Employee": "DisplayName", "CompanyCurrency": "Code"}
# Names are unique within such a group (section 12).
NAME_GROUP = {"Customer": "people", "Vendor": "people", "Employee": "people"}
REFERENCE_PARTS = ("value", "Address", "FreeFormNumber", "URI", "Line1")  # what a filter on an object compares

_META = "Id SyncToken MetaData domain sparse status"
_PERSON = (
    "Title GivenName MiddleName FamilyName Suffix DisplayName CompanyName PrintOnCheckName Active PrimaryPhone "
    "AlternatePhone Mobile Fax PrimaryEmailAddr WebAddr BillAddr CurrencyRef Balance AcctNum CustomField "
    "V4IDPseudonym IntuitId ClientEntityId "
)
_TRANSACTION = (
    "DocNumber TxnDate DepartmentRef CurrencyRef ExchangeRate PrivateNote LinkedTxn Line TxnTaxDetail CustomerRef "
    "CustomerMemo BillAddr ShipAddr ClassRef SalesTermRef DueDate ShipMethodRef ShipDate TrackingNum TotalAmt "
    "HomeTotalAmt GlobalTaxCalculation ApplyTaxAfterDiscount PrintStatus EmailStatus BillEmail BillEmailCc "
    "BillEmailBcc Balance HomeBalance PaymentMethodRef PaymentRefNum DepositToAccountRef DeliveryInfo "
    "CustomField TxnSource "
    "RecurDataRef TaxExemptionRef ShipFromAddr FreeFormAddress TransactionLocationType CustomerMemoRef "
)
_NAMES = {
    "Customer": _PERSON
    + "FullyQualifiedName Notes IsProject Job BillWithParent Taxable BalanceWithJobs PreferredDeliveryMethod "
    "ResaleNum Level OpenBalanceDate PrimaryTaxIdentifier SecondaryTaxIdentifier ShipAddr "
    "DefaultTaxCodeRef SalesTermRef "
    "PaymentMethodRef ParentRef ARAccountRef CustomerTypeRef TaxExemptionReasonId ProjectStatus Source GSTIN "
    "GSTRegistrationType BusinessNumber ContactName RootCustomerRef",
    "Vendor": _PERSON + "TermRef Vendor1099 TaxIdentifier BillRate OtherContactInfo APAccountRef",
    "Employee": _PERSON + "PrimaryAddr SSN EmployeeNumber BillableTime HiredDate ReleasedDate BirthDate Gender",
    "Item": "Name Sku Description PurchaseDesc Type UnitPrice PurchaseCost Taxable SalesTaxIncluded "
    "PurchaseTaxIncluded IncomeAccountRef ExpenseAccountRef AssetAccountRef COGSAccountRef "
    "TrackQtyOnHand QtyOnHand InvStartDate SubItem "
    "ParentRef Level FullyQualifiedName ReorderPoint SalesTaxCodeRef PurchaseTaxCodeRef PrefVendorRef Active "
    "ItemGroupDetail PrintGroupedItems ItemCategoryType ClassRef TaxClassificationRef UQCId UQCDisplayText Source "
    "AbatementRate ReverseChargeRate ServiceType DeferredRevenue",
    "Invoice": _TRANSACTION + "Deposit AllowIPNPayment AllowOnlinePayment AllowOnlineCreditCardPayment "
    "AllowOnlineACHPayment InvoiceLink EInvoiceStatus TotalBalance InvoiceRef",
    "Payment": _TRANSACTION + "UnappliedAmt ProcessPayment ARAccountRef CreditCardPayment CheckPayment TxnStatus",
    "CreditMemo": _TRANSACTION + "RemainingCredit InvoiceRef",
    "Estimate": _TRANSACTION + "TxnStatus ExpirationDate AcceptedBy AcceptedDate",
    "SalesReceipt": _TRANSACTION + "CreditCardPayment CheckPayment",
    "RefundReceipt": _TRANSACTION + "CreditCardPayment CheckPayment",
    "Term": "Name Active Type DiscountPercent DueDays DiscountDays DayOfMonthDue DueNextMonthDays DiscountDayOfMonth",
    "TaxCode": "Name Description Active Hidden Taxable TaxGroup TaxCodeConfigType SalesTaxRateList PurchaseTaxRateList",
    "TaxRate": "Name Description Active RateValue AgencyRef TaxReturnLineRef EffectiveTaxRate SpecialTaxType "
    "DisplayType",
    "TaxAgency": "DisplayName TaxTrackedOnPurchases TaxTrackedOnSales TaxRegistrationNumber TaxAgencyConfig",
    "CompanyCurrency": "Code Name Active CustomField",
    "Account": "Name AcctNum SubAccount ParentRef Description FullyQualifiedName Active Classification AccountType "
    "AccountSubType CurrentBalance CurrentBalanceWithSubAccounts CurrencyRef TaxCodeRef OpeningBalance",
    "PaymentMethod": "Name Active Type",
    "Class": "Name Active SubClass ParentRef FullyQualifiedName",
    "Department": "Name Active SubDepartment ParentRef FullyQualifiedName",
    "Attachable": "FileName Note Category ContentType PlaceName AttachableRef Long Tag Lat Size FileAccessUri "
    "TempDownloadUri ThumbnailFileAccessUri",
    "CompanyInfo": "CompanyName LegalName CompanyAddr CustomerCommunicationAddr LegalAddr Email WebAddr "
    "SupportedLanguages Country FiscalYearStartMonth NameValue DefaultTimeZone CompanyStartDate PrimaryPhone",
    "Preferences": "CurrencyPrefs SalesFormsPrefs TaxPrefs ProductAndServicesPrefs AccountingInfoPrefs "
    "EmailMessagesPrefs ReportPrefs TimeTrackingPrefs VendorAndPurchasesPrefs OtherPrefs",
}
PROPERTIES: dict[str, dict[str, str]] = {
    entity: {name.lower(): name for name in f"{_META} {names}".split()} for entity, names in _NAMES.items()
}
BY_RESOURCE = {entity.lower(): entity for entity in PROPERTIES}

_PERSON_LENGTHS = {
    "DisplayName": 500,
    "Title": 16,
    "GivenName": 100,
    "MiddleName": 100,
    "FamilyName": 100,
    "Suffix": 16,
    "CompanyName": 100,
    "PrintOnCheckName": 110,
    "Notes": 2000,
    "ResaleNum": 16,
}
_TRANSACTION_LENGTHS = {"DocNumber": 21, "PrivateNote": 4000, "PaymentRefNum": 21}
LENGTHS: dict[str, dict[str, int]] = {
    "Customer": _PERSON_LENGTHS,
    "Vendor": _PERSON_LENGTHS,
    "Employee": _PERSON_LENGTHS,
    "Item": {"Name": 100, "Sku": 100, "Description": 4000, "PurchaseDesc": 1000},
    "Term": {"Name": 31},
    "PaymentMethod": {"Name": 31},
    "Account": {"Name": 100, "AcctNum": 20},
    **dict.fromkeys(TRANSACTIONS, _TRANSACTION_LENGTHS),
}
PART_LENGTHS = {  # of nested objects, whatever entity they are in
    "FreeFormNumber": 30,
    "Address": 100,
    "URI": 1000,
    **{f"Line{n}": 500 for n in range(1, 6)},
    "City": 255,
    "Country": 255,
    "CountrySubDivisionCode": 255,
    "PostalCode": 30,
}
MEMO_LENGTH = 1000
REFERENCES = {
    "CustomerRef": "Customer",
    "SalesTermRef": "Term",
    "TermRef": "Term",
    "PaymentMethodRef": "PaymentMethod",
    "DepositToAccountRef": "Account",
    "IncomeAccountRef": "Account",
    "ExpenseAccountRef": "Account",
    "AssetAccountRef": "Account",
    "ARAccountRef": "Account",
    "DefaultTaxCodeRef": "TaxCode",
    "SalesTaxCodeRef": "TaxCode",
    "PurchaseTaxCodeRef": "TaxCode",
    "PrefVendorRef": "Vendor",
    "ClassRef": "Class",
    "DepartmentRef": "Department",
}
CHOICES = {
    "PreferredDeliveryMethod": {"Print", "Email", "None"},
    "TxnStatus": {"Pending", "Accepted", "Closed", "Rejected", "Converted"},
    "PrintStatus": {"NotSet", "NeedToPrint", "PrintComplete"},
    "EmailStatus": {"NotSet", "NeedToSend", "EmailSent"},
    "GlobalTaxCalculation": {"TaxExcluded", "TaxInclusive", "NotApplicable"},
}
ITEM_TYPES = {"Inventory", "NonInventory", "Service", "Category", "Group"}
ITEM_ACCOUNTS = {  # code 6430 for any other type of account
    "IncomeAccountRef": {"Income", "Other Income"},
    "ExpenseAccountRef": {"Cost of Goods Sold", "Expense", "Other Expense"},
    "AssetAccountRef": {"Other Current Asset"},
}
LINE_TYPES = {
    "SalesItemLineDetail",
    "DiscountLineDetail",
    "SubTotalLineDetail",
    "DescriptionOnly",
    "GroupLineDetail",
    "TaxLineDetail",
}
# Kept by the server: what a client sends for them is not taken.
COMPUTED = {
    "Customer": {"FullyQualifiedName", "Level", "BalanceWithJobs", "Balance"},
    "Item": {"FullyQualifiedName", "Level"},
    "Term": {"Type"},
    "Invoice": {"TotalAmt", "Balance", "HomeTotalAmt", "HomeBalance", "InvoiceLink", "DeliveryInfo"},
    "CreditMemo": {"TotalAmt", "Balance", "HomeTotalAmt", "HomeBalance", "RemainingCredit"},
    "Estimate": {"TotalAmt", "HomeTotalAmt"},
    "SalesReceipt": {"TotalAmt", "Balance", "HomeTotalAmt"},
    "RefundReceipt": {"TotalAmt", "Balance", "HomeTotalAmt"},
    "Payment": {"UnappliedAmt"},
}
ENVELOPE = {"Id", "SyncToken", "MetaData", "domain", "sparse", "status"}
FIXED = {"Customer": {"CurrencyRef", "OpenBalanceDate"}, "Item": {"Type"}}  # not changed by an update
