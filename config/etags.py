"""How does a program say what it has seen?  ETag on what it reads, If-Match on what it writes: 412 with what changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import models, transaction
from rest_framework import status
from rest_framework.exceptions import APIException, ValidationError
from rest_framework.permissions import SAFE_METHODS
from rest_framework.response import Response

from config import stale

if TYPE_CHECKING:
    from rest_framework.generics import GenericAPIView as View
else:
    View = object

HEADER = "If-Match"
CHANGES = ("PUT", "PATCH", "DELETE")


class Meanwhile(APIException):
    """The object is not as the client saw it."""

    status_code = status.HTTP_412_PRECONDITION_FAILED

    def __init__(self, refusal: stale.Stale) -> None:
        super().__init__({"detail": str(refusal), "changed": [one.what for one in refusal.changed]})


class Tagged(View):
    """Detail answers carry an ETag of the columns that decide; a write with If-Match is refused where they changed."""

    tagged = True  # its detail addresses are of stored objects
    _found: models.Model | None = None

    def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        """Look and change in one transaction: of two clients that saw the same, one is refused."""
        if request.method not in CHANGES or HEADER not in request.headers:
            return super().dispatch(request, *args, **kwargs)
        with transaction.atomic():
            answer = super().dispatch(request, *args, **kwargs)
            if answer.status_code >= 400:
                transaction.set_rollback(True)
            return answer

    def initial(self, request: Any, *args: Any, **kwargs: Any) -> None:
        """Where nothing can be compared, If-Match is refused: who sends it counts on it."""
        super().initial(request, *args, **kwargs)
        compares = self.tagged and bool(getattr(self, "detail", False))
        if HEADER in request.headers and request.method not in SAFE_METHODS and not compares:
            raise ValidationError(
                {
                    "detail": "If-Match means nothing at this address. Leave it out; where the answer has a `revision`, send that."
                }
            )

    def get_object(self) -> Any:
        """Compare, before anything is done."""
        found = super().get_object()
        if not isinstance(found, models.Model):
            return found
        self._found = found
        wanted = self.request.headers.get(HEADER, "")
        if wanted and self.request.method not in SAFE_METHODS:
            rows = type(found)._base_manager.filter(pk=found.pk)
            row = rows.select_for_update().first() if self.request.method in CHANGES else found
            try:
                stale.check_etag(row or found, wanted)
            except stale.Stale as refusal:
                raise Meanwhile(refusal) from refusal
        return found

    def finalize_response(self, request: Any, response: Any, *args: Any, **kwargs: Any) -> Response:
        answer = super().finalize_response(request, response, *args, **kwargs)
        if self._found is not None and request.method in SAFE_METHODS and answer.status_code == status.HTTP_200_OK:
            answer.headers["ETag"] = stale.etag(self._found)
        return answer
