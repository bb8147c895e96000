"""Can a program do with mappings all that a person can, by the same rules?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.core.cache import cache
from rest_framework.test import APIClient

from connectors.models import FieldMapping, PicklistMapping, RecordLink
from tests.admin.mapped import look, mapped_world, without
from tests.sync.worlds import TwoSystems


@pytest.fixture
def people(db: None) -> TwoSystems:
    cache.clear()  # a record that was tried stays read for a while, and ids come again in each test
    world = mapped_world()
    world.left.create("person", {"name": "Ada", "city": "Paris", "terms": "n30"})
    world.run()
    return world


@pytest.fixture
def member(db: None) -> Callable[[str], APIClient]:
    def make(group: str) -> APIClient:
        user = User.objects.create_user(group, password="a long enough secret", is_staff=True)
        user.groups.add(Group.objects.get(name=group))
        client = APIClient()
        client.force_authenticate(user)
        return client

    return make


@pytest.fixture
def boss_api(member: Callable[[str], APIClient]) -> APIClient:
    return member("Administrator")


def url(world: TwoSystems, rest: str = "") -> str:
    return f"/api/v1/entity-syncs/{world.sync.pk}/mappings/{rest}"


def test_mappings_are_read_made_changed_and_removed(boss_api: APIClient, people: TwoSystems) -> None:
    told = boss_api.get(url(people)).json()
    assert [m["name"] for m in told["mappings"]][:2] == ["name>name", "email>email"]
    assert next(m for m in told["mappings"] if m["left"] == "city")["fit"] == "Lossy"
    new = {"left": "born", "right": "description", "direction": "to_right", "position": 0, "revision": told["revision"]}
    made = boss_api.post(url(people), new, format="json")
    assert made.status_code == 201, made.json()
    assert made.json()["mappings"][0]["left"] == "born" and made.json()["changed"][0] == "added born → description"
    assert made.json()["revision"] == told["revision"] + 1
    pk = made.json()["mappings"][0]["id"]

    stale = boss_api.patch(url(people, f"{pk}/"), {"when": "create", "revision": told["revision"]}, format="json")
    assert stale.status_code == 409
    changed = boss_api.patch(url(people, f"{pk}/"), {"when": "create", "revision": told["revision"] + 1}, format="json")
    assert changed.status_code == 200 and FieldMapping.objects.get(pk=pk).when == "create"
    assert FieldMapping.objects.get(pk=pk).direction == "to_right", "what is left out stays"

    assert boss_api.delete(url(people, f"{pk}/")).status_code == 400
    assert boss_api.delete(url(people, f"{pk}/?revision=1")).status_code == 409
    gone = boss_api.delete(url(people, f"{pk}/?revision={changed.json()['revision']}"))
    assert gone.status_code == 200 and not FieldMapping.objects.filter(pk=pk).exists()


def test_wrong_input_is_told_at_its_field(boss_api: APIClient, people: TwoSystems) -> None:
    revision = boss_api.get(url(people)).json()["revision"]
    answer = boss_api.post(url(people), {"left": "nothing", "right": "age", "revision": revision}, format="json")
    assert answer.status_code == 400 and "no field 'nothing'" in answer.json()["left"][0]
    assert boss_api.post(url(people), {"left": "born", "right": "age"}, format="json").status_code == 400
    assert "revision" in boss_api.post(url(people), {"left": "born"}, format="json").json()
    assert boss_api.post(url(people), {"colour": "red", "revision": revision}, format="json").status_code == 400
    assert boss_api.patch(url(people, "4711/"), {"revision": revision}, format="json").status_code == 404


def test_proposals_and_tests_change_nothing(boss_api: APIClient, people: TwoSystems) -> None:
    found = boss_api.get(url(people, "proposals/")).json()
    assert {"left": "BillAddr.PostalCode", "right": "address1_postalcode"}.items() <= next(
        p for p in found if p["left"] == "BillAddr.PostalCode"
    ).items()
    link = RecordLink.objects.get()
    rows = [{"left": "name", "right": "description", "direction": "to_right", "transform": "lower"}]
    [tried] = boss_api.post(url(people, "test/"), {"record": link.pk, "mappings": rows}, format="json").json()
    assert tried["ways"][0] == {
        "to": "right",
        "given": "Ada",
        "out": "ada",
        "there": tried["ways"][0]["there"],
        "error": "",
        "note": "",
    }
    assert tried["ways"][1]["note"] == "Nothing flows this way."
    every = boss_api.post(url(people, "test/"), {"record": link.pk}, format="json").json()
    assert len(every) == FieldMapping.objects.count() == 6
    assert boss_api.post(url(people, "test/"), {"record": 4711}, format="json").status_code == 404


def test_options_are_paired(boss_api: APIClient, people: TwoSystems) -> None:
    told = boss_api.get(url(people, "options/")).json()
    [one] = told["picklists"]
    assert {o["key"]: o["records"] for o in one["left_without"]} == {"n30": 1, "n60": 0, "now": 0}
    asked: dict[str, Any] = {
        "revision": told["revision"],
        "mapping": one["mapping"],
        "pairs": [{"left_key": "n30", "right_key": "1"}],
    }
    done = boss_api.post(url(people, "options/save/"), asked, format="json")
    assert done.status_code == 200 and done.json()["changed"] == ["added Net 30 = Net 30 "]
    assert PicklistMapping.objects.get().token == "1"
    other = {**asked, "pairs": [{"left_key": "n60", "right_key": "2"}]}
    assert boss_api.post(url(people, "options/save/"), other, format="json").status_code == 409
    wrong = {**asked, "revision": done.json()["revision"], "unmapped": "default", "default": "nothing"}
    assert boss_api.post(url(people, "options/save/"), wrong, format="json").status_code == 400


def test_files_are_taken_only_as_previewed(boss_api: APIClient, people: TwoSystems) -> None:
    text = boss_api.get(url(people, "export/"), {"what": "fields"}).json()["csv"]
    same = boss_api.post(url(people, "import/"), {"what": "fields", "csv": text}, format="json").json()
    assert (same["added"], same["changed"], same["removed"], same["saved"]) == ([], [], [], False)
    other = text.replace("city,city,Both ways", "city,city,Left to right")
    told = boss_api.post(url(people, "import/"), {"what": "fields", "csv": other}, format="json").json()
    assert told["changed"][0]["row"] == "city → city"
    asked = {"what": "fields", "csv": other, "confirm": same["print"]}
    assert boss_api.post(url(people, "import/"), asked, format="json").status_code == 409
    done = boss_api.post(url(people, "import/"), {**asked, "confirm": told["print"]}, format="json").json()
    assert done["saved"] and FieldMapping.objects.get(left="city").direction == "to_right"
    assert boss_api.get(url(people, "export/"), {"what": "x"}).status_code == 400


def test_drift_is_told(boss_api: APIClient, people: TwoSystems) -> None:
    without(people, "right", "city")
    assert boss_api.get(url(people, "drift/")).json()["drift"] == []
    told = boss_api.post(url(people, "schema/"), format="json").json()
    assert [(row["kind"], row["field"]) for row in told["drift"]] == [("field", "city")]
    assert boss_api.get(url(people, "drift/")).json() == told


@pytest.mark.parametrize("group", ["Viewer", "Operator"])
def test_only_administrators_write(member: Callable[[str], APIClient], people: TwoSystems, group: str) -> None:
    client = member(group)
    mapping = FieldMapping.objects.get(left="city")
    for rest in ("", "proposals/", "options/", "export/", "drift/"):
        assert client.get(url(people, rest)).status_code == 200, rest
    revision = client.get(url(people)).json()["revision"]
    for answer in (
        client.post(url(people), {"left": "born", "right": "age", "revision": revision}, format="json"),
        client.patch(url(people, f"{mapping.pk}/"), {"when": "create", "revision": revision}, format="json"),
        client.delete(url(people, f"{mapping.pk}/?revision={revision}")),
        client.post(url(people, "options/save/"), {"revision": revision, "mapping": 1, "pairs": []}, format="json"),
        client.post(url(people, "import/"), {"what": "fields", "csv": "Left field,Right field\n"}, format="json"),
    ):
        assert answer.status_code == 403
    asks = 200 if group == "Operator" else 403
    assert client.post(url(people, "schema/"), format="json").status_code == asks
    record = RecordLink.objects.get().pk
    assert client.post(url(people, "test/"), {"record": record}, format="json").status_code == asks
    look(people)
    assert APIClient().get(url(people)).status_code in (401, 403)
