"""What a service starts, carried out as jobs over real HTTP."""

import pytest

from connectors.models import Event, Integration, Run, Scope
from jobs import dispatch
from jobs.states import StatusReason
from jobs.syncing import service_job
from jobs.worker import run_in_process

pytestmark = pytest.mark.django_db(transaction=True)


def started(hub, work):
    scope = Scope.objects.select_related("integration").get(integration=hub.integration)
    return run_in_process(dispatch.place(service_job(scope, work, entities=[], service="1")))


@pytest.mark.parametrize("work", ["changes", "reports", "promoted", "reconcile"])
def test_no_service_writes_before_the_first_preview_is_approved(fresh, work):
    Integration.objects.update(first_run="preview")
    job = started(fresh, work)
    assert job.status is StatusReason.NOT_APPLICABLE
    assert "a preview that a person approves" in job.transitions.last().reason
    assert not Run.objects.exists()
    assert not fresh.right.store.table("account")


@pytest.mark.parametrize(
    ("work", "mode"), [("changes", "delta"), ("reports", "reports"), ("reconcile", "comprehensive")]
)
def test_a_service_starts_its_kind_of_run(hub, work, mode):
    job = started(hub, work)
    assert job.status is StatusReason.SUCCEEDED, job.error_message
    assert Run.objects.latest("id").mode == mode


def test_a_reconciliation_over_real_http_finds_what_no_feed_told_and_writes_nothing(hub):
    lost = hub.companies()[0]
    hub.left.store.table("Customer").pop(lost.id)  # without a word in the feed
    hub.left.books.generation += 1
    started(hub, "changes")
    before = len(hub.left.store.log), len(hub.right.store.log)
    job = started(hub, "reconcile")
    assert job.status is StatusReason.SUCCEEDED, job.error_message
    started(hub, "changes")
    assert (len(hub.left.store.log), len(hub.right.store.log)) == before
    run = Run.objects.get(purpose="check")
    assert run.phase == Run.Phase.PROPOSED
    assert run.changes.filter(status="proposed", side="right").exists()
    assert Event.objects.filter(code="drift", run=run).exists()
