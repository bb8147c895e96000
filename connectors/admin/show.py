"""How are canonical values shown to people?  References by the other record's name, options by label, rows as a short list."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from connectors.models import FieldMapping, RecordChange, RecordLink
from connectors.sync.explain import Labels, keys_in, labels_of, left_out, linked_by, name_of
from connectors.sync.plan import DELETED
from connectors.sync.rules import ARCHIVED, Side
from connectors.sync.values import CanonicalValues, decode

__all__ = ["ARROWS", "Shower", "arrow_of", "change_values", "name_of"]

ARROWS = {"both": "↔", "to_right": "→", "to_left": "←"}
NOWHERE = "∅"  # mapping and entity sync flow in opposite directions
LONGEST = 300  # characters of one value in a table


def arrow_of(mapping: FieldMapping) -> str:
    """Return the direction that a mapping has in effect: its own, as far as its entity sync lets values flow."""
    own, whole = mapping.direction, mapping.entity_sync.direction
    if "both" in (own, whole):
        return ARROWS[whole if own == "both" else own]
    return ARROWS[own] if own == whole else NOWHERE


@dataclass
class Shower:
    """Knows the names behind references and options of the values that one page shows."""

    names: Mapping[str, tuple[int, str, str]] = field(default_factory=dict)  # link key -> (link id, name, why left out)
    labels: Labels = field(default_factory=lambda: Labels(()))  # (mapping, token) -> label
    arrows: Mapping[str, str] = field(default_factory=dict)  # mapping -> direction

    @classmethod
    def of(cls, syncs: Iterable[int], values: Iterable[CanonicalValues]) -> Shower:
        """Look up all that these values mention: three queries."""
        syncs = list(set(syncs))
        keys = {key for each in values for value in each.values() for key in keys_in(value)}
        names = {
            key: (
                link.pk,
                name_of(link.base, link.left_staged, link.right_staged) or f"record {link.pk}",
                left_out(link),
            )
            for key, link in linked_by(keys).items()
        }
        mappings = FieldMapping.objects.filter(entity_sync__in=syncs).select_related("entity_sync")
        labels, arrows = labels_of(syncs), {m.name: arrow_of(m) for m in mappings}
        return cls(names, labels, arrows)

    def place(self, name: str) -> tuple[int, str]:
        """Return where a field stands: in the order of the mappings, then by name."""
        known = list(self.arrows)
        return (known.index(name) if name in self.arrows else len(known), name)

    def field_name(self, name: str) -> SafeString:
        """Return a mapping's two fields with the arrow between them."""
        if name == ARCHIVED:
            return format_html("<b>{}</b>", "Inactive")
        left, found, right = name.partition(">")
        if not found:
            return format_html("<b>{}</b>", name)
        return format_html(
            '<b>{}</b> <span class="sl-quiet">{} {}</span>',
            left.lstrip("@"),
            self.arrows.get(name, "↔"),
            right.lstrip("@"),
        )

    def held(self, link: RecordLink, side: Side, name: str, value: object) -> SafeString:
        """Return the value that one side of a record holds: of options that share a partner the very one."""
        label = self.labels.held(link, side, name, value)
        return format_html("{}", label) if label else self.value(name, value)

    def value(self, name: str, value: object) -> SafeString:
        """Return one value as a person reads it."""
        if value is None or value == "":
            return format_html('<span class="sl-quiet">{}</span>', "empty")
        if isinstance(value, bool):
            return format_html("{}", "yes" if value else "no")
        if isinstance(value, list):
            return self._rows(name, value)
        if isinstance(value, dict):
            return self._row(name, value)
        text = str(value)
        if text.startswith("@") and text[1:] in self.names:
            link_id, title, why = self.names[text[1:]]
            told = format_html(' <span class="sl-quiet">{}</span>', f"({why})") if why else ""
            return format_html('<a class="sl-link" href="{}">{}</a>{}', _link_url(link_id), title, told)
        if text.startswith("?"):
            place, _, record_id = text[1:].partition(":")
            entity = place.rpartition("/")[2]
            return format_html('{} {} <span class="sl-quiet">{}</span>', entity, record_id, "(not linked yet)")
        if text.startswith("!"):
            return format_html('{} <span class="sl-quiet">{}</span>', text[1:], "(option without partner)")
        label = self.labels.get((name, text))
        if label:
            return format_html('<span title="key {}">{}</span>', text, label)
        return format_html("{}", text if len(text) <= LONGEST else text[:LONGEST] + " …")

    def _rows(self, name: str, rows: list[object]) -> SafeString:
        lines = format_html_join("", "<li>{}</li>", ((self.value(name, row),) for row in rows[:50]))
        return format_html(
            '<details class="sl-rows"><summary>{} line{}</summary><ol>{}</ol></details>',
            len(rows), "" if len(rows) == 1 else "s", lines,
        )  # fmt: skip

    def _row(self, name: str, row: dict[str, object]) -> SafeString:
        parts = ((key, self.value(f"{name}.{key}", value)) for key, value in row.items() if value not in (None, ""))
        return format_html_join(", ", "{} {}", parts)

    def differences(self, change: RecordChange) -> list[dict[str, object]]:
        """Return what a change does to each field: before, after, the rule that decided, the loser's value."""
        before, after, rule, lost = (decode(t) for t in (change.before, change.after, change.rule, change.lost))
        found: list[dict[str, object]] = []
        for name in sorted({*before, *after} - {DELETED}, key=self.place):
            gave_up = lost.get(name)
            values: list[object] = list(gave_up.values()) if isinstance(gave_up, dict) else []
            found.append(
                {
                    "field": self.field_name(name),
                    "before": self.value(name, before[name]) if name in before else "",
                    "after": self.value(name, after[name]) if name in after else "",
                    "rule": rule.get(name, rule.get("*", "")),
                    "lost": [self.value(name, value) for value in values],
                }
            )
        return found

    def left_out(self, change: RecordChange) -> list[SafeString]:
        """Return what a person left out of a write: fields with the values that were proposed."""
        return [
            format_html("{} {}", self.field_name(name), self.value(name, value))
            for name, value in decode(change.left_out).items()
        ]


def change_values(changes: Iterable[RecordChange]) -> list[CanonicalValues]:
    """Return all values that these changes mention."""
    return [decode(text) for change in changes for text in (change.before, change.after, change.left_out)]


def _link_url(link_id: int) -> str:
    return reverse("admin:connectors_recordlink_change", args=[link_id])
