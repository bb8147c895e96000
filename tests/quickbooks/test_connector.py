"""Does the connector say who it is, and what there is to choose from?"""

from __future__ import annotations

import pytest

from connectors.contract import Connector, PermanentError, Write
from connectors.quickbooks.connector import QuickBooks
from connectors.quickbooks.simulator import REALM, QuickBooksSimulator
from connectors.quickbooks.simulator_faults import VendorFault
from tests.quickbooks.conftest import Company, client
from tests.quickbooks.helpers import read_all, records

MAPPED = {  # source fields of the preset's map (inolink sheet, last section)
    "Customer": "CompanyName DisplayName GivenName MiddleName FamilyName Title Suffix PrimaryEmailAddr.Address "
    "PrimaryPhone.FreeFormNumber AlternatePhone.FreeFormNumber Mobile.FreeFormNumber Fax.FreeFormNumber WebAddr.URI "
    "BillAddr.Line1 BillAddr.City BillAddr.CountrySubDivisionCode BillAddr.PostalCode BillAddr.Country ShipAddr.Line2 "
    "SalesTermRef CurrencyRef Notes ParentRef Active Balance BalanceWithJobs",
    "Item": "Name Sku Description UnitPrice PurchaseCost Type Active",
    "Invoice": "DocNumber TxnDate DueDate TotalAmt Balance Status PrivateNote CustomerRef CurrencyRef Line",
    "Payment": "PaymentRefNum TxnDate TotalAmt UnappliedAmt Status PrivateNote CustomerRef CurrencyRef",
    "CreditMemo": "DocNumber TxnDate TotalAmt RemainingCredit Status PrivateNote CustomerRef CurrencyRef",
    "Estimate": "DocNumber TxnDate ExpirationDate TotalAmt Status TxnStatus PrivateNote CustomerRef CustomerMemo.value",
    "SalesReceipt": "DocNumber TxnDate TotalAmt Balance Status PrivateNote CustomerRef CurrencyRef",
}


def test_check_says_who_we_are(sim: QuickBooksSimulator, qb: QuickBooks) -> None:
    identity = qb.check()
    assert isinstance(qb, Connector)
    assert (identity.instance, identity.account) == (REALM, "Craig's Design and Supply")
    assert identity.clock == sim.clock.now()


@pytest.mark.parametrize("entity", MAPPED)
def test_each_field_of_the_preset_is_declared_and_read(company: Company, entity: str) -> None:
    qb = client(company(60))
    declared = {each.name: each for each in qb.describe()}[entity]
    for name in MAPPED[entity].split():
        assert declared.field(name), f"{entity}.{name} is not declared"
    rows = [r for r in records(read_all(qb, None, entity)) if r.entity == entity]
    filled = {name for row in rows for name, value in row.values.items() if value is not None}
    never = {"MiddleName", "Title", "Suffix", "AlternatePhone.FreeFormNumber", "Fax.FreeFormNumber", "PrivateNote"}
    assert set(MAPPED[entity].split()) - never - {"CustomerMemo.value"} <= filled


def test_what_the_server_computes_cannot_be_written(qb: QuickBooks) -> None:
    customer = next(each for each in qb.describe() if each.name == "Customer")
    for name in ("Balance", "BalanceWithJobs", "FullyQualifiedName", "Aging30"):
        assert customer.field(name).write is Write.NEVER  # type: ignore[union-attr]


def test_options_have_ids_as_keys_and_iso_codes_for_currencies(qb: QuickBooks) -> None:
    terms = {option.label: option.key for option in qb.options("Customer", "SalesTermRef")}
    assert terms["Net 30"] == "3"
    assert {"Net 15", "Net 45", "Net 60", "Due on receipt", "2% 10 Net 30"} <= terms.keys()
    assert [(o.key, o.label) for o in qb.options("Customer", "CurrencyRef")] == [(c, c) for c in ("USD", "EUR", "CAD")]
    assert {o.label for o in qb.options("Item", "IncomeAccountRef")} >= {"Services", "Sales of Product Income"}
    assert "Cost of Goods Sold" not in {o.label for o in qb.options("Item", "IncomeAccountRef")}
    assert [o.label for o in qb.options("Invoice", "Line.TaxCodeRef")] == ["State", "Exempt"]
    with pytest.raises(PermanentError):
        qb.options("Customer", "Notes")


def test_without_multi_currency_there_is_only_the_home_currency(company: Company) -> None:
    sim = company(30, multi_currency=False)
    assert [option.key for option in client(sim).options("Customer", "CurrencyRef")] == ["USD"]
    assert {record.body["CurrencyRef"]["value"] for record in sim.store.table("Customer").values()} == {"USD"}  # type: ignore[index]
    with pytest.raises(VendorFault, match="5020"):
        sim.user_creates("Customer", {"DisplayName": "Ort GmbH", "CurrencyRef": {"value": "EUR"}})
