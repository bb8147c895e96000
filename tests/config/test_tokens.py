"""Do API tokens let in whom they should, as far as their scope reaches and as long as they last, and show themselves once?"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from io import StringIO

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from rest_framework.test import APIClient

from config.models import ApiToken, digest
from config.rest import WrongTokens
from jobs import clock
from tests.config.addresses import UNSAFE, api_addresses, state
from tests.config.conftest import PASSWORD
from tests.sync.worlds import TwoSystems

pytestmark = pytest.mark.django_db(transaction=True)
JOBS = "/api/v1/jobs/"
Bearer = Callable[..., APIClient]


def sending(text: str) -> APIClient:
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {text}")
    return client


@pytest.fixture
def boss(db: None) -> User:
    return User.objects.create_superuser("boss", password=PASSWORD)


def test_only_a_hash_is_stored_and_the_text_opens_the_api(boss: User) -> None:
    token, text = ApiToken.objects.issue(boss, "grafana")
    assert text.startswith("syn_") and len(text) > 40
    [row] = ApiToken.objects.values()
    assert text not in str(row)
    assert (row["digest"], row["prefix"]) == (digest(text), text[:10])
    assert row["expires_at"] - row["created_at"] == timedelta(days=90)
    assert sending(text).get(JOBS).status_code == 200
    assert str(token) == f"grafana ({text[:10]}…)"


@pytest.mark.parametrize("text", ["syn_wrong", "", "syn_" + "x" * 43, "\xff\xfe"])
def test_a_wrong_token_is_told_so_with_the_scheme_to_use(boss: User, text: str) -> None:
    answer = sending(text).get(JOBS)
    assert (answer.status_code, answer["WWW-Authenticate"]) == (401, "Bearer")
    assert "unknown, expired or revoked" in answer.json()["detail"]


@pytest.mark.parametrize("end", ["expired", "revoked", "inactive"])
def test_a_token_ends(boss: User, end: str) -> None:
    token, text = ApiToken.objects.issue(boss, "a test")
    assert sending(text).get(JOBS).status_code == 200
    if end == "expired":
        ApiToken.objects.update(expires_at=clock.now() - timedelta(seconds=1))
    elif end == "revoked":
        assert token.revoke() and not token.revoke()
    else:
        User.objects.update(is_active=False)
    assert sending(text).get(JOBS).status_code == 401


def test_its_use_is_written_at_most_once_a_minute(boss: User) -> None:
    _token, text = ApiToken.objects.issue(boss, "a test")
    client = sending(text)
    client.get(JOBS)
    first = ApiToken.objects.get().last_used_at
    with CaptureQueriesContext(
        connection,
    ) as asked:
        client.get(JOBS)
    assert not [query for query in asked if query["sql"].startswith("UPDATE")]
    ApiToken.objects.update(last_used_at=first - timedelta(minutes=2))
    client.get(JOBS)
    assert ApiToken.objects.get().last_used_at > first


def test_many_wrong_tokens_from_one_address_are_asked_to_wait(boss: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WrongTokens, "rate", "3/min")
    caller = {"REMOTE_ADDR": "192.0.2.7"}
    client = sending("syn_wrong")
    assert [client.get(JOBS, **caller).status_code for _ in range(5)] == [401, 401, 401, 429, 429]
    _token, text = ApiToken.objects.issue(boss, "a test")
    assert sending(text).get(JOBS, **caller).status_code == 200
    assert sending("syn_wrong").get(JOBS, REMOTE_ADDR="192.0.2.8").status_code == 401


def test_a_token_of_scope_read_reads_everything_and_writes_nothing(
    everything: TwoSystems, boss: User, bearer: Bearer
) -> None:
    client = bearer(boss, "read")
    before, refused = state(), 0
    for address in api_addresses():
        for method in address.methods:
            answer = getattr(client, method)(address.url)
            if method in UNSAFE:
                assert (answer.status_code, "only read" in answer.json()["detail"]) == (403, True), address
                refused += 1
    assert refused > 40
    assert state() == before


def test_a_token_of_scope_operate_acts_but_changes_no_setting_even_of_a_superuser(
    everything: TwoSystems, boss: User, bearer: Bearer
) -> None:
    client, integration = bearer(boss, "operate"), everything.integration
    assert client.post(f"/api/v1/integrations/{integration.pk}/sync/").status_code == 202
    assert client.post(f"/api/v1/connections/{integration.left_id}/pause/").status_code == 200
    assert client.patch(f"/api/v1/connections/{integration.left_id}/", {"name": "x"}).status_code == 403
    assert client.post("/api/v1/blackouts/", {}).status_code == 403
    assert client.post(f"/api/v1/integrations/{integration.pk}/preferences/", {}).status_code == 403
    told = LogEntry.objects.latest("id").change_message
    assert told.startswith("Pause through the API with the token a test (syn_")
    assert "state: connected → paused" in told or "state: new → paused" in told


def test_a_token_reaches_no_further_than_its_person(
    everything: TwoSystems, member: Callable[[str], User], bearer: Bearer
) -> None:
    client = bearer(member("Viewer"), "administer")
    assert client.get(JOBS).status_code == 200
    assert client.post(f"/api/v1/integrations/{everything.integration.pk}/sync/").status_code == 403


def test_people_make_list_and_revoke_their_own_tokens(boss: User, member: Callable[[str], User]) -> None:
    ApiToken.objects.issue(boss, "of somebody else")
    operator, client = member("Operator"), APIClient()
    client.force_login(operator)
    answer = client.post("/api/v1/tokens/", {"name": "nightly", "scope": "operate", "days": 7})
    assert answer.status_code == 201
    made = answer.json()
    other = sending(made["token"])
    rows = other.get("/api/v1/tokens/").json()["results"]
    assert [(row["name"], row["scope"], row["state"]) for row in rows] == [("nightly", "operate", "Active")]
    assert made["token"] not in str(rows)
    foreign = ApiToken.objects.get(user=boss)
    assert client.post(f"/api/v1/tokens/{foreign.pk}/revoke/").status_code == 404
    assert other.post("/api/v1/tokens/", {"name": "longer"}).status_code == 403
    assert client.post("/api/v1/tokens/", {"name": "n", "days": 367}).status_code == 400
    assert client.post(f"/api/v1/tokens/{made['id']}/revoke/").json()["state"] == "Revoked"
    assert other.get(JOBS).status_code == 401


def test_the_admin_shows_a_new_token_once_and_revokes_it(boss: User, client: Client) -> None:
    client.force_login(boss)
    given = {"name": "grafana", "user": boss.pk, "scope": "read", "days": 30}
    page = client.post(reverse("admin:config_apitoken_add"), given)
    token = ApiToken.objects.get()
    text = page.content.decode().split('<code id="token">')[1].split("<")[0]
    assert digest(text) == token.digest
    assert text not in str(client.cookies) + str(dict(client.session))
    assert "no-store" in page["Cache-Control"]
    for url in (
        reverse("admin:config_apitoken_changelist"),
        reverse("admin:config_apitoken_change", args=[token.pk]),
        reverse("admin:admin_logentry_changelist"),
    ):
        shown = client.get(url)
        assert (shown.status_code, text in shown.content.decode()) == (200, False)
    client.post(reverse("admin:config_apitoken_do", args=[token.pk, "revoke"]))
    assert ApiToken.objects.get().state == "Revoked"
    assert sending(text).get(JOBS).status_code == 401


def test_an_operator_makes_tokens_for_nobody_else_and_revokes_no_other(
    boss: User, member: Callable[[str], User], client: Client
) -> None:
    foreign, text = ApiToken.objects.issue(boss, "of the boss")
    client.force_login(member("Operator"))
    given = {"name": "mine", "user": boss.pk, "scope": "administer", "days": 30}
    assert client.post(reverse("admin:config_apitoken_add"), given).status_code == 200  # the form again
    assert ApiToken.objects.count() == 1
    assert client.post(reverse("admin:config_apitoken_do", args=[foreign.pk, "revoke"])).status_code == 403
    assert sending(text).get(JOBS).status_code == 200


def command(*words: str) -> str:
    out = StringIO()
    call_command("api_token", *words, stdout=out)
    return out.getvalue().strip()


def test_the_command_makes_lists_and_revokes(boss: User) -> None:
    text = command("create", "boss", "--name", "grafana", "--scope", "read", "--days", "30")
    assert sending(text).get(JOBS).status_code == 200
    listed = command("list")
    assert "grafana\tboss\tread\tActive" in listed and text not in listed
    assert "is revoked" in command("revoke", text[:10])
    assert sending(text).get(JOBS).status_code == 401
    for words in (
        ("create", "nobody", "--name", "x"),
        ("create", "boss", "--name", "x", "--days", "400"),
        ("revoke", "syn_nothere"),
        ("revoke", text[:10]),
    ):
        with pytest.raises(CommandError):
            command(*words)
