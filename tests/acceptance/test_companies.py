"""Two QuickBooks companies share one Dynamics 365: each record is of one of them."""

from __future__ import annotations

import pytest

from connectors.admin.preferences import change
from connectors.dynamics365.simulator import DynamicsSimulator
from connectors.models import Promotion, RecordLink
from connectors.quickbooks.simulator import QuickBooksSimulator
from connectors.sync.compile import SettingsError
from connectors.sync.preferences import PreferencesError
from connectors.sync.presets import apply_preset, presets
from connectors.sync.routing import unrouted
from connectors.transport import check, connected
from jobs import dispatch
from jobs.states import StatusReason
from jobs.syncing import request_sync, scope_of, service_job
from jobs.worker import run_in_process
from tests.acceptance.conftest import connection_to

pytestmark = pytest.mark.django_db(transaction=True)
ROUTE = {"route_field": "syn_company"}


@pytest.fixture
def ends():
    with (
        QuickBooksSimulator(records=0, seed=1) as north,
        QuickBooksSimulator(records=0, seed=2, realm="4620816365002510651") as south,
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
    assert [record.id for record in unrouted(shared)[0]] == [lost]


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


def test_a_company_without_a_route_is_not_let_in_beside_one_that_has(ends):
    north, south, right = ends
    shared = connection_to(right, "Sales")
    books = [connection_to(simulator, f"Books {n}") for n, simulator in enumerate((north, south))]
    for connection in (*books, shared):
        check(connection)
    one = applied("North", books[0], shared, **ROUTE, route_value="North")
    with pytest.raises(SettingsError, match="South would take every account, contact, also those that are North's"):
        applied("South", books[1], shared)
    two = applied("South", books[1], shared, **ROUTE, route_value="South")
    assert not preferences_problems(one, "syn_company", "North")
    assert "North has no route" not in preferences_problems(two, "", "")
    assert "would take every account, contact" in preferences_problems(two, "", "")
    assert "has the same value '1' as North" in preferences_problems(two, "syn_company", "North")


def preferences_problems(integration, column, value):
    try:
        change(integration, {}, (column, value), by="ada")
    except PreferencesError as error:
        return str(error)
    return ""


def take_promoted(*integrations):
    for number, integration in enumerate(integrations):
        job = dispatch.place(
            service_job(scope_of(integration), "promoted", entities=[], service=f"bulk {number}"), by=""
        )
        job = run_in_process(job)
        assert job.status is StatusReason.SUCCEEDED, job.error_message


def test_a_flagged_quote_goes_to_its_customers_company_and_a_flagged_product_to_all(ends):
    north, south, right = ends
    shared = connection_to(right, "Sales")
    books = [connection_to(simulator, f"Books {n}") for n, simulator in enumerate((north, south))]
    for connection in (*books, shared):
        check(connection)
    one = applied("North", books[0], shared, **ROUTE, route_value="North")
    two = applied("South", books[1], shared, **ROUTE, route_value="South")
    customer = south.user_creates("Customer", {"DisplayName": "Looms", "CompanyName": "Looms", "FamilyName": "B"})
    for _ in range(2):
        synced(one, two)
    account = RecordLink.objects.get(integration=two, entity_sync__name="customer", left_id=customer).right_id
    unit = f"/uoms({right.ids['uom']})"
    product = right.user_creates(
        "product",
        {"name": "Shuttle", "productnumber": "S1", "syn_promote": 1, "quantitydecimal": 2, "producttypecode": 3, "price": 5,
         "defaultuomid@odata.bind": unit, "defaultuomscheduleid@odata.bind": f"/uomschedules({right.ids['uomschedule']})",
         "statecode": 0, "statuscode": 1},
    )  # fmt: skip
    for _ in range(2):
        take_promoted(one, two)
    assert right.store.get("product", product).body["syn_promote"] == 2
    shuttles = [
        [i.body["Name"] for i in each.store.table("Item").values() if i.body["Name"] == "Shuttle"]
        for each in (north, south)
    ]
    assert shuttles == [["Shuttle"], ["Shuttle"]]
    line = {
        "productid@odata.bind": f"/products({product})", "uomid@odata.bind": unit, "quantity": 3,
        "priceperunit": 5, "description": "Oak",
    }  # fmt: skip
    quote = right.user_creates(
        "quote",
        {"name": "Quote 1", "customerid_account@odata.bind": f"/accounts({account})", "quote_details": [line], "syn_promote": 1},
    )  # fmt: skip
    for _ in range(2):
        take_promoted(one, two)
    assert right.store.get("quote", quote).body["syn_promote"] == 2
    assert [len(each.store.table("Estimate")) for each in (north, south)] == [0, 1]
    assert not Promotion.objects.filter(entity_sync__integration=one, external_id=quote).exists()
