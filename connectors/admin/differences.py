"""What would a proposal change, side by side?  Left now, what both agreed on, right now, what will be written, and why."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from difflib import SequenceMatcher

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from connectors.admin.show import LONGEST, Shower
from connectors.models import Integration, RecordChange, RecordLink, Run
from connectors.registry import UnknownSystem, connector_class
from connectors.sync.plan import MARKS, Life
from connectors.sync.proposals import is_removal, is_ticked, now_of, why_fixed
from connectors.sync.rules import LEFT, RIGHT, Side
from connectors.sync.values import CanonicalValues, decode

WORDS = re.compile(r"\s+|\w+|[^\w\s]")


def side_names(integration: Integration) -> dict[Side, str]:
    """Return what people call the system of each side: by connection where both are of one kind."""
    ends = {LEFT: integration.left, RIGHT: integration.right}
    if ends[LEFT].system == ends[RIGHT].system:
        return {LEFT: ends[LEFT].name, RIGHT: ends[RIGHT].name}
    return {side: _title(end.system) for side, end in ends.items()}


def _title(system: str) -> str:
    try:
        return connector_class(system).title
    except UnknownSystem:
        return system


def link_values(links: Iterable[RecordLink]) -> list[CanonicalValues]:
    """Return all values that these links hold."""
    columns = ("base", "left_staged", "left_quirk", "right_staged", "right_quirk")
    return [decode(getattr(link, column)) for link in links for column in columns]


def difference(run: Run, change: RecordChange, shower: Shower) -> list[dict[str, object]]:
    """Return one line for each field that a proposal would write, or take away."""
    link = change.link
    target: Side = LEFT if change.side == LEFT else RIGHT
    base = decode(link.base)
    now = {side: now_of(link, side) for side in (LEFT, RIGHT)}
    before, after, rules, lost = (decode(t) for t in (change.before, change.after, change.rule, change.lost))
    left_out = decode(change.left_out)
    lines: list[dict[str, object]] = []
    if change.verb == "create":  # what is empty there already is not worth a line
        after = {name: value for name, value in after.items() if value is not None}
    for name in sorted((before if is_removal(change) else {**before, **after}).keys() - MARKS, key=shower.place):
        cells = {side: _now(shower, name, now[side], link, side) for side in (LEFT, RIGHT)}
        old = (now[target] or {}).get(name, before.get(name))
        if is_removal(change):
            new: SafeString = format_html('<span class="sl-quiet">{}</span>', "no more")
        else:
            told, new = marked(shower, name, old, after.get(name))
            if (now[target] or {}).get(name) is not None:
                cells[target] = told
        gave_up = lost.get(name)
        values: list[object] = list(gave_up.values()) if isinstance(gave_up, dict) else []
        lines.append(
            {
                "name": name,
                "field": shower.field_name(name),
                "left": cells[LEFT],
                "right": cells[RIGHT],
                "base": shower.value(name, base[name]) if name in base else "",
                "new": new,
                "rule": rules.get(name, rules.get("*", "")),
                "lost": [shower.value(name, value) for value in values],
                "ticked": is_ticked(run, change) and name not in left_out,
                "left_out": name in left_out,
                "fixed": why_fixed(run, change, name),
            }
        )
    return lines


def _now(shower: Shower, name: str, held: Mapping[str, object] | None, link: RecordLink, side: Side) -> SafeString:
    if held is None:
        gone = getattr(link, f"{side}_life") == Life.GONE
        return format_html('<span class="sl-quiet">{}</span>', "deleted" if gone else "no record yet")
    if name not in held:
        return format_html('<span class="sl-quiet">{}</span>', "not told")
    return shower.held(link, LEFT if side == LEFT else RIGHT, name, held[name])


def marked(shower: Shower, name: str, old: object, new: object) -> tuple[SafeString, SafeString]:
    """Return the old and the new value with the words marked that differ; a value without words is marked as a whole."""
    if not (_is_plain(shower, name, old) and _is_plain(shower, name, new)):
        return shower.value(name, old), format_html("<ins>{}</ins>", shower.value(name, new))
    one, other = WORDS.findall(str(old)), WORDS.findall(str(new))
    gone: list[SafeString] = []
    come: list[SafeString] = []
    for kind, a, b, c, d in SequenceMatcher(a=one, b=other, autojunk=False).get_opcodes():
        was, is_now = "".join(one[a:b]), "".join(other[c:d])
        if kind == "equal":
            gone.append(format_html("{}", was))
            come.append(format_html("{}", is_now))
            continue
        gone += [format_html("<del>{}</del>", was)] if was else []
        come += [format_html("<ins>{}</ins>", is_now)] if is_now else []
    return format_html_join("", "{}", ((x,) for x in gone)), format_html_join("", "{}", ((x,) for x in come))


def _is_plain(shower: Shower, name: str, value: object) -> bool:
    """A text that people typed: no reference, no option, not too long to be shown whole."""
    return (
        isinstance(value, str)
        and 0 < len(value) <= LONGEST
        and not value.startswith(("@", "?", "!"))
        and (name, value) not in shower.labels
    )


def never_agreed(change: RecordChange) -> bool:
    """Whether an update is about nothing that both records have ever agreed on."""
    return change.verb == "update" and not decode(change.after).keys() & decode(change.link.base).keys()
