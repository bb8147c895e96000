"""Promote records that flow only on request.  `manage.py promote INTEGRATION ENTITY_SYNC ID [ID ...]`"""

from __future__ import annotations

from argparse import ArgumentParser

from django.core.management.base import BaseCommand, CommandError

from connectors.management.commands._common import integration_named
from connectors.models import Integration, Promotion
from connectors.sync.promotions import NotPromotable, withdraw
from jobs.syncing import NotNow, request_promotion
from jobs.worker import JobBusy, run_here


class Command(BaseCommand):
    help = "Write records to the side that takes them only on request, now."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("integration")
        parser.add_argument("entity_sync", help="name of the entity sync, for example quote")
        parser.add_argument("id", nargs="+", help="ids in the system that the records are in")
        parser.add_argument("--withdraw", action="store_true", help="take queued requests for these records back")
        parser.add_argument("--queue", action="store_true", help="leave it to a worker instead of running it here")

    def handle(self, *args: object, **options: object) -> None:
        integration = integration_named(str(options["integration"]))
        ids = [str(i) for i in options["id"]]  # type: ignore[attr-defined]
        if options["withdraw"]:
            self._withdraw(integration, str(options["entity_sync"]), ids)
            return
        try:
            requested, job = request_promotion(integration, str(options["entity_sync"]), ids, here=not options["queue"])
            if job is not None and not options["queue"]:
                run_here(job)
        except (NotNow, NotPromotable, JobBusy) as error:
            raise CommandError(str(error)) from error
        for record_id in requested.already:
            self.stdout.write(f"{record_id}: has a partner already")
        for record_id, why in requested.refused.items():
            self.stdout.write(self.style.ERROR(f"{record_id}: {why}"))
        sync = integration.entity_syncs.get(name=options["entity_sync"])
        for record_id in requested.queued:
            promotion = sync.promotions.filter(external_id=record_id).latest("id")
            self.stdout.write(f"{record_id}: {promotion.get_status_display()} {promotion.reason}")

    def _withdraw(self, integration: Integration, entity_sync: str, ids: list[str]) -> None:
        queued = Promotion.objects.filter(
            entity_sync__integration=integration, entity_sync__name=entity_sync, external_id__in=ids, status="queued"
        )
        done = withdraw(queued.values_list("pk", flat=True))
        self.stdout.write(f"{done} of {len(ids)} taken back.")
