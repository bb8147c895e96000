"""Which record is which?  Routes, families, references, markers, merges, names that are taken (CORE sections 2 and 3)."""

from __future__ import annotations

import pytest

from connectors.contract import Field, Kind, Ref
from connectors.memory.store import entity
from connectors.models import Cursor, Event, RecordChange, RecordLink
from connectors.sync import decisions
from connectors.sync.explain import explain
from tests.sync.hard_world import NAME, Hard, person

pytestmark = pytest.mark.django_db
COMPANY = Field("company", Kind.TEXT)


def routed() -> Hard:
    """Companies become accounts, people become persons; both in one family."""
    world = Hard(left_entity=person(COMPANY), right_entity=person(COMPANY))
    world.add_entity("right", entity("account", NAME, COMPANY))
    world.change(position=5)
    world.add_sync(
        "company", "person", "account", ("name", "company"), family="person", position=1,
        filters=[{"side": "left", "field": "company", "op": "filled"}],
    )  # fmt: skip
    return world


# Routes and families


def test_the_first_pair_by_position_whose_filter_holds_takes_a_new_record() -> None:
    world = routed()
    world.left.create("person", {"name": "Ada"})
    world.left.create("person", {"name": "Engines", "company": "Engines Ltd"})
    world.run()
    assert world.names(world.right) == ["Ada"]
    assert [k.values["name"] for k in world.right.tables["account"].values()] == ["Engines"]


def test_a_person_who_gets_a_company_name_waits_for_a_person_and_gets_no_second_partner() -> None:
    world = routed()
    left, right = world.pair_up()
    world.left.put("person", left, {"company": "Ada Ltd"})
    world.run()
    world.run("comprehensive")
    assert world.state(left=left) == ("outside", {"why": "route", "side": "left"})
    assert world.right.ids("account") == []
    assert world.right.ids("person") == [right]
    assert RecordLink.objects.filter(left_id=left).count() == 1


def test_a_routed_record_that_loses_its_company_name_again_goes_on_under_its_link() -> None:
    world = routed()
    left, right = world.pair_up(city="Rome")
    world.left.put("person", left, {"company": "Ada Ltd"})
    world.run()
    world.left.put("person", left, {"company": None, "city": "Oslo"})
    world.run()
    assert world.link(left=left).pending is None
    assert world.value("right", right, "city") == "Oslo"


def test_two_families_hold_the_same_record_with_a_partner_in_each() -> None:
    world = Hard()
    world.add_entity("right", entity("contact", NAME, Field("email", Kind.TEXT)))
    world.add_sync("primary contact", "person", "contact", ("name", "email"))
    left = world.left.create("person", {"name": "Ada"})
    world.run()
    assert sorted(RecordLink.objects.filter(left_id=left).values_list("family", flat=True)) == [
        "person",
        "primary contact",
    ]
    world.left.put("person", left, {"email": "ada@example.com"})
    world.settle()
    for name in ("person", "contact"):
        assert [k.values["email"] for k in world.right.tables[name].values()] == ["ada@example.com"]
    assert len(world.right.ids("person")) == len(world.right.ids("contact")) == 1


def test_an_edit_in_one_family_reaches_the_partner_in_the_other() -> None:
    world = Hard()
    world.add_entity("right", entity("contact", NAME, Field("email", Kind.TEXT)))
    world.add_sync("primary contact", "person", "contact", ("name", "email"))
    left = world.left.create("person", {"name": "Ada"})
    world.run()
    (contact,) = world.right.ids("contact")
    world.right.put("contact", contact, {"email": "new@example.com"})
    world.settle()
    assert world.value("left", left, "email") == "new@example.com"
    assert [k.values["email"] for k in world.right.tables["person"].values()] == ["new@example.com"]


def test_two_kinds_with_the_same_id_in_one_family_do_not_meet() -> None:
    """Invoice 9 and payment 9 both become transactions."""
    world = Hard()
    for side in ("left", "right"):
        world.add_entity(side, entity("payment", NAME))
    world.add_sync("payment", "payment", "person", ("name",), family="person", position=1)
    world.left.create("person", {"name": "Invoice"}, record_id="9")
    world.left.create("payment", {"name": "Payment"}, record_id="9")
    world.run()
    assert world.names(world.right) == ["Invoice", "Payment"]
    assert RecordLink.objects.filter(left_id="9").count() == 2


# References


def test_a_chain_of_three_is_written_from_its_head_in_one_run() -> None:
    world = Hard(left_entity=person(page=1), right_entity=person(batch=1))
    leaf, middle, head = (world.left.create("person", {"name": n}) for n in ("leaf", "middle", "head"))
    world.left.put("person", leaf, {"parent": Ref("person", middle)})
    world.left.put("person", middle, {"parent": Ref("person", head)})
    world.run()
    partner = {left: world.link(left=left).right_id for left in (leaf, middle, head)}
    assert world.value("right", partner[leaf], "parent") == Ref("person", partner[middle])
    assert world.value("right", partner[middle], "parent") == Ref("person", partner[head])
    assert not RecordLink.objects.filter(pending__isnull=False).exists()
    assert len(world.writes("right")) == 3


def with_companies() -> Hard:
    """People need a company; only companies with a city are synced."""
    needs = Field("firm", Kind.REF, refers_to=("firm",))
    world = Hard(left_entity=person(needs), right_entity=person(needs))
    for side in ("left", "right"):
        world.add_entity(side, entity("firm", NAME, Field("city", Kind.TEXT)))
    world.add_sync(
        "firm", "firm", "firm", ("name", "city"), position=1,
        filters=[{"side": "left", "field": "city", "op": "filled"}],
    )  # fmt: skip
    return world


def test_a_required_reference_waits_for_its_record_and_is_released_when_that_is_linked() -> None:
    world = with_companies()
    world.map("firm", "firm", required=True)
    firm = world.left.create("firm", {"name": "Firm"})
    left = world.left.create("person", {"name": "Ada", "firm": Ref("firm", firm)})
    run = world.run()
    assert world.right.ids("person") == []
    assert world.link(left=left).reason == "waits for link"
    assert run.counts["entities"]["person"]["waiting"] == 1
    world.left.put("firm", firm, {"city": "Rome"})
    world.run()
    (right,) = world.right.ids("person")
    assert world.value("right", right, "firm") == Ref("firm", world.right.ids("firm")[0])
    assert world.link(left=left).pending is None


def test_an_optional_reference_is_left_out_and_follows_in_an_update() -> None:
    world = with_companies()
    world.map("firm", "firm")
    firm = world.left.create("firm", {"name": "Firm"})
    left = world.left.create("person", {"name": "Ada", "firm": Ref("firm", firm)})
    world.run()
    (right,) = world.right.ids("person")
    assert world.value("right", right, "firm") is None
    assert world.link(left=left).reason == "waits for link"
    world.left.put("firm", firm, {"city": "Rome"})
    world.run()
    assert world.value("right", right, "firm") == Ref("firm", world.right.ids("firm")[0])
    assert world.link(left=left).pending is None
    assert world.value("left", left, "firm") == Ref("firm", firm)


def test_a_reference_to_a_record_that_comes_later_is_released_by_its_arrival() -> None:
    world = with_companies()
    world.map("firm", "firm", required=True)
    left = world.left.create("person", {"name": "Ada", "firm": Ref("firm", "77")})
    world.run()
    assert world.link(left=left).reason == "waits for link"
    world.left.create("firm", {"name": "Late", "city": "Rome"}, record_id="77")
    world.settle()
    (right,) = world.right.ids("person")
    assert world.value("right", right, "firm") == Ref("firm", world.right.ids("firm")[0])


def test_a_reference_to_a_record_that_comes_later_and_joins_a_link_follows_too() -> None:
    world = Hard(push={"right": "on_request"})
    left = world.left.create("person", {"name": "Head"})
    branch = world.right.create("person", {"name": "Branch", "parent": Ref("person", "77")})
    world.run()
    assert world.link(right=branch).reason == "waits for link"
    world.right.create("person", {"name": "Head"}, record_id="77")
    world.settle()
    assert world.link(left=left).right_id == "77"
    assert world.value("left", str(world.link(right=branch).left_id), "parent") == Ref("person", left)


# Markers

MARKED = {"marker": "ref"}
MARKER = Field("ref", Kind.TEXT, findable=True)


def marked() -> tuple[Hard, str, str, str]:
    world = Hard(right_entity=person(MARKER, **MARKED))
    left, right = world.pair_up(city="Rome")
    return world, left, right, str(world.value("right", right, "ref"))


def test_a_create_carries_the_marker_of_its_link() -> None:
    world, left, _, marker = marked()
    assert marker == world.link(left=left).key


def test_a_record_that_carries_our_marker_joins_its_link_when_the_old_one_is_gone() -> None:
    """A restored backup, or a move to another list: a new id, the same record."""
    world, left, right, marker = marked()
    kept = world.right.tables["person"][right]
    world.right.delete("person", right)
    moved = world.right.create("person", {**kept.values, "city": "Oslo"})
    world.settle()
    assert world.link(left=left).right_id == moved
    assert world.link(left=left).key == marker
    assert world.left.ids("person") == [left]
    assert world.right.ids("person") == [moved]
    assert world.value("left", left, "city") == "Oslo"


def test_a_copied_marker_is_ignored_and_an_event_says_so() -> None:
    world, left, right, _ = marked()
    values = dict(world.right.tables["person"][right].values)
    copy = world.right.create("person", {**values, "name": "A copy"})
    world.settle()
    assert world.link(left=left).right_id == right
    assert world.link(right=copy).key != world.link(left=left).key
    assert len(world.left.ids("person")) == 2
    message = Event.objects.get(code="copied marker").message
    assert copy in message and right in message


def test_of_two_copies_of_a_lost_record_the_first_joins_its_link_and_the_other_is_a_record_of_its_own() -> None:
    world, left, right, _ = marked()
    values = dict(world.right.tables["person"][right].values)
    world.right.delete("person", right)
    one, two = (world.right.create("person", {**values, "name": name}) for name in ("First", "Second"))
    world.settle()
    assert world.link(left=left).right_id == one
    assert world.link(right=two).left_id not in (None, left)


# Merged, taken, matched


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_record_that_was_merged_into_another_is_a_question_and_its_partner_is_not_deleted(side: str) -> None:
    world = Hard()
    ids = dict(zip(("left", "right"), world.pair_up(), strict=True))
    stays = dict(zip(("left", "right"), world.pair_up(), strict=True))
    other = "left" if side == "right" else "right"
    world.store(side).merge("person", ids[side], into=stays[side])
    run = world.run()
    world.run("comprehensive")
    assert world.state(**{other: ids[other]}) == ("merged", {"into": stays[side], "side": side})
    assert run.counts["entities"]["person"]["conflict"] == 1
    assert ids[other] in world.store(other).ids("person")
    assert not world.writes("left") and not world.writes("right", "delete")


def test_a_name_that_is_taken_parks_the_record_and_says_by_whom() -> None:
    world = Hard()
    world.right.unique.add(("person", "email"))
    first = world.left.create("person", {"name": "Ada", "email": "a@example.com"})
    second = world.left.create("person", {"name": "Ada the Second", "email": "a@example.com"})
    run = world.run()
    (holder,) = world.right.ids("person")
    link = world.link(left=second)
    assert (link.reason, run.counts["entities"]["person"]["parked"]) == ("parked", 1)
    sentence = explain(link).sentence
    assert f"taken by person {holder}, which is linked to person {first}" in sentence
    assert RecordChange.objects.get(link=link).status == "rejected"


def test_a_name_taken_by_a_record_without_a_partner_says_so() -> None:
    world = Hard(match=[])
    world.right.unique.add(("person", "name"))
    world.change(prevents=["left.create"])
    taken = world.right.create("person", {"name": "Ada"})
    left = world.left.create("person", {"name": "Ada"})
    world.run()
    assert f"taken by person {taken}, which has no partner" in explain(world.link(left=left)).sentence


def test_records_without_the_first_match_field_meet_by_the_second() -> None:
    world = Hard(match=[["email>email"], ["name>name"]])
    world.left.create("person", {"name": "By name"})
    world.right.create("person", {"name": "by  NAME"})
    world.left.create("person", {"name": "Left", "email": "x@example.com"})
    world.right.create("person", {"name": "Right", "email": "X@example.com"})
    world.run()
    assert len(world.left.ids("person")) == len(world.right.ids("person")) == 2
    assert RecordLink.objects.filter(pending__isnull=True).count() == 2


def test_a_match_needs_every_field_of_its_alternative() -> None:
    world = Hard(match=[["name>name", "city>city"]])
    world.left.create("person", {"name": "Ada", "city": "Rome"})
    world.right.create("person", {"name": "Ada", "city": "Oslo"})
    world.run()
    assert len(world.left.ids("person")) == len(world.right.ids("person")) == 2


@pytest.mark.parametrize("page", [1, 5])
def test_a_second_candidate_makes_all_of_them_ambiguous_wherever_the_page_ends(page: int) -> None:
    world = Hard(left_entity=person(page=page), right_entity=person(page=page))
    world.left.create("person", {"name": "Same"})
    world.right.create("person", {"name": "Same"})
    world.right.create("person", {"name": "Other"})
    world.right.create("person", {"name": "same"})
    run = world.run()
    world.run("comprehensive")
    links = RecordLink.objects.filter(reason="ambiguous", pending=RecordLink.Pending.CONFLICT)
    records = {
        (side, i) for pair in links.values_list("left_id", "right_id") for side, i in zip("lr", pair, strict=True)
    }
    same = {("l", "1"), ("r", "1001"), ("r", "1003")}
    assert records - {("l", None), ("r", None)} == same
    assert run.counts["entities"]["person"]["conflict"] == links.count()
    assert [w.values["name"] for w in world.writes("left")] == ["Other"]
    assert not world.writes("right")


def test_two_twins_on_one_side_are_not_paired_with_one_on_the_other() -> None:
    world = Hard()
    for _ in range(2):
        world.left.create("person", {"name": "Twin"})
    world.right.create("person", {"name": "Twin"})
    world.run()
    assert world.written == 0
    assert RecordLink.objects.filter(reason="ambiguous").count() == 3


# Held, disconnected, restored


@pytest.mark.parametrize("mode", ["delta", "comprehensive"])
def test_a_held_record_is_read_and_not_written_until_a_person_releases_it(mode: str) -> None:
    world = Hard()
    left, right = world.pair_up(city="Paris")
    decisions.hold(world.link(left=left), now=world.clock.now(), by="Grace")
    before = world.written
    world.left.put("person", left, {"city": "Rome"})
    world.right.put("person", right, {"email": "a@example.com"})
    world.run(mode)
    world.run("comprehensive")
    assert (world.written, world.link(left=left).reason) == (before, "held")
    decisions.release(world.link(left=left), now=world.clock.now(), by="Grace")
    world.settle()
    assert world.value("right", right, "city") == "Rome"
    assert world.value("left", left, "email") == "a@example.com"


def test_two_records_that_were_disconnected_are_not_paired_again() -> None:
    world = Hard()
    left, right = world.pair_up()
    RecordLink.objects.filter(left_id=left).update(state=RecordLink.State.DISCONNECTED)
    before = world.written
    world.left.put("person", left, {"city": "Rome"})
    world.run()
    world.left.delete("person", left)
    world.run()
    world.run("comprehensive")
    assert (world.written, RecordLink.objects.count()) == (before, 1)
    assert world.right.ids("person") == [right]


@pytest.mark.parametrize("marker", ["", "ref"])
def test_after_a_restored_database_what_was_made_since_is_found_and_not_made_again(marker: str) -> None:
    world = Hard(right_entity=person(MARKER, marker=marker))
    world.pair_up(city="Rome")
    early = RecordLink.objects.get().pk
    world.pair_up(city="Oslo")
    before = world.written
    RecordChange.objects.exclude(link=early).delete()
    RecordLink.objects.exclude(pk=early).delete()  # last night's copy knows nothing of the second record
    Cursor.objects.update(value="")
    world.run("comprehensive")
    world.run()
    assert world.written == before
    assert RecordLink.objects.filter(pending__isnull=True).count() == 2
