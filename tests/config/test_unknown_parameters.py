"""Does every list of the API refuse a parameter that it does not know, and a value that can't be, instead of passing it over?"""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from rest_framework.test import APIClient

from tests.config.test_unknown_keys import address, document
from tests.sync.worlds import TwoSystems

pytestmark = pytest.mark.django_db


@pytest.fixture
def boss() -> APIClient:
    client = APIClient()
    client.force_login(User.objects.create_superuser("boss", password="a long enough secret"))
    return client


def test_every_list_refuses_an_unknown_parameter_and_takes_those_that_it_documents(
    boss: APIClient, everything: TwoSystems
) -> None:
    """Each documented one is sent empty, which asks for nothing; it must be known."""
    seen, wrong = 0, []
    for path, operations in document()["paths"].items():
        told = operations.get("get", {})
        if not told.get("operationId", "").endswith("_list"):
            continue
        seen += 1
        where = address(path)
        answer = boss.get(where, {"no_such_parameter": "1"})
        if answer.status_code != 400 or "no such parameter" not in answer.json()["no_such_parameter"][0]:
            wrong.append(f"{path}: {answer.status_code} {answer.content[:200]!r}")
        for one in told.get("parameters", []):
            if one["in"] == "query" and "no such parameter" in boss.get(where, {one["name"]: ""}).content.decode():
                wrong.append(f"{path}: {one['name']} is documented and refused")
    assert not wrong, "\n".join(wrong)
    assert seen > 20


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("links/?state=bogus", "state"),
        ("links/?page_size=abc", "page_size"),
        ("links/?page_size=0", "page_size"),
        ("links/?page_size=-5", "page_size"),
        ("links/?agreed=maybe", "agreed"),
        ("links/?pending=bogus", "pending"),
        ("integrations/?enabled=maybe", "enabled"),
        ("problems/?resolved=maybe", "resolved"),
    ],
)
def test_a_wrong_value_is_refused_at_its_name(boss: APIClient, query: str, name: str) -> None:
    answer = boss.get(f"/api/v1/{query}")
    assert (answer.status_code, list(answer.json())) == (400, [name])


@pytest.mark.parametrize(
    "query", ["links/?agreed=true&page_size=9999", "integrations/?enabled=false", "links/?agreed="]
)
def test_a_right_one_is_taken(boss: APIClient, query: str) -> None:
    assert boss.get(f"/api/v1/{query}").status_code == 200


def test_what_is_not_there_is_named_in_words(boss: APIClient) -> None:
    answer = boss.get("/api/v1/links/987654/")
    assert (answer.status_code, answer.json()) == (404, {"detail": "There is no such record link."})
