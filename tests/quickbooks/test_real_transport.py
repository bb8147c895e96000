"""Does the connector work over the hub's own transport, with its tokens, budgets and repeats?"""

from __future__ import annotations

import pytest

from connectors.contract import AuthError, Result
from connectors.models import Connection
from connectors.quickbooks.connector import QuickBooks
from connectors.quickbooks.simulator import QuickBooksSimulator
from connectors.transport.session import Transport
from tests.quickbooks.conftest import Company
from tests.quickbooks.helpers import creating, read_all, records, write


def connect(sim: QuickBooksSimulator) -> tuple[Connection, Transport, QuickBooks]:
    credentials = sim.credentials()
    settings = {key: str(value) for key, value in credentials["settings"].items()}
    connection = Connection.objects.create(system="quickbooks", name="Books", settings=settings)
    connection.set_secret({key: str(value) for key, value in credentials["secret"].items()})
    transport = Transport(
        connection, QuickBooks.auth(settings), QuickBooks.limits, now=sim.clock.now, sleep=lambda seconds: None
    )
    return connection, transport, QuickBooks(transport, settings, sim.clock.now)


@pytest.mark.django_db(transaction=True)
def test_a_day_with_the_hubs_own_transport(company: Company) -> None:
    sim = company(20, rotation="every")
    connection, transport, qb = connect(sim)
    try:
        assert qb.check().account == "Craig's Design and Supply"
        assert len(records(read_all(qb))) == 20
        [made] = write(qb, creating("k1", DisplayName="Made by the hub"))
        assert made.result is Result.WRITTEN
        sim.faults.add("expire_token", match="/v3/")
        assert [r.id for r in qb.find("Customer", "DisplayName", ["Made by the hub"])] == [made.id]
        assert sim.tokens.refreshes == 2, "one login, and one after the token was refused"
        # The batch is repeated by itself, because its requestid makes that safe.
        sim.faults.add("error_after", match="/batch", status=503)
        [again] = write(qb, creating("k2", DisplayName="Answer lost"))
        assert again.result is Result.WRITTEN
        names = [record.body["DisplayName"] for record in sim.store.table("Customer").values()]
        assert names.count("Answer lost") == 1
        sim.tokens.revoke_all()
        with pytest.raises(AuthError):
            qb.check()
        connection.refresh_from_db()
        assert connection.state == Connection.State.NEEDS_RECONNECT
    finally:
        transport.close()
