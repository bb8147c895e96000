"""Which Django app brings the QuickBooks Online connector?"""

from django.apps import AppConfig


class QuickBooksConfig(AppConfig):
    """The app has no models: its connector is found by the registry through `connector`."""

    name = "connectors.quickbooks"
    label = "quickbooks"
    verbose_name = "QuickBooks Online"
    connector = "connectors.quickbooks.connector.QuickBooks"
