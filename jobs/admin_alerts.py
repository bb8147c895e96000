"""Who is told of trouble, what is wrong at present, and which messages went out?"""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin
from unfold.widgets import UnfoldAdminPasswordWidget, UnfoldAdminTextareaWidget

from config import audit
from connectors.admin.base import Button, Pressable, ReadOnly, ago, badge, exact, link_to
from jobs.alerts import outbox, saving
from jobs.housekeeping import failing
from jobs.models import Alert, AlertMessage, AlertRule, Failing
from jobs.states import IllegalTransition
from jobs.syncing import NotNow


class AlertRuleForm(forms.ModelForm):
    """A webhook's address is a secret: it can be entered, not read."""

    addresses_text = forms.CharField(
        label="E-mail addresses",
        required=False,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 3}),
        help_text="One on each line.",
    )
    url = forms.CharField(
        label="Webhook address", required=False, max_length=2000, widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "off"}),
        help_text="It is stored encrypted and not shown again. Leave it empty to keep the one that is stored.",
    )  # fmt: skip
    signing_key = forms.CharField(
        label="Signing key", required=False, max_length=200, widget=UnfoldAdminPasswordWidget(attrs={"autocomplete": "off"}),
        help_text="For JSON: the receiver checks X-Syncline-Signature with it. Empty: one is made and shown once.",
    )  # fmt: skip

    class Meta:
        model = AlertRule
        fields = ["name", "enabled", "what", "more_than", "integration", "to"]

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if self.instance.pk:
            self.initial["addresses_text"] = "\n".join(self.instance.addresses)

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        to, url = cleaned.get("to", ""), cleaned.get("url", "")
        addresses = cleaned.get("addresses_text", "").split() if to == AlertRule.To.EMAIL else []
        found = saving.problems(to, addresses, url, stored=bool(self.instance.secret))
        for name, sentences in found.items():
            self.add_error("addresses_text" if name == "addresses" else name, sentences)
        cleaned["addresses"] = addresses
        return cleaned


@admin.register(AlertRule)
class AlertRuleAdmin(Pressable, ModelAdmin):
    """Who wants to be told of what."""

    form = AlertRuleForm
    list_display = ["name", "what", "integration", "to", "recipients", "enabled"]
    list_filter = ["what", "to", "enabled"]
    list_select_related = ["integration"]
    search_fields = ["name"]
    fieldsets = [
        (None, {"fields": ["name", "enabled"]}),
        ("When", {"fields": ["what", "more_than", "integration"]}),
        ("Tell", {"fields": ["to", "addresses_text", "url", "signing_key"]}),
    ]
    buttons = [Button("test", "Send a test message", help="Goes to every recipient of this rule; see Messages.")]

    @admin.display(description="Recipients")
    def recipients(self, rule: AlertRule) -> str:
        return ", ".join(rule.addresses) or rule.host

    def form_columns(self, request: HttpRequest, obj: Any, fields: Any) -> list[str]:
        """Where messages go is no field of the form's own."""
        return [*super().form_columns(request, obj, fields), "addresses", "host", "secret"]

    def save_model(self, request: HttpRequest, obj: AlertRule, form: Any, change: bool) -> None:
        obj.addresses = form.cleaned_data["addresses"]
        super().save_model(request, obj, form, change)
        entered, was = form.cleaned_data, form.initial.get("to", "") if change else ""
        if made := saving.save_webhook(obj, entered["url"], entered["signing_key"], was=was):
            self.message_user(request, f"The signing key, shown this once: {made}", messages.WARNING)

    def test(self, request: HttpRequest, rule: AlertRule) -> str:
        put = len(outbox.put_test(rule))
        return f"{put} test {_messages(put)} on the way; Messages shows what becomes of {'it' if put == 1 else 'them'}."


def _messages(count: int) -> str:
    return "message" if count == 1 else "messages"


@admin.register(Alert)
class AlertAdmin(ReadOnly, ModelAdmin):
    """What is or was wrong."""

    list_display = ["opened", "state", "text", "rule", "count", "seen", "resolved"]
    fields = [
        "state", "text", "rule", "integration", "cause", "count", "opened_at", "last_seen", "resolved_at",
        "acknowledged_at", "acknowledged_by",
    ]  # fmt: skip
    readonly_fields = ["state"]
    list_filter = [("resolved_at", admin.EmptyFieldListFilter), "rule"]
    list_select_related = ["rule"]
    ordering = ["-opened_at"]
    actions = ["acknowledge"]

    @admin.display(description="State")
    def state(self, alert: Alert) -> SafeString:
        if alert.resolved_at is not None:
            return badge("Resolved", tone="good")
        if alert.acknowledged_at is not None:
            why = f"{alert.acknowledged_by or 'Somebody'} knows since {exact(alert.acknowledged_at)}: no digest repeats it."
            return badge("Acknowledged", why, "warn")
        return badge("Open", alert.text, "bad")

    def has_operate_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("jobs.operate_alert"))

    @admin.action(description="Acknowledge", permissions=["operate"])
    def acknowledge(self, request: HttpRequest, queryset: QuerySet[Alert]) -> None:
        done = 0
        for alert in queryset.select_related("rule"):
            try:
                with audit.acting(request.user, alert, "Acknowledged."):
                    saving.acknowledge(alert, by=request.user)
                done += 1
            except IllegalTransition as refusal:
                self.message_user(request, f"{alert.text}: {refusal}", messages.WARNING)
        if done:
            self.message_user(request, f"{done} acknowledged: no daily digest repeats them.", messages.SUCCESS)

    @admin.display(description="Opened", ordering="opened_at")
    def opened(self, alert: Alert) -> SafeString:
        return ago(alert.opened_at)

    @admin.display(description="Last seen")
    def seen(self, alert: Alert) -> SafeString:
        return ago(alert.last_seen)

    @admin.display(description="Resolved")
    def resolved(self, alert: Alert) -> SafeString | str:
        return ago(alert.resolved_at) if alert.resolved_at else "–"


@admin.register(AlertMessage)
class AlertMessageAdmin(ReadOnly, ModelAdmin):
    """The outbox: what was told to whom, and whether it arrived."""

    list_display = ["written", "state", "kind", "subject", "recipient", "tries", "error", "its_job"]
    list_filter = ["status", "kind", "rule"]
    list_select_related = ["job"]
    search_fields = ["recipient", "subject"]
    fields = [
        "written",
        "state",
        "kind",
        "rule",
        "recipient",
        "subject",
        "body",
        "tries",
        "error",
        "sent_at",
        "its_job",
    ]
    readonly_fields = ["written", "state", "its_job"]
    ordering = ["-at"]
    actions = ["send_again"]

    @admin.display(description="State")
    def state(self, message: AlertMessage) -> SafeString:
        tone = {"sent": "good", "failed": "bad"}.get(message.status, "calm")
        return badge(message.get_status_display(), message.error, tone)

    @admin.display(description="Written", ordering="at")
    def written(self, message: AlertMessage) -> SafeString:
        return ago(message.at)

    @admin.display(description="Job")
    def its_job(self, message: AlertMessage) -> SafeString | str:
        return link_to(message.job)

    def has_retry_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("jobs.retry_job")

    @admin.action(description="Send again", permissions=["retry"])
    def send_again(self, request: HttpRequest, queryset: QuerySet[AlertMessage]) -> None:
        sent = 0
        for message in queryset.select_related("job"):
            try:
                outbox.send_again(message, by=request.user)
                sent += 1
            except IllegalTransition as refusal:
                self.message_user(request, f"{message.recipient}: {refusal}", messages.WARNING)
        if sent:
            self.message_user(request, f"{sent} {_messages(sent)} on the way again.", messages.SUCCESS)


@admin.register(Failing)
class FailingAdmin(ReadOnly, ModelAdmin):
    """Integrations whose runs fail in a row, and those that the rule has paused."""

    list_display = ["scope", "state", "began", "last", "reason", "next_try"]
    list_select_related = ["scope__integration"]
    ordering = ["since"]
    actions = ["resume"]

    @admin.display(description="State")
    def state(self, row: Failing) -> SafeString:
        if row.paused_at is not None:
            return badge("Paused by rule", row.scope.disabled_reason, "bad")
        return badge("Failing", row.scope.last_error, "warn")

    @admin.display(description="Failing since", ordering="since")
    def began(self, row: Failing) -> SafeString:
        return ago(row.since)

    @admin.display(description="Last failure")
    def last(self, row: Failing) -> SafeString:
        return ago(row.last_at)

    @admin.display(description="Next try")
    def next_try(self, row: Failing) -> SafeString | str:
        return ago(row.probe_at) if row.probe_at else "as scheduled"

    def has_resume_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("connectors.operate_integration")

    @admin.action(description="Resume", permissions=["resume"])
    def resume(self, request: HttpRequest, queryset: QuerySet[Failing]) -> None:
        for row in queryset.select_related("scope__integration"):
            try:
                failing.resume(row.scope, by=request.user)
                self.message_user(request, f"{row.scope} goes on.", messages.SUCCESS)
            except NotNow as refusal:
                self.message_user(request, str(refusal), messages.WARNING)
