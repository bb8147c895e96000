"""What is the whole configuration as one text, and how does a hub become what such a text says?

Export and import read the same declarations, so export = import = difference.  A dry run is the import, rolled back.
Secrets are told by reference: `env:NAME` is read from the environment at import, `keep` leaves what is stored.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Protocol, cast

import yaml
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Field, ForeignKey, Model

from connectors.models import changing

VERSION = 1
KEEP = "keep"
ENV = "env:"


class ConfigRefused(Exception):
    """The text can't be taken; nothing was changed.  `problems` are sentences."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = list(problems)


class Extra(Protocol):
    """Words of a row that are more than its columns."""

    words: Sequence[str]

    def told(self, row: Any, *, env_names: bool) -> dict[str, object]:
        """Return the words with their values; a word that says nothing is left out."""

    def store(self, row: Any, told: Mapping[str, Any]) -> list[str]:
        """Make the row so, and return what that changed, without values that are secret.  Raises ConfigRefused."""


@dataclass(frozen=True)
class Kind:
    """One kind of row in the text."""

    word: str  # the plural, as the text has it
    one: str
    model: type[Model]
    key: tuple[str, ...]  # what names a row inside its parent; empty: the list is one value
    fields: tuple[str, ...]
    fixed: tuple[str, ...] = ()  # of the fields: what can't change once the row is there, and why
    fixed_why: str = ""
    parent: str = ""  # the column that leads to the parent
    children: tuple[Kind, ...] = ()
    extras: tuple[Extra, ...] = ()
    removes: bool = False  # rows of a parent that the text does not have go; else they are left alone, and that is said
    quiet: tuple[str, ...] = ()  # of the fields: after their change nothing else has to be done
    # Column -> how the row it refers to is found, where a name alone does not say; it gets the columns before it, too.
    refer: Mapping[str, Callable[[Mapping[str, Any], object], Model | None]] = field(default_factory=dict)
    check: Callable[[Any], Sequence[str]] = lambda row: ()

    @property
    def words(self) -> tuple[str, ...]:
        """All words that one row may have."""
        return (*self.key, *self.fields, *(w for e in self.extras for w in e.words), *(c.word for c in self.children))

    def column(self, name: str) -> Field[Any, Any]:
        """Return the model's column."""
        return cast("Field[Any, Any]", self.model._meta.get_field(name))

    def rows(self, parent: Model | None) -> Iterable[Model]:
        """Return the rows in the order of the text."""
        found = self.model._default_manager.all()
        if parent is not None:
            found = found.filter(**{self.parent: parent})
        references = [name for name in self.key if isinstance(self.column(name), ForeignKey)]
        position = ["position"] if "position" in self.fields else []
        names = [name for name in self.key if name not in references]
        return found.order_by(*(f"{name}__name" for name in references), *position, *names, "id")


# Export


def export(kinds: Sequence[Kind], *, env_names: bool = False) -> str:
    """Return the text.  With `env_names` each secret refers to a variable of the environment, named for it."""
    content: dict[str, object] = {"syncline": VERSION}
    for kind in kinds:
        content[kind.word] = _lines(kind, None, env_names=env_names)
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)


def _lines(kind: Kind, parent: Model | None, *, env_names: bool) -> list[dict[str, object]]:
    return [_line(kind, row, env_names=env_names) for row in kind.rows(parent)]


def _line(kind: Kind, row: Model, *, env_names: bool) -> dict[str, object]:
    line: dict[str, object] = {}
    for name in (*kind.key, *kind.fields):
        value = _told(getattr(row, name))
        if name in kind.key or value != _told(kind.column(name).get_default()):
            line[name] = value
    for extra in kind.extras:
        line |= extra.told(row, env_names=env_names)
    for child in kind.children:
        if lines := _lines(child, row, env_names=env_names):
            line[child.word] = lines
    return line


def _told(value: object) -> object:
    if isinstance(value, Model):
        return str(getattr(value, "name", value))
    return value.isoformat() if isinstance(value, date) else value


# Import


@dataclass
class Difference:
    """What an import changed, or would change."""

    lines: list[str] = field(default_factory=list)
    left_alone: list[str] = field(default_factory=list)  # rows that the text does not have
    rows: list[Model] = field(default_factory=list)  # made or changed
    removed: list[Model] = field(default_factory=list)


def take(
    text: str, kinds: Sequence[Kind], finish: Sequence[Callable[[Difference], None]] = (), *, dry_run: bool = False
) -> Difference:
    """Make the hub what the text says, all of it or nothing.  Raises ConfigRefused with every problem at once."""
    content = _parsed(text, kinds)
    with changing("Configuration imported"), transaction.atomic():
        importer = _Importer()
        for kind in kinds:
            importer.rows(kind, content.get(kind.word) or [], None, "")
        if importer.problems:
            raise ConfigRefused(importer.problems)
        for act in finish:
            act(importer.difference)
        transaction.set_rollback(dry_run)
    return importer.difference


def _parsed(text: str, kinds: Sequence[Kind]) -> dict[str, Any]:
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigRefused([f"This is neither YAML nor JSON: {error}"]) from error
    if not isinstance(content, dict) or content.get("syncline") != VERSION:
        raise ConfigRefused([f"This is no configuration of Syncline: it does not begin with `syncline: {VERSION}`."])
    known = ["syncline", *(kind.word for kind in kinds)]
    unknown = sorted(str(word) for word in set(content) - set(known))
    if unknown:
        raise ConfigRefused([f"Unknown word {', '.join(unknown)}; known: {', '.join(known)}."])
    return content


class _Importer:
    """One import: goes through the text, collects what changed and what is wrong."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.difference = Difference()

    def rows(self, kind: Kind, lines: Any, parent: Model | None, where: str) -> None:
        """Take the list of one kind inside one parent."""
        if not isinstance(lines, list) or not all(isinstance(line, dict) for line in lines):
            self.problems.append(f"{where}{kind.word} is no list of entries.")
            return
        good = [line for line in lines if self._words(kind, line, where)]
        if not kind.key:
            self._replace(kind, good, parent, where)
            return
        there = {self._name(kind, _line(kind, row, env_names=False)): row for row in kind.rows(parent)}
        told = [self._name(kind, line) for line in good]
        for twice in sorted({name for name in told if told.count(name) > 1}):
            self.problems.append(f"{where}{kind.one} {twice} is there twice.")
        for name, row in there.items():
            if name not in told:
                self._absent(kind, row, f"{where}{kind.one} {name}")
        for name, line in zip(told, good, strict=True):
            self._row(kind, line, there.get(name), parent, f"{where}{kind.one} {name}")

    def _name(self, kind: Kind, line: Mapping[str, object]) -> str:
        return " ".join(str(line[name]) for name in kind.key if line.get(name) not in (None, "")) or "without a name"

    def _words(self, kind: Kind, line: Mapping[str, object], where: str) -> bool:
        unknown = sorted(str(word) for word in set(line) - set(kind.words))
        if unknown:
            name = self._name(kind, line)
            self.problems.append(
                f"{where}{kind.one} {name}: unknown word {', '.join(unknown)}; known: {', '.join(kind.words)}."
            )
        return not unknown

    def _absent(self, kind: Kind, row: Model, what: str) -> None:
        if kind.removes:
            self.difference.lines.append(f"- {what}")
            self.difference.removed.append(row)
            row.delete()
        else:
            self.difference.left_alone.append(what)

    def _row(self, kind: Kind, line: Mapping[str, Any], row: Model | None, parent: Model | None, what: str) -> None:
        columns = self._columns(kind, line, what)
        if columns is None:
            return
        made = row is None
        if row is None:
            row = kind.model(**columns, **({kind.parent: parent} if parent is not None else {}))
        changed = [] if made else [name for name, value in columns.items() if getattr(row, name) != value]
        for name in changed:
            if name in kind.fixed:
                self.problems.append(f"{what}: {name} can't change. {kind.fixed_why}")
                return
        notes = [f"{name}: {_told(getattr(row, name))!r} -> {_told(columns[name])!r}" for name in changed]
        for name in changed:
            setattr(row, name, columns[name])
        if (made or changed) and not self._saved(kind, row, what):
            return
        for extra in kind.extras:
            try:
                notes += extra.store(row, line)
            except ConfigRefused as refusal:
                self.problems += [f"{what}: {problem}" for problem in refusal.problems]
        self.problems += [f"{what}: {problem}" for problem in kind.check(row)]
        if made:
            self.difference.lines.append(f"+ {what}")
        else:
            self.difference.lines += [f"~ {what}: {note}" for note in notes]
        if made or len(notes) > len(changed) or set(changed) - set(kind.quiet):
            self.difference.rows.append(row)
        for child in kind.children:
            self.rows(child, line.get(child.word, []), row, f"{what}, ")

    def _columns(self, kind: Kind, line: Mapping[str, Any], what: str) -> dict[str, Any] | None:
        """Return what the text says of each column; a word that is not there means its default."""
        columns: dict[str, Any] = {}
        before = len(self.problems)
        for name in (*kind.key, *kind.fields):
            column = kind.column(name)
            value = line.get(name, column.get_default())
            if isinstance(column, ForeignKey):
                value = self._referred(kind, column, value, columns, what)
            else:
                try:
                    value = column.to_python(value)
                except ValidationError as error:
                    self.problems.append(f"{what}: {name}: {' '.join(error.messages)}")
            columns[name] = value
        return columns if len(self.problems) == before else None

    def _referred(
        self, kind: Kind, column: ForeignKey[Any, Any], value: object, columns: Mapping[str, Any], what: str
    ) -> Model | None:
        if value is None:
            return None
        model = column.related_model
        refer = kind.refer.get(column.name, lambda _, name: model._default_manager.filter(name=name).first())
        found = refer(columns, value)
        if found is None:
            self.problems.append(f"{what}: there is no {model._meta.verbose_name} {value!r}.")
        return found

    def _saved(self, kind: Kind, row: Model, what: str) -> bool:
        try:
            row.full_clean()
        except ValidationError as error:
            for name, messages in error.message_dict.items():
                self.problems.append(f"{what}: {'' if name == '__all__' else f'{name}: '}{' '.join(messages)}")
            return False
        row.save()
        return True

    def _replace(self, kind: Kind, lines: list[dict[str, Any]], parent: Model | None, where: str) -> None:
        there = _lines(kind, parent, env_names=False)
        rows = [self._columns(kind, line, f"{where}{kind.one}") for line in lines]
        made = [kind.model(**columns, **{kind.parent: parent}) for columns in rows if columns is not None]
        told = [_line(kind, row, env_names=False) for row in made]
        if sorted(map(str, told)) == sorted(map(str, there)) or len(made) < len(rows):
            return
        kind.model._default_manager.filter(**{kind.parent: parent}).delete()
        for row in made:
            self._saved(kind, row, f"{where}{kind.one}")
        added, gone = [line for line in told if line not in there], [line for line in there if line not in told]
        self.difference.lines += [f"- {where}{kind.one} {_short(line)}" for line in gone]
        self.difference.lines += [f"+ {where}{kind.one} {_short(line)}" for line in added]
        self.difference.rows += made or ([parent] if parent is not None else [])


def _short(line: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in line.items())


# Secrets


def secret_words(names: Sequence[str], owner: str, *, env_names: bool) -> dict[str, object]:
    """Return the reference for each secret of a row, whether or not one is stored: the text tells no hub's state."""
    if not names:
        return {}
    stem = "".join(c if c.isascii() and c.isalnum() else "_" for c in owner).upper()
    return {"secrets": {name: f"{ENV}{stem}_{name.upper()}" if env_names else KEEP for name in names}}


def entered_secrets(told: object, names: Sequence[str]) -> dict[str, str]:
    """Return the secrets that the references name.  Raises ConfigRefused; a secret itself in the text is refused, too."""
    if told is not None and not isinstance(told, dict):
        raise ConfigRefused(["secrets are told by name."])
    problems: list[str] = []
    found: dict[str, str] = {}
    for name, reference in (told or {}).items():
        variable = str(reference).removeprefix(ENV)
        if name not in names:
            problems.append(f"unknown secret {name}; known: {', '.join(names) or 'none'}.")
        elif str(reference).startswith(ENV) and os.environ.get(variable):
            found[name] = os.environ[variable]
        elif str(reference).startswith(ENV):
            problems.append(f"the secret {name} refers to {variable}, which the environment does not have.")
        elif reference != KEEP:
            problems.append(
                f"the secret {name} is neither {KEEP} nor {ENV}NAME. Take it out of the text: it is no place for it."
            )
    if problems:
        raise ConfigRefused(problems)
    return found
