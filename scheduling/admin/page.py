"""What does the page "Service scheduling" show of one integration?"""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django.conf import settings
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.safestring import SafeString

from connectors.admin.base import Titled, ago, badge, link_to, relative
from connectors.models import Integration
from jobs import clock
from jobs.models import WorkerHeartbeat
from scheduling import preflight, provisioning
from scheduling.admin.blackouts import days_told
from scheduling.admin.provisionings import MAY_DECIDE, status_badge
from scheduling.forms import TimesForm, WindowFormSet, zones
from scheduling.models import DAYS, Provisioning, Service
from scheduling.standing import Outlook, Standing, outlook, paused_from, shown, standings

DEFAULT_WINDOW = {"days": list(DAYS[:5]), "start": "08:00", "end": "17:00", "every": 30, "unit": 1, "counted": "start"}


def may_change(request: HttpRequest) -> bool:
    """Whether the person may change when services run."""
    return bool(request.user.has_perm("scheduling.change_service"))


def may_run(request: HttpRequest) -> bool:
    """Whether the person may start, stop, pause and run services."""
    return bool(request.user.has_perm("scheduling.run_service")) or may_change(request)


def page(request: HttpRequest, integration: Integration, posted: dict[int, TimesForm] | None = None) -> dict[str, Any]:
    """Return the context of the page; `posted` are the forms of a save that was refused."""
    now = clock.now()
    rows = standings(shown(integration.services.order_by("position", "id")), now)
    requests = list(integration.provisionings.all())
    request_now = next(
        (row for row in requests if row.status == Provisioning.Status.APPROVED), next(iter(requests), None)
    )
    open_request = request_now is not None and request_now.status == Provisioning.Status.REQUESTED
    report, title = preflight.last(integration), f"Service scheduling of {integration}"
    return {
        "title": title,
        "original": Titled(integration, title),
        "integration": integration,
        "cards": [_card(row, (posted or {}).get(row.service.pk), now) for row in rows],
        "trail": [{"row": row, "badge": status_badge(row)} for row in requests],
        "request_now": request_now,
        "in_progress": provisioning.in_progress(request_now) if request_now is not None and open_request else "",
        "locked": open_request or not may_change(request),
        "open_request": open_request,
        "may_change": may_change(request),
        "may_run": may_run(request) and not open_request,
        "may_decide": request.user.has_perm(MAY_DECIDE),
        "hours": settings.PROVISIONING_HOURS,
        "asks": settings.PROVISIONING == "ask",
        "zones": zones(),
        "empty_window": WindowFormSet(prefix="__form__", form_kwargs={"initial": DEFAULT_WINDOW}).empty_form,
        "report": report,
        "no_worker": not WorkerHeartbeat.objects.alive(now).exists(),
    }


def _card(row: Standing, posted: TimesForm | None, now: Any) -> dict[str, Any]:
    service, form = row.service, posted or TimesForm(row.service)
    looked = outlook(row.schedule, service.recommended_minutes, paused_from(service, now))
    zone = ZoneInfo(service.zone) if not looked.errors else ZoneInfo("UTC")
    return {
        "service": service,
        "form": form,
        "unsaved": posted is not None,
        "state": badge(row.state.word, row.state.reason, row.state.tone),
        "reason": row.state.reason,
        "outlook": fragment(looked, service, now),
        "next_run": ago(service.next_run_at) if service.next_run_at else None,
        "job": row.job,
        "job_link": link_to(row.job, f"job {row.job.pk}") if row.job else "",
        "job_state": badge(row.job.get_status_reason_display(), row.job.error_message) if row.job else "",
        "job_at": ago(row.job.created_at) if row.job else "",
        "job_run": link_to(row.job.run, f"run #{row.job.run_id}") if row.job and row.job.run else "",
        "blackouts": [{"row": rest, "days": days_told(rest)} for rest in row.blackouts],
        "paused": service.paused_until is not None and service.paused_until > now,
        "pause_to": f"{(now + timedelta(hours=12)).astimezone(zone):%Y-%m-%dT%H:%M}",
        "do": {name: reverse("admin:scheduling_do", args=[service.pk, name]) for name in ACTIONS},
        "preview": reverse("admin:scheduling_preview", args=[service.pk]),
    }


ACTIONS = ("start", "stop", "run", "pause", "resume", "copy")


def fragment(looked: Outlook, service: Service, now: Any) -> SafeString:
    """Render what a schedule means: for the page, and anew while somebody edits."""
    heat = [
        {
            "day": day[:3],
            "hours": [
                {"level": level(count), "told": f"{day} {hour:02}:00: {count or 'no'} start{'' if count == 1 else 's'}"}
                for hour, count in enumerate(hours)
            ],
        }
        for day, hours in zip(DAYS, looked.heat, strict=False)
    ]
    context = {"looked": looked, "heat": heat, "service": service, "runs": runs_told(looked, now)}
    return SafeString(render_to_string("scheduling/_outlook.html", context))


def level(count: int) -> int:
    """Return how dark the hour is drawn: 0 to 4."""
    return sum(count >= least for least in (1, 2, 4, 8))


def runs_told(looked: Outlook, now: Any) -> list[dict[str, str]]:
    """Return the runs ahead as people read them."""
    return [
        {
            "at": run.at.isoformat(), "utc": f"{run.at:%Y-%m-%d %H:%M} UTC", "local": f"{run.local:%a %d %b %Y, %H:%M}",
            "in": relative(run.at, now), "note": run.note,
        }
        for run in looked.runs
    ]  # fmt: skip
