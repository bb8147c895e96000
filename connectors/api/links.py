"""What does the API say about record links, and what can a person decide about them?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import django_filters
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from connectors.api.base import Acts
from connectors.models import RecordLink
from connectors.sync import decisions, joining
from connectors.sync.explain import explain
from connectors.sync.rules import LEFT, RIGHT
from jobs import clock


class LinkSerializer(serializers.ModelSerializer[RecordLink]):
    """One record link without its values; `explain` has them."""

    pending_label = serializers.SerializerMethodField()

    class Meta:
        model = RecordLink
        fields = [
            "id", "key", "integration", "entity_sync", "left_entity", "left_id", "left_version", "left_life", "right_entity",
            "right_id", "right_version", "right_life", "state", "pending", "pending_label", "reason", "revision",
        ]  # fmt: skip

    def get_pending_label(self, link: RecordLink) -> str:
        """The word for people."""
        return link.get_pending_display() if link.pending is not None else "In agreement"


class LinkFilter(django_filters.FilterSet):
    """Filters on columns that an index serves, together with `entity_sync` or `integration`."""

    agreed = django_filters.BooleanFilter(field_name="pending", lookup_expr="isnull")

    class Meta:
        model = RecordLink
        fields = ["integration", "entity_sync", "pending", "reason", "left_id", "right_id", "key"]


class WinnerSerializer(serializers.Serializer[Any]):
    """Who wins a conflict."""

    winner = serializers.ChoiceField(choices=[LEFT, RIGHT])


class WhySerializer(serializers.Serializer[Any]):
    """Why a person acts."""

    why = serializers.CharField(max_length=300, required=False, allow_blank=True, default="")


class OtherSerializer(serializers.Serializer[Any]):
    """Which other link is meant."""

    other = serializers.PrimaryKeyRelatedField(queryset=RecordLink.objects.select_related("entity_sync"))


class MaybeOtherSerializer(OtherSerializer):
    """Which other link is meant; none: all that it could be."""

    other = serializers.PrimaryKeyRelatedField(
        queryset=RecordLink.objects.select_related("entity_sync"), required=False, default=None, allow_null=True
    )


class LinkViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, Acts):
    """Record links: read, explain, decide."""

    queryset = RecordLink.objects.select_related("entity_sync")
    serializer_class = LinkSerializer
    filterset_class = LinkFilter
    acting = frozenset(
        ["retry", "resolve", "approve", "promote", "hold", "release", "accept", "join", "not_same", "unlink", "relink"]
    )  # fmt: skip

    @extend_schema(responses=OpenApiTypes.OBJECT)
    @action(detail=True, methods=["get"])
    def explain(self, request: Request, pk: str) -> Response:
        """Why it is as it is."""
        return Response(explain(self.get_object()).as_dict())

    @extend_schema(request=None, responses=LinkSerializer)
    @action(detail=True, methods=["post"])
    def retry(self, request: Request, pk: str) -> Response:
        """Plan a parked link again."""
        return self._decide(decisions.retry)

    @extend_schema(request=WinnerSerializer, responses=LinkSerializer)
    @action(detail=True, methods=["post"])
    def resolve(self, request: Request, pk: str) -> Response:
        """Settle a conflict: {"winner": "left" | "right"}."""
        asked = WinnerSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        winner = asked.validated_data["winner"]
        return self._decide(lambda link, **how: decisions.resolve(link, winner, **how))

    @extend_schema(request=None, responses=LinkSerializer)
    @action(detail=True, methods=["post"])
    def approve(self, request: Request, pk: str) -> Response:
        """Allow a delete that waits."""
        return self._decide(decisions.approve)

    @extend_schema(request=None, responses=LinkSerializer)
    @action(detail=True, methods=["post"])
    def promote(self, request: Request, pk: str) -> Response:
        """Let a record flow that flows only on request."""
        return self._decide(decisions.promote)

    @extend_schema(request=WhySerializer, responses=LinkSerializer)
    @action(detail=True, methods=["post"])
    def hold(self, request: Request, pk: str) -> Response:
        """Leave it alone."""
        asked = WhySerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        return self._decide(lambda link, **how: decisions.hold(link, why=asked.validated_data["why"], **how))

    @extend_schema(request=None, responses=LinkSerializer)
    @action(detail=True, methods=["post"])
    def release(self, request: Request, pk: str) -> Response:
        """End a hold."""
        return self._decide(decisions.release)

    @action(detail=True, methods=["post"])
    def accept(self, request: Request, pk: str) -> Response:
        """Leave what was undone as it is: both sides keep what they hold."""
        return self._decide(decisions.accept)

    @extend_schema(responses=LinkSerializer(many=True))
    @action(detail=True, methods=["get"], pagination_class=None, filter_backends=[])
    def candidates(self, request: Request, pk: str) -> Response:
        """Links whose records may be this one's partner."""
        return Response(self.get_serializer(joining.candidates(self.get_object()), many=True).data)

    @extend_schema(request=OtherSerializer, responses=LinkSerializer)
    @action(detail=True, methods=["post"])
    def join(self, request: Request, pk: str) -> Response:
        """Make two records partners: {"other": link}.  Answers with the link that goes on."""
        asked = OtherSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        link, other = self.get_object(), asked.validated_data["other"]

        def act() -> Response:
            kept = joining.join(link, other, now=clock.now(), by=str(request.user))
            return Response(self.get_serializer(kept).data)

        return self.refused(act)

    @extend_schema(request=MaybeOtherSerializer, responses=LinkSerializer)
    @action(detail=True, methods=["post"])
    def not_same(self, request: Request, pk: str) -> Response:
        """Tell two records apart: {"other": link}, or all that it could be without it."""
        asked = MaybeOtherSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        other = asked.validated_data["other"]
        return self._decide(lambda link, **how: joining.not_same(link, other, **how))

    @extend_schema(request=WhySerializer, responses=LinkSerializer)
    @action(detail=True, methods=["post"])
    def unlink(self, request: Request, pk: str) -> Response:
        """Take two records apart: both stay."""
        asked = WhySerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        return self._decide(lambda link, **how: joining.unlink(link, why=asked.validated_data["why"], **how))

    @extend_schema(request=None, responses=LinkSerializer)
    @action(detail=True, methods=["post"])
    def relink(self, request: Request, pk: str) -> Response:
        """Make them partners again."""
        return self._decide(joining.relink)

    def _decide(self, decide: Callable[..., object]) -> Response:
        link = self.get_object()

        def act() -> Response:
            decide(link, now=clock.now(), by=str(self.request.user))
            link.refresh_from_db()
            return Response(self.get_serializer(link).data)

        return self.refused(act)
