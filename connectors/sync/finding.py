"""Where is the link of a record whose id is known, and where are the changes of a run?"""

from __future__ import annotations

from django.db.models import Q, Subquery

from connectors.models import EntitySync, RecordChange
from connectors.sync.rules import LEFT, RIGHT, Side


def held_by(record_id: str, sides: tuple[Side, ...] = (LEFT, RIGHT)) -> Q:
    """Return what finds the links of a record's id on these sides.

    It repeats the columns of the unique indexes that begin with integration and family: the id alone has no index.
    """
    found = Q(pk__in=[])
    for sync in EntitySync.objects.order_by().only("integration_id", "family", "left_entity", "right_entity"):
        where = Q(integration=sync.integration_id, family=sync.family)
        for side in sides:
            found |= where & Q(**{f"{side}_entity": getattr(sync, f"{side}_entity"), f"{side}_id": record_id})
    return found


def of_run(run: int) -> Q:
    """Return what finds the changes of a run, in whatever order they are asked for.

    It repeats where the first and the last one stand: a database that reads changes in their order would else look through
    those of all runs before or after this one.  Both are asked as a range, so that only the index on run and id can answer.
    """
    own = RecordChange.objects.filter(run__gte=run, run__lte=run).values("pk")
    first, last = own.order_by("run_id", "id")[:1], own.order_by("-run_id", "-id")[:1]
    return Q(run=run, pk__gte=Subquery(first), pk__lte=Subquery(last))
