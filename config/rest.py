"""What do all API views share?  Default deny, model permissions, newest first by keyset."""

from __future__ import annotations

from rest_framework.pagination import CursorPagination
from rest_framework.permissions import DjangoModelPermissions


class ModelPermissions(DjangoModelPermissions):
    """Reading needs the view permission, too."""

    perms_map = {**DjangoModelPermissions.perms_map, "GET": ["%(app_label)s.view_%(model_name)s"]}


class NewestFirst(CursorPagination):
    """Keyset paging: as fast on page 10,000 as on page 1."""

    ordering = "-id"
    page_size_query_param = "page_size"
    max_page_size = 500
