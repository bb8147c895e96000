"""The columns that the preset needs are listed, and made on request."""

from __future__ import annotations

from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from connectors.dynamics365.simulator import DynamicsSimulator
from connectors.models import Connection

pytestmark = pytest.mark.django_db(transaction=True)


def test_what_is_missing_is_listed_and_then_made() -> None:
    with DynamicsSimulator(syncline_columns=False) as simulator:
        told = simulator.credentials()
        connection = Connection.objects.create(system="dynamics365", name="CRM", settings=told["settings"])
        connection.set_secret({name: str(value) for name, value in told["secret"].items()})
        listed = StringIO()
        with pytest.raises(CommandError, match="are missing"):
            call_command("dynamics365_columns", "CRM", stdout=listed)
        assert "syn_salestransaction" in listed.getvalue()
        assert "syn_currentbalance" in listed.getvalue()
        made = StringIO()
        call_command("dynamics365_columns", "CRM", "--create", stdout=made)
        assert "Nothing is missing" in made.getvalue()


def test_an_unknown_connection_is_named() -> None:
    with pytest.raises(CommandError, match="There is no Dynamics 365 connection 'X'"):
        call_command("dynamics365_columns", "X")
