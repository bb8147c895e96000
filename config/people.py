"""Who may use Syncline, which programs, and who did what?  People, groups, API tokens, the audit log, failed logins."""

from __future__ import annotations

from typing import Any, cast

from axes.models import AccessAttempt
from django import forms
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from django.core.exceptions import PermissionDenied
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm
from unfold.widgets import UnfoldAdminIntegerFieldWidget

from config.models import DEFAULT_DAYS, MOST_DAYS, ApiToken
from connectors.admin.base import Button, Exact, Moments, Pressable, ReadOnly, ago, badge
from connectors.admin.fresh import Fresh

admin.site.unregister(User)
admin.site.unregister(Group)
MANAGES = "auth.change_user"


class Several(forms.ModelMultipleChoiceField):
    """A choice of several rows; a number that no database holds is no choice, either."""

    def clean(self, value: Any) -> Any:
        wrong = [text for text in value or () if len(str(text)) > 18]
        if wrong:
            raise forms.ValidationError(self.error_messages["invalid_pk_value"], params={"pk": str(wrong[0])[:20]})
        return super().clean(value)


class OwnDeletion(ModelAdmin):
    """What is deleted along with a person or a group, without the rows that only say who is in which."""

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        return super().formfield_for_manytomany(db_field, request, **{"form_class": Several, **kwargs})

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        tree, counts, forbidden, protected = super().get_deleted_objects(objs, request)
        return _told(tree), {what: n for what, n in counts.items() if " relationship" not in what}, forbidden, protected


def _told(tree: list[Any]) -> list[Any]:
    return [
        _told(branch) if isinstance(branch, list) else branch
        for branch in tree
        if isinstance(branch, list) or " relationship: " not in str(branch)
    ]


@admin.register(User)
class UserAdmin(Fresh, DjangoUserAdmin, OwnDeletion):
    """People and their rights.  Only a superuser makes superusers, or touches one: else managing people were all rights."""

    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        fixed = [*super().get_readonly_fields(request, obj), "last_login", "date_joined"]
        return fixed if request.user.is_superuser else [*fixed, "is_superuser", "user_permissions"]

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return _may_touch(request, obj) and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return _may_touch(request, obj) and super().has_delete_permission(request, obj)


def _may_touch(request: HttpRequest, person: Any) -> bool:
    return bool(request.user.is_superuser or not getattr(person, "is_superuser", False))


@admin.register(Group)
class GroupAdmin(Fresh, DjangoGroupAdmin, OwnDeletion):
    """Rights that several people share.  Viewer, Operator and Administrator get theirs back with each `migrate`."""


class NewTokenForm(forms.ModelForm):
    """What a new token is for."""

    days = forms.IntegerField(
        min_value=1, max_value=MOST_DAYS, initial=DEFAULT_DAYS, widget=UnfoldAdminIntegerFieldWidget(),
        help_text=f"It expires after so many days, at most {MOST_DAYS}.",
    )  # fmt: skip

    class Meta:
        model = ApiToken
        fields = ["name", "user", "scope"]


@admin.register(ApiToken)
class ApiTokenAdmin(Moments, Pressable, ModelAdmin):
    """Programs' keys to the API.  The text of one is shown once, when it is made."""

    list_display = ["name", "user", "prefix_shown", "scope", "state_shown", "expires", "last_used"]
    list_filter = ["scope"]
    list_select_related = ["user"]
    search_fields = ["name", "=prefix", "=user__username"]
    ordering = ["-id"]
    actions: list[str] = []
    readonly_fields = ["prefix_shown", "state_shown", "created_at", "created_by", "expires", "last_used", "revoked_at"]
    buttons = [
        Button("revoke", "Revoke", shown=lambda token: token.state == "Active",
               confirm="Whatever uses this token gets no answer any more. Revoke it?"),
    ]  # fmt: skip

    @admin.display(description="Begins with")
    def prefix_shown(self, token: ApiToken) -> SafeString:
        return format_html('<span class="sl-mono">{}…</span>', token.prefix)

    @admin.display(description="State")
    def state_shown(self, token: ApiToken) -> SafeString:
        return badge(token.state, tone="good" if token.state == "Active" else "calm")

    @admin.display(description="Expires", ordering="expires_at")
    def expires(self, token: ApiToken) -> SafeString:
        return ago(token.expires_at)

    @admin.display(description="Last used", ordering="last_used_at")
    def last_used(self, token: ApiToken) -> SafeString:
        return ago(token.last_used_at)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return ["name", "user", "scope", *(self.readonly_fields if obj else ["days"])]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.readonly_fields if obj else []

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        if obj is not None:
            return super().get_form(request, obj, change, **kwargs)
        form = super().get_form(request, obj, change, **{**kwargs, "form": NewTokenForm})
        people = cast("forms.ModelChoiceField[User]", form.base_fields["user"])
        people.queryset, people.initial = _bearers(request), request.user.pk
        return form

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """A token is made and revoked, never changed."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """A revoked one stays, so that the audit log can be read."""
        return False

    def save_model(self, request: HttpRequest, obj: ApiToken, form: Any, change: bool) -> None:
        token, text = ApiToken.objects.issue(
            obj.user, obj.name, scope=obj.scope, days=form.cleaned_data["days"], by=request.user
        )
        obj.__dict__.update(token.__dict__)
        request.sl_text = text  # type: ignore[attr-defined]

    def response_add(self, request: HttpRequest, obj: ApiToken, post_url_continue: str | None = None) -> HttpResponse:
        """Show the text in this very answer: in a message it would lie in a cookie."""
        context = {
            **self.admin_site.each_context(request), "opts": self.opts, "title": "The new token",
            "token": obj, "text": request.sl_text,  # type: ignore[attr-defined]
        }  # fmt: skip
        request.sl_done = True  # type: ignore[attr-defined]  # a second click must not make another (config/once.py)
        return TemplateResponse(request, "config/token_made.html", context)

    def revoke(self, request: HttpRequest, token: ApiToken) -> str:
        if token.user_id != request.user.pk and not request.user.has_perm(MANAGES):
            raise PermissionDenied
        token.revoke()
        return f"{token} is revoked."


def _bearers(request: HttpRequest) -> QuerySet[User]:
    """As whom may this person make tokens?  As oneself; as others who manages people."""
    people = User.objects.filter(is_active=True).order_by("username")
    if request.user.is_superuser:
        return people
    if request.user.has_perm(MANAGES):
        return people.filter(is_superuser=False)
    return people.filter(username=request.user.get_username())


@admin.register(LogEntry)
class AuditAdmin(Exact, ReadOnly, ModelAdmin):
    """Who did what, newest first, with before and after."""

    list_display = ["when", "user", "kind", "about", "what"]
    list_display_links = ["when"]
    list_filter = ["action_flag"]
    list_select_related = ["user", "content_type"]
    search_fields = ["user__username", "object_id", "object_repr"]
    search_help_text = "Exact name of the person, or exact id or name of the object"
    sortable_by = ["when"]
    fields = ["when", "user", "kind", "about", "what"]
    readonly_fields = fields

    @admin.display(description="When", ordering="id")
    def when(self, entry: LogEntry) -> SafeString:
        return ago(entry.action_time)

    @admin.display(description="Kind")
    def kind(self, entry: LogEntry) -> str:
        return str(entry.content_type or "–")

    @admin.display(description="About")
    def about(self, entry: LogEntry) -> SafeString | str:
        url = None if entry.is_deletion() else entry.get_admin_url()
        return format_html('<a class="sl-link" href="{}">{}</a>', url, entry.object_repr) if url else entry.object_repr

    @admin.display(description="What")
    def what(self, entry: LogEntry) -> SafeString:
        told = entry.get_change_message() or entry.get_action_flag_display()
        return format_html('<span class="sl-wrap">{}</span>', told)


@admin.register(AccessAttempt)
class FailedLoginAdmin(ReadOnly, ModelAdmin):
    """Failed logins since the last one that worked.  Deleting a row lets the person try again at once."""

    list_display = ["username", "address", "failures", "last"]
    fields = ["username", "address", "failures", "last", "user_agent"]
    readonly_fields = fields
    search_fields = ["=username", "=ip_address"]

    @admin.display(description="From", ordering="ip_address")
    def address(self, attempt: AccessAttempt) -> str:
        return attempt.ip_address or "–"

    @admin.display(description="Failures", ordering="failures_since_start")
    def failures(self, attempt: AccessAttempt) -> int:
        return int(attempt.failures_since_start)

    @admin.display(description="Last failure", ordering="attempt_time")
    def last(self, attempt: AccessAttempt) -> SafeString:
        return ago(attempt.attempt_time)

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return request.user.has_perm("axes.delete_accessattempt")
