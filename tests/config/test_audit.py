"""Does Django's own log say who did what, with before and after, and no secret?"""

from __future__ import annotations

import pytest
from django.contrib.admin.models import ADDITION, DELETION, LogEntry
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from rest_framework.test import APIClient

from config import audit
from connectors.models import Connection, RecordLink
from scheduling.models import Blackout
from tests.config.conftest import PASSWORD
from tests.sync.worlds import TwoSystems

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def boss(db: None) -> User:
    return User.objects.create_superuser("boss", password=PASSWORD)


@pytest.fixture
def browser(boss: User) -> Client:
    client = Client()
    client.force_login(boss)
    return client


@pytest.fixture
def api(boss: User) -> APIClient:
    client = APIClient()
    client.force_login(boss)
    return client


def told() -> str:
    return LogEntry.objects.latest("id").change_message


def test_a_button_says_what_was_before_and_after(everything: TwoSystems, browser: Client) -> None:
    browser.post(reverse("admin:connectors_integration_do", args=[everything.integration.pk, "disable"]))
    assert told() == "Pause. enabled: yes → no; off reason: – → by boss"


def test_a_refused_button_is_not_logged(everything: TwoSystems, browser: Client) -> None:
    link = RecordLink.objects.filter(pending=None).first()
    browser.post(reverse("admin:connectors_recordlink_do", args=[link.pk, "resolve_left"]))
    assert not LogEntry.objects.exists()


def test_a_decision_about_several_records_is_logged_for_each(everything: TwoSystems, browser: Client) -> None:
    links = list(RecordLink.objects.filter(pending=None)[:3])
    rows = {"action": "hold_all", "_selected_action": [link.pk for link in links]}
    browser.post(reverse("admin:connectors_recordlink_changelist"), rows)
    entries = LogEntry.objects.all()
    assert sorted(entry.object_id for entry in entries) == sorted(str(link.pk) for link in links)
    assert all("reason: – → held" in entry.change_message for entry in entries)


def test_the_api_logs_changes_additions_and_deletions_but_no_previews(everything: TwoSystems, api: APIClient) -> None:
    given = {"name": "Closed", "first": "2026-05-01", "last": "2026-05-01", "integration": everything.integration.pk}
    made = api.post("/api/v1/blackouts/", given).json()["id"]
    assert LogEntry.objects.latest("id").action_flag == ADDITION
    api.patch(f"/api/v1/blackouts/{made}/", {"last": "2026-05-02"})
    assert told() == "Partial update through the API. last: 2026-05-01 → 2026-05-02"
    api.delete(f"/api/v1/blackouts/{made}/")
    assert LogEntry.objects.latest("id").action_flag == DELETION
    assert LogEntry.objects.latest("id").object_repr == "Closed" or not Blackout.objects.filter(pk=made).exists()
    count = LogEntry.objects.count()
    service = api.get("/api/v1/services/").json()["results"][0]["id"]
    assert api.post(f"/api/v1/services/{service}/preview/", {}).status_code in (200, 400)
    assert api.patch(f"/api/v1/blackouts/{made}/", {}).status_code == 404
    assert LogEntry.objects.count() == count


def test_the_line_of_a_deleted_object_has_its_key(everything: TwoSystems, api: APIClient) -> None:
    given = {"name": "A rule", "what": "failed", "to": "email", "addresses": ["ada@example.com"]}
    rule = api.post("/api/v1/alert-rules/", given, format="json").json()["id"]
    held = api.post("/api/v1/pauses/", {"kind": "hub", "reason": "The books are closed."}).json()["id"]
    for address in (f"alert-rules/{rule}", f"pauses/{held}"):
        assert api.delete(f"/api/v1/{address}/").status_code == 204
    entries = LogEntry.objects.filter(action_flag=DELETION).order_by("id")
    assert list(entries.values_list("content_type__model", "object_id")) == [
        ("alertrule", str(rule)),
        ("pause", str(held)),
    ]


def test_no_secret_and_no_records_content_gets_into_the_log(everything: TwoSystems, api: APIClient) -> None:
    connection = Connection.objects.create(system="dynamics365", name="CRM")
    secret = {"client_id": "an-id", "client_secret": "hush-9"}
    assert api.patch(f"/api/v1/connections/{connection.pk}/", {"secret": secret, "name": "Sales"}).status_code == 200
    link = RecordLink.objects.get(reason="conflict")
    assert api.post(f"/api/v1/links/{link.pk}/resolve/", {"winner": "left"}).status_code == 200
    log = " ".join(LogEntry.objects.values_list("change_message", flat=True))
    assert "name: CRM → Sales" in log and "reason: conflict → " in log
    assert not [word for word in ("hush-9", "Rome", "Oslo", "secret") if word in log]
    before = {"settings": {"url": "https://u:p@example.com/?sig=abc", "long": "x" * 500}}
    told = audit.differences(before, {"settings": {}})
    assert "sig=abc" not in told and "u:p@" not in told and len(told) < 200


def test_nobody_edits_the_log(everything: TwoSystems, browser: Client, boss: User) -> None:
    browser.post(reverse("admin:connectors_integration_do", args=[everything.integration.pk, "disable"]))
    entry = LogEntry.objects.latest("id")
    page = browser.get(reverse("admin:admin_logentry_changelist")).content.decode()
    assert "enabled: yes → no" in page and "boss" in page
    assert browser.get(reverse("admin:admin_logentry_change", args=[entry.pk])).status_code == 200
    for url in (
        reverse("admin:admin_logentry_add"),
        reverse("admin:admin_logentry_change", args=[entry.pk]),
        reverse("admin:admin_logentry_delete", args=[entry.pk]),
    ):
        assert browser.post(url, {"post": "yes", "change_message": "x"}).status_code == 403
    rows = {"action": "delete_selected", "_selected_action": [entry.pk], "post": "yes"}
    browser.post(reverse("admin:admin_logentry_changelist"), rows)
    assert LogEntry.objects.get().change_message == entry.change_message
