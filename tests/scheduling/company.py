"""What do the tests of services share?  Integrations with services over the memory connector, and people with rights."""

from __future__ import annotations

from datetime import time

from django.contrib.auth.models import Permission, User

from connectors.models import Connection, Integration, Scope
from jobs import clock
from scheduling.models import Provisioning, Service, ServiceWindow

VIEW = ("view_service", "view_provisioning", "view_blackout", "view_integration", "view_job")


def integration(name: str = "Books with Sales", *, status: str = "") -> Integration:
    """Return an integration, with a provisioning request in this status."""
    ends = [Connection.objects.create(system="memory", name=f"{name} {side}") for side in ("left", "right")]
    found = Integration.objects.create(name=name, left=ends[0], right=ends[1])
    Scope.objects.create(integration=found)
    if status:
        Provisioning.objects.create(integration=found, status=status, requested_name="ada", requested_at=clock.now())
    return found


def service(of: Integration, name: str = "Changes", **columns: object) -> Service:
    """Return a service on working hours, switched off."""
    found = Service.objects.create(
        integration=of, name=name, **{"zone": "Europe/Paris", "recommended_minutes": 15, **columns}
    )
    ServiceWindow.objects.create(service=found, start=time(8), end=time(17), every_minutes=30)
    return found


def person(name: str, *codenames: str, **flags: bool) -> User:
    """Return somebody with these rights besides seeing everything."""
    user = User.objects.create_user(
        name, email=f"{name}@example.com", password="a long enough secret", is_staff=True, **flags
    )
    user.user_permissions.set(Permission.objects.filter(codename__in=[*VIEW, *codenames]))
    return user


def window(**changes: object) -> dict[str, object]:
    """Return a window as people write it."""
    return {"days": "all", "start": "08:00", "end": "17:00", "every": 30, "from": "start", **changes}
