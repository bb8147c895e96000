"""Does a change at the vendor arrive without waiting for the schedule, and can nobody else start anything?"""

from __future__ import annotations

import json
import time
from datetime import timedelta

import pytest
from django.db import connection as database
from django.test import Client
from django.test.utils import CaptureQueriesContext

from connectors.hooks import hook_of, path_of
from connectors.models import Connection, HeardEvent, Hook, HookMark, Integration, Scope
from connectors.quickbooks.simulator_webhooks import signature
from jobs import clock
from jobs.models import Job
from jobs.states import Priority, StatusReason
from jobs.worker import run_in_process
from scheduling.models import Blackout, Provisioning, Service
from scheduling.services import make_services
from tests.quickbooks.test_webhooks import event, old

pytestmark = pytest.mark.django_db(transaction=True)
KEY = "the-verifier-token"


@pytest.fixture
def hook(db) -> Hook:
    made = hook_of("quickbooks")
    made.set_verifiers([KEY])
    return made


def company(realm, **columns):
    """A connection to a company, in an integration that was read completely once."""
    books = Connection.objects.create(system="quickbooks", name=f"Books {realm}", instance=realm, state="connected")
    crm = Connection.objects.create(system="memory", name=f"CRM {realm}", instance=f"crm {realm}", state="connected")
    found = Integration.objects.create(name=f"Company {realm}", left=books, right=crm, **columns)
    Scope.objects.create(integration=found, last_full_at=clock.now())
    return found


def call(hook, told, *, key=KEY, client=None, path=""):
    body = told if isinstance(told, bytes) else json.dumps(told).encode()
    return (client or Client()).post(
        path or path_of(hook), body, content_type="application/json", headers={"intuit-signature": signature(key, body)}
    )


def waiting():
    return Job.objects.open().filter(type="sync")


def test_a_change_in_quickbooks_reaches_the_other_side_without_its_schedule(live_server, hub, hook):
    verifier = str(hub.left.switches["webhook_verifier"])
    hook.set_verifiers(["the one before", verifier])
    hub.left.switches["webhook_url"] = live_server.url + path_of(hook)
    [customer, *_] = hub.companies()
    before = len(hub.left.journal)
    hub.left.user_edits("Customer", customer.id, {"Notes": "told by a webhook"})
    for _ in range(200):
        if hub.left.webhooks.sent:
            break
        time.sleep(0.02)
    hub.left.switches["webhook_url"] = ""
    assert [status for status, _ in hub.left.webhooks.sent] == [200]
    assert len(hub.left.journal) == before  # nothing was asked of the vendor while it waited for its answer
    [job] = waiting()
    assert job.priority == Priority.SCHEDULED and job.run_at > clock.now()
    assert run_in_process(job).status is StatusReason.SUCCEEDED
    hub.assert_agreed()
    assert any(r.body.get("description") == "told by a webhook" for r in hub.right.store.table("account").values())
    assert HookMark.objects.get().connection == hub.connection("left")


@pytest.mark.parametrize("shape", ["new", "old"])
def test_one_delivery_marks_three_connections_and_not_the_fourth(hook, shape):
    companies = [company(realm) for realm in ("1", "2", "3", "4")]
    told = [event("1"), event("2"), event("3"), event("1", number=2)]
    if shape == "old":
        told = {"eventNotifications": [old("1"), old("2"), old("3"), old("1", "Invoice")]}
    assert call(hook, told).status_code == 200
    marked = {mark.connection_id: mark.events for mark in HookMark.objects.all()}
    assert marked == {found.left_id: 1 + (found == companies[0]) for found in companies[:3]}
    assert {job.scope.integration for job in waiting()} == set(companies[:3])
    assert {job.scope.integration_id for job in waiting()} == {found.pk for found in companies[:3]}
    assert waiting().count() == 3


def test_many_calls_ask_for_one_run(hook):
    company("1")
    for number in range(5):
        assert call(hook, [event("1", number=number)]).status_code == 200
    [job] = waiting()
    assert job.run_at > clock.now()  # what people change comes in several calls
    hook.refresh_from_db()
    assert (hook.heard, HookMark.objects.get().events) == (5, 5)


@pytest.mark.parametrize("told", [[event("1")], {"eventNotifications": [old("1")]}])
def test_what_was_heard_before_is_not_heard_again(hook, told):
    company("1")
    call(hook, told)
    Job.objects.all().delete()
    assert call(hook, told).status_code == 200
    assert not waiting()
    hook.refresh_from_db()
    assert (hook.repeated, HookMark.objects.get().events, HeardEvent.objects.count()) == (1, 1, 1)


def test_an_id_is_forgotten_after_three_days(hook):
    company("1")
    call(hook, [event("1")])
    HeardEvent.objects.update(expires_at=clock.now() - timedelta(seconds=1))
    call(hook, [event("1", number=2)])
    assert HeardEvent.objects.count() == 1


def test_a_forged_call_is_counted_and_told_nothing(hook):
    company("1")
    forged = call(hook, [event("1")], key="guessed")
    strange = call(hook, [event("1")], path="/hooks/quickbooks/made-up-key/")
    silent = call(hook, [event("1")], path="/hooks/memory/made-up-key/")
    assert {answer.status_code for answer in (forged, strange, silent)} == {401}
    assert {answer.content for answer in (forged, strange, silent)} == {b""}
    hook.refresh_from_db()
    assert (hook.forged, hook.heard, hook.last_heard_at) == (1, 0, None)
    assert not waiting() and not HookMark.objects.exists() and not HeardEvent.objects.exists()


def test_a_company_that_nobody_connected_is_counted_and_answered(hook):
    company("1")
    assert call(hook, [event("77"), event("77", number=2), event("1")]).status_code == 200
    hook.refresh_from_db()
    assert hook.unknown == 2
    assert waiting().count() == 1


def test_a_call_that_is_too_long_or_makes_no_sense_is_refused(hook):
    assert call(hook, b"x" * (1024 * 1024 + 1)).status_code == 413
    assert call(hook, b"<html>").status_code == 400
    assert Client().get(path_of(hook)).status_code == 405


def test_a_browser_without_a_token_of_ours_may_call_too(hook):
    company("1")
    strict = Client(enforce_csrf_checks=True)
    assert call(hook, [event("1")], client=strict).status_code == 200


def test_a_new_address_leaves_the_old_one_a_day(hook):
    company("1")
    before = path_of(hook)
    hook.rotate_key(clock.now())
    assert path_of(hook) != before
    assert call(hook, [event("1")], path=before).status_code == 200
    assert call(hook, [event("1", number=2)]).status_code == 200
    Hook.objects.update(old_until=clock.now() - timedelta(seconds=1))
    assert call(hook, [event("1", number=3)], path=before).status_code == 401


def test_a_call_starts_only_what_may_run_now(hook):
    first = company("1")
    make_off = company("2", enabled=False)
    paused = company("3")
    Connection.objects.filter(pk=paused.left_id).update(state="paused")
    never = company("4")
    Scope.objects.filter(integration=never).update(last_full_at=None)
    call(hook, [event(realm) for realm in "1234"])
    assert [job.scope.integration for job in waiting()] == [first]
    assert HookMark.objects.count() == 4 and make_off.pk  # all of them are marked, though


def test_a_call_keeps_to_the_services_and_their_blackouts(hub, hook):
    integration = hub.integration
    make_services(integration)
    realm = hub.connection("left").instance
    call(hook, [event(realm, number=1)])
    assert not waiting()  # they are off
    Provisioning.objects.update_or_create(
        {"status": "approved", "requested_at": clock.now(), "decided_at": clock.now()}, integration=integration
    )
    service = Service.objects.filter(integration=integration, work="changes").first()
    service.windows.update(days=127, start="00:00", end="23:59")
    Service.objects.filter(pk=service.pk).update(enabled=True, next_run_at=clock.now() + timedelta(hours=1), zone="UTC")
    today = clock.now().date()
    rest = Blackout.objects.create(name="Audit", kind="dates", first=today, last=today + timedelta(days=1))
    call(hook, [event(realm, number=2)])
    assert not waiting()
    rest.delete()
    call(hook, [event(realm, number=3)])
    [job] = waiting()
    assert sorted(job.params["entities"]) == sorted(service.entities)


def test_a_call_costs_the_same_however_many_notifications_it_has(hook):
    for realm in ("1", "2"):
        company(realm)
    counts = []
    for many in (2, 200):
        told = [event(str(1 + n % 2), number=many * 1000 + n) for n in range(many)]
        with CaptureQueriesContext(database) as seen:
            assert call(hook, told).status_code == 200
        counts.append(len(seen))
        Job.objects.all().delete()
        HookMark.objects.all().delete()
    assert counts[0] == counts[1]


def test_a_system_that_does_not_call_has_no_hook(db):
    assert hook_of("memory") is None and hook_of("unheard of") is None
    assert not Hook.objects.exists()
