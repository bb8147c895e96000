"""Is nothing of a person left in logs and history, and does everything else still add up?"""

from __future__ import annotations

import io
import json
from decimal import Decimal

import pytest
from django.apps import apps
from django.core.management import CommandError, call_command
from django.db import models

from connectors.models import ApiCall, Event, ProblemGroup, RecordChange, RecordLink, Run
from connectors.sync import proposals
from jobs import clock
from jobs.models import Alert, AlertMessage, AlertRule, Job, JobTransition
from tests.sync.worlds import TwoSystems

pytestmark = pytest.mark.django_db(transaction=True)
NAME, MAIL = "Søren Kierkegaard", "soren@aarhus.example"


@pytest.fixture
def world():
    """A person who was created, edited and is mentioned wherever something from outside is written down."""
    world = TwoSystems()
    world.person = world.left.create(
        "person", {"name": NAME, "email": MAIL, "city": "Oslo", "credit": Decimal("12.00")}
    )
    world.other = world.left.create("person", {"name": "Regine Olsen", "email": "regine@aarhus.example"})
    world.settle()
    world.left.put("person", world.person, {"email": "old." + MAIL})
    world.settle()
    world.link = RecordLink.objects.get(left_id=world.person)
    now = clock.now()
    run = Run.objects.latest("id")
    Event.objects.create(
        integration=world.integration,
        link=world.link,
        code="looked at",
        message=f"Is it {NAME}?",
        args={"city": "Oslo"},
        at=now,
    )
    Event.objects.create(
        integration=world.integration, code="duplicate", message=f"{NAME.upper()} is there twice, and Regine Olsen", args={"names": [NAME]},
        at=now,
    )  # fmt: skip
    ApiCall.objects.create(
        connection=world.integration.left,
        at=now,
        method="POST",
        path="/person",
        body=f"> {json.dumps({'x': NAME, 'y': 'Regine'})}",
    )
    job = Job.objects.create(
        type="sync", status_reason="failed", scope=world.scope, run=run, run_at=now, created_at=now, finished_at=now,
        error_message=f"no such person: {MAIL}", results={"lines": [{"name": NAME}], "summary": "1 written"},
    )  # fmt: skip
    JobTransition.objects.create(job=job, to_status="failed", actor="worker", reason=f"{MAIL} refused", at=now)
    rule = AlertRule.objects.create(name="Ops", what="failed", to="email", addresses=["ops@hub.example"])
    Alert.objects.create(
        rule=rule, cause="c", integration=world.integration, text=f"failed: {MAIL}", opened_at=now, last_seen=now
    )
    AlertMessage.objects.create(
        rule=rule, kind="news", recipient="ops@hub.example", subject="failed", body=f"failed: {MAIL}",
        alerts=[{"text": MAIL}], at=now,
    )  # fmt: skip
    return world


def everything():
    """Return all texts of the hub's own tables, as they would stand in a dump."""
    found = []
    for label in ("connectors", "jobs"):
        for model in apps.get_app_config(label).get_models():
            columns = [
                f.attname
                for f in model._meta.concrete_fields
                if isinstance(f, models.TextField | models.CharField | models.JSONField)
            ]
            for row in model.objects.values_list(*columns):
                found.append((model.__name__, json.dumps(row, default=str, ensure_ascii=False)))
    return found


def holding(*words):
    return sorted({name for name, text in everything() if any(word.casefold() in text.casefold() for word in words)})


def erase(*arguments):
    out = io.StringIO()
    call_command("erase", "--integration", "both", "--entity-sync", "person", *arguments, stdout=out)
    return out.getvalue()


def gone(world):
    """The person is deleted in both systems, and that was synced."""
    world.left.delete("person", world.person)
    world.settle()


def test_before_it_the_values_are_in_many_places(world):
    assert {"RecordLink", "RecordChange", "Event", "ApiCall", "Job", "JobTransition", "Alert", "AlertMessage"} == set(
        holding(NAME, MAIL, "Kierkegaard")
    )


def test_nothing_is_left_of_a_person_who_no_longer_syncs(world):
    gone(world)
    told = erase("--left-id", world.person, "--by", "Ada")
    assert holding(NAME, MAIL, "Kierkegaard", "\\\\u00f8ren") == []
    assert "stay on its link" not in told
    event = Event.objects.get(code="erased")
    assert event.actor == "Ada" and world.person in event.message and event.args["rows"]["changes"] > 0


def test_ids_counts_and_everybody_else_stay(world):
    gone(world)
    changes, counts = RecordChange.objects.count(), list(Run.objects.order_by("id").values_list("counts", flat=True))
    erase("--left-id", world.person)
    assert RecordChange.objects.count() == changes
    assert list(Run.objects.order_by("id").values_list("counts", flat=True)) == counts
    link = RecordLink.objects.get(pk=world.link.pk)
    assert link.left_id == world.person and link.base == ""
    assert holding("Regine Olsen") == ["Event", "RecordChange", "RecordLink"]
    assert Event.objects.get(code="duplicate").message == "[erased] is there twice, and Regine Olsen"
    assert Job.objects.get().results == {"lines": [{"name": "[erased]"}], "summary": "1 written"}
    [body] = ApiCall.objects.exclude(body="").values_list("body", flat=True)
    assert body == '> {"x": "[erased]", "y": "Regine"}'


def test_what_still_syncs_keeps_its_present_values_on_the_link_and_says_so(world):
    told = erase("--right-id", world.link.right_id)
    assert holding(NAME, MAIL) == ["RecordLink"]
    assert "because it still syncs" in told
    writes = len(world.left.journal) + len(world.right.journal)
    world.run()
    assert len(world.left.journal) + len(world.right.journal) == writes  # nothing looks changed by it


def test_what_was_left_out_of_a_preview_goes_too_and_what_waits_is_no_longer_approved(world):
    world.left.put("person", world.person, {"city": "Aarhus", "email": MAIL})
    run = world.run(purpose="preview")
    [change] = RecordChange.objects.filter(run=run)
    proposals.decide(run, {}, {change.pk: {"email>email": False}})
    erase("--left-id", world.person)
    change.refresh_from_db()
    assert (change.after, change.left_out, change.status) == ("", "", "superseded")
    run.refresh_from_db()
    assert run.counts["proposals"]["kinds"] == {}  # what the page says can be approved
    writes = len(world.right.journal)
    assert proposals.approve(run, world.clock.now()) == (0, 0)
    assert len(world.right.journal) == writes


def test_what_people_wrote_about_jobs_and_what_a_problem_says_goes_too(world):
    Job.objects.update(aside_note=f"{NAME} has left", cancel_reason=f"{MAIL} bounces")
    now = clock.now()
    ProblemGroup.objects.create(
        key="p", integration=world.integration, message=f"No town for {NAME}", first_seen=now, last_seen=now
    )
    gone(world)
    erase("--left-id", world.person)
    assert holding(NAME, MAIL) == []


def test_it_can_be_repeated(world):
    gone(world)
    erase("--left-id", world.person)
    erase("--left-id", world.person)
    assert holding(NAME, MAIL) == []


def test_values_of_a_record_that_nobody_knows_can_be_given(world):
    with pytest.raises(CommandError, match="knows no record 999"):
        erase("--left-id", "999")
    erase("--left-id", "999", "--value", NAME)
    assert "Event" in holding(MAIL) or "Alert" in holding(MAIL)
    assert Event.objects.get(code="duplicate").args == {"names": ["[erased]"]}


def test_an_open_write_is_not_touched(world):
    change = RecordChange.objects.filter(link=world.link).latest("id")
    RecordChange.objects.filter(pk=change.pk).update(status="unknown", open=3)
    with pytest.raises(CommandError, match="is under way or its outcome is not known"):
        erase("--left-id", world.person)
    assert "RecordChange" in holding(NAME)


def test_unknown_names_are_refused_with_those_that_there_are(world):
    with pytest.raises(CommandError, match="It has: person"):
        call_command("erase", "--integration", "both", "--entity-sync", "nobody", "--left-id", "5")
