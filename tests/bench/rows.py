"""A hub with a million links and as many changes, made in the database itself: copies of one row of each kind."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.db import connection, models
from django.utils import timezone

from connectors.models import (
    ApiCall,
    Connection,
    EntitySync,
    Event,
    FieldMapping,
    Integration,
    ProblemGroup,
    Promotion,
    RecordChange,
    RecordLink,
    Run,
    Scope,
)
from jobs.models import Job, JobTransition, WorkerHeartbeat
from scheduling.models import Service

SYNCS = 4  # entity syncs of each of the two integrations
RUNS = 2_000
BASE = '{"name>name":"Person","city>city":"Paris"}'
GROUPS = 40  # problems
BIG = 100_000  # changes of the largest run
# Of a hundred links so many are not in agreement: to be planned, waiting, skipped, conflict.  What is parked nobody has mended
# for long: the oldest hundredth.
PENDING = (
    "CASE WHEN n <= {old} THEN 5 ELSE "
    "CASE n % 100 WHEN 0 THEN 1 WHEN 1 THEN 2 WHEN 2 THEN 3 WHEN 3 THEN 4 WHEN 5 THEN 2 ELSE NULL END END"
)
REASON = (
    "CASE WHEN n <= {old} THEN 'parked' ELSE "
    "CASE n % 100 WHEN 0 THEN 'changed' WHEN 1 THEN 'waits for' WHEN 2 THEN 'outside' WHEN 3 THEN 'conflict' "
    "WHEN 5 THEN 'waits for approval' ELSE '' END END"
)


def copies(model: type[models.Model], like: models.Model, count: int, **columns: str) -> None:
    """Insert copies of a stored row; `columns` are the SQL expressions of those that differ, over n = 1 ... count."""
    table = model._meta.db_table
    names = [column.column for column in model._meta.concrete_fields if not column.primary_key]
    known: Mapping[str, str] = {column.name: column.column for column in model._meta.concrete_fields}
    expressions = {known[name]: expression for name, expression in columns.items()}
    given = ", ".join(f'"{name}"' for name in names)
    taken = ", ".join(expressions.get(name, f't."{name}"') for name in names)
    with connection.cursor() as cursor:
        cursor.execute(
            f'INSERT INTO "{table}" ({given}) SELECT {taken} FROM generate_series(1, {int(count)}) AS n, "{table}" AS t '  # noqa: S608 - names and expressions of this module alone
            f"WHERE t.id = {int(like.pk)}"
        )


def fill(links: int, changes: int) -> dict[str, Any]:
    """Fill an empty hub; return the rows whose pages are opened."""
    now = timezone.now()
    root = User.objects.create_superuser("root")
    _trusted()
    both = [_integration(number) for number in (1, 2)]
    integration, scope, syncs = both[0]
    WorkerHeartbeat.objects.create(name="here", kind="supervisor", host="here", pid=1, workers=2, seen_at=now)
    run = Run.objects.create(
        integration=integration, scope=scope, phase="done", mode="comprehensive", started_at=now - timedelta(days=30),
        finished_at=now - timedelta(days=30), counts={"entities": {"person1": _counts(BIG)}, "changes": _written(changes)},
    )  # fmt: skip
    copies(Run, run, RUNS, started_at=f"t.started_at + n * interval '{30 * 24 * 60 // RUNS} minutes'", problems="n % 7")
    ids = list(Run.objects.order_by("id").values_list("id", flat=True))
    _links(links, integration, scope, syncs, ids)
    _changes(changes, syncs, ids)
    _groups(integration, syncs)
    _logs(integration, scope, ids, root)
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")
    return found_there()


def is_filled() -> bool:
    """Was this hub filled before, to the end?"""
    if User.objects.exists() and not Promotion.objects.exists():
        raise SystemExit("The database was left half filled. Drop it, or take another name.")
    return Promotion.objects.exists()


def found_there() -> dict[str, Any]:
    """Return the rows whose pages are opened, of a hub that was filled before."""
    return {
        "integration": Integration.objects.earliest("id"), "user": User.objects.get(username="root"),
        "run": Run.objects.order_by("id")[1],
    }  # fmt: skip


def _trusted() -> None:
    """A superuser of the database may leave out the look at each foreign key, which takes most of the time."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
        if cursor.fetchone() == (True,):
            cursor.execute("SET session_replication_role = replica")


def _integration(number: int) -> tuple[Integration, Scope, list[EntitySync]]:
    ends = [
        Connection.objects.create(system=system, name=f"{system} {number}", state="connected", secret=b"")
        for system in ("quickbooks", "dynamics365")
    ]
    integration = Integration.objects.create(name=f"Company {number}", left=ends[0], right=ends[1])
    scope = Scope.objects.create(
        integration=integration, last_done_at=timezone.now(), last_full_at=timezone.now(), last_delta_at=timezone.now()
    )
    syncs = []
    for place in range(1, SYNCS + 1):
        sync = EntitySync.objects.create(
            integration=integration, name=f"person{place}", family=f"family{place}", left_entity=f"left{place}",
            right_entity=f"right{place}", position=place,
        )  # fmt: skip
        for field in ("name", "city"):
            FieldMapping.objects.create(entity_sync=sync, left=field, right=field)
        syncs.append(sync)
    Service.objects.create(integration=integration, name="Changes", enabled=True, next_run_at=timezone.now())
    return integration, scope, syncs


def _counts(touched: int) -> dict[str, object]:
    written = {"left": {}, "right": {"created": touched}}
    return {"touched": touched, "written": written, "agreed": 0, "waiting": 0, "skipped": 0, "conflict": 0, "parked": 0}


def _large(count: int) -> range:
    """Which changes are those of the largest run: late ones, since a hub is seldom new when somebody reads everything again."""
    first = count * 8 // 10
    return range(first + 1, first + min(BIG, count // 10) + 1)


def _written(changes: int) -> dict[str, dict[str, int]]:
    """Return what a run stores with itself once it is done: its writes by kind and side."""
    found: dict[str, dict[str, int]] = {}
    for n in _large(changes):
        sides = found.setdefault("update" if n % 3 else "create", {"left": 0, "right": 0})
        sides["right" if n % 2 else "left"] += 1
    return found


def _links(count: int, integration: Integration, scope: Scope, syncs: list[EntitySync], runs: list[int]) -> None:
    first = RecordLink.objects.create(
        key="first", integration=integration, entity_sync=syncs[0], scope=scope, family=syncs[0].family, base=BASE, state=1,
        left_entity="left1", left_id="l0", left_life=1, right_entity="right1", right_id="r0", right_life=1,
    )  # fmt: skip
    place = f"(1 + n % {SYNCS})"
    copies(
        RecordLink, first, count, key="md5(n::text)", entity_sync=f"{syncs[0].pk - 1} + {place}", family=f"'family' || {place}",
        left_entity=f"'left' || {place}", right_entity=f"'right' || {place}", left_id="'l' || n", right_id="'r' || n",
        left_match="md5('m' || n)", right_match="md5('m' || n)",
        pending=PENDING.format(old=count // 100), reason=REASON.format(old=count // 100),
        problem=f"CASE WHEN n <= {count // 100} OR n % 100 = 3 THEN 'problem' || (n / 100 % {GROUPS}) ELSE NULL END",
        touched_run=f"{runs[0]} + n % {len(runs)}",
        base="""'{"city>city":"Paris","name>name":"Person ' || n || '"}'""",
    )  # fmt: skip


def _changes(count: int, syncs: list[EntitySync], runs: list[int]) -> None:
    link = RecordLink.objects.earliest("id")
    first = RecordChange.objects.create(
        run_id=runs[0], link=link, entity_sync=syncs[0], side="right", verb="create", status="written", key="first",
        after=BASE, at=timezone.now(),
    )  # fmt: skip
    # The second run is the large one; the others share the rest.
    large = _large(count)
    place = f"(1 + n % {SYNCS})"
    copies(
        RecordChange, first, count, key="'c' || n", link=f"{link.pk} + n", record_id="'r' || n",
        entity_sync=f"{syncs[0].pk - 1} + {place}",
        run=f"CASE WHEN n BETWEEN {large[0]} AND {large[-1]} THEN {runs[1]} ELSE {runs[0]} + 2 + n % {len(runs) - 2} END",
        verb="CASE WHEN n % 3 = 0 THEN 'create' ELSE 'update' END", side="CASE WHEN n % 2 = 0 THEN 'left' ELSE 'right' END",
        status="CASE WHEN n % 200 = 0 THEN 'rejected' ELSE 'written' END",
        fingerprint="CASE WHEN n % 200 = 0 THEN 'f' || n % 30 ELSE '' END",
        at=f"t.at - interval '30 days' + n * interval '{30 * 86_400_000 // count} milliseconds'",
    )  # fmt: skip


def _groups(integration: Integration, syncs: list[EntitySync]) -> None:
    now = timezone.now()
    for number in range(GROUPS):
        ProblemGroup.objects.create(
            key=f"problem{number}", integration=integration, entity_sync=syncs[number % SYNCS], reason="parked",
            message=f"Cause {number}", first_seen=now, last_seen=now,
        )  # fmt: skip


def _logs(integration: Integration, scope: Scope, runs: list[int], root: User) -> None:
    now = timezone.now()
    call = ApiCall.objects.create(
        connection=integration.left, at=now, method="GET", path="/v1/person", status=200, ms=90
    )
    ago = "t.at - n * interval '4 seconds'"
    copies(ApiCall, call, 300_000, at=ago, run_id=f"{runs[0]} + n % {len(runs)}",
           connection=f"{integration.left_id} + n % 2")  # fmt: skip
    event = Event.objects.create(
        integration=integration,
        scope=scope,
        code="test",
        message="Something",
        at=now,
        link=RecordLink.objects.earliest("id"),
    )
    copies(
        Event,
        event,
        100_000,
        at=ago,
        run=f"{runs[0]} + n % {len(runs)}",
        link="CASE WHEN n % 5 = 0 THEN t.link_id + n % 9000 ELSE NULL END",
    )
    job = Job.objects.create(
        type="sync", status_reason="succeeded", run_at=now, created_at=now, started_at=now, finished_at=now, scope=scope,
        object_ref="service:1", run_id=runs[1],
    )  # fmt: skip
    copies(
        Job, job, 200_000, status_reason="CASE WHEN n % 50 = 0 THEN 'failed' WHEN n % 70 = 0 THEN 'cancelled' ELSE 'succeeded' END",
        fingerprint="CASE WHEN n % 50 = 0 THEN 'f' || n % 20 ELSE '' END", run=f"{runs[0]} + n % {len(runs)}",
        error_class="CASE WHEN n % 50 = 0 THEN 'business' ELSE '' END",
        # The first service has started nothing for long, the second never did.
        object_ref="CASE WHEN n < 1000 THEN 'service:1' ELSE 'run:' || n % 2000 END", created_at="t.created_at - n * interval '13 seconds'",
        finished_at="t.finished_at - n * interval '13 seconds'",
    )  # fmt: skip
    transition = JobTransition.objects.create(job=job, to_status="succeeded", actor="worker", at=now)
    copies(JobTransition, transition, 400_000, job=f"{job.pk} + n / 2", at=ago)
    entry = LogEntry.objects.create(
        user=root, content_type=ContentType.objects.get_for_model(Integration), object_id=str(integration.pk),
        object_repr="Company 1", action_flag=CHANGE, change_message="Sync now.",
    )  # fmt: skip
    copies(LogEntry, entry, 100_000, action_time="t.action_time - n * interval '26 seconds'")
    promotion = Promotion.objects.create(
        entity_sync=EntitySync.objects.earliest("id"), side="left", external_id="p", status="success", at=now
    )
    copies(Promotion, promotion, 50_000, external_id="'p' || n", at=ago)
