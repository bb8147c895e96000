"""How does a person connect?  To the system's consent page and back, from the connection's own page."""

from __future__ import annotations

from django.conf import settings
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.cache import add_never_cache_headers

from config import audit
from connectors.admin.base import REFUSALS, Pressable
from connectors.models import Connection
from connectors.registry import UnknownSystem, connector_class
from connectors.transport import oauth, redaction

CALLBACK = "admin:connectors_connection_callback"


def callback_address(request: HttpRequest | None = None) -> str:
    """Return the redirect address to register at the system; without SITE_URL it is where the hub was opened."""
    where = reverse(CALLBACK)
    if settings.SITE_URL or request is None:
        return settings.SITE_URL.rstrip("/") + where if settings.SITE_URL else ""
    return request.build_absolute_uri(where)


def connects(connection: Connection) -> bool:
    """Does a person connect this one on the system's own page?"""
    try:
        return oauth.consent_of(connection) is not None
    except UnknownSystem:
        return False


def holder(request: HttpRequest) -> str:
    """Return what binds a sign-in to this browser's session and this person."""
    return oauth.holder_of("session", request.session.session_key, request.user.pk)


class ConnectPages(Pressable):
    """The button that leads to the consent page, and the address at which a person comes back."""

    def get_urls(self) -> list[URLPattern]:
        """Before the catch-all of Django's own."""
        view = self.admin_site.admin_view
        return [
            path("oauth/callback/", view(self.callback), name="connectors_connection_callback"),
            *super().get_urls(),
        ]

    def press(self, request: HttpRequest, object_id: str, button: str) -> HttpResponse:
        """Connect leads out of the hub; all other buttons come back to their page."""
        if button != "connect" or request.method != "POST":
            return super().press(request, object_id, button)
        connection = get_object_or_404(Connection, pk=object_id)
        if not self.has_change_permission(request, connection):
            raise PermissionDenied
        return self._lead_out(request, connection)

    def _lead_out(self, request: HttpRequest, connection: Connection) -> HttpResponse:
        """Begin a sign-in and lead the browser to the consent page."""
        try:
            address = oauth.begin(connection, back=callback_address(request), holder=holder(request))
        except REFUSALS as refusal:
            self.message_user(request, redaction.text(str(refusal)), messages.ERROR)
            return self._page_of(connection)
        context = {
            **self.admin_site.each_context(request), "title": f"Connect {connection}", "address": address,
            "system": connector_class(connection.system).title, "opts": self.opts, "original": connection,
        }  # fmt: skip
        # Not a redirect: the content policy lets no form of ours end at another host, and consent pages redirect on.
        answer = TemplateResponse(request, "syncline/connect.html", context, headers={"Refresh": f"0; url={address}"})
        add_never_cache_headers(answer)
        return answer

    def callback(self, request: HttpRequest) -> HttpResponse:
        """Take what the consent page sent back, and leave its address at once: it holds the code."""
        if not self.has_change_permission(request):
            raise PermissionDenied
        connection = oauth.connection_of(request.GET.get("state", ""))
        try:
            if connection is None:
                oauth.finish(request.GET.dict(), holder=holder(request))
                return self._page_of(None)
            with audit.acting(request.user, connection, "Connect."):
                done = oauth.finish(request.GET.dict(), holder=holder(request))
        except REFUSALS as refusal:
            self.message_user(request, redaction.text(str(refusal)), messages.ERROR)
            return self._page_of(connection)
        self.message_user(request, told_of(done), messages.SUCCESS if done.identity else messages.WARNING)
        return self._page_of(done.connection)

    def _page_of(self, connection: Connection | None) -> HttpResponse:
        if connection is None:
            return redirect(reverse("admin:connectors_connection_changelist"))
        return redirect(reverse("admin:connectors_connection_change", args=[connection.pk]))


def told_of(done: oauth.LetIn) -> str:
    """Say what a sign-in led to."""
    if done.identity is None:
        return f"The login is stored, but the system could not be asked who we are: {done.why_not} Press Check now."
    who = done.identity.account or done.identity.instance
    return f"Connected to {who}; {len(done.identity.may)} entities can be read."
