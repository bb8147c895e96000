"""Which fields, and which options, look as if they meant the same?  Proposals only: a person ticks what is to be mapped."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from rapidfuzz import fuzz

from connectors.contract import Field, Option, Write
from connectors.sync.fitting import LOSSY, UNFIT, fit, pairing
from connectors.sync.picklists import same_label
from connectors.sync.rules import LEFT, RIGHT, Side

LEAST = 78  # percent of similarity below which two names are not worth a person's look
SAME = 100
# What systems call differently and people take for the same; a word may stand for several.
SYNONYMS: Mapping[str, str] = {
    "zip": "postal code", "zipcode": "postal code", "postalcode": "postal code", "postcode": "postal code",
    "telephone": "phone", "tel": "phone", "mobilephone": "mobile", "cellphone": "mobile", "cell": "mobile",
    "email": "mail", "emailaddress": "mail", "e": "", "addr": "address", "uri": "website", "url": "website",
    "websiteurl": "website", "websiteaddress": "website", "web": "website", "site": "", "state": "province",
    "stateorprovince": "province", "subdivision": "province", "firstname": "given name", "forename": "given name",
    "lastname": "family name", "surname": "family name", "givenname": "given name", "familyname": "family name",
    "qty": "quantity", "amt": "amount", "num": "number", "no": "number", "desc": "description", "notes": "description",
    "memo": "description", "town": "city", "freeform": "", "primary": "", "ref": "", "id": "", "value": "",
}  # fmt: skip
_NOISE = re.compile(r"^[a-z]{2,8}_(?=[a-z])")  # a publisher's prefix: syn_amount


@dataclass(frozen=True)
class Proposal:
    """Two fields that may be the same."""

    left: str
    right: str
    direction: str
    similarity: int
    reason: str
    warning: str = ""  # what would be lost

    @property
    def key(self) -> str:
        """What a ticked box sends."""
        return f"{self.left}>{self.right}"


@dataclass(frozen=True)
class OptionProposal:
    """Two options that may be the same."""

    left: Option
    right: Option
    similarity: int
    reason: str

    @property
    def key(self) -> str:
        """What a ticked box sends: keys never hold this sign between them twice, the lists say which are meant."""
        return f"{self.left.key}\x1f{self.right.key}"


def words_of(name: str) -> str:
    """Return a field's name as words that can be compared: BillAddr.City and address1_city have two in common."""
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Za-z])(?=[0-9])|[^0-9A-Za-z]+", " ", name)
    words = [SYNONYMS.get(word, word) for word in apart.casefold().split()]
    return " ".join(word for word in words if word) or name.casefold()


def _spellings(name: str) -> set[str]:
    """With and without what may be a publisher's prefix."""
    return {words_of(name), words_of(_NOISE.sub("", name))}


def similarity(left: Field, right: Field) -> tuple[int, str]:
    """Return how much two fields are alike in percent, and by what: names, labels, or one's name and the other's label."""
    texts = {
        "same name": (left.name, right.name),
        "same label": (left.label, right.label),
        "label and name": (left.label, right.name),
        "name and label": (left.name, right.label),
    }
    best, by = 0, ""
    for how, (one, other) in texts.items():
        if not one or not other:
            continue
        score = max(_alike(a, b) for a in _spellings(one) for b in _spellings(other))
        if score > best:
            best, by = score, how
    if best == SAME:
        return best, by.capitalize() if by.startswith("same") else "Same words"
    return best, f"Similar {by.removeprefix('same ')}s" if by.startswith("same") else "Similar words"


def _alike(one: str, other: str) -> int:
    # Numbers name things: line 1 is not a misspelt line 2.
    if sorted(re.findall(r"\d+", one)) != sorted(re.findall(r"\d+", other)) and re.search(r"\d", one + other):
        return min(LEAST - 1, int(fuzz.token_sort_ratio(one, other)))
    if one == other or sorted(one.split()) == sorted(other.split()):
        return SAME
    return min(SAME - 1, int(fuzz.token_sort_ratio(one, other)))


def propose(left: Iterable[Field], right: Iterable[Field], mapped: Collection[tuple[str, str]]) -> list[Proposal]:
    """Propose each field at most once, the most alike first; what a mapping has on its side already is left alone."""
    used: dict[Side, set[str]] = {LEFT: {one for one, _ in mapped}, RIGHT: {other for _, other in mapped}}
    pairs: list[tuple[int, str, Field, Field]] = []
    rest = [other for other in right if other.name not in used[RIGHT]]
    for one in left:
        if one.name in used[LEFT]:
            continue
        for other in rest:
            if pairing(one.kind, other.kind)[0] == UNFIT or not direction_of(one, other):
                continue
            score, by = similarity(one, other)
            # Of two pairs that are equally alike, the one of the same type is the better guess.
            if score >= LEAST:
                pairs.append((score * 2 + (one.kind == other.kind), by, one, other))
    found: list[Proposal] = []
    taken: dict[Side, set[str]] = {LEFT: set(), RIGHT: set()}
    for score, by, one, other in sorted(pairs, key=lambda pair: (-pair[0], pair[2].name, pair[3].name)):
        if one.name in taken[LEFT] or other.name in taken[RIGHT]:
            continue
        taken[LEFT].add(one.name)
        taken[RIGHT].add(other.name)
        direction = direction_of(one, other)
        judged = fit(one, other, names=(one.name, other.name), direction=direction)
        same = "same type" if one.kind == other.kind else "types that fit"
        found.append(
            Proposal(
                one.name,
                other.name,
                direction,
                score // 2,
                f"{by}, {same}.",
                judged.why if judged.word == LOSSY else "",
            )
        )
    return found


def direction_of(left: Field, right: Field) -> str:
    """Return which way values can flow, '' where neither side can be written."""
    to_left, to_right = left.write is not Write.NEVER, right.write is not Write.NEVER
    if to_left and to_right:
        return "both"
    return "to_right" if to_right else "to_left" if to_left else ""


def propose_options(
    left: Sequence[Option], right: Sequence[Option], pairs: Collection[tuple[str, str]]
) -> list[OptionProposal]:
    """Propose options without partner by their labels, each at most once."""
    used_left, used_right = {one for one, _ in pairs}, {other for _, other in pairs}
    found: list[OptionProposal] = []
    for one in left:
        for other in right:
            if one.key in used_left or other.key in used_right or not (one.active and other.active):
                continue
            a, b = same_label(one.label), same_label(other.label)
            score = SAME if a and a == b else min(SAME - 1, int(fuzz.token_sort_ratio(a, b))) if a and b else 0
            if sorted(re.findall(r"\d+", a)) != sorted(re.findall(r"\d+", b)):
                score = min(score, LEAST - 1)
            if score >= LEAST:
                found.append(OptionProposal(one, other, score, "Same label" if score == SAME else "Similar labels"))
    chosen: list[OptionProposal] = []
    for proposal in sorted(found, key=lambda p: (-p.similarity, p.left.key, p.right.key)):
        if proposal.left.key not in used_left and proposal.right.key not in used_right:
            used_left.add(proposal.left.key)
            used_right.add(proposal.right.key)
            chosen.append(proposal)
    return chosen
