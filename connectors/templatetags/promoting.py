"""How do templates show what waits for a bulk service, and where records are promoted?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django import template

if TYPE_CHECKING:
    from connectors.models import Integration

register = template.Library()


@register.inclusion_tag("syncline/_promoting.html")
def promoting(integration: Integration) -> dict[str, object]:
    """The way to the page on which records are chosen, and what waits for a service that is off."""
    # Inside: Django loads this module while the apps are still being loaded.
    from connectors.management.promoting import waiting_notices
    from connectors.sync.choosing import on_request

    shown = bool(on_request(integration))
    return {"integration": integration, "shown": shown, "notices": waiting_notices([integration]) if shown else []}
