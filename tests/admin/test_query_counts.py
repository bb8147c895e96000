"""Does every list and every page ask the database as often with 1,000 rows as with 10?

The lists are those of the registry, of the router, and the pages of our own; a new one is looked at without being named here.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.db import connection as database
from django.db import models, transaction
from django.db.utils import IntegrityError
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from config.api import router
from connectors.models import Connection, Integration, ProblemGroup, RecordChange, RecordLink, Run, Scope
from jobs.models import Job, JobTransition
from tests.config.addresses import admin_addresses, api_addresses
from tests.config.conftest import everything
from tests.sync.worlds import TwoSystems

__all__ = ["everything"]  # a fixture
FEW, MANY = 10, 1000
SMALL = 60  # of what is settings: nobody has a thousand integrations, yet nothing is asked for each of them
AT = datetime(2026, 3, 2, 9, tzinfo=UTC)
SETTINGS = {
    "connectors.integration", "connectors.connection", "connectors.entitysync", "auth.group", "auth.user",
    "scheduling.service", "jobs.workerheartbeat",
}  # fmt: skip


class Filler:
    """Makes more rows of any model, as copies of one that there is with its unique columns changed."""

    number = 10_000  # of the last copy: no two fillers make the same

    def fill(self, model: type[models.Model], count: int) -> bool:
        """Bring a model's table to that many rows, if it holds one to copy."""
        there = model._base_manager.count()
        first = model._base_manager.order_by("pk").first()
        if first is None or there >= count:
            return first is not None
        rows = [self.copy(first) for _ in range(count - there)]
        try:
            with transaction.atomic():
                model._base_manager.bulk_create(rows, batch_size=200)
        except IntegrityError:  # a rule about one row of a kind (an open request, a pause): as many as there can be
            return False
        return True

    def copy(self, first: models.Model) -> models.Model:
        Filler.number += 1
        values: dict[str, object] = {}
        for column in first._meta.concrete_fields:
            value = getattr(first, column.attname)
            if column.primary_key:
                continue
            if isinstance(column, models.ForeignKey | models.OneToOneField) and column.unique:
                value = self.parent(column)
            elif self.unique(first, column):
                value = self.another(column, value)
            values[column.attname] = value
        return type(first)(**values)

    def parent(self, column: Any) -> object:
        """A row of a one-to-one relation needs a row of its own on the other side."""
        other = column.related_model._base_manager.order_by("pk").first()
        made = self.copy(other)
        made.save(force_insert=True)
        return made.pk

    def unique(self, row: models.Model, column: Any) -> bool:
        """Is it unique by itself, or the column that tells rows apart within a rule of several?"""
        if column.unique:
            return True
        texts = (models.CharField, models.BigIntegerField, models.PositiveIntegerField)
        for rule in row._meta.constraints:
            if isinstance(rule, models.UniqueConstraint) and rule.fields:
                last = [name for name in rule.fields if isinstance(row._meta.get_field(name), texts)]
                free = [name for name in last if not row._meta.get_field(name).choices]
                if column.name in free and (column.name == free[-1] or column.name.endswith(("_id", "_key", "name"))):
                    return True
        return False

    def another(self, column: Any, value: object) -> object:
        if isinstance(column, models.UUIDField):
            return uuid.uuid4()
        if isinstance(column, models.IntegerField):
            return self.number
        return f"{str(value or '')[:8]}{self.number}"[: column.max_length or 100]


def fill(count: int) -> None:
    """Bring every table that an admin page or the API lists to that many rows, and what a detail page shows with it."""
    filler = Filler()
    small = min(count, SMALL)
    listed = [model for model in admin.site._registry if model._meta.label_lower in SETTINGS]
    for model in [Connection, Integration, *listed]:
        filler.fill(model, small)
    _scopes()
    for model in admin.site._registry:
        if model._meta.label_lower not in SETTINGS:
            filler.fill(model, count)
    for model in _of_the_router():
        filler.fill(model, small if model._meta.label_lower in SETTINGS else count)
    filler.fill(JobTransition, count)
    filler.fill(LogEntry, count)


def _scopes() -> None:
    """Each integration has its scope and a run, as in life."""
    for integration in Integration.objects.filter(scopes__isnull=True):
        scope = Scope.objects.create(integration=integration)
        Run.objects.create(integration=integration, scope=scope, phase="done", started_at=AT, finished_at=AT)


def _of_the_router() -> list[type[models.Model]]:
    found = []
    for _prefix, view, _name in router.registry:
        queryset = getattr(view, "queryset", None)
        if queryset is not None:
            found.append(queryset.model)
    return found


def addresses() -> dict[str, str]:
    """Every page that is shown by GET: lists, details and pages of our own, and every read of the API."""
    found = {}
    for address in admin_addresses():
        if not re.search(
            r":(jsi18n|login|logout|password_change\w*|view_on_site|autocomplete)$|_do$|_delete$|_add$", address.name
        ):
            found[f"{address.name} {address.url}"] = address.url
    for one in api_addresses():
        if "get" in one.methods and one.url.startswith("/api/") and "schema" not in one.url and "docs" not in one.url:
            found[f"{one.name} {one.url}"] = one.url
    return found


def asked(client: Client, url: str) -> tuple[int, list[str]]:
    """Return the status and the statements of a page."""
    with CaptureQueriesContext(database) as queries:
        answer = client.get(url)
        if hasattr(answer, "render") and not answer.is_rendered:
            answer.render()
    return answer.status_code, [query["sql"] for query in queries.captured_queries]


def shape(statement: str) -> str:
    """A statement without its values."""
    return re.sub(r"\b\d+\b|'[^']*'|\(\?(, \?)*\)|(?<=IN \()[^)]*", "?", statement)[:300]


@pytest.fixture
def few(boss: Client, everything: TwoSystems) -> Iterable[TwoSystems]:
    """Ten of everything, none of them special: the newest row of each kind is a copy like the others."""
    LogEntry.objects.create(
        user=User.objects.earliest("id"), content_type=ContentType.objects.get_for_model(Integration),
        object_id=str(everything.integration.pk), object_repr="both", action_flag=CHANGE,
    )  # fmt: skip
    fill(FEW)
    return everything


def measured(client: Client, urls: dict[str, str]) -> dict[str, tuple[int, list[str]]]:
    client.get(reverse("admin:index"))  # fills what the process remembers: kinds of rows, presets
    return {name: asked(client, url) for name, url in urls.items()}


@pytest.mark.slow
def test_every_page_asks_as_often_with_a_thousand_rows_as_with_ten(boss: Client, few: TwoSystems) -> None:
    urls = addresses()
    assert len(urls) > 90
    measured(boss, urls)
    before = measured(boss, urls)
    fill(MANY)
    after = measured(boss, urls)
    opened = [name for name, (status, _) in before.items() if status == 200]
    assert len(opened) > 75, sorted(set(before) - set(opened))
    worse = []
    for name, (status, statements) in after.items():
        was = before[name][1]
        if len(statements) > len(was):
            new = list(map(shape, statements))
            for one in map(shape, was):
                if one in new:
                    new.remove(one)
            worse.append(f"{name}: {len(was)} → {len(statements)}, such as {new[:2]}")
        assert status == before[name][0], name
    assert not worse, "\n".join(worse)
    for model in (RecordLink, RecordChange, Job, LogEntry, Run):
        assert model._default_manager.count() >= MANY, model


# Pages about one thing that holds many


def many_of_one(world: TwoSystems, count: int) -> dict[str, str]:
    """One run, record, integration, job, problem and connection to which all these rows belong."""
    filler = Filler()
    integration, scope = world.integration, world.scope
    run = Run.objects.filter(integration=integration, phase="done").earliest("id")
    link = RecordLink.objects.filter(reason="conflict").earliest("id")
    for row, columns in (
        (RecordChange.objects.filter(run=run).first(), {"run": run, "link": link}),
        (RecordChange.objects.filter(run=run).first(), {"run": run}),
        (RecordLink.objects.filter(reason="conflict").first(), {"touched_run": run.pk}),
    ):
        assert row is not None
        rows = []
        for _ in range(count):
            one = filler.copy(row)
            for name, value in columns.items():
                setattr(one, name, value)
            rows.append(one)
        type(row)._base_manager.bulk_create(rows, batch_size=200)
    group = ProblemGroup.objects.filter(kind="records").earliest("id")
    job = Job.objects.earliest("id")
    JobTransition.objects.bulk_create(
        JobTransition(job=job, to_status="waiting", actor="worker", at=AT) for _ in range(count)
    )
    kind = ContentType.objects.get_for_model(Integration)
    root = User.objects.earliest("id")
    LogEntry.objects.bulk_create(
        LogEntry(user=root, content_type=kind, object_id=str(integration.pk), object_repr="x", action_flag=CHANGE)
        for _ in range(count)
    )
    Run.objects.bulk_create(
        Run(integration=integration, scope=scope, phase="done", started_at=AT + timedelta(minutes=n))
        for n in range(count)
    )
    rows = (run, link, integration, job, group, integration.left)
    found = {row._meta.model_name or "": reverse(f"admin:connectors_{row._meta.model_name}_change", args=[row.pk])
             for row in rows if row is not job}  # fmt: skip
    found["job"] = reverse("admin:jobs_job_change", args=[job.pk])
    found["health"] = reverse("admin:connectors_connection_health", args=[integration.left_id])
    found["schedules"] = reverse("admin:scheduling_integration", args=[integration.pk])
    found["links of the run"] = f"{reverse('admin:connectors_recordlink_changelist')}?pending=4"
    found["overview"] = reverse("admin:index")
    return found


def test_a_page_about_one_thing_asks_as_often_when_it_holds_a_thousand(boss: Client, everything: TwoSystems) -> None:
    urls = many_of_one(everything, FEW)
    measured(boss, urls)
    before = measured(boss, urls)
    many_of_one(everything, MANY)
    after = measured(boss, urls)
    assert {status for status, _ in after.values()} == {200}
    worse = {
        name: (len(before[name][1]), len(after[name][1])) for name in urls if len(after[name][1]) > len(before[name][1])
    }
    assert not worse
