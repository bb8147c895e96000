"""What runs read: everything where only one entity sync is asked for, and one report for all customers."""

from __future__ import annotations

import pytest

from connectors.models import FieldMapping
from connectors.sync.run import mark_settings_changed
from jobs.syncing import approve_preview
from jobs.worker import run_in_process

pytestmark = pytest.mark.django_db(transaction=True)


def test_only_the_named_entity_sync_is_written_and_the_rest_follows_later(fresh):
    hub = fresh
    hub.settle(hub.sync(entities=["customer"]))
    assert hub.creates("right", "account")
    assert not hub.creates("right", "contact") and not hub.creates("right", "product")
    hub.settle()
    assert hub.creates("right", "contact") and hub.creates("right", "product")
    hub.assert_agreed()
    hub.assert_nothing_doubled()


def test_an_approved_preview_ends_with_counts_that_say_what_was_written(fresh):
    hub = fresh
    preview = hub.run_of(hub.settle(hub.sync(preview=True)))
    job, approved, bounced = approve_preview(preview)
    hub.settle(run_in_process(job))
    counts = hub.run_of(job).counts
    written = sum(sum(sum(v.values()) for v in c["written"].values()) for c in counts["entities"].values())
    assert bounced == 0 and counts["adds_up"]
    assert written == approved


def test_aging_comes_by_one_report_for_all_customers(hub):
    sync = hub.integration.entity_syncs.get(name="customer")
    for left, right in (("Aging30", "syn_aging30"), ("Aging60", "syn_aging60")):
        FieldMapping.objects.create(entity_sync=sync, left=left, right=right, direction="to_right", position=90)
    mark_settings_changed(hub.integration)
    before = len(hub.left.journal)
    hub.settle(hub.sync(mode="comprehensive"))
    reports = [call for call in hub.left.journal[before:] if "AgedReceivables" in call.path]
    assert len(reports) == 1
    owed = [r.body.get("syn_aging30") for r in hub.right.store.table("account").values()]
    assert any(owed)
    written = hub.writes("right")
    hub.settle(hub.sync(mode="comprehensive"))
    assert hub.writes("right") == written
