"""How do mappings and options leave as a CSV and come back?  Always with a preview; what was previewed is what is taken."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from unfold.widgets import UnfoldAdminFileFieldWidget

from connectors.admin.mapping_editor import frame, sync_or_404
from connectors.admin.mapping_saving import may_change, may_change_options, save_file
from connectors.models import EntitySync
from connectors.sync import mapping_files
from connectors.sync.drafts import MappingsError, StaleMappings
from connectors.sync.mapping_files import FIELDS, MOST_BYTES, RESOURCES, Difference, Fault
from connectors.sync.schema import Schema, stored


class FileForm(forms.Form):
    """The file alone: what is wrong in it is told by line and column."""

    file = forms.FileField(
        required=False, widget=UnfoldAdminFileFieldWidget(attrs={"accept": ".csv,text/csv", "aria-label": "CSV file"})
    )


def export_view(request: HttpRequest, sync_id: int, what: str) -> HttpResponse:
    """Give the CSV."""
    sync = sync_or_404(request, sync_id)
    if what not in RESOURCES:
        raise Http404
    answer = HttpResponse(mapping_files.export(sync, what).encode("utf-8-sig"), content_type="text/csv; charset=utf-8")
    name = "".join(
        c if c.isascii() and c.isalnum() else "-" for c in f"{sync.name}-{'mappings' if what == FIELDS else what}"
    )
    answer["Content-Disposition"] = f'attachment; filename="{name}.csv"'
    return answer


def import_view(request: HttpRequest, sync_id: int) -> HttpResponse:
    """Take a file: first show what it would change, then take exactly that."""
    sync = sync_or_404(request, sync_id)
    schema = stored(sync.integration)
    context: dict[str, Any] = {"what": request.GET.get("what", FIELDS)}
    if request.method == "POST":
        what = request.POST.get("what", FIELDS)
        if what not in RESOURCES:
            raise Http404
        if not (may_change if what == FIELDS else may_change_options)(request.user):
            raise PermissionDenied
        answer = _take(request, sync, schema, what)
        if isinstance(answer, HttpResponse):
            return answer
        context = {"what": what, **answer}
    context = {
        **frame(request, sync, "import", schema),
        "difference": None,
        "revision": sync.revision,
        "file_form": FileForm(),
        **context,
    }
    found = context["difference"]
    status = 409 if context.get("refused") else 400 if found is not None and found.faults else 200
    return TemplateResponse(request, "syncline/mapping_import.html", context, status=status)


def _take(request: HttpRequest, sync: EntitySync, schema: Schema, what: str) -> HttpResponse | dict[str, Any]:
    """Return what the page shows, or the way back once the file was taken."""
    text, fault = _text(request)
    remove = request.POST.get("remove") == "1"
    told = {"text": text, "remove": remove}
    if fault:
        return {**told, "difference": Difference(what, faults=[Fault(0, "", fault)])}
    found = mapping_files.read(sync, what, text, schema, remove=remove, revision=sync.revision)
    if found.faults or "confirmed" not in request.POST:
        return {**told, "difference": found}
    if request.POST["confirmed"] != found.print:
        refused = "The settings changed since the preview, or the file is another one. Nothing was saved: look at the difference again."
        return {**told, "difference": found, "refused": refused}
    try:
        changed = save_file(sync, found, request.user, revision=sync.revision, schema=schema)
    except (StaleMappings, MappingsError) as refusal:
        sync.refresh_from_db(fields=["revision"])
        return {
            **told,
            "difference": mapping_files.read(sync, what, text, schema, remove=remove, revision=sync.revision),
            "refused": str(refusal),
        }
    if changed:
        messages.success(
            request, f"Imported: {changed} change{'s'[: changed != 1]}. The next run reads everything again."
        )
    else:
        messages.info(request, "The file says what is there already. Nothing was changed.")
    return redirect(
        "admin:connectors_mapping_editor" if what == FIELDS else "admin:connectors_mapping_options", sync.pk
    )


def _text(request: HttpRequest) -> tuple[str, str]:
    """Return the file's text, or of a confirmation the text that was previewed; and what is wrong with it."""
    sent = request.FILES.get("file")
    if sent is None:
        text = request.POST.get("text", "")
        return text.replace("\r\n", "\n"), "" if text.strip() else "Choose a CSV file."
    if sent.size is None or sent.size > MOST_BYTES:
        return "", f"The file is larger than {MOST_BYTES:,} bytes."
    raw = sent.read()
    for encoding in ("utf-8-sig", "utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "cp1252"):
        try:
            text = raw.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\x00" not in text:
            return text.replace("\r\n", "\n"), ""
    return "", "The file is no text. Save it as CSV (UTF-8)."
