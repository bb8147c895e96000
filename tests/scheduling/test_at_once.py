"""Several dispatchers, and a dispatcher beside somebody who saves: nothing is started twice, lost, or started although it is off."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import date, timedelta

import pytest
from django.db import connection

from scheduling import blackouts, dispatch, provisioning, services
from scheduling.models import Blackout, Provisioning, Service
from tests.scheduling.test_dispatch import MONDAY, Clock, at, integration, jobs, service

__all__ = ["at"]
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]
CHRISTMAS = date(2026, 12, 25)


@pytest.fixture(autouse=True)
def _on_postgresql() -> None:
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has one writer")


def together(*acts: Callable[[], object]) -> list[object]:
    """Do all of these at the same moment, each on a connection of its own."""
    start, found = threading.Barrier(len(acts)), []

    def one(act: Callable[[], object]) -> None:
        start.wait()
        try:
            found.append(act())
        except Exception as error:
            found.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=one, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return found


def christmas() -> None:
    blackouts.save(Blackout(name="Christmas", kind="dates", first=CHRISTMAS, last=CHRISTMAS), by="ada")


def test_four_dispatchers_start_each_service_once(at: Clock) -> None:
    pair = integration()
    for number in range(40):
        service(pair, f"S{number}")
    at.go(minutes=30)
    found = together(*[dispatch.tick] * 4)
    assert sum(int(str(each)) for each in found) == 40, found
    assert len(jobs()) == 40


@pytest.mark.parametrize("attempt", range(5))
def test_a_blackout_that_is_saved_while_the_dispatcher_starts_changes_nothing_about_that_start(
    at: Clock, attempt: int
) -> None:
    one = service(integration())
    at.go(minutes=30)
    together(dispatch.tick, christmas)
    dispatch.tick()
    assert len(jobs()) == 1
    one.refresh_from_db()
    assert one.next_run_at == MONDAY + timedelta(minutes=60)


@pytest.mark.parametrize("attempt", range(5))
def test_a_service_that_is_stopped_while_a_blackout_is_saved_stays_stopped(at: Clock, attempt: int) -> None:
    one = service(integration())
    together(christmas, lambda: services.stop(Service.objects.get(pk=one.pk), by="grace"))
    at.go(minutes=30)
    dispatch.tick()
    one.refresh_from_db()
    assert (one.enabled, one.next_run_at, jobs()) == (False, None, [])


def test_two_who_ask_at_once_make_one_request(at: Clock, settings: object) -> None:
    settings.PROVISIONING = "at_once"  # type: ignore[attr-defined]
    pair = integration(provisioned=False)

    def ask() -> str:
        return str(provisioning.ask(type(pair).objects.get(pk=pair.pk), by=""))

    found = together(ask, ask)
    assert sum(isinstance(each, str) for each in found) == 1, found
    assert [each for each in found if "provisioned already" in str(each)]
    assert Provisioning.objects.count() == 1
