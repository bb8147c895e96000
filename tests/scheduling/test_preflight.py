"""What each check says of what was seen: pure rules, the page and the API."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse
from hypothesis import example, given
from hypothesis import strategies as st
from rest_framework.test import APIClient

from connectors.contract import Field, Identity, Kind, Option, Verb, Write
from connectors.memory.store import entity
from connectors.models import EntitySync, FieldMapping
from connectors.sync.rules import LEFT, RIGHT, Condition
from connectors.sync.run import mark_settings_changed
from scheduling import preflight
from scheduling.checks import CHECKS, judge
from scheduling.findings import Line
from scheduling.models import Preflight
from scheduling.seen import End, Map, Partners, Seen, Served, Spent, Sync
from tests.sync.worlds import TwoSystems

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
ALL = frozenset(Verb)
LEVEL = Field("level", Kind.OPTION)
PERSON = entity("person", Field("name", Kind.TEXT, required=True, findable=True), LEVEL)
OPTIONS = (Option("1", "Gold"), Option("2", "Silver"))
PAIRS = tuple(Partners({LEFT: o.key, RIGHT: o.key}, {LEFT: o.label, RIGHT: o.label}) for o in OPTIONS)
NAME = Map(1, "name>name", {LEFT: "name", RIGHT: "name"})
CHOICE = Map(2, "level>level", {LEFT: "level", RIGHT: "level"}, options=PAIRS)
SYNC = Sync(1, "person", {LEFT: "person", RIGHT: "person"}, match=(("name>name",),), maps=(NAME, CHOICE))


def end(side, **more) -> End:
    made = End(
        side,
        1 if side == LEFT else 2,
        "Books" if side == LEFT else "Sales",
        "In memory",
        identity=Identity("id", "A company", {"person": ALL}),
        entities={"person": PERSON},
        options={("person", "level"): OPTIONS},
    )
    return replace(made, **more)


def seen(*syncs: Sync, left: End | None = None, right: End | None = None, **more) -> Seen:
    return Seen(1, NOW, {LEFT: left or end(LEFT), RIGHT: right or end(RIGHT)}, syncs or (SYNC,), **more)


def told(check: str, what: Seen, level: str = "") -> list[str]:
    return [line.message for line in CHECKS[check](what) if not level or line.level == level]


def test_a_sound_integration_gets_only_good_lines():
    assert {line.level for line in judge(seen())} == {"ok"}


def test_each_line_carries_the_name_of_its_check():
    broken = seen(left=end(LEFT, failure="no answer"), problems=("person: wrong.",), worker=False, switched_off="Off.")
    for what in (seen(), broken):
        for name, check in CHECKS.items():
            assert {line.check for line in check(what)} <= {name}


@given(st.sampled_from([LEFT, RIGHT]), st.text(min_size=1), st.sampled_from(list(CHECKS)))
def test_a_side_that_was_not_reached_never_breaks_a_check(side, why, check):
    away = End(side, 1, "Books", "In memory", failure=why)
    lines = list(CHECKS[check](seen(**{side: away})))
    if check == "connections":
        assert [line.level for line in lines].count("blocking") == 1
    else:
        assert all(line.level == "ok" for line in lines)


# Connections and permissions


@pytest.mark.parametrize(
    ("days", "level"), [(15, "ok"), (14, "warning"), (1, "warning"), (0, "blocking"), (-3, "blocking")]
)
def test_credentials_warn_two_weeks_before_their_end_and_block_after_it(days, level):
    what = seen(left=end(LEFT, expires_at=NOW + timedelta(days=days)))
    assert (level in {line.level for line in CHECKS["connections"](what)}) is True
    assert ("blocking" in {line.level for line in CHECKS["connections"](what)}) is (level == "blocking")


def test_an_ended_subscription_says_where_it_is_renewed():
    away = end(LEFT, title="QuickBooks Online", failure="QuickBooks answered 400: Invalid company", code="6190")
    [line] = told("connections", seen(left=away), "blocking")
    assert "Renew it in QuickBooks" in line


def may(*verbs: Verb) -> Identity:
    return Identity("id", "A company", {"person": frozenset(verbs)})


@pytest.mark.parametrize(
    ("sync", "verbs", "level"),
    [
        (SYNC, (Verb.UPDATE, Verb.DELETE), "blocking"),
        (replace(SYNC, prevents=frozenset({"right.create"})), (Verb.UPDATE, Verb.DELETE), "ok"),
        (replace(SYNC, direction="to_left"), (), "ok"),
        (SYNC, (Verb.CREATE, Verb.UPDATE), "warning"),  # a delete waits for approval
        (replace(SYNC, on_delete="delete"), (Verb.CREATE, Verb.UPDATE), "blocking"),
        (replace(SYNC, on_delete="ignore"), (Verb.CREATE, Verb.UPDATE), "ok"),
        (replace(SYNC, on_delete="archive"), (Verb.CREATE, Verb.UPDATE, Verb.DELETE), "blocking"),
    ],
)
def test_only_what_the_settings_ask_for_must_be_allowed(sync, verbs, level):
    lines = list(CHECKS["permissions"](seen(sync, right=end(RIGHT, identity=may(*verbs)))))
    assert {line.level for line in lines if "Sales" in line.message} == {level}


def test_a_promotion_that_a_column_asks_for_is_answered_in_the_record_whatever_the_direction():
    asked = replace(SYNC, direction="to_left", on_request=frozenset({"left"}), flagged=RIGHT)
    [line] = told("permissions", seen(asked, right=end(RIGHT, identity=may())), "blocking")
    assert "may not update person in Sales" in line


def test_inactive_in_agreement_needs_the_right_to_make_inactive_and_active_again():
    archived = replace(SYNC, maps=(NAME, Map(3, "~archived", {LEFT: "~archived", RIGHT: "~archived"})))
    identity = may(Verb.CREATE, Verb.UPDATE, Verb.DELETE)
    [line] = told("permissions", seen(archived, right=end(RIGHT, identity=identity)), "blocking")
    assert "may not archive or restore" in line


# Preferences


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"direction": "to_right", "policy": "right"}, "never writes anything"),
        ({"direction": "to_right", "on_request": frozenset({"left"})}, "nothing can be promoted"),
        ({"prevents": frozenset({"left.create", "left.update", "right.create", "right.update"})}, "both prevented"),
        ({"match": ()}, "no match fields"),
        ({"direction": "to_right", "maps": (replace(NAME, direction="to_left"),)}, "against the direction"),
    ],
)
def test_preferences_that_contradict_each_other_are_told(changes, word):
    assert any(word in line for line in told("preferences", seen(replace(SYNC, **changes)), "warning"))


def test_a_promoted_record_must_be_findable_by_a_match_field():
    asked = replace(SYNC, on_request=frozenset({"left"}))
    services = (Served("Bulk", "promoted"),)
    assert told("preferences", seen(asked, services=services), "warning") == []
    unsearchable = entity("person", Field("name", Kind.TEXT), LEVEL)
    hidden = end(LEFT, entities={"person": unsearchable})
    [line] = told("preferences", seen(asked, left=hidden, services=services), "warning")
    assert "can be searched in Books" in line


def test_promotions_need_a_service_that_carries_them_out_in_bulk():
    asked = replace(SYNC, on_request=frozenset({"left"}))
    for services in ((), (Served("All", "changes"),), (Served("Bulk", "promoted", ("other",)),)):
        assert any("stay queued" in line for line in told("preferences", seen(asked, services=services), "warning"))
    assert not told("preferences", seen(asked, services=(Served("Bulk", "promoted", ("person",)),)), "warning")


def test_a_first_run_that_is_a_preview_is_told_and_an_integration_that_is_off_blocks():
    assert "becomes a preview" in told("preferences", seen(preview_first=True), "warning")[0]
    assert "No run starts: It is off." in told("preferences", seen(switched_off="It is off."), "blocking")[0]
    nothing = Seen(1, NOW, {LEFT: end(LEFT), RIGHT: end(RIGHT)})
    assert "nothing to keep in agreement" in told("preferences", nothing, "blocking")[0]


# Required fields


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({}, set()),
        ({"maps": (CHOICE,)}, {"Books", "Sales"}),
        ({"maps": (replace(NAME, direction="to_right"), CHOICE)}, {"Books"}),
        ({"maps": (replace(NAME, when="later"), CHOICE)}, {"Books", "Sales"}),
        ({"maps": (replace(NAME, when="create"), CHOICE)}, set()),
        ({"maps": (CHOICE,), "direction": "to_right"}, {"Sales"}),
        ({"maps": (CHOICE,), "prevents": frozenset({"left.create"})}, {"Sales"}),
        ({"maps": (Map(1, "name", {LEFT: "", RIGHT: "name"}, constant="x"), CHOICE)}, {"Books"}),
    ],
)
def test_a_required_field_needs_a_value_wherever_records_are_made(changes, missing):
    lines = told("required fields", seen(replace(SYNC, **changes)), "blocking")
    assert {name for name in ("Books", "Sales") if any(name in line for line in lines)} == missing


def test_what_the_system_computes_and_yes_or_no_need_no_value():
    person = entity(
        "person", Field("name", Kind.TEXT), Field("total", Kind.MONEY, required=True, write=Write.NEVER),
        Field("hold", Kind.BOOLEAN, required=True),
    )  # fmt: skip
    assert told("required fields", seen(right=end(RIGHT, entities={"person": person})), "blocking") == []


# Lists


def choices(*options: Option) -> dict[tuple[str, str], tuple[Option, ...]]:
    return {("person", "level"): options}


@pytest.mark.parametrize(("unmapped", "level"), [("park", "warning"), ("skip", "ok"), ("default", "ok")])
def test_options_without_a_partner_are_counted_and_named(unmapped, level):
    more = end(LEFT, options=choices(*OPTIONS, Option("3", "Bronze"), Option("4", "Old", active=False)))
    sync = replace(SYNC, maps=(NAME, replace(CHOICE, unmapped=unmapped)))
    [line] = [line for line in CHECKS["picklist labels"](seen(sync, left=more)) if "without a partner" in line.message]
    assert (line.level, "1 option of Books without a partner: Bronze." in line.message) == (level, True)


def test_an_option_whose_records_a_filter_leaves_out_needs_no_partner():
    more = end(LEFT, options=choices(*OPTIONS, Option("3", "Bronze")))
    filtered = replace(SYNC, filters=(Condition(LEFT, "level", "in", ["1", "2"]),))
    assert told("picklist labels", seen(filtered, left=more), "warning") == []
    one_way = replace(SYNC, direction="to_left")
    assert told("picklist labels", seen(one_way, left=more), "warning") == []


def test_a_renamed_option_is_told_with_both_labels_once_for_all_entity_syncs():
    renamed = end(RIGHT, options=choices(Option("1", "Premium"), OPTIONS[1]))
    [line] = told("picklist labels", seen(SYNC, replace(SYNC, id=2, name="firm"), right=renamed), "warning")
    assert line.startswith("person, firm: level with level: Sales renamed 'Gold' to 'Premium'")


@pytest.mark.parametrize(
    ("changes", "level"),
    [({}, "blocking"), ({"direction": "to_left"}, "warning"), ({"direction": "to_right"}, "blocking")],
)
def test_a_vanished_option_blocks_where_it_would_be_written(changes, level):
    gone = end(RIGHT, options=choices(OPTIONS[1]))
    [line] = [
        x for x in CHECKS["picklist labels"](seen(replace(SYNC, **changes), right=gone)) if "no longer" in x.message
    ]
    assert (line.level, "Gold" in line.message) == (level, True)


def test_an_option_that_its_system_renames_because_it_is_inactive_is_told_as_inactive_alone():
    hidden = end(RIGHT, options=choices(Option("1", "Gold (deleted)", active=False), OPTIONS[1]))
    assert told("picklist labels", seen(right=hidden), "warning") == []
    assert "Gold (deleted) is inactive in Sales" in told("inactive references", seen(right=hidden), "warning")[0]


def test_inactive_options_warn_where_they_are_written_and_inactive_constants_block():
    inactive = end(RIGHT, options=choices(replace(OPTIONS[0], active=False), OPTIONS[1]))
    assert "Gold is inactive in Sales" in told("inactive references", seen(right=inactive), "warning")[0]
    assert told("inactive references", seen(replace(SYNC, direction="to_left"), right=inactive), "warning") == []
    constant = replace(SYNC, maps=(NAME, Map(2, "level", {LEFT: "", RIGHT: "level"}, constant="1")))
    assert (
        "'Gold' of level is inactive in Sales"
        in told("inactive references", seen(constant, right=inactive), "blocking")[0]
    )
    gone = end(RIGHT, options=choices(OPTIONS[1]))
    assert "no longer in Sales" in told("inactive references", seen(constant, right=gone), "blocking")[0]


CODES = st.sets(st.sampled_from(["EUR", "USD", "CAD", "GBP", "JPY"]))


@given(CODES, CODES, CODES)
def test_currencies_block_exactly_where_none_is_common_and_each_lone_one_is_named(left, right, off):
    field = Field("CurrencyRef", Kind.OPTION)
    person = entity("person", Field("name", Kind.TEXT), field)

    def one(side, codes):
        listed = tuple(Option(code, code, code not in off) for code in sorted(codes))
        return end(side, entities={"person": person}, options={("person", "CurrencyRef"): listed})

    partners = tuple(Partners({LEFT: c, RIGHT: c}, {LEFT: c, RIGHT: c}) for c in sorted(left & right))
    money = Map(3, "CurrencyRef>CurrencyRef", {LEFT: "CurrencyRef", RIGHT: "CurrencyRef"}, options=partners)
    what = seen(replace(SYNC, maps=(money,)), left=one(LEFT, left), right=one(RIGHT, right))
    common = (left & right) - off
    assert bool(told("currencies", what, "blocking")) is (not common)
    if common:
        named = " ".join(told("currencies", what, "warning"))
        assert {code for code in left | right if code in named} == (left ^ right) - off


# Quota, worker and mail


@given(st.integers(min_value=1, max_value=10_000), st.integers(min_value=0, max_value=10_000))
@example(100, 25)
@example(100, 24)
@example(100, 0)
def test_quota_warns_below_a_quarter_and_blocks_at_nothing(amount, left):
    left = min(left, amount)
    what = seen(left=end(LEFT, budgets=(Spent("request", amount, left, timedelta(minutes=1)),)))
    level = "blocking" if left == 0 else "warning" if left < amount / 4 else "ok"
    assert {line.level for line in CHECKS["quota"](what) if "Books" in line.message} == {level}


def test_a_system_that_asked_to_wait_blocks_until_then():
    later = Spent("request", 500, 400, timedelta(minutes=1), NOW + timedelta(minutes=5))
    assert (
        "no calls before 2026-03-02 09:05 UTC" in told("quota", seen(left=end(LEFT, budgets=(later,))), "blocking")[0]
    )
    over = replace(later, hold_until=NOW)
    assert told("quota", seen(left=end(LEFT, budgets=(over,))), "blocking") == []


def test_no_worker_and_no_mail_server_are_to_know_and_do_not_block():
    what = seen(worker=False, mail_sent=False)
    assert [line.level for name in ("worker", "mail") for line in CHECKS[name](what)] == ["warning", "warning"]
    assert [line.level for line in CHECKS["mail"](replace(what, asks=False))] == ["ok"]


# The stored report, the page and the API


pages = pytest.mark.django_db(transaction=True)


@pytest.fixture
def world(transactional_db: None) -> TwoSystems:
    return TwoSystems()


@pytest.fixture
def person(transactional_db: None) -> Callable[..., User]:
    def make(*codenames: str) -> User:
        user = User.objects.create_user("ada", password="a long enough secret", is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
        return user

    return make


@pages
def test_a_report_is_kept_once_and_says_when_settings_have_changed_since(world):
    preflight.run(world.integration, by="Ada")
    preflight.run(world.integration, by="Grace")
    assert Preflight.objects.count() == 1
    world.integration.refresh_from_db()
    kept = preflight.last(world.integration)
    assert (kept.by, kept.stale) == ("Grace", False)
    mark_settings_changed(world.integration, world.sync)
    world.integration.refresh_from_db()
    assert preflight.last(world.integration).stale


@pages
def test_a_mapping_that_names_no_field_blocks_with_the_page_of_its_entity_sync(world):
    FieldMapping.objects.create(entity_sync=world.sync, left="nowhere", right="city")
    [line] = [x for x in preflight.run(world.integration).blocking if x.check == "mappings"]
    assert "left has no field 'nowhere' on person" in line.message
    assert line.fix == reverse("admin:connectors_entitysync_change", args=[world.sync.pk])


@pages
@pytest.mark.parametrize(
    "broken",
    [{"filters": ["city"]}, {"filters": [{"op": "eq"}]}, {"window": {"days": 3}}, {"push": ["left"]}, {"match": [3]}],
)
def test_settings_that_are_not_written_as_they_should_be_are_a_red_line_not_a_crash(world, broken):
    EntitySync.objects.filter(pk=world.sync.pk).update(**broken)
    report = preflight.run(world.integration)
    assert any("not written as they should be" in line.message for line in report.blocking)


@pages
def test_the_page_shows_the_last_look_and_looks_again_on_a_post_only(world, client: Client, person):
    client.force_login(person("view_service", "run_service"))
    url = reverse("admin:scheduling_preflight", args=[world.integration.pk])
    assert "Nobody has looked yet" in client.get(url).content.decode()
    assert not Preflight.objects.exists()
    FieldMapping.objects.create(entity_sync=world.sync, left="<b>nowhere", right="city")
    text = client.post(url, follow=True).content.decode()
    assert "1 thing blocks the services." in text
    assert "&lt;b&gt;nowhere" in text and "<b>nowhere" not in text
    assert reverse("admin:connectors_entitysync_change", args=[world.sync.pk]) in text


@pages
def test_who_may_only_see_services_may_not_look_again_and_others_see_nothing(world, client: Client, person):
    url = reverse("admin:scheduling_preflight", args=[world.integration.pk])
    api = f"/api/v1/integrations/{world.integration.pk}/preflight/"
    user = person()
    client.force_login(user)
    assert (client.get(url).status_code, client.get(api).status_code) == (403, 403)
    user.user_permissions.set(Permission.objects.filter(codename="view_service"))
    assert (client.get(url).status_code, client.post(url).status_code) == (200, 403)
    assert (client.get(api).status_code, client.post(api).status_code) == (404, 403)
    assert "Look now" not in client.get(url).content.decode()
    assert not Preflight.objects.exists()


@pages
def test_the_api_looks_on_a_post_and_tells_the_last_look_on_a_get(world, person):
    api = APIClient()
    api.force_login(person("view_service", "change_service"))
    url = f"/api/v1/integrations/{world.integration.pk}/preflight/"
    looked = api.post(url)
    assert (looked.status_code, looked.json()["ready"]) == (200, True)
    again = api.get(url).json()
    assert again["lines"] == looked.json()["lines"] and again["by"] == "ada"
    assert set(again["lines"][0]) == set(Line.__dataclass_fields__)
    assert api.get("/api/v1/integrations/999999/preflight/").status_code == 404
