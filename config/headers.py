"""What may a page of ours load, run and be put into?  Headers on every answer."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from functools import cache
from typing import Any

from django.contrib import admin
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest, HttpResponse
from django.template.loader import get_template

# What is not a page: no browser has reason to load anything for it.
BARE = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
# The theme's Alpine compiles its attributes ('unsafe-eval') and its templates have style attributes; it has no script of
# its own inside pages, and its style elements are known by their hashes.
PAGE = (
    "default-src 'none'; script-src 'self' 'unsafe-eval'; style-src-elem 'self' {styles}; style-src-attr 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
PERMISSIONS = ", ".join(
    f"{feature}=()"
    for feature in (
        "accelerometer", "browsing-topics", "camera", "display-capture", "geolocation", "gyroscope", "magnetometer",
        "microphone", "midi", "payment", "usb",
    )
)  # fmt: skip
_STYLE = re.compile(r"<style[^>]*>(.*?)</style>", re.DOTALL)


class SecurityHeaders:
    """Middleware: a content policy, and no reach into or out of other sites."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        page = response.get("Content-Type", "").startswith("text/html")
        response.setdefault("Content-Security-Policy", PAGE.format(styles=theme_styles()) if page else BARE)
        response.setdefault("Permissions-Policy", PERMISSIONS)
        response.setdefault("Cross-Origin-Resource-Policy", "same-origin")
        if request.path.startswith("/api/"):
            response.setdefault("Cache-Control", "private, no-store")
        return response


@cache
def theme_styles() -> str:
    """Return the hashes of the style elements that templates of others hold: the theme's colours, and two fixed ones."""
    found = _STYLE.findall(get_template("unfold/layouts/skeleton.html").render(_frame()))
    for name in ("admin/change_list.html", "drf_spectacular/swagger_ui.html"):
        found += _STYLE.findall(get_template(name).template.source)  # type: ignore[attr-defined]
    hashes = [base64.b64encode(hashlib.sha256(style.encode()).digest()).decode() for style in found]
    return " ".join(f"'sha256-{value}'" for value in hashes)


def _frame() -> dict[str, Any]:
    """Return what the theme's skeleton needs: the colours depend on settings alone, not on who asks for which page."""
    request = HttpRequest()
    request.META["SCRIPT_NAME"] = ""
    request.user = AnonymousUser()
    return admin.site.each_context(request)
