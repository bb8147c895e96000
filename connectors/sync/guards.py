"""Is this plan too dangerous to carry out without a person?  Counts in, sentences out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from connectors.sync.values import CanonicalValues

MORE_THAN = 20  # records, and
SHARE = 0.10  # of the links (RELIABILITY I14)
REMOVED = "would be removed"  # what every sentence about removals says


def too_many(records: int, links: int) -> bool:
    """Whether so many records of so many links need a person."""
    return records > MORE_THAN and records > SHARE * links


def vanished(side: str, entity: str, missing: int, known: int) -> str:
    """Return a sentence when a listing shows suspiciously few of the known records, else ''."""
    if not too_many(missing, known):
        return ""
    todo = "Nothing was written. Check the connection's rights and filters; then run again, or accept it on the run's page."
    if missing == known:
        return f"{entity} on the {side} had {known} records and suddenly shows none. {todo}"
    return f"{missing} of {known} {entity} records on the {side} are suddenly missing. {todo}"


@dataclass(slots=True)
class Guard:
    """Watches the writes of one plan for one entity sync."""

    name: str
    links: int
    # Fields that come by a report, which may well be equal for all (its day, sales of 0 in a new year): each report tells
    # them anew, and nothing that a person has typed is in them.
    reported: frozenset[tuple[str, str]] = frozenset()
    deletes: Counter[str] = field(default_factory=Counter)  # side -> records
    blanked: Counter[tuple[str, str]] = field(default_factory=Counter)  # (side, field) -> records
    values: dict[tuple[str, str], Counter[str]] = field(default_factory=dict)  # (side, field) -> value -> records

    def see(self, side: str, verb: str, before: CanonicalValues, after: CanonicalValues) -> None:
        """Count one planned write."""
        if verb == "delete" or (verb == "archive" and not after):  # a removal, where the system has no other
            self.deletes[side] += 1
        if verb != "update":
            return
        for name, value in after.items():
            old = before.get(name)
            if old in (None, "", []):
                continue
            if value in (None, "", []):
                self.blanked[side, name] += 1
            elif isinstance(value, str | int) and (side, name) not in self.reported:
                self.values.setdefault((side, name), Counter())[str(value)] += 1

    def tripped(self) -> Sequence[str]:
        """Return a sentence for each limit that the plan passes."""
        found = [
            f"{self.name}: {count} records of {self.links} {REMOVED} on the {side}"
            for side, count in self.deletes.items()
            if too_many(count, self.links)
        ]
        found += [
            f"{self.name}: {name} would become empty in {count} records of {self.links} on the {side}"
            for (side, name), count in self.blanked.items()
            if too_many(count, self.links)
        ]
        for (side, name), counts in self.values.items():
            value, count = counts.most_common(1)[0]
            if too_many(count, self.links) and count == counts.total() and len(value) > 1:
                found.append(
                    f"{self.name}: {name} would become the same value in all {count} records that change on the {side}"
                )
        return found
