"""How is a job shown: what it is about, how far it is, when it comes, in words and links?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from connectors.admin.base import ago, badge, link_to
from jobs.models import Job
from jobs.standing import Note
from jobs.states import READY, StatusReason

# What `object_ref` names before its colon: the page of such an object.
PAGES = {
    "service": "admin:scheduling_service_change",
    "alert message": "admin:jobs_alertmessage_change",
    "run": "admin:connectors_run_change",
    "link": "admin:connectors_recordlink_change",
}
NOTE_TONES = {"stuck": "bad", "paused": "warn", "blocked": "warn", "stopping": "warn", "set aside": "calm"}


def about(job: Job) -> SafeString:
    """Return the integration and the business record, as links."""
    parts = [link_to(job.scope.integration)] if job.scope is not None else []
    if job.object_ref:
        parts.append(_reference(job.object_ref))
    return format_html_join(" ", "{}", ((part,) for part in parts)) if parts else SafeString("–")


def _reference(text: str) -> SafeString | str:
    word, _, key = text.partition(":")
    page = PAGES.get(word)
    if page is None or not key.isdecimal():
        return text
    return format_html('<a class="sl-link" href="{}">{} {}</a>', reverse(page, args=[key]), word, key)


def status(job: Job, note: Note | None) -> SafeString:
    """Return the status, with the note below it and how far a running job is."""
    word = job.get_status_reason_display()
    why = note.why if note and note.why else job.error_message or (job.cancel_reason if job.cancel_requested else "")
    below = ""
    if note is not None:
        tone = NOTE_TONES.get(note.word, "")
        below = format_html(
            '<span class="jb-note{}" title="{}">{}</span>', f" jb-{tone}" if tone else "", note.why, note.word
        )
    return format_html("{}{}{}", badge(word, why), below, bar(job))


def bar(job: Job) -> SafeString:
    """Return how far a job in progress is; nothing for others."""
    if job.status is not StatusReason.IN_PROGRESS or not isinstance(job.progress, Mapping) or not job.progress:
        return SafeString()
    done, total, text = job.progress.get("done"), job.progress.get("total"), str(job.progress.get("text") or "")
    if not isinstance(done, int):
        return format_html('<span class="sl-quiet">{}</span>', text) if text else SafeString()
    if not isinstance(total, int) or total <= 0:
        return format_html('<span class="sl-quiet">{} {}</span>', text, f"{done:,}")
    return format_html(
        '<progress class="jb-progress" value="{}" max="{}" aria-label="Progress"></progress>'
        '<span class="sl-quiet">{} {} of {}</span>',
        min(done, total), total, text, f"{done:,}", f"{total:,}",
    )  # fmt: skip


def tries(job: Job) -> str:
    """Return "2 of 6"."""
    return f"{job.attempt} of {settings.JOB_RETRIES + 1}" if job.attempt else "–"


def next_try(job: Job) -> SafeString | str:
    """Return when a retry comes."""
    return ago(job.run_at) if job.status is StatusReason.RETRY else "–"


def scheduled(job: Job) -> SafeString | str:
    """Return when a waiting job is due."""
    return ago(job.run_at) if job.status in READY else "–"


def person(job: Job) -> str:
    """Return who asked for it."""
    return str(job.created_by) if job.created_by is not None else "the system"


def result(job: Job, *, most: int = 160) -> SafeString:
    """Return the error, else what a finished job says of itself, with links to its run and to its page."""
    summary = job.results.get("summary", "") if isinstance(job.results, dict) else ""
    run = link_to(job.run, f"run #{job.run_id}") if job.run is not None else ""
    if not job.error_message:
        return format_html('<span class="sl-wrap">{} {}</span>', str(summary)[:most], run)
    page = reverse("admin:jobs_job_change", args=[job.pk])
    return format_html(
        '<span class="sl-wrap"><a class="sl-link" href="{}?tab=results" title="{}">{}</a> {}</span>',
        page, job.error_message, job.error_message[:most], run,
    )  # fmt: skip


def pairs(values: object, *, most: int = 2000) -> list[tuple[str, str]]:
    """Return JSON's pairs as people read them; the API has all of it."""
    if not isinstance(values, Mapping):
        return [("", str(values))] if values not in (None, "") else []
    return [(str(name).replace("_", " "), _told(value)[:most]) for name, value in values.items() if not _empty(value)]


def _empty(value: Any) -> bool:
    return value is None or value == "" or value == [] or value == {}


def _told(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return "; ".join(f"{name}: {_told(one)}" for name, one in value.items() if not _empty(one))
    if isinstance(value, list):
        return ", ".join(_told(one) for one in value)
    return str(value)
