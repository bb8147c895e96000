"""What do the acceptance tests share?  Both simulated systems over HTTP, the preset, jobs run here, and a judge outside the engine."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from connectors.dynamics365.simulator import DynamicsSimulator
from connectors.models import Connection, Integration, RecordLink, Run
from connectors.models.connection import Budget
from connectors.quickbooks.simulator import QuickBooksSimulator
from connectors.sync.presets import apply_preset, presets
from connectors.sync.run import mark_settings_changed
from connectors.transport import check, connected
from jobs.handlers.sync import _Watch
from jobs.models import Job
from jobs.states import READY, StatusReason
from jobs.syncing import request_sync
from jobs.worker import run_in_process

CUSTOMERS = 40
LOGINS = {"left": "/tokens/bearer", "right": "/oauth2/v2.0/token"}


@dataclass
class Hub:
    """One integration between two simulated companies."""

    left: QuickBooksSimulator
    right: DynamicsSimulator
    integration: Integration
    point: list = field(default_factory=list)  # called with (engine's point); put a function in to act in mid-run

    # Syncing

    def sync(self, **asked):
        """Run one job here, to the end of its first attempt."""
        return run_in_process(request_sync(self.integration, **asked))

    def again(self, job):
        """Run a job that waits for its retry, as if its time had come."""
        self.time_passes()
        job.refresh_from_db()
        assert job.status in READY, f"{job.status}: {job.error_message}"
        return run_in_process(job)

    def settle(self, job=None, tries=8):
        """Repeat a job until it has succeeded."""
        job = job or self.sync()
        for _ in range(tries):
            if job.status is StatusReason.SUCCEEDED:
                return job
            job = self.again(job)
        raise AssertionError(f"job {job.pk} is {job.status.label} after {tries} tries: {job.error_message}")

    def time_passes(self):
        """Whatever waits for a moment: its moment has come."""
        Job.objects.filter(status_reason__in=[s.value for s in READY]).update(not_before=None)
        Budget.objects.update(hold_until=None)
        Connection.objects.filter(refresh_lease="").update(refresh_until=None)

    def run_of(self, job):
        return Run.objects.get(pk=job.run_id)

    def simulator(self, side):
        return self.left if side == "left" else self.right

    def connection(self, side):
        return Connection.objects.get(pk=getattr(self.integration, f"{side}_id"))

    def links(self, name=None):
        found = RecordLink.objects.filter(integration=self.integration, ended=0)
        return found.filter(entity_sync__name=name) if name else found

    # What people do

    def both_ways(self):
        """Let records of Dynamics 365 flow to QuickBooks without being asked for one by one."""
        self.integration.entity_syncs.update(push={})
        mark_settings_changed(self.integration)

    def companies(self):
        return [r for r in self.left.store.table("Customer").values() if r.body.get("CompanyName") and r.body["Active"]]

    def create_accounts(self, count):
        return [
            self.right.user_creates(
                "account",
                {"name": f"Newly Won {n:03d}", "emailaddress1": f"won{n}@newly.example", "address1_city": "Oslo"},
            )
            for n in range(count)
        ]

    def create_customers(self, count):
        return [
            self.left.user_creates(
                "Customer",
                {"DisplayName": f"Fresh {n:03d}", "CompanyName": f"Fresh {n:03d} Ltd", "BillAddr.City": "Bergen"},
            )
            for n in range(count)
        ]

    # What the simulators saw

    def creates(self, side, entity):
        """Every create over HTTP, by the name of what was made."""
        return [
            c for c in self.simulator(side).store.log if c.verb == "create" and c.by == "api" and c.entity == entity
        ]

    def writes(self, side):
        return sum(c.by == "api" for c in self.simulator(side).store.log)

    def logins(self, side):
        return sum(LOGINS[side] in c.path for c in self.simulator(side).journal)

    def requests(self, side):
        return len(self.simulator(side).journal)

    # The judge

    def differences(self):
        """Compare both stores without the engine: by names and by the key that accounts carry; [] is agreement."""
        return [*Judge(self.left, self.right).differences()]

    def assert_agreed(self, *, but=()):
        found = [line for line in self.differences() if not any(word in line for word in but)]
        assert found == [], found[:10]

    def assert_nothing_doubled(self):
        # Two people of one name may be one of a company and one of none, or of two companies.
        contact = ("fullname", "_parentcustomerid_value")
        for entity, keys in (("account", ("name",)), ("product", ("name",)), ("contact", contact)):
            names = [tuple(r.body.get(key) for key in keys) for r in self.right.store.table(entity).values()]
            assert len(names) == len(set(names)), f"{entity}: {sorted(n for n in names if names.count(n) > 1)}"
        external = [r.body.get("syn_externalid") for r in self.right.store.table("syn_salestransaction").values()]
        assert len(external) == len(set(external))
        names = [r.body.get("CompanyName") for r in self.left.store.table("Customer").values()]
        names = [name for name in names if name]
        assert len(names) == len(set(names)), sorted(n for n in names if names.count(n) > 1)
        # One record has one partner in all of the hub.
        for side in ("left", "right"):
            ids = list(
                self.links().exclude(**{f"{side}_id": None}).values_list("family", f"{side}_entity", f"{side}_id")
            )
            assert len(ids) == len(set(ids))


class Judge:
    """A little mapping of its own, so that a mistake of the engine's is not repeated here."""

    CUSTOMER = {
        "CompanyName": "name", "PrimaryEmailAddr.Address": "emailaddress1", "PrimaryPhone.FreeFormNumber": "telephone1",
        "WebAddr.URI": "websiteurl", "BillAddr.City": "address1_city", "BillAddr.Line1": "address1_line1",
        "BillAddr.PostalCode": "address1_postalcode", "Notes": "description",
    }  # fmt: skip
    PERSON = {"GivenName": "firstname", "FamilyName": "lastname", "PrimaryEmailAddr.Address": "emailaddress1"}
    ITEM = {"Name": "name", "UnitPrice": "price"}
    INVOICE = {"TotalAmt": "syn_amount", "Balance": "syn_balance", "DocNumber": "syn_number", "TxnDate": "syn_date"}

    def __init__(self, left, right):
        self.left, self.right = left, right

    def rows(self, entity):
        simulator = self.left if entity[0].isupper() else self.right
        with simulator.store.lock:
            return {r.id: r.body for r in simulator.store.table(entity).values()}

    def differences(self):
        customers = self.rows("Customer")
        companies = {i: b for i, b in customers.items() if b.get("CompanyName")}
        people = {i: b for i, b in customers.items() if not b.get("CompanyName")}
        yield from self.compare(companies, self.rows("account"), self.CUSTOMER, "CompanyName", "name", "Customer")
        keys = {f"{self.left.credentials()['settings']['realm']}:Customer:{i}" for i in companies}
        contacts = self.rows("contact")
        primary = {i: b for i, b in contacts.items() if b.get("syn_externalid") in keys}
        alone = {i: b for i, b in contacts.items() if i not in primary}
        named = {i: b for i, b in companies.items() if b.get("FamilyName")}
        yield from self.compare(people, alone, self.PERSON, "", "", "Customer")
        yield from self.compare(named, primary, self.PERSON, "", "", "Customer")
        items = {i: b for i, b in self.rows("Item").items() if b["Type"] in ("Inventory", "NonInventory", "Service")}
        yield from self.compare(items, self.rows("product"), self.ITEM, "Name", "name", "Item")
        history = {i: b for i, b in self.rows("syn_salestransaction").items() if b.get("syn_type") == 1}
        yield from self.compare(self.rows("Invoice"), history, self.INVOICE, "", "", "Invoice")

    def compare(self, lefts, rights, fields, left_name, right_name, entity):
        by_key = {str(b.get("syn_externalid")): b for b in rights.values() if b.get("syn_externalid")}
        by_name = {b[right_name]: b for b in rights.values()} if right_name else {}
        partners = 0
        for key, body in lefts.items():
            partner = by_key.get(f"{self.left.credentials()['settings']['realm']}:{entity}:{key}")
            partner = partner or by_name.get(body.get(left_name, ""))
            if partner is None and body.get("Active") is False:
                continue  # an inactive record that never had a partner stays outside
            if partner is None:
                yield f"{entity} {key} {body.get(left_name, '')} has no partner"
                continue
            partners += 1
            for one, other in fields.items():
                here, there = plain(value(body, one)), plain(partner.get(other))
                if here != there:
                    yield f"{entity} {key}: {one} {here!r} but {other} {there!r}"
        if len(rights) != partners:
            yield f"{entity}: {partners} have partners, but there are {len(rights)} on the right"


def value(body, path):
    first, _, second = path.partition(".")
    found = body.get(first)
    return (found or {}).get(second) if second else found


def plain(found):
    if found in (None, ""):
        return ""
    return f"{float(found):.2f}" if isinstance(found, int | float) else str(found).strip()


def connection_to(simulator, name, **settings):
    told = simulator.credentials()
    connection = Connection.objects.create(
        system=simulator.system, name=name, settings={**told["settings"], **settings}
    )
    connection.set_secret(told["secret"])
    return connection


@pytest.fixture
def systems():
    """Both simulators, started."""
    with QuickBooksSimulator(records=CUSTOMERS, seed=7) as left, DynamicsSimulator(seed=7) as right:
        yield left, right


@pytest.fixture
def fresh(transactional_db, systems, monkeypatch):
    """The preset applied and nothing synced yet."""
    left, right = systems
    ends = {
        "left": connection_to(left, "Books"),
        "right": connection_to(right, "Sales"),
    }
    for connection in ends.values():
        check(connection)
    with connected(ends["left"]) as one, connected(ends["right"]) as other:
        applied = apply_preset(
            presets()["inolink"], "Books with Sales", ends, {"left": one, "right": other}, first_run="apply"
        )
    hub = Hub(left, right, applied.integration)
    watch(monkeypatch, hub)
    return hub


@pytest.fixture
def hub(fresh):
    """Everything synced once, and the echo read."""
    job = fresh.sync()
    assert job.status is StatusReason.SUCCEEDED, job.error_message
    fresh.settle()
    fresh.assert_agreed()
    return fresh


def watch(monkeypatch, hub):
    """Let a test act between any two side effects of the engine, through the engine's own seam."""
    own = _Watch.point

    def point(self, name):
        for act in list(hub.point):
            act(name)
        own(self, name)

    monkeypatch.setattr(_Watch, "point", point)
