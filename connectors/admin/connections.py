"""With whom do we talk, does it work, and where are its credentials entered?  Secrets go in here and never come out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin
from unfold.widgets import UnfoldAdminPasswordWidget, UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from connectors import transport
from connectors.admin.base import Button, Pressable, ago, badge
from connectors.admin.connect import ConnectPages, callback_address, connects
from connectors.admin.health import HealthPages
from connectors.admin.unrouted import MAY as SEE_UNROUTED
from connectors.admin.unrouted import UnroutedPage
from connectors.models import Connection, Integration
from connectors.registry import UnknownSystem, connector_class, systems
from connectors.sync import decisions
from connectors.transport import entered, oauth
from connectors.transport.types import Setting
from connectors.transport.vault import CredentialsUnreadable

SETTING, SECRET, ENVIRONMENT = "setting_", "secret_", "environment"
OPERATE = "connectors.operate_connection"


def system_choices() -> list[tuple[str, str]]:
    """Return the installed systems with their names; the one in memory is for developers alone."""
    shown = [system for system in systems() if settings.DEBUG or system != "memory"]
    return [(system, connector_class(system).title) for system in shown]


class NewConnectionForm(forms.ModelForm):
    """The first step: which system, and a name for it."""

    system = forms.ChoiceField(widget=UnfoldAdminSelectWidget)

    class Meta:
        model = Connection
        fields = ["system", "name"]
        widgets = {"name": UnfoldAdminTextInputWidget}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["system"].choices = system_choices()  # type: ignore[attr-defined]


class ConnectionForm(forms.ModelForm):
    """The connector's settings as fields, and one write-only field for each of its secrets."""

    class Meta:
        model = Connection
        fields = ["name"]

    def given_settings(self) -> dict[str, str]:
        """Return the settings as entered; keys that the connector does not declare stay as they were."""
        declared = {
            k.removeprefix(SETTING): str(v).strip() for k, v in self.cleaned_data.items() if k.startswith(SETTING)
        }
        if ENVIRONMENT in self.changed_data:
            declared |= environments(self.instance.system).get(self.cleaned_data.get(ENVIRONMENT, ""), {})
        return {k: v for k, v in {**self.instance.settings, **declared}.items() if v not in ("", None)}

    def given_secrets(self) -> dict[str, str]:
        """Return the secrets that were entered now."""
        return {k.removeprefix(SECRET): v for k, v in self.cleaned_data.items() if k.startswith(SECRET) and v}

    def clean(self) -> dict[str, Any]:
        """Stored credentials never go to an address that was entered after them."""
        cleaned = super().clean() or self.cleaned_data
        if ENVIRONMENT in self.changed_data and cleaned.get(ENVIRONMENT):
            for name, value in environments(self.instance.system)[cleaned[ENVIRONMENT]].items():
                if SETTING + name in self.changed_data and cleaned.get(SETTING + name) != value:
                    self.add_error(SETTING + name, f"{cleaned[ENVIRONMENT]} is at {value}. Choose one or the other.")
        wrong = entered.problems(
            connector_class(self.instance.system).settings, self.given_settings(), self.instance.settings
        )
        for name, sentence in wrong.items():
            self.add_error(SETTING + name, sentence)
        if self.errors or not self.instance.secret:
            return cleaned
        cls = connector_class(self.instance.system)
        labels = {s.name: s.label for s in cls.settings}
        moved = [labels.get(name, name) for name in self.instance.moved(self.given_settings())]
        missing = [name for name in oauth.to_enter(self.instance) if not cleaned.get(SECRET + name)]
        if moved and missing:
            raise forms.ValidationError(
                f"{', '.join(moved)} changed: enter the credentials again ({', '.join(missing)}), "
                "so that the stored ones are not sent to a new address."
            )
        return cleaned


def connection_form(connection: Connection) -> type[ConnectionForm]:
    """Build the form from what the connector declares."""
    cls = connector_class(connection.system)
    fields: dict[str, forms.Field] = {}
    if known := environments(connection.system):
        fields[ENVIRONMENT] = forms.ChoiceField(
            label="Environment", required=False, initial=_environment(connection, cls.settings),
            choices=[*((name, name) for name in known), ("", "The hosts entered below")],
            widget=UnfoldAdminSelectWidget(),
        )  # fmt: skip
    for setting in cls.settings:
        fields[SETTING + setting.name] = _setting_field(setting, connection.settings.get(setting.name, setting.default))
    stored, by_consent = _stored(connection), set(cls.secrets) - set(oauth.to_enter(connection))
    for name in cls.secrets:
        told = "Stored. Leave it empty to keep it." if name in stored else "Not entered yet."
        if name in by_consent and name not in stored:
            told = "Comes by itself with Connect."
        fields[SECRET + name] = forms.CharField(
            label=name.replace("_", " ").capitalize(), required=False, help_text=told, strip=True,
            widget=UnfoldAdminPasswordWidget(render_value=False, attrs={"autocomplete": "new-password"}),
        )  # fmt: skip
    return type("ConnectionFormFor", (ConnectionForm,), fields)


def _setting_field(setting: Setting, value: object) -> forms.Field:
    told: dict[str, Any] = {"label": setting.label, "help_text": setting.help, "initial": value}
    if setting.choices:
        return forms.ChoiceField(choices=setting.choices, required=False, widget=UnfoldAdminSelectWidget(), **told)
    needed = setting.required and not setting.by_consent
    return forms.CharField(required=needed, widget=UnfoldAdminTextInputWidget(), **told)


def environments(system: str) -> Mapping[str, Mapping[str, str]]:
    """Return a system's own environments (production, sandbox) with what each changes of the settings."""
    found: Mapping[str, Mapping[str, str]] = getattr(connector_class(system), "environments", {})
    return found


def _environment(connection: Connection, declared: Sequence[Setting]) -> str:
    present = {s.name: s.default for s in declared} | dict(connection.settings)
    fitting = (name for name, told in environments(connection.system).items() if told.items() <= present.items())
    return next(fitting, "")


def _stored(connection: Connection) -> set[str]:
    """Return the names of the secrets that are there, never their values."""
    if not connection.secret:
        return set()
    try:
        return {name for name, value in connection.get_secret().items() if value}
    except CredentialsUnreadable:
        return set()  # the keys were lost: all of them must be entered again


@admin.register(Connection)
class ConnectionAdmin(HealthPages, UnroutedPage, ConnectPages, Pressable, ModelAdmin):
    """One set of credentials and hosts for one system."""

    list_display = ["name", "system_shown", "state_shown", "account_shown", "expires", "health_link", "calls"]
    list_filter = ["system", "state"]
    ordering = ["name"]
    actions: list[str] = []
    readonly_fields = [
        "system_shown", "state_shown", "why", "account_shown", "instance_shown", "expires", "calls", "unrouted_link",
        "health_link",
        "redirect_address",
    ]  # fmt: skip
    change_form_outer_before_template = "syncline/connection_buttons.html"
    buttons = [
        Button("connect", "Connect", main=True, shown=lambda c: connects(c) and c.state != Connection.State.CONNECTED,
               help="Sign in at the system and choose the company"),
        Button("connect", "Reconnect", shown=lambda c: connects(c) and c.state == Connection.State.CONNECTED,
               help="Sign in anew, to the same company"),
        Button("check_now", "Check now", permission=OPERATE),
        Button("pause", "Pause", permission=OPERATE, shown=lambda c: c.state != Connection.State.PAUSED,
               confirm="Nothing is sent over this connection until somebody resumes it. Pause it?"),
        Button("resume", "Resume", main=True, permission=OPERATE, shown=lambda c: c.state == Connection.State.PAUSED),
    ]  # fmt: skip

    @admin.display(description="System")
    def system_shown(self, connection: Connection) -> str:
        try:
            return connector_class(connection.system).title
        except UnknownSystem:
            return f"{connection.system} (not installed)"

    @admin.display(description="State")
    def state_shown(self, connection: Connection) -> SafeString:
        return badge(connection.get_state_display(), connection.reason)

    @admin.display(description="Reason")
    def why(self, connection: Connection) -> str:
        return connection.reason or "–"

    @admin.display(description="Account")
    def account_shown(self, connection: Connection) -> str:
        return connection.account or "–"

    @admin.display(description="Instance")
    def instance_shown(self, connection: Connection) -> SafeString:
        return format_html('<span class="sl-mono">{}</span>', connection.instance or "–")

    @admin.display(description="Login ends")
    def expires(self, connection: Connection) -> SafeString | str:
        return ago(connection.auth_expires_at) if connection.auth_expires_at else "not known"

    @admin.display(description="API calls")
    def calls(self, connection: Connection) -> SafeString:
        url = reverse("admin:connectors_apicall_changelist")
        return format_html('<a class="sl-link" href="{}?connection={}">API calls</a>', url, connection.pk)

    @admin.display(description="Health")
    def health_link(self, connection: Connection) -> SafeString:
        url = reverse("admin:connectors_connection_health", args=[connection.pk])
        return format_html('<a class="sl-link" href="{}">Health</a>', url)

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        """A new connection asks for its system first; then the connector says what it needs."""
        if obj is None:
            return NewConnectionForm
        if not self.has_change_permission(request, obj) or obj.system not in systems():
            return super().get_form(request, obj, change, **{**kwargs, "fields": ["name"]})
        return super().get_form(request, obj, change, **{**kwargs, "form": connection_form(obj), "fields": ["name"]})

    @admin.display(description="Redirect address")
    def redirect_address(self, connection: Connection) -> SafeString:
        return format_html(
            '<span class="sl-mono">{}</span> <span class="sl-quiet">Register it at {}, exactly so.</span>',
            connection.callback, connector_class(connection.system).title,  # type: ignore[attr-defined]
        )  # fmt: skip

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        """Remember under which address the hub was opened: the redirect address begins with it."""
        found = super().get_object(request, object_id, from_field)
        if found is not None:
            found.callback = callback_address(request)
        return found

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return self.readonly_fields if obj else []

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        if obj is None:
            return [(None, {"fields": ["system", "name"]})]
        seen = [
            "name",
            ("system_shown", "state_shown"),
            "why",
            ("account_shown", "instance_shown"),
            ("expires", "health_link"),
            ("calls", "unrouted_link") if request.user.has_perm(SEE_UNROUTED) else "calls",
        ]
        sets: list[tuple[str | None, dict[str, Any]]] = [(None, {"fields": seen})]
        if self.has_change_permission(request, obj) and obj.system in systems():
            cls = connector_class(obj.system)
            environment = [ENVIRONMENT] if environments(obj.system) else []
            sets.append(("Settings", {"fields": [*environment, *(SETTING + s.name for s in cls.settings)]}))
            if cls.secrets:
                told = "Stored encrypted and never shown again."
                back = ["redirect_address"] if connects(obj) else []
                fields = [*back, *(SECRET + s for s in cls.secrets)]
                sets.append(("Credentials", {"fields": fields, "description": told}))
        return sets

    def form_columns(self, request: HttpRequest, obj: Any, fields: Any) -> list[str]:
        """The settings are one column.  Secrets are not among them: tokens are renewed while somebody types."""
        return ["name", "settings"]

    def save_model(self, request: HttpRequest, obj: Connection, form: Any, change: bool) -> None:
        """Settings and secrets; what was left empty stays."""
        if not change:
            super().save_model(request, obj, form, change)
            return
        columns: dict[str, object] = {"name": obj.name} if "name" in form.changed_data else {}
        secrets: dict[str, str] = {}
        if isinstance(form, ConnectionForm):
            if any(field.startswith((SETTING, ENVIRONMENT)) for field in form.changed_data):
                columns["settings"] = form.given_settings()
            secrets = form.given_secrets()
        obj.change(columns, secrets)

    def response_add(self, request: HttpRequest, obj: Connection, post_url_continue: str | None = None) -> HttpResponse:
        """Go on with the settings."""
        then = "Connect" if connects(obj) else "Check now"
        self.message_user(request, f"{obj} is made. Fill in its settings and credentials, save, then press {then}.")
        return redirect(reverse("admin:connectors_connection_change", args=[obj.pk]))

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """A connection that an integration uses is not deleted, nor are several at once."""
        if obj is None or Integration.objects.filter(Q(left=obj) | Q(right=obj)).exists():
            return False
        return super().has_delete_permission(request, obj)

    def check_now(self, request: HttpRequest, connection: Connection) -> str:
        identity = transport.check(connection)
        return f"Connected to {identity.account or identity.instance}; {len(identity.may)} entities can be read."

    def pause(self, request: HttpRequest, connection: Connection) -> str:
        decisions.pause_connection(connection, by=str(request.user))
        return "Paused: nothing is sent until it is resumed."

    def resume(self, request: HttpRequest, connection: Connection) -> str:
        decisions.resume_connection(connection)
        return "Resumed. Press Check now to see whether it still works."
