"""Which of my programs' tokens are there, and how is one made or revoked?"""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers, status, viewsets
from rest_framework.decorators import action
from rest_framework.exceptions import PermissionDenied
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from config.models import DEFAULT_DAYS, MOST_DAYS, ApiToken
from config.rest import ModelPermissions, Recorded


class TokenSerializer(serializers.ModelSerializer[ApiToken]):
    """A token without its text."""

    state = serializers.CharField(read_only=True)

    class Meta:
        model = ApiToken
        fields = ["id", "name", "prefix", "scope", "state", "created_at", "expires_at", "last_used_at", "revoked_at"]
        read_only_fields = fields


class NewTokenSerializer(serializers.Serializer[Any]):
    """What a new token is for."""

    name = serializers.CharField(max_length=100)
    scope = serializers.ChoiceField(choices=ApiToken.Scope.choices, default=ApiToken.Scope.READ)
    days = serializers.IntegerField(min_value=1, max_value=MOST_DAYS, default=DEFAULT_DAYS)


class MadeTokenSerializer(TokenSerializer):
    """A new token with its text, which is answered this once."""

    token = serializers.CharField(read_only=True)

    class Meta(TokenSerializer.Meta):
        fields = [*TokenSerializer.Meta.fields, "token"]


class MayRevoke(BasePermission):
    """Ending a token of one's own."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        return bool(request.user and request.user.has_perms(["config.view_apitoken", "config.change_apitoken"]))


class TokenViewSet(Recorded, mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet[ApiToken]):
    """One's own tokens: read, make, revoke."""

    queryset = ApiToken.objects.all()
    serializer_class = TokenSerializer

    def get_permissions(self) -> list[Any]:
        return [MayRevoke()] if self.action == "revoke" else [ModelPermissions()]

    def get_queryset(self) -> QuerySet[ApiToken]:
        return super().get_queryset().filter(user=self.request.user.pk)

    @extend_schema(request=NewTokenSerializer, responses={201: MadeTokenSerializer})
    def create(self, request: Request) -> Response:
        """Make a token; its text is in this answer and nowhere else.  Needs a login: tokens make no tokens."""
        if request.auth is not None:
            raise PermissionDenied("A token makes no tokens, else a leaked one could outlive its end. Log in instead.")
        asked = NewTokenSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        token, text = ApiToken.objects.issue(request.user, by=request.user, **asked.validated_data)
        self.made(token)
        return Response({**TokenSerializer(token).data, "token": text}, status=status.HTTP_201_CREATED)

    @extend_schema(request=None, responses=TokenSerializer)
    @action(detail=True, methods=["post"])
    def revoke(self, request: Request, pk: str) -> Response:
        """End a token now."""
        token = self.get_object()
        token.revoke()
        return Response(TokenSerializer(token).data)
