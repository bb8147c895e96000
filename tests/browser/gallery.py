"""What does a hub look like that has been at work for two weeks?  Data for looking at every page, names that strain it included.

`python -m tests.browser.gallery` fills the database of DATABASE_URL, prints a line, and keeps the simulated systems up until its
input ends: pages that ask them are real, too.
"""

from __future__ import annotations

import json
import os
import select
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from connectors.models import Connection, Integration, Run
    from connectors.quickbooks.simulator import QuickBooksSimulator
    from connectors.simulation import Simulator
    from jobs.models import Job

BEAT = 15  # seconds
LONG = "Vereinigte_Dampfschifffahrtsgesellschaften_und_Schwebebahnbetriebe_Niederrhein_Sued_GmbH"  # 87, no space to break at
RIGHT_TO_LEFT = "شركة الأفق الأزرق للتجارة والمقاولات المحدودة"
FAR_EAST = "株式会社さくら総合商事・東日本支店"
MARKUP = '<b>O\'Neil & Sons</b> {{ none }} "quoted"'


@dataclass(frozen=True)
class Names:
    """What people called things: as one fears."""

    long: str = LONG
    main: str = "Harbour Books with Harbour Sales"
    waiting: str = "Northwestern_Territories_Subsidiary_Bookkeeping_with_Shared_Services_Customer_Platform"
    broken: str = "Old warehouse " + RIGHT_TO_LEFT
    customers: tuple[str, ...] = (LONG, RIGHT_TO_LEFT, FAR_EAST, MARKUP)
    cities: tuple[str, ...] = (LONG[:40], RIGHT_TO_LEFT[:40], "Bergen")
    notes: tuple[str, str] = ("Called on Monday. " * 20, FAR_EAST * 9)
    blackout: str = LONG
    rule: str = LONG
    pause: str = LONG  # why all syncs wait; empty: they do not


FEARED = Names()
PLAIN = Names(
    "Niederrhein Steamship",
    waiting="Northwest Books with Shared Services",
    broken="Old Warehouse",
    customers=(),
    cities=("Tromsø", "Stavanger", "Bergen"),
    notes=("Called on Monday, wants one invoice a month.", "Prefers e-mail. Ask for the harbour master."),
    blackout="Books close",
    rule="Old warehouse, failed",
    pause="",
)


@dataclass
class Gallery:
    """What was made, for whoever wants a certain page."""

    names: Names
    main: Integration
    waiting: Integration  # its first run is a preview that nobody has approved
    broken: Integration


@contextmanager
def opened(names: Names = FEARED, customers: int = 30) -> Iterator[Gallery]:
    """Fill the database, and keep the systems up."""
    from connectors.dynamics365.simulator import DynamicsSimulator
    from connectors.quickbooks.simulator import QuickBooksSimulator

    with ExitStack() as running:
        books, harbour, other = (
            running.enter_context(QuickBooksSimulator(records=count, seed=seed, realm=f"462081636500251065{seed}"))
            for count, seed in ((customers, 7), (12, 8), (4, 9))
        )
        sales, shared = (running.enter_context(DynamicsSimulator(seed=seed)) for seed in (7, 8))
        _people(names)
        harbour_sales, platform = _end(sales, "Harbour Sales"), _end(shared, "Shared services")
        route = {"route_field": "syn_company", "route_value": "North"}
        gallery = Gallery(
            names,
            _integration(names.main, _end(books, "Harbour Books"), harbour_sales, "apply"),
            _integration(names.waiting, _end(harbour, names.long), platform, "preview", **route),
            _integration(
                names.broken, _end(other, "Old warehouse books"), _end(shared, "Old warehouse sales"), "apply"
            ),
        )
        _at_work(gallery, books, sales)
        _first_look(gallery.waiting, shared)
        _breaks(gallery.broken, other)
        _services(gallery)
        _watched(gallery)
        _doors(names)
        yield gallery


# Systems


def _end(simulator: Simulator, name: str) -> Connection:
    from connectors.models import Connection
    from connectors.transport import check

    told = simulator.credentials()
    made = Connection.objects.create(system=simulator.system, name=name, settings=told["settings"])
    made.set_secret({key: str(value) for key, value in told["secret"].items()})
    check(made)
    return made


def _integration(name: str, left: Connection, right: Connection, first_run: str, **options: str) -> Integration:
    from connectors.sync.presets import apply_preset, presets
    from connectors.transport import connected
    from scheduling.services import make_services

    told = {"terms_unmapped": "park", **options}
    with connected(left) as one, connected(right) as other:
        applied = apply_preset(
            presets()["inolink"],
            name,
            {"left": left, "right": right},
            {"left": one, "right": other},
            told,
            first_run=first_run,
        )
    make_services(applied.integration)
    return applied.integration


def _sync(integration: Integration, **asked: object) -> Job:
    from jobs.syncing import request_sync
    from jobs.worker import run_in_process

    return run_in_process(request_sync(integration, **asked))  # type: ignore[arg-type]


# Runs


def _at_work(gallery: Gallery, books: Simulator, sales: Simulator) -> None:
    """Records in agreement, conflicts, deletes that wait, records that one side refuses, promotions, an undo that waits."""
    from django.contrib.auth.models import User

    from connectors.models import Run
    from connectors.sync.run import mark_settings_changed
    from jobs.syncing import request_promotion, request_undo
    from jobs.worker import run_in_process

    integration, ada = gallery.main, User.objects.get(username="ada")
    for name in gallery.names.customers:
        told = {"DisplayName": name[:90], "CompanyName": name[:90], "BillAddr.City": name[:60], "Notes": name * 5}
        books.user_creates("Customer", told)  # type: ignore[attr-defined]
    _sync(integration, mode="comprehensive", by=ada)
    _sync(integration)
    _past(integration)
    accounts = [record.id for record in sales.store.table("account").values()]  # type: ignore[attr-defined]
    _edit_rights(sales, accounts)
    integration.entity_syncs.update(policy="ask")
    mark_settings_changed(integration)
    _sync(integration, by=ada)
    worked = Run.objects.filter(integration=integration).latest("id")
    _part_ways(gallery, books, sales)
    for number in range(8):
        sales.user_creates("account", {"name": f"Newly won {number}", "address1_city": "Bergen"})  # type: ignore[attr-defined]
    _sync(integration)
    _sync(integration, mode="comprehensive")
    won = [r.id for r in sales.store.table("account").values() if r.body["name"].startswith("Newly won")]  # type: ignore[attr-defined]
    request_promotion(integration, "customer", won[:3], by=ada, bulk=True)
    _, job = request_promotion(integration, "customer", won[3:5], by=ada)
    if job is not None:
        run_in_process(job)
    run_in_process(request_undo(worked, by=ada))


def _edit_rights(sales: Simulator, accounts: list[str]) -> None:
    for number, account in enumerate(accounts[4:16]):
        sales.user_edits("account", account, {"websiteurl": f"https://example.com/customers/{number}"})
    for number, account in enumerate(accounts[16:22]):  # longer than the other side takes
        sales.user_edits("account", account, {"telephone1": f"+47 55 00 00 {number:02d}, ask for the harbour master"})


def _part_ways(gallery: Gallery, books: Simulator, sales: Simulator) -> None:
    """People change the same fields on both sides, and delete."""
    from connectors.models import RecordLink

    agreed = RecordLink.objects.filter(
        integration=gallery.main, ended=0, pending=None, entity_sync__name="customer", left_id__isnull=False
    ).exclude(right_id=None)
    for number, link in enumerate(agreed.order_by("-id")[:8]):
        city, (note, other) = gallery.names.cities[number % 3], gallery.names.notes
        if number < 5:
            books.user_edits("Customer", str(link.left_id), {"BillAddr.City": city, "Notes": note})
            sales.user_edits("account", str(link.right_id), {"address1_city": "Oslo", "description": other})
        else:
            sales.user_deletes("account", str(link.right_id))


def _first_look(integration: Integration, shared: Simulator) -> None:
    """A preview that waits for its approval, and records that are of no company."""
    for number in range(3):
        shared.user_creates("account", {"name": f"Nobody's {number}"})  # type: ignore[attr-defined]
    _sync(integration)


def _breaks(integration: Integration, other: QuickBooksSimulator) -> None:
    """The login has ended: runs fail, and at last the rule pauses them."""
    from connectors.models import Scope
    from jobs import clock
    from jobs.housekeeping import failing

    other.tokens.revoke_all()
    _sync(integration)
    scope = Scope.objects.get(integration=integration)
    now = clock.now()
    for number in range(20):
        why = "The refresh token was revoked: somebody has to connect Old warehouse books again."
        failing.failed(scope, why, now=now - timedelta(hours=20 - number))


def _past(integration: Integration) -> None:
    """The first syncs were two weeks ago; since then runs went well, but for a bad day."""
    from django.db.models import F

    from connectors.models import Run

    done = Run.objects.filter(integration=integration)
    like = done.latest("id")
    ago = timedelta(days=13, hours=6)
    done.update(started_at=F("started_at") - ago, finished_at=F("finished_at") - ago)
    past: list[Run] = []
    for day in range(12, 0, -1):
        for hour in (15, 11, 7):
            began = like.started_at - timedelta(days=day, hours=hour)
            row = Run(
                integration=integration, scope=like.scope, mode=like.mode, phase="done", counts=like.counts,
                started_at=began, finished_at=began + timedelta(seconds=4 * day),
            )  # fmt: skip
            row.problems = 2 if day % 4 == 0 else 0
            if (day, hour) == (5, 11):
                row.phase, row.error = "failed", "Harbour Sales did not answer within 60 seconds: HTTP 503."
            past.append(row)
    Run.objects.bulk_create(past)


# Services


def _services(gallery: Gallery) -> None:
    from django.contrib.auth.models import User

    from scheduling import blackouts, preflight, provisioning, services
    from scheduling.models import Blackout, Service

    ada = User.objects.get(username="ada")
    changes, aging = gallery.main.services.all()[:2]
    window: dict[str, object] = {
        "days": ["Mon", "Tue", "Wed", "Thu", "Fri"],
        "start": "08:00",
        "end": "18:00",
        "every": 30,
    }
    saturday: dict[str, object] = {"days": ["Sat"], "start": "09:00", "end": "12:00"}
    services.change(changes, by=ada, zone="Europe/Paris", windows_told=[window, saturday])
    provisioning.approve(gallery.main.provisionings.get(), by=ada)
    provisioning.ask(gallery.waiting, by=ada)
    preflight.run(gallery.main, by=ada)
    Service.objects.filter(pk__in=[changes.pk, aging.pk]).update(enabled=True)
    blackouts.save(Blackout(name="Year end", kind="yearly", first=date(2026, 12, 24), last=date(2027, 1, 1)), by=ada)
    month_end = Blackout(
        name=gallery.names.blackout, kind="month end", days_before=2, days_after=1, integration=gallery.main
    )
    blackouts.save(month_end, by=ada)
    services.reschedule(Service.objects.all())


# Watching


def _watched(gallery: Gallery) -> None:
    """Alert rules with alerts and messages, pauses, a worker."""
    from django.contrib.auth.models import User

    from connectors.models import Connection
    from jobs import clock
    from jobs.alerts import outbox, watch
    from jobs.models import AlertMessage, AlertRule, Pause, WorkerHeartbeat
    from jobs.syncing import request_sync

    for what in AlertRule.What.values:
        AlertRule.objects.create(name=f"Operations, {what}", what=what, addresses=["ops@example.com"])
    rule = AlertRule.objects.create(name=gallery.names.rule, what="failed", to="slack", integration=gallery.broken)
    rule.set_webhook("https://hooks.example.com/T0/secretpart")
    watch.tick()
    outbox.put_test(AlertRule.objects.earliest("id"))
    AlertMessage.objects.filter(pk=AlertMessage.objects.earliest("id").pk).update(
        status="failed", tries=6, error="The mail server did not answer: connection refused."
    )
    now, ada = clock.now(), User.objects.get(username="ada")
    held = Connection.objects.get(name="Shared services")
    Connection.objects.filter(name="Harbour Books").update(auth_expires_at=now + timedelta(days=6, hours=3))
    Pause.objects.create(
        kind="connection", connection=held, by=ada, reason="Moved to another data centre; back at noon."
    )
    long = gallery.names.long
    if gallery.names.pause:
        Pause.objects.create(kind="type", job_type="sync", by=ada, reason=gallery.names.pause)
    WorkerHeartbeat.objects.create(name="gallery", kind="supervisor", host="hub-1", pid=4711, workers=4, seen_at=now)
    WorkerHeartbeat.objects.create(name=long, kind="queue", host=long, pid=4712, seen_at=now - timedelta(minutes=7))
    request_sync(gallery.main, mode="comprehensive", by=ada)


def _people(names: Names) -> None:
    from django.contrib.auth.models import Group, User

    User.objects.create_superuser(
        "ada", "ada@example.com", "a long enough secret", first_name="Ada", last_name="Lovelace"
    )
    for name, group in (("grace", "Operator"), ("joan", "Viewer"), (names.long.replace(" ", "."), "Viewer")):
        user = User.objects.create_user(name, f"{name[:20]}@example.com", "a long enough secret", is_staff=True)
        user.groups.add(Group.objects.get(name=group))


def _doors(names: Names) -> None:
    """Programs' keys, failed logins, and what people did."""
    from axes.models import AccessAttempt
    from django.contrib.auth.models import User
    from django.utils import timezone

    from config import audit
    from config.models import ApiToken
    from connectors.models import Connection

    ada = User.objects.get(username="ada")
    ApiToken.objects.issue(ada, "Nightly report", by=ada)
    revoked, _ = ApiToken.objects.issue(ada, names.long, scope="operate", by=ada)
    revoked.revoke()
    AccessAttempt.objects.create(
        username=names.long, ip_address="203.0.113.7", user_agent="curl/8.5 " * 12, failures_since_start=9,
        attempt_time=timezone.now(), path_info="/admin/login/", get_data="", post_data="", http_accept="",
    )  # fmt: skip
    connection = Connection.objects.get(name="Harbour Books")
    before = {"settings": {"batch_size": "30"}}
    audit.log_action(ada, connection, "Changed its settings.", before, {"settings": {"batch_size": "10"}})


def places(gallery: Gallery) -> dict[str, str]:
    """Return the addresses of the pages that pictures are taken of."""
    from django.urls import reverse

    from connectors.models import RecordLink, Run

    preview = Run.objects.filter(integration=gallery.waiting, phase="proposed").latest("id")
    conflict = RecordLink.objects.filter(integration=gallery.main, reason="conflict").earliest("id")
    sync = gallery.main.entity_syncs.get(name="customer")
    return {
        "overview": reverse("admin:index"),
        "integration": reverse("admin:connectors_integration_change", args=[gallery.main.pk]),
        "preview": reverse("admin:connectors_run_change", args=[preview.pk]),
        "record": reverse("admin:connectors_recordlink_change", args=[conflict.pk]),
        "mappings": reverse("admin:connectors_mapping_editor", args=[sync.pk]),
        "problems": reverse("admin:connectors_problemgroup_changelist"),
        "jobs": reverse("admin:jobs_job_changelist"),
        "schedules": reverse("admin:scheduling_integration", args=[gallery.main.pk]),
    }


def main() -> None:
    """Fill a database from outside a test.  `--plain`: with names as one hopes for."""
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    django.setup()
    from django.core.management import call_command

    from jobs import clock
    from jobs.models import WorkerHeartbeat

    call_command("migrate", verbosity=0)
    with opened(PLAIN if "--plain" in sys.argv else FEARED) as gallery:
        print(json.dumps(places(gallery)), flush=True)
        while not select.select([sys.stdin], [], [], BEAT)[0]:  # its worker lives, as the pages are to show
            WorkerHeartbeat.objects.filter(name="gallery").update(seen_at=clock.now())


if __name__ == "__main__":
    main()
