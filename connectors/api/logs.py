"""What does the API say about changes, events and API calls?"""

from __future__ import annotations

from typing import Any

import django_filters
from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from connectors.api.base import Acts
from connectors.models import ApiCall, Event, RecordChange, Run
from connectors.sync.finding import of_run
from connectors.transport import curl


class ChangeSerializer(serializers.ModelSerializer[RecordChange]):
    """One write."""

    class Meta:
        model = RecordChange
        fields = [
            "id", "run", "link", "entity_sync", "side", "verb", "status", "record_id", "before", "after", "lost", "rule",
            "code", "field", "message", "at",
        ]  # fmt: skip


class ChangeFilter(django_filters.FilterSet):
    """By what an index serves, and what narrows it further."""

    run = django_filters.ModelChoiceFilter(queryset=Run.objects.all(), method="of_a_run")

    def of_a_run(self, rows: QuerySet[RecordChange], name: str, value: Run) -> QuerySet[RecordChange]:
        """Newest first, wherever among a million they stand."""
        return rows.filter(of_run(value.pk))

    class Meta:
        model = RecordChange
        fields = ["run", "link", "status", "side", "verb"]


class ChangeViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, Acts):
    """Record changes: read."""

    queryset = RecordChange.objects.all()
    serializer_class = ChangeSerializer
    filterset_class = ChangeFilter


class EventSerializer(serializers.ModelSerializer[Event]):
    """What a person should be told."""

    class Meta:
        model = Event
        fields = ["id", "integration", "scope", "link", "run", "level", "code", "message", "actor", "at"]


class EventViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, Acts):
    """Events: read."""

    queryset = Event.objects.all()
    serializer_class = EventSerializer
    filterset_fields = ["integration", "scope", "link", "run", "level", "code"]


class ApiCallSerializer(serializers.ModelSerializer[ApiCall]):
    """One request that was sent."""

    class Meta:
        model = ApiCall
        fields = ["id", "connection", "at", "run_id", "job_id", "method", "path", "status", "ms", "vendor_id", "code"]


class RevealedSerializer(serializers.Serializer[Any]):
    """What is not shown before somebody asks for it."""

    body = serializers.CharField(allow_blank=True)  # redacted; empty where bodies are not kept
    curl = serializers.CharField()


class ApiCallViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, Acts):
    """API calls: read."""

    queryset = ApiCall.objects.all()
    serializer_class = ApiCallSerializer
    acting = frozenset(["reveal"])
    needs = "reveal"

    @extend_schema(request=None, responses=RevealedSerializer)
    @action(detail=True, methods=["post"])
    def reveal(self, request: Request, pk: str) -> Response:
        """Show the bodies, where they are kept, and the call as curl; that somebody looked is logged."""
        call = self.get_object()
        return Response({"body": call.body, "curl": curl.command(call, call.connection)})

    filterset_fields = ["connection", "run_id", "job_id", "status"]
