"""What does the API say about runs, and how are a preview ticked and approved, a guard accepted and a run undone?"""

from __future__ import annotations

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_field
from rest_framework import mixins, serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from connectors.api.base import Acts, accepted
from connectors.models import RecordChange, Run
from connectors.models.run import SIDES
from connectors.sync import proposals
from connectors.sync.explain import name_of
from connectors.sync.finding import of_run
from connectors.sync.proposals import KINDS, WrongChoice
from connectors.sync.run import describe
from connectors.sync.values import decode
from jobs.api import AcceptedSerializer
from jobs.syncing import accept_guard, approve_preview, decide_preview, decide_whole_preview, request_undo

MOST_DECIDED = 1000  # proposals in one request; a whole kind at once has no limit


class RunSerializer(serializers.ModelSerializer[Run]):
    """One run."""

    summary = serializers.SerializerMethodField()

    class Meta:
        model = Run
        fields = [
            "id", "integration", "scope", "purpose", "mode", "phase", "entities", "counts", "guard", "error", "summary",
            "started_at", "finished_at", "approved_at", "undoes",
        ]  # fmt: skip

    def get_summary(self, run: Run) -> str:
        """The line that people read."""
        return describe(run)


class RunDetailSerializer(RunSerializer):
    """One run, and what an approval of it has to carry along."""

    seen = serializers.SerializerMethodField(
        help_text="Send it as `expected` when you tick or approve; empty: nothing waits."
    )

    class Meta(RunSerializer.Meta):
        fields = [*RunSerializer.Meta.fields, "seen"]

    def get_seen(self, run: Run) -> str:
        """The state of the proposals as of now."""
        return proposals.seen(run)


class ProposedFieldSerializer(serializers.Serializer[Any]):
    """One field that a proposal would write."""

    name = serializers.CharField()
    left = serializers.JSONField(allow_null=True, help_text="What the left record holds now.")
    base = serializers.JSONField(allow_null=True, help_text="What both last agreed on.")
    agreed = serializers.BooleanField(help_text="Whether they ever agreed on this field.")
    right = serializers.JSONField(allow_null=True, help_text="What the right record holds now.")
    write = serializers.JSONField(allow_null=True, help_text="What would be written to `side`.")
    rule = serializers.CharField(help_text="Why.")
    ticked = serializers.BooleanField()
    fixed = serializers.CharField(help_text="Why it can't be left out by itself; empty: it can.")


class ProposedWriteSerializer(serializers.ModelSerializer[RecordChange]):
    """One proposed write: what each side holds, what would be written, and whether it is ticked."""

    kind = serializers.SerializerMethodField()
    name = serializers.SerializerMethodField()
    ticked = serializers.SerializerMethodField()
    stale = serializers.SerializerMethodField()
    proposed = serializers.SerializerMethodField()

    class Meta:
        model = RecordChange
        fields = [
            "id", "link", "entity_sync", "name", "side", "kind", "verb", "status", "ticked", "stale", "record_id", "message",
            "proposed",
        ]  # fmt: skip

    @extend_schema_field(serializers.ChoiceField(choices=KINDS))
    def get_kind(self, change: RecordChange) -> str:
        """Every removal is a delete, also one that makes the record inactive."""
        return proposals.kind_of(change)

    def get_name(self, change: RecordChange) -> str:
        """What people call the record."""
        link = change.link
        return name_of(link.base, change.after, link.left_staged, link.right_staged)

    def get_ticked(self, change: RecordChange) -> bool:
        """Whether an approval would write it."""
        return proposals.is_ticked(self.context["run"], change)

    def get_stale(self, change: RecordChange) -> bool:
        """Whether the record has changed since: then it stays out of what is written."""
        return change.link_revision != change.link.revision

    @extend_schema_field(ProposedFieldSerializer(many=True))
    def get_proposed(self, change: RecordChange) -> list[dict[str, object]]:
        """Field by field."""
        run, link = self.context["run"], change.link
        base, left_out, rules = decode(link.base), decode(change.left_out), decode(change.rule)
        after = decode(change.after)
        now = {side: proposals.now_of(link, side) or {} for side in ("left", "right")}
        names = decode(change.before) if proposals.is_removal(change) else after
        return [
            {
                "name": name,
                "left": now["left"].get(name),
                "base": base.get(name),
                "agreed": name in base,
                "right": now["right"].get(name),
                "write": after.get(name),
                "rule": str(rules.get(name, rules.get("*", ""))),
                "ticked": proposals.is_ticked(run, change) and name not in left_out,
                "fixed": proposals.why_fixed(run, change, name),
            }
            for name in sorted(names)
            if not name.startswith("~") or name == "~archived"
        ]


class RecordTickSerializer(serializers.Serializer[Any]):
    """What is decided about one proposal."""

    id = serializers.IntegerField(min_value=1, max_value=2**63 - 1)
    tick = serializers.BooleanField(
        required=False, allow_null=True, default=None, help_text="Leave it out to keep it as it is."
    )
    fields_ = serializers.DictField(child=serializers.BooleanField(), required=False, default=dict)

    def get_fields(self) -> dict[str, Any]:
        """In JSON it is called `fields`, which means something else in a serializer."""
        found = super().get_fields()
        return {name.rstrip("_"): field for name, field in found.items()}


class WholeSerializer(serializers.Serializer[Any]):
    """All proposals of a kind and side at once."""

    tick = serializers.BooleanField()
    kind = serializers.ChoiceField(choices=KINDS, default="", allow_blank=True, help_text="Empty: all but removals.")
    side = serializers.ChoiceField(choices=SIDES, default="", allow_blank=True)
    confirmed = serializers.IntegerField(
        required=False, allow_null=True, default=None, min_value=0, max_value=2**31 - 1,
        help_text="How many records may be removed: needed to tick all removals.",
    )  # fmt: skip


class DecideSerializer(serializers.Serializer[Any]):
    """What is ticked and what is left out: single proposals and fields, or a whole kind."""

    records = RecordTickSerializer(many=True, required=False, default=list, max_length=MOST_DECIDED)  # type: ignore[call-arg]
    all = WholeSerializer(required=False, allow_null=True, default=None)
    expected = serializers.CharField(
        required=False, allow_null=True, default=None, max_length=40,
        help_text="`seen` of the run as you read it: where the proposals are no longer so, it is refused with what changed.",
    )  # fmt: skip

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """One of the two."""
        if bool(attrs["records"]) == bool(attrs["all"]):
            raise serializers.ValidationError({"records": "Name records, or all of a kind: one of the two."})
        return attrs


class DecidedSerializer(serializers.Serializer[Any]):
    """How many proposals that changed, and what the next request has to expect."""

    changed = serializers.IntegerField()
    ticked = serializers.IntegerField()
    proposed = serializers.IntegerField()
    seen = serializers.CharField()


class ApproveSerializer(serializers.Serializer[Any]):
    """Whether what the guard warns of is meant, and what was seen."""

    accept_guard = serializers.BooleanField(default=False)
    expected = serializers.CharField(
        required=False, allow_null=True, default=None, max_length=40,
        help_text="`seen` of the run as you read it: where the proposals are no longer so, it is refused with what changed.",
    )  # fmt: skip


class ApprovedSerializer(AcceptedSerializer):
    """How many proposals are written, and how many are not because their record has changed since."""

    approved = serializers.IntegerField()
    bounced = serializers.IntegerField()


class RunViewSet(mixins.ListModelMixin, mixins.RetrieveModelMixin, Acts):
    """Runs: read, tick and approve what a preview proposes, accept a guard, undo."""

    queryset = Run.objects.select_related("scope", "integration")
    serializer_class = RunSerializer
    filterset_fields = ["integration", "scope", "phase", "purpose", "mode"]
    acting = frozenset(["decide", "approve", "accept", "undo"])

    def get_serializer_class(self) -> type[Any]:
        """One run says more than a list of them."""
        return RunDetailSerializer if self.action == "retrieve" else RunSerializer

    @extend_schema(
        responses=ProposedWriteSerializer(many=True),
        parameters=[
            OpenApiParameter("kind", OpenApiTypes.STR, enum=list(KINDS)),
            OpenApiParameter("side", OpenApiTypes.STR, enum=["left", "right"]),
            OpenApiParameter("status", OpenApiTypes.STR, enum=list(RecordChange.Status.values)),
        ],
    )
    @action(detail=True, methods=["get"], filter_backends=[])
    def proposals(self, request: Request, pk: str) -> Response:
        """What the run proposes, or has planned and written: each side now, the base, what would be written, and why."""
        run = self.get_object()
        rows = RecordChange.objects.filter(of_run(run.pk)).select_related("link")
        kind, side, status = (request.query_params.get(name, "") for name in ("kind", "side", "status"))
        for name, value, known in (("kind", kind, KINDS), ("side", side, ("left", "right")),
                                   ("status", status, RecordChange.Status.values)):  # fmt: skip
            if value and value not in known:
                raise serializers.ValidationError({name: f"Choose one of {', '.join(known)}."})
        rows = proposals.of_kind(rows, kind, side)
        page = self.paginate_queryset(rows.filter(status=status) if status else rows)
        told = ProposedWriteSerializer(page, many=True, context={"run": run})
        return self.get_paginated_response(told.data)

    @extend_schema(request=DecideSerializer, responses=DecidedSerializer)
    @action(detail=True, methods=["post"])
    def decide(self, request: Request, pk: str) -> Response:
        """Tick what is to be written, leave out what is not: records, single fields, or all of a kind."""
        asked = DecideSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        run, told = self.get_object(), asked.validated_data

        def act() -> Response:
            if told["all"]:
                changed = decide_whole_preview(run, **told["all"], seen=told["expected"], by=request.user)
            else:
                ticks = {one["id"]: one["tick"] for one in told["records"] if one["tick"] is not None}
                fields = {one["id"]: one["fields"] for one in told["records"] if one["fields"]}
                changed = decide_preview(run, ticks, fields, seen=told["expected"], by=request.user)
            return Response(
                {
                    "changed": changed, "ticked": proposals.counted(run, "ticked"), "proposed": proposals.counted(run, "all"),
                    "seen": proposals.seen(run),
                }
            )  # fmt: skip

        try:
            return self.refused(act)
        except WrongChoice as wrong:
            raise serializers.ValidationError({wrong.field: [str(wrong)]}) from wrong

    @extend_schema(request=ApproveSerializer, responses={202: ApprovedSerializer})
    @action(detail=True, methods=["post"])
    def approve(self, request: Request, pk: str) -> Response:
        """Approve a preview: exactly what is ticked is written.  409 with what changed where it is not as expected."""
        asked = ApproveSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        run = self.get_object()

        def act() -> Response:
            job, approved, bounced = approve_preview(
                run,
                by=request.user,
                accept_guard=asked.validated_data["accept_guard"],
                seen=asked.validated_data["expected"],
            )
            return accepted(job, approved=approved, bounced=bounced)

        return self.refused(act)

    @extend_schema(request=None, responses={202: AcceptedSerializer})
    @action(detail=True, methods=["post"])
    def accept(self, request: Request, pk: str) -> Response:
        """Go on with a run that a guard stopped."""
        run = self.get_object()
        return self.refused(lambda: accepted(accept_guard(run, by=request.user)))

    @extend_schema(request=None, responses={202: AcceptedSerializer})
    @action(detail=True, methods=["post"])
    def undo(self, request: Request, pk: str) -> Response:
        """Propose what takes back all that a run wrote; approve it like any preview."""
        run = self.get_object()
        return self.refused(lambda: accepted(request_undo(run, by=request.user)))
