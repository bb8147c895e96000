"""How does one connect on a host without a browser?  Open the printed address anywhere, paste back where it led."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from connectors.admin.connect import callback_address, told_of
from connectors.contract import ConnectorError
from connectors.management.commands._common import connection_named
from connectors.registry import UnknownSystem
from connectors.transport import oauth, redaction


class Command(BaseCommand):
    help = "Connect on the system's consent page: prints its address and takes the address that it led back to."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", metavar="NAME", help="the connection")
        parser.add_argument("--back", default="", help="redirect address as registered; default: SITE_URL's own")
        parser.add_argument("--print", action="store_true", dest="only_print", help="print the address and stop")
        parser.add_argument("--redirect", default="", help="the address that the consent page led back to")

    def handle(self, *args: Any, **options: Any) -> None:
        connection = connection_named(options["name"])
        holder = oauth.holder_of(oauth.COMMAND)
        try:
            redirect = options["redirect"]
            if not redirect:
                back = options["back"] or callback_address()
                if not back:
                    raise CommandError("Set SITE_URL, or give --back with the redirect address that is registered.")
                self.stdout.write(oauth.begin(connection, back=back, holder=holder))
                if options["only_print"]:
                    return
                self.stderr.write("Open it, give consent, and paste the address that the browser ends at:")
                redirect = input()
            returned = oauth.pasted(redirect)
            begun = oauth.connection_of(returned.get("state", ""))
            if begun is not None and begun != connection:
                raise CommandError(f"This sign-in was begun for {begun}, not for {connection}.")
            done = oauth.finish(returned, holder=holder)
        except (ConnectorError, UnknownSystem) as error:
            raise CommandError(redaction.text(str(error))) from error
        self.stdout.write(told_of(done))
