"""In whose time zone are times shown?  In the one that the person chose, else in the hub's."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.utils import timezone
from unfold.widgets import UnfoldAdminSelectWidget

COOKIE = "syncline_zone"
KEPT = 365 * 24 * 3600  # seconds


@cache
def zones() -> tuple[str, ...]:
    """Return the names of all time zones."""
    return tuple(sorted(available_timezones() - {"localtime", "Factory"}))


def chosen(request: HttpRequest) -> str:
    """Return the zone that the person chose, "" where there is none that exists."""
    name = request.COOKIES.get(COOKIE, "")
    return name if name in zones() else ""


class PersonsZone:
    """Middleware: the admin's pages tell times in the person's zone; the API keeps to the hub's."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        name = "" if request.path.startswith("/api/") else chosen(request)
        if not name:
            return self.get_response(request)
        with timezone.override(ZoneInfo(name)):
            return self.get_response(request)


class ZoneForm(forms.Form):
    """Which zone."""

    zone = forms.ChoiceField(label="Time zone", required=False, widget=UnfoldAdminSelectWidget())

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        hub = f"The hub's: {settings.TIME_ZONE}"
        self.fields["zone"].choices = [("", hub), *((name, name.replace("_", " ")) for name in zones())]  # type: ignore[attr-defined]


def view(request: HttpRequest) -> HttpResponse:
    """Let a person choose; kept in this browser."""
    form = ZoneForm(request.POST or None, initial={"zone": chosen(request)})
    if request.method == "POST" and form.is_valid():
        zone = form.cleaned_data["zone"]
        answer = redirect("admin:time_zone")
        if zone:
            answer.set_cookie(
                COOKIE, zone, max_age=KEPT, secure=settings.SESSION_COOKIE_SECURE, httponly=True, samesite="Lax"
            )
        else:
            answer.delete_cookie(COOKIE, samesite="Lax")
        messages.success(request, f"Times are shown in {zone or settings.TIME_ZONE}.")
        return answer
    context = {**admin.site.each_context(request), "title": "Your time zone", "form": form, "now": timezone.localtime()}
    return TemplateResponse(request, "config/time_zone.html", context)
