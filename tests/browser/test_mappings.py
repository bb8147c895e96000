"""Can a person change a mapping, try it on a record while they do, take a proposal and a file, and see what vanished?"""

from __future__ import annotations

from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.urls import reverse

from connectors.models import FieldMapping, RecordLink
from tests.acceptance.conftest import Hub, fresh, systems  # noqa: F401 - fixtures
from tests.browser.chromium import executable

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(executable() is None, reason="there is no Chromium on this machine"),
    pytest.mark.django_db(transaction=True),
]
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")


def test_a_mapping_is_tried_changed_proposed_imported_and_missed(live_server, page, fresh: Hub, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]  # noqa: F811
    cache.clear()
    fresh.settle()
    sync = fresh.integration.entity_syncs.get(name="customer")
    FieldMapping.objects.filter(entity_sync=sync, left="WebAddr.URI").delete()
    User.objects.create_superuser("ada", password="a long enough secret")
    troubles: list[str] = []
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on(
        "console", lambda message: troubles.append(f"{message.text} {page.url}") if message.type == "error" else None
    )
    page.on("response", lambda got: troubles.append(f"{got.status} {got.url}") if got.status >= 500 else None)

    page.goto(f"{live_server.url}/")
    page.fill("[name=username]", "ada")
    page.fill("[name=password]", "a long enough secret")
    page.click("[type=submit]")
    page.click("text=Mappings")
    page.click("a.sl-link:text-is('customer')")

    # Fields that don't fit are grey, with the reason.
    fax = FieldMapping.objects.get(entity_sync=sync, left="Fax.FreeFormNumber")
    row = page.locator(f"#mapping-{fax.pk}")
    option = row.locator("select[name$='-right'] option[value='parentaccountid']")
    assert option.is_disabled() and "can't hold each other's values" in option.inner_text()
    assert row.locator("select[name$='-right'] option[value='telephone1']").is_enabled()

    # Tried on a record while one edits.
    link = RecordLink.objects.filter(entity_sync=sync, right_id__isnull=False, pending=None).first()
    assert link is not None
    page.fill("[data-find]", str(link.left_id))
    page.wait_for_selector("text=Tested; nothing is saved.")
    name = page.locator(f"#mapping-{FieldMapping.objects.get(entity_sync=sync, left='CompanyName').pk}")
    company = str(fresh.left.store.table("Customer")[str(link.left_id)].body["CompanyName"])
    assert company in name.locator("[data-tried]").inner_text()
    name.locator("select[name$='-transform']").select_option("lower")
    page.wait_for_function(
        "([id, text]) => document.getElementById(id).querySelector('[data-tried]').innerText.includes(text)",
        arg=[name.get_attribute("id"), company.lower()],
    )
    name.locator("select[name$='-transform']").select_option("")
    assert not FieldMapping.objects.filter(entity_sync=sync, transform="lower").exists()

    # Changed and saved, with what it does shown first.
    row.locator("select[name$='-direction']").select_option("to_right")
    page.wait_for_selector("[data-test-state]:text-is('Tested; nothing is saved.')")
    page.click("text=Save…")
    confirm = page.locator("#sl-confirm").inner_text()
    assert "Fax.FreeFormNumber ↔ fax: Direction: Both ways → Left to right" in confirm and "Applies to" in confirm
    fax.refresh_from_db()
    assert fax.direction == "both"
    page.click("text=Save these changes")
    page.wait_for_selector("text=Saved: Fax.FreeFormNumber")
    fax.refresh_from_db()
    assert fax.direction == "to_right"

    # A proposal is taken by a tick, and saved only then.
    page.click(".sl-proposals summary")
    page.check("input[name=proposal][value='WebAddr.URI>websiteurl']")
    page.click("text=Add the ticked as rows")
    page.wait_for_selector("text=Not saved yet")
    assert not FieldMapping.objects.filter(entity_sync=sync, left="WebAddr.URI").exists()
    page.click("text=Save…")
    page.click("text=Save these changes")
    page.wait_for_selector("text=Saved: added WebAddr.URI")
    assert FieldMapping.objects.filter(entity_sync=sync, left="WebAddr.URI", right="websiteurl").exists()

    # Out as CSV, edited, previewed, taken.
    page.click("text=Import and export")
    with page.expect_download() as download:
        page.click("text=Mappings as CSV")
    path = tmp_path / "mappings.csv"
    text = Path(download.value.path()).read_text(encoding="utf-8-sig")
    path.write_text(
        text.replace("Fax.FreeFormNumber,fax,Left to right", "Fax.FreeFormNumber,fax,Both ways"), encoding="utf-8"
    )
    page.set_input_files("[name=file]", str(path))
    page.click("text=Preview")
    assert (
        "Fax.FreeFormNumber ↔ fax: Direction: Left to right → Both ways" in page.locator("#sl-difference").inner_text()
    )
    fax.refresh_from_db()
    assert fax.direction == "to_right"
    page.click("text=Make it so")
    page.wait_for_selector("text=Imported: 1 change")
    fax.refresh_from_db()
    assert fax.direction == "both"

    # A column goes away there.
    fresh.right.tables["account"].drop("syn_aging30")
    page.click("text=Read the schema")
    page.wait_for_selector("text=Sales no longer has the field syn_aging30")
    assert "Missing in schema" in page.locator(".sl-maps").inner_text()
    page.goto(live_server.url + reverse("admin:connectors_mapping_options", args=[sync.pk]))
    assert "without partner" in page.inner_text("#content").lower()
    assert troubles == [], "\n".join(troubles)
