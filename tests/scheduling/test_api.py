"""What does the API answer about services, provisioning and blackouts, and to whom?"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from jobs import clock
from jobs.models import Job
from scheduling import services
from scheduling.models import Blackout, Provisioning, Service
from tests.scheduling.company import integration, person, service, window
from tests.sync.worlds import TwoSystems

pytestmark = pytest.mark.django_db
MONDAY = datetime(2026, 3, 2, 9, 10, tzinfo=UTC)


@pytest.fixture(autouse=True)
def monday(tmp_path: Path, settings: object) -> None:
    settings.SYNCLINE_TEST_CLOCK = str(tmp_path / "clock")  # type: ignore[attr-defined]
    clock.set_test_clock(MONDAY.isoformat())


class Caller:
    """Somebody who calls the API with JSON."""

    def __init__(self, *codenames: str, name: str = "ada") -> None:
        self.client = APIClient()
        self.client.force_login(person(name, *codenames))

    def __call__(self, verb: str, path: str, **data: object) -> tuple[int, dict]:
        answer = getattr(self.client, verb)(f"/api/v1/{path}", data or None, format="json")
        return answer.status_code, answer.json() if answer.content else {}


def test_a_service_is_told_with_its_state_sentence_and_windows() -> None:
    found = service(integration(status="approved"))
    code, told = Caller()("get", f"services/{found.pk}/")
    assert code == 200
    assert told["windows"] == [window()]
    assert told["standing"]["sentence"] == "Every 30 minutes, 08:00 to 17:00, every day, Europe/Paris"
    assert told["standing"]["state"] == "Off"


def test_times_are_changed_with_warnings_and_the_first_change_asks() -> None:
    found = service(integration())
    code, told = Caller("change_service")("patch", f"services/{found.pk}/", windows=[window(every=10)], revision=1)
    assert (code, told["revision"], told["windows"][0]["every"]) == (200, 2, 10)
    assert "recommended" in told["warnings"][0]
    assert "24 hours" in told["detail"]
    assert Provisioning.objects.get().requested_name == "ada"


@pytest.mark.parametrize(
    "times",
    [
        {"windows": [window(every=4)]},
        {"windows": [window(days=["Moonday"])]},
        {"windows": [window(days=7)]},
        {"windows": ["always"]},
        {"windows": []},
        {"zone": "Mars/Olympus"},
    ],
)
def test_times_that_can_not_be_are_a_bad_request_with_sentences(times: dict) -> None:
    found = service(integration(status="approved"))
    code, told = Caller("change_service")("patch", f"services/{found.pk}/", **times)
    assert code == 400
    assert told.get("problems") or told.get("windows")
    assert Service.objects.get().revision == 1


def test_a_stale_revision_and_an_open_request_are_conflicts() -> None:
    found, call = service(integration(status="approved")), Caller("change_service")
    code, told = call("patch", f"services/{found.pk}/", windows=[window()], revision=7)
    assert (code, "changed meanwhile" in told["detail"]) == (409, True)
    waits = service(integration("Other", status="requested"))
    code, told = call("patch", f"services/{waits.pk}/", windows=[window()])
    assert (code, "are being provisioned" in told["detail"]) == (409, True)
    code, told = call("post", f"services/{waits.pk}/start/")
    assert (code, "are being provisioned" in told["problems"][0]) == (409, True)


def test_preview_and_upcoming_tell_the_runs_and_store_nothing() -> None:
    found, call = service(integration()), Caller()
    code, told = call("post", f"services/{found.pk}/preview/", zone="UTC", windows=[window(start="09:30", end="09:30")])
    assert (code, told["runs"][0]["at"], told["heat"][0][9]) == (200, "2026-03-02T09:30:00Z", 1)
    code, told = call("post", f"services/{found.pk}/preview/", windows=[window(start="soon")])
    assert (code, "08:00" in told["problems"][0]) == (400, True)
    code, told = call("get", f"services/{found.pk}/upcoming/?count=3")
    assert [run["local"][:16] for run in told["runs"]] == ["2026-03-02T10:30", "2026-03-02T11:00", "2026-03-02T11:30"]
    assert call("get", f"services/{found.pk}/upcoming/?count=x")[0] == 400
    assert (Service.objects.get().revision, Provisioning.objects.exists()) == (1, False)


@pytest.mark.django_db(transaction=True)
def test_a_service_is_started_run_paused_resumed_and_stopped() -> None:
    world = TwoSystems()
    Provisioning.objects.create(integration=world.integration, status="approved", requested_at=MONDAY)
    found, call = service(world.integration), Caller("run_service")
    code, told = call("post", f"services/{found.pk}/start/")
    assert (code, told["enabled"], told["standing"]["state"]) == (200, True, "On")
    first, second = (call("post", f"services/{found.pk}/run/") for _ in range(2))
    assert first[0] == second[0] == 202
    assert first[1]["job"]["id"] == second[1]["job"]["id"] == Job.objects.get().pk
    code, told = call("post", f"services/{found.pk}/pause/", until="2026-03-03T09:00:00Z")
    assert (code, told["next_run_at"]) == (200, "2026-03-03T09:00:00Z")
    assert call("post", f"services/{found.pk}/pause/", until="2020-01-01T00:00:00Z")[0] == 409
    assert call("post", f"services/{found.pk}/pause/", until="soon")[0] == 400
    assert call("post", f"services/{found.pk}/resume/")[1]["standing"]["state"] == "On"
    assert call("post", f"services/{found.pk}/resume/")[0] == 409
    assert call("post", f"services/{found.pk}/stop/")[1]["enabled"] is False


def test_times_are_copied_to_other_services() -> None:
    pair = integration(status="approved")
    first, second = service(pair, "First"), service(pair, "Second", zone="UTC")
    call = Caller("change_service")
    assert call("post", f"services/{first.pk}/copy/", services=[second.pk])[0] == 200
    assert Service.objects.get(pk=second.pk).zone == "Europe/Paris"
    assert call("post", f"services/{first.pk}/copy/", services=[999])[0] == 400


def test_a_request_is_placed_declined_placed_again_and_approved() -> None:
    pair = integration()
    ask, decide = Caller("change_service"), Caller("decide_provisioning", name="grace")
    code, told = ask("post", "provisionings/", integration=pair.pk)
    assert (code, told["status"], "24 hours" in told["detail"]) == (201, "requested", True)
    assert ask("post", "provisionings/", integration=pair.pk)[0] == 409
    assert decide("post", f"provisionings/{told['id']}/decline/")[0] == 400
    code, declined = decide("post", f"provisionings/{told['id']}/decline/", reason="No budget.")
    assert (code, declined["status"], declined["decided_name"]) == (200, "declined", "grace")
    _, again = ask("post", "provisionings/", integration=pair.pk)
    assert decide("post", f"provisionings/{again['id']}/approve/")[1]["status"] == "approved"
    assert decide("post", f"provisionings/{again['id']}/approve/")[0] == 409
    assert [row["status"] for row in ask("get", "provisionings/")[1]["results"]] == ["approved", "declined"]


def test_blackouts_are_made_changed_and_removed_and_move_the_next_run() -> None:
    on = service(integration(status="approved"), enabled=True)
    services.reschedule([on])
    call = Caller("add_blackout", "change_blackout", "delete_blackout")
    code, told = call("post", "blackouts/", name="Holiday", first="2026-03-02", last="2026-03-02", service=on.pk)
    assert (code, told["integration"]) == (201, on.integration_id)
    on.refresh_from_db()
    assert on.next_run_at == datetime(2026, 3, 3, 7, 0, tzinfo=UTC)
    assert call("patch", f"blackouts/{told['id']}/", last="2026-03-03")[0] == 200
    on.refresh_from_db()
    assert on.next_run_at == datetime(2026, 3, 4, 7, 0, tzinfo=UTC)
    code, wrong = call("patch", f"blackouts/{told['id']}/", last="2026-03-01")
    assert (code, list(wrong)) == (400, ["last"])
    assert call("delete", f"blackouts/{told['id']}/")[0] == 204
    on.refresh_from_db()
    assert on.next_run_at == datetime(2026, 3, 2, 9, 30, tzinfo=UTC)


def test_who_may_only_look_can_change_nothing() -> None:
    found, call = service(integration(status="requested")), Caller()
    row = Provisioning.objects.get()
    holiday = Blackout.objects.create(name="Holiday", first=MONDAY.date(), last=MONDAY.date())
    tried = [("patch", f"services/{found.pk}/"), ("post", "provisionings/"), ("post", "blackouts/")]
    tried += [("post", f"services/{found.pk}/{name}/") for name in ("start", "stop", "pause", "resume", "run", "copy")]
    tried += [("post", f"provisionings/{row.pk}/{name}/") for name in ("approve", "decline")]
    tried += [("delete", f"blackouts/{holiday.pk}/"), ("patch", f"blackouts/{holiday.pk}/")]
    for verb, path in tried:
        assert call(verb, path)[0] == 403, path
    runner = Caller("run_service", name="runner")
    assert runner("patch", f"services/{found.pk}/")[0] == 403
    assert runner("post", f"services/{found.pk}/copy/")[0] == 403


@pytest.mark.parametrize("name", ["services", "provisionings", "blackouts"])
def test_nobody_reads_without_a_login(name: str) -> None:
    assert APIClient().get(f"/api/v1/{name}/").status_code in (401, 403)


def test_the_list_takes_as_many_queries_for_two_hundred_services_as_for_ten() -> None:
    pair, call = integration(status="approved"), Caller()

    def queries() -> int:
        with CaptureQueriesContext(connection) as seen:
            assert call("get", "services/?page_size=200")[0] == 200
        return len(seen)

    for number in range(10):
        service(pair, f"Service {number}")
    queries()  # what is looked up once in a process
    few = queries()
    for number in range(10, 200):
        service(pair, f"Service {number}")
    assert queries() == few
