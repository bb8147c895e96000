"""The engine and the connectors' common parts as a Django app."""

from django.apps import AppConfig


class ConnectorsConfig(AppConfig):
    name = "connectors"
    verbose_name = "Sync"
