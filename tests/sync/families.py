"""A world with two families: a customer with company and person is an account and a contact of that account."""

from __future__ import annotations

from connectors.contract import Entity, Field, Kind, Option, Ref, Value, Write
from connectors.memory.store import MemoryStore, entity
from connectors.models import Connection, EntitySync, FieldMapping, Integration, RecordLink, Scope
from tests.sync.worlds import TwoSystems

COMPANIES = [Option("1", "North"), Option("2", "South")]


def text(name: str, *, required: bool = False) -> Field:
    return Field(name, Kind.TEXT, max_length=60, required=required, findable=True)


def customer_entity() -> Entity:
    return entity(
        "customer",
        Field("me", Kind.REF, write=Write.NEVER, refers_to=("customer",)),
        text("company"), text("first"), text("last"), text("email"),
        Field("parent", Kind.REF, refers_to=("customer",)),
        Field("changed", Kind.DATETIME, write=Write.NEVER),
    )  # fmt: skip


def account_entity() -> Entity:
    company = Field("company", Kind.OPTION)
    return entity(
        "account", text("name", required=True), text("email"), company,
        Field("primary", Kind.REF, refers_to=("contact",)), Field("parent", Kind.REF, refers_to=("account",)),
    )  # fmt: skip


def contact_entity() -> Entity:
    return entity(
        "contact", text("first"), text("last", required=True), text("email"), Field("company", Kind.OPTION),
        Field("parent", Kind.REF, refers_to=("account",)),
    )  # fmt: skip


class Families(TwoSystems):
    """Customers on the left; accounts and contacts on the right."""

    def __init__(
        self, *, overwrite: str = "later", name: str = "books", beside: Families | None = None, **sync: object
    ) -> None:
        if beside is None:
            super().__init__()
            self.integration.delete()
            Connection.objects.all().delete()
            self.right = MemoryStore(
                "right", {"account": account_entity(), "contact": contact_entity()}, clock=self.clock.now, first_id=1001,
                options={("account", "company"): COMPANIES, ("contact", "company"): COMPANIES},
            )  # fmt: skip
            there = Connection.objects.create(system="memory", name="right", settings={"store": "right"})
        else:
            self.clock, self.right, self.world = beside.clock, beside.right, beside.world
            self.at_point, there = None, beside.integration.right
        self.left = MemoryStore(name, {"customer": customer_entity()}, clock=self.clock.now)
        here = Connection.objects.create(system="memory", name=name, settings={"store": name})
        self.integration = Integration.objects.create(name=name, left=here, right=there, first_run="apply")
        self.scope = Scope.objects.create(integration=self.integration)
        self.company = self._sync(
            "company", "customer", "account", 0, match=[["company>name"]],
            filters=[{"side": "left", "field": "company", "op": "filled"}], **sync,
        )  # fmt: skip
        self._map(
            self.company, ("company", "name", {"required": True}), ("email", "email", {}), ("parent", "parent", {})
        )
        self._map(self.company, ("me", "primary", {
            "direction": "to_right", "when": overwrite, "transform": "while_filled",
            "args": {"family": "primary", "fields": ["company", "last"]},
        }))  # fmt: skip
        self.primary = self._sync(
            "primary", "customer", "contact", 1, on_delete="ignore", prevents=["left.create", "left.delete", "right.delete"],
            match=[["first>first", "last>last", "me>parent"], ["email>email", "me>parent"]],
            filters=[{"side": "left", "field": "company", "op": "filled"}, {"side": "left", "field": "last", "op": "filled"},
                     {"side": "right", "field": "parent", "op": "filled"}],
        )  # fmt: skip
        self._map(
            self.primary, ("me", "parent", {"direction": "to_right", "required": True, "args": {"family": "company"}}),
            ("first", "first", {}), ("last", "last", {"required": True}), ("email", "email", {}),
        )  # fmt: skip
        self.person = self._sync(
            "person", "customer", "contact", 2, family="company", match=[["email>email"], ["first>first", "last>last"]],
            filters=[{"side": "left", "field": "company", "op": "empty"}], push={"left": "on_request"},
        )  # fmt: skip
        self._map(self.person, ("first", "first", {}), ("last", "last", {"required": True}), ("email", "email", {}))

    def _sync(self, name: str, left: str, right: str, position: int, **settings: object) -> EntitySync:
        settings = {"family": name, **settings}
        return EntitySync.objects.create(
            integration=self.integration, name=name, left_entity=left, right_entity=right, position=position, **settings
        )

    def _map(self, sync: EntitySync, *lines: tuple[str, str, dict[str, object]]) -> None:
        for left, right, settings in lines:
            FieldMapping.objects.create(entity_sync=sync, left=left, right=right, **settings)

    def customer(self, **values: Value) -> str:
        """A person makes a customer, which knows its own id."""
        record_id = self.left.create("customer", values)
        now = self.clock.now()
        self.left.put("customer", record_id, {"me": Ref("customer", record_id), "changed": now})
        return record_id

    def edit(self, record_id: str, **values: Value) -> None:
        self.left.put("customer", record_id, {**values, "changed": self.clock.now()})

    def link(self, sync: str, **record: str) -> RecordLink:
        ((side, record_id),) = record.items()
        return RecordLink.objects.get(
            entity_sync__name=sync, entity_sync__integration=self.integration, ended=0, **{f"{side}_id": record_id}
        )

    def right_id(self, sync: str, customer: str) -> str:
        found = self.link(sync, left=customer).right_id
        assert found is not None, f"{sync} {customer} has no partner"
        return found

    def account_of(self, customer: str) -> dict[str, Value]:
        return self.right.tables["account"][self.right_id("company", customer)].values

    def contact_of(self, customer: str) -> dict[str, Value]:
        return self.right.tables["contact"][self.right_id("primary", customer)].values

    @property
    def written(self) -> int:
        return len(self.left.journal) + len(self.right.journal)
