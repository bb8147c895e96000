"""Two QuickBooks companies share one Dynamics 365: each record is of one of them."""

from __future__ import annotations

import pytest

from connectors.dynamics365.simulator import DynamicsSimulator
from connectors.quickbooks.simulator import QuickBooksSimulator
from connectors.sync.compile import SettingsError
from connectors.sync.presets import apply_preset, presets
from connectors.sync.routing import unrouted
from connectors.transport import check, connected
from jobs.states import StatusReason
from jobs.syncing import request_sync
from jobs.worker import run_in_process
from tests.acceptance.conftest import connection_to

pytestmark = pytest.mark.django_db(transaction=True)
ROUTE = {"route_field": "syn_company"}


@pytest.fixture
def ends():
    with (
        QuickBooksSimulator(records=0, seed=1) as north,
        QuickBooksSimulator(records=0, seed=2) as south,
        DynamicsSimulator(seed=1) as right,
    ):
        yield north, south, right


def applied(name, left, right, **options):
    with connected(left) as one, connected(right) as other:
        ends, speaking = {"left": left, "right": right}, {"left": one, "right": other}
        return apply_preset(presets()["inolink"], name, ends, speaking, options, first_run="apply").integration


def synced(*integrations):
    for integration in integrations:
        job = run_in_process(request_sync(integration))
        assert job.status is StatusReason.SUCCEEDED, job.error_message


def test_two_companies_share_an_environment_and_nothing_is_doubled(ends):
    north, south, right = ends
    shared = connection_to(right, "Sales")
    books = [connection_to(simulator, f"Books {n}") for n, simulator in enumerate((north, south))]
    for connection in (*books, shared):
        check(connection)
    one = applied("North", books[0], shared, **ROUTE, route_value="North")
    two = applied(
        "South", books[1], shared, **ROUTE, route_value="2", name_match="tolerant", customers_since="2020-01-31"
    )
    assert (one.name, one.route["value"], two.route["value"]) == ("North", "1", "2")
    assert set(two.entity_syncs.filter(family="customer").values_list("match_tolerance", flat=True)) == {88}
    north.user_creates("Customer", {"DisplayName": "Engines", "CompanyName": "Engines", "FamilyName": "Lovelace"})
    south.user_creates(
        "Customer", {"DisplayName": "Engines", "CompanyName": "Engines", "GivenName": "Bob", "FamilyName": "B"}
    )
    lost = right.user_creates("account", {"name": "Nobody's"})
    for _ in range(3):
        synced(one, two)
    rows = [r.body for r in right.store.table("account").values()]
    assert sorted((r["name"], r.get("syn_company")) for r in rows) == [
        ("Engines", 1),
        ("Engines", 2),
        ("Nobody's", None),
    ]
    people = [r.body for r in right.store.table("contact").values()]
    assert sorted((r["lastname"], r.get("syn_company")) for r in people) == [("B", 2), ("Lovelace", 1)]
    assert len(north.store.table("Customer")) == len(south.store.table("Customer")) == 1
    assert [record.id for record in unrouted(shared)] == [lost]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({**ROUTE, "route_value": "West"}, "has no choice 'West'. It has: North, South"),
        ({"route_field": "syn_region", "route_value": "North"}, "account has no column 'syn_region'"),
        (ROUTE, "has no value"),
        ({"customers_since": "yesterday"}, "customers_since is a day like 2026-01-31"),
        ({"primary_contact_overwrite": "maybe"}, "is one of yes, no"),
    ],
)
def test_options_that_can_not_work_are_refused_when_the_preset_is_applied(ends, options, sentence):
    north, _, right = ends
    left, shared = connection_to(north, "Books"), connection_to(right, "Sales")
    with pytest.raises(SettingsError, match=sentence):
        applied("North", left, shared, **options)
