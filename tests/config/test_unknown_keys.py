"""Does every write operation of the API refuse a key that it does not know, at that key, and change nothing?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from drf_spectacular.generators import SchemaGenerator
from rest_framework import serializers
from rest_framework.test import APIClient

from config.api import router
from config.bodies import unknown
from connectors.models import Connection
from tests.config.addresses import newest, state
from tests.sync.worlds import TwoSystems

KEY = "no_such_key"
UNSAFE = ("post", "put", "patch", "delete")


def document() -> dict[str, Any]:
    found: dict[str, Any] = SchemaGenerator().get_schema(request=None, public=True)
    return found


def writes() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Return (path, method, operation) of whatever changes something."""
    for path, operations in document()["paths"].items():
        for method, operation in operations.items():
            if method in UNSAFE:
                yield path, method, operation


def address(path: str) -> str:
    """Put the id of an object that there is into a path."""
    noun = path.removeprefix("/api/v1/").partition("/")[0]
    views = {name: view for name, view, _ in router.registry}
    queryset = getattr(views.get(noun), "queryset", None)
    pk: object = "inolink" if noun == "presets" else newest(queryset.model) if queryset is not None else 1
    parts = [str(pk) if part.startswith("{") else part for part in path.split("/")]
    return "/".join(parts)


@pytest.mark.django_db(transaction=True)
def test_every_write_operation_refuses_an_unknown_key_at_that_key(everything: TwoSystems) -> None:
    client = APIClient()
    client.force_login(User.objects.create_superuser("boss", password="a long enough secret"))
    before, seen, wrong = state(), 0, []
    for path, method, _operation in writes():
        answer = getattr(client, method)(address(path), {KEY: 1}, format="json")
        told = answer.json() if answer.content else {}
        if answer.status_code != 400 or KEY not in told or "no such key" not in told[KEY][0]:
            wrong.append(f"{method} {path}: {answer.status_code} {told}")
        seen += 1
    assert not wrong, "\n".join(wrong)
    assert seen > 60
    assert state() == before


def test_the_description_says_that_bodies_have_no_further_keys() -> None:
    found = document()
    shapes = found["components"]["schemas"]
    open_ended = []
    for path, method, operation in writes():
        for content in operation.get("requestBody", {}).get("content", {}).values():
            shape = content["schema"]
            while "$ref" in shape:
                shape = shapes[shape["$ref"].rpartition("/")[2]]
            if shape.get("additionalProperties") is not False:
                open_ended.append(f"{method} {path}")
    assert not open_ended


class InnerSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()


class OuterSerializer(serializers.Serializer[Any]):
    one = InnerSerializer()
    many = InnerSerializer(many=True)
    listed = serializers.ListField(child=InnerSerializer())
    free = serializers.DictField()
    shown = serializers.CharField(read_only=True)


@pytest.mark.parametrize(
    ("given", "where"),
    [
        ({"one": {"nme": 1}}, {"one": {"nme": ["There is no such key. Known: name."]}}),
        ({"many": [{"name": 1}, {"nme": 1}]}, {"many": [{}, {"nme": ["There is no such key. Known: name."]}]}),
        ({"listed": [{"nme": 1}]}, {"listed": [{"nme": ["There is no such key. Known: name."]}]}),
        ({"free": {"anything": {"goes": 1}}}, {}),
        ({"shown": "x"}, {"shown": ["This can be read, not set."]}),
        ({"many": "no list", "one": None}, {}),
        ([{"one": 1}], {}),
    ],
)
def test_keys_are_looked_at_however_deep_they_stand(given: Any, where: Any) -> None:
    assert unknown(OuterSerializer(), given) == where


@pytest.mark.django_db
def test_a_misspelt_key_is_told_with_those_that_there_are(member: Callable[[str], User]) -> None:
    client = APIClient()
    client.force_login(member("Administrator"))
    connection = Connection.objects.create(system="memory", name="Books")
    answer = client.patch(f"/api/v1/connections/{connection.pk}/", {"nmae": "Sales", "state": "connected"})
    assert answer.json() == {
        "nmae": ["There is no such key. Known: system, name, settings, secret."],
        "state": ["This can be read, not set."],
    }
    connection.refresh_from_db()
    assert connection.name == "Books"


@pytest.mark.django_db
@pytest.mark.parametrize(("method", "address"), [("put", "jobs/"), ("patch", "runs/1/"), ("post", "jobs/figures/")])
def test_an_operation_that_there_is_not_is_answered_as_such_whatever_was_sent(method: str, address: str) -> None:
    client = APIClient()
    client.force_login(User.objects.create_superuser("boss", password="a long enough secret"))
    answer = getattr(client, method)(f"/api/v1/{address}", {KEY: 1}, format="json")
    assert (answer.status_code, KEY in answer.json()) == (405, False)


@pytest.mark.django_db
def test_who_may_not_write_is_told_that_and_not_what_the_keys_are(member: Callable[[str], User]) -> None:
    client = APIClient()
    client.force_login(member("Viewer"))
    assert client.post("/api/v1/connections/", {KEY: 1}).status_code == 403


@pytest.mark.django_db
@pytest.mark.parametrize("body", [["a list"], "a text", 3])
def test_what_takes_no_body_takes_no_list_either(member: Callable[[str], User], body: object) -> None:
    client = APIClient()
    client.force_login(member("Administrator"))
    connection = Connection.objects.create(system="memory", name="Books")
    answer = client.post(f"/api/v1/connections/{connection.pk}/pause/", body, format="json")
    assert answer.json() == {"detail": ["This takes no body."]}
