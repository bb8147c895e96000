"""How is the API described?  What every view may answer besides its own, so that no answer is undocumented."""

from __future__ import annotations

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse
from rest_framework import serializers
from rest_framework.permissions import SAFE_METHODS

from config.etags import HEADER, Tagged


class MeanwhileSerializer(serializers.Serializer[Any]):
    """What is not as the client saw it."""

    detail = serializers.CharField()
    changed = serializers.ListField(child=serializers.CharField())


class RefusalSerializer(serializers.Serializer[Any]):
    """Why it was not done, in a sentence; where there are several reasons, each for itself, too."""

    detail = serializers.CharField()
    problems = serializers.ListField(child=serializers.CharField(), required=False)


INTEGRATION = OpenApiParameter(
    "integration_id", int, OpenApiParameter.PATH
)  # where it stands in the middle of an address
SEEN = OpenApiParameter(
    HEADER,
    str,
    OpenApiParameter.HEADER,
    description="The ETag that was read with the object: if it has changed since, 412.",
)
ETAG = OpenApiParameter(
    "ETag",
    str,
    OpenApiParameter.HEADER,
    response=[200],
    description="For If-Match: what decides about the object, as it is now.",
)
REFUSALS = {
    "401": "Nobody is logged in, or the token is unknown, expired or revoked.",
    "403": "The person, or the token's scope, may not do this.",
    "404": "There is no such object, or the cursor is none.",
    "409": "Not now: the sentence says why.",
    "415": "The body is not JSON.",
    "429": "Too many wrong tokens from this address.",
    "502": "The other system refused, or did not answer.",
}
WRONG = "The input is wrong: a sentence for each field, or one in `detail`."


class Described(AutoSchema):
    """Adds the answers that all views share."""

    def _get_response_bodies(self, direction: Any = "response") -> Any:
        bodies = super()._get_response_bodies(direction)
        if direction != "response":
            return bodies
        codes = ["401", "403", "429"]
        reads = self.method in SAFE_METHODS
        if "{" in self.path or self._is_list_view():
            codes.append("404")
        if not reads:
            codes.append("415")
        if getattr(self.view, "action", "") not in ("list", "retrieve"):
            codes += ["409", "502"]
        if not reads and self._of_one_row():
            told = "It was changed since it was read: `changed` names what."
            bodies.setdefault("412", self._answer("412", MeanwhileSerializer, told))
        if not reads or self._is_list_view():
            bodies.setdefault("400", self._answer("400", OpenApiTypes.OBJECT, WRONG))
        for code in codes:
            bodies.setdefault(code, self._answer(code, RefusalSerializer, REFUSALS[code]))
        return dict(sorted(bodies.items()))

    def get_override_parameters(self) -> Any:
        """Views of one stored object say and hear what was seen of it."""
        given = super().get_override_parameters()
        if not self._of_one_row():
            return given
        return [*given, ETAG if self.method in SAFE_METHODS else SEEN]

    def _of_one_row(self) -> bool:
        return isinstance(self.view, Tagged) and self.view.tagged and bool(getattr(self.view, "detail", False))

    def _answer(self, code: str, shape: Any, told: str) -> Any:
        return self._get_response_for_code(OpenApiResponse(shape, description=told), code, ["application/json"])


class TokenScheme(OpenApiAuthenticationExtension):
    """`Authorization: Bearer syn_...`"""

    target_class = "config.rest.TokenAuthentication"
    name = "token"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "bearerFormat": "syn_..."}
