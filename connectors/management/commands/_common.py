"""What do the commands share?"""

from __future__ import annotations

from django.core.management.base import CommandError

from connectors.models import Connection, Integration


def integration_named(name: str) -> Integration:
    """Return an integration by name or number.  Raises CommandError with the names that there are."""
    rows = Integration.objects.select_related("left", "right")
    found = rows.filter(name=name).first() or (rows.filter(pk=int(name)).first() if name.isdecimal() else None)
    if found is None:
        known = ", ".join(Integration.objects.values_list("name", flat=True)) or "none yet; `preset apply` makes one"
        raise CommandError(f"There is no integration {name!r}. There are: {known}.")
    return found


def connection_named(name: str) -> Connection:
    """Return a connection by name or number.  Raises CommandError with the names that there are."""
    found = Connection.objects.filter(name=name).first()
    found = found or (Connection.objects.filter(pk=int(name)).first() if name.isdecimal() else None)
    if found is None:
        known = ", ".join(Connection.objects.order_by("name").values_list("name", flat=True)) or "none yet"
        raise CommandError(f"There is no connection {name!r}. There are: {known}.")
    return found
