"""How does a list of a million rows stay quick?  Capped counts, sorting by indexed columns alone, late pages found by id."""

from __future__ import annotations

from typing import Any

from django.core.paginator import Page, Paginator
from django.db.models import QuerySet
from django.utils.functional import cached_property
from unfold.views import ChangeList

MOST_COUNTED = 10_000


class LatePages(Paginator):
    """Finds the rows of a late or narrowed page by their ids alone: with all that a line shows, to skip or sort them costs tenfold."""

    def page(self, number: Any) -> Page:
        """Return one page."""
        found = super().page(number)
        rows, shown = self.object_list, found.object_list
        if isinstance(rows, QuerySet) and isinstance(shown, QuerySet) and (found.number > 1 or rows.query.where):
            found.object_list = rows.filter(pk__in=shown.values("pk"))
        return found


class CappedPaginator(LatePages):
    """Counts at most 10,001 rows: nobody needs the exact number of a million, and counting them takes a second."""

    template_name = "syncline/pagination.html"
    most = MOST_COUNTED

    @cached_property
    def count(self) -> int:
        rows: Any = self.object_list
        if isinstance(rows, QuerySet):
            rows = rows.order_by()  # in whichever order an index gives them
        return int(rows[: self.most + 1].count())

    @property
    def capped(self) -> bool:
        """There are more rows than were counted."""
        return self.count > self.most


class IndexedList(ChangeList):
    """Sorts by the columns that it offers and by nothing else, whatever an address says: the others have no index."""

    def get_ordering_field(self, field_name: Any) -> Any:
        """Return by what a column is sorted."""
        return super().get_ordering_field(field_name) if field_name in self.sortable_by else None
