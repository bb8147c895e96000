"""Did the row change since its page was opened?  Every form and every button of ours carries along what was shown."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest, HttpResponse
from django.utils.text import capfirst

from config import stale

KEPT = "Nothing was saved. What you typed is still here: look at it, then save again."


class Fresh(admin.ModelAdmin):
    """Refuses to save over what somebody else has saved meanwhile: what was typed stays, and saving again is possible.

    The page is sealed with the values that it showed of the form's own columns and of the rows below it.
    """

    change_form_before_template: Any = "syncline/_seen.html"

    def form_columns(self, request: HttpRequest, obj: Any, fields: Any) -> list[str]:
        """Return the columns whose change makes a form stale: those that it can change."""
        return [column.name for column in obj._meta.concrete_fields if column.name in fields]

    def button_columns(self, obj: Any) -> list[str]:
        """Return the columns whose change makes a button stale."""
        return stale.decisive(type(obj))

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        """A form that looks at the row once more before it is saved."""
        form = super().get_form(request, obj, **{"change": change, **kwargs})  # as Django's own UserAdmin wants it
        if obj is None or request.method != "POST" or stale.FIELD not in request.POST:
            return form

        admin_of_it = self

        class Seen(form):  # type: ignore[misc, valid-type]  # which form it is, is known only now
            def clean(self) -> Any:
                cleaned = super().clean()
                now = admin_of_it.page_values(request, obj, form.base_fields, lock=True)
                try:
                    stale.check(obj, request.POST[stale.FIELD], now)
                except stale.Stale as refusal:
                    self.add_error(None, f"{refusal} {KEPT}")
                return cleaned

        return Seen

    def page_values(self, request: HttpRequest, obj: Any, fields: Any, *, lock: bool = False) -> stale.Told:
        """Return what a page shows of a row as it is stored, with the rows below it; two who save at once stand in line."""
        rows = type(obj)._base_manager.filter(pk=obj.pk)
        row = (rows.select_for_update() if lock else rows).first()
        if row is None:
            return {}
        found = {**stale.told(row, self.form_columns(request, row, fields)), **stale.told_many(row, fields)}
        for inline in self.get_inline_instances(request, row):
            if not inline.has_change_permission(request, row):
                continue
            formset: Any = inline.get_formset(request, row)
            key = formset.fk.name
            for one in formset.model._base_manager.filter(**{key: row.pk}).order_by("pk"):
                values = stale.told(one, list(formset.form.base_fields))
                marks = "".join(mark for mark, _ in values.values())
                found[f"{capfirst(str(one._meta.verbose_name))} {one.pk}"] = [marks, str(one)[: stale.LONGEST]]
        return found

    def render_change_form(
        self,
        request: HttpRequest,
        context: Any,
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: Any = None,
    ) -> HttpResponse:
        """Seal the form's page; after a refusal with what is stored now, so that saving again is possible."""
        if obj is not None and obj.pk is not None and self.has_change_permission(request, obj):
            fields = context["adminform"].form.base_fields if "adminform" in context else {}
            context["sl_form_seen"] = stale.seal(obj, self.page_values(request, obj, fields))
        return super().render_change_form(request, context, add, change, form_url, obj)

    def seal(self, obj: Model) -> str:
        """Return what the buttons of a page carry along."""
        return stale.seal(obj, stale.told(obj, self.button_columns(obj)))

    def refuse_stale(self, request: HttpRequest, obj: Model) -> None:
        """Raise Stale where a button's page showed something else.  A button of a list carries nothing along."""
        sealed = request.POST.get(stale.FIELD, "")
        if sealed:
            stale.check(obj, sealed, stale.told(obj, self.button_columns(obj)))
