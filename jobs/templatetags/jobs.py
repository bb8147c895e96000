"""How do templates show lengths of time, and what is held back?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import template

if TYPE_CHECKING:
    from connectors.models import Connection

register = template.Library()


@register.filter
def seconds(value: float | None) -> str:
    """A length of time in the unit that people would use."""
    if value is None:
        return "–"
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if value >= 2 * size:
            return f"{value / size:.0f} {unit}"
    return f"{value:.0f} s" if value >= 10 else f"{value:.1f} s"


@register.inclusion_tag("jobs/_pauses.html", takes_context=True)
def held_back(context: dict[str, Any], connection: Connection | None = None) -> dict[str, object]:
    """What is held back at present: of one connection, or of the whole hub."""
    # Inside: Django loads this module while the apps are still being loaded.
    from jobs import clock
    from jobs.admin.pauses import banners

    request = context["request"]
    found = banners(request, clock.now(), connection=connection.pk if connection is not None else None)
    return {"pauses": found, "here": request.path, "csrf_token": context.get("csrf_token")}
