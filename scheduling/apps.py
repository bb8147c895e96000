"""The app that starts services at their times."""

from __future__ import annotations

from django.apps import AppConfig


class SchedulingConfig(AppConfig):
    """Services, schedules, provisioning and pre-flight."""

    name = "scheduling"
    verbose_name = "Scheduling"
