"""Do the pages and commands say in people's words what a record is, what it waits for, and what will be done?"""

from __future__ import annotations

import json
from io import StringIO

import pytest
import requests
from django.core.management import call_command
from django.core.management.base import CommandError
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from connectors.admin.connections import system_choices
from connectors.admin.show import arrow_of
from connectors.dynamics365.simulator import DynamicsSimulator
from connectors.management.commands import demo
from connectors.models import EntitySync, FieldMapping, RecordLink
from connectors.quickbooks.simulator import QuickBooksSimulator
from connectors.sync import decisions
from connectors.sync.explain import explain, title_of
from connectors.sync.health import overview
from connectors.sync.plan import Life, Pending
from connectors.sync.values import encode
from jobs.syncing import request_sync
from tests.sync.worlds import TwoSystems


def told(*arguments: str) -> str:
    out = StringIO()
    call_command(*arguments, stdout=out)
    return out.getvalue()


def page_of(client: Client, link: RecordLink) -> str:
    page = client.get(reverse("admin:connectors_recordlink_change", args=[link.pk]))
    return " ".join(page.content.decode().split())


def deleted(world: TwoSystems) -> RecordLink:
    return RecordLink.objects.get(reason="waits for approval")


@pytest.fixture
def waiting(world: TwoSystems) -> tuple[RecordLink, RecordLink]:
    """A record that refers to one which is inactive and left out."""
    target, link = RecordLink.objects.filter(pending=None).order_by("pk")[:2]
    target.pending, target.reason, target.args = Pending.SKIPPED, "outside", encode({"why": "inactive", "side": "left"})
    target.right_id = None
    target.save()
    link.pending, link.reason, link.waits_on = Pending.WAITING, "waits for link", target.key
    link.args, link.right_id, link.left_staged = encode({"field": "x>y"}), None, encode({"boss>boss": f"@{target.key}"})
    link.save()
    return target, link


def test_a_record_that_waits_for_a_skipped_one_says_so(
    boss: Client, world: TwoSystems, waiting: tuple[RecordLink, RecordLink]
) -> None:
    target, link = waiting
    why = f"person {target.left_id} (Person"
    until = "is inactive and left out, so this waits until it is active or promoted."
    for text in (
        page_of(boss, link),
        told("links", "list"),
        told("explain", world.integration.name, "person", str(link.left_id)),
    ):
        assert why in text
        assert until in text


def test_explain_takes_the_number_that_a_list_of_links_shows(
    world: TwoSystems, waiting: tuple[RecordLink, RecordLink]
) -> None:
    name, (_, link) = world.integration.name, waiting
    assert told("explain", name, "person", f"link:{link.pk}") == told("explain", name, "person", str(link.left_id))
    with pytest.raises(CommandError, match="The number that `links list` shows is given as link:766"):
        told("explain", name, "person", "no such id")
    with pytest.raises(CommandError, match="has no link:"):
        told("explain", name, "person", "link:999999999")


def test_explain_names_references_and_not_keys(world: TwoSystems, waiting: tuple[RecordLink, RecordLink]) -> None:
    target, link = waiting
    text = told("explain", world.integration.name, "person", str(link.left_id))
    assert target.key not in text
    assert "None" not in text
    assert "which is inactive and left out" in text
    assert f"person {link.left_id}, no partner yet" in text
    assert "* both sides do not agree on this field" in text
    inactive = told("explain", world.integration.name, "person", str(target.left_id))
    assert "inactive: It is inactive and left out until it is active or promoted." in inactive


def test_no_title_says_none(boss: Client, waiting: tuple[RecordLink, RecordLink]) -> None:
    for link in waiting:
        assert title_of(link) == f"person {link.left_id}, no partner yet"
        assert "person None" not in page_of(boss, link)


def test_a_delete_says_where_and_what_approve_does(boss: Client, world: TwoSystems) -> None:
    link = deleted(world)
    page = page_of(boss, link)
    here, there = world.integration.right.name, world.integration.left.name
    assert f"person {link.left_id} was deleted in {there}. Approve deletes person {link.right_id} in {here}" in page
    assert "all agreed" not in page
    link.args = encode({"verb": "archive", "side": "right"})
    assert f"Approve makes person {link.right_id} inactive in {here}" in explain(link).sentence


def test_after_the_delete_the_sentence_fits(boss: Client, world: TwoSystems) -> None:
    link = deleted(world)
    link.base = encode({"name>name": "Ada", "~deleted": True, "~archived": False})
    link.pending, link.reason, link.args, link.right_life = Pending.SKIPPED, "deleted", "", Life.ARCHIVED
    link.save()
    page = page_of(boss, link)
    assert f"person {link.right_id} was made inactive in" in page
    assert "because its partner was deleted" in page
    assert "~deleted" not in page
    assert "~archived" not in page


def test_fields_of_the_creation_alone_have_nothing_to_agree_on(world: TwoSystems) -> None:
    link = RecordLink.objects.filter(pending=None).first()
    assert link is not None
    link.left_staged = encode({**json.loads(link.base), "city>city": "Rome"})
    link.save()
    assert [f["field"] for f in explain(link).fields if not f["agreed"]] == ["city>city"]
    FieldMapping.objects.filter(entity_sync=world.sync, left="city").update(when="create")
    assert all(f["agreed"] for f in explain(link).fields)


def test_tiles_add_up_and_a_delete_needs_a_person(boss: Client, world: TwoSystems) -> None:
    for link, pending in zip(
        RecordLink.objects.filter(pending=None), (Pending.DIRTY, Pending.PLANNED, Pending.PARKED), strict=False
    ):
        RecordLink.objects.filter(pk=link.pk).update(pending=int(pending), reason="changed")
    (health,) = overview([world.integration])
    assert health.agreed + sum(health.counts.values()) == RecordLink.objects.filter(ended=0).count()
    assert health.reason == "Records need a person: 1 in conflict, 1 parked, 1 delete to approve."
    page = boss.get(reverse("admin:connectors_integration_change", args=[world.integration.pk])).content.decode()
    for word in ("to be planned", "planned", "1 for approval"):
        assert f"{word}</span>" in page


def test_the_last_line_of_the_demo_tells_of_every_record(world: TwoSystems) -> None:
    links = list(RecordLink.objects.filter(ended=0).order_by("pk"))
    RecordLink.objects.update(pending=None)
    RecordLink.objects.filter(pk=links[0].pk).update(pending=int(Pending.SKIPPED))
    RecordLink.objects.filter(pk=links[1].pk).update(pending=int(Pending.WAITING))
    told = f"{len(links) - 2} of {len(links)} records are in agreement"
    waits = "1 waiting for a customer that is inactive in QuickBooks"
    assert demo.standing(world.integration) == f"{told}; {waits}; 1 left out on purpose."


def test_a_failing_integration_says_when_it_is_tried_again(boss: Client, world: TwoSystems) -> None:
    world.scope.failures, world.scope.last_error = 2, "no answer"
    world.scope.save()
    assert "No further try is planned" in boss.get(reverse("admin:index")).content.decode()
    job = request_sync(world.integration)
    job.run_at = timezone.now() + timezone.timedelta(minutes=5, seconds=30)
    job.save()
    page = boss.get(reverse("admin:index")).content.decode()
    assert "It is tried again" in page
    assert "in 5 min" in page


def test_breadcrumbs_have_the_words_of_the_navigation(boss: Client, world: TwoSystems) -> None:
    for name, word in (
        ("connectors_recordlink", "records"), ("connectors_recordchange", "changes"), ("auth_user", "people"),
        ("connectors_fieldmapping", "mappings"), ("jobs_workerheartbeat", "workers"),
    ):  # fmt: skip
        page = boss.get(reverse(f"admin:{name}_changelist"))
        assert page.context["opts"].verbose_name_plural == word
        assert word in page.content.decode().lower()


@pytest.mark.parametrize(
    ("whole", "own", "arrow"),
    [
        ("both", "both", "↔"),
        ("to_right", "both", "→"),
        ("both", "to_left", "←"),
        ("to_right", "to_right", "→"),
        ("to_right", "to_left", "∅"),
    ],
)
def test_an_arrow_is_the_direction_in_effect(whole: str, own: str, arrow: str) -> None:
    assert arrow_of(FieldMapping(entity_sync=EntitySync(direction=whole), direction=own)) == arrow


def test_the_system_in_memory_is_for_developers(settings: object) -> None:
    assert "memory" not in dict(system_choices())
    settings.DEBUG = True  # type: ignore[attr-defined]
    assert "memory" in dict(system_choices())


def test_hold_and_release_promise_nothing(world: TwoSystems) -> None:
    link = RecordLink.objects.filter(pending=None).first()
    assert link is not None
    assert told("links", "hold", str(link.pk)).strip() == "1 held."
    assert told("links", "release", str(link.pk)).strip() == "1 released."
    out = StringIO()
    with pytest.raises(CommandError):
        call_command("links", "retry", str(link.pk), stdout=out)
    assert out.getvalue().strip() == "0 to be tried again."


def test_an_approved_delete_is_told_on(world: TwoSystems) -> None:
    link = deleted(world)
    assert "The next sync carries it out." in told("links", "approve", str(link.pk))
    link.refresh_from_db()
    assert "approve" not in decisions.choices(link)


# The simulators' door


@pytest.mark.parametrize("simulator", [QuickBooksSimulator, DynamicsSimulator])
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "records", ""),
        ("GET", "records?entity=nothing", ""),
        ("PATCH", "records", ""),
        ("PATCH", "records", "[1]"),
        ("PATCH", "records", '{"entity": "nothing", "id": "1", "values": {}}'),
        ("PATCH", "records", '{"entity": "ENTITY", "id": "no-such", "values": {}}'),
        ("PATCH", "records", '{"entity": "ENTITY", "id": "ID", "values": 1}'),
        ("DELETE", "records", '{"entity": "ENTITY", "id": "no-such"}'),
        ("POST", "records", "{}"),
        ("POST", "faults", '{"kind": "nonsense"}'),
        ("POST", "faults", '{"kind": "error", "when": 1}'),
        ("POST", "faults", '{"kind": "error", "match": "("}'),
        ("POST", "faults", '{"kind": "error", "times": "often"}'),
        ("POST", "clock", '{"advance": "soon"}'),
        ("POST", "clock", "{}"),
        ("POST", "switches", '{"nonsense": 1}'),
    ],
)
def test_wrong_input_at_the_door_is_answered_with_a_sentence(
    simulator: type, method: str, path: str, body: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with simulator(records=3) as running:
        entity = "Customer" if simulator is QuickBooksSimulator else "account"
        body = body.replace("ENTITY", entity).replace("ID", next(iter(running.store.table(entity))))
        answer = requests.request(method, f"{running.url}/_simulator/{path}", data=body, timeout=5)
        assert answer.status_code == 400
        assert answer.json()["error"].endswith((".", "!"))
        assert requests.get(f"{running.url}/_simulator/faults", timeout=5).json() == []
    assert "Traceback" not in capfd.readouterr().err


def test_what_the_vendor_refuses_is_told_in_its_words() -> None:
    with DynamicsSimulator(records=3) as running:
        edit = {"entity": "account", "id": next(iter(running.store.table("account"))), "values": {"nosuchcolumn": 1}}
        answer = requests.patch(f"{running.url}/_simulator/records", data=json.dumps(edit), timeout=5)
        assert answer.status_code == 400
        assert "nosuchcolumn" in answer.json()["error"]


def test_an_edit_and_a_delete_through_the_door() -> None:
    with QuickBooksSimulator(records=3) as running:
        door = f"{running.url}/_simulator"
        edit = {"entity": "Customer", "id": "1", "values": {"BillAddr.City": "Oslo"}}
        assert requests.patch(f"{door}/records", data=json.dumps(edit), timeout=5).json() == {"id": "1"}
        customers = requests.get(f"{door}/records?entity=Customer", timeout=5).json()
        assert customers["1"]["BillAddr"]["City"] == "Oslo"
        gone = requests.delete(f"{door}/records", data='{"entity": "Customer", "id": "1"}', timeout=5)
        assert gone.json() == {"deleted": True}
        assert requests.post(f"{door}/faults", data='{"kind": "error", "times": null}', timeout=5).status_code == 200


@pytest.mark.parametrize("wrong", [["--records", "-5"], ["--port", "70000"], ["--seconds", "-1"]])
def test_simulate_refuses_wrong_numbers(wrong: list[str]) -> None:
    with pytest.raises(CommandError):
        call_command("simulate", "quickbooks", *wrong)
