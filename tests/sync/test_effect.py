"""What other settings would do is told before anything is saved, and is what a run then does."""

from contextlib import contextmanager
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors.contract import Field, Kind
from connectors.memory.store import entity
from connectors.models import EntitySync, FieldMapping, RecordLink
from connectors.sync import effect, entity_settings
from connectors.sync.amending import commit, described, effect_of
from connectors.sync.rules import LEFT
from connectors.sync.run import mark_settings_changed
from tests.sync.worlds import TwoSystems

CITIES = ("Paris", "Rome", None)


@contextmanager
def link(world, connection):
    yield world.connect(connection)


def known(world):
    return described(world.integration, lambda connection: link(world, connection), world.clock.now())


def propose(world, **values):
    world.integration.refresh_from_db()
    sync = EntitySync.objects.select_related("integration__left", "integration__right").get(pk=world.sync.pk)
    schema = known(world)
    checked, problems = entity_settings.check(sync, schema, values)
    assert not problems, problems
    return entity_settings.propose(sync, checked), schema


def told(world, **values):
    proposal, schema = propose(world, **values)
    return effect_of(proposal, schema.described, world.clock.now())


def change(world, **values):
    proposal, schema = propose(world, **values)
    return commit(proposal, schema.described, now=world.clock.now())


def outside():
    return set(RecordLink.objects.filter(reason="outside", ended=0).values_list("pk", flat=True))


def people(world, count=6):
    ids = [
        world.left.create("person", {"name": f"Person {n}", "city": CITIES[n % 3], "credit": n}) for n in range(count)
    ]
    world.run()
    world.settle()
    return ids


IN_PARIS = [{"side": "left", "field": "city", "op": "eq", "value": "Paris"}]


@pytest.mark.django_db
def test_a_filter_tells_whom_it_leaves_out_by_name_and_saves_nothing():
    world = TwoSystems()
    people(world)
    found = told(world, filters=IN_PARIS)
    assert (found.counts["excluded"], found.counts["included"], found.records) == (4, 0, 6)
    assert found.examples["excluded"][0].title.endswith("(Person 1)")
    assert found.examples["excluded"][0].after == "left out: does not meet the filter"
    assert EntitySync.objects.get(pk=world.sync.pk).filters == []
    assert "Applies to 6 records." in effect.sentences(found)[0]
    assert any("4 newly excluded" in line for line in effect.sentences(found))


@pytest.mark.django_db
def test_what_comes_back_in_is_told():
    world = TwoSystems()
    people(world)
    change(world, filters=IN_PARIS)
    world.run("comprehensive")
    assert len(outside()) == 4
    found = told(world, filters=[])
    assert (found.counts["excluded"], found.counts["included"]) == (0, 4)


@pytest.mark.django_db
def test_switching_an_entity_sync_off_leaves_out_all_it_keeps():
    world = TwoSystems()
    people(world)
    found = told(world, enabled=False)
    assert found.counts["excluded"] == 6
    change(world, enabled=False)
    assert told(world, enabled=True).counts["included"] == 6


@pytest.mark.django_db
def test_another_policy_settles_the_conflicts_that_are_there():
    world = TwoSystems(policy="ask")
    ids = people(world)
    partner = dict(RecordLink.objects.values_list("left_id", "right_id"))
    world.left.put("person", ids[0], {"city": "Oslo"})
    world.right.put("person", partner[ids[0]], {"city": "Bern"})
    world.run()
    assert RecordLink.objects.filter(reason="conflict").count() == 1
    found = told(world, policy="left")
    assert (found.counts["otherwise"], found.outcomes["conflict → update"]) == (1, 1)
    assert found.looked_at == 1, "what agrees is not looked at: who wins changes nothing about it"


@pytest.mark.django_db
def test_a_filter_on_what_is_not_kept_is_said_to_be_unknown():
    world = TwoSystems()
    world.sync.mappings.filter(left="city").delete()
    people(world)
    found = told(world, filters=IN_PARIS)
    assert (found.counts["unknown"], found.affected) == (6, 0)
    assert any("can't be told" in line for line in effect.sentences(found))


@pytest.mark.django_db
def test_a_filter_that_stays_is_known_by_how_the_records_stand():
    world = TwoSystems(filters=IN_PARIS)
    world.sync.mappings.filter(left="city").delete()
    people(world)
    found = told(
        world, prevents=["right.delete"], filters=[*IN_PARIS, {"side": "left", "field": "name", "op": "empty"}]
    )
    assert found.counts["unknown"] == 0
    assert found.counts["excluded"] == RecordLink.objects.exclude(reason="outside").count()


@pytest.mark.django_db
def test_what_can_not_be_looked_at_in_time_is_said(monkeypatch):
    world = TwoSystems()
    people(world)
    monkeypatch.setattr(effect, "BLOCK", 2)
    proposal, schema = propose(world, filters=IN_PARIS)
    on_trial = effect.trial(world.integration, schema.described, proposal.act)
    found = effect.weigh(world.integration, on_trial, world.clock.now().date(), seconds=0)
    assert (found.looked_at, found.complete) == (2, False)
    assert any("Only 2 were looked at" in line for line in effect.sentences(found))
    assert any("At least 1" in line for line in effect.sentences(found))


filters = st.lists(
    st.one_of(
        st.fixed_dictionaries(
            {"side": st.sampled_from(["left", "right"]), "field": st.just("city"), "op": st.sampled_from(["eq", "ne"]),
             "value": st.sampled_from(["Paris", "Rome"])}
        ),
        st.fixed_dictionaries(
            {"side": st.sampled_from(["left", "right"]), "field": st.sampled_from(["city", "email"]),
             "op": st.sampled_from(["filled", "empty"])}
        ),
    ),
    max_size=2,
)  # fmt: skip
some_settings = st.fixed_dictionaries(
    {
        "filters": filters,
        "direction": st.sampled_from(["both", "to_right", "to_left"]),
        "prevents": st.lists(st.sampled_from(["left.create", "right.create", "right.update"]), unique=True),
    }
)
person = st.tuples(st.sampled_from(["left", "right"]), st.sampled_from(CITIES), st.sampled_from([None, "a@b.c"]))


@pytest.mark.django_db(transaction=True)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(people=st.lists(person, min_size=1, max_size=6), before=some_settings, after=some_settings)
def test_who_is_told_to_come_in_or_go_out_is_who_does(people, before, after):
    world = TwoSystems()
    try:
        EntitySync.objects.filter(pk=world.sync.pk).update(**before)
        for number, (side, city, email) in enumerate(people):
            store = world.left if side == LEFT else world.right
            store.create("person", {"name": f"Person {number}", "city": city, "email": email})
        world.run()
        # Read anew by the settings that stand: a record that was created where its own filter shuts it out leaves by any change.
        mark_settings_changed(world.integration)
        world.run("comprehensive")
        was = outside()
        proposal, schema = propose(world, **after)
        on_trial = effect.trial(world.integration, schema.described, proposal.act)
        judged = list(effect.judged(world.integration, on_trial, world.clock.now().date()))
        excluded = {pk for pk, old, new in judged if old.kind != "outside" and new.kind == "outside"}
        included = {pk for pk, old, new in judged if old.kind == "outside" and new.kind != "outside"}
        assert not [pk for pk, old, new in judged if "unknown" in (old.kind, new.kind)]
        change(world, **after)
        world.run("comprehensive")
        now = outside()
        assert (excluded, included) == (now - was, was - now)
    finally:
        world.integration.delete()
        for connection in (world.integration.left, world.integration.right):
            connection.delete()


@pytest.mark.django_db
def test_a_window_of_dates_is_judged_by_the_day():
    dated = entity("person", Field("name", Kind.TEXT, required=True), Field("due", Kind.DATE))
    world = TwoSystems(left_entity=dated, right_entity=dated)
    world.sync.mappings.exclude(left="name").delete()
    FieldMapping.objects.create(entity_sync=world.sync, left="due", right="due")
    today = world.clock.now().date()
    for days in (0, 10, 40, None):
        due = today - timedelta(days=days) if days is not None else None
        world.left.create("person", {"name": f"Due {days}", "due": due})
    world.run()
    world.settle()
    found = told(world, window={"field": "due", "past": 30})
    assert found.counts["excluded"] == 1
    assert found.examples["excluded"][0].after == "left out: lies outside the window of dates"
    change(world, window={"field": "due", "past": 30})
    world.run("comprehensive")
    assert len(outside()) == 1


@pytest.mark.django_db
def test_where_nothing_differs_nobody_is_concerned():
    world = TwoSystems()
    people(world)
    found = told(world, filters=[])
    assert (found.records, found.looked_at, found.read_again) == (0, 0, False)
