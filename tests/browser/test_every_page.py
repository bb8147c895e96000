"""Would we show every page to a customer: wide and narrow, light and dark, also with names that nobody expected?

looking.js says what is looked at; the pages are found by the resolver and by following links, so a new page is looked at, too.
"""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client
from django.urls import resolve, reverse

from connectors.models import Integration
from jobs.models import AlertRule
from scheduling.models import Blackout
from tests.browser import gallery
from tests.browser.chromium import executable
from tests.browser.looking import CHECKS, SWITCH, Walk

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(executable() is None, reason="there is no Chromium on this machine"),
]
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
EXPECTED = {  # kinds of pages that the walk must have met: else it would look at nothing and be content
    "admin:index", "admin:time_zone", "admin:password_change", "admin:connectors_integration_preset",
    "admin:connectors_connection_health", "admin:connectors_run_change", "admin:scheduling_integration",
    "admin:scheduling_blackout_add", "admin:config_apitoken_add", "admin:auth_user_change",
    "admin:connectors_mapping_editor", "admin:conflicts", "admin:jobs_job_changelist",
}  # fmt: skip


def viewers(main: Integration) -> list[str]:
    """Pages that look otherwise to who may change nothing."""
    told = {
        "index": None, "connectors_integration_change": main.pk, "connectors_integration_preferences": main.pk,
        "connectors_connection_change": main.left_id, "scheduling_integration": main.pk,
        "jobs_alertrule_change": AlertRule.objects.earliest("id").pk,
        "scheduling_blackout_change": Blackout.objects.earliest("id").pk, "jobs_job_changelist": None,
    }  # fmt: skip
    return [reverse(f"admin:{name}", args=[pk] if pk else []) for name, pk in told.items()]


@pytest.mark.django_db(transaction=True)
def test_every_page_is_fit_to_be_shown(live_server, page) -> None:  # type: ignore[no-untyped-def]
    """One hub for all of it: what fills it takes as long as looking at thirty pages."""
    with gallery.opened() as shown:
        nobody = Walk(live_server.url, page)
        nobody.visit("/admin/login/")
        log_in(page, live_server.url, "joan")  # who may change nothing sees other pages: words for fields, no buttons
        viewer = Walk(live_server.url, page, widths=(1440,), themes=("light",))
        for url in viewers(shown.main):
            viewer.visit(url)
        log_in(page, live_server.url, "ada")
        all_pages = Walk(live_server.url, page)
        all_pages.visit("/nowhere/", expect=404)
        all_pages.everything()
    wrong = [*nobody.wrong, *(f"viewer: {sentence}" for sentence in viewer.wrong), *all_pages.wrong]
    assert wrong == [], f"{len(all_pages.visited)} pages were looked at:\n" + "\n".join(wrong)
    assert viewer.visited == viewers(shown.main)
    met = {resolve(urlsplit(url).path).view_name for url in all_pages.visited if url.startswith("/admin/")}
    assert met >= EXPECTED


def log_in(page, address: str, name: str) -> None:  # type: ignore[no-untyped-def]
    client = Client()
    client.force_login(User.objects.get(username=name))
    key = client.cookies[settings.SESSION_COOKIE_NAME].value
    page.context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": key, "url": address}])


FLAWS = """<!DOCTYPE html><title>None | Syncline</title><body style="margin:0; background:#fff"><main id="main">
<h1>One</h1><h1>Two</h1><p style="color:#aaa">Too pale</p><div style="width:3000px">Too wide</div>
<div style="width:50px; overflow:hidden; white-space:nowrap">Cut off at its end</div>
<div style="height:10px; overflow:hidden">First line<br>second line<br>third line</div>
<table><tr><td style="max-width:30px">Spilling_over_the_next_cell</td></tr></table>
<details><summary>More</summary><table><tr><th style="max-width:30px">Spilling_once_it_is_open</th></tr></table></details>
<div style="width:50px; overflow-x:auto"><div style="width:90px">Wide</div></div>
<nav style="height:20px; overflow-x:auto"><div style="height:22px">Tabs</div></nav>
<input style="border:0; background:none" title="Hidden"><input name="bare">
<a href="/x"><span class="material-symbols-outlined">add</span></a><i id="a"></i><i id="a"></i>
<p>It is None</p></main>"""


def test_the_look_sees_each_flaw_that_it_is_made_for(page) -> None:  # type: ignore[no-untyped-def]
    page.set_content(FLAWS)
    page.evaluate(SWITCH, False)
    found = page.evaluate(CHECKS, True)
    assert {sentence.partition(":")[0] for sentence in found} == {
        "wider than the window", "too little contrast", "text is cut off", "text is cut off below", "text spills over", "scrolls sideways",
        "scrolls up and down", "a field without an edge",
        "nothing says what it is", "an id stands twice", "2 headings of the first order", "an odd title", "raw words",
    }  # fmt: skip
    assert len([sentence for sentence in found if sentence.startswith("nothing says")]) == 2
    assert len([sentence for sentence in found if sentence.startswith("text spills over")]) == 2, (
        "also what opens at a click"
    )
    assert page.locator("details[open]").count() == 0, "closed again"
    assert {sentence.partition(":")[0] for sentence in page.evaluate(CHECKS, False)} == {"too little contrast"}
