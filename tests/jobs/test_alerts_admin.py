"""Can people say who is told, see what was told, and is a webhook's address never shown?"""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Permission, User
from django.urls import reverse

from connectors.models import Scope
from jobs import clock
from jobs.alerts import outbox
from jobs.housekeeping import failing
from jobs.models import Alert, AlertMessage, AlertRule
from tests.sync.worlds import TwoSystems

pytestmark = pytest.mark.django_db
URL = "https://hooks.example.com/T0/secretpart"
RULES = "admin:jobs_alertrule"


@pytest.fixture
def admin(client):
    client.force_login(User.objects.create_superuser("ada", "ada@hub.example", "x"))
    return client


@pytest.fixture
def viewer(client):
    user = User.objects.create_user("vic", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__startswith="view_", content_type__app_label="jobs"))
    client.force_login(user)
    return client


def entered(**columns):
    base = {
        "name": "Ops",
        "enabled": "on",
        "what": "failed",
        "more_than": 0,
        "to": "json",
        "addresses_text": "",
        "url": "",
    }
    return {**base, "signing_key": "", **columns}


def test_a_webhook_is_stored_encrypted_and_its_key_shown_once(admin):
    answer = admin.post(reverse(f"{RULES}_add"), entered(url=URL), follow=True)
    rule = AlertRule.objects.get()
    assert (rule.webhook()["url"], rule.host, rule.addresses) == (URL, "hooks.example.com", [])
    assert rule.webhook()["signing_key"] in answer.content.decode()
    for page in (reverse(f"{RULES}_changelist"), reverse(f"{RULES}_change", args=[rule.pk])):
        text = admin.get(page).content.decode()
        assert "secretpart" not in text and rule.webhook()["signing_key"] not in text


def test_an_empty_address_keeps_the_one_that_is_stored(admin):
    admin.post(reverse(f"{RULES}_add"), entered(url=URL))
    rule = AlertRule.objects.get()
    admin.post(reverse(f"{RULES}_change", args=[rule.pk]), entered(name="Ops 2"))
    rule.refresh_from_db()
    assert (rule.name, rule.webhook()["url"]) == ("Ops 2", URL)


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({}, "Enter the webhook&#x27;s address."),
        ({"url": "ftp://x"}, "it is not a plain https://host/path address"),
        ({"url": "http://169.254.169.254/latest"}, "it is a loopback, private, link-local or metadata address"),
        ({"to": "email"}, "Enter at least one address."),
        ({"to": "email", "addresses_text": "ada@hub.example\nnonsense"}, "nonsense is not an e-mail address."),
    ],
)
def test_what_can_not_be_is_refused_with_a_sentence(admin, columns, sentence):
    text = admin.post(reverse(f"{RULES}_add"), entered(**columns)).content.decode()
    assert sentence in text and not AlertRule.objects.exists()


def test_mail_rules_take_one_address_on_each_line(admin):
    admin.post(reverse(f"{RULES}_add"), entered(to="email", addresses_text="ada@hub.example\nbob@hub.example"))
    assert AlertRule.objects.get().addresses == ["ada@hub.example", "bob@hub.example"]


def test_a_test_message_goes_to_each_recipient(admin):
    rule = AlertRule.objects.create(name="Ops", what="failed", to="email", addresses=["a@hub.example", "b@hub.example"])
    answer = admin.post(reverse(f"{RULES}_do", args=[rule.pk, "test"]), follow=True)
    assert "2 test messages on the way; Messages shows what becomes of them." in answer.content.decode()
    assert list(AlertMessage.objects.values_list("kind", flat=True)) == ["test", "test"]


@pytest.mark.parametrize("page", ["alert", "alertmessage", "alertrule", "failing"])
def test_a_viewer_sees_the_lists_and_changes_nothing(viewer, page):
    rule = AlertRule.objects.create(name="Ops", what="failed", to="email", addresses=["a@hub.example"])
    now = clock.now()
    Alert.objects.create(rule=rule, cause="c", text="<b>bold</b>", opened_at=now, last_seen=now)
    outbox.put_test(rule)
    failing.failed(TwoSystems().scope, "<i>no answer</i>", now=now)
    text = viewer.get(reverse(f"admin:jobs_{page}_changelist")).content.decode()
    assert "<b>bold</b>" not in text and "<i>no answer</i>" not in text
    assert viewer.get(reverse(f"admin:jobs_{page}_add")).status_code == 403
    assert viewer.post(reverse(f"{RULES}_do", args=[rule.pk, "test"])).status_code == 403
    assert AlertMessage.objects.count() == 1


def test_resume_on_the_integrations_page_and_in_the_list(admin):
    world = TwoSystems()
    page = reverse("admin:connectors_integration_change", args=[world.integration.pk])
    assert "do/resume/" not in admin.get(page).content.decode()
    for _ in range(20):
        failing.failed(world.scope, "no answer", now=clock.now())
    text = admin.get(page).content.decode()
    assert "do/resume/" in text and "Paused by rule" in text
    admin.post(reverse("admin:connectors_integration_do", args=[world.integration.pk, "resume"]))
    assert Scope.objects.get().enabled
