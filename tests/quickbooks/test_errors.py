"""Is every answer that the sheet's section 10 names turned into what the caller should do?"""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from connectors.contract import AuthError, ConnectorError, PermanentError, Result, RetryableError, Unanswered
from connectors.quickbooks.errors import Fault, error_for
from connectors.transport.types import Reply

NOW = datetime(2026, 3, 2, tzinfo=UTC)


def answer(status: int, code: str = "", body: bytes = b"", **headers: str) -> Reply:
    fault = {"Fault": {"Error": [{"Message": "M", "Detail": "D", "code": code}], "type": "ValidationFault"}}
    return Reply(status, headers, body if not code else json.dumps(fault).encode())


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (answer(401, "100"), AuthError),
        (answer(403, "120"), AuthError),
        (answer(403, "3100"), AuthError),
        (answer(401, "3200"), AuthError),
        (answer(400, "6190"), AuthError),
        (answer(401), AuthError),
        (answer(403, "3001"), RetryableError),
        (answer(429), RetryableError),
        (answer(403, "5020"), PermanentError),
        (answer(400, "4000"), PermanentError),
        (answer(404, body=b"no such page"), PermanentError),
        (answer(500, "10000"), Unanswered),
        (answer(503, body=b"<html>"), Unanswered),
        (answer(200, body=b"<html>"), Unanswered),
    ],
)
def test_a_call_raises_what_the_caller_should_do(reply: Reply, kind: type[ConnectorError]) -> None:
    assert type(error_for(reply, NOW)) is kind


@pytest.mark.parametrize(
    ("code", "result"),
    [
        ("5010", Result.CONFLICT),
        ("6240", Result.EXISTS),
        ("610", Result.GONE),
        ("3001", Result.LATER),
        ("10000", Result.LATER),
        ("6190", Result.LATER),
        ("6000", Result.REJECTED),
        ("2050", Result.REJECTED),
        ("", Result.REJECTED),
    ],
)
def test_an_item_has_the_result_of_its_code(code: str, result: Result) -> None:
    assert Fault(code, "words").result is result


def test_a_throttled_call_without_a_time_waits_a_minute() -> None:
    error = error_for(answer(429), NOW)
    assert isinstance(error, RetryableError)
    assert error.retry_after == 60


def test_xml_with_a_document_type_is_not_parsed() -> None:
    bomb = b'<!DOCTYPE x [<!ENTITY a "b">]><IntuitResponse><Fault><Error code="3001"/></Fault></IntuitResponse>'
    assert error_for(answer(400, body=bomb), NOW).code == ""
