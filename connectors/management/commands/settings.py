"""Show and change an integration's settings, with the effect first; show who changed them, and go back."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from connectors.admin.integration_page import schedules_of
from connectors.contract import ConnectorError
from connectors.management.commands._common import integration_named
from connectors.models import EntitySync, Integration
from connectors.sync import amending, entity_settings, settings_history
from connectors.sync.amending import Proposal, StaleSettings
from connectors.sync.compile import SettingsError
from connectors.sync.effect import sentences
from connectors.sync.naming import names_of
from connectors.sync.restoring import NoSuchChange, propose_restore
from connectors.sync.schema import Schema
from connectors.sync.sentences import LABELS, integration_sentence, setting_words
from connectors.sync.switching import switch
from connectors.transport import connected, redaction
from jobs import clock

BY = "command line"


class Command(BaseCommand):
    """What the pages of settings and of their history do, without a browser."""

    help = __doc__

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("integration", help="name or number")
        what = parser.add_subparsers(dest="what", required=True)
        what.add_parser("show", help="what it does in words, and the settings of each entity sync")
        for name, about in (("effect", "tell what other settings would do"), ("set", "change settings")):
            changes = what.add_parser(name, help=about)
            changes.add_argument("entity_sync")
            changes.add_argument(
                "--set", action="append", default=[], required=True, metavar="NAME=JSON", help="such as policy=left, or "
                'filters=[{"side": "left", "field": "City", "op": "eq", "value": "Paris"}]',
            )  # fmt: skip
        history = what.add_parser("history", help="who changed what, newest first")
        history.add_argument("--json", action="store_true")
        restore = what.add_parser("restore", help="go back to the settings after a change")
        restore.add_argument("change", help="as `history` names it")
        restore.add_argument("--dry-run", action="store_true", help="only tell what it would do")
        pause = what.add_parser("pause", help="stop: no run starts until it goes on")
        pause.add_argument("--reason", default="")
        what.add_parser("go-on", help="let a stopped integration go on")

    def handle(self, *args: object, **options: Any) -> None:
        integration = integration_named(options["integration"])
        try:
            getattr(self, f"_{options['what'].replace('-', '_')}")(integration, options)
        except (SettingsError, StaleSettings, NoSuchChange) as error:
            raise CommandError(str(error)) from error
        except ConnectorError as error:
            raise CommandError(redaction.text(str(error))) from error

    def _show(self, integration: Integration, options: dict[str, Any]) -> None:
        names, syncs = names_of(integration), list(integration.entity_syncs.order_by("position", "id"))
        schedules = schedules_of([integration]).get(integration.pk, [])
        self.stdout.write(integration_sentence(names, syncs, schedules, enabled=integration.enabled))
        for sync in syncs:
            self.stdout.write(f"\n{sync.name}: {sync.left_entity}, {sync.right_entity}")
            for name, value in entity_settings.read(sync).items():
                self.stdout.write(f"  {LABELS[name]} ({name}): {setting_words(name, value, names)}")

    def _effect(self, integration: Integration, options: dict[str, Any]) -> None:
        self._tell(*self._proposed(integration, options))

    def _set(self, integration: Integration, options: dict[str, Any]) -> None:
        self._make(*self._proposed(integration, options))

    def _history(self, integration: Integration, options: dict[str, Any]) -> None:
        entries, _ = settings_history.timeline(integration)
        if options["json"]:
            self.stdout.write(json.dumps([entry.as_dict() for entry in entries], default=str))
            return
        for entry in entries:
            self.stdout.write(f"{entry.change}  {entry.at:%Y-%m-%d %H:%M} UTC  {entry.by or 'Syncline'}: {entry.why}")
            for line in entry.lines:
                self.stdout.write(f"    {line}")

    def _restore(self, integration: Integration, options: dict[str, Any]) -> None:
        proposal = propose_restore(integration, options["change"])
        known = amending.described(integration, connected, clock.now())
        (self._tell if options["dry_run"] else self._make)(proposal, known)

    def _pause(self, integration: Integration, options: dict[str, Any]) -> None:
        self.stdout.write(switch(integration, on=False, by=BY, now=clock.now(), reason=options["reason"]))

    def _go_on(self, integration: Integration, options: dict[str, Any]) -> None:
        self.stdout.write(switch(integration, on=True, by=BY, now=clock.now()))

    def _proposed(self, integration: Integration, options: dict[str, Any]) -> tuple[Proposal, Schema]:
        rows = EntitySync.objects.select_related("integration__left", "integration__right").prefetch_related("mappings")
        sync = rows.filter(integration=integration, name=options["entity_sync"]).first()
        if sync is None:
            known = ", ".join(integration.entity_syncs.values_list("name", flat=True))
            raise CommandError(f"{integration} has no entity sync {options['entity_sync']!r}. It has: {known}.")
        schema = amending.described(integration, connected, clock.now())
        values, problems = entity_settings.check(sync, schema, _given(options["set"]))
        if problems:
            raise CommandError(" ".join(f"{name}: {sentence}" for name, sentence in problems.items()))
        return entity_settings.propose(sync, values), schema

    def _tell(self, proposal: Proposal, known: Schema) -> None:
        for line in proposal.said or ("Nothing differs.",):
            self.stdout.write(line)
        for sentence in sentences(amending.effect_of(proposal, known.described, clock.now())):
            self.stdout.write(f"  {sentence}")

    def _make(self, proposal: Proposal, known: Schema) -> None:
        self._tell(proposal, known)
        if amending.commit(proposal, known.described, now=clock.now(), by=BY):
            self.stdout.write(self.style.SUCCESS("Saved. The next run reads everything again."))


def _given(pairs: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for pair in pairs:
        name, there, text = pair.partition("=")
        if not there:
            raise CommandError(f"--set wants NAME=JSON, not {pair!r}.")
        try:
            found[name] = json.loads(text)
        except json.JSONDecodeError:
            found[name] = text  # a word needs no quotes
    return found
