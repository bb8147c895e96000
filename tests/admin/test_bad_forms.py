"""What does a form say to what it can't take?  Every form on every page of the admin, with garbage in every field."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from html import unescape
from typing import Any

import pytest
from django import forms as forms_of_django
from django.apps import apps
from django.contrib.auth.models import User
from django.db import models, transaction
from django.test import Client

from config.models import ApiToken
from jobs.models import AlertRule
from tests.config.addresses import OURS, admin_addresses, state
from tests.config.conftest import everything
from tests.sync.worlds import TwoSystems

__all__ = ["everything"]  # a fixture
LONG = "x" * 5000
# Whatever is typed, pasted or sent by a broken program.
GARBAGE = {
    "too long": LONG,
    "NUL": "a\x00b",
    "another type": "no such thing",
    "emoji": "💥" * 120,
    "negative": "-1",
    "huge": "9" * 400,
    "not a number": "NaN",
    "markup": "<script>alert(1)</script>",
    "JSON": '{"a": [1, {"b": null}]}',
    "empty": "",
    "blank": "   ",
}
WORST = ("9" * 4000, "\x00")  # each by itself: the first that is refused hides the other
ADDRESSES = ("9" * 25, "9" * 5000, "\x00", "²", "x" * 300)
FIXED = ("csrfmiddlewaretoken", "sl_seen", "_save", "_continue", "_addanother", "next")
OWN = re.compile(r"password_change|login|logout|jsi18n|time_zone")
NO_PAGE = re.compile(r"_(do|call|history|delete)$")


@dataclass(frozen=True)
class Form:
    """One form of a page, as a browser would send it."""

    page: str
    action: str
    given: dict[str, Any]
    fields: tuple[str, ...]  # that a person fills in
    hidden: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page} → {self.action}"


def forms_of(page: str, body: str) -> Iterator[Form]:
    """Every form of a page that is sent by POST and has something to fill in."""
    for attributes, inner in re.findall(r"<form\b([^>]*)>(.*?)</form>", body, re.DOTALL):
        if 'method="post"' not in attributes.lower() or 'name="action"' in inner:
            continue
        action = re.search(r'(?<![-:])\baction="([^"]*)"', attributes)
        given, fields, hidden = _fields(inner)
        if fields:
            yield Form(page, unescape(action[1]) if action and action[1] else page, given, tuple(fields), tuple(hidden))


def _fields(inner: str) -> tuple[dict[str, Any], list[str], list[str]]:
    given: dict[str, Any] = {}
    fields: list[str] = []
    hidden: list[str] = []
    for tag in re.findall(r"<input\b[^>]*>", inner):
        told = {name: unescape(value) for name, value in re.findall(r'([\w-]+)="([^"]*)"', tag)}
        name, kind = told.get("name", ""), told.get("type", "text")
        if not name or kind in ("submit", "button"):
            continue
        if kind in ("checkbox", "radio") and not re.search(r"\schecked", tag):
            given.setdefault(name, "")
        else:
            given[name] = told.get("value", "on" if kind == "checkbox" else "")
        (hidden if kind == "hidden" else fields).append(name)
    for name, text in re.findall(r'<textarea\b[^>]*?\bname="([^"]+)"[^>]*>(.*?)</textarea>', inner, re.DOTALL):
        given[name] = unescape(text).strip()
        fields.append(name)
    for attributes, options in re.findall(r"<select\b([^>]*)>(.*?)</select>", inner, re.DOTALL):
        named = re.search(r'\bname="([^"]+)"', attributes)
        if named:
            chosen = [unescape(v) for v in re.findall(r'<option value="([^"]*)"[^>]*\sselected', options)]
            given[named[1]] = chosen if " multiple" in attributes else (chosen[0] if chosen else "")
            fields.append(named[1])
    kept = {name: value for name, value in given.items() if "__prefix__" not in name}
    kept.pop("csrfmiddlewaretoken", None)
    usable = [n for n in dict.fromkeys([*fields, *hidden]) if n in kept and n not in FIXED]
    return kept, [n for n in usable if n in fields], [n for n in usable if n not in fields]


def every_form(client: Client) -> list[Form]:
    found: dict[tuple[str, tuple[str, ...]], Form] = {}
    for address in admin_addresses():
        if OWN.search(address.name) or NO_PAGE.search(address.name):
            continue
        answer = client.get(address.url, follow=True)
        if answer.status_code != 200 or "text/html" not in answer["Content-Type"]:
            continue
        page = answer.redirect_chain[-1][0] if answer.redirect_chain else address.url
        for form in forms_of(page, answer.content.decode()):
            found[form.action, form.fields] = form
    return list(found.values())


@pytest.fixture
def forms(boss: Client, everything: TwoSystems) -> list[Form]:
    AlertRule.objects.create(name="Rule", what="failed", to="email", addresses=["a@example.com"])
    ApiToken.objects.issue(User.objects.earliest("id"), "A token")
    return every_form(boss)


def unfit() -> list[str]:
    """What no database with real limits would have stored: texts that are too long, NUL, choices that there are not."""
    found = []
    for model in apps.get_models():
        if model._meta.app_label not in OURS:
            continue
        texts = [c for c in model._meta.concrete_fields if isinstance(c, models.CharField | models.TextField)]
        for row in model._base_manager.order_by("-pk")[:30]:
            for column in texts:
                value = getattr(row, column.attname) or ""
                if "\x00" in value or (column.max_length and len(value) > column.max_length):
                    found.append(f"{model._meta.label}.{column.name}: {value[:20]!r}")
                if column.choices and value and value not in dict(column.flatchoices):
                    found.append(f"{model._meta.label}.{column.name}: no choice: {value[:20]!r}")
    return found


def send(client: Client, form: Form, given: dict[str, Any]) -> list[str]:
    """Send it, and take back whatever it did; return what was wrong with the answer."""
    faults: list[str] = []
    with transaction.atomic():
        try:
            answer = client.post(form.action, given)
            if answer.status_code >= 500:
                faults.append(f"answered {answer.status_code}")
            elif answer.status_code == 200:
                faults += [] if said(answer) else ["neither saved it nor said why"]
            if not faults:
                faults += unfit()
        except Exception as error:
            faults.append(f"{type(error).__name__}: {str(error)[:150]}")
        transaction.set_rollback(True)
    return faults


def said(answer: Any) -> bool:
    """Does the page name what is wrong?"""
    body = answer.content.decode()
    return bool(
        re.search(r'errorlist|errornote|class="[^"]*\b(sl-error|error)\b|"errors": \[|bg-red|text-red|sl-refused', body)
    )


@pytest.mark.slow
def test_no_form_fails_or_stores_what_is_unfit_whatever_is_in_all_of_its_fields(
    boss: Client, forms: list[Form]
) -> None:
    assert len(forms) > 14, [str(form) for form in forms]
    before, faults = state(), []
    for form in forms:
        for kind, text in GARBAGE.items():
            for fault in send(boss, form, {**form.given, **dict.fromkeys(form.fields, text)}):
                faults.append(f"{form}: {kind} everywhere: {fault}")
    assert not faults, "\n".join(faults)
    assert state() == before


@pytest.mark.slow
def test_each_field_by_itself_is_judged(boss: Client, forms: list[Form]) -> None:
    faults = []
    for form in forms:
        for name in (*form.fields[:25], *form.hidden[:8]):
            for text in WORST:
                for fault in send(boss, form, {**form.given, name: text}):
                    faults.append(f"{form}: {text[:9]!r} in {name}: {fault}")
            without = {key: value for key, value in form.given.items() if key != name}
            for fault in send(boss, form, without):
                faults.append(f"{form}: without {name}: {fault}")
    assert not faults, "\n".join(faults)


@pytest.mark.slow
def test_no_page_fails_whatever_stands_in_its_address(boss: Client, everything: TwoSystems) -> None:
    faults, asked = [], 0
    for address in admin_addresses():
        if OWN.search(address.name):
            continue
        answer = boss.get(address.url)
        if answer.status_code != 200 or "text/html" not in answer["Content-Type"]:
            continue
        links = re.findall(r'href="\?([^"]+)"', answer.content.decode())
        keys = {"q", "p", "o", "_changelist_filters"}
        keys |= {part.partition("=")[0] for link in links for part in unescape(link).split("&") if part}
        for key in sorted(keys):
            for text in ADDRESSES:
                asked += 1
                try:
                    status = boss.get(address.url, {key: text}).status_code
                except Exception as error:
                    status = f"{type(error).__name__}: {str(error)[:150]}"
                if not isinstance(status, int) or status >= 500:
                    faults.append(f"{address.url}?{key}={text[:9]!r}: {status}")
    assert asked > 500
    assert not faults, "\n".join(faults)


def test_an_error_stands_at_its_field_and_what_was_typed_is_still_there(boss: Client, forms: list[Form]) -> None:
    seen = 0
    for form in forms:
        if not form.action.endswith(("/change/", "/add/")):
            continue
        for name in form.fields:
            given = {**form.given, name: "a\x00b"}
            with transaction.atomic():
                answer = boss.post(form.action, given)
                transaction.set_rollback(True)
            told = getattr(answer, "context", None) and answer.context.get("adminform")
            if answer.status_code != 200 or not told or name not in told.form.fields:
                continue
            if isinstance(told.form.fields[name], forms_of_django.BooleanField):
                continue  # ticked or not: nothing else can be said
            seen += 1
            assert name in told.form.errors, (form.action, name, told.form.errors)
            for other in form.fields:
                if other in told.form.fields and other != name and form.given[other]:
                    assert told.form[other].value() not in (None, "", []), (form.action, other)
    assert seen > 15


def test_every_number_of_rows_below_a_form_is_looked_at(boss: Client, forms: list[Form]) -> None:
    for form in forms:
        for name in (one for one in form.hidden if one.endswith("_FORMS")):
            for text in ("x", "-5", "99999999", ""):
                assert not send(boss, form, {**form.given, name: text}), (form, name, text)
