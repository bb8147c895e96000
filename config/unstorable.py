"""What is answered where somebody asks for a value that no column can hold?  The fault is theirs: 400, and no alarm."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from django.db import DataError
from django.http import Http404, HttpRequest, HttpResponse
from django.views.defaults import bad_request
from rest_framework.exceptions import NotFound, ParseError
from rest_framework.response import Response
from rest_framework.views import exception_handler

TOO_LARGE = "A value is too large to be stored, or no date. Nothing was done."

_NO_SUCH = re.compile(r"No (\w+) matches the given query\.")  # Django's words name the class
_CAPITAL = re.compile(r"(?<!^)(?=[A-Z])")


class Unstorable:
    """Answers for the pages: SQLite raises OverflowError, PostgreSQL DataError."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """Nothing of the request was stored: its transaction ended with the exception."""
        return bad_request(request, exception) if isinstance(exception, OverflowError | DataError) else None


def answer(exception: Exception, context: dict[str, Any]) -> Response | None:
    """The same for the API, in JSON (REST_FRAMEWORK's EXCEPTION_HANDLER)."""
    if isinstance(exception, OverflowError | DataError):
        exception = ParseError(TOO_LARGE)
    if isinstance(exception, Http404) and (found := _NO_SUCH.fullmatch(str(exception))):
        exception = NotFound(f"There is no such {_CAPITAL.sub(' ', found[1]).lower()}.")
    return exception_handler(exception, context)
