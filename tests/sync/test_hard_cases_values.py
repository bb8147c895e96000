"""Which value does a field get?  Quirks, cut texts, picklists, one-way fields, settings that change (CORE sections 2 and 3)."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest

from connectors.admin.show import Shower
from connectors.contract import Field, Kind, Option, Returns, Value, Write
from connectors.models import FieldMapping, RecordLink
from connectors.sync.compile import SettingsError
from connectors.sync.explain import Teller, explain
from connectors.sync.picklists import match_picklists
from tests.sync.hard_world import Hard, person

pytestmark = pytest.mark.django_db


def cut(value: Value) -> Value:
    return value[:5] if isinstance(value, str) else value


def shout(value: Value) -> Value:
    return value.upper() if isinstance(value, str) else value


def whole(value: Value) -> Value:
    return value.quantize(Decimal(1)) if isinstance(value, Decimal) else value


ODDITIES: list[tuple[str, Callable[[Value], Value], Value, Value, Value]] = [
    ("city", cut, "Amsterdam", "Amste", None),
    ("city", shout, "Rome", "ROME", "OSLO"),
    ("credit", whole, Decimal("10.40"), Decimal("10"), Decimal("12")),
]


def odd(field: str, stores_as: Callable[[Value], Value], **right: object) -> Hard:
    world = Hard(right_entity=person(**right))
    world.right.stores_as["person", field] = stores_as
    return world


# What a system stores differently (rule 1)


@pytest.mark.parametrize("returns", list(Returns))
@pytest.mark.parametrize(("field", "stores_as", "sent", "stored", "_"), ODDITIES)
def test_a_side_that_stores_otherwise_than_it_is_sent_causes_no_further_write(
    field: str, stores_as: Callable[[Value], Value], sent: Value, stored: Value, _: Value, returns: Returns
) -> None:
    world = odd(field, stores_as, returns=returns)
    left, right = world.pair_up(**{field: sent})
    before = world.written
    for mode in ("delta", "comprehensive", "delta"):
        world.run(mode)
    assert world.written == before == 1
    assert (world.value("left", left, field), world.value("right", right, field)) == (sent, stored)
    assert world.link(left=left).pending is None


@pytest.mark.parametrize(("field", "stores_as", "sent", "stored", "edited"), ODDITIES[1:])
def test_a_persons_later_edit_of_such_a_field_still_flows(
    field: str, stores_as: Callable[[Value], Value], sent: Value, stored: Value, edited: Value
) -> None:
    world = odd(field, stores_as)
    left, right = world.pair_up(**{field: sent})
    world.right.put("person", right, {field: edited})
    world.settle()
    assert world.value("left", left, field) == (edited if field == "city" else Decimal("12.00"))
    world.left.put("person", left, {field: sent})
    world.settle()
    assert world.value("right", right, field) == stored
    assert world.value("left", left, field) == sent


def test_an_edit_of_another_field_leaves_the_odd_one_alone() -> None:
    world = odd("city", cut)
    left, right = world.pair_up(city="Amsterdam")
    world.right.put("person", right, {"email": "a@example.com"})
    world.settle()
    assert [dict(w.values) for w in world.writes("left")] == [{"email": "a@example.com"}]
    assert world.value("left", left, "city") == "Amsterdam"


@pytest.mark.parametrize("returns", [Returns.VALUES, Returns.VERSION])
def test_a_persons_quick_edit_is_not_taken_for_the_systems_way_of_storing(returns: Returns) -> None:
    world = odd("city", cut, returns=returns)
    left, right = world.pair_up(city="Rome")
    world.left.put("person", left, {"city": "Oslo"})
    world.clock.sleep(60)
    world.meanwhile("after write", lambda: world.right.put("person", right, {"city": "Bern"}))
    world.settle()
    assert world.value("left", left, "city") == "Bern"
    assert world.value("right", right, "city") == "Bern"


# Lossy (rule 9)


def test_an_edit_of_a_cut_text_is_not_sent_back_over_the_whole_one() -> None:
    world = odd("city", cut)
    left, right = world.pair_up(city="Amsterdam")
    world.right.put("person", right, {"city": "Rotte"})
    run = world.run()
    world.run("comprehensive")
    assert world.state(left=left) == ("lossy", {"fields": ["city>city"]})
    assert run.counts["entities"]["person"]["parked"] == 1
    assert world.value("left", left, "city") == "Amsterdam"
    assert world.value("right", right, "city") == "Rotte"
    assert "city" in explain(world.link(left=left)).sentence


def test_the_guard_overwrite_sends_it() -> None:
    world = odd("city", cut)
    world.change_mapping("city", guard="overwrite")
    left, right = world.pair_up(city="Amsterdam")
    world.right.put("person", right, {"city": "Rotte"})
    world.settle()
    assert world.value("left", left, "city") == "Rotte"
    assert world.link(left=left).pending is None


def test_what_else_was_edited_in_a_record_with_a_cut_text_still_flows() -> None:
    world = odd("city", cut)
    left, right = world.pair_up(city="Amsterdam")
    world.right.put("person", right, {"city": "Rotte", "email": "a@example.com"})
    world.settle()
    assert world.value("left", left, "email") == "a@example.com"
    assert world.value("left", left, "city") == "Amsterdam"
    assert world.link(left=left).pending is not None


def test_a_text_that_the_mapping_cuts_is_no_change_afterwards() -> None:
    world = Hard(
        right_entity=person(Field("code", Kind.TEXT, max_length=5)), left_entity=person(Field("code", Kind.TEXT))
    )
    world.map("code", "code", transform="truncate")
    left, right = world.pair_up(code="A long code")
    world.run("comprehensive")
    assert (world.value("right", right, "code"), world.written) == ("A lon", 1)
    assert world.value("left", left, "code") == "A long code"


def test_a_text_that_is_too_long_parks_the_record_with_the_fields_name() -> None:
    world = Hard()
    left = world.left.create("person", {"name": "Ada", "city": "x" * 41})
    world.run()
    reason, args = world.state(left=left)
    assert (reason, args["code"], args["field"]) == ("parked", "too long", "city")
    assert world.right.ids("person") == []


# One way


def one_way(**sync: object) -> tuple[Hard, str, str]:
    world = Hard(direction="to_right", **sync)
    left, right = world.pair_up(city="Rome")
    return world, left, right


def test_a_one_way_delta_does_not_read_the_other_sides_feed() -> None:
    world, left, right = one_way()
    world.right.requests.clear()
    world.left.put("person", left, {"city": "Oslo"})
    world.run()
    assert world.value("right", right, "city") == "Oslo"
    assert [r for r in world.right.requests if not r.startswith("write")] == []


def test_drift_on_the_other_side_is_kept_and_explained() -> None:
    world, left, right = one_way()
    world.right.put("person", right, {"city": "Drift"})
    run = world.run("comprehensive")
    world.run("comprehensive")
    assert world.state(left=left) == ("prevented", {"fields": ["city>city"], "why": "drift"})
    assert run.counts["entities"]["person"]["skipped"] == 1
    assert world.value("left", left, "city") == "Rome"
    assert world.value("right", right, "city") == "Drift"
    assert "city" in explain(world.link(left=left)).sentence


@pytest.mark.parametrize("seen", [True, False])
def test_an_edit_of_the_left_field_writes_drift_over_and_keeps_the_loser(seen: bool) -> None:
    world, left, right = one_way()
    world.right.put("person", right, {"city": "Drift"})
    if seen:
        world.run("comprehensive")
    world.left.put("person", left, {"city": "Oslo"})
    world.settle()
    assert world.value("right", right, "city") == "Oslo"
    assert any('"right":"Drift"' in lost for lost in world.lost())
    assert world.link(left=left).pending is None


def test_an_edit_of_another_left_field_leaves_the_drift() -> None:
    world, left, right = one_way()
    world.right.put("person", right, {"city": "Drift"})
    world.run("comprehensive")
    world.left.put("person", left, {"email": "a@example.com"})
    world.settle()
    assert world.value("right", right, "email") == "a@example.com"
    assert world.value("right", right, "city") == "Drift"
    assert world.link(left=left).reason == "prevented"


def test_a_record_that_is_only_on_the_right_stays_there() -> None:
    world, _, _ = one_way()
    right = world.right.create("person", {"name": "Only right"})
    world.run("comprehensive")
    assert world.state(right=right) == ("outside", {"why": "direction", "side": "right"})
    assert not world.writes("left")


def test_one_field_may_flow_one_way_while_the_others_flow_both() -> None:
    world = Hard()
    world.change_mapping("city", direction="to_right")
    left, right = world.pair_up(city="Rome")
    world.right.put("person", right, {"city": "Drift", "email": "a@example.com"})
    world.settle()
    assert world.value("left", left, "city") == "Rome"
    assert world.value("left", left, "email") == "a@example.com"


# Computed values

BALANCE = Field("balance", Kind.MONEY, scale=2, write=Write.NEVER)


def test_a_mapping_towards_a_computed_value_is_refused_before_anything_is_read() -> None:
    world = Hard(right_entity=person(BALANCE))
    world.map("credit", "balance")
    world.left.create("person", {"name": "Ada"})
    with pytest.raises(SettingsError, match=r"balance.*computes.*to_left"):
        world.run()
    assert world.written == 0 and world.left.requests == world.right.requests == []


def test_a_computed_value_may_be_a_source_and_is_never_sent() -> None:
    world = Hard(left_entity=person(BALANCE), right_entity=person(Field("owed", Kind.MONEY, scale=2)))
    world.map("balance", "owed", direction="to_right")
    left, right = world.pair_up(balance=Decimal("5.00"))
    assert world.value("right", right, "owed") == Decimal("5.00")
    world.left.put("person", left, {"balance": Decimal("7.50")})
    world.settle()
    assert world.value("right", right, "owed") == Decimal("7.50")
    assert not world.writes("left")


# Picklists

KIND = Field("kind", Kind.OPTION)
PAIRS = (("a", "1"), ("b", "2"))


def listed(**mapping: object) -> Hard:
    world = Hard(left_entity=person(KIND), right_entity=person(KIND))
    world.map("kind", "kind", *PAIRS, **mapping)
    return world


def test_options_are_written_as_the_other_systems_keys() -> None:
    world = listed()
    left, right = world.pair_up(kind="a")
    assert world.value("right", right, "kind") == "1"
    world.right.put("person", right, {"kind": "2"})
    world.settle()
    assert world.value("left", left, "kind") == "b"


def test_an_option_without_partner_parks_its_record_and_no_other() -> None:
    world = listed()
    left = world.left.create("person", {"name": "Odd", "kind": "z"})
    world.left.create("person", {"name": "Even", "kind": "b"})
    run = world.run()
    reason, args = world.state(left=left)
    assert (reason, args["code"], args["field"]) == ("parked", "no option", "kind")
    assert "'z'" in str(args["message"])
    assert world.names(world.right) == ["Even"]
    assert run.counts["entities"]["person"]["parked"] == 1


def test_an_option_without_partner_is_written_as_the_default_where_there_is_one() -> None:
    world = listed(unmapped="default", default="2")
    left, right = world.pair_up(kind="z")
    assert world.value("right", right, "kind") == "2"
    world.run("comprehensive")
    assert (world.value("left", left, "kind"), world.written) == ("z", 1)


def test_an_option_without_partner_is_left_out_where_the_mapping_says_skip() -> None:
    world = listed(unmapped="skip")
    left, right = world.pair_up(kind="a")
    world.left.put("person", left, {"kind": "z", "city": "Rome"})
    world.settle()
    assert world.value("right", right, "kind") == "1"
    assert world.value("right", right, "city") == "Rome"
    assert world.value("left", left, "kind") == "z"


def give_partner(world: Hard, left_key: str, right_key: str) -> None:
    """Pair an option that had no partner, as the admin does."""
    mapping = FieldMapping.objects.get(left="kind")
    mapping.options.create(
        left_key=left_key, left_label=left_key.title(), right_key=right_key, right_label=right_key, token=right_key
    )
    world.change()


@pytest.mark.parametrize("edited", [False, True])
def test_an_option_that_was_left_alone_is_written_once_it_has_a_partner(edited: bool) -> None:
    world = listed(unmapped="skip")
    left, right = world.pair_up(kind="a" if edited else "z")
    if edited:
        world.left.put("person", left, {"kind": "z"})
        world.settle()
    [line] = [line for line in explain(world.link(left=left)).fields if line["field"] == "kind>kind"]
    told = "1" if edited else None
    assert (line["left"], line["base"], line["right"], line["agreed"]) == ("!z", told, told, True)
    assert world.link(left=left).pending is None
    give_partner(world, "z", "3")
    assert world.run().mode == "comprehensive"
    assert (world.value("right", right, "kind"), world.link(left=left).pending) == ("3", None)
    before = world.written
    world.run("comprehensive")
    assert world.written == before


def test_a_link_that_does_not_know_what_was_left_alone_is_planned_all_the_same() -> None:
    world = listed(unmapped="skip")
    left, right = world.pair_up(kind="z")
    RecordLink.objects.update(left_quirk="")  # as links were kept before
    give_partner(world, "z", "3")
    world.run()
    assert (world.value("right", right, "kind"), world.link(left=left).pending) == ("3", None)


def test_two_records_that_met_with_an_option_left_alone_are_asked_about_once_it_has_a_partner() -> None:
    world = listed(unmapped="skip")
    world.change(policy="ask")
    left = world.left.create("person", {"name": "Ada", "kind": "z"})
    world.right.create("person", {"name": "Ada", "kind": "2"})
    world.settle()
    assert (world.link(left=left).pending, world.written) == (None, 0)
    give_partner(world, "z", "3")
    world.run()
    assert (world.state(left=left)[0], world.written) == ("conflict", 0)


@pytest.mark.parametrize("edited", [False, True])
def test_an_option_that_was_left_alone_parks_its_record_where_the_settings_say_so_by_now(edited: bool) -> None:
    world = listed(unmapped="skip")
    left, right = world.pair_up(kind="a" if edited else "z")
    if edited:
        world.left.put("person", left, {"kind": "z"})
        world.settle()
    world.change_mapping("kind", unmapped="park")
    world.run()
    reason, args = world.state(left=left)
    assert (reason, args["code"]) == ("parked", "no option")
    world.change_mapping("kind", unmapped="skip")
    world.run()
    assert world.link(left=left).pending is None
    assert world.value("right", right, "kind") == ("1" if edited else None)


def test_an_edit_on_the_other_side_still_comes_over_an_option_that_is_left_alone() -> None:
    world = listed(unmapped="skip")
    left, right = world.pair_up(kind="z")
    world.right.put("person", right, {"kind": "2"})
    world.settle()
    assert (world.value("left", left, "kind"), world.link(left=left).pending) == ("b", None)


def test_several_options_may_share_one_and_what_was_agreed_is_not_written_back() -> None:
    world = listed()
    mapping = FieldMapping.objects.get(left="kind")
    mapping.options.create(left_key="c", left_label="C", right_key="2", right_label="2", token="2", writes_left=False)
    left, right = world.pair_up(kind="c")
    assert world.value("right", right, "kind") == "2"
    world.right.put("person", right, {"city": "Rome"})
    world.settle()
    world.run("comprehensive")
    assert world.value("left", left, "kind") == "c"  # and not "b", which is what "2" writes


@pytest.mark.parametrize("met", [False, True])
def test_of_options_that_share_a_partner_each_side_is_shown_with_the_one_that_it_holds(met: bool) -> None:
    world = listed()
    mapping = FieldMapping.objects.get(left="kind")
    mapping.options.create(left_key="c", left_label="C", right_key="2", right_label="2", token="2", writes_left=False)
    if met:
        world.right.create("person", {"name": "Ada 0", "kind": "2"})
        left = world.left.create("person", {"name": "Ada 0", "kind": "c"})
        world.settle()
    else:
        left, _ = world.pair_up(kind="c")

    def told() -> tuple[str, bool]:
        link = world.link(left=left)
        found = explain(link)
        [line] = [line for line in found.fields if line["field"] == "kind>kind"]
        assert link.pending is None
        label = Teller.of(found).held(link, "left", "kind>kind", line["left"])
        page = Shower.of([link.entity_sync_id], []).held(link, "left", "kind>kind", line["left"])
        assert label in page, "the command and the page say the same"
        return label, bool(line["agreed"])

    before = world.written
    assert told() == ("C", True)
    world.left.put("person", left, {"kind": "b"})
    world.settle()
    assert told() == ("B", True)
    assert world.written == before, "it is the same option on the right"
    world.left.put("person", left, {"kind": "c"})
    world.settle()
    right = str(world.link(left=left).right_id)
    for key, label in (("1", "A"), ("2", "B")):
        world.right.put("person", right, {"kind": key})
        world.settle()
        assert told() == (label, True), "what the hub wrote is what the side holds"


def test_a_renamed_label_changes_nothing() -> None:
    world = listed()
    for store in (world.left, world.right):
        store.options = {("person", "kind"): [Option(k, k.upper()) for k in ("a", "b", "1", "2")]}
    left, right = world.pair_up(kind="a")
    world.right.options = {("person", "kind"): [Option("1", "Quite another name"), Option("2", "B")]}
    ends = {"left": world.connect(world.integration.left), "right": world.connect(world.integration.right)}
    match_picklists(world.integration, ends)  # type: ignore[arg-type]
    world.run("comprehensive")
    assert world.written == 1
    assert (world.value("left", left, "kind"), world.value("right", right, "kind")) == ("a", "1")


# Settings that change after the first sync (rule 7)


def grown(count: int = 12) -> Hard:
    """Records that agree in everything that is mapped; then a mapping is added."""
    note = Field("note", Kind.TEXT)
    world = Hard(left_entity=person(note), right_entity=person(note))
    for number in range(count):
        world.left.create("person", {"name": f"P{number}"})
    world.run()
    return world


def test_a_mapping_that_is_added_later_fills_the_empty_side_and_nothing_else() -> None:
    world = grown()
    ids = world.left.ids("person")
    world.left.put("person", ids[0], {"note": "from the left"})
    partner = world.link(left=ids[1]).right_id
    world.right.put("person", partner, {"note": "from the right"})
    world.run()  # the field is not mapped yet
    before = world.written
    world.map("note", "note")
    world.change()
    run = world.run()
    assert run.mode == "comprehensive"
    assert world.written == before + 2
    assert world.value("right", world.link(left=ids[0]).right_id, "note") == "from the left"
    assert world.value("left", ids[1], "note") == "from the right"
    assert not RecordLink.objects.filter(pending__isnull=False).exists()
    assert world.run().mode == "delta"
    assert world.written == before + 2


def test_both_filled_and_different_goes_by_the_policy_and_keeps_the_loser() -> None:
    world = grown(3)
    left = world.left.ids("person")[0]
    right = world.link(left=left).right_id
    world.left.put("person", left, {"note": "left"})
    world.right.put("person", right, {"note": "right"})
    world.run()
    world.change(policy="left")
    world.map("note", "note")
    world.change()
    world.settle()
    assert world.value("right", right, "note") == "left"
    assert any('"right":"right"' in lost for lost in world.lost())


@pytest.mark.parametrize(
    "settings",
    [{"policy": "right"}, {"prevents": ["right.update"]}, {"match": [["email>email"]]}, {"on_delete": "ask"}],
)
def test_a_change_of_settings_makes_nobodys_record_changed(settings: dict[str, object]) -> None:
    world = grown()
    before = world.written
    world.change(**settings)
    world.run()
    assert world.written == before
    assert not RecordLink.objects.filter(pending__isnull=False).exists()


def test_a_mapping_that_shows_agreed_values_otherwise_causes_no_write_storm() -> None:
    """A transform is added: what was agreed looks different now, but nobody has edited it."""
    world = Hard()
    for number in range(12):
        world.left.create("person", {"name": f"P{number}", "email": f"P{number}@Example.com"})
    world.run()
    before = world.written
    world.change_mapping("email", transform="lower")
    world.run()
    assert world.written == before
    world.left.put("person", world.left.ids("person")[0], {"email": "New@Example.com"})
    world.settle()
    assert world.written == before + 1


def test_a_mapping_that_is_removed_writes_nothing() -> None:
    world = Hard()
    left, right = world.pair_up(city="Rome")
    FieldMapping.objects.filter(left="city").delete()
    world.change()
    world.left.put("person", left, {"city": "Oslo"})
    world.settle()
    assert (world.written, world.value("right", right, "city")) == (1, "Rome")


def test_an_edit_made_before_the_settings_changed_still_flows() -> None:
    world = grown(3)
    left = world.left.ids("person")[0]
    world.left.put("person", left, {"city": "Rome"})
    world.map("note", "note")
    world.change()
    world.settle()
    assert world.value("right", world.link(left=left).right_id, "city") == "Rome"
