"""Do all workers together stay inside the limits?"""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connections

from connectors.contract import Limit, QuotaExhausted
from connectors.models import Budget, ConcurrencySlot, Connection
from connectors.transport.budget import Budgets, amounts, window
from tests.transport.conftest import answer

MINUTE = timedelta(minutes=1)
BATCH = Limit("batch", 40, MINUTE)


@pytest.fixture
def make_budgets(connection, clock):
    def make(*limits: Limit) -> Budgets:
        return Budgets(connection, limits, clock.now, clock.sleep)

    return make


def spent(budgets: Budgets, name: str, most: int = 1000) -> int:
    for count in range(most):
        try:
            budgets.spend([name])
        except QuotaExhausted:
            return count
    return most


def test_two_transports_share_one_budget(make_budgets, clock):
    one, two = make_budgets(BATCH), make_budgets(BATCH)
    total = 0
    for _ in range(20):
        one.spend(["batch"])
        two.spend(["batch"])
        total += 2
    assert total == 40
    assert clock.slept == []
    with pytest.raises(QuotaExhausted) as caught:
        two.spend(["batch"])
    assert 59 < caught.value.retry_after < 63


@pytest.mark.parametrize("amount", [3, 40, 100])
def test_no_length_of_time_holds_more_than_the_limit_in_steady_use(make_budgets, clock, amount):
    budgets = make_budgets(Limit("request", amount, MINUTE))
    calls = []
    for _ in range(amount * 4):
        try:
            budgets.spend(["request"])
            calls.append(clock.now())
        except QuotaExhausted as error:
            clock.sleep(error.retry_after)
        clock.at += MINUTE / amount / 2
    starts = {window(at, MINUTE) for at in calls}
    assert max(sum(1 for at in calls if window(at, MINUTE) == start) for start in starts) <= amount
    assert len(calls) > amount


def test_the_change_of_windows_does_not_double_the_limit(make_budgets, clock):
    budgets = make_budgets(BATCH)
    clock.at += timedelta(seconds=59)
    assert spent(budgets, "batch", 40) == 40
    clock.at += timedelta(seconds=1)
    before = clock.now()
    with pytest.raises(QuotaExhausted):
        for _ in range(20):
            budgets.spend(["batch"])
            assert clock.now() - before < timedelta(seconds=40)
            if clock.now() - before > timedelta(seconds=3):
                raise QuotaExhausted("enough seen")
    assert Budget.objects.get().used <= 4


def test_a_short_wait_is_waited_for(make_budgets, clock):
    budgets = make_budgets(Limit("request", 1, timedelta(seconds=2)))
    budgets.spend(["request"])
    budgets.spend(["request"])
    assert 2 <= sum(clock.slept) <= 5


def test_an_ample_budget_is_taken_in_blocks_and_lapses(make_budgets, clock, django_assert_num_queries):
    budgets = make_budgets(Limit("request", 500, MINUTE))
    budgets.spend(["request"])
    with django_assert_num_queries(0):
        for _ in range(9):
            budgets.spend(["request"])
    assert Budget.objects.get().used == 10
    budgets.spend(["request"])
    clock.at += timedelta(seconds=11)
    with django_assert_num_queries(1):
        budgets.spend(["request"])


def test_blocks_do_not_go_beyond_the_limit(make_budgets, clock):
    first = make_budgets(Limit("request", 505, MINUTE))
    assert spent(first, "request") == 505
    assert Budget.objects.get().used == 505


def test_retry_after_holds_all_workers(connection, make_transport, server, clock):
    limits = (Limit("request", 500, MINUTE),)
    server.routes["/x"] = lambda _: answer({}, 429, Retry_After="30")
    one, two = (make_transport(connection, None, limits) for _ in range(2))
    assert one.request("GET", f"{server.url}/x").status == 429
    for transport in (one, two):
        with pytest.raises(QuotaExhausted) as caught:
            transport.request("GET", f"{server.url}/x")
        assert 29 < caught.value.retry_after < 31
    assert len(server.seen) == 1
    clock.at += timedelta(seconds=31)
    assert two.request("GET", f"{server.url}/y").status == 200


def test_the_settings_of_a_connection_may_change_or_lift_a_limit():
    limits = (BATCH, Limit("request", 500, MINUTE))
    assert amounts(limits, {"limit.batch": "80", "limit.request": "0"}) == (Limit("batch", 80, MINUTE),)


def test_a_charge_without_a_limit_costs_nothing(make_budgets, django_assert_num_queries):
    with django_assert_num_queries(0):
        make_budgets().spend(["request", "batch"])


def test_scarce_slots_are_held_until_they_are_given_back(make_budgets):
    limit = Limit("concurrent", 2, None)
    one, two, three = (make_budgets(limit) for _ in range(3))
    with one.in_the_air(), two.in_the_air(), pytest.raises(QuotaExhausted), three.in_the_air():
        pass
    with pytest.raises(QuotaExhausted), three.in_the_air():
        pass  # one and two keep theirs for their next call
    two.close()
    with three.in_the_air():
        assert ConcurrencySlot.objects.filter(number=2).count() == 1


def test_a_slot_of_a_dead_worker_lapses(make_budgets, clock):
    limit = Limit("concurrent", 1, None)
    with make_budgets(limit).in_the_air():
        clock.at += timedelta(minutes=6)
        with make_budgets(limit).in_the_air():
            assert ConcurrencySlot.objects.count() == 1


def test_a_slot_that_was_lost_is_taken_anew(make_budgets, clock):
    limit = Limit("concurrent", 1, None)
    one, two = make_budgets(limit), make_budgets(limit)
    with one.in_the_air():
        pass
    clock.at += timedelta(minutes=6)
    with two.in_the_air(), pytest.raises(QuotaExhausted), one.in_the_air():
        pass


def test_an_ample_limit_needs_no_row_for_one_call_at_a_time(make_budgets, settings, django_assert_num_queries):
    settings.WORKERS = 4
    budgets = make_budgets(Limit("concurrent", 10, None))
    with django_assert_num_queries(0), budgets.in_the_air():
        pass
    with budgets.in_the_air(), budgets.in_the_air(), budgets.in_the_air():
        assert ConcurrencySlot.objects.count() == 2  # 10 less the 8 that are set aside
        with pytest.raises(QuotaExhausted), budgets.in_the_air():
            pass


def test_workers_at_once_never_go_beyond_the_limit(file_database, connection):
    """Real threads with their own database connections; the clock stands still, so nothing is freed by time."""
    at, counts = datetime(2026, 3, 1, 12, tzinfo=UTC), []
    limits = (Limit("request", 130, MINUTE), Limit("concurrent", 3, None))
    barrier = threading.Barrier(4)

    def work() -> None:
        budgets = Budgets(Connection.objects.get(), limits, lambda: at, lambda _: None)
        barrier.wait()
        counts.append(spent(budgets, "request"))
        connections.close_all()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(counts) == 130
    assert Budget.objects.get().used == 130


def test_workers_at_once_never_hold_more_slots_than_there_are(file_database, connection):
    at, results, barrier = datetime(2026, 3, 1, 12, tzinfo=UTC), [], threading.Barrier(5)

    def work() -> None:
        budgets = Budgets(Connection.objects.get(), (Limit("concurrent", 3, None),), lambda: at, lambda _: None)
        barrier.wait()
        try:
            with budgets.in_the_air():
                results.append("held")
        except QuotaExhausted:
            results.append("refused")
        finally:
            connections.close_all()

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == ["held"] * 3 + ["refused"] * 2
