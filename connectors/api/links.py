"""What does the API say about record links, and what can a person decide about them?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import django_filters
from django.db.models import QuerySet
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import mixins, serializers
from rest_framework.decorators import action
from rest_framework.exceptions import NotFound, PermissionDenied, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from connectors.api.base import Acts, MayAct, accepted
from connectors.api.conflicts import MAY_SYNC, DecideConflictSerializer
from connectors.models import RecordLink
from connectors.sync import decisions, joining, support
from connectors.sync.conflicts import Kind as Conflict
from connectors.sync.conflicts import kind_of
from connectors.sync.explain import explain
from connectors.sync.finding import held_by
from connectors.sync.matching import ELSEWHERE
from connectors.sync.retrying import LABELS, How
from connectors.sync.rules import LEFT, RIGHT
from connectors.sync.timeline import USUAL, BadCursor, Entry, Kind, timeline
from connectors.sync.values import decode
from jobs import clock, records
from jobs.api import AcceptedSerializer


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
    elsewhere = django_filters.BooleanFilter(
        method="only_elsewhere", label="Whether the record has its partner by another kind of record."
    )

    reason = django_filters.CharFilter(method="of_reason", label="The one reason why it is not in agreement.")
    left_id = django_filters.CharFilter(method="of_the_left", label="Exact id of the record on the left.")
    right_id = django_filters.CharFilter(method="of_the_right", label="Exact id of the record on the right.")

    def of_reason(self, rows: QuerySet[RecordLink], name: str, value: str) -> QuerySet[RecordLink]:
        """Only records that are not in agreement have one: these the index holds."""
        return rows.filter(pending__isnull=False, reason=value)

    def of_the_left(self, rows: QuerySet[RecordLink], name: str, value: str) -> QuerySet[RecordLink]:
        """By the index of the left records."""
        return rows.filter(held_by(value, (LEFT,)))

    def of_the_right(self, rows: QuerySet[RecordLink], name: str, value: str) -> QuerySet[RecordLink]:
        """By the index of the right records."""
        return rows.filter(held_by(value, (RIGHT,)))

    def only_elsewhere(self, rows: QuerySet[RecordLink], name: str, value: bool) -> QuerySet[RecordLink]:
        """Those that another entity sync tells of, or those that it does not."""
        there = rows.filter(pending__isnull=False, reason="outside", args__in=ELSEWHERE)  # by the index on reasons
        return there if value else rows.exclude(args__in=ELSEWHERE)

    class Meta:
        model = RecordLink
        fields = ["integration", "entity_sync", "pending", "key"]


class ResolvedSerializer(LinkSerializer):
    """The record after a decision, and what was asked for."""

    jobs = serializers.ListField(child=serializers.IntegerField(), help_text="Jobs that carry it out.")
    notes = serializers.ListField(child=serializers.CharField(), help_text="Why no sync was asked for.")

    class Meta(LinkSerializer.Meta):
        fields = [*LinkSerializer.Meta.fields, "jobs", "notes"]


class TryAgainSerializer(serializers.Serializer[Any]):
    """In which way one record is tried again."""

    how = serializers.ChoiceField(choices=[(str(how), label) for how, label in LABELS.items()], default=str(How.REREAD))


class TimelineEntrySerializer(serializers.Serializer[Any]):
    """One thing that happened to a record; what does not apply is null."""

    kind = serializers.ChoiceField(choices=[str(kind) for kind in Kind])
    at = serializers.DateTimeField()
    id = serializers.IntegerField()
    text = serializers.CharField(allow_blank=True)
    actor = serializers.CharField(allow_null=True)
    run = serializers.IntegerField(allow_null=True)
    side = serializers.CharField(allow_null=True)
    verb = serializers.CharField(allow_null=True)
    status = serializers.CharField(allow_null=True)
    code = serializers.CharField(allow_null=True)
    before = serializers.JSONField(allow_null=True)
    after = serializers.JSONField(allow_null=True)


class TimelineSerializer(serializers.Serializer[Any]):
    """A page of a record's timeline, newest first."""

    next = serializers.CharField(allow_null=True, help_text="For `before`.")
    results = TimelineEntrySerializer(many=True)


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


class ErasedSerializer(serializers.Serializer[Any]):
    """What was taken out."""

    rows = serializers.DictField(child=serializers.IntegerField())
    kept = serializers.BooleanField(help_text="It still syncs, so its present values stay on its link.")


class LinkViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, Acts):
    """Record links: read, explain, decide."""

    queryset = RecordLink.objects.select_related("entity_sync", "scope", "integration__left", "integration__right")
    serializer_class = LinkSerializer
    filterset_class = LinkFilter
    acting = frozenset(
        [
            "retry", "resolve", "approve", "promote", "hold", "release", "accept", "join", "not_same", "unlink", "relink",
            "resync", "undo_last", "erase",
        ]
    )  # fmt: skip

    def get_queryset(self) -> QuerySet[RecordLink]:
        """A list shows none of the values and nothing of what belongs to a record: these are not read along for it."""
        if self.action == "list":
            shown = {column.name for column in RecordLink._meta.concrete_fields} & set(LinkSerializer.Meta.fields)
            return RecordLink.objects.only(*shown)
        return super().get_queryset()

    def get_permissions(self) -> list[Any]:
        """Personal values are erased by administrators alone."""
        return [MayAct("delete")] if self.action == "erase" else super().get_permissions()

    @extend_schema(responses=OpenApiTypes.OBJECT)
    @action(detail=True, methods=["get"])
    def explain(self, request: Request, pk: str) -> Response:
        """Why it is as it is, and which gates it passes."""
        link = self.get_object()
        gates = [{"gate": g.title, "passed": str(g.passed), "why": g.why} for g in records.gates(link)]
        return Response({**explain(link).as_dict(), "gates": gates})

    @extend_schema(
        parameters=[
            OpenApiParameter(
                "kind", str, enum=[str(kind) for kind in Kind], description="Only these; calls come only so."
            ),
            OpenApiParameter("before", str, description="`next` of the page before."),
        ],
        responses={
            200: TimelineSerializer,
            400: OpenApiResponse(OpenApiTypes.OBJECT, description="There is no such kind."),
        },
    )
    @action(detail=True, methods=["get"], pagination_class=None, filter_backends=[])
    def timeline(self, request: Request, pk: str) -> Response:
        """What happened to it, newest first."""
        asked = request.query_params.get("kind", "")
        if asked and asked not in set(Kind):
            raise ValidationError({"kind": [f"Choose one of: {', '.join(Kind)}."]})
        if asked == Kind.CALL and not request.user.has_perm("connectors.view_apicall"):
            raise PermissionDenied
        kinds = (Kind(asked),) if asked else USUAL
        try:
            entries, following = timeline(self.get_object(), kinds, request.query_params.get("before", ""))
        except BadCursor as error:
            raise NotFound(str(error)) from error
        told = {"next": following or None, "results": [_entry(entry) for entry in entries]}
        return Response(TimelineSerializer(told).data)

    @extend_schema(responses=OpenApiTypes.OBJECT)
    @action(detail=True, methods=["get"])
    def support(self, request: Request, pk: str) -> Response:
        """All that is known of it, for somebody who helps: without secrets and personal values."""
        link = self.get_object()
        return Response(support.bundle(link, records.gates(link)))

    @extend_schema(request=TryAgainSerializer, responses={202: AcceptedSerializer})
    @action(detail=True, methods=["post"])
    def resync(self, request: Request, pk: str) -> Response:
        """Try one record again now: as it was, by today's mapping, or after reading both sides again."""
        asked = TryAgainSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        link, how = self.get_object(), How(asked.validated_data["how"])
        return self.refused(lambda: accepted(records.try_again(link, how, by=request.user)))

    @extend_schema(request=None, responses={202: AcceptedSerializer})
    @action(detail=True, methods=["post"])
    def undo_last(self, request: Request, pk: str) -> Response:
        """Propose to take back what was written of it last: a run that waits for approval."""
        link = self.get_object()
        return self.refused(lambda: accepted(records.undo_last(link, by=request.user)))

    @extend_schema(request=None, responses={200: ErasedSerializer})
    @action(detail=True, methods=["post"])
    def erase(self, request: Request, pk: str) -> Response:
        """Take its personal values out of logs and history."""
        link = self.get_object()

        def act() -> Response:
            done = records.erase(link, by=request.user)
            return Response({"rows": dict(done.rows), "kept": done.kept})

        return self.refused(act)

    @extend_schema(request=None, responses=LinkSerializer)
    @action(detail=True, methods=["post"])
    def retry(self, request: Request, pk: str) -> Response:
        """Plan a parked link again."""
        return self._decide(decisions.retry)

    @extend_schema(request=DecideConflictSerializer, responses=ResolvedSerializer)
    @action(detail=True, methods=["post"])
    def resolve(self, request: Request, pk: str) -> Response:
        """Settle a conflict: {"winner": "left"}, {"fields": {"Name>name": "left", ...}} or {"choice": "again"}.

        With `seen` (from `conflicts/`) it is refused where the values have changed since.
        """
        asked = DecideConflictSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        told = asked.validated_data
        if told["sync"] and not request.user.has_perm(MAY_SYNC):
            raise PermissionDenied
        link = self.get_object()
        choice = told.get("fields") or told.get("choice") or told["winner"]
        # A plain winner also settles what was deleted and edited, for the side where it lives.
        if kind_of(link) is Conflict.DELETED and told.get("winner") == decisions.living_side(link):
            choice = "again"

        def act() -> Response:
            try:
                done = records.decide_conflict(
                    link, choice, seen=told.get("seen", ""), by=request.user, sync=told["sync"]
                )
            except decisions.WrongChoice as refusal:
                raise ValidationError({"fields": {name: [why] for name, why in refusal.problems.items()}}) from refusal
            more = {"jobs": [job.pk for job in done.jobs], "notes": done.notes}
            return Response({**self.get_serializer(link).data, **more})

        return self.refused(act)

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

    @extend_schema(request=None, responses=LinkSerializer)
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


def _entry(entry: Entry) -> dict[str, object]:
    row, change = entry.row, entry.kind is Kind.CHANGE
    call = entry.kind is Kind.CALL
    return {
        "kind": entry.kind, "at": entry.at, "id": row.pk, "text": f"{row.method} {row.path}" if call else row.message,
        "actor": (str(row.decided_by or "") if change else getattr(row, "actor", "")) or None, "run": row.run_id,
        "side": row.side if change else None, "verb": row.verb if change else None,
        "status": str(row.status) if change or call else None, "code": row.code,
        "before": decode(row.before) if change else None, "after": decode(row.after) if change else None,
    }  # fmt: skip
