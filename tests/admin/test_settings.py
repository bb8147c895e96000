"""An administrator changes an entity sync's settings by page, API and command: shown first, saved as shown, refused when stale."""

from __future__ import annotations

import json
from io import StringIO

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from connectors.models import EntitySync, Integration, RecordLink
from connectors.sync.run import mark_settings_changed
from connectors.transport import connecting
from tests.sync.worlds import TwoSystems

IN_PARIS = {"side": "left", "field": "city", "op": "eq", "value": "Paris"}


@pytest.fixture
def world(db: None) -> TwoSystems:
    world = TwoSystems()
    for number in range(6):
        world.left.create("person", {"name": f"Person {number}", "city": "Paris" if number % 3 else "Rome"})
    world.run()
    world.settle()
    return world


def page_of(world: TwoSystems) -> str:
    return reverse("admin:connectors_entitysync_change", args=[world.sync.pk])


def api_of(world: TwoSystems) -> str:
    return f"/api/v1/entity-syncs/{world.sync.pk}/"


def form_of(client: Client, url: str) -> dict[str, object]:
    """Return what a browser would send of a page that was not touched."""
    return form_in(client.get(url).context)


def form_in(context) -> dict[str, object]:
    given: dict[str, object] = {"settings_seen": context["settings_seen"], "revision": context["revision"]}
    parts = [context["form"]]
    for formset in (context["filters"], context["match"]):
        parts += [formset.management_form, *formset.forms]
    for form in parts:
        for field in form:
            value = field.value()
            if field.name != "revision" and value is not None and value is not False and value not in ("", []):
                given[field.html_name] = "on" if value is True else value
    return given


def text_of(response) -> str:
    return response.content.decode()


def add_filter(given: dict[str, object], where: str, op: str, value: str = "") -> dict[str, object]:
    number = int(str(given["filters-INITIAL_FORMS"]))
    line = {"where": where, "op": op, "value": value}
    return {**given, **{f"filters-{number}-{name}": each for name, each in line.items()}}


def test_the_effect_is_shown_and_saved_only_as_shown(world, boss):
    given = add_filter(form_of(boss, page_of(world)), "left:city", "eq", "Paris")
    shown = boss.post(page_of(world), {**given, "act": "effect"})
    assert "2<" in text_of(shown).replace(" ", "") and "newly excluded" in text_of(shown)
    assert "(Person 0)" in text_of(shown)
    assert EntitySync.objects.get(pk=world.sync.pk).filters == []
    mark = shown.context["shown"].mark
    other = add_filter(given, "left:city", "eq", "Rome")
    refused = boss.post(page_of(world), {**other, "act": "save", "shown": mark})
    assert "not those whose effect was shown" in text_of(refused)
    assert EntitySync.objects.get(pk=world.sync.pk).filters == []
    before = Integration.objects.get().revision
    saved = boss.post(page_of(world), {**given, "act": "save", "shown": mark}, follow=True)
    assert "Filters: none → In memory (left) city is Paris" in text_of(saved)
    assert EntitySync.objects.get(pk=world.sync.pk).filters == [IN_PARIS]
    assert Integration.objects.get().revision > before
    assert LogEntry.objects.filter(change_message__contains="filters").exists()
    world.run("comprehensive")
    assert RecordLink.objects.filter(reason="outside").count() == 2


def test_a_page_that_was_not_touched_changes_nothing(world, boss):
    EntitySync.objects.filter(pk=world.sync.pk).update(
        filters=[IN_PARIS, {"side": "left", "field": "credit", "op": "zero"}], prevents=["right.delete"],
        push={"left": "on_request"}, match=[["email>email"], ["name>name", "city>city"]], match_tolerance=80,
    )  # fmt: skip
    given = form_of(boss, page_of(world))
    answer = boss.post(page_of(world), {**given, "act": "effect"})
    assert "nothing to save" in text_of(answer)


def test_a_stale_page_is_refused_with_what_changed_and_keeps_what_was_typed(world, boss):
    given = form_of(boss, page_of(world))
    call_command("settings", "both", "set", "person", "--set", "policy=left", stdout=StringIO())
    mine = add_filter(given, "left:city", "eq", "Paris")
    answer = boss.post(page_of(world), {**mine, "act": "save", "shown": "0" * 32})
    assert "changed meanwhile" in text_of(answer)
    assert "Who wins: the last edit wins → In memory (left) wins" in text_of(answer)
    assert answer.context["filters"].forms[0]["value"].value() == "Paris"
    assert EntitySync.objects.get(pk=world.sync.pk).filters == []
    again = boss.post(
        page_of(world),
        {**mine, "policy": "left", "revision": answer.context["revision"], "act": "save", "shown": ""},
    )
    mark = again.context["shown"].mark
    boss.post(
        page_of(world), {**mine, "policy": "left", "revision": answer.context["revision"], "act": "save", "shown": mark}
    )
    sync = EntitySync.objects.get(pk=world.sync.pk)
    assert (sync.policy, sync.filters) == ("left", [IN_PARIS])


def test_a_stale_page_proposes_only_what_was_changed_on_it(world, boss):
    EntitySync.objects.filter(pk=world.sync.pk).update(filters=[IN_PARIS])
    given = form_of(boss, page_of(world))
    theirs = {"side": "left", "field": "city", "op": "filled"}
    with transaction.atomic():
        EntitySync.objects.filter(pk=world.sync.pk).update(
            policy="left", prevents=["right.delete"], match_tolerance=80, filters=[IN_PARIS, theirs]
        )
        mark_settings_changed(world.integration, world.sync)
    mine = {**add_filter(given, "left:name", "filled"), "on_delete": "ignore"}
    answer = boss.post(page_of(world), {**mine, "act": "save", "shown": "0" * 32})
    assert "changed meanwhile" in text_of(answer)
    lines = answer.context["shown"].lines
    assert len(lines) == 2, lines
    assert all(word in " ".join(lines) for word in ("delete", "name is filled"))
    again = form_in(answer.context)
    assert (again["policy"], again["match_tolerance"], again["prevents"]) == ("left", "80", ["right.delete"])
    boss.post(page_of(world), {**again, "act": "save", "shown": answer.context["shown"].mark})
    sync = EntitySync.objects.get(pk=world.sync.pk)
    assert (sync.policy, sync.prevents, sync.match_tolerance, sync.on_delete) == (
        "left",
        ["right.delete"],
        80,
        "ignore",
    )
    assert sync.filters == [IN_PARIS, theirs, {"side": "left", "field": "name", "op": "filled"}]
    stale = boss.post(page_of(world), {**mine, "settings_seen": "forged", "act": "effect"})
    assert "changed meanwhile" in text_of(stale), "without what was seen the whole page is taken as it is"


@pytest.mark.parametrize(
    ("entered", "sentence"),
    [
        ({"filters-0-where": "left:city", "filters-0-op": "eq"}, "Give the value to compare with."),
        ({"filters-0-where": "left:credit", "filters-0-op": "eq", "filters-0-value": "much"}, "&#x27;much&#x27; is none"),
        ({"filters-0-op": "filled"}, "Choose a field."),
        ({"filters-0-where": "left:nothing", "filters-0-op": "filled"}, "Select a valid choice"),
        ({"filters-0-where": "left:city", "filters-0-op": "since", "filters-0-value": "2026-01-31"}, "is no date"),
        ({"window_past": "7"}, "Choose the date that the days are counted from."),
        ({"match_tolerance": "12"}, "60 to 100 percent"),
        ({"match_tolerance": "many"}, "Enter a whole number"),
        ({"window_past": "-1"}, "greater than or equal to 0"),
        ({"direction": "upwards"}, "Select a valid choice"),
    ],
)  # fmt: skip
def test_bad_input_is_told_at_its_field(world, boss, entered, sentence):
    answer = boss.post(page_of(world), {**form_of(boss, page_of(world)), **entered, "act": "save"})
    assert answer.status_code == 200
    assert sentence in text_of(answer)
    assert "Nothing was saved" in text_of(answer)


def test_settings_that_can_not_work_are_not_saved(world, boss):
    world.sync.mappings.filter(left="email").delete()
    EntitySync.objects.filter(pk=world.sync.pk).update(match=[["email>email"]])
    answer = boss.post(page_of(world), {**form_of(boss, page_of(world)), "policy": "left", "act": "effect"})
    assert answer.status_code == 200
    assert EntitySync.objects.get(pk=world.sync.pk).policy == "last_updated"


def test_what_a_system_can_not_do_is_locked_and_said(world, boss):
    from dataclasses import replace

    world.left.entities["person"] = replace(world.left.entities["person"], verbs=frozenset())
    EntitySync.objects.filter(pk=world.sync.pk).update(direction="to_right")
    page = text_of(boss.get(page_of(world)))
    assert "one-way only: vendor limit" in page
    answer = boss.post(page_of(world), {**form_of(boss, page_of(world)), "direction": "both", "act": "effect"})
    assert "takes no person from outside" in text_of(answer)


@pytest.mark.parametrize("who", ["viewer", "operator"])
def test_only_administrators_change_settings(world, client, person, who):
    codenames = set(Permission.objects.filter(codename__startswith="view_").values_list("codename", flat=True))
    if who == "operator":
        codenames |= {"operate_integration", "change_recordlink", "change_run"}
    client.force_login(person(*codenames))
    page = client.get(page_of(world))
    assert page.status_code == 200
    assert "Show the effect" not in text_of(page)
    assert client.post(page_of(world), {"act": "effect"}).status_code == 403
    history = reverse("admin:connectors_integration_history", args=[world.integration.pk])
    assert client.get(history).status_code == 200
    assert client.post(history, {"change": "x"}).status_code == 403
    given = json.dumps({"revision": 1, "policy": "left"})
    assert client.patch(api_of(world), given, content_type="application/json").status_code == 403
    restore = f"/api/v1/integrations/{world.integration.pk}/history/"
    assert client.get(restore).status_code == 200
    assert (
        client.post(restore, json.dumps({"change": "x", "revision": 1}), content_type="application/json").status_code
        == 403
    )
    assert EntitySync.objects.get(pk=world.sync.pk).policy == "last_updated"


def patch(client: Client, world: TwoSystems, **given: object):
    return client.patch(api_of(world), json.dumps(given), content_type="application/json")


def test_the_api_tells_the_effect_changes_and_refuses(world, boss):
    read = boss.get(api_of(world)).json()
    assert (read["name"], read["policy"], read["filters"]) == ("person", "last_updated", [])
    told = patch(boss, world, revision=read["revision"], dry_run=True, filters=[IN_PARIS]).json()
    assert (told["saved"], told["effect"]["excluded"], told["effect"]["records"]) == (False, 2, 6)
    assert EntitySync.objects.get(pk=world.sync.pk).filters == []
    assert not LogEntry.objects.exists(), "nothing was done"
    done = patch(boss, world, revision=read["revision"], filters=[IN_PARIS]).json()
    assert done["saved"] and done["revision"] > read["revision"]
    stale = patch(boss, world, revision=read["revision"], policy="left")
    assert stale.status_code == 409
    assert "Filters: none" in stale.json()["changed"][0]
    wrong = patch(boss, world, revision=done["revision"], filters=[{**IN_PARIS, "field": "nothing"}], match=[["a"]])
    assert (wrong.status_code, set(wrong.json())) == (400, {"filters.0.field", "match.0"})


def test_the_command_tells_the_effect_and_changes(world):
    out = StringIO()
    setting = f"filters={json.dumps([IN_PARIS])}"
    call_command("settings", "both", "effect", "person", "--set", setting, stdout=out)
    assert "2 newly excluded" in out.getvalue()
    assert EntitySync.objects.get(pk=world.sync.pk).filters == []
    call_command("settings", "both", "set", "person", "--set", setting, stdout=out)
    assert EntitySync.objects.get(pk=world.sync.pk).filters == [IN_PARIS]
    call_command("settings", "both", "show", stdout=out)
    assert "Filters (filters): In memory (left) city is Paris" in out.getvalue()
    with pytest.raises(CommandError, match="match_tolerance"):
        call_command("settings", "both", "set", "person", "--set", "match_tolerance=3", stdout=out)


def test_the_page_of_an_integration_says_what_it_does(world, boss):
    url = reverse("admin:connectors_integration_change", args=[world.integration.pk])
    page = text_of(boss.get(url))
    assert "Keeps people of In memory (left) and In memory (right) in agreement" in page
    assert "6 in agreement" in page
    assert page_of(world) in page


def test_pausing_takes_a_reason_and_says_it(world, client, person):
    codenames = set(Permission.objects.filter(codename__startswith="view_").values_list("codename", flat=True))
    client.force_login(person(*codenames, "operate_integration"))
    url = reverse("admin:connectors_integration_change", args=[world.integration.pk])
    do = reverse("admin:connectors_integration_do", args=[world.integration.pk, "disable"])
    client.post(do, {"why": "month end"})
    assert "switched off by ada: month end." in text_of(client.get(url))
    go_on = client.post(f"/api/v1/integrations/{world.integration.pk}/go-on/", content_type="application/json")
    assert go_on.json()["enabled"] is True
    paused = client.post(
        f"/api/v1/integrations/{world.integration.pk}/pause/",
        json.dumps({"reason": "again"}),
        content_type="application/json",
    )
    assert (paused.status_code, paused.json()["detail"]) == (200, "both is switched off: again.")
    call_command("settings", "both", "go-on", stdout=StringIO())
    assert Integration.objects.get().enabled


def queries(client: Client, url: str) -> int:
    with CaptureQueriesContext(
        connection,
    ) as found:
        assert client.get(url).status_code == 200
    return len(found)


def test_pages_ask_the_database_as_often_with_many_records_as_with_few(world, boss):
    urls = [page_of(world), reverse("admin:connectors_integration_change", args=[world.integration.pk])]
    [boss.get(url) for url in urls]
    few = [queries(boss, url) for url in urls]
    for number in range(40):
        world.left.create("person", {"name": f"More {number}"})
    world.run()
    world.settle()
    # Other runs than before are among the last five: what can be undone of the newest is looked up once.
    assert [queries(boss, url) for url in urls] == few


def test_the_lists_of_fields_are_those_of_the_last_look_where_a_system_is_away(world, boss, monkeypatch):
    boss.get(page_of(world))

    def away(*args: object, **kwargs: object) -> None:
        raise AssertionError("no page asks a system that it knows")

    monkeypatch.setattr(connecting, "open_transport", away)
    given = add_filter(form_of(boss, page_of(world)), "left:city", "eq", "Paris")
    shown = boss.post(page_of(world), {**given, "act": "effect"})
    assert "newly excluded" in text_of(shown)


def test_an_unknown_user_gets_no_page(world, client):
    assert client.get(page_of(world)).status_code == 302
    assert User.objects.count() == 0
