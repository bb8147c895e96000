"""What is held back, and how does a program hold jobs back and let them go?"""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from connectors.api.base import Acts
from connectors.models import Connection
from jobs import clock, pauses
from jobs.models import Pause


class PauseSerializer(serializers.ModelSerializer[Pause]):
    """What is held back, who did that, why, until when (null: until a person ends it)."""

    who = serializers.CharField(read_only=True)

    class Meta:
        model = Pause
        fields = ["id", "kind", "connection", "job_type", "reason", "who", "at", "until"]


class NewPauseSerializer(serializers.Serializer[Any]):
    """What to hold back: `connection` for kind connection, `job_type` for kind type, neither for the whole hub."""

    kind = serializers.ChoiceField(choices=Pause.Kind.choices)
    connection = serializers.PrimaryKeyRelatedField(
        queryset=Connection.objects.all(), required=False, default=None, allow_null=True
    )
    job_type = serializers.CharField(max_length=60, required=False, default="", allow_blank=True)
    reason = serializers.CharField(max_length=500)
    until = serializers.DateTimeField(required=False, default=None, allow_null=True)


class PauseChangeSerializer(serializers.Serializer[Any]):
    """Why and until when; what is left out stays."""

    reason = serializers.CharField(max_length=500, required=False)
    until = serializers.DateTimeField(required=False, allow_null=True)


class PauseViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, mixins.DestroyModelMixin, Acts):
    """Pauses: read, begin, change, end."""

    queryset = Pause.objects.select_related("by")
    serializer_class = PauseSerializer
    filterset_fields = ["kind", "connection", "job_type"]

    def get_queryset(self) -> QuerySet[Pause]:
        """One whose end has come holds nothing back, even where no worker has forgotten it yet."""
        return super().get_queryset().active(clock.now())  # type: ignore[attr-defined]

    @extend_schema(request=NewPauseSerializer, responses={201: PauseSerializer})
    def create(self, request: Request) -> Response:
        """Hold jobs back.  What runs goes on to its next safe point."""
        asked = NewPauseSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        try:
            made = pauses.begin(by=request.user, **asked.validated_data)
        except ValidationError as wrong:
            raise serializers.ValidationError(wrong.message_dict) from wrong
        self.made(made)
        return Response(PauseSerializer(made).data, status=status.HTTP_201_CREATED)

    @extend_schema(request=PauseChangeSerializer, responses=PauseSerializer)
    def partial_update(self, request: Request, pk: str) -> Response:
        """Change why, or until when."""
        asked = PauseChangeSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        given, pause = asked.validated_data, self.get_object()

        def act() -> Response:
            try:
                pauses.change(pause, reason=given.get("reason", pause.reason), until=given.get("until", pause.until))
            except ValidationError as wrong:
                raise serializers.ValidationError(wrong.message_dict) from wrong
            return Response(PauseSerializer(pause).data)

        return self.refused(act)

    def destroy(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """End it: what waits is handed out at once."""
        pause = self.get_object()

        def act() -> Response:
            pauses.end(pause)
            return Response(status=status.HTTP_204_NO_CONTENT)

        return self.refused(act)
