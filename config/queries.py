"""Does a query hold only what its operation takes?  A misspelt filter would give a full list that looks like an answer.

What an operation takes is read off its description, as for bodies (see `config.bodies`).
"""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django_filters import BooleanFilter
from django_filters.rest_framework import DjangoFilterBackend
from drf_spectacular.plumbing import ComponentRegistry
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from config.bodies import description


class Filters(DjangoFilterBackend):
    """Filters of a list; yes or no is true or false, and nothing else."""

    def filter_queryset(self, request: Request, queryset: QuerySet[Any], view: Any) -> QuerySet[Any]:
        """Refuse at its name what is neither; else it would be passed over."""
        filterset = self.get_filterset(request, queryset, view)
        if filterset is not None and filterset.is_valid():
            answers = {name for name, one in filterset.filters.items() if isinstance(one, BooleanFilter)}
            given = filterset.form.cleaned_data
            if wrong := [name for name in sorted(answers) if request.query_params.get(name) and given[name] is None]:
                raise ValidationError({name: ["This is true or false."] for name in wrong})
        return super().filter_queryset(request, queryset, view)


def refuse_unknown(view: Any, request: Request) -> None:
    """Raise ValidationError, with a sentence at each parameter that a list does not take."""
    known = _known(view, request)
    if known is not None and (wrong := sorted(set(request.query_params) - known)):
        told = f"There is no such parameter. Known: {', '.join(sorted(known)) or 'none'}."
        raise ValidationError({name: [told] for name in wrong})


def _known(view: Any, request: Request) -> frozenset[str] | None:
    """Return the parameters that a list's query may have; None where it is no list.  They are the same for all requests."""
    key = (type(view), str(view.action))
    if key not in _KNOWN:
        schema = description(view, request)
        schema.registry, schema.path, schema.path_regex = ComponentRegistry(), "", ""
        own = {
            name for (name, where), told in schema._process_override_parameters().items() if where == "query" and told
        }
        found = [*schema._get_filter_parameters(), *schema._get_pagination_parameters()]
        names = frozenset(own | {one["name"] for one in found if one["in"] == "query"})
        _KNOWN[key] = names if view.action == "list" or schema._is_list_view() else None
    return _KNOWN[key]


_KNOWN: dict[tuple[type[Any], str], frozenset[str] | None] = {}
