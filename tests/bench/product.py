"""What does the engine cost for the same records, over the real transport, into the real tables?"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable
from statistics import median

import django

django.setup()

from django.db import connection  # noqa: E402

from connectors.contract import Connector  # noqa: E402
from connectors.models import Connection, EntitySync, FieldMapping, Integration, RecordLink, Run, Scope  # noqa: E402
from connectors.sync.run import advance, start_run  # noqa: E402
from connectors.sync.world import World  # noqa: E402
from connectors.transport.apilog import ApiLog  # noqa: E402
from connectors.transport.session import Transport, utc_now  # noqa: E402
from tests.bench.client import SIDES, Servers, cpu, peak_mib  # noqa: E402
from tests.bench.connector import Plain, Ways  # noqa: E402
from tests.bench.records import BATCH, TO_RIGHT  # noqa: E402

IDLE_RUNS = 15
TABLES = ("connectors_recordlink", "connectors_recordchange")


class Statements:
    """Counts what the engine asks of the database."""

    def __init__(self) -> None:
        self.queries = 0
        self.rows: Counter[str] = Counter()  # written, by "verb table"

    def __call__(self, execute: Callable[..., object], sql: str, params: object, many: bool, context: object) -> object:
        self.queries += 1
        result = execute(sql, params, many, context)
        words = sql.split(None, 3)
        if words[0] in ("INSERT", "UPDATE", "DELETE"):
            table = (words[1] if words[0] == "UPDATE" else words[2]).strip('"')
            written = context["cursor"].rowcount  # type: ignore[index]
            self.rows[f"{words[0]} {table}"] += max(written, 0)
        return result

    def written(self) -> int:
        """Rows of links and changes that were written."""
        return sum(count for name, count in self.rows.items() if name.split()[1] in TABLES)


class Product:
    """One integration between the two servers, and runs of it."""

    def __init__(self, servers: Servers, batch: int) -> None:
        self.servers, self.ways = servers, Ways(batch)
        ends = [
            Connection.objects.create(system="plain", name=side, settings={"url": servers.urls[side]}) for side in SIDES
        ]
        Connection.objects.update(state=Connection.State.CONNECTED)
        integration = Integration.objects.create(name="bench", left=ends[0], right=ends[1], first_run="apply")
        sync = EntitySync.objects.create(
            integration=integration, name="company", family="company", left_entity="left", right_entity="right",
            match=[["name>acc_name"]],
        )  # fmt: skip
        for position, (left, right) in enumerate(TO_RIGHT.items()):
            FieldMapping.objects.create(entity_sync=sync, position=position, left=left, right=right)
        self.scope_id = Scope.objects.create(integration=integration).pk

    def run(self, mode: str = "delta") -> Run:
        """One run from its start to its last row, with transports opened and closed as a job does."""
        scope = Scope.objects.select_related("integration__left", "integration__right").get(pk=self.scope_id)
        log, opened = ApiLog(), []

        def connect(end: Connection) -> Connector:
            transport = Transport(end, None, (), log=log)
            opened.append(transport)
            return Plain(transport, str(end.settings["url"]), end.name, self.ways)

        world = World(connect=connect, now=utc_now)
        run = start_run(scope, world, mode=mode)
        while not advance(run, world):
            pass
        for transport in opened:
            transport.close()
        return run

    def measured(self, mode: str = "delta") -> tuple[float, Statements]:
        """Seconds of processor time of one run, and its statements.  (Counting costs less than a percent.)"""
        statements = Statements()
        with connection.execute_wrapper(statements):
            seconds = cpu(lambda: self.run(mode))
        return seconds, statements

    def assert_agreed(self, records: int) -> None:
        """A benchmark of something that does not work is worth nothing."""
        agreed = RecordLink.objects.filter(pending__isnull=True).count()
        there = {side: self.servers.control(side, "tell")["records"] for side in SIDES}
        assert agreed == records and set(there.values()) == {records}, f"{agreed} of {records} agree; {there}"


def batches(product: Product, records: int) -> dict[str, object]:
    """First sync, its echo, comparing everything, and 1 % changed."""
    told: dict[str, object] = {}
    product.servers.seed(records, 0)
    seconds, _ = product.measured()
    product.assert_agreed(records)
    told["first"] = seconds / records * 1e6
    seconds, statements = product.measured()
    told["echo"], told["echo_rows"] = seconds / records * 1e6, statements.written()
    told["by_version"] = product.measured("comprehensive")[0] / records * 1e6
    product.ways.by_version = False
    told["by_values"] = product.measured("comprehensive")[0] / records * 1e6
    product.ways.by_version = True
    for name, size in (("changed_single", 1), ("changed_batch", BATCH)):
        product.ways.batch = size
        product.servers.edit(200, name)
        seconds, _ = product.measured()
        count = records // 200 * 2
        requests = [told["requests"] for told in product.servers.told().values()]
        told[name] = seconds / count * 1e6
        told[f"{name}_requests"] = sum(sum(r.values()) for r in requests)  # type: ignore[attr-defined]
        told[f"{name}_pages"] = sum(r["GET"] for r in requests)  # type: ignore[index]
        told["changes"] = count
        product.assert_agreed(records)
        product.run()  # its echo
        product.servers.told()
    return told


def singles(product: Product, records: int) -> dict[str, object]:
    """A first sync with one request for each write."""
    product.servers.seed(records, 0)
    seconds, _ = product.measured()
    product.assert_agreed(records)
    return {"first": seconds / records * 1e6}


def pairing(product: Product, records: int) -> dict[str, object]:
    """Two full sides that belong together; then runs with nothing to do."""
    start = peak_mib()
    product.servers.seed(records, records)
    seconds, _ = product.measured()
    product.assert_agreed(records)
    writes = sum(int(str(t["sent"])) for t in product.servers.told().values())
    assert not writes, f"{writes} writes between two sides that were equal"
    told: dict[str, object] = {"pair": seconds / records * 1e6, "peak": peak_mib(), "start": start}
    product.run()
    product.servers.told()
    idle = [product.measured() for _ in range(IDLE_RUNS)]
    requests = [r["requests"] for r in product.servers.told().values()]
    told["idle_ms"] = median(seconds for seconds, _ in idle) * 1000
    told["idle_requests"] = sum(sum(r.values()) for r in requests) / IDLE_RUNS  # type: ignore[attr-defined]
    told["idle_queries"] = median(statements.queries for _, statements in idle)
    told["idle_rows"] = sum(statements.written() for _, statements in idle)
    told["idle_other_rows"] = dict(idle[-1][1].rows)
    return told


PARTS: dict[str, tuple[Callable[[Product, int], dict[str, object]], int]] = {
    "batches": (batches, BATCH), "singles": (singles, 1), "pairing": (pairing, BATCH),
}  # fmt: skip


def main(part: str, left: str, right: str, records: int) -> dict[str, object]:
    """Measure one part in this fresh process."""
    work, batch = PARTS[part]
    connection.ensure_connection()
    return work(Product(Servers(left, right), batch), records)


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))))
