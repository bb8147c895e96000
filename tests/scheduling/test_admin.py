"""What does the page "Service scheduling" do, for whom, and how many queries does it take?"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.http import HttpResponse
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from connectors.models import Integration
from jobs import clock
from jobs.models import Job
from scheduling import services
from scheduling.admin.page import level
from scheduling.forms import TimesForm
from scheduling.models import Blackout, Provisioning, Service
from tests.scheduling.company import integration, person, service

pytestmark = pytest.mark.django_db
MONDAY = datetime(2026, 3, 2, 9, 10, tzinfo=UTC)


@pytest.fixture(autouse=True)
def monday(tmp_path: Path, settings: object) -> None:
    settings.SYNCLINE_TEST_CLOCK = str(tmp_path / "clock")  # type: ignore[attr-defined]
    clock.set_test_clock(MONDAY.isoformat())


def browser(*codenames: str, name: str = "ada", **flags: bool) -> Client:
    client = Client(enforce_csrf_checks=False)
    client.force_login(person(name, *codenames, **flags))
    return client


def address(of: Integration) -> str:
    return reverse("admin:scheduling_integration", args=[of.pk])


def filled(*shown: Service, **changes: object) -> dict[str, object]:
    """Return what a browser posts when a person changed the first window of the first service."""
    posted: dict[str, object] = {}
    for number, found in enumerate(shown):
        form = TimesForm(found)
        rows = [{**row.initial} for row in form.windows.forms]
        if number == 0:
            rows[0] |= {name: value for name, value in changes.items() if name != "zone"}
        own: dict[str, object] = {
            "TOTAL_FORMS": len(rows), "INITIAL_FORMS": len(rows), "revision": form.revision, "shown": form.shown,
            "zone": changes.get("zone", form.zone) if number == 0 else form.zone,
        }  # fmt: skip
        for index, row in enumerate(rows):
            own |= {f"{index}-{name}": value for name, value in row.items()}
        posted |= {f"{form.prefix}-{name}": value for name, value in own.items()}
    return posted


def said(answer: HttpResponse) -> str:
    return " ".join(str(message) for message in answer.context["messages"])


def do(client: Client, found: Service, action: str, **posted: object) -> HttpResponse:
    return client.post(reverse("admin:scheduling_do", args=[found.pk, action]), posted, follow=True)


def test_a_page_without_edits_posts_no_change() -> None:
    pair = integration(status="approved")
    found = service(pair)
    answer = browser("change_service").post(address(pair), filled(found), follow=True)
    assert "no times were changed" in said(answer)
    assert Service.objects.get().revision == 1


def test_a_save_keeps_what_was_changed_and_leaves_other_services_alone() -> None:
    pair = integration(status="approved")
    first, second = service(pair, "First"), service(pair, "Second")
    answer = browser("change_service").post(
        address(pair), filled(first, second, every=2, unit=60, zone="Asia/Kolkata"), follow=True
    )
    assert "Saved: First." in said(answer)
    first.refresh_from_db()
    assert (first.zone, first.revision, first.windows.get().every_minutes) == ("Asia/Kolkata", 2, 120)
    assert Service.objects.get(pk=second.pk).revision == 1
    assert LogEntry.objects.get().object_id == str(first.pk)


def test_the_first_save_asks_and_the_next_one_is_refused_while_it_is_processed() -> None:
    pair = integration()
    found, client = service(pair), browser("change_service")
    answer = client.post(address(pair), filled(found, every=45), follow=True)
    assert "24 hours" in said(answer)
    found.refresh_from_db()
    answer = client.post(address(pair), filled(found, every=60))
    assert "are being provisioned" in said(answer)
    assert found.windows.get().every_minutes == 45
    page = answer.content.decode()
    assert "Waiting for provision" in page
    assert '<fieldset class="sched-times" disabled>' in page


def test_what_was_typed_in_stays_on_the_page_when_it_is_refused() -> None:
    pair = integration(status="approved")
    found = service(pair)
    answer = browser("change_service").post(address(pair), filled(found, every=3, zone="Mars/Olympus"))
    assert "too often" in said(answer)
    assert 'There is no time zone "Mars/Olympus"' in said(answer)
    assert 'value="Mars/Olympus"' in answer.content.decode()
    assert Service.objects.get().revision == 1


def test_fields_that_can_not_be_read_are_named() -> None:
    pair = integration(status="approved")
    answer = browser("change_service").post(address(pair), filled(service(pair), days=[], start="noon", every="x"))
    for text in ("Choose at least one day", "start: Enter a valid time", "every: Enter a whole number"):
        assert text in said(answer)


def test_a_stale_page_is_refused_only_for_the_service_that_was_edited() -> None:
    pair = integration(status="approved")
    first, second = service(pair, "First"), service(pair, "Second")
    page = filled(first, second, every=60)
    services.change(second, by="grace", windows_told=[{"every": 90}])
    client = browser("change_service")
    assert "Saved: First." in said(client.post(address(pair), page, follow=True))
    assert second.windows.get().every_minutes == 90
    answer = client.post(address(pair), page)
    assert "First was changed meanwhile. ada" in said(answer)


def test_a_removed_window_is_gone_and_an_added_one_is_kept() -> None:
    pair = integration(status="approved")
    found = service(pair)
    page, prefix = filled(found), f"service-{found.pk}"
    page |= {f"{prefix}-0-DELETE": "on", f"{prefix}-TOTAL_FORMS": 2}
    added = {"days": ["Sunday"], "start": "22:00", "end": "02:00", "every": 6, "unit": 60, "counted": "midnight"}
    page |= {f"{prefix}-1-{name}": value for name, value in added.items()}
    browser("change_service").post(address(pair), page)
    window = found.windows.get()
    assert (window.days, f"{window.start:%H:%M}", window.every_minutes, window.aligned_to) == (
        64, "22:00", 360, "midnight",
    )  # fmt: skip


def test_the_preview_says_what_unsaved_times_mean_and_marks_a_change_of_clocks() -> None:
    pair = integration(status="approved")
    found, client = service(pair), browser()
    clock.set_test_clock("2026-03-28T12:00:00+00:00")
    page = filled(found, start="02:30", end="02:30", every=24, unit=60)
    told = client.post(reverse("admin:scheduling_preview", args=[found.pk]), page).json()
    assert told["sentence"] == "Once a day at 02:30, every day, Europe/Paris"
    assert "02:30 does not exist" in told["runs"][0]["note"]
    assert "does not exist" in told["html"]
    told = client.post(reverse("admin:scheduling_preview", args=[found.pk]), filled(found, every=4)).json()
    assert "too often" in told["errors"][0]
    assert told["runs"] == []
    told = client.post(reverse("admin:scheduling_preview", args=[found.pk]), filled(found, every=10)).json()
    assert "recommended" in told["warnings"][0]
    assert Service.objects.get().revision == 1


def test_a_double_click_on_run_now_makes_one_job() -> None:
    found, client = service(integration(status="approved")), browser("run_service")
    for _ in range(2):
        assert "run requested" in said(do(client, found, "run"))
    assert Job.objects.count() == 1


def test_pausing_is_meant_on_the_clocks_of_the_services_own_zone() -> None:
    found, client = service(integration(status="approved"), enabled=True), browser("run_service")
    assert "is paused until" in said(do(client, found, "pause", **{f"pause-{found.pk}-until": "2026-03-03T08:00"}))
    found.refresh_from_db()
    assert found.paused_until == datetime(2026, 3, 3, 7, 0, tzinfo=UTC)
    assert "Write the end" in said(do(client, found, "pause", **{f"pause-{found.pk}-until": "soon"}))
    assert "goes on" in said(do(client, found, "resume"))


def test_copying_gives_the_ticked_services_the_same_times() -> None:
    pair = integration(status="approved")
    first, second, third = (service(pair, name) for name in ("First", "Second", "Third"))
    first.windows.update(every_minutes=90)
    client = browser("change_service")
    assert "copied to Second" in said(do(client, first, "copy", **{f"copy-{first.pk}": [second.pk]}))
    assert [found.windows.get().every_minutes for found in (second, third)] == [90, 30]
    assert "Tick" in said(do(client, first, "copy"))


def test_a_request_is_approved_or_declined_on_the_page_with_the_trail_shown() -> None:
    pair = integration(status="requested")
    row, boss = pair.provisionings.get(), browser("decide_provisioning", name="grace")
    decline, approve = (reverse("admin:scheduling_provision", args=[pair.pk, name]) for name in ("decline", "approve"))
    assert "Say why" in said(boss.post(decline, {"request": row.pk}, follow=True))
    answer = boss.post(decline, {"request": row.pk, "reason": "No budget."}, follow=True)
    assert "No budget." in answer.content.decode()
    asker = browser("change_service")
    assert "24 hours" in said(asker.post(reverse("admin:scheduling_provision", args=[pair.pk, "ask"]), follow=True))
    second = pair.provisionings.first()
    boss.post(approve, {"request": second.pk})
    assert "already" in said(boss.post(approve, {"request": second.pk}, follow=True))
    trail = boss.get(address(pair)).content.decode()
    assert trail.count("Asked for by") == 2
    assert Provisioning.objects.filter(status="approved", decided_name="grace").exists()
    listing = boss.get(reverse("admin:scheduling_provisioning_changelist")).content.decode()
    assert listing.count("grace") >= 2


def test_each_right_allows_its_own_and_nothing_else() -> None:
    pair = integration(status="approved")
    found = service(pair)
    viewer, runner = browser(name="viewer"), browser("run_service", name="runner")
    page = viewer.get(address(pair)).content.decode()
    assert "formaction" not in page.replace(
        f'formaction="{reverse("admin:scheduling_do", args=[found.pk, "start"])}"', ""
    )
    assert viewer.post(address(pair), filled(found)).status_code == 403
    assert runner.post(address(pair), filled(found, every=60)).status_code == 403
    for action in ("start", "stop", "run", "pause", "resume", "copy"):
        assert do(viewer, found, action).status_code == 403, action
    assert do(runner, found, "copy").status_code == 403
    assert do(runner, found, "stop").status_code == 200
    for action in ("ask", "approve", "decline"):
        assert runner.post(reverse("admin:scheduling_provision", args=[pair.pk, action])).status_code == 403, action
    nobody = Client()
    assert nobody.get(address(pair)).status_code == 302


def test_no_button_acts_by_get_or_without_the_token() -> None:
    pair = integration(status="approved")
    found, client = service(pair), browser(is_superuser=True)
    urls = [reverse("admin:scheduling_do", args=[found.pk, name]) for name in ("start", "run")]
    urls += [reverse("admin:scheduling_provision", args=[pair.pk, "approve"])]
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(person("strict", is_superuser=True))
    for url in urls:
        assert client.get(url).status_code == 405
        assert strict.post(url).status_code == 403
    assert strict.post(address(pair), filled(found)).status_code == 403
    assert not Job.objects.exists()


def test_hostile_names_are_shown_as_text() -> None:
    hostile = "<script>alert(1)</script>"
    pair = integration(hostile, status="approved")
    found, client = service(pair, hostile, about=hostile), browser(is_superuser=True)
    Blackout.objects.create(name=hostile, first=MONDAY.date(), last=MONDAY.date())
    preview = client.post(reverse("admin:scheduling_preview", args=[found.pk]), filled(found))
    pages = [client.get(address(pair)), client.get(reverse("admin:scheduling_service_changelist"))]
    for page in [json.loads(preview.content)["html"], *(page.content.decode() for page in pages)]:
        assert hostile not in page
        assert "&lt;script&gt;" in page


@pytest.mark.parametrize("name", ["list", "page"])
def test_the_number_of_queries_does_not_depend_on_the_number_of_services(name: str) -> None:
    pair = integration(status="approved")
    client = browser(is_superuser=True)
    url = address(pair) if name == "page" else reverse("admin:scheduling_service_changelist") + "?all="

    def queries() -> int:
        with CaptureQueriesContext(
            connection,
        ) as seen:
            assert client.get(url).status_code == 200
        return len(seen)

    for number in range(10):
        services.run_now(service(pair, f"Service {number}"), by="ada")
    queries()  # what is looked up once in a process
    few = queries()
    for number in range(10, 200):
        services.run_now(service(pair, f"Service {number}"), by="ada")
    assert queries() == few


def test_a_bad_blackout_is_refused_at_its_field_and_a_good_one_moves_the_next_run() -> None:
    on = service(integration(status="approved"), enabled=True)
    client, add = browser("add_blackout"), reverse("admin:scheduling_blackout_add")
    posted = {
        "name": "Holiday",
        "kind": "dates",
        "first": "2026-03-02",
        "last": "2026-03-01",
        "days_before": 0,
        "days_after": 0,
    }
    answer = client.post(add, posted)
    assert list(answer.context["adminform"].form.errors) == ["last"]
    assert "before the first" in str(answer.context["adminform"].form.errors)
    assert client.post(add, {**posted, "last": "2026-03-02", "service": on.pk}).status_code == 302
    assert Blackout.objects.get().integration == on.integration
    on.refresh_from_db()
    assert on.next_run_at == datetime(2026, 3, 3, 7, 0, tzinfo=UTC)


def test_the_overview_tells_who_decides_what_waits() -> None:
    pair = integration(status="requested")
    waits = "waits to be provisioned"
    assert waits in browser("decide_provisioning", name="grace").get("/admin/").content.decode()
    assert waits not in browser().get("/admin/").content.decode()
    assert (
        address(pair)
        in browser(name="joan").get(reverse("admin:connectors_integration_change", args=[pair.pk])).content.decode()
    )


@pytest.mark.parametrize(("count", "dark"), [(0, 0), (1, 1), (2, 2), (3, 2), (4, 3), (7, 3), (8, 4), (60, 4)])
def test_the_more_starts_the_darker_the_hour(count: int, dark: int) -> None:
    assert level(count) == dark
