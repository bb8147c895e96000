"""Who asks for services, who decides, who is told, and what is refused meanwhile?"""

from __future__ import annotations

import pytest
from django.core import mail

from connectors.models import Event
from jobs.models import Job
from jobs.worker import run_in_process
from scheduling import provisioning, services
from scheduling.models import Provisioning
from scheduling.refusals import Refused
from tests.scheduling.company import integration, person, service, window

pytestmark = pytest.mark.django_db(transaction=True)


def test_the_first_save_asks_and_says_how_long_it_may_take() -> None:
    found = service(integration())
    ada = person("ada")
    _, asked = services.change(found, by=ada, windows_told=[window(every=60)])
    row = Provisioning.objects.get()
    assert asked
    assert (row.status, row.requested_by, row.requested_name) == ("requested", ada, "ada")
    assert "24 hours" in provisioning.placed(row)
    assert found.windows.get().every_minutes == 60


def test_while_a_request_is_processed_saving_starting_and_running_are_refused_with_who_asked() -> None:
    found = service(integration(status="requested"))
    for act in (
        lambda: services.change(found, by="grace", windows_told=[window(every=60)]),
        lambda: services.start(found, by="grace"),
        lambda: services.run_now(found, by="grace"),
        lambda: provisioning.ask(found.integration, by="grace"),
    ):
        with pytest.raises(Refused, match=r"being provisioned \(asked for by ada"):
            act()
    found.refresh_from_db()
    assert (found.revision, found.enabled, Job.objects.count(), Provisioning.objects.count()) == (1, False, 0, 1)


def test_a_service_that_nobody_provisioned_does_not_start() -> None:
    with pytest.raises(Refused, match="Save them once"):
        services.start(service(integration()), by="ada")


def test_an_approval_is_told_by_mail_and_opens_the_services(settings) -> None:  # type: ignore[no-untyped-def]
    settings.SITE_URL = "https://sync.example.com/"
    pair = integration()
    row = provisioning.ask(pair, by=person("ada"))
    provisioning.approve(row, by=person("grace"))
    run_in_process(Job.objects.get(type="provisioning mail"))
    [told] = mail.outbox
    assert told.to == ["ada@example.com"]
    assert "Books with Sales" in told.subject
    assert "grace" in told.body
    assert f"https://sync.example.com/admin/scheduling/service/schedules/{pair.pk}/" in told.body
    row.refresh_from_db()
    assert (row.status, row.decided_name, row.told_at is not None) == ("approved", "grace", True)
    provisioning.expect_provisioned(pair)
    assert set(Event.objects.values_list("code", flat=True)) == {"provisioning requested", "provisioning approved"}


def test_a_decline_needs_a_reason_is_told_and_can_be_asked_again() -> None:
    pair = integration()
    row = provisioning.ask(pair, by=person("ada"))
    with pytest.raises(Refused, match="Say why"):
        provisioning.decline(row, "  ", by="grace")
    provisioning.decline(row, "The books are closed until May.", by="grace")
    run_in_process(Job.objects.get(type="provisioning mail"))
    assert "closed until May" in mail.outbox[0].body
    with pytest.raises(Refused, match="closed until May"):
        provisioning.expect_provisioned(pair)
    again = provisioning.ask(pair, by="ada")
    assert (again.status, Provisioning.objects.count()) == ("requested", 2)


def test_a_request_is_decided_once() -> None:
    row = provisioning.ask(integration(), by=person("ada"))
    provisioning.approve(row, by="grace")
    with pytest.raises(Refused, match="provisioned by grace already"):
        provisioning.decline(row, "Too late.", by="joan")
    with pytest.raises(Refused, match="provisioned already"):
        provisioning.ask(row.integration, by="ada")
    assert Job.objects.filter(type="provisioning mail").count() == 1


def test_a_hub_that_provisions_at_once_lets_the_first_save_suffice(settings) -> None:  # type: ignore[no-untyped-def]
    settings.PROVISIONING = "at_once"
    found = service(integration())
    _, asked = services.change(found, by=person("ada"), windows_told=[window(every=60)])
    assert asked
    assert "can start them now" in provisioning.placed(Provisioning.objects.get())
    services.change(found, by="ada", windows_told=[window(every=45)])
    assert found.windows.get().every_minutes == 45
