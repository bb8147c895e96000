"""What does the API say about conflicts, and how is one decided field by field, or many at once?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from drf_spectacular.helpers import forced_singular_serializer
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema, extend_schema_field
from rest_framework import serializers, status
from rest_framework.decorators import action
from rest_framework.exceptions import NotFound, PermissionDenied, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from config import audit
from connectors.api.base import Acts
from connectors.models import RecordLink
from connectors.models.run import SIDES
from connectors.sync import conflicts
from connectors.sync.conflicts import LABELS, MOST_AT_ONCE, MOST_COUNTED, Kind, Wanted, kind_of, lines_of, seen_of
from connectors.sync.explain import sentence_of, short_title
from jobs import records
from jobs.records import CHOICES, FITS, decide_conflicts

PER_PAGE = 50
FIRST = 20  # conflicts that a dry run shows
MAY_SYNC = "connectors.operate_integration"


class ConflictLineSerializer(serializers.Serializer[Any]):
    """One field about which both sides disagree; values as `links/{id}/explain/` has them."""

    name = serializers.CharField()
    left = serializers.JSONField(allow_null=True)
    base = serializers.JSONField(allow_null=True)
    right = serializers.JSONField(allow_null=True)


class ConflictSerializer(serializers.ModelSerializer[RecordLink]):
    """One record that waits for a person's choice."""

    kind = serializers.SerializerMethodField()
    title = serializers.SerializerMethodField()
    sentence = serializers.SerializerMethodField()
    lines = serializers.SerializerMethodField()
    choices = serializers.SerializerMethodField()
    seen = serializers.SerializerMethodField()

    class Meta:
        model = RecordLink
        fields = [
            "id", "key", "integration", "entity_sync", "left_entity", "left_id", "right_entity", "right_id", "kind", "title",
            "sentence", "lines", "choices", "seen", "revision",
        ]  # fmt: skip

    def get_kind(self, link: RecordLink) -> str:
        """What is asked: fields, deleted, ambiguous or merged."""
        return kind_of(link) or ""

    def get_title(self, link: RecordLink) -> str:
        """The record with its name."""
        return short_title(link)

    def get_sentence(self, link: RecordLink) -> str:
        """Why a person is asked."""
        return sentence_of(link)

    @extend_schema_field(ConflictLineSerializer(many=True))
    def get_lines(self, link: RecordLink) -> list[dict[str, object]]:
        """The fields in conflict."""
        return ConflictLineSerializer(lines_of(link), many=True).data  # type: ignore[return-value]

    def get_choices(self, link: RecordLink) -> list[str]:
        """What it can be decided to."""
        kind = kind_of(link)
        return list(FITS[kind]) if kind is not None else []

    def get_seen(self, link: RecordLink) -> str:
        """To be sent with the decision: it is refused where the values are others by then."""
        return seen_of(link)


class ConflictPageSerializer(serializers.Serializer[Any]):
    """A page of conflicts."""

    count = serializers.IntegerField(help_text=f"Counted to {MOST_COUNTED + 1}.")
    next = serializers.CharField(allow_null=True, help_text="For `after`.")
    results = ConflictSerializer(many=True)


class WantedConflictsSerializer(serializers.Serializer[Any]):
    """Which conflicts."""

    integration = serializers.IntegerField(required=False, allow_null=True, min_value=1, max_value=2**63 - 1)
    entity_sync = serializers.IntegerField(required=False, allow_null=True, min_value=1, max_value=2**63 - 1)
    kind = serializers.ChoiceField(
        choices=[(str(k), word) for k, word in LABELS.items()], required=False, allow_null=True
    )


class BulkConflictSerializer(WantedConflictsSerializer):
    """A decision about many: `links`, or all that the filter finds.  `dry_run` tells `count` and `print` first."""

    choice = serializers.ChoiceField(choices=list(CHOICES.items()))
    links = serializers.ListField(
        child=serializers.IntegerField(min_value=1, max_value=2**63 - 1),
        required=False,
        allow_null=True,
        max_length=MOST_AT_ONCE,
    )
    dry_run = serializers.BooleanField(default=False)
    expected_count = serializers.IntegerField(required=False, allow_null=True, min_value=0)
    print = serializers.CharField(required=False, allow_blank=True, max_length=64)
    sync = serializers.BooleanField(default=False)


class RefusedConflictSerializer(serializers.Serializer[Any]):
    """A record that the decision does not fit."""

    link = serializers.IntegerField()
    why = serializers.CharField()


class BulkConflictAnswerSerializer(serializers.Serializer[Any]):
    """What was decided, or with `dry_run` would be."""

    count = serializers.IntegerField()
    print = serializers.CharField()
    fitting = serializers.IntegerField()
    decided = serializers.IntegerField()
    refused = RefusedConflictSerializer(many=True)
    first = ConflictSerializer(many=True)
    jobs = serializers.ListField(child=serializers.IntegerField())
    notes = serializers.ListField(child=serializers.CharField())


class ConflictViewSet(Acts):
    """Conflicts: read, and decide many.  One is decided by `links/{id}/resolve/`."""

    queryset = RecordLink.objects.select_related("entity_sync", "integration__left", "integration__right", "scope")
    serializer_class = ConflictSerializer
    pagination_class = None
    acting = frozenset(["resolve"])

    @extend_schema(
        parameters=[
            OpenApiParameter("integration", OpenApiTypes.INT),
            OpenApiParameter("entity_sync", OpenApiTypes.INT),
            OpenApiParameter("kind", OpenApiTypes.STR, enum=[str(kind) for kind in Kind]),
            OpenApiParameter("after", OpenApiTypes.STR, description="`next` of the page before."),
        ],
        responses={
            200: forced_singular_serializer(ConflictPageSerializer),
            400: OpenApiResponse(OpenApiTypes.OBJECT, description="A filter makes no sense."),
        },
    )
    def list(self, request: Request) -> Response:
        """Conflicts by entity sync, the oldest first."""
        told = WantedConflictsSerializer(data=request.query_params.dict())
        told.is_valid(raise_exception=True)
        wanted = _wanted(told.validated_data)
        there = conflicts.counted(wanted)
        after = _after(request.query_params.get("after", ""))
        links = conflicts.page(wanted, [sync for sync, _ in there], PER_PAGE + 1, after)
        shown = links[:PER_PAGE]
        following = f"{shown[-1].entity_sync_id}-{shown[-1].pk}" if len(links) > PER_PAGE else None
        count = min(sum(number for _, number in there), MOST_COUNTED + 1)
        return Response({"count": count, "next": following, "results": self.get_serializer(shown, many=True).data})

    def retrieve(self, request: Request, pk: str) -> Response:
        """One conflict; 404 where the record is not in conflict."""
        link = self.get_object()
        if kind_of(link) is None:
            raise NotFound("This record is not in conflict.")
        return Response(self.get_serializer(link).data)

    @extend_schema(request=BulkConflictSerializer, responses=BulkConflictAnswerSerializer)
    @action(detail=False, methods=["post"])
    def resolve(self, request: Request) -> Response:
        """Decide many at once: dry run first, then with the `expected_count` (and `print`) that it told; else 409."""
        asked = BulkConflictSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        told = asked.validated_data
        if told["sync"] and not request.user.has_perm(MAY_SYNC):
            raise PermissionDenied
        if not told["dry_run"] and told.get("expected_count") is None:
            raise ValidationError({"expected_count": ["Say how many records you expect; `dry_run` tells it."]})
        links, total = conflicts.chosen(_wanted(told), told.get("links"))
        shown = conflicts.print_of(links, total)
        answer = {**_dry(links, told["choice"]), "count": total, "print": shown}
        if told["dry_run"]:
            return Response(BulkConflictAnswerSerializer(answer).data)
        if told["expected_count"] != total:
            return _meanwhile(f"There are {total} now instead of {told['expected_count']}. Nothing was decided.")
        if told.get("print") and told["print"] != shown:
            return _meanwhile("A record was edited or decided meanwhile. Nothing was decided.")
        before = {link.pk: audit.values_of(link) for link in links}
        done = decide_conflicts(links, told["choice"], by=request.user, sync=told["sync"])
        audit.log_many(
            request.user, [(link, before[link.pk]) for link in done.done], "Conflict decided through the API."
        )
        answer |= {
            "decided": len(done.done), "refused": [{"link": link.pk, "why": why} for link, why in done.refused],
            "jobs": [job.pk for job in done.jobs], "notes": done.notes,
        }  # fmt: skip
        return Response(BulkConflictAnswerSerializer(answer).data)


def _dry(links: list[RecordLink], choice: str) -> dict[str, object]:
    fits = {link.pk: (kind := kind_of(link)) is not None and choice in FITS[kind] for link in links}
    return {
        "fitting": sum(fits.values()),
        "decided": 0,
        "refused": [{"link": link.pk, "why": _why_not(link)} for link in links if not fits[link.pk]],
        "first": [link for link in links if fits[link.pk]][:FIRST],
        "jobs": [],
        "notes": [],
    }


def _why_not(link: RecordLink) -> str:
    kind = kind_of(link)
    return records.unfit(kind) if kind is not None else "It is not in conflict any more."


def _meanwhile(sentence: str) -> Response:
    return Response({"detail": sentence}, status=status.HTTP_409_CONFLICT)


def _wanted(told: Mapping[str, Any]) -> Wanted:
    kind = told.get("kind")
    return Wanted(told.get("integration"), told.get("entity_sync"), Kind(kind) if kind else None)


def _after(text: str) -> tuple[int, int] | None:
    sync, _, link = text.partition("-")
    ascii_digits = sync.isascii() and sync.isdecimal() and link.isascii() and link.isdecimal()
    return (int(sync), int(link)) if ascii_digits and max(len(sync), len(link)) < 19 else None


class DecideConflictSerializer(serializers.Serializer[Any]):
    """How one conflict is decided: one winner, one choice, or a side for each field."""

    winner = serializers.ChoiceField(choices=SIDES, required=False)
    choice = serializers.ChoiceField(choices=list(CHOICES.items()), required=False)
    seen = serializers.CharField(
        required=False, allow_blank=True, max_length=100_000, help_text="As the conflict told it."
    )
    sync = serializers.BooleanField(default=False, help_text="Ask for a sync at once.")

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        """`fields` is a name of the serializer's own, so it is added here."""
        sides = serializers.DictField(child=serializers.ChoiceField(choices=SIDES), required=False, allow_empty=False)
        return {**super().get_fields(), "fields": sides}

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Exactly one of the three."""
        given = [name for name in ("winner", "choice", "fields") if attrs.get(name)]
        if len(given) != 1:
            told = "Give a winner, a choice, or a side for each of the fields" + (": one of them." if given else ".")
            raise ValidationError({name: [told] for name in given or ["winner"]})
        return attrs
