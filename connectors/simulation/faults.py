"""What goes wrong, and when?  A plan of faults that replays from one seed."""

from __future__ import annotations

import random
import re
import threading
from dataclasses import asdict, dataclass
from typing import Literal

FaultKind = Literal[
    "delay",  # answer after `seconds`
    "throttle",  # 429 (the vendor's shape) with Retry-After = `seconds`
    "error",  # `status`, nothing done
    "error_after",  # `status`, but the request was carried out
    "reset",  # connection closed before anything was done
    "reset_after",  # connection closed after the request was carried out
    "garbage",  # 200 with an HTML body, nothing done
    "expire_token",  # the access token is no longer good
    "partial",  # items of a batch, chosen by `rate` again, fail by themselves
    "empty",  # a listing or feed answers nothing at all, as if the account were empty
]


@dataclass(slots=True)
class Fault:
    """One rule: the next `times` requests (None: for ever) whose "METHOD /path" matches, each with probability `rate`."""

    kind: FaultKind
    match: str = ".*"
    times: int | None = 1
    rate: float = 1.0
    skip: int = 0  # let so many matching requests pass first
    seconds: float = 0
    status: int = 500


class FaultPlan:
    """Faults in force, drawn from one random source so that a run can be repeated."""

    def __init__(self, seed: int = 0) -> None:
        self._lock = threading.Lock()
        self.random = random.Random(seed)
        self.faults: list[Fault] = []
        self.happened: list[tuple[str, str]] = []  # (kind, "METHOD /path")

    def add(self, kind: FaultKind, **options: object) -> Fault:
        """Put a fault in force: add("throttle", match="POST .*/batch", seconds=2)."""
        fault = Fault(kind, **options)  # type: ignore[arg-type]
        with self._lock:
            self.faults.append(fault)
        return fault

    def clear(self) -> None:
        """Let everything go well from now on."""
        with self._lock:
            self.faults.clear()

    def draw(self, request_line: str) -> Fault | None:
        """Return the fault that hits this request, counting it as used."""
        with self._lock:
            for fault in self.faults:
                if fault.times == 0 or not re.search(fault.match, request_line):
                    continue
                if fault.skip > 0:
                    fault.skip -= 1
                    continue
                if fault.rate < 1.0 and self.random.random() >= fault.rate:
                    continue
                if fault.times is not None:
                    fault.times -= 1
                self.happened.append((fault.kind, request_line))
                return fault
        return None

    def describe(self) -> list[dict[str, object]]:
        """Return the faults still in force, for the control page."""
        with self._lock:
            return [asdict(fault) for fault in self.faults if fault.times != 0]
