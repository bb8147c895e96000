"""What do `services`, `provisioning` and `blackouts` say and do at the command line?"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from jobs import clock
from jobs.models import Job
from scheduling.management.commands.services import days_told
from scheduling.models import Blackout, Provisioning, Service
from scheduling.refusals import Refused
from tests.scheduling.company import integration, person, service
from tests.sync.worlds import TwoSystems

pytestmark = pytest.mark.django_db
MONDAY = datetime(2026, 3, 2, 9, 10, tzinfo=UTC)


@pytest.fixture(autouse=True)
def monday(tmp_path: Path, settings: object) -> None:
    settings.SYNCLINE_TEST_CLOCK = str(tmp_path / "clock")  # type: ignore[attr-defined]
    clock.set_test_clock(MONDAY.isoformat())


def say(*words: object, **options: object) -> str:
    out = StringIO()
    call_command(*map(str, words), stdout=out, no_color=True, **options)
    return out.getvalue()


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("all", "all"),
        ("mon", ["Monday"]),
        ("mon-wed", ["Monday", "Tuesday", "Wednesday"]),
        ("sat-mon", ["Saturday", "Sunday", "Monday"]),
        ("Tue, friday", ["Tuesday", "Friday"]),
    ],
)
def test_days_are_written_as_people_write_them(text: str, days: object) -> None:
    assert days_told(text) == days


def test_an_unknown_day_is_refused() -> None:
    with pytest.raises(Refused, match="moonday"):
        days_told("mon-moonday")


def test_the_list_tells_state_and_times_of_all_integrations() -> None:
    service(integration(status="approved"))
    service(integration("Other"), "Figures")
    text = say("services")
    assert "Books with Sales: Changes  Off" in text
    assert "Every 30 minutes, 08:00 to 17:00" in text
    [told] = json.loads(say("services", "Other", "show", "Figures", "--json"))
    assert told["runs"][0]["local"] == "Mon 2026-03-02 10:30"
    assert len(told["runs"]) == 10
    assert "Mon 2026-03-02 10:30" in say("services", "Other", "show")


def test_set_changes_what_is_given_and_keeps_the_rest() -> None:
    found = service(integration(status="approved"))
    text = say(
        "services", "Books with Sales", "set", "Changes", "--days", "mon-sat", "--every", "60", "--zone", "Asia/Kolkata"
    )
    assert "Every hour, 08:00 to 17:00, Monday to Saturday, Asia/Kolkata." in text
    say("services", "Books with Sales", "set", found.pk, "--add", "--days", "sun", "--from", "22:00", "--to", "02:00")
    assert [window.days for window in found.windows.order_by("id")] == [63, 64]


def test_the_first_set_asks_for_provisioning_and_says_so() -> None:
    service(integration())
    assert "24 hours" in say("services", "Books with Sales", "set", "Changes", "--every", "60")
    with pytest.raises(CommandError, match="are being provisioned"):
        say("services", "Books with Sales", "set", "Changes", "--every", "45")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["set", "Changes"], "Say what shall be set"),
        (["set", "Changes", "--every", "3"], "too often"),
        (["set", "Nobody", "--every", "30"], "It has: Changes"),
        (["run"], "Name the service"),
        (["pause", "Changes"], "Say until when"),
        (["pause", "Changes", "--until", "2026-99-99 08:00"], "Say until when"),
    ],
)
def test_what_can_not_be_is_an_error_with_a_sentence(words: list[str], told: str) -> None:
    service(integration(status="approved"))
    with pytest.raises(CommandError, match=told):
        say("services", "Books with Sales", *words)


@pytest.mark.django_db(transaction=True)
def test_services_are_started_run_paused_resumed_and_stopped() -> None:
    world = TwoSystems()
    Provisioning.objects.create(integration=world.integration, status="approved", requested_at=MONDAY)
    found = service(world.integration)
    assert "is started" in say("services", "both", "start", "Changes")
    assert "is waiting" in say("services", "both", "run", "Changes")
    assert Job.objects.get().object_ref == f"service:{found.pk}"
    say("services", "both", "pause", "--until", "2026-03-03 08:00")
    assert Service.objects.get().paused_until == datetime(2026, 3, 3, 7, 0, tzinfo=UTC)
    say("services", "both", "resume")
    assert Service.objects.get().paused_until is None
    say("services", "both", "stop")
    assert not Service.objects.get().enabled
    listed = say("services", "both", "list")
    assert "next: none planned" in listed and "None" not in listed


def test_provisioning_is_asked_declined_asked_and_approved() -> None:
    pair = integration()
    person("ada")
    person("grace")
    assert "Nobody has asked" in say("provisioning", "list")
    assert "24 hours" in say("provisioning", "ask", pair.name, "--by", "ada")
    assert "ada is told" in say("provisioning", "decline", pair.name, "--reason", "No budget.", "--by", "grace")
    with pytest.raises(CommandError, match="No request"):
        say("provisioning", "approve", pair.name)
    say("provisioning", "ask", pair.name, "--by", "ada")
    say("provisioning", "approve", pair.name)
    rows = json.loads(say("provisioning", "list", pair.name, "--json"))
    assert [(row["status"], row["decided_name"]) for row in rows] == [
        ("approved", "command line"),
        ("declined", "grace"),
    ]
    assert "declined" in say("provisioning", "list")
    with pytest.raises(CommandError, match="no active user"):
        say("provisioning", "ask", pair.name, "--by", "nobody")


def test_blackouts_are_added_listed_and_removed() -> None:
    pair = integration(status="approved")
    on = service(pair, enabled=True)
    text = say(
        "blackouts", "add", "Holiday", "--first", "2026-03-02", "--integration", pair.name, "--service", "Changes"
    )
    assert "is added" in text
    on.refresh_from_db()
    assert on.next_run_at == datetime(2026, 3, 3, 7, 0, tzinfo=UTC)
    say("blackouts", "add", "Closing", "--month-end", "--before", "2", "--after", "1")
    assert "Closing  the end of each month: 2 before, 1 after  all integrations" in say("blackouts", "list")
    assert len(json.loads(say("blackouts", "list", "--json"))) == 2
    say("blackouts", "remove", Blackout.objects.get(name="Holiday").pk)
    on.refresh_from_db()
    assert on.next_run_at == datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
    with pytest.raises(CommandError, match="Give a day"):
        say("blackouts", "add", "Nothing")
    with pytest.raises(CommandError, match="no blackout 999"):
        say("blackouts", "remove", "999")
