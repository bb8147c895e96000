"""A person chooses who wins, how names match and whose records are taken, the same way by page, API and command."""

import json
from io import StringIO

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse

from connectors.models import EntitySync, Event, RecordLink
from connectors.sync import preferences
from connectors.sync.preferences import PreferencesError
from jobs import clock

pytestmark = pytest.mark.django_db(transaction=True)


def values(hub):
    return {one.key: one.value for one in preferences.read(hub.integration)}


def change(hub, **more):
    told = {key.replace("__", "."): value for key, value in more.items()}
    return preferences.change(hub.integration, told, now=clock.now(), by="ada")


@pytest.fixture
def boss():
    client = Client()
    client.force_login(User.objects.create_superuser("boss", password="long enough for us"))
    return client


def test_what_can_be_chosen_is_told_with_its_present_value(fresh):
    told = values(fresh)
    assert told["customer.policy"] == "last_updated"
    assert told["customer.name_match"] == "exact"
    assert told["customer.since"] == ""
    assert told["customer.overwrite.primarycontactid"] == "yes"
    assert "invoice history.policy" not in told, "one way: nobody has to win"
    assert "quote.since" not in told


def test_a_change_raises_the_revision_is_told_and_makes_the_next_run_read_everything(hub):
    before = hub.integration.revision
    said = change(hub, customer__policy="left", customer__name_match="tolerant", item__policy="last_updated")
    assert said == [
        "customer: Who wins: Last updated record wins → Left wins",
        "customer: Name match: exact → 88",
    ]
    hub.integration.refresh_from_db()
    assert hub.integration.revision > before
    assert Event.objects.get(code="preferences changed").actor == "ada"
    sync = EntitySync.objects.get(name="customer")
    assert (sync.policy, sync.match_tolerance) == ("left", 88)
    assert hub.integration.scopes.get().full_wanted


def test_who_wins_is_what_the_next_conflict_goes_by(hub):
    change(hub, customer__policy="left")
    hub.settle()
    record = hub.companies()[0]
    link = RecordLink.objects.get(left_id=record.id, entity_sync__name="customer")
    hub.left.user_edits("Customer", record.id, {"Notes": "From the books"})
    hub.right.user_edits("account", link.right_id, {"description": "From sales, later"})
    hub.settle()
    assert hub.right.store.get("account", link.right_id).body["description"] == "From the books"


def test_customers_of_long_ago_do_not_come_over(fresh):
    change(fresh, customer__since="2999-01-01")
    fresh.settle()
    assert not fresh.right.store.table("account")
    change(fresh, customer__since="")
    fresh.settle()
    assert fresh.right.store.table("account")


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("customer.policy", "loudest", "Who wins is one of last_updated, left, right, ask, not 'loudest'"),
        ("customer.name_match", "12", "^Name match is exact, tolerant, or a number from 60 to 100"),
        ("customer.name_match", "59", "a number from 60 to 100"),
        ("customer.since", "yesterday", "^Last modified from is a day like 2026-01-31"),
        ("nobody.policy", "left", "There is no preference 'nobody.policy'"),
        ("customer.enabled", "", "^Kept in agreement is one of yes, no"),
    ],
)
def test_nonsense_is_refused_by_name_and_nothing_is_changed(fresh, key, value, sentence):
    before = values(fresh)
    with pytest.raises(PreferencesError, match=sentence):
        preferences.change(fresh.integration, {key: value, "item.policy": "left"}, now=clock.now())
    assert values(fresh) == before


def test_a_stale_page_is_refused(fresh):
    change(fresh, customer__policy="left")
    with pytest.raises(PreferencesError, match="changed meanwhile"):
        preferences.change(
            fresh.integration, {"item.policy": "left"}, now=clock.now(), revision=fresh.integration.revision
        )


def test_the_page_shows_saves_and_refuses(fresh, boss):
    url = reverse("admin:connectors_integration_preferences", args=[fresh.integration.pk])
    page = boss.get(url)
    assert page.status_code == 200
    form = page.context["form"]
    given = {name: form[name].value() or "" for name in form.fields}
    mine = {**given, "customer.policy": "right", "route_column": "", "route_value": ""}
    shown = boss.post(url, {**mine, "act": "effect"})
    assert values(fresh)["customer.policy"] == "last_updated", "nothing is saved before its effect was seen"
    done = boss.post(url, {**mine, "act": "save", "shown": shown.context["shown"].mark}, follow=True)
    assert values(fresh)["customer.policy"] == "right"
    assert "Who wins: Last updated record wins → Right wins" in done.content.decode()
    stale = boss.post(url, given)
    assert "changed meanwhile" in stale.content.decode()
    fresh.integration.refresh_from_db()
    wrong = boss.post(url, {**given, "revision": fresh.integration.revision, "customer.since": "soon"})
    assert "a day like 2026-01-31" in wrong.content.decode()
    wrong = boss.post(
        url, {**given, "revision": fresh.integration.revision, "route_column": "nothing", "route_value": "x"}
    )
    assert "There is no column" in wrong.content.decode()


def test_after_a_stale_page_what_was_entered_stays_and_is_saved_once_what_it_changes_was_seen(fresh, boss):
    url = reverse("admin:connectors_integration_preferences", args=[fresh.integration.pk])
    page = boss.get(url).context
    given = {name: page["form"][name].value() or "" for name in page["form"].fields}
    change(fresh, customer__policy="left")
    mine = {**given, "item.policy": "right"}
    told = boss.post(url, {**mine, "settings_seen": page["settings_seen"], "act": "effect"})
    assert told.context["shown"].lines == ["item: Who wins: Last updated record wins → Right wins"], (
        "nobody's change is taken back"
    )
    assert told.context["form"]["customer.policy"].value() == "left"
    answer = boss.post(url, {**mine, "act": "save", "shown": ""})
    assert "Who wins: the last edit wins" in answer.content.decode(), "what somebody else changed"
    assert (values(fresh)["customer.policy"], values(fresh)["item.policy"]) == ("left", "last_updated")
    again = {**mine, "customer.policy": "left", "revision": answer.context["revision"]}
    mark = boss.post(url, {**again, "act": "effect"}).context["shown"].mark
    boss.post(url, {**again, "act": "save", "shown": mark})
    assert (values(fresh)["customer.policy"], values(fresh)["item.policy"]) == ("left", "right")


def settings(hub):
    hub.integration.refresh_from_db()
    return hub.integration.revision, hub.integration.route, values(hub)


@pytest.mark.parametrize(
    ("preferred", "column", "value", "problems"),
    [
        ("left", "nothing", "North", {"route_column"}),
        ("left", "syn_company", "West", {"route_value"}),
        ("loudest", "nothing", "North", {"customer.policy", "route_column"}),
        ("loudest", "syn_company", "North", {"customer.policy"}),
    ],
)
def test_preferences_and_route_are_saved_together_or_not_at_all(fresh, boss, preferred, column, value, problems):
    before = settings(fresh)
    url = f"/api/v1/integrations/{fresh.integration.pk}/preferences/"
    asked = {"set": {"customer.policy": preferred}, "route_column": column, "route_value": value}
    answer = boss.post(url, asked, content_type="application/json")
    assert (answer.status_code, set(answer.json())) == (400, problems)
    page = reverse("admin:connectors_integration_preferences", args=[fresh.integration.pk])
    form = boss.get(page).context["form"]
    given = {name: form[name].value() or "" for name in form.fields}
    entered = {**given, "customer.since": "soon"} if preferred == "loudest" else given
    refused = boss.post(
        page, {**entered, "customer.name_match": "tolerant", "route_column": column, "route_value": value}
    )
    told = {"customer.since" if name == "customer.policy" else name for name in problems}
    assert set(refused.context["form"].errors) == told
    with pytest.raises(CommandError):
        call_command(
            "preferences", fresh.integration.name, f"--set=customer.policy={preferred}", f"--route={column}={value}"
        )
    assert settings(fresh) == before
    assert not Event.objects.filter(code="preferences changed").exists()


def test_a_route_is_saved_with_the_rest_under_one_event(fresh, boss):
    url = f"/api/v1/integrations/{fresh.integration.pk}/preferences/"
    asked = {"set": {"customer.policy": "ask"}, "route_column": "syn_company", "route_value": "North"}
    answer = boss.post(url, asked, content_type="application/json").json()
    assert answer["changed"] == [
        "customer: Who wins: Last updated record wins → Ask a person", "Takes the records with syn_company = North.",
    ]  # fmt: skip
    revision, route, _ = settings(fresh)
    assert (answer["revision"], route["value"], answer["route"]["value"]) == (revision, "1", "1")
    assert Event.objects.filter(code="preferences changed").count() == 1
    call_command("preferences", fresh.integration.name, "--route==", stdout=StringIO())
    assert settings(fresh)[1] == {}


def test_a_preset_without_companies_has_no_route_and_says_so_with_the_rest(fresh, boss):
    fresh.integration.preset = ""
    fresh.integration.save()
    url = f"/api/v1/integrations/{fresh.integration.pk}/preferences/"
    asked = {"set": {"customer.policy": "loudest"}, "route_column": "syn_company", "route_value": "North"}
    answer = boss.post(url, asked, content_type="application/json")
    assert set(answer.json()) == {"customer.policy", "route_column"}


def test_the_api_and_the_command_do_the_same(fresh, boss):
    url = f"/api/v1/integrations/{fresh.integration.pk}/preferences/"
    told = boss.get(url).json()
    assert {"key": "customer.policy", "label": "Who wins", "value": "last_updated",
            "choices": ["last_updated", "left", "right", "ask"]} in told["preferences"]  # fmt: skip
    done = boss.post(url, {"set": {"customer.policy": "ask"}}, content_type="application/json")
    assert done.json()["changed"] == ["customer: Who wins: Last updated record wins → Ask a person"]
    wrong = boss.post(url, {"set": {"customer.policy": "x"}}, content_type="application/json")
    assert (wrong.status_code, list(wrong.json())) == (400, ["customer.policy"])
    call_command("preferences", fresh.integration.name, "--set", "customer.policy=left", stdout=StringIO())
    out = StringIO()
    call_command("preferences", fresh.integration.name, "--json", stdout=out)
    shown = {one["key"]: one["value"] for one in json.loads(out.getvalue())["preferences"]}
    assert shown["customer.policy"] == "left"
    with pytest.raises(CommandError, match="one of"):
        call_command("preferences", fresh.integration.name, "--set", "customer.policy=x")


def test_who_may_only_look_can_change_nothing(fresh):
    from django.contrib.auth.models import Permission

    viewer = User.objects.create_user("viewer", password="long enough for us", is_staff=True)
    viewer.user_permissions.add(Permission.objects.get(codename="view_integration"))
    client = Client()
    client.force_login(viewer)
    url = reverse("admin:connectors_integration_preferences", args=[fresh.integration.pk])
    assert client.get(url).status_code == 200
    assert client.post(url, {"customer.policy": "left"}).status_code == 403
    api = f"/api/v1/integrations/{fresh.integration.pk}/preferences/"
    assert client.post(api, {"set": {"customer.policy": "left"}}, content_type="application/json").status_code == 403
    assert values(fresh)["customer.policy"] == "last_updated"
