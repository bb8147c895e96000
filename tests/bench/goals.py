"""Which goals are met?  The limits, and how each figure is made of what was measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import cast

Told = dict[str, object]


@dataclass
class Measured:
    """What the measuring processes told, one entry for each pair."""

    records: int
    singles: int
    small: int
    floor: list[Told] = field(default_factory=list)
    product: dict[str, list[Told]] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """One goal, its limit, and what was measured in each pair."""

    goal: str
    what: str
    unit: str
    limit: float
    values: Sequence[float]
    note: str = ""

    @property
    def middle(self) -> float:
        """The median over the pairs."""
        return median(self.values)

    @property
    def missed(self) -> bool:
        """Whether the median is above its limit.  (Four pairs of five would excuse too much when only three are run.)"""
        return self.middle > self.limit

    def told(self) -> Told:
        """For --json."""
        return {
            "goal": self.goal, "what": self.what, "unit": self.unit, "limit": self.limit, "median": round(self.middle, 3),
            "least": round(min(self.values), 3), "most": round(max(self.values), 3), "met": not self.missed,
            "note": self.note,
        }  # fmt: skip


def judge(measured: Measured) -> list[Result]:
    """Return every goal with its figures; the limits are those of docs/performance.md."""
    floor, product = measured.floor, measured.product
    results: list[Result] = []

    def ratio(goal: str, what: str, limit: float, part: str, own: str, base: str) -> None:
        values = [_f(a[own]) / _f(b[base]) for a, b in zip(product[part], floor, strict=True)]
        us = median(_f(a[own]) for a in product[part])
        least = median(_f(b[base]) for b in floor)
        results.append(Result(goal, what, "x floor", limit, values, f"{us:.0f} us each, floor {least:.0f}"))

    def plain(
        goal: str, what: str, unit: str, limit: float, part: str, value: Callable[[Told], float], note: str = ""
    ) -> None:
        results.append(Result(goal, what, unit, limit, [value(told) for told in product[part]], note))

    ratio("G1", "first sync, single writes", 1.5, "singles", "first", "single")
    ratio("G1b", "first sync, 200 writes a request", 2.0, "batches", "first", "batch")
    ratio("G2", "pairing two full sides", 1.5, "pairing", "pair", "pair")
    ratio("G3", "nothing changed, all read, by version", 1.2, "batches", "by_version", "compare")
    ratio("G3", "nothing changed, all read, by values", 2.2, "batches", "by_values", "compare")
    plain("G3b", "echo of a first sync", "us each", 30, "batches", lambda t: _f(t["echo"]))
    plain("G3b", "rows written by it", "rows", 0, "batches", lambda t: _f(t["echo_rows"]))
    for part, size in (("small", measured.small), ("pairing", measured.records)):
        plain("G4", f"idle run, {size} links", "ms", 25, part, lambda t: _f(t["idle_ms"]))
    plain("G4", "its requests", "", 4, "pairing", lambda t: _f(t["idle_requests"]))
    plain("G4", "its statements", "", 12, "pairing", lambda t: _f(t["idle_queries"]))
    plain("G4", "links and changes it wrote", "rows", 0, "pairing", lambda t: _f(t["idle_rows"]))
    results.append(_between(measured, "G4", "idle run", "idle_ms", 1.2))
    ratio("G5", "1 % changed, single writes", 1.8, "batches", "changed_single", "changed")
    ratio("G5", "1 % changed, 200 writes a request", 0.6, "batches", "changed_batch", "changed")
    plain("G5", "requests over pages + 1.05 x changes + 4", "", 0, "batches", _requests_over)
    results.append(_between(measured, "G6", "peak memory", "peak", 1.3))
    above = "above Django's own start"
    plain(
        "G6", f"peak memory {above}", "MiB", 100, "pairing", lambda t: _f(t["peak"]) - _f(t["start"]), _peaks(measured)
    )
    return results


def _requests_over(told: Told) -> float:
    return max(
        0.0, _f(told["changed_single_requests"]) - _f(told["changed_single_pages"]) - 1.05 * _f(told["changes"]) - 4
    )


def _between(measured: Measured, goal: str, what: str, name: str, limit: float) -> Result:
    few, many = measured.product["small"], measured.product["pairing"]
    values = [_f(b[name]) / _f(a[name]) for a, b in zip(few, many, strict=True)]
    return Result(goal, f"{what}, {measured.records} against {measured.small}", "x", limit, values)


def _peaks(measured: Measured) -> str:
    few, many = measured.product["small"], measured.product["pairing"]
    return f"{median(_f(t['peak']) for t in few):.0f} and {median(_f(t['peak']) for t in many):.0f} MiB in all"


def _f(value: object) -> float:
    return float(cast("float", value))


def table(results: Sequence[Result]) -> str:
    """Return the results as a table that also reads well in a document."""
    lines = ["| goal | what | limit | median (range) | | |", "|---|---|---|---|---|---|"]
    for r in results:
        figures = f"{r.middle:.2f} ({min(r.values):.2f}-{max(r.values):.2f}) {r.unit}".rstrip()
        lines.append(
            f"| {r.goal} | {r.what} | {r.limit:g} | {figures} | {'**missed**' if r.missed else 'met'} | {r.note} |"
        )
    return "\n".join(lines)
