"""What do the tests of jobs share?  A clock that stands still, workers that seem to be there, deliveries run here."""

from dataclasses import dataclass

import pytest
from django_q.models import OrmQ
from django_q.signing import SignedPackage

from connectors.models import Connection, Integration, Scope
from jobs import clock, dispatch, handlers, worker
from jobs.models import WorkerHeartbeat

START = "2026-03-01T12:00:00+00:00"


@pytest.fixture(autouse=True)
def extra_handlers(settings):
    settings.JOB_HANDLERS_EXTRA = ["tests.jobs.handlers"]
    handlers.registered.cache_clear()
    yield
    handlers.registered.cache_clear()


@pytest.fixture
def at(db, settings, tmp_path):
    """Hold the clock of all processes; call it with a timedelta to move on."""
    settings.SYNCLINE_TEST_CLOCK = str(tmp_path / "clock")
    clock.set_test_clock(START)

    def move(by):
        clock.set_test_clock((clock.now() + by).isoformat())
        # Workers that live go on telling so.
        WorkerHeartbeat.objects.update(seen_at=clock.now())

    return move


@dataclass
class Pair:
    """An integration that nothing is synced of."""

    left: Connection
    right: Connection
    integration: Integration
    scope: Scope


@pytest.fixture
def pair(db):
    """Two connections and what is between them."""
    left, right = (Connection.objects.create(system="memory", name=name) for name in ("Books", "Sales"))
    integration = Integration.objects.create(name="Books with Sales", left=left, right=right, enabled=True)
    return Pair(left, right, integration, Scope.objects.create(integration=integration))


@pytest.fixture
def workers(db):
    """Make the hub believe in so many living workers."""

    def have(count, name="test"):
        WorkerHeartbeat.objects.update_or_create(
            name=name,
            kind=WorkerHeartbeat.Kind.SUPERVISOR,
            defaults={"host": "here", "pid": 1, "workers": count, "seen_at": clock.now()},
        )

    return have


def deliveries():
    """Return what is in the queue as (function, arguments), and empty it: what workers would get."""
    packages = [SignedPackage.loads(row.payload) for row in OrmQ.objects.order_by("id")]
    OrmQ.objects.all().delete()
    return [(package["func"], package["args"]) for package in packages]


@pytest.fixture
def work(db, workers, django_capture_on_commit_callbacks):
    """Hand out what is due and run every delivery here, as the queue's workers would; return how many there were."""
    workers(4)

    def once():
        with django_capture_on_commit_callbacks(execute=True):
            dispatch.hand_out()
        found = deliveries()
        for _, arguments in found:
            worker.execute(*arguments)
        return len(found)

    return once
