"""Which tries did a job have, and which jobs belong to it?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from django.db.models import Q

from jobs.models import Job, JobTransition
from jobs.states import SLICE, StatusReason

S = StatusReason
MOST_STEPS = 2000  # of a job's timeline that are read for its tries
MOST_LEVELS = 5
MOST_JOBS = 100


@dataclass
class Try:
    """One try of a job: from a worker's claim until it ended, was put off or was lost; slices of one try are counted."""

    number: int
    started: datetime
    worker: str = ""
    ended: datetime | None = None
    outcome: str = "running"
    reason: str = ""
    error_class: str = ""
    error_code: str = ""
    slices: int = 0


def tries_of(steps: Iterable[JobTransition]) -> list[Try]:
    """Read the tries off a timeline, oldest first.  What a slice ends the next claim carries on."""
    tries: list[Try] = []
    sliced = False
    for step in steps:
        was, now = step.from_status, step.to_status
        if now == S.IN_PROGRESS and was != S.IN_PROGRESS:
            if sliced and tries:
                tries[-1].worker, tries[-1].ended, tries[-1].outcome = step.by or tries[-1].worker, None, "running"
            else:
                tries.append(Try(len(tries) + 1, step.at, step.by))
        elif was == S.IN_PROGRESS and now != S.IN_PROGRESS and tries:
            last = tries[-1]
            sliced = now == S.WAITING and step.reason == SLICE
            last.ended, last.reason = step.at, "" if sliced else step.reason
            last.slices += sliced
            last.outcome = "between two slices" if sliced else _outcome(StatusReason(now))
            last.error_class, last.error_code = step.error_class, step.error_code
    return tries


def _outcome(new: StatusReason) -> str:
    return {S.WAITING: "put off", S.RETRY: "failed, tried again"}.get(new, new.label.lower())


def of_job(job: Job) -> list[Try]:
    """Return the tries of a job; of an endless one, those of its newest steps."""
    newest = list(JobTransition.objects.filter(job=job).order_by("-id")[:MOST_STEPS])
    return tries_of(reversed(newest))


@dataclass
class Node:
    """A job in the tree of those that belong together."""

    job: Job
    how: str  # how it hangs on the one above: part of, again
    here: bool = False
    below: list[Node] = field(default_factory=list)


COLUMNS = ("id", "type", "status_reason", "parent", "repeat_of", "object_ref", "error_message", "created_at")


def chain(job: Job) -> Node | None:
    """Return the tree to which a job belongs, None where it stands alone: a few queries, however many jobs there are."""
    top = job
    for _ in range(MOST_LEVELS):
        above = top.parent_id or top.repeat_of_id
        found = Job.objects.only(*COLUMNS).filter(pk=above).first() if above else None
        if found is None:
            break
        top = found
    root = Node(top, "", top.pk == job.pk)
    level: Sequence[Node] = [root]
    nodes = {top.pk: root}
    for _ in range(2 * MOST_LEVELS):
        level = _children(level, nodes, job.pk)
        if not level:
            break
    return root if len(nodes) > 1 else None


def _children(level: Sequence[Node], nodes: dict[int, Node], here: int) -> list[Node]:
    ids = [node.job.pk for node in level]
    room = MOST_JOBS - len(nodes)
    below = Job.objects.only(*COLUMNS).filter(Q(parent__in=ids) | Q(repeat_of__in=ids)).order_by("id")[: max(0, room)]
    made: list[Node] = []
    for job in below:
        if job.pk in nodes:
            continue
        above, how = (job.parent_id, "part of it") if job.parent_id in nodes else (job.repeat_of_id, "run again")
        node = Node(job, how, job.pk == here)
        nodes[above or 0].below.append(node)
        nodes[job.pk] = node
        made.append(node)
    return made
