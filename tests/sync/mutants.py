"""The six design rules under RELIABILITY section 1, each taken away: the suite must notice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from unittest.mock import patch

from django.db import IntegrityError, transaction

from connectors.models import RecordChange, RecordLink
from connectors.sync import plan, push, run
from connectors.sync.merge import POLICIES
from connectors.sync.plan import Decision, LinkState
from connectors.sync.rules import LEFT, OTHER, RIGHT
from connectors.sync.stage import Staging
from tests.sync.machine import History


@contextmanager
def no_key_to_settle_by() -> Iterator[None]:
    """Rule 1: what was being sent when a run died is simply planned again, without a look at what became of it."""

    def forget(ctx: object) -> int:
        rows = RecordChange.objects.filter(open__isnull=False)
        RecordLink.objects.filter(changes__in=rows).update(pending=1, reason="changed")
        rows.update(status="superseded", open=None)
        return 0

    with patch.object(run, "settle", forget):
        yield


@contextmanager
def no_own_base() -> Iterator[None]:
    """Rule 2: what a side held when both agreed is forgotten, so that clocks decide who has changed."""
    with patch.object(LinkState, "base_of", lambda self, side: {}):
        yield


@contextmanager
def unconditional_writes() -> Iterator[None]:
    """Rule 3: updates do not name the version that they were planned on."""
    real = push._item

    def careless(*args: object, **named: object) -> object:
        item = real(*args, **named)  # type: ignore[arg-type]
        return replace(item, operation=replace(item.operation, expect=""))

    with (
        patch.object(push, "_item", careless),
        patch.object(push, "_with_current", lambda ctx, pair, side, items: items),
    ):
        yield


@contextmanager
def no_tombstones() -> Iterator[None]:
    """Rule 4: when a partner is gone the other record begins anew, as if it had never had one."""
    with patch.object(plan, "_gone", lambda link, ctx, alive: Decision(respawn=alive)):
        yield


@contextmanager
def no_base_by_field() -> Iterator[None]:
    """Rule 5: when both sides changed anything, the winner's whole record is written over the other."""
    real = plan.merge

    def whole_record(rules, base, now, cut, moments):  # type: ignore[no-untyped-def]
        result = real(rules, base, now, cut, moments)
        winner = POLICIES["left"](moments) or LEFT
        if base[LEFT] and result.to[LEFT] and result.to[RIGHT]:
            loser = OTHER[winner]
            result.to[loser] = {n: v for n, v in now[winner].items() if now[loser].get(n) != v}
            result.to[winner] = {}
        return result

    with patch.object(plan, "merge", whole_record):
        yield


@contextmanager
def cursor_before_its_page() -> Iterator[None]:
    """Rule 6: the cursor is stored in a transaction of its own, before the page is."""
    real_apply, real_point = Staging.apply, History.point
    waiting: list[Staging] = []

    def later(self: Staging) -> None:
        waiting.append(self)

    def point(self: History, name: str) -> None:
        if name.startswith("after stage"):
            pages = waiting[:]
            waiting.clear()
            real_point(self, name)  # may crash: then the page is lost
            for page in pages:
                with suppress(IntegrityError), transaction.atomic():  # a later page may have told the same record
                    real_apply(page)
        else:
            real_point(self, name)

    with patch.object(Staging, "apply", later), patch.object(History, "point", point):
        yield


MUTANTS: dict[str, Callable[[], object]] = {
    "no key to settle by": no_key_to_settle_by,
    "no own base": no_own_base,
    "unconditional writes": unconditional_writes,
    "no tombstones": no_tombstones,
    "no base by field": no_base_by_field,
    "cursor before its page": cursor_before_its_page,
}
