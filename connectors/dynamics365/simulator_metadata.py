"""What does the simulated environment say of its own tables?  EntityDefinitions, choices, keys, and new columns."""

from __future__ import annotations

import re
import uuid

from connectors.dynamics365.simulator_query import Body, Node, Parser
from connectors.dynamics365.simulator_rows import RowRules
from connectors.dynamics365.simulator_tables import REQUIRED, Column, Table
from connectors.dynamics365.simulator_wire import Answer, Ask, Refused, json_answer, split_outside

_CAST = "Microsoft.Dynamics.CRM."
TYPES = {  # column type -> (metadata class, AttributeType)
    "string": ("String", "String"), "memo": ("Memo", "Memo"), "money": ("Money", "Money"),
    "decimal": ("Decimal", "Decimal"), "integer": ("Integer", "Integer"), "bigint": ("BigInt", "BigInt"),
    "boolean": ("Boolean", "Boolean"), "date": ("DateTime", "DateTime"), "datetime": ("DateTime", "DateTime"),
    "pick": ("Picklist", "Picklist"), "multi": ("MultiSelectPicklist", "Virtual"), "state": ("State", "State"),
    "status": ("Status", "Status"), "lookup": ("Lookup", "Lookup"), "id": ("", "Uniqueidentifier"),
}  # fmt: skip
_NAMESPACE = uuid.UUID("5d0e2f6a-7b1c-4d5e-8f90-112233445566")


def _metadata_id(*names: str) -> str:
    return str(uuid.uuid5(_NAMESPACE, "/".join(names)))


def label(text: str) -> Body:
    """Build a label in the one language of this environment."""
    one = {"Label": text, "LanguageCode": 1033, "IsManaged": True, "MetadataId": _metadata_id("label", text)}
    return {"LocalizedLabels": [{**one, "HasChanged": None}], "UserLocalizedLabel": {**one, "HasChanged": None}}


def display_name(name: str) -> str:
    """Make a readable name of a logical one."""
    return re.sub(r"(?<=\D)(?=\d)", " ", name.split("_", 1)[-1].replace("_", " ")).capitalize()


def option_set(table: Table, column: Column) -> Body:
    """Build a choice column's options as metadata shows them (sheet, section 4)."""
    options = []
    for value, text in column.options:
        option: Body = {
            "Value": value, "Label": label(text), "Description": {"LocalizedLabels": [], "UserLocalizedLabel": None},
            "Color": None, "IsManaged": True, "ExternalValue": "", "ParentValues": [],
        }  # fmt: skip
        if column.type == "status":
            option["State"] = next(state for key, _, state in table.statuses if key == value)
            option["TransitionData"] = None
        if column.type == "state":
            option["DefaultStatus"] = next(default for key, _, default in table.states if key == value)
            option["InvariantName"] = text.replace(" ", "")
        options.append(option)
    return {"MetadataId": _metadata_id(table.logical, column.name, "options"), "Options": options}


def attribute(table: Table, column: Column) -> Body:
    """Build one column's description, with what its own class adds."""
    kind, code = TYPES[column.type]
    if column.type == "lookup" and set(column.targets) == {"account", "contact"}:
        code = "Customer"
    if column.name == "ownerid":
        code = "Owner"
    row: Body = {
        "@odata.type": f"#{_CAST}{kind}AttributeMetadata",
        "LogicalName": column.name, "SchemaName": column.schema, "AttributeType": code,
        "AttributeTypeName": {"Value": f"{kind or code}Type"},
        "RequiredLevel": {"Value": REQUIRED[column.required], "CanBeChanged": True},
        "IsValidForCreate": not column.readonly, "IsValidForUpdate": not column.readonly and not column.create_only,
        "IsValidForRead": True, "IsCustomAttribute": column.custom, "IsPrimaryId": column.name == table.id,
        "IsPrimaryName": column.name == table.primary, "EntityLogicalName": table.logical, "AttributeOf": None,
        "DisplayName": label(display_name(column.name)), "MetadataId": _metadata_id(table.logical, column.name),
    }  # fmt: skip
    if column.type in {"string", "memo"}:
        row["MaxLength"] = column.size
    if column.type in {"money", "decimal"}:
        row["Precision"] = column.size
    if column.type in {"date", "datetime"}:
        only = column.type == "date"
        row["Format"] = "DateOnly" if only else "DateAndTime"
        row["DateTimeBehavior"] = {"Value": "DateOnly" if only else "UserLocal"}
    if column.type == "lookup":
        row["Targets"] = list(column.targets)
    return row


class MetadataPages:
    """Answers EntityDefinitions and its kin, and takes new columns, tables and keys."""

    def __init__(self, rules: RowRules, reader_tracked: dict[str, bool], switches: Body) -> None:
        self.rules, self.tables, self.tracked, self.switches = rules, rules.tables, reader_tracked, switches
        self.changes = 0

    def version(self) -> str:
        """Return the number that rises with every change of the schema."""
        columns = sum(len(table.columns) for table in self.tables.values())
        return str(5_000_000 + columns * 1000 + self.changes)

    def answer(self, ask: Ask) -> Answer:
        """Answer one request whose path begins with a metadata set."""
        name, _, key = ask.segments[0].partition("(")
        if ask.method == "POST":
            return self._post(ask, name)
        if ask.method != "GET":
            raise Refused(405, "0x80060888", f"The method {ask.method} is not simulated for metadata.")
        if name == "GlobalOptionSetDefinitions":
            return self._global(ask, key)
        if "$top" in ask.options or "$skip" in ask.options:
            raise Refused(400, "0x80060888", "The query parameter $top is not supported for metadata.")
        if not key:
            rows = [self.definition(table) for table in self.tables.values()]
            return self._set(ask, "EntityDefinitions", self._shape_all(rows, ask.options))
        table = self._table(key)
        if len(ask.segments) == 1:
            row = self._shape(self.definition(table), ask.options)
            return json_answer({"@odata.context": f"{ask.root}$metadata#EntityDefinitions/$entity", **row})
        return self._part(ask, table)

    def _table(self, key: str) -> Table:
        match = re.fullmatch(r"(?:LogicalName=)?'([^']+)'\)|([0-9a-f-]{36})\)", key)
        for table in self.tables.values():
            if match and (table.logical == match.group(1) or _metadata_id(table.logical) == match.group(2)):
                return table
        raise Refused(404, "0x80060888", f"Could not find an entity with the key {key.rstrip(')')}.")

    def definition(self, table: Table) -> Body:
        """Build one table's description; the collections are there for $expand."""
        name = display_name(table.logical)
        return {
            "MetadataId": _metadata_id(table.logical), "LogicalName": table.logical, "SchemaName": table.logical,
            "EntitySetName": table.set, "LogicalCollectionName": table.set, "PrimaryIdAttribute": table.id,
            "PrimaryNameAttribute": table.primary, "ObjectTypeCode": table.code, "IsCustomEntity": table.custom,
            "ChangeTrackingEnabled": self._is_tracked(table), "IsOptimisticConcurrencyEnabled": True,
            "OwnershipType": "UserOwned", "DisplayName": label(name), "DisplayCollectionName": label(f"{name}s"),
        }  # fmt: skip

    def _is_tracked(self, table: Table) -> bool:
        return self.tracked.get(table.logical, True) and self.switches.get("change_tracking", True) is True

    def collection(self, table: Table, name: str) -> list[Body]:
        """Return the rows of one part of a table's description."""
        if name == "Attributes":
            return [attribute(table, column) for column in table.columns.values()]
        if name == "Keys":
            return [
                {"LogicalName": key, "SchemaName": key, "KeyAttributes": list(columns),
                 "EntityKeyIndexStatus": "Active", "MetadataId": _metadata_id(table.logical, key)}
                for key, columns in table.keys.items()
            ]  # fmt: skip
        if name == "ManyToOneRelationships":
            return [
                {"SchemaName": f"{table.logical}_{column.name}_{target}", "ReferencingEntity": table.logical,
                 "ReferencingAttribute": column.name, "ReferencedEntity": target,
                 "ReferencedAttribute": self.tables[target].id, "ReferencingEntityNavigationPropertyName": navigation,
                 "RelationshipType": "OneToManyRelationship", "MetadataId": _metadata_id(table.logical, navigation)}
                for navigation, (column, target) in table.navigations.items()
            ]  # fmt: skip
        raise Refused(400, "0x0", f"Could not find a property named '{name}' on type '{_CAST}EntityMetadata'.")

    def _part(self, ask: Ask, table: Table) -> Answer:
        name, _, key = ask.segments[1].partition("(")
        rows = self.collection(table, name)
        cast = next((s.removeprefix(_CAST) for s in ask.segments[2:] if s.startswith(_CAST)), "")
        if cast:
            rows = [row for row in rows if row.get("@odata.type") == f"#{_CAST}{cast}"]
        if "OptionSet" in ask.options.get("$expand", ""):
            for row in rows:
                self._add_options(table, row)
        if not key:
            return self._set(ask, f"EntityDefinitions('{table.logical}')/{name}", self._shape_all(rows, ask.options))
        match = re.fullmatch(r"(?:LogicalName=)?'([^']+)'\)", key)
        found = next((row for row in rows if match and row["LogicalName"] == match.group(1)), None)
        if found is None:
            raise Refused(404, "0x80060888", f"Could not find the {name} with the key {key.rstrip(')')}.")
        return json_answer({"@odata.context": f"{ask.root}$metadata#{name}/$entity", **self._shape(found, ask.options)})

    def _add_options(self, table: Table, row: Body) -> None:
        column = table.columns[str(row["LogicalName"])]
        if column.type == "boolean":
            row["OptionSet"] = {
                "TrueOption": {"Value": 1, "Label": label("Yes")}, "FalseOption": {"Value": 0, "Label": label("No")},
            }  # fmt: skip
        elif column.options:
            row["OptionSet"], row["GlobalOptionSet"] = option_set(table, column), None

    def _global(self, ask: Ask, key: str) -> Answer:
        match = re.fullmatch(r"Name='([a-z_0-9]+)'\)", key)
        for table in self.tables.values():
            for column in table.columns.values():
                if match and f"{table.logical}_{column.name}" == match.group(1) and column.options:
                    return json_answer({"Name": match.group(1), **option_set(table, column)})
        raise Refused(404, "0x80060888", f"Could not find an option set with the key {key.rstrip(')')}.")

    # Query options of metadata

    def _set(self, ask: Ask, context: str, rows: list[Body]) -> Answer:
        content: Body = {"@odata.context": f"{ask.root}$metadata#{context}"}
        if ask.prefer().get("odata.include-annotations") == "*":
            content["@Microsoft.Dynamics.CRM.globalmetadataversion"] = self.version()
        return json_answer({**content, "value": rows})

    def _shape_all(self, rows: list[Body], options: dict[str, str]) -> list[Body]:
        if options.get("$filter"):
            # Enumeration literals are written with their type; the name alone says as much.
            text = re.sub(r"Microsoft\.Dynamics\.CRM\.\w+('[^']*')", r"\1", options["$filter"])
            node = Parser(text).filter()
            rows = [row for row in rows if _matches(node, row)]
        return [self._shape(row, options) for row in rows]

    def _shape(self, row: Body, options: dict[str, str]) -> Body:
        shaped = dict(row)
        if options.get("$select"):
            names = [name.strip() for name in options["$select"].split(",")]
            for name in names:
                if name not in row and "@odata.type" not in row:
                    raise Refused(
                        400, "0x0", f"Could not find a property named '{name}' on type '{_CAST}EntityMetadata'."
                    )
            keep = {*names, "MetadataId", "@odata.type", "OptionSet", "GlobalOptionSet"}
            shaped = {name: value for name, value in row.items() if name in keep}
        for item in split_outside(options.get("$expand", ""), ","):
            name, _, rest = item.strip().partition("(")
            if name in {"", "OptionSet", "GlobalOptionSet"}:
                continue
            inner = dict(o.strip().partition("=")[::2] for o in split_outside(rest.removesuffix(")"), ";") if o)
            table = self.tables[str(row["LogicalName"])]
            shaped[name] = self._shape_all(self.collection(table, name), inner)
        return shaped

    # New tables, columns, keys

    def _post(self, ask: Ask, name: str) -> Answer:
        payload = ask.json()
        self.changes += 1
        if name == "EntityDefinitions" and len(ask.segments) == 1:
            return self._new_table(ask, payload)
        if name == "CreateCustomerRelationships":
            return self._new_customer_lookup(payload)
        if name == "RelationshipDefinitions":
            return self._new_lookup(ask, payload)
        table = self._table(ask.segments[0].partition("(")[2])
        if ask.segments[1:] == ["Attributes"]:
            column = _column_from(payload)
            if column.name in table.columns:
                raise Refused(400, "0x80044153", f"Attribute '{column.name}' already exists on '{table.logical}'.")
            table.add(column)
        elif ask.segments[1:] == ["Keys"]:
            columns = payload.get("KeyAttributes")
            if not isinstance(columns, list) or not all(c in table.columns for c in columns):
                raise Refused(400, "0x80040203", "KeyAttributes names a column that is not there.")
            table.keys[str(payload["SchemaName"]).lower()] = tuple(str(c) for c in columns)
        else:
            raise Refused(404, "0x80060888", f"Resource not found for the segment '{ask.segments[-1]}'.")
        return Answer(
            204, b"", {"OData-EntityId": f"{ask.root}{'/'.join(ask.segments)}({uuid.uuid5(_NAMESPACE, ask.path)})"}
        )

    def _new_table(self, ask: Ask, payload: Body) -> Answer:
        logical = str(payload["SchemaName"]).lower()
        if logical in self.tables:
            raise Refused(400, "0x80044153", f"Entity '{logical}' already exists.")
        attributes = payload.get("Attributes")
        columns = [_column_from(row) for row in attributes] if isinstance(attributes, list) else []
        primary = next((c.name for c in columns), f"{logical.partition('_')[0]}_name")
        table = Table(logical, f"{logical}s", f"{logical}id", primary, 10_000 + len(self.tables), custom=True)
        for column in (
            Column(table.id, "id", create_only=True, required="system"),
            *(Column(n, t, readonly=True) for n, t in (("createdon", "datetime"), ("modifiedon", "datetime"))),
            Column("versionnumber", "bigint", readonly=True),
            Column("statecode", "state", options=tuple((v, text) for v, text, _ in table.states)),
            Column("statuscode", "status", options=tuple((v, text) for v, text, _ in table.statuses)),
            Column("transactioncurrencyid", "lookup", targets=("transactioncurrency",)),
            Column("exchangerate", "decimal", 10, readonly=True),
            *columns,
        ):
            table.add(column)
        self.tables[logical] = self.rules.sets[table.set] = table
        return Answer(204, b"", {"OData-EntityId": f"{ask.root}EntityDefinitions({_metadata_id(logical)})"})

    def _new_customer_lookup(self, payload: Body) -> Answer:
        lookup, relations = payload["Lookup"], payload["OneToManyRelationships"]
        if not isinstance(lookup, dict) or not isinstance(relations, list):
            raise Refused(400, "0x80040203", "Lookup and OneToManyRelationships are required.")
        targets = tuple(str(relation["ReferencedEntity"]) for relation in relations)
        column = Column(str(lookup["SchemaName"]).lower(), "lookup", targets=targets, custom=True)
        column.schema = str(lookup["SchemaName"])
        self.tables[str(relations[0]["ReferencingEntity"])].add(column)
        return json_answer({"AttributeId": _metadata_id(column.name), "RelationshipIds": []})

    def _new_lookup(self, ask: Ask, payload: Body) -> Answer:
        lookup = payload["Lookup"]
        if not isinstance(lookup, dict):
            raise Refused(400, "0x80040203", "Lookup is required.")
        schema = str(lookup["SchemaName"])
        column = Column(
            schema.lower(), "lookup", targets=(str(payload["ReferencedEntity"]),), custom=True, schema=schema
        )
        self.tables[str(payload["ReferencingEntity"])].add(column)
        return Answer(204, b"", {"OData-EntityId": f"{ask.root}RelationshipDefinitions({_metadata_id(schema)})"})


def _matches(node: Node, row: Body) -> bool:
    if node.kind == "and":
        return all(_matches(part, row) for part in node.parts)
    if node.kind == "or":
        return any(_matches(part, row) for part in node.parts)
    if node.kind == "not":
        return not _matches(node.parts[0], row)
    if node.kind != "compare" or node.operator not in {"eq", "ne"}:
        raise Refused(400, "0x80060888", "Metadata is filtered by eq and ne only.")
    value: object = row
    for name in node.path:
        if not isinstance(value, dict) or name not in value:
            raise Refused(400, "0x0", f"Could not find a property named '{name}' on type '{_CAST}MetadataBase'.")
        value = value[name]
    return (value == node.values[0].value) == (node.operator == "eq")


def _label_text(value: object) -> str:
    labels = value.get("LocalizedLabels") if isinstance(value, dict) else None
    return str(labels[0].get("Label", "")) if isinstance(labels, list) and labels else ""


def _column_from(payload: object) -> Column:
    """Read a new column's description."""
    if not isinstance(payload, dict) or "SchemaName" not in payload:
        raise Refused(400, "0x80040203", "SchemaName is required.")
    kind = str(payload.get("@odata.type", "")).rpartition(".")[2].removesuffix("AttributeMetadata")
    found = next((name for name, (cls, _) in TYPES.items() if cls == kind and name != "date"), None)
    if found is None or not kind:
        raise Refused(400, "0x80040203", f"The attribute type '{kind}' cannot be created.")
    if found == "datetime" and payload.get("Format") == "DateOnly":
        found = "date"
    schema = str(payload["SchemaName"])
    column = Column(schema.lower(), found, custom=True, schema=schema.lower())
    column.size = int(str(payload.get("MaxLength") or payload.get("Precision") or 0))
    options = payload.get("OptionSet")
    if isinstance(options, dict):
        column.options = tuple((int(o["Value"]), _label_text(o.get("Label"))) for o in options.get("Options", []))
    return column
