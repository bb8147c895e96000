"""What do the admin, the API and the command share when they promote records?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Count

from connectors.models import EntitySync, Integration, Promotion
from connectors.sync.choosing import Wanted, source_of, waiting
from connectors.sync.promotions import NotPromotable, Requested, requeue
from jobs import clock
from jobs.syncing import request_promotion, request_sync

if TYPE_CHECKING:
    from jobs.models import Job, Person

MOST_NOW = 50  # records that go at once; more are for the bulk service
MOST_CHOSEN = 10_000  # records of one request


def promote_some(
    sync: EntitySync, record_ids: Sequence[str], *, by: Person, bulk: bool
) -> tuple[Requested, Job | None]:
    """Promote records that a person has chosen: a few at once, many with the bulk service.

    Raises NotPromotable where they are too many, NotNow where the integration is switched off.
    """
    if len(record_ids) > MOST_CHOSEN:
        raise NotPromotable(f"At most {MOST_CHOSEN:,} records are queued at once; narrow the filter.")
    if len(record_ids) > MOST_NOW and not bulk:
        raise NotPromotable(f"At most {MOST_NOW} records go at once. Queue more for the bulk service.")
    return request_promotion(sync.integration, sync.name, list(record_ids), by=by, bulk=bulk)


def waiting_ids(sync: EntitySync, wanted: Wanted) -> list[str]:
    """Return the ids of all records that a filter holds for and that can be promoted.  Raises NotPromotable."""
    return [str(record_id) for record_id in waiting(sync, wanted).values_list(f"{source_of(sync)}_id", flat=True)]


def ask_again(promotions: Iterable[int], *, by: Person, at_once: bool) -> tuple[Requested, list[Job]]:
    """Queue promotions again that failed or were taken back; at once: ask for the runs that carry them out.

    Raises NotPromotable, and NotNow for an integration that is switched off.
    """
    whole = Requested()
    jobs: list[Job] = []
    with transaction.atomic():
        found = requeue(promotions, by=by if isinstance(by, User) else None, now=clock.now(), at_once=at_once)
        going: dict[int, Integration] = {}
        for sync, requested in found.items():
            whole.queued.extend(requested.queued)
            whole.already.extend(requested.already)
            whole.refused.update(requested.refused)
            if at_once and requested.queued:
                going[sync.integration_id] = sync.integration
        jobs += [request_sync(integration, by=by) for integration in going.values()]
    return whole, jobs


def waiting_notices(integrations: Iterable[Integration]) -> list[tuple[Integration, str]]:
    """Say where records wait for a bulk service that does not run."""
    notices: list[tuple[Integration, str]] = []
    queued = Promotion.objects.filter(status=Promotion.Status.QUEUED, waits=True)
    rows = queued.values_list("entity_sync__integration", "entity_sync__name").annotate(total=Count("id")).order_by()
    counted: dict[int, dict[str, int]] = {}
    for integration_id, name, total in rows:
        counted.setdefault(integration_id, {})[name] = total
    for integration in integrations:
        if integration.pk in counted:
            notices += [(integration, sentence) for sentence in _sentences(integration, counted[integration.pk])]
    return notices


def _sentences(integration: Integration, waiting: dict[str, int]) -> list[str]:
    services = [service for service in integration.services.all() if service.work == "promoted"]  # may be prefetched
    running = [service for service in services if service.enabled]
    taken = {name for name in waiting if any(not service.entities or name in service.entities for service in running)}
    left = {name: total for name, total in waiting.items() if name not in taken}
    total = sum(left.values())
    if not total:
        return []
    many = f"{total:,} record{'s' if total != 1 else ''} wait{'' if total != 1 else 's'}"
    off = next((s for s in services if not s.enabled and (not s.entities or left.keys() & set(s.entities))), None)
    if off is not None:
        return [f"{many} for the service '{off}', which is switched off."]
    return [f"{many} for a bulk service, but {integration} has none. Add one, or promote them now."]
