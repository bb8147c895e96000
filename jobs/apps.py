"""The jobs app: registers its system checks and, inside a supervised worker, the watch over its supervisor."""

from __future__ import annotations

from django.apps import AppConfig


class JobsConfig(AppConfig):
    name = "jobs"
    verbose_name = "Jobs"

    def ready(self) -> None:
        """Connect what must run in every process that has Django set up."""
        from django_q.signals import post_spawn

        from jobs import checks, shutdown

        checks.connect()
        post_spawn.connect(shutdown.watch_supervisor, dispatch_uid="jobs.shutdown")
