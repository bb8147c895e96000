"""Which status reasons does a job have, and who may move it from one to another?  Pure: a table, no database."""

from __future__ import annotations

from django.db import models


class StatusReason(models.TextChoices):
    """The eight words that operators see."""

    WAITING = "waiting", "Waiting"
    DISPATCHED = "dispatched", "Dispatched"
    IN_PROGRESS = "in progress", "In progress"
    RETRY = "retry", "Retry"
    SUCCEEDED = "succeeded", "Succeeded"
    FAILED = "failed", "Failed"
    NOT_APPLICABLE = "not applicable", "Not applicable"
    CANCELLED = "cancelled", "Cancelled"


class Actor(models.TextChoices):
    """Who moves a job."""

    OPERATOR = "operator", "Operator"
    PRODUCER = "producer", "Producer"
    DISPATCHER = "dispatcher", "Dispatcher"
    WORKER = "worker", "Worker"
    REAPER = "reaper", "Reaper"


class Priority(models.IntegerChoices):
    """The lower number goes first."""

    PERSON = 0, "A person waits for it"
    SCHEDULED = 10, "Scheduled"
    LONG = 20, "Long work"  # goes behind the others, and hands over to them at the end of each slice


class IllegalTransition(Exception):
    """The table does not allow the move, or the row is no longer where the caller thought it was."""


class LockHeld(IllegalTransition):
    """Another job with the same lock key is running."""


class AlreadyOpen(IllegalTransition):
    """Another open job has the same dedupe key."""


S = StatusReason
SLICE = "end of a slice"  # the reason of a move that ends no try
READY = (S.WAITING, S.RETRY)  # `ready_at` is set
RUNNING = (S.DISPATCHED, S.IN_PROGRESS)  # `lease_until` is set, the lock key is held
OPEN = (*READY, *RUNNING)  # the dedupe key is held
FINISHED = (S.SUCCEEDED, S.FAILED, S.NOT_APPLICABLE, S.CANCELLED)

_O, _D, _W, _R = Actor.OPERATOR, Actor.DISPATCHER, Actor.WORKER, Actor.REAPER
TRANSITIONS: dict[StatusReason, dict[StatusReason, frozenset[Actor]]] = {  # JOBS section 3, row by row
    S.WAITING: {
        S.DISPATCHED: frozenset({_D}),
        S.NOT_APPLICABLE: frozenset({_D}),
        S.CANCELLED: frozenset({_O}),
    },
    S.DISPATCHED: {
        S.IN_PROGRESS: frozenset({_W}),
        S.WAITING: frozenset({_R}),  # no worker took it
        S.CANCELLED: frozenset({_O}),
    },
    S.IN_PROGRESS: {
        S.SUCCEEDED: frozenset({_W}),
        S.NOT_APPLICABLE: frozenset({_W}),
        S.WAITING: frozenset({_W}),  # end of a slice, or "come back later"
        S.CANCELLED: frozenset({_W}),  # at a safe point
        S.RETRY: frozenset({_W, _R}),
        S.FAILED: frozenset({_W, _R}),
    },
    S.RETRY: {
        S.DISPATCHED: frozenset({_D}),
        S.FAILED: frozenset({_D}),  # older than its max age
        S.CANCELLED: frozenset({_O}),
    },
    S.FAILED: {S.WAITING: frozenset({_O})},
    S.CANCELLED: {S.WAITING: frozenset({_O})},
    S.SUCCEEDED: {},
    S.NOT_APPLICABLE: {},
}


def may_move(old: StatusReason, new: StatusReason, actor: Actor) -> bool:
    """Say whether the table lets `actor` make this move."""
    return actor in TRANSITIONS[old].get(new, frozenset())
