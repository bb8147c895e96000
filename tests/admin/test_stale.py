"""Is what somebody saw still so when he acts?  Forms, buttons and the API's If-Match refuse otherwise, and say what changed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from html import unescape
from typing import Any

from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, User
from django.core import signing
from django.db import models
from django.test import Client
from django.urls import reverse
from rest_framework.test import APIClient

from config import audit, stale
from connectors.admin.base import Pressable
from connectors.admin.fresh import Fresh
from connectors.models import Connection, Integration, RecordLink
from jobs.models import AlertRule, Job, Pause
from scheduling.models import Blackout
from tests.config.addresses import api_addresses, newest, state
from tests.config.conftest import bearer, everything, member
from tests.sync.worlds import TwoSystems

__all__ = ["bearer", "everything", "member"]  # fixtures
OURS = ("auth", "config", "connectors", "jobs", "scheduling")


def url_of(row: models.Model, what: str = "change", *more: object) -> str:
    return reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_{what}", args=[row.pk, *more])


def form_of(page: str) -> dict[str, Any]:
    """What a browser would send of the admin's form: every field as it stands in the page."""
    body = re.search(r'<form[^>]*id="\w+_form".*?</form>', page, re.DOTALL)
    assert body, "the page has no form"
    given: dict[str, Any] = {}
    for tag in re.findall(r"<input[^>]*>", body[0]):
        told = {name: unescape(value) for name, value in re.findall(r'([\w-]+)="([^"]*)"', tag)}
        checked = bool(re.search(r"\schecked", tag))
        if "name" in told and (told.get("type") not in ("checkbox", "radio", "submit", "file") or checked):
            given[told["name"]] = told.get("value", "on" if checked else "")
    for name, text in re.findall(r'<textarea[^>]*name="([^"]+)"[^>]*>(.*?)</textarea>', body[0], re.DOTALL):
        given[name] = unescape(text).strip()
    for attributes, options in re.findall(r"<select([^>]*)>(.*?)</select>", body[0], re.DOTALL):
        named = re.search(r'name="([^"]+)"', attributes)
        chosen = [unescape(v) for v in re.findall(r'<option value="([^"]*)"[^>]*\sselected', options)]
        if named:
            given[named[1]] = chosen if " multiple" in attributes else (chosen[0] if chosen else "")
    return {name: value for name, value in given.items() if name != "csrfmiddlewaretoken"}


def text_of(page: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", page)).split())


def editable(everything: TwoSystems) -> Iterator[tuple[models.Model, str, object]]:
    """A row of each kind that has Django's form, a column of it, and what somebody else makes of it."""
    rule = AlertRule.objects.create(name="Rule", what="failed", to="email", addresses=["a@example.com"])
    yield everything.integration, "name", "Renamed"
    yield everything.integration.left, "name", "Renamed"
    yield Blackout.objects.get(), "name", "Renamed"
    yield rule, "more_than", 7
    yield Pause.objects.get(), "reason", "Renamed"
    yield User.objects.get(username="somebody"), "first_name", "Renamed"
    yield Group.objects.get(name="Viewer"), "name", "Renamed"


def test_every_form_of_ours_looks_at_the_row_again() -> None:
    django = admin.ModelAdmin
    plain = [
        model._meta.label
        for model, page in admin.site._registry.items()
        if model._meta.app_label in OURS
        and not isinstance(page, Fresh)
        and type(page).has_change_permission is django.has_change_permission
        and type(page).change_view is django.change_view  # else it has a page of its own
    ]
    assert not plain, "these forms save over what somebody else has saved"


def test_a_form_is_refused_where_the_row_changed_and_saved_when_it_is_sent_again(
    boss: Client, everything: TwoSystems
) -> None:
    for row, column, value in editable(everything):
        page = boss.get(url_of(row)).content.decode()
        given = form_of(page)
        assert stale.FIELD in given, row
        type(row)._base_manager.filter(pk=row.pk).update(**{column: value})
        before = state()
        answer = boss.post(url_of(row), given)
        assert answer.status_code == 200, row._meta.label
        text = text_of(answer.content.decode())
        assert "This was changed since you opened the page" in text, row._meta.label
        assert "→" in text.partition("opened the page")[2][:200], row._meta.label
        assert state() == before, row._meta.label
        again = form_of(answer.content.decode())
        assert again.pop(stale.FIELD) != given.pop(stale.FIELD)
        assert again == given, "what was typed is still there"
        again = form_of(answer.content.decode())
        assert boss.post(url_of(row), again).status_code == 302, row._meta.label


def test_the_refusal_names_who_changed_it_and_what_it_was(boss: Client, everything: TwoSystems) -> None:
    blackout = Blackout.objects.get()
    given = form_of(boss.get(url_of(blackout)).content.decode())
    grace = User.objects.create_user("grace")
    with audit.acting(grace, blackout, "Changed."):
        Blackout.objects.update(name="Christmas")
    text = text_of(boss.post(url_of(blackout), {**given, "name": "Easter"}).content.decode())
    assert "by grace. Name: Holiday → Christmas. Nothing was saved." in text


def test_a_form_whose_row_is_as_it_was_shown_is_saved(boss: Client, everything: TwoSystems) -> None:
    blackout = Blackout.objects.get()
    given = form_of(boss.get(url_of(blackout)).content.decode())
    assert boss.post(url_of(blackout), {**given, "name": "Easter"}).status_code == 302
    assert Blackout.objects.get().name == "Easter"


def test_changed_rights_of_a_person_make_the_form_stale(boss: Client, everything: TwoSystems) -> None:
    person = User.objects.get(username="somebody")
    given = form_of(boss.get(url_of(person)).content.decode())
    person.groups.add(Group.objects.get(name="Operator"))
    answer = boss.post(url_of(person), given)
    assert answer.status_code == 200
    assert "Groups: – → Operator" in text_of(answer.content.decode())
    assert person.groups.exists()


def test_what_moves_by_itself_makes_no_form_stale(boss: Client, everything: TwoSystems) -> None:
    connection = everything.integration.left
    Connection.objects.filter(pk=connection.pk).update(system="quickbooks")
    given = form_of(boss.get(url_of(connection)).content.decode())
    Connection.objects.filter(pk=connection.pk).update(state="connected", refresh_failures=3, schema="x")
    text = text_of(boss.post(url_of(connection), {**given, "name": "Books"}).content.decode())
    assert "This was changed" not in text


def test_a_page_of_another_row_or_a_forged_one_is_refused(boss: Client, everything: TwoSystems) -> None:
    blackout = Blackout.objects.get()
    other = Blackout.objects.create(name="Other", first="2026-05-01", last="2026-05-01")
    given = form_of(boss.get(url_of(other)).content.decode())
    forged = signing.dumps({"of": "scheduling.Blackout:1", "at": 0, "told": {}}, salt="another")
    for seen in (given[stale.FIELD], "nothing", forged, given[stale.FIELD][:-2] + "xx"):
        answer = boss.post(url_of(blackout), {**given, "name": "Changed", stale.FIELD: seen})
        assert answer.status_code == 200
        assert "Load it again" in text_of(answer.content.decode())
    assert Blackout.objects.get(pk=blackout.pk).name == "Holiday"


# Buttons


def seen_by_buttons(page: str) -> str:
    found = re.search(r'<div class="sl-bar">.*?name="sl_seen" value="([^"]+)"', page, re.DOTALL)
    assert found, "the buttons carry nothing along"
    return unescape(found[1])


def test_a_button_is_refused_where_what_decides_changed(boss: Client, everything: TwoSystems) -> None:
    integration = everything.integration
    seen = seen_by_buttons(boss.get(url_of(integration)).content.decode())
    Integration.objects.filter(pk=integration.pk).update(revision=integration.revision + 1)
    jobs = Job.objects.count()
    before = state()
    answer = boss.post(url_of(integration, "do", "comprehensive"), {stale.FIELD: seen}, follow=True)
    text = text_of(answer.content.decode())
    assert f"Revision: {integration.revision} → {integration.revision + 1}" in text
    assert "Comprehensive sync was not carried out" in text
    assert (Job.objects.count(), state()) == (jobs, before)
    seen = seen_by_buttons(answer.content.decode())
    boss.post(url_of(integration, "do", "comprehensive"), {stale.FIELD: seen})
    assert Job.objects.count() == jobs + 1


def test_a_conflict_that_is_another_one_by_now_is_not_resolved(boss: Client, everything: TwoSystems) -> None:
    link = RecordLink.objects.get(reason="conflict")
    seen = seen_by_buttons(boss.get(url_of(link)).content.decode())
    RecordLink.objects.filter(pk=link.pk).update(revision=link.revision + 1)
    for name in ("resolve_left", "hold", "unlink"):
        answer = boss.post(url_of(link, "do", name), {stale.FIELD: seen}, follow=True)
        assert "was not carried out" in text_of(answer.content.decode()), name
    link.refresh_from_db()
    assert link.reason == "conflict"


def test_every_page_with_buttons_seals_them(boss: Client, everything: TwoSystems) -> None:
    missing, seen = [], 0
    for model, page in admin.site._registry.items():
        row = model._default_manager.order_by("-pk").first()
        if row is None or not isinstance(page, Pressable) or not page.buttons:
            continue
        answer = boss.get(url_of(row), follow=True)
        body = answer.content.decode()
        for url in re.findall(rf'action="({re.escape(url_of(row, "do", "x").rpartition("x/")[0])}[\w-]+/)"', body):
            form = body[body.index(f'action="{url}"') :].partition("</form>")[0]
            seen += 1
            if stale.FIELD not in form:
                missing.append(url)
    assert not missing
    assert seen > 8


# The API


def test_what_is_read_has_an_etag_and_a_write_with_it_is_carried_out(
    everything: TwoSystems, bearer: Callable[..., APIClient]
) -> None:
    client = bearer(User.objects.create_superuser("root"))
    url = f"/api/v1/connections/{everything.integration.left_id}/"
    tag = client.get(url)["ETag"]
    assert tag == client.get(url)["ETag"]
    assert client.patch(url, {"name": "Books"}, headers={"If-Match": tag}).status_code == 200
    assert client.get(url)["ETag"] != tag
    answer = client.patch(url, {"name": "Ledger"}, headers={"If-Match": tag})
    assert answer.status_code == 412
    assert answer.json() == {
        "detail": "This was changed since you read it. Name is now Books.", "changed": ["Name"],
    }  # fmt: skip
    assert (
        client.patch(url, {"name": "Ledger"}, headers={"If-Match": f'"x", {client.get(url)["ETag"]}'}).status_code
        == 200
    )
    assert client.patch(url, {"name": "Again"}, headers={"If-Match": "*"}).status_code == 200
    assert Connection.objects.get(pk=everything.integration.left_id).name == "Again"


def test_a_write_that_fails_after_if_match_leaves_nothing_behind(
    everything: TwoSystems, bearer: Callable[..., APIClient]
) -> None:
    client = bearer(User.objects.create_superuser("root"))
    url = f"/api/v1/blackouts/{newest(Blackout)}/"
    tag = client.get(url)["ETag"]
    before = state()
    assert (
        client.patch(url, {"first": "2026-09-09", "last": "2026-01-01"}, headers={"If-Match": tag}).status_code == 400
    )
    assert state() == before
    assert client.delete(url, headers={"If-Match": '"other"'}).status_code == 412
    assert client.delete(url, headers={"If-Match": tag}).status_code == 204


def test_no_write_to_an_object_is_carried_out_with_a_wrong_if_match(
    everything: TwoSystems, bearer: Callable[..., APIClient]
) -> None:
    client = bearer(User.objects.create_superuser("root"))
    before, refused = state(), 0
    logged = LogEntry.objects.count()
    for address in api_addresses():
        if "/presets/" in address.url or not re.search(r"/\d+/", address.url):
            continue
        for method in set(address.methods) & {"post", "put", "patch", "delete"}:
            answer = getattr(client, method)(address.url, headers={"If-Match": '"00000000"'})
            assert answer.status_code in (400, 404, 409, 412), (method, address, answer.status_code)
            refused += answer.status_code == 412
            assert state() == before, (method, address)
    assert refused > 20
    assert LogEntry.objects.count() == logged
