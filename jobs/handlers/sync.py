"""How is one run of an integration carried out as a job?  Slice by slice, under a fence, with progress for people."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import timedelta
from typing import ClassVar

from django.contrib.auth.models import User
from django.db import InterfaceError, OperationalError

from connectors.contract import AuthError, Connector, ConnectorError, PermanentError, QuotaExhausted
from connectors.models import Connection, RecordChange, Run, Scope
from connectors.sync import bulk, drift
from connectors.sync.compile import SettingsError
from connectors.sync.context import FenceLost
from connectors.sync.picklists import match_picklists
from connectors.sync.rules import LEFT, RIGHT
from connectors.sync.run import advance, describe, start_run, take
from connectors.sync.world import World
from connectors.transport import check, connected
from connectors.transport.apilog import ApiLog
from jobs.context import JobCancelled, JobContext, LeaseLost
from jobs.dispatch import UNUSABLE
from jobs.handlers import Answer, Finished, NotApplicable, Sliced, Snoozed
from jobs.housekeeping import failing
from jobs.models import Job, JobQuerySet
from jobs.retries import REPEATED, classify
from jobs.syncing import first_is_preview, switched_off

logger = logging.getLogger(__name__)
# Points at which nothing is half done: here a job may be cancelled, and a lost lease is noticed before the next write.
SAFE_POINTS = frozenset({"page read", "before mark sending", "before store plan"})
STORED = frozenset({"after stage page", "after record outcomes"})
WAIT_FOR_ANOTHER = timedelta(seconds=10)
COUNT_EVERY = 2.0  # seconds between two looks at how many writes are left


class SyncHandler:
    """A run for one scope: `scope` of the job; params mode, purpose, entities."""

    type: ClassVar[str] = "sync"
    safe: ClassVar[bool] = True  # every write has an intent before it, which the next try settles by its key
    delays: ClassVar[Sequence[timedelta]] = tuple(timedelta(minutes=m) for m in (1, 5, 15, 15, 15))  # DESIGN 9.2
    max_age: ClassVar[timedelta | None] = None

    def run(self, context: JobContext) -> Answer:
        """Carry the run on until it is done or the slice is over."""
        scope = Scope.objects.select_related("integration__left", "integration__right").get(pk=context.scope_id or 0)
        probe = bool(context.params.get("probe")) and failing.is_paused(scope)
        if (why := switched_off(scope.integration, scope)) and not (probe and scope.integration.enabled):
            return NotApplicable(why)
        reports = context.params.get("mode") == Run.Mode.REPORTS
        by_service = context.run_id is None and context.params.get("service")
        if by_service and first_is_preview(scope.integration, scope):
            return NotApplicable(
                f"The first run of {scope.integration} is a preview that a person approves. Press Preview."
            )
        ahead = _run_ahead(context, scope, reports=reports)
        if ahead:
            return Snoozed(WAIT_FOR_ANOTHER, ahead)
        log = ApiLog()
        with ExitStack() as open_transports:
            world = _world(context, log, open_transports)
            run = _run(context, scope, world)
            if run.phase == Run.Phase.FAILED:
                return NotApplicable(f"Run {run.pk} was overtaken by a newer one.")
            watch = _Watch(context, run)
            world.point = watch.point
            try:
                if run.mode == Run.Mode.COMPREHENSIVE and not run.progress.get("picklists"):
                    _match_picklists(run, world)
                if context.params.get("promoted") and not run.progress.get("taken"):
                    bulk.take(run, world)
                done = advance(run, world, slice_over=context.slice_over)
                if done and context.params.get("promoted"):
                    bulk.tell(run, world)
            except FenceLost:
                return Sliced()  # the settings changed under way: the next slice plans by the new ones
            except SettingsError as error:
                _failed(run, scope, str(error), context, counts=True)
                _look_at_schema(run, world)
                raise PermanentError(str(error)) from error
            except AuthError as error:
                # The connection tells its own trouble: it is not counted against each integration, too.
                _failed(run, scope, str(error), context, counts=not _find_the_refused(run))
                raise
            except ConnectorError as error:
                _failed(run, scope, str(error), context, counts=probe or _for_good(error, context))
                if probe:
                    raise PermanentError(f"The daily try failed: {error}", code=error.code) from error
                raise
            except (LeaseLost, JobCancelled, OperationalError, InterfaceError):
                raise  # nothing that the integration has done
            except Exception as error:
                _failed(run, scope, f"unexpected {type(error).__name__}; the job's page has more", context, counts=True)
                raise
            finally:
                log.flush()
        if not done:
            return Sliced()
        if probe:
            failing.resume(scope, by=failing.RULE)
        run.refresh_from_db()
        return Finished({"run": run.pk, "summary": describe(run), "counts": run.counts})


def _run_ahead(context: JobContext, scope: Scope, *, reports: bool) -> str:
    """A run in slices, an approved preview or a waiting retry is brought to its end before another begins.

    Only reports are different: all others may come between two of their slices.
    """
    if context.run_id is not None:
        return ""
    others = _unfinished(scope).exclude(pk=context.job_id)
    if not reports:
        others = others.exclude(run__mode=Run.Mode.REPORTS)
    other = others.first()
    return f"Run {other.run_id} of job {other.pk} is not at its end yet." if other else ""


def _unfinished(scope: Scope) -> JobQuerySet:
    return Job.objects.open().filter(scope=scope, run__isnull=False, run__finished_at__isnull=True)


def _world(context: JobContext, log: ApiLog, open_transports: ExitStack) -> World:
    def connect(connection: Connection) -> Connector:
        transport = connected(connection, run_id=context.run_id, job_id=context.job_id, now=context.now, log=log)
        return open_transports.enter_context(transport)

    return World(connect=connect, now=context.now)


def _run(context: JobContext, scope: Scope, world: World) -> Run:
    if context.run_id is not None:
        run = Run.objects.select_related("integration__left", "integration__right", "scope").get(pk=context.run_id)
        take(run)
        return run
    run = start_run(
        scope,
        world,
        mode=str(context.params.get("mode", "delta")),
        purpose=str(context.params.get("purpose", "sync")),
        entities=list(context.params.get("entities", [])),
        asked_by=User.objects.filter(pk=context.created_by_id).first() if context.created_by_id else None,
        undoes=Run.objects.filter(pk=int(str(context.params.get("undoes") or 0))).first(),
        retry=context.params.get("retry"),
        only=context.params.get("only"),
        aside=[pk for pk in _unfinished(scope).values_list("run", flat=True) if pk is not None],
    )
    context.set_run(run.pk)
    return run


def _match_picklists(run: Run, world: World) -> None:
    """New options find their partners by label before everything is read again, and what the mappings need is looked at."""
    integration = run.integration
    connectors = {LEFT: world.connect(integration.left), RIGHT: world.connect(integration.right)}
    drift.look_if_due(integration, connectors, world.now())
    match_picklists(integration, connectors)
    run.progress = {**run.progress, "picklists": True}
    Run.objects.filter(pk=run.pk).update(progress=run.progress)


def _look_at_schema(run: Run, world: World) -> None:
    """The settings don't fit what the systems describe: since when, and what has gone, is kept for the mappings' pages."""
    integration = run.integration
    try:
        connectors = {LEFT: world.connect(integration.left), RIGHT: world.connect(integration.right)}
        drift.look_if_due(integration, connectors, world.now())
    except ConnectorError as error:
        logger.warning("the schema of integration %s could not be looked at: %s", integration.pk, error)


def _for_good(error: ConnectorError, context: JobContext) -> bool:
    """Whether the job gives up: an outage that a later try of it gets over is no failure of the integration.

    Nor is a quota that is used up: it comes back by itself.
    """
    if isinstance(error, QuotaExhausted):
        return False
    return context.last_try or classify(error) not in REPEATED


def _failed(run: Run, scope: Scope, error: str, context: JobContext, *, counts: bool) -> None:
    Run.objects.filter(pk=run.pk).update(error=error[:500])
    if counts:
        failing.failed(scope, error, now=context.now())
    else:
        Scope.objects.filter(pk=scope.pk).update(last_error=error[:500])


def _find_the_refused(run: Run) -> bool:
    """One of the two systems no longer lets us in: ask both, so that the right connection says "needs reconnect".

    Returns whether one says so.
    """
    connections = (run.integration.left, run.integration.right)
    for connection in connections:
        connection.refresh_from_db(fields=["state", "reason"])
    if any(connection.state in UNUSABLE for connection in connections):
        return True  # known already: a check would knock at a login that has refused us, once more at each attempt
    for connection in connections:
        try:
            check(connection)
        except ConnectorError as error:
            logger.warning("connection %s: %s", connection.pk, error)
    return any(connection.state in UNUSABLE for connection in connections)


class _Watch:
    """Turns the engine's points into safe points and progress of the job."""

    def __init__(self, context: JobContext, run: Run) -> None:
        self.context, self.run = context, run
        self.looked = 0.0

    def point(self, name: str) -> None:
        """Called between any two side effects of the engine."""
        if name in SAFE_POINTS:
            self.context.checkpoint()
        elif name in STORED:
            self.context.stored_progress()
            if time.monotonic() - self.looked >= COUNT_EVERY:
                self.looked = time.monotonic()
                self._show(name)

    def _show(self, name: str) -> None:
        if name == "after stage page":
            self.context.progress(0, None, "Reading")
            return
        left = RecordChange.objects.filter(run=self.run, open__isnull=False).count()
        done = RecordChange.objects.filter(run=self.run, status="written").count()
        self.context.progress(done, done + left, "Writing")
