"""How does a person see and change which fields agree?  Rows by the real schema, tried on a record, checked before they are saved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib import admin, messages
from django.core.cache import cache
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import get_object_or_404, redirect, render
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.safestring import SafeString

from config import audit
from connectors.admin.base import Titled, ago, badge
from connectors.admin.mapping_forms import MOST_ROWS, RowForm, sent_forms, shown_forms
from connectors.admin.mapping_saving import MAY_READ, may_change, save_rows
from connectors.admin.show import ARROWS, Shower
from connectors.contract import Connector, ConnectorError, Kind
from connectors.models import EntitySync, FieldMapping, RecordLink, SchemaDrift
from connectors.sync import drafts, drift, trying
from connectors.sync.drafts import MappingsError, Row, StaleMappings
from connectors.sync.fitting import TONES, UNKNOWN, pairing, type_of
from connectors.sync.proposing import Proposal, propose
from connectors.sync.rules import ARCHIVED, LEFT, RIGHT, Side
from connectors.sync.schema import SIDES, Schema, stored
from connectors.sync.values import Canonical
from connectors.transport import connected, redaction
from jobs import clock

SEE = "connectors.view_fieldmapping"
SEE_RECORDS = "connectors.view_recordlink"
TRY_KEPT = 120  # seconds that a record which is tried stays read


@dataclass
class Shown:
    """One row as the template shows it."""

    form: RowForm
    row: Row
    badge: SafeString
    labels: Mapping[str, str]
    types: Mapping[str, str]
    samples: Sequence[tuple[SafeString, SafeString]] = ()


def sync_or_404(request: HttpRequest, sync_id: int) -> EntitySync:
    """Return the entity sync, if the person may see mappings."""
    if not request.user.has_perm(SEE):
        raise PermissionDenied
    return get_object_or_404(EntitySync.objects.select_related("integration__left", "integration__right"), pk=sync_id)


def frame(request: HttpRequest, sync: EntitySync, tab: str, schema: Schema) -> dict[str, Any]:
    """Return what all pages of the editor share."""
    title = f"Mappings of {sync.name}"
    request.current_app = admin.site.name
    return {
        **admin.site.each_context(request),
        "title": title,
        "opts": FieldMapping._meta,
        "original": Titled(sync, title),
        "sync": sync,
        "tab": tab,
        "arrow": ARROWS.get(sync.direction, "↔"),
        "schema": schema,
        "read_at": [
            (schema.described.names[side], ago(schema.read_at.get(side)), schema.errors.get(side)) for side in SIDES
        ],
        "drifts": list(drift.open_drifts(sync=sync)[:20]),
        "may": may_change(request.user),
        "may_read": request.user.has_perm(MAY_READ),
        "may_import": may_change(request.user),
    }


# The editor


def editor_view(request: HttpRequest, sync_id: int) -> HttpResponse:
    """Show the rows; a POST checks them, and saves what was shown with its effect and confirmed."""
    sync = sync_or_404(request, sync_id)
    schema = stored(sync.integration)
    if request.method != "POST":
        return _page(request, sync, schema, drafts.rows_of(sync))
    if not may_change(request.user):
        raise PermissionDenied
    there = {row.id: row for row in drafts.rows_of(sync)}
    sent = [form for _, form in sent_forms(request.POST)]
    rows = [form.row(sync, schema, there) for form in sent]
    if request.POST.get("do") == "propose":
        return _page(request, sync, schema, [*rows, *_ticked(request, sync, schema, rows)], forms_of=sent, opened=True)
    errors = {place: {k: str(v[0]) for k, v in form.errors.items()} for place, form in enumerate(sent) if form.errors}
    return _save(request, sync, schema, rows, sent, errors)


def _save(
    request: HttpRequest,
    sync: EntitySync,
    schema: Schema,
    rows: list[Row],
    sent: list[RowForm],
    errors: dict[int, dict[str, str]],
) -> HttpResponse:
    revision = int(text) if (text := request.POST.get("revision", "")).isdecimal() and len(text) < 10 else 0
    seen = drafts.from_told(request.POST.get("seen", ""))
    general: Sequence[str] = ()
    try:
        drafts.check(sync, rows, schema)
    except MappingsError as refusal:
        for place, own in refusal.rows.items():
            errors[place] = {**own, **errors.get(place, {})}
        general = refusal.general
    if len(rows) > MOST_ROWS:
        told = f"One page takes at most {MOST_ROWS} rows, and these are {len(rows)}. Nothing was saved: import them as a file."
        general = [told, *general]
    if errors or general:
        return _page(
            request, sync, schema, rows, errors=errors, general=general, forms_of=sent, revision=revision, seen=seen
        )
    print_ = drafts.print_of(rows, revision)
    said = drafts.differences(drafts.rows_of(sync), rows)
    if said and revision == sync.revision and request.POST.get("confirmed") != print_:
        confirm = {
            "print": print_,
            "said": said,
            "effect": drafts.effect_of(sync, rows, timezone.localdate(clock.now())),
        }
        return _page(request, sync, schema, rows, forms_of=sent, confirm=confirm)
    why = request.POST.get("why", "").strip()[:100]
    try:
        saved = save_rows(sync, rows, request.user, revision=revision, why=why, seen=seen)
    except StaleMappings as refusal:
        now = drafts.rows_of(sync)
        stale = {"changed": refusal.changed or drafts.differences(seen, now)}
        sync.refresh_from_db(fields=["revision"])
        return _page(request, sync, schema, drafts.merged(seen, rows, now), stale=stale)
    except MappingsError as refusal:
        return _page(request, sync, schema, rows, errors=refusal.rows, general=refusal.general, forms_of=sent)
    if saved:
        messages.success(request, f"Saved: {_short(saved)}. The next run reads everything again.")
    else:
        messages.info(request, "Nothing was changed.")
    return redirect("admin:connectors_mapping_editor", sync.pk)


def _short(said: Sequence[str]) -> str:
    rest = f" and {len(said) - 3} more changes" if len(said) > 3 else ""
    return "; ".join(said[:3]) + rest


def _ticked(request: HttpRequest, sync: EntitySync, schema: Schema, rows: Sequence[Row]) -> list[Row]:
    """Turn ticked proposals into rows that are not saved yet."""
    wanted = set(request.POST.getlist("proposal"))
    return [
        Row(left=p.left, right=p.right, direction=p.direction)
        for p in proposals_of(sync, schema, rows)
        if p.key in wanted
    ]


def proposals_of(sync: EntitySync, schema: Schema, rows: Sequence[Row]) -> list[Proposal]:
    """Return what could be mapped besides these rows."""
    left, right = schema.of(LEFT, sync), schema.of(RIGHT, sync)
    if left is None or right is None:
        return []
    found = propose(left.fields, right.fields, [(row.left, row.right) for row in rows])
    if sync.direction == "both":
        return found
    # What can't flow the entity sync's way would do nothing.
    return [proposal for proposal in found if proposal.direction in ("both", sync.direction)]


def _page(
    request: HttpRequest, sync: EntitySync, schema: Schema, rows: Sequence[Row], *, errors: Mapping[int, Mapping[str, str]] | None = None,
    general: Sequence[str] = (), forms_of: Sequence[RowForm] = (), stale: Mapping[str, Any] | None = None,
    confirm: Mapping[str, Any] | None = None, opened: bool = False, revision: int | None = None, seen: Sequence[Row] = (),
) -> HttpResponse:  # fmt: skip
    forms = list(shown_forms(rows, errors))
    for place, form in enumerate(forms_of):  # what can't be read stands as it was entered
        for name in form.errors if place < len(forms) else ():
            forms[place].data = {**forms[place].data, f"rows-{place}-{name}": form.data.get(form.add_prefix(name), "")}
    known = drafts.rows_of(sync)
    context = {
        **frame(request, sync, "fields", schema),
        "rows": _shown(request, sync, schema, rows, forms),
        "blank_shown": _shown_blank(),
        "general": general,
        "errors": len(errors or {}),
        "stale": stale,
        "confirm": confirm,
        "unsaved": rows != known,
        "revision": sync.revision if revision is None else revision,
        "seen": drafts.told(seen or known),
        "proposals": proposals_of(sync, schema, rows),
        "proposals_open": opened,
        "news": _news(sync, schema, rows),
        "fields_told": {side: _fields(sync, schema, side) for side in SIDES},
        "pairings": _pairings(),
        "records": _records(request, sync),
        "policies": drafts.POLICIES,
    }
    status = 409 if stale else 400 if errors or general else 200
    return TemplateResponse(request, "syncline/mappings.html", context, status=status)


def _shown(
    request: HttpRequest, sync: EntitySync, schema: Schema, rows: Sequence[Row], forms: Sequence[RowForm]
) -> list[Shown]:
    links = trying.last_records(sync) if request.user.has_perm(SEE_RECORDS) else []
    values = trying.samples(links)
    shower = Shower.of(
        [sync.pk], [{name: _canonical(v) for name, pairs in values.items() for pair in pairs for v in pair}]
    )
    entities = {side: schema.of(side, sync) for side in SIDES}
    found: list[Shown] = []
    for row, form in zip(rows, forms, strict=True):
        own = {side: entity.field(getattr(row, side)) if (entity := entities[side]) else None for side in SIDES}
        pairs = values.get(row.name, []) if row.id is not None else []
        found.append(
            Shown(
                form,
                row,
                badge_of(sync, row, schema),
                {side: (f.label or f.name) if (f := own[side]) else _label(getattr(row, side)) for side in SIDES},
                {side: type_of(own[side]) for side in SIDES},
                [(shower.value(row.name, a), shower.value(row.name, b)) for a, b in pairs],
            )  # fmt: skip
        )
    return found


def _shown_blank() -> Shown:
    """Return the row that a person adds; the script gives it its number."""
    form = RowForm({"rows-0-direction": "both", "rows-0-when": "always", "rows-0-unmapped": "park"}, prefix="rows-0")
    form.is_valid()
    form.errors.clear()
    return Shown(form, Row(), badge("New", "Choose both fields."), {LEFT: "", RIGHT: ""}, {LEFT: "", RIGHT: ""})


def _canonical(value: object) -> Canonical:
    return value  # type: ignore[return-value]  # it was decoded from canonical text


def _label(name: str) -> str:
    return "Inactive" if name == ARCHIVED else name


def badge_of(sync: EntitySync, row: Row, schema: Schema) -> SafeString:
    """Return whether the two fields of a row fit."""
    if not row.left and not row.right:
        return badge("New", "Choose both fields.")
    judged = drafts.fit_of(sync, row, schema)
    if judged is None:
        return badge(UNKNOWN, "The schema has not been read yet.")
    return badge(judged.word, judged.why, judged.tone)


def _fields(sync: EntitySync, schema: Schema, side: Side) -> list[dict[str, object]]:
    """Return the fields of one side for the lists: name, label, type, kind."""
    entity = schema.of(side, sync)
    now = clock.now()
    inactive: dict[str, object] = {
        "name": ARCHIVED, "label": "Inactive", "type": "whether the record is inactive", "kind": ARCHIVED, "write": "always",
    }  # fmt: skip
    told = [inactive]
    for own in entity.fields if entity else ():
        new = entity is not None and schema.new_since(side, entity.name, own.name, now) is not None
        told.append(
            {"name": own.name, "label": own.label or own.name, "type": type_of(own), "kind": own.kind.value,
             "write": own.write.value, "new": new}
        )  # fmt: skip
    return told


def _pairings() -> dict[str, dict[str, str]]:
    """Return of each kind the kinds that don't fit it, with the reason: the lists grey by it."""
    return {
        left.value: {
            right.value: why
            for right in Kind
            if (told := pairing(left, right))[0] == "Doesn't fit" and (why := told[1])
        }
        for left in Kind
    }


def _news(sync: EntitySync, schema: Schema, rows: Sequence[Row]) -> list[dict[str, object]]:
    """Return fields that appeared lately and that no row uses."""
    found: list[dict[str, object]] = []
    now = clock.now()
    for side in SIDES:
        entity = schema.of(side, sync)
        used = {getattr(row, side) for row in rows}
        for own in entity.fields if entity else ():
            since = schema.new_since(side, entity.name, own.name, now) if entity else None
            if since is not None and own.name not in used:
                found.append(
                    {"side": side, "name": own.name, "label": own.label or own.name, "type": type_of(own), "since": ago(since),
                     "badge": badge("New in schema", f"{own.name} was not there at an earlier look.", TONES["New in schema"])}
                )  # fmt: skip
    return found


def _records(request: HttpRequest, sync: EntitySync) -> list[tuple[int, str]]:
    if not (request.user.has_perm(SEE_RECORDS) and request.user.has_perm(MAY_READ)):
        return []
    return [(link.pk, trying.title_of(link)) for link in trying.last_records(sync)]


# Test with a record


def records_view(request: HttpRequest, sync_id: int) -> HttpResponse:
    """Return the records that a search finds, as options of a list."""
    sync = sync_or_404(request, sync_id)
    if not request.user.has_perms([SEE_RECORDS, MAY_READ]):
        raise PermissionDenied
    found = trying.find_records(sync, request.GET.get("q", "")[:200])
    return render(
        request, "syncline/_mapping_records.html", {"records": [(link.pk, trying.title_of(link)) for link in found]}
    )


def try_view(request: HttpRequest, sync_id: int) -> HttpResponse:
    """Judge the rows as they stand on the page, and try them on a record.  Nothing is saved."""
    if request.method != "POST":
        return HttpResponseNotAllowed(["POST"])
    sync = sync_or_404(request, sync_id)
    schema = stored(sync.integration)
    there = {row.id: row for row in drafts.rows_of(sync)}
    sent = list(sent_forms(request.POST, MOST_ROWS))
    rows = [form.row(sync, schema, there) for _, form in sent]
    context: dict[str, Any] = {"error": "", "record": ""}
    tried: dict[int, trying.Line] = {}
    if (chosen := request.POST.get("record", "")).isdecimal() and len(chosen) < 19:
        if not request.user.has_perms([SEE_RECORDS, MAY_READ]):
            raise PermissionDenied
        link = RecordLink.objects.filter(pk=int(chosen), entity_sync=sync).first()
        if link is None:
            context["error"] = "This record is not there any more."
        else:
            try:
                records = read_record(link, sync, schema, request.user.pk)
                tried = {line.place: line for line in trying.attempt(sync, rows, schema, records)}
                context["record"] = trying.title_of(link)
            except ConnectorError as error:
                context["error"] = redaction.text(str(error))
    context["rows"] = [
        {"number": number, "badge": badge_of(sync, row, schema), "line": tried.get(place), "errors": form.errors}
        for place, ((number, form), row) in enumerate(zip(sent, rows, strict=True))
    ]
    return render(request, "syncline/_mapping_tried.html", context)


def read_record(link: RecordLink, sync: EntitySync, schema: Schema, person: object) -> trying.Records:
    """Read both sides of a record; for two minutes the edits of one person need no further call."""
    key = f"mapping-try:{person}:{sync.pk}:{link.pk}:{link.revision}"
    kept: trying.Records | None = cache.get(key)
    if kept is not None:
        return kept
    opened: dict[Side, Any] = {}
    try:

        def connect(side: Side) -> Connector:
            opened[side] = connected(getattr(sync.integration, side))
            found: Connector = opened[side].__enter__()
            return found

        records = trying.read(link, schema, sync, connect)
    finally:
        for each in opened.values():
            each.__exit__(None, None, None)
    cache.set(key, records, TRY_KEPT)
    return records


# The schema


def schema_view(request: HttpRequest, sync_id: int) -> HttpResponse:
    """Ask both systems what they have now."""
    if request.method != "POST":
        return HttpResponseNotAllowed(["POST"])
    sync = sync_or_404(request, sync_id)
    if not request.user.has_perm(MAY_READ):
        raise PermissionDenied
    try:
        found = look_now(sync)
    except ConnectorError as error:
        messages.error(request, redaction.text(str(error)))
    else:
        audit.log_action(request.user, sync, "Schema read.", {}, {})
        failures = stored(sync.integration).errors
        for side, why in failures.items():
            messages.error(request, f"{getattr(sync.integration, side).name} could not be read: {why}")
        if not failures:
            own = [row for row in found if row.entity_sync_id == sync.pk]
            told = (
                f"{len(own)} thing{'s'[: len(own) != 1]} changed that mappings need."
                if own
                else "Nothing that mappings need has changed."
            )
            messages.success(request, f"The schema of both systems was read. {told}")
    return redirect("admin:connectors_mapping_editor", sync.pk)


def look_now(sync: EntitySync) -> list[SchemaDrift]:
    """Read both schemas now, whoever looked last.  Raises ConnectorError where a connection can't even be opened."""
    integration = sync.integration
    with connected(integration.left) as left, connected(integration.right) as right:
        return drift.look(integration, {LEFT: left, RIGHT: right}, clock.now())


def seen_view(request: HttpRequest, drift_id: int) -> HttpResponse:
    """Put a drift aside: somebody has seen it and leaves it so."""
    if request.method != "POST":
        return HttpResponseNotAllowed(["POST"])
    row = get_object_or_404(SchemaDrift.objects.select_related("entity_sync"), pk=drift_id)
    if not may_change(request.user):
        raise PermissionDenied
    with audit.acting(request.user, row, "Schema drift put aside."):
        done = drift.dismiss(row, now=clock.now(), by=str(request.user))
    if done:
        messages.success(request, "Put aside. It is told again when it changes again.")
    return redirect(reverse("admin:connectors_mapping_editor", args=[row.entity_sync_id]))
