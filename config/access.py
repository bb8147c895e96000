"""Who may do what?  Three groups that every hub has, and the scopes of API tokens.

Viewer sees everything.  Operator also runs, pauses, promotes, resolves, retries and approves, but changes neither sync
settings nor credentials.  Administrator may do all of it, and manages people.
"""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

VIEWER, OPERATOR, ADMINISTRATOR = GROUPS = ("Viewer", "Operator", "Administrator")
READ, OPERATE, ADMINISTER = "read", "operate", "administer"

OURS = ("config", "connectors", "jobs", "scheduling", "projects")  # packages whose models are Syncline's
# Rights on models of others, and the groups that have them.
BORROWED = {
    "auth": {"user": "", "group": ""},
    "admin": {"logentry": "view"},
    "axes": {"accessattempt": "view delete"},
}
# What an Operator may do besides looking.  A permission named operate_... belongs to these without standing here.
OPERATES = frozenset(
    {
        "config.add_apitoken", "config.change_apitoken",  # own ones
        "connectors.change_run",  # approve a preview, accept a guard: a run has nothing else to change
        "connectors.change_recordlink",  # resolve, retry, hold, join...: the rows are written by the hub alone
        "connectors.add_promotion", "connectors.change_promotion",
        "jobs.retry_job", "jobs.cancel_job", "jobs.add_pause", "jobs.change_pause", "jobs.delete_pause",
        "scheduling.run_service",
    }
)  # fmt: skip


def operates(permission: str) -> bool:
    """Is this right ("app.codename") an Operator's, besides looking?"""
    return permission in OPERATES or permission.partition(".")[2].startswith("operate_")


def looks(permission: str) -> bool:
    """Is this the right to see something?"""
    return permission.partition(".")[2].startswith("view_")


def scope_allows(scope: str, permission: str) -> bool:
    """Does a token's scope reach as far as this right?"""
    if scope == ADMINISTER or looks(permission):
        return True
    return scope == OPERATE and operates(permission)


def groups_with(permission: str) -> list[str]:
    """Return the groups that have a right on one of Syncline's models."""
    if looks(permission):
        return [VIEWER, OPERATOR, ADMINISTRATOR]
    return [OPERATOR, ADMINISTRATOR] if operates(permission) else [ADMINISTRATOR]


def give_rights(app_config: AppConfig, using: str = "default", apps: Any = None, **_: object) -> None:
    """Give the three groups what they have on one app's models; called after each `migrate`, for each app.

    Rights are made there too, so a migration alone could give none on a fresh database, nor on the models of later
    releases.  What somebody took from these groups comes back: for another choice of rights make a group of your own.
    """
    from django.contrib.auth.models import Group, Permission

    ours = app_config.name.partition(".")[0] in OURS or app_config.name in settings.EXTRA_CONNECTORS
    borrowed = BORROWED.get(app_config.label, {})
    if not (ours or borrowed) or app_config.models_module is None:
        return
    groups = {name: Group.objects.using(using).get_or_create(name=name)[0] for name in GROUPS}
    given: dict[str, list[Permission]] = {name: [] for name in GROUPS}
    rows = Permission.objects.using(using).filter(content_type__app_label=app_config.label)
    for row in rows.select_related("content_type"):
        if ours or _borrowed(row.codename, row.content_type.model, borrowed):
            for name in groups_with(f"{app_config.label}.{row.codename}"):
                given[name].append(row)
    for name, permissions in given.items():
        groups[name].permissions.add(*permissions)


def _borrowed(codename: str, model: str, borrowed: dict[str, str]) -> bool:
    verbs = borrowed.get(model)
    return verbs is not None and (not verbs or codename.partition("_")[0] in verbs.split())


def client_address(request: HttpRequest) -> str:
    """Return who is calling.  Only behind our own proxy its last word counts: any client can write that header."""
    forwarded = request.META.get("HTTP_X_FORWARDED_FOR", "") if settings.BEHIND_PROXY else ""
    return forwarded.rpartition(",")[2].strip() or str(request.META.get("REMOTE_ADDR", ""))


def locked_out(request: HttpRequest, *_: object, **__: object) -> HttpResponse:
    """Answer a login after too many failures."""
    context = {
        "title": "Too many failed logins",
        "failures": settings.AXES_FAILURE_LIMIT,
        "minutes": int(settings.AXES_COOLOFF_TIME.total_seconds() // 60),
    }
    return TemplateResponse(request, "config/locked_out.html", context, status=429).render()
