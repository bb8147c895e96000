"""Is everything as before once a run was undone, over the real protocols, and was what can't be so said first?"""

import json
from io import StringIO

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from rest_framework.test import APIClient

from connectors.models import Promotion, RecordChange, RecordLink, Run
from connectors.sync import decisions
from connectors.sync.run import describe
from jobs import clock
from jobs.models import Job
from jobs.states import StatusReason
from jobs.syncing import NotNow, approve_preview, request_promotion, request_undo
from jobs.worker import run_in_process

pytestmark = pytest.mark.django_db(transaction=True)
SYNCED = ("account", "contact", "product", "syn_salestransaction")


def active(hub):
    """What people see in Dynamics 365: every record that is not inactive, with what it holds."""
    with hub.right.store.lock:
        return {
            entity: {
                r.id: {n: v for n, v in r.body.items() if n not in ("modifiedon", "versionnumber", "@odata.etag")}
                for r in hub.right.store.table(entity).values()
                if r.body.get("statecode", 0) == 0
            }
            for entity in SYNCED
        }


def books(hub):
    with hub.left.store.lock:
        return {
            name: {r.id: dict(r.body) for r in rows.values()} for name, rows in hub.left.store.tables.items() if rows
        }


def proposed(hub, run):
    """Propose the undo of a run."""
    undo = hub.run_of(hub.settle(run_in_process(request_undo(run))))
    assert undo.undoes_id == run.pk
    return undo


def approved(hub, undo):
    job, _, bounced = approve_preview(undo, accept_guard=True)
    assert bounced == 0
    return hub.run_of(hub.settle(run_in_process(job)))


def first_sync(hub):
    job = hub.sync()
    assert job.status is StatusReason.SUCCEEDED, job.error_message
    return hub.run_of(job)


def test_the_first_sync_undone_leaves_dynamics_as_before_and_quickbooks_untouched(fresh):
    before, in_books = active(fresh), books(fresh)
    run = first_sync(fresh)
    assert active(fresh) != before
    undo = proposed(fresh, run)
    verbs = set(RecordChange.objects.filter(run=undo, status="proposed").values_list("side", "verb"))
    assert ("right", "delete") in verbs
    inactive = RecordChange.objects.filter(run=undo, verb="archive", status="proposed")
    kept = set(inactive.values_list("record_id", flat=True))
    assert all("made inactive" in message for message in inactive.values_list("message", flat=True))
    done = approved(fresh, undo)
    assert describe(done).startswith("Succeeded: "), describe(done)
    assert describe(done).endswith(" undone"), describe(done)
    assert active(fresh) == before
    everything = {i for entity in SYNCED for i in fresh.right.store.table(entity)}
    assert everything - {i for rows in before.values() for i in rows} == kept, "just what was said stays, inactive"
    assert books(fresh) == in_books
    assert fresh.writes("left") == 0


def test_after_an_undo_the_next_runs_write_nothing_and_a_release_brings_it_back(fresh):
    run = first_sync(fresh)
    agreed = active(fresh)
    done = approved(fresh, proposed(fresh, run))
    writes = fresh.writes("left"), fresh.writes("right")
    fresh.settle()
    fresh.settle(fresh.sync(mode="comprehensive"))
    assert (fresh.writes("left"), fresh.writes("right")) == writes, describe(done)
    for link in RecordLink.objects.filter(reason="undone").select_related("entity_sync"):
        decisions.release(link, now=clock.now())
    fresh.settle()
    fresh.settle()
    assert {e: len(rows) for e, rows in active(fresh).items()} == {e: len(rows) for e, rows in agreed.items()}
    fresh.assert_nothing_doubled()


def test_an_edit_undone_sets_back_just_that_field(hub):
    customer = hub.companies()[0]
    before = active(hub)
    hub.left.user_edits("Customer", customer.id, {"Notes": "Written by mistake"})
    run = first_sync(hub)
    assert active(hub) != before
    undo = proposed(hub, run)
    [change] = RecordChange.objects.filter(run=undo)
    assert change.verb == "update"
    assert len(json.loads(change.after)) == 1
    approved(hub, undo)
    assert active(hub) == before


def test_a_promotion_undone_makes_the_customer_inactive_and_is_taken_back(hub):
    [account] = hub.create_accounts(1)
    hub.settle()
    _, job = request_promotion(hub.integration, "customer", [account])
    run = hub.run_of(hub.settle(run_in_process(job)))
    [made] = hub.creates("left", "Customer")
    undo = proposed(hub, run)
    [change] = RecordChange.objects.filter(run=undo, entity_sync__name="customer", side="left")
    assert not change.code, change.message
    assert change.verb == "archive"
    assert "can't delete such records" in change.message
    approved(hub, undo)
    assert hub.left.store.table("Customer")[made.id].body["Active"] is False
    promotion = Promotion.objects.get(external_id=account)
    assert (promotion.status, "an undo" in promotion.reason) == ("withdrawn", True)
    hub.settle()
    again, _ = request_promotion(hub.integration, "customer", [account])
    assert "already" in str(again) or account in again.already


def test_the_command_tells_first_and_writes_when_told_to(fresh):
    run = first_sync(fresh)
    before = fresh.writes("right")
    out = StringIO()
    call_command("undo", str(run.pk), stdout=out)
    assert "Nothing was written yet" in out.getvalue()
    assert " to be undone" in out.getvalue()
    assert fresh.writes("right") == before
    out = StringIO()
    call_command("undo", str(run.pk), "--approve", "--accept-guard", "--json", stdout=out)
    told = json.loads(out.getvalue())
    assert told["undoes"] == run.pk
    assert told["undo"]["undone"] > 0
    with pytest.raises(CommandError, match="has been undone already"):
        call_command("undo", str(run.pk))


def test_the_api_asks_for_an_undo_and_says_why_not(hub):
    person = User.objects.create_superuser("ada")
    client = APIClient()
    client.force_login(person)
    hub.left.user_edits("Customer", hub.companies()[0].id, {"Notes": "Written by mistake"})
    run = first_sync(hub)
    answer = client.post(f"/api/v1/runs/{run.pk}/undo/")
    assert answer.status_code == 202
    hub.settle(run_in_process(Job.objects.get(pk=answer.json()["job"]["id"])))
    undo = Run.objects.latest("id")
    assert (undo.purpose, undo.undoes_id, undo.asked_by) == ("undo", run.pk, person)
    answer = client.post(f"/api/v1/runs/{undo.pk}/undo/")
    assert (answer.status_code, "is an undo itself" in answer.json()["detail"]) == (409, True)
    client.force_login(User.objects.create_user("nobody"))
    assert client.post(f"/api/v1/runs/{run.pk}/undo/").status_code == 403


def test_an_integration_that_is_switched_off_undoes_nothing(hub):
    run = Run.objects.filter(integration=hub.integration).earliest("id")
    type(hub.integration).objects.update(enabled=False)
    with pytest.raises(NotNow, match="switched off"):
        request_undo(run)
