"""How are records promoted through the API, and what became of them?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import django_filters
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers, status
from rest_framework.decorators import action
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from config.openapi import INTEGRATION
from connectors.api.base import Acts
from connectors.management.promoting import ask_again, promote_some, waiting_ids
from connectors.models import Integration, Promotion
from connectors.sync.choosing import Wanted
from connectors.sync.promotions import ALREADY, NotPromotable, withdraw
from jobs.api import JobSerializer


class FilterSerializer(serializers.Serializer[Any]):
    """Which of the records that wait for a promotion."""

    text = serializers.CharField(max_length=200, default="", allow_blank=True)
    since = serializers.DateField(default=None, allow_null=True)
    field = serializers.CharField(max_length=201, default="", allow_blank=True)  # name of a mapping
    value = serializers.CharField(max_length=200, default="", allow_blank=True)


class PromoteSerializer(serializers.Serializer[Any]):
    """Records by their ids, or by a filter; an empty filter means all that can be promoted."""

    entity_sync = serializers.CharField(max_length=60)
    ids = serializers.ListField(child=serializers.CharField(max_length=100), allow_empty=False, required=False)
    filter = FilterSerializer(required=False)
    bulk = serializers.BooleanField(default=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Either of the two."""
        if ("ids" in attrs) == ("filter" in attrs):
            raise serializers.ValidationError("Give ids or a filter.")
        return attrs


class RequestedSerializer(serializers.Serializer[Any]):
    """What became of a request at once: ids that are queued, have a partner already, or were refused and why."""

    queued = serializers.ListField(child=serializers.CharField())
    already = serializers.ListField(child=serializers.CharField())
    refused = serializers.DictField(child=serializers.CharField())
    job = JobSerializer(allow_null=True)


class MayPromote(BasePermission):
    """Promoting is a right of its own: whoever has it need not be allowed to change settings."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        return bool(
            request.user and request.user.has_perms(["connectors.view_integration", "connectors.add_promotion"])
        )


class Promotes(Acts):
    """Turns what can't be promoted into an answer with a sentence."""

    queryset = Promotion.objects.select_related("entity_sync")

    def refused(self, act: Callable[[], Response]) -> Response:
        try:
            return super().refused(act)
        except NotPromotable as refusal:
            return Response({"detail": str(refusal)}, status=status.HTTP_409_CONFLICT)


class PromoteViewSet(Promotes):
    """POST integrations/<id>/promote/: promote records at once, or in bulk with the service for them."""

    serializer_class = PromoteSerializer

    def get_permissions(self) -> list[Any]:
        return [MayPromote()]

    @extend_schema(parameters=[INTEGRATION], responses={202: RequestedSerializer})
    def create(self, request: Request, integration_id: str) -> Response:
        """Answer what became of the request: queued, has a partner already, refused."""
        asked = PromoteSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        given = asked.validated_data
        integration = get_object_or_404(Integration, pk=integration_id)
        sync = integration.entity_syncs.filter(name=given["entity_sync"]).first()
        if sync is None:
            known = ", ".join(integration.entity_syncs.values_list("name", flat=True))
            raise serializers.ValidationError({"entity_sync": f"There is no such entity sync. There are: {known}."})

        def act() -> Response:
            ids = given["ids"] if "ids" in given else waiting_ids(sync, Wanted(**given["filter"]))
            self.concerns(sync)
            requested, job = promote_some(sync, ids, by=request.user, bulk=given["bulk"])
            answer = {
                "queued": requested.queued, "already": requested.already, "refused": requested.refused,
                "job": JobSerializer(job).data if job else None,
            }  # fmt: skip
            return Response(answer, status=status.HTTP_202_ACCEPTED)

        return self.refused(act)


class PromotionSerializer(serializers.ModelSerializer[Promotion]):
    """One request and what became of it."""

    integration = serializers.IntegerField(source="entity_sync.integration_id", read_only=True)

    class Meta:
        model = Promotion
        fields = [
            "id", "integration", "entity_sync", "side", "external_id", "source", "status", "waits", "reason", "link", "by", "at",
        ]  # fmt: skip


class RequeueSerializer(serializers.Serializer[Any]):
    """Whether it waits for the service for promotions in bulk."""

    bulk = serializers.BooleanField(default=False)


class RequeuedSerializer(serializers.Serializer[Any]):
    """The new request, and its job where it does not wait for the service."""

    promotion = PromotionSerializer()
    job = JobSerializer(allow_null=True)


class PromotionFilter(django_filters.FilterSet):
    """By what a person looks for."""

    integration = django_filters.NumberFilter(field_name="entity_sync__integration")

    class Meta:
        model = Promotion
        fields = ["integration", "entity_sync", "status", "source", "waits", "external_id", "link"]


class PromotionViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, Promotes):
    """Promotions: read, ask again, take back."""

    serializer_class = PromotionSerializer
    filterset_class = PromotionFilter
    acting = frozenset(["requeue", "withdraw"])

    @extend_schema(request=RequeueSerializer, responses={202: RequeuedSerializer})
    @action(detail=True, methods=["post"])
    def requeue(self, request: Request, pk: str) -> Response:
        """Ask again for what failed or was taken back, as a new request: {"bulk": true} waits for the service."""
        asked_for = RequeueSerializer(data=request.data)
        asked_for.is_valid(raise_exception=True)
        promotion, bulk = self.get_object(), asked_for.validated_data["bulk"]

        def act() -> Response:
            requested, jobs = ask_again([promotion.pk], by=request.user, at_once=not bulk)
            if not requested.queued:
                why = requested.refused.get(promotion.external_id)
                done = (
                    ALREADY
                    if requested.already
                    else f"its status is {promotion.get_status_display()}, so there is nothing to ask again."
                )
                raise NotPromotable(f"{promotion.external_id}: {why or done}")
            newest = self.get_queryset().filter(
                entity_sync=promotion.entity_sync, side=promotion.side, external_id=promotion.external_id
            )
            answer = {
                "promotion": self.get_serializer(newest.latest("id")).data,
                "job": JobSerializer(jobs[0]).data if jobs else None,
            }
            return Response(answer, status=status.HTTP_202_ACCEPTED)

        return self.refused(act)

    @extend_schema(request=None, responses=PromotionSerializer)
    @action(detail=True, methods=["post"])
    def withdraw(self, request: Request, pk: str) -> Response:
        """Take a queued request back."""
        promotion = self.get_object()

        def act() -> Response:
            if not withdraw([promotion.pk], by=str(request.user)):
                raise NotPromotable(f"{promotion.external_id}: it is too late, the request is answered or under way.")
            promotion.refresh_from_db()
            return Response(self.get_serializer(promotion).data)

        return self.refused(act)
