"""Can a person, a program and a shell see problems by cause, mend one in place, and try a whole group again?"""

from __future__ import annotations

import json
from collections.abc import Callable
from io import StringIO

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection as database
from django.http import HttpResponse
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from connectors.models import Connection, PicklistMapping, ProblemGroup, RecordLink
from connectors.sync.plan import Pending
from connectors.sync.problems import hint_of
from jobs import problems
from jobs.models import Job
from jobs.states import StatusReason
from tests.admin.conftest import HOSTILE
from tests.sync.test_problems import failed, group, parked
from tests.sync.worlds import TwoSystems

pytestmark = pytest.mark.django_db(transaction=True)
LIST = "admin:connectors_problemgroup_changelist"


def page_of(one: ProblemGroup) -> str:
    return reverse("admin:connectors_problemgroup_change", args=[one.pk])


def press(client: Client, one: ProblemGroup, button: str, **given: str) -> str:
    url = reverse("admin:connectors_problemgroup_do", args=[one.pk, button])
    return client.post(url, given, follow=True).content.decode()


def test_the_list_shows_open_problems_with_cause_count_and_times(boss: Client, db: None) -> None:
    parked(3)
    page = boss.get(reverse(LIST)).content.decode()
    assert "&#x27;Partner&#x27; has no partner in kind on the right" in page
    assert "3 records of person" in page
    assert ">Ongoing</span>" in page
    problems.resolve(group(), by="ada")
    assert "has no partner" not in boss.get(reverse(LIST)).content.decode()
    assert "has no partner" in boss.get(reverse(LIST) + "?state=resolved").content.decode()


def test_the_page_says_what_helps_and_offers_the_three_retries(boss: Client, db: None) -> None:
    parked(3)
    page = boss.get(page_of(group())).content.decode()
    for words in ("What helps:", "Retry as it was", "Retry with today&#x27;s mapping", "Read again and plan again", "Odd 0",
                  "“Partner” on the left means on the right", ">Reseller</option>", "Resolve"):  # fmt: skip
        assert words in page, words
    assert (
        boss.get(f"{reverse('admin:connectors_recordlink_changelist')}?problem={group().key}&pending=hands").status_code
        == 200
    )


def test_what_the_hub_itself_holds_back_is_refused_by_nobody(boss: Client, db: None) -> None:
    parked(1)
    page = boss.get(page_of(group())).content.decode()
    assert "<dt>Not sent to</dt>" in page and "Refused by" not in page
    assert "Then the record is read and written again" in page
    ProblemGroup.objects.update(code="6240")
    assert "<dt>Refused by</dt>" in boss.get(page_of(group())).content.decode()


def test_an_option_is_mapped_on_the_page_and_a_wrong_one_is_refused_at_the_field(boss: Client, db: None) -> None:
    parked(3)
    url = reverse("admin:connectors_problemgroup_option", args=[group().pk])
    answer = boss.post(url, {"option": "9"})
    assert '<p class="sl-errors" id="option_error">Choose one of the options.</p>' in answer.content.decode()
    assert not Job.objects.exists()
    answer = boss.post(url, {"option": "3"}, follow=True)
    assert "tries all of them again" in answer.content.decode()
    assert PicklistMapping.objects.get(left_key="z").right_key == "3"
    assert Job.objects.get().params["retry"] == {"problem": group().key, "how": "reread"}


def test_systems_that_do_not_answer_are_said_on_the_page(boss: Client, db: None) -> None:
    parked(1)
    settings = {"realm": "1", "api_base": "http://127.0.0.1:9", "token_url": "http://127.0.0.1:9/token"}
    Connection.objects.filter(name="right").update(system="quickbooks", settings=settings)
    page = boss.get(page_of(group())).content.decode()
    assert "The options could not be read" in page
    assert "Read again and plan again" in page


@pytest.mark.parametrize("button", ["retry_same", "retry_plan", "retry_reread"])
def test_each_retry_is_a_button_and_a_double_click_makes_one_job(boss: Client, button: str) -> None:
    parked(1)
    for _ in range(2):
        assert "Requested: " in press(boss, group(), button)
    assert Job.objects.get().params["retry"]["how"] == button.removeprefix("retry_")


def test_a_stale_page_does_not_resolve(boss: Client, db: None) -> None:
    world = parked(1)
    seen = group().last_seen.isoformat()
    world.left.create("person", {"name": "Odd again", "kind": "z"})
    world.run()
    assert "It was met again since you opened the page; now there are 2 records." in press(
        boss, group(), "resolve", seen=seen
    )
    assert "it is shown again when its cause is met again" in press(
        boss, group(), "resolve", seen=group().last_seen.isoformat()
    )
    one = ProblemGroup.objects.get()
    assert one.resolved_by == "ada"
    assert "Open again." in press(boss, one, "reopen")


def test_failed_jobs_are_retried_from_their_page(boss: Client, db: None) -> None:
    job = failed(TwoSystems())
    page = boss.get(page_of(group())).content.decode()
    assert f"Job {job.pk}" in page
    assert "Retry as it was" not in page
    assert "Requested: " in press(boss, group(), "retry_jobs")
    job.refresh_from_db()
    assert job.status is StatusReason.WAITING


def test_a_viewer_sees_problems_and_changes_nothing(viewer: Client, db: None) -> None:
    parked(1)
    one = group()
    page = viewer.get(page_of(one)).content.decode()
    assert "Retry as it was" not in page
    assert "means on the right" not in page
    assert viewer.get(reverse(LIST)).status_code == 200
    for button in ("retry_same", "retry_plan", "retry_reread", "resolve", "reopen"):
        assert viewer.post(reverse("admin:connectors_problemgroup_do", args=[one.pk, button])).status_code == 403
    assert (
        viewer.post(reverse("admin:connectors_problemgroup_option", args=[one.pk]), {"option": "3"}).status_code == 403
    )
    for action in ("retry", "resolve", "reopen", "map_option"):
        assert post(viewer, f"/api/v1/problems/{one.pk}/{action}/", {"option": "3"}).status_code == 403
    assert not Job.objects.exists()


def test_an_operator_retries_and_leaves_mapping_to_administrators(client: Client, person: Callable[..., User]) -> None:
    parked(1)
    one = group()
    client.force_login(person("view_problemgroup", "operate_problemgroup", "view_integration", "view_recordlink"))
    page = client.get(page_of(one)).content.decode()
    assert "An administrator can map the option on this page." in page
    assert "Requested: " in press(client, one, "retry_plan")
    assert (
        client.post(reverse("admin:connectors_problemgroup_option", args=[one.pk]), {"option": "3"}).status_code == 403
    )
    assert post(client, f"/api/v1/problems/{one.pk}/map_option/", {"option": "3"}).status_code == 403
    assert PicklistMapping.objects.count() == 2


def test_hostile_words_are_shown_as_text(boss: Client, db: None) -> None:
    world = parked(1)
    one = group()
    ProblemGroup.objects.filter(pk=one.pk).update(message=HOSTILE, field=HOSTILE[:100], code=HOSTILE)
    RecordLink.objects.filter(problem=one.key).update(args=json.dumps({"message": HOSTILE}), left_id=HOSTILE)
    assert world.left
    for url in (reverse(LIST), page_of(one)):
        assert HOSTILE not in boss.get(url).content.decode()


def more_groups(world: TwoSystems, count: int) -> None:
    now = timezone.now()
    made = ProblemGroup.objects.bulk_create(
        ProblemGroup(
            key=f"more {ProblemGroup.objects.count()} {n}", integration=world.integration, entity_sync=world.sync,
            reason="parked", code="610", side="right", message="m", first_seen=now, last_seen=now,
        )
        for n in range(count)
    )  # fmt: skip
    RecordLink.objects.bulk_create(
        RecordLink(
            key=f"{one.key}", integration=world.integration, entity_sync=world.sync, family="person", scope=world.scope,
            pending=int(Pending.PARKED), reason="parked", left_entity="person", left_id=one.key, problem=one.key,
        )
        for one in made
    )  # fmt: skip


def test_lists_cost_the_same_with_many_problems(boss: Client, db: None) -> None:
    world = parked(1)

    def cost(url: str) -> int:
        with CaptureQueriesContext(database) as queries:
            assert boss.get(url).status_code == 200
        return len(queries)

    more_groups(world, 10)
    urls = (reverse(LIST), "/api/v1/problems/")
    before = [cost(url) for url in urls for _ in range(2)][1::2]
    more_groups(world, 300)
    assert [cost(url) for url in urls] == before


# API and command


def post(client: Client, url: str, given: dict[str, str] | None = None) -> HttpResponse:
    return client.post(url, given or {}, content_type="application/json")


def test_the_api_lists_retries_maps_and_resolves(boss: Client, db: None) -> None:
    parked(2)
    [one] = boss.get("/api/v1/problems/").json()["results"]
    assert (one["count"], one["code"], one["state"]) == (2, "no option", "Ongoing")
    url = f"/api/v1/problems/{one['id']}"
    found = boss.get(f"{url}/option/").json()
    assert (found["label"], [c["label"] for c in found["choices"]]) == ("Partner", ["One", "Two", "Reseller"])
    assert post(boss, f"{url}/retry/", {"how": "twice"}).status_code == 400
    answer = post(boss, f"{url}/retry/", {"how": "plan"})
    assert (answer.status_code, len(answer.json()["jobs"])) == (202, 1)
    wrong = post(boss, f"{url}/map_option/", {"option": "9"})
    assert (wrong.status_code, list(wrong.json())) == (400, ["option"])
    assert post(boss, f"{url}/map_option/", {"option": "3"}).status_code == 202
    assert post(boss, f"{url}/map_option/", {"option": "3"}).status_code == 409
    assert post(boss, f"{url}/resolve/", {"last_seen": "2020-01-01T00:00:00Z"}).status_code == 409
    assert post(boss, f"{url}/resolve/").json()["state"] == "Resolved"
    assert post(boss, f"{url}/resolve/").status_code == 409
    assert boss.get("/api/v1/problems/").json()["results"] == []
    assert len(boss.get("/api/v1/problems/?resolved=true").json()["results"]) == 1
    assert post(boss, f"{url}/reopen/").json()["state"] == "Came back"


def told(*arguments: str) -> str:
    out = StringIO()
    call_command("problems", *arguments, stdout=out)
    return out.getvalue()


def test_the_command_lists_maps_retries_and_resolves(db: None) -> None:
    parked(2)
    number = str(group().pk)
    text = told("list", "--integration", "both")
    assert f"{number}  Ongoing  2 records  The option 'Partner' has no partner" in text
    assert "Say which option of the other side it is." in text
    assert [one["count"] for one in json.loads(told("list", "--json"))] == [2]
    assert "3  Reseller" in told("map", number)
    assert "Requested: job" in told("map", number, "--option", "Reseller")
    assert "Requested: job" in told("retry", number, "--how", "plan")
    assert "Resolved" in told("resolve", number)
    with pytest.raises(CommandError, match="somebody else resolved it"):
        told("resolve", number)
    assert told("list") == "0 problems.\n"
    assert "Open again." in told("reopen", number)
    with pytest.raises(CommandError, match="There is no problem 999"):
        told("retry", "999")


@pytest.mark.parametrize(
    ("system", "code", "words"),
    [
        ("quickbooks", "6240", "of that name is in QuickBooks already"),
        ("dynamics365", "0x80044331", "too long for the column"),
    ],
)
def test_codes_of_the_systems_have_hints_of_their_own(db: None, system: str, code: str, words: str) -> None:
    world = TwoSystems()
    Connection.objects.filter(pk=world.integration.right_id).update(system=system)
    world.integration.right.refresh_from_db()
    now = timezone.now()
    one = ProblemGroup(
        integration=world.integration, side="right", reason="parked", code=code, first_seen=now, last_seen=now
    )
    assert words in hint_of(one)
