"""What is a page called on the way to it?  As in the side bar, where people found it."""

from __future__ import annotations

from typing import Any

from django import template
from django.urls import reverse

register = template.Library()


@register.filter
def from_the_side_bar(parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the theme's crumbs (app, table, row) with the words of the side bar; the app says nothing to anybody."""
    from config.admin import PLACES  # here: Django loads this module while the site is still being made

    if len(parts) < 2:
        return parts
    table = str(parts[1]["link"])
    for group, items in PLACES:
        for label, _, name, _ in items:
            if reverse(name) == table:
                return [{"title": group, "link": ""}, {"title": label, "link": table}, *parts[2:]]
    return parts
