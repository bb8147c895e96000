"""What pre-flight finds on two real systems over HTTP, and that services can't be started before it is mended."""

from __future__ import annotations

import json
from io import StringIO

import pytest
from django.core.management import call_command

from connectors.dynamics365.requirements import create_columns
from connectors.models import Connection, PicklistMapping
from connectors.transport import connected
from jobs import clock
from scheduling import preflight
from scheduling.models import Provisioning
from scheduling.refusals import Refused
from scheduling.services import make_services, start

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def ready(fresh):
    """The preset with its services, provisioned and not started."""
    make_services(fresh.integration)
    now = clock.now()
    Provisioning.objects.create(integration=fresh.integration, status="approved", requested_at=now, decided_at=now)
    return fresh


def found(report, check="", level=""):
    return [
        line.message
        for line in report.lines
        if (not check or line.check == check) and (not level or line.level == level)
    ]


def test_a_sound_integration_has_no_red_line_and_every_check_was_looked_at(ready):
    report = preflight.run(ready.integration, by="Ada")
    assert report.blocking == []
    assert {line.check for line in report.lines} == set(preflight.CHECKS)
    kept = preflight.last(ready.integration)
    assert (kept.lines, kept.by, kept.stale) == (report.lines, "Ada", False)
    assert any("Craig's Design" in line for line in found(report, "connections"))
    assert "Both systems have the currencies CAD, EUR, USD." in found(report, "currencies", "ok")


def test_a_look_changes_nothing_and_needs_few_calls(ready):
    before = (ready.writes("left"), ready.writes("right"))
    asked = (ready.requests("left"), ready.requests("right"))
    preflight.run(ready.integration)
    assert (ready.writes("left"), ready.writes("right")) == before
    assert ready.requests("left") - asked[0] <= 12
    assert ready.requests("right") - asked[1] <= 24


def test_missing_columns_are_listed_table_by_table_and_a_service_starts_once_they_are_there(ready):
    for name in ("syn_aging30", "syn_promote"):
        ready.right.tables["account"].drop(name)
    ready.right.tables.pop("syn_salestransaction")
    service = ready.integration.services.first()
    with pytest.raises(Refused) as refused:
        start(service, by="Ada")
    account, history = found(preflight.last(ready.integration), "mappings", "blocking")
    assert (
        "lacks on account: syn_aging30 (currency, 4 decimal places); syn_promote (choice: 0 None; 1 Queued;" in account
    )
    assert "has no table syn_salestransaction" in history and "syn_memo (multiline text 2000)" in history
    assert "syn_type (choice: 1 Invoice; 2 Payment; 3 Credit memo; 4 Estimate; 5 Sales receipt)" in history
    assert "dynamics365_columns Sales --create" in account
    assert account in refused.value.problems and history in refused.value.problems
    service.refresh_from_db()
    assert not service.enabled

    with connected(ready.connection("right")) as connector:
        create_columns(connector)
    start(service, by="Ada")
    assert service.enabled and service.next_run_at is not None
    assert found(preflight.last(ready.integration), level="blocking") == []


def test_a_constant_that_became_inactive_blocks(ready):
    account = ready.integration.entity_syncs.get(name="item").mappings.get(left="IncomeAccountRef").constant
    ready.left.user_edits("Account", account, {"Active": False})
    [line] = preflight.run(ready.integration).blocking
    assert line.check == "inactive references"
    assert "'Sales of Product Income (deleted)' of Income account is inactive in Books" in line.message
    assert line.fix.endswith("/change/")


def test_a_stand_in_item_that_became_inactive_blocks_and_one_that_is_gone_too(ready):
    item = next(
        r.id for r in ready.left.store.table("Item").values() if r.body["Type"] == "Service" and r.body["Active"]
    )
    for mapping in (
        sync.mappings.get(left="Line") for sync in ready.integration.entity_syncs.filter(family="document")
    ):
        next(line for line in mapping.args["rows"] if line["left"] == "ItemRef")["default"] = item
        mapping.save()
    assert preflight.run(ready.integration).blocking == []
    ready.left.user_edits("Item", item, {"Active": False})
    lines = preflight.run(ready.integration).blocking
    assert {line.check for line in lines} == {"inactive references"}
    assert f"Item {item} in Books, which stands for lines without one, is inactive" in lines[0].message


def test_renamed_and_vanished_options_are_told_by_their_old_labels(ready):
    net30 = PicklistMapping.objects.filter(field_mapping__left="SalesTermRef", left_label="Net 30").first()
    ready.left.user_edits("Term", net30.left_key, {"Name": "30 days net"})
    renamed = found(preflight.run(ready.integration), "picklist labels", "warning")
    assert any("customer, person" in line and "renamed 'Net 30' to '30 days net'" in line for line in renamed)
    for table in ("account", "contact"):
        column = ready.right.tables[table].columns["paymenttermscode"]
        column.options = tuple(option for option in column.options if option[1] != "Net 30")
    vanished = found(preflight.run(ready.integration), "picklist labels", "blocking")
    assert [line for line in vanished if "customer, person" in line and "Sales no longer has Net 30, which" in line]


def test_currencies_that_one_side_lacks_are_a_warning_and_none_in_common_blocks(ready):
    rows = ready.right.store.table("transactioncurrency")
    by_code = {row.body["isocurrencycode"]: row for row in rows.values()}
    ready.right.user_edits("transactioncurrency", by_code["CAD"].id, {"statecode": 1, "statuscode": 2})
    report = preflight.run(ready.integration)
    assert any("only Books has CAD" in line for line in found(report, "currencies", "warning"))
    assert report.blocking == []
    for code in ("EUR", "USD"):
        ready.right.user_edits("transactioncurrency", by_code[code].id, {"statecode": 1, "statuscode": 2})
    report = preflight.run(ready.integration)
    assert any("no active currency is mapped on both sides" in line for line in found(report, "currencies", "blocking"))


def test_a_right_that_is_missing_in_dynamics_is_named(ready):
    ready.right.switches["denied"] = ("prvWriteAccount", "prvReadProduct", "prvDeleteContact", "prvWriteQuote")
    report = preflight.run(ready.integration)
    blocking, warning = found(report, "permissions", "blocking"), found(report, "permissions", "warning")
    assert any("customer" in line and "may not archive, restore or update" in line for line in blocking)
    assert any("item" in line and "may not read" in line for line in blocking)
    assert any("person" in line and "may not delete" in line for line in warning)
    assert any("quote" in line and "may not update" in line for line in blocking)  # the promotion is answered there


def test_an_unreachable_system_is_one_red_line_and_the_other_side_is_still_checked(ready):
    ready.left.faults.add("error", times=None, status=500)
    ready.right.tables["account"].drop("syn_aging30")
    report = preflight.run(ready.integration)
    [away] = found(report, "connections", "blocking")
    assert away.startswith("Books is not reachable: QuickBooks answered 500")
    assert any("lacks on account: syn_aging30" in line for line in found(report, "mappings", "blocking"))
    assert len(report.blocking) == 2
    assert {line.check for line in report.lines if "Sales" in line.message} >= {"connections", "permissions", "quota"}
    ready.left.faults.clear()
    ready.right.faults.add("reset", times=None)
    assert any(
        line.startswith("Sales is not reachable") for line in found(preflight.run(ready.integration), "connections")
    )


def test_credentials_that_no_longer_work_and_a_paused_connection_block(ready):
    ready.right.switches["secret_expired"] = True
    Connection.objects.filter(pk=ready.integration.right_id).update(state="connected")
    connection = ready.connection("right")
    connection.set_secret({**connection.get_secret(), "access_token": ""})
    assert any("Sales" in line for line in found(preflight.run(ready.integration), "connections", "blocking"))
    Connection.objects.filter(pk=ready.integration.left_id).update(state="paused", reason="Ada counts the stock.")
    asked = ready.requests("left")
    report = preflight.run(ready.integration)
    assert "Books is paused: Ada counts the stock." in found(report, "connections", "blocking")
    assert ready.requests("left") == asked  # a pause means that nothing is sent


def test_calls_that_run_short_are_told_as_the_system_counts_them(ready):
    ready.right.switches["limit_requests"] = 600  # others use the same environment: of 6,000 calls few are left
    report = preflight.run(ready.integration)
    [line] = found(report, "quota", "warning")
    assert line.startswith("Only 5") and "of Sales's 6,000 request calls for each 5 minutes are left" in line
    assert report.blocking == []


def test_the_command_ends_with_1_while_something_blocks(ready):
    told = StringIO()
    call_command("preflight", "Books with Sales", stdout=told)
    assert "Mail" in told.getvalue() and "Nothing blocks the services" in told.getvalue()
    ready.right.tables["product"].drop("syn_quantityonhand")
    told = StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("preflight", "Books with Sales", "--json", stdout=told)
    report = json.loads(told.getvalue())
    assert (ended.value.code, report["ready"], report["summary"]) == (1, False, "1 thing blocks the services.")
    assert any("syn_quantityonhand" in line["message"] for line in report["lines"] if line["level"] == "blocking")


def test_a_synced_integration_is_told_how_many_calls_a_full_reading_takes(hub):
    report = preflight.run(hub.integration)
    assert any("known records of Books again takes at least" in line for line in found(report, "quota", "ok"))
    assert report.blocking == []
