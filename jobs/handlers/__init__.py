"""What does a type of job do?  The protocol of handlers, what they answer, and the registry: type -> dotted path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, ClassVar, Protocol, TypeAlias, cast

from django.conf import settings
from django.utils.module_loading import import_string

if TYPE_CHECKING:
    from jobs.context import JobContext

# Loaded at first use: a process that only hands out jobs does not import the engine.
HANDLERS: dict[str, str] = {
    "sync": "jobs.handlers.sync.SyncHandler",
    "purge": "jobs.handlers.purge.PurgeHandler",
    "alert message": "jobs.handlers.alert_message.AlertMessageHandler",
}


@dataclass(frozen=True, slots=True)
class Finished:
    """The work is done."""

    results: Mapping[str, object] = field(default_factory=dict)  # JSON


@dataclass(frozen=True, slots=True)
class Sliced:
    """Progress is stored and there is more to do: give others their turn, then call again."""


@dataclass(frozen=True, slots=True)
class NotApplicable:
    """There is nothing to do any more, and never will be."""

    reason: str


@dataclass(frozen=True, slots=True)
class Snoozed:
    """It can't be done yet (come back later): this try does not count."""

    delay: timedelta
    reason: str


Answer: TypeAlias = Finished | Sliced | NotApplicable | Snoozed


class Handler(Protocol):
    """The work of one type of job.  Made anew for each slice."""

    type: ClassVar[str]
    safe: ClassVar[bool]  # may simply be run again after a lost worker; else the next try is told to reconcile first
    delays: ClassVar[Sequence[timedelta]]  # before each retry; retries.DEFAULT_DELAYS unless the type knows better
    max_age: ClassVar[timedelta | None]  # after which a job is not tried again

    def run(self, context: JobContext) -> Answer:
        """Work until done, or until `context.slice_over()` at a safe point."""


class HandlerClass(Protocol):
    """The class of a handler, as the registry hands it out."""

    type: ClassVar[str]
    safe: ClassVar[bool]
    delays: ClassVar[Sequence[timedelta]]
    max_age: ClassVar[timedelta | None]

    def __call__(self) -> Handler: ...


class UnknownType(LookupError):
    """No handler is registered for this type of job."""


@cache
def registered() -> dict[str, str]:
    """Return type -> dotted path, with those of the modules in JOB_HANDLERS_EXTRA (each has a dict HANDLERS)."""
    found = dict(HANDLERS)
    for module in settings.JOB_HANDLERS_EXTRA:
        found |= import_module(module).HANDLERS
    return found


def handler_class(job_type: str) -> HandlerClass:
    """Return the handler of a type of job.  Raises UnknownType with those that there are."""
    path = registered().get(job_type)
    if path is None:
        raise UnknownType(f"There is no job type {job_type!r}. Known: {', '.join(sorted(registered()))}.")
    return cast(HandlerClass, import_string(path))
