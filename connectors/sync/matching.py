"""Which record of the other side may be the same one?  By equal match values; what a person has told apart stays apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from django.db.models import F

from connectors.models import RecordLink, Stranger
from connectors.sync import store
from connectors.sync.plan import Life, Pending
from connectors.sync.rules import COMPANY, FAMILY, LEFT, OTHER, RIGHT, Pair, Side
from connectors.sync.values import CanonicalValues, decode, encode

NEW, LINKED, HELD, ENDED, DISCONNECTED = 0, 1, 2, 3, 4  # RecordLink.State
LOOK_UP = 500
# What a link holds of a side where there is no record.
NOTHING: dict[str, object] = {
    "entity": "", "id": None, "version": "", "modified": "", "life": int(Life.NONE), "match": "", "match2": None,
    "staged": None, "quirk": "",
}  # fmt: skip
# Arguments of links whose record has its partner by another family: they are told of there.
ELSEWHERE = tuple(encode({"why": FAMILY, "side": side}) for side in (LEFT, RIGHT))


class Candidate(NamedTuple):
    """A link whose record may be the partner of one that was read."""

    id: int
    key: str
    revision: int
    free: bool  # it may be joined: nobody holds it, and it has no record on this side
    bounds: str  # why its record is out of bounds
    held: bool


BY_MATCH = store.Prepared(
    lambda integration, family, hashes, *, side, column: RecordLink.objects.filter(
        **{
            "integration": integration, "family": family, f"{column}__in": hashes,
            f"{OTHER[side]}_life__in": [Life.LIVE, Life.ARCHIVED], "state__in": [NEW, HELD], "ended": 0,
        }
    ).values_list("id", "key", f"{side}_id", f"{OTHER[side]}_id", column, "entity_sync", "state", "reason", "args", "revision")
)  # fmt: skip


def candidates_for(
    integration: int, family: str, own: Side, records: Sequence[tuple[str, Pair, CanonicalValues]]
) -> dict[str, list[Candidate]]:
    """Return id -> links of the same pair without a partner whose other side's record may be the same one.

    Two records meet by the first alternative that both of them fill: a second match value only counts against a first.
    """
    firsts: dict[str, list[tuple[str, int]]] = {}  # match value -> (id, pair) of the records that have it
    seconds: dict[str, list[tuple[str, int]]] = {}
    late: dict[str, list[tuple[str, int]]] = {}
    for record_id, pair, values in records:
        first, second = pair.match_hashes(values)
        if first:
            firsts.setdefault(first, []).append((record_id, pair.id))
            if len(pair.match) > 1:
                late.setdefault(first, []).append((record_id, pair.id))
        if second:
            seconds.setdefault(second, []).append((record_id, pair.id))
    other = OTHER[own]
    found: dict[str, list[Candidate]] = {}
    others: dict[int, str] = {}  # link -> the record that it has on the other side
    for column, wanted in ((f"{other}_match", [firsts, seconds]), (f"{other}_match2", [late])):
        hashes = sorted({value for by_hash in wanted for value in by_hash})
        for block in store.blocks(hashes, LOOK_UP):
            rows = BY_MATCH.read(integration, family, block, side=own, column=column)
            for link_id, key, own_id, other_id, match, entity_sync, state, reason, args, revision in rows:
                if state == HELD and own_id is not None:
                    continue  # both records are known
                if elsewhere(reason, args):
                    continue
                candidate = Candidate(
                    link_id, str(key), revision, state == NEW and own_id is None, bounds_of(reason, args), state == HELD
                )
                for by_hash in wanted:
                    for record_id, pair_id in by_hash.get(str(match), ()):
                        if pair_id == entity_sync:
                            found.setdefault(record_id, []).append(candidate)
                            others[link_id] = str(other_id)
    return _without_strangers({record_id: pair.id for record_id, pair, _ in records}, own, found, others)


def _without_strangers(
    pairs: Mapping[str, int], own: Side, found: dict[str, list[Candidate]], others: Mapping[int, str]
) -> dict[str, list[Candidate]]:
    """Leave out the pairs of records of which a person has said that they are not the same."""
    if not found:
        return found
    known = strangers({pairs[record_id] for record_id in found}, own, found)
    kept = {
        record_id: [c for c in candidates if (pairs[record_id], record_id, others[c.id]) not in known]
        for record_id, candidates in found.items()
    }
    return {record_id: candidates for record_id, candidates in kept.items() if candidates}


def namesakes(link: RecordLink) -> list[int]:
    """Return the links whose record on the other side has no partner and may be this one's: then a person is asked first."""
    side: Side = LEFT if link.left_id is not None else RIGHT
    own, other = side, OTHER[side]
    first, second = getattr(link, f"{own}_match"), getattr(link, f"{own}_match2")
    if link.base or not first:
        return []
    place = (link.integration_id, link.family)
    rows = BY_MATCH.read(*place, [h for h in (first, second) if h], side=side, column=f"{other}_match")
    rows += BY_MATCH.read(*place, [first], side=side, column=f"{other}_match2")
    own_record = getattr(link, f"{own}_id")
    pair = link.entity_sync_id
    known = strangers([pair], side, [own_record]) if rows else set()
    found = [
        link_id
        for link_id, _, own_id, other_id, _, entity_sync, _, reason, args, _ in rows
        if not elsewhere(reason, args)
        and own_id is None
        and entity_sync == pair
        and (pair, own_record, other_id) not in known
    ]
    return list(dict.fromkeys(found))


def strangers(pairs: Iterable[int], own: Side, records: Iterable[str]) -> set[tuple[int, str, str]]:
    """Return (pair, id on this side, id on the other) of the records that a person has called not the same."""
    found: set[tuple[int, str, str]] = set()
    wanted = sorted(pairs)
    for block in store.blocks(records, LOOK_UP):
        rows = Stranger.objects.filter(**{"entity_sync__in": wanted, f"{own}_id__in": block})
        found.update(rows.values_list("entity_sync", f"{own}_id", f"{OTHER[own]}_id"))
    return found


def leave_to(rivals: Mapping[int, str], integration: int, links: Sequence[int]) -> None:
    """Leave the records of these links out where a rival pair (id -> its family) has a link without a partner for them."""
    for block in store.blocks(links, LOOK_UP):
        rows = store.read(
            RecordLink.objects.filter(pk__in=map(str, block)).values_list(
                "left_entity", "left_id", "right_entity", "right_id"
            )
        )
        for side, number in ((LEFT, 0), (RIGHT, 2)):
            RecordLink.objects.filter(
                **{
                    "integration": integration, "family__in": set(rivals.values()), "entity_sync__in": list(rivals),
                    f"{side}_entity__in": {row[number] for row in rows}, f"{side}_id__in": [row[number + 1] for row in rows],
                    f"{OTHER[side]}_id": None, "state": NEW, "ended": 0,
                }
            ).update(
                pending=int(Pending.SKIPPED), reason="outside", args=encode({"why": FAMILY, "side": side}),
                revision=F("revision") + 2,
            )  # fmt: skip


def elsewhere(reason: str, args: str) -> bool:
    """Whether a link's record is nobody's partner here: it is another company's, or has its partner by another family."""
    return reason == "outside" and decode(args).get("why") in (COMPANY, FAMILY)


def bounds_of(reason: str, args: str) -> str:
    """Return the arguments of a link whose record is out of bounds, which a partner's arrival does not change; else ''."""
    return args if reason == "outside" and decode(args).get("why") in ("filter", "window", "route") else ""
