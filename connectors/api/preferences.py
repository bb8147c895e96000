"""What may a client choose about an integration, through the API?"""

from __future__ import annotations

from typing import Any

from django.shortcuts import get_object_or_404
from drf_spectacular.helpers import forced_singular_serializer
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from config.openapi import INTEGRATION
from connectors.admin.preferences import change
from connectors.api.base import Acts
from connectors.models import Integration
from connectors.sync import preferences, routing
from connectors.sync.preferences import PreferencesError


class PreferencesSerializer(serializers.Serializer[Any]):
    """What to change: by key, and whose records; a `revision` refuses what was read too long ago."""

    set = serializers.DictField(child=serializers.CharField(max_length=200, allow_blank=True), default=dict)
    revision = serializers.IntegerField(required=False)
    route_column = serializers.CharField(max_length=100, allow_blank=True, required=False)
    route_value = serializers.CharField(max_length=200, allow_blank=True, required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Column and value of a route go together."""
        if ("route_column" in attrs) != ("route_value" in attrs):
            raise serializers.ValidationError("Give route_column and route_value together; both empty: all records.")
        return attrs


class PreferenceSerializer(serializers.Serializer[Any]):
    """One thing that can be chosen."""

    key = serializers.CharField()
    label = serializers.CharField()  # type: ignore[assignment]  # a field, not DRF's own
    value = serializers.CharField(allow_blank=True)
    choices = serializers.ListField(child=serializers.CharField(allow_blank=True))


class ShownSerializer(serializers.Serializer[Any]):
    """Everything that can be chosen."""

    revision = serializers.IntegerField()
    preferences = PreferenceSerializer(many=True)
    route = serializers.DictField(allow_null=True)


class ChangedSerializer(ShownSerializer):
    """All of it, and a sentence for each that was changed."""

    changed = serializers.ListField(child=serializers.CharField())


class PreferencesViewSet(Acts):
    """GET and POST integrations/<id>/preferences/."""

    queryset = Integration.objects.select_related("left", "right")
    serializer_class = PreferencesSerializer
    pagination_class = None
    filter_backends = ()
    acting = frozenset(["create"])

    @extend_schema(parameters=[INTEGRATION], responses=forced_singular_serializer(ShownSerializer))
    def list(self, request: Request, integration_id: str) -> Response:
        """Everything that can be chosen, with its present value."""
        return Response(_shown(get_object_or_404(self.get_queryset(), pk=integration_id)))

    @extend_schema(parameters=[INTEGRATION], responses={200: ChangedSerializer})
    def create(self, request: Request, integration_id: str) -> Response:
        """Set some of them; the others stay."""
        integration = get_object_or_404(self.get_queryset(), pk=integration_id)
        asked = PreferencesSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        self.concerns(integration)
        return self.refused(lambda: self._change(request, integration, asked.validated_data))

    def _change(self, request: Request, integration: Integration, given: dict[str, Any]) -> Response:
        route = (given["route_column"].strip(), given["route_value"].strip()) if "route_column" in given else None
        try:
            changed = change(integration, given["set"], route, by=str(request.user), revision=given.get("revision"))
        except PreferencesError as error:
            problems = {key or "detail": [sentence] for key, sentence in error.problems.items()}
            return Response(problems, status=status.HTTP_400_BAD_REQUEST)
        integration.refresh_from_db()
        return Response({**_shown(integration), "changed": changed})


def _shown(integration: Integration) -> dict[str, object]:
    route = routing.Route.of(integration)
    return {
        "revision": integration.revision,
        "preferences": [
            {"key": one.key, "label": one.label, "value": one.value, "choices": [value for value, _ in one.choices]}
            for one in preferences.read(integration)
        ],
        "route": {"fields": dict(route.fields), "value": route.value} if route else None,
    }
