"""Do the API and the command list and decide conflicts, and say why a record stands still, as the admin does?"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.core.management import CommandError, call_command
from rest_framework.test import APIClient

from config.models import ApiToken
from connectors.models import Event, RecordLink, Run
from connectors.sync.conflicts import seen_of
from connectors.sync.matching import ELSEWHERE
from connectors.sync.values import decode
from jobs.models import Job
from tests.admin.test_conflicts import alike, conflict, deleted
from tests.admin.test_record_page import paired, parked
from tests.sync.hard_world import Hard

HERE = "/api/v1/conflicts/"


@pytest.fixture
def hard(db: None) -> Hard:
    return Hard(policy="ask", edit_v_delete="ask", on_delete="ask")


@pytest.fixture
def api(person: Callable[..., User]) -> APIClient:
    client = APIClient()
    client.force_login(person(is_superuser=True))
    return client


def link_url(link: RecordLink, action: str) -> str:
    return f"/api/v1/links/{link.pk}/{action}/"


def post(api: APIClient, address: str, **told: object) -> Any:
    return api.post(address, told, format="json")


def test_conflicts_are_listed_with_base_left_and_right_and_filtered(api: APIClient, hard: Hard) -> None:
    link, gone = conflict(hard, "city"), deleted(hard)
    alike(hard)
    page = api.get(HERE).json()
    assert (page["count"], page["next"]) == (5, None)
    [first] = [one for one in page["results"] if one["id"] == link.pk]
    assert first["lines"] == [{"name": "city>city", "left": "left city", "base": "Paris", "right": "right city"}]
    assert (first["kind"], first["choices"]) == ("fields", ["left", "right", "hold"])
    assert [one["id"] for one in api.get(HERE, {"kind": "deleted"}).json()["results"]] == [gone.pk]
    assert api.get(HERE, {"integration": hard.integration.pk + 1}).json()["count"] == 0
    assert "kind" in api.get(HERE, {"kind": "odd"}).json()
    assert api.get(f"{HERE}{link.pk}/").json() == first
    assert api.get(f"{HERE}{paired(hard).pk}/").status_code == 404


def test_pages_follow_each_other(api: APIClient, hard: Hard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connectors.api.conflicts.PER_PAGE", 1)
    links = [conflict(hard, "city").pk for _ in range(3)]
    seen, after = [], ""
    while after is not None:
        page = api.get(HERE, {"after": after}).json()
        seen += [one["id"] for one in page["results"]]
        after = page["next"]
    assert seen == links


def test_a_conflict_is_resolved_field_by_field_with_a_sync(api: APIClient, hard: Hard) -> None:
    link = conflict(hard)
    seen = api.get(f"{HERE}{link.pk}/").json()["seen"]
    fields = {"city>city": "left", "email>email": "right"}
    answer = post(api, link_url(link, "resolve"), fields=fields, seen=seen, sync=True)
    assert (answer.status_code, answer.json()["jobs"]) == (200, [Job.objects.get().pk])
    assert LogEntry.objects.get(object_id=str(link.pk)).change_message.startswith("Resolve through the API")
    hard.settle()
    assert hard.value("right", str(link.right_id), "city") == "left city"
    assert hard.value("left", str(link.left_id), "email") == "right email"


@pytest.mark.parametrize(
    ("told", "where"),
    [
        ({}, "winner"),
        ({"winner": "left", "choice": "right"}, "choice"),
        ({"winner": "middle"}, "winner"),
        ({"fields": {"city>city": "middle"}}, "fields"),
        ({"fields": {"city>city": "left"}}, "fields"),
        ({"fields": {}}, "fields"),
    ],
)
def test_a_wrong_choice_is_told_at_its_key(api: APIClient, hard: Hard, told: dict[str, object], where: str) -> None:
    link = conflict(hard)
    answer = post(api, link_url(link, "resolve"), **told)
    assert (answer.status_code, where in answer.json()) == (400, True), answer.json()
    link.refresh_from_db()
    assert link.reason == "conflict"


def test_what_was_seen_must_still_hold(api: APIClient, hard: Hard) -> None:
    link = conflict(hard, "city")
    seen = api.get(f"{HERE}{link.pk}/").json()["seen"]
    hard.right.put("person", str(link.right_id), {"city": "Bergen"})
    hard.run()
    answer = post(api, link_url(link, "resolve"), winner="left", seen=seen)
    assert (answer.status_code, "Bergen" in answer.json()["detail"]) == (409, True)


@pytest.mark.parametrize("choice", ["again", "delete", "hold"])
def test_a_deleted_record_has_choices_of_its_own(api: APIClient, hard: Hard, choice: str) -> None:
    link = deleted(hard)
    assert post(api, link_url(link, "resolve"), choice="left").status_code == 409
    assert post(api, link_url(link, "resolve"), choice=choice).status_code == 200


@pytest.mark.parametrize("told", [{"choice": "again"}, {"choice": "delete"}, {"winner": "right"}])
def test_a_deleted_record_is_decided_only_as_it_was_seen(api: APIClient, hard: Hard, told: dict[str, str]) -> None:
    link = deleted(hard)
    seen = api.get(f"{HERE}{link.pk}/").json()["seen"]
    hard.right.put("person", str(link.right_id), {"city": "Bergen"})
    hard.run()
    answer = post(api, link_url(link, "resolve"), **told, seen=seen)
    assert (answer.status_code, "one of its records has changed" in answer.json()["detail"]) == (409, True)
    link.refresh_from_db()
    assert link.reason == "conflict"
    assert post(api, link_url(link, "resolve"), **told, seen=seen_of(link)).status_code == 200


def test_many_are_decided_with_the_count_that_the_dry_run_told(api: APIClient, hard: Hard) -> None:
    links, gone = [conflict(hard, "city") for _ in range(3)], deleted(hard)
    dry = post(api, f"{HERE}resolve/", choice="right", dry_run=True).json()
    assert (dry["count"], dry["fitting"], dry["decided"], len(dry["first"])) == (4, 3, 0, 3)
    assert [one["link"] for one in dry["refused"]] == [gone.pk]
    assert "expected_count" in post(api, f"{HERE}resolve/", choice="right").json()
    wrong = post(api, f"{HERE}resolve/", choice="right", expected_count=3)
    assert (wrong.status_code, wrong.json()["detail"]) == (409, "There are 4 now instead of 3. Nothing was decided.")
    assert not Event.objects.filter(code="resolved").exists()
    told = {"choice": "right", "expected_count": 4, "print": dry["print"], "sync": True}
    done = post(api, f"{HERE}resolve/", **told).json()
    assert (done["decided"], len(done["refused"]), len(done["jobs"])) == (3, 1, 1)
    assert LogEntry.objects.filter(change_message__contains="through the API").count() == 3
    assert post(api, f"{HERE}resolve/", **told).status_code == 409, "the same again finds others"
    hard.settle()
    assert {hard.value("left", str(link.left_id), "city") for link in links} == {"right city"}


def test_one_record_is_tried_again_and_its_timeline_read(api: APIClient, hard: Hard) -> None:
    link = parked(hard)
    answer = post(api, link_url(link, "resync"), how="plan")
    assert (answer.status_code, answer.json()["job"]["id"]) == (202, Job.objects.get().pk)
    assert post(api, link_url(link, "resync"), how="odd").status_code == 400
    page = api.get(link_url(link, "timeline")).json()
    assert [entry["kind"] for entry in page["results"]] == ["person", "change"]
    assert (page["next"], page["results"][0]["actor"]) == (None, "ada")
    assert api.get(link_url(link, "timeline"), {"before": "x"}).status_code == 404
    gates = api.get(link_url(link, "explain")).json()["gates"]
    assert [gate["gate"] for gate in gates if gate["passed"] == "stops"] == ["The other system takes it"]
    assert api.get(link_url(link, "support")).json()["record"]["link"] == link.pk


def test_the_last_change_is_undone_through_the_api(api: APIClient, hard: Hard) -> None:
    link = paired(hard)
    assert post(api, link_url(link, "undo_last")).status_code == 202
    assert Job.objects.get().params["only"] == link.pk


def test_records_with_a_partner_elsewhere_can_be_left_out(api: APIClient, hard: Hard) -> None:
    link, hidden = paired(hard), paired(hard)
    RecordLink.objects.filter(pk=hidden.pk).update(pending=3, reason="outside", args=ELSEWHERE[1])
    found = {
        told: {one["id"] for one in api.get("/api/v1/links/", {"elsewhere": told}).json()["results"]}
        for told in ("true", "false")
    }
    assert found == {"true": {hidden.pk}, "false": {link.pk}}


# Who may


def test_a_viewer_and_a_reading_token_change_nothing(person: Callable[..., User], hard: Hard) -> None:
    link = conflict(hard)
    viewer = person(*Permission.objects.filter(codename__startswith="view_").values_list("codename", flat=True))
    boss = User.objects.create_superuser("boss", password="a long enough secret")
    _, text = ApiToken.objects.issue(boss, "a test", scope="read")
    by_login, by_token, nobody = APIClient(), APIClient(), APIClient()
    by_login.force_login(viewer)
    by_token.credentials(HTTP_AUTHORIZATION=f"Bearer {text}")
    writes = [
        (link_url(link, "resolve"), {"winner": "left"}), (link_url(link, "resync"), {}), (link_url(link, "undo_last"), {}),
        (link_url(link, "erase"), {}), (f"{HERE}resolve/", {"choice": "left", "expected_count": 1}),
    ]  # fmt: skip
    for address, told in writes:
        assert {client.post(address, told, format="json").status_code for client in (by_login, by_token)} == {403}, (
            address
        )
        assert nobody.post(address, told, format="json").status_code == 401
    for client in (by_login, by_token):
        assert client.get(HERE).json()["count"] == 1
        assert client.get(link_url(link, "timeline")).status_code == 200
    assert nobody.get(HERE).status_code == 401
    link.refresh_from_db()
    assert link.reason == "conflict" and not Job.objects.exists()


def test_an_operator_does_not_erase_nor_sync_without_the_right(person: Callable[..., User], hard: Hard) -> None:
    link = conflict(hard)
    api = APIClient()
    api.force_login(person("view_recordlink", "change_recordlink"))
    assert post(api, link_url(link, "erase")).status_code == 403
    assert post(api, link_url(link, "resolve"), winner="left", sync=True).status_code == 403
    assert post(api, f"{HERE}resolve/", choice="left", expected_count=1, sync=True).status_code == 403
    assert post(api, link_url(link, "resolve"), winner="left").status_code == 200


# The command


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    call_command("links", *arguments)
    return capsys.readouterr().out


def test_the_command_shows_and_resolves_conflicts(hard: Hard, capsys: pytest.CaptureFixture[str]) -> None:
    link, other = conflict(hard), conflict(hard, "city")
    text = told(capsys, "conflicts", "--integration", "both", "--entity", "person", "--kind", "fields")
    assert "city>city: left left city | base Paris | right right city" in text and "2 conflicts." in text
    assert [one["id"] for one in json.loads(told(capsys, "conflicts", "--json"))] == [link.pk, other.pk]
    with pytest.raises(CommandError, match="Choose left or right"):
        call_command("links", "resolve", str(link.pk), "--field", "city>city=left")
    for wrong in ("city>city", "city>city=up"):
        with pytest.raises(CommandError, match="NAME=left"):
            call_command("links", "resolve", str(link.pk), "--field", wrong)
    told(capsys, "resolve", str(link.pk), "--field", "city>city=left", "--field", "email>email=right")
    link.refresh_from_db()
    assert decode(link.args) == {"resolution": {"city>city": "left", "email>email": "right"}}
    assert "--expect 1" in told(capsys, "conflicts", "--decide", "left")
    with pytest.raises(CommandError, match="There are 1 now instead of 2"):
        call_command("links", "conflicts", "--decide", "left", "--expect", "2")
    assert "1 decided." in told(capsys, "conflicts", "--decide", "left", "--expect", "1", "--sync")
    assert Job.objects.count() == 1


def test_the_command_tries_again_tells_the_timeline_and_explains(
    hard: Hard, capsys: pytest.CaptureFixture[str]
) -> None:
    link = parked(hard)
    asked = told(capsys, "resync", str(link.pk), "--how", "same")
    assert f"job {Job.objects.latest('id').pk}" in asked
    assert "create on the right, written" in told(capsys, "timeline", str(link.pk))
    assert json.loads(told(capsys, "support", str(link.pk)))["record"]["reason"] == "parked"
    capsys.readouterr()
    call_command("explain", "both", "person", str(link.left_id))
    assert "[!] The other system takes it" in capsys.readouterr().out
    with pytest.raises(CommandError, match="not parked"):
        call_command("links", "resync", str(paired(hard).pk), "--how", "plan")
    assert "job" in told(capsys, "undo-last", str(paired(hard).pk))
    assert Run.objects.filter(purpose="undo").count() == 0, "the job makes the run"


def test_the_command_hides_records_with_a_partner_elsewhere(hard: Hard, capsys: pytest.CaptureFixture[str]) -> None:
    hidden = paired(hard)
    RecordLink.objects.filter(pk=hidden.pk).update(pending=3, reason="outside", args=ELSEWHERE[0])
    assert told(capsys, "list") == "0 records.\n"
    assert "1 records." in told(capsys, "list", "--elsewhere")
