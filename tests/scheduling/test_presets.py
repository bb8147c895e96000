"""Does every way of applying a preset bring its services along?"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client
from rest_framework.test import APIClient

from connectors.dynamics365.simulator import DynamicsSimulator
from connectors.models import Connection
from connectors.quickbooks.simulator import QuickBooksSimulator
from connectors.sync.presets import presets
from connectors.transport import check
from scheduling.models import Service
from tests.acceptance.conftest import connection_to

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def ends() -> Iterator[dict[str, Connection]]:
    """Connections to both simulated systems."""
    with QuickBooksSimulator(records=5, seed=7) as left, DynamicsSimulator(seed=7) as right:
        found = {"left": connection_to(left, "Books"), "right": connection_to(right, "Sales")}
        for end in found.values():
            check(end)
        yield found


def by_command(name: str, ends: dict[str, Connection]) -> None:
    call_command("preset", "apply", "inolink", name, "--left", "Books", "--right", "Sales", verbosity=0)


def by_api(name: str, ends: dict[str, Connection]) -> None:
    client = APIClient()
    client.force_login(User.objects.create_superuser("ada", password="a long enough secret"))
    asked = {"name": name, "left": ends["left"].pk, "right": ends["right"].pk}
    answer = client.post("/api/v1/presets/inolink/apply/", asked, format="json")
    assert len(answer.json()["services"]) == Service.objects.count()


def by_page(name: str, ends: dict[str, Connection]) -> None:
    client = Client()
    client.force_login(User.objects.create_superuser("ada", password="a long enough secret"))
    asked = {"name": name, "left": ends["left"].pk, "right": ends["right"].pk, "first_run": "preview"}
    options = {f"option_{option}": what.get("default", "") for option, what in presets()["inolink"].options.items()}
    page = client.post("/admin/connectors/integration/preset/?preset=inolink", {**asked, **options})
    assert "Go to its services" in page.content.decode()


@pytest.mark.parametrize("apply", [by_command, by_api, by_page])
def test_an_integration_has_the_services_of_its_preset_switched_off(apply, ends: dict[str, Connection]) -> None:  # type: ignore[no-untyped-def]
    apply("Books with Sales", ends)
    made = Service.objects.filter(integration__name="Books with Sales").order_by("position")
    assert [service.name for service in made] == [told["name"] for told in presets()["inolink"].services]
    assert not any(service.enabled for service in made)
