"""What does the engine keep?  CORE section 1 explains each table."""

from connectors.models.connection import ApiCall, Budget, ConcurrencySlot, Connection, LastCheck
from connectors.models.consent import PendingConsent
from connectors.models.history import changing, forget_change, keep_state
from connectors.models.hook import HeardEvent, Hook, HookMark
from connectors.models.integration import EntitySync, FieldMapping, Integration, PicklistMapping
from connectors.models.link import RecordLink
from connectors.models.problem import ProblemGroup
from connectors.models.run import Cursor, Event, Promotion, RecordChange, Run, Scope
from connectors.models.schema import SchemaDrift, SchemaSnapshot
from connectors.models.stranger import Stranger

__all__ = [
    "ApiCall",
    "Budget",
    "ConcurrencySlot",
    "Connection",
    "Cursor",
    "EntitySync",
    "Event",
    "FieldMapping",
    "HeardEvent",
    "Hook",
    "HookMark",
    "Integration",
    "LastCheck",
    "PendingConsent",
    "PicklistMapping",
    "ProblemGroup",
    "Promotion",
    "RecordChange",
    "RecordLink",
    "Run",
    "SchemaDrift",
    "SchemaSnapshot",
    "Scope",
    "Stranger",
    "changing",
    "forget_change",
    "keep_state",
]
