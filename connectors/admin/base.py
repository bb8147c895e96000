"""What do all screens share?  Read-only tables, capped counts, buttons that act by POST, relative times, badges."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, ClassVar

from django.apps import apps
from django.contrib import messages
from django.contrib.admin import AdminSite, display
from django.contrib.admin.utils import get_fields_from_path, unquote
from django.core.exceptions import PermissionDenied
from django.db.models import DateTimeField, Model, Q
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from unfold.views import ChangeList

from config import audit
from config.stale import Stale
from connectors.admin.fresh import Fresh
from connectors.admin.lists import CappedPaginator, IndexedList
from connectors.contract import ConnectorError
from connectors.registry import UnknownSystem
from connectors.sync.compile import SettingsError
from connectors.sync.decisions import Undecidable
from connectors.transport import redaction
from jobs import clock
from jobs.states import IllegalTransition
from jobs.syncing import NotNow

# What people call the rows, in titles and breadcrumbs as in the navigation.  Set here and not in a Meta: a word needs no migration.
WORDS = {
    "connectors.RecordLink": ("record", "records"), "connectors.RecordChange": ("change", "changes"),
    "connectors.FieldMapping": ("mapping", "mappings"), "jobs.WorkerHeartbeat": ("worker", "workers"),
    "auth.User": ("person", "people"),
}  # fmt: skip
for label, (one, many) in WORDS.items():
    opts = apps.get_model(label)._meta
    opts.verbose_name, opts.verbose_name_plural = one, many
apps.get_app_config("auth").verbose_name = "People"
NUMBERS = ("AutoField", "BigAutoField", "BigIntegerField", "ForeignKey", "OneToOneField")
REFUSALS = (NotNow, Undecidable, IllegalTransition, ConnectorError, SettingsError, UnknownSystem)
TONES = {
    "Healthy": "good", "Connected": "good", "Succeeded": "good", "Written": "good", "In agreement": "good", "Done": "good",
    "Can't be undone": "warn",
    "Attention": "warn", "Waiting": "calm", "Skipped": "calm", "Paused": "calm", "New": "calm", "Not checked yet": "calm",
    "Conflict": "bad", "Parked": "warn", "Failing": "bad", "Failed": "bad", "Needs reconnect": "bad", "Another company": "bad",
    "Rejected": "bad", "Changed meanwhile": "warn", "Stopped by a guard": "warn", "Waiting for approval": "warn",
    "Held": "calm", "Planned": "busy", "To be planned": "busy", "Being written": "busy", "Outcome unknown": "warn",
    "Reading": "busy", "Planning": "busy", "Writing": "busy", "Retry": "warn", "In progress": "busy", "Dispatched": "busy",
    "Info": "calm", "Warning": "warn", "Error": "bad", "Proposed": "warn", "Not applicable": "calm", "Cancelled": "calm",
}  # fmt: skip


def badge(word: str, why: str = "", tone: str = "") -> SafeString:
    """Return one word in a colour, with the reason on hover."""
    return format_html(
        '<span class="sl-badge sl-{}" title="{}">{}</span>', tone or TONES.get(word, "calm"), why or word, word
    )


def relative(moment: datetime | None, now: datetime) -> str:
    """Return how long ago (or how soon) a moment is, in words."""
    if moment is None:
        return "never"
    seconds = int((now - moment).total_seconds())
    words = _length(timedelta(seconds=abs(seconds)))
    if abs(seconds) < 5:
        return "just now"
    return f"{words} ago" if seconds > 0 else f"in {words}"


def _length(length: timedelta) -> str:
    seconds = int(length.total_seconds())
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "min")):
        if seconds >= size:
            count = seconds // size
            return f"{count} {unit}{'s' if count != 1 and unit != 'min' else ''}"
    return f"{seconds} s"


def ago(moment: datetime | None) -> SafeString:
    """Return a relative time with the exact one on hover."""
    if moment is None:
        return format_html('<span class="sl-quiet">{}</span>', "never")
    return format_html(
        '<time datetime="{}" title="{}">{}</time>',
        moment.isoformat(), exact(moment), relative(moment, clock.now()),
    )  # fmt: skip


def exact(moment: datetime) -> str:
    """Return a moment to the second, in the reader's time zone."""
    return f"{timezone.localtime(moment):%Y-%m-%d %H:%M:%S %Z}"


def took(start: datetime | None, end: datetime | None) -> str:
    """Return how long something took."""
    if start is None or end is None:
        return "–"
    seconds = (end - start).total_seconds()
    return f"{seconds:.1f} s" if seconds < 60 else _length(end - start)


def link_to(obj: Model | None, text: object = "") -> SafeString | str:
    """Return a link to an object's page."""
    if obj is None or obj.pk is None:
        return "–"
    url = reverse(f"admin:{obj._meta.app_label}_{obj._meta.model_name}_change", args=[obj.pk])
    return format_html('<a class="sl-link" href="{}">{}</a>', url, text or str(obj))


def is_id(text: object) -> bool:
    """Could it be the number of a row?  More digits than a database stores are no number of ours, and may be no number to Python."""
    return isinstance(text, str) and text.isascii() and text.isdecimal() and len(text) < 19


class Moments:
    """Where a moment can only be read, it is shown relative, with the exact time on hover."""

    def __init__(self, model: type[Model], admin_site: AdminSite) -> None:
        super().__init__(model, admin_site)  # type: ignore[call-arg]
        for column in model._meta.concrete_fields:
            if isinstance(column, DateTimeField):
                setattr(self, f"{column.name}_ago", _shown_ago(column))

    def get_fields(self, request: HttpRequest, obj: Model | None = None) -> list[Any]:
        """The fields of the page, the moments as this class shows them."""
        told = super().get_fields(request, obj)  # type: ignore[misc]
        return [name if not isinstance(name, str) else self._as_shown(name) for name in told]

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> list[str]:
        """What is read is what is shown."""
        return [self._as_shown(name) for name in super().get_readonly_fields(request, obj)]  # type: ignore[misc]

    def _as_shown(self, name: str) -> str:
        return f"{name}_ago" if hasattr(self, f"{name}_ago") else name


def _shown_ago(column: DateTimeField[Any, Any]) -> Callable[[Model], SafeString | str]:
    @display(description=capfirst(column.verbose_name))
    def shown(row: Model) -> SafeString | str:
        moment = getattr(row, column.name)
        return ago(moment) if moment else "–"

    return shown


class ReadOnly(Moments):
    """No adding, changing or deleting: these rows are written by the hub alone."""

    paginator: Any = CappedPaginator
    show_full_result_count = False
    list_per_page = 50
    list_after_template = "syncline/_live_list.html"
    ordering: Any = ["-id"]

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """Sorted by what it offers alone; many rows have no index on other columns."""
        return IndexedList

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class Exact:
    """Searches by whole values: what Django's own search makes of text (upper case) and of numbers (text), has no index."""

    search_fields: ClassVar[Any] = ()

    def get_search_results(self, request: HttpRequest, queryset: Any, search_term: str) -> tuple[Any, bool]:
        """Rows of which one of the columns is what was typed."""
        term = search_term.strip().replace("\x00", "")
        if not term:
            return queryset, False
        found = Q(pk__in=[])
        for name in self.search_fields:
            path = name.removeprefix("=")
            if get_fields_from_path(queryset.model, path)[-1].get_internal_type() not in NUMBERS:
                found |= Q(**{path: term})
            elif is_id(term):
                found |= Q(**{path: int(term)})
        return queryset.filter(found), False


@dataclass(frozen=True)
class Button:
    """One thing that a person can do with one object: a method of the admin class, called by POST alone."""

    name: str
    label: str
    main: bool = False
    confirm: str = ""
    help: str = ""
    permission: str = "change"
    shown: Callable[[Any], bool] = lambda obj: True


class Pressable(Fresh):
    """Adds buttons: each is POST <id>/do/<name>/, checks its permission there, and writes who pressed it into the history.

    A button of a page that shows the object as it no longer is, is refused with what changed.
    """

    buttons: Sequence[Button] = ()
    change_form_outer_before_template = "syncline/buttons.html"

    def get_urls(self) -> list[URLPattern]:
        """The buttons' addresses come before the catch-all of Django's own."""
        name = f"{self.opts.app_label}_{self.opts.model_name}_do"
        view = self.admin_site.admin_view(self.press)
        return [path("<path:object_id>/do/<slug:button>/", view, name=name), *super().get_urls()]

    def may_press(self, request: HttpRequest, button: Button) -> bool:
        """Does the person have the button's permission?"""
        codename = button.permission
        if "." not in codename:
            codename = f"{self.opts.app_label}.{codename}_{self.opts.model_name}"
        return bool(request.user.has_perm(codename))

    def shown_buttons(self, request: HttpRequest, obj: Model) -> list[dict[str, object]]:
        """Return the buttons of one object with their addresses."""
        name = f"admin:{self.opts.app_label}_{self.opts.model_name}_do"
        return [
            {"button": button, "url": reverse(name, args=[obj.pk, button.name])}
            for button in self.buttons
            if button.shown(obj) and self.may_press(request, button)
        ]

    def press(self, request: HttpRequest, object_id: str, button: str) -> HttpResponse:
        """Carry out one button."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        found = next((b for b in self.buttons if b.name == button), None)
        if found is None:
            raise Http404
        if not self.may_press(request, found) or not self.has_view_permission(request):
            raise PermissionDenied
        obj = self.get_object(request, unquote(object_id))
        if obj is None:
            raise Http404
        try:
            if any("\x00" in text for _, given in request.POST.lists() for text in given):
                raise NotNow("What was typed holds the character NUL, which no database stores. Nothing was done.")
            self.refuse_stale(request, obj)
            with audit.acting(request.user, obj, f"{found.label}."):
                answer = getattr(self, found.name)(request, obj)
        except Stale as refusal:
            self.message_user(
                request, f"{refusal} {found.label} was not carried out: look again, then decide.", messages.ERROR
            )
        except REFUSALS as refusal:
            self.message_user(request, redaction.text(str(refusal)), messages.ERROR)
        else:
            self.message_user(request, answer, messages.SUCCESS)
        return self.back(request, obj)

    def log_change(self, request: HttpRequest, obj: Model, message: Any) -> Any:
        """What a person did with several rows, with before (as they were read) and after; a form's changes as Django does."""
        if isinstance(message, str):
            return audit.log_action(request.user, obj, message, audit.values_of(obj), audit.stored(obj))
        return super().log_change(request, obj, message)

    def back(self, request: HttpRequest, obj: Model) -> HttpResponse:
        """Return to where the button was pressed, or to the object."""
        asked = request.POST.get("next", "")
        if asked and url_has_allowed_host_and_scheme(asked, {request.get_host()}, require_https=request.is_secure()):
            return redirect(asked)
        return redirect(reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_change", args=[obj.pk]))

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the buttons above the form."""
        obj = self.get_object(request, unquote(object_id))
        buttons = self.shown_buttons(request, obj) if obj is not None else []
        seen = self.seal(obj) if buttons and obj is not None else ""
        extra = {"sl_buttons": buttons, "sl_seen": seen, **(extra_context or {})}
        return super().change_view(request, object_id, form_url, extra)


class Titled:
    """A row under the title of its page: the frame's breadcrumb says str() of what it is given."""

    def __init__(self, row: Model, title: str) -> None:
        self._row, self._title = row, title

    def __getattr__(self, name: str) -> Any:
        return getattr(self._row, name)

    def __str__(self) -> str:
        return self._title


class Page(Pressable):
    """The detail page is a template of its own, not a form."""

    page_template = ""

    def page(self, request: HttpRequest, obj: Any) -> dict[str, Any]:
        """Return what the template shows besides the object and its buttons."""
        return {}

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show one object; a POST has nothing to do here."""
        if request.method not in ("GET", "HEAD"):
            raise PermissionDenied
        obj = self.get_object(request, unquote(object_id))
        if not self.has_view_permission(request, obj):
            raise PermissionDenied
        if obj is None:
            raise Http404
        return self.show(request, obj, extra_context)

    def show(self, request: HttpRequest, obj: Any, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Render the page: also after a form on it was refused."""
        page = self.page(request, obj)
        title = str(page.get("title") or obj)
        context = {
            **self.admin_site.each_context(request),
            "title": title,
            "opts": self.opts,
            "original": Titled(obj, title),
            "object_id": str(obj.pk),
            "sl_buttons": self.shown_buttons(request, obj),
            "sl_seen": self.seal(obj),
            **page,
            **(extra_context or {}),
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(request, self.page_template, context)
