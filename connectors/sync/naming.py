"""What do people call both systems of an integration, and their fields?"""

from __future__ import annotations

from connectors.models import Connection, Integration
from connectors.registry import UnknownSystem, connector_class
from connectors.sync.rules import LEFT, RIGHT
from connectors.sync.schema import Schema
from connectors.sync.sentences import Names


def names_of(integration: Integration, known: Schema | None = None) -> Names:
    """Return what people call both systems and their fields."""
    fields: dict[tuple[str, str], str] = {}
    for side in (LEFT, RIGHT) if known is not None else ():
        for entity in known.described.entities[side].values() if known else ():
            for own in entity.fields:
                if own.label:
                    fields.setdefault((side, own.name), own.label)
    return Names(end_name(integration.left), end_name(integration.right), fields)


def end_name(connection: Connection) -> str:
    """Return a system with the connection's name: QuickBooks (Acme)."""
    try:
        title = connector_class(connection.system).title
    except UnknownSystem:
        title = connection.system
    return connection.name if title.casefold() in connection.name.casefold() else f"{title} ({connection.name})"
