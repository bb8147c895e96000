"""What of a call is written down?"""

from __future__ import annotations

import json

import pytest

from connectors.transport import redaction

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://h/v3/company/9130/customer/7?minorversion=75", "/v3/company/9130/customer/7?minorversion=75"),
        (
            "https://h/q?query=select%20*%20from%20Customer%20where%20DisplayName%20%3D%20%27O%5C%27Hara%27%20maxresults%2010",
            "/q?query=select * from Customer where DisplayName = '…' maxresults 10",
        ),
        (
            "https://h/contacts?$select=fullname,emailaddress1&$filter=fullname%20eq%20%27O%27%27Hara%27%20and%20statecode%20eq%200",
            "/contacts?$select=fullname,emailaddress1&$filter=fullname eq '…' and statecode eq 0",
        ),
        ("https://h/contacts(emailaddress1='ada@example.com')", "/contacts(emailaddress1='…')"),
        (
            "https://h/accounts(6f1d2c3b-0000-4000-8000-000000000001)?$top=5",
            "/accounts(6f1d2c3b-0000-4000-8000-000000000001)?$top=5",
        ),
        ("https://h/x?access_token=abc&sig=xyz&id=5", "/x?access_token=…&sig=…&id=5"),
        ("https://h/x?email=ada%40example.com&who=ada%40example.com", "/x?email=…&who=…"),
        ("https://h/x?$skiptoken=%3Ccookie%20a%3D1%3E", "/x?$skiptoken=…"),
        ("https://h/x?query=select * where a = 'unterminated", "/x?query=select * where a = '…'"),
        ("https://h/cdc?entities=Customer,Invoice&changedSince=2026-01-01T00:00:00-08:00",
         "/cdc?entities=Customer,Invoice&changedSince=2026-01-01T00:00:00-08:00"),
        ("https://h/v3/company/4620816365002510650/companyinfo/4620816365002510650?minorversion=75",
         "/v3/company/4620816365002510650/companyinfo/4620816365002510650?minorversion=75"),
        ("https://h/x/A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8S9t0U1", "/x/…"),
        ("https://h", "/"),
    ],
)  # fmt: skip
def test_a_path_keeps_its_shape_and_loses_its_values(url, shown):
    assert redaction.path(url) == shown


def test_a_path_is_cut():
    assert len(redaction.path("https://h/" + "a/" * 600)) == 500


@pytest.mark.parametrize(
    "secret",
    [
        "Bearer abcdef1234567",
        "Basic Y2xpZW50OnNlY3JldA==",
        JWT,
        "ada.lovelace+x@mail.example.co.uk",
        "+49 170 1234567",
        "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8S9t0U1",
    ],
)
def test_a_message_loses_what_looks_secret(secret):
    shown = redaction.text(f"before {secret} after")
    assert secret.split()[-1] not in shown
    assert shown.startswith("before ") and shown.endswith(" after")


def test_a_signed_url_loses_its_query():
    assert redaction.text("see https://h/f.pdf?sig=abc%3D&se=2026 now") == "see https://h/f.pdf?… now"


def test_a_message_keeps_ids_and_words():
    kept = "6240: Duplicate Name Exists Error, Id=59, record 6f1d2c3b-0000-4000-8000-000000000001, 2026-03-01T12:00:00Z"
    assert redaction.text(kept) == kept


def test_a_body_keeps_ids_and_loses_people():
    sent = {
        "Id": "59",
        "SyncToken": "3",
        "DisplayName": "Ada",
        "Active": True,
        "Balance": 12.5,
        "PrimaryEmailAddr": {"Address": "ada@example.com"},
        "Line": [{"Id": "1", "Description": "secret plan", "Amount": 3}],
        "Other": "call +49 170 1234567",
    }
    shown = redaction.body(json.dumps(sent).encode())
    for value in ("Ada", "ada@", "plan", "170"):
        assert value not in shown
    assert '"Id": "59"' in shown and '"Balance": 12.5' in shown and '"Amount": 3' in shown


def test_a_body_that_is_not_json_is_only_counted():
    assert redaction.body(b"<Customer>Ada</Customer>") == "(24 bytes that are not JSON)"
