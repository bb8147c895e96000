"""How do templates show times and badges?"""

from __future__ import annotations

from datetime import datetime

from django import template
from django.utils.safestring import SafeString

register = template.Library()

# The imports are inside: Django loads this module while the admin's own classes are still being made.


@register.filter
def ago(moment: datetime | None) -> SafeString:
    """A relative time with the exact one on hover."""
    from connectors.admin import base

    return base.ago(moment)


@register.filter
def badge(word: str, why: str = "") -> SafeString:
    """One word in its colour."""
    from connectors.admin import base

    return base.badge(word, why)
