"""What may a person do with a service, and what is refused with which words?"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from connectors.models import Event
from connectors.sync.presets import presets
from jobs import clock
from jobs.models import Job
from jobs.states import Priority
from scheduling import blackouts, services
from scheduling.models import Blackout, Provisioning, Service
from scheduling.refusals import Refused
from scheduling.standing import heat, last_jobs, shown, standings
from tests.scheduling.company import integration, service, window
from tests.sync.worlds import TwoSystems

pytestmark = pytest.mark.django_db
MONDAY = datetime(2026, 3, 2, 9, 10, tzinfo=UTC)  # 10:10 in Paris


@pytest.fixture(autouse=True)
def monday(tmp_path: Path, settings: object) -> None:
    settings.SYNCLINE_TEST_CLOCK = str(tmp_path / "clock")  # type: ignore[attr-defined]
    clock.set_test_clock(MONDAY.isoformat())


def state(of: Service) -> str:
    [found] = standings(shown(Service.objects.filter(pk=of.pk)), clock.now())
    return found.state.word


def switched_on(name: str = "Changes", **columns: object) -> Service:
    found = service(integration(f"Pair of {name}", status="approved"), name, enabled=True, **columns)
    services.reschedule([found])
    found.refresh_from_db()
    return found


# Times


def test_a_change_is_kept_with_its_next_run_and_told_in_the_log() -> None:
    found = switched_on()
    warnings, asked = services.change(
        found, by="ada", zone="America/New_York", windows_told=[window(days=["Tue", "Wed"], start="09:00", every=60)]
    )
    assert (warnings, asked) == ([], False)
    assert found.next_run_at == datetime(2026, 3, 3, 14, 0, tzinfo=UTC)
    event = Event.objects.get(code="service changed")
    assert "09:00 to 17:00" in event.message
    assert event.actor == "ada"


def test_an_interval_below_five_minutes_is_refused_with_the_reason_and_nothing_is_kept() -> None:
    found = switched_on()
    with pytest.raises(Refused) as refused:
        services.change(found, by="ada", zone="Asia/Kolkata", windows_told=[window(every=4)])
    assert "too often" in str(refused.value)
    assert "call limits" in str(refused.value)
    kept = Service.objects.get(pk=found.pk)
    assert (kept.zone, kept.revision, kept.windows.get().every_minutes) == ("Europe/Paris", 1, 30)


def test_an_interval_below_the_recommended_one_is_kept_with_a_warning() -> None:
    found = switched_on()
    [warning], _ = services.change(found, by="ada", windows_told=[window(every=10)])
    assert "recommended, which is 15 minutes" in warning
    assert found.windows.get().every_minutes == 10


@pytest.mark.parametrize(
    ("told", "word"),
    [
        (window(days=["Moonday"]), "no day of the week"),
        (window(days=[]), "at least one day"),
        (window(start="8 o'clock"), "write it as 08:00"),
        (window(every="often"), "no number of minutes"),
        (window(**{"from": "noon"}), "start or midnight"),
        (window(every=100_000), "longer than a day"),
    ],
)
def test_times_that_can_not_be_are_refused_with_what_to_write(told: dict[str, object], word: str) -> None:
    with pytest.raises(Refused, match=word):
        services.change(switched_on(), by="ada", windows_told=[told])


def test_a_stale_page_is_refused_with_what_changed_and_by_whom() -> None:
    found = switched_on()
    services.change(found, by="grace", windows_told=[window(every=45)])
    with pytest.raises(Refused) as refused:
        services.change(found, by="ada", revision=1, windows_told=[window(every=60)])
    assert "grace" in str(refused.value)
    assert "Every 45 minutes" in str(refused.value)
    assert found.windows.get().every_minutes == 45


def test_several_services_change_together_or_not_at_all() -> None:
    pair = integration(status="approved")
    first, second = service(pair, "First"), service(pair, "Second")
    changes = [services.Times(first, windows=[window(every=60)]), services.Times(second, windows=[window(every=1)])]
    with pytest.raises(Refused, match="Second"):
        services.change_all(changes, by="ada")
    assert first.windows.get().every_minutes == 30


def test_copying_to_two_services_before_provisioning_asks_once() -> None:
    pair = integration()
    first, second, third = (service(pair, name) for name in ("First", "Second", "Third"))
    first.windows.update(every_minutes=60)
    assert services.apply_to_others(first, [second, third], by="ada")
    assert {other.windows.get().every_minutes for other in (second, third)} == {60}
    assert Provisioning.objects.count() == 1


def test_a_preset_brings_its_services_switched_off_and_a_second_time_none() -> None:
    pair = integration()
    pair.preset = "inolink"
    made = services.make_services(pair)
    assert [found.name for found in made] == [told["name"] for told in presets()["inolink"].services]
    assert not any(found.enabled or found.next_run_at for found in made)
    assert services.make_services(pair) == []


# States


def test_each_state_has_its_word() -> None:
    assert state(service(integration("New"))) == "Off"
    assert state(service(integration("Asked", status="requested"))) == "Waiting for provision"
    assert state(service(integration("Ready", status="approved"))) == "Off"
    on = switched_on()
    assert state(on) == "On"
    clock.set_test_clock((MONDAY + timedelta(hours=9)).isoformat())
    assert state(on) == "Outside window"
    Blackout.objects.create(name="Holiday", first=MONDAY.date(), last=MONDAY.date())
    assert state(on) == "Blackout"
    Blackout.objects.all().delete()
    services.pause(on, clock.now() + timedelta(hours=1), by="ada")
    assert state(on) == "Paused"
    on.integration.enabled = False
    on.integration.save()
    assert state(on) == "Held"


def test_a_pause_moves_the_next_run_behind_it_and_resuming_brings_it_back() -> None:
    on = switched_on()
    before = on.next_run_at
    services.pause(on, MONDAY + timedelta(days=1), by="ada")
    assert on.next_run_at == datetime(2026, 3, 3, 9, 30, tzinfo=UTC)
    services.resume(on, by="ada")
    assert (on.next_run_at, on.paused_until) == (before, None)


def test_a_pause_in_the_past_or_of_a_service_that_is_off_is_refused() -> None:
    with pytest.raises(Refused, match="future"):
        services.pause(switched_on(), MONDAY - timedelta(hours=1), by="ada")
    with pytest.raises(Refused, match="is off"):
        services.pause(service(integration("Off", status="approved")), MONDAY + timedelta(hours=1), by="ada")


def test_stopping_takes_the_next_run_and_the_pause_away() -> None:
    on = switched_on()
    services.pause(on, MONDAY + timedelta(days=1), by="ada")
    services.stop(on, by="ada")
    assert (on.enabled, on.next_run_at, on.paused_until) == (False, None, None)


# Runs


def test_run_now_twice_makes_one_job_and_leaves_the_schedule_alone() -> None:
    on = switched_on()
    planned = on.next_run_at
    first, second = services.run_now(on, by="ada"), services.run_now(on, by="ada")
    assert first.pk == second.pk == Job.objects.get().pk
    assert first.priority == Priority.PERSON
    on.refresh_from_db()
    assert on.next_run_at == planned
    assert last_jobs([on])[on.pk].pk == first.pk


def test_run_now_is_refused_while_the_integration_is_off() -> None:
    on = switched_on()
    on.integration.enabled = False
    on.integration.save()
    with pytest.raises(Refused, match="switched off"):
        services.run_now(on, by="ada")
    assert not Job.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_service_starts_where_both_systems_are_ready() -> None:
    world = TwoSystems()
    Provisioning.objects.create(integration=world.integration, status="approved", requested_at=MONDAY)
    found = service(world.integration)
    services.start(found, by="ada")
    assert found.enabled
    assert found.next_run_at == datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
    assert Event.objects.filter(code="service started", actor="ada").exists()


# Blackouts


def test_a_blackout_moves_the_next_run_and_its_removal_brings_it_back() -> None:
    on = switched_on()
    other = switched_on("Other")
    holiday = Blackout(name="Stocktaking", service=on, first=MONDAY.date(), last=MONDAY.date())
    blackouts.save(holiday, by="ada")
    for found in (on, other):
        found.refresh_from_db()
    assert (on.next_run_at, other.next_run_at) == (
        datetime(2026, 3, 3, 7, 0, tzinfo=UTC),
        datetime(2026, 3, 2, 9, 30, tzinfo=UTC),
    )
    assert holiday.integration == on.integration
    blackouts.remove(holiday, by="ada")
    on.refresh_from_db()
    assert on.next_run_at == other.next_run_at


def test_a_blackout_moved_elsewhere_frees_what_it_concerned_before() -> None:
    on, other = switched_on(), switched_on("Other")
    holiday = Blackout(name="Stocktaking", service=on, first=MONDAY.date(), last=MONDAY.date())
    blackouts.save(holiday, by="ada")
    holiday.service, holiday.integration = other, other.integration
    blackouts.save(holiday, by="ada")
    for found in (on, other):
        found.refresh_from_db()
    assert on.next_run_at < other.next_run_at


@pytest.mark.parametrize(
    ("columns", "field"),
    [
        ({"name": " "}, "name"),
        ({"first": None}, "first"),
        ({"last": datetime(2025, 1, 1, tzinfo=UTC).date()}, "last"),
        ({"kind": "month end", "days_before": 28}, "days_before"),
        ({"kind": "month end", "days_before": 20, "days_after": 20}, ""),
        ({"kind": "yearly", "last": datetime(2027, 3, 2, tzinfo=UTC).date()}, ""),
        ({"kind": "full moon"}, "kind"),
    ],
)
def test_a_bad_blackout_says_at_which_field(columns: dict[str, object], field: str) -> None:
    row = Blackout(**{"name": "Holiday", "first": MONDAY.date(), "last": MONDAY.date(), **columns})
    assert list(blackouts.problems(row)) == [field]
    with pytest.raises(Refused):
        blackouts.save(row, by="ada")
    assert not Blackout.objects.exists()


def test_the_heat_of_a_week_counts_each_start_at_its_hour() -> None:
    on = switched_on()
    on.windows.update(days=0b1, start="22:30", end="01:00")
    week = heat(services.schedule_of(Service.objects.get(pk=on.pk)))
    assert week[0][22:] == [1, 2]
    assert week[1][:3] == [2, 1, 0]
    assert sum(map(sum, week)) == 6
