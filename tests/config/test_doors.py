"""Who gets in without a login?  Nobody, save for health; and who fails to log in too often waits."""

from __future__ import annotations

from datetime import timedelta

import pytest
from axes.models import AccessAttempt
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from config.access import client_address
from config.models import ApiToken
from jobs.models import Job
from tests.config.addresses import UNSAFE, admin_addresses, api_addresses, state
from tests.config.conftest import PASSWORD
from tests.sync.worlds import TwoSystems

pytestmark = pytest.mark.django_db(transaction=True)
OPEN = ("/healthz", "/readyz")


def test_an_unauthenticated_client_gets_nothing_but_health(everything: TwoSystems) -> None:
    client, before = Client(), state()
    names = ["left", "right", "Person 001", "Something to be told", "host:1:abc", "Holiday"]
    addresses = [*admin_addresses(), *api_addresses()]
    assert len(addresses) > 180
    for address in addresses:
        for method in ("get", *UNSAFE):
            answer = getattr(client, method)(address.url)
            if address.url in OPEN:
                assert answer.status_code in (200, 503, 405), address
            elif address.name == "admin:login":
                assert answer.status_code in (200, 405), address
            elif address.name == "hook":  # systems send here, with a key of their own in the address
                assert answer.status_code in (401, 403, 404, 405), (method, answer.status_code)
            elif address.url.startswith(("/api/", "/metrics")):
                assert answer.status_code == (405 if address.url == "/metrics" and method != "get" else 401), address
            else:
                assert answer.status_code == 302, (method, address, answer.status_code)
                assert answer["Location"].startswith("/admin/"), address
            text = answer.content.decode()
            assert not [name for name in names if f">{name}<" in text or f'"{name}"' in text], address
    assert state() == before


def test_ten_failed_logins_lock_that_name_from_that_address_out_for_a_while(client: Client) -> None:
    User.objects.create_user("ada", password=PASSWORD, is_staff=True)
    User.objects.create_user("grace", password=PASSWORD, is_staff=True)

    def login(name: str, password: str, address: str = "192.0.2.1"):  # type: ignore[no-untyped-def]
        return client.post("/admin/login/", {"username": name, "password": password}, REMOTE_ADDR=address)

    answers = [login("ada", "wrong").status_code for _ in range(10)]
    assert answers == [*[200] * 9, 429]
    locked = login("ada", PASSWORD)
    assert locked.status_code == 429
    text = locked.content.decode()
    assert "Wait 15 minutes" in text and "axes_reset_username" in text
    assert login("grace", PASSWORD).status_code == 302
    client.logout()
    assert login("ada", PASSWORD, "192.0.2.2").status_code == 302
    client.logout()
    AccessAttempt.objects.update(attempt_time=timezone.now() - timedelta(minutes=16))
    assert login("ada", PASSWORD).status_code == 302


def test_an_administrator_lets_somebody_in_at_once_by_deleting_the_failures(client: Client) -> None:
    User.objects.create_user("ada", password=PASSWORD, is_staff=True)
    User.objects.create_superuser("boss", password=PASSWORD)
    for _ in range(10):
        client.post("/admin/login/", {"username": "ada", "password": "wrong"})
    boss = Client()
    boss.force_login(User.objects.get(username="boss"))
    attempt = AccessAttempt.objects.get()
    assert "ada" in boss.get("/admin/axes/accessattempt/").content.decode()
    boss.post(f"/admin/axes/accessattempt/{attempt.pk}/delete/", {"post": "yes"})
    assert client.post("/admin/login/", {"username": "ada", "password": PASSWORD}).status_code == 302


def test_the_callers_address_is_the_proxys_word_only_behind_a_proxy(rf, settings) -> None:  # type: ignore[no-untyped-def]
    request = rf.get("/", REMOTE_ADDR="10.0.0.1", HTTP_X_FORWARDED_FOR="1.2.3.4, 192.0.2.9")
    settings.BEHIND_PROXY = False
    assert client_address(request) == "10.0.0.1"
    settings.BEHIND_PROXY = True
    assert client_address(request) == "192.0.2.9"  # the last: what stands before it the client may have written


def test_a_session_writes_only_with_the_csrf_token(everything: TwoSystems) -> None:
    user = User.objects.create_superuser("boss", password=PASSWORD)
    client = Client(enforce_csrf_checks=True)
    client.force_login(user)
    url = f"/api/v1/integrations/{everything.integration.pk}/sync/"
    jobs = Job.objects.count()
    assert client.post(url, "{}", content_type="application/json").status_code == 403
    _token, text = ApiToken.objects.issue(user, "a test", scope="operate")
    bearer = {"HTTP_AUTHORIZATION": f"Bearer {text}"}
    assert client.post(url, "{}", content_type="application/json", **bearer).status_code == 202
    assert Job.objects.count() == jobs  # the same request that waited already


@pytest.mark.parametrize(
    "body", ['{"mode": "\\u0000"}', '{"mode": "\\ud800"}', "[" * 100_000, "{", '{"mode": NaN}', "9" * 5000]
)
def test_json_that_no_database_can_hold_is_a_bad_request(everything: TwoSystems, client: Client, body: str) -> None:
    client.force_login(User.objects.create_superuser("boss", password=PASSWORD))
    url = f"/api/v1/integrations/{everything.integration.pk}/sync/"
    assert client.post(url, body, content_type="application/json").status_code == 400


@pytest.mark.parametrize("cursor", ["x", "cD1hYmM=", "cD05OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5", "bz0tMQ=="])
def test_a_cursor_that_was_tampered_with_is_none(db: None, client: Client, cursor: str) -> None:
    client.force_login(User.objects.create_superuser("boss", password=PASSWORD))
    answer = client.get(f"/api/v1/events/?cursor={cursor}")
    assert answer.status_code in (200, 404)
    assert answer["Content-Type"] == "application/json"


def test_an_address_that_there_is_not_is_json_in_the_api_and_a_page_elsewhere(client: Client) -> None:
    assert client.get("/api/v1/nothing/").json()["detail"]
    assert client.get("/nothing/")["Content-Type"].startswith("text/html")
