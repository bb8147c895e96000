"""Is nothing doubled after the database was restored from a backup?  Over both simulated systems."""

from __future__ import annotations

import io
import sqlite3
from contextlib import closing
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from connectors.models import Connection, Cursor, Event, RecordLink, Run, Scope
from jobs import clock, reaper
from jobs.models import Job, WorkerHeartbeat
from jobs.states import StatusReason
from jobs.syncing import NotNow, approve_preview, request_sync
from jobs.worker import claim
from tests.acceptance.conftest import fresh, hub, systems  # noqa: F401 - fixtures

pytestmark = pytest.mark.django_db(transaction=True)
S = StatusReason


class Backup:
    """A copy of the hub's whole database, taken and put back as a file would be."""

    def __init__(self):
        self.copy = sqlite3.connect(":memory:")
        self._own().backup(self.copy)

    def put_back(self):
        self.copy.backup(self._own())

    def _own(self):
        connection.ensure_connection()
        return connection.connection


@pytest.fixture
def backup():
    if connection.vendor != "sqlite":
        pytest.skip("copies a SQLite database")
    taken = []

    def take():
        taken.append(Backup())
        return taken[-1]

    yield take
    for one in taken:
        with closing(one.copy):
            pass


def restored(*arguments):
    out = io.StringIO()
    call_command("restored", *arguments, stdout=out)
    return out.getvalue()


def put_back(backup):
    """Restore all but the logins: a refresh token that was renewed since is told by check_connections."""
    kept = [connection.get_secret() for connection in Connection.objects.order_by("pk")]
    backup.put_back()
    for row, secret in zip(Connection.objects.order_by("pk"), kept, strict=True):
        row.set_secret(secret)


def test_what_was_created_since_the_backup_is_found_and_not_created_again(hub, backup):  # noqa: F811
    hub.both_ways()
    hub.settle()
    copy = backup()
    hub.create_customers(5)
    hub.create_accounts(5)
    hub.settle()
    hub.settle()
    hub.assert_agreed()
    links = RecordLink.objects.count()
    created = len(hub.creates("left", "Customer")), len(hub.creates("right", "account"))
    put_back(copy)
    assert RecordLink.objects.count() < links
    restored()
    job = hub.settle()
    assert hub.run_of(job).mode == Run.Mode.COMPREHENSIVE
    hub.settle()
    hub.assert_nothing_doubled()
    hub.assert_agreed()
    assert RecordLink.objects.count() == links
    assert (len(hub.creates("left", "Customer")), len(hub.creates("right", "account"))) == created


def test_what_was_planned_in_the_backup_and_written_since_is_not_written_twice(hub, backup):  # noqa: F811
    hub.both_ways()
    hub.settle()
    hub.create_accounts(5)
    copies = []

    def at_point(name):
        if name == "before mark sending" and not copies:
            copies.append(backup())

    hub.point.append(at_point)
    hub.settle()
    hub.point.clear()
    put_back(copies[0])
    restored("--force")
    reaper.reap()
    for job in Job.objects.filter(status_reason=S.RETRY):
        assert hub.again(job).status is S.NOT_APPLICABLE  # its run has ended
    hub.settle()
    hub.settle()
    hub.assert_nothing_doubled()
    hub.assert_agreed()
    assert len(hub.creates("left", "Customer")) == 5


def test_every_cursor_fence_and_lease_is_marked_and_it_is_told(hub):  # noqa: F811
    fence = Scope.objects.get().fence
    job = request_sync(hub.integration)
    now = clock.now()
    Job.objects.filter(pk=job.pk).update(
        status_reason=S.DISPATCHED, dispatch_token="t", lease_until=now + timedelta(hours=1), ready_at=None
    )
    job.refresh_from_db()
    claim(job, "t")
    assert "1 jobs lost their lease" in restored()
    assert not Cursor.objects.exclude(value="", complete_at=None, phase=Cursor.Phase.LISTING).exists()
    assert Scope.objects.get().fence > fence + 100
    assert Event.objects.get(code="restored").actor == "command line"
    reaper.reap()
    job.refresh_from_db()
    assert job.status is S.RETRY


def test_a_preview_of_the_backup_can_no_longer_be_approved(hub):  # noqa: F811
    hub.create_customers(1)
    run = hub.run_of(hub.sync(preview=True))
    assert run.phase == Run.Phase.PROPOSED
    restored()
    run.refresh_from_db()
    with pytest.raises(NotNow, match="does not wait for approval"):
        approve_preview(run)


def test_it_is_refused_while_a_worker_lives(db):
    WorkerHeartbeat.objects.create(name="a:1", kind="supervisor", host="alpha", pid=1, seen_at=clock.now())
    with pytest.raises(CommandError, match="A worker seems to be alive: alpha"):
        restored()
    assert "0 cursors" in restored("--force")
