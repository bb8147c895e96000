"""What do the browser tests share?"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.browser.chromium import ARGUMENTS, executable


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """An empty page.  Playwright keeps an event loop in this thread, which Django takes for asynchronous code."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    monkeypatch.setitem(os.environ, "DJANGO_ALLOW_ASYNC_UNSAFE", "1")
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=executable(), args=ARGUMENTS)
        yield browser.new_page(viewport={"width": 1440, "height": 900})
        browser.close()
