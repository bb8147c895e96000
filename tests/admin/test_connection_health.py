"""Does the health page tell how a connection works, to whom it may, and as fast with a long log as with a short one?"""

from __future__ import annotations

import json
import re
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.core.management import call_command
from django.db import connection as database
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from rest_framework.test import APIClient

from connectors.hooks import hook_of, path_of
from connectors.models import ApiCall, Budget, Connection, HookMark, LastCheck
from connectors.quickbooks.simulator import QuickBooksSimulator
from connectors.transport import check, curl, figures, testing
from connectors.transport.budget import window
from jobs import clock
from tests.acceptance.conftest import connection_to

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def books():
    with QuickBooksSimulator(records=3, seed=3) as simulator:
        made = connection_to(simulator, "Books")
        made.simulator = simulator
        yield made


def page(name, *args):
    return reverse(f"admin:connectors_connection_{name}", args=args)


def log(connection, *calls, ago=timedelta(minutes=1)):
    """Write calls of (status, ms) into the request log."""
    at = clock.now() - ago
    return ApiCall.objects.bulk_create(
        ApiCall(connection=connection, at=at - timedelta(seconds=n), method="GET", path="/v3/x", status=status, ms=ms)
        for n, (status, ms) in enumerate(calls)
    )


def seen(connection):
    return figures.figures(Connection.objects.get(pk=connection.pk), clock.now())


# Figures


def test_figures_of_the_last_day_leave_older_calls_out(books):
    Connection.objects.update(state="connected")
    log(books, *[(200, ms) for ms in range(1, 101)], (429, 500), (0, 10_000))
    log(books, (500, 9999), ago=timedelta(hours=25))
    found = seen(books)
    assert (found.calls, found.errors, found.unanswered) == (102, 2, 1)
    assert (found.p50, found.p95) == (51, 96)  # of the calls that were answered
    assert sum(calls for _, calls, _ in found.hours) in (102, 101)  # the hour just before may be out of the 24
    assert len(found.hours) == 24 and found.capped_since is None


@pytest.mark.parametrize(
    ("values", "which", "expected"),
    [([], 50, None), ([7], 95, 7), ([1, 2], 50, 1), ([1, 2, 3, 4], 95, 4), (list(range(1, 101)), 95, 95)],
)
def test_percentiles_are_of_the_nearest_rank(values, which, expected):
    assert figures.percentile(values, which) == expected


def test_the_state_is_the_worst_of_what_is_known(books):
    now = clock.now()
    assert seen(books).word == "Not checked yet"
    check(books)
    Connection.objects.update(auth_expires_at=now + timedelta(days=31))
    assert seen(books).word == "Connected"
    Connection.objects.update(auth_expires_at=now + timedelta(days=29))
    assert (seen(books).word, "Connect again before that" in seen(books).reason) == ("Expiring", True)
    Budget.objects.update(hold_until=now + timedelta(minutes=5))
    assert seen(books).word == "Throttled"
    log(books, (0, 1), (0, 1), (0, 1), ago=-timedelta(seconds=10))
    assert seen(books).word == "Unreachable"
    Connection.objects.update(state="needs reconnect", reason="The token was revoked.")
    assert (seen(books).word, seen(books).reason) == ("Needs reconnect", "The token was revoked.")


def test_a_quota_counts_what_still_lies_in_the_sliding_window(books):
    now = clock.now()
    start = window(now, timedelta(minutes=1))
    Budget.objects.create(connection=books, limit="request", window_start=start, used=100, previous=200)
    half = {q.name: q for q in figures.figures(books, start + timedelta(seconds=30)).quotas}
    after = {q.name: q for q in figures.figures(books, start + timedelta(seconds=90)).quotas}
    later = {q.name: q for q in figures.figures(books, start + timedelta(seconds=130)).quotas}
    assert [found["request"].used for found in (half, after, later)] == [200, 50, 0]
    assert (half["batch"].used, half["batch"].amount, half["concurrent"].per) == (0, 40, None)


def test_a_check_stores_what_the_system_said(books):
    books.simulator.clock.advance(timedelta(minutes=5))
    check(books)
    stored = LastCheck.objects.get()
    assert 290 < stored.skew_seconds < 310
    assert "create" in stored.may["Customer"]
    check(books)
    assert LastCheck.objects.count() == 1


def test_a_long_log_costs_no_more_queries_than_a_short_one(books, boss):
    hook_of("quickbooks")
    counts = []
    for many in (40, 1000):
        log(books, *[(200, 5)] * many)
        boss.get(page("health", books.pk))
        with CaptureQueriesContext(database) as queries:
            assert boss.get(page("health", books.pk)).status_code == 200
        counts.append(len(queries))
    assert counts[0] == counts[1]


def test_of_a_very_busy_day_the_newest_calls_are_counted_and_it_says_so(books, boss, monkeypatch):
    monkeypatch.setattr(figures, "NEWEST", 50)
    log(books, *[(200, 5)] * 80)
    assert seen(books).calls == 50 and seen(books).capped_since
    assert "of the newest 50, since" in boss.get(page("health", books.pk)).content.decode()


# The page


def test_the_log_shows_errors_alone_and_nonsense_as_everything(books, boss):
    log(books, (200, 5), (503, 5), (0, 5), (200, 2000))
    for show, rows in (("errors", 2), ("slow", 1), ("writes", 0), ("", 4), ("nonsense", 4)):
        answer = boss.get(page("health", books.pk), {"show": show, "p": "999"})
        assert len(answer.context["calls"]) == rows


def test_a_viewer_sees_the_page_and_may_press_nothing(books, viewer):
    hook = hook_of("quickbooks")
    text = viewer.get(page("health", books.pk)).content.decode()
    assert hook.key not in text and 'name="verifiers"' not in text and "data-steps" not in text
    for name in ("test", "webhooks"):
        assert viewer.post(page(name, books.pk), {"rotate": "1", "verifiers": "x"}).status_code == 403
    assert viewer.post(page("do", books.pk, "connect")).status_code == 403
    assert viewer.get(page("callback"), {"state": "x", "code": "y"}).status_code == 403
    [call] = log(books, (200, 5))
    assert viewer.get(page("call", books.pk, call.pk)).status_code == 200
    assert viewer.post(page("call", books.pk, call.pk)).status_code == 403
    hook.refresh_from_db()
    assert not hook.secret and not hook.old_key


def test_bodies_are_nowhere_but_behind_reveal_and_each_look_is_logged(books, client, person):
    [call] = log(books, (200, 5))
    ApiCall.objects.filter(pk=call.pk).update(body="> canary-body")
    ada = person("view_connection", "view_apicall", "reveal_apicall")
    client.force_login(ada)
    api = APIClient()
    api.force_login(ada)
    for where in (
        page("health", books.pk), page("call", books.pk, call.pk), reverse("admin:connectors_apicall_changelist"),
        reverse("admin:connectors_apicall_change", args=[call.pk]),
    ):  # fmt: skip
        answer = client.get(where)
        assert answer.status_code == 200 and "canary-body" not in answer.content.decode()
    assert "canary-body" not in json.dumps(api.get(f"/api/v1/api-calls/{call.pk}/").json())
    assert not LogEntry.objects.exists()
    assert "canary-body" in client.post(page("call", books.pk, call.pk)).content.decode()
    assert api.post(f"/api/v1/api-calls/{call.pk}/reveal/").json()["body"] == "> canary-body"
    assert LogEntry.objects.filter(object_id=str(call.pk), user=ada).count() == 2


def test_a_call_is_shown_under_its_own_connection_only(books, boss):
    other = Connection.objects.create(system="quickbooks", name="Other")
    [call] = log(other, (200, 5))
    assert boss.get(page("call", books.pk, call.pk)).status_code == 404


def test_curl_repeats_a_call_without_secrets(books):
    path = "/v3/company/1/query?query=select * from Customer where Name = '…'&minorversion=75"
    told = curl.command(ApiCall(method="GET", path=path), books)
    assert told.startswith(f"curl -X GET '{books.simulator.url}/v3/company/1/query?query=select%20*%20from%20Customer")
    assert "%27…%27&minorversion=75" in told and '-H "Authorization: Bearer $TOKEN"' in told
    assert books.get_secret()["client_secret"] not in told
    posted = curl.command(ApiCall(method="POST", path="/v3/a'; rm -rf /"), books)
    assert "--data @body.json" in posted and "'; rm" not in posted


def test_the_verifier_is_stored_and_never_shown(books, boss):
    where = page("webhooks", books.pk)
    assert "Enter the verifier token" in boss.post(where, {"verifiers": " "}, follow=True).content.decode()
    shown = boss.post(where, {"verifiers": "hush-1, hush-2"}, follow=True).content.decode()
    hook = hook_of("quickbooks")
    assert list(hook.verifiers()) == ["hush-1", "hush-2"]
    assert "hush" not in shown and path_of(hook) in shown
    before = hook.key
    boss.post(where, {"rotate": "1"})
    hook.refresh_from_db()
    assert (hook.old_key, list(hook.verifiers())) == (before, ["hush-1", "hush-2"])
    told = " ".join(LogEntry.objects.values_list("change_message", flat=True))
    assert "Token stored." in told and "Webhook address renewed." in told and "hush" not in told


def test_webhooks_last_seen_are_of_this_very_connection(books, boss):
    hook_of("quickbooks")
    other = Connection.objects.create(system="quickbooks", name="Other")
    HookMark.objects.create(connection=other, last_heard_at=clock.now())
    assert seen(books).heard_at is None and seen(other).heard_at


# The test in steps


def outcomes(connection):
    return {step.name: step.outcome for step in testing.examine(Connection.objects.get(pk=connection.pk))}


def test_all_steps_of_a_good_connection_succeed_and_nothing_is_written(books):
    assert set(outcomes(books).values()) == {"ok"}
    assert not any(call.creates or call.updates or call.deletes for call in books.simulator.journal)
    words = {step.name: step.words for step in testing.examine(books)}
    assert "without encryption" in words["tls"] and "entities can be written" in words["write"]


@pytest.mark.parametrize(
    ("setting", "value", "failing", "words"),
    [
        ("api_base", "https://no-such-host.invalid", "dns", "can't be resolved"),
        ("api_base", "http://10.9.8.7", "dns", "is refused"),
        ("api_base", "http://127.0.0.1:1", "tls", "could not be connected to"),
        ("realm", "77", "read", ""),
    ],
)
def test_the_step_that_fails_is_named_and_later_ones_are_not_tried(books, setting, value, failing, words):
    Connection.objects.update(settings={**books.settings, setting: value})
    steps = list(testing.examine(Connection.objects.get()))
    order = [step.name for step in steps]
    at = order.index(failing)
    assert [step.outcome for step in steps] == ["ok"] * at + ["failed"] + ["not tried"] * (len(steps) - at - 1)
    assert words in steps[at].words


def test_revoked_consent_fails_at_the_login(books):
    books.simulator.tokens.revoke_all()
    found = outcomes(books)
    assert (found["tls"], found["login"], found["read"]) == ("ok", "failed", "not tried")


def test_a_step_that_nobody_knows_is_not_found(books, boss):
    assert boss.post(page("test", books.pk), {"step": "nonsense"}).status_code == 404
    assert boss.get(page("test", books.pk)).status_code == 405
    whole = boss.post(page("test", books.pk)).content.decode()  # without a script: all steps at once
    assert len(re.findall(r"sl-badge sl-good.*?>OK<", whole)) == 5


# API and commands


def test_api_and_command_tell_the_same_figures(books, person, capsys):
    check(books)
    client = APIClient()
    ada = person("view_connection", "operate_connection")
    client.force_login(ada)
    told = client.get(f"/api/v1/connections/{books.pk}/health/").json()
    call_command("connection_health", "Books", "--json")
    [printed] = json.loads(capsys.readouterr().out)
    same = ("state", "calls_24h", "errors_24h", "p95_ms", "auth")
    assert {key: told[key] for key in same} == {key: printed[key] for key in same}
    steps = client.post(f"/api/v1/connections/{books.pk}/test/").json()
    assert [step["outcome"] for step in steps] == ["ok"] * 5
    assert client.post(f"/api/v1/connections/{books.pk}/webhooks/", {"rotate": True}).status_code == 403


def test_the_command_fails_when_a_step_does(books, capsys):
    call_command("connection_health", "--test")
    assert "Write permission: ok" in capsys.readouterr().out
    books.simulator.tokens.revoke_all()
    Connection.objects.get().update_secret(access_token="gone")
    with pytest.raises(SystemExit):
        call_command("connection_health", "--test")


def test_the_webhook_command_reads_the_token_from_standard_input(db, capsys, monkeypatch):
    import io

    monkeypatch.setattr("sys.stdin", io.StringIO("hush-1\n"))
    call_command("webhooks", "quickbooks", "--verifier")
    hook = hook_of("quickbooks")
    assert list(hook.verifiers()) == ["hush-1"]
    out = capsys.readouterr().out
    assert path_of(hook) in out and "hush" not in out


def test_keys_are_rotated_for_verifier_tokens_too(db, settings, capsys):
    from cryptography.fernet import Fernet

    hook = hook_of("quickbooks")
    hook.set_verifiers(["one", "two"])
    settings.CREDENTIAL_KEYS = [Fernet.generate_key().decode(), *settings.CREDENTIAL_KEYS]
    call_command("rotate_credentials")
    assert "1 rotated" in capsys.readouterr().out
    settings.CREDENTIAL_KEYS = settings.CREDENTIAL_KEYS[:1]
    hook.refresh_from_db()
    assert list(hook.verifiers()) == ["one", "two"]


# The form


def test_an_environment_sets_its_hosts_and_contradictions_get_a_message(books, boss):
    where = page("change", books.pk)
    fields = boss.get(where).context["adminform"].form.fields
    shown = {name: field.initial or "" for name, field in fields.items() if name.startswith("setting_")}
    given = {"name": "Books", "environment": "Sandbox", **shown}
    again = {f"secret_{name}": "x" for name in ("client_id", "client_secret")}
    own = boss.post(where, {**given, **again, "setting_api_base": "https://elsewhere.example.com"}).content.decode()
    assert "Sandbox is at https://sandbox-quickbooks.api.intuit.com. Choose one or the other." in own
    assert "enter the credentials again" in boss.post(where, given).content.decode()
    assert boss.post(where, {**given, **again}).status_code == 302
    row = Connection.objects.get()
    assert row.settings["api_base"] == "https://sandbox-quickbooks.api.intuit.com"
    assert dict(row.get_secret()) == {
        "client_id": "x",
        "client_secret": "x",
    }  # the old refresh token went with its host
    assert boss.get(where).context["adminform"].form.fields["environment"].initial == "Sandbox"


def test_who_logs_in_is_one_of_two(db, person):
    made = Connection.objects.create(system="dynamics365", name="CRM", settings={"org_url": "https://crm.example.com"})
    client = APIClient()
    client.force_login(person("view_connection", "change_connection"))
    url, settings = f"/api/v1/connections/{made.pk}/", made.settings
    refused = client.patch(url, {"settings": {**settings, "login": "nobody"}})
    assert (refused.status_code, "It is one of: application, person." in str(refused.json())) == (400, True)
    assert client.patch(url, {"settings": {**settings, "login": "person"}}).status_code == 200
