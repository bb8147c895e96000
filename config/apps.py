"""The admin site as an app: Syncline's own title and start page."""

from django.contrib.admin.apps import AdminConfig


class SynclineAdminConfig(AdminConfig):
    default_site = "config.admin.SynclineAdminSite"
