"""What would other settings do to the records that are here?  Counted from what is stored, before anything is saved."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date

from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.utils.text import capfirst

from connectors.models import Cursor, EntitySync, Integration, RecordLink
from connectors.registry import UnknownSystem, connector_class
from connectors.sync import store
from connectors.sync.compile import Described, SettingsError, compile_all
from connectors.sync.explain import short_title
from connectors.sync.judging import AGREED, OFF, OUT, OUTSIDE, UNKNOWN, Judge, Outcome, Present, Rules
from connectors.sync.matching import DISCONNECTED, ENDED, HELD, NEW
from connectors.sync.plan import Pending
from connectors.sync.planning import COLUMNS, link_state
from connectors.sync.rules import LEFT, RIGHT, Pair, Side
from connectors.sync.values import decode

BLOCK = 1000
SECONDS = 2.5  # a page may take; what was not looked at by then is said
MOST_EXAMPLES = 5
MOST_COUNTED = 10_000
EXCLUDED, INCLUDED, OTHERWISE, UNTOLD = "excluded", "included", "otherwise", "unknown"
MORE = ("entity_sync", "pending", "reason", "settings_revision")
KIND_WORDS = {
    "create": "would be created", "update": "would be updated", "archive": "would be made inactive",
    "restore": "would be made active", "delete": "would be deleted", "waiting": "would wait", "prevented": "would be left as it is",
    "conflict": "would be a conflict", "parked": "would be parked", "agreed": "would be in agreement", "ended": "would be over",
    "outside": "would be left out", "off": "would no longer be kept in agreement", "unknown": "can't be told",
}  # fmt: skip
WHY_WORDS = {
    "filter": "does not meet the filter", "window": "lies outside the window of dates", "company": "belongs to another company",
    "route": "belongs to another entity sync", "direction": "nothing flows that way", "inactive": "is inactive",
    "family": "has its partner by another entity sync",
}  # fmt: skip


@dataclass(frozen=True)
class Example:
    """One record that other settings treat otherwise."""

    link: int
    title: str
    before: str
    after: str


@dataclass
class Effect:
    """What changes for the records of the entity syncs that a change of settings concerns."""

    looked_at: int = 0
    complete: bool = True  # every record that may be concerned was looked at
    counts: Counter[str] = field(default_factory=Counter)  # of excluded, included, otherwise, unknown
    outcomes: Counter[str] = field(default_factory=Counter)  # "conflict, then update": how many
    examples: dict[str, list[Example]] = field(default_factory=dict)
    records: int = 0  # that these entity syncs have, at most one more than is counted
    read_again: bool = True  # the next run reads all of them

    @property
    def affected(self) -> int:
        """How many records are treated otherwise."""
        return sum(self.counts[name] for name in (EXCLUDED, INCLUDED, OTHERWISE))

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "records": min(self.records, MOST_COUNTED),
            "more_records": self.records > MOST_COUNTED,
            "looked_at": self.looked_at,
            "complete": self.complete,
            "affected": self.affected,
            **{name: self.counts[name] for name in (EXCLUDED, INCLUDED, OTHERWISE, UNTOLD)},
            "outcomes": dict(self.outcomes.most_common()),
            "examples": [
                {"group": group, "link": e.link, "title": e.title, "before": e.before, "after": e.after}
                for group, found in self.examples.items()
                for e in found
            ],
            "sentences": sentences(self),
        }  # fmt: skip


def sentences(effect: Effect) -> list[str]:
    """Say what was found, honestly also where it is not all."""
    most = f"more than {MOST_COUNTED:,}" if effect.records > MOST_COUNTED else f"{effect.records:,}"
    found = [f"Applies to {most} record{'' if effect.records == 1 else 's'}."]
    at_least = "" if effect.complete else "at least "
    told = [
        f"{at_least}{effect.counts[name]:,} {words}"
        for name, words in (
            (EXCLUDED, "newly excluded"),
            (INCLUDED, "newly included"),
            (OTHERWISE, "treated otherwise"),
        )
        if effect.counts[name]
    ]
    if told:
        found.append(f"{capfirst(', '.join(told))}.")
    elif not effect.counts[UNTOLD]:
        found.append(
            "None of those looked at is treated otherwise." if not effect.complete
            else "No record is treated otherwise now; what changes later goes by the new settings."
        )  # fmt: skip
    if effect.counts[UNTOLD]:
        found.append(
            f"Of {at_least}{effect.counts[UNTOLD]:,} it can't be told before they are read, because what the rule looks at is not "
            "kept. A preview tells."
        )
    if not effect.complete:
        found.append(f"Only {effect.looked_at:,} were looked at in the time a page may take.")
    if effect.counts[EXCLUDED]:
        found.append("What is left out stays as it is on both sides: nothing is deleted.")
    return found


# Compiling


@dataclass(frozen=True)
class Change:
    """A change of settings on trial: the rules before and after it."""

    before: Rules
    after: Rules
    problems: tuple[str, ...] = ()  # why the settings that are there now can't be compiled


class _Back(Exception):
    """Ends the trial."""


def trial(integration: Integration, described: Described, act: Callable[[], None]) -> Change:
    """Make a change of settings, compile them before and after, and take it back.  Raises SettingsError for what it makes."""
    found: list[Rules] = []
    problems: tuple[str, ...] = ()
    try:
        with transaction.atomic():
            try:
                found.append(rules_of(integration, described))
            except SettingsError as error:
                found.append(Rules(()))
                problems = tuple(error.problems)
            perform(act)
            found.append(
                rules_of(Integration.objects.select_related("left", "right").get(pk=integration.pk), described)
            )
            raise _Back
    except _Back:
        return Change(found[0], found[1], problems)


def perform(act: Callable[[], None]) -> None:
    """Make a change of settings.  Raises SettingsError where the rows contradict each other."""
    try:
        with transaction.atomic():
            act()
    except IntegrityError as error:
        raise SettingsError(["Two rows of the settings would be the same. Change one of them first."]) from error


def rules_of(integration: Integration, described: Described) -> Rules:
    """Compile the settings as they are stored.  Raises SettingsError."""
    on, off = compile_all(integration, described)
    return Rules(tuple(on), tuple(off), _modified(integration))


def _modified(integration: Integration) -> Mapping[Side, str]:
    found: dict[Side, str] = {}
    ends: tuple[tuple[Side, str], ...] = ((LEFT, integration.left.system), (RIGHT, integration.right.system))
    for side, system in ends:
        try:
            found[side] = str(getattr(connector_class(system), "modified_field", ""))
        except UnknownSystem:
            found[side] = ""
    return found


# Weighing


def weigh(integration: Integration, change: Change, today: date, *, seconds: float = SECONDS) -> Effect:
    """Count what the change does.  Reads links a block at a time, and stops when the time is over."""
    effect = Effect()
    until = time.monotonic() + seconds
    every = _concerned(change)
    if not every:
        return Effect(read_again=False)
    # By family, since only that is indexed for what is in agreement, too.
    families = set(EntitySync.objects.filter(pk__in=every).values_list("family", flat=True))
    rows = RecordLink.objects.filter(integration=integration, family__in=families, entity_sync__in=every, ended=0)
    effect.records = rows[: MOST_COUNTED + 1].count()
    for number, (link, old, new) in enumerate(judged(integration, change, today)):
        effect.looked_at += 1
        group = _group(old, new)
        if group:
            _note(effect, group, link, old, new)
        if number % BLOCK == BLOCK - 1 and time.monotonic() > until:
            effect.complete = False
            break
    _name(effect)
    return effect


def judged(integration: Integration, change: Change, today: date) -> Iterator[tuple[int, Outcome, Outcome]]:
    """Yield (link, outcome now, outcome then) of each record that the change may concern."""
    pairs = _concerned(change)
    bounds = _bounds_differ(change)
    revisions = dict(EntitySync.objects.filter(pk__in=pairs).values_list("pk", "revision"))
    complete = _complete(integration, change)
    for number in pairs:
        before = Judge(change.before, change.before, today, complete[number])
        after = Judge(change.after, change.before, today, complete[number])
        switched = (change.before.pair(number) is None) != (change.after.pair(number) is None)
        for row in _rows(number, all_of_them=bounds or switched):
            yield _judge(row, before, after, revisions[number])


def _judge(row: store.Row, before: Judge, after: Judge, revision: int) -> tuple[int, Outcome, Outcome]:
    (number, pending, reason, read_by), link = row[-len(MORE) :], link_state(row[: -len(MORE)])
    told = decode(row[5]) if reason == "outside" else {}
    alone = row[3] == NEW and link.base is None and None in (link.sides[LEFT].id, link.sides[RIGHT].id)
    current = read_by == revision and reason != "changed"
    present = Present(number, str(told.get("why", "")), str(told.get("side", "")), current, alone, pending is None)
    if before.read_by.pair(number) is None:  # it was off: what it holds was read by the rules that come back
        after = Judge(after.rules, after.rules, after.today, after.complete)
    return link.id, _as_it_stands(before.outcome(link, present), present), after.outcome(link, present)


def _as_it_stands(judged: Outcome, present: Present) -> Outcome:
    """Return how a record is treated now: what the last run found, where it has read it by these very rules.

    A record that was only just created may fail a filter of the side that it was created on: the next run that reads it says so.
    """
    if not present.current or judged.kind in (OFF, UNKNOWN):
        return judged
    if present.why and judged.kind != OUTSIDE:
        return Outcome(OUTSIDE, present.why, present.side)
    if not present.why and judged.kind == OUTSIDE:
        return Outcome(AGREED)
    return judged


def _rows(pair: int, *, all_of_them: bool) -> Iterator[store.Row]:
    links = RecordLink.objects.filter(entity_sync=pair, ended=0).exclude(state__in=[HELD, ENDED, DISCONNECTED])
    if all_of_them:
        yield from _blocks(links)
        return
    for pending in Pending:  # one after the other: so the index of what is not in agreement gives them in their order
        yield from _blocks(links.filter(pending=int(pending)))


def _blocks(links: QuerySet[RecordLink]) -> Iterator[store.Row]:
    last = 0
    while True:
        rows = store.read(links.filter(id__gt=last).order_by("id").values_list(*COLUMNS, *MORE)[:BLOCK])
        yield from rows
        if len(rows) < BLOCK:
            return
        last = rows[-1][0]


def _complete(integration: Integration, change: Change) -> dict[int, dict[Side, bool]]:
    cursors = Cursor.objects.filter(scope__integration=integration, complete_at__isnull=False)
    done = set(cursors.values_list("side", "feed"))
    found: dict[int, dict[Side, bool]] = {}
    for pair in (*change.before.on, *change.before.off, *change.after.on, *change.after.off):
        found[pair.id] = {LEFT: (LEFT, pair.left.feed) in done, RIGHT: (RIGHT, pair.right.feed) in done}
    return found


def _concerned(change: Change) -> list[int]:
    """Return the entity syncs whose records may be treated otherwise: those that differ, and where records move, their family."""
    before, after = _by_id(change.before), _by_id(change.after)
    differ = {number for number in {*before, *after} if before.get(number) != after.get(number)}
    if _bounds_differ(change):
        families = {p.family for n, (_, p) in {**before, **after}.items() if n in differ}
        differ |= {number for number, (_, pair) in {**before, **after}.items() if pair.family in families}
    return sorted(differ)


def _by_id(rules: Rules) -> dict[int, tuple[bool, Pair]]:
    off = {pair.id for pair in rules.off}
    return {pair.id: (pair.id in off, replace(pair, revision=0)) for pair in (*rules.on, *rules.off)}


def _bounds_differ(change: Change) -> bool:
    """Whether something may come in or go out that is in agreement now."""
    return _bounds(change.before) != _bounds(change.after)


def _bounds(rules: Rules) -> list[tuple[object, ...]]:
    off = {pair.id for pair in rules.off}
    return sorted(
        (p.id, p.id in off, p.position, tuple(map(repr, p.filters)), repr(p.window), repr(p.route))
        for p in (*rules.on, *rules.off)
    )


def _group(old: Outcome, new: Outcome) -> str:
    if UNKNOWN in (old.kind, new.kind):
        return UNTOLD if (old.kind, old.why) != (new.kind, new.why) or new.kind == UNKNOWN else ""
    if old.kind in OUT or new.kind in OUT:
        if old.kind in OUT and new.kind in OUT:
            return ""
        return INCLUDED if old.kind in OUT else EXCLUDED
    return OTHERWISE if (old.kind, old.side) != (new.kind, new.side) else ""


def _note(effect: Effect, group: str, link: int, old: Outcome, new: Outcome) -> None:
    effect.counts[group] += 1
    effect.outcomes[f"{old.kind} → {new.kind}"] += 1
    examples = effect.examples.setdefault(group, [])
    if len(examples) < MOST_EXAMPLES:
        examples.append(Example(link, "", words(old), words(new)))


def words(outcome: Outcome) -> str:
    """Say what becomes of a record."""
    if outcome.kind == AGREED:
        return "kept in agreement"
    if outcome.kind == OFF:
        return "not kept in agreement"
    why = WHY_WORDS.get(outcome.why, outcome.why)
    if outcome.kind in OUT:
        return f"left out: {why}"
    where = f" on the {outcome.side}" if outcome.side else ""
    said = KIND_WORDS[outcome.kind].removeprefix("would ").removeprefix("be ")
    return f"{said}{where}"


def _name(effect: Effect) -> None:
    """Say which records the examples are: one query."""
    ids = [example.link for found in effect.examples.values() for example in found]
    titles = {link.pk: short_title(link) for link in RecordLink.objects.filter(pk__in=ids)}
    for group, found in effect.examples.items():
        effect.examples[group] = [Example(e.link, titles.get(e.link, ""), e.before, e.after) for e in found]
