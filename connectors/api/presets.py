"""Which presets are there, and how does one become an integration?"""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers, status
from rest_framework.decorators import action
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from connectors.api.base import Acts
from connectors.models import Connection, Integration
from connectors.sync.presets import apply_preset, presets
from connectors.sync.rules import LEFT, RIGHT
from connectors.transport import connected
from scheduling.services import make_services


class ApplySerializer(serializers.Serializer[Any]):
    """What applying a preset needs."""

    name = serializers.CharField(max_length=100)
    left = serializers.PrimaryKeyRelatedField(queryset=Connection.objects.all())
    right = serializers.PrimaryKeyRelatedField(queryset=Connection.objects.all())
    options = serializers.DictField(child=serializers.CharField(allow_blank=True), default=dict)
    first_run = serializers.ChoiceField(choices=["", "preview", "apply"], default="")

    def validate_name(self, name: str) -> str:
        """Names are unique."""
        if Integration.objects.filter(name=name).exists():
            raise serializers.ValidationError(f"There is an integration {name!r} already. Choose another name.")
        return name


class PresetSerializer(serializers.Serializer[Any]):
    """A preset, the systems that it connects, and what it asks for."""

    name = serializers.CharField()
    title = serializers.CharField()
    left = serializers.CharField()
    right = serializers.CharField()
    options = serializers.DictField()


class AppliedSerializer(serializers.Serializer[Any]):
    """What was made, and the options of picklists that found no partner."""

    integration = serializers.IntegerField()
    services = serializers.ListField(child=serializers.IntegerField())
    unmapped = serializers.ListField(child=serializers.CharField())


class PresetPermission(BasePermission):
    """Reading presets needs the view permission of integrations, applying one the add permission."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        verb = "add" if request.method == "POST" else "view"
        return bool(request.user and request.user.has_perm(f"connectors.{verb}_integration"))


class PresetViewSet(Acts):
    """Presets: list, apply."""

    queryset: QuerySet[Integration] = Integration.objects.none()
    serializer_class = ApplySerializer
    pagination_class = None
    filter_backends = ()
    lookup_value_regex = "[a-z0-9_-]+"
    tagged = False  # a preset is a file

    def get_permissions(self) -> list[Any]:
        return [PresetPermission()]

    @extend_schema(responses=PresetSerializer(many=True))
    def list(self, request: Request) -> Response:
        """Every preset with the options it asks for."""
        return Response(
            [
                {"name": p.name, "title": p.title, "left": p.left, "right": p.right, "options": p.options}
                for p in presets().values()
            ]
        )

    @extend_schema(parameters=[OpenApiParameter("id", str, OpenApiParameter.PATH)])
    @extend_schema(request=ApplySerializer, responses={201: AppliedSerializer})
    @action(detail=True, methods=["post"])
    def apply(self, request: Request, pk: str) -> Response:
        """Make an integration from a preset."""
        preset = presets().get(pk)
        if preset is None:
            known = ", ".join(presets())
            return Response(
                {"detail": f"There is no preset {pk!r}. There are: {known}."}, status=status.HTTP_404_NOT_FOUND
            )
        asked = ApplySerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        given = asked.validated_data
        ends = {LEFT: given["left"], RIGHT: given["right"]}

        def act() -> Response:
            with connected(ends[LEFT]) as left, connected(ends[RIGHT]) as right:
                applied = apply_preset(
                    preset,
                    given["name"],
                    ends,
                    {LEFT: left, RIGHT: right},
                    given["options"],
                    first_run=given["first_run"],
                )
            self.made(applied.integration)
            made = make_services(applied.integration)
            answer = {
                "integration": applied.integration.pk,
                "services": [service.pk for service in made],
                "unmapped": [str(u) for u in applied.unmapped],
            }
            return Response(answer, status=status.HTTP_201_CREATED)

        return self.refused(act)
