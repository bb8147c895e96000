"""Which entity is kept in agreement with which, by which rules?  Shown and changed on one page, with the effect before saving."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Count, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from unfold.admin import ModelAdmin

from connectors.admin import amending, entity_form, merging
from connectors.admin.amending import Shown
from connectors.admin.base import Page
from connectors.admin.entity_form import FilterLines, MatchLines, SettingsForm
from connectors.admin.show import ARROWS
from connectors.models import EntitySync
from connectors.sync import entity_settings
from connectors.sync.naming import names_of
from connectors.sync.schema import Schema
from connectors.sync.sentences import Names


@admin.register(EntitySync)
class EntitySyncAdmin(Page, ModelAdmin):
    """One left entity kept in agreement with one right entity."""

    list_display = ["name", "integration", "pair", "policy", "on_delete", "enabled", "mapped"]
    list_filter = ["integration", "enabled"]
    list_select_related = ["integration"]
    ordering = ["integration", "position", "id"]
    actions: list[str] = []
    page_template = "syncline/settings.html"

    @admin.display(description="Kept in agreement")
    def pair(self, sync: EntitySync) -> SafeString:
        arrow = ARROWS.get(sync.direction, "↔")
        return format_html(
            '{} <b title="{}">{}</b> {}', sync.left_entity, sync.get_direction_display(), arrow, sync.right_entity
        )

    @admin.display(description="Mappings")
    def mapped(self, sync: EntitySync) -> int:
        return int(getattr(sync, "mapping_count", 0))

    def get_queryset(self, request: HttpRequest) -> QuerySet[EntitySync]:
        """Read along what a row and its page name."""
        rows = super().get_queryset(request).annotate(mapping_count=Count("mappings"))
        return rows.select_related("integration__left", "integration__right").prefetch_related("mappings")

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Entity syncs come from a preset."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Its links would go with it: switch it off instead."""
        return False

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the settings; a POST shows the effect of other ones, or saves what was shown."""
        sync = self.get_object(request, object_id)
        if not self.has_view_permission(request, sync):
            raise PermissionDenied
        if sync is None:
            raise Http404
        if request.method != "POST":
            return self.show(request, sync, extra_context)
        if not self.has_change_permission(request, sync):
            raise PermissionDenied
        known, unreachable = amending.schema_of(sync.integration)
        page = _Entered(sync, known, entity_form.caught_up(sync, known, request.POST))
        shown = self._considered(request, page) if page.valid else Shown()
        if shown.saved is not None:
            self.message_user(
                request, f"Saved. {'. '.join(shown.saved)}. The next run reads everything again.", messages.SUCCESS
            )
            return redirect("admin:connectors_entitysync_change", sync.pk)
        return self.show(
            request, sync, {**_context(page, known, unreachable), "shown": shown, "refused": not page.valid}
        )

    def _considered(self, request: HttpRequest, page: _Entered) -> Shown:
        proposal = entity_settings.propose(page.sync, page.values)
        revision = int(page.form.cleaned_data["revision"])
        if not proposal.said:
            return Shown(warnings=["These are the settings that are there: nothing to save."])
        return amending.consider(request, proposal, page.known, page.sync, revision)

    def page(self, request: HttpRequest, obj: EntitySync) -> dict[str, Any]:
        """Return what the template shows."""
        known, unreachable = amending.schema_of(obj.integration)
        return {
            "title": f"{capfirst(obj.name)}: settings",
            "integration": obj.integration,
            "may": self.has_change_permission(request, obj),
            **_context(_Entered(obj, known, None), known, unreachable),
        }


class _Entered:
    """The three parts of the page, as they are stored or as they were entered."""

    def __init__(self, sync: EntitySync, known: Schema, given: Any) -> None:
        self.sync, self.known = sync, known
        # As loaded: where somebody saves at this very moment, the page is one of older settings, and says so.
        self.revision = sync.integration.revision
        self.seen = merging.seal(f"entity sync {sync.pk}", entity_form.state(sync, known))
        self.names: Names = names_of(sync.integration, known)
        where = entity_form.places(sync, known, self.names)
        self.form = SettingsForm(sync, known, self.names, given, initial=entity_form.initial(sync))
        self.filters: Any = FilterLines(
            given, prefix="filters", form_kwargs={"where": where}, initial=entity_form.filter_lines(sync, known)
        )
        self.match: Any = MatchLines(
            given, prefix="match", form_kwargs={"mappings": entity_settings.matchable(sync)}, initial=entity_form.match_lines(sync)
        )  # fmt: skip
        self.values: dict[str, Any] = {}
        self.problems: list[str] = []
        self.valid = given is not None and self._check()

    def _check(self) -> bool:
        if not all([self.form.is_valid(), self.filters.is_valid(), self.match.is_valid()]):
            return False
        filters = [(form, line) for form in self.filters if (line := form.line()) is not None]
        match = [(form, line) for form in self.match if (line := form.line()) is not None]
        kept = self._kept([line for _, line in filters])
        asked = self.form.asked(kept, self._all_of([line for _, line in match]))
        self.values, problems = entity_settings.check(self.sync, self.known, asked)
        for place, sentence in problems.items():
            self._refuse(place, sentence, [form for form, _ in filters], [form for form, _ in match])
        return not problems

    def _kept(self, lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """What is shown of a stored filter and comes back as shown is that filter: its value may be no text."""
        there = {
            (
                f"{line.get('side')}:{line.get('field')}",
                line.get("op"),
                entity_form.shown(self.sync, self.known, line),
            ): line
            for line in self.sync.filters
        }
        return [there.get((f"{n['side']}:{n['field']}", n["op"], n.get("value", "")), n) for n in lines]

    def _all_of(self, lines: list[list[str]]) -> list[list[str]]:
        """A rule of more mappings than the page offers keeps those it does not show."""
        longer = {tuple(each[: entity_form.BESIDE]): each for each in self.sync.match if len(each) > entity_form.BESIDE}
        return [longer.get(tuple(line), line) for line in lines]

    def _refuse(self, place: str, sentence: str, filters: list[Any], match: list[Any]) -> None:
        """Show a problem at its field."""
        name, _, rest = place.partition(".")
        number, _, part = rest.partition(".")
        if name == "filters" and number.isdecimal():
            filters[int(number)].add_error({"value": "value", "op": "op"}.get(part, "where"), sentence)
        elif name == "match" and number.isdecimal():
            match[int(number)].add_error("by0", sentence)
        elif (field := place.replace(".", "_")) in self.form.fields:
            self.form.add_error(field, sentence)
        else:
            self.problems.append(sentence)


def _context(page: _Entered, known: Schema, unreachable: str) -> dict[str, Any]:
    silent = [] if unreachable else [page.names.of(side) for side, error in known.errors.items() if error]
    return {
        "form": page.form, "filters": page.filters, "match": page.match, "page_problems": page.problems, "names": page.names,
        "revision": page.revision, "settings_seen": page.seen, "unreachable": unreachable, "silent": silent,
        "entities": {"left": page.sync.left_entity, "right": page.sync.right_entity},
    }  # fmt: skip
