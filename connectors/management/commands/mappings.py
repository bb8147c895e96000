"""Which fields agree, and how is that looked at and changed?  `manage.py mappings list|propose|test|options|export|import|drift|schema`"""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from connectors.admin.mapping_editor import look_now, proposals_of, read_record
from connectors.contract import ConnectorError
from connectors.management.commands._common import integration_named
from connectors.models import EntitySync, RecordLink
from connectors.sync import drafts, drift, mapping_files, optioning, trying
from connectors.sync.compile import SettingsError
from connectors.sync.drafts import StaleMappings
from connectors.sync.mapping_files import FIELDS, RESOURCES
from connectors.sync.rules import LEFT
from connectors.sync.schema import SIDES, stored
from jobs import clock

BY = "manage.py mappings"


class Command(BaseCommand):
    help = "List, propose, test, export and import the mappings of an entity sync, and tell what its systems' schemas lost."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        for name, told in (
            ("list", "show the mappings"), ("propose", "fields that look the same and are not mapped"),
            ("test", "what the mappings make of one record"), ("options", "pairs of options, and options without partner"),
            ("export", "write a CSV"), ("import", "take a CSV"), ("drift", "what the schemas lost that mappings need"),
            ("schema", "ask both systems what they have now"),
        ):  # fmt: skip
            command = actions.add_parser(name, help=told)
            command.add_argument("integration", help="name or number")
            command.add_argument("sync", help="name of the entity sync")
            if name == "test":
                command.add_argument(
                    "record", nargs="?", default="", help="id on either side, or number of the link; else the last one"
                )
            if name in ("export", "import"):
                command.add_argument("--what", choices=list(RESOURCES), default=FIELDS)
                command.add_argument("--file", default="-", help="path; - is standard input or output")
            if name == "import":
                command.add_argument("--dry-run", action="store_true", help="only tell the difference")
                command.add_argument("--remove", action="store_true", help="remove what the file does not have")
            if name == "list":
                command.add_argument("--json", action="store_true")

    def handle(self, *args: object, **options: Any) -> None:
        integration = integration_named(options["integration"])
        sync = (
            integration.entity_syncs.filter(name=options["sync"])
            .select_related("integration__left", "integration__right")
            .first()
        )
        if sync is None:
            known = ", ".join(integration.entity_syncs.values_list("name", flat=True)) or "none"
            raise CommandError(f"{integration} has no entity sync {options['sync']!r}. It has: {known}.")
        try:
            getattr(self, f"_{options['action']}")(sync, options)
        except (ConnectorError, SettingsError, StaleMappings) as refusal:
            raise CommandError(str(refusal)) from refusal

    def _list(self, sync: EntitySync, options: dict[str, Any]) -> None:
        schema, rows = stored(sync.integration), drafts.rows_of(sync)
        if options["json"]:
            self.stdout.write(drafts.told(rows))
            return
        for row in rows:
            judged = drafts.fit_of(sync, row, schema)
            self.stdout.write(f"{row.title}  {judged.word if judged else 'Not checked yet'}")
            if judged and judged.tone != "good":
                self.stdout.write(f"    {judged.why}")
        self.stdout.write(f"{len(rows)} mappings.")

    def _propose(self, sync: EntitySync, options: dict[str, Any]) -> None:
        found = proposals_of(sync, self._known(sync), drafts.rows_of(sync))
        for one in found:
            self.stdout.write(
                f"{one.similarity} %  {one.left} = {one.right} ({one.direction})  {one.reason} {one.warning}".rstrip()
            )
        self.stdout.write(f"{len(found)} proposals. Nothing is mapped by itself.")

    def _test(self, sync: EntitySync, options: dict[str, Any]) -> None:
        schema = self._known(sync)
        found: list[RecordLink] = trying.find_records(sync, options["record"])
        if not found:
            raise CommandError("There is no such record.")
        records = read_record(found[0], sync, schema, "")
        self.stdout.write(trying.title_of(found[0]))
        for line in trying.attempt(sync, drafts.rows_of(sync), schema, records):
            self.stdout.write(line.title + (f"  {line.error}" if line.error else ""))
            for way in line.ways:
                told = way.note or (f"{way.given} → {way.error or way.out}")
                self.stdout.write(f"    to the {way.to}: {told}")

    def _options(self, sync: EntitySync, options: dict[str, Any]) -> None:
        for one in optioning.picklists(sync, stored(sync.integration)):
            self.stdout.write(f"{one.mapping.left} = {one.mapping.right}")
            for pair in one.pairs:
                self.stdout.write(f"    {pair}")
            for side in SIDES:
                for free in one.unmapped[side]:
                    waiting = f", {free.count} records wait" if free.count else ""
                    self.stdout.write(f"    without partner on the {side}: {free.option.label}{waiting}")

    def _export(self, sync: EntitySync, options: dict[str, Any]) -> None:
        text = mapping_files.export(sync, options["what"])
        if options["file"] == "-":
            self.stdout.write(text, ending="")
        else:
            Path(options["file"]).write_text(text, encoding="utf-8", newline="")

    def _import(self, sync: EntitySync, options: dict[str, Any]) -> None:
        text = self._text(options["file"])
        schema = self._known(sync)
        found = mapping_files.read(
            sync, options["what"], text, schema, remove=options["remove"], revision=sync.revision
        )
        for fault in found.faults:
            self.stderr.write(f"line {fault.line}, {fault.column}: {fault.message}" if fault.line else fault.message)
        if found.faults:
            raise CommandError(f"{len(found.faults)} things to correct in the file. Nothing was changed.")
        for sign, lines in (("+", found.added), ("-", found.removed)):
            for line in lines:
                self.stdout.write(f"{sign} {line}")
        for name, changes in found.changed:
            self.stdout.write(f"~ {name}: {'; '.join(changes)}")
        if options["dry_run"] or not found.something:
            self.stdout.write("Nothing was changed." if found.something else "The file says what is there already.")
            return
        self._take(sync, found, schema)
        self.stdout.write("Saved. The next run reads everything again.")

    def _take(self, sync: EntitySync, found: mapping_files.Difference, schema: Any) -> None:
        how: dict[str, Any] = {"now": clock.now(), "by": BY, "why": "Imported from CSV"}
        if found.what == FIELDS:
            drafts.save(sync, found.rows, revision=sync.revision, **how)
        else:
            optioning.save_all(sync, found.pairs, revision=sync.revision, schema=schema, **how)

    def _text(self, path: str) -> str:
        try:
            raw = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(f"{path} can't be read: {error}") from error
        return raw.replace("\r\n", "\n")

    def _known(self, sync: EntitySync) -> Any:
        schema = stored(sync.integration)
        if not schema.known:
            look_now(sync)
            schema = stored(sync.integration)
        return schema

    def _drift(self, sync: EntitySync, options: dict[str, Any]) -> None:
        found = list(drift.open_drifts(sync=sync))
        for row in found:
            self.stdout.write(f"{row.get_kind_display()}: {row.message} Seen {row.first_seen:%Y-%m-%d %H:%M} UTC.")
        self.stdout.write(f"{len(found)} things changed that mappings need.")

    def _schema(self, sync: EntitySync, options: dict[str, Any]) -> None:
        look_now(sync)
        schema = stored(sync.integration)
        for side in SIDES:
            if why := schema.errors.get(side):
                self.stderr.write(f"{schema.described.names[side]} could not be read: {why}")
        left = schema.of(LEFT, sync)
        self.stdout.write(f"The schema was read; {sync.left_entity} has {len(left.fields) if left else 0} fields.")
        self._drift(sync, options)
