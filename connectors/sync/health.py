"""How is each integration, in one word and one sentence?  A constant number of queries, whatever the number of links."""

from __future__ import annotations

from dataclasses import dataclass, field

from django.db.models import Count, Max

from connectors.models import Connection, Integration, RecordLink, Run, Scope
from connectors.sync.plan import Pending

NAMES = {
    Pending.DIRTY: "changed",
    Pending.WAITING: "waiting",
    Pending.SKIPPED: "skipped",
    Pending.CONFLICT: "conflict",
    Pending.PARKED: "parked",
    Pending.PLANNED: "planned",
}
BROKEN = (Connection.State.NEEDS_RECONNECT, Connection.State.WRONG_INSTANCE)


@dataclass
class Health:
    """One integration as the overview shows it."""

    integration: Integration
    scope: Scope | None = None
    last_run: Run | None = None
    agreed: int = 0
    approvals: int = 0  # of those that wait: deletes that a person must approve
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(NAMES.values(), 0))
    state: str = ""
    reason: str = ""


def overview(integrations: list[Integration], *, agreed: bool = True) -> list[Health]:
    """Look at these integrations (read with left and right).

    Counting all agreed links reads an index from end to end, a fifth of a second for a million: a page that does not show
    them leaves it out.
    """
    found = {integration.pk: Health(integration) for integration in integrations}
    for scope in Scope.objects.filter(integration__in=found, left_key="", right_key=""):
        found[scope.integration_id].scope = scope
    newest = Run.objects.filter(integration__in=found).values("integration").annotate(newest=Max("id")).order_by()
    for run in Run.objects.filter(pk__in=[row["newest"] for row in newest]):
        found[run.integration_id].last_run = run
    # Both counts are read from an index alone: all living links of an integration, and those that are not agreed.
    if agreed:
        living = RecordLink.objects.filter(integration__in=found, ended=0).values("integration")
        for row in living.annotate(total=Count("id")).order_by():
            found[row["integration"]].agreed = row["total"]
    apart = RecordLink.objects.filter(entity_sync__integration__in=found, pending__isnull=False)
    counted = apart.values_list("entity_sync__integration", "pending").annotate(total=Count("id")).order_by()
    for integration_id, pending, total in counted:
        health = found[integration_id]
        health.counts[NAMES[Pending(pending or 0)]] += total
        health.agreed = max(0, health.agreed - total)
    waiting = RecordLink.objects.filter(
        entity_sync__integration__in=found, pending=int(Pending.WAITING), reason="waits for approval"
    )
    approvals = waiting.values_list("entity_sync__integration").annotate(total=Count("id")).order_by()
    for integration_id, total in approvals:
        found[integration_id].approvals = total
    for health in found.values():
        health.state, health.reason = judge(health)
    return list(found.values())


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
    if run is not None and run.phase == Run.Phase.GUARDED:
        return "Attention", f"A guard stopped run {run.pk}. Look at its reasons and accept, or mend the cause."
    if run is not None and run.phase == Run.Phase.PROPOSED:
        return "Attention", f"{run.get_purpose_display()} {run.pk} waits for approval."
    hands = [
        f"{health.counts[name]} {words}"
        for name, words in (("conflict", "in conflict"), ("parked", "parked"))
        if health.counts[name]
    ]
    if health.approvals:
        hands.append(f"{health.approvals} delete{'' if health.approvals == 1 else 's'} to approve")
    if hands:
        return "Attention", f"Records need a person: {', '.join(hands)}."
    if scope is None or scope.last_done_at is None:
        return "New", "It has not been synced to the end yet."
    return "Healthy", "Nothing needs you."
