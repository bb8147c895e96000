"""What runs write where only one entity sync is asked for, or a preview was approved."""

from __future__ import annotations

import pytest

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
    # An account and its primary contact refer to each other: the account names it when both are there, by the next run.
    follow = sum(c["waiting"] for c in counts["entities"].values())
    assert written + follow == approved
    assert follow == len([c for c in hub.companies() if c.body.get("FamilyName")])
