"""What do all tests share?  Tests whose means are missing here are left out and named."""

from __future__ import annotations

import os
import shutil

import pytest

CHROMIUM = "chromium is not installed: browser tests are left out (.ci/run installs it)"
POSTGRES = "neither DATABASE_URL nor TEST_POSTGRES_URL names a PostgreSQL database: these tests are left out"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what needs a browser or PostgreSQL where there is none; pytest's summary names it."""
    browser = shutil.which("chromium") is not None
    postgres = any(os.environ.get(name, "").startswith("postgres") for name in ("DATABASE_URL", "TEST_POSTGRES_URL"))
    for item in items:
        if not browser and item.get_closest_marker("browser"):
            item.add_marker(pytest.mark.skip(reason=CHROMIUM))
        if not postgres and item.get_closest_marker("postgres"):
            item.add_marker(pytest.mark.skip(reason=POSTGRES))
