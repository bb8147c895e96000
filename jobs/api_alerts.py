"""What does the API say about alerts, who is told of them, what was told, and which integrations keep failing?"""

from __future__ import annotations

from typing import Any

import django_filters
from django.db import transaction
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers, status
from rest_framework.decorators import action
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from connectors.api.base import Acts
from jobs.alerts import outbox, saving
from jobs.housekeeping import failing
from jobs.models import Alert, AlertMessage, AlertRule, Failing


class May(BasePermission):
    """Some rights, whatever the method."""

    def __init__(self, *permissions: str) -> None:
        self.permissions = permissions

    def has_permission(self, request: Request, view: APIView) -> bool:
        return bool(request.user and request.user.has_perms(self.permissions))


class AlertSerializer(serializers.ModelSerializer[Alert]):
    """What is or was wrong."""

    class Meta:
        model = Alert
        fields = [
            "id", "rule", "integration", "text", "cause", "stage", "count", "opened_at", "last_seen", "resolved_at",
            "acknowledged_at", "acknowledged_by",
        ]  # fmt: skip


class AlertFilter(django_filters.FilterSet):
    """Open ones or all, by rule and integration."""

    open = django_filters.BooleanFilter(field_name="resolved_at", lookup_expr="isnull")
    acknowledged = django_filters.BooleanFilter(field_name="acknowledged_at", lookup_expr="isnull", exclude=True)

    class Meta:
        model = Alert
        fields = ["rule", "integration"]


class AlertViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, Acts):
    """Alerts: read, acknowledge."""

    queryset = Alert.objects.all()
    serializer_class = AlertSerializer
    filterset_class = AlertFilter
    acting = frozenset(["acknowledge"])
    needs = "operate"

    @extend_schema(request=None, responses=AlertSerializer)
    @action(detail=True, methods=["post"])
    def acknowledge(self, request: Request, pk: str) -> Response:
        """Say that somebody knows: no daily digest repeats it, unless it gets worse."""
        alert = self.get_object()

        def act() -> Response:
            saving.acknowledge(alert, by=request.user)
            alert.refresh_from_db()
            return Response(AlertSerializer(alert).data)

        return self.refused(act)


class AlertRuleSerializer(serializers.ModelSerializer[AlertRule]):
    """Who is told of what.  A webhook's address and key go in and never come out; `host` is all that is shown of them."""

    addresses = serializers.ListField(child=serializers.CharField(max_length=254), required=False, max_length=100)
    url = serializers.CharField(max_length=2000, write_only=True, required=False, allow_blank=True)
    signing_key = serializers.CharField(max_length=200, write_only=True, required=False, allow_blank=True)

    class Meta:
        model = AlertRule
        fields = [
            "id", "name", "enabled", "what", "more_than", "integration", "to", "addresses", "host", "url", "signing_key",
            "told_at", "cleared_at",
        ]  # fmt: skip
        read_only_fields = ["host", "told_at", "cleared_at"]
        extra_kwargs = {"more_than": {"max_value": 2_147_483_647}}

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Somebody must be reached."""
        rule = self.instance
        to = attrs.get("to", rule.to if rule else AlertRule.To.EMAIL)
        if to == AlertRule.To.EMAIL:
            attrs["addresses"] = attrs.get("addresses", rule.addresses if rule else [])
        else:
            attrs["addresses"] = []
        stored = bool(rule and rule.secret)
        if wrong := saving.problems(to, attrs["addresses"], attrs.get("url", ""), stored=stored):
            raise serializers.ValidationError(wrong)
        return attrs

    def create(self, validated_data: dict[str, Any]) -> AlertRule:
        url, key = validated_data.pop("url", ""), validated_data.pop("signing_key", "")
        with transaction.atomic():
            rule = AlertRule.objects.create(**validated_data)
            self.made_key = saving.save_webhook(rule, url, key)
        return rule

    def update(self, instance: AlertRule, validated_data: dict[str, Any]) -> AlertRule:
        url, key, was = validated_data.pop("url", ""), validated_data.pop("signing_key", ""), instance.to
        with transaction.atomic():
            rule = super().update(instance, validated_data)
            self.made_key = saving.save_webhook(rule, url, key, was=was)
        return rule


class SavedRuleSerializer(AlertRuleSerializer):
    """A rule as it was saved; `new_signing_key` is a key that was made, and is answered this once."""

    new_signing_key = serializers.CharField(read_only=True, allow_blank=True)

    class Meta(AlertRuleSerializer.Meta):
        fields = [*AlertRuleSerializer.Meta.fields, "new_signing_key"]


class SentSerializer(serializers.Serializer[Any]):
    """The messages that are on their way."""

    messages = serializers.ListField(child=serializers.IntegerField())


class AlertRuleViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, mixins.DestroyModelMixin, Acts):
    """Alert rules: read, make, change, delete, test."""

    queryset = AlertRule.objects.all()
    serializer_class = AlertRuleSerializer
    filterset_fields = ["what", "to", "enabled", "integration"]
    acting = frozenset(["test"])

    @extend_schema(request=AlertRuleSerializer, responses={201: SavedRuleSerializer})
    def create(self, request: Request) -> Response:
        """Make a rule."""
        asked = AlertRuleSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        rule = asked.save()
        self.made(rule)
        return Response(_saved(asked), status=status.HTTP_201_CREATED)

    @extend_schema(request=AlertRuleSerializer, responses=SavedRuleSerializer)
    def partial_update(self, request: Request, pk: str) -> Response:
        """Change a rule; what is left out stays, also a webhook's address and key."""
        asked = AlertRuleSerializer(self.get_object(), data=request.data, partial=True)
        asked.is_valid(raise_exception=True)
        asked.save()
        return Response(_saved(asked))

    @extend_schema(request=None, responses={202: SentSerializer})
    @action(detail=True, methods=["post"])
    def test(self, request: Request, pk: str) -> Response:
        """Send a test message to every recipient."""
        rule = self.get_object()
        with transaction.atomic():
            sent = outbox.put_test(rule)
        return Response({"messages": [message.pk for message in sent]}, status=status.HTTP_202_ACCEPTED)


def _saved(asked: AlertRuleSerializer) -> dict[str, Any]:
    return {**asked.data, "new_signing_key": asked.made_key}


class AlertMessageSerializer(serializers.ModelSerializer[AlertMessage]):
    """One message to one recipient, and whether it arrived."""

    class Meta:
        model = AlertMessage
        fields = [
            "id", "rule", "kind", "recipient", "subject", "body", "status", "tries", "error", "at", "sent_at", "job",
        ]  # fmt: skip


class AlertMessageViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, Acts):
    """The outbox of alerts: read, send again."""

    queryset = AlertMessage.objects.all()
    serializer_class = AlertMessageSerializer
    filterset_fields = ["rule", "kind", "status", "recipient"]

    def get_permissions(self) -> list[Any]:
        if self.action == "send_again":
            return [May("jobs.view_alertmessage", "jobs.retry_job")]
        return super().get_permissions()

    @extend_schema(request=None, responses=AlertMessageSerializer)
    @action(detail=True, methods=["post"], url_path="send-again")
    def send_again(self, request: Request, pk: str) -> Response:
        """Try a message again that was not delivered."""
        message = self.get_object()

        def act() -> Response:
            outbox.send_again(message, by=request.user)
            message.refresh_from_db()
            return Response(AlertMessageSerializer(message).data)

        return self.refused(act)


class FailingSerializer(serializers.ModelSerializer[Failing]):
    """A scope whose runs fail in a row, and what was done about it."""

    integration = serializers.IntegerField(source="scope.integration_id", read_only=True)
    failures = serializers.IntegerField(source="scope.failures", read_only=True)
    last_error = serializers.CharField(source="scope.last_error", read_only=True)

    class Meta:
        model = Failing
        fields = [
            "id", "scope", "integration", "failures", "last_error", "since", "last_at", "warned_at", "paused_at",
            "paused_by", "reason", "probe_at",
        ]  # fmt: skip


class FailingFilter(django_filters.FilterSet):
    """By integration, and whether the rule has paused it."""

    integration = django_filters.NumberFilter(field_name="scope__integration")
    paused = django_filters.BooleanFilter(field_name="paused_at", lookup_expr="isnull", exclude=True)

    class Meta:
        model = Failing
        fields = ["scope"]


class ResumedSerializer(serializers.Serializer[Any]):
    """Which scope goes on."""

    scope = serializers.IntegerField()


class FailingViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, Acts):
    """Integrations that keep failing: read, resume."""

    queryset = Failing.objects.select_related("scope__integration")
    serializer_class = FailingSerializer
    filterset_class = FailingFilter

    def get_permissions(self) -> list[Any]:
        if self.action == "resume":
            return [May("jobs.view_failing", "connectors.operate_integration")]
        return super().get_permissions()

    @extend_schema(request=None, responses=ResumedSerializer)
    @action(detail=True, methods=["post"])
    def resume(self, request: Request, pk: str) -> Response:
        """End the pause by rule; failures are counted from nothing."""
        row = self.get_object()

        def act() -> Response:
            failing.resume(row.scope, by=request.user)
            return Response({"scope": row.scope_id})

        return self.refused(act)
