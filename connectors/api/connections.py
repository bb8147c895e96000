"""What does the API say about connections, and what can it do with them?  Secrets go in and never come out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from django.db import transaction
from rest_framework import mixins, serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from connectors import transport
from connectors.api.base import Acts
from connectors.models import Connection
from connectors.registry import connector_class, systems
from connectors.sync import decisions, routing


class ConnectionSerializer(serializers.ModelSerializer[Connection]):
    """A connection; its secret goes in and never comes out."""

    secret = serializers.DictField(child=serializers.CharField(), write_only=True, required=False)

    class Meta:
        model = Connection
        fields = [
            "id",
            "system",
            "name",
            "settings",
            "secret",
            "state",
            "reason",
            "account",
            "instance",
            "auth_expires_at",
        ]
        read_only_fields = ["state", "reason", "account", "instance", "auth_expires_at"]

    def validate_system(self, system: str) -> str:
        """Only installed systems; an existing connection keeps its own."""
        if self.instance is not None and system != self.instance.system:
            raise serializers.ValidationError("The system of a connection does not change. Make a new connection.")
        if system not in systems():
            raise serializers.ValidationError(f"No installed app speaks {system!r}. Installed: {', '.join(systems())}.")
        return system

    def validate_settings(self, value: object) -> object:
        """Plain text values by name."""
        if not isinstance(value, dict) or not all(isinstance(v, str | int | float | bool) for v in value.values()):
            raise serializers.ValidationError("Settings are names with plain values.")
        return value

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Known secrets only; stored ones are never sent to an address that was entered after them."""
        system = attrs.get("system") or (self.instance.system if self.instance else "")
        cls, given = connector_class(system), attrs.get("secret", {})
        unknown = sorted(set(given) - set(cls.secrets))
        if unknown:
            known = ", ".join(cls.secrets) or "none"
            raise serializers.ValidationError({"secret": f"Unknown: {', '.join(unknown)}. {cls.title} wants: {known}."})
        if self.instance and self.instance.secret and "settings" in attrs:
            moved = self.instance.moved(attrs["settings"])
            if moved and set(cls.secrets) - set(given):
                raise serializers.ValidationError(
                    {"secret": f"{', '.join(moved)} changed: give all of {', '.join(cls.secrets)} again."}
                )
        return attrs

    def create(self, validated_data: dict[str, Any]) -> Connection:
        secret = validated_data.pop("secret", {})
        with transaction.atomic():
            connection = Connection.objects.create(**validated_data)
            if secret:
                connection.set_secret(secret)
        return connection

    def update(self, instance: Connection, validated_data: dict[str, Any]) -> Connection:
        secret = validated_data.pop("secret", {})
        instance.change(validated_data, secret)
        return instance


class ConnectionViewSet(
    mixins.ListModelMixin, mixins.RetrieveModelMixin, mixins.CreateModelMixin, mixins.UpdateModelMixin, Acts
):
    """Connections: read, make, change, check, pause, resume."""

    queryset = Connection.objects.all()
    serializer_class = ConnectionSerializer
    filterset_fields = ["system", "state", "name"]
    acting = frozenset(["check", "pause", "resume"])

    @action(detail=True, methods=["post"])
    def check(self, request: Request, pk: str) -> Response:
        """Log in and say as whom."""

        def act() -> Response:
            connection = self.get_object()
            identity = transport.check(connection)
            return Response(
                {**self.get_serializer(connection).data, "entities": sorted(identity.may), "detail": "Connected."}
            )

        return self.refused(act)

    @action(detail=True, methods=["post"])
    def pause(self, request: Request, pk: str) -> Response:
        """Send nothing until it is resumed."""
        return self._pausing(lambda connection: decisions.pause_connection(connection, by=str(request.user)))

    @action(detail=True, methods=["post"])
    def resume(self, request: Request, pk: str) -> Response:
        """End a pause."""
        return self._pausing(decisions.resume_connection)

    @action(detail=True, methods=["get"])
    def unrouted(self, request: Request, pk: str) -> Response:
        """Records that belong to no integration's company."""
        return Response([asdict(record) for record in routing.unrouted(self.get_object())])

    def _pausing(self, decide: Callable[[Connection], None]) -> Response:
        def act() -> Response:
            connection = self.get_object()
            decide(connection)
            connection.refresh_from_db()
            return Response(self.get_serializer(connection).data)

        return self.refused(act)
