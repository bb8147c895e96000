"""A person finds the records that are of no company, from the connection and from the preferences."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Permission, User
from django.core.management import call_command
from django.test import Client
from django.urls import reverse

from connectors.admin import unrouted as page
from connectors.models import Integration, RecordLink
from tests.sync.families import Families
from tests.sync.test_routing import NORTH, SOUTH, routed

pytestmark = pytest.mark.django_db


@pytest.fixture
def north() -> Families:
    """Two companies, an account of the second, three of nobody."""
    world = routed(Families(name="north"), NORTH)
    south = routed(Families(name="south", beside=world), SOUTH)
    world.right.create("account", {"name": "Looms", "company": SOUTH})
    for name, company in (("Lost 1", None), ("Lost 2", "9"), ("Lost 3", None)):
        world.right.create("account", {"name": name, "company": company})
    for _ in range(2):
        world.run()
        south.run()
    return world


def shown(client: Client, world: Families) -> str:
    answer = client.get(reverse(page.PAGE, args=[world.integration.right_id]))
    assert answer.status_code == 200
    return answer.content.decode()


def somebody(*rights: str) -> Client:
    user = User.objects.create_user("ada", password="long enough for us", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=rights))
    client = Client()
    client.force_login(user)
    return client


def test_each_record_is_shown_once_with_what_its_column_holds_and_leads_to_its_explanation(north: Families) -> None:
    text = shown(somebody("view_integration", "view_recordlink"), north)
    assert [text.count(name) for name in ("Lost 1", "Lost 2", "Lost 3", "Looms")] == [1, 1, 1, 0]
    assert text.count('<span class="sl-mono">company</span>') == 3
    assert text.count('<span class="sl-mono">9</span>') == 1
    assert "3 records" in text
    link = RecordLink.objects.filter(right_staged__contains="Lost 1").earliest("id")
    assert reverse("admin:connectors_recordlink_change", args=[link.pk]) in text
    assert text.count("<time datetime=") >= 3


def test_more_records_than_the_page_holds_are_said_to_be_there(
    north: Families, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "MOST", 2)
    text = shown(somebody("view_integration", "view_recordlink"), north)
    assert "the first 2 records, and more" in text
    assert "And more" in text
    assert "Lost 3" not in text


def test_who_may_not_see_records_sees_no_names_and_who_may_not_see_integrations_nothing(north: Families) -> None:
    client = somebody("view_integration")
    text = shown(client, north)
    assert ("Lost" in text, text.count("account 10") >= 3) == (False, True)
    User.objects.all().delete()
    answer = somebody("view_connection", "view_recordlink").get(reverse(page.PAGE, args=[north.integration.right_id]))
    assert answer.status_code == 403


def test_connection_and_preferences_lead_to_the_page(north: Families) -> None:
    Integration.objects.filter(pk=north.integration.pk).update(preset="inolink")
    address = reverse(page.PAGE, args=[north.integration.right_id])
    client = somebody("view_integration", "view_connection")
    for name, pk in (
        ("connectors_connection_change", north.integration.right_id),
        ("connectors_integration_preferences", north.integration.pk),
    ):
        assert address in client.get(reverse(f"admin:{name}", args=[pk])).content.decode(), name
    User.objects.all().delete()
    stranger = somebody("view_connection")
    there = stranger.get(reverse("admin:connectors_connection_change", args=[north.integration.right_id]))
    assert (there.status_code, address in there.content.decode()) == (200, False)


def test_the_command_says_how_many_there_are(north: Families, capsys: pytest.CaptureFixture[str]) -> None:
    call_command("links", "unrouted", "right")
    lines = capsys.readouterr().out.splitlines()
    assert (len(lines), lines[-1]) == (4, "3 records.")
    assert "company is 9, which no integration has" in "".join(lines)
