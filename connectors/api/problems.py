"""What does the API say about problems, and how is a whole group tried again, mended or resolved?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import mixins, serializers
from rest_framework.decorators import action
from rest_framework.exceptions import PermissionDenied, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from connectors.api.base import Acts, accepted
from connectors.models import ProblemGroup
from connectors.sync.problems import NotMended, Stale, hint_of, title_of
from connectors.sync.retrying import LABELS, How
from jobs import clock, problems
from jobs.api import AcceptedSerializer, JobSerializer
from jobs.syncing import NotNow

MAY_MAP = "connectors.add_picklistmapping"


class ProblemSerializer(serializers.ModelSerializer[ProblemGroup]):
    """One cause, and how many records or jobs stand still for it (counted to 10,001)."""

    title = serializers.SerializerMethodField()
    hint = serializers.SerializerMethodField()
    state = serializers.SerializerMethodField()
    count = serializers.IntegerField(read_only=True)

    class Meta:
        model = ProblemGroup
        fields = [
            "id", "key", "kind", "title", "hint", "state", "count", "integration", "entity_sync", "reason", "code", "field",
            "side", "option", "job_type", "message", "first_seen", "last_seen", "resolved_at", "resolved_by", "reopened_at",
        ]  # fmt: skip

    def get_title(self, group: ProblemGroup) -> str:
        """The cause in a few words."""
        return title_of(group)

    def get_hint(self, group: ProblemGroup) -> str:
        """What helps."""
        return hint_of(group)

    def get_state(self, group: ProblemGroup) -> str:
        """New, Ongoing, Came back or Resolved."""
        return problems.state_of(group, clock.now()).word


class HowSerializer(serializers.Serializer[Any]):
    """In which way records are tried again: as it was, planned again, or read again and planned again."""

    how = serializers.ChoiceField(choices=[(str(how), label) for how, label in LABELS.items()], default=str(How.REREAD))


class ResolveSerializer(serializers.Serializer[Any]):
    """As of when the problem was looked at; one that was met again since is refused."""

    last_seen = serializers.DateTimeField(required=False)


class ChoiceSerializer(serializers.Serializer[Any]):
    """One option of the other side."""

    key = serializers.CharField()
    label = serializers.CharField()  # type: ignore[assignment]  # the field is named so


class MissingSerializer(serializers.Serializer[Any]):
    """The option that has no partner, and what it may become."""

    mapping = serializers.CharField(source="mapping.name")
    side = serializers.CharField()
    key = serializers.CharField()
    label = serializers.CharField()  # type: ignore[assignment]  # the field is named so
    choices = ChoiceSerializer(many=True)


class MapSerializer(serializers.Serializer[Any]):
    """Which option it is."""

    option = serializers.CharField(max_length=200)


class RetriedSerializer(AcceptedSerializer):
    """The first job, all of them, and what was refused."""

    jobs = JobSerializer(many=True)
    refused = serializers.ListField(child=serializers.CharField())


class ProblemViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, Acts):
    """Problems by cause: read, retry, map a missing option, resolve, open again."""

    queryset = ProblemGroup.objects.all()
    serializer_class = ProblemSerializer
    filterset_fields = ["integration", "entity_sync", "kind", "reason", "code"]
    acting = frozenset(["retry", "resolve", "reopen", "map_option"])
    needs = "operate"

    def get_queryset(self) -> Any:
        """With counts; a list shows the open ones, `?resolved=true` the others."""
        rows = problems.groups()
        if self.action != "list":
            return rows
        asked = self.request.query_params.get("resolved", "").lower()
        if asked not in ("", "0", "1", "false", "true", "no", "yes"):
            raise serializers.ValidationError({"resolved": ["This is true or false."]})
        return problems.resolved(rows) if asked in ("1", "true", "yes") else problems.still_open(rows)

    @extend_schema(
        parameters=[OpenApiParameter("resolved", OpenApiTypes.BOOL, description="The resolved ones instead.")]
    )
    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Open problems."""
        return super().list(request, *args, **kwargs)

    @extend_schema(request=HowSerializer, responses={202: RetriedSerializer})
    @action(detail=True, methods=["post"])
    def retry(self, request: Request, pk: str) -> Response:
        """Try the whole group again, in one job for each scope."""
        asked = HowSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        group, how = self.get_object(), How(asked.validated_data["how"])
        return self.refused(lambda: _retried(problems.retry(group, how, by=request.user)))

    @extend_schema(responses={200: MissingSerializer})
    @action(detail=True, methods=["get"])
    def option(self, request: Request, pk: str) -> Response:
        """Which option has no partner, and what it may become: both systems are asked."""
        group = self.get_object()

        def act() -> Response:
            found = _mending(lambda: problems.missing(group))
            if found is None:
                raise NotNow("This problem is not about an option of a picklist that can be mapped here.")
            return Response(MissingSerializer(found).data)

        return self.refused(act)

    @extend_schema(request=MapSerializer, responses={202: RetriedSerializer})
    @action(detail=True, methods=["post"])
    def map_option(self, request: Request, pk: str) -> Response:
        """Let the option mean another one, and try the whole group again.  Needs the right to change mappings, too."""
        if not request.user.has_perm(MAY_MAP):
            raise PermissionDenied
        asked = MapSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        group, chosen = self.get_object(), asked.validated_data["option"]

        def act() -> Response:
            found = _mending(lambda: problems.missing(group))
            if found is not None and chosen not in {option.key for option in found.choices}:
                raise ValidationError({"option": ["There is no such option. GET option/ lists them."]})
            return _retried(_mending(lambda: problems.map_option(group, chosen, by=request.user)))

        return self.refused(act)

    @extend_schema(request=ResolveSerializer, responses={200: ProblemSerializer})
    @action(detail=True, methods=["post"])
    def resolve(self, request: Request, pk: str) -> Response:
        """Put a problem aside until its cause is met again."""
        asked = ResolveSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        group, seen = self.get_object(), asked.validated_data.get("last_seen")

        def act() -> Response:
            if seen is not None and seen != group.last_seen:
                raise Stale("It was met again. Look at it once more.")
            problems.resolve(group, by=request.user)
            return Response(self.get_serializer(self.get_object()).data)

        return self.refused(lambda: _mending(act))

    @extend_schema(request=None, responses={200: ProblemSerializer})
    @action(detail=True, methods=["post"])
    def reopen(self, request: Request, pk: str) -> Response:
        """Take back a resolve."""
        group = self.get_object()

        def act() -> Response:
            problems.reopen(group, by=request.user)
            return Response(self.get_serializer(self.get_object()).data)

        return self.refused(lambda: _mending(act))


def _mending(act: Callable[[], Any]) -> Any:
    try:
        return act()
    except NotMended as refusal:
        raise NotNow(str(refusal)) from refusal


def _retried(answer: problems.Retried) -> Response:
    jobs = [JobSerializer(job).data for job in answer.jobs]
    return accepted(answer.jobs[0], jobs=jobs, refused=answer.refused)
