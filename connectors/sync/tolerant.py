"""Which records without a partner are alike enough that a person should look before one is made anew?

Similarity never links: it only asks.  Names are compared without case, accents, punctuation, legal form and order of words;
numbers in a name must be the same, since "Branch 12" is not a misspelt "Branch 13".
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from django.db.models import F
from rapidfuzz import fuzz, process

from connectors.contract import Kind
from connectors.models import RecordLink
from connectors.sync import store
from connectors.sync.context import Context
from connectors.sync.matching import NEW, bounds_of, elsewhere, strangers
from connectors.sync.plan import Decision, Life, LinkState, Pending
from connectors.sync.problems import see
from connectors.sync.rules import LEFT, OTHER, RIGHT, Pair, Side
from connectors.sync.values import CanonicalValues, decode, encode

MOST_CANDIDATES = 5
# Words that companies write or leave out at will.
LEGAL_FORMS = frozenset(
    (
        "ab", "ag", "and", "as", "asa", "aps", "bv", "co", "company", "corp", "corporation", "et", "gbr", "gmbh", "inc",
        "incorporated", "kg", "limited", "llc", "llp", "ltd", "mbh", "nv", "oy", "oyj", "plc", "pty", "sa", "sarl", "sas",
        "sl", "spa", "srl", "the", "und",
    )
)  # fmt: skip


def plain_name(text: str) -> str:
    """Return a name as it is compared: small letters without accents, punctuation and legal form, words in order."""
    bare = "".join(c for c in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(c))
    words = re.sub(r"[^\w\s]", "", re.sub(r"[-/,;_+&]", " ", bare)).split()
    return " ".join(sorted([word for word in words if word not in LEGAL_FORMS] or words))


@dataclass(frozen=True, slots=True)
class Name:
    """What is compared of one record: texts by likeness, everything else must be equal."""

    link: int
    record: str
    text: str
    shown: str
    exact: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Alike:
    """A record that may be the partner."""

    link: int
    name: str
    similarity: int

    def told(self) -> dict[str, object]:
        """As arguments of a link's reason."""
        return {"link": self.link, "name": self.name, "similarity": self.similarity}


def name_of(pair: Pair, link: int, record: str, values: CanonicalValues) -> Name | None:
    """Return what is compared of a record, or None where a part of its name is empty.

    Of several ways to match the one of most fields is the name; another one is an e-mail address or a number, which is
    the same or not.
    """
    names = max(pair.match, key=len, default=())
    parts = [values.get(name) for name in names]
    if not parts or any(part in (None, "") for part in parts):
        return None
    texts = [str(p) for n, p in zip(names, parts, strict=True) if pair.by_name[n].kind is Kind.TEXT]
    others = [str(p) for n, p in zip(names, parts, strict=True) if pair.by_name[n].kind is not Kind.TEXT]
    shown = " ".join(texts)
    text = plain_name(shown)
    return Name(link, record, text, shown, (*others, *sorted(re.findall(r"\d+", text)))) if text else None


def alike(
    asked: Sequence[Name], there: Sequence[Name], least: int, apart: Mapping[int, set[int]]
) -> dict[int, list[Alike]]:
    """Return link -> records of the other side that are similar enough, best first.  `apart`: links told apart before."""
    groups: dict[tuple[str, ...], list[Name]] = {}
    for name in there:
        groups.setdefault(name.exact, []).append(name)
    found: dict[int, list[Alike]] = {}
    for name in asked:
        group = [other for other in groups.get(name.exact, ()) if other.link not in apart.get(name.link, ())]
        hits = process.extract(
            name.text, [other.text for other in group], scorer=fuzz.ratio, score_cutoff=least, limit=MOST_CANDIDATES
        )
        if hits:
            found[name.link] = [Alike(group[place].link, group[place].shown, int(score)) for _, score, place in hits]
    return found


def asking(candidates: Sequence[Alike]) -> Decision:
    """Return the decision to leave it to a person."""
    told: list[object] = [candidate.told() for candidate in candidates]
    return Decision(pending=Pending.CONFLICT, reason="ambiguous", args={"candidates": told})


@dataclass
class Questions:
    """Finds, before records of one pair are created, those that a person should look at first: one query for each side."""

    ctx: Context
    pair: Pair
    names: dict[Side, dict[int, Name]] = field(default_factory=dict)  # of the records without a partner, by link
    shown: dict[int, str] = field(default_factory=dict)  # names of the links that were asked about

    def ask(self, links: Sequence[LinkState]) -> dict[int, list[Alike]]:
        """Return link -> who may be its partner, for links whose partner is about to be created."""
        found: dict[int, list[Alike]] = {}
        if not self.pair.match_tolerance or not self.pair.match:
            return found
        for side in (LEFT, RIGHT):
            names = {
                link.id: name
                for link in links
                if (record_id := link.sides[side].id) is not None
                and (name := name_of(self.pair, link.id, record_id, link.now(side))) is not None
            }
            if not names:
                continue
            self.shown |= {link: name.shown for link, name in names.items()}
            there = self._names(OTHER[side])
            known = strangers([self.pair.id], side, [name.record for name in names.values()])
            apart = {
                name.link: {c.link for c in there.values() if (self.pair.id, name.record, c.record) in known}
                for name in (names.values() if known else ())
            }
            found |= alike(list(names.values()), list(there.values()), self.pair.match_tolerance, apart)
        return found

    def _names(self, side: Side) -> dict[int, Name]:
        """Names of the living records of a side that have no partner and may get one."""
        if side not in self.names:
            rows = RecordLink.objects.filter(
                **{
                    "entity_sync": self.pair.id, "scope": self.ctx.scope.pk, "state": NEW, "ended": 0,
                    f"{side}_life": Life.LIVE, f"{OTHER[side]}_id": None, "pending__isnull": False,
                }
            ).values_list("id", f"{side}_id", f"{side}_staged", "reason", "args")  # fmt: skip
            self.names[side] = {
                link_id: name
                for link_id, record_id, staged, reason, args in store.read(rows)
                if not (elsewhere(reason, args) or bounds_of(reason, args))
                and (name := name_of(self.pair, link_id, record_id, decode(staged))) is not None
            }
        return self.names[side]

    def ask_back(self, asked: Mapping[int, Sequence[Alike]]) -> None:
        """Ask about the candidates, too: whoever opens one of them sees the same question."""
        back: dict[int, list[Alike]] = {}
        for link, candidates in asked.items():
            for candidate in candidates:
                back.setdefault(candidate.link, []).append(Alike(link, self.shown[link], candidate.similarity))
        rows = RecordLink.objects.filter(pk__in=list(back.keys() - asked.keys()), state=NEW).exclude(
            pending=Pending.PLANNED
        )
        for link_id, reason, args in rows.values_list("pk", "reason", "args"):
            told = decode(args).get("candidates") if reason == "ambiguous" else None
            kept = {c["link"]: c for c in told if isinstance(c, dict)} if isinstance(told, list) else {}
            kept |= {c.link: c.told() for c in back[link_id]}
            RecordLink.objects.filter(pk=link_id).update(
                pending=int(Pending.CONFLICT), reason="ambiguous", args=encode({"candidates": list(kept.values())}),
                touched_run=self.ctx.run.pk, revision=F("revision") + 2,
            )  # fmt: skip
            see(RecordLink.objects.filter(pk=link_id), self.ctx.world.now(), self.ctx.noted)
