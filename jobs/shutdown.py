"""Is this worker about to stop?  A pipe from the supervisor says so, also when the supervisor was killed.

The supervisor holds the writing end of a pipe and every process of its cluster inherits the reading end.  When the
supervisor closes it, or dies in whatever way, a read returns at once: running jobs end their slice at the next safe
point, no further job is claimed, and after the grace time the worker kills its whole process group.  So nothing of a
cluster outlives its supervisor, although django-q2 by itself leaves orphans behind (PERFORMANCE.md, "django-q2").
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time

from django.conf import settings

PIPE = "SYNCLINE_SUPERVISOR_PIPE"  # environment: the number of the reading end
NAME = "SYNCLINE_SUPERVISOR"  # environment: the supervisor's name
EXTRA_GRACE = 2.0  # seconds: a living supervisor kills the group first, and says so in its log

logger = logging.getLogger(__name__)
stopping = threading.Event()


def watch_supervisor(**_: object) -> None:
    """Start the watch in this worker process (django-q2 sends `post_spawn` at the start of each)."""
    pipe = os.environ.get(PIPE)
    if pipe:
        threading.Thread(target=_watch, args=(int(pipe),), name="supervisor-watch", daemon=True).start()


def _watch(pipe: int) -> None:
    os.read(pipe, 1)  # nothing is ever written: this returns when the last writing end is closed
    stopping.set()
    time.sleep(settings.WORKER_GRACE_SECONDS + EXTRA_GRACE)
    logger.error("the supervisor is gone and the cluster still runs after the grace time: killing the group")
    # The group is the cluster's own (it was started in a new session).
    os.killpg(os.getpgid(0), signal.SIGKILL)
