"""Can a person join records and take them apart: on the page, over the API and by the command?"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client
from rest_framework.test import APIClient

from connectors.models import RecordLink, Stranger
from tests.sync.worlds import TwoSystems


@pytest.fixture
def pair(world: TwoSystems) -> tuple[RecordLink, RecordLink]:
    """Two records whose names are alike."""
    world.sync.match_tolerance = 88
    world.sync.save()
    left = world.left.create("person", {"name": "InfoMedia"})
    right = world.right.create("person", {"name": "IfnoMedia", "city": "Oslo"})
    world.run()
    return RecordLink.objects.get(left_id=left, ended=0), RecordLink.objects.get(right_id=right, ended=0)


@pytest.fixture
def api(person: Callable[..., User]) -> APIClient:
    client = APIClient()
    client.force_login(person(is_superuser=True))
    return client


Pair = tuple[RecordLink, RecordLink]


def url(link: RecordLink, button: str = "") -> str:
    return f"/admin/connectors/recordlink/{link.pk}/{f'do/{button}' if button else 'change'}/"


def test_the_page_shows_who_could_be_the_same_with_a_button_for_each(boss: Client, pair: Pair) -> None:
    page = boss.get(url(pair[0])).content.decode()
    assert "Could be the same" in page and "88 % alike" in page and "IfnoMedia" in page
    assert f'name="other" value="{pair[1].pk}"' in page
    assert f'action="{url(pair[0], "join")}"' in page


def test_a_viewer_sees_the_candidates_and_can_press_nothing(viewer: Client, pair: Pair) -> None:
    page = viewer.get(url(pair[0])).content.decode()
    assert "IfnoMedia" in page and "do/join" not in page
    assert viewer.post(url(pair[0], "join"), {"other": pair[1].pk}).status_code == 403
    assert RecordLink.objects.filter(reason="ambiguous").count() == 2


@pytest.mark.parametrize("number", [0, 1])
def test_joining_on_the_page_of_either_makes_them_one(boss: Client, pair: Pair, world: TwoSystems, number: int) -> None:
    boss.post(url(pair[number], "join"), {"other": pair[1 - number].pk})
    world.settle()
    link = RecordLink.objects.get(left_id=pair[0].left_id, ended=0)
    assert link.right_id == pair[1].right_id
    assert link.reason == "conflict", "their names differ, and the policy is to ask"


@pytest.mark.parametrize(("button", "other"), [("not_this", True), ("not_same", False)])
def test_records_that_are_not_the_same_go_on(
    boss: Client, pair: Pair, world: TwoSystems, button: str, other: bool
) -> None:
    boss.post(url(pair[0], button), {"other": pair[1].pk} if other else {})
    world.settle()
    assert Stranger.objects.get().by == "ada"
    assert RecordLink.objects.get(left_id=pair[0].left_id, ended=0).right_id not in (None, pair[1].right_id)


def test_a_candidate_that_is_not_there_any_more_is_refused_with_a_sentence(boss: Client, pair: Pair) -> None:
    answer = boss.post(url(pair[0], "join"), {"other": "999999"}, follow=True)
    assert "not there any more" in answer.content.decode()


def test_unlinking_and_linking_again_on_the_page(boss: Client, world: TwoSystems) -> None:
    link = RecordLink.objects.filter(pending=None).first()
    assert link is not None
    boss.post(url(link, "unlink"))
    link.refresh_from_db()
    assert link.reason == "unlinked"
    assert "do/relink" in boss.get(url(link)).content.decode()
    boss.post(url(link, "relink"))
    link.refresh_from_db()
    assert link.reason == "changed"


def test_the_api_joins_and_tells_apart(api: APIClient, pair: Pair) -> None:
    there = f"/api/v1/links/{pair[0].pk}/"
    [candidate] = api.get(f"{there}candidates/").json()
    assert candidate["id"] == pair[1].pk
    assert api.post(f"{there}join/", {}, format="json").status_code == 400
    answer = api.post(f"{there}join/", {"other": pair[1].pk}, format="json")
    assert (answer.status_code, answer.json()["right_id"]) == (200, pair[1].right_id)
    again = api.post(f"{there}not_same/", {}, format="json")
    assert (again.status_code, "nobody asks" in again.json()["detail"]) == (409, True)


def test_the_api_unlinks_and_links_again(api: APIClient, world: TwoSystems) -> None:
    link = RecordLink.objects.filter(pending=None).first()
    assert link is not None
    answer = api.post(f"/api/v1/links/{link.pk}/unlink/", {"why": "two people"}, format="json")
    assert (answer.status_code, answer.json()["reason"]) == (200, "unlinked")
    assert api.post(f"/api/v1/links/{link.pk}/relink/").json()["reason"] == "changed"
    assert api.get(f"/api/v1/connections/{world.integration.right.pk}/unrouted/").json() == {
        "records": [],
        "more": False,
    }


def test_the_command_joins_tells_apart_and_unlinks(pair: Pair, capsys: pytest.CaptureFixture[str]) -> None:
    left, right = (str(link.pk) for link in pair)
    call_command("links", "not-same", left, "--with", right)
    assert "1 told apart." in capsys.readouterr().out
    call_command("links", "join", left, "--with", right)
    assert "1 joined." in capsys.readouterr().out
    assert not Stranger.objects.exists()
    with pytest.raises(CommandError, match="its link is over"):
        call_command("links", "join", left, "--with", right)
    capsys.readouterr()
    agreed = RecordLink.objects.filter(pending=None, ended=0).first()
    assert agreed is not None
    call_command("links", "unlink", str(agreed.pk), "--why", "two people")
    call_command("links", "relink", str(agreed.pk))
    assert capsys.readouterr().out.splitlines()[0] == "1 unlinked."


def test_the_command_lists_records_of_no_company(world: TwoSystems, capsys: pytest.CaptureFixture[str]) -> None:
    call_command("links", "unrouted", "right")
    assert capsys.readouterr().out == "0 records.\n"
    with pytest.raises(CommandError, match="There are: left, right"):
        call_command("links", "unrouted", "nowhere")
