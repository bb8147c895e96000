"""What do the tests of access share?  A hub with one of everything, people of each group, and tokens."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime

import pytest
from django.contrib.auth.models import Group, User
from rest_framework.test import APIClient

from config.models import ApiToken
from connectors.models import Event, Promotion, Scope
from jobs.models import Alert, AlertMessage, AlertRule, Failing, Job, JobTransition, Pause, WorkerHeartbeat
from jobs.syncing import request_sync
from scheduling import services
from scheduling.models import Blackout, Provisioning
from tests.admin.conftest import world as admin_world
from tests.scheduling.company import service
from tests.sync.worlds import TwoSystems

PASSWORD = "a long enough secret"
AT = datetime(2026, 3, 2, 9, tzinfo=UTC)
world = admin_world


@pytest.fixture
def everything(world: TwoSystems) -> TwoSystems:
    """A synced world with one of everything that a hub can hold."""
    request_sync(world.integration)
    Promotion.objects.create(entity_sync=world.sync, side="left", external_id="1", status="error", at=AT)
    Provisioning.objects.create(
        integration=world.integration, status="requested", requested_name="ada", requested_at=AT
    )
    on = service(world.integration)
    Blackout.objects.create(
        name="Holiday", first=date(2026, 4, 1), last=date(2026, 4, 1), integration=world.integration
    )
    services.reschedule([on])
    Event.objects.create(integration=world.integration, code="test", message="Something to be told.", at=AT)
    WorkerHeartbeat.objects.create(name="host:1:abc", kind="supervisor", host="host", pid=1, workers=2, seen_at=AT)
    Pause.objects.create(kind="type", job_type="nothing", reason="A test.")
    rule = AlertRule.objects.create(name="Operators", what="failed", addresses=["ops@hub.example"])
    Alert.objects.create(rule=rule, cause="x", text="Something is wrong.", opened_at=AT, last_seen=AT)
    AlertMessage.objects.create(
        rule=rule, kind="news", recipient="ops@hub.example", subject="News", body="News.", at=AT
    )
    Failing.objects.create(scope=Scope.objects.latest("id"), since=AT, last_at=AT)
    User.objects.create_user("somebody", password=PASSWORD)
    assert JobTransition.objects.exists() and Job.objects.exists()
    return world


@pytest.fixture
def member(db: None) -> Callable[[str], User]:
    """Make a person of one group; the group has what a fresh hub gives it."""

    def make(group: str) -> User:
        user = User.objects.create_user(group.lower(), password=PASSWORD, is_staff=True)
        user.groups.add(Group.objects.get(name=group))
        return user

    return make


@pytest.fixture
def bearer(db: None) -> Callable[..., APIClient]:
    """Make a client that sends a new token of this person."""

    def make(user: User, scope: str = "administer") -> APIClient:
        _token, text = ApiToken.objects.issue(user, "a test", scope=scope)
        client = APIClient()
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {text}")
        return client

    return make
