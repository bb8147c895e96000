"""What do all API views share?  Tokens, default deny, model permissions, a record of every write, newest first by keyset."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ValidationError
from django.db import models
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.defaults import page_not_found
from rest_framework import serializers
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed, NotFound, ParseError, PermissionDenied, Throttled
from rest_framework.pagination import CursorPagination
from rest_framework.parsers import JSONParser
from rest_framework.permissions import SAFE_METHODS, DjangoModelPermissions
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import SimpleRateThrottle

from config import audit, queries
from config.access import READ, client_address
from config.bodies import refuse_unknown
from config.etags import Tagged
from config.models import ApiToken, TokenBearer, digest
from jobs import clock

if TYPE_CHECKING:
    from rest_framework.views import APIView as View
else:
    View = object


class WrongTokens(SimpleRateThrottle):
    """How many wrong tokens one address may send: nobody guesses 256 bits, but a stray client need not fill the log."""

    scope = "wrong tokens"
    rate = "60/min"

    def get_cache_key(self, request: Any, view: Any) -> str:
        return f"wrong-tokens:{client_address(request)}"


class TokenAuthentication(BaseAuthentication):
    """`Authorization: Bearer syn_...`"""

    def authenticate(self, request: Request) -> tuple[TokenBearer, ApiToken] | None:
        """Return the person as whom the token acts.  What the scope can't reach is refused here or by has_perm."""
        kind, _, text = get_authorization_header(request).decode("latin-1").partition(" ")
        if kind.lower() != "bearer":
            return None
        token = token_of(text.strip())
        if token is None:
            throttle = WrongTokens()
            if not throttle.allow_request(request, None):  # type: ignore[arg-type]  # it belongs to no view
                raise Throttled(throttle.wait(), "Too many wrong tokens from this address.")
            raise AuthenticationFailed("The token is unknown, expired or revoked. Make a new one in the admin.")
        if token.scope == READ and request.method not in SAFE_METHODS:
            raise PermissionDenied("This token may only read. Use one whose scope is operate or administer.")
        bearer = TokenBearer.objects.get(pk=token.user_id)
        bearer.token_scope = token.scope
        token.note_use()
        return bearer, token

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


def token_of(text: str) -> ApiToken | None:
    """Return the usable token with this text."""
    return ApiToken.objects.usable(clock.now()).filter(digest=digest(text)).first()


class ModelPermissions(DjangoModelPermissions):
    """Reading needs the view permission, too."""

    perms_map = {**DjangoModelPermissions.perms_map, "GET": ["%(app_label)s.view_%(model_name)s"]}


class Strict(View):
    """A body holds the keys that the operation is described with, a list's query its parameters, and no others."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Whoever may write is told what the operation does not take."""
        super().initial(request, *args, **kwargs)
        # An operation that there is not is answered as such, whatever was sent to it.
        if request.method not in SAFE_METHODS and getattr(self, "action", None):
            refuse_unknown(self, request)
        if request.method == "GET" and getattr(self, "action", None):
            queries.refuse_unknown(self, request)


class Recorded(Strict, Tagged):
    """A write stands in Django's log with before and after when it succeeded, whichever action it was."""

    unrecorded: frozenset[str] = frozenset()  # actions that answer a POST and change nothing
    _subject: tuple[models.Model, Any, audit.Values | None] | None = None

    def get_object(self) -> Any:
        """Remember how it was."""
        found = super().get_object()
        if self.request.method not in SAFE_METHODS:
            self.concerns(found)
        return found

    def perform_create(self, serializer: Any) -> None:
        """Remember what was made."""
        super().perform_create(serializer)  # type: ignore[misc]  # of rest_framework's CreateModelMixin
        self.made(serializer.instance)

    def concerns(self, obj: models.Model) -> None:
        """Say what is being changed, for actions that look it up themselves."""
        self._subject = (obj, obj.pk, audit.values_of(obj))

    def made(self, obj: models.Model) -> None:
        """Say what is new."""
        self._subject = (obj, obj.pk, None)

    def finalize_response(self, request: Any, response: Any, *args: Any, **kwargs: Any) -> Response:
        answer = super().finalize_response(request, response, *args, **kwargs)
        action = getattr(self, "action", None) or ""
        done = request.method not in SAFE_METHODS and 200 <= answer.status_code < 300
        if done and self._subject is not None and action not in self.unrecorded:
            obj, pk, before = self._subject
            obj.pk = pk  # a deleted one has lost it
            token = f" with the token {request.auth}" if isinstance(request.auth, ApiToken) else ""
            what = f"{action.replace('_', ' ').capitalize()} through the API{token}."
            audit.log_action(request.user, obj, what, before, audit.stored(obj))
        return answer


class StrictJson(JSONParser):
    """JSON whose texts every database can hold."""

    def parse(self, stream: Any, media_type: Any = None, parser_context: Any = None) -> Any:
        """Refuse what would fail further down: NUL, half of a surrogate pair, nesting beyond all reason."""
        try:
            parsed = super().parse(stream, media_type, parser_context)
            text = json.dumps(parsed, ensure_ascii=False)
            text.encode()
        except RecursionError as error:
            raise ParseError("The JSON is nested too deeply.") from error
        except UnicodeEncodeError as error:
            raise ParseError("The JSON holds half of a surrogate pair, which is no text.") from error
        if "\\u0000" in text:
            raise ParseError("The JSON holds the character NUL, which no database stores.")
        return parsed


class NewestFirst(CursorPagination):
    """Keyset paging: as fast on page 10,000 as on page 1."""

    ordering = "-id"
    page_size_query_param = "page_size"
    max_page_size = 500

    def get_page_size(self, request: Request) -> int | None:
        """Refuse what is no number of rows; more than there may be is as many as there may be."""
        told = request.query_params.get(self.page_size_query_param)
        if told is not None and not (told.isascii() and told.isdecimal() and told.strip("0")):
            raise serializers.ValidationError(
                {self.page_size_query_param: [f"This is a number from 1 to {self.max_page_size}."]}
            )
        return super().get_page_size(request)

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> Any:
        """A cursor that was tampered with is none."""
        try:
            return super().paginate_queryset(queryset, request, view)
        except (ValueError, ValidationError) as error:
            raise NotFound(self.invalid_cursor_message) from error


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """An address of the API that there is not is answered in JSON, too."""
    if request.path.startswith("/api/"):
        return JsonResponse({"detail": "There is no such address. See /api/v1/docs/."}, status=404)
    return page_not_found(request, exception)
