"""Are the engine's queries answered from an index?  What it really asked in a run is explained, with its own bound values."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from django.db import connection

from connectors.contract import Ref
from connectors.memory.store import entity
from connectors.models import RecordLink
from tests.sync.worlds import TwoSystems

RECORDS = 300
LINKS, CHANGES = "connectors_recordlink", "connectors_recordchange"


@dataclass(frozen=True)
class Asked:
    """One statement with its values."""

    sql: str
    params: tuple[object, ...]

    def plan(self) -> str:
        """Return what the database says it would do."""
        head = "EXPLAIN QUERY PLAN" if connection.vendor == "sqlite" else "EXPLAIN"
        with connection.cursor() as cursor:
            cursor.execute(f"{head} {self.sql}", self.params)
            return "\n".join(str(row[-1]) for row in cursor.fetchall())


@dataclass
class Heard:
    """Statements on links and changes, one of each text."""

    statements: dict[str, Asked] = field(default_factory=dict)

    def __call__(self, execute: Callable[..., object], sql: str, params: object, many: bool, context: object) -> object:
        if (LINKS in sql or CHANGES in sql) and sql.startswith(("SELECT", "UPDATE", "DELETE")):
            one = next(iter(params), ()) if many else params  # type: ignore[call-overload]
            self.statements.setdefault(re.sub(r"(%s, )+%s", "%s", sql), Asked(sql, tuple(one or ())))
        return execute(sql, params, many, context)

    def one(self, *parts: str) -> Asked:
        """The statement that has all of these parts."""
        flat = {text.replace('"', ""): asked for text, asked in self.statements.items()}
        found = [asked for text, asked in flat.items() if all(part in text for part in parts)]
        assert found, f"the engine asked nothing with {parts}; it asked:\n" + "\n".join(flat)
        return found[0]


@pytest.fixture
def world(db: None) -> Iterator[TwoSystems]:
    kind = entity(page=500, batch=100)
    found = TwoSystems(left_entity=kind, right_entity=kind)
    for number in range(RECORDS):
        found.left.create("person", {"name": f"Person {number}"})
    found.settle()
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("ANALYZE")
            # A table of a test is so small that reading all of it would be right; the question is whether an index serves.
            cursor.execute("SET LOCAL enable_seqscan = off")
    yield found


@pytest.fixture
def heard(world: TwoSystems) -> Heard:
    """What a run asks in which a record is new, one has changed, and one waits for another."""
    listener = Heard()
    left = world.left.ids("person")
    world.left.put("person", left[3], {"city": "Oslo"})
    parent = world.left.create("person", {"name": "A parent"})
    world.left.create("person", {"name": "A child", "parent": Ref("person", parent)})
    world.right.create("person", {"name": "Somebody else"})
    with connection.execute_wrapper(listener):
        world.run()
    assert RecordLink.objects.filter(pending__isnull=False).count() == 0
    return listener


# What is asked, how to recognize it, and the index that has to serve it (SQLite names no index of a constraint).
QUERIES: dict[str, tuple[tuple[str, ...], str, str]] = {
    "is there work": (("SELECT", f"FROM {LINKS}", "pending = %s", "id > %s", "ORDER BY"), "link_pending", "link_pending"),
    "which links have these records (left)": (
        ("left_id IN (%s)", "left_version"), "left_entity=? AND left_id=?", "left_record_once_in_a_family",
    ),
    "which links have these records (right)": (
        ("right_id IN (%s)", "right_version"), "right_entity=? AND right_id=?", "right_record_once_in_a_family",
    ),
    "who matches (left)": (("left_match IN (%s)",), "link_left_match", "link_left_match"),
    "who matches (right)": (("right_match IN (%s)",), "link_right_match", "link_right_match"),
    "what is to be written": (
        ("SELECT", f"FROM {CHANGES}", "open = %s", "id > %s", "ORDER BY"), "change_open", "change_open",
    ),
    "does anybody wait for these": (("waits_on IN (%s)",), "link_waits_on", "link_waits_on"),
}  # fmt: skip
COUNTED = "touched_run = %s GROUP BY"  # how a run counts its outcomes


def _wholly_read(asked: Asked) -> bool:
    return bool(re.search(rf"SCAN ({LINKS}|{CHANGES}|[UV]\d)\b(?! USING)", asked.plan()))


def _flat(sql: str) -> str:
    return sql.replace('"', "").replace(f"{LINKS}.", "")


@pytest.mark.parametrize("question", QUERIES)
@pytest.mark.parametrize("vendor", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def test_what_is_asked_for_each_page_or_batch_uses_its_index(heard: Heard, vendor: str, question: str) -> None:
    if connection.vendor != vendor:
        pytest.skip(f"this run's database is not {vendor}")
    parts, sqlite, postgresql = QUERIES[question]
    plan = heard.one(*parts).plan()
    assert (sqlite if vendor == "sqlite" else postgresql) in plan, plan


@pytest.fixture
def on_sqlite() -> None:
    if connection.vendor != "sqlite":
        pytest.skip("PostgreSQL's planner rightly reads small tables whole; its indexes are named in the test above")


def test_no_statement_of_a_run_reads_a_whole_table(on_sqlite: None, heard: Heard) -> None:
    asked = [one for one in heard.statements.values() if COUNTED not in _flat(one.sql)]
    assert len(asked) > 10
    assert [(one.sql, one.plan()) for one in asked if _wholly_read(one)] == []


def test_a_run_without_changes_asks_nothing_that_grows_with_the_links(on_sqlite: None, world: TwoSystems) -> None:
    listener = Heard()
    with connection.execute_wrapper(listener):
        world.run()
    asked = [one for one in listener.statements.values() if COUNTED not in _flat(one.sql)]
    assert any(LINKS in one.sql for one in asked)
    assert [(one.sql, one.plan()) for one in asked if _wholly_read(one)] == []


def test_a_run_counts_its_outcomes_without_reading_every_link(on_sqlite: None, heard: Heard) -> None:
    assert not _wholly_read(heard.one(COUNTED.replace("touched_run", f"{LINKS}.touched_run")))
