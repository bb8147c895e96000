"""What do the benchmarks' records look like?  Fifteen business fields, about 420 bytes, as in the prototype's measurements."""

from __future__ import annotations

KINDS = {
    "name": "text", "email": "text", "phone": "text", "fax": "text", "web": "text", "street": "text", "city": "text",
    "state": "text", "code": "text", "country": "text", "note": "text", "credit": "money", "discount": "money",
    "since": "date", "vip": "boolean",
}  # fmt: skip
LEFT_FIELDS = tuple(KINDS)
RIGHT_FIELDS = tuple(f"acc_{name}" for name in LEFT_FIELDS)
TO_RIGHT = dict(zip(LEFT_FIELDS, RIGHT_FIELDS, strict=True))
TO_LEFT = {right: left for left, right in TO_RIGHT.items()}
PAGE = 1000
BATCH = 200


def fields_of(side: str) -> tuple[str, ...]:
    """Return the field names of one side."""
    return LEFT_FIELDS if side == "left" else RIGHT_FIELDS


def values_of(number: int, side: str) -> dict[str, object]:
    """Return the values of one record; both sides of the same number agree."""
    values = (
        f"Company {number:07d} of the North", f"office{number}@company{number}.example", f"+47 555 {number:07d}",
        f"+47 556 {number:07d}", f"https://company{number}.example", f"{number % 900 + 1} Long Street",
        ("Oslo", "Bergen", "Malmö", "Århus")[number % 4], f"State {number % 50}", f"{number % 90000 + 10000}", "Norway",
        f"Asked for a call on day {number % 28 + 1}, prefers mornings.", f"{number % 5000}.50", f"{number % 20}.00",
        f"20{number % 20 + 10}-0{number % 9 + 1}-1{number % 9}", number % 3 == 0,
    )  # fmt: skip
    return dict(zip(fields_of(side), values, strict=True))
