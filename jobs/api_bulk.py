"""How does a program do one thing to many jobs?  It counts first, and says how many it expects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.exceptions import ValidationError
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers, status
from rest_framework.decorators import action
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from config import audit
from connectors.models import Connection, Integration, Run, Scope
from jobs import bulk
from jobs.filters import JobFilter
from jobs.models import Job
from jobs.retries import ErrorClass
from jobs.states import Priority, StatusReason

if TYPE_CHECKING:
    from rest_framework.viewsets import GenericViewSet as Base
else:
    Base = object


class JobsMeantSerializer(serializers.Serializer[Any]):
    """Which jobs: what the list can be narrowed by.  At least one of them: an empty filter would mean all jobs."""

    ids = serializers.ListField(child=serializers.IntegerField(min_value=1), required=False, max_length=bulk.MOST)
    status_reason = serializers.ListField(
        child=serializers.ChoiceField(choices=StatusReason.choices), required=False, allow_empty=False
    )
    type = serializers.CharField(max_length=60, required=False)
    priority = serializers.ChoiceField(choices=Priority.choices, required=False)
    connection = serializers.PrimaryKeyRelatedField(queryset=Connection.objects.all(), required=False)
    integration = serializers.PrimaryKeyRelatedField(queryset=Integration.objects.all(), required=False)
    scope = serializers.PrimaryKeyRelatedField(queryset=Scope.objects.all(), required=False)
    run = serializers.PrimaryKeyRelatedField(queryset=Run.objects.all(), required=False)
    object_ref = serializers.CharField(max_length=200, required=False)
    lock_key = serializers.CharField(max_length=200, required=False)
    error_class = serializers.ChoiceField(choices=[kind.value for kind in ErrorClass], required=False)
    error_code = serializers.CharField(max_length=100, required=False)
    fingerprint = serializers.CharField(max_length=40, required=False)
    created_after = serializers.DateTimeField(required=False)
    created_before = serializers.DateTimeField(required=False)
    finished_after = serializers.DateTimeField(required=False)
    finished_before = serializers.DateTimeField(required=False)
    stuck = serializers.BooleanField(required=False)
    aside = serializers.BooleanField(required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Nobody means all jobs by leaving it empty."""
        if not attrs:
            raise serializers.ValidationError("Name at least one: ids, status_reason, type...")
        return attrs


class JobBulkSerializer(serializers.Serializer[Any]):
    """What to do to which jobs.  With `dry_run` nothing is done; without, `expected_count` is the `eligible` of a dry run."""

    action = serializers.ChoiceField(choices=list(bulk.VERBS))
    filter = JobsMeantSerializer()
    dry_run = serializers.BooleanField(default=False)
    expected_count = serializers.IntegerField(min_value=0, required=False)
    reason = serializers.CharField(max_length=500, required=False, allow_blank=True, default="")
    run_at = serializers.DateTimeField(required=False)  # of reschedule

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Doing it needs a count, rescheduling a moment."""
        if not attrs["dry_run"] and "expected_count" not in attrs:
            raise serializers.ValidationError({"expected_count": ["Do a dry run first, and give its `eligible` here."]})
        if attrs["action"] == bulk.RESCHEDULE.name and "run_at" not in attrs and not attrs["dry_run"]:
            raise serializers.ValidationError({"run_at": ["Say when."]})
        return attrs


class JobsNotEligibleSerializer(serializers.Serializer[Any]):
    """Why jobs stay as they are, and how many."""

    reason = serializers.CharField()
    count = serializers.IntegerField()


class JobLeftSerializer(serializers.Serializer[Any]):
    """A job that was left as it is after all."""

    job = serializers.IntegerField()
    reason = serializers.CharField()


class JobBulkAnswerSerializer(serializers.Serializer[Any]):
    """What would be done (`dry_run`), or what was: counted to 10,000, `capped` where there are more."""

    eligible = serializers.IntegerField()
    capped = serializers.BooleanField()
    not_eligible = JobsNotEligibleSerializer(many=True)
    first = serializers.ListField(child=serializers.IntegerField())
    done = serializers.ListField(child=serializers.IntegerField())
    left = JobLeftSerializer(many=True)


class JobBulkChangedSerializer(JobBulkAnswerSerializer):
    """It is not what was counted any more: nothing was done."""

    detail = serializers.CharField()


class MayBulk(BasePermission):
    """The right of what is done; which that is stands in the body."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        if not request.user:
            return False  # before the body is looked at
        named = request.data.get("action") if isinstance(request.data, dict) else None
        verb = bulk.VERBS.get(named) if isinstance(named, str) else None
        needed = [verb.permission] if verb is not None else sorted({one.permission for one in bulk.VERBS.values()})
        return bool(request.user.has_perms(["jobs.view_job", *needed]))


class BulkActions(Base):
    """Adds POST bulk/."""

    @extend_schema(
        request=JobBulkSerializer,
        responses={
            200: JobBulkAnswerSerializer,
            409: OpenApiResponse(JobBulkChangedSerializer, description="Another count."),
        },
    )
    @action(detail=False, methods=["post"], pagination_class=None, filter_backends=[])
    def bulk(self, request: Request) -> Response:
        """Count what would be done to many jobs, or do it: retry, cancel, run-now, reschedule."""
        asked = JobBulkSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        given = asked.validated_data
        verb, rows = bulk.VERBS[given["action"]], rows_of(given["filter"])
        if given["dry_run"]:
            return Response(_told(bulk.look(verb, rows, run_at=given.get("run_at"))))
        wanted = bulk.Asked(request.user, given["reason"] or "through the API", given.get("run_at"))
        try:
            outcome = bulk.perform(verb, rows, given["expected_count"], wanted)
        except bulk.Changed as changed:
            return Response(
                {**_told(changed.outlook), "detail": str(changed)}, status=status.HTTP_409_CONFLICT
            )  # fmt: skip
        except ValidationError as wrong:
            raise serializers.ValidationError(wrong.message_dict) from wrong
        if outcome.done:
            told = f"{verb.done.capitalize()} together through the API"
            told = f"{told}: {given['reason']}." if given["reason"] else f"{told}."
            audit.log_together(request.user, Job, told, outcome.done)
        left = [{"job": pk, "reason": why} for pk, why in outcome.refused]
        return Response(
            {
                "eligible": len(outcome.done) + len(left), "capped": False, "not_eligible": [], "first": [],
                "done": outcome.done, "left": left,
            }
        )  # fmt: skip


def rows_of(given: dict[str, Any]) -> Any:
    """Return the jobs that a body's filter means, by the filter of the list."""
    plain: dict[str, Any] = {name: getattr(value, "pk", value) for name, value in given.items()}
    if "ids" in plain:
        plain["ids"] = ",".join(str(pk) for pk in plain["ids"]) or "0"
    for name in ("stuck", "aside"):
        if name in plain:
            plain[name] = "true" if plain[name] else "false"
    for name, value in plain.items():
        if hasattr(value, "isoformat"):
            plain[name] = value.isoformat()
    narrowed = JobFilter(plain, queryset=Job.objects.all())
    if not narrowed.is_valid():
        raise serializers.ValidationError({"filter": narrowed.errors})
    return narrowed.qs


def _told(outlook: bulk.Outlook) -> dict[str, object]:
    return {
        "eligible": outlook.eligible, "capped": outlook.capped,
        "not_eligible": [{"reason": why, "count": count} for why, count in outlook.others],
        "first": [job.pk for job in outlook.first], "done": [], "left": [],
    }  # fmt: skip
