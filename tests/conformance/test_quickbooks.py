"""Does the QuickBooks connector do what every connector must do?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date
from decimal import Decimal

import pytest

from connectors.contract import Entity, Ref, Row, Value, Values
from connectors.quickbooks.connector import QuickBooks
from connectors.quickbooks.simulator import QuickBooksSimulator
from tests.conformance.suite import ConnectorConformance
from tests.quickbooks.conftest import client


@pytest.fixture
def sim() -> Iterator[QuickBooksSimulator]:
    # On the real clock, as CDC's overlap is; without limits, as a suite writes faster than a minute allows.
    simulator = QuickBooksSimulator(records=12, limits=False)
    simulator.start()
    yield simulator
    simulator.stop()


class QuickBooksConformance(ConnectorConformance):
    """What all entities of QuickBooks share."""

    @pytest.fixture
    def connector(self, sim: QuickBooksSimulator) -> QuickBooks:
        return client(sim)

    @pytest.fixture
    def new_connector(self, sim: QuickBooksSimulator) -> Callable[[], QuickBooks]:
        return lambda: client(sim)


class TestCustomer(QuickBooksConformance):
    @pytest.fixture
    def entity(self) -> str:
        return "Customer"

    @pytest.fixture
    def sample(self) -> Values:
        return {
            "DisplayName": "Zoë's Bakery",
            "CompanyName": "Zoë's Bakery",
            "GivenName": "Zoë",
            "Suffix": "PhD",
            "PrimaryEmailAddr.Address": "zoe@example.com",
            "PrimaryPhone.FreeFormNumber": "(555) 111-2222",
            "WebAddr.URI": "https://www.example.com",
            "BillAddr.Line1": "1 Main St",
            "BillAddr.Line2": "Suite 5",
            "BillAddr.PostalCode": "97201",
            "Notes": "Rings twice",
            "SalesTermRef": "3",
            "CurrencyRef": "EUR",
            "PreferredDeliveryMethod": "Email",
        }

    @pytest.fixture
    def other(self) -> Values:
        return {
            "Notes": "Rings once",
            "BillAddr.Line2": "Suite 6",
            "SalesTermRef": "5",
            "PrimaryPhone.FreeFormNumber": "(555) 333-4444",
        }


class TestItem(QuickBooksConformance):
    @pytest.fixture
    def entity(self) -> str:
        return "Item"

    @pytest.fixture
    def sample(self) -> Values:
        return {
            "Name": "Brass hinge",
            "Sku": "BH-1",
            "Description": "A hinge of brass",
            "Type": "Service",
            "UnitPrice": Decimal("12.3456789"),
            "PurchaseCost": Decimal("3.5"),
            "IncomeAccountRef": "6",
        }

    @pytest.fixture
    def other(self) -> Values:
        return {"Description": "Still of brass", "UnitPrice": Decimal("13.25")}


class TransactionConformance(QuickBooksConformance):
    """What documents with lines share."""

    @pytest.fixture
    def sample(self) -> Values:
        line = {
            "DetailType": "SalesItemLineDetail",
            "ItemRef": Ref("Item", "1"),
            "Qty": Decimal(3),
            "UnitPrice": Decimal("2.5"),
            "Amount": Decimal("7.5"),
            "Description": "Three hinges",
        }
        return {
            "CustomerRef": Ref("Customer", "1"),
            "DocNumber": "Q-1001",
            "TxnDate": date(2026, 3, 1),
            "PrivateNote": "From the hub",
            "CustomerMemo.value": "Thank you",
            "BillAddr.Line1": "1 Main St",
            "BillAddr.City": "Portland",
            "Line": (Row(line),),
        }

    @pytest.fixture
    def other(self) -> Values:
        changed: dict[str, Value] = {"Qty": Decimal(4), "UnitPrice": Decimal("2.5"), "Amount": Decimal(10)}
        line = Row({"ItemRef": Ref("Item", "2"), **changed})
        return {"PrivateNote": "Edited", "BillAddr.City": "Salem", "Line": (line,)}

    def variant(self, entity: Entity, sample: Values, number: int) -> dict[str, Value]:
        return {**super().variant(entity, sample, number), "DocNumber": f"Q-{2000 + number}"}


class TestInvoice(TransactionConformance):
    @pytest.fixture
    def entity(self) -> str:
        return "Invoice"


class TestEstimate(TransactionConformance):
    @pytest.fixture
    def entity(self) -> str:
        return "Estimate"


class TestPayment(QuickBooksConformance):
    @pytest.fixture
    def entity(self) -> str:
        return "Payment"

    @pytest.fixture
    def sample(self) -> Values:
        return {
            "CustomerRef": Ref("Customer", "1"),
            "TotalAmt": Decimal("12.5"),
            "TxnDate": date(2026, 3, 1),
            "PrivateNote": "From the hub",
            "PaymentRefNum": "778",
            "PaymentMethodRef": "2",
        }

    @pytest.fixture
    def other(self) -> Values:
        return {"TotalAmt": Decimal("13.5"), "PrivateNote": "Edited", "PaymentMethodRef": "3"}
