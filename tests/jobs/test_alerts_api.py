"""Can programs say who is told, see what was told, and send again, and does no secret come out?"""

from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, User
from django.core.management import CommandError, call_command
from rest_framework.test import APIClient

from config.access import ADMINISTRATOR, OPERATOR, VIEWER
from connectors.models import Scope
from jobs import clock
from jobs.alerts import outbox
from jobs.alerts.rules import Known, Told, next_letter
from jobs.models import Alert, AlertMessage, AlertRule, Failing, Job
from jobs.states import StatusReason

pytestmark = pytest.mark.django_db
URL = "https://hooks.example.com/T0/secretpart"
RULES = "/api/v1/alert-rules/"


@pytest.fixture
def member(db):
    def log_in(group):
        user, _ = User.objects.get_or_create(username=group.lower())
        user.groups.add(Group.objects.get(name=group))
        client = APIClient()
        client.force_authenticate(user)
        return client

    return log_in


@pytest.fixture
def boss(member):
    return member(ADMINISTRATOR)


def rule(**columns):
    return AlertRule.objects.create(**{"name": "Ops", "what": "failed", "addresses": ["ada@hub.example"], **columns})


def alert(**columns):
    now = clock.now()
    made = {"rule": AlertRule.objects.first() or rule(), "cause": "x", "text": "It is wrong.", "opened_at": now}
    return Alert.objects.create(**{**made, "last_seen": now, **columns})


def test_a_webhook_goes_in_and_never_comes_out(boss):
    answer = boss.post(RULES, {"name": "Chat", "what": "failed", "to": "json", "url": URL}, format="json")
    assert answer.status_code == 201, answer.json()
    stored = AlertRule.objects.get()
    assert (stored.webhook()["url"], answer.json()["host"]) == (URL, "hooks.example.com")
    assert answer.json()["new_signing_key"] == stored.webhook()["signing_key"]
    for text in (answer.content, boss.get(RULES).content, boss.get(f"{RULES}{stored.pk}/").content):
        assert b"secretpart" not in text
    for text in (boss.get(RULES).content, *LogEntry.objects.values_list("change_message", flat=True)):
        assert stored.webhook()["signing_key"] not in str(text)


def test_what_is_left_out_of_a_change_stays(boss):
    made = boss.post(RULES, {"name": "Chat", "what": "failed", "to": "json", "url": URL}, format="json").json()
    before = AlertRule.objects.get().webhook()
    answer = boss.patch(f"{RULES}{made['id']}/", {"enabled": False}, format="json")
    assert (answer.status_code, answer.json()["enabled"], answer.json()["new_signing_key"]) == (200, False, "")
    assert AlertRule.objects.get().webhook() == before
    assert boss.delete(f"{RULES}{made['id']}/").status_code == 204


def test_a_rule_that_begins_to_sign_shows_its_key_and_one_that_mails_keeps_no_webhook(boss):
    made = boss.post(RULES, {"name": "Chat", "what": "failed", "to": "slack", "url": URL}, format="json").json()
    unseen = AlertRule.objects.get().webhook()["signing_key"]
    answer = boss.patch(f"{RULES}{made['id']}/", {"to": "json"}, format="json").json()
    stored = AlertRule.objects.get().webhook()
    assert stored == {"url": URL, "signing_key": answer["new_signing_key"]}
    assert answer["new_signing_key"] != unseen
    boss.patch(f"{RULES}{made['id']}/", {"to": "email", "addresses": ["ada@hub.example"]}, format="json")
    rule = AlertRule.objects.get()
    assert (rule.webhook(), rule.host) == ({}, "")
    answer = boss.patch(f"{RULES}{made['id']}/", {"to": "json"}, format="json")
    assert (answer.status_code, answer.json()) == (400, {"url": ["Enter the webhook's address."]})


@pytest.mark.parametrize(
    ("body", "key", "sentence"),
    [
        ({"to": "email"}, "addresses", "Enter at least one address."),
        ({"to": "email", "addresses": ["nonsense"]}, "addresses", "nonsense is not an e-mail address."),
        ({"to": "slack"}, "url", "Enter the webhook's address."),
        ({"to": "json", "url": "ftp://x"}, "url", "it is not a plain https://host/path address"),
        ({"to": "json", "url": "https://10.0.0.1/x"}, "url", "outside ALLOWED_PRIVATE_NETWORKS"),
        ({"to": "slack", "url": "http://169.254.169.254/latest"}, "url", "outside ALLOWED_PRIVATE_NETWORKS"),
        ({"what": "nonsense", "addresses": ["a@b.example"]}, "what", "is not a valid choice"),
        ({"name": "Ops", "addresses": ["a@b.example"]}, "name", "already exists"),
    ],
)
def test_what_can_not_be_is_refused_at_the_key(boss, body, key, sentence):
    rule()
    answer = boss.post(RULES, {"name": "New", "what": "failed", **body}, format="json")
    assert answer.status_code == 400
    assert sentence in answer.json()[key][0]
    assert AlertRule.objects.count() == 1


def test_a_test_message_goes_to_every_recipient(boss):
    made = rule(addresses=["a@hub.example", "b@hub.example"])
    answer = boss.post(f"{RULES}{made.pk}/test/")
    assert answer.status_code == 202
    assert AlertMessage.objects.filter(pk__in=answer.json()["messages"], kind="test").count() == 2


def test_a_message_that_was_not_delivered_is_sent_again(member):
    [message] = outbox.put_test(rule())
    url = f"/api/v1/alert-messages/{message.pk}/send-again/"
    operator = member(OPERATOR)
    assert operator.post(url).status_code == 409
    Job.objects.update(status_reason=StatusReason.FAILED, ready_at=None)
    outbox.give_up()
    assert operator.get("/api/v1/alert-messages/", {"status": "failed"}).json()["results"][0]["id"] == message.pk
    answer = operator.post(url)
    assert (answer.status_code, answer.json()["status"]) == (200, "waiting")
    assert LogEntry.objects.get().object_id == str(message.pk)


def test_an_alert_is_acknowledged_once_and_by_whom(member):
    made = alert()
    alert(cause="y", resolved_at=clock.now())
    operator = member(OPERATOR)
    assert [row["id"] for row in operator.get("/api/v1/alerts/", {"open": "true"}).json()["results"]] == [made.pk]
    url = f"/api/v1/alerts/{made.pk}/acknowledge/"
    assert operator.post(url).json()["acknowledged_by"] == "operator"
    again = operator.post(url)
    assert (again.status_code, "operator has acknowledged it already" in again.json()["detail"]) == (409, True)


def test_the_command_acknowledges_and_sends_again():
    made = alert()
    call_command("alerts", "acknowledge", str(made.pk))
    made.refresh_from_db()
    assert made.acknowledged_by == "command line"
    with pytest.raises(CommandError, match="has acknowledged it already"):
        call_command("alerts", "acknowledge", str(made.pk))
    with pytest.raises(CommandError, match="There is no alert message 99"):
        call_command("alerts", "send-again", "99")


def test_the_daily_digest_leaves_out_what_somebody_knows():
    now = clock.now()
    opened, digest = now - timedelta(days=3), now - timedelta(minutes=1)
    told = Told(opened, None, None)
    columns = ("x", "It is wrong.", 1, "", opened, False, 1, "")
    assert next_letter("Ops", [Known(*columns)], told, now, digest_at=digest) is not None
    assert next_letter("Ops", [Known(*columns, acknowledged=True)], told, now, digest_at=digest) is None


def test_an_integration_that_the_rule_has_paused_goes_on(member, pair):
    now = clock.now()
    Scope.objects.filter(pk=pair.scope.pk).update(enabled=False, failures=20)
    row = Failing.objects.create(scope=pair.scope, since=now, last_at=now, paused_at=now, probe_at=now)
    operator = member(OPERATOR)
    [listed] = operator.get("/api/v1/failing/", {"paused": "true"}).json()["results"]
    assert (listed["integration"], listed["failures"]) == (pair.integration.pk, 20)
    assert operator.post(f"/api/v1/failing/{row.pk}/resume/").json() == {"scope": pair.scope.pk}
    assert Scope.objects.get(pk=pair.scope.pk).enabled


@pytest.mark.parametrize("group", [VIEWER, OPERATOR])
def test_only_administrators_say_who_is_told(member, group):
    made, client = rule(), member(group)
    assert client.get(RULES).status_code == 200
    body = {"name": "New", "what": "failed", "addresses": ["a@b.example"]}
    assert client.post(RULES, body, format="json").status_code == 403
    assert client.patch(f"{RULES}{made.pk}/", {"enabled": False}, format="json").status_code == 403
    assert client.delete(f"{RULES}{made.pk}/").status_code == 403
    assert client.post(f"{RULES}{made.pk}/test/").status_code == 403


def test_a_viewer_acknowledges_and_sends_nothing(member, pair):
    made, viewer = alert(), member(VIEWER)
    [message] = outbox.put_test(AlertRule.objects.get())
    now = clock.now()
    row = Failing.objects.create(scope=pair.scope, since=now, last_at=now)
    for url in (
        f"alerts/{made.pk}/acknowledge", f"alert-messages/{message.pk}/send-again", f"failing/{row.pk}/resume",
    ):  # fmt: skip
        assert viewer.post(f"/api/v1/{url}/").status_code == 403, url
