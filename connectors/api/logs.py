"""What does the API say about changes, events and API calls?"""

from __future__ import annotations

from rest_framework import mixins, serializers

from connectors.api.base import Acts
from connectors.models import ApiCall, Event, RecordChange


class ChangeSerializer(serializers.ModelSerializer[RecordChange]):
    """One write."""

    class Meta:
        model = RecordChange
        fields = [
            "id", "run", "link", "entity_sync", "side", "verb", "status", "record_id", "before", "after", "lost", "rule",
            "code", "field", "message", "at",
        ]  # fmt: skip


class ChangeViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, Acts):
    """Record changes: read."""

    queryset = RecordChange.objects.all()
    serializer_class = ChangeSerializer
    filterset_fields = ["run", "link", "status", "side", "verb"]


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


class ApiCallViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, Acts):
    """API calls: read."""

    queryset = ApiCall.objects.all()
    serializer_class = ApiCallSerializer
    filterset_fields = ["connection", "run_id", "job_id", "status"]
