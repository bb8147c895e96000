"""Is a number that no column can hold the asker's mistake, and not ours?"""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.test import Client

pytestmark = pytest.mark.django_db
HUGE = "9" * 25


@pytest.fixture
def boss(client: Client) -> Client:
    client.force_login(User.objects.create_superuser("ada", password="a long enough secret"))
    return client


@pytest.mark.parametrize(
    "path",
    [
        f"/api/v1/jobs/?ids={HUGE}",
        f"/api/v1/failing/?integration={HUGE}",
        "/api/v1/jobs/?created_after=0001-01-01T00:00:00%2B14:00",
    ],
)
def test_the_api_says_400_in_json(boss: Client, path: str) -> None:
    answer = boss.get(path)
    assert answer.status_code == 400
    assert answer.headers["Content-Type"].startswith("application/json")


@pytest.mark.parametrize(
    "path",
    [
        f"/admin/jobs/job/?id__in={HUGE}",
        f"/admin/jobs/job/?integration={HUGE}",
        f"/admin/connectors/apicall/?connection={HUGE}",
        "/admin/conflicts/?where=i²",
        "/admin/conflicts/?after=²-1",
        "/admin/connectors/recordlink/?pending=²",
        "/admin/connectors/recordlink/?entity_sync=²",
    ],
)
def test_a_page_says_so_or_passes_it_over(boss: Client, path: str) -> None:
    assert boss.get(path).status_code in (200, 302, 400)
