"""What does Prometheus read?  Gauges of what the database holds, so that any web process answers for all of them.

Every figure comes from an index or a small table, and tables that grow are counted up to a cap: a scrape costs the same
after a year.  One answer is kept for half a minute.
"""

from __future__ import annotations

import hmac
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta

from django.conf import settings
from django.contrib.auth.models import User
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from config.models import TokenBearer
from config.rest import token_of
from connectors.models import ApiCall, Connection, RecordLink, Run, Scope
from connectors.sync.health import NAMES
from connectors.sync.plan import Pending
from jobs import clock, figures
from jobs.models import Job, WorkerHeartbeat
from jobs.states import StatusReason

KEPT_SECONDS = 30.0
MOST_COUNTED = 10_000
RUNS = 200  # the newest ones
CALLS = timedelta(minutes=5)


@never_cache
@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Answer whoever has METRICS_TOKEN, an API token of somebody who may see jobs, or a login with that right."""
    if not _may_read(request):
        denied = HttpResponse("Send METRICS_TOKEN or an API token: Authorization: Bearer ...\n", "text/plain", 401)
        denied["WWW-Authenticate"] = "Bearer"
        return denied
    return HttpResponse(_CACHE.text(), CONTENT_TYPE_LATEST)


def _may_read(request: HttpRequest) -> bool:
    kind, _, text = request.headers.get("Authorization", "").partition(" ")
    if kind.lower() != "bearer":
        return isinstance(request.user, User) and request.user.has_perm("jobs.view_job")
    if settings.METRICS_TOKEN and hmac.compare_digest(text.encode(), settings.METRICS_TOKEN.encode()):
        return True
    token = token_of(text)
    return token is not None and TokenBearer.objects.get(pk=token.user_id).has_perm("jobs.view_job")


class Kept:
    """The last answer, for half a minute."""

    def __init__(self, make: Callable[[], bytes], seconds: float) -> None:
        self._make, self._seconds = make, seconds
        self._lock = threading.Lock()
        self._text = b""
        self._until = 0.0

    def text(self) -> bytes:
        """Return the answer, made anew where it is too old."""
        with self._lock:  # one scrape computes it, the others wait for that
            if time.monotonic() >= self._until:
                self._text = self._make()
                self._until = time.monotonic() + self._seconds
            return self._text

    def forget(self) -> None:
        """Make it anew next time."""
        self._until = 0.0


class Collector:
    """All families, from the database."""

    def collect(self) -> Iterable[Metric]:
        now = clock.now()
        for family in FAMILIES:
            yield from family(now)


def _gauge(name: str, told: str, labels: tuple[str, ...], rows: Iterable[tuple[tuple[str, ...], float]]) -> Metric:
    gauge = GaugeMetricFamily(f"syncline_{name}", told, labels=labels)
    for values, number in rows:
        gauge.add_metric(values, number)
    return gauge


def _capped(rows: QuerySet[Job] | QuerySet[ApiCall] | QuerySet[RecordLink]) -> int:
    return int(rows[:MOST_COUNTED].count())


def _jobs(now: datetime) -> Iterator[Metric]:
    counted = [((s.value,), _capped(Job.objects.filter(status_reason=s).order_by())) for s in StatusReason]
    yield _gauge("jobs", f"Jobs by status, counted up to {MOST_COUNTED}", ("status",), counted)
    oldest = figures.oldest_due_job(now)
    waited = (now - oldest).total_seconds() if oldest else 0.0
    yield _gauge("job_oldest_due_seconds", "How long the oldest due job has waited for a worker", (), [((), waited)])
    yield from _day(figures.figures(now))


def _day(found: figures.Figures) -> Iterator[Metric]:
    """The same figures as on the page of jobs."""
    yield _gauge("jobs_stuck", "Running jobs whose worker is silent", (), [((), found.stuck)])
    for name, told in (
        ("wait", "How long jobs were due before a worker began"),
        ("run", "How long workers worked on jobs"),
    ):
        rows: list[tuple[tuple[str, ...], float]] = []
        for one in found.types:
            for quantile, share in (("0.5", "p50"), ("0.95", "p95")):
                value = getattr(one, f"{name}_{share}")
                if value is not None:
                    rows.append(((one.type, quantile), value))
        yield _gauge(f"job_{name}_seconds", f"{told}, of those that ended within a day", ("type", "quantile"), rows)
    failed = [((one.type, one.error_class, one.error_code), one.count) for one in found.failures]
    yield _gauge("jobs_failed_recent", "Jobs that failed within a day", ("type", "error_class", "error_code"), failed)
    again = [((one.type,), one.tried_again) for one in found.types]
    yield _gauge("jobs_tried_again_recent", "Jobs of a day that needed more than one try", ("type",), again)


def _runs(now: datetime) -> Iterator[Metric]:
    newest = Run.objects.order_by("-id").values_list("integration__name", "phase")[:RUNS]
    yield _gauge(
        "runs_recent", f"The newest {RUNS} runs by phase", ("integration", "phase"), list(Counter(newest).items())
    )


def _scopes(now: datetime) -> Iterator[Metric]:
    rows = Scope.objects.filter(archived=False).values_list(
        "integration__name", "label", "failures", "last_done_at", "enabled"
    )
    scopes = list(rows)
    labels = ("integration", "scope")
    failing = [((name, label), failures) for name, label, failures, _, _ in scopes]
    yield _gauge("scope_failures", "Failed runs in a row", labels, failing)
    done = [((name, label), at.timestamp()) for name, label, _, at, _ in scopes if at]
    yield _gauge("scope_last_success_timestamp_seconds", "When the last run ended well", labels, done)
    enabled = [((name, label), int(on)) for name, label, _, _, on in scopes]
    yield _gauge("scope_enabled", "1 where syncs may start", labels, enabled)


def _links(now: datetime) -> Iterator[Metric]:
    """By the partial index on links that are not in agreement; of those that are, nobody needs the number each minute."""
    apart = RecordLink.objects.filter(pending__isnull=False).values_list("entity_sync__integration__name", "pending")
    counted = apart.annotate(total=Count("id")).order_by()
    rows = [((name, NAMES[Pending(pending or 0)]), total) for name, pending, total in counted]
    yield _gauge("links_not_agreed", "Records that are not in agreement, by why", ("integration", "pending"), rows)


def _calls(now: datetime) -> Iterator[Metric]:
    calls: list[tuple[tuple[str, ...], float]] = []
    errors: list[tuple[tuple[str, ...], float]] = []
    for pk, name in Connection.objects.values_list("pk", "name"):
        recent = ApiCall.objects.filter(connection=pk, at__gt=now - CALLS).order_by()
        calls.append(((name,), _capped(recent)))
        errors.append(((name,), _capped(recent.filter(Q(status=0) | Q(status__gte=400)))))
    minutes = f"in the last {int(CALLS.total_seconds() // 60)} minutes, counted up to {MOST_COUNTED}"
    yield _gauge("api_calls_recent", f"Requests to a system {minutes}", ("connection",), calls)
    yield _gauge(
        "api_errors_recent", f"Requests without answer or answered by an error {minutes}", ("connection",), errors
    )


def _connections(now: datetime) -> Iterator[Metric]:
    rows = [((name, state), 1.0) for name, state in Connection.objects.values_list("name", "state")]
    yield _gauge("connection_state", "1 for the state that a connection is in", ("connection", "state"), rows)


def _workers(now: datetime) -> Iterator[Metric]:
    beats = list(WorkerHeartbeat.objects.order_by("name", "kind"))
    seen = [((b.name, b.kind), (now - b.seen_at).total_seconds()) for b in beats]
    yield _gauge("worker_seen_seconds", "Seconds since a worker's last beat", ("worker", "kind"), seen)
    supervisors = [b for b in beats if b.kind == WorkerHeartbeat.Kind.SUPERVISOR]
    yield _gauge("worker_processes", "Worker processes", ("worker",), [((b.name,), b.workers) for b in supervisors])
    busy = max((b.busy for b in supervisors), default=0)
    yield _gauge("workers_busy", "Jobs in work on all hosts", (), [((), busy)])


FAMILIES: tuple[Callable[[datetime], Iterator[Metric]], ...] = (
    _jobs, _runs, _scopes, _links, _calls, _connections, _workers,
)  # fmt: skip


def _make() -> bytes:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Collector())  # it asks for collect() alone
    return generate_latest(registry)


_CACHE = Kept(_make, KEPT_SECONDS)
