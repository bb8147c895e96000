"""The frame as two apps: the admin site with Syncline's own title and start page, and tokens, access and health."""

from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig
from django.db.models.signals import post_migrate


class SynclineAdminConfig(AdminConfig):
    default_site = "config.admin.SynclineAdminSite"


class FrameConfig(AppConfig):
    name = "config"
    verbose_name = "Access"

    def ready(self) -> None:
        """Rights follow the models; the people's pages and the API's description are loaded once all models are."""
        from config import access, openapi, people  # noqa: F401 - registers pages and extensions

        # Connected after Django's own receiver, which makes the rights: `config` stands below `django.contrib.auth`.
        post_migrate.connect(access.give_rights, dispatch_uid="config.access.give_rights")
