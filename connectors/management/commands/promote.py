"""Promote records that flow only on request.  `manage.py promote INTEGRATION ENTITY_SYNC [ID ...] [--all-waiting] [--bulk]`"""

from __future__ import annotations

from argparse import ArgumentParser

from django.core.management.base import BaseCommand, CommandError

from connectors.management.commands._common import integration_named
from connectors.management.promoting import waiting_ids
from connectors.models import EntitySync, Promotion
from connectors.sync.choosing import Wanted
from connectors.sync.promotions import NotPromotable, Requested, withdraw
from jobs.models import Job
from jobs.syncing import NotNow, request_promotion
from jobs.worker import JobBusy, run_here

Status = Promotion.Status


class Command(BaseCommand):
    help = "Write records to the side that takes them only on request: now, or in bulk with the service for them."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("integration")
        parser.add_argument("entity_sync", help="name of the entity sync, for example quote")
        parser.add_argument("id", nargs="*", help="ids in the system that the records are in")
        which = parser.add_mutually_exclusive_group()
        which.add_argument("--all-waiting", action="store_true", help="all records that wait to be promoted")
        which.add_argument(
            "--requeue", action="store_true",
            help="ask again for those whose last promotion failed or was taken back; without ids for all of them",
        )  # fmt: skip
        which.add_argument("--withdraw", action="store_true", help="take queued requests for these records back")
        parser.add_argument("--bulk", action="store_true", help="leave them queued until the bulk service takes them")
        parser.add_argument("--queue", action="store_true", help="leave it to a worker instead of running it here")

    def handle(self, *args: object, **options: object) -> None:
        sync = self._sync(str(options["integration"]), str(options["entity_sync"]))
        given = [str(i) for i in options["id"]]  # type: ignore[attr-defined]
        if bool(given) == bool(options["all_waiting"]) and not options["requeue"]:
            raise CommandError("Give the ids of the records, or --all-waiting.")
        if options["withdraw"]:
            self._withdraw(sync, given)
            return
        here = not options["queue"] and not options["bulk"]
        try:
            ids = given
            if options["all_waiting"]:
                ids = waiting_ids(sync, Wanted())
            elif options["requeue"]:
                ids = _failed(sync, given)
            requested, job = request_promotion(sync.integration, sync.name, ids, bulk=bool(options["bulk"]), here=here)
            if job is not None and here:
                run_here(job)
        except (NotNow, NotPromotable, JobBusy) as error:
            raise CommandError(str(error)) from error
        self._say(sync, requested, job)
        ended = [sync.promotions.filter(external_id=record_id).latest("id").status for record_id in requested.queued]
        if requested.refused or Status.ERROR in ended:
            raise CommandError("Not all of them could be promoted.")

    def _sync(self, integration: str, name: str) -> EntitySync:
        found = integration_named(integration)
        sync = found.entity_syncs.select_related("integration").filter(name=name).first()
        if sync is None:
            known = ", ".join(found.entity_syncs.values_list("name", flat=True))
            raise CommandError(f"{found} has no entity sync {name!r}. It has: {known}.")
        return sync

    def _say(self, sync: EntitySync, requested: Requested, job: Job | None) -> None:
        if not (requested.queued or requested.already or requested.refused):
            self.stdout.write("There is no such record to promote.")
        for record_id in requested.already:
            self.stdout.write(f"{record_id}: has a partner already")
        for record_id, why in requested.refused.items():
            self.stdout.write(self.style.ERROR(f"{record_id}: {why}"))
        for record_id in requested.queued:
            promotion = sync.promotions.filter(external_id=record_id).latest("id")
            self.stdout.write(f"{record_id}: {promotion.get_status_display()} {promotion.reason}".rstrip())
        if job is None and requested.queued:
            self.stdout.write("They wait for the bulk service.")

    def _withdraw(self, sync: EntitySync, ids: list[str]) -> None:
        queued = sync.promotions.filter(external_id__in=ids, status=Status.QUEUED)
        done = withdraw(queued.values_list("pk", flat=True))
        self.stdout.write(f"{done} of {len(ids)} taken back.")


def _failed(sync: EntitySync, ids: list[str]) -> list[str]:
    """Return the records whose last promotion failed or was taken back."""
    rows = sync.promotions.order_by("id").values_list("external_id", "status")
    last = dict(rows.filter(external_id__in=ids) if ids else rows)
    return [record_id for record_id, status in last.items() if status in (Status.ERROR, Status.WITHDRAWN)]
