"""What may go to somebody who helps with one record?  How it stands and why, without secrets and without personal values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from connectors.models import EntitySync, Event, FieldMapping, RecordChange, RecordLink
from connectors.sync.explain import explain
from connectors.sync.gates import Gate
from connectors.sync.rules import LEFT, RIGHT
from connectors.sync.timeline import Kind, timeline
from connectors.sync.values import decode
from connectors.transport import redaction

MOST = 100  # lines of the history
SHORTEST = 3  # characters of a value that is looked for in messages


def bundle(link: RecordLink, gates: Iterable[Gate]) -> dict[str, object]:
    """Return all that is known of a record for somebody who helps: settings, state, history and requests."""
    found = explain(link)
    hidden = _Hidden(link)
    entries, _ = timeline(link, tuple(Kind), size=MOST)
    sides: dict[str, object] = {"left": _side(link, LEFT), "right": _side(link, RIGHT)}
    return {
        "record": {
            "link": link.pk,
            "key": link.key,
            "state": link.get_state_display(),
            "pending": link.get_pending_display() if link.pending is not None else "In agreement",
            "reason": link.reason,
            "sentence": hidden.text(found.sentence),
            "details": hidden.any("", found.args),
            "revision": link.revision,
            "settings_revision": link.settings_revision,
            **sides,
        },
        "gates": [{"gate": g.title, "passed": str(g.passed), "why": hidden.text(g.why)} for g in gates],
        "fields": [hidden.field(line) for line in found.fields],
        "integration": _integration(link),
        "entity_sync": _settings(link.entity_sync),
        "history": [_entry(entry.kind, entry.row, hidden) for entry in entries],
    }


def _side(link: RecordLink, side: str) -> dict[str, object]:
    connection = getattr(link.integration, side)
    life = getattr(link, f"get_{side}_life_display")()
    named = {name: getattr(link, f"{side}_{name}") for name in ("entity", "id", "version", "modified")}
    return {**named, "life": life, "system": connection.system, "connection": connection.get_state_display()}


def _integration(link: RecordLink) -> dict[str, object]:
    one, scope = link.integration, link.scope
    told = {"id": one.pk, "preset": one.preset, "enabled": one.enabled, "revision": one.revision}
    return {
        **told,
        "last_run": scope.last_done_at,
        "failures": scope.failures,
        "error": redaction.text(scope.last_error),
    }


def _settings(sync: EntitySync) -> dict[str, object]:
    names = ("name", "family", "left_entity", "right_entity", "direction", "policy", "on_delete", "edit_v_delete", "push",
             "match", "enabled", "revision")  # fmt: skip
    mappings = FieldMapping.objects.filter(entity_sync=sync).order_by("position", "id")
    columns = ("left", "right", "direction", "policy", "transform", "when", "required", "guard")
    told: dict[str, object] = {name: getattr(sync, name) for name in names}
    return {**told, "mappings": list(mappings.values(*columns))}


def _entry(kind: Kind, row: Any, hidden: _Hidden) -> dict[str, object]:
    told: dict[str, object] = {"kind": str(kind), "at": row.at, "id": row.pk}
    if isinstance(row, RecordChange):
        values = {name: hidden.any("", decode(getattr(row, name))) for name in ("before", "after", "lost")}
        told |= {
            "run": row.run_id, "side": row.side, "verb": row.verb, "status": row.status, "code": row.code,
            "field": row.field, "message": hidden.text(row.message), "rule": decode(row.rule), **values,
        }  # fmt: skip
    elif isinstance(row, Event):
        told |= {"code": row.code, "level": row.level, "run": row.run_id, "message": hidden.text(row.message)}
    else:
        told |= {"method": row.method, "path": hidden.text(row.path), "status": row.status, "ms": row.ms, "code": row.code,
                 "run": row.run_id, "job": row.job_id}  # fmt: skip
    return told


class _Hidden:
    """Puts a mark in the place of personal values: equal ones get the same, so that what differs can still be seen."""

    def __init__(self, link: RecordLink) -> None:
        self.marks: dict[str, str] = {}
        texts = [link.base, link.left_staged, link.right_staged, link.left_quirk, link.right_quirk]
        changes = RecordChange.objects.filter(link=link).order_by("-id").values_list("before", "after", "lost")[:MOST]
        for text in [*texts, *(text for row in changes for text in row)]:
            self.any("", decode(text))

    def any(self, name: str, value: object) -> object:
        """Return a value without what is personal in it; references, numbers and flags stay."""
        if isinstance(value, Mapping):
            return {key: self.any(f"{name} {key}", inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [self.any(name, inner) for inner in value]
        if not isinstance(value, str) or value.startswith(("@", "?", "!")):
            return value
        if not redaction.personal(name):
            return self.text(value)
        return self.marks.setdefault(value, f"[text {len(self.marks) + 1}, {len(value)} characters]") if value else ""

    def field(self, line: Mapping[str, object]) -> dict[str, object]:
        """Return a line of the explanation."""
        name = str(line["field"])
        shown = {side: self.any(name, line[side]) for side in ("left", "base", "right")}
        return {**line, **shown}

    def text(self, sentence: str) -> str:
        """Return a sentence without the record's own personal values and whatever looks like an address or a secret."""
        for value in sorted(self.marks, key=len, reverse=True):
            if len(value) >= SHORTEST:
                sentence = sentence.replace(value, self.marks[value])
        return redaction.text(sentence)
