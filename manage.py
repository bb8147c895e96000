#!/usr/bin/env python
"""Syncline's command line: `python manage.py help` lists what it can do."""

import os
import sys


def main() -> None:
    """Run a command; a setting that is missing or wrong ends in one sentence."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    if sys.argv[1:2] == ["demo"]:
        from config.demo import prepare_environment

        prepare_environment()
    from django.conf import settings
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import execute_from_command_line

    try:
        settings.INSTALLED_APPS  # noqa: B018 - reads the settings here, where what is wrong can be said in a sentence
    except (ImproperlyConfigured, ValueError) as error:
        sys.exit(f"Settings: {error}")
    try:
        execute_from_command_line(sys.argv)
        sys.stdout.flush()
    except BrokenPipeError:  # its reader has seen enough: `manage.py jobs list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
