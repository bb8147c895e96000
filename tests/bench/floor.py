"""What is the least that a sync of these records costs?  Requests, json, one dict map, Django's bulk_create: no engine.

Composed as the goals are stated (docs/performance.md): it has to stay as it is, or the ratios mean something else.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence

import django

django.setup()

import requests  # noqa: E402
from django.db import connection, models, transaction  # noqa: E402

from tests.bench.client import SIDES, Servers, cpu  # noqa: E402
from tests.bench.records import BATCH, PAGE, TO_LEFT, TO_RIGHT  # noqa: E402

encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode
Body = dict[str, object]


class FloorLink(models.Model):
    """A link of twelve columns, with the look-ups that any sync needs."""

    sync = models.IntegerField()
    left_id = models.CharField(max_length=100, null=True)
    right_id = models.CharField(max_length=100, null=True)
    match = models.CharField(max_length=100)
    base = models.TextField()
    left_version = models.CharField(max_length=100)
    right_version = models.CharField(max_length=100)
    left_modified = models.CharField(max_length=40)
    right_modified = models.CharField(max_length=40)
    pending = models.SmallIntegerField(null=True)
    revision = models.IntegerField(default=1)

    class Meta:
        app_label = "bench"
        constraints = [
            models.UniqueConstraint(fields=["sync", "left_id"], name="floor_left"),
            models.UniqueConstraint(fields=["sync", "right_id"], name="floor_right"),
        ]
        indexes = [models.Index(fields=["sync", "match"], name="floor_match")]


class Floor:
    """Each method is one case of the goals; it leaves the servers as the engine would."""

    def __init__(self, servers: Servers) -> None:
        self.servers, self.urls = servers, servers.urls
        self.session = requests.Session()
        self.session.trust_env = False

    def pages(self, side: str, after: int = 0) -> Iterator[list[Body]]:
        """Read one side's feed."""
        while True:
            reply = self.session.get(f"{self.urls[side]}/feed?after={after}&limit={PAGE}")
            answer = json.loads(reply.content)
            yield answer["records"]
            after = answer["next"]
            if answer["last"]:
                return

    def post(self, side: str, operations: Sequence[Body]) -> list[Body]:
        """Send one request of writes."""
        content = json.dumps(operations, separators=(",", ":")).encode()
        reply = self.session.post(
            f"{self.urls[side]}/write", data=content, headers={"Content-Type": "application/json"}
        )
        answers: list[Body] = json.loads(reply.content)
        return answers

    def first(self, batch: int) -> None:
        """Read the left, write everything to the right, remember the pairs."""
        for records in self.pages("left"):
            texts = [encode(record) for record in records]
            operations: list[Body] = [
                {"key": record["id"], "verb": "create", "id": "", "values": {TO_RIGHT[n]: record[n] for n in TO_RIGHT}}
                for record in records
            ]
            answers: list[Body] = []
            for start in range(0, len(operations), batch):
                answers += self.post("right", operations[start : start + batch])
            self.remember(records, texts, [answer["record"] for answer in answers])

    def pair(self) -> None:
        """Read both sides and remember what belongs together."""
        sides: list[list[tuple[Body, str]]] = [
            [(record, encode(record)) for records in self.pages(side) for record in records] for side in SIDES
        ]
        by_name = {record["acc_name"]: record for record, _ in sides[1]}
        for start in range(0, len(sides[0]), PAGE):
            block = sides[0][start : start + PAGE]
            self.remember([r for r, _ in block], [t for _, t in block], [by_name[r["name"]] for r, _ in block])

    def compare(self) -> None:
        """Read both sides and compare them with what is remembered; nothing has changed."""
        remembered = {
            row[0]: row for row in FloorLink.objects.values_list("left_id", "right_id", "base", "left_version")
        }
        rights: dict[object, Body] = {}
        for records in self.pages("right"):
            for record in records:
                encode(record)
                rights[record["id"]] = {TO_LEFT[n]: record[n] for n in TO_LEFT}
        different = 0
        for records in self.pages("left"):
            for record in records:
                link = remembered[record["id"]]
                text = encode(record)
                other = rights[link[1]]
                different += text != link[2] or any(record[name] != value for name, value in other.items())
        assert not different, f"{different} records differ that should not"

    def changed(self, places: dict[str, int]) -> None:
        """Read what changed on each side, write it to the other one by one, remember."""
        for side, other, names in (("left", "right", TO_RIGHT), ("right", "left", TO_LEFT)):
            for records in self.pages(side, places[side]):
                ids = [record["id"] for record in records]
                links = {getattr(k, f"{side}_id"): k for k in FloorLink.objects.filter(**{f"{side}_id__in": ids})}
                for record in records:
                    link = links[record["id"]]
                    values = {names[n]: record[n] for n in names}
                    target = getattr(link, f"{other}_id")
                    [answer] = self.post(other, [{"key": "k", "verb": "update", "id": target, "values": values}])
                    link.base = encode(record)
                    setattr(link, f"{side}_version", record["version"])
                    setattr(link, f"{other}_version", answer["record"]["version"])  # type: ignore[index]
                FloorLink.objects.bulk_create(
                    links.values(), update_conflicts=True, unique_fields=["id"],
                    update_fields=["base", "left_version", "right_version"],
                )  # fmt: skip

    def remember(self, lefts: Sequence[Body], texts: Sequence[str], rights: Sequence[object]) -> None:
        """Store a page of pairs."""
        links = []
        for left, text, right in zip(lefts, texts, rights, strict=True):
            assert isinstance(right, dict)
            links.append(
                FloorLink(
                    sync=1,
                    left_id=left["id"],
                    right_id=right["id"],
                    match=left["name"],
                    base=text,
                    left_version=left["version"],
                    right_version=right["version"],
                    left_modified=left["modified"],
                    right_modified=right["modified"],
                )  # fmt: skip
            )
        with transaction.atomic():
            FloorLink.objects.bulk_create(links, batch_size=1000)


def main(left: str, right: str, records: int, singles: int) -> dict[str, float]:
    """Measure every case; microseconds of processor time for each record (or change)."""
    with connection.schema_editor() as editor:
        editor.create_model(FloorLink)
    servers = Servers(left, right)
    floor = Floor(servers)
    each: dict[str, float] = {}

    def measure(name: str, count: int, work: object, *arguments: object) -> None:
        each[name] = cpu(lambda: work(*arguments)) / count * 1e6  # type: ignore[operator]

    servers.seed(singles, 0)
    measure("single", singles, floor.first, 1)
    FloorLink.objects.all()._raw_delete("default")
    servers.seed(records, 0)
    measure("batch", records, floor.first, BATCH)
    measure("compare", records, floor.compare)
    places = dict.fromkeys(SIDES, records)  # the number of each server's last change so far
    servers.edit(200, "changed")
    measure("changed", records // 200 * 2, floor.changed, places)
    FloorLink.objects.all()._raw_delete("default")
    servers.seed(records, records)
    measure("pair", records, floor.pair)
    with connection.schema_editor() as editor:
        editor.delete_model(FloorLink)
    return each


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))))
