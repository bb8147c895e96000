"""What does the API say about the mappings of an entity sync, and how are they proposed, tried, changed, taken from a file?

Each write says which `revision` of the settings it has seen; an older one is refused with 409 and what changed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

from django.shortcuts import get_object_or_404
from drf_spectacular.helpers import forced_singular_serializer
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers, status
from rest_framework.decorators import action
from rest_framework.exceptions import ValidationError
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from connectors.admin.mapping_editor import look_now, proposals_of, read_record
from connectors.admin.mapping_saving import MAY_READ, may_change, may_change_options, save_file, save_pairs, save_rows
from connectors.api.base import Acts
from connectors.models import EntitySync, FieldMapping, RecordLink, SchemaDrift
from connectors.sync import drafts, drift, mapping_files, optioning, trying
from connectors.sync.drafts import COLUMNS, MappingsError, Row, StaleMappings
from connectors.sync.rules import LEFT, RIGHT
from connectors.sync.schema import SIDES, Schema, stored

SYNC = OpenApiParameter("sync_id", int, OpenApiParameter.PATH)
MAPPING = OpenApiParameter("id", int, OpenApiParameter.PATH)
REVISION = OpenApiParameter("revision", int, required=True, description="Of the entity sync's settings, as read.")
WHAT = OpenApiParameter("what", str, enum=list(mapping_files.RESOURCES), default=mapping_files.FIELDS)
MOST = 500
MOST_NUMBER = 2**31 - 1


class RowSerializer(serializers.Serializer[Any]):
    """One mapping; what is left out has its usual value, or stays as it is."""

    left = serializers.CharField(max_length=100, allow_blank=True, required=False)
    right = serializers.CharField(max_length=100, allow_blank=True, required=False)
    direction = serializers.ChoiceField(list(drafts.DIRECTIONS.items()), required=False)
    policy = serializers.ChoiceField(
        [(v, label) for v, label in drafts.POLICIES.items() if v], required=False, allow_blank=True
    )
    transform = serializers.CharField(max_length=40, allow_blank=True, required=False)
    args = serializers.DictField(required=False)
    constant = serializers.JSONField(required=False, allow_null=True)
    when = serializers.ChoiceField(list(drafts.WHENS.items()), required=False)
    guard = serializers.ChoiceField([("overwrite", "Overwrite")], required=False, allow_blank=True)
    required = serializers.BooleanField(required=False)  # type: ignore[assignment]  # the column is named so
    unmapped = serializers.ChoiceField(list(drafts.UNMAPPED.items()), required=False, allow_blank=True)
    default = serializers.CharField(max_length=200, allow_blank=True, required=False)


class WriteSerializer(RowSerializer):
    """A mapping to make or change, on the settings of this revision."""

    revision = serializers.IntegerField(min_value=0, max_value=MOST_NUMBER)
    position = serializers.IntegerField(min_value=0, max_value=MOST, required=False)


class MappingSerializer(RowSerializer):
    """A stored mapping, with how well its fields fit."""

    id = serializers.IntegerField()
    name = serializers.CharField()
    fit = serializers.CharField()
    why = serializers.CharField(allow_blank=True)


class MappingsSerializer(serializers.Serializer[Any]):
    """All mappings of an entity sync, in their order."""

    revision = serializers.IntegerField()
    mappings = MappingSerializer(many=True)
    changed = serializers.ListField(child=serializers.CharField(), required=False)


class ProposalSerializer(serializers.Serializer[Any]):
    """Two fields that may be the same; nothing is mapped by itself."""

    left = serializers.CharField()
    right = serializers.CharField()
    direction = serializers.CharField()
    similarity = serializers.IntegerField()
    reason = serializers.CharField()
    warning = serializers.CharField(allow_blank=True)


class TestSerializer(serializers.Serializer[Any]):
    """Which record to try; with `mappings` instead of the stored ones."""

    record = serializers.IntegerField(min_value=1, max_value=2**63 - 1, help_text="Number of the link")
    mappings = RowSerializer(many=True, required=False)


class WaySerializer(serializers.Serializer[Any]):
    """One direction: what goes in, what comes out, or why nothing does."""

    to = serializers.CharField()
    given = serializers.CharField(allow_blank=True)
    out = serializers.CharField(allow_blank=True)
    there = serializers.CharField(allow_blank=True)
    error = serializers.CharField(allow_blank=True)
    note = serializers.CharField(allow_blank=True)


class TriedSerializer(serializers.Serializer[Any]):
    """One mapping tried on the record."""

    title = serializers.CharField()
    error = serializers.CharField(allow_blank=True)
    ways = WaySerializer(many=True)


class OptionSerializer(serializers.Serializer[Any]):
    """An option without partner, and how many records stand still for it."""

    key = serializers.CharField(source="option.key")
    label = serializers.CharField(source="option.label", allow_blank=True)  # type: ignore[assignment]  # the field is named so
    records = serializers.IntegerField(source="count")


class PairSerializer(serializers.Serializer[Any]):
    """Two options that agree."""

    left_key = serializers.CharField(max_length=200)
    right_key = serializers.CharField(max_length=200)
    left_label = serializers.CharField(max_length=200, allow_blank=True, required=False)
    right_label = serializers.CharField(max_length=200, allow_blank=True, required=False)
    writes_left = serializers.BooleanField(required=False, allow_null=True)
    writes_right = serializers.BooleanField(required=False, allow_null=True)


class PicklistSerializer(serializers.Serializer[Any]):
    """One picklist."""

    mapping = serializers.IntegerField()
    name = serializers.CharField()
    unmapped = serializers.CharField(allow_blank=True)
    default = serializers.CharField(allow_blank=True)
    pairs = PairSerializer(many=True)
    left_without = OptionSerializer(many=True)
    right_without = OptionSerializer(many=True)
    proposals = PairSerializer(many=True)


class PicklistsSerializer(serializers.Serializer[Any]):
    """All picklists of an entity sync."""

    revision = serializers.IntegerField()
    picklists = PicklistSerializer(many=True)
    changed = serializers.ListField(child=serializers.CharField(), required=False)


class SavePairsSerializer(serializers.Serializer[Any]):
    """The pairs that one picklist shall have, all of them."""

    revision = serializers.IntegerField(min_value=0, max_value=MOST_NUMBER)
    mapping = serializers.IntegerField(min_value=1, max_value=2**63 - 1)
    pairs = PairSerializer(many=True)
    unmapped = serializers.ChoiceField(list(drafts.UNMAPPED.items()), required=False)
    default = serializers.CharField(max_length=200, allow_blank=True, required=False)


class FileSerializer(serializers.Serializer[Any]):
    """A CSV as text."""

    what = serializers.ChoiceField([(name, name) for name in mapping_files.RESOURCES])
    csv = serializers.CharField(allow_blank=True)


class ImportSerializer(FileSerializer):
    """A file to take: without `confirm` its difference is answered, with the difference's `print` it is carried out."""

    csv = serializers.CharField(max_length=mapping_files.MOST_BYTES)
    remove = serializers.BooleanField(default=False)
    confirm = serializers.CharField(max_length=64, allow_blank=True, default="")


class ChangedRowSerializer(serializers.Serializer[Any]):
    """What changes of one row."""

    row = serializers.CharField()
    changes = serializers.ListField(child=serializers.CharField())


class FaultSerializer(serializers.Serializer[Any]):
    """What is wrong in a file, and where."""

    line = serializers.IntegerField()
    column = serializers.CharField(allow_blank=True)
    message = serializers.CharField()


class DifferenceSerializer(serializers.Serializer[Any]):
    """What a file changes."""

    revision = serializers.IntegerField()
    saved = serializers.BooleanField()
    print = serializers.CharField()
    added = serializers.ListField(child=serializers.CharField())
    changed = ChangedRowSerializer(many=True)
    removed = serializers.ListField(child=serializers.CharField())
    left_alone = serializers.ListField(child=serializers.CharField())
    unchanged = serializers.IntegerField()
    faults = FaultSerializer(many=True)


class DriftSerializer(serializers.ModelSerializer[SchemaDrift]):
    """What of a system's schema has gone or changed from under a mapping."""

    class Meta:
        model = SchemaDrift
        fields = ["id", "side", "kind", "field", "option", "field_mapping", "message", "first_seen", "last_seen"]


class SchemaSerializer(serializers.Serializer[Any]):
    """When both schemas were read, and what has drifted."""

    left_read_at = serializers.DateTimeField(allow_null=True)
    right_read_at = serializers.DateTimeField(allow_null=True)
    failures = serializers.ListField(child=serializers.CharField())
    drift = DriftSerializer(many=True)


class MayAsk(BasePermission):
    """Asking the systems changes no setting, but it calls them: not for viewers."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        needed = ["connectors.view_fieldmapping", "connectors.view_recordlink", MAY_READ]
        return bool(request.user and request.user.has_perms(needed))


class MaySet(BasePermission):
    """Mappings and options are settings."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        return bool(request.user) and may_change(request.user) and may_change_options(request.user)


class MappingViewSet(Acts):
    """entity-syncs/<id>/mappings/"""

    queryset = FieldMapping.objects.all()
    serializer_class = MappingsSerializer
    pagination_class = None
    filter_backends = ()
    tagged = False  # `revision` says what was seen: of all settings, since they hang together

    def get_permissions(self) -> list[Any]:
        """By what an action does, whatever its method."""
        if self.action in ("test", "read_schema"):
            return [MayAsk()]
        if self.request.method not in ("GET", "HEAD", "OPTIONS"):
            return [MaySet()]
        return super().get_permissions()

    def _sync(self, sync_id: str) -> EntitySync:
        return get_object_or_404(
            EntitySync.objects.select_related("integration__left", "integration__right"), pk=_number(sync_id)
        )

    @extend_schema(parameters=[SYNC], responses=forced_singular_serializer(MappingsSerializer))
    def list(self, request: Request, sync_id: str) -> Response:
        """All mappings in their order."""
        return Response(_shown(self._sync(sync_id)))

    @extend_schema(parameters=[SYNC], request=WriteSerializer, responses={201: MappingsSerializer})
    def create(self, request: Request, sync_id: str) -> Response:
        """Add a mapping, at its position or at the end."""
        sync, given = self._sync(sync_id), _given(WriteSerializer, request)
        rows = drafts.rows_of(sync)
        rows.insert(given.get("position", len(rows)), Row(**_columns(given)))
        return self._save(request, sync, rows, given["revision"], status.HTTP_201_CREATED)

    @extend_schema(parameters=[SYNC, MAPPING], request=WriteSerializer, responses={200: MappingsSerializer})
    def partial_update(self, request: Request, sync_id: str, pk: str) -> Response:
        """Change a mapping; what is left out stays."""
        sync, given = self._sync(sync_id), _given(WriteSerializer, request)
        rows = drafts.rows_of(sync)
        place = self._place(sync, rows, pk)
        row = replace(rows.pop(place), **_columns(given))
        rows.insert(given.get("position", place), row)
        return self._save(request, sync, rows, given["revision"])

    @extend_schema(parameters=[SYNC, MAPPING, REVISION], responses={200: MappingsSerializer})
    def destroy(self, request: Request, sync_id: str, pk: str) -> Response:
        """Remove a mapping, with the pairs of its options."""
        sync = self._sync(sync_id)
        rows = drafts.rows_of(sync)
        rows.pop(self._place(sync, rows, pk))
        told = request.query_params.get("revision", "")
        if not (told.isdecimal() and int(told) <= MOST_NUMBER):
            raise ValidationError({"revision": ["Say which revision of the settings you have seen."]})
        return self._save(request, sync, rows, int(told))

    def _place(self, sync: EntitySync, rows: Sequence[Row], pk: str) -> int:
        found = get_object_or_404(FieldMapping, pk=_number(pk), entity_sync=sync)
        return next(place for place, row in enumerate(rows) if row.id == found.pk)

    def _save(
        self, request: Request, sync: EntitySync, rows: Sequence[Row], revision: int, code: int = 200
    ) -> Response:
        def act() -> Response:
            said = save_rows(sync, rows, request.user, revision=revision)
            return Response({**_shown(sync), "changed": said}, status=code)

        return _told(act, sync)

    # Without a change

    @extend_schema(parameters=[SYNC], responses=ProposalSerializer(many=True))
    @action(detail=False, methods=["get"])
    def proposals(self, request: Request, sync_id: str) -> Response:
        """Fields that look the same and are not mapped yet."""
        sync = self._sync(sync_id)
        found = proposals_of(sync, stored(sync.integration), drafts.rows_of(sync))
        return Response(ProposalSerializer(found, many=True).data)

    @extend_schema(parameters=[SYNC], request=TestSerializer, responses={200: TriedSerializer(many=True)})
    @action(detail=False, methods=["post"])
    def test(self, request: Request, sync_id: str) -> Response:
        """Try the mappings on one record, in both directions; both systems are asked, nothing is written."""
        sync, given = self._sync(sync_id), _given(TestSerializer, request)
        link = get_object_or_404(RecordLink, pk=given["record"], entity_sync=sync)
        schema = stored(sync.integration)
        rows = [Row(**_columns(line)) for line in given["mappings"]] if "mappings" in given else drafts.rows_of(sync)

        def act() -> Response:
            records = read_record(link, sync, schema, request.user.pk)
            return Response(TriedSerializer(trying.attempt(sync, rows, schema, records), many=True).data)

        return self.refused(act)

    # Options

    @extend_schema(parameters=[SYNC], responses={200: PicklistsSerializer})
    @action(detail=False, methods=["get"], url_path="options")
    def picklists(self, request: Request, sync_id: str) -> Response:
        """The picklists: pairs, options without partner with the records that wait, proposals."""
        sync = self._sync(sync_id)
        return Response(_picklists(sync, stored(sync.integration)))

    @extend_schema(parameters=[SYNC], request=SavePairsSerializer, responses={200: PicklistsSerializer})
    @action(detail=False, methods=["post"], url_path="options/save")
    def save_options(self, request: Request, sync_id: str) -> Response:
        """Make the pairs of one picklist these."""
        sync, given = self._sync(sync_id), _given(SavePairsSerializer, request)
        mapping = get_object_or_404(FieldMapping, pk=given["mapping"], entity_sync=sync)
        mapping.entity_sync = sync
        schema = stored(sync.integration)
        pairs = [optioning.PairRow(**pair) for pair in given["pairs"]]

        def act() -> Response:
            said = save_pairs(
                mapping, pairs, given.get("unmapped", mapping.unmapped or "park"), given.get("default", mapping.default),
                request.user, revision=given["revision"], schema=schema,
            )  # fmt: skip
            return Response({**_picklists(sync, schema), "changed": said})

        return _told(act, sync)

    # Files

    @extend_schema(parameters=[SYNC, WHAT], responses={200: FileSerializer, 400: OpenApiTypes.OBJECT})
    @action(detail=False, methods=["get"])
    def export(self, request: Request, sync_id: str) -> Response:
        """Mappings, or options, as CSV."""
        what = request.query_params.get("what", mapping_files.FIELDS)
        if what not in mapping_files.RESOURCES:
            raise ValidationError({"what": [f"One of: {', '.join(mapping_files.RESOURCES)}."]})
        return Response({"what": what, "csv": mapping_files.export(self._sync(sync_id), what)})

    @extend_schema(parameters=[SYNC], request=ImportSerializer, responses={200: DifferenceSerializer})
    @action(detail=False, methods=["post"], url_path="import")
    def take(self, request: Request, sync_id: str) -> Response:
        """Say what a file would change; with its `print` as `confirm`, change it."""
        sync, given = self._sync(sync_id), _given(ImportSerializer, request)
        schema, what, text = stored(sync.integration), given["what"], given["csv"].replace("\r\n", "\n")
        found = mapping_files.read(sync, what, text, schema, remove=given["remove"], revision=sync.revision)
        if found.faults or not given["confirm"]:
            return Response({**found.as_dict(), "revision": sync.revision, "saved": False})

        def act() -> Response:
            if given["confirm"] != found.print:
                raise StaleMappings(["the settings, or the file, since its difference was shown"])
            save_file(sync, found, request.user, revision=sync.revision, schema=schema)
            return Response({**found.as_dict(), "revision": sync.revision, "saved": True})

        return _told(act, sync)

    # The schema

    @extend_schema(parameters=[SYNC], responses={200: SchemaSerializer})
    @action(detail=False, methods=["get"])
    def drift(self, request: Request, sync_id: str) -> Response:
        """What of both schemas has gone or changed from under the mappings."""
        return Response(_drift(self._sync(sync_id)))

    @extend_schema(parameters=[SYNC], request=None, responses={200: SchemaSerializer})
    @action(detail=False, methods=["post"], url_path="schema")
    def read_schema(self, request: Request, sync_id: str) -> Response:
        """Ask both systems what they have now."""
        sync = self._sync(sync_id)

        def act() -> Response:
            look_now(sync)
            return Response(_drift(sync))

        return self.refused(act)


def _number(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) < 19 else 0


def _given(cls: Any, request: Request) -> dict[str, Any]:
    asked = cls(data=request.data)
    asked.is_valid(raise_exception=True)
    return dict(asked.validated_data)


def _columns(given: dict[str, Any]) -> dict[str, Any]:
    return {name: given[name] for name in COLUMNS if name in given}


def _told(act: Callable[[], Response], sync: EntitySync) -> Response:
    try:
        return act()
    except StaleMappings as refusal:
        return Response({"detail": str(refusal), "problems": refusal.changed}, status=status.HTTP_409_CONFLICT)
    except MappingsError as refusal:
        answer: dict[str, object] = {"detail": " ".join(refusal.problems), "problems": refusal.problems}
        fields = {name: [text] for own in refusal.rows.values() for name, text in own.items()}
        return Response({**fields, **answer}, status=status.HTTP_400_BAD_REQUEST)


def _shown(sync: EntitySync) -> dict[str, object]:
    schema = stored(sync.integration)
    revision = EntitySync.objects.values_list("revision", flat=True).get(pk=sync.pk)
    return {"revision": revision, "mappings": [_mapping(sync, row, schema) for row in drafts.rows_of(sync)]}


def _mapping(sync: EntitySync, row: Row, schema: Schema) -> dict[str, object]:
    judged = drafts.fit_of(sync, row, schema)
    return {
        **asdict(row), "name": row.name, "fit": judged.word if judged else "Not checked yet", "why": judged.why if judged else "",
    }  # fmt: skip


def _picklists(sync: EntitySync, schema: Schema) -> dict[str, object]:
    return {
        "revision": EntitySync.objects.values_list("revision", flat=True).get(pk=sync.pk),
        "picklists": [
            {
                "mapping": one.mapping.pk, "name": one.mapping.name, "unmapped": one.mapping.unmapped, "default": one.mapping.default,
                "pairs": PairSerializer(one.pairs, many=True).data,
                **{f"{side}_without": OptionSerializer(one.unmapped[side], many=True).data for side in SIDES},
                "proposals": [
                    {"left_key": p.left.key, "left_label": p.left.label, "right_key": p.right.key, "right_label": p.right.label}
                    for p in one.proposals
                ],
            }
            for one in optioning.picklists(sync, schema)
        ],
    }  # fmt: skip


def _drift(sync: EntitySync) -> dict[str, object]:
    schema = stored(sync.integration)
    return {
        "left_read_at": schema.read_at.get(LEFT), "right_read_at": schema.read_at.get(RIGHT), "failures": list(schema.errors.values()),
        "drift": DriftSerializer(drift.open_drifts(sync=sync), many=True).data,
    }  # fmt: skip
