"""Where is the link of a record whose id is known?"""

from __future__ import annotations

from django.db.models import Q

from connectors.models import EntitySync
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
