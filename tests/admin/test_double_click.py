"""Does a double click start one job, whichever button, form or action it was?  Two requests to a running server."""

from __future__ import annotations

import re
import threading
from collections import Counter
from datetime import timedelta
from html import unescape

import pytest
import requests
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client, RequestFactory
from django.urls import reverse
from django.utils import timezone

from config import once
from config.models import ApiToken, SentForm
from connectors.admin.base import Pressable
from connectors.models import Event, Integration, ProblemGroup
from jobs.models import AlertRule, Job, JobTransition
from scheduling.models import Blackout
from tests.admin.test_stale import form_of, url_of
from tests.config.addresses import newest
from tests.config.conftest import everything, member
from tests.sync.worlds import TwoSystems

__all__ = ["everything", "member"]  # fixtures
pytestmark = pytest.mark.django_db(transaction=True)
HEADERS = {"Sec-Fetch-Dest": "document", "Sec-Fetch-Mode": "navigate"}
COUNTED = (Job, JobTransition, LogEntry, Event, Blackout, ApiToken, AlertRule, User)


class Person:
    """Somebody's browser, as far as two quick clicks need one."""

    def __init__(self, url: str, user: User) -> None:
        client = Client()
        client.force_login(user)
        self.url = url
        self.cookies = {name: morsel.value for name, morsel in client.cookies.items()}
        self.cookies["csrftoken"] = "c" * 32

    def open(self, path: str) -> str:
        answer = requests.get(self.url + path, cookies=self.cookies, timeout=60)
        assert answer.status_code == 200, (path, answer.status_code)
        return answer.text

    def post(self, path: str, given: dict[str, object]) -> requests.Response:
        """Send it; what it leads to is not followed."""
        headers = {**HEADERS, "Referer": self.url + path}
        url = self.url + path
        return requests.post(url, given, cookies=self.cookies, headers=headers, allow_redirects=False, timeout=60)

    def twice(self, path: str, given: dict[str, object]) -> list[requests.Response]:
        """Send it twice: at the same moment, where the database of the tests can have two users (SQLite's in memory can't)."""
        if connection.vendor != "postgresql":
            return [self.post(path, given) for _ in range(2)]
        start, found = threading.Barrier(2), []

        def one() -> None:
            start.wait()
            found.append(self.post(path, given))

        threads = [threading.Thread(target=one) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(found) == 2
        return found


@pytest.fixture
def boss(live_server, everything: TwoSystems) -> Person:  # type: ignore[no-untyped-def]
    return Person(live_server.url, User.objects.create_superuser("root", password="a long enough secret"))


def counts() -> Counter[str]:
    return Counter({model._meta.label: model._default_manager.count() for model in COUNTED})


def token_in(page: str) -> str:
    found = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
    assert found, "no form on the page"
    return found[1]


def pages_with_buttons() -> list[tuple[str, str]]:
    """(page, address) of every button that some page shows at present."""
    found = []
    for model, page in admin.site._registry.items():
        if isinstance(page, Pressable) and page.buttons and model._default_manager.exists():
            for row in model._default_manager.order_by("-pk")[:3]:
                found += [
                    (url_of(row), url_of(row, "do", name))
                    for name in dict.fromkeys(b.name for b in page.buttons if b.shown(row))
                ]
    return found


def test_two_clicks_on_any_button_do_it_once(boss: Person, everything: TwoSystems) -> None:
    AlertRule.objects.create(name="Rule", what="failed", to="email", addresses=["a@example.com"])
    ApiToken.objects.issue(User.objects.get(username="root"), "A token")
    pressed = started = 0
    done: set[str] = set()
    for page, address in pages_with_buttons():
        kind = address.rstrip("/").rpartition("/")[2] + page.partition("/admin/")[2].split("/")[1]
        if kind in done or kind.startswith("connect"):
            continue
        done.add(kind)
        body = boss.open(page)
        if address not in body:
            continue  # pressed another one before, and it is not shown any more
        before = counts()
        answers = boss.twice(address, {"csrfmiddlewaretoken": token_in(body)})
        assert [answer.status_code for answer in answers] == [302, 302], address
        assert len({answer.headers["Location"] for answer in answers}) == 1, address
        new = counts() - before
        pressed += 1
        started += new["jobs.Job"]
        assert new["admin.LogEntry"] <= 1, (address, new)
        assert new["jobs.Job"] <= 1, (address, new)
        assert new["jobs.JobTransition"] <= 1 + new["jobs.Job"], (address, new)
    assert pressed > 9
    assert started >= 2


def test_two_clicks_on_go_of_any_bulk_action_do_it_once(boss: Person, everything: TwoSystems) -> None:
    seen = 0
    for model, page in admin.site._registry.items():
        for action in page.actions or ():
            row = newest(model)
            path = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
            body = boss.open(path)
            if f'value="{action}"' not in body or not model._default_manager.exists():
                continue
            before = counts()
            given = {
                "csrfmiddlewaretoken": token_in(body),
                "action": str(action),
                "_selected_action": str(row),
                "index": "0",
            }
            answers = boss.twice(path, given)
            assert all(answer.status_code in (200, 302) for answer in answers), (path, action)
            new = counts() - before
            seen += 1
            assert new["admin.LogEntry"] <= 1, (path, action, new)
            assert new["jobs.Job"] <= 1, (path, action, new)
    assert seen > 20


def test_two_clicks_on_save_make_one_row(boss: Person) -> None:
    path = reverse("admin:scheduling_blackout_add")
    body = boss.open(path)
    given = {
        **form_of(body),
        "csrfmiddlewaretoken": token_in(body),
        "name": "Easter",
        "kind": "dates",
        "first": "2026-04-05",
        "last": "2026-04-06",
    }
    answers = boss.twice(path, given)
    assert Blackout.objects.filter(name="Easter").count() == 1
    assert {answer.headers["Location"] for answer in answers} == {reverse("admin:scheduling_blackout_changelist")}
    path = reverse("admin:config_apitoken_add")
    body = boss.open(path)
    given = {**form_of(body), "csrfmiddlewaretoken": token_in(body), "name": "A program", "scope": "read", "days": "3"}
    boss.twice(path, given)
    assert ApiToken.objects.filter(name="A program").count() == 1


def test_the_second_click_is_told_so_and_led_where_the_first_one_was(boss: Person, everything: TwoSystems) -> None:
    page, address = url_of(everything.integration), url_of(everything.integration, "do", "sync_now")
    given: dict[str, object] = {"csrfmiddlewaretoken": token_in(boss.open(page)), "next": reverse("admin:index")}
    first, second = boss.post(address, given), boss.post(address, given)
    assert first.headers["Location"] == second.headers["Location"] == reverse("admin:index")
    boss.cookies |= second.cookies.get_dict()
    assert once.TWICE in unescape(boss.open(second.headers["Location"]))
    assert LogEntry.objects.filter(change_message__startswith="Sync now").count() == 1


def test_the_page_opened_again_may_do_it_again(boss: Person, everything: TwoSystems) -> None:
    page, address = url_of(everything.integration), url_of(everything.integration, "do", "sync_now")
    for _ in range(2):
        boss.post(address, {"csrfmiddlewaretoken": token_in(boss.open(page))})
    assert LogEntry.objects.filter(change_message__startswith="Sync now").count() == 2
    assert Job.objects.open().filter(dedupe_key__contains=":sync:").count() == 1, "one open job serves both"


def test_what_was_refused_may_be_sent_again(boss: Person, everything: TwoSystems) -> None:
    address = url_of(everything.integration, "do", "nothing")
    given: dict[str, object] = {"csrfmiddlewaretoken": token_in(boss.open(url_of(everything.integration)))}
    assert [boss.post(address, given).status_code for _ in range(2)] == [404, 404]
    assert not SentForm.objects.exists()


def test_a_button_that_was_refused_may_be_pressed_again_from_the_same_page(
    boss: Person, everything: TwoSystems
) -> None:
    page, address = url_of(everything.integration), url_of(everything.integration, "do", "sync_now")
    given: dict[str, object] = {"csrfmiddlewaretoken": token_in(boss.open(page))}
    Integration.objects.update(enabled=False)
    boss.post(address, given)
    logged = LogEntry.objects.filter(change_message__startswith="Sync now")
    assert not SentForm.objects.exists() and not logged.exists()
    Integration.objects.update(enabled=True)
    boss.post(address, given)
    assert logged.count() == 1


def test_another_file_of_the_same_name_and_size_is_another_form(everything: TwoSystems, rf: RequestFactory) -> None:
    def mark_of(content: bytes) -> str:
        request = rf.post("/admin/", {once.TOKEN: "x", "file": SimpleUploadedFile("a.csv", content)})
        request.user = User.objects.get(username="somebody")
        request.resolver_match = Client().get("/admin/login/").resolver_match
        found = once.mark(request)
        assert request.FILES["file"].read() == content, "the view reads it, too"
        return found

    assert mark_of(b"1,2") == mark_of(b"1,2") != mark_of(b"1,3")


def test_a_script_may_ask_as_often_as_it_likes_and_old_marks_go(everything: TwoSystems, rf: RequestFactory) -> None:
    request = rf.post("/admin/", {once.TOKEN: "x"}, headers={"Sec-Fetch-Dest": "empty"})
    request.user = User.objects.get(username="somebody")
    request.resolver_match = Client().get("/admin/login/").resolver_match
    assert once.mark(request) == ""
    del request.META["HTTP_SEC_FETCH_DEST"]
    del request.headers
    assert once.mark(request)
    SentForm.objects.create(digest="old", at=timezone.now() - once.KEPT - timedelta(minutes=1))
    middleware = once.Once(lambda given: None)  # type: ignore[arg-type, return-value]
    assert middleware.process_view(request) is None
    assert not SentForm.objects.filter(digest="old").exists()


def test_the_group_of_a_problem_is_retried_once(boss: Person, everything: TwoSystems) -> None:
    group = ProblemGroup.objects.filter(kind="records").first()
    assert group is not None
    body = boss.open(url_of(group))
    before = Job.objects.count()
    boss.twice(url_of(group, "do", "retry_reread"), {"csrfmiddlewaretoken": token_in(body)})
    assert Job.objects.count() - before <= 1
