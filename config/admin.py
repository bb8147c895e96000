"""What does the admin's frame look like?"""

from unfold.sites import UnfoldAdminSite


class SynclineAdminSite(UnfoldAdminSite):
    """The one admin site."""

    site_title = "Syncline"
    site_header = "Syncline"
    index_title = "Overview"
