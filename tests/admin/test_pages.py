"""Does every page open, at a constant cost, and show values as text and no secret?"""

from __future__ import annotations

import re
from uuid import uuid4

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.db import connection as database
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from connectors.admin.base import relative
from connectors.admin.lists import CappedPaginator
from connectors.models import ApiCall, Connection, Event, RecordChange, RecordLink, Run
from connectors.registry import connector_class
from jobs.models import Job
from jobs.syncing import request_sync
from tests.admin.conftest import HOSTILE
from tests.sync.worlds import TwoSystems

SECRET = "tell-nobody-7f3a"


def address(model: type, page: str, *args: object) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}", args=args)  # type: ignore[attr-defined]


def test_every_list_and_every_detail_page_opens(boss: Client, world: TwoSystems) -> None:
    request_sync(world.integration)
    opened = 0
    for model in admin.site._registry:
        assert boss.get(address(model, "changelist")).status_code == 200, model
        for row in model._default_manager.order_by("-pk")[:3]:
            assert boss.get(address(model, "change", row.pk)).status_code == 200, (model, row)
            opened += 1
    assert opened >= 20
    assert boss.get(reverse("admin:index")).status_code == 200


def test_every_link_opens_whatever_its_state(boss: Client, world: TwoSystems) -> None:
    for link in RecordLink.objects.all():
        assert boss.get(address(RecordLink, "change", link.pk)).status_code == 200


@pytest.mark.parametrize(
    "query", ["?pending=hands", "?pending=none", "?pending=4", "?reason=conflict", "?entity_sync=1", "?pending=x"]
)
def test_the_filters_of_records_open(boss: Client, world: TwoSystems, query: str) -> None:
    assert boss.get(address(RecordLink, "changelist") + query).status_code == 200


def test_problems_are_what_waits_for_a_person(boss: Client, world: TwoSystems) -> None:
    page = boss.get(address(RecordLink, "changelist") + "?pending=hands")
    assert sorted(link.reason for link in page.context["cl"].queryset) == ["conflict", "waits for approval"]


def test_search_finds_exact_ids_and_keys_only(boss: Client, world: TwoSystems) -> None:
    link = RecordLink.objects.filter(left_id__isnull=False, right_id__isnull=False).first()
    assert link is not None
    for term in (link.left_id, link.right_id, link.key):
        found = boss.get(address(RecordLink, "changelist"), {"q": term}).context["cl"].queryset
        assert link in found
        assert all(term in (row.left_id, row.right_id, row.key) for row in found)
    assert not boss.get(address(RecordLink, "changelist"), {"q": link.key[:8]}).context["cl"].queryset


def test_an_empty_list_says_what_can_be_done_and_no_more(boss: Client, world: TwoSystems) -> None:
    records = address(RecordLink, "changelist")
    found = boss.get(records, {"q": "Ada"}).content.decode()
    assert "Nothing matches. Reset the filters." in found and "Create a new item" not in found
    assert "not the name" in found, "what the search looks for is said where somebody looked for something else"
    RecordLink.objects.all().delete()
    empty = boss.get(records).content.decode()
    assert "There is none yet." in empty and "Reset the filters" not in empty


def test_hostile_values_are_shown_as_text(boss: Client, world: TwoSystems) -> None:
    link = next(row for row in RecordLink.objects.all() if "script" in row.base)
    change = RecordChange.objects.filter(link=link).latest("id")
    Event.objects.create(
        integration=world.integration, link=link, code="x", message=HOSTILE, actor=HOSTILE, at=timezone.now()
    )
    Run.objects.filter(pk=change.run_id).update(error=HOSTILE, guard={"tripped": [HOSTILE]})
    Connection.objects.update(reason=HOSTILE)
    pages = [
        address(RecordLink, "changelist"), address(RecordLink, "change", link.pk), address(RecordChange, "changelist"),
        address(RecordChange, "change", change.pk), address(Run, "change", change.run_id), address(Run, "changelist"),
        address(Event, "changelist"), address(Connection, "changelist"), reverse("admin:index"),
    ]  # fmt: skip
    seen = 0
    for page in pages:
        text = boss.get(page).content.decode()
        assert HOSTILE not in text, page
        seen += "&lt;script&gt;alert(1)" in text
    assert seen >= 7


def test_no_page_loads_anything_from_another_host(boss: Client, world: TwoSystems) -> None:
    link = RecordLink.objects.first()
    assert link is not None
    for page in (reverse("admin:index"), address(RecordLink, "change", link.pk), address(Connection, "changelist")):
        text = boss.get(page).content.decode()
        assert not re.findall(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=[\"'](?:https?:)?//", text), page


# Constant number of queries


def more_of(world: TwoSystems, model: type, count: int) -> None:
    """Add so many rows."""
    sync, scope, now = world.sync, world.scope, timezone.now()
    if model is RecordLink:
        RecordLink.objects.bulk_create(
            RecordLink(
                key=str(uuid4()), integration=world.integration, entity_sync=sync, family="person", scope=scope, pending=5,
                left_entity="person", left_id=f"x{uuid4()}", base='{"name>name":"X"}', reason="parked", args="{}",
            )
            for n in range(count)
        )  # fmt: skip
    elif model is RecordChange:
        more_of(world, RecordLink, count)
        run = Run.objects.latest("id")
        RecordChange.objects.bulk_create(
            RecordChange(
                run=run,
                link=link,
                entity_sync=sync,
                side="left",
                verb="update",
                status="written",
                key=str(uuid4()),
                at=now,
            )
            for link in RecordLink.objects.order_by("-id")[:count]
        )
    elif model is Run:
        Run.objects.bulk_create(Run(integration=world.integration, scope=scope, started_at=now) for n in range(count))
    elif model is Event:
        more_of(world, RecordLink, count)
        Event.objects.bulk_create(
            Event(integration=world.integration, link=link, run=Run.objects.latest("id"), code="x", message="m", at=now)
            for link in RecordLink.objects.order_by("-id")[:count]
        )
    elif model is ApiCall:
        ApiCall.objects.bulk_create(
            ApiCall(connection=world.integration.left, at=now, method="GET", path="/x", status=200)
            for n in range(count)
        )
    else:
        assert model is Job
        Job.objects.bulk_create(
            Job(
                type="sync",
                scope=scope,
                run=Run.objects.latest("id"),
                run_at=now,
                created_at=now,
                created_by=User.objects.first(),
            )
            for n in range(count)
        )


def queries(client: Client, page: str) -> int:
    with CaptureQueriesContext(
        database,
    ) as captured:
        assert client.get(page).status_code == 200
    return len(captured)


@pytest.mark.parametrize("model", [RecordLink, RecordChange, Run, Event, ApiCall, Job])
def test_a_list_costs_the_same_for_10_and_200_rows(boss: Client, world: TwoSystems, model: type) -> None:
    more_of(world, model, 10)
    page = address(model, "changelist")
    boss.get(page)
    few = queries(boss, page)
    more_of(world, model, 190)
    assert queries(boss, page) == few


def test_the_overview_costs_the_same_for_more_links_and_runs(boss: Client, world: TwoSystems) -> None:
    more_of(world, Run, 10)
    few = queries(boss, reverse("admin:index"))
    more_of(world, RecordLink, 200)
    more_of(world, Run, 50)
    assert queries(boss, reverse("admin:index")) == few


def test_the_page_of_a_run_costs_the_same_for_more_changes(boss: Client, world: TwoSystems) -> None:
    run = Run.objects.latest("id")
    more_of(world, RecordChange, 10)
    few = queries(boss, address(Run, "change", run.pk))
    more_of(world, RecordChange, 30)
    assert queries(boss, address(Run, "change", run.pk)) == few


def test_a_long_list_is_counted_to_a_limit(world: TwoSystems, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CappedPaginator, "most", 5)
    paginator = CappedPaginator(RecordLink.objects.order_by("-id"), 2)
    assert (paginator.count, paginator.capped) == (6, True)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (2, "just now"),
        (40, "40 s ago"),
        (120, "2 min ago"),
        (7200, "2 hours ago"),
        (86400, "1 day ago"),
        (-90, "in 1 min"),
    ],
)
def test_times_are_told_relative(seconds: int, words: str) -> None:
    now = timezone.now()
    assert relative(now - timezone.timedelta(seconds=seconds), now) == words


# Secrets


def test_a_secret_goes_in_and_never_comes_out(boss: Client) -> None:
    boss.post(address(Connection, "add"), {"system": "dynamics365", "name": "CRM"})
    connection = Connection.objects.get(name="CRM")
    page = address(Connection, "change", connection.pk)
    form = boss.get(page).context["adminform"].form
    asked = {name: field.initial for name, field in form.fields.items() if name.startswith("setting_")}
    given = {name: value or ("https://crm.example.com" if "url" in name else "x") for name, value in asked.items()}
    given |= {"name": "CRM", "secret_client_id": "an-id", "secret_client_secret": SECRET}
    assert boss.post(page, given).status_code == 302
    connection.refresh_from_db()
    assert connection.get_secret() == {"client_id": "an-id", "client_secret": SECRET}
    history = reverse("admin:connectors_connection_history", args=[connection.pk])
    for shown in (page, address(Connection, "changelist"), history, "/api/v1/connections/"):
        answer = boss.get(shown)
        assert answer.status_code == 200
        assert SECRET not in answer.content.decode(), shown
    # Empty fields keep what is there.
    assert boss.post(page, {**given, "secret_client_id": "", "secret_client_secret": ""}).status_code == 302
    connection.refresh_from_db()
    assert connection.get_secret()["client_secret"] == SECRET


def test_stored_credentials_are_not_sent_to_a_new_address(boss: Client) -> None:
    connection = Connection.objects.create(system="dynamics365", name="CRM", settings={})
    connection.set_secret({"client_id": "an-id", "client_secret": SECRET})
    page = address(Connection, "change", connection.pk)
    form = boss.get(page).context["adminform"].form
    url = "setting_" + next(s.name for s in connector_class("dynamics365").settings if s.is_url)
    asked = {name: field.initial for name, field in form.fields.items() if name.startswith("setting_")}
    given = {name: value or ("https://crm.example.com" if "url" in name else "x") for name, value in asked.items()}
    answer = boss.post(page, {**given, "name": "CRM", url: "https://elsewhere.example"})
    assert answer.status_code == 200
    assert "enter the credentials again" in answer.content.decode()
    connection.refresh_from_db()
    assert "elsewhere" not in str(connection.settings)


def test_a_connection_in_use_is_not_deleted(boss: Client, world: TwoSystems) -> None:
    pk = world.integration.left_id
    assert boss.post(address(Connection, "delete", pk), {"post": "yes"}).status_code == 403
    assert Connection.objects.filter(pk=pk).exists()
