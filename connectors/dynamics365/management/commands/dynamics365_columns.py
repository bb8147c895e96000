"""What does the preset need in Dataverse that is not there?  `manage.py dynamics365_columns CONNECTION [--create]`"""

from __future__ import annotations

from argparse import ArgumentParser
from typing import cast

from django.core.management.base import BaseCommand, CommandError

from connectors.contract import ConnectorError
from connectors.dynamics365.connector import Dynamics365
from connectors.dynamics365.requirements import create_columns, missing_columns
from connectors.models import Connection
from connectors.transport import connected


class Command(BaseCommand):
    help = "List the tables and columns that the preset inolink needs and that are missing, or make them."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("connection", help="name of a Dynamics 365 connection")
        parser.add_argument(
            "--create", action="store_true", help="make them (needs the right to customize the environment)"
        )

    def handle(self, *args: object, **options: object) -> None:
        connection = Connection.objects.filter(name=options["connection"], system="dynamics365").first()
        if connection is None:
            known = (
                ", ".join(Connection.objects.filter(system="dynamics365").values_list("name", flat=True)) or "none yet"
            )
            raise CommandError(f"There is no Dynamics 365 connection {options['connection']!r}. There are: {known}.")
        try:
            with connected(connection) as opened:
                connector = cast(Dynamics365, opened)
                missing = missing_columns(connector)
                if missing and options["create"]:
                    create_columns(connector)
                    connector.forget_schema()
                    missing = missing_columns(connector)
        except ConnectorError as error:
            raise CommandError(str(error)) from error
        for name in missing:
            self.stdout.write(name)
        if missing:
            raise CommandError(f"{len(missing)} are missing. Add them, or run this with --create.", returncode=1)
        self.stdout.write(self.style.SUCCESS("Nothing is missing."))
