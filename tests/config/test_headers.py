"""What do our answers forbid the browser?"""

from __future__ import annotations

import re

import pytest
from django.contrib.auth.models import User
from django.test import Client

from config.headers import theme_styles
from tests.config.addresses import admin_addresses
from tests.config.conftest import PASSWORD
from tests.sync.worlds import TwoSystems


@pytest.mark.django_db
def test_pages_allow_no_inline_script_and_only_the_themes_own_styles(client: Client) -> None:
    policy = dict(part.split(" ", 1) for part in client.get("/admin/login/")["Content-Security-Policy"].split("; "))
    assert policy["script-src"] == "'self' 'unsafe-eval'"
    assert re.fullmatch(r"'self'( 'sha256-[\w+/=]{44}'){3}", policy["style-src-elem"])
    assert (policy["default-src"], policy["frame-ancestors"], policy["base-uri"]) == ("'none'",) * 3
    assert theme_styles().count("sha256") == 3


@pytest.mark.django_db
def test_every_answer_carries_the_headers(client: Client) -> None:
    for url in ("/admin/login/", "/healthz", "/api/v1/jobs/", "/static/syncline/admin.js", "/nothing"):
        answer = client.get(url)
        assert answer["X-Content-Type-Options"] == "nosniff", url
        assert answer["Referrer-Policy"] == "same-origin", url
        assert answer["Cross-Origin-Opener-Policy"] == answer["Cross-Origin-Resource-Policy"] == "same-origin", url
        assert "camera=()" in answer["Permissions-Policy"], url
        assert "frame-ancestors 'none'" in answer["Content-Security-Policy"], url
    assert client.get("/api/v1/jobs/")["Content-Security-Policy"].startswith("default-src 'none'; frame-ancestors")
    assert client.get("/api/v1/jobs/")["Cache-Control"] == "private, no-store"


@pytest.mark.django_db(transaction=True)
def test_no_page_of_the_admin_has_a_script_or_a_handler_inside(everything: TwoSystems, client: Client) -> None:
    client.force_login(User.objects.create_superuser("boss", password=PASSWORD))
    looked = 0
    for address in admin_addresses():
        answer = client.get(address.url)
        if answer.status_code != 200 or not answer["Content-Type"].startswith("text/html"):
            continue
        text, looked = answer.content.decode(), looked + 1
        inside = [body for _, body in re.findall(r"<script(?![^>]*\bsrc=)([^>]*)>(.*?)</script>", text, re.DOTALL)
                  if "application/json" not in _ and body.strip()]  # fmt: skip
        assert not inside, (address, inside)
        assert not re.findall(r"<[^>]*\son(?:click|submit|change|load|input|error)=", text), address
        assert "javascript:" not in text, address
    assert looked > 60
