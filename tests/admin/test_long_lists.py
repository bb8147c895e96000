"""Do lists stay quick when they are long?  What is sorted, counted and skipped, and which index finds it."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group, Permission
from django.db import connection as database
from django.db.models import QuerySet
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from connectors.admin import base
from connectors.admin.lists import CappedPaginator
from connectors.models import RecordChange, RecordLink, Run
from connectors.sync import health
from connectors.sync.finding import of_run
from jobs import clock
from jobs.models import Job
from scheduling.models import Service
from scheduling.standing import last_jobs
from tests.sync.worlds import TwoSystems

RECORDS = reverse("admin:connectors_recordlink_changelist")


def plan_of(rows: QuerySet[Any]) -> str:
    """How the database goes about it."""
    return rows.explain()


@pytest.fixture
def on_sqlite() -> None:
    if database.vendor != "sqlite":
        pytest.skip("PostgreSQL's planner rightly reads the small tables of a test whole: `make bench ARGS=lists`")


# Sorting


def test_no_address_sorts_a_list_by_what_it_does_not_offer(boss: Client, world: TwoSystems) -> None:
    request = RequestFactory().get("/")
    request.user = boss.get(RECORDS).context["user"]
    looked = 0
    for model, page in admin.site._registry.items():
        if not isinstance(page, base.ReadOnly):
            continue
        plain = page.get_changelist_instance(request)  # type: ignore[arg-type]
        for number, column in enumerate(plain.list_display):
            if page.sortable_by is not None and column not in page.sortable_by:
                asked = RequestFactory().get("/", {"o": str(number)})
                asked.user = request.user
                sorted_by = page.get_changelist_instance(asked).queryset.query.order_by  # type: ignore[arg-type]
                assert sorted_by[0] == plain.queryset.query.order_by[0], (model, column)
                looked += 1
    assert looked > 30


def test_what_a_list_offers_sorts_it(boss: Client, world: TwoSystems) -> None:
    page = boss.get(reverse("admin:connectors_recordchange_changelist") + "?o=0")
    ids = [change.pk for change in page.context["cl"].result_list]
    assert ids == sorted(ids) and len(ids) > 5


# Pages


@pytest.mark.parametrize("number", [1, 2, 3, 5])
def test_a_page_found_by_ids_shows_what_it_always_showed(world: TwoSystems, number: int) -> None:
    rows = RecordLink.objects.select_related("entity_sync").order_by("-left_id", "id")
    for each in (rows, rows.filter(pending__isnull=True)):
        shown = CappedPaginator(each, 2).page(number).object_list
        assert list(shown) == list(each[2 * number - 2 : 2 * number])
        assert len(shown) == 2


def test_rows_are_skipped_without_what_belongs_to_them(boss: Client, world: TwoSystems, monkeypatch: Any) -> None:
    monkeypatch.setattr(admin.site._registry[RecordChange], "list_per_page", 2)
    with CaptureQueriesContext(database) as asked:
        page = boss.get(reverse("admin:connectors_recordchange_changelist") + "?p=3")
    assert len(page.context["cl"].result_list) == 2
    [skipping] = [query["sql"] for query in asked.captured_queries if "OFFSET" in query["sql"]]
    inner = skipping[skipping.index("IN (SELECT") :]
    assert "OFFSET 4" in inner and "JOIN" not in inner


# Counts


def test_beyond_the_limit_nobody_counts(boss: Client, world: TwoSystems, monkeypatch: pytest.MonkeyPatch) -> None:
    agreed = RecordLink.objects.filter(pending__isnull=True, ended=0).count()
    [exactly] = health.overview([world.integration])
    assert (exactly.agreed, exactly.counts["conflict"], exactly.approvals) == (agreed, 1, 1)
    assert agreed > 5
    monkeypatch.setattr(health, "MOST_COUNTED", 3)
    [capped] = health.overview([world.integration])
    assert (capped.agreed, capped.counts["conflict"], capped.approvals) == (4, 1, 1)
    assert (health.many(4), health.many(3)) == ("3+", "3")
    for page in ("admin:connectors_integration_changelist", "admin:connectors_integration_change"):
        url = reverse(page, args=[world.integration.pk] if page.endswith("change") else [])
        assert "3+" in boss.get(url).content.decode(), page
    [told] = boss.get("/api/v1/integrations/").json()["results"]
    assert told["health"]["agreed"] == 4


def test_an_integration_without_links_counts_nothing(world: TwoSystems) -> None:
    RecordChange.objects.all().delete()
    RecordLink.objects.all().delete()
    [found] = health.overview([world.integration])
    assert (found.agreed, sum(found.counts.values()), found.approvals) == (0, 0, 0)


# Indexes


def test_the_lists_of_records_are_found_by_index(on_sqlite: None, world: TwoSystems) -> None:
    links, sync = RecordLink.objects.order_by("-id"), world.sync.pk
    asked = {
        "link_by_state": links.filter(pending=5),
        "link_by_reason": links.filter(pending__isnull=False, reason="conflict", entity_sync=sync),
        "link_agreed": links.filter(entity_sync=sync, pending__isnull=True, ended=0),
        "link_by_sync": links.filter(entity_sync=sync),
    }
    for index, rows in asked.items():
        plan = plan_of(rows.values("pk"))
        assert index in plan and "TEMP B-TREE" not in plan, plan


def test_the_changes_of_a_run_are_found_where_they_stand(on_sqlite: None, world: TwoSystems) -> None:
    run = Run.objects.filter(changes__isnull=False).latest("id")
    mine = RecordChange.objects.filter(run=run).order_by("-id")
    assert list(RecordChange.objects.filter(of_run(run.pk)).order_by("-id")) == list(mine) != []
    assert not RecordChange.objects.filter(of_run(run.pk + 1000)).exists()
    plan = plan_of(RecordChange.objects.filter(of_run(run.pk)).order_by("-id"))
    assert "change_of_run" in plan and "SCAN" not in plan, plan


def test_the_last_job_of_a_service_is_found_among_those_of_others(world: TwoSystems) -> None:
    now = clock.now()
    one, other, never = (Service.objects.create(integration=world.integration, name=name) for name in "abc")
    for ref in (one.pk, one.pk, other.pk, f"{one.pk}0", one.pk, other.pk):
        Job.objects.create(
            type="sync", run_at=now, created_at=now, object_ref=f"service:{ref}", status_reason="succeeded"
        )
    found = last_jobs([one, other, never])
    newest = {ref: Job.objects.filter(object_ref=f"service:{ref}").latest("id") for ref in (one.pk, other.pk)}
    assert found == newest


# What no page needs


def test_jobs_by_status_are_not_compared_with_each_other(boss: Client, world: TwoSystems) -> None:
    with CaptureQueriesContext(database) as asked:
        assert boss.get("/api/v1/jobs/?status_reason=failed&status_reason=cancelled").status_code == 200
    assert not [query for query in asked.captured_queries if "DISTINCT" in query["sql"]]


def test_a_groups_page_costs_the_same_for_many_rights(boss: Client, db: None) -> None:
    group = Group.objects.create(name="Many")
    page = reverse("admin:auth_group_change", args=[group.pk])
    boss.get(page)
    with CaptureQueriesContext(database) as few:
        boss.get(page)
    group.permissions.set(Permission.objects.all()[:100])
    with CaptureQueriesContext(database) as many:
        boss.get(page)
    assert len(many) <= len(few) + 1
