"""What does the API answer, to whom?"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.contrib.auth.models import Permission, User
from rest_framework.test import APIClient

from connectors.models import Connection, Integration, RecordLink, Run
from connectors.registry import connector_class
from jobs.models import Job
from tests.sync.worlds import TwoSystems

LISTS = ["connections", "presets", "integrations", "runs", "links", "changes", "events", "api-calls", "jobs"]


@pytest.fixture
def api(person: Callable[..., User]) -> APIClient:
    client = APIClient()
    client.force_login(person(is_superuser=True))
    return client


@pytest.fixture
def reader(person: Callable[..., User]) -> APIClient:
    client = APIClient()
    codenames = Permission.objects.filter(codename__startswith="view_").values_list("codename", flat=True)
    client.force_login(person(*codenames))
    return client


@pytest.mark.parametrize("name", LISTS)
def test_nobody_reads_without_a_login(db: None, name: str) -> None:
    answer = APIClient().get(f"/api/v1/{name}/")
    assert answer.status_code in (401, 403)
    assert answer.json()["detail"]


@pytest.mark.parametrize("name", LISTS)
def test_every_list_and_every_object_is_readable(api: APIClient, world: TwoSystems, name: str) -> None:
    answer = api.get(f"/api/v1/{name}/")
    assert answer.status_code == 200
    rows = answer.json()
    for row in rows["results"][:2] if isinstance(rows, dict) else []:
        assert api.get(f"/api/v1/{name}/{row['id']}/").status_code == 200


def test_a_sync_makes_one_job_and_a_second_request_answers_with_it(api: APIClient, world: TwoSystems) -> None:
    url = f"/api/v1/integrations/{world.integration.pk}/sync/"
    first, second = (api.post(url, {"mode": "delta"}, format="json") for _ in range(2))
    assert (first.status_code, second.status_code) == (202, 202)
    assert first.json()["job"]["id"] == second.json()["job"]["id"] == Job.objects.get().pk


def test_not_now_is_a_conflict_with_a_sentence(api: APIClient, world: TwoSystems) -> None:
    Integration.objects.update(enabled=False)
    answer = api.post(f"/api/v1/integrations/{world.integration.pk}/sync/")
    assert (answer.status_code, "switched off" in answer.json()["detail"]) == (409, True)
    unknown = {"entities": ["nobody"]}
    Integration.objects.update(enabled=True)
    answer = api.post(f"/api/v1/integrations/{world.integration.pk}/sync/", unknown, format="json")
    assert (answer.status_code, "no entity sync" in answer.json()["detail"]) == (409, True)


def test_a_reader_can_not_act(reader: APIClient, world: TwoSystems) -> None:
    link, run = RecordLink.objects.get(reason="conflict"), Run.objects.latest("id")
    urls = [
        f"integrations/{world.integration.pk}/sync",
        f"runs/{run.pk}/approve",
        f"runs/{run.pk}/accept",
        "presets/inolink/apply",
    ]
    urls += [f"links/{link.pk}/{name}" for name in ("retry", "resolve", "approve", "promote", "hold", "release")]
    urls += [f"connections/{world.integration.left_id}/{name}" for name in ("check", "pause", "resume")]
    for url in urls:
        assert reader.post(f"/api/v1/{url}/", {"winner": "left"}, format="json").status_code == 403, url
    assert reader.post("/api/v1/connections/", {"system": "memory", "name": "x"}, format="json").status_code == 403
    assert not Job.objects.exists()
    assert RecordLink.objects.get(pk=link.pk).reason == "conflict"


def test_links_are_filtered_explained_and_decided(api: APIClient, world: TwoSystems) -> None:
    [row] = api.get("/api/v1/links/", {"entity_sync": world.sync.pk, "reason": "conflict"}).json()["results"]
    told = api.get(f"/api/v1/links/{row['id']}/explain/").json()
    assert told["reason"] == "conflict"
    assert {"field", "left", "base", "right", "agreed", "rule"} <= set(told["fields"][0])
    assert api.post(f"/api/v1/links/{row['id']}/resolve/", {"winner": "both"}, format="json").status_code == 400
    answer = api.post(f"/api/v1/links/{row['id']}/resolve/", {"winner": "left"}, format="json")
    assert (answer.status_code, answer.json()["reason"]) == (200, "changed")
    again = api.post(f"/api/v1/links/{row['id']}/resolve/", {"winner": "left"}, format="json")
    assert (again.status_code, "not in conflict" in again.json()["detail"]) == (409, True)


def test_a_connection_is_made_with_a_secret_that_is_never_answered(api: APIClient) -> None:
    given = {
        "system": "dynamics365",
        "name": "CRM",
        "settings": {},
        "secret": {"client_id": "an-id", "client_secret": "hush-9"},
    }
    answer = api.post("/api/v1/connections/", given, format="json")
    assert answer.status_code == 201, answer.content
    connection = Connection.objects.get()
    assert connection.get_secret()["client_secret"] == "hush-9"
    for text in (
        answer.content,
        api.get("/api/v1/connections/").content,
        api.get(f"/api/v1/connections/{connection.pk}/").content,
    ):
        assert b"hush-9" not in text
        assert b"secret" not in text
    url = f"/api/v1/connections/{connection.pk}/"
    host = next(setting.name for setting in connector_class("dynamics365").settings if setting.is_url)
    moved = api.patch(url, {"settings": {host: "https://elsewhere.example"}}, format="json")
    assert moved.status_code == 400
    wrong = api.post("/api/v1/connections/", {**given, "name": "B", "secret": {"pin": "1"}}, format="json")
    assert (wrong.status_code, "Unknown: pin" in str(wrong.json())) == (400, True)


def test_a_check_says_who_we_are(api: APIClient, world: TwoSystems) -> None:
    answer = api.post(f"/api/v1/connections/{world.integration.left_id}/check/")
    assert (answer.status_code, answer.json()["state"]) == (200, "connected")


def test_an_unknown_preset_and_a_wrong_system_are_refused(api: APIClient, world: TwoSystems) -> None:
    ends = {"left": world.integration.left_id, "right": world.integration.right_id}
    assert api.post("/api/v1/presets/nothing/apply/", {"name": "n", **ends}, format="json").status_code == 404
    answer = api.post("/api/v1/presets/inolink/apply/", {"name": "n", **ends}, format="json")
    assert (answer.status_code, "wants quickbooks" in answer.json()["detail"]) == (400, True)
    assert Integration.objects.count() == 1
