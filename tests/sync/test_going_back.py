"""Can one go back over what the editors can do: mappings that swapped, options that swapped, an entity sync made since?"""

from __future__ import annotations

import pytest

from connectors.models import EntitySync, FieldMapping, PicklistMapping, RecordChange, changing
from connectors.sync import effect, optioning
from connectors.sync.optioning import PairRow
from connectors.sync.proposals import decide
from connectors.sync.restoring import propose_restore
from connectors.sync.run import mark_settings_changed
from connectors.sync.schema import stored
from connectors.sync.settings_history import timeline
from connectors.sync.values import decode
from tests.sync.hard_world import Hard
from tests.sync.test_fields_left_out import CITY, EMAIL, leave_out, proposal

pytestmark = pytest.mark.django_db


def test_two_mappings_that_swapped_their_fields_swap_back():
    world = Hard()
    before = timeline(world.integration)[0][0].change
    city, email = (world.sync.mappings.get(left=name) for name in ("city", "email"))
    with changing("swap"):
        FieldMapping.objects.filter(pk=city.pk).update(left="~", right="~")
        email.left = email.right = "city"
        email.save()
        city.left = city.right = "email"
        city.save()
        mark_settings_changed(world.integration, world.sync)
    effect.perform(propose_restore(world.integration, before).act)
    assert FieldMapping.objects.get(pk=city.pk).left == "city"
    assert FieldMapping.objects.get(pk=email.pk).left == "email"


def test_an_entity_sync_that_was_made_since_keeps_its_mappings():
    world = Hard()
    before = timeline(world.integration)[0][0].change
    with changing("new sync"):
        two = EntitySync.objects.create(
            integration=world.integration, name="two", family="two", left_entity="person", right_entity="person",
            match=[["name>name"]],
        )  # fmt: skip
        FieldMapping.objects.create(entity_sync=two, left="name", right="name")
        mark_settings_changed(world.integration, two)
    effect.perform(propose_restore(world.integration, before).act)
    assert two.mappings.count() == 1


def test_options_change_who_is_written_in_any_order():
    world = Hard()
    mapping = world.sync.mappings.get(left="city")
    for left, right, both in (("L1", "R1", True), ("L2", "R2", True), ("L2", "R1", False)):
        PicklistMapping.objects.create(
            field_mapping=mapping, left_key=left, right_key=right, token=right, writes_left=both, writes_right=both
        )
    pk = dict(PicklistMapping.objects.values_list("token", "pk"))
    assert len(pk) == 2  # two pairs share a token
    ids = {(o.left_key, o.right_key): o.pk for o in PicklistMapping.objects.all()}
    rows = [
        PairRow("L2", "R1", writes_left=True, writes_right=False, id=ids["L2", "R1"]),
        PairRow("L1", "R1", writes_left=False, writes_right=True, id=ids["L1", "R1"]),
        PairRow("L2", "R2", writes_left=True, writes_right=True, id=ids["L2", "R2"]),
    ]
    sync = EntitySync.objects.get(pk=world.sync.pk)
    optioning.save(
        mapping, rows, "park", "", revision=sync.revision, now=world.clock.now(), schema=stored(world.integration)
    )
    told = {(o.left_key, o.right_key): (o.writes_left, o.writes_right) for o in PicklistMapping.objects.all()}
    assert told == {("L2", "R1"): (True, False), ("L1", "R1"): (False, True), ("L2", "R2"): (True, True)}


def test_one_field_of_a_record_that_was_left_out_is_taken_in_alone():
    world = Hard()
    left, _ = world.pair_up(city="Paris", email="old@example.com")
    world.left.put("person", left, {"city": "Rome", "email": "new@example.com"})
    run = world.run(purpose="preview")
    change = proposal(run)
    leave_out(run, change, CITY, EMAIL)
    change.refresh_from_db()
    assert change.status == RecordChange.Status.DROPPED
    assert decide(run, {}, {change.pk: {EMAIL: True}}) == 1
    change.refresh_from_db()
    assert (change.status, set(decode(change.left_out))) == (RecordChange.Status.PROPOSED, {CITY})
