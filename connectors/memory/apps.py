"""The in-memory system as a Django app."""

from django.apps import AppConfig


class MemoryConfig(AppConfig):
    name = "connectors.memory"
    label = "memory"
    verbose_name = "In-memory system"
    connector = "connectors.memory.connector.Memory"
