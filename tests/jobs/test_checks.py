"""Are unsafe settings of the queue refused?"""

import subprocess
import sys

import pytest
from django.conf import settings as live

from jobs import checks


def codes(messages):
    return {message.id for message in messages}


def test_the_shipped_settings_pass():
    assert checks.check_queue() + checks.check_leases() + checks.check_app_order() == []


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"bulk": 10}, "jobs.E001"),
        ({"queue_limit": 50}, "jobs.E002"),
        ({"queue_limit": None}, "jobs.E002"),
        ({"workers": None}, "jobs.E002"),
        ({"timeout": None}, "jobs.E003"),
        ({"retry": 360}, "jobs.E004"),
        ({"retry": 121}, "jobs.E004"),
        ({"ack_failures": False}, "jobs.E005"),
        ({"max_attempts": 0}, "jobs.E006"),
        ({"max_attempts": 3}, "jobs.E006"),
        ({"catch_up": True}, "jobs.E007"),
        ({"scheduler": True}, "jobs.E008"),
        ({"sync": True}, "jobs.E009"),
        ({"timeout": 50, "retry": 480}, "jobs.E010"),
        ({"save_limit": 250}, "jobs.E011"),
    ],
)
def test_each_unsafe_setting_is_refused(settings, change, code):
    settings.Q_CLUSTER = {**live.Q_CLUSTER, **change}
    assert code in codes(checks.check_queue())


@pytest.mark.parametrize("name", ["bulk", "retry", "timeout", "ack_failures", "max_attempts", "catch_up", "scheduler"])
def test_a_default_of_the_queue_is_judged_as_what_it_is(settings, name):
    """django-q2's own defaults are unsafe, but for bulk."""
    settings.Q_CLUSTER = {key: value for key, value in live.Q_CLUSTER.items() if key != name}
    assert bool(checks.check_queue()) == (name != "bulk")


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("JOB_HEARTBEAT_SECONDS", 60, "jobs.E020"),
        ("WORKER_STALL_SECONDS", 30, "jobs.E021"),
        ("WORKER_STALL_SECONDS", 45, "jobs.W022"),
    ],
)
def test_times_that_contradict_each_other_are_reported(settings, name, value, code):
    setattr(settings, name, value)
    assert code in codes(checks.check_leases())


def test_the_order_of_apps_decides_whose_admin_pages_stay(settings):
    settings.INSTALLED_APPS = [*(app for app in live.INSTALLED_APPS if app != "django_q"), "django_q"]
    assert codes(checks.check_app_order()) == {"jobs.E030"}


def test_manage_py_check_runs_them():
    """A process of its own: are the checks registered?"""
    code = "\n".join(
        [
            "import django; from django.conf import settings; django.setup()",
            "settings.Q_CLUSTER['bulk'] = 7",
            "from django.core.checks import run_checks",
            "print([m.id for m in run_checks()])",
        ]
    )
    out = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, check=True, cwd=live.BASE_DIR,
        env={**__import__("os").environ, "DJANGO_SETTINGS_MODULE": "config.settings"},
    ).stdout  # fmt: skip
    assert "jobs.E001" in out
