"""How is each integration, in one word and one sentence?  A constant number of queries, and none counts beyond 10,001."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db.models import Max, OuterRef, Q
from django.utils import timezone

from connectors.models import Connection, EntitySync, Integration, RecordLink, Run, Scope
from connectors.sync.plan import Pending
from connectors.sync.problems import MOST_COUNTED, CountedRows
from connectors.sync.proposals import CHECK_KEPT, PREVIEW_KEPT

NAMES = {
    Pending.DIRTY: "changed",
    Pending.WAITING: "waiting",
    Pending.SKIPPED: "skipped",
    Pending.CONFLICT: "conflict",
    Pending.PARKED: "parked",
    Pending.PLANNED: "planned",
}
AGREED, APPROVALS = "agreed", "approvals"
BROKEN = (Connection.State.NEEDS_RECONNECT, Connection.State.WRONG_INSTANCE)


@dataclass
class Health:
    """One integration as the overview shows it.  No number is above 10,001: that one means more than 10,000."""

    integration: Integration
    scope: Scope | None = None
    last_run: Run | None = None
    waiting: list[Run] = field(default_factory=list)  # previews, undos and guarded runs that a person can let go on
    agreed: int = 0
    approvals: int = 0  # of those that wait: deletes that a person must approve
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(NAMES.values(), 0))
    state: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Counted:
    """How many records of one entity sync stand where: each counted to 10,001."""

    entity_sync: int
    integration: int
    numbers: dict[str, int]


def many(count: int) -> str:
    """Return a number for people: beyond 10,000 nobody counts."""
    return f"{MOST_COUNTED:,}+" if count > MOST_COUNTED else f"{count:,}"


def counted(integrations: Iterable[int], *, agreed: bool = True) -> list[Counted]:
    """Count the records of each entity sync by why they are not in agreement: one query, each number from an index.

    What is in agreement takes longest, since it is most: a page that does not show it leaves it out.
    """
    links = RecordLink.objects.filter(entity_sync=OuterRef("pk")).order_by()
    wanted = {name: links.filter(pending=int(pending)) for pending, name in NAMES.items()}
    wanted[APPROVALS] = links.filter(pending__isnull=False, reason="waits for approval")
    if agreed:
        wanted[AGREED] = links.filter(pending__isnull=True, ended=0)
    capped = {f"n_{name}": CountedRows(rows.values("pk")[: MOST_COUNTED + 1]) for name, rows in wanted.items()}
    syncs = EntitySync.objects.filter(integration__in=list(integrations)).annotate(**capped).order_by()
    rows = syncs.values_list("pk", "integration", *capped)
    return [Counted(sync, integration, dict(zip(wanted, each, strict=True))) for sync, integration, *each in rows]


def waiting_runs(scopes: Iterable[int], now: datetime) -> list[Run]:
    """Return previews and guarded runs that can still be approved or accepted: of each scope and kind the newest."""
    waits = Q(phase=Run.Phase.PROPOSED, purpose=Run.Purpose.CHECK, finished_at__gte=now - CHECK_KEPT)
    waits |= Q(phase__in=[Run.Phase.PROPOSED, Run.Phase.GUARDED], finished_at__gte=now - PREVIEW_KEPT)
    lately = Run.objects.filter(waits, scope__in=list(scopes), started_at__gte=now - CHECK_KEPT - timedelta(days=1))
    newest = lately.values("scope", "purpose", "phase").annotate(newest=Max("id")).order_by()
    ids = [line["newest"] for line in newest]
    return list(Run.objects.filter(pk__in=ids).select_related("integration").defer("progress", "counts"))


def overview(
    integrations: list[Integration],
    *,
    agreed: bool = True,
    counts: list[Counted] | None = None,
    now: datetime | None = None,
) -> list[Health]:
    """Look at these integrations (read with left and right).  `counts`: where they were counted before."""
    found = {integration.pk: Health(integration) for integration in integrations}
    for scope in Scope.objects.filter(integration__in=found, left_key="", right_key=""):
        found[scope.integration_id].scope = scope
    newest = Run.objects.filter(integration__in=found).values("integration").annotate(newest=Max("id")).order_by()
    for run in Run.objects.filter(pk__in=[row["newest"] for row in newest]):
        found[run.integration_id].last_run = run
    scopes = [health.scope.pk for health in found.values() if health.scope is not None]
    for run in waiting_runs(scopes, now or timezone.now()):
        found[run.integration_id].waiting.append(run)
    for one in counted(found, agreed=agreed) if counts is None else counts:
        health = found[one.integration]
        health.agreed = _sum(health.agreed, one.numbers.get(AGREED, 0))
        health.approvals = _sum(health.approvals, one.numbers[APPROVALS])
        for name in NAMES.values():
            health.counts[name] = _sum(health.counts[name], one.numbers[name])
    for health in found.values():
        health.state, health.reason = judge(health)
    return list(found.values())


def _sum(*numbers: int) -> int:
    return min(sum(numbers), MOST_COUNTED + 1)


def judge(health: Health) -> tuple[str, str]:
    """Return the state's word and the sentence behind it: the worst first."""
    integration, scope, run = health.integration, health.scope, health.last_run
    for connection in (integration.left, integration.right):
        if connection.state in BROKEN:
            return "Needs reconnect", f"{connection.name}: {connection.reason or connection.get_state_display()}"
    if not integration.enabled:
        return (
            "Paused",
            f"The integration is switched off{integration.off_reason and ' '}{integration.off_reason.rstrip('.')}.",
        )
    if scope is not None and not scope.enabled:
        return "Paused", scope.disabled_reason or "Switched off."
    for connection in (integration.left, integration.right):
        if connection.state == Connection.State.PAUSED:
            return "Paused", f"{connection.name}: {connection.reason or 'paused by a person.'}"
    if scope is not None and scope.failures:
        times = "The last run failed" if scope.failures == 1 else f"The last {scope.failures} runs failed"
        return "Failing", f"{times}: {scope.last_error}"
    if scope is not None and scope.last_error:
        return "Attention", f"The last try failed: {scope.last_error}"
    # Not only the newest: what ran after them has taken nothing away from what waits.
    guarded = [run] if run is not None and run.phase == Run.Phase.GUARDED else []
    for one in guarded or (each for each in health.waiting if each.phase == Run.Phase.GUARDED):
        return "Attention", f"A guard stopped run {one.pk}. Look at its reasons and accept, or mend the cause."
    for one in sorted(health.waiting, key=lambda each: -each.pk):
        return "Attention", f"{one.get_purpose_display()} {one.pk} waits for approval."
    hands = [
        f"{many(health.counts[name])} {words}"
        for name, words in (("conflict", "in conflict"), ("parked", "parked"))
        if health.counts[name]
    ]
    if health.approvals:
        hands.append(f"{many(health.approvals)} delete{'' if health.approvals == 1 else 's'} to approve")
    if hands:
        return "Attention", f"Records need a person: {', '.join(hands)}."
    if scope is None or scope.last_done_at is None:
        return "New", "It has not been synced to the end yet."
    return "Healthy", "Nothing needs you."
