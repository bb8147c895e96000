"""What may a Viewer, an Operator and an Administrator do, in the admin and through the API alike?"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.apps import apps
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, Permission, User
from django.test import Client
from django.urls import reverse
from rest_framework.test import APIClient

from config.access import GROUPS, OPERATES, give_rights, groups_with, scope_allows
from connectors.models import Connection, EntitySync, FieldMapping, Integration, RecordLink, Run
from jobs.models import Job
from scheduling.models import Service
from tests.config.addresses import UNSAFE, Address, admin_addresses, api_addresses, bulk_actions, newest, state
from tests.sync.worlds import TwoSystems

pytestmark = pytest.mark.django_db(transaction=True)
OWN = ("admin:password_change", "admin:logout", "admin:login")  # everybody's own password and session
LISTS = "_changelist"
WRITES = ("_add", "_change", "_delete", "_do", "_tick", "_preset", "_provision")
# Nobody has looked yet; somebody else's token; a problem that is not about an option.
UNSEEN = ("conflict-detail", "preflight-list", "token-detail", "problem-option")
PREVIEWS = ("service-preview", "admin:scheduling_service_preview")  # a POST that stores nothing: its form is long


def browser(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def there_is(address: Address) -> bool:
    """Whether the world has a row for a page about one."""
    label, model = address.url.split("/")[2:4]
    return bool(apps.get_model(label, model)._default_manager.exists())


def test_a_viewer_sees_every_page_of_the_admin(everything: TwoSystems, member: Callable[[str], User]) -> None:
    client, refused, seen = browser(member("Viewer")), [], 0
    for address in admin_addresses():
        if "password_change" in address.name:
            continue
        if address.name.endswith((LISTS, ":index")) or (address.name.endswith("_change") and there_is(address)):
            answer = client.get(address.url, follow=True)
            seen += 1
            if answer.status_code != 200:
                refused.append((address.url, answer.status_code))
    assert not refused
    assert seen > 45


def test_a_viewer_can_change_nothing_at_any_address_of_the_admin(
    everything: TwoSystems, member: Callable[[str], User]
) -> None:
    client, addresses, before = browser(member("Viewer")), admin_addresses(), None
    assert len(addresses) > 120
    before = state()
    for address in addresses:
        if address.name in OWN:
            continue
        answer = client.post(address.url, {"name": "changed", "_save": "Save", "decision": "drop", "change": "1"})
        if address.name.endswith(WRITES):
            # 302: there is no such row, or its page is another one; 404: an action of another page
            assert answer.status_code in (302, 403, 404, 405), (address, answer.status_code)
        if answer.status_code not in (403, 405):
            assert state() == before, address
    assert state() == before


def test_a_viewer_can_carry_out_no_bulk_action(everything: TwoSystems, member: Callable[[str], User]) -> None:
    client, before = browser(member("Viewer")), state()
    actions = bulk_actions()
    assert len(actions) > 30
    for url, action, row in actions:
        client.post(url, {"action": action, "_selected_action": [row], "post": "yes"})
        assert state() == before, (url, action)


def test_a_viewer_reads_everything_through_the_api_and_each_write_is_refused(
    everything: TwoSystems, member: Callable[[str], User]
) -> None:
    client = APIClient()
    client.force_login(member("Viewer"))
    before, writes = state(), 0
    for address in api_addresses():
        for method in address.methods:
            answer = getattr(client, method)(address.url)
            if method in UNSAFE and address.name not in PREVIEWS:
                writes += 1
                assert answer.status_code == 403, (method, address)
            elif method == "get" and address.url.startswith("/api/"):
                assert answer.status_code == 200 or address.name in UNSEEN, (address, answer.status_code)
        assert state() == before, address
    assert writes > 40


OPERATOR_DOES = [
    ("admin:connectors_integration_do", Integration, "sync_now"),
    ("admin:connectors_integration_do", Integration, "disable"),
    ("admin:connectors_connection_do", Connection, "pause"),
    ("admin:connectors_connection_do", Connection, "check_now"),
]


@pytest.mark.parametrize(("name", "model", "button"), OPERATOR_DOES)
def test_an_operator_presses_buttons(
    everything: TwoSystems, member: Callable[[str], User], name: str, model: type, button: str
) -> None:
    operator = member("Operator")
    answer = browser(operator).post(reverse(name, args=[newest(model), button]))
    assert answer.status_code == 302
    entry = LogEntry.objects.latest("id")
    assert (entry.user_id, entry.object_id) == (operator.pk, str(newest(model)))


def test_an_operator_runs_resolves_retries_pauses_and_cancels_through_the_api(
    everything: TwoSystems, member: Callable[[str], User]
) -> None:
    client = APIClient()
    client.force_login(member("Operator"))
    link, job = RecordLink.objects.get(reason="conflict"), Job.objects.latest("id")
    for path, data, code in (
        (f"links/{link.pk}/resolve", {"winner": "left"}, 200),
        (f"connections/{everything.integration.left_id}/check", {}, 200),
        (f"jobs/{job.pk}/cancel", {}, 200),
        (f"jobs/{job.pk}/retry", {}, 200),
        (f"integrations/{everything.integration.pk}/sync", {}, 202),
        (f"connections/{everything.integration.left_id}/pause", {}, 200),
    ):
        assert client.post(f"/api/v1/{path}/", data).status_code == code, path
    assert LogEntry.objects.filter(change_message__contains="through the API").count() == 6


def test_an_operator_changes_neither_settings_nor_credentials(
    everything: TwoSystems, member: Callable[[str], User]
) -> None:
    operator = member("Operator")
    api, pages = APIClient(), browser(operator)
    api.force_login(operator)
    integration, service = everything.integration, Service.objects.get()
    before = state()
    for method, path in (
        ("post", "connections"),
        ("patch", f"connections/{integration.left_id}"),
        ("put", f"connections/{integration.left_id}"),
        ("post", "presets/inolink/apply"),
        ("post", f"integrations/{integration.pk}/preferences"),
        ("patch", f"services/{service.pk}"),
        ("post", f"services/{service.pk}/copy"),
        ("post", "blackouts"),
        ("delete", f"blackouts/{newest(apps.get_model('scheduling', 'blackout'))}"),
        ("post", f"provisionings/{newest(apps.get_model('scheduling', 'provisioning'))}/approve"),
    ):
        assert getattr(api, method)(f"/api/v1/{path}/").status_code == 403, path
    for model in (Integration, Connection, EntitySync, FieldMapping, User, Group):
        url = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_change", args=[newest(model)])
        assert pages.post(url, {"name": "changed"}).status_code == 403, url
    for url in (
        reverse("admin:connectors_connection_add"),
        reverse("admin:connectors_integration_preset"),
        reverse("admin:scheduling_blackout_add"),
        reverse("admin:auth_user_add"),
    ):
        assert pages.post(url, {"name": "changed"}).status_code == 403, url
    assert state() == before


def test_an_administrator_changes_settings_and_makes_people_but_no_superuser(
    everything: TwoSystems, member: Callable[[str], User]
) -> None:
    boss = member("Administrator")
    root = User.objects.create_superuser("root", password="a long enough secret")
    api, pages = APIClient(), browser(boss)
    api.force_login(boss)
    answer = api.patch(f"/api/v1/connections/{everything.integration.left_id}/", {"name": "Books"})
    assert answer.status_code == 200
    assert "name: left → Books" in LogEntry.objects.latest("id").change_message
    assert pages.get(reverse("admin:auth_user_add")).status_code == 200
    assert pages.post(reverse("admin:auth_user_change", args=[root.pk]), {"username": "root"}).status_code == 403
    assert pages.post(reverse("admin:auth_user_delete", args=[root.pk]), {"post": "yes"}).status_code == 403
    somebody = User.objects.get(username="somebody")
    page = reverse("admin:auth_user_change", args=[somebody.pk])
    given = {"username": "somebody", "is_active": "on", "is_superuser": "on", "date_joined_0": "2026-03-01",
             "date_joined_1": "08:00:00", "groups": [Group.objects.get(name="Viewer").pk]}  # fmt: skip
    assert pages.post(page, given).status_code == 302
    somebody.refresh_from_db()
    assert (somebody.is_superuser, [str(group) for group in somebody.groups.all()]) == (False, ["Viewer"])


def test_every_right_of_our_models_is_in_a_group_and_a_taken_one_comes_back(db: None) -> None:
    ours = Permission.objects.filter(content_type__app_label__in=["config", "connectors", "jobs", "scheduling"])
    for row in ours.select_related("content_type"):
        name = f"{row.content_type.app_label}.{row.codename}"
        assert sorted(row.group_set.values_list("name", flat=True)) == sorted(groups_with(name)), name
    viewer = Group.objects.get(name="Viewer")
    viewer.permissions.remove(Permission.objects.get(codename="view_run"))
    give_rights(apps.get_app_config("connectors"))
    assert viewer.permissions.filter(codename="view_run").exists()
    assert set(GROUPS) <= set(Group.objects.values_list("name", flat=True))


def test_what_an_operator_may_do_names_rights_that_there_are(db: None) -> None:
    rows = Permission.objects.select_related("content_type")
    there = {f"{row.content_type.app_label}.{row.codename}" for row in rows}
    assert there >= OPERATES, OPERATES - there
    assert not scope_allows("operate", "connectors.change_connection")
    assert Run.objects.count() == 0
