"""What does the API say about integrations, and how is a sync asked for?"""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import mixins, serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from connectors.admin.integration_page import schedules_of
from connectors.api.base import Acts, accepted
from connectors.models import EntitySync, Integration, Run
from connectors.sync.health import overview
from connectors.sync.naming import names_of
from connectors.sync.sentences import integration_sentence
from connectors.sync.switching import LONGEST, switch
from jobs import clock
from jobs.api import AcceptedSerializer
from jobs.syncing import request_sync


class EntitySyncSerializer(serializers.ModelSerializer[EntitySync]):
    """One pair of entities."""

    class Meta:
        model = EntitySync
        fields = ["id", "name", "family", "left_entity", "right_entity", "enabled", "direction", "policy", "on_delete"]


class HealthSerializer(serializers.Serializer[Any]):
    """How an integration is, in one word and one sentence, and its records by why they are not in agreement.

    Each number is counted to 10,001: that one means more than 10,000.
    """

    state = serializers.CharField()
    reason = serializers.CharField()
    agreed = serializers.IntegerField()
    changed = serializers.IntegerField()
    waiting = serializers.IntegerField()
    skipped = serializers.IntegerField()
    conflict = serializers.IntegerField()
    parked = serializers.IntegerField()
    planned = serializers.IntegerField()
    last_success = serializers.DateTimeField(allow_null=True)


class IntegrationSerializer(serializers.ModelSerializer[Integration]):
    """An integration with its health."""

    entity_syncs = EntitySyncSerializer(many=True, read_only=True)
    health = serializers.SerializerMethodField()
    sentence = serializers.SerializerMethodField()

    class Meta:
        model = Integration
        fields = [
            "id", "name", "preset", "left", "right", "enabled", "off_reason", "first_run", "revision", "sentence",
            "entity_syncs", "health",
        ]  # fmt: skip

    def get_sentence(self, integration: Integration) -> str:
        """What it does, in words."""
        schedules = self.context["schedules"].get(integration.pk, [])
        syncs = list(integration.entity_syncs.all())
        return integration_sentence(names_of(integration), syncs, schedules, enabled=integration.enabled)

    @extend_schema_field(HealthSerializer)
    def get_health(self, integration: Integration) -> dict[str, object]:
        """State, reason and counts, looked up once for the whole answer."""
        found = self.context["health"][integration.pk]
        done = found.scope.last_done_at if found.scope else None
        return {
            "state": found.state, "reason": found.reason, "agreed": found.agreed, **found.counts, "last_success": done,
        }  # fmt: skip


class PauseIntegrationSerializer(serializers.Serializer[Any]):
    """Why it is stopped, for whoever looks later."""

    reason = serializers.CharField(max_length=LONGEST, required=False, allow_blank=True, default="")


class SwitchedSerializer(serializers.Serializer[Any]):
    """What was done, and how it is now."""

    enabled = serializers.BooleanField()
    detail = serializers.CharField()


class SyncSerializer(serializers.Serializer[Any]):
    """What to sync."""

    mode = serializers.ChoiceField(choices=Run.Mode.choices, default="delta")
    preview = serializers.BooleanField(default=False)
    entities = serializers.ListField(child=serializers.CharField(max_length=60), default=list)


class IntegrationViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, Acts):
    """Integrations: read, sync."""

    queryset = Integration.objects.select_related("left", "right").prefetch_related("entity_syncs")
    serializer_class = IntegrationSerializer
    filterset_fields = ["name", "preset", "enabled"]
    acting = frozenset(["sync", "pause", "go_on"])
    needs = "operate"

    def get_serializer(self, *args: Any, **kwargs: Any) -> Any:
        rows = args[0] if args else []
        rows = list(rows) if kwargs.get("many") else [rows] if rows else []
        context = {
            **self.get_serializer_context(),
            "health": {h.integration.pk: h for h in overview(rows)},
            "schedules": schedules_of(rows),
        }
        return self.get_serializer_class()(*args, **{**kwargs, "context": context})

    @extend_schema(request=SyncSerializer, responses={202: AcceptedSerializer})
    @action(detail=True, methods=["post"])
    def sync(self, request: Request, pk: str) -> Response:
        """Ask for a run; a request that is there already answers with the same job."""
        asked = SyncSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        given = asked.validated_data
        integration = self.get_object()
        return self.refused(
            lambda: accepted(
                request_sync(
                    integration,
                    mode=given["mode"],
                    preview=given["preview"],
                    entities=given["entities"],
                    by=request.user,
                )
            )
        )

    @extend_schema(request=PauseIntegrationSerializer, responses={200: SwitchedSerializer})
    @action(detail=True, methods=["post"])
    def pause(self, request: Request, pk: str) -> Response:
        """Stop: no run starts and no write that waits is carried out until it goes on."""
        asked = PauseIntegrationSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        return self._switched(request, on=False, reason=asked.validated_data["reason"])

    @extend_schema(request=None, responses={200: SwitchedSerializer})
    @action(detail=True, methods=["post"], url_path="go-on")
    def go_on(self, request: Request, pk: str) -> Response:
        """Let it go on."""
        return self._switched(request, on=True)

    def _switched(self, request: Request, *, on: bool, reason: str = "") -> Response:
        integration = self.get_object()
        said = switch(integration, on=on, by=request.user, now=clock.now(), reason=reason)
        return Response({"enabled": integration.enabled, "detail": said})
