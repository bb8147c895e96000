"""What do floor and product share?  The door to the two servers, and the clock: CPU of this process only."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import requests

SIDES = ("left", "right")


def cpu(work: Callable[[], object]) -> float:
    """Return the seconds of processor time that this process spends on some work."""
    started = time.process_time()
    work()
    return time.process_time() - started


def peak_mib() -> float:
    """Return the most memory that this process has had.  (`ru_maxrss` would tell the parent's, too.)"""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("this system does not tell a process's peak memory")


class Servers:
    """Both servers, as the measuring process prepares and judges them; never inside a measurement."""

    def __init__(self, left: str, right: str) -> None:
        self.urls = dict(zip(SIDES, (left, right), strict=True))
        self.session = requests.Session()
        self.session.trust_env = False

    def control(self, side: str, do: str, **asked: object) -> dict[str, object]:
        """Ask one server for something and return what it tells."""
        reply = self.session.post(f"{self.urls[side]}/control", json={"do": do, **asked})
        reply.raise_for_status()
        told: dict[str, object] = reply.json()
        return told

    def seed(self, left: int, right: int) -> None:
        """Fill both sides; the same numbers are the same records."""
        self.control("left", "seed", records=left, forget=True)
        self.control("right", "seed", records=right, forget=True)

    def edit(self, every: int, value: str) -> None:
        """Change one field of every so many records on each side; no record on both."""
        self.control("left", "edit", every=every, start=0, field="note", value=value, forget=True)
        self.control("right", "edit", every=every, start=every // 2, field="acc_city", value=value, forget=True)

    def told(self) -> dict[str, dict[str, object]]:
        """Return records, requests and writes of both sides, and begin to count anew."""
        return {side: self.control(side, "tell", forget=True) for side in SIDES}
