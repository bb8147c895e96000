"""How are a few numbers drawn?  Small SVG pictures made on the server: no script, colours from the style sheet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

WIDTH, HEIGHT, GAP = 7, 20, 3
# How high a day is drawn: the state can be told without its colour.
HEIGHTS = {"none": 3, "good": 10, "warn": 15, "bad": 20}


@dataclass(frozen=True)
class Day:
    """One day of a strip: how it went, and that in words."""

    tone: str  # none, good, warn, bad
    words: str


def strip(days: Sequence[Day], label: str) -> SafeString:
    """Draw one bar for each day, oldest first; each says on hover what it stands for."""
    bars = format_html_join(
        "",
        '<g><title>{}</title><rect class="sl-hit" x="{}" y="0" width="{}" height="{}"/>'
        '<rect class="sl-day sl-day-{}" x="{}" y="{}" width="{}" height="{}" rx="1.5"/></g>',
        (
            (
                day.words, place * (WIDTH + GAP), WIDTH + GAP, HEIGHT, day.tone, place * (WIDTH + GAP),
                HEIGHT - HEIGHTS[day.tone], WIDTH, HEIGHTS[day.tone],
            )
            for place, day in enumerate(days)
        ),
    )  # fmt: skip
    width = max(1, len(days) * (WIDTH + GAP) - GAP)
    return format_html(
        '<svg class="sl-strip" role="img" aria-label="{}" viewBox="0 0 {} {}" width="{}" height="{}">{}</svg>',
        label, width, HEIGHT, width, HEIGHT, bars,
    )  # fmt: skip


def gauge(part: float, label: str, *, tone: str = "good") -> SafeString:
    """Draw how much of something is left, from 0 to 1."""
    length = round(60 * min(1.0, max(0.0, part)), 1)
    return format_html(
        '<svg class="sl-gauge" role="img" aria-label="{}" viewBox="0 0 60 6" width="60" height="6"><title>{}</title>'
        '<rect class="sl-gauge-all" width="60" height="6" rx="3"/>'
        '<rect class="sl-day-{}" width="{}" height="6" rx="3"/></svg>',
        label, label, tone, length,
    )  # fmt: skip
