"""Every way to change settings leaves its history: who, when, what was different; and one can go back, seeing first what that does."""

from __future__ import annotations

import json
from io import StringIO

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from connectors.contract import Option
from connectors.models import EntitySync, FieldMapping, Integration, PicklistMapping, changing
from connectors.sync import preferences, settings_history
from connectors.sync.picklists import match_options
from connectors.sync.presets import apply_preset, parse_preset
from connectors.sync.restoring import propose_restore
from connectors.sync.run import mark_settings_changed
from connectors.sync.switching import switch
from jobs.housekeeping import bundle
from jobs.housekeeping.config import KINDS, raise_revisions
from tests.sync.worlds import TwoSystems

IN_PARIS = [{"side": "left", "field": "city", "op": "eq", "value": "Paris"}]


@pytest.fixture
def world(db: None) -> TwoSystems:
    return TwoSystems()


def entries(world: TwoSystems) -> list[settings_history.Entry]:
    world.integration.refresh_from_db()
    return settings_history.timeline(world.integration)[0]


def newest(world: TwoSystems) -> settings_history.Entry:
    return entries(world)[0]


def save(sync: EntitySync, why: str = "By hand", **values: object) -> None:
    with changing(why):
        for name, value in values.items():
            setattr(sync, name, value)
        sync.save()
        mark_settings_changed(sync.integration, sync)


def page_of(world: TwoSystems) -> str:
    return reverse("admin:connectors_integration_history", args=[world.integration.pk])


def test_a_change_is_told_in_words_with_who_and_why(world):
    ada = User.objects.create_user("ada")
    with changing("A new rule", ada):
        save(world.sync, filters=IN_PARIS, policy="left")
    entry = newest(world)
    assert (entry.by, entry.why, entry.present) == ("ada", "A new rule", True)
    assert entry.lines == [
        "Person: Who wins: the last edit wins → In memory (left) wins",
        "Person: Filters: none → In memory (left) city is Paris",
    ]


def test_what_is_changed_together_stands_together(world):
    with changing("Two at once"):
        save(world.sync, policy="left")
        mapping = world.sync.mappings.get(left="email")
        mapping.required = True
        mapping.save()
        world.sync.mappings.get(left="city").delete()
    assert newest(world).lines == [
        "Person: Who wins: the last edit wins → In memory (left) wins",
        "Person: email ↔ email: Required: no → yes",
        "Person: city ↔ city: removed",
    ]


def test_each_change_of_one_person_is_its_own(world):
    save(world.sync, "First", policy="left")
    save(world.sync, "Second", policy="right")
    assert [entry.why for entry in entries(world)[:2]] == ["Second", "First"]


@pytest.mark.django_db(transaction=True)
def test_without_a_word_a_transaction_is_one_change_and_a_rolled_back_one_is_none():
    from django.db import transaction

    world = TwoSystems()
    before = {entry.change for entry in entries(world)}

    def change(policy: str) -> None:
        world.sync.policy = policy
        world.sync.save()
        mark_settings_changed(world.integration, world.sync)

    with transaction.atomic():
        change("left")
    with pytest.raises(ValueError, match="no"), transaction.atomic():
        change("ask")
        raise ValueError("no")
    with transaction.atomic():
        change("right")
    made = [entry for entry in entries(world) if entry.change not in before]
    assert [entry.lines for entry in made] == [
        ["Person: Who wins: In memory (left) wins → In memory (right) wins"],
        ["Person: Who wins: the last edit wins → In memory (left) wins"],
    ]


PRESET = {
    "name": "tiny", "title": "Tiny", "left": "memory", "right": "memory",
    "entity_syncs": [{"name": "folk", "left": "person", "right": "person", "mappings": ["name <-> name", "city -> city"],
                      "match": [["name>name"]]}],
}  # fmt: skip


def connectors_of(world: TwoSystems):
    return {"left": world.connect(world.integration.left), "right": world.connect(world.integration.right)}


def test_applying_a_preset_leaves_history_and_a_failed_one_leaves_none(world):
    ends = {"left": world.integration.left, "right": world.integration.right}
    EntitySync.objects.filter(pk=world.sync.pk).update(
        enabled=False
    )  # else two integrations would keep the same people
    made = apply_preset(parse_preset(PRESET), "tiny", ends, connectors_of(world)).integration
    entry = settings_history.timeline(made)[0][0]
    assert entry.why == "Preset tiny applied"
    assert "Folk: made" in entry.lines
    made.delete()
    kept = FieldMapping.history.count(), EntitySync.history.count()
    broken = {**PRESET, "entity_syncs": [{**PRESET["entity_syncs"][0], "mappings": ["nothing <-> name"]}]}
    with pytest.raises(Exception, match="nothing"):
        apply_preset(parse_preset(broken), "broken", ends, connectors_of(world))
    assert (FieldMapping.history.count(), EntitySync.history.count()) == kept


def test_taking_a_bundle_leaves_history(world):
    text = bundle.export(KINDS).replace("city", "email", 0)
    text = text.replace("policy: last_updated", "policy: last_updated").replace(
        "on_delete: delete", "on_delete: ignore"
    )
    bundle.take(text, KINDS, [raise_revisions])
    entry = newest(world)
    assert entry.why == "Configuration imported"
    assert entry.lines == [
        "Person: When one side deletes: what is deleted here is deleted there → deletes change nothing on the other side"
    ]


def test_preferences_leave_history(world):
    preferences.change(world.integration, {"person.policy": "right", "person.enabled": "no"}, now=world.clock.now())
    assert newest(world).why == "Preferences"
    assert len(newest(world).lines) == 2


def test_matching_options_leaves_history(world):
    mapping = world.sync.mappings.get(left="city")
    option = [Option("1", "Paris")]
    match_options(world.sync, mapping, {"left": option, "right": option})
    assert PicklistMapping.history.get().history_change_reason == "Options matched by label"
    assert newest(world).lines == ["Person: city ↔ city: Paris = Paris: made"]


def test_switching_off_is_told_with_its_reason(world):
    switch(world.integration, on=False, by="ada", now=world.clock.now(), reason="month end")
    assert newest(world).why == "Switched off: month end"
    assert newest(world).lines == ["Integration: Kept in agreement: yes → no"]


def test_the_admin_names_the_person_and_the_api_the_token_s_owner(world, boss):
    url = f"/api/v1/entity-syncs/{world.sync.pk}/"
    revision = boss.get(url).json()["revision"]
    done = boss.patch(url, json.dumps({"revision": revision, "policy": "ask"}), content_type="application/json")
    assert done.status_code == 200, done.content
    assert (newest(world).by, newest(world).why) == ("ada", "Settings of person")
    told = boss.get(f"/api/v1/integrations/{world.integration.pk}/history/").json()
    assert told["changes"][0]["by"] == "ada"


def test_going_back_shows_what_it_does_makes_it_and_is_history_itself(world, boss):
    for number in range(4):
        world.left.create("person", {"name": f"Person {number}", "city": "Rome" if number else "Paris"})
    world.run()
    world.settle()
    first = newest(world).change
    mapping = world.sync.mappings.get(left="email")
    number = mapping.pk
    save(world.sync, filters=IN_PARIS)
    with changing("Fewer fields"):
        mapping.delete()
        PicklistMapping.objects.create(
            field_mapping=world.sync.mappings.get(left="city"), left_key="a", right_key="b", token="b"
        )
        mark_settings_changed(world.integration, world.sync)
    world.run("comprehensive")
    given = {"change": first, "revision": Integration.objects.get().revision}
    shown = boss.post(page_of(world), {**given, "act": "effect"})
    assert shown.context["shown"].effect.counts["included"] == 3
    assert not FieldMapping.objects.filter(pk=number).exists(), "nothing is made by looking"
    assert EntitySync.objects.get().filters == IN_PARIS
    mark = shown.context["shown"].mark
    done = boss.post(page_of(world), {**given, "act": "save", "shown": mark}, follow=True)
    assert "Went back." in done.content.decode()
    assert FieldMapping.objects.get(pk=number).left == "email"
    assert not PicklistMapping.objects.exists()
    assert EntitySync.objects.get().filters == []
    assert Integration.objects.get().revision > given["revision"]
    assert newest(world).why.startswith("Went back to")
    assert newest(world).by == "ada"
    stale = boss.post(page_of(world), {**given, "act": "save", "shown": mark})
    assert "Nothing was saved" in stale.content.decode()
    world.run("comprehensive")


def test_going_back_there_and_back_again_is_as_it_was(world):
    save(world.sync, "One", policy="left", prevents=["right.delete"], window={"field": "due", "past": 3})
    one = newest(world).change
    save(world.sync, "Two", policy="right", prevents=[], window={})
    two = newest(world).change
    for change, policy in ((one, "left"), (two, "right"), (one, "left")):
        proposal = propose_restore(world.integration, change)
        assert proposal.said
        with changing("Back"):
            proposal.act()
        assert EntitySync.objects.get().policy == policy
        assert not propose_restore(world.integration, change).said, "it is as it was then"


def test_two_options_that_swap_who_is_written_go_back(world):
    mapping = world.sync.mappings.get(left="city")
    pairs = [
        PicklistMapping.objects.create(
            field_mapping=mapping, left_key="a", right_key=key, token=key, writes_right=key == "x"
        )
        for key in "xy"
    ]
    before = newest(world).change
    with changing("Swap"):
        for option, writes in zip(pairs, (False, True), strict=True):
            option.writes_right = writes
            option.save()
        mark_settings_changed(world.integration, world.sync)
    proposal = propose_restore(world.integration, before)
    with changing("Back"):
        proposal.act()
    assert [o.writes_right for o in PicklistMapping.objects.order_by("pk")] == [True, False]


def test_an_unknown_change_is_refused_everywhere(world, boss):
    assert "no change" in boss.post(page_of(world), {"change": "nothing", "revision": "1"}).content.decode()
    answer = boss.post(
        f"/api/v1/integrations/{world.integration.pk}/history/", json.dumps({"change": "nothing", "revision": 1}),
        content_type="application/json",
    )  # fmt: skip
    assert (answer.status_code, list(answer.json())) == (400, ["change"])


def test_the_command_tells_the_history_and_goes_back(world):
    save(world.sync, "One", policy="left")
    one = newest(world).change
    save(world.sync, "Two", policy="right")
    world.run()
    out = StringIO()
    call_command("settings", "both", "history", stdout=out)
    assert one in out.getvalue()
    call_command("settings", "both", "restore", one, "--dry-run", stdout=out)
    assert EntitySync.objects.get().policy == "right"
    call_command("settings", "both", "restore", one, stdout=out)
    assert EntitySync.objects.get().policy == "left"


def queries(client: Client, url: str) -> int:
    with CaptureQueriesContext(connection) as found:
        assert client.get(url).status_code == 200
    return len(found)


def test_the_page_asks_as_often_with_many_changes_as_with_few(world, boss):
    for number in range(3):
        save(world.sync, f"Change {number}", match_tolerance=60 + number)
        FieldMapping.objects.filter(left="city").first().save()
    boss.get(page_of(world))
    few = queries(boss, page_of(world))
    for number in range(40):
        save(world.sync, f"Change {number}", match_tolerance=61 + number % 30)
        FieldMapping.objects.filter(left="city").first().save()
    assert queries(boss, page_of(world)) == few
    page = boss.get(page_of(world))
    assert len(page.context["entries"]) == settings_history.PAGE
    older = boss.get(page_of(world), {"before": page.context["older"]})
    assert {e.change for e in page.context["entries"]}.isdisjoint({e.change for e in older.context["entries"]})


def test_history_holds_no_secret_and_runs_do_not_write_it(world):
    columns = {field.name for model in settings_history.MODELS for field in model.history.model._meta.get_fields()}
    assert not [name for name in columns if "secret" in name or "password" in name]
    kept = [model.history.count() for model in settings_history.MODELS]
    world.left.create("person", {"name": "Ada"})
    world.run("comprehensive")
    world.settle()
    assert [model.history.count() for model in settings_history.MODELS] == kept
