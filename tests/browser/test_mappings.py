"""Can a person change a mapping, try it on a record while they do, take a proposal and a file, and see what vanished?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.urls import reverse

from connectors.models import EntitySync, FieldMapping, RecordLink
from tests.acceptance.conftest import Hub, fresh, systems  # noqa: F401 - fixtures
from tests.browser.chromium import executable

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(executable() is None, reason="there is no Chromium on this machine"),
    pytest.mark.django_db(transaction=True),
]
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")


@pytest.fixture
def troubles(page) -> Iterator[list[str]]:  # type: ignore[no-untyped-def]
    """What the browser complains of: in the end, nothing."""
    found: list[str] = []
    page.on("pageerror", lambda error: found.append(str(error)))
    page.on("console", lambda message: found.append(f"{message.text} {page.url}") if message.type == "error" else None)
    page.on("response", lambda got: found.append(f"{got.status} {got.url}") if got.status >= 500 else None)
    yield found
    assert found == [], "\n".join(found)


@pytest.fixture
def editor(live_server, page, fresh: Hub, troubles: list[str]) -> EntitySync:  # type: ignore[no-untyped-def]  # noqa: F811
    """The mappings of customers, open in the browser; one that the schemas propose is not there."""
    cache.clear()
    fresh.settle()
    sync = fresh.integration.entity_syncs.get(name="customer")
    FieldMapping.objects.filter(entity_sync=sync, left="WebAddr.URI").delete()
    User.objects.create_superuser("ada", password="a long enough secret")
    page.goto(f"{live_server.url}/")
    page.fill("[name=username]", "ada")
    page.fill("[name=password]", "a long enough secret")
    page.click("[type=submit]")
    page.click("text=Mappings")
    page.click("a.sl-link:text-is('customer')")
    return sync


def fax_of(sync: EntitySync) -> FieldMapping:
    return FieldMapping.objects.get(entity_sync=sync, left="Fax.FreeFormNumber")


def test_fields_that_do_not_fit_are_grey_with_the_reason(page, editor: EntitySync) -> None:  # type: ignore[no-untyped-def]
    row = page.locator(f"#mapping-{fax_of(editor).pk}")
    option = row.locator("select[name$='-right'] option[value='parentaccountid']")
    assert option.is_disabled() and "can't hold each other's values" in option.inner_text()
    assert row.locator("select[name$='-right'] option[value='telephone1']").is_enabled()


def test_a_mapping_is_tried_on_a_record_while_one_edits(page, editor: EntitySync, fresh: Hub) -> None:  # type: ignore[no-untyped-def]  # noqa: F811
    link = RecordLink.objects.filter(entity_sync=editor, right_id__isnull=False, pending=None).first()
    assert link is not None
    page.fill("[data-find]", str(link.left_id))
    page.wait_for_selector("text=Tested; nothing is saved.")
    name = page.locator(f"#mapping-{FieldMapping.objects.get(entity_sync=editor, left='CompanyName').pk}")
    company = str(fresh.left.store.table("Customer")[str(link.left_id)].body["CompanyName"])
    assert company in name.locator("[data-tried]").inner_text()
    name.locator("select[name$='-transform']").select_option("lower")
    page.wait_for_function(
        "([id, text]) => document.getElementById(id).querySelector('[data-tried]').innerText.includes(text)",
        arg=[name.get_attribute("id"), company.lower()],
    )
    assert not FieldMapping.objects.filter(entity_sync=editor, transform="lower").exists()


def test_a_change_is_saved_after_what_it_does_was_shown(page, editor: EntitySync) -> None:  # type: ignore[no-untyped-def]
    page.locator(f"#mapping-{fax_of(editor).pk} select[name$='-direction']").select_option("to_right")
    page.click("text=Save…")
    confirm = page.locator("#sl-confirm").inner_text()
    assert "Fax.FreeFormNumber ↔ fax: Direction: Both ways → Left to right" in confirm and "Applies to" in confirm
    assert fax_of(editor).direction == "both"
    page.click("text=Save these changes")
    page.wait_for_selector("text=Saved: Fax.FreeFormNumber")
    assert fax_of(editor).direction == "to_right"


def test_a_proposal_is_taken_by_a_tick_and_saved_only_then(page, editor: EntitySync) -> None:  # type: ignore[no-untyped-def]
    page.click(".sl-proposals summary")
    page.check("input[name=proposal][value='WebAddr.URI>websiteurl']")
    page.click("text=Add the ticked as rows")
    page.wait_for_selector("text=Not saved yet")
    assert not FieldMapping.objects.filter(entity_sync=editor, left="WebAddr.URI").exists()
    page.click("text=Save…")
    page.click("text=Save these changes")
    page.wait_for_selector("text=Saved: added WebAddr.URI")
    assert FieldMapping.objects.filter(entity_sync=editor, left="WebAddr.URI", right="websiteurl").exists()


def test_a_file_is_edited_previewed_and_taken(page, editor: EntitySync, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    page.click("text=Import and export")
    with page.expect_download() as download:
        page.click("text=Mappings as CSV")
    path = tmp_path / "mappings.csv"
    text = Path(download.value.path()).read_text(encoding="utf-8-sig")
    path.write_text(
        text.replace("Fax.FreeFormNumber,fax,Both ways", "Fax.FreeFormNumber,fax,Left to right"), encoding="utf-8"
    )
    page.set_input_files("[name=file]", str(path))
    page.click("text=Preview")
    said = page.locator("#sl-difference").inner_text()
    assert "Fax.FreeFormNumber → fax: Direction: Both ways → Left to right" in said
    assert fax_of(editor).direction == "both"
    page.click("text=Make it so")
    page.wait_for_selector("text=Imported: 1 change")
    assert fax_of(editor).direction == "to_right"


def test_a_column_that_went_away_is_said(live_server, page, editor: EntitySync, fresh: Hub) -> None:  # type: ignore[no-untyped-def]  # noqa: F811
    fresh.right.tables["account"].drop("syn_aging30")
    page.click("text=Read the schema")
    page.wait_for_selector("text=Sales no longer has the field syn_aging30")
    assert "Missing in schema" in page.locator(".sl-maps").inner_text()
    page.goto(live_server.url + reverse("admin:connectors_mapping_options", args=[editor.pk]))
    assert "without partner" in page.inner_text("#content").lower()
