"""How long do the pages and the lists take with a million links and a million changes?  Prints each with its statements.

It is opened what there is: every list of the admin with its filters, columns to sort by (also those that only an address asks
for) and a search, every list of the API with its filters, the overview, the pages of a record, a large run and whatever else has
many rows, and every other address of both that answers a GET.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import django

django.setup()

from django.contrib import admin  # noqa: E402
from django.contrib.auth.models import User  # noqa: E402
from django.db import connection, models  # noqa: E402
from django.test import Client, RequestFactory  # noqa: E402
from django.urls import reverse  # noqa: E402

from config.api import router  # noqa: E402
from connectors.models import ProblemGroup, RecordChange, RecordLink  # noqa: E402
from jobs.models import Job  # noqa: E402
from tests.bench.rows import fill, found_there, is_filled  # noqa: E402
from tests.config.addresses import admin_addresses, api_addresses  # noqa: E402

LIMIT = 300.0  # milliseconds
BACKEND: list[int] = []  # the id of the database's process for this connection
MOST_CHOICES = 4  # of one filter
SEARCHED = {"connectors.RecordLink": "l500000", "jobs.Job": "100000", "admin.LogEntry": "root"}


@dataclass(frozen=True)
class Opened:
    """One page, how often it asked, and how long it took."""

    name: str
    status: int
    queries: int
    ms: float  # on the clock: what somebody waits, where nothing else runs on the machine
    busy: float  # of that, processor time of this process and of the database's for it
    slowest: str = ""


class Statements:
    """Counts and times what a page asks."""

    def __init__(self) -> None:
        self.each: list[tuple[float, str]] = []

    def __call__(self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        started = time.perf_counter()
        try:
            return execute(sql, params, many, context)
        finally:
            self.each.append((1000 * (time.perf_counter() - started), sql))


def database_ticks() -> float:
    """Return the processor time that the database's process for us has used, in milliseconds; 0 where it is elsewhere."""
    try:
        text = Path(f"/proc/{BACKEND[0]}/stat").read_text().rpartition(")")[2].split()
    except (OSError, IndexError):
        return 0.0
    return 1000 * (int(text[11]) + int(text[12])) / os.sysconf("SC_CLK_TCK")


def look_for_the_database() -> None:
    """Remember which process works for this connection, if it is on this machine.

    It works alone: the time of helpers would stand nowhere, and a page that needs them is too slow for many people at once.
    """
    with connection.cursor() as cursor:
        cursor.execute("SET max_parallel_workers_per_gather = 0")
        cursor.execute("SELECT pg_backend_pid()")
        BACKEND[:] = cursor.fetchone()


def opened(client: Client, name: str, url: str, repeats: int) -> Opened:
    """Open it once to warm up, then several times; a very slow one is not waited for so often."""
    times: list[float] = []
    status, statements, busy = 0, Statements(), 0.0
    for number in range(repeats + 1):
        if number == 1:
            busy = -1000 * time.process_time() - database_ticks()
        statements = Statements()
        started = time.perf_counter()
        with connection.execute_wrapper(statements):
            answer = client.get(url)
            _ = answer.content
        took = 1000 * (time.perf_counter() - started)
        status = answer.status_code
        if number:
            times.append(took)
        if number and took > 10 * LIMIT:
            break
    busy = (busy + 1000 * time.process_time() + database_ticks()) / len(times)
    ms = median(times)
    slowest = max(statements.each, default=(0.0, ""))
    told = f"{slowest[0]:.0f} ms: {slowest[1][:400]}" if busy > LIMIT else ""
    return Opened(name, status, len(statements.each), ms, busy, told)


def lists(user: User) -> Iterator[tuple[str, str]]:
    """Every list of the admin: plain, the second and the last page, by each filter, sorted by each column, and searched."""
    for model, page in admin.site._registry.items():
        url = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
        name = str(model._meta.verbose_name_plural)
        yield f"{name}", url
        if model._default_manager.all()[:200].count() > 150:
            yield f"{name}, page 2", f"{url}?p=2"
            yield f"{name}, page 190", f"{url}?p=190"
        request = RequestFactory().get(url)
        request.user = user
        changelist = page.get_changelist_instance(request)
        for spec in changelist.filter_specs:
            shown = [choice for choice in spec.choices(changelist) if not choice.get("selected")]
            for choice in shown[:MOST_CHOICES]:
                query = choice.get("query_string") or choice.get("link") or ""
                if query and "?" in query:
                    yield f"{name}, {spec.title}: {choice.get('display')}", f"{url}{query}"
        for number, column in enumerate(changelist.list_display):
            if column != "action_checkbox":
                word = getattr(column, "__name__", column)
                yield f"{name}, sorted by {word}", f"{url}?o={number}"
                yield f"{name}, sorted by {word} downwards", f"{url}?o=-{number}"
        if page.get_search_fields(request):
            term = SEARCHED.get(model._meta.label, "nothing of the kind")
            yield f"{name}, searched for {term}", f"{url}?q={term}"
            yield f"{name}, searched in vain", f"{url}?q=zzz-nothing"


def answers() -> Iterator[tuple[str, str]]:
    """Every list of the API: plain, 500 rows, and by each of its filters."""
    for prefix, view, _name in router.registry:
        queryset = getattr(view, "queryset", None)
        if "(" in prefix or queryset is None:
            continue
        url = f"/api/v1/{prefix}/"
        yield f"API {prefix}", url
        yield f"API {prefix}, 500 rows", f"{url}?page_size=500"
        yield from _filtered(prefix, url, view, queryset.model)


def _filtered(prefix: str, url: str, view: Any, model: type[models.Model]) -> Iterator[tuple[str, str]]:
    filterset = getattr(view, "filterset_class", None)
    names = list(filterset.base_filters) if filterset else list(getattr(view, "filterset_fields", []))
    row = model._default_manager.order_by("-pk").values().first() or {}
    columns = {column.name: column for column in model._meta.concrete_fields}
    for name in names:
        column = columns.get(name)
        value = row.get(column.attname) if column is not None else None
        if value not in (None, ""):
            yield f"API {prefix}, {name}={value}", f"{url}?{name}={value}"
        if column is not None and column.choices:
            for choice, _label in column.flatchoices:
                yield f"API {prefix}, {name}={choice}", f"{url}?{name}={choice}"


def pages(there: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The pages about one thing."""
    yield "Overview", reverse("admin:index")
    yield "Overview, its live part", reverse("admin:overview_live")
    run, integration = there["run"], there["integration"]
    link = RecordLink.objects.get(left_id="l500003")
    shown: dict[str, models.Model] = {
        "Record in conflict": RecordLink.objects.filter(reason="conflict").latest("id"),
        "Record": link, "Integration": integration, f"Run of {run.changes.count():,} changes": run,
        "Change": RecordChange.objects.latest("id"), "Job": Job.objects.latest("id"),
        "Problem": ProblemGroup.objects.earliest("id"), "Connection": integration.left,
    }  # fmt: skip
    for name, row in shown.items():
        url = reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=[row.pk])
        yield name, url
        if row is run:
            for query in ("verb=create", "verb=update", "tab=update", "tab=conflict", "tab=skipped", "p=2", "p=1000"):
                yield f"{name}, {query}", f"{url}?{query}"
    yield "Connection's health", reverse("admin:connectors_connection_health", args=[integration.left_id])
    yield "Schedules of an integration", reverse("admin:scheduling_integration", args=[integration.pk])
    links = reverse("admin:connectors_recordlink_changelist")
    for state in ("hands", "none", *RecordLink.Pending.values):
        yield f"Records of an integration, state {state}", f"{links}?integration={integration.pk}&pending={state}"
    yield "Records of a problem", f"{links}?problem={shown['Problem'].key}&pending=hands"  # type: ignore[attr-defined]
    yield "Changes of a run", f"{reverse('admin:connectors_recordchange_changelist')}?run__id__exact={run.pk}"
    for noun, row in (
        ("links", link),
        ("runs", run),
        ("integrations", integration),
        ("jobs", Job.objects.latest("id")),
    ):
        yield f"API {noun}, one", f"/api/v1/{noun}/{row.pk}/"
    yield "API links, explain", f"/api/v1/links/{link.pk}/explain/"


def others() -> Iterator[tuple[str, str]]:
    """Every other address that shows something, of the newest row of each kind."""
    for address in admin_addresses():
        if not re.search(
            r":(jsi18n|login|logout|password_change\w*|view_on_site|autocomplete)$|_do$|_delete$", address.name
        ):
            yield address.name, address.url
    for one in api_addresses():
        if "get" in one.methods:
            yield one.name, one.url


def everything(there: dict[str, Any]) -> dict[str, str]:
    """Return the addresses, each once, under the first of its names."""
    found: dict[str, str] = {}
    for name, url in (*pages(there), *lists(there["user"]), *answers(), *others()):
        found.setdefault(url, name)
    return {f"{name} {url}" if list(found.values()).count(name) > 1 else name: url for url, name in found.items()}


def table(found: list[Opened], *, most: int) -> str:
    """Return the slowest, and whatever is above the limit."""
    shown = sorted(found, key=lambda one: -one.busy)[:most]
    lines = ["| page | answer | statements | ms | of it processor | |", "|---|---|---|---|---|---|"]
    for one in shown:
        judged = "**too slow**" if one.busy > LIMIT else "met" if one.ms <= LIMIT else "met by processor time"
        lines.append(f"| {one.name} | {one.status} | {one.queries} | {one.ms:.0f} | {one.busy:.0f} | {judged} |")
    return "\n".join(lines)


def main() -> int:
    """Fill the database of this process, open everything, print."""
    parser = ArgumentParser(prog="python -m tests.bench lists", description=__doc__)
    parser.add_argument("--links", type=int, default=1_000_000)
    parser.add_argument("--changes", type=int, default=1_000_000)
    parser.add_argument("--most", type=int, default=40, help="so many of the slowest are shown")
    parser.add_argument("--times", type=int, default=5, help="how often each is opened, after once to warm up")
    parser.add_argument("--only", default="", help="those whose name holds this")
    parser.add_argument("--json", action="store_true")
    parser.add_argument(
        "--keep", metavar="NAME", help="taken by tests.bench: the database bench_NAME is kept and not filled again"
    )
    asked = parser.parse_args()
    started = time.monotonic()
    there = found_there() if is_filled() else fill(asked.links, asked.changes)
    print(f"filled in {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    client = Client(raise_request_exception=False, SERVER_NAME="localhost")
    client.force_login(there["user"])
    look_for_the_database()
    wanted = everything(there)
    found = [
        opened(client, name, url, asked.times) for name, url in wanted.items() if asked.only.lower() in name.lower()
    ]
    for one in found:
        if one.status >= 400:  # there is nothing of that kind, or the address takes POST alone
            print(f"{one.name}: not measured, it answered {one.status}", file=sys.stderr)
    found = [one for one in found if one.status < 400]
    slow = [one for one in found if one.busy > LIMIT]
    for one in slow:
        print(f"{one.name}: {one.slowest}", file=sys.stderr)
    if asked.json:
        print(json.dumps([one.__dict__ for one in found]))
        return 0
    met = len(found) - len(slow)
    rows = f"{RecordLink.objects.count():,} links, {RecordChange.objects.count():,} changes"
    quick = sum(one.ms <= LIMIT for one in found)
    print(
        f"{rows}, {connection.vendor}: {met} of {len(found)} below {LIMIT:.0f} ms of processor time, {quick} on the clock"
    )
    print(table(found, most=asked.most))
    return 0


if __name__ == "__main__":
    sys.exit(main())
