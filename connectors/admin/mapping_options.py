"""How does a person pair the options of both systems, and see which have no partner?  The picklists tab of the mappings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import reverse

from connectors.admin.mapping_editor import frame, sync_or_404
from connectors.admin.mapping_saving import may_change_options, save_pairs
from connectors.models import EntitySync, FieldMapping
from connectors.sync import optioning
from connectors.sync.drafts import UNMAPPED, MappingsError, StaleMappings
from connectors.sync.optioning import PairRow, Picklist
from connectors.sync.rules import LEFT, RIGHT, Side
from connectors.sync.schema import SIDES, Schema, stored

MOST_PAIRS = 2000


def options_view(request: HttpRequest, sync_id: int) -> HttpResponse:
    """Show the picklists; a POST saves the pairs of one of them."""
    sync = sync_or_404(request, sync_id)
    schema = stored(sync.integration)
    if request.method != "POST":
        return _page(request, sync, schema)
    if not may_change_options(request.user):
        raise PermissionDenied
    mapping = get_object_or_404(
        FieldMapping.objects.filter(entity_sync=sync), pk=_number(request.POST.get("mapping", ""))
    )
    mapping.entity_sync = sync
    pairs = _sent(request.POST)
    settings = (request.POST.get("unmapped", ""), request.POST.get("default", ""))
    seen = request.POST.get("seen", "")
    if len(pairs) > MOST_PAIRS:  # what was cut off here would be removed
        told = f"One page takes at most {MOST_PAIRS:,} pairs, and these are {len(pairs):,}. Nothing was saved: import them as a file."
        return _page(request, sync, schema, mapping, pairs, settings, refusal=MappingsError({}, [told]))
    try:
        said = save_pairs(
            mapping, pairs, *settings, request.user, revision=_number(request.POST.get("revision", "")), schema=schema,
            why=request.POST.get("why", "").strip()[:100],
        )  # fmt: skip
    except MappingsError as refusal:
        return _page(request, sync, schema, mapping, pairs, settings, refusal=refusal)
    except StaleMappings:
        sync.refresh_from_db(fields=["revision"])
        return _page(request, sync, schema, mapping, pairs, settings, stale=_changed(seen, mapping))
    if said:
        more = f" and {len(said) - 3} more changes" if len(said) > 3 else ""
        messages.success(request, f"Saved: {'; '.join(said[:3])}{more}. The next run reads everything again.")
    else:
        messages.info(request, "Nothing was changed.")
    return redirect(f"{reverse('admin:connectors_mapping_options', args=[sync.pk])}#picklist-{mapping.pk}")


def _number(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) < 19 else 0


def _sent(told: Mapping[str, Any]) -> list[PairRow]:
    """Read the pairs that were sent, the ticked proposals among them."""
    lefts, rights = (told.getlist(name) for name in ("left_key", "right_key"))  # type: ignore[attr-defined]
    pairs = [PairRow(left, right) for left, right in zip(lefts, rights, strict=False) if left or right]
    for key in told.getlist("proposal"):  # type: ignore[attr-defined]
        left, found, right = key.partition("\x1f")
        if found:
            pairs.append(PairRow(left, right))
    return pairs


def _changed(seen: str, mapping: FieldMapping) -> list[str]:
    """Say what somebody else did to the pairs since they were shown."""
    was = dict.fromkeys(seen.split("\x1e")) if seen else {}
    now = {row.title: row for row in optioning.pair_rows(mapping)}
    said = [f"added {title}" for title in now if title not in was] + [
        f"removed {title}" for title in was if title not in now
    ]
    return said or ["another mapping or setting of this entity sync"]


def _page(
    request: HttpRequest, sync: EntitySync, schema: Schema, edited: FieldMapping | None = None, pairs: Sequence[PairRow] = (),
    settings: tuple[str, str] = ("", ""), *, refusal: MappingsError | None = None, stale: Sequence[str] = (),
) -> HttpResponse:  # fmt: skip
    found = [_shown(one, schema, sync) for one in optioning.picklists(sync, schema)]
    for one in found:
        if edited is not None and one["mapping"].pk == edited.pk:
            one |= _as_sent(one, pairs, settings, refusal, stale)
    context = {
        **frame(request, sync, "options", schema),
        "may": may_change_options(request.user),
        "picklists": found,
        "total": sum(one["list"].open_count for one in found),
        "revision": sync.revision,
        "unmapped_choices": UNMAPPED.items(),
    }
    return TemplateResponse(
        request, "syncline/mapping_options.html", context, status=409 if stale else 400 if refusal else 200
    )


def _shown(one: Picklist, schema: Schema, sync: EntitySync) -> dict[str, Any]:
    lines = [{"row": row, "error": ""} for row in optioning.pair_rows(one.mapping)]
    lines.sort(key=lambda line: str(line["row"].left_label or line["row"].left_key).casefold())  # type: ignore[attr-defined]
    return {
        "list": one,
        "mapping": one.mapping,
        "lines": lines,
        **{side: _side(one, side) for side in SIDES},
        "names": schema.described.names,
        "both": [(side, one.unmapped[side], schema.described.names[side]) for side in SIDES],
        "unmapped": one.mapping.unmapped or "park",
        "default": one.mapping.default,
        "tokens": {o.token: o.left_label or o.right_label or o.token for o in one.pairs},
        "seen": "\x1e".join(str(row["row"].title) for row in lines),  # type: ignore[attr-defined]
        "errors": [],
        "stale": [],
    }


def _side(one: Picklist, side: Side) -> dict[str, Any]:
    vanished = {each.option.key for each in one.unmapped[side] if each.vanished}
    return {
        "options": one.choices[side],
        "unmapped": one.unmapped[side],
        "is_list": one.is_list[side],
        "keys": {option.key for option in one.choices[side]} | vanished,
    }


def _as_sent(
    one: dict[str, Any],
    pairs: Sequence[PairRow],
    settings: tuple[str, str],
    refusal: MappingsError | None,
    stale: Sequence[str],
) -> dict[str, Any]:
    """Return what the person had entered, with what is wrong at each pair."""
    rows = refusal.rows if refusal else {}
    labels = {side: {o.key: o.label for o in one[side]["options"]} for side in (LEFT, RIGHT)}
    lines = [
        {
            "row": PairRow(
                p.left_key, p.right_key, labels[LEFT].get(p.left_key, ""), labels[RIGHT].get(p.right_key, "")
            ),
            "error": rows.get(place, {}).get("pair", ""),
        }
        for place, p in enumerate(pairs)
    ]
    return {
        "lines": lines, "unmapped": settings[0] or "park", "default": settings[1], "errors": refusal.general if refusal else [],
        "stale": list(stale),
    }  # fmt: skip
