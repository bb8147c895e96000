"""Can somebody who may only look change anything, by any form, button or operation that there is?  The groups' own test
asks the addresses; this one asks what the pages and the API's description offer."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from html import unescape

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from drf_spectacular.generators import SchemaGenerator
from rest_framework.test import APIClient

from config.rest import WrongTokens
from connectors.admin.base import Pressable
from connectors.models import RecordLink
from tests.admin.test_bad_forms import forms_of
from tests.config.addresses import UNSAFE, admin_addresses, newest, state
from tests.config.test_openapi import known_ids
from tests.sync.worlds import TwoSystems

pytestmark = pytest.mark.django_db(transaction=True)
OWN = re.compile(r"/(logout|password_change|time-zone|login)/")  # everybody's own session, password and clocks
# A POST that stores nothing, because what it asks about is too long for an address.
ASKS = re.compile(r"/preview/$|/try/$|/effect/$|/test/$")
BODY = {"name": "changed", "winner": "left", "reason": "because", "enabled": True, "mode": "delta"}


def kept() -> dict[str, list[dict[str, object]]]:
    """All rows but those that only remember what a system said when a page asked it."""
    return {name: rows for name, rows in state().items() if name != "connectors.SchemaSnapshot"}


def browser(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def pages(client: Client) -> Iterator[tuple[str, str]]:
    """Every page that somebody can open, as he sees it."""
    for address in admin_addresses():
        if OWN.search(address.url):
            continue
        answer = client.get(address.url)
        if answer.status_code == 200 and "text/html" in answer["Content-Type"]:
            yield address.url, answer.content.decode()


def test_a_viewer_opens_what_there_is_to_see_or_is_told_clearly_that_he_may_not(
    everything: TwoSystems, member: Callable[[str], User]
) -> None:
    client, opened = browser(member("Viewer")), 0
    for address in admin_addresses():
        if OWN.search(address.url):
            continue
        answer = client.get(address.url)
        assert answer.status_code in (200, 302, 403, 404, 405), (address, answer.status_code)
        opened += answer.status_code == 200
        if answer.status_code == 403:
            assert b"<h1" in answer.content or b"403" in answer.content, address
    assert opened > 55


def test_no_page_offers_a_viewer_anything_to_change(everything: TwoSystems, member: Callable[[str], User]) -> None:
    client, before, seen = browser(member("Viewer")), kept(), 0
    for url, body in pages(client):
        seen += 1
        posts = re.findall(r'<form\b[^>]*method="post"[^>]*?\baction="([^"]*)"[^>]*>(.*?)</form>', body, re.DOTALL)
        offered = [action for action, inner in posts if 'type="submit"' in inner]
        wrong = [a for a in map(unescape, offered) if a and not OWN.search(a) and not ASKS.search(a)]
        assert not wrong, (url, wrong)
        assert 'name="_save"' not in body, url
    assert seen > 55
    assert kept() == before


def test_what_a_superusers_pages_offer_is_refused_when_a_viewer_sends_it(
    everything: TwoSystems, member: Callable[[str], User]
) -> None:
    boss = browser(User.objects.create_superuser("root"))
    offered = [form for url, body in pages(boss) for form in forms_of(url, body)]
    assert len({form.action for form in offered}) > 14
    client, before = browser(member("Viewer")), kept()
    for form in {(one.action, one.fields): one for one in offered}.values():
        if OWN.search(form.action):
            continue
        answer = client.post(form.action, form.given)
        if not ASKS.search(form.action):
            assert answer.status_code in (302, 403, 404, 405), (form.action, answer.status_code)
            if answer.status_code == 302:
                assert not form.action.endswith(("/change/", "/add/")), form.action
        assert kept() == before, form.action


def test_every_button_of_every_object_is_refused_to_a_viewer(
    everything: TwoSystems, member: Callable[[str], User]
) -> None:
    client, before, pressed = browser(member("Viewer")), state(), 0
    for model, page in admin.site._registry.items():
        if not isinstance(page, Pressable):
            continue
        rows = list(model._default_manager.order_by("-pk").values_list("pk", flat=True)[:2])
        for row in rows:
            for button in page.buttons:
                url = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_do", args=[row, button.name])
                assert client.post(url).status_code == 403, url
                assert client.get(url).status_code == 405, url
                pressed += 1
    assert pressed > 30
    assert state() == before


def operations(ids: dict[str, object]) -> Iterator[tuple[str, str]]:
    """(method, address) of every operation of the API's description."""
    description = SchemaGenerator().get_schema(request=None, public=True)
    numbers = {"integration_id": newest(everything_model("integration"))}
    for path, methods in description["paths"].items():
        known = {"id": ids.get(path.split("/")[3], 1), **numbers}
        url = re.sub(r"\{(\w+)\}", "{}", path).format(*(known.get(name, 1) for name in re.findall(r"\{(\w+)\}", path)))
        for method in methods:
            yield method, url


def everything_model(name: str) -> type:
    return next(model for model in admin.site._registry if model._meta.model_name == name)


def refuses(client: APIClient, ids: dict[str, object], wanted: tuple[int, ...]) -> int:
    before, count = state(), 0
    for method, url in operations(ids):
        if method not in UNSAFE or ASKS.search(url):
            continue
        for body in ({}, BODY):
            answer = getattr(client, method)(url, body)
            assert answer.status_code in wanted, (method, url, answer.status_code)
            count += 1
    assert state() == before
    return count


def test_every_write_of_the_description_is_refused_to_a_viewer_and_to_a_token_that_reads(
    everything: TwoSystems, member: Callable[[str], User], bearer: Callable[..., APIClient]
) -> None:
    ids = known_ids(everything)
    session = APIClient()
    session.force_login(member("Viewer"))
    assert refuses(session, ids, (403, 405)) > 80
    root = User.objects.create_superuser("root")
    token = bearer(root, "read")
    assert token.get("/api/v1/links/").status_code == 200
    assert refuses(token, ids, (403, 405)) > 80
    viewers = bearer(User.objects.get(username="viewer"), "administer")
    assert refuses(viewers, ids, (403, 405)) > 80
    assert RecordLink.objects.filter(reason="conflict").exists()


def test_nothing_of_the_description_answers_without_a_login(
    everything: TwoSystems, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WrongTokens, "rate", "100000/min")
    wrong = APIClient()
    wrong.credentials(HTTP_AUTHORIZATION="Bearer syn_wrong")
    ids, before, count = known_ids(everything), state(), 0
    for method, url in operations(ids):
        for client in (APIClient(), wrong):
            assert getattr(client, method)(url).status_code == 401, (method, url)
            count += 1
    assert count > 250
    assert state() == before
