"""Which Django app brings the system `dynamics365`?"""

from django.apps import AppConfig


class Dynamics365Config(AppConfig):
    """Dynamics 365 by the Dataverse Web API; it has no tables of its own."""

    name = "connectors.dynamics365"
    label = "dynamics365"
    verbose_name = "Dynamics 365"
    connector = "connectors.dynamics365.connector.Dynamics365"
