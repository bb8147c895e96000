"""What do operators see of connections, integrations, runs and records, and what may they do with them?"""

from connectors.admin import (
    connections,
    entity_syncs,
    integrations,
    links,
    mappings,
    problems,
    promotions,
    records,
    runs,
)

__all__ = [
    "connections",
    "entity_syncs",
    "integrations",
    "links",
    "mappings",
    "problems",
    "promotions",
    "records",
    "runs",
]
