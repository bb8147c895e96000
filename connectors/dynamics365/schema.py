"""What does this very environment have?  Tables, columns, navigation names and keys, from one metadata request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote

from connectors.contract import Field
from connectors.dynamics365.entities import DOCUMENTS, LISTS, custom_field, declared, from_metadata

Json = dict[str, object]


@dataclass(frozen=True, slots=True)
class TableInfo:
    """One table as metadata describes it."""

    logical: str
    set: str
    id: str
    label: str
    tracked: bool
    fields: Mapping[str, Field]  # those that can be kept in agreement
    columns: frozenset[str]
    navigations: Mapping[tuple[str, str], str]  # (lookup, target table) -> navigation property, whose case counts
    keys: frozenset[str] = field(default_factory=frozenset)  # single-column alternate keys that are active


def objects(value: object) -> list[Json]:
    """Return the JSON objects of a list; anything else has none."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def table_names(prefix: str) -> list[str]:
    """Return all tables that metadata is asked for: entities, document lines, small lists."""
    lists = sorted({table for table, _ in LISTS.values()})
    return [*declared(prefix), *DOCUMENTS.values(), *lists]


def _any(column: str, names: Iterable[str]) -> str:
    return " or ".join(f"{column} eq '{name}'" for name in names)


def schema_query(prefix: str) -> str:
    """Return the query that tells all that describe() and a write must know.

    The attributes are narrowed by name, not by $select: only a whole attribute shows what its own class adds
    (MaxLength, Precision, Targets).  Columns that customers made are asked for as well.
    """
    fields = declared(prefix)
    names = {f.name for columns in fields.values() for f in columns}
    names |= {f.name for columns in fields.values() for f in columns for f in f.rows}
    names -= {"details"}
    custom = "IsCustomAttribute eq true"
    attributes = f"Attributes($filter={custom} or {_any('LogicalName', sorted(names))})"
    keys = "Keys($select=LogicalName,KeyAttributes,EntityKeyIndexStatus)"
    relations = (
        "ManyToOneRelationships($select=ReferencingAttribute,ReferencedEntity,ReferencingEntityNavigationPropertyName)"
    )
    select = "LogicalName,EntitySetName,PrimaryIdAttribute,ChangeTrackingEnabled,DisplayName"
    where = quote(_any("LogicalName", table_names(prefix)), safe="='(),")
    expand = f"{quote(attributes, safe='=(),$')},{keys},{relations}"
    return f"EntityDefinitions?$select={select}&$filter={where}&$expand={expand}"


def read_schema(content: Json, prefix: str) -> dict[str, TableInfo]:
    """Read the answer; a table that the environment lacks is not in it."""
    known = declared(prefix)
    return {
        str(row["LogicalName"]): _table(row, known.get(str(row["LogicalName"]), ()), frozenset(known))
        for row in objects(content.get("value"))
    }


def _table(row: Json, known: Sequence[Field], entities: frozenset[str]) -> TableInfo:
    logical = str(row["LogicalName"])
    attributes = {str(a["LogicalName"]): a for a in objects(row.get("Attributes"))}
    fields: dict[str, Field] = {}
    for declared_field in known:
        if declared_field.name == "details":
            fields["details"] = declared_field
        elif declared_field.name in attributes:
            fields[declared_field.name] = from_metadata(declared_field, attributes[declared_field.name])
    for name, attribute in attributes.items():
        own = custom_field(attribute, entities) if known and name not in fields else None
        if own is not None and attribute.get("IsCustomAttribute"):
            fields[name] = own
    navigations = {
        (str(r["ReferencingAttribute"]), str(r["ReferencedEntity"])): str(r["ReferencingEntityNavigationPropertyName"])
        for r in objects(row.get("ManyToOneRelationships"))
    }
    keys = {
        str(key["KeyAttributes"][0])
        for key in objects(row.get("Keys"))
        if isinstance(key["KeyAttributes"], list)
        and len(key["KeyAttributes"]) == 1
        and key.get("EntityKeyIndexStatus") == "Active"
    }
    display = row.get("DisplayName")
    labels = display.get("UserLocalizedLabel") if isinstance(display, dict) else None
    label = str(labels.get("Label")) if isinstance(labels, dict) else logical
    return TableInfo(
        logical, str(row["EntitySetName"]), str(row["PrimaryIdAttribute"]), label,
        bool(row.get("ChangeTrackingEnabled")), fields, frozenset(attributes), navigations, frozenset(keys),
    )  # fmt: skip
