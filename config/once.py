"""Was this very form sent before?  Who clicks twice starts one job.

Each page that Django renders has a CSRF token of its own.  The same person, address, token and content a second time is
therefore the same click: the second one waits for the answer to the first, and is sent where that led.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from datetime import timedelta
from urllib.parse import urlsplit

from django.contrib import messages
from django.core.files.uploadedfile import UploadedFile
from django.db import IntegrityError, transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone
from django.utils.http import url_has_allowed_host_and_scheme

from config.models import SentForm

PATIENCE = 10.0  # seconds that a second click waits for the answer to the first
KEPT = timedelta(hours=12)  # as long as a login lasts
TOKEN = "csrfmiddlewaretoken"  # noqa: S105 - the name of a field
TWICE = "That was sent twice. It was done once."
STILL = "That was sent twice. The first time is still being worked on."
REFUSED = "That was sent twice. The first time it was not carried out: look at the page, and send it again if it is still right."


class Once:
    """Carries out each form of the admin once."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Remember where a form that was carried out led; one that was refused may be sent again."""
        response = self.get_response(request)
        digest = getattr(request, "sl_sent", "")
        if digest:
            sent = SentForm.objects.filter(digest=digest)
            if not carried_out(request, response):
                sent.delete()
            else:
                sent.update(answer=response.get("Location", "")[:500])
        return response

    def process_view(self, request: HttpRequest, *_: object) -> HttpResponse | None:
        """Let the first one through."""
        digest = mark(request)
        if not digest:
            return None
        now = timezone.now()
        SentForm.objects.filter(at__lt=now - KEPT).delete()
        try:
            with transaction.atomic():
                SentForm.objects.create(digest=digest, at=now)
        except IntegrityError:
            return again(request, digest)
        request.sl_sent = digest  # type: ignore[attr-defined]
        return None


def carried_out(request: HttpRequest, response: HttpResponse) -> bool:
    """Whether the form did something.  One that is shown again, or answered with nothing but refusals, may be sent again.

    A view that did something and answers with a page of its own says so: `request.sl_done = True`.
    """
    if getattr(request, "sl_done", False):
        return True
    if response.status_code < 300 or response.status_code >= 400:
        return False
    told = [message.level for message in getattr(messages.get_messages(request), "_queued_messages", [])]
    return not told or any(level < messages.WARNING for level in told)


def mark(request: HttpRequest) -> str:
    """Return what two clicks on the same button of the same page have in common, "" where nothing can be sent twice.

    A script that asks on a page's behalf (a preview of what somebody is typing) may do so as often as it likes.
    """
    match = request.resolver_match
    if request.method != "POST" or match is None or "admin" not in match.app_names or not request.user.is_authenticated:
        return ""
    if not request.POST.get(TOKEN) or request.headers.get("Sec-Fetch-Dest") == "empty":
        return ""
    files = [(name, each.name, _digest(each)) for name, given in request.FILES.lists() for each in given]
    sent = (request.user.pk, request.get_full_path(), sorted(request.POST.lists()), sorted(files))
    return hashlib.sha256(repr(sent).encode("utf-8", "surrogatepass")).hexdigest()


def _digest(file: UploadedFile) -> str:
    found = hashlib.sha256()
    for chunk in file.chunks():
        found.update(chunk)
    file.seek(0)
    return found.hexdigest()


def again(request: HttpRequest, digest: str) -> HttpResponse:
    """Answer a second click as the first one was answered."""
    until = time.monotonic() + PATIENCE
    answer, told = None, STILL
    while answer is None and time.monotonic() < until:
        row = SentForm.objects.filter(digest=digest).first()
        if row is None:
            told = REFUSED
            break
        answer = row.answer
        if answer is None:
            time.sleep(0.1)
    messages.info(request, TWICE if answer is not None else told)
    return HttpResponseRedirect(answer or _page_before(request))


def _page_before(request: HttpRequest) -> str:
    before = request.headers.get("Referer", "")
    if before and url_has_allowed_host_and_scheme(before, {request.get_host()}, require_https=request.is_secure()):
        parts = urlsplit(before)
        return f"{parts.path}?{parts.query}" if parts.query else parts.path
    return reverse("admin:index")
