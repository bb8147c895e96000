"""Sets up an installation in a process of its own: connections, the preset, and the first sync as a job.

Arguments as JSON on standard input: {"left": credentials, "right": credentials}, or {"ask": mode}.  Prints the job's id.
"""

import json
import sys

import django

django.setup()

from connectors.models import Connection, Integration  # noqa: E402
from connectors.sync.presets import apply_preset, presets  # noqa: E402
from connectors.transport import check, connected  # noqa: E402
from jobs.syncing import request_sync  # noqa: E402

SYSTEMS = {"left": "quickbooks", "right": "dynamics365"}


def main(asked):
    if "ask" not in asked:
        ends = {}
        for side, system in SYSTEMS.items():
            ends[side] = Connection.objects.create(system=system, name=side, settings=asked[side]["settings"])
            ends[side].set_secret(asked[side]["secret"])
            check(ends[side])
        with connected(ends["left"]) as left, connected(ends["right"]) as right:
            apply_preset(presets()["inolink"], "Both", ends, {"left": left, "right": right}, first_run="apply")
    print(request_sync(Integration.objects.get(), mode=asked.get("ask", "comprehensive")).pk)


main(json.loads(sys.stdin.read()))
