"""What does the API say about settings: what an entity sync's are, what others would do, who changed which, and the way back?

Each write says which `revision` of the integration's settings it has seen; an older one is refused with 409 and what changed.
"""

from __future__ import annotations

from typing import Any

from django.shortcuts import get_object_or_404
from drf_spectacular.helpers import forced_singular_serializer
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import mixins, serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from connectors.api.base import Acts
from connectors.models import EntitySync, Integration
from connectors.models.run import SIDES
from connectors.sync import amending, entity_settings, settings_history
from connectors.sync.amending import Proposal, StaleSettings
from connectors.sync.entity_settings import CHOICES, PREVENTS, PUSHES
from connectors.sync.restoring import NoSuchChange, propose_restore
from connectors.sync.schema import Schema, stored
from connectors.sync.sentences import OPERATORS
from connectors.transport import connected
from jobs import clock

MOST_REVISION = 2**31 - 1
INTEGRATION = OpenApiParameter("integration_id", int, OpenApiParameter.PATH)
BEFORE = OpenApiParameter(
    "before", OpenApiTypes.DATETIME, description="Only what was changed before: `older` of the page before."
)


class SettingFilterSerializer(serializers.Serializer[Any]):
    """One filter line; all of them must hold."""

    side = serializers.ChoiceField(SIDES)
    field = serializers.CharField(max_length=100)
    op = serializers.ChoiceField(list(OPERATORS.items()))
    value = serializers.JSONField(required=False, allow_null=True)


class SettingWindowSerializer(serializers.Serializer[Any]):
    """Days before and after today of a date of the left side."""

    field = serializers.CharField(max_length=100, required=False, allow_blank=True)
    past = serializers.IntegerField(required=False, allow_null=True)
    future = serializers.IntegerField(required=False, allow_null=True)


class SettingPushSerializer(serializers.Serializer[Any]):
    """Sides that take only promoted records."""

    left = serializers.ChoiceField(PUSHES, required=False)
    right = serializers.ChoiceField(PUSHES, required=False)
    flag = serializers.DictField(required=False)


class SettingsSerializer(serializers.Serializer[Any]):
    """The settings of one entity sync."""

    enabled = serializers.BooleanField(required=False)
    direction = serializers.ChoiceField(list(CHOICES["direction"].items()), required=False)
    policy = serializers.ChoiceField(list(CHOICES["policy"].items()), required=False)
    on_delete = serializers.ChoiceField(list(CHOICES["on_delete"].items()), required=False)
    edit_v_delete = serializers.ChoiceField(list(CHOICES["edit_v_delete"].items()), required=False)
    prevents = serializers.ListField(child=serializers.ChoiceField(PREVENTS), required=False)
    window = SettingWindowSerializer(required=False)
    filters = SettingFilterSerializer(many=True, required=False)
    match = serializers.ListField(
        child=serializers.ListField(child=serializers.CharField(max_length=200)), required=False
    )
    match_tolerance = serializers.IntegerField(min_value=0, max_value=100, required=False)
    push = SettingPushSerializer(required=False)


class ChangeSettingsSerializer(SettingsSerializer):
    """What shall be otherwise, on the settings of this revision; with `dry_run` only the effect is told."""

    revision = serializers.IntegerField(min_value=0, max_value=MOST_REVISION)
    dry_run = serializers.BooleanField(default=False)


class EffectExampleSerializer(serializers.Serializer[Any]):
    """One record that is treated otherwise."""

    group = serializers.CharField()
    link = serializers.IntegerField()
    title = serializers.CharField(allow_blank=True)
    before = serializers.CharField()
    after = serializers.CharField()


class EffectSerializer(serializers.Serializer[Any]):
    """What a change of settings does to the records that are here."""

    records = serializers.IntegerField(help_text="that the entity syncs have, as far as they were counted")
    more_records = serializers.BooleanField()
    looked_at = serializers.IntegerField()
    complete = serializers.BooleanField(help_text="every record that may be concerned was looked at")
    affected = serializers.IntegerField()
    excluded = serializers.IntegerField()
    included = serializers.IntegerField()
    otherwise = serializers.IntegerField()
    unknown = serializers.IntegerField()
    outcomes = serializers.DictField(child=serializers.IntegerField())
    examples = EffectExampleSerializer(many=True)
    sentences = serializers.ListField(child=serializers.CharField())


class ConsideredSerializer(serializers.Serializer[Any]):
    """What changes (or would), what it does, and the revision that the settings have now."""

    saved = serializers.BooleanField()
    revision = serializers.IntegerField()
    changed = serializers.ListField(child=serializers.CharField())
    effect = EffectSerializer()


class StaleSettingsSerializer(serializers.Serializer[Any]):
    """The settings were changed since they were read."""

    detail = serializers.CharField()
    changed = serializers.ListField(child=serializers.CharField())


class EntitySyncDetailSerializer(SettingsSerializer):
    """One entity sync with its settings."""

    id = serializers.IntegerField(read_only=True)
    integration = serializers.IntegerField(source="integration_id", read_only=True)
    name = serializers.CharField(read_only=True)
    family = serializers.CharField(read_only=True)
    left_entity = serializers.CharField(read_only=True)
    right_entity = serializers.CharField(read_only=True)
    revision = serializers.IntegerField(source="integration.revision", read_only=True)
    one_way_only = serializers.SerializerMethodField()

    def get_one_way_only(self, sync: EntitySync) -> dict[str, str]:
        """Return the directions that a system can't do, with the reason, as far as its schema is known."""
        return entity_settings.limits(sync, self.context["schemas"][sync.integration_id])


class RestoreSettingsSerializer(serializers.Serializer[Any]):
    """Which change of the history to go back to, on the settings of this revision."""

    change = serializers.CharField(max_length=32)
    revision = serializers.IntegerField(min_value=0, max_value=MOST_REVISION)
    dry_run = serializers.BooleanField(default=False)


class SettingsChangeSerializer(serializers.Serializer[Any]):
    """What was changed together."""

    change = serializers.CharField()
    at = serializers.DateTimeField()
    by = serializers.CharField(allow_blank=True)
    why = serializers.CharField(allow_blank=True)
    lines = serializers.ListField(child=serializers.CharField())
    more = serializers.IntegerField()
    present = serializers.BooleanField()


class SettingsHistorySerializer(serializers.Serializer[Any]):
    """The newest changes, and from where on older ones are asked for."""

    revision = serializers.IntegerField()
    older = serializers.DateTimeField(allow_null=True)
    changes = SettingsChangeSerializer(many=True)


PROBLEMS = OpenApiResponse(OpenApiTypes.OBJECT, "Which settings can't be: a sentence for each, by its name.")
ANSWERS = {200: ConsideredSerializer, 400: PROBLEMS, 409: StaleSettingsSerializer}


class Considers(Acts):
    """Answers with the effect of a change of settings, and makes it unless it is only asked about."""

    def consider(
        self, request: Request, proposal: Proposal, known: Schema, revision: int, *, dry_run: bool
    ) -> Response:
        """Say what it does, then do it."""
        integration = proposal.integration
        if integration.revision != revision:
            told = settings_history.since(integration, revision)
            return _stale(StaleSettings(integration, told))
        effect = amending.effect_of(proposal, known.described, clock.now())
        changed = list(proposal.said)
        if dry_run:
            self._subject = None  # nothing was done that the log of actions should tell
        else:
            try:
                changed = amending.commit(
                    proposal, known.described, now=clock.now(), by=request.user, revision=revision
                )
            except StaleSettings as refusal:
                return _stale(refusal)
        answer = {
            "saved": not dry_run,
            "revision": integration.revision,
            "changed": changed,
            "effect": effect.as_dict(),
        }
        return Response(answer)


def _stale(refusal: StaleSettings) -> Response:
    return Response({"detail": str(refusal), "changed": refusal.changed}, status=status.HTTP_409_CONFLICT)


class EntitySyncViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, Considers):
    """Entity syncs: their settings, and the effect of other ones."""

    queryset = EntitySync.objects.select_related("integration__left", "integration__right").prefetch_related("mappings")
    serializer_class = EntitySyncDetailSerializer
    filterset_fields = ["integration", "name", "enabled"]
    acting = frozenset(["partial_update"])

    def get_serializer(self, *args: Any, **kwargs: Any) -> Any:
        """Look up the schemas of the answer's integrations once."""
        if not args:
            return super().get_serializer(*args, **kwargs)
        rows = list(args[0]) if kwargs.get("many") else [args[0]]
        found = {sync.integration_id: sync.integration for sync in rows}
        schemas = {number: stored(integration) for number, integration in found.items()}
        return self.get_serializer_class()(
            rows if kwargs.get("many") else rows[0],
            **kwargs,
            context={**self.get_serializer_context(), "schemas": schemas},
        )

    @extend_schema(request=ChangeSettingsSerializer, responses=ANSWERS)
    def partial_update(self, request: Request, pk: str) -> Response:
        """Change some settings; the others stay.  With `dry_run` it is only told what that would do."""
        asked = ChangeSettingsSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        sync = self.get_object()
        given = {name: value for name, value in asked.validated_data.items() if name not in ("revision", "dry_run")}
        return self.refused(lambda: self._change(request, sync, given, asked.validated_data))

    def _change(self, request: Request, sync: EntitySync, given: dict[str, Any], how: dict[str, Any]) -> Response:
        known = amending.described(sync.integration, connected, clock.now())
        values, problems = entity_settings.check(sync, known, given)
        if problems:
            return Response(
                {name: [sentence] for name, sentence in problems.items()}, status=status.HTTP_400_BAD_REQUEST
            )
        proposal = entity_settings.propose(sync, values)
        return self.consider(request, proposal, known, how["revision"], dry_run=how["dry_run"])


class SettingsHistoryViewSet(Considers):
    """GET integrations/<id>/history/, POST integrations/<id>/history/: who changed which settings, and the way back."""

    queryset = Integration.objects.select_related("left", "right")
    serializer_class = RestoreSettingsSerializer
    pagination_class = None
    filter_backends = ()
    acting = frozenset(["create"])

    @extend_schema(parameters=[INTEGRATION, BEFORE], responses=forced_singular_serializer(SettingsHistorySerializer))
    def list(self, request: Request, integration_id: str) -> Response:
        """The newest changes, with what was different before and after."""
        integration = get_object_or_404(self.get_queryset(), pk=integration_id)
        moment = (
            serializers.DateTimeField().run_validation(request.query_params["before"])
            if "before" in request.query_params
            else None
        )
        entries, older = settings_history.timeline(integration, before=moment)
        told = {"revision": integration.revision, "older": older, "changes": [entry.as_dict() for entry in entries]}
        return Response(SettingsHistorySerializer(told).data)

    @extend_schema(parameters=[INTEGRATION], responses=ANSWERS)
    def create(self, request: Request, integration_id: str) -> Response:
        """Go back to the settings that there were after a change.  With `dry_run` it is only told what that would do."""
        integration = get_object_or_404(self.get_queryset(), pk=integration_id)
        asked = RestoreSettingsSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        self.concerns(integration)
        return self.refused(lambda: self._restore(request, integration, asked.validated_data))

    def _restore(self, request: Request, integration: Integration, given: dict[str, Any]) -> Response:
        try:
            proposal = propose_restore(integration, given["change"])
        except NoSuchChange as error:
            return Response({"change": [str(error)]}, status=status.HTTP_400_BAD_REQUEST)
        known = amending.described(integration, connected, clock.now())
        return self.consider(request, proposal, known, given["revision"], dry_run=given["dry_run"])
