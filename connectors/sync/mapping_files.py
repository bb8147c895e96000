"""How are mappings and options written into a CSV that people can read and edit, and what would such a file change?

Reading and writing go through django-import-export; what a file would change is told before anything is saved, and it is
saved by the same functions as the editor's rows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import tablib
from import_export import fields, resources, widgets
from tablib.core import UnsupportedFormat
from tablib.exceptions import TablibException

from connectors.models import EntitySync, FieldMapping
from connectors.sync import drafts, optioning
from connectors.sync.drafts import DIRECTIONS, GUARDS, POLICIES, UNMAPPED, WHENS, MappingsError, Row
from connectors.sync.optioning import PairRow
from connectors.sync.rules import LEFT, RIGHT
from connectors.sync.schema import Schema

MOST_BYTES = 1_000_000
MOST_LINES = 5_000
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "'")  # a table would run what begins so
YES, NO = ("yes", "true", "1"), ("no", "false", "0")
FIELDS, OPTIONS = "fields", "options"


def guarded(text: str) -> str:
    """Return a cell that no table runs as a formula; `unguarded` takes it back exactly."""
    return f"'{text}" if text.startswith(FORMULA) else text


def unguarded(text: str) -> str:
    """Return what a guarded cell means; what a person typed without a guard stays."""
    return text[1:] if len(text) > 1 and text[0] == "'" and text[1] in FORMULA else text


# Columns


class Plain(widgets.Widget):
    """A text, guarded."""

    def clean(self, value: Any, row: Any = None, **kwargs: Any) -> str:
        """Read a cell."""
        return unguarded("" if value is None else str(value))

    def render(self, value: Any, obj: Any = None, **kwargs: Any) -> str:
        """Write a cell."""
        return guarded("" if value is None else str(value))


class Word(Plain):
    """One of some values, written by its label; the value itself is taken, too."""

    def __init__(self, labels: Mapping[str, object]) -> None:
        super().__init__()
        self.labels = {value: str(label) for value, label in labels.items()}

    def clean(self, value: Any, row: Any = None, **kwargs: Any) -> str:
        """Read a label or a value."""
        text = super().clean(value).strip()
        for own, label in self.labels.items():
            if text.casefold() in (own.casefold(), label.casefold()):
                return own
        raise ValueError(f"{text!r} is none of: {', '.join(self.labels.values())}.")

    def render(self, value: Any, obj: Any = None, **kwargs: Any) -> str:
        """Write the label."""
        return guarded(self.labels.get(str(value), str(value)))


class YesNo(widgets.Widget):
    """yes or no; `empty` is what an empty cell means."""

    def __init__(self, empty: bool | None = False) -> None:
        super().__init__()
        self.empty = empty

    def clean(self, value: Any, row: Any = None, **kwargs: Any) -> bool | None:
        """Read yes or no."""
        text = str(value or "").strip().casefold()
        if not text:
            return self.empty
        if text not in (*YES, *NO):
            raise ValueError(f"{value!r} is neither yes nor no.")
        return text in YES

    def render(self, value: Any, obj: Any = None, **kwargs: Any) -> str:
        """Write yes or no."""
        return "yes" if value else "no"


class Json(Plain):
    """A JSON value; empty: none."""

    def __init__(self, empty: Callable[[], object], *, mapping: bool = False) -> None:
        super().__init__()
        self.empty, self.mapping = empty, mapping

    def clean(self, value: Any, row: Any = None, **kwargs: Any) -> Any:
        """Read JSON."""
        text = super().clean(value).strip()
        if not text:
            return self.empty()
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{text[:60]!r} is no JSON.") from error
        if self.mapping and not isinstance(found, dict):
            raise ValueError('Written as {"name": value}.')
        return found

    def render(self, value: Any, obj: Any = None, **kwargs: Any) -> str:
        """Write JSON."""
        return guarded(json.dumps(value, ensure_ascii=False) if value not in (None, {}) else "")


def _column(name: str, title: str, widget: widgets.Widget) -> fields.Field:
    return fields.Field(attribute=name, column_name=title, widget=widget)


class MappingResource(resources.Resource):
    """Field mappings as lines: `Row` has the columns as attributes."""

    left = _column("left", "Left field", Plain())
    right = _column("right", "Right field", Plain())
    direction = _column("direction", "Direction", Word(DIRECTIONS))
    policy = _column("policy", "Policy", Word(POLICIES))
    transform = _column("transform", "Transform", Plain())
    args = _column("args", "Settings of the transform", Json(dict, mapping=True))
    constant = _column("constant", "Constant", Json(lambda: None))
    when = _column("when", "When", Word(WHENS))
    guard = _column("guard", "Overwrite a cut value", Word(GUARDS))
    required = _column("required", "Required", YesNo())
    unmapped = _column("unmapped", "Option without partner", Word({**UNMAPPED, "": "–"}))
    default = _column("default", "Default", Plain())


class OptionResource(resources.Resource):
    """Pairs of options as lines."""

    left = _column("left", "Left field", Plain())
    right = _column("right", "Right field", Plain())
    left_label = _column("left_label", "Left option", Plain())
    left_key = _column("left_key", "Left key", Plain())
    right_label = _column("right_label", "Right option", Plain())
    right_key = _column("right_key", "Right key", Plain())
    writes_left = _column("writes_left", "Written to the left", YesNo(None))
    writes_right = _column("writes_right", "Written to the right", YesNo(None))


@dataclass(frozen=True)
class PairLine:
    """One pair with the mapping it is of."""

    left: str
    right: str
    left_label: str
    left_key: str
    right_label: str
    right_key: str
    writes_left: bool
    writes_right: bool


RESOURCES: Mapping[str, Any] = {FIELDS: MappingResource, OPTIONS: OptionResource}
# Without these a line says nothing; the others may be left out and mean what a new row has.
NEEDED = {FIELDS: ("left", "right"), OPTIONS: ("left", "right", "left_key", "right_key")}


# Export


def export(sync: EntitySync, what: str) -> str:
    """Return the CSV of all mappings, or of all options, of an entity sync."""
    lines: Iterable[object] = drafts.rows_of(sync) if what == FIELDS else pair_lines(sync)
    dataset = RESOURCES[what]().export(queryset=list(lines))
    return str(dataset.export("csv"))


def pair_lines(sync: EntitySync) -> list[PairLine]:
    """Return the stored pairs of all picklists, in the order of the mappings."""
    found: list[PairLine] = []
    for mapping in sync.mappings.prefetch_related("options").order_by("position", "id"):
        for o in sorted(mapping.options.all(), key=lambda o: o.pk):
            found.append(
                PairLine(
                    mapping.left,
                    mapping.right,
                    o.left_label,
                    o.left_key,
                    o.right_label,
                    o.right_key,
                    o.writes_left,
                    o.writes_right,
                )
            )
    return found


# Import


@dataclass(frozen=True)
class Fault:
    """What is wrong in the file, and where."""

    line: int  # as a table numbers it: 1 is the head
    column: str
    message: str


@dataclass
class Difference:
    """What a file would change; `print` tells one preview from another."""

    what: str
    added: list[str] = field(default_factory=list)
    changed: list[tuple[str, list[str]]] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    unchanged: int = 0
    left_alone: list[str] = field(default_factory=list)  # not in the file, and not asked to go
    faults: list[Fault] = field(default_factory=list)
    print: str = ""
    rows: list[Row] = field(default_factory=list)
    pairs: dict[int, list[PairRow]] = field(default_factory=dict)  # mapping -> pairs

    @property
    def something(self) -> bool:
        """Whether anything would change."""
        return bool(self.added or self.changed or self.removed)

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "added": self.added, "changed": [{"row": name, "changes": changes} for name, changes in self.changed],
            "removed": self.removed, "unchanged": self.unchanged, "left_alone": self.left_alone,
            "faults": [{"line": f.line, "column": f.column, "message": f.message} for f in self.faults], "print": self.print,
        }  # fmt: skip


def read(sync: EntitySync, what: str, text: str, schema: Schema, *, remove: bool, revision: int) -> Difference:
    """Say what a file would change.  Nothing is written, and no call is made."""
    difference = Difference(what)
    lines = _lines(what, text, difference.faults)
    if not difference.faults:
        (_read_fields if what == FIELDS else _read_options)(sync, lines, schema, remove, difference)
    told = json.dumps([what, text, remove, revision, difference.added, difference.changed, difference.removed])
    difference.print = hashlib.sha256(told.encode()).hexdigest()[:32]
    return difference


def _lines(what: str, text: str, faults: list[Fault]) -> list[tuple[int, dict[str, Any]]]:
    """Read the file's lines by column; what can't be read is a fault at its line and column."""
    resource = RESOURCES[what]()
    titles = {f.column_name: (name, f) for name, f in resource.fields.items()}
    dataset = _dataset(text, faults)
    if dataset is None:
        return []
    heads = [str(head or "").strip().removeprefix("\ufeff") for head in dataset.headers or []]
    needed = [resource.fields[name].column_name for name in NEEDED[what]]
    for title in (title for title in needed if title not in heads):
        faults.append(Fault(1, title, f"The file has no column “{title}”. It needs: {', '.join(needed)}."))
    for head in heads:
        if head not in titles:
            faults.append(Fault(1, head, f"There is no such column. There are: {', '.join(titles)}."))
        elif heads.count(head) > 1:
            faults.append(Fault(1, head, "The column is there twice."))
    if faults:
        return []
    found: list[tuple[int, dict[str, Any]]] = []
    for number, cells in enumerate(dataset, start=2):
        if not any(str(cell or "").strip() for cell in cells):
            continue
        line: dict[str, Any] = {}
        for head, cell in zip(heads, cells, strict=False):
            name, column = titles[head]
            try:
                line[name] = column.widget.clean(cell)
            except ValueError as error:
                faults.append(Fault(number, head, str(error)))
        found.append((number, line))
    return found


def _dataset(text: str, faults: list[Fault]) -> Any:
    if len(text.encode()) > MOST_BYTES:
        faults.append(Fault(1, "", f"The file is larger than {MOST_BYTES:,} bytes."))
        return None
    first = text.lstrip("\ufeff").partition("\n")[0]
    # Where a comma is the decimal sign, tables write semicolons.
    delimiter = ";" if first.count(";") > first.count(",") else ","
    try:
        dataset = tablib.Dataset().load(text.lstrip("\ufeff"), format="csv", delimiter=delimiter)
    except (TablibException, UnsupportedFormat, ValueError, IndexError) as error:
        faults.append(Fault(1, "", f"This is no CSV file ({type(error).__name__})."))
        return None
    except Exception as error:  # csv.Error has no better base
        faults.append(Fault(1, "", f"This is no CSV file: {error}"))
        return None
    if len(dataset) > MOST_LINES:
        faults.append(Fault(1, "", f"The file has more than {MOST_LINES:,} lines."))
        return None
    return dataset


def _read_fields(
    sync: EntitySync, lines: Sequence[tuple[int, dict[str, Any]]], schema: Schema, remove: bool, found: Difference
) -> None:
    there = {(row.left, row.right): row for row in drafts.rows_of(sync)}
    rows: list[Row] = []
    numbers: list[int] = []
    for number, line in lines:
        old = there.get((line["left"], line["right"]))
        row = replace(old, **line) if old else Row(**line)
        rows.append(row)
        numbers.append(number)
        if old is None:
            found.added.append(row.title)
        elif changes := drafts.changes_of(old, row):
            found.changed.append((row.title, changes))
        else:
            found.unchanged += 1
    named = {(row.left, row.right) for row in rows}
    rest = [row for key, row in there.items() if key not in named]
    (found.removed if remove else found.left_alone).extend(row.title for row in rest)
    found.rows = rows
    if rest and not remove:
        # A file that names only some leaves the others where they are, and its new ones come at the end.
        by_key = {(row.left, row.right): row for row in rows}
        new = [row for row in rows if (row.left, row.right) not in there]
        twice = [row for row in rows if by_key[row.left, row.right] is not row and row not in new]
        found.rows = [*(by_key.get(key, row) for key, row in there.items()), *twice, *new]
    order = [row.id for row in found.rows if row.id is not None]
    if order != [row.id for row in there.values() if row.id in set(order)]:
        found.changed.append(("Order of rows", ["as in the file"]))
    try:
        drafts.check(sync, found.rows, schema)
    except MappingsError as refusal:
        _fault_rows(refusal, found, rows, numbers)


def _fault_rows(refusal: MappingsError, found: Difference, rows: Sequence[Row], numbers: Sequence[int]) -> None:
    columns = MappingResource().fields
    for place, own in refusal.rows.items():
        at = rows.index(found.rows[place]) if found.rows[place] in rows else None
        for name, text in own.items():
            title = columns[name].column_name if name in columns else ""
            line = numbers[at] if at is not None else 0
            if name == "right" and at is not None and rows.count(found.rows[place]) > 1:
                line = numbers[len(rows) - 1 - list(reversed(rows)).index(found.rows[place])]
            found.faults.append(Fault(line, title, text if at is not None else f"{found.rows[place].title}: {text}"))
    found.faults += [Fault(0, "", text) for text in refusal.general]


def _read_options(
    sync: EntitySync, lines: Sequence[tuple[int, dict[str, Any]]], schema: Schema, remove: bool, found: Difference
) -> None:
    mappings = {(m.left, m.right): m for m in sync.mappings.all()}
    given: dict[int, list[tuple[int, PairRow]]] = {}
    for number, line in lines:
        mapping = mappings.get((line["left"], line["right"]))
        if mapping is None:
            found.faults.append(Fault(number, "Left field", f"{line['left']} and {line['right']} are not mapped here."))
            continue
        values = {name: value for name, value in line.items() if name not in (LEFT, RIGHT)}
        given.setdefault(mapping.pk, []).append((number, PairRow(**values)))
    for mapping in mappings.values():
        _read_pairs(sync, mapping, given.get(mapping.pk, []), schema, remove, found)


def _read_pairs(
    sync: EntitySync,
    mapping: FieldMapping,
    given: Sequence[tuple[int, PairRow]],
    schema: Schema,
    remove: bool,
    found: Difference,
) -> None:
    there = optioning.pair_rows(mapping)
    wanted = {(row.left_key, row.right_key): row for _, row in given}
    rest = [row for row in there if (row.left_key, row.right_key) not in wanted]
    old = {(row.left_key, row.right_key) for row in there}
    pairs = [row for _, row in given] if remove else [*rest, *(row for _, row in given)]
    numbers = [n for n, _ in given] if remove else [*(0 for _ in rest), *(n for n, _ in given)]
    for place, text in optioning.problems_of(pairs, "park", "").items():
        if isinstance(place, int):
            found.faults.append(Fault(numbers[place], "Left key", text))
    pairs = optioning.named(sync, mapping, pairs, schema)
    for side in (LEFT, RIGHT):
        known = {o.key for o in schema.choices(side, sync, getattr(mapping, side)) or ()}
        for (number, row), named in zip(given, pairs[-len(given) :] if given else (), strict=True):
            key = getattr(row, f"{side}_key")
            if known and key not in known and named.id is None:
                name = schema.described.names[side]
                found.faults.append(
                    Fault(
                        number, f"{side.capitalize()} key", f"{name} has no choice {key!r} of {getattr(mapping, side)}."
                    )
                )
    label = f"{mapping.left} = {mapping.right}"
    said = optioning.differences(there, pairs)
    found.added += [f"{label}: {text.removeprefix('added ')}" for text in said if text.startswith("added ")]
    found.removed += [f"{label}: {text.removeprefix('removed ')}" for text in said if text.startswith("removed ")]
    if more := [text for text in said if not text.startswith(("added ", "removed "))]:
        found.changed.append((label, more))
    changed = {text.partition(": written")[0] for text in more}
    found.unchanged += sum((r.left_key, r.right_key) in old and r.title not in changed for _, r in given)
    if not remove:
        found.left_alone += [f"{label}: {row.title}" for row in rest]
    if said:
        found.pairs[mapping.pk] = pairs
