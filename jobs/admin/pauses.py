"""What is held back, by whom and why, and how is it let go again?"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from config import audit
from connectors.admin.base import Button, Pressable, ago, badge, exact
from connectors.models import Connection
from jobs import clock, handlers, pauses
from jobs.models import Pause
from jobs.states import IllegalTransition

END = "jobs.delete_pause"


class PauseForm(forms.ModelForm):
    """Whom it holds back, why, until when."""

    job_type = forms.ChoiceField(label="Job type", required=False, widget=UnfoldAdminSelectWidget())
    reason = forms.CharField(
        label="Why",
        max_length=500,
        widget=UnfoldAdminTextInputWidget(),
        help_text="Everybody sees it on the list of jobs.",
    )
    until = forms.DateTimeField(
        label="Until", required=False, widget=UnfoldAdminTextInputWidget({"type": "datetime-local"})
    )

    class Meta:
        model = Pause
        fields = ["kind", "connection", "job_type", "reason", "until"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        zone = timezone.get_current_timezone_name()
        self.fields["until"].help_text = f"In your time zone, {zone}. Empty: until a person ends it."
        if self.instance.pk and self.instance.until:
            self.initial["until"] = f"{timezone.localtime(self.instance.until):%Y-%m-%dT%H:%M}"
        if "job_type" in self.fields:
            known = [(name, name) for name in sorted(handlers.registered())]
            self.fields["job_type"].choices = [("", "–"), *known]  # type: ignore[attr-defined]
            self.fields["connection"].required = False
            self.fields["kind"].help_text = "Everything, the jobs of one connection, or those of one type."

    def clean(self) -> dict[str, Any]:
        """What belongs to another kind is hidden in the page, and not meant."""
        cleaned = super().clean() or {}
        kind = cleaned.get("kind")
        if "kind" in self.fields:
            if kind != Pause.Kind.CONNECTION:
                cleaned["connection"] = None
            if kind != Pause.Kind.TYPE:
                cleaned["job_type"] = ""
        return cleaned

    def _post_clean(self) -> None:
        """The service's own rules, before the model's: their sentences say what to do."""
        if not self.errors:
            given = self.cleaned_data
            try:
                if self.instance.pk:
                    pauses.check(given["reason"], given["until"])
                    pauses.check_there(self.instance)
                else:
                    pauses.check_new(
                        given["kind"], given["connection"], given["job_type"], given["reason"], given["until"]
                    )
            except ValidationError as wrong:
                self.add_error(None, wrong)
                return
        super()._post_clean()  # type: ignore[misc]  # of Django's own BaseModelForm


@admin.register(Pause)
class PauseAdmin(Pressable, ModelAdmin):
    """Hold jobs back: those of one connection, of one type, or all."""

    form = PauseForm
    list_display = ["what_shown", "state", "reason", "by_shown", "since", "until_shown"]
    list_select_related = ["connection", "by"]
    # On the page of a pause that there is the kind is no field any more, and what it names stays in sight.
    conditional_fields = {
        "connection": "typeof kind === 'undefined' || kind == 'connection'",
        "job_type": "typeof kind === 'undefined' || kind == 'type'",
    }
    actions = ["end_ticked"]
    buttons = [
        Button("end", "End the pause", main=True, permission=END, help="What waits is handed out at once."),
    ]

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """What a pause holds back does not change: end it and make another one."""
        if obj is None:
            return ["kind", "connection", "job_type", "reason", "until"]
        named = {Pause.Kind.CONNECTION: ["connection"], Pause.Kind.TYPE: ["job_type"]}.get(obj.kind, [])
        return ["kind", *named, "reason", "until"]

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """A pause is ended, which is told in the same words everywhere."""
        return False

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return ["kind", "connection", "job_type"] if obj is not None else []

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """A page that leads here may say for what."""
        kind = request.GET.get("kind", "")
        pk = request.GET.get("connection", "")
        found = {"kind": kind} if kind in Pause.Kind.values else {}
        if pk.isdecimal() and len(pk) < 19 and Connection.objects.filter(pk=pk).exists():
            found["connection"] = pk
        if request.GET.get("job_type", "") in handlers.registered():
            found["job_type"] = request.GET["job_type"]
        return found

    def save_model(self, request: HttpRequest, obj: Pause, form: Any, change: bool) -> None:
        if change:
            try:
                pauses.change(obj, reason=obj.reason, until=obj.until)
            except IllegalTransition as refusal:  # its end came between the look at the form and now
                self.message_user(request, str(refusal), messages.ERROR)
            return
        made = pauses.begin(
            obj.kind, connection=obj.connection, job_type=obj.job_type, reason=obj.reason, until=obj.until, by=request.user
        )  # fmt: skip
        obj.__dict__.update(made.__dict__)

    def end(self, request: HttpRequest, pause: Pause) -> str:
        pauses.end(pause)
        return f"Ended: {pause.what} go on."

    def has_end_permission(self, request: HttpRequest) -> bool:
        """Ending."""
        return bool(request.user.has_perm(END))

    @admin.action(description="End", permissions=["end"])
    def end_ticked(self, request: HttpRequest, queryset: QuerySet[Pause]) -> None:
        for pause in queryset.select_related("connection", "by"):
            try:
                before, what = audit.values_of(pause), pause.what
                pauses.end(pause)
            except IllegalTransition as refusal:
                self.message_user(request, f"{pause.what}: {refusal}", messages.WARNING)
                continue
            audit.log_action(request.user, pause, "Ended.", before)
            self.message_user(request, f"Ended: {what} go on.", messages.SUCCESS)

    def back(self, request: HttpRequest, obj: Any) -> HttpResponse:
        """An ended pause has no page any more."""
        if request.POST.get("next") or Pause.objects.filter(pk=obj.pk).exists():
            return super().back(request, obj)
        return redirect("admin:jobs_pause_changelist")

    @admin.display(description="Holds back")
    def what_shown(self, pause: Pause) -> str:
        return pause.what.capitalize()

    @admin.display(description="State")
    def state(self, pause: Pause) -> SafeString:
        if pause.until is not None and pause.until <= clock.now():
            return badge("Over", "Its end has come; it holds nothing back any more.", "calm")
        return badge("Paused", pause.reason, "warn")

    @admin.display(description="By")
    def by_shown(self, pause: Pause) -> str:
        return pause.who or "–"

    @admin.display(description="Since", ordering="at")
    def since(self, pause: Pause) -> SafeString:
        return ago(pause.at)

    @admin.display(description="Until", ordering="until")
    def until_shown(self, pause: Pause) -> SafeString | str:
        return ago(pause.until) if pause.until else "somebody ends it"


def banners(request: HttpRequest, now: datetime, *, connection: int | None = None) -> list[dict[str, object]]:
    """Return what is held back, for the pages on which that matters, with the way to end it."""
    may = request.user.has_perms([END, "jobs.view_pause"])
    found: list[dict[str, object]] = []
    for pause in pauses.active(now):
        if connection is not None and pause.kind != Pause.Kind.HUB and pause.connection_id != connection:
            continue
        found.append(
            {
                "what": pause.what, "who": pause.who, "reason": pause.reason, "at": ago(pause.at),
                "until": f"until {exact(pause.until)}" if pause.until else "",
                "end": reverse("admin:jobs_pause_do", args=[pause.pk, "end"]) if may else "",
                "page": reverse("admin:jobs_pause_change", args=[pause.pk]),
            }
        )  # fmt: skip
    return found
