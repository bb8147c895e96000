"""Two systems in memory whose schema has been read, for the tests of mappings."""

from __future__ import annotations

from collections.abc import Sequence

from connectors.contract import Field, Kind, Option, Write
from connectors.memory.store import entity
from connectors.models import FieldMapping
from connectors.sync import drift
from connectors.sync.rules import LEFT, RIGHT
from jobs import clock
from tests.sync.worlds import TwoSystems

LEFT_FIELDS = (
    Field("name", Kind.TEXT, "Name", required=True, max_length=60, findable=True),
    Field("email", Kind.TEXT, "E-mail", max_length=100),
    Field("city", Kind.TEXT, "City", max_length=40),
    Field("credit", Kind.MONEY, "Credit", scale=2),
    Field("parent", Kind.REF, "Parent", refers_to=("person",)),
    Field("terms", Kind.OPTION, "Terms"),
    Field("BillAddr.PostalCode", Kind.TEXT, "Postal code", max_length=20),
    Field("total", Kind.MONEY, "Total", scale=2, write=Write.NEVER),
    Field("@notes", Kind.TEXT, "Notes"),
    Field("born", Kind.DATE, "Born"),
)
RIGHT_FIELDS = (
    Field("name", Kind.TEXT, "Name", required=True, max_length=60, findable=True),
    Field("email", Kind.TEXT, "E-mail", max_length=100),
    Field("city", Kind.TEXT, "Town", max_length=20),
    Field("credit", Kind.MONEY, "Credit", scale=2),
    Field("parent", Kind.REF, "Parent", refers_to=("person",)),
    Field("paymentterms", Kind.OPTION, "Payment terms"),
    Field("address1_postalcode", Kind.TEXT, "ZIP", max_length=20),
    Field("description", Kind.TEXT, "Description", max_length=2000),
    Field("age", Kind.INTEGER, "Age"),
)
LEFT_OPTIONS = [Option("n30", "Net 30"), Option("n60", "Net 60"), Option("now", "Due on receipt")]
RIGHT_OPTIONS = [Option("1", "Net 30 "), Option("2", "net-60"), Option("3", "2% 10, Net 30")]


def mapped_world(**sync: object) -> TwoSystems:
    """People on both sides, with terms as a picklist; both schemas were read."""
    world = TwoSystems(left_entity=entity("person", *LEFT_FIELDS), right_entity=entity("person", *RIGHT_FIELDS), **sync)
    world.left.options = {("person", "terms"): list(LEFT_OPTIONS)}
    world.right.options = {("person", "paymentterms"): list(RIGHT_OPTIONS)}
    FieldMapping.objects.create(entity_sync=world.sync, position=5, left="terms", right="paymentterms")
    look(world)
    return world


def look(world: TwoSystems) -> Sequence[object]:
    """Read both schemas."""
    connectors = {LEFT: world.connect(world.integration.left), RIGHT: world.connect(world.integration.right)}
    return drift.look(world.integration, connectors, clock.now())


def without(world: TwoSystems, side: str, name: str) -> None:
    """Take a field away from one system."""
    store = world.left if side == "left" else world.right
    whole = store.entities["person"]
    fields = tuple(f for f in whole.fields if f.name != name)
    store.entities["person"] = entity("person", *fields)


def changed(world: TwoSystems, side: str, field: Field) -> None:
    """Put a field into one system, or in the place of the one of that name."""
    store = world.left if side == "left" else world.right
    fields = {f.name: f for f in store.entities["person"].fields}
    store.entities["person"] = entity("person", *{**fields, field.name: field}.values())
