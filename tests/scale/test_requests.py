"""How many requests does a first sync take, and what does it leave?  QuickBooks' customers into Dynamics 365, over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from math import ceil

import pytest

from connectors.contract import Batch, Connector
from connectors.dynamics365.simulator import DynamicsSimulator
from connectors.models import Connection, Integration, Run, Scope
from connectors.quickbooks.simulator import QuickBooksSimulator
from connectors.simulation import Simulator
from connectors.simulation.server import Call
from connectors.sync.presets import apply_preset, presets
from connectors.sync.run import advance, start_run
from connectors.sync.world import World
from connectors.transport import check, connected
from connectors.transport.apilog import ApiLog
from tests.scale.agreement import differences

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]
CUSTOMERS = 10_000
# What a run asks besides feeds and writes, by method and path: logins, who we are, descriptions, small lists of choices.
ASIDE = (
    "/oauth2/", "/tokens/", "EntityDefinitions", "GlobalOptionSetDefinitions", "RelationshipDefinitions", "WhoAmI",
    "/companyinfo/", "/preferences", "organizations", "transactioncurrencies", "systemusers", "RetrieveMetadataChanges",
)  # fmt: skip
LISTS = ("query Term", "query CompanyCurrency", "query Preferences", "query CompanyInfo")
FEEDS = {"quickbooks": 1, "dynamics365": 2}  # one for all of QuickBooks; accounts and contacts


@dataclass
class Sync:
    """One integration of customers with accounts and contacts, with its two simulated systems."""

    left: QuickBooksSimulator
    right: DynamicsSimulator
    integration: Integration
    sent: list[tuple[str, Batch]] = field(default_factory=list)  # (system, what the engine asked to write)

    def run(self) -> Run:
        """One delta run in this process, over the real transport."""
        self.sent.clear()
        for simulator in (self.left, self.right):
            simulator.journal.clear()
        scope = Scope.objects.select_related("integration__left", "integration__right").get(
            integration=self.integration
        )
        log = ApiLog()
        with ExitStack() as opened:

            def connect(connection: Connection) -> Connector:
                connector = opened.enter_context(connected(connection, log=log))
                self._listen(connector)
                return connector

            world = World(connect=connect)
            run = start_run(scope, world)
            while not advance(run, world):
                pass
        run.refresh_from_db()
        assert run.phase == Run.Phase.DONE and run.counts["adds_up"], (run.phase, run.error, run.guard)
        return run

    def _listen(self, connector: Connector) -> None:
        write = connector.write

        def heard(batch: Batch):
            self.sent.append((connector.system, batch))
            return write(batch)

        connector.write = heard  # type: ignore[method-assign]

    def calls(self, simulator: Simulator) -> list[Call]:
        """Requests that read a feed or write, in order."""
        return [c for c in simulator.journal if not any(part in c.path for part in ASIDE) and c.note not in LISTS]

    def time_passes(self) -> None:
        """Move both systems' clocks past the overlap of QuickBooks' change feed."""
        for simulator in (self.left, self.right):
            simulator.clock.advance(timedelta(minutes=10))


@pytest.fixture
def sync() -> Iterator[Sync]:
    with (
        QuickBooksSimulator(records=CUSTOMERS, seed=7, limits=False) as left,
        DynamicsSimulator(seed=7, limits=False) as right,
    ):
        ends = {"left": _connection(left), "right": _connection(right)}
        with connected(ends["left"]) as one, connected(ends["right"]) as other:
            connectors = {"left": one, "right": other}
            applied = apply_preset(presets()["inolink"], "Customers", ends, connectors, first_run="apply")
        syncs = applied.integration.entity_syncs
        syncs.exclude(family="customer").delete()
        syncs.update(push={})  # both ways, without a person asking for each
        yield Sync(left, right, applied.integration)


def _connection(simulator: Simulator) -> Connection:
    told = simulator.credentials()
    lifted = {"limit.batch": "0", "limit.request": "0"} if simulator.system == "quickbooks" else {}
    connection = Connection.objects.create(
        system=simulator.system, name=simulator.system, settings={**told["settings"], **lifted}
    )
    connection.set_secret({name: str(value) for name, value in told["secret"].items()})
    check(connection)
    return connection


def test_customers_flow_in_few_requests_and_both_sides_agree(sync: Sync) -> None:
    """One test, because each step is the beginning of the next and the first one is long."""
    first_sync_takes_few_requests(sync)
    echo_is_read_and_nothing_written(sync)
    quiet_delta_asks_little(sync)
    only_what_changed_is_sent(sync)


def first_sync_takes_few_requests(sync: Sync) -> None:
    left, right = len(sync.left.store.table("Customer")), 0
    active = sum(bool(r.body["Active"]) for r in sync.left.store.table("Customer").values())
    sync.run()
    found = list(differences(sync.left, sync.right))
    assert found == [], f"{len(found)} differences: {found[:5]}"
    writes = sum(call.creates + call.updates + call.deletes for s in (sync.left, sync.right) for call in s.journal)
    assert writes == sum(len(batch.operations) for _, batch in sync.sent) == active
    requests = [call for s in (sync.left, sync.right) for call in sync.calls(s)]
    allowed = 1.2 * (ceil(left / 1000) + ceil(right / 5000) + ceil(writes / 100))
    assert len(requests) <= allowed, f"{len(requests)} requests, {allowed:.0f} allowed: {_summary(requests)}"


def echo_is_read_and_nothing_written(sync: Sync) -> None:
    run = sync.run()
    assert run.counts["reads"]["right"] >= 0.9 * CUSTOMERS, "the echo of the first sync was not read"
    assert sync.sent == []
    assert list(differences(sync.left, sync.right)) == []


def quiet_delta_asks_little(sync: Sync) -> None:
    sync.time_passes()
    run = sync.run()
    assert sync.sent == [] and sum(run.counts.get("reads", {}).values()) == 0, run.counts
    for simulator in (sync.left, sync.right):
        calls = sync.calls(simulator)
        assert 0 < len(calls) <= 2 * FEEDS[simulator.system], _summary(calls)


def only_what_changed_is_sent(sync: Sync) -> None:
    companies = [r.id for r in sync.left.store.table("Customer").values() if r.body["Active"]]
    chosen = companies[:: max(1, len(companies) // (CUSTOMERS // 100))][: CUSTOMERS // 100]
    for number, customer_id in enumerate(chosen):
        sync.left.user_edits("Customer", customer_id, {"PrimaryPhone.FreeFormNumber": f"(555) 999-{number:04d}"})
    realm = sync.left.credentials()["settings"]["realm"]
    expected = {f"{realm}:Customer:{customer_id}" for customer_id in chosen}
    place = len(sync.right.store.log)
    sync.run()
    written = [change for change in sync.right.store.log[place:] if change.by == "api"]
    rows = [sync.right.store.table(change.entity)[change.id] for change in written]
    assert sorted(str(row.body["syn_externalid"]) for row in rows) == sorted(expected)
    kept_by_the_system = {"modifiedon", "_modifiedby_value", "versionnumber", "_modifiedby_value@lookup"}
    touched = {name for change in written for name in change.fields if not name.startswith("_modified")}
    assert touched - kept_by_the_system == {"telephone1"}
    operations = [operation for system, batch in sync.sent for operation in batch.operations]
    assert {system for system, _ in sync.sent} == {"dynamics365"}
    assert all(set(operation.values) == {"telephone1"} for operation in operations)
    assert len(operations) == len(chosen)
    assert list(differences(sync.left, sync.right)) == []


def _summary(calls: list[Call]) -> dict[str, int]:
    found: dict[str, int] = {}
    for call in calls:
        words = f"{call.method} {call.path.rsplit('/', 1)[-1]} {call.note.split(' ')[0]} {call.status}"
        found[words] = found.get(words, 0) + 1
    return found
