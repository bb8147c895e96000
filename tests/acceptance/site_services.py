"""Does to the services of an installation what a person would, in a process of its own.

Arguments as JSON on standard input: {"start": names}, {"stop": names} or {"promote": record ids}, each of them optional.
Prints one line of JSON: for each service its next start.
"""

import json
import sys

import django

django.setup()

from connectors.models import Integration  # noqa: E402
from jobs.syncing import request_promotion  # noqa: E402
from scheduling import provisioning, services  # noqa: E402


def main(asked):
    integration = Integration.objects.get()
    services.make_services(integration)
    if provisioning.status(integration) is None:
        provisioning.ask(integration, by="ada")
    for name in asked.get("start", []):
        services.start(integration.services.get(name=name), by="ada")
    for name in asked.get("stop", []):
        services.stop(integration.services.get(name=name), by="ada")
    if asked.get("promote"):
        request_promotion(integration, "customer", asked["promote"], bulk=True)
    print(json.dumps({one.name: str(one.next_run_at or "") for one in integration.services.all()}))


main(json.loads(sys.stdin.read()))
