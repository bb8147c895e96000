"""Does the Dynamics 365 connector do what every connector must do?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date
from decimal import Decimal

import pytest

from connectors.contract import Ref, Values
from connectors.dynamics365.connector import Dynamics365
from connectors.dynamics365.simulator import DynamicsSimulator
from tests.conformance.suite import ConnectorConformance
from tests.dynamics365.conftest import World


def only_option(connector: Dynamics365, entity: str, field: str, label: str) -> str:
    [key] = [option.key for option in connector.options(entity, field) if option.label == label]
    return key


class DynamicsConformance(ConnectorConformance):
    """What all entities of Dynamics 365 share: a small page, so that each listing has several."""

    @pytest.fixture
    def dynamics(self) -> Iterator[World]:
        simulator = DynamicsSimulator(records=12)
        simulator.start()
        yield World(simulator, page_size="4")
        simulator.stop()

    @pytest.fixture
    def connector(self, dynamics: World) -> Dynamics365:
        return dynamics.connector

    @pytest.fixture
    def new_connector(self, dynamics: World) -> Callable[[], Dynamics365]:
        return dynamics.new_connector

    @pytest.fixture
    def account(self, dynamics: World) -> Ref:
        return Ref("account", next(iter(dynamics.simulator.store.table("account"))))


class TestAccount(DynamicsConformance):
    @pytest.fixture
    def entity(self) -> str:
        return "account"

    @pytest.fixture
    def sample(self, connector: Dynamics365, account: Ref) -> Values:
        return {
            "name": "Zoë's Bakery",
            "emailaddress1": "zoe@example.com",
            "telephone1": "(555) 111-2222",
            "websiteurl": "https://www.example.com",
            "address1_line1": "1 Main St",
            "address1_city": "Portland",
            "description": "Rings twice",
            "paymenttermscode": "2",
            "transactioncurrencyid": only_option(connector, "account", "transactioncurrencyid", "EUR"),
            "parentaccountid": account,
            "creditonhold": True,
            "syn_currentbalance": Decimal("12.5"),
            "syn_agingasof": date(2026, 3, 1),
        }

    @pytest.fixture
    def other(self) -> Values:
        return {
            "address1_city": "Salem", "paymenttermscode": "3", "creditonhold": False, "parentaccountid": None,
            "syn_currentbalance": Decimal("0"), "syn_agingasof": date(2026, 3, 2),
        }  # fmt: skip


class TestContact(DynamicsConformance):
    @pytest.fixture
    def entity(self) -> str:
        return "contact"

    @pytest.fixture
    def sample(self, account: Ref) -> Values:
        return {
            "firstname": "Ada", "lastname": "O'Neil", "suffix": "PhD", "emailaddress1": "ada@example.com",
            "mobilephone": "555", "parentcustomerid": account,
        }  # fmt: skip

    @pytest.fixture
    def other(self, dynamics: World) -> Values:
        person = next(iter(dynamics.simulator.store.table("contact")))
        return {"firstname": "Grace", "mobilephone": "556", "parentcustomerid": Ref("contact", person)}


class TestProduct(DynamicsConformance):
    @pytest.fixture
    def entity(self) -> str:
        return "product"

    @pytest.fixture
    def sample(self, connector: Dynamics365) -> Values:
        return {
            "name": "Brass hinge",
            "productnumber": "BH-1",
            "description": "A hinge of brass",
            "price": Decimal("12.3456"),
            "producttypecode": "1",
            "quantitydecimal": 2,
            "defaultuomid": only_option(connector, "product", "defaultuomid", "Primary Unit"),
            "defaultuomscheduleid": only_option(connector, "product", "defaultuomscheduleid", "Default Unit"),
            "syn_quantityonhand": Decimal("7.25"),
        }

    @pytest.fixture
    def other(self) -> Values:
        return {"description": "Still of brass", "price": Decimal("13.25"), "quantitydecimal": 3}


class TestSalesTransaction(DynamicsConformance):
    @pytest.fixture
    def entity(self) -> str:
        return "syn_salestransaction"

    @pytest.fixture
    def sample(self, account: Ref) -> Values:
        return {
            "syn_name": "Invoice 1001 Ada", "syn_type": "1", "syn_number": "1001", "syn_date": date(2026, 3, 1),
            "syn_amount": Decimal("120.5"), "syn_status": "open", "syn_memo": "Thank you", "syn_customerid": account,
            "syn_linkkey": "0b7c",
        }  # fmt: skip

    @pytest.fixture
    def other(self) -> Values:
        return {"syn_status": "paid", "syn_balance": Decimal("0"), "syn_type": "5"}


class TestInvoice(DynamicsConformance):
    @pytest.fixture
    def entity(self) -> str:
        return "invoice"

    @pytest.fixture
    def sample(self, account: Ref) -> Values:
        return {"name": "Spring order", "customerid": account, "description": "By rail", "duedate": date(2026, 3, 31)}

    @pytest.fixture
    def other(self) -> Values:
        return {"description": "By road", "freightamount": Decimal("5.5")}
