"""Can a person settle conflicts in a real browser, field by field and many at once, with a worker and both systems running?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.chromium import executable
from tests.browser.site import PATIENCE, WebSite

pytestmark = [
    pytest.mark.browser,
    pytest.mark.processes,
    pytest.mark.slow,
    pytest.mark.skipif(executable() is None, reason="there is no Chromium on this machine"),
]
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")


class Hub(WebSite):
    """A synced installation with a worker and a web server, in which a person is asked about every conflict."""

    def open(self) -> None:
        """Sync for the first time, and put up the web server."""
        self.start()
        self.finish(PATIENCE)
        self.rows("update connectors_entitysync set policy = 'ask'")
        self.ask("delta")
        self.serve()

    def companies(self) -> list[tuple[str, str]]:
        """Return the ids of customers with a company and of their accounts."""
        accounts = {row.body["name"]: row.id for row in self.right.store.table("account").values()}
        customers = [
            row for row in self.left.store.table("Customer").values() if row.body.get("CompanyName") in accounts
        ]
        return [(row.id, accounts[row.body["CompanyName"]]) for row in customers if row.body["Active"]]

    def both_edit(self, customer: str, account: str, number: int) -> None:
        """Two people edit the same record, one on each side."""
        own = {"BillAddr.City": f"Lisbon {number}", "PrimaryPhone.FreeFormNumber": f"1000{number}"}
        self.left.user_edits("Customer", customer, own)
        self.right.user_edits("account", account, {"address1_city": f"Oslo {number}", "telephone1": f"2000{number}"})

    def held(self, customer: str, account: str) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
        """Return (city, telephone) on each side."""
        left, right = self.left.store.table("Customer")[customer].body, self.right.store.table("account")[account].body
        phone = (left.get("PrimaryPhone") or {}).get("FreeFormNumber")
        return ((left["BillAddr"].get("City"), phone), (right.get("address1_city"), right.get("telephone1")))


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with Hub(tmp_path, 30) as running:
        running.open()
        yield running


def test_conflicts_are_settled_by_field_and_in_bulk(hub: Hub, page: Any) -> None:
    one, two, three = hub.companies()[:3]
    for number, pair in enumerate((one, two, three)):
        hub.both_edit(*pair, number)
    hub.ask("delta")

    page.set_default_timeout(PATIENCE * 1000)
    hub.enter(page)
    page.goto(f"{hub.address}/admin/conflicts/")
    assert "3 conflicts" in page.inner_text("#content")
    card = page.locator(".cf-card", has_text="Lisbon 0")
    assert "Oslo 0" in card.inner_text()

    # A side is missing: the browser says so at the field, and nothing is sent.
    card.locator("label", has_text="Lisbon 0").click()
    card.locator("button:text-is('Apply')").click()
    assert page.url.endswith("/admin/conflicts/")
    assert card.locator("input:invalid").count() == 2
    card.locator("label", has_text="20000").click()
    card.locator("button:text-is('Apply')").click()
    page.wait_for_selector("text=A sync carries it out now")
    hub.until(lambda: hub.held(*one) == (("Lisbon 0", "20000"),) * 2, "the chosen values did not arrive", PATIENCE)
    assert hub.held(*two) == (("Lisbon 1", "10001"), ("Oslo 1", "20001")), "the others still wait"

    page.goto(f"{hub.address}/admin/conflicts/?kind=fields")
    assert "2 conflicts" in page.inner_text("#content")
    page.check("#cf-bulk [name=all]")
    page.click("#cf-bulk button:text-is('The left wins')")
    page.wait_for_selector("text=The left wins: 2 records?")
    page.click("button:text-is('The left wins (2)')")
    page.wait_for_selector("text=2 records decided")
    for pair, number in ((two, 1), (three, 2)):
        wanted = ((f"Lisbon {number}", f"1000{number}"),) * 2
        hub.until(lambda pair=pair, wanted=wanted: hub.held(*pair) == wanted, "the left did not win", PATIENCE)
    hub.until(
        lambda: hub.rows("select count(*) from connectors_recordlink where pending in (1, 4, 6)") == [(0,)],
        "not all is in agreement",
        PATIENCE,
    )
    page.goto(f"{hub.address}/admin/conflicts/")
    assert "No record is in conflict" in page.inner_text("#content")
