"""How does a person or a schedule ask for a sync?  The admin, the API and the commands call these functions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

from django.contrib.auth.models import User
from django.db import transaction

from connectors.models import Integration, RecordLink, Run, Scope
from connectors.sync import proposals
from connectors.sync import run as engine
from connectors.sync.promotions import Requested, promote
from connectors.sync.undo import check_undoable
from jobs import clock, dispatch, operate
from jobs.models import Job
from jobs.states import IllegalTransition, Priority, StatusReason

if TYPE_CHECKING:
    from jobs.models import Person


class NotNow(Exception):
    """The request makes no sense at present; the sentence says why and what to do."""


def lock_key(scope: Scope) -> str:
    """One running job for a scope."""
    return f"scope:{scope.pk}"


def scope_of(integration: Integration) -> Scope:
    """Return the one scope of an integration without scopes."""
    scope, _ = Scope.objects.get_or_create(integration=integration, left_key="", right_key="")
    return scope


def switched_off(integration: Integration, scope: Scope) -> str:
    """Return why nothing of it runs and what to do, or ""."""
    if not integration.enabled:
        return f"{integration} is switched off. Enable it first."
    if scope.enabled:
        return ""
    return (
        f"{integration}: {scope.disabled_reason}"
        if scope.disabled_reason
        else f"{scope} is switched off. Enable it first."
    )


def first_is_preview(integration: Integration, scope: Scope) -> bool:
    """Say whether the next run is the very first, and a person wants to look at it before anything is written."""
    return scope.last_full_at is None and integration.first_run == "preview"


def request_sync(
    integration: Integration,
    *,
    mode: str = "delta",
    preview: bool = False,
    entities: list[str] | None = None,
    by: Person = None,
    priority: Priority = Priority.PERSON,
    run_at: datetime | None = None,
    here: bool = False,
) -> Job:
    """Ask for a run.  The very first run of an integration whose `first_run` is "preview" becomes a preview.

    A person does not wait for the next try of a run that failed: it is brought forward, though not below Retry-After.

    Raises NotNow when the integration or its scope is switched off.
    """
    scope = scope_of(integration)
    if why := switched_off(integration, scope):
        raise NotNow(why)
    unknown = sorted(set(entities or []) - set(integration.entity_syncs.values_list("name", flat=True)))
    if unknown:
        known = ", ".join(integration.entity_syncs.values_list("name", flat=True))
        raise NotNow(f"{integration} has no entity sync {', '.join(unknown)}. It has: {known}.")
    purpose = "preview" if preview or first_is_preview(integration, scope) else "sync"
    with transaction.atomic():
        job = dispatch.request(
            "sync",
            params={"mode": mode, "purpose": purpose, "entities": entities or []},
            lock_key=lock_key(scope),
            dedupe_key=f"sync:{scope.pk}:{purpose}:{mode}:{','.join(entities or [])}",
            priority=priority,
            run_at=run_at,
            by=by,
            scope=scope,
            here=here,
        )
        if job.status is StatusReason.RETRY and priority == Priority.PERSON and not here:
            _try_at_once(job, by)
        return job


def _try_at_once(job: Job, by: Person) -> None:
    """Bring a retry forward.  Where it has just begun, or ended, there is nothing to bring forward."""
    try:
        operate.run_now(job, by=by, reason="a sync was asked for")
    except IllegalTransition:
        job.refresh_from_db()


def service_job(
    scope: Scope, work: str, *, entities: list[str], service: str, by: Person = None, priority: Priority | None = None
) -> Job:
    """Build, without placing it, the job with which a service starts.

    `work` is "changes", "reports" (figures that no feed tells of), "promoted" (what was promoted in bulk) or "reconcile"
    (everything is read, differences are only proposed).  Long work goes behind the others; reports hand over to them at the
    end of each slice, too, a reconciliation keeps them waiting until it has read everything.
    """
    params, usual = _WORKS[work]
    priority = usual if priority is None else priority
    told = {"entities": entities, "service": service, **params}
    return dispatch.build(
        "sync", params=told, lock_key=lock_key(scope), dedupe_key=f"service:{service}", priority=priority, by=by, scope=scope,
        object_ref=f"service:{service}",
    )  # fmt: skip


_WORKS: dict[str, tuple[dict[str, object], Priority]] = {
    "changes": ({"mode": "delta", "purpose": "sync"}, Priority.SCHEDULED),
    "reports": ({"mode": "reports", "purpose": "sync"}, Priority.LONG),
    "promoted": ({"mode": "delta", "purpose": "sync", "promoted": True}, Priority.SCHEDULED),
    "reconcile": ({"mode": "comprehensive", "purpose": "check"}, Priority.LONG),
}


def request_promotion(
    integration: Integration,
    entity_sync: str,
    record_ids: list[str],
    *,
    by: Person = None,
    bulk: bool = False,
    here: bool = False,
) -> tuple[Requested, Job | None]:
    """Queue records that flow only on request, and ask for a run that writes them.

    In bulk they stay queued until the service for them takes them, and no run is asked for.
    Raises NotNow for an unknown entity sync, NotPromotable where nothing needs a request.
    """
    sync = integration.entity_syncs.filter(name=entity_sync).first()
    if sync is None:
        known = ", ".join(integration.entity_syncs.values_list("name", flat=True))
        raise NotNow(f"{integration} has no entity sync {entity_sync!r}. It has: {known}.")
    with transaction.atomic():
        requested = promote(sync, record_ids, now=clock.now(), by=by if isinstance(by, User) else None, waits=bulk)
        job = request_sync(integration, by=by, here=here) if requested.queued and not bulk else None
    return requested, job


def request_undo(run: Run, *, only: RecordLink | None = None, by: Person = None, here: bool = False) -> Job:
    """Ask for a run that proposes to take back what this one wrote; nothing is written before a person approves it.

    `only`: just what it wrote of this record.

    Raises NotNow where there is nothing to take back, or where it can't be begun.
    """
    if not run.integration.enabled or not run.scope.enabled:
        raise NotNow(f"{run.integration} is switched off. Enable it first.")
    try:
        check_undoable(run)
    except ValueError as error:
        raise NotNow(str(error)) from error
    with transaction.atomic():
        return dispatch.request(
            "sync",
            params={"mode": "delta", "purpose": "undo", "undoes": run.pk, **({"only": only.pk} if only else {})},
            lock_key=lock_key(run.scope),
            dedupe_key=f"undo:{run.pk}:{only.pk}" if only else f"undo:{run.pk}",
            priority=Priority.PERSON,
            by=by,
            scope=run.scope,
            here=here,
        )


def approve_preview(
    run: Run, *, by: Person = None, accept_guard: bool = False, seen: str | None = None
) -> tuple[Job, int, int]:
    """Approve a preview: exactly what is ticked is written by a new job.  Returns (job, approved, bounced).

    `seen` is what `proposals.seen` said when the person looked; where that is no longer so, it is refused with what changed.
    """
    person = by if isinstance(by, User) else None
    with transaction.atomic(), _refusing():
        approved, bounced = proposals.approve(run, clock.now(), person, accept_guard=accept_guard, seen=seen)
        return _go_on(run, by), approved, bounced


def decide_preview(
    run: Run,
    ticks: Mapping[int, bool],
    fields: Mapping[int, Mapping[str, bool]] | None = None,
    *,
    by: Person = None,
    seen: str | None = None,
) -> int:
    """Tick and untick proposals, and single fields of them.  Returns how many proposals that changed.

    Raises NotNow where the preview does not wait any more or is not what was seen, WrongChoice where a choice does not fit.
    """
    with _refusing():
        return proposals.decide(run, ticks, fields, seen=seen, by=by)


def decide_whole_preview(
    run: Run,
    *,
    tick: bool,
    kind: str = "",
    side: str = "",
    confirmed: int | None = None,
    by: Person = None,
    seen: str | None = None,
) -> int:
    """Tick or untick all proposals of a kind and side; without a kind all but removals.  As `decide_preview` else."""
    with _refusing():
        return proposals.decide_all(run, tick=tick, kind=kind, side=side, confirmed=confirmed, seen=seen, by=by)


@contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except proposals.WrongChoice:
        raise
    except ValueError as error:
        raise NotNow(str(error)) from error


def accept_guard(run: Run, *, by: Person = None) -> Job:
    """Go on with a run that a guard stopped."""
    with transaction.atomic():
        try:
            engine.accept_guard(run, clock.now())
        except ValueError as error:
            raise NotNow(str(error)) from error
        return _go_on(run, by)


def _go_on(run: Run, by: Person) -> Job:
    if why := switched_off(run.integration, run.scope):
        raise NotNow(why)
    # All that began the run: who runs this job again later gets a run of the same kind, not one over recent changes alone.
    params = {"mode": run.mode, "purpose": run.purpose, "entities": run.entities}
    more = {"undoes": run.undoes_id, "only": run.progress.get("only")}
    return dispatch.request(
        "sync", lock_key=lock_key(run.scope), dedupe_key=f"run:{run.pk}", priority=Priority.PERSON, by=by, scope=run.scope,
        run=run, params={**params, **{name: value for name, value in more.items() if value}},
    )  # fmt: skip
