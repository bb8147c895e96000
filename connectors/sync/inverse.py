"""What takes back what a run did to one record, and if nothing does, why?  Pure: it reads and writes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from connectors.contract import Removal, Verb
from connectors.sync.plan import Life, LinkState
from connectors.sync.rules import ARCHIVED, Pair, Side, field_title
from connectors.sync.values import CanonicalValues

# Why something can't be taken back, in a word or two: the summary counts by them.
CHANGED, GONE, HIDDEN, HELD, FORBIDDEN, UNABLE, REFERRED = (
    "changed since", "gone already", "hidden", "held by a person", "prevented", "not possible there", "referred to"
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Done:
    """One write that was carried out."""

    id: int
    run: int
    verb: Verb
    before: CanonicalValues
    after: CanonicalValues


@dataclass(frozen=True, slots=True)
class Inverse:
    """One write that takes back what a run did to one side of a link; without a verb nothing can."""

    verb: Verb | None
    before: CanonicalValues = field(default_factory=dict)
    after: CanonicalValues = field(default_factory=dict)
    word: str = ""
    message: str = ""  # why nothing can; or what a person must know of the write


@dataclass(frozen=True, slots=True)
class Place:
    """The record that was written, as it is now."""

    link: LinkState
    side: Side
    pair: Pair
    fits: Callable[[CanonicalValues, bool], str]  # (values, creating) -> why the side does not take them, or ''
    gone_by_undo: frozenset[str] = frozenset()  # references to records that this very undo has removed

    @property
    def life(self) -> Life:
        """Where the record is in its life."""
        return self.link.sides[self.side].life

    @property
    def now(self) -> CanonicalValues:
        """What the record holds."""
        return self.link.now(self.side)

    def holds(self, name: str, value: object) -> bool:
        """Whether a field still shows what was written: that very value, or the form in which the side keeps it."""
        base, now = self.link.base or {}, self.now
        if now.get(name) == value or value in self.gone_by_undo:
            return True
        if name not in base:  # it was left out when the rest was written
            return name not in now or now[name] is None
        return base[name] == value and now.get(name) == self.link.base_of(self.side).get(name)

    def filled(self, name: str, value: object) -> bool:
        """Whether a field that a creation left empty was filled by the system itself (a currency) and is agreed by now."""
        base = self.link.base or {}
        return value is None and name in base and self.now.get(name) == self.link.base_of(self.side).get(name)


def invert(done: Sequence[Done], later: Sequence[Done], place: Place) -> list[Inverse]:
    """Return what takes back `done`, all that one run wrote to one side of a link, oldest first.

    `later`: what other runs have written there since.  Two writes follow each other; else it is one, or the reason why none.
    """
    last = done[-1].verb
    if last is Verb.DELETE:
        return [_make_again(done, place)]
    if place.life not in (Life.LIVE, Life.ARCHIVED):
        return [Inverse(None, word=GONE, message="The record is gone already.")]
    if done[0].verb is Verb.CREATE:
        return [_remove(done, later, place)]
    if last not in (Verb.ARCHIVE, Verb.RESTORE):
        return [_set_back(done, place)]
    turned = _turn(done[-1], place)
    if len(done) == 1:
        return [turned]
    back = _set_back(done[:-1], place)
    return [one for one in (turned, back) if one.verb] or [turned]


def _remove(done: Sequence[Done], later: Sequence[Done], place: Place) -> Inverse:
    if place.life is Life.ARCHIVED:
        return Inverse(None, word=GONE, message="The record has been made inactive since.")
    written: CanonicalValues = {}
    for each in (*done, *later):
        written |= each.after
    tracked = {name: value for name, value in written.items() if name in place.pair.tracked and name != ARCHIVED}
    moved = [name for name, value in tracked.items() if not place.holds(name, value) and not place.filled(name, value)]
    if moved:
        return Inverse(None, word=CHANGED, message=f"Somebody has changed it since: {_titles(moved)}. It stays.")
    return removal(place.pair, place.side, {name: place.now.get(name, value) for name, value in written.items()})


def removal(pair: Pair, side: Side, before: CanonicalValues, *, keep: str = "") -> Inverse:
    """Return the write that removes a record: by a delete, else by making it inactive.  `keep`: why it must not be deleted."""
    entity = pair.entity(side)
    can_delete = entity.removal is Removal.DELETE and Verb.DELETE in entity.verbs
    if can_delete and not keep and not pair.prevented(side, Verb.DELETE):
        return Inverse(Verb.DELETE, before)
    why = keep or (
        f"The settings prevent deleting on the {side}."
        if can_delete
        else f"The {side} system can't delete such records."
    )
    if Verb.ARCHIVE in entity.verbs and not pair.prevented(side, Verb.ARCHIVE):
        return Inverse(Verb.ARCHIVE, before, message=f"{why} It will be made inactive.")
    return Inverse(
        None, word=UNABLE if not keep else REFERRED, message=f"{why} It can't be made inactive either: it stays."
    )


def _set_back(done: Sequence[Done], place: Place) -> Inverse:
    pair, side = place.pair, place.side
    if pair.prevented(side, Verb.UPDATE) or Verb.UPDATE not in pair.entity(side).verbs:
        return Inverse(None, word=FORBIDDEN, message=f"The settings prevent updates on the {side}.")
    before, after = _span(done)
    back: CanonicalValues = {}
    stays: dict[str, str] = {}  # field -> why
    for name, value in after.items():
        rule = pair.by_name.get(name)
        if value == before.get(name):
            continue
        if name == ARCHIVED or rule is None or not rule.writable(side, creating=False):
            stays[name] = f"the settings do not write it to the {side}"
        elif not place.holds(name, value):
            stays[name] = "changed since"
        elif why := place.fits({name: before.get(name)}, False):
            stays[name] = why
        else:
            back[name] = before.get(name)
    told = "; ".join(f"{field_title(name)} stays: {why}" for name, why in sorted(stays.items()))
    if back:
        return Inverse(Verb.UPDATE, {name: place.now.get(name) for name in back}, back, message=told)
    changed = any(why == "changed since" for why in stays.values())
    return Inverse(
        None, word=CHANGED if changed or not stays else UNABLE, message=told or "It holds what it held before."
    )


def _turn(done: Done, place: Place) -> Inverse:
    archived = done.verb is Verb.ARCHIVE
    verb = Verb.RESTORE if archived else Verb.ARCHIVE
    pair, side = place.pair, place.side
    if (place.life is Life.ARCHIVED) != archived:
        return Inverse(
            None, word=CHANGED, message=f"Somebody has made it {'active' if archived else 'inactive'} since."
        )
    if pair.prevented(side, verb) or verb not in pair.entity(side).verbs:
        return Inverse(
            None, word=FORBIDDEN, message=f"It can't be made {'active' if archived else 'inactive'} again there."
        )
    return Inverse(verb, {ARCHIVED: archived}, {ARCHIVED: not archived})


def _make_again(done: Sequence[Done], place: Place) -> Inverse:
    pair, side = place.pair, place.side
    if place.life in (Life.LIVE, Life.ARCHIVED):
        return Inverse(None, word=CHANGED, message="The record is there again.")
    if Verb.CREATE not in pair.entity(side).verbs or pair.prevented(side, Verb.CREATE):
        return Inverse(None, word=FORBIDDEN, message=f"It can't be made again: nothing may be created on the {side}.")
    held, _ = _span(done)
    known: CanonicalValues = {n: v for n, v in held.items() if v is not None and not n.startswith("~")}
    values: CanonicalValues = {
        n: v for n, v in known.items() if (r := pair.by_name.get(n)) and r.writable(side, creating=True)
    }
    if not values:
        return Inverse(None, word=UNABLE, message="It can't be made again: nothing is known of what it held.")
    if why := place.fits(values, True):
        return Inverse(None, word=UNABLE, message=f"It can't be made again: {why}")
    without = sorted(known.keys() - values.keys())
    note = f" Without {_titles(without)}, which the settings do not write to the {side}." if without else ""
    return Inverse(
        Verb.CREATE, {}, values,
        message=f"It is made again as a new record with a new id; it holds only what the hub knew of it.{note}",
    )  # fmt: skip


def _span(done: Sequence[Done]) -> tuple[CanonicalValues, CanonicalValues]:
    """Return what a chain of writes found first and what it left last, by field."""
    before: CanonicalValues = {}
    after: CanonicalValues = {}
    for each in done:
        before = {**each.before, **before}
        after |= each.after
    return before, after


def _titles(names: Iterable[str]) -> str:
    return ", ".join(field_title(name) for name in names)
