"""Does the connector work over the hub's own transport, with its budgets, log and token refresh?"""

from __future__ import annotations

import pytest

from connectors.contract import Batch, Operation, Result, Verb
from connectors.models import Connection
from connectors.transport.connecting import open_transport, speak


@pytest.mark.django_db(transaction=True)
def test_check_list_write_and_delta_over_the_real_transport(make_world):
    simulator = make_world(records=20).simulator
    given = simulator.credentials()
    connection = Connection.objects.create(name="CRM", system="dynamics365", settings=given["settings"])
    connection.set_secret(given["secret"])
    transport = open_transport(connection)
    try:
        connector = speak(transport)
        assert connector.check().instance == simulator.ids["organization"]
        wanted = {"account": frozenset({"name", "parentaccountid"})}
        [page] = connector.changes("account", wanted, None)
        assert len(page.records) == 20
        simulator.login.forget_tokens()
        create = Operation("o-1", Verb.CREATE, "account", "00000000-0000-4000-8000-000000000001", {"name": "Ada's"})
        [outcome] = connector.write(Batch("b-1", [create]))
        assert outcome.result is Result.WRITTEN
        [delta] = connector.changes("account", wanted, page.cursor)
        assert [record.values["name"] for record in delta.records] == ["Ada's"]
    finally:
        transport.close()
