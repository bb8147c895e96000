"""How well does a connection work, which step fails, what was sent, and where does the system call us?"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from config import audit
from connectors import hooks, svg
from connectors.admin.base import Titled, ago, badge
from connectors.admin.connect import callback_address
from connectors.models import ApiCall, Connection, Hook
from connectors.registry import UnknownSystem, connector_class
from connectors.transport import curl, figures, testing
from connectors.transport.vault import CredentialsUnreadable
from jobs import clock

OPERATE, REVEAL = "connectors.operate_connection", "connectors.reveal_apicall"
SHOWN = 25  # calls on a page
TONES = {"Unreachable": "bad", "Throttled": "warn", "Expiring": "warn"}
OUTCOMES = {testing.OK: ("OK", "good"), testing.FAILED: ("Failed", "bad"), testing.NOT_TRIED: ("Not tried", "calm")}
LISTS = {
    "": ("All", lambda call: True),
    "errors": ("Errors", lambda call: call.failed),
    "writes": ("Writes", lambda call: call.method not in ("GET", "HEAD")),
    "slow": ("Slower than 1 s", lambda call: call.ms >= 1000),
}


class HealthPages(admin.ModelAdmin):
    """The health page of a connection, and what is pressed on it."""

    def get_urls(self) -> list[URLPattern]:
        """Before the catch-all of Django's own."""
        view, name = self.admin_site.admin_view, "connectors_connection"
        return [
            path("<int:pk>/health/", view(self.health), name=f"{name}_health"),
            path("<int:pk>/test/", view(self.test), name=f"{name}_test"),
            path("<int:pk>/webhooks/", view(self.webhooks), name=f"{name}_webhooks"),
            path("<int:pk>/calls/<int:call>/", view(self.call), name=f"{name}_call"),
            *super().get_urls(),
        ]

    def health(self, request: HttpRequest, pk: int, steps: Sequence[testing.Step] = ()) -> HttpResponse:
        """Show figures, steps, webhooks and the newest calls."""
        connection = self._seen(request, pk)
        found = figures.figures(connection, clock.now())
        context = {
            **self._frame(request, connection, f"Health of {connection}"),
            "state": badge(found.word, found.reason, TONES.get(found.word, "")), "figures": found,
            "system": _title(connection), "skew": _skew(found.skew), "chart": chart(found.hours),
            "capped": ago(found.capped_since) if found.capped_since else "", "newest_calls": figures.NEWEST,
            "quotas": [_quota(quota) for quota in found.quotas],
            "steps": [step_shown(step) for step in steps] or [{"name": n, "title": w} for n, w in testing.names()],
            "may_test": request.user.has_perm(OPERATE), "may_change": self.has_change_permission(request, connection),
            "hook": self._hook(request, connection), **_log(request, found.newest),
        }  # fmt: skip
        return TemplateResponse(request, "syncline/health.html", context)

    def test(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Take one step and answer with its line, or all of them and answer with the page."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if not request.user.has_perm(OPERATE):
            raise PermissionDenied
        connection = self._seen(request, pk)
        name = request.POST.get("step", "")
        if name and name not in testing.STEPS:
            raise Http404
        if name in ("", "dns"):  # one entry for a test, not one for each step
            audit.log_action(request.user, connection, "Test.", {}, {})
        if name:
            context = {"step": step_shown(testing.take(connection, name))}
            return TemplateResponse(request, "syncline/_step.html", context)
        return self.health(request, pk, list(testing.examine(connection)))

    def webhooks(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Store the tokens that sign the system's calls, or make a new address."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        connection = self._seen(request, pk)
        if not self.has_change_permission(request, connection):
            raise PermissionDenied
        hook = hooks.hook_of(connection.system)
        if hook is None:
            raise Http404
        verifiers = hooks.entered(request.POST.get("verifiers", ""))
        if "rotate" in request.POST:
            hook.rotate_key(clock.now())
            done = "There is a new address: enter it at the system. The one before is answered for another day."
        elif verifiers:
            hook.set_verifiers(verifiers)
            done = "The verifier token is stored."
        else:
            self.message_user(request, "Enter the verifier token that the system shows.", messages.ERROR)
            return redirect(self._health_of(connection))
        audit.log_action(
            request.user, hook, "Webhook address renewed." if "rotate" in request.POST else "Token stored.", {}, {}
        )
        self.message_user(request, done, messages.SUCCESS)
        return redirect(self._health_of(connection))

    def call(self, request: HttpRequest, pk: int, call: int) -> HttpResponse:
        """Show one call; its kept bodies only by POST, to who has the right, and with an entry in the log."""
        connection = self._seen(request, pk)
        found = get_object_or_404(ApiCall.objects.defer("body"), pk=call, connection=connection)
        if not request.user.has_perm("connectors.view_apicall"):
            raise PermissionDenied
        revealed = ""
        if request.method == "POST":
            if not request.user.has_perm(REVEAL):
                raise PermissionDenied
            revealed = found.body
            audit.log_action(request.user, found, "Bodies revealed.", {}, {})
        context = {
            **self._frame(request, connection, f"{found.method} {found.path}"), "call": found,
            "status": _status(found.status, found.code), "when": ago(found.at), "revealed": revealed,
            "kept": ApiCall.objects.filter(pk=found.pk).exclude(body="").exists(),
            "may_reveal": request.user.has_perm(REVEAL), "curl": curl.command(found, connection),
            "health": self._health_of(connection),
        }  # fmt: skip
        return TemplateResponse(request, "syncline/call.html", context)

    def _seen(self, request: HttpRequest, pk: int) -> Connection:
        connection = get_object_or_404(Connection, pk=pk)
        if not self.has_view_permission(request, connection):
            raise PermissionDenied
        return connection

    def _frame(self, request: HttpRequest, connection: Connection, title: str) -> dict[str, Any]:
        request.current_app = self.admin_site.name
        return {
            **self.admin_site.each_context(request), "title": title, "opts": self.opts, "connection": connection,
            "original": Titled(connection, title), "object_id": str(connection.pk),
            "sl_buttons": self.shown_buttons(request, connection),  # type: ignore[attr-defined]
        }  # fmt: skip

    def _health_of(self, connection: Connection) -> str:
        return reverse("admin:connectors_connection_health", args=[connection.pk])

    def _hook(self, request: HttpRequest, connection: Connection) -> dict[str, Any] | None:
        """Return what is shown of the system's webhooks; who may not change it sees neither address nor form."""
        may = self.has_change_permission(request, connection)
        hook = hooks.hook_of(connection.system) if may else Hook.objects.filter(system=connection.system).first()
        if hook is None:
            return None
        callback = callback_address(request)
        base = callback.removesuffix(reverse("admin:connectors_connection_callback"))
        try:
            verifiers = len(hook.verifiers())
        except CredentialsUnreadable:
            verifiers = 0
        return {"row": hook, "url": base + hooks.path_of(hook) if may else "", "verifiers": verifiers}


def step_shown(step: testing.Step) -> dict[str, object]:
    """Return one line of a test as its template shows it."""
    word, tone = OUTCOMES[step.outcome]
    return {
        "name": step.name, "title": step.title, "badge": badge(word, step.words, tone), "words": step.words,
        "ms": step.ms if step.outcome != testing.NOT_TRIED else None, "failed": step.outcome == testing.FAILED,
    }  # fmt: skip


def chart(hours: Sequence[tuple[Any, int, int]]) -> SafeString:
    """Draw the calls of each hour; errors stand in another colour at the foot, and each bar says its numbers."""
    most = max((calls for _, calls, _ in hours), default=0) or 1
    width, height = 24, 80
    bars = format_html_join(
        "",
        '<g><title>{}</title><rect class="sl-hit" x="{}" y="0" width="{}" height="{}"/>'
        '<rect class="sl-bar-calls" x="{}" y="{}" width="{}" height="{}" rx="2"/>'
        '<rect class="sl-bar-errors" x="{}" y="{}" width="{}" height="{}" rx="2"/></g>',
        (
            (
                f"{timezone.localtime(at):%H:%M}: {calls} calls, {errors} errors", n * width, width, height,
                n * width + 2, _y(height, _tall(calls, most, height)), width - 4, _tall(calls, most, height),
                n * width + 2, _y(height, _tall(errors, most, height)), width - 4, _tall(errors, most, height),
            )
            for n, (at, calls, errors) in enumerate(hours)
        ),
    )  # fmt: skip
    return format_html(
        '<svg class="sl-chart" role="img" aria-label="API calls of the last 24 hours" viewBox="0 0 {} {}" '
        'preserveAspectRatio="none">{}</svg>',
        len(hours) * width, height, bars,
    )  # fmt: skip


def _tall(count: int, most: int, height: int) -> float:
    return round(max(2.0, height * count / most), 1) if count else 0.0


def _y(height: int, tall: float) -> float:
    return round(height - tall, 1)


def _log(request: HttpRequest, newest: Sequence[figures.Seen]) -> dict[str, Any]:
    """Return one page of the newest calls, by the list that was asked for; two queries."""
    show = request.GET.get("show", "")
    show = show if show in LISTS else ""
    fitting = [call.pk for call in newest if LISTS[show][1](call)]
    page = Paginator(fitting, SHOWN).get_page(request.GET.get("p"))
    rows = ApiCall.objects.defer("body").in_bulk(list(page.object_list))
    calls = [rows[pk] for pk in page.object_list if pk in rows]
    return {
        "calls": [{"row": call, "status": _status(call.status, call.code)} for call in calls], "shown": page,
        "show": show,
        "lists": [
            {"key": key, "label": label, "on": key == show, "count": sum(bool(fits(call)) for call in newest)}
            for key, (label, fits) in LISTS.items()
        ],
    }  # fmt: skip


def _status(status: int, code: str) -> SafeString:
    return badge(str(status or "no answer"), code, "bad" if status >= 400 or not status else "good")


def _quota(quota: figures.Quota) -> dict[str, object]:
    tone = "bad" if quota.part >= 0.9 else "warn" if quota.part >= 0.75 else "good"
    per = "at the same time" if quota.per is None else f"in {_length(quota.per)}"
    left = f"; the system says {quota.remaining} are left" if quota.remaining is not None else ""
    words = f"{quota.used} of {quota.amount} {per}{left}"
    return {
        "name": quota.name,
        "gauge": svg.gauge(quota.part, words, tone=tone),
        "words": words,
        "held": quota.held_until,
    }


def _length(per: timedelta) -> str:
    seconds = int(per.total_seconds())
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds % size == 0:
            count = seconds // size
            return f"{count} {unit}s" if count > 1 else f"a {unit}"
    return f"{seconds} seconds"


def _skew(seconds: float | None) -> str:
    if seconds is None:
        return "not told"
    if abs(seconds) < figures.SKEW_TOLD:
        return f"less than {figures.SKEW_TOLD:.0f} s"
    return f"its clock is {abs(seconds):.0f} s {'ahead' if seconds > 0 else 'behind'}"


def _title(connection: Connection) -> str:
    try:
        return connector_class(connection.system).title
    except UnknownSystem:
        return f"{connection.system} (not installed)"
