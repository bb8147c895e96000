"""What must an administrator add to the environment, and how is it added?  Our own table and columns."""

from __future__ import annotations

from dataclasses import dataclass

from connectors.dynamics365.connector import HEADERS, Dynamics365
from connectors.dynamics365.entities import DOCUMENTS
from connectors.dynamics365.errors import call_error
from connectors.dynamics365.schema import Json

_TYPE = "Microsoft.Dynamics.CRM."
_PROMOTE = ((0, "None"), (1, "Queued"), (2, "Success"), (3, "Error"))
_TRANSACTION = ((1, "Invoice"), (2, "Payment"), (3, "Credit memo"), (4, "Estimate"), (5, "Sales receipt"))
_BALANCES = (
    "currentbalance", "totalbalance", "agingcurrent", "aging30", "aging60", "aging90", "aging91", "ytdsales",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Required:
    """One column that the preset needs (inolink sheet, "What the preset needs in Dataverse")."""

    name: str
    kind: str  # String, Memo, Money, Decimal, Date, Picklist, Customer
    size: int = 0
    options: tuple[tuple[int, str], ...] = ()


def _promoted(prefix: str) -> list[Required]:
    return [
        Required(f"{prefix}_externalid", "String", 60),
        Required(f"{prefix}_promote", "Picklist", options=_PROMOTE),
        Required(f"{prefix}_promotemessage", "Memo", 2000),
        Required(f"{prefix}_linkkey", "String", 36),
    ]


def required_columns(prefix: str) -> dict[str, list[Required]]:
    """Return what each table needs; the first column of our own table is its name."""
    promoted = _promoted(prefix)
    balances = [Required(f"{prefix}_{name}", "Money") for name in _BALANCES]
    days = [Required(f"{prefix}_{name}", "Date") for name in ("agingasof", "lasttransactiondate")]
    return {
        "account": [*balances, *days, *promoted],
        "contact": [*balances, *days, *promoted],
        "product": [Required(f"{prefix}_quantityonhand", "Decimal", 5), *promoted],
        **dict.fromkeys(DOCUMENTS, promoted),
        f"{prefix}_salestransaction": [
            Required(f"{prefix}_name", "String", 200),
            Required(f"{prefix}_type", "Picklist", options=_TRANSACTION),
            Required(f"{prefix}_number", "String", 50),
            *(Required(f"{prefix}_{name}", "Date") for name in ("date", "duedate")),
            *(Required(f"{prefix}_{name}", "Money") for name in ("amount", "balance")),
            Required(f"{prefix}_status", "String", 50),
            Required(f"{prefix}_memo", "Memo", 2000),
            Required(f"{prefix}_customerid", "Customer"),
            Required(f"{prefix}_externalid", "String", 60),
            Required(f"{prefix}_linkkey", "String", 36),
        ],
    }


def missing_columns(connector: Dynamics365) -> list[str]:
    """Return what the environment lacks, in words for its administrator; empty when all is there."""
    found: list[str] = []
    for logical, columns in required_columns(connector.prefix).items():
        info = connector.schema().get(logical)
        if info is None:
            found.append(f"table {logical}")
        for column in columns:
            if info is None or column.name not in info.columns:
                size = f" {column.size}" if column.size else ""
                found.append(f"{logical}.{column.name} ({column.kind.lower()}{size})")
        key = f"{connector.prefix}_linkkey"
        if info is None or key not in info.keys:
            found.append(f"alternate key on {logical}.{key}")
    return found


def create_columns(connector: Dynamics365) -> list[str]:
    """Add all that is missing through the metadata API; returns what was added.  Needs the customizer's role."""
    before = missing_columns(connector)
    key = f"{connector.prefix}_linkkey"
    for logical, columns in required_columns(connector.prefix).items():
        info = connector.schema().get(logical)
        there = info.columns if info is not None else frozenset()
        if info is None:
            first, *columns = columns
            _post(connector, "EntityDefinitions", _table(logical, first))
        path = f"EntityDefinitions(LogicalName='{logical}')"
        for column in columns:
            if column.name in there:
                continue
            if column.kind == "Customer":
                _post(connector, "CreateCustomerRelationships", _customer(logical, column))
            else:
                _post(connector, f"{path}/Attributes", _attribute(column))
        if info is None or key not in info.keys:
            content: Json = {"SchemaName": f"{key}_key", "DisplayName": _label("Link key"), "KeyAttributes": [key]}
            _post(connector, f"{path}/Keys", content)
    connector.forget_schema()
    return before


def _post(connector: Dynamics365, path: str, content: Json) -> None:
    reply = connector.http.request("POST", connector.root + path, json=content, headers=HEADERS, repeatable=False)
    if reply.status >= 400:
        raise call_error(reply, connector.now())


def _label(text: str) -> Json:
    return {
        "@odata.type": f"{_TYPE}Label",
        "LocalizedLabels": [{"@odata.type": f"{_TYPE}LocalizedLabel", "Label": text, "LanguageCode": 1033}],
    }


def _title(name: str) -> str:
    return name.partition("_")[2].capitalize()


def _attribute(column: Required) -> Json:
    kind = "DateTime" if column.kind == "Date" else column.kind
    content: Json = {
        "@odata.type": f"{_TYPE}{kind}AttributeMetadata",
        "SchemaName": column.name,
        "DisplayName": _label(_title(column.name)),
        "RequiredLevel": {"Value": "None"},
    }
    if column.kind in {"String", "Memo"}:
        content["MaxLength"] = column.size
    elif column.kind in {"Money", "Decimal"}:
        content["Precision"] = column.size or 4
    elif column.kind == "Date":
        content |= {"Format": "DateOnly", "DateTimeBehavior": {"Value": "DateOnly"}}
    elif column.kind == "Picklist":
        options = [{"Value": value, "Label": _label(text)} for value, text in column.options]
        content["OptionSet"] = {
            "@odata.type": f"{_TYPE}OptionSetMetadata", "IsGlobal": False, "OptionSetType": "Picklist",
            "Options": options,
        }  # fmt: skip
    return content


def _table(logical: str, first: Required) -> Json:
    return {
        "@odata.type": f"{_TYPE}EntityMetadata",
        "SchemaName": logical,
        "DisplayName": _label("Sales transaction"),
        "DisplayCollectionName": _label("Sales transactions"),
        "OwnershipType": "UserOwned",
        "HasActivities": False,
        "HasNotes": False,
        "ChangeTrackingEnabled": True,
        "Attributes": [{**_attribute(first), "IsPrimaryName": True}],
    }


def _customer(logical: str, column: Required) -> Json:
    prefix, _, rest = column.name.partition("_")
    relations = [
        {
            "SchemaName": f"{column.name}_{target}",
            "ReferencedEntity": target,
            "ReferencingEntity": logical,
        }
        for target in ("account", "contact")
    ]
    lookup = {
        "@odata.type": f"{_TYPE}ComplexLookupAttributeMetadata",
        "AttributeType": "Lookup",
        "SchemaName": f"{prefix}_{rest.removesuffix('id').capitalize()}Id",
        "DisplayName": _label("Customer"),
    }
    return {"OneToManyRelationships": relations, "Lookup": lookup}
