"""How do templates show times, badges and verbs, and when a failing sync is tried again?"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString

if TYPE_CHECKING:
    from connectors.models import RecordChange, RecordLink
    from connectors.sync.health import Health

register = template.Library()

# The imports are inside: Django loads this module while the admin's own classes are still being made.


@register.filter
def ago(moment: datetime | None) -> SafeString:
    """A relative time with the exact one on hover."""
    from connectors.admin import base

    return base.ago(moment)


@register.filter
def many(count: int) -> str:
    """A number of records: beyond 10,000 nobody counts."""
    from connectors.sync import health

    return health.many(count)


@register.filter
def badge(word: str, why: str = "") -> SafeString:
    """One word in its colour."""
    from connectors.admin import base

    return base.badge(word, why)


@register.filter
def verb(change: RecordChange) -> str:
    """What a change does, in people's words."""
    from connectors.admin.runs import VERBS

    return VERBS.get(change.verb, change.verb)


@register.filter
def record_title(link: RecordLink) -> str:
    """One record with its name."""
    from connectors.sync.explain import short_title

    return short_title(link)


@register.filter
def tried_again(health: Health) -> SafeString | str:
    """When a failing integration is tried again: the moment at which its open job is due."""
    if health.state != "Failing" or health.scope is None:
        return ""
    from connectors.admin import base
    from jobs.models import Job

    job = Job.objects.open().filter(scope=health.scope).order_by("run_at").first()
    if job is None:
        return "No further try is planned: press Sync now when the cause is mended."
    return format_html("It is tried again {} ({}).", base.ago(job.run_at), base.link_to(job, f"job {job.pk}"))
