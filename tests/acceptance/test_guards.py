"""Does the hub stop before harm, and does a preview write what was approved and nothing else?  (Issue: "what it must show", 8)"""

import pytest
from django.utils import timezone

from connectors.models import EntitySync, Event, Integration, RecordChange, Run
from connectors.sync.run import decide_proposals, mark_settings_changed
from jobs.states import StatusReason
from jobs.syncing import NotNow, accept_guard, approve_preview, request_sync
from jobs.worker import run_in_process

pytestmark = pytest.mark.django_db(transaction=True)
LISTING = {"left": r"(GET|POST) .*/query$", "right": r"GET .*/api/data/v9\.2/\w+$"}
CHANGES = {"left": r"GET .*/cdc$", "right": r"GET .*/api/data/v9\.2/\w+$"}


def tables(hub):
    """How many records each side holds, and how many deletes it has seen."""
    return [
        {name: len(rows) for name, rows in side.store.tables.items()} | {"deletes": sum(c.verb == "delete" for c in side.store.log)}
        for side in (hub.left, hub.right)
    ]  # fmt: skip


def delete_invoices(hub, count=25):
    gone = list(hub.left.store.table("Invoice"))[:count]
    for key in gone:
        hub.left.user_deletes("Invoice", key)
    return gone


# A side that is suddenly empty


@pytest.mark.parametrize("then", ["delta", "comprehensive"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_side_that_is_suddenly_empty_stops_the_run_with_one_warning_and_deletes_nothing(hub, side, then):
    hub.both_ways()
    hub.settle()
    before, writes = tables(hub), (hub.writes("left"), hub.writes("right"))
    fault = hub.simulator(side).faults.add("empty", match=LISTING[side], times=None)
    job = hub.sync(mode="comprehensive")
    assert job.status is StatusReason.SUCCEEDED
    run = hub.run_of(job)
    assert run.phase == Run.Phase.GUARDED
    assert "Stopped by a guard" in job.results["summary"]
    [warning] = Event.objects.filter(run=run)
    assert warning.level == "warning"
    assert side in warning.message
    assert "suddenly shows none" in warning.message
    assert "Nothing was written" in warning.message
    assert tables(hub) == before
    assert (hub.writes("left"), hub.writes("right")) == writes
    assert not RecordChange.objects.filter(run=run).exists()
    # The system is well again: so is the next run.
    fault.times = 0
    job = hub.settle(hub.sync(mode=then))
    assert hub.run_of(job).phase == Run.Phase.DONE, hub.run_of(job).guard
    assert tables(hub) == before
    hub.left.user_edits("Customer", hub.companies()[0].id, {"BillAddr.City": "Elsewhere"})
    hub.settle()
    hub.assert_agreed()


@pytest.mark.parametrize("side", ["left", "right"])
def test_an_empty_answer_of_a_change_feed_is_no_delete(hub, side):
    hub.both_ways()
    hub.settle()
    before = tables(hub)
    hub.left.user_edits("Customer", hub.companies()[0].id, {"BillAddr.City": "Elsewhere"})
    fault = hub.simulator(side).faults.add("empty", match=CHANGES[side], times=None)
    hub.settle()
    assert tables(hub) == before
    fault.times = 0
    hub.settle()
    hub.assert_agreed()
    assert tables(hub) == before


@pytest.mark.parametrize("side", ["left", "right"])
def test_who_goes_on_in_spite_of_the_guard_still_deletes_only_what_is_proved_to_be_gone(hub, side):
    hub.both_ways()
    hub.integration.entity_syncs.update(on_delete=EntitySync.OnDelete.DELETE)
    mark_settings_changed(hub.integration)
    hub.settle()
    before = tables(hub)
    fault = hub.simulator(side).faults.add("empty", match=LISTING[side], times=None)
    run = hub.run_of(hub.sync(mode="comprehensive"))
    assert run.phase == Run.Phase.GUARDED
    job = hub.settle(run_in_process(accept_guard(run)))
    assert hub.run_of(job).phase == Run.Phase.DONE
    assert tables(hub) == before
    with pytest.raises(NotNow, match="was not stopped by a guard"):
        accept_guard(hub.run_of(job))
    fault.times = 0
    hub.settle()
    hub.assert_agreed()


def test_many_deletes_stop_the_run_and_go_through_when_a_person_accepts(hub):
    hub.integration.entity_syncs.update(on_delete=EntitySync.OnDelete.DELETE)
    mark_settings_changed(hub.integration)
    hub.settle()
    gone, before = delete_invoices(hub), len(hub.right.store.table("syn_salestransaction"))
    job = hub.sync()
    run = hub.run_of(job)
    assert run.phase == Run.Phase.GUARDED
    [warning] = Event.objects.filter(run=run, level="warning")
    assert f"{len(gone)} records of" in warning.message
    assert "would be removed on the right" in warning.message
    assert len(hub.right.store.table("syn_salestransaction")) == before
    hub.settle()
    assert len(hub.right.store.table("syn_salestransaction")) == before, "the next run did what the guard had stopped"
    stopped = Run.objects.filter(phase=Run.Phase.GUARDED).latest("id")
    hub.settle(run_in_process(accept_guard(stopped)))
    assert len(hub.right.store.table("syn_salestransaction")) == before - len(gone)
    hub.assert_agreed()


def test_many_removals_by_making_inactive_stop_the_run_too(hub):
    """QuickBooks can't delete a customer: there the removal makes it inactive."""
    hub.both_ways()
    hub.integration.entity_syncs.update(on_delete=EntitySync.OnDelete.ARCHIVE)
    mark_settings_changed(hub.integration)
    hub.settle()
    people = hub.links("person").filter(left_id__isnull=False, right_id__isnull=False).order_by("id")
    for key in list(people.values_list("right_id", flat=True))[:22]:
        hub.right.user_deletes("contact", key)
    run = hub.run_of(hub.sync())
    assert run.phase == Run.Phase.GUARDED
    assert Event.objects.filter(run=run, level="warning", message__contains="on the left").count() == 1
    assert not any(c.by == "api" for c in hub.left.store.log)


def test_deletes_wait_for_approval_by_default(hub):
    gone, before = delete_invoices(hub, 3), len(hub.right.store.table("syn_salestransaction"))
    job = hub.settle()
    assert "3 waiting" in job.results["summary"]
    waiting = hub.links("invoice history").filter(pending=2)
    assert set(waiting.values_list("reason", "left_id")) == {("waits for approval", key) for key in gone}
    assert RecordChange.objects.filter(run=job.run_id, verb="delete", status="proposed").count() == 3
    hub.settle(hub.sync(mode="comprehensive"))
    assert len(hub.right.store.table("syn_salestransaction")) == before
    assert RecordChange.objects.filter(verb="delete").count() == 3, "proposed once, not at each run"


# Preview


@pytest.fixture
def preview(hub):
    """Two edited customers, a new one, and a preview of what would be done."""
    hub.companies_edited = [r.id for r in hub.companies()[:3]]
    for key in hub.companies_edited:
        hub.left.user_edits("Customer", key, {"BillAddr.City": f"Previewed {key}"})
    hub.fresh = hub.create_customers(2)
    before = hub.writes("right")
    job = hub.sync(preview=True)
    assert job.status is StatusReason.SUCCEEDED
    hub.run = hub.run_of(job)
    assert hub.run.phase == Run.Phase.PROPOSED
    assert hub.writes("right") == before
    assert changes(hub).filter(status="proposed").count() == 5
    return hub


def changes(hub):
    return RecordChange.objects.filter(run=hub.run)


def change_of(hub, key):
    return changes(hub).get(link__left_entity="Customer", link__left_id=key)


def account_of(hub, key):
    found = [
        r.body
        for r in hub.right.store.table("account").values()
        if str(r.body.get("syn_externalid")).endswith(f":Customer:{key}")
    ]
    return found[0] if found else None


def test_a_preview_that_is_approved_is_applied_as_it_was_shown(preview):
    job, approved, bounced = approve_preview(preview.run)
    assert (approved, bounced) == (5, 0)
    preview.settle(run_in_process(job))
    assert set(changes(preview).values_list("status", flat=True)) == {"written"}
    preview.assert_agreed()
    assert all(account_of(preview, key)["address1_city"] == f"Previewed {key}" for key in preview.companies_edited)
    with pytest.raises(NotNow, match="does not wait for approval"):
        approve_preview(preview.run)


def test_a_record_that_a_later_run_found_changed_goes_back_for_review(preview):
    changed = preview.companies_edited[0]
    preview.left.user_edits("Customer", changed, {"BillAddr.City": "Second Thoughts"})
    preview.settle(preview.sync(entities=["customer"], preview=True))
    preview.run.refresh_from_db()
    _, approved, bounced = approve_preview(preview.run)
    assert bounced >= 1
    assert approved + bounced == 5
    told = change_of(preview, changed)
    assert told.status == "superseded"
    assert "changed since the preview" in told.message


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("what", ["the same field", "another field"])
def test_a_record_that_changed_after_the_preview_is_left_out_and_that_is_said(preview, side, what):
    """Nobody but the person who edits it knows that it changed: no run was in between."""
    changed, *others = preview.companies_edited
    city = what == "the same field"
    if side == "left":
        preview.left.user_edits(
            "Customer", changed, {"BillAddr.City" if city else "WebAddr.URI": "https://later.example"}
        )
    else:
        account = account_of(preview, changed)["accountid"]
        preview.right.user_edits(
            "account", account, {"address1_city" if city else "websiteurl": "https://later.example"}
        )
    job, approved, _ = approve_preview(preview.run)
    assert approved == 5
    job = preview.settle(run_in_process(job))
    told = change_of(preview, changed)
    assert told.status in ("superseded", "conflict")
    assert "changed since the preview" in told.message
    body = account_of(preview, changed)
    assert not str(body.get("address1_city")).startswith("Previewed")
    assert Event.objects.filter(run=preview.run, message__contains="1 record").exists()
    assert "1 waiting" in job.results["summary"]
    for key in others:
        assert change_of(preview, key).status == "written"
        assert account_of(preview, key)["address1_city"] == f"Previewed {key}"
    assert all(account_of(preview, key) for key in preview.fresh)
    # The next run decides on what is there now.
    preview.settle()
    preview.assert_agreed()


def test_a_row_that_a_person_unticks_is_not_written(preview):
    row, other = change_of(preview, preview.companies_edited[0]), change_of(preview, preview.fresh[0])
    assert decide_proposals(preview.run, [row.pk, other.pk], drop=True) == 2
    job, approved, bounced = approve_preview(preview.run)
    assert (approved, bounced) == (3, 0)
    preview.settle(run_in_process(job))
    row.refresh_from_db()
    assert row.status == "dropped"
    assert (
        account_of(preview, preview.companies_edited[0])["address1_city"] != f"Previewed {preview.companies_edited[0]}"
    )
    assert account_of(preview, preview.fresh[0]) is None
    assert account_of(preview, preview.fresh[1]) is not None


def test_a_preview_that_is_an_hour_old_is_refused(preview):
    Run.objects.filter(pk=preview.run.pk).update(finished_at=timezone.now() - timezone.timedelta(minutes=61))
    preview.run.refresh_from_db()
    with pytest.raises(NotNow, match=r"older than an hour\. Make a new one"):
        approve_preview(preview.run)
    assert not changes(preview).exclude(status="proposed").exists()


def test_the_first_run_of_a_careful_integration_is_a_preview(fresh):
    fresh.integration.first_run = "preview"
    fresh.integration.save(update_fields=["first_run"])
    job = run_in_process(request_sync(fresh.integration))
    run = fresh.run_of(job)
    assert (run.purpose, run.phase) == (Run.Purpose.PREVIEW, Run.Phase.PROPOSED)
    assert fresh.writes("right") == 0
    job, approved, bounced = approve_preview(run)
    assert bounced == 0
    assert approved > 40
    fresh.settle(run_in_process(job))
    fresh.settle()
    fresh.assert_agreed()
    fresh.assert_nothing_doubled()


def test_another_run_waits_for_an_approved_preview(hub):
    """What a person approved is written as approved, also when somebody presses Sync now in between."""
    hub.settle()
    hub.create_customers(3)
    preview = hub.run_of(hub.settle(hub.sync(preview=True)))
    unticked = RecordChange.objects.filter(run=preview, status="proposed").first()
    decide_proposals(preview, [unticked.pk], drop=True)
    approval, approved, _ = approve_preview(preview)
    other = hub.sync()
    assert other.status is StatusReason.WAITING, "the newcomer waits"
    assert run_in_process(approval).status is StatusReason.SUCCEEDED
    assert len(hub.creates("right", "account")) >= approved
    unticked.refresh_from_db()
    assert unticked.status == "dropped"


def test_a_job_of_an_integration_that_was_switched_off_does_nothing(hub):
    hub.create_customers(2)
    written = hub.writes("right")
    job = request_sync(hub.integration)
    Integration.objects.update(enabled=False)
    assert run_in_process(job).status is StatusReason.NOT_APPLICABLE
    assert hub.writes("right") == written
