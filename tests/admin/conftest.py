"""What do the tests of the admin and the API share?  A synced world, and people with rights."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from connectors.models import ApiCall, RecordChange, RecordLink
from tests.sync.worlds import TwoSystems

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def world(db: None) -> TwoSystems:
    """Twelve people in agreement, one of them with a hostile name; a delete that waits; a conflict; some log rows."""
    world = TwoSystems(on_delete="ask", policy="ask")
    ids = [world.left.create("person", {"name": f"Person {n:03d}", "city": "Paris"}) for n in range(11)]
    world.left.create("person", {"name": HOSTILE, "city": HOSTILE})
    world.run()
    world.settle()
    partner = {link.left_id: link.right_id for link in RecordLink.objects.all()}
    world.left.put("person", ids[0], {"city": "Rome"})
    world.right.put("person", partner[ids[0]], {"city": "Oslo"})
    world.left.delete("person", ids[1])
    world.run()
    world.run("comprehensive")
    connection = world.integration.left
    ApiCall.objects.create(
        connection=connection, at=datetime.now(UTC), method="GET", path="/v1/person", status=200, ms=12
    )
    assert RecordLink.objects.filter(reason="conflict").count() == 1
    assert RecordLink.objects.filter(reason="waits for approval").count() == 1
    assert RecordChange.objects.exists()
    return world


@pytest.fixture
def person(db: None) -> Callable[..., User]:
    """Make a person with these rights."""

    def make(*permissions: str, **flags: bool) -> User:
        user = User.objects.create_user("ada", password="a long enough secret", is_staff=True, **flags)
        user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
        return user

    return make


@pytest.fixture
def boss(client: Client, person: Callable[..., User]) -> Client:
    """A browser in which a superuser is logged in."""
    client.force_login(person(is_superuser=True))
    return client


@pytest.fixture
def viewer(client: Client, person: Callable[..., User]) -> Client:
    """A browser of somebody who may see everything and change nothing."""
    codenames = Permission.objects.filter(codename__startswith="view_").values_list("codename", flat=True)
    client.force_login(person(*codenames))
    return client
